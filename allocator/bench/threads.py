# SPDX-License-Identifier: GPL-2.0-only
"""How the compiled fast path scales over host threads, one for each CPU (`team`).

    repeat  every CPU allocates one block and frees it, over and over
    bulk    every CPU allocates its share of memory, then frees it

All threads do the same amount of work at the same time. One figure is the time until the last is
done by the number of operations of all of them together: with as many free host CPUs as threads,
half of it for two threads means that they did not get into each other's way. The other, "cpu", is
the processor time of all threads by the number of operations, which says the same on a host that is
busy with other things: it should not grow with the number of threads.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from functools import partial

from ..engine import Engine
from ..team import side_by_side
from .rows import Row, row
from .shapes import GFP, Bench

PAIRS = 400_000
"""Pairs of one thread in a run of `repeat`."""
ROUNDS = 4
"""How often a run of `bulk` allocates and frees every share."""


def thread_rows(
    specs: Sequence[str], engine: Engine, order: int, threads: int, runs: int
) -> list[Row]:
    """The figures of one order on `threads` CPUs. Raises UsageError for an engine that cannot run
    them side by side, and what Bench raises."""
    bench = Bench(specs, engine, threads)
    share = bench.share(order)
    figures: list[tuple[str, int, Callable[[int], None]]] = [
        ("threads repeat pair", PAIRS >> order, partial(_repeat, bench, order, PAIRS >> order)),
        ("threads bulk pair", share * ROUNDS, partial(_bulk, bench, order, share)),
    ]
    rows = []
    for name, count, work in figures:
        times = [_seconds(bench, work) for _ in range(runs)]
        for i, kind in enumerate((name, f"{name} cpu")):
            rows.append(
                row(
                    kind,
                    engine.name,
                    bench.machine,
                    [seconds[i] * 1e9 / (count * threads) for seconds in times],
                    order=order,
                    cpus=threads,
                    operations=count * threads,
                )
            )
    return rows


def _seconds(bench: Bench, work: Callable[[int], None]) -> tuple[float, float]:
    """Seconds until all are done, and of processor time."""

    def timed(cpu: int) -> float:
        began = time.thread_time()
        work(cpu)
        return time.thread_time() - began

    began = time.perf_counter()
    spent = side_by_side(bench.m, bench.engine, [partial(timed, cpu) for cpu in range(bench.cpus)])
    return time.perf_counter() - began, sum(spent)


def _repeat(bench: Bench, order: int, count: int, cpu: int) -> None:
    bench.engine.repeat_pages(bench.m, cpu, GFP, order, bench.nodes[cpu], count)


def _bulk(bench: Bench, order: int, share: int, cpu: int) -> None:
    pfns = memoryview(array("q", bytes(8 * share)))
    for _ in range(ROUNDS):
        bench.alloc_slice(cpu, order, pfns)
        bench.engine.free_pages_bulk(bench.m, cpu, order, pfns, share)
