# SPDX-License-Identifier: GPL-2.0-only
"""Recorded sequences on both engines: equal to the kernel, and the same RAM, byte for byte.

What a recording's STATE does not hold - words of free pages, deltas, rings, poisons - is compared
here all the same.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from allocator.engine import compiled_available, install_engine, load_engine
from allocator.oracle import jobs
from allocator.oracle.guest import Guest
from allocator.oracle.jobs import Job, plan, run_job
from allocator.oracle.records import find_recordings

from .machines import COPY

pytestmark = pytest.mark.skipif(not compiled_available(), reason="numba is not installed")


def one_of_each() -> list[Job]:
    """Of every machine the bring-up with its early sequences, and one late sequence."""
    chosen: dict[tuple[str, str], Job] = {}
    for job in plan(find_recordings(COPY)):
        if job.kind in ("early", "late"):
            chosen.setdefault((job.recording.machine, job.kind), job)
    return list(chosen.values())


def ram_digest(guest: Guest) -> str:
    """Of all pages of RAM that are not zero, and where they are."""
    memory, known = guest.memory, hashlib.sha256()
    for start, end in memory.touched(0, memory.size):
        pages = memory.q[start >> 3 : end >> 3].reshape(-1, 512)
        used = np.flatnonzero(pages.any(axis=1))
        known.update(((start >> 12) + used).tobytes())
        known.update(pages[used].tobytes())
    return known.hexdigest()


def replayed(job: Job, engine: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digest of RAM after each sequence of `job` played on `engine`."""
    digests: list[str] = []
    replay_run = jobs.replay_run

    def watched(recording: object, guest: Guest, *rest: object) -> None:
        replay_run(recording, guest, *rest)  # type: ignore[arg-type]
        digests.append(ram_digest(guest))

    undo = install_engine(load_engine(engine))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "replay_run", watched)
            results = run_job(job)
    finally:
        undo()
    assert all(result.ok for result in results)
    return digests


@pytest.mark.parametrize("job", one_of_each(), ids=lambda job: job.name)
def test_recorded_sequence_leaves_the_same_bytes_on_both_engines(
    job: Job, process_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if process_engine != "python":
        pytest.skip("the process is on one engine already")
    interpreted = replayed(job, "python", monkeypatch)
    assert interpreted
    assert replayed(job, "compiled", monkeypatch) == interpreted
