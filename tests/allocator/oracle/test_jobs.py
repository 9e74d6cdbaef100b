# SPDX-License-Identifier: GPL-2.0-only
"""Jobs: what can be replayed by itself, chosen by name, done in any number of processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allocator.oracle.jobs import Job, name_matches, open_pool, plan, run_job
from allocator.oracle.records import Recording, RunRef, find_recordings

from .machines import COPY, recording


def names(pattern: str | None) -> list[str]:
    """Names of the planned jobs."""
    return [job.name for job in plan(find_recordings(COPY), pattern)]


def test_early_runs_of_a_folder_are_one_job_and_late_ones_many() -> None:
    assert names("M2/early*") == ["M2/early", "M2/early-cma-a"]
    assert len(names("M2/late ")) == 3
    assert names("M2/trace") == ["M2/trace trace-boot"]


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("M2/late", True),
        ("M2/late*", True),
        ("M2/late/run-07", True),
        ("run-07", True),
        ("*zones", True),
        ("M?/late", True),
        ("M3", False),
        ("run-08", False),
        ("late/run-0[1-6]*", False),
    ],
)
def test_a_pattern_is_a_part_of_the_name_or_a_glob(pattern: str, fits: bool) -> None:
    assert name_matches("M2/late run-07 zones", pattern) is fits


def test_a_folder_of_compaction_is_replayed_run_by_run() -> None:
    path = Path("/nowhere/M1/late-compact-a")
    refs = (RunRef("run-00.json", 0, "compact"), RunRef("run-01.json", 1, "compact"))
    compaction = Recording(path, "M1/late-compact-a", "M1", "", {}, refs, (), None)
    assert [job.kind for job in plan([compaction])] == ["late", "late"]


def test_several_processes_give_the_same_results_in_the_same_order() -> None:
    jobs = plan(find_recordings(COPY), "M1/late") + plan(find_recordings(COPY), "M2/early-cma")
    with open_pool(2) as mapper:
        parallel = [[r.as_json() for r in batch] for batch in mapper(run_job, jobs)]
    with open_pool(1) as mapper:
        assert [[r.as_json() for r in batch] for batch in mapper(run_job, jobs)] == parallel


def changed_run(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """One allocation of RUN `number` is recorded with another frame."""
    original = Recording.run

    def run(self: Recording, ref: Any) -> dict[str, Any]:
        data = original(self, ref)
        if ref.run == number:
            op = next(o for o in data["ops"] if o["op"] == "A" and o["pfn"])
            op["pfn"] += 1
        return data

    monkeypatch.setattr(Recording, "run", run)


def test_an_early_run_behind_one_that_differs_starts_from_its_recorded_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = recording("M2/early")
    changed_run(monkeypatch, source.runs[-2].run)
    results = run_job(Job(source, "early", source.name))
    assert [result.ok for result in results] == [True, True, False, True]
    assert results[-2].final == "not reached"
    assert "from the recorded state" in results[-1].notes[0]


def test_an_early_run_without_a_start_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    source = recording("M2/early")
    changed_run(monkeypatch, source.runs[0].run)
    results = run_job(Job(source, "early", source.name))
    assert [result.ok for result in results] == [True, False, False, True]
    assert "own start is not recorded" in results[2].problem


def test_a_difference_comes_with_both_sides_and_the_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = recording("M2/late")
    changed_run(monkeypatch, source.runs[0].run)
    (result,) = run_job(plan([source])[0])
    assert not result.ok
    assert "recorded 0x" in result.problem
    assert any("here" in line and "recorded" in line for line in result.details)
    assert any("against mark" in line for line in result.details)


def test_a_changed_final_state_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Recording.state

    def state(self: Recording, stem: str) -> dict[str, Any]:
        data = original(self, stem)
        if stem.endswith("after"):
            area = next(a for a in data["zones"][1]["free_area"] if a["lists"])
            next(iter(area["lists"].values())).reverse()
            area["nr_free"] += 1
        return data

    monkeypatch.setattr(Recording, "state", state)
    (result,) = run_job(plan([recording("M3/late")])[0])
    assert (result.problem, result.final, result.ok) == ("", "differs", False)
    assert any("nr_free" in line for line in result.differences)


def test_a_file_that_is_missing_or_malformed_is_a_result_with_its_exit_code(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "M1" / "late"
    folder.mkdir(parents=True)
    for file in (COPY / "M1" / "late").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    first, second = sorted(folder.glob("run-*"))[:2]
    first.unlink()
    second.write_bytes(b"damaged")
    (found,) = find_recordings(tmp_path)
    codes = {job.name: run_job(job)[-1] for job in plan([found])}
    missing, damaged, *_ = codes.values()
    assert (missing.exit_code, damaged.exit_code) == (66, 65)
    assert first.name in missing.error
    assert second.name in damaged.error
