# SPDX-License-Identifier: GPL-2.0-only
"""`numalab oracle`: lines, summary, exit codes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from allocator.cli import main
from allocator.oracle.cli import exit_code, progress, result_lines
from allocator.oracle.jobs import Result

from .machines import COPY


def test_all_equal_is_one_line_a_sequence_a_summary_and_zero(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["oracle", str(COPY), "--only", "M1/late run", "--jobs", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "1,592 ops   1,592 equal pfns  events equal  final state equal" in lines[0]
    assert lines[-1].startswith("3 runs, ")
    assert ": all equal" in lines[-1]


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["oracle", str(COPY), "--only", "M1/trace", "--json", "--jobs", "1"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"] is True
    assert [s["name"] for s in data["sequences"]] == ["M1/trace trace-boot"]
    assert data["sequences"][0]["equal"] == data["log_events"]


def copied(tmp_path: Path, *parts: str) -> Path:
    """A copy of one folder of the copy that may be damaged."""
    target = tmp_path.joinpath(*parts)
    target.mkdir(parents=True)
    for file in COPY.joinpath(*parts).iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_another_frame_exits_with_one_and_shows_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from allocator.oracle.records import read_json

    folder = copied(tmp_path, "M1", "late")
    index = json.loads((folder / "index.json").read_text())
    entry = index["runs"][0]
    run = read_json(folder / entry["file"])
    op = next(o for o in run["ops"] if o["op"] == "A" and o["pfn"])
    op["pfn"] += 1
    (folder / "changed.json").write_text(json.dumps(run))
    entry["file"] = "changed.json"
    (folder / "index.json").write_text(json.dumps(index))
    assert main(["oracle", str(tmp_path), "--jobs", "1"]) == 1
    out = capsys.readouterr().out
    assert f"first difference: operation {op['i']}" in out
    assert f"recorded {op['pfn']:#x}" in out
    assert "1 sequences differ" in out.splitlines()[-1]


def test_unreadable_is_66_and_malformed_is_65(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["oracle", str(tmp_path / "nowhere")]) == 66
    assert main(["oracle", str(tmp_path)]) == 66
    folder = copied(tmp_path, "M1", "trace")
    next(folder.glob("trace-*")).write_bytes(b"x")
    assert main(["oracle", str(tmp_path), "--jobs", "1"]) == 65
    (folder / "index.json").write_text("{")
    assert main(["oracle", str(tmp_path)]) == 65
    assert "index.json:1:2" in capsys.readouterr().err


def test_a_pattern_that_matches_nothing_is_a_usage_error() -> None:
    assert main(["oracle", str(COPY), "--only", "M99"]) == 64
    assert main(["oracle", str(COPY), "--jobs", "0"]) == 64


def test_the_worst_exit_code_wins() -> None:
    equal, differs = Result("a"), Result("b", problem="x")
    assert exit_code([equal]) == 0
    assert exit_code([equal, differs]) == 1
    assert exit_code([differs, Result("c", error="x", exit_code=65)]) == 65


def test_many_differences_are_cut() -> None:
    lines = result_lines(Result("a b", differences=[f"line {i}" for i in range(500)]))
    assert len(lines) < 70
    assert lines[-1].endswith("more lines")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_progress_bar_is_drawn_on_a_terminal_only() -> None:
    from allocator.oracle.jobs import plan
    from allocator.oracle.records import find_recordings

    jobs = plan(find_recordings(COPY), "M1/late")
    batches: list[list[Result]] = [[] for _ in jobs]
    terminal, pipe = Terminal(), io.StringIO()
    assert list(progress(jobs, iter(batches), terminal)) == batches
    assert list(progress(jobs, iter(batches), pipe)) == batches
    assert "replaying" in terminal.getvalue() or "M1/late" in terminal.getvalue()
    assert pipe.getvalue() == ""
