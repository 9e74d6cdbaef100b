# SPDX-License-Identifier: GPL-2.0-only
"""Isolating pageblocks: nothing free in them is handed out any more (mm/page_isolation.c).

An isolated pageblock has migratetype ISOLATE; its free pages lie on lists of their own and are not
counted in NR_FREE_PAGES, and pages freed into it go there at once. Memory hot-remove and contiguous
allocation isolate a range first, then move away what is used in it. A block with a page that cannot
be moved is refused. Undoing gives the block its type back; a free block that grew beyond a
pageblock only stays whole if it is taken out and freed again.

All hot. Ranges are [start, end) in PFNs; results are 0 or -EBUSY. The per-cpu lists of the zone are
drained after each block, as pages there would still be handed out.
"""

from __future__ import annotations

from .fallback import change_pageblock, move_freepages_block
from .gfp import GFP_MOVABLE_BIT
from .kernel_globals import G_TRACE_MASK
from .layout import SECTION_PAGES
from .list_head import list_del
from .mm_types import (
    COUNTS_FREE,
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    P_NEXT,
    P_PRIVATE,
    PAGE_BUDDY_MASK,
    PAGE_MAPPING_FLAGS,
    PAGE_MAPPING_MOVABLE,
    PAGE_TYPE_BASE,
    PG_HWPOISON,
    PG_LRU,
    PG_RESERVED,
    REF_SHIFT,
)
from .mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    WMARK_MIN,
    Z_FREE_AREA,
    Z_NODE,
    Z_NR_ISOLATE,
    Z_WMARK,
    ZONE_MOVABLE,
)
from .page_alloc import free_pages
from .page_check import prep_new_page
from .pageblock import get_pageblock_migratetype
from .pcp import drain_all_pages, page_zone, zone_idx
from .trace import trace
from .trace_events import EV_ISOLATE_FREE_PAGE, EV_ISOLATE_PAGEBLOCK, EV_UNISOLATE_PAGEBLOCK
from .vmstat import mod_zone_freepage_state
from .watermark import ALLOC_CMA, zone_watermark_ok

EBUSY = 16


def page_is_free_block(m: memoryview, p: int) -> bool:
    """True if page `p` heads a block on the buddy lists (PageBuddy). Hot."""
    return m[p + P_COUNTS] & PAGE_BUDDY_MASK == PAGE_TYPE_BASE


def page_is_movable(m: memoryview, p: int) -> bool:
    """True if a driver can move page `p` though it is on no LRU list (__PageMovable). Hot."""
    return m[p + P_MAPPING] & PAGE_MAPPING_FLAGS == PAGE_MAPPING_MOVABLE


def isolate_free_page(m: memoryview, cpu: int, pfn: int, order: int) -> int:
    """Takes the free block of `order` at `pfn` off its list: its pages, or 0. Hot.

    0 if that would take the zone below its min watermark. A block of at least half a pageblock
    turns its pageblocks MOVABLE, unless they are isolated, CMA or highatomic.
    (__isolate_free_page)
    """
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    z = page_zone(m, p)
    mt = get_pageblock_migratetype(m, pfn)
    if mt != MIGRATE_ISOLATE:
        mark = m[z + Z_WMARK + WMARK_MIN] + (1 << order)
        if not zone_watermark_ok(m, z, 0, mark, 0, ALLOC_CMA):
            return 0
        mod_zone_freepage_state(m, cpu, z, -(1 << order), mt)
    list_del(m, p + P_NEXT)
    m[z + Z_FREE_AREA + order * FA_WORDS + FA_NR_FREE] -= 1
    m[p + P_COUNTS] = COUNTS_FREE
    m[p + P_PRIVATE] = 0
    if m[G_TRACE_MASK] >> EV_ISOLATE_FREE_PAGE & 1:
        zid = zone_idx(m, z)
        trace(m, EV_ISOLATE_FREE_PAGE, cpu, m[z + Z_NODE], zid, order, pfn, mt, 0, 0)
    if order >= PAGEBLOCK_ORDER - 1:
        for block in range(pfn, pfn + (1 << order) - 1, PAGEBLOCK_NR_PAGES):
            old = get_pageblock_migratetype(m, block)
            if old not in (MIGRATE_ISOLATE, MIGRATE_CMA, MIGRATE_HIGHATOMIC):
                change_pageblock(m, cpu, block, MIGRATE_MOVABLE)
    return 1 << order


def has_unmovable_pages(m: memoryview, z: int, pfn: int, mt: int) -> bool:
    """True if the pageblock at `pfn` in zone `z` holds a page that cannot be moved away. Hot.

    CMA requests may isolate any CMA block. Reserved pages cannot move; pages without a reference
    are free or about to be; others must be movable by a driver or on an LRU list.
    """
    if mt == MIGRATE_CMA and get_pageblock_migratetype(m, pfn) == MIGRATE_CMA:
        return False
    movable_zone = zone_idx(m, z) == ZONE_MOVABLE
    end = pfn + PAGEBLOCK_NR_PAGES
    while pfn < end:
        base = m[SECTION_PAGES + (pfn >> 15 << 2)]
        if base == 0:
            pfn += 1
            continue
        p = base + (pfn << 3)
        if m[p + P_FLAGS] & PG_RESERVED:
            return True
        if movable_zone:
            pfn += 1
            continue
        if m[p + P_COUNTS] >> REF_SHIFT == 0:
            if page_is_free_block(m, p):
                pfn += 1 << m[p + P_PRIVATE]
            else:
                pfn += 1
            continue
        if not page_is_movable(m, p) and m[p + P_FLAGS] & PG_LRU == 0:
            return True
        pfn += 1
    return False


def set_migratetype_isolate(m: memoryview, cpu: int, pfn: int, mt: int) -> int:
    """Isolates the pageblock at `pfn`: 0 or -EBUSY. Hot.

    `mt` is the type it would get back, MOVABLE or CMA.
    """
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    z = page_zone(m, p)
    old = get_pageblock_migratetype(m, pfn)
    rc = -EBUSY
    moved = -1
    if old != MIGRATE_ISOLATE and not has_unmovable_pages(m, z, pfn, mt):
        rc = 0
        change_pageblock(m, cpu, pfn, MIGRATE_ISOLATE)
        m[z + Z_NR_ISOLATE] += 1
        moved, _ = move_freepages_block(m, cpu, z, pfn, MIGRATE_ISOLATE)
        mod_zone_freepage_state(m, cpu, z, -moved, old)
    if m[G_TRACE_MASK] >> EV_ISOLATE_PAGEBLOCK & 1:
        zid = zone_idx(m, z)
        trace(m, EV_ISOLATE_PAGEBLOCK, cpu, m[z + Z_NODE], zid, pfn, old, moved, 0, 0)
    if rc == 0:
        drain_all_pages(m, z)
    return rc


def must_refree(m: memoryview, pfn: int, p: int) -> bool:
    """True if the isolated free block at `pfn` could now merge with its buddy. Hot."""
    if not page_is_free_block(m, p) or m[p + P_PRIVATE] < PAGEBLOCK_ORDER:
        return False
    buddy = pfn ^ (1 << m[p + P_PRIVATE])
    return get_pageblock_migratetype(m, buddy) != MIGRATE_ISOLATE


def unset_migratetype_isolate(m: memoryview, cpu: int, pfn: int, mt: int) -> None:
    """Gives the pageblock at `pfn` type `mt` and its free pages back to the allocator. Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    z = page_zone(m, p)
    if get_pageblock_migratetype(m, pfn) != MIGRATE_ISOLATE:
        return
    order = -1
    moved = -1
    if must_refree(m, pfn, p):
        order = m[p + P_PRIVATE]
        isolate_free_page(m, cpu, pfn, order)
    else:
        moved, _ = move_freepages_block(m, cpu, z, pfn, mt)
        mod_zone_freepage_state(m, cpu, z, moved, mt)
    change_pageblock(m, cpu, pfn, mt)
    m[z + Z_NR_ISOLATE] -= 1
    if m[G_TRACE_MASK] >> EV_UNISOLATE_PAGEBLOCK & 1:
        zid = zone_idx(m, z)
        trace(m, EV_UNISOLATE_PAGEBLOCK, cpu, m[z + Z_NODE], zid, pfn, mt, moved, 0, 0)
    if order >= 0:
        prep_new_page(m, cpu, pfn, order, GFP_MOVABLE_BIT, 0)
        free_pages(m, cpu, pfn, order)


def start_isolate_page_range(m: memoryview, cpu: int, start: int, end: int, mt: int) -> int:
    """Isolates all pageblocks of a pageblock-aligned range: 0, or -EBUSY with none left so. Hot.

    Blocks without memory are passed over; `mt` is what a refused range gets back.
    """
    for pfn in range(start, end, PAGEBLOCK_NR_PAGES):
        if m[SECTION_PAGES + (pfn >> 15 << 2)] == 0:
            continue
        if set_migratetype_isolate(m, cpu, pfn, mt) != 0:
            for undo in range(start, pfn, PAGEBLOCK_NR_PAGES):
                if m[SECTION_PAGES + (undo >> 15 << 2)]:
                    unset_migratetype_isolate(m, cpu, undo, mt)
            return -EBUSY
    return 0


def undo_isolate_page_range(m: memoryview, cpu: int, start: int, end: int, mt: int) -> int:
    """Makes the isolated pageblocks of a range type `mt` again; always 0. Hot."""
    for pfn in range(start, end, PAGEBLOCK_NR_PAGES):
        if m[SECTION_PAGES + (pfn >> 15 << 2)]:
            unset_migratetype_isolate(m, cpu, pfn, mt)
    return 0


def test_pages_isolated(m: memoryview, start: int, end: int, skip_hwpoisoned: bool) -> int:
    """0 if every page of the range is free in an isolated block, else -EBUSY. Hot."""
    seen = 0
    for pfn in range(start, end, PAGEBLOCK_NR_PAGES):
        if m[SECTION_PAGES + (pfn >> 15 << 2)]:
            seen += 1
            if get_pageblock_migratetype(m, pfn) != MIGRATE_ISOLATE:
                return -EBUSY
    if seen == 0:
        return -EBUSY
    pfn = start
    while pfn < end:
        base = m[SECTION_PAGES + (pfn >> 15 << 2)]
        if base == 0:
            pfn += 1
            continue
        p = base + (pfn << 3)
        if page_is_free_block(m, p):
            pfn += 1 << m[p + P_PRIVATE]
        elif skip_hwpoisoned and m[p + P_FLAGS] & PG_HWPOISON:
            pfn += 1
        else:
            return -EBUSY
    return 0
