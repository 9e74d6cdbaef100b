# SPDX-License-Identifier: GPL-2.0-only
"""What an allocation costs, interpreted and compiled. Reported, never asserted.

    python tests/benchmarks/bench_alloc.py

Figures aimed at: interpreted order-0 pair at most 4 us (later 3), compiled order-0 pair at most
60 ns and order-3 pair at most 120 ns. bulk, repeat and rand are LLFree's kernel module's: half of
memory divided among the CPUs, GFP_HIGHUSER_MOVABLE|__GFP_THISNODE. Every figure of the compiled
engine comes with its ratio to the interpreted one of the same run, because a shared host is slower
at one time than at another. For the same reason the pairs come with the cost of reading one word of
RAM, and with the same pair on the source as it stands (`interp` gives the interpreter other code).
How CPython was built matters as much: with profile-guided optimisation, as distributions do it,
everything interpreted takes about three quarters of the time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from allocator.bench.rows import Row
from allocator.bench.shapes import GFP, Bench
from allocator.engine import compiled_available, hot_functions, load_engine
from allocator.interp import slow_down, speed_up

SPECS = ("2x256M,cpus=2",)
RUNS = 5
PAIRS = (0, 3)
SHAPES = ("bulk", "rand")
ORDERS = tuple(range(11))


def figures(engine: str, cpus: int, shape: str, order: int) -> list[Row]:
    """The rows of one shape on a machine of its own."""
    return Bench(SPECS, load_engine(engine), cpus).run(shape, order, RUNS)


def report(cpus: int, shape: str, order: int) -> None:
    """One line a figure, both engines side by side."""
    plain = figures("python", cpus, shape, order)
    quick = figures("compiled", cpus, shape, order) if compiled_available() else [None] * len(plain)
    for slow, fast in zip(plain, quick, strict=True):
        text = f"{slow.bench:12} order {order:2} {cpus} cpu(s)  {slow.median:9,.0f} ns"
        text += f"  ({slow.min:,.0f} to {slow.max:,.0f})"
        if fast is not None:
            ratio = slow.median / fast.median
            text += f"   compiled {fast.median:8,.1f} ns ({fast.min:,.1f} to {fast.max:,.1f})"
            text += f"   ratio {ratio:.0f}"
        print(text, flush=True)


def least(work: Callable[[int], object], count: int) -> float:
    """Nanoseconds of one of the `count` operations that `work(count)` does: the best of many
    short runs, between what else the host does."""
    times = []
    for _ in range(100):
        began = time.perf_counter()
        work(count)
        times.append(time.perf_counter() - began)
    return min(times) * 1e9 / count


def read_words(m: memoryview, count: int) -> None:
    """Reads ten times a tenth of `count` words."""
    for _ in range(count // 10):
        m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8], m[9]


def report_interpreted() -> None:
    """Pairs called one by one from Python: built code, and the source as it stands."""
    hot = hot_functions()
    bench = Bench(SPECS, load_engine("python"), 1)
    m, alloc, free = bench.m, hot["alloc_pages_nodemask"], hot["free_pages"]
    word = least(lambda count: read_words(m, count), 5000)
    print(f"{sys.executable} ({sys.version.split()[0]}): one word read {word:.1f} ns")
    for order in PAIRS:

        def pairs(count: int, order: int = order) -> None:
            for _ in range(count):
                free(m, 0, alloc(m, 0, GFP, order, 0, 0), order)

        speed_up(hot)
        built = least(pairs, 500)
        slow_down(hot)
        plain = least(pairs, 500)
        speed_up(hot)
        print(
            f"pair         order {order:2} 1 cpu(s)  {built:9,.0f} ns"
            f"   source as it stands {plain:,.0f} ns   ratio {plain / built:.2f}"
        )


def main() -> None:
    """Print the report."""
    report_interpreted()
    for order in PAIRS:
        report(1, "repeat", order)
    for cpus in (1, 4):
        for shape in SHAPES:
            for order in ORDERS:
                report(cpus, shape, order)


if __name__ == "__main__":
    main()
