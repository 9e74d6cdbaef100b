# SPDX-License-Identifier: GPL-2.0-only
"""What objects and files cost: slab objects, the page cache, faults on files. Reported only.

    python tests/benchmarks/bench_files.py

Host time in plain CPython, a median of several rounds with the least and the most: an object
allocated and freed, a page of a file written, read from the cache, read from the modelled disk with
readahead, and faulted in through a mapping (alone, and with fault-around).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from allocator import start_kernel
from allocator.gfp import GFP_KERNEL
from allocator.kernel import Kernel
from allocator.kernel_globals import G_FAULT_AROUND
from allocator.slab_common import kmem_cache_create
from allocator.slub import kmem_cache_alloc, kmem_cache_free
from firmware import power_on
from machine import Machine, Topology

PAGES = 2000
PAGE = 4096
ROUNDS = 7


def line(what: str, figures: list[float]) -> None:
    """One figure: median, least and most."""
    middle = statistics.median(figures)
    print(f"{what:44} {middle:7.2f} us  ({min(figures):.2f} to {max(figures):.2f})")


def per_item(action: Callable[[], object], items: int = PAGES) -> float:
    """Microseconds an item of one round."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) / items * 1e6


def booted() -> Kernel:
    """A kernel with room for everything here."""
    machine = Machine(Topology.parse("2x256M"))
    power_on(machine)
    kernel = start_kernel(machine)
    kernel.mm_init()
    return kernel


def slab(kernel: Kernel) -> None:
    """Objects one by one from the CPU's slab, and many at once through the lists."""
    m = kernel.m
    s = kmem_cache_create(m, 0, b"bench", 192, 0, 0)

    def pairs() -> None:
        for _ in range(PAGES):
            kmem_cache_free(m, 0, s, kmem_cache_alloc(m, 0, s, GFP_KERNEL))

    def batch() -> None:
        found = [kmem_cache_alloc(m, 0, s, GFP_KERNEL) for _ in range(PAGES)]
        for x in found:
            kmem_cache_free(m, 0, s, x)

    line("slab object, allocated and freed", [per_item(pairs) for _ in range(ROUNDS)])
    line("the same, 2,000 in use at once", [per_item(batch) for _ in range(ROUNDS)])


def files(kernel: Kernel) -> None:
    """Pages of a file, written and read."""
    data = bytes(range(256)) * 16 * PAGES
    written, cached, cold = [], [], []
    for n in range(ROUNDS):
        file = kernel.create_file(f"f{n}")
        written.append(per_item(lambda file=file: file.write(data, 0)))  # type: ignore[misc]
        cached.append(per_item(lambda file=file: file.read(-1, 0)))  # type: ignore[misc]
        file.fsync()
        kernel.drop_caches(1)
        cold.append(per_item(lambda file=file: file.read(-1, 0)))  # type: ignore[misc]
        file.close()
        kernel.unlink(f"f{n}")
    line("page of a file, written", written)
    line("page of a file, read from the cache", cached)
    line("page of a file, read from the disk", cold)


def faults(kernel: Kernel) -> None:
    """A mapped file, touched page by page."""
    file = kernel.create_file("mapped", data=bytes(PAGES * PAGE))
    process = kernel.create_process("bench")
    for around, what in ((4096, "one page a fault"), (65536, "16 pages a fault")):
        kernel.m[G_FAULT_AROUND] = around
        figures = []
        for _ in range(ROUNDS):
            start = process.mmap(PAGES * PAGE, "r", file=file, shared=True)
            figures.append(
                per_item(lambda s=start: process.touch(s, PAGES * PAGE, write=False))  # type: ignore[misc]
            )
            process.munmap(start, PAGES * PAGE)
        line(f"mapped page of a file, {what}", figures)


def main() -> None:
    """All figures."""
    kernel = booted()
    slab(kernel)
    files(kernel)
    faults(kernel)


if __name__ == "__main__":
    main()
