# SPDX-License-Identifier: GPL-2.0-only
"""The part of __alloc_pages_slowpath that may sleep: compaction, reclaim, the OOM killer.

`slowpath` has woken kswapd and tried the min watermark in vain. A caller that allows direct reclaim
goes on here: costly and unmovable orders compact first; then, round by round, the reserves, direct
reclaim and direct compaction, as long as `reclaim_retry` sees a chance; then the OOM killer; and a
request with __GFP_NOFAIL begins again from the start. 4.20 may go round for ever in two places;
here the kernel stops with a named reason in G_PANIC instead (`PANIC_TEXT`), which its callers turn
into a stop of the machine.

All of this allocates memory itself, so it stands above the allocator: `links` ties it to
`slowpath`. Names are those of mm/page_alloc.c. Interpreted in both engines.
"""

from __future__ import annotations

from .alloc_flags import (
    ONCE_NOFAIL_MEMALLOC,
    ONCE_NOFAIL_ORDER,
    gfp_pfmemalloc_flags,
    gfp_to_alloc_flags,
    warn_once,
)
from .compact_suitable import COMPACT_DEFERRED, COMPACT_SKIPPED, compaction_defer_reset
from .compaction import DEF_COMPACT_PRIORITY, INIT_COMPACT_PRIORITY, try_to_compact_pages
from .fallback import unreserve_highatomic_pageblock
from .get_page import first_zones_zonelist, get_page_from_freelist
from .gfp import (
    GFP_DIRECT_RECLAIM_BIT,
    GFP_HARDWALL_BIT,
    GFP_KSWAPD_RECLAIM_BIT,
    GFP_NOFAIL_BIT,
    GFP_NOMEMALLOC_BIT,
    GFP_NORETRY_BIT,
    GFP_RETRY_MAYFAIL_BIT,
    GFP_THISNODE_BIT,
)
from .kernel_globals import (
    G_MM_INIT_DONE,
    G_PANIC,
    G_SCRIPTED_RECLAIM,
    G_SCRIPTED_RECLAIM_CALLS,
    G_STATIC_KEYS,
    G_TRACE_MASK,
    KEY_SCRIPTED_RECLAIM,
)
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    PAGE_OFFSET,
    PF_DUMPCORE,
    PF_MEMALLOC,
    SECTION_PAGES,
    TASK_FLAGS,
    TASK_OOM_MM,
)
from .mmzone import (
    MIGRATE_MOVABLE,
    PAGE_ALLOC_COSTLY_ORDER,
    Z_COMPACT_BLOCKSKIP_FLUSH,
    ZONE_NORMAL,
    ZR_IDX,
    ZR_ZONE,
)
from .oom_kill import out_of_memory
from .pcp import drain_all_pages, page_zone
from .reclaim_retry import should_compact_retry, should_reclaim_retry
from .slowpath import (
    alloc_pages_cpuset_fallback,
    nodemask_misses_cpuset,
    slowpath_attempt,
    wake_all_kswapds,
    warn_alloc,
)
from .trace import trace
from .trace_events import (
    EV_DIRECT_COMPACT,
    EV_PERFORM_RECLAIM,
    EV_SLOWPATH_FIRST,
    EV_SLOWPATH_RETRY,
    LOG_WARN_ONCE_NOFAIL_MEMALLOC,
    LOG_WARN_ONCE_NOFAIL_ORDER,
)
from .vm_events import VM_EVENT_NAMES
from .vmscan import try_to_free_pages
from .vmstat import count_vm_events
from .watermark import ALLOC_CPUSET, ALLOC_HARDER, ALLOC_NO_WATERMARKS, ALLOC_OOM, ALLOC_WMARK_HIGH

COMPACTSTALL = VM_EVENT_NAMES.index("compact_stall")
COMPACTFAIL = VM_EVENT_NAMES.index("compact_fail")
COMPACTSUCCESS = VM_EVENT_NAMES.index("compact_success")

PANIC_NOFAIL = 1
PANIC_DEADLOCK = 2
PANIC_INIT = 3
PANIC_TEXT = {
    PANIC_NOFAIL: "__GFP_NOFAIL request with nothing left to free: 4.20 would retry for ever",
    PANIC_DEADLOCK: "Kernel panic - not syncing: System is deadlocked on memory",
    PANIC_INIT: "Kernel panic - not syncing: Attempted to kill init!",
}
MAX_ROUNDS = 1000
"""Rounds of one request before it counts as going round for ever."""
NOFAIL_PASSES = 16
"""How often a __GFP_NOFAIL request begins again before it does."""


def current_task(m: memoryview, cpu: int) -> int:
    """Word index of the task that runs on `cpu`. Hot."""
    return (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3


def get_page(
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
    """get_page_from_freelist() from the request's preferred zone on; PFN or -1. Hot."""
    zr = first_zones_zonelist(m, zonelist, high_zoneidx, nodemask)
    if m[zr + ZR_ZONE] == 0:
        return -1
    return get_page_from_freelist(m, cpu, gfp, order, flags, zr, high_zoneidx, nodemask, mt, False)


def direct_compact(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    flags: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    mt: int,
    prio: int,
) -> tuple[int, int]:
    """Compacts for the request and tries again: PFN or -1, and the compact_result. Hot.

    (__alloc_pages_direct_compact)
    """
    if order == 0:
        return -1, COMPACT_SKIPPED
    task = current_task(m, cpu)
    scope = m[task + TASK_FLAGS] & PF_MEMALLOC
    m[task + TASK_FLAGS] |= PF_MEMALLOC
    classzone = m[first_zones_zonelist(m, zonelist, high_zoneidx, nodemask) + ZR_IDX]
    result = try_to_compact_pages(
        m, cpu, gfp, order, flags, zonelist, high_zoneidx, nodemask, classzone, prio
    )
    m[task + TASK_FLAGS] = m[task + TASK_FLAGS] & ~PF_MEMALLOC | scope
    if m[G_TRACE_MASK] >> EV_DIRECT_COMPACT & 1:
        trace(m, EV_DIRECT_COMPACT, cpu, order, prio, result, 0, 0, 0, 0)
    if result <= COMPACT_DEFERRED:
        return -1, result
    count_vm_events(m, cpu, COMPACTSTALL, 1)
    pfn = get_page(m, cpu, gfp, order, flags, zonelist, high_zoneidx, nodemask, mt)
    if pfn >= 0:
        z = page_zone(m, m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3))
        m[z + Z_COMPACT_BLOCKSKIP_FLUSH] = 0
        compaction_defer_reset(m, cpu, z, order, True)
        count_vm_events(m, cpu, COMPACTSUCCESS, 1)
    else:
        count_vm_events(m, cpu, COMPACTFAIL, 1)
    return pfn, result


def perform_reclaim(
    m: memoryview, cpu: int, gfp: int, order: int, zonelist: int, nodemask: int
) -> int:
    """Direct reclaim for the request: pages reclaimed (__perform_reclaim). Hot.

    Where a recording says what reclaim came to (KEY_SCRIPTED_RECLAIM) it comes to that.
    """
    if m[G_STATIC_KEYS] & KEY_SCRIPTED_RECLAIM:
        progress = m[G_SCRIPTED_RECLAIM] if m[G_SCRIPTED_RECLAIM_CALLS] > 0 else 0
        m[G_SCRIPTED_RECLAIM_CALLS] -= 1
    else:
        task = current_task(m, cpu)
        scope = m[task + TASK_FLAGS] & PF_MEMALLOC
        m[task + TASK_FLAGS] |= PF_MEMALLOC
        progress = try_to_free_pages(m, cpu, zonelist, order, gfp, nodemask)
        m[task + TASK_FLAGS] = m[task + TASK_FLAGS] & ~PF_MEMALLOC | scope
    if m[G_TRACE_MASK] >> EV_PERFORM_RECLAIM & 1:
        trace(m, EV_PERFORM_RECLAIM, cpu, progress, 0, 0, 0, 0, 0, 0)
    return progress


def direct_reclaim(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    flags: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    mt: int,
) -> tuple[int, int]:
    """Reclaims for the request and tries again: PFN or -1, and the pages reclaimed. Hot.

    If that was not enough, the pages on per-cpu lists and in a highatomic block join in.
    (__alloc_pages_direct_reclaim)
    """
    progress = perform_reclaim(m, cpu, gfp, order, zonelist, nodemask)
    if progress == 0:
        return -1, 0
    pfn = get_page(m, cpu, gfp, order, flags, zonelist, high_zoneidx, nodemask, mt)
    if pfn < 0:
        unreserve_highatomic_pageblock(m, cpu, zonelist, high_zoneidx, nodemask, mt, False)
        drain_all_pages(m, -1)
        pfn = get_page(m, cpu, gfp, order, flags, zonelist, high_zoneidx, nodemask, mt)
    return pfn, progress


def may_oom(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    mt: int,
) -> tuple[int, int]:
    """The OOM killer, where it may help: PFN or -1, and whether there was progress. Hot.

    Without processes there is nobody to kill: the request fails. (__alloc_pages_may_oom)
    """
    again = (gfp | GFP_HARDWALL_BIT) & ~GFP_DIRECT_RECLAIM_BIT
    flags = ALLOC_WMARK_HIGH | ALLOC_CPUSET
    pfn = get_page(m, cpu, again, order, flags, zonelist, high_zoneidx, nodemask, mt)
    if pfn >= 0:
        return pfn, 0
    if (
        m[current_task(m, cpu) + TASK_FLAGS] & PF_DUMPCORE
        or order > PAGE_ALLOC_COSTLY_ORDER
        or gfp & (GFP_RETRY_MAYFAIL_BIT | GFP_THISNODE_BIT)
        or high_zoneidx < ZONE_NORMAL
        or m[G_MM_INIT_DONE] == 0
    ):
        return -1, 0
    killed = out_of_memory(m, cpu, gfp, order, zonelist, high_zoneidx, nodemask)
    if killed or gfp & GFP_NOFAIL_BIT:
        if gfp & GFP_NOFAIL_BIT:
            pfn = alloc_pages_cpuset_fallback(
                m, cpu, gfp, order, ALLOC_NO_WATERMARKS, zonelist, high_zoneidx, nodemask, mt
            )
        return pfn, 1
    return -1, 0


def compact_first(order: int, mt: int, reserve: int) -> bool:
    """True if compaction comes before reclaim: costly orders, and unmovable blocks. Hot."""
    if order == 0 or reserve:
        return False
    return order > PAGE_ALLOC_COSTLY_ORDER or mt != MIGRATE_MOVABLE


def give_up(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    mt: int,
) -> int:
    """__GFP_NOFAIL's help before it begins again: HARDER, but not all reserves; PFN or -1."""
    if m[current_task(m, cpu) + TASK_FLAGS] & PF_MEMALLOC:
        warn_once(m, cpu, ONCE_NOFAIL_MEMALLOC, LOG_WARN_ONCE_NOFAIL_MEMALLOC, gfp, order)
    if order > PAGE_ALLOC_COSTLY_ORDER:
        warn_once(m, cpu, ONCE_NOFAIL_ORDER, LOG_WARN_ONCE_NOFAIL_ORDER, gfp, order)
    return alloc_pages_cpuset_fallback(
        m, cpu, gfp, order, ALLOC_HARDER, zonelist, high_zoneidx, nodemask, mt
    )


class Request:
    """One request on its way through the rounds; the fields are the locals of the kernel's."""

    def __init__(
        self,
        m: memoryview,
        cpu: int,
        gfp: int,
        order: int,
        zonelist: int,
        high_zoneidx: int,
        nodemask: int,
        mt: int,
    ) -> None:
        self.m = m
        self.cpu = cpu
        self.gfp = gfp
        self.order = order
        self.zonelist = zonelist
        self.high_zoneidx = high_zoneidx
        self.nodemask = nodemask
        self.mt = mt
        self.flags = gfp_to_alloc_flags(m, cpu, gfp)
        self.compact_state = DEF_COMPACT_PRIORITY
        """Compactions with progress << 8 | priority."""
        self.no_progress_loops = 0
        self.compact_result = COMPACT_SKIPPED

    @property
    def where(self) -> tuple[int, int, int, int]:
        """The arguments that say where pages may come from."""
        return self.zonelist, self.high_zoneidx, self.nodemask, self.mt

    def preferred(self) -> int:
        """Word index of the preferred zoneref; its zone is 0 if there is none."""
        return first_zones_zonelist(self.m, self.zonelist, self.high_zoneidx, self.nodemask)

    def compact(self, prio: int) -> int:
        """Direct compaction; PFN or -1."""
        pfn, self.compact_result = direct_compact(
            self.m, self.cpu, self.gfp, self.order, self.flags, *self.where, prio
        )
        return pfn

    def first(self) -> tuple[int, bool]:
        """Compaction before all else, where it is due: PFN or -1, and False to fail at once."""
        reserve = gfp_pfmemalloc_flags(self.m, self.cpu, self.gfp)
        if not compact_first(self.order, self.mt, reserve):
            return -1, True
        pfn = self.compact(INIT_COMPACT_PRIORITY)
        if pfn < 0 and self.order > PAGE_ALLOC_COSTLY_ORDER and self.gfp & GFP_NORETRY_BIT:
            if self.compact_result == COMPACT_DEFERRED:
                return -1, False
            self.compact_state = INIT_COMPACT_PRIORITY
        return pfn, True

    def attempt(self) -> int:
        """Wakes kswapd and tries with the reserves that the context opens; PFN or -1."""
        m, cpu = self.m, self.cpu
        if self.gfp & GFP_KSWAPD_RECLAIM_BIT:
            wake_all_kswapds(
                m, cpu, self.gfp, self.order, self.zonelist, self.high_zoneidx, self.nodemask
            )
        reserve = gfp_pfmemalloc_flags(m, cpu, self.gfp)
        if reserve:
            self.flags = reserve
        if reserve or self.flags & ALLOC_CPUSET == 0:
            self.nodemask = 0
        return slowpath_attempt(
            m, cpu, self.gfp, self.order, self.flags, *self.where, EV_SLOWPATH_RETRY
        )

    def retry(self, progress: int) -> bool:
        """True if another round has a chance after reclaim of `progress` pages."""
        m, cpu = self.m, self.cpu
        classzone = m[self.preferred() + ZR_IDX]
        where = (self.zonelist, self.high_zoneidx, self.nodemask, classzone)
        again, self.no_progress_loops = should_reclaim_retry(
            m, cpu, self.order, self.flags, *where, self.mt, progress > 0, self.no_progress_loops
        )
        if not again and progress > 0:
            again, self.compact_state = should_compact_retry(
                m, cpu, self.order, self.flags, *where, self.compact_result, self.compact_state
            )
        return again != 0

    def round(self) -> tuple[int, bool]:
        """One round: PFN or -1, and True if another one should follow."""
        m, cpu, gfp = self.m, self.cpu, self.gfp
        pfn = self.attempt()
        task = current_task(m, cpu)
        if pfn >= 0 or m[task + TASK_FLAGS] & PF_MEMALLOC:
            return pfn, False
        pfn, progress = direct_reclaim(m, cpu, gfp, self.order, self.flags, *self.where)
        if pfn < 0:
            pfn = self.compact(self.compact_state & 0xFF)
        if pfn >= 0 or gfp & GFP_NORETRY_BIT:
            return pfn, False
        if self.order > PAGE_ALLOC_COSTLY_ORDER and gfp & GFP_RETRY_MAYFAIL_BIT == 0:
            return -1, False
        if self.retry(progress):
            return -1, True
        if nodemask_misses_cpuset(m, cpu, self.nodemask):
            return -1, False
        pfn, progress = may_oom(m, cpu, gfp, self.order, *self.where)
        if pfn >= 0 or m[G_PANIC]:
            return pfn, False
        if m[task + TASK_OOM_MM] and (self.flags == ALLOC_OOM or gfp & GFP_NOMEMALLOC_BIT):
            return -1, False
        if progress:
            self.no_progress_loops = 0
        return -1, progress != 0

    def rounds(self) -> int:
        """Rounds until there is a page or no hope: PFN or -1."""
        for _ in range(MAX_ROUNDS):
            pfn, again = self.round()
            if not again:
                return pfn
        return -1


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
    """The rest of __alloc_pages_slowpath for a request that may wait; PFN or -1.

    The first attempt of the slow path has been made. Leaves PANIC_NOFAIL in G_PANIC when a request
    that must not fail has nothing left to try.
    """
    while True:
        request = Request(m, cpu, gfp, order, zonelist, high_zoneidx, nodemask, mt)
        hope = m[request.preferred() + ZR_ZONE] != 0
        pfn = -1
        if hope:
            pfn, hope = request.first()
        if pfn < 0 and hope:
            pfn = request.rounds()
        nodemask = request.nodemask
        if pfn >= 0 or m[G_PANIC]:
            return pfn
        if nodemask_misses_cpuset(m, cpu, nodemask):
            nodemask = 0
        elif gfp & GFP_NOFAIL_BIT:
            for _ in range(NOFAIL_PASSES):
                pfn = give_up(m, cpu, gfp, order, *request.where)
                if pfn < 0:
                    pfn = request.rounds()
                if pfn >= 0 or m[G_PANIC]:
                    return pfn
            m[G_PANIC] = PANIC_NOFAIL
            return -1
        else:
            warn_alloc(m, cpu, gfp, order, nodemask)
            return -1
        flags = gfp_to_alloc_flags(m, cpu, gfp)
        pfn = slowpath_attempt(
            m, cpu, gfp, order, flags, zonelist, high_zoneidx, nodemask, mt, EV_SLOWPATH_FIRST
        )
        if pfn >= 0:
            return pfn
