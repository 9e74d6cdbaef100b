# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path

import pytest

from allocator.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_a_run_in_two_parts_shows_what_one_run_shows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(tmp_path / "s.snap")
    code, whole, last = run(capsys, "boot", "smp.S")
    assert code == 0
    total = int(last.split(" instructions")[0].rsplit(" ", 1)[1].replace(",", ""))
    part = total // 3
    once = ("--max-instructions", str(part), "--save", path)
    code, first, err = run(capsys, "boot", "smp.S", *once)
    assert code == 75
    assert f"budget of {part:,} instructions spent" in err
    code, second, err = run(capsys, "resume", path, *once)
    assert code == 75
    code, third, err = run(capsys, "resume", path, "--inspect", "zones")
    assert code == 0
    left = whole.removeprefix(first + second)
    assert third.startswith(left + "node zone")
    assert first + second + left == whole
    assert f"exit 0 after {total - 2 * part:,} instructions" in err


def test_a_snapshot_that_cannot_be_kept_is_said_before_the_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "no" / "s.snap"
    code, out, err = run(capsys, "boot", "first_light.S", "--save", str(missing))
    assert (code, out) == (73, "")
    assert err == f"numalab: {missing}: No such file or directory (exit 73)\n"


def test_what_is_no_snapshot_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "s.snap"
    assert run(capsys, "resume", str(path)) == (
        66, "", f"numalab: {path}: No such file or directory (exit 66)\n",
    )  # fmt: skip
    path.write_bytes(b"hello")
    assert run(capsys, "resume", str(path)) == (
        65, "", f"numalab: {path}: this is no snapshot (exit 65)\n",
    )  # fmt: skip
