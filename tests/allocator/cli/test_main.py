# SPDX-License-Identifier: GPL-2.0-only
"""The command as a whole: help, subcommands, and errors nobody foresaw."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from machine import errors

from .conftest import Numalab

ROOT = Path(__file__).resolve().parents[3]


def test_the_documented_codes_are_all_codes_there_are() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "allocator", "boot", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    ).stdout
    documented = {int(code) for code in re.findall(r"^  (\d+) ", text, re.MULTILINE)}
    ours = {
        value.exit_code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.NumalabError)
    }
    assert documented == ours | {75, 76, 130}


@pytest.mark.parametrize("argv", [[], ["frobnicate"], ["--frobnicate"]])
def test_no_or_an_unknown_command_is_a_usage_error(numalab: Numalab, argv: list[str]) -> None:
    result = numalab(*argv)
    assert result.code == 64
    assert result.err.count("\n") == 1


def test_an_error_nobody_foresaw_is_one_line_and_70(
    numalab: Numalab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("gone\nastray")

    monkeypatch.delenv("NUMALAB_DEBUG", raising=False)
    monkeypatch.setattr("allocator.cli.boot.topology_from", broken)
    result = numalab("boot", "first_light.S")
    assert result.code == 70
    assert result.err.count("\n") == 1
    assert "KeyError" in result.err


def test_python_m_allocator_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "allocator", "boot", "e820.S", "--numa", "1x64M"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("[mem 0x0000000000000000-")


def test_booting_loads_nothing_that_it_does_not_need() -> None:
    code = (
        "import sys; from allocator.cli import main; main(['boot', 'first_light.S', '--quiet']);"
        "print(sorted({'rich', 'numba', 'llvmlite', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
