# SPDX-License-Identifier: GPL-2.0-only
"""Where zones begin and end on every node (mm/page_alloc.c, free_area_init_nodes and its helpers).

Zones are cut by address: DMA below 16 MiB, DMA32 below 4 GiB, Normal above. ZONE_MOVABLE is not an
address range but what is left at the end of each node when `kernelcore` memory has been dealt out
evenly (or what `movablecore` wants to be left). From these borders and memblock's regions follow
each zone's span, its holes, and what is present. All results are entered into the zones by
`page_init`; nothing is kept here.

Arithmetic is the kernel's even where it looks odd: an empty ZONE_MOVABLE whose start lies behind
its node's end comes out with pages present and none spanned.
"""

from __future__ import annotations

from .boot_context import BootContext
from .kernel_globals import G_MOVABLE_ZONE
from .mm_types import PAGE_SHIFT
from .mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MAX_ORDER_NR_PAGES,
    ZONE_DMA,
    ZONE_DMA32,
    ZONE_MOVABLE,
    ZONE_NORMAL,
)

MAX_DMA_PFN = (16 << 20) >> PAGE_SHIFT
MAX_DMA32_PFN = 1 << (32 - PAGE_SHIFT)
Range = tuple[int, int, int]
Span = tuple[int, int]


def clamp(value: int, low: int, high: int) -> int:
    """The kernel's clamp(): `high` wins when the bounds are the wrong way round."""
    return min(max(value, low), high)


class ZoneRanges:
    """Zone borders of the machine: `lowest[zid]`, `highest[zid]` (pfn) and `movable_pfn[nid]`."""

    def __init__(self, ctx: BootContext, max_low_pfn: int) -> None:
        self.ctx = ctx
        self.ranges: list[Range] = list(ctx.mb.mem_pfn_ranges())
        self.lowest = [0] * MAX_NR_ZONES
        self.highest = [0] * MAX_NR_ZONES
        ends = {
            ZONE_DMA: min(MAX_DMA_PFN, max_low_pfn),
            ZONE_DMA32: min(MAX_DMA32_PFN, max_low_pfn),
            ZONE_NORMAL: max_low_pfn,
        }
        start = min((lo for lo, _, _ in self.ranges), default=0)
        for zid, end in ends.items():
            end = max(end, start)
            self.lowest[zid], self.highest[zid] = start, end
            start = end
        self.movable_zone = max(
            zid for zid in ends if self.highest[zid] > self.lowest[zid] or zid == ZONE_DMA
        )
        ctx.m[G_MOVABLE_ZONE] = self.movable_zone
        self.movable_pfn = [0] * MAX_NUMNODES
        self._find_zone_movable_pfns()

    def of_node(self, nid: int) -> list[Range]:
        """Memory ranges of one node, ascending."""
        return [r for r in self.ranges if r[2] == nid]

    # --- ZONE_MOVABLE --------------------------------------------------------------------------
    def _find_zone_movable_pfns(self) -> None:
        """find_zone_movable_pfns_for_nodes."""
        params = self.ctx.params
        if params.mirrored_kernelcore:
            self._mirrored_kernelcore()
            self._align_movable()
            return
        total = sum(hi - lo for lo, hi, _ in self.ranges)
        kernelcore, movablecore = params.kernelcore_pages, params.movablecore_pages
        if params.kernelcore_percent:
            kernelcore = total * 100 * params.kernelcore_percent // 10000
        if params.movablecore_percent:
            movablecore = total * 100 * params.movablecore_percent // 10000
        if movablecore:
            movablecore = -(-movablecore // MAX_ORDER_NR_PAGES) * MAX_ORDER_NR_PAGES
            kernelcore = max(kernelcore, total - min(total, movablecore))
        if not kernelcore or kernelcore >= total:
            return
        nodes = sorted({nid for _, _, nid in self.ranges if nid < MAX_NUMNODES})
        usable = len(nodes)
        while True:
            kernelcore = self._spread_kernelcore(kernelcore, nodes, usable)
            usable -= 1
            if not usable or kernelcore <= usable:
                break
        self._align_movable()

    def _spread_kernelcore(self, required: int, nodes: list[int], usable: int) -> int:
        """One round of dealing out `required` pages evenly; what is still missing afterwards."""
        lowest_movable = self.lowest[self.movable_zone]
        share = required // usable
        for nid in nodes:
            if required < share:
                share = required // usable
            remaining = share
            for start, end, _ in self.of_node(nid):
                start = max(start, self.movable_pfn[nid])
                if start >= end:
                    continue
                if start < lowest_movable:
                    kernel_pages = min(end, lowest_movable) - start
                    remaining -= min(kernel_pages, remaining)
                    required -= min(kernel_pages, required)
                    if end <= lowest_movable:
                        self.movable_pfn[nid] = end
                        continue
                    start = lowest_movable
                size = min(end - start, remaining)
                self.movable_pfn[nid] = start + size
                required -= min(required, size)
                remaining -= size
                if not remaining:
                    break
        return required

    def _mirrored_kernelcore(self) -> None:
        """kernelcore=mirror on a machine without mirrored memory: all above 4 GiB is movable."""
        low = False
        for start, _, nid in self.ranges:
            if start < MAX_DMA32_PFN or nid >= MAX_NUMNODES:
                low = True
                continue
            self.movable_pfn[nid] = min(self.movable_pfn[nid] or start, start)
        if low:
            self.ctx.printk.warn("This configuration results in unmirrored kernel memory.")

    def _align_movable(self) -> None:
        unit = MAX_ORDER_NR_PAGES
        self.movable_pfn = [-(-pfn // unit) * unit for pfn in self.movable_pfn]

    # --- spans ---------------------------------------------------------------------------------
    def node_range(self, nid: int) -> tuple[int, int]:
        """First and last+1 pfn of a node; (0, 0) without memory (get_pfn_range_for_nid)."""
        mine = self.of_node(nid)
        return min((r[0] for r in mine), default=0), max((r[1] for r in mine), default=0)

    def _adjust_for_movable(self, nid: int, zid: int, end: int, zone: tuple[int, int]) -> Span:
        """adjust_zone_range_for_zone_movable: (start, end) of a zone on a node ending at `end`."""
        lo, hi = zone
        movable = self.movable_pfn[nid]
        if movable:
            if zid == ZONE_MOVABLE:
                return movable, min(end, self.highest[self.movable_zone])
            if not self.ctx.params.mirrored_kernelcore and lo < movable < hi:
                return lo, movable
            if lo >= movable:
                return hi, hi
        return lo, hi

    def zone_span(self, nid: int, zid: int) -> tuple[int, int]:
        """(start pfn, pages spanned) of a zone; (0, 0) when empty (zone_spanned_pages_in_node)."""
        node_start, node_end = self.node_range(nid)
        if not node_start and not node_end:
            return 0, 0
        lo, hi = self._adjust_for_movable(nid, zid, node_end, (self.lowest[zid], self.highest[zid]))
        if hi < node_start or lo > node_end:
            return 0, 0
        lo, hi = max(lo, node_start), min(hi, node_end)
        return (lo, hi - lo) if hi != lo else (0, 0)

    def zone_absent(self, nid: int, zid: int) -> int:
        """Pages of holes in a zone (zone_absent_pages_in_node); see the note at the top."""
        node_start, node_end = self.node_range(nid)
        if not node_start and not node_end:
            return 0
        low, high = self.lowest[zid], self.highest[zid]
        lo, hi = self._adjust_for_movable(
            nid, zid, node_end, (clamp(node_start, low, high), clamp(node_end, low, high))
        )
        absent = hi - lo
        for start, end, _ in self.of_node(nid):
            absent -= clamp(end, lo, hi) - clamp(start, lo, hi)
        if self.ctx.params.mirrored_kernelcore and self.movable_pfn[nid] and zid == ZONE_NORMAL:
            for start, end, _ in self.ranges:
                absent += clamp(end, lo, hi) - clamp(start, lo, hi)
        return absent
