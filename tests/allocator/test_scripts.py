# SPDX-License-Identifier: GPL-2.0-only
"""Finding boot scripts by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from allocator.scripts import SCRIPTS, find_script


def test_the_scripts_that_come_with_numalab_are_there() -> None:
    names = {path.name for path in SCRIPTS.glob("*.S")}
    assert {"first_light.S", "e820.S", "walk_freelist.S", "exhaust.S", "smp.S"} <= names
    assert (SCRIPTS / "include" / "numalab.inc").is_file()


def test_a_bare_name_means_a_script_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_script("smp.S") == SCRIPTS / "smp.S"
    assert find_script("./smp.S") == Path("smp.S")
    assert find_script("no_such_script.S") == Path("no_such_script.S")


def test_a_file_of_the_users_own_comes_before_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smp.S").write_text("_start: hlt\n")
    assert find_script("smp.S") == Path("smp.S")
