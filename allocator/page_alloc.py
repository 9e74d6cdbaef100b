# SPDX-License-Identifier: GPL-2.0-only
"""The heart of the zoned buddy allocator: `__alloc_pages_nodemask` and `__free_pages`.

A request names gfp flags, an order, a preferred node and perhaps a set of allowed nodes. The fast
path walks that node's zonelist from the first zone that may serve the request and takes the page
from the first zone that passes its low watermark. When none does, the slow path wakes kswapd, tries
again down to the min watermark with the reserves that the flags allow, then once more with the
reserves of PF_MEMALLOC and without the nodemask where 4.20 drops it. What may sleep (reclaim,
compaction, OOM) begins where `can_direct_reclaim` is asked; see `slowpath`.

All hot: the word array, the current CPU and ints. `nodemask` 0 stands for NULL. An allocation
returns a PFN, or -1. Names without the kernel's leading underscores are those of mm/page_alloc.c.
"""

from __future__ import annotations

from .buddy import rmqueue_smallest
from .cpuset import cpuset_zone_allowed
from .deferred_pages import deferred_grow_zone
from .fail_page_alloc import should_fail_alloc_page
from .fallback import reserve_highatomic_pageblock, rmqueue_one
from .gfp import (
    GFP_ACCOUNT_BIT,
    GFP_ATOMIC_BIT,
    GFP_DIRECT_RECLAIM_BIT,
    GFP_FS_BIT,
    GFP_HARDWALL_BIT,
    GFP_HIGH_BIT,
    GFP_IO_BIT,
    GFP_KSWAPD_RECLAIM_BIT,
    GFP_MEMALLOC_BIT,
    GFP_MOVABLE_MASK,
    GFP_MOVABLE_SHIFT,
    GFP_NOFAIL_BIT,
    GFP_NOMEMALLOC_BIT,
    GFP_NOWARN_BIT,
    GFP_THISNODE_BIT,
    GFP_WRITE_BIT,
    GFP_ZERO_BIT,
    GFP_ZONEMASK,
    ZONE_TABLE,
)
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_PREEMPT_COUNT,
    CPU_WORDS,
    G_DEFERRED_PAGES,
    G_GFP_ALLOWED,
    G_MOBILITY_DISABLED,
    G_NODE_RECLAIM_MODE,
    G_NOPAGE_RS,
    G_STATIC_KEYS,
    G_TRACE_MASK,
    G_WARNED_ONCE,
    IN_INTERRUPT_MASK,
    KEY_CPUSETS,
    KEY_FAIL_PAGE_ALLOC,
    KEY_MEMCG_KMEM,
    MAX_RT_PRIO,
    NODE_DATA,
    PAGE_OFFSET,
    PF_MEMALLOC,
    PF_MEMALLOC_NOFS,
    PF_MEMALLOC_NOIO,
    SECTION_PAGES,
    SOFTIRQ_OFFSET,
    TASK_FLAGS,
    TASK_MEMS_ALLOWED,
    TASK_OOM_MM,
    TASK_PRIO,
)
from .memcg import memcg_kmem_charge
from .mm_types import (
    COUNTS_ONE,
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_NEXT,
    PG_HEAD,
    REF_ONE,
    REF_SHIFT,
    ZONES_MASK,
    ZONES_PGSHIFT,
)
from .mmzone import (
    MAX_NR_ZONES,
    MAX_ORDER,
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_UNMOVABLE,
    ND_KSWAPD_CLASSZONE,
    ND_KSWAPD_ORDER,
    ND_NOFALLBACK,
    ND_ZONELISTS,
    Z_FREE_CMA,
    Z_FREE_PAGES,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_NODE,
    Z_NR_HIGHATOMIC,
    Z_PGDAT,
    Z_WMARK,
    ZONE_WORDS,
    ZONEREF_WORDS,
    ZR_IDX,
    ZR_ZONE,
)
from .node_reclaim import node_reclaim_made_room
from .page_check import (
    BAD_COMPOUND_ORDER,
    BAD_DOUBLE_FREE,
    BAD_FREE_OF_TAIL,
    BAD_UNALIGNED,
    bad_page,
    check_new_pages,
    compound_order,
    free_pages_prepare,
    prep_new_page,
)
from .page_poison import ratelimit
from .page_writeback import node_dirty_ok_on
from .pageblock import get_pageblock_migratetype
from .pcp import free_block, free_unref_page_at, page_zone, rmqueue_pcplist, zone_idx
from .trace import (
    EV_CONTEXT,
    EV_FREE_REQUEST,
    EV_MM_PAGE_ALLOC,
    EV_MM_PAGE_ALLOC_ZONE_LOCKED,
    EV_MM_PAGE_FREE,
    EV_REQUEST,
    EV_RESULT,
    EV_RMQUEUE,
    EV_SLOWPATH_FIRST,
    EV_SLOWPATH_RETRY,
    EV_WAKE_KSWAPD,
    EV_WATERMARK,
    EV_ZONE_SKIPPED,
    LOG_WARN_ALLOC,
    LOG_WARN_ONCE_NOFAIL_ORDER,
    LOG_WARN_ONCE_NOFAIL_WAIT,
    LOG_WARN_ONCE_ORDER,
    log_record,
    trace,
    trace_more,
)
from .vm_events import PGALLOC, PGFREE
from .vmstat import count_vm_events, mod_zone_freepage_state, zone_statistics
from .watermark import (
    ALLOC_CMA,
    ALLOC_CPUSET,
    ALLOC_HARDER,
    ALLOC_NO_WATERMARKS,
    ALLOC_OOM,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MASK,
    ALLOC_WMARK_MIN,
    zone_watermark_ok_free,
)

# Why the allocation loop passed a zone by (EV_ZONE_SKIPPED)
SKIP_CPUSET = 1
SKIP_DIRTY_LIMIT = 2
SKIP_WATERMARK = 3
SKIP_NODEMASK = 4
SKIP_EMPTY = 5

# warn_alloc()'s rate limit: DEFAULT_RATELIMIT_INTERVAL (5 s, here in ns) and _BURST
NOPAGE_INTERVAL = 5_000_000_000
NOPAGE_BURST = 10

# Bits of warned_once
ONCE_ORDER = 1 << 0
ONCE_NOFAIL_ORDER = 1 << 1
ONCE_NOFAIL_WAIT = 1 << 2
ONCE_NOFAIL_MEMALLOC = 1 << 3


def warn_once(m: memoryview, cpu: int, bit: int, kind: int, gfp: int, order: int) -> None:
    """Logs a WARN_ON_ONCE of the allocator, the first time. Hot."""
    if m[G_WARNED_ONCE] & bit == 0:
        m[G_WARNED_ONCE] |= bit
        log_record(m, kind, cpu, order, gfp, 0, 0, 0, 0)


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
    preferred = va - PAGE_OFFSET >> 3
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
            while usable:
                if order == 0:
                    pfn = rmqueue_pcplist(m, cpu, preferred, z, mt, tracing)
                else:
                    pfn = rmqueue(m, cpu, preferred, z, order, gfp, flags, mt)
                if pfn >= 0:
                    if order or keys or gfp & GFP_ZERO_BIT or flags & ALLOC_NO_WATERMARKS:
                        prep_new_page(m, cpu, pfn, order, gfp, flags & ALLOC_NO_WATERMARKS)
                        if order and flags & ALLOC_HARDER:
                            reserve_highatomic_pageblock(m, cpu, z, pfn)
                    return pfn
                if m[G_DEFERRED_PAGES] == 0 or not deferred_grow_zone(m, cpu, z, order):
                    break
        zr = first_zones_zonelist(m, zr + ZONEREF_WORDS, high_zoneidx, nodemask)
        va = m[zr]
        if va == 0:
            return -1
        z = va - PAGE_OFFSET >> 3


def gfp_to_alloc_flags(m: memoryview, cpu: int, gfp: int) -> int:
    """Alloc flags of the slow path (mm/page_alloc.c). Hot."""
    flags = ALLOC_WMARK_MIN | ALLOC_CPUSET | (gfp & GFP_HIGH_BIT)
    block = CPU_BLOCKS + cpu * CPU_WORDS
    if gfp & GFP_ATOMIC_BIT:
        if gfp & GFP_NOMEMALLOC_BIT == 0:
            flags |= ALLOC_HARDER
        flags &= ~ALLOC_CPUSET
    elif m[block + CPU_PREEMPT_COUNT] & IN_INTERRUPT_MASK == 0:
        task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
        if m[task + TASK_PRIO] < MAX_RT_PRIO:
            flags |= ALLOC_HARDER
    if gfpflags_to_migratetype(m, gfp) == MIGRATE_MOVABLE:
        flags |= ALLOC_CMA
    return flags


def gfp_pfmemalloc_flags(m: memoryview, cpu: int, gfp: int) -> int:
    """Which reserves the caller's context opens (__gfp_pfmemalloc_flags). Hot."""
    if gfp & GFP_NOMEMALLOC_BIT:
        return 0
    if gfp & GFP_MEMALLOC_BIT:
        return ALLOC_NO_WATERMARKS
    block = CPU_BLOCKS + cpu * CPU_WORDS
    task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
    preempt = m[block + CPU_PREEMPT_COUNT]
    if preempt & SOFTIRQ_OFFSET and m[task + TASK_FLAGS] & PF_MEMALLOC:
        return ALLOC_NO_WATERMARKS
    if preempt & IN_INTERRUPT_MASK == 0:
        if m[task + TASK_FLAGS] & PF_MEMALLOC:
            return ALLOC_NO_WATERMARKS
        if m[task + TASK_OOM_MM]:
            return ALLOC_OOM
    return 0


def current_gfp_context(m: memoryview, cpu: int, gfp: int) -> int:
    """`gfp` without what the task's memalloc_noio / memalloc_nofs scope forbids. Hot."""
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    if m[task + TASK_FLAGS] & PF_MEMALLOC_NOIO:
        return gfp & ~(GFP_IO_BIT | GFP_FS_BIT)
    if m[task + TASK_FLAGS] & PF_MEMALLOC_NOFS:
        return gfp & ~GFP_FS_BIT
    return gfp


def gfpflags_to_migratetype(m: memoryview, gfp: int) -> int:
    """The migratetype that a request wants (include/linux/gfp.h). Hot."""
    if m[G_MOBILITY_DISABLED]:
        return MIGRATE_UNMOVABLE
    return (gfp & GFP_MOVABLE_MASK) >> GFP_MOVABLE_SHIFT


def wakeup_kswapd(m: memoryview, cpu: int, z: int, gfp: int, order: int, classzone: int) -> None:
    """Tells the zone's node what kswapd should balance for (mm/vmscan.c). Hot.

    Only the request is left in the node (kswapd_order, kswapd_classzone_idx); the daemon runs when
    the modelled clock lets it.
    """
    if m[z + Z_MANAGED] == 0:
        return
    if m[G_STATIC_KEYS] & KEY_CPUSETS and not cpuset_zone_allowed(m, cpu, z, gfp):
        return
    nd = (m[z + Z_PGDAT] - PAGE_OFFSET) >> 3
    # MAX_NR_ZONES in the field means that nobody has asked since the daemon last looked
    if m[nd + ND_KSWAPD_CLASSZONE] >= MAX_NR_ZONES or m[nd + ND_KSWAPD_CLASSZONE] < classzone:
        m[nd + ND_KSWAPD_CLASSZONE] = classzone
    m[nd + ND_KSWAPD_ORDER] = max(m[nd + ND_KSWAPD_ORDER], order)
    if m[G_TRACE_MASK] >> EV_WAKE_KSWAPD & 1:
        zid = (z - nd) // ZONE_WORDS
        trace(m, EV_WAKE_KSWAPD, cpu, m[z + Z_NODE], zid, order, classzone, 0, 0, 0)


def wake_all_kswapds(
    m: memoryview, cpu: int, gfp: int, order: int, zonelist: int, high_zoneidx: int, nodemask: int
) -> None:
    """wakeup_kswapd() once per run of zones of one node in the zonelist. Hot."""
    last = 0
    zr = first_zones_zonelist(m, zonelist, high_zoneidx, nodemask)
    while m[zr + ZR_ZONE]:
        z = (m[zr + ZR_ZONE] - PAGE_OFFSET) >> 3
        if m[z + Z_PGDAT] != last:
            wakeup_kswapd(m, cpu, z, gfp, order, high_zoneidx)
        last = m[z + Z_PGDAT]
        zr = first_zones_zonelist(m, zr + ZONEREF_WORDS, high_zoneidx, nodemask)


def slowpath_attempt(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    flags: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    mt: int,
    event: int,
) -> int:
    """One pass over the zonelist for the slow path, recorded as `event`; PFN or -1. Hot."""
    if m[G_TRACE_MASK] >> event & 1:
        trace(m, event, cpu, flags, gfp, 0, 0, 0, 0, 0)
    zr = first_zones_zonelist(m, zonelist, high_zoneidx, nodemask)
    if m[zr + ZR_ZONE] == 0:
        return -1
    if event == EV_SLOWPATH_FIRST and gfp & GFP_KSWAPD_RECLAIM_BIT:
        wake_all_kswapds(m, cpu, gfp, order, zonelist, high_zoneidx, nodemask)
    return get_page_from_freelist(m, cpu, gfp, order, flags, zr, high_zoneidx, nodemask, mt, False)


def nodemask_misses_cpuset(m: memoryview, cpu: int, nodemask: int) -> bool:
    """True if the request's nodemask has no node of the task's cpuset (check_retry_cpuset). Hot."""
    if nodemask == 0 or m[G_STATIC_KEYS] & KEY_CPUSETS == 0:
        return False
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    return nodemask & m[task + TASK_MEMS_ALLOWED] == 0


def alloc_pages_slowpath(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    mt: int,
) -> int:
    """What does not sleep of __alloc_pages_slowpath: wake-ups and the reserves. Hot.

    Two attempts: at the min watermark with what the flags allow, then with the reserves that the
    context opens, the nodemask dropped where memory policies may be ignored. A nodemask that misses
    the task's cpuset is dropped at the end and everything starts again.
    """
    both = GFP_ATOMIC_BIT | GFP_DIRECT_RECLAIM_BIT
    if gfp & both == both:
        gfp &= ~GFP_ATOMIC_BIT
    while True:
        flags = gfp_to_alloc_flags(m, cpu, gfp)
        pfn = slowpath_attempt(
            m, cpu, gfp, order, flags, zonelist, high_zoneidx, nodemask, mt, EV_SLOWPATH_FIRST
        )
        if pfn >= 0:
            return pfn
        zr = first_zones_zonelist(m, zonelist, high_zoneidx, nodemask)
        if m[zr + ZR_ZONE]:
            if gfp & GFP_KSWAPD_RECLAIM_BIT:
                wake_all_kswapds(m, cpu, gfp, order, zonelist, high_zoneidx, nodemask)
            reserve = gfp_pfmemalloc_flags(m, cpu, gfp)
            if reserve:
                flags = reserve
            if reserve or flags & ALLOC_CPUSET == 0:
                nodemask = 0
            pfn = slowpath_attempt(
                m, cpu, gfp, order, flags, zonelist, high_zoneidx, nodemask, mt, EV_SLOWPATH_RETRY
            )
            if pfn >= 0:
                return pfn
        if not nodemask_misses_cpuset(m, cpu, nodemask):
            break
        nodemask = 0
    if gfp & GFP_NOFAIL_BIT:
        if gfp & GFP_DIRECT_RECLAIM_BIT:
            pfn = alloc_pages_cpuset_fallback(
                m, cpu, gfp, order, zonelist, high_zoneidx, nodemask, mt
            )
            if pfn >= 0:
                return pfn
        else:
            warn_once(m, cpu, ONCE_NOFAIL_WAIT, LOG_WARN_ONCE_NOFAIL_WAIT, gfp, order)
    if gfp & GFP_NOWARN_BIT == 0 and ratelimit(m, G_NOPAGE_RS, NOPAGE_INTERVAL, NOPAGE_BURST):
        log_record(m, LOG_WARN_ALLOC, cpu, order, gfp, nodemask, 0, 0, 0)
    return -1


def alloc_pages_cpuset_fallback(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    mt: int,
) -> int:
    """__GFP_NOFAIL's help: HARDER within the cpuset, then anywhere; PFN or -1. Hot."""
    zr = first_zones_zonelist(m, zonelist, high_zoneidx, nodemask)
    pfn = get_page_from_freelist(
        m, cpu, gfp, order, ALLOC_HARDER | ALLOC_CPUSET, zr, high_zoneidx, nodemask, mt, False
    )
    if pfn < 0:
        pfn = get_page_from_freelist(
            m, cpu, gfp, order, ALLOC_HARDER, zr, high_zoneidx, nodemask, mt, False
        )
    return pfn


def alloc_pages_nodemask(
    m: memoryview, cpu: int, gfp: int, order: int, nid: int, nodemask: int
) -> int:
    """Allocates 2^order pages, preferably on node `nid`; PFN of the first, or -1. Hot.

    `nodemask`: bits of the nodes that may serve the request, 0 for NULL. `nid` must be a possible
    node with a pglist_data (__alloc_pages_nodemask).
    """
    if order >= MAX_ORDER:
        if gfp & GFP_NOWARN_BIT == 0:
            warn_once(m, cpu, ONCE_ORDER, LOG_WARN_ONCE_ORDER, gfp, order)
        return -1
    keys = m[G_STATIC_KEYS]
    tracing = m[G_TRACE_MASK]
    gfp &= m[G_GFP_ALLOWED]
    alloc_gfp = gfp
    flags = ALLOC_WMARK_LOW
    high_zoneidx = ZONE_TABLE[gfp & GFP_ZONEMASK]
    nd = (m[NODE_DATA + nid] - PAGE_OFFSET) >> 3
    zonelist = nd + (ND_NOFALLBACK if gfp & GFP_THISNODE_BIT else ND_ZONELISTS)
    mt = (gfp & GFP_MOVABLE_MASK) >> GFP_MOVABLE_SHIFT
    if m[G_MOBILITY_DISABLED]:
        mt = MIGRATE_UNMOVABLE
    fast_mask = nodemask
    if keys & (KEY_CPUSETS | KEY_FAIL_PAGE_ALLOC):
        if keys & KEY_CPUSETS:
            alloc_gfp |= GFP_HARDWALL_BIT
            if tracing >> EV_CONTEXT & 1:
                trace_context(m, cpu)
            if nodemask == 0:
                block = CPU_BLOCKS + cpu * CPU_WORDS
                task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
                fast_mask = m[task + TASK_MEMS_ALLOWED]
            else:
                flags |= ALLOC_CPUSET
        if keys & KEY_FAIL_PAGE_ALLOC and should_fail_alloc_page(m, cpu, gfp, order):
            return -1
    if mt == MIGRATE_MOVABLE:
        flags |= ALLOC_CMA
    if tracing >> EV_REQUEST & 1:
        trace(m, EV_REQUEST, cpu, alloc_gfp, order, nid, fast_mask, mt, high_zoneidx, flags)
    if fast_mask == 0 and m[zonelist + ZR_IDX] <= high_zoneidx:
        zr = zonelist
    else:
        zr = first_zones_zonelist(m, zonelist, high_zoneidx, fast_mask)
    pfn = get_page_from_freelist(
        m,
        cpu,
        alloc_gfp,
        order,
        flags,
        zr,
        high_zoneidx,
        fast_mask,
        mt,
        gfp & GFP_WRITE_BIT != 0,
    )
    if pfn < 0:
        alloc_gfp = current_gfp_context(m, cpu, gfp)
        pfn = alloc_pages_slowpath(m, cpu, alloc_gfp, order, zonelist, high_zoneidx, nodemask, mt)
    if keys & KEY_MEMCG_KMEM and gfp & GFP_ACCOUNT_BIT and pfn >= 0:
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        if memcg_kmem_charge(m, cpu, pfn, p, gfp, order) != 0:
            free_pages(m, cpu, pfn, order)
            pfn = -1
    if tracing:
        if tracing >> EV_MM_PAGE_ALLOC & 1:
            trace(m, EV_MM_PAGE_ALLOC, cpu, pfn, order, alloc_gfp, mt, 0, 0, 0)
        if tracing >> EV_RESULT & 1:
            trace(m, EV_RESULT, cpu, pfn, order, alloc_gfp, 0, 0, 0, 0)
    return pfn


def trace_context(m: memoryview, cpu: int) -> None:
    """Records whose mems_allowed this request sees, and whether in interrupt. Hot."""
    block = CPU_BLOCKS + cpu * CPU_WORDS
    task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
    irq = 1 if m[block + CPU_PREEMPT_COUNT] & IN_INTERRUPT_MASK else 0
    trace(m, EV_CONTEXT, cpu, m[task + TASK_MEMS_ALLOWED], irq, 0, 0, 0, 0, 0)


# What free_pages() says
FREE_DONE = 0
FREE_STILL_REFERENCED = 1
FREE_REFUSED = -1


def free_pages_ok(m: memoryview, cpu: int, pfn: int, p: int, order: int) -> bool:
    """Gives a block whose last reference is gone to the buddy lists (__free_pages_ok). Hot.

    False if a page of it was bad and the block was set aside.
    """
    if m[G_TRACE_MASK] >> EV_MM_PAGE_FREE & 1:
        trace(m, EV_MM_PAGE_FREE, cpu, pfn, order, 0, 0, 0, 0, 0)
    if not free_pages_prepare(m, cpu, pfn, p, order):
        return False
    mt = get_pageblock_migratetype(m, pfn)
    count_vm_events(m, cpu, PGFREE, 1 << order)
    free_block(m, cpu, page_zone(m, p), pfn, order, mt)
    return True


def free_pages(m: memoryview, cpu: int, pfn: int, order: int) -> int:
    """Drops one reference of the block at `pfn`, and frees it if that was the last. Hot.

    Returns FREE_DONE, FREE_STILL_REFERENCED, or FREE_REFUSED after a bad-page report: no reference
    to drop (a double free, or a frame that was never allocated), a tail page, a start that is
    not aligned to the order, or a struct page that fails the checks. `pfn` must be valid.
    (__free_pages; the VM_BUG_ON_PAGEs of 4.20 become reports.)
    """
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    counts = m[p + P_COUNTS]
    flags = m[p]
    tracing = m[G_TRACE_MASK]
    if tracing >> EV_FREE_REQUEST & 1:
        trace(m, EV_FREE_REQUEST, cpu, pfn, order, counts >> REF_SHIFT, 0, 0, 0, 0)
    if order or counts != COUNTS_ONE or flags & PG_HEAD:
        reason = 0
        if counts < REF_ONE:
            reason = BAD_FREE_OF_TAIL if m[p + P_NEXT] & 1 else BAD_DOUBLE_FREE
        elif pfn & ((1 << order) - 1):
            reason = BAD_UNALIGNED
        elif counts >> REF_SHIFT == 1 and flags & PG_HEAD and compound_order(m, p) != order:
            reason = BAD_COMPOUND_ORDER
        if reason:
            bad_page(m, cpu, pfn, p, reason, 0)
            return FREE_REFUSED
    m[p + P_COUNTS] = counts - REF_ONE
    if counts >> REF_SHIFT != 1:
        return FREE_STILL_REFERENCED
    if order == 0:
        done = free_unref_page_at(m, cpu, pfn, p, flags, tracing)
    else:
        done = free_pages_ok(m, cpu, pfn, p, order)
    return FREE_DONE if done else FREE_REFUSED
