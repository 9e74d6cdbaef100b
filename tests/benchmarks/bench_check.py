# SPDX-License-Identifier: GPL-2.0-only
"""How long a full check takes. Reported, never asserted.

    python tests/benchmarks/bench_check.py

Figure aimed at: 1,000,000 frames below 0.5 s; the later aim is 15 ns a frame. Three states of a
machine of 4 GiB: freshly booted, in use, and shredded (every second page of one node freed singly,
so that the free lists are as long as they get). Interpreted, and with Numba compiled as well. The
median of several checks and their spread.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from allocator.check import check_frames  # noqa: E402
from allocator.engine import compiled_available, install_engine, load_engine  # noqa: E402
from allocator.init_main import start_kernel  # noqa: E402
from allocator.kernel import Kernel  # noqa: E402
from firmware import power_on  # noqa: E402
from machine import Machine, Topology  # noqa: E402

RUNS = 9


def fresh(kernel: Kernel) -> None:
    """As booted."""


def in_use(kernel: Kernel) -> None:
    """20,000 blocks of mixed orders allocated, half of them freed."""
    rng = random.Random(1)
    held = []
    for _ in range(20_000):
        order = rng.choice((0, 0, 0, 1, 2, 3, 5))
        gfp = rng.choice(("GFP_KERNEL", "GFP_HIGHUSER_MOVABLE", "GFP_KERNEL|__GFP_COMP"))
        page = kernel.alloc_pages(gfp, order, rng.randrange(2))
        if page is not None:
            held.append((page.pfn, order))
    rng.shuffle(held)
    for pfn, order in held[: len(held) // 2]:
        kernel.free_pages(pfn, order)


def shredded(kernel: Kernel) -> None:
    """Every second page of 512 MiB free, each a block of its own."""
    pages = [kernel.alloc_pages("GFP_HIGHUSER_MOVABLE", 10, 1) for _ in range(128)]
    singles = [p.pfn for page in pages if page is not None for p in kernel.split_page(page, 10)]
    for pfn in singles[::2]:
        kernel.free_pages(pfn)


def measure(state: Callable[[Kernel], None]) -> Iterator[str]:
    """A line of the report for each engine."""
    machine = Machine(Topology.parse("2x2G"))
    power_on(machine)
    start_kernel(machine)
    state(Kernel(machine.memory, machine))
    for name in ("python", "compiled") if compiled_available() else ("python",):
        undo = install_engine(load_engine(name))
        yield timed(machine, f"{state.__name__:<9} {name:<8}")
        undo()


def timed(machine: Machine, title: str) -> str:
    """The time of a check of `machine`, as a line."""
    report = check_frames(machine.memory)
    assert report.sound, str(report)
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        check_frames(machine.memory)
        times.append(time.perf_counter() - began)
    median = statistics.median(times)
    return (
        f"{title} {report.frames:>9,} frames  {median * 1e3:7.1f} ms "
        f"({min(times) * 1e3:.1f}-{max(times) * 1e3:.1f})  "
        f"{median / report.frames * 1e9:5.1f} ns a frame  {report.rules} rules"
    )


if __name__ == "__main__":
    for chosen in (fresh, in_use, shredded):
        for line in measure(chosen):
            print(line, flush=True)
