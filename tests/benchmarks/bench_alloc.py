# SPDX-License-Identifier: GPL-2.0-only
"""What an allocation costs, interpreted and compiled. Reported, never asserted.

    python tests/benchmarks/bench_alloc.py

Figures aimed at: interpreted order-0 pair at most 4 us (later 3), compiled order-0 pair at most
60 ns and order-3 pair at most 120 ns. bulk, repeat and rand are LLFree's kernel module's: half of
memory divided among the CPUs, GFP_HIGHUSER_MOVABLE|__GFP_THISNODE. Every figure of the compiled
engine comes with its ratio to the interpreted one of the same run, because a shared host is slower
at one time than at another.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from allocator.bench.rows import Row
from allocator.bench.shapes import Bench
from allocator.engine import compiled_available, load_engine

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


def main() -> None:
    """Print the report."""
    for order in PAIRS:
        report(1, "repeat", order)
    for cpus in (1, 4):
        for shape in SHAPES:
            for order in ORDERS:
                report(cpus, shape, order)


if __name__ == "__main__":
    main()
