# SPDX-License-Identifier: GPL-2.0-only
"""LLFree's four shapes on a booted machine, by order and number of CPUs.

Half of memory is divided among the CPUs, each asks its own node for movable pages.

    bulk    every CPU allocates its share, then frees it in the order of allocation
    repeat  every CPU allocates one block and frees it, over and over
    rand    all shares are allocated, shuffled across the CPUs, and freed
    frag    of all shares a random tenth is freed and allocated again, over and over; besides the
            time, how much of free memory still lies in whole pageblocks (percent)

CPUs take turns, a slice of blocks each, as their requests would interleave on a real machine; the
time is that of all of them, by the number of operations. Random choices have a fixed seed.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from random import Random

from firmware import power_on
from machine import Machine, Topology, UsageError

from ..engine import Engine
from ..gfp import parse_gfp
from ..init_main import start_kernel
from ..kernel import Kernel
from ..mmzone import MAX_ORDER, PAGEBLOCK_ORDER
from .rows import Row, row

GFP = parse_gfp("GFP_HIGHUSER_MOVABLE|__GFP_THISNODE|__GFP_NOWARN")
SHAPES = ("bulk", "repeat", "rand", "frag")
SLICE = 512
"""Blocks of one CPU's turn."""
FRAG_ROUNDS = 10
REPEATS = 20_000
"""Pairs of one run of `repeat`."""


class Bench:
    """One booted machine, an engine, and how many of its CPUs take part."""

    def __init__(self, specs: Sequence[str], engine: Engine, cpus: int) -> None:
        topology = Topology.parse(*specs)
        if not 1 <= cpus <= topology.cpus:
            raise UsageError(f"{cpus} CPUs: the machine has {topology.cpus}")
        machine = Machine(topology)
        power_on(machine, "quiet")
        self.kernel = Kernel(machine.memory, machine, start_kernel(machine))
        self.machine = " ".join(specs)
        self.engine = engine
        self.cpus = cpus
        self.m = engine.words(machine.memory)
        self.nodes = [topology.cpu_node[cpu] for cpu in range(cpus)]
        for cpu, nid in enumerate(self.nodes):
            if not self.kernel.nodes or nid not in [
                n.nid for n in self.kernel.nodes if n.present_pages
            ]:
                raise UsageError(f"cpu {cpu} is on node {nid}, which has no memory of its own")

    # --- operations ---------------------------------------------------------------------------
    def share(self, order: int) -> int:
        """Blocks of a CPU's share: half of its node's free pages, by the CPUs on that node."""
        return min(
            self._free_pages(nid) // 2 // self.nodes.count(nid) >> order for nid in self.nodes
        )

    def _free_pages(self, nid: int) -> int:
        return next(node.free_pages for node in self.kernel.nodes if node.nid == nid)

    def alloc(self, order: int, share: int) -> list[memoryview]:
        """Every CPU's share of blocks; their PFNs by CPU."""
        got = [memoryview(array("q", bytes(8 * share))) for _ in range(self.cpus)]
        for lo, hi in _slices(share):
            for cpu, pfns in enumerate(got):
                self.alloc_slice(cpu, order, pfns[lo:hi])
        return got

    def alloc_slice(self, cpu: int, order: int, pfns: memoryview) -> None:
        """Fills `pfns`. Raises UsageError when memory runs out."""
        n = len(pfns)
        nid = self.nodes[cpu]
        if self.engine.alloc_pages_bulk(self.m, cpu, GFP, order, nid, 0, pfns, n) != n:
            raise UsageError(f"the machine is too small for order {order} on {self.cpus} CPUs")

    def free(self, order: int, shares: Sequence[memoryview]) -> None:
        """Frees every CPU's blocks, in their order."""
        longest = max(map(len, shares))
        for lo, hi in _slices(longest):
            for cpu, pfns in enumerate(shares):
                part = pfns[lo:hi]
                self.engine.free_pages_bulk(self.m, cpu, order, part, len(part))

    # --- shapes -------------------------------------------------------------------------------
    def run(self, shape: str, order: int, runs: int) -> list[Row]:
        """The rows of one shape at one order. Raises UsageError for an unknown shape or order."""
        if shape not in SHAPES:
            raise UsageError(f"shape {shape!r}: one of {', '.join(SHAPES)}")
        if not 0 <= order < MAX_ORDER:
            raise UsageError(f"order {order} is not between 0 and {MAX_ORDER - 1}")
        work: Callable[[int, int], list[Row]] = getattr(self, f"_{shape}")
        return work(order, runs)

    def _rows(self, order: int, operations: int, **values: list[float]) -> list[Row]:
        return [
            row(
                name.replace("_", " "),
                self.engine.name,
                self.machine,
                [seconds * 1e9 / operations for seconds in found],
                order=order,
                cpus=self.cpus,
                operations=operations,
            )
            for name, found in values.items()
        ]

    def _bulk(self, order: int, runs: int) -> list[Row]:
        share, allocs, frees = self.share(order), [], []
        for _ in range(runs):
            began = time.perf_counter()
            got = self.alloc(order, share)
            between = time.perf_counter()
            self.free(order, got)
            frees.append(time.perf_counter() - between)
            allocs.append(between - began)
        return self._rows(order, share * self.cpus, bulk_alloc=allocs, bulk_free=frees)

    def _repeat(self, order: int, runs: int) -> list[Row]:
        pairs, times = REPEATS // self.cpus, []
        repeat = self.engine.repeat_pages
        for _ in range(runs):
            began = time.perf_counter()
            for lo, hi in _slices(pairs):
                for cpu, nid in enumerate(self.nodes):
                    repeat(self.m, cpu, GFP, order, nid, hi - lo)
            times.append(time.perf_counter() - began)
        return self._rows(order, pairs * self.cpus, repeat_pair=times)

    def _rand(self, order: int, runs: int) -> list[Row]:
        share, times = self.share(order), []
        for seed in range(runs):
            shuffled = _dealt(self.alloc(order, share), Random(seed))
            began = time.perf_counter()
            self.free(order, shuffled)
            times.append(time.perf_counter() - began)
        return self._rows(order, share * self.cpus, rand_free=times)

    def _frag(self, order: int, runs: int) -> list[Row]:
        share, times, whole = self.share(order), [], []
        tenth = max(share // 10, 1)
        for seed in range(runs):
            random = Random(seed)
            got = self.alloc(order, share)
            spent = 0.0
            for _ in range(FRAG_ROUNDS):
                got = _dealt(got, random)
                began = time.perf_counter()
                self.free(order, [pfns[:tenth] for pfns in got])
                for cpu, pfns in enumerate(got):
                    self.alloc_slice(cpu, order, pfns[:tenth])
                spent += time.perf_counter() - began
            times.append(spent)
            whole.append(self.whole_blocks())
            self.free(order, got)
        rows = self._rows(order, tenth * self.cpus * FRAG_ROUNDS, frag_pair=times)
        name, machine = self.engine.name, self.machine
        return [
            *rows,
            row("frag whole blocks", name, machine, whole, "%", order=order, cpus=self.cpus),
        ]

    def whole_blocks(self) -> float:
        """Percent of the free lists' pages that lie in blocks of a pageblock or more."""
        total = large = 0
        for zone in self.kernel.zones:
            pages = [count << order for order, count in enumerate(zone.nr_free())]
            total += sum(pages)
            large += sum(pages[PAGEBLOCK_ORDER:])
        return 100 * large / total if total else 0.0


def _slices(count: int) -> Iterator[tuple[int, int]]:
    for lo in range(0, count, SLICE):
        yield lo, min(lo + SLICE, count)


def _dealt(shares: Sequence[memoryview], random: Random) -> list[memoryview]:
    """All blocks shuffled, and dealt to the CPUs of their node anew or of any other."""
    pfns = [pfn for share in shares for pfn in share]
    random.shuffle(pfns)
    size = len(shares[0])
    return [memoryview(array("q", pfns[i * size : (i + 1) * size])) for i in range(len(shares))]
