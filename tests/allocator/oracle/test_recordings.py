# SPDX-License-Identifier: GPL-2.0-only
"""The compact copy of recorded figures: every machine, every sequence, all equal."""

from __future__ import annotations

import pytest

from allocator.oracle.jobs import Job, plan, run_job
from allocator.oracle.records import find_recordings

from .machines import COPY

JOBS = plan(find_recordings(COPY))


def test_the_copy_covers_every_recorded_machine_in_each_way() -> None:
    kinds = {machine: set() for machine in ("M1", "M2", "M2u", "M3", "M4", "M5", "M7")}
    for job in JOBS:
        kinds[job.recording.machine].add(job.kind)
    assert all(found >= {"early", "late", "trace"} for found in kinds.values())


@pytest.mark.both_engines
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_the_sequence_is_equal_to_the_recorded_kernel(job: Job) -> None:
    results = run_job(job)
    assert results
    for result in results:
        assert (result.name, result.error) == (result.name, "")
        assert (result.name, result.problem, result.differences) == (result.name, "", [])
        assert result.equal == result.operations > 0
