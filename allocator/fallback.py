# SPDX-License-Identifier: GPL-2.0-only
"""Migratetype fallback: stealing free blocks from other types, and the highatomic reserve.

When the lists of the wanted migratetype are empty, `rmqueue_fallback` looks for the largest free
block of another type (fixed preference per type) and, if the block is large enough or the request
is one that would otherwise pollute many blocks, takes over all free pages of its pageblock; the
pageblock itself changes type when at least half of it is free or alike. Movable requests that
cannot steal take the smallest sufficient block instead.

High-order atomic requests that had to try harder reserve their pageblock (MIGRATE_HIGHATOMIC), up
to 1 % of the zone; direct reclaim gives such blocks back. All hot, names of mm/page_alloc.c.
"""

from __future__ import annotations

from .buddy import rmqueue_smallest
from .kernel_globals import G_MOBILITY_DISABLED, G_TRACE_MASK
from .layout import PAGE_OFFSET, SECTION_PAGES, VMEMMAP_START
from .list_head import list_move
from .mm_types import (
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    P_NEXT,
    P_PRIVATE,
    PAGE_BUDDY_MASK,
    PAGE_MAPPING_FLAGS,
    PAGE_MAPPING_MOVABLE,
    PAGE_TYPE_BASE,
    PG_LRU,
    ZONEID_PGSHIFT,
)
from .mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_ORDER,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    Z_FREE_AREA,
    Z_MANAGED,
    Z_NODE,
    Z_NR_HIGHATOMIC,
    Z_SPANNED,
    Z_START_PFN,
    ZONEREF_WORDS,
    ZR_IDX,
    ZR_ZONE,
)
from .pageblock import get_pageblock_migratetype, set_pageblock_migratetype
from .trace import trace, trace_more
from .trace_events import (
    EV_MM_PAGE_ALLOC_EXTFRAG,
    EV_MM_PAGE_ALLOC_ZONE_LOCKED,
    EV_MOVE_FREEPAGES,
    EV_RESERVE_HIGHATOMIC,
    EV_SET_PAGEBLOCK,
    EV_UNRESERVE_HIGHATOMIC,
)

# The two types that each type may fall back to, in order; flattened, two entries a type.
FALLBACKS = (
    MIGRATE_RECLAIMABLE,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    MIGRATE_UNMOVABLE,
    MIGRATE_MOVABLE,
)


def move_freepages(m: memoryview, z: int, start_pfn: int, end_pfn: int, mt: int) -> tuple[int, int]:
    """Moves the free blocks in [start_pfn, end_pfn] to the head of the lists of type `mt`.

    Returns the pages moved and the movable (LRU or __PageMovable) pages seen. Hot.
    """
    moved = 0
    movable = 0
    pfn = start_pfn
    while pfn <= end_pfn:
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        if m[p + P_COUNTS] & PAGE_BUDDY_MASK != PAGE_TYPE_BASE:
            if (
                m[p + P_FLAGS] & PG_LRU
                or m[p + P_MAPPING] & PAGE_MAPPING_FLAGS == PAGE_MAPPING_MOVABLE
            ):
                movable += 1
            pfn += 1
            continue
        order = m[p + P_PRIVATE]
        head = z + Z_FREE_AREA + order * FA_WORDS + 2 * mt
        list_move(m, p + P_NEXT, VMEMMAP_START + (pfn << 6) + 8, head)
        pfn += 1 << order
        moved += 1 << order
    return moved, movable


def move_freepages_block(m: memoryview, cpu: int, z: int, pfn: int, mt: int) -> tuple[int, int]:
    """move_freepages() over the pageblock of `pfn`, cut at the start of the zone.

    Returns (0, 0) when the block reaches beyond the zone's end. Hot.
    """
    start = pfn & ~(PAGEBLOCK_NR_PAGES - 1)
    end = start + PAGEBLOCK_NR_PAGES - 1
    zone_start = m[z + Z_START_PFN]
    zone_end = zone_start + m[z + Z_SPANNED]
    if start < zone_start or start >= zone_end:
        start = pfn
    if end < zone_start or end >= zone_end:
        return 0, 0
    moved, movable = move_freepages(m, z, start, end, mt)
    if m[G_TRACE_MASK] >> EV_MOVE_FREEPAGES & 1:
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        zid = m[p + P_FLAGS] >> ZONEID_PGSHIFT & 3
        trace(m, EV_MOVE_FREEPAGES, cpu, m[z + Z_NODE], zid, pfn, mt, moved, movable, 0)
    return moved, movable


def change_pageblock(m: memoryview, cpu: int, pfn: int, mt: int) -> None:
    """set_pageblock_migratetype() with a trace record. Hot."""
    if m[G_TRACE_MASK] >> EV_SET_PAGEBLOCK & 1:
        trace(m, EV_SET_PAGEBLOCK, cpu, pfn, get_pageblock_migratetype(m, pfn), mt, 0, 0, 0, 0)
    set_pageblock_migratetype(m, pfn, mt)


def can_steal_fallback(m: memoryview, order: int, start_mt: int) -> bool:
    """True if a block of `order` justifies taking its whole pageblock for `start_mt`. Hot."""
    return (
        order >= PAGEBLOCK_ORDER // 2
        or start_mt == MIGRATE_RECLAIMABLE
        or start_mt == MIGRATE_UNMOVABLE
        or m[G_MOBILITY_DISABLED] != 0
    )


def find_suitable_fallback(m: memoryview, area: int, mt: int) -> int:
    """The first fallback type of `mt` that has a block in the free area at word `area`, or -1.

    Hot (find_suitable_fallback with only_stealable false; the caller asks can_steal_fallback).
    """
    if m[area + FA_NR_FREE] == 0 or mt > MIGRATE_RECLAIMABLE:
        return -1
    for i in range(2):
        fallback = FALLBACKS[2 * mt + i]
        head = area + 2 * fallback
        if m[head] != PAGE_OFFSET + (head << 3):
            return fallback
    return -1


def steal_suitable_fallback(
    m: memoryview, cpu: int, z: int, pfn: int, start_mt: int, whole_block: bool
) -> None:
    """Moves the block headed by `pfn`, or all free pages of its pageblock, to `start_mt`. Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    order = m[p + P_PRIVATE]
    old_type = get_pageblock_migratetype(m, pfn)
    if old_type != MIGRATE_HIGHATOMIC:
        if order >= PAGEBLOCK_ORDER:
            for i in range(1 << (order - PAGEBLOCK_ORDER)):
                change_pageblock(m, cpu, pfn + i * PAGEBLOCK_NR_PAGES, start_mt)
        elif whole_block:
            moved, movable = move_freepages_block(m, cpu, z, pfn, start_mt)
            if start_mt == MIGRATE_MOVABLE:
                alike = movable
            elif old_type == MIGRATE_MOVABLE:
                alike = PAGEBLOCK_NR_PAGES - (moved + movable)
            else:
                alike = 0
            if moved:
                if moved + alike >= 1 << (PAGEBLOCK_ORDER - 1) or m[G_MOBILITY_DISABLED]:
                    change_pageblock(m, cpu, pfn, start_mt)
                return
    head = z + Z_FREE_AREA + order * FA_WORDS + 2 * start_mt
    list_move(m, p + P_NEXT, VMEMMAP_START + (pfn << 6) + 8, head)


def rmqueue_fallback(m: memoryview, cpu: int, z: int, order: int, start_mt: int) -> bool:
    """Makes a block of another type available to `start_mt`; False if there is none. Hot."""
    current = MAX_ORDER - 1
    fallback = -1
    can_steal = False
    while current >= order:
        fallback = find_suitable_fallback(m, z + Z_FREE_AREA + current * FA_WORDS, start_mt)
        if fallback >= 0:
            can_steal = can_steal_fallback(m, current, start_mt)
            break
        current -= 1
    if fallback < 0:
        return False
    if not can_steal and start_mt == MIGRATE_MOVABLE and current > order:
        current = order
        while current < MAX_ORDER:
            fallback = find_suitable_fallback(m, z + Z_FREE_AREA + current * FA_WORDS, start_mt)
            if fallback >= 0:
                can_steal = can_steal_fallback(m, current, start_mt)
                break
            current += 1
    head = z + Z_FREE_AREA + current * FA_WORDS + 2 * fallback
    pfn = (m[head] - VMEMMAP_START) >> 6
    steal_suitable_fallback(m, cpu, z, pfn, start_mt, can_steal)
    if m[G_TRACE_MASK] >> EV_MM_PAGE_ALLOC_EXTFRAG & 1:
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        zid = m[p + P_FLAGS] >> ZONEID_PGSHIFT & 3
        block = get_pageblock_migratetype(m, pfn)
        trace(
            m,
            EV_MM_PAGE_ALLOC_EXTFRAG,
            cpu,
            m[z + Z_NODE],
            zid,
            pfn,
            order,
            current,
            start_mt,
            fallback,
        )
        trace_more(m, 1 if can_steal else 0, block, 0, 0)
    return True


def reserve_highatomic_pageblock(m: memoryview, cpu: int, z: int, pfn: int) -> None:
    """Reserves the pageblock of `pfn` for high-order atomic requests, within the limit. Hot."""
    if m[z + Z_NR_HIGHATOMIC] >= m[z + Z_MANAGED] // 100 + PAGEBLOCK_NR_PAGES:
        return
    mt = get_pageblock_migratetype(m, pfn)
    if mt not in (MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_CMA):
        m[z + Z_NR_HIGHATOMIC] += PAGEBLOCK_NR_PAGES
        change_pageblock(m, cpu, pfn, MIGRATE_HIGHATOMIC)
        move_freepages_block(m, cpu, z, pfn, MIGRATE_HIGHATOMIC)
        if m[G_TRACE_MASK] >> EV_RESERVE_HIGHATOMIC & 1:
            p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
            zid = m[p + P_FLAGS] >> ZONEID_PGSHIFT & 3
            reserved = m[z + Z_NR_HIGHATOMIC]
            trace(m, EV_RESERVE_HIGHATOMIC, cpu, m[z + Z_NODE], zid, pfn, mt, reserved, 0, 0)


def unreserve_highatomic_pageblock(
    m: memoryview, cpu: int, zonelist: int, high_zoneidx: int, nodemask: int, mt: int, force: bool
) -> bool:
    """Gives one highatomic pageblock back to type `mt`; True if free pages moved. Hot."""
    zr = zonelist
    while m[zr + ZR_ZONE]:
        z = (m[zr + ZR_ZONE] - PAGE_OFFSET) >> 3
        usable = m[zr + ZR_IDX] <= high_zoneidx and (
            nodemask == 0 or nodemask >> m[z + Z_NODE] & 1 != 0
        )
        if usable and (force or m[z + Z_NR_HIGHATOMIC] > PAGEBLOCK_NR_PAGES):
            for order in range(MAX_ORDER):
                head = z + Z_FREE_AREA + order * FA_WORDS + 2 * MIGRATE_HIGHATOMIC
                if m[head] == PAGE_OFFSET + (head << 3):
                    continue
                pfn = (m[head] - VMEMMAP_START) >> 6
                if get_pageblock_migratetype(m, pfn) == MIGRATE_HIGHATOMIC:
                    left = m[z + Z_NR_HIGHATOMIC] - PAGEBLOCK_NR_PAGES
                    m[z + Z_NR_HIGHATOMIC] = left if left > 0 else 0
                change_pageblock(m, cpu, pfn, mt)
                moved, _ = move_freepages_block(m, cpu, z, pfn, mt)
                if m[G_TRACE_MASK] >> EV_UNRESERVE_HIGHATOMIC & 1:
                    zid = m[zr + ZR_IDX]
                    nid = m[z + Z_NODE]
                    some = 1 if moved else 0
                    trace(m, EV_UNRESERVE_HIGHATOMIC, cpu, nid, zid, pfn, mt, some, 0, 0)
                if moved:
                    return True
        zr += ZONEREF_WORDS
    return False


def rmqueue_one(m: memoryview, cpu: int, z: int, order: int, mt: int) -> int:
    """One block of 2^order pages for type `mt`, stealing if need be; PFN or -1.

    Hot (__rmqueue): own lists, for movable requests CMA lists, then fallback until the own lists
    have something or nothing is left.
    """
    pfn = rmqueue_smallest(m, cpu, z, order, mt)
    while pfn < 0:
        if mt == MIGRATE_MOVABLE:
            pfn = rmqueue_smallest(m, cpu, z, order, MIGRATE_CMA)
            if pfn >= 0:
                break
        if not rmqueue_fallback(m, cpu, z, order, mt):
            break
        pfn = rmqueue_smallest(m, cpu, z, order, mt)
    if m[G_TRACE_MASK] >> EV_MM_PAGE_ALLOC_ZONE_LOCKED & 1:
        trace(m, EV_MM_PAGE_ALLOC_ZONE_LOCKED, cpu, pfn, order, mt, 0, 0, 0, 0)
    return pfn
