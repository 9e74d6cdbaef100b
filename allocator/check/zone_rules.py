# SPDX-License-Identifier: GPL-2.0-only
"""Zones: what their fields say, against the frames, the lists and each other.

Counters must add up (free pages with the per-cpu deltas against the lists, managed against the
frames that boot gave away, present against memblock), spans must tile their node, watermarks and
reserves must be what the formulas can give. Some numbers were computed from `managed` at a time
when it was smaller; for those only bounds hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..kernel_globals import (
    G_LOWMEM_RATIO,
    G_MIN_FREE_KBYTES,
    G_MM_INIT_DONE,
    G_TOTALCMA,
    G_TOTALRAM,
    G_TOTALRESERVE,
    G_WATERMARK_SCALE,
)
from ..layout import PAGE_OFFSET, PFN_SECTION_SHIFT, SECTION_USEMAP, ZONE_NAME_STRINGS, va_of_word
from ..mm_types import PAGE_SHIFT
from ..mmzone import (
    MAX_NR_ZONES,
    MAX_ORDER,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_TYPES,
    ND_TOTALRESERVE,
    NR_FREE_CMA_PAGES,
    NR_FREE_PAGES,
    NR_VM_NUMA_STAT_ITEMS,
    NR_VM_ZONE_STAT_ITEMS,
    NUMA_FOREIGN,
    NUMA_HIT,
    NUMA_LOCAL,
    NUMA_MISS,
    NUMA_OTHER,
    NUMA_STAT_NAMES,
    PAGEBLOCK_NR_PAGES,
    PSET_NUMA_DIFF,
    PSET_STAT_DIFF,
    PSET_WORDS,
    Z_COMPACT_BLOCKSKIP_FLUSH,
    Z_COMPACT_CONSIDERED,
    Z_COMPACT_DEFER_SHIFT,
    Z_COMPACT_FREE_PFN,
    Z_COMPACT_MIGRATE_PFN,
    Z_COMPACT_ORDER_FAILED,
    Z_CONTIGUOUS,
    Z_DRIFT_MARK,
    Z_INITIALIZED,
    Z_LOCK,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_NAME,
    Z_NODE,
    Z_NR_HIGHATOMIC,
    Z_NR_ISOLATE,
    Z_NUMA_STAT,
    Z_PGDAT,
    Z_PRESENT,
    Z_SPANNED,
    Z_START_PFN,
    Z_VM_STAT,
    Z_WMARK,
    ZONE_NAMES,
    ZONE_STAT_NAMES,
)
from .frames import SECTION_WORDS
from .free_lists import bad_frames, left_by_soft_offline
from .registry import register

if TYPE_CHECKING:
    from .context import Check, ZoneHandle

RULES = {
    "zone-static": "node, zone_pgdat, name and initialized of a zone are what boot wrote",
    "zone-lock": "no zone is locked between two operations",
    "zone-span": "the zones of a node follow each other up to the end of its memory",
    "zone-present": "present pages of a zone are memblock's memory in its span",
    "zone-managed": "managed pages of a zone are its frames of RAM that are not reserved",
    "zone-free-pages": "NR_FREE_PAGES with all per-cpu deltas is the number of pages on the lists, "
    "but for what soft offline leaves",
    "zone-free-cma": "NR_FREE_CMA_PAGES with all per-cpu deltas is the number of free CMA pages",
    "zone-counter": "no zone counter is negative when all per-cpu deltas are added",
    "zone-numa": "NUMA counts of a zone balance: hit + miss = local + other",
    "numa-foreign": "pages missed by all zones together are the foreign ones",
    "zone-watermarks": "watermarks are ordered, equally spaced, and spaced as the formula says",
    "watermark-sum": "min watermarks add up to min_free_kbytes, less rounding",
    "zone-lowmem-reserve": "lowmem_reserve grows with the class and stays within its ratio",
    "totalreserve": "totalreserve_pages follow from watermarks and reserves, by node and in all",
    "zone-highatomic": "nr_reserved_highatomic is whole pageblocks and within its limit",
    "highatomic-blocks": "there are no more highatomic pageblocks than the zones have reserved",
    "zone-isolate": "nr_isolate_pageblock is the number of isolated pageblocks of the zone",
    "pageblock-type": "pageblock types are legal, CMA ones no more than the CMA areas have",
    "zone-contiguous": "a contiguous zone has no hole and no foreign pageblock",
    "zone-compaction": "compaction's scanner positions lie in the zone, its back-off in range",
    "zone-drift": "percpu_drift_mark is not negative",
    "totalram": "managed pages of all zones add up to totalram_pages",
}
COMPACT_MAX_DEFER_SHIFT = 6


def check_static(check: Check) -> None:
    """Fields that never change after boot, and the lock."""
    m = check.m
    for zone in check.all_zones:
        z = zone.word
        name = va_of_word(ZONE_NAME_STRINGS + 2 * zone.zid)
        expected = [
            (Z_NODE, zone.nid, "node"),
            (Z_PGDAT, va_of_word(check.nodes[zone.nid]), "zone_pgdat"),
            (Z_INITIALIZED, int(m[z + Z_SPANNED] != 0), "initialized"),
        ]
        if not check.replayed:
            expected.append((Z_NAME, name, "name"))
        for offset, value, field in expected:
            if m[z + offset] != value:
                text = f"{field} is {m[z + offset]:#x}, not {value:#x}"
                check.add_zone("zone-static", zone, text, offset)
        if m[z + Z_LOCK]:
            check.add_zone("zone-lock", zone, f"lock is held: {m[z + Z_LOCK]:#x}", Z_LOCK)
        if m[z + Z_DRIFT_MARK] < 0:
            text = f"percpu_drift_mark is {m[z + Z_DRIFT_MARK]}"
            check.add_zone("zone-drift", zone, text, Z_DRIFT_MARK)


def check_spans(check: Check) -> None:
    """Start, spanned, present and managed."""
    m, frames = check.m, check.frames
    managed = frames.unreserved_by_zone.copy()
    gone = np.zeros(256, dtype=np.int64)
    if check.deferred.first:
        managed -= frames.count_by_zone(frames.deferred & frames.ram)
    if m[G_MM_INIT_DONE]:
        gone = frames.count_by_zone(check.offline)
    for ident, pages in check.deferred.free.items():
        managed[ident] += pages
    by_node: dict[int, ZoneHandle] = {}
    for zone in check.all_zones:
        start, spanned = m[zone.word + Z_START_PFN], m[zone.word + Z_SPANNED]
        if (zone.start, zone.end - zone.start) != (start, spanned):
            check.add_zone("zone-span", zone, f"spans {spanned} frames from {start}", Z_START_PFN)
            continue
        if zone.end > zone.start:
            below = by_node.get(zone.nid)
            if below is not None and below.end != zone.start:
                text = f"starts at {zone.start:#x}, but {below.label} ends at {below.end:#x}"
                check.add_zone("zone-span", zone, text, Z_START_PFN)
            by_node[zone.nid] = zone
        if check.replayed:
            _check_bounds(check, zone, int(managed[zone.ident]))
            continue
        present = sum(
            max(0, min(end, zone.end) - max(first, zone.start))
            for first, end, nid in check.memory_regions
            if nid == zone.nid
        )
        ends = [end for _, end, nid in check.memory_regions if nid == zone.nid]
        node_end = max(ends, default=0)
        last = all(z.end <= zone.end for z in check.zones if z.nid == zone.nid)
        if last and zone.end > zone.start and zone.end != node_end:
            text = f"ends at {zone.end:#x}, the memory of its node at {node_end:#x}"
            check.add_zone("zone-span", zone, text, Z_SPANNED)
        present -= int(gone[zone.ident])
        if zone.present != present:
            text = f"present_pages is {zone.present:,}, memblock has {present:,} in its span"
            check.add_zone("zone-present", zone, text, Z_PRESENT)
        if zone.managed != managed[zone.ident] and m[G_TOTALRAM]:
            text = (
                f"managed_pages is {zone.managed:,}, but {int(managed[zone.ident]):,} of its "
                "frames are not reserved"
            )
            check.add_zone("zone-managed", zone, text, Z_MANAGED)


def _check_bounds(check: Check, zone: ZoneHandle, unreserved: int) -> None:
    """What can be said of sizes without memblock's tables."""
    if not 0 <= zone.present <= zone.end - zone.start:
        check.add_zone("zone-present", zone, f"present_pages is {zone.present:,}", Z_PRESENT)
    if check.m[G_TOTALRAM] and not 0 <= zone.managed <= unreserved:
        text = f"managed_pages is {zone.managed:,}, unreserved frames are {unreserved:,}"
        check.add_zone("zone-managed", zone, text, Z_MANAGED)


def check_counters(check: Check) -> None:
    """Zone and NUMA counters, with the per-cpu deltas."""
    m, blocks = check.m, check.free_blocks
    pages = np.bincount(
        blocks.zone * MIGRATE_TYPES + blocks.mt,
        weights=np.int64(1) << blocks.order,
        minlength=len(check.zones) * MIGRATE_TYPES,
    )
    free = pages.astype(np.int64).reshape(-1, MIGRATE_TYPES)
    blocks_left = left_by_soft_offline(check, blocks)
    frames = check.frames
    bad = frames.ids[bad_frames(check)]
    missed = foreign = 0
    for i, zone in enumerate(check.zones):
        stat = _with_deltas(check, zone, Z_VM_STAT, PSET_STAT_DIFF, NR_VM_ZONE_STAT_ITEMS)
        numa = _with_deltas(check, zone, Z_NUMA_STAT, PSET_NUMA_DIFF, NR_VM_NUMA_STAT_ITEMS)
        listed = int(free[i, :MIGRATE_ISOLATE].sum())
        # soft offline has freed its frames without counting them, and taken the free neighbours
        # that they merged with off these lists
        hidden = int((blocks_left & (blocks.zone == i)) @ (np.int64(1) << blocks.order))
        poisoned = int(np.count_nonzero(bad == zone.ident))
        for rule, item, have in (
            ("zone-free-pages", NR_FREE_PAGES, listed),
            ("zone-free-cma", NR_FREE_CMA_PAGES, int(free[i, MIGRATE_CMA])),
        ):
            excess = stat[item] - have
            if excess and not (item == NR_FREE_PAGES and -poisoned <= excess <= hidden):
                said = m[zone.word + Z_VM_STAT + item]
                text = (
                    f"{ZONE_STAT_NAMES[item]} is {said:,} and {stat[item] - said:+,} on the CPUs, "
                    f"the lists hold {have:,} pages"
                )
                check.add_zone(rule, zone, text, Z_VM_STAT + item)
        for item, value in enumerate(stat):
            if value < 0:
                text = f"{ZONE_STAT_NAMES[item]} adds up to {value}"
                check.add_zone("zone-counter", zone, text, Z_VM_STAT + item)
        if numa[NUMA_HIT] + numa[NUMA_MISS] != numa[NUMA_LOCAL] + numa[NUMA_OTHER]:
            text = ", ".join(f"{n} {v:,}" for n, v in zip(NUMA_STAT_NAMES, numa, strict=True))
            check.add_zone("zone-numa", zone, f"counts do not balance: {text}", Z_NUMA_STAT)
        missed += numa[NUMA_MISS]
        foreign += numa[NUMA_FOREIGN]
    if missed != foreign and check.zones:
        text = f"the zones missed {missed:,} pages, but {foreign:,} are foreign"
        word = check.zones[0].word + Z_NUMA_STAT + NUMA_FOREIGN
        check.add("numa-foreign", "NUMA statistics", text, word)


def _with_deltas(check: Check, zone: ZoneHandle, base: int, diff: int, items: int) -> list[int]:
    m = check.m
    values = [m[zone.word + base + i] for i in range(items)]
    first = check.pagesets(zone)
    if first >= 0:
        for cpu in range(check.cpus):
            at = first + cpu * PSET_WORDS + diff
            values = [value + m[at + i] for i, value in enumerate(values)]
    return values


def check_watermarks(check: Check) -> None:
    """Watermarks, lowmem reserves and what is computed from them."""
    m = check.m
    scale, total = m[G_WATERMARK_SCALE], 0
    for zone in check.all_zones:
        low_, mid, high = (m[zone.word + Z_WMARK + i] for i in range(3))
        total += low_
        gap = mid - low_
        ceiling = max(low_ >> 2, zone.managed * scale // 10000)
        fits = low_ >= 0 and gap == high - mid and low_ >> 2 <= gap <= ceiling
        if not fits:
            text = f"watermarks {low_} {mid} {high} are not min and twice the same step"
            check.add_zone("zone-watermarks", zone, text, Z_WMARK)
        _check_reserve(check, zone)
    pages_min = m[G_MIN_FREE_KBYTES] >> (PAGE_SHIFT - 10)
    if total and not pages_min - len(check.all_zones) < total <= pages_min:
        text = f"min watermarks add up to {total:,} pages, min_free_kbytes is {pages_min:,} pages"
        check.add("watermark-sum", "min_free_kbytes", text, G_MIN_FREE_KBYTES)
    _check_totalreserve(check)


def _check_reserve(check: Check, zone: ZoneHandle) -> None:
    m = check.m
    ratio, above, last = m[G_LOWMEM_RATIO + zone.zid], 0, 0
    for j in range(MAX_NR_ZONES):
        offset = Z_LOWMEM_RESERVE + j
        value = m[zone.word + offset]
        if j > zone.zid:
            peer = next(z for z in check.all_zones if (z.nid, z.zid) == (zone.nid, j))
            above += max(peer.managed, 0)
        limit = above // ratio if ratio >= 1 and j > zone.zid else 0
        if check.replayed and j > zone.zid:
            limit = above  # a recording does not tell the ratios
        if not last <= value <= limit:
            text = f"lowmem_reserve[{ZONE_NAMES[j]}] is {value:,}, the ratio allows {limit:,}"
            check.add_zone("zone-lowmem-reserve", zone, text, offset)
        last = max(last, min(value, limit))


def _check_totalreserve(check: Check) -> None:
    """Exact, but for zones so small that their managed pages were the bound at the time."""
    m = check.m
    low = high = said = 0
    for nid, nd in check.nodes.items():
        node_low = node_high = 0
        for zone in check.all_zones:
            if zone.nid == nid:
                reserves = [
                    m[zone.word + Z_LOWMEM_RESERVE + j] for j in range(zone.zid, MAX_NR_ZONES)
                ]
                wanted = max(reserves) + m[zone.word + Z_WMARK + 2]
                clamped = 2 * wanted > zone.managed
                node_low += 0 if clamped else wanted
                node_high += min(wanted, max(zone.managed, 0)) if clamped else wanted
        total = m[nd + ND_TOTALRESERVE]
        if not node_low <= total <= node_high and not check.replayed:
            text = f"totalreserve_pages is {total:,}, its zones reserve {node_high:,}"
            check.add("totalreserve", f"node {nid}", text, nd + ND_TOTALRESERVE)
        low, high, said = low + node_low, high + node_high, said + total
    total = m[G_TOTALRESERVE]
    if not low <= total <= high or (total != said and not check.replayed):
        text = f"totalreserve_pages is {total:,}, the nodes have {said:,}"
        check.add("totalreserve", "kernel globals", text, G_TOTALRESERVE)


def check_blocks(check: Check) -> None:
    """Pageblock types against the zones' counters."""
    m, frames = check.m, check.frames
    types = frames.blocks
    first = np.arange(types.size) * PAGEBLOCK_NR_PAGES
    for block in np.flatnonzero(types >= MIGRATE_TYPES)[:64].tolist():
        pfn = frames.pfn(block * PAGEBLOCK_NR_PAGES)
        text = f"pageblock is of type {int(types[block])}, which does not exist"
        check.add_frame("pageblock-type", pfn, text, address=usemap_address(check, pfn))
    cma = np.flatnonzero(types == MIGRATE_CMA)
    if cma.size * PAGEBLOCK_NR_PAGES > max(m[G_TOTALCMA], 0) and not check.replayed:
        text = f"{cma.size:,} pageblocks are CMA, totalcma_pages is {m[G_TOTALCMA]:,}"
        for block in cma[:64].tolist():
            pfn = frames.pfn(block * PAGEBLOCK_NR_PAGES)
            check.add_frame("pageblock-type", pfn, text, address=usemap_address(check, pfn))
    owners = frames.ids[first]
    isolated = np.bincount(owners[types == MIGRATE_ISOLATE], minlength=256)
    reserved = 0
    for zone in check.zones:
        said = m[zone.word + Z_NR_ISOLATE]
        if said != isolated[zone.ident]:
            text = (
                f"nr_isolate_pageblock is {said}, {int(isolated[zone.ident])} blocks are isolated"
            )
            check.add_zone("zone-isolate", zone, text, Z_NR_ISOLATE)
        nr = m[zone.word + Z_NR_HIGHATOMIC]
        limit = max(zone.managed, 0) // 100 + 2 * PAGEBLOCK_NR_PAGES
        if nr < 0 or nr % PAGEBLOCK_NR_PAGES or nr >= limit:
            text = f"nr_reserved_highatomic is {nr:,}"
            check.add_zone("zone-highatomic", zone, text, Z_NR_HIGHATOMIC)
        reserved += nr
    high = np.flatnonzero(types == MIGRATE_HIGHATOMIC)
    if high.size * PAGEBLOCK_NR_PAGES > reserved:
        text = (
            f"one of {high.size} highatomic pageblocks, but the zones reserved {reserved:,} pages"
        )
        for block in high[:64].tolist():
            pfn = frames.pfn(block * PAGEBLOCK_NR_PAGES)
            check.add_frame("highatomic-blocks", pfn, text, address=usemap_address(check, pfn))


def usemap_address(check: Check, pfn: int) -> int:
    """Physical address of the word with the bits of a frame's pageblock."""
    usemap: int = check.m[SECTION_USEMAP + (pfn >> PFN_SECTION_SHIFT) * SECTION_WORDS] - PAGE_OFFSET
    return usemap + ((pfn >> 13 & 3) << 3)


def check_compaction(check: Check) -> None:
    """Scanner positions and back-off; the contiguous flag."""
    m = check.m
    for zone in check.zones:
        z = zone.word
        slack = PAGEBLOCK_NR_PAGES
        for offset in (Z_COMPACT_FREE_PFN, Z_COMPACT_MIGRATE_PFN, Z_COMPACT_MIGRATE_PFN + 1):
            pfn = m[z + offset]
            if pfn and not zone.start - slack < pfn <= zone.end + slack:
                text = f"a scanner stands at frame {pfn:#x}, outside the zone"
                check.add_zone("zone-compaction", zone, text, offset)
        for offset, low, high, name in (
            (Z_COMPACT_DEFER_SHIFT, 0, COMPACT_MAX_DEFER_SHIFT, "compact_defer_shift"),
            (Z_COMPACT_CONSIDERED, 0, 1 << COMPACT_MAX_DEFER_SHIFT, "compact_considered"),
            (Z_COMPACT_ORDER_FAILED, 0, MAX_ORDER, "compact_order_failed"),
            (Z_COMPACT_BLOCKSKIP_FLUSH, 0, 1, "compact_blockskip_flush"),
            (Z_CONTIGUOUS, 0, 1, "contiguous"),
        ):
            if not low <= m[z + offset] <= high:
                rule = "zone-contiguous" if offset == Z_CONTIGUOUS else "zone-compaction"
                check.add_zone(rule, zone, f"{name} is {m[z + offset]}", offset)
        if m[z + Z_CONTIGUOUS] == 1:
            _check_contiguous(check, zone)


def _check_contiguous(check: Check, zone: ZoneHandle) -> None:
    """As set_zone_contiguous() looks: the first and last frame of each pageblock."""
    step = PAGEBLOCK_NR_PAGES
    edges = np.arange(zone.start // step * step, zone.end, step, dtype=np.int64)
    both = np.concatenate((np.maximum(edges, zone.start), np.minimum(edges + step, zone.end) - 1))
    slot = check.frames.slot[both >> 15]
    index = np.where(slot >= 0, slot << 15 | both & 0x7FFF, 0)
    foreign = slot < 0
    if check.frames.size:
        foreign |= check.frames.ids[index] != zone.ident
    if foreign.any():
        pfn = int(both[np.argmax(foreign)])
        text = f"contiguous is set, but frame {pfn:#x} is not the zone's"
        check.add_zone("zone-contiguous", zone, text, Z_CONTIGUOUS)


def run(check: Check) -> None:
    """All rules about zones."""
    check_static(check)
    check_spans(check)
    check_counters(check)
    check_watermarks(check)
    check_blocks(check)
    check_compaction(check)
    managed = sum(zone.managed for zone in check.all_zones)
    if check.m[G_TOTALRAM] and managed != check.m[G_TOTALRAM]:
        text = f"totalram_pages is {check.m[G_TOTALRAM]:,}, the zones manage {managed:,}"
        check.add("totalram", "kernel globals", text, G_TOTALRAM)


register("zones", RULES, run, rank=40)
