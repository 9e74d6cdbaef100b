# SPDX-License-Identifier: GPL-2.0-only
"""Bring-up step by step, from given tables instead of a firmware.

`BootStages` runs the same code as `start_kernel`, but begins where the recorded kernels begin: with
memblock's two tables, the CPUs' nodes and the distances. The kernel's own structures go into a bank
of RAM above the map (`replay_memory`), so nothing of the given map is used up, and each stage can
be looked at: `early0` is the moment before memblock is freed, `early1` the one after, the later
ones stand for the calls of their names in init/main.c and the initcalls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from machine import Bank, BringUpError, PhysicalMemory

from .boot_context import Arena, BootContext, populated_zones
from .boot_free import memblock_free_all
from .cma import CmaArea, cma_init_reserved_areas
from .cpu_init import bring_up_cpus, setup_cpus
from .debug_features import page_ext_init, setup_debug_features
from .kernel_data import init_kernel_data, open_gfp_mask
from .kernel_globals import G_MAX_LOW_PFN, G_MAX_PFN, G_TOTALCMA, G_TOTALRAM, KERNEL_BASE
from .layout import KERNEL_IMAGE_SIZE, NODE_DISTANCE, SECTION_SHIFT
from .memblock import Region, merge_regions
from .mm_types import PAGE_SHIFT, PAGE_SIZE
from .mmzone import MAX_NUMNODES, PGLIST_DATA_WORDS
from .numa import NODE_MIN_SIZE, reset_distance
from .page_init import (
    alloc_node_data,
    free_area_init_nodes,
    init_memory_less_node,
    set_zone_contiguous,
)
from .pageset import (
    PerCpuArea,
    alloc_boot_nodestats,
    setup_boot_pagesets,
    setup_per_cpu_pageset,
)
from .params import parse_args, parse_early_param
from .printk import Printk
from .sparse import SECTION_MAP_SIZE, sparse_init
from .wmark import init_per_zone_wmark_min, set_recommended_min_free_kbytes
from .zone_sizes import MAX_DMA_PFN
from .zonelist import build_all_zonelists

THP_MIN_PAGES = 512 << (20 - PAGE_SHIFT)
RegionTuple = Sequence[int]


@dataclass(frozen=True)
class BootTables:
    """Where a staged boot starts. Regions are (base, size, nid, flags) in bytes, nid
    MAX_NUMNODES for none; `distances` a mapping of mappings or a matrix; `dma_reserve` in pages and
    `online_nodes` are computed when None."""

    memory: Sequence[RegionTuple]
    reserved: Sequence[RegionTuple]
    cpu_nodes: Sequence[int]
    distances: Mapping[int, Mapping[int, int]] | Sequence[Sequence[int]] = ()
    cmdline: str = ""
    cma_areas: Sequence[tuple[int, int]] = ()
    dma_reserve: int | None = None
    online_nodes: Sequence[int] | None = None
    current_limit: int = 0

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        cmdline: str = "",
        cma_areas: Iterable[tuple[int, int]] = (),
    ) -> BootTables:
        """From a recorded early0 or early1 state (parsed JSON). Raises BringUpError if it lacks
        the tables."""
        try:
            memblock = state["memblock"]
            distances = {
                int(i): {int(j): int(d) for j, d in row.items()}
                for i, row in state.get("dist", {}).items()
            }
            tables = cls(
                memory=memblock["memory"],
                reserved=memblock["reserved"],
                cpu_nodes=[cpu["node"] for cpu in sorted(state["cpus"], key=lambda c: c["cpu"])],
                distances=distances,
                cmdline=cmdline,
                cma_areas=tuple(cma_areas),
                current_limit=int(memblock.get("current_limit", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BringUpError(f"recorded state lacks boot tables: {error!r}") from None
        if "nodes" in state:
            return replace(tables, online_nodes=[node["nid"] for node in state["nodes"]])
        return tables

    def nodes(self) -> list[int]:
        """Ids of the nodes that will be online, ascending."""
        if self.online_nodes is not None:
            return sorted(set(self.online_nodes))
        return sorted(set(self.memory_nodes()) | set(self.cpu_nodes))

    def memory_nodes(self) -> list[int]:
        """Ids of the nodes with enough memory to be registered from the memory table."""
        spans: dict[int, tuple[int, int]] = {}
        for base, size, nid, *_ in self.memory:
            lo, hi = spans.get(nid, (base, base))
            spans[nid] = (min(lo, base), max(hi, base + size))
        return sorted(
            nid
            for nid, (lo, hi) in spans.items()
            if hi - lo >= NODE_MIN_SIZE and nid < MAX_NUMNODES
        )


def arena_size(tables: BootTables) -> int:
    """Bytes that the kernel's structures for these tables take, with room to spare."""
    sections: set[int] = set()
    for base, size, *_ in tables.memory:
        sections.update(range(base >> SECTION_SHIFT, ((base + size - 1) >> SECTION_SHIFT) + 1))
    nodes, cpus = len(tables.nodes()) + 1, len(tables.cpu_nodes)
    per_node = PGLIST_DATA_WORDS * 8 + 4 * SECTION_MAP_SIZE + cpus * 8192
    total = len(sections) * (SECTION_MAP_SIZE + 64) + nodes * per_node + (1 << 20)
    return -(-total // (2 << 20)) * (2 << 20)


def replay_memory(tables: BootTables, extra_bytes: int = 0) -> tuple[PhysicalMemory, Arena]:
    """RAM for a staged boot: all of the map in one bank, the structures in another above it."""
    end = max(base + size for base, size, *_ in tables.memory)
    unit = 1 << SECTION_SHIFT
    end = max(-(-end // unit) * unit, KERNEL_BASE + KERNEL_IMAGE_SIZE)
    extra = -(-extra_bytes // PAGE_SIZE) * PAGE_SIZE
    top = end + arena_size(tables) + extra
    memory = PhysicalMemory([Bank(0, end, "map"), Bank(end, top, "metadata")])
    return memory, Arena(end, top)


def _regions(table: Sequence[RegionTuple]) -> list[Region]:
    regions = [[int(b), int(b) + int(s), int(f), int(n)] for b, s, n, f in table if s]
    return sorted(regions)


class BootStages:
    """A kernel between its stages; `m` its words, `log` its lines, `ctx` the boot's own state."""

    def __init__(self, memory: PhysicalMemory, tables: BootTables, arena: Arena) -> None:
        self.memory = memory
        self.m: memoryview = memory.words
        self.tables = tables
        init_kernel_data(self.m)
        self.printk = Printk(self.m)
        params = parse_early_param(tables.cmdline, self.printk)
        parse_args(params, self.printk)
        self.ctx = BootContext(memory, params, self.printk, arena)
        self.cma = [
            CmaArea(f"cma{i}", base >> PAGE_SHIFT, size >> PAGE_SHIFT)
            for i, (base, size) in enumerate(tables.cma_areas)
        ]
        self._area: PerCpuArea | None = None

    @property
    def log(self) -> list[str]:
        """The boot log so far."""
        return self.printk.lines

    def early0(self) -> None:
        """Everything before memblock_free_all(): nodes, zones, memmap, zonelists, boot pagesets."""
        ctx, m, tables = self.ctx, self.m, self.tables
        self._load_tables()
        max_pfn = max(end for _, end, _ in ctx.mb.mem_pfn_ranges())
        m[G_MAX_PFN] = m[G_MAX_LOW_PFN] = max_pfn
        given = tables.dma_reserve
        ctx.dma_reserve = find_dma_reserve(ctx) if given is None else given
        online = tables.nodes()
        with_memory = [nid for nid in tables.memory_nodes() if nid in online]
        for nid in with_memory:
            alloc_node_data(ctx, nid)
        sparse_init(ctx)
        zones = free_area_init_nodes(ctx, max_pfn, max_pfn)
        for nid in online:
            if nid not in with_memory:
                init_memory_less_node(ctx, zones, nid)
        setup_cpus(m, tables.cpu_nodes, list(range(len(tables.cpu_nodes))))
        alloc_boot_nodestats(ctx)
        self._area = PerCpuArea(ctx)
        setup_boot_pagesets(m)
        build_all_zonelists(m, self.printk)
        m[G_TOTALCMA] = sum(area.count for area in self.cma)

    def _load_tables(self) -> None:
        mb, tables = self.ctx.mb, self.tables
        mb.memory.store(merge_regions(_regions(tables.memory)))
        mb.reserved.store(_regions(tables.reserved))
        mb.set_current_limit(tables.current_limit)
        reset_distance(self.m)
        rows = tables.distances
        pairs = rows.items() if isinstance(rows, Mapping) else enumerate(rows)
        for i, row in pairs:
            for j, distance in row.items() if isinstance(row, Mapping) else enumerate(row):
                self.m[NODE_DISTANCE + i * MAX_NUMNODES + j] = distance

    def early1(self) -> None:
        """mem_init(): memory goes from memblock to the buddy lists."""
        setup_debug_features(self.ctx)
        memblock_free_all(self.ctx)

    def setup_per_cpu_pageset(self) -> None:
        """Real pagesets instead of the boot ones (early4)."""
        assert self._area is not None, "early0() comes first"
        page_ext_init(self.ctx)
        setup_per_cpu_pageset(self.m, self._area)

    def smp_init(self) -> None:
        """All CPUs online; requests may sleep from now on (gfp_allowed_mask)."""
        open_gfp_mask(self.m)
        bring_up_cpus(self.m)

    def page_alloc_init_late(self) -> None:
        """Finds the zones without holes."""
        page_alloc_init_late(self.m)

    def init_per_zone_wmark_min(self) -> None:
        """Watermarks, counter thresholds and lowmem reserves."""
        init_per_zone_wmark_min(self.m, self.printk)

    def cma_init_reserved_areas(self) -> None:
        """Releases the CMA areas."""
        cma_init_reserved_areas(self.m, 0, self.cma, self.printk)

    def khugepaged_init(self) -> None:
        """Raises min_free_kbytes where huge pages are used."""
        khugepaged_init(self.ctx)

    def run_late(self) -> None:
        """From smp_init() to the end of the initcalls."""
        self.smp_init()
        self.page_alloc_init_late()
        self.init_per_zone_wmark_min()
        self.cma_init_reserved_areas()
        self.khugepaged_init()


def find_dma_reserve(ctx: BootContext) -> int:
    """Pages below 16 MiB that are taken already (memblock_find_dma_reserve)."""
    pages = sum(
        min(end, MAX_DMA_PFN) - min(start, MAX_DMA_PFN) for start, end, _ in ctx.mb.mem_pfn_ranges()
    )
    for start, end, _ in ctx.mb.free_mem_ranges():
        lo = min(-(-start >> PAGE_SHIFT), MAX_DMA_PFN)
        pages -= max(min(end >> PAGE_SHIFT, MAX_DMA_PFN) - lo, 0)
    return pages


def page_alloc_init_late(m: memoryview) -> None:
    """set_zone_contiguous() for every zone with pages."""
    for z in populated_zones(m):
        set_zone_contiguous(m, z)


def khugepaged_init(ctx: BootContext) -> None:
    """hugepage_init(): below 512 MiB huge pages stay off, else khugepaged starts."""
    if ctx.m[G_TOTALRAM] < THP_MIN_PAGES or ctx.params.transparent_hugepage == "never":
        return
    set_recommended_min_free_kbytes(ctx.m, ctx.printk)
