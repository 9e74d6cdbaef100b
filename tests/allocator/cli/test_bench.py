# SPDX-License-Identifier: GPL-2.0-only
"""allocator/cli/bench.py: `numalab bench`."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from allocator.bench import shapes
from allocator.cli import main

SMALL = ["bench", "bulk", "--numa", "1x64M", "--orders", "9", "--cpus", "1", "--runs", "1"]
SMALL += ["--engine", "python"]


def test_figures_go_to_standard_output_as_csv(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SMALL) == 0
    out, err = capsys.readouterr()
    found = list(csv.DictReader(io.StringIO(out)))
    assert [row["bench"] for row in found] == ["bulk alloc", "bulk free"]
    assert err == ""


def test_csv_goes_to_a_file_when_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.csv"
    assert main([*SMALL, "--csv", str(target)]) == 0
    assert target.read_text().startswith("bench,engine,machine,order,cpus,")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["bench", "speed"], 64, "'speed': one of"),
        (["bench", "--runs", "0"], 64, "--runs 0"),
        (["bench", "--orders", "x"], 64, "no list of numbers"),
        (["bench", "--orders", "5-3"], 64, "no numbers"),
        (["bench", "bulk", "--orders", "11", "--cpus", "1"], 64, "order 11"),
        (["bench", "bulk", "--cpus", "9", "--orders", "9"], 64, "9 CPUs"),
        (["bench", "--csv", "/nonexistent/out.csv"], 73, "/nonexistent"),
    ],
)
def test_bad_requests_are_one_line_and_a_code(
    words: list[str],
    code: int,
    why: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shapes, "REPEATS", 10)
    assert main([*words, "--engine", "python"]) == code
    err = capsys.readouterr().err
    assert why in err
    assert err.count("\n") == 1
