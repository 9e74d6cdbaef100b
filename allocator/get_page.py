# SPDX-License-Identifier: GPL-2.0-only
"""The walk over a zonelist: which zone serves a request (get_page_from_freelist).

From the first zone that the request may use, every zone is asked: does the cpuset allow it, has its
node room for more dirty pages, does it pass its watermark, and if not, may it be grown or reclaimed
from at once? The page comes from the first zone that passes: order 0 from the CPU's own list,
larger blocks from the buddy lists (`rmqueue`).

All hot. `zr` is the word index of a zoneref, `z` of a zone; a PFN of -1 says that there is no page.
Names are those of mm/page_alloc.c.
"""

from __future__ import annotations

from .alloc_flags import ONCE_NOFAIL_ORDER, request_kind, warn_once
from .buddy import rmqueue_smallest
from .cpuset import cpuset_zone_allowed
from .deferred_pages import deferred_grow_zone
from .fallback import reserve_highatomic_pageblock, rmqueue_one
from .gfp import GFP_NOFAIL_BIT, GFP_THISNODE_BIT, GFP_ZERO_BIT
from .kernel_globals import (
    G_DEFERRED_PAGES,
    G_MOBILITY_DISABLED,
    G_NODE_RECLAIM_MODE,
    G_STATIC_KEYS,
    G_TRACE_MASK,
    KEY_CPUSETS,
)
from .layout import NODE_DATA, PAGE_OFFSET, SECTION_PAGES
from .list_head import direct_word
from .mm_types import P_FLAGS, P_INDEX, ZONES_MASK, ZONES_PGSHIFT
from .mmzone import (
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_UNMOVABLE,
    ND_NOFALLBACK,
    ND_ZONELISTS,
    PSET_LISTS,
    Z_FREE_CMA,
    Z_FREE_PAGES,
    Z_LOWMEM_RESERVE,
    Z_NODE,
    Z_NR_HIGHATOMIC,
    Z_PAGESET,
    Z_PGDAT,
    Z_WMARK,
    ZONEREF_WORDS,
    ZR_IDX,
    ZR_ZONE,
)
from .node_reclaim import node_reclaim_made_room
from .page_check import check_new_pages, prep_new_page
from .page_writeback import node_dirty_ok_on
from .pcp import (
    PSET_BYTES,
    PSET_LISTS_BYTES,
    rmqueue_pcplist,
    take_first_page,
    zone_idx,
)
from .spinlock import lock_zone, unlock_zone
from .trace import trace, trace_more
from .trace_events import (
    EV_MM_PAGE_ALLOC_ZONE_LOCKED,
    EV_RMQUEUE,
    EV_WATERMARK,
    EV_ZONE_SKIPPED,
    LOG_WARN_ONCE_NOFAIL_ORDER,
)
from .vm_events import PGALLOC
from .vmstat import count_vm_events, mod_zone_freepage_state, zone_statistics
from .watermark import (
    ALLOC_CMA,
    ALLOC_CPUSET,
    ALLOC_HARDER,
    ALLOC_NO_WATERMARKS,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MASK,
    zone_watermark_ok_free,
)

Z_WMARK_LOW = Z_WMARK + ALLOC_WMARK_LOW

# Why the allocation loop passed a zone by (EV_ZONE_SKIPPED)
SKIP_CPUSET = 1
SKIP_DIRTY_LIMIT = 2
SKIP_WATERMARK = 3
SKIP_NODEMASK = 4
SKIP_EMPTY = 5


def node_zonelist(m: memoryview, nid: int, gfp: int) -> int:
    """Word index of the first zoneref of the zonelist that a request on `nid` uses. Hot."""
    nd = (m[NODE_DATA + nid] - PAGE_OFFSET) >> 3
    if gfp & GFP_THISNODE_BIT:
        return nd + ND_NOFALLBACK
    return nd + ND_ZONELISTS


def first_zones_zonelist(m: memoryview, zr: int, high_zoneidx: int, nodemask: int) -> int:
    """First zoneref at or behind `zr` that fits index and nodemask (next_zones_zonelist).

    At the end of the list the returned zoneref's zone is 0. Hot.
    """
    while True:
        va = m[zr + ZR_ZONE]
        if va == 0:
            return zr
        if m[zr + ZR_IDX] <= high_zoneidx:
            if nodemask == 0:
                return zr
            if nodemask >> m[((va - PAGE_OFFSET) >> 3) + Z_NODE] & 1:
                return zr
        zr += ZONEREF_WORDS


def rmqueue(
    m: memoryview, cpu: int, preferred: int, z: int, order: int, gfp: int, flags: int, mt: int
) -> int:
    """Takes a block of order > 0 from zone `z`'s buddy lists and counts it; PFN or -1. Hot.

    Order 0 goes through rmqueue_pcplist().
    """
    if gfp & GFP_NOFAIL_BIT and order > 1:
        warn_once(m, cpu, ONCE_NOFAIL_ORDER, LOG_WARN_ONCE_NOFAIL_ORDER, gfp, order)
    tracing = m[G_TRACE_MASK]
    lock_zone(m, z)
    while True:
        pfn = -1
        if flags & ALLOC_HARDER:
            pfn = rmqueue_smallest(m, cpu, z, order, MIGRATE_HIGHATOMIC)
            if pfn >= 0 and tracing >> EV_MM_PAGE_ALLOC_ZONE_LOCKED & 1:
                trace(m, EV_MM_PAGE_ALLOC_ZONE_LOCKED, cpu, pfn, order, mt, 0, 0, 0, 0)
        if pfn < 0:
            pfn = rmqueue_one(m, cpu, z, order, mt)
        if pfn < 0 or not check_new_pages(m, cpu, pfn, order):
            break
    unlock_zone(m, z)
    if pfn < 0:
        if tracing >> EV_RMQUEUE & 1:
            trace(m, EV_RMQUEUE, cpu, m[z + Z_NODE], zone_idx(m, z), order, mt, -1, -1, 0)
        return -1
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    page_mt = m[p + P_INDEX]
    mod_zone_freepage_state(m, cpu, z, -(1 << order), page_mt)
    zid = m[p + P_FLAGS] >> ZONES_PGSHIFT & ZONES_MASK
    count_vm_events(m, cpu, PGALLOC + zid, 1 << order)
    zone_statistics(m, cpu, preferred, z)
    if tracing >> EV_RMQUEUE & 1:
        trace(m, EV_RMQUEUE, cpu, m[z + Z_NODE], zid, order, mt, pfn, page_mt, 0)
    return pfn


def zone_usable(
    m: memoryview, cpu: int, z: int, order: int, gfp: int, flags: int, classzone: int, zr: int
) -> bool:
    """The full watermark test of one zone, and what may replace passing it. Hot."""
    mark = m[z + Z_WMARK + (flags & ALLOC_WMARK_MASK)]
    ok = zone_watermark_ok_free(m, z, order, mark, classzone, flags, m[z + Z_FREE_PAGES])
    if ok:
        return True
    if m[G_DEFERRED_PAGES] and deferred_grow_zone(m, cpu, z, order):
        return True
    if flags & ALLOC_NO_WATERMARKS:
        return True
    if m[G_NODE_RECLAIM_MODE] == 0:
        return False
    return node_reclaim_made_room(m, cpu, zr, z, order, gfp, mark, classzone, flags)


def trace_watermark(
    m: memoryview, cpu: int, zr: int, z: int, order: int, flags: int, classzone: int, ok: bool
) -> None:
    """Records one zone's watermark test with its numbers, as they were before it. Hot."""
    trace(
        m,
        EV_WATERMARK,
        cpu,
        m[z + Z_NODE],
        m[zr + ZR_IDX],
        order,
        m[z + Z_WMARK + (flags & ALLOC_WMARK_MASK)],
        m[z + Z_LOWMEM_RESERVE + classzone],
        m[z + Z_FREE_PAGES],
        m[z + Z_FREE_CMA],
    )
    trace_more(m, m[z + Z_NR_HIGHATOMIC], flags, classzone, 1 if ok else 0)


def zone_is_forbidden(
    m: memoryview, cpu: int, zr: int, z: int, gfp: int, flags: int, dirty_pgdat: int
) -> int:
    """Why the cpuset or the node's dirty limit rules the zone out (SKIP_), 0 if nothing does.

    `dirty_pgdat` is the node last found over its limit, or -1 if dirty pages need not be spread.
    Hot.
    """
    reason = 0
    if (
        flags & ALLOC_CPUSET
        and m[G_STATIC_KEYS] & KEY_CPUSETS
        and not cpuset_zone_allowed(m, cpu, z, gfp)
    ):
        reason = SKIP_CPUSET
    elif dirty_pgdat != -1:
        pgdat = m[z + Z_PGDAT]
        if dirty_pgdat == pgdat or not node_dirty_ok_on(m, cpu, (pgdat - PAGE_OFFSET) >> 3):
            reason = SKIP_DIRTY_LIMIT
    if reason and m[G_TRACE_MASK] >> EV_ZONE_SKIPPED & 1:
        trace(m, EV_ZONE_SKIPPED, cpu, m[z + Z_NODE], m[zr + ZR_IDX], reason, 0, 0, 0, 0)
    return reason


def rmqueue_any(
    m: memoryview, cpu: int, preferred: int, z: int, order: int, gfp: int, flags: int, mt: int
) -> int:
    """rmqueue() of 4.20: from the per-cpu list for order 0, else from the buddy lists. Hot."""
    if order == 0:
        return rmqueue_pcplist(m, cpu, preferred, z, mt, m[G_TRACE_MASK])
    return rmqueue(m, cpu, preferred, z, order, gfp, flags, mt)


def first_zone_page(m: memoryview, cpu: int, gfp: int, nid: int) -> int:
    """A single page as most requests get theirs: the first zone of node `nid`'s zonelist is allowed
    and above its low watermark, and the CPU's list has a page.

    For requests without a nodemask while no static key is on and nothing is traced. PFN, or -1 if
    it is not that simple; an unfit page may have been set aside then, otherwise nothing has
    changed, and get_page_from_freelist() would do the same. Hot.
    """
    which_list, high_zoneidx, mt = request_kind(gfp)
    if m[G_MOBILITY_DISABLED]:
        mt = MIGRATE_UNMOVABLE
    zr = direct_word(m[NODE_DATA + nid]) + which_list
    va = m[zr]
    classzone = m[zr + ZR_IDX]
    if va == 0 or classzone > high_zoneidx:
        return -1
    z = direct_word(va)
    free = m[z + Z_FREE_PAGES]
    if mt != MIGRATE_MOVABLE:
        free -= m[z + Z_FREE_CMA]
    if free <= m[z + Z_WMARK_LOW] + m[z + Z_LOWMEM_RESERVE + classzone]:
        return -1
    head_va = m[z + Z_PAGESET] + (cpu * PSET_BYTES + (mt << 4) + PSET_LISTS_BYTES)
    head = direct_word(head_va)
    va = m[head]
    if va == head_va:
        return -1
    ps = head - (mt + mt + PSET_LISTS)
    return take_first_page(m, cpu, z, z, ps, head, head_va, va)


def get_page_from_freelist(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    flags: int,
    preferred_zr: int,
    high_zoneidx: int,
    nodemask: int,
    mt: int,
    spread_dirty: bool,
) -> int:
    """Walks the zonelist from `preferred_zr`, takes the page from the first usable zone. Hot."""
    zr = preferred_zr
    va = m[zr]
    if va == 0:
        return -1
    preferred = direct_word(va)
    z = preferred
    classzone = m[zr + ZR_IDX]
    keys = m[G_STATIC_KEYS]
    tracing = m[G_TRACE_MASK]
    dirty_pgdat = 0 if spread_dirty else -1
    while True:
        usable = True
        if keys or spread_dirty:
            reason = zone_is_forbidden(m, cpu, zr, z, gfp, flags, dirty_pgdat)
            if reason:
                usable = False
                if reason == SKIP_DIRTY_LIMIT:
                    dirty_pgdat = m[z + Z_PGDAT]
        if usable:
            # zone_watermark_fast(): order 0 is usually settled by this one comparison
            free = m[z + Z_FREE_PAGES]
            if flags & ALLOC_CMA == 0:
                free -= m[z + Z_FREE_CMA]
            if order or free <= (
                m[z + (flags & ALLOC_WMARK_MASK)] + m[z + Z_LOWMEM_RESERVE + classzone]
            ):
                usable = zone_usable(m, cpu, z, order, gfp, flags, classzone, preferred_zr)
            if tracing >> EV_WATERMARK & 1:
                trace_watermark(m, cpu, zr, z, order, flags, classzone, usable)
            if usable:
                if order == 0:
                    pfn = rmqueue_pcplist(m, cpu, preferred, z, mt, tracing)
                else:
                    pfn = rmqueue(m, cpu, preferred, z, order, gfp, flags, mt)
                while pfn < 0 and m[G_DEFERRED_PAGES] and deferred_grow_zone(m, cpu, z, order):
                    pfn = rmqueue_any(m, cpu, preferred, z, order, gfp, flags, mt)
                if pfn >= 0:
                    if order or keys or gfp & GFP_ZERO_BIT or flags & ALLOC_NO_WATERMARKS:
                        prep_new_page(m, cpu, pfn, order, gfp, flags & ALLOC_NO_WATERMARKS)
                        if order and flags & ALLOC_HARDER:
                            reserve_highatomic_pageblock(m, cpu, z, pfn)
                    return pfn
        zr = first_zones_zonelist(m, zr + ZONEREF_WORDS, high_zoneidx, nodemask)
        va = m[zr]
        if va == 0:
            return -1
        z = va - PAGE_OFFSET >> 3
