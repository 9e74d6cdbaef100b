# SPDX-License-Identifier: GPL-2.0-only
"""Reclaim: giving memory back that its owners can do without for a while (mm/vmscan.c).

`try_to_free_pages` is direct reclaim, for a request that found no page; a control group at its
limit comes by `try_to_free_mem_cgroup_pages`. Both go over the nodes of a zonelist again and
again, at each priority looking at a larger part of the LRU lists (`vmscan_lru`), until 32 pages
were freed or everything has been looked at. `shrink_node` is one round over one node, slab caches
included; a request of a high order goes on until compaction has room to work in. kswapd's own loop
over a node is in `kswapd`.

`nd` is the word index of a node, `z` of a zone.
"""

from __future__ import annotations

from .alloc_flags import current_gfp_context
from .blockdev import blk_poll, blk_wait_any
from .compact_suitable import (
    COMPACT_CONTINUE,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    compact_gap,
    compaction_suitable,
)
from .cpuset import cpuset_zone_allowed
from .get_page import first_zones_zonelist
from .gfp import (
    GFP_HARDWALL_BIT,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_RECLAIM_MASK,
    GFP_RETRY_MAYFAIL_BIT,
    GFP_ZONEMASK,
    ZONE_TABLE,
)
from .kernel_globals import (
    G_NODE_RECLAIM_MODE,
    G_NR_SWAP_PAGES,
    G_STATIC_KEYS,
    G_TRACE_MASK2,
    KEY_CPUSETS,
)
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_NUMA_NODE,
    CPU_RECLAIMED_SLAB,
    CPU_WORDS,
    NODE_DATA,
    PAGE_OFFSET,
    PF_MEMALLOC,
    PF_SWAPWRITE,
    TASK_FLAGS,
)
from .lruvec import LV_REFAULTS, mem_cgroup_lruvec
from .memcg_tree import Cookie, mem_cgroup_iter
from .mmzone import (
    MAX_NR_ZONES,
    ND_FLAGS,
    ND_KSWAPD_FAILURES,
    ND_MIN_UNMAPPED,
    ND_NODE_ID,
    ND_ZONELISTS,
    NR_INACTIVE_ANON,
    NR_INACTIVE_FILE,
    PAGE_ALLOC_COSTLY_ORDER,
    PGDAT_CONGESTED,
    PGDAT_DIRTY,
    PGDAT_WRITEBACK,
    WMARK_HIGH,
    Z_MANAGED,
    Z_PGDAT,
    Z_WMARK,
    ZONE_WORDS,
    ZONEREF_WORDS,
    ZR_ZONE,
)
from .node_reclaim import RECLAIM_UNMAP, RECLAIM_WRITE, node_pagecache_reclaimable
from .scan_control import DEF_PRIORITY, SWAP_CLUSTER_MAX, ScanControl
from .shrinker import shrink_slab
from .trace import trace
from .trace_events import (
    EV_VMSCAN_DIRECT_BEGIN,
    EV_VMSCAN_DIRECT_END,
    EV_VMSCAN_MEMCG_BEGIN,
    EV_VMSCAN_MEMCG_END,
)
from .vm_events import VM_EVENT_NAMES
from .vmscan_lru import shrink_lruvec
from .vmstat import count_vm_events, node_page_state
from .watermark import zone_watermark_ok_safe
from .workingset import refaults

NODE_RECLAIM_PRIORITY = 4
ALLOCSTALL = VM_EVENT_NAMES.index("allocstall_dma")


def congestion_wait(m: memoryview, cpu: int) -> None:
    """Waits until some of the I/O under way is done; nothing if there is none."""
    if not blk_wait_any(m, cpu):
        blk_poll(m, cpu)


def in_reclaim_compaction(sc: ScanControl) -> bool:
    """True if the pages are wanted for compaction: a costly order, or after three priorities."""
    return sc.order > 0 and (sc.order > PAGE_ALLOC_COSTLY_ORDER or sc.priority < DEF_PRIORITY - 2)


def should_continue_reclaim(
    m: memoryview, cpu: int, nd: int, reclaimed: int, scanned: int, sc: ScanControl
) -> bool:
    """True if another round over the node should give compaction more room."""
    if not in_reclaim_compaction(sc):
        return False
    if sc.gfp_mask & GFP_RETRY_MAYFAIL_BIT:
        if not reclaimed and not scanned:
            return False
    elif not reclaimed:
        return False
    wanted = compact_gap(sc.order)
    inactive = node_page_state(m, nd, NR_INACTIVE_FILE)
    if m[G_NR_SWAP_PAGES] > 0:
        inactive += node_page_state(m, nd, NR_INACTIVE_ANON)
    if sc.nr_reclaimed < wanted and inactive > wanted:
        return True
    for zid in range(sc.reclaim_idx + 1):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_MANAGED]:
            suitable = compaction_suitable(m, cpu, z, sc.order, 0, sc.reclaim_idx)
            if suitable in (COMPACT_SUCCESS, COMPACT_CONTINUE):
                return False
    return True


def note_node_state(m: memoryview, cpu: int, nd: int, sc: ScanControl) -> None:
    """kswapd tells from the pages it met what the node suffers from, and waits for writes."""
    if sc.writeback and sc.writeback == sc.taken:
        m[nd + ND_FLAGS] |= PGDAT_WRITEBACK
    if sc.dirty and sc.dirty == sc.congested:
        m[nd + ND_FLAGS] |= PGDAT_CONGESTED
    if sc.unqueued_dirty == sc.file_taken:
        m[nd + ND_FLAGS] |= PGDAT_DIRTY
    if sc.immediate:
        congestion_wait(m, cpu)


def shrink_node_memcgs(m: memoryview, cpu: int, nd: int, sc: ScanControl) -> None:
    """One round over the groups below the one at its limit, or all: their lists and slabs.

    A group at its limit stops when enough is reclaimed, and the next round goes on from there."""
    cookie = Cookie(nd, sc.priority)
    memcg = mem_cgroup_iter(m, sc.memcg, 0, cookie)
    while memcg:
        shrink_lruvec(m, cpu, mem_cgroup_lruvec(m, nd, memcg), sc)
        shrink_slab(m, cpu, sc.gfp_mask, m[nd + ND_NODE_ID], memcg, sc.priority)
        if sc.memcg and sc.nr_reclaimed >= sc.nr_to_reclaim:
            break
        memcg = mem_cgroup_iter(m, sc.memcg, memcg, cookie)


def shrink_node(m: memoryview, cpu: int, nd: int, sc: ScanControl) -> bool:
    """Reclaims from a node; True if anything was freed."""
    slab = CPU_BLOCKS + cpu * CPU_WORDS + CPU_RECLAIMED_SLAB
    reclaimable = False
    while True:
        sc.reset_round()
        before, scanned = sc.nr_reclaimed, sc.nr_scanned
        shrink_node_memcgs(m, cpu, nd, sc)
        sc.nr_reclaimed += m[slab]
        m[slab] = 0
        reclaimed = sc.nr_reclaimed - before
        reclaimable = reclaimable or reclaimed > 0
        if sc.kswapd:
            note_node_state(m, cpu, nd, sc)
        elif m[nd + ND_FLAGS] & PGDAT_CONGESTED:
            congestion_wait(m, cpu)
        if not should_continue_reclaim(m, cpu, nd, reclaimed, sc.nr_scanned - scanned, sc):
            break
    if reclaimable:
        m[nd + ND_KSWAPD_FAILURES] = 0
    return reclaimable


def compaction_ready(m: memoryview, cpu: int, z: int, sc: ScanControl) -> bool:
    """True if compaction of the zone can begin, with some room to spare, or is not needed."""
    suitable = compaction_suitable(m, cpu, z, sc.order, 0, sc.reclaim_idx)
    if suitable == COMPACT_SUCCESS:
        return True
    if suitable == COMPACT_SKIPPED:
        return False
    mark = m[z + Z_WMARK + WMARK_HIGH] + compact_gap(sc.order)
    return zone_watermark_ok_safe(m, z, 0, mark, sc.reclaim_idx)


def zone_is_shrunk(m: memoryview, cpu: int, z: int, sc: ScanControl) -> bool:
    """False if this zone is not the caller's to shrink, or has room enough for compaction."""
    if sc.memcg:
        return True
    if m[G_STATIC_KEYS] & KEY_CPUSETS:
        if not cpuset_zone_allowed(m, cpu, z, GFP_KERNEL | GFP_HARDWALL_BIT):
            return False
    if sc.order > PAGE_ALLOC_COSTLY_ORDER and compaction_ready(m, cpu, z, sc):
        sc.compaction_ready = True
        return False
    return True


def shrink_zones(m: memoryview, cpu: int, zonelist: int, sc: ScanControl) -> None:
    """Shrinks each node of the zonelist once."""
    last = 0
    zr = first_zones_zonelist(m, zonelist, sc.reclaim_idx, sc.nodemask)
    while m[zr + ZR_ZONE]:
        z = (m[zr + ZR_ZONE] - PAGE_OFFSET) >> 3
        if zone_is_shrunk(m, cpu, z, sc) and m[z + Z_PGDAT] != last:
            last = m[z + Z_PGDAT]
            shrink_node(m, cpu, (last - PAGE_OFFSET) >> 3, sc)
        zr = first_zones_zonelist(m, zr + ZONEREF_WORDS, sc.reclaim_idx, sc.nodemask)


def snapshot_refaults(m: memoryview, nd: int, root: int) -> None:
    """Remembers the refaults of the groups below `root` (0: all), to see later whether there were
    new ones."""
    memcg = mem_cgroup_iter(m, root, 0)
    while memcg:
        lv = mem_cgroup_lruvec(m, nd, memcg)
        m[lv + LV_REFAULTS] = refaults(m, lv)
        memcg = mem_cgroup_iter(m, root, memcg)


def do_try_to_free_pages(m: memoryview, cpu: int, zonelist: int, sc: ScanControl) -> int:
    """Goes through the priorities: pages freed, or 1 if compaction can begin."""
    if not sc.memcg:
        count_vm_events(m, cpu, ALLOCSTALL + sc.reclaim_idx, 1)
    while True:
        sc.nr_scanned = 0
        shrink_zones(m, cpu, zonelist, sc)
        if sc.nr_reclaimed >= sc.nr_to_reclaim or sc.compaction_ready:
            break
        if sc.priority < DEF_PRIORITY - 2:
            sc.may_writepage = True
        sc.priority -= 1
        if sc.priority < 0:
            break
    zr = first_zones_zonelist(m, zonelist, sc.reclaim_idx, sc.nodemask)
    while m[zr + ZR_ZONE]:
        z = (m[zr + ZR_ZONE] - PAGE_OFFSET) >> 3
        snapshot_refaults(m, (m[z + Z_PGDAT] - PAGE_OFFSET) >> 3, sc.memcg)
        zr = first_zones_zonelist(m, zr + ZONEREF_WORDS, sc.reclaim_idx, sc.nodemask)
    if sc.nr_reclaimed:
        return sc.nr_reclaimed
    return 1 if sc.compaction_ready else 0


def throttle_direct_reclaim(
    m: memoryview, cpu: int, gfp: int, zonelist: int, nodemask: int
) -> bool:
    """reclaim_throttle's function of that name. It gives kswapd turns, which reclaims with what is
    here, so it cannot be imported before this module is."""
    from .reclaim_throttle import throttle_direct_reclaim as throttle

    return throttle(m, cpu, gfp, zonelist, nodemask)


def try_to_free_pages(
    m: memoryview, cpu: int, zonelist: int, order: int, gfp: int, nodemask: int
) -> int:
    """Direct reclaim for a request: pages freed. 1 if the task was killed while it had to wait, so
    that nobody else is killed for it."""
    sc = ScanControl(
        current_gfp_context(m, cpu, gfp),
        order,
        ZONE_TABLE[gfp & GFP_ZONEMASK],
        nodemask=nodemask,
    )
    if throttle_direct_reclaim(m, cpu, sc.gfp_mask, zonelist, nodemask):
        return 1
    if m[G_TRACE_MASK2] >> (EV_VMSCAN_DIRECT_BEGIN - 64) & 1:
        ev, gfp, idx = EV_VMSCAN_DIRECT_BEGIN, sc.gfp_mask, sc.reclaim_idx
        trace(m, ev, cpu, order, 1, gfp, idx, 0, 0, 0)
    reclaimed = do_try_to_free_pages(m, cpu, zonelist, sc)
    if m[G_TRACE_MASK2] >> (EV_VMSCAN_DIRECT_END - 64) & 1:
        trace(m, EV_VMSCAN_DIRECT_END, cpu, reclaimed, 0, 0, 0, 0, 0, 0)
    return reclaimed


def node_reclaim_pages(m: memoryview, cpu: int, nd: int, gfp: int, order: int) -> bool:
    """Reclaims on one node as node_reclaim_mode allows; True if it was enough (__node_reclaim)."""
    mode = m[G_NODE_RECLAIM_MODE]
    sc = ScanControl(
        current_gfp_context(m, cpu, gfp),
        order,
        ZONE_TABLE[gfp & GFP_ZONEMASK],
        nr_to_reclaim=max(1 << order, SWAP_CLUSTER_MAX),
        priority=NODE_RECLAIM_PRIORITY,
        may_writepage=mode & RECLAIM_WRITE != 0,
        may_unmap=mode & RECLAIM_UNMAP != 0,
    )
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    mine = PF_MEMALLOC | PF_SWAPWRITE
    scope = m[task + TASK_FLAGS] & mine
    m[task + TASK_FLAGS] |= mine
    if node_pagecache_reclaimable(m, nd) > m[nd + ND_MIN_UNMAPPED]:
        while sc.nr_reclaimed < 1 << order and sc.priority >= 0:
            shrink_node(m, cpu, nd, sc)
            sc.priority -= 1
    m[task + TASK_FLAGS] = m[task + TASK_FLAGS] & ~mine | scope
    return sc.nr_reclaimed >= 1 << order


def try_to_free_mem_cgroup_pages(
    m: memoryview, cpu: int, memcg: int, nr_pages: int, gfp: int, may_swap: bool
) -> int:
    """Reclaims from the control group at word `memcg` and its descendants: pages freed."""
    rest = GFP_HIGHUSER_MOVABLE & ~GFP_RECLAIM_MASK
    sc = ScanControl(
        (current_gfp_context(m, cpu, gfp) & GFP_RECLAIM_MASK) | rest,
        reclaim_idx=MAX_NR_ZONES - 1,
        nr_to_reclaim=max(nr_pages, SWAP_CLUSTER_MAX),
        memcg=memcg,
        may_swap=may_swap,
    )
    block = CPU_BLOCKS + cpu * CPU_WORDS
    zonelist = ((m[NODE_DATA + m[block + CPU_NUMA_NODE]] - PAGE_OFFSET) >> 3) + ND_ZONELISTS
    if m[G_TRACE_MASK2] >> (EV_VMSCAN_MEMCG_BEGIN - 64) & 1:
        ev, idx = EV_VMSCAN_MEMCG_BEGIN, sc.reclaim_idx
        trace(m, ev, cpu, 0, 1, sc.gfp_mask, idx, 0, 0, 0)
    task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
    scope = m[task + TASK_FLAGS] & PF_MEMALLOC
    m[task + TASK_FLAGS] |= PF_MEMALLOC
    reclaimed = do_try_to_free_pages(m, cpu, zonelist, sc)
    m[task + TASK_FLAGS] = m[task + TASK_FLAGS] & ~PF_MEMALLOC | scope
    if m[G_TRACE_MASK2] >> (EV_VMSCAN_MEMCG_END - 64) & 1:
        trace(m, EV_VMSCAN_MEMCG_END, cpu, reclaimed, 0, 0, 0, 0, 0, 0)
    return reclaimed
