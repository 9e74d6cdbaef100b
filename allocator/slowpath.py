# SPDX-License-Identifier: GPL-2.0-only
"""What happens when no zone passed its low watermark: __alloc_pages_slowpath.

kswapd is woken for every node of the zonelist, and the zones are tried again down to the min
watermark with the reserves that the flags allow. A request that may wait then goes on in
`slowpath_sleep`, with reclaim, compaction and the OOM killer; one that may not has a second
attempt, with the reserves that the context opens and without the nodemask where 4.20 drops it, and
fails with a warning.

All hot, names of mm/page_alloc.c.
"""

from __future__ import annotations

from .alloc_flags import ONCE_NOFAIL_WAIT, gfp_pfmemalloc_flags, gfp_to_alloc_flags, warn_once
from .get_page import first_zones_zonelist, get_page_from_freelist
from .gfp import (
    GFP_ATOMIC_BIT,
    GFP_DIRECT_RECLAIM_BIT,
    GFP_KSWAPD_RECLAIM_BIT,
    GFP_NOFAIL_BIT,
    GFP_NOWARN_BIT,
)
from .kernel_globals import G_NOPAGE_RS, G_STATIC_KEYS, G_TRACE_MASK, KEY_CPUSETS
from .kswapd_wake import wakeup_kswapd
from .layout import CPU_BLOCKS, CPU_CURRENT, CPU_WORDS, PAGE_OFFSET, TASK_MEMS_ALLOWED
from .mmzone import Z_PGDAT, ZONEREF_WORDS, ZR_ZONE
from .page_poison import ratelimit
from .spinlock import go_alone
from .trace import log_record, trace
from .trace_events import (
    EV_SLOWPATH_FIRST,
    EV_SLOWPATH_RETRY,
    LOG_WARN_ALLOC,
    LOG_WARN_ONCE_NOFAIL_WAIT,
)
from .watermark import ALLOC_CPUSET

# warn_alloc()'s rate limit: DEFAULT_RATELIMIT_INTERVAL (5 s, here in ns) and _BURST
NOPAGE_INTERVAL = 5_000_000_000
NOPAGE_BURST = 10


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


def slowpath_may_sleep(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    mt: int,
) -> int:
    """slowpath_sleep's function of that name. What may sleep allocates memory itself, so it cannot
    be imported before this module is."""
    from .slowpath_sleep import slowpath_may_sleep as may_sleep

    return may_sleep(m, cpu, gfp, order, zonelist, high_zoneidx, nodemask, mt)


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
    """__alloc_pages_slowpath; PFN or -1. Hot.

    A request that may wait goes on in `slowpath_sleep` after the first attempt. Others have two: at
    the min watermark with what the flags allow, then with the reserves that the context opens, the
    nodemask dropped where memory policies may be ignored. A nodemask that misses the task's cpuset
    is dropped at the end and everything starts again.
    """
    go_alone(m)
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
        if gfp & GFP_DIRECT_RECLAIM_BIT:
            return slowpath_may_sleep(m, cpu, gfp, order, zonelist, high_zoneidx, nodemask, mt)
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
        warn_once(m, cpu, ONCE_NOFAIL_WAIT, LOG_WARN_ONCE_NOFAIL_WAIT, gfp, order)
    warn_alloc(m, cpu, gfp, order, nodemask)
    return -1


def warn_alloc(m: memoryview, cpu: int, gfp: int, order: int, nodemask: int) -> None:
    """Reports a failed request, not too often, unless it has __GFP_NOWARN. Hot."""
    if gfp & GFP_NOWARN_BIT == 0 and ratelimit(m, G_NOPAGE_RS, NOPAGE_INTERVAL, NOPAGE_BURST):
        log_record(m, LOG_WARN_ALLOC, cpu, order, gfp, nodemask, 0, 0, 0)


def alloc_pages_cpuset_fallback(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    flags: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    mt: int,
) -> int:
    """__GFP_NOFAIL's help: alloc flags `flags` within the cpuset, then anywhere; PFN or -1. Hot."""
    zr = first_zones_zonelist(m, zonelist, high_zoneidx, nodemask)
    if m[zr + ZR_ZONE] == 0:
        return -1
    pfn = get_page_from_freelist(
        m, cpu, gfp, order, flags | ALLOC_CPUSET, zr, high_zoneidx, nodemask, mt, False
    )
    if pfn < 0:
        pfn = get_page_from_freelist(
            m, cpu, gfp, order, flags, zr, high_zoneidx, nodemask, mt, False
        )
    return pfn
