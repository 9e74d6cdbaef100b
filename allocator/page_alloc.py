# SPDX-License-Identifier: GPL-2.0-only
"""The heart of the zoned buddy allocator: `__alloc_pages_nodemask` and `__free_pages`.

A request names gfp flags, an order, a preferred node and perhaps a set of allowed nodes. The fast
path walks that node's zonelist from the first zone that may serve the request and takes the page
from the first zone that passes its low watermark (`get_page`). When none does, the slow path wakes
kswapd and tries again with lower marks and the reserves that the request may use (`slowpath`).
`page_free` is the way back.

All hot: the word array, the current CPU and ints. `nodemask` 0 stands for NULL. An allocation
returns a PFN, or -1. Names without the kernel's leading underscores are those of mm/page_alloc.c;
those of the three modules beside this one can be had from here, too.
"""

from __future__ import annotations

from .alloc_flags import (
    ONCE_ORDER,
    current_gfp_context,
    gfp_pfmemalloc_flags,
    gfp_to_alloc_flags,
    request_kind,
    warn_once,
)
from .fail_page_alloc import should_fail_alloc_page
from .get_page import (
    SKIP_CPUSET,
    SKIP_DIRTY_LIMIT,
    SKIP_EMPTY,
    SKIP_NODEMASK,
    SKIP_WATERMARK,
    first_zone_page,
    first_zones_zonelist,
    get_page_from_freelist,
    node_zonelist,
    rmqueue,
)
from .gfp import (
    GFP_ACCOUNT_BIT,
    GFP_HARDWALL_BIT,
    GFP_NOWARN_BIT,
    GFP_WRITE_BIT,
    GFP_ZERO_BIT,
)
from .kernel_globals import (
    G_GFP_ALLOWED,
    G_MOBILITY_DISABLED,
    G_STATIC_KEYS,
    G_TRACE_MASK,
    KEY_CPUSETS,
    KEY_FAIL_PAGE_ALLOC,
    KEY_MEMCG_KMEM,
)
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_PREEMPT_COUNT,
    CPU_WORDS,
    IN_INTERRUPT_MASK,
    NODE_DATA,
    PAGE_OFFSET,
    SECTION_PAGES,
    TASK_MEMS_ALLOWED,
)
from .list_head import direct_word
from .memcg import memcg_kmem_charge
from .mmzone import (
    MAX_ORDER,
    MIGRATE_MOVABLE,
    MIGRATE_UNMOVABLE,
)
from .page_free import (
    FREE_DONE,
    FREE_REFUSED,
    FREE_STILL_REFERENCED,
    free_pages,
    free_pages_ok,
)
from .slowpath import alloc_pages_slowpath
from .trace import trace
from .trace_events import EV_CONTEXT, EV_MM_PAGE_ALLOC, EV_REQUEST, EV_RESULT, LOG_WARN_ONCE_ORDER
from .watermark import ALLOC_CMA, ALLOC_CPUSET, ALLOC_WMARK_LOW

__all__ = [
    "FREE_DONE",
    "FREE_REFUSED",
    "FREE_STILL_REFERENCED",
    "ONCE_ORDER",
    "SKIP_CPUSET",
    "SKIP_DIRTY_LIMIT",
    "SKIP_EMPTY",
    "SKIP_NODEMASK",
    "SKIP_WATERMARK",
    "alloc_pages_nodemask",
    "current_gfp_context",
    "first_zones_zonelist",
    "free_pages",
    "free_pages_ok",
    "gfp_pfmemalloc_flags",
    "gfp_to_alloc_flags",
    "node_zonelist",
    "rmqueue",
]


def alloc_pages_nodemask(
    m: memoryview, cpu: int, gfp: int, order: int, nid: int, nodemask: int
) -> int:
    """Allocates 2^order pages, preferably on node `nid`; PFN of the first, or -1. Hot.

    `nodemask`: bits of the nodes that may serve the request, 0 for NULL. `nid` must be a possible
    node with a pglist_data (__alloc_pages_nodemask).
    """
    keys = m[G_STATIC_KEYS]
    tracing = m[G_TRACE_MASK]
    if not (order or nodemask or keys or tracing or gfp & (GFP_WRITE_BIT | GFP_ZERO_BIT)):
        pfn = first_zone_page(m, cpu, gfp & m[G_GFP_ALLOWED], nid)
        if pfn >= 0:
            return pfn
    if order >= MAX_ORDER:
        if gfp & GFP_NOWARN_BIT == 0:
            warn_once(m, cpu, ONCE_ORDER, LOG_WARN_ONCE_ORDER, gfp, order)
        return -1
    gfp &= m[G_GFP_ALLOWED]
    alloc_gfp = gfp
    flags = ALLOC_WMARK_LOW
    which_list, high_zoneidx, mt = request_kind(gfp)
    zonelist = direct_word(m[NODE_DATA + nid]) + which_list
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
    zr = first_zones_zonelist(m, zonelist, high_zoneidx, fast_mask)
    spread_dirty = gfp & GFP_WRITE_BIT != 0
    pfn = get_page_from_freelist(
        m, cpu, alloc_gfp, order, flags, zr, high_zoneidx, fast_mask, mt, spread_dirty
    )
    if pfn < 0:
        alloc_gfp = current_gfp_context(m, cpu, gfp)
        pfn = alloc_pages_slowpath(m, cpu, alloc_gfp, order, zonelist, high_zoneidx, nodemask, mt)
    if keys & KEY_MEMCG_KMEM and gfp & GFP_ACCOUNT_BIT and pfn >= 0:
        pfn = charge_pages(m, cpu, pfn, gfp, order)
    if tracing:
        if tracing >> EV_MM_PAGE_ALLOC & 1:
            trace(m, EV_MM_PAGE_ALLOC, cpu, pfn, order, alloc_gfp, mt, 0, 0, 0)
        if tracing >> EV_RESULT & 1:
            trace(m, EV_RESULT, cpu, pfn, order, alloc_gfp, 0, 0, 0, 0)
    return pfn


def charge_pages(m: memoryview, cpu: int, pfn: int, gfp: int, order: int) -> int:
    """Charges the block to the task's memory cgroup; -1 if that refuses, the block is free then.

    Hot.
    """
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if memcg_kmem_charge(m, cpu, pfn, p, gfp, order) != 0:
        free_pages(m, cpu, pfn, order)
        return -1
    return pfn


def trace_context(m: memoryview, cpu: int) -> None:
    """Records whose mems_allowed this request sees, and whether in interrupt. Hot."""
    block = CPU_BLOCKS + cpu * CPU_WORDS
    task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
    irq = 1 if m[block + CPU_PREEMPT_COUNT] & IN_INTERRUPT_MASK else 0
    trace(m, EV_CONTEXT, cpu, m[task + TASK_MEMS_ALLOWED], irq, 0, 0, 0, 0, 0)
