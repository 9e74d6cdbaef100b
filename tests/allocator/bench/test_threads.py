# SPDX-License-Identifier: GPL-2.0-only
"""allocator/bench/threads.py: figures for CPUs side by side."""

from __future__ import annotations

import pytest

from allocator.bench import threads
from allocator.bench.threads import thread_rows
from allocator.engine import compiled_available, load_engine
from machine import UsageError


@pytest.mark.skipif(not compiled_available(), reason="numba is not installed")
@pytest.mark.parametrize("order", [0, 3])
def test_rows_tell_threads_operations_and_order(
    order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "PAIRS", 800)
    rows = thread_rows(["2x64M"], load_engine("compiled"), order, 2, 2)
    names = ["threads repeat pair", "threads bulk pair"]
    assert [row.bench for row in rows] == [f"{n}{kind}" for n in names for kind in ("", " cpu")]
    assert all((row.cpus, row.order, row.runs) == (2, order, 2) for row in rows)
    assert rows[0].operations == 2 * (800 >> order)
    assert all(0 < row.min <= row.median <= row.max for row in rows)


def test_interpreted_threads_are_refused() -> None:
    with pytest.raises(UsageError, match="threads need the compiled engine"):
        thread_rows(["2x64M"], load_engine("python"), 0, 2, 1)
