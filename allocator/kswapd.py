# SPDX-License-Identifier: GPL-2.0-only
"""kswapd: reclaim in the background, one daemon a node (mm/vmscan.c).

The slow path leaves an order and a zone index in the pglist_data of a node that is short of memory,
and wakes its daemon (`kswapd_wake`). In its turn the daemon reclaims until some zone up to that
index is above its high watermark, then clears the skip hints of compaction where they are due,
wakes kcompactd, and takes a nap of a tenth of a second; if the node is balanced then, it sleeps
until it is woken. After 16 rounds that freed nothing the node counts as hopeless, and is left to
direct reclaim until that frees something.

There are no threads: `run_daemons` gives the daemons their turns when whoever called the kernel is
about to go back to the guest. What the thread would remember meanwhile is in the node
(kswapd_state and its neighbours). `nd` is the word index of a node.
"""

from __future__ import annotations

from .compact_scan import reset_isolation_suitable
from .compact_suitable import compact_gap
from .flusher import writeback_tick
from .gfp import GFP_KERNEL
from .kcompactd import kcompactd_run_pending
from .kernel_globals import G_CLOCK, G_MM_INIT_DONE, G_TOTAL_SWAP_PAGES, G_TRACE_MASK2
from .kswapd_wake import (
    KSWAPD_ASLEEP,
    KSWAPD_NAPS,
    KSWAPD_RUNS,
    KSWAPD_WOKEN,
    KSWAPD_WOKEN_EARLY,
    MAX_RECLAIM_RETRIES,
    kswapd_classzone_idx,
    pgdat_balanced,
    wakeup_kcompactd,
)
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    NODE_DATA,
    PAGE_OFFSET,
    PF_KSWAPD,
    PF_MEMALLOC,
    PF_SWAPWRITE,
    TASK_FLAGS,
)
from .lruvec import mem_cgroup_lruvec
from .memcg_tree import mem_cgroup_iter
from .mmzone import (
    LRU_ACTIVE_ANON,
    MAX_NR_ZONES,
    MAX_NUMNODES,
    ND_FLAGS,
    ND_KSWAPD_ALLOC_ORDER,
    ND_KSWAPD_CLASSZONE,
    ND_KSWAPD_FAILURES,
    ND_KSWAPD_NAP_END,
    ND_KSWAPD_ORDER,
    ND_KSWAPD_OWN_CLASSZONE,
    ND_KSWAPD_RECLAIM_ORDER,
    ND_KSWAPD_STATE,
    ND_NODE_ID,
    PGDAT_CONGESTED,
    PGDAT_DIRTY,
    PGDAT_WRITEBACK,
    WMARK_HIGH,
    Z_COMPACT_BLOCKSKIP_FLUSH,
    Z_MANAGED,
    Z_PRESENT,
    Z_WMARK,
    ZONE_WORDS,
)
from .pageset import (
    calculate_normal_threshold,
    calculate_pressure_threshold,
    set_pgdat_percpu_threshold,
)
from .scan_control import DEF_PRIORITY, SWAP_CLUSTER_MAX, ScanControl
from .trace import trace
from .trace_events import EV_VMSCAN_KSWAPD_SLEEP, EV_VMSCAN_KSWAPD_WAKE
from .vm_events import VM_EVENT_NAMES
from .vmscan import shrink_node, snapshot_refaults
from .vmscan_lru import inactive_list_is_low, shrink_active_list
from .vmstat import count_vm_events

PAGEOUTRUN = VM_EVENT_NAMES.index("pageoutrun")
LOW_WMARK_HIT = VM_EVENT_NAMES.index("kswapd_low_wmark_hit_quickly")
HIGH_WMARK_HIT = VM_EVENT_NAMES.index("kswapd_high_wmark_hit_quickly")
NAP_NS = 100_000_000
"""HZ / 10."""
MAX_TURNS = 8
"""Rounds of balancing in one turn of a daemon that does not come to sleep; it goes on in its next
turn."""


def prepare_kswapd_sleep(m: memoryview, nd: int, order: int, classzone: int) -> bool:
    """True if the daemon may sleep: the node is balanced, or hopeless."""
    if m[nd + ND_KSWAPD_FAILURES] >= MAX_RECLAIM_RETRIES:
        return True
    if not pgdat_balanced(m, nd, order, classzone):
        return False
    m[nd + ND_FLAGS] &= ~(PGDAT_CONGESTED | PGDAT_DIRTY | PGDAT_WRITEBACK)
    return True


def kswapd_shrink_node(m: memoryview, cpu: int, nd: int, sc: ScanControl) -> bool:
    """Reclaims once in proportion to the watermarks; True if it looked at pages enough.

    When room for compaction is made, the rest is only about order 0."""
    sc.nr_to_reclaim = 0
    for zid in range(sc.reclaim_idx + 1):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_MANAGED]:
            sc.nr_to_reclaim += max(m[z + Z_WMARK + WMARK_HIGH], SWAP_CLUSTER_MAX)
    shrink_node(m, cpu, nd, sc)
    if sc.order and sc.nr_reclaimed >= compact_gap(sc.order):
        sc.order = 0
    return sc.nr_scanned >= sc.nr_to_reclaim


def age_active_anon(m: memoryview, cpu: int, nd: int, sc: ScanControl) -> None:
    """Moves some anonymous pages to the inactive list, so that all get looked at in time."""
    if m[G_TOTAL_SWAP_PAGES] == 0:
        return
    memcg = mem_cgroup_iter(m, 0, 0)
    while memcg:
        lv = mem_cgroup_lruvec(m, nd, memcg)
        if inactive_list_is_low(m, cpu, lv, 0, sc, True):
            shrink_active_list(m, cpu, lv, SWAP_CLUSTER_MAX, sc, LRU_ACTIVE_ANON)
        memcg = mem_cgroup_iter(m, 0, memcg)


def balance_pgdat(m: memoryview, cpu: int, nd: int, order: int, classzone: int) -> int:
    """Reclaims until the node is balanced or the priorities are through; the order it ended at."""
    sc = ScanControl(GFP_KERNEL, order, classzone, kswapd=True)
    count_vm_events(m, cpu, PAGEOUTRUN, 1)
    while True:
        before = sc.nr_reclaimed
        sc.reclaim_idx = classzone
        if pgdat_balanced(m, nd, sc.order, classzone):
            break
        age_active_anon(m, cpu, nd, sc)
        if sc.priority < DEF_PRIORITY - 2:
            sc.may_writepage = True
        sc.nr_scanned = 0
        enough = kswapd_shrink_node(m, cpu, nd, sc)
        if not enough or sc.nr_reclaimed == before:
            sc.priority -= 1
        if sc.priority < 1:
            if not sc.nr_reclaimed:
                m[nd + ND_KSWAPD_FAILURES] += 1
            break
    snapshot_refaults(m, nd, 0)
    return sc.order


def nap(
    m: memoryview, cpu: int, nd: int, alloc_order: int, reclaim_order: int, classzone: int
) -> None:
    """The daemon sleeps for a tenth of a second: hints for compaction, and kcompactd is woken."""
    for zid in range(MAX_NR_ZONES):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_PRESENT] and m[z + Z_COMPACT_BLOCKSKIP_FLUSH]:
            reset_isolation_suitable(m, z)
    wakeup_kcompactd(m, cpu, nd, alloc_order, classzone)
    m[nd + ND_KSWAPD_ALLOC_ORDER] = alloc_order
    m[nd + ND_KSWAPD_RECLAIM_ORDER] = reclaim_order
    m[nd + ND_KSWAPD_OWN_CLASSZONE] = classzone
    m[nd + ND_KSWAPD_NAP_END] = m[G_CLOCK] + NAP_NS
    m[nd + ND_KSWAPD_STATE] = KSWAPD_NAPS


def end_sleep(m: memoryview, cpu: int, nd: int) -> bool:
    """What the daemon does when it comes out of its sleep; False if it goes on sleeping.

    Woken out of a nap, it keeps what it balanced for. After a whole nap it sleeps until it is woken
    if the node is balanced still. (the second half of kswapd_try_to_sleep)"""
    order, classzone = m[nd + ND_KSWAPD_RECLAIM_ORDER], m[nd + ND_KSWAPD_OWN_CLASSZONE]
    state = m[nd + ND_KSWAPD_STATE]
    if state == KSWAPD_NAPS:
        if m[G_CLOCK] < m[nd + ND_KSWAPD_NAP_END]:
            return False
        if prepare_kswapd_sleep(m, nd, order, classzone):
            if m[G_TRACE_MASK2] >> (EV_VMSCAN_KSWAPD_SLEEP - 64) & 1:
                trace(m, EV_VMSCAN_KSWAPD_SLEEP, cpu, m[nd + ND_NODE_ID], 0, 0, 0, 0, 0, 0)
            set_pgdat_percpu_threshold(m, nd, calculate_normal_threshold)
            m[nd + ND_KSWAPD_STATE] = KSWAPD_ASLEEP
            return False
        count_vm_events(m, cpu, HIGH_WMARK_HIT, 1)
    elif state == KSWAPD_WOKEN_EARLY:
        m[nd + ND_KSWAPD_CLASSZONE] = kswapd_classzone_idx(m, nd, classzone)
        m[nd + ND_KSWAPD_ORDER] = max(m[nd + ND_KSWAPD_ORDER], order)
        count_vm_events(m, cpu, LOW_WMARK_HIT, 1)
    elif state == KSWAPD_WOKEN:
        set_pgdat_percpu_threshold(m, nd, calculate_pressure_threshold)
    return True


def kswapd_turn(m: memoryview, cpu: int, nd: int) -> bool:
    """The node's daemon goes on where it stopped; False if it sleeps (kswapd)."""
    if m[nd + ND_KSWAPD_STATE] == KSWAPD_ASLEEP or not end_sleep(m, cpu, nd):
        return False
    m[nd + ND_KSWAPD_STATE] = KSWAPD_RUNS
    for _ in range(MAX_TURNS):
        order, classzone = m[nd + ND_KSWAPD_ORDER], kswapd_classzone_idx(m, nd, 0)
        m[nd + ND_KSWAPD_ORDER] = 0
        m[nd + ND_KSWAPD_CLASSZONE] = MAX_NR_ZONES
        if m[G_TRACE_MASK2] >> (EV_VMSCAN_KSWAPD_WAKE - 64) & 1:
            ev = EV_VMSCAN_KSWAPD_WAKE
            trace(m, ev, cpu, m[nd + ND_NODE_ID], classzone, order, 0, 0, 0, 0)
        reached = balance_pgdat(m, cpu, nd, order, classzone)
        if reached >= order:
            order = reached = m[nd + ND_KSWAPD_ORDER]
            classzone = kswapd_classzone_idx(m, nd, classzone)
        if prepare_kswapd_sleep(m, nd, reached, classzone):
            nap(m, cpu, nd, order, reached, classzone)
            return True
        # it would not sleep a moment later either
        count_vm_events(m, cpu, HIGH_WMARK_HIT, 1)
    return True


def kswapd_run_node(m: memoryview, cpu: int, nd: int) -> bool:
    """Gives the node's daemon its turn, on `cpu` and in the place of its task; False if it
    sleeps."""
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    mine = PF_MEMALLOC | PF_SWAPWRITE | PF_KSWAPD
    scope = m[task + TASK_FLAGS] & mine
    m[task + TASK_FLAGS] |= mine
    worked = kswapd_turn(m, cpu, nd)
    m[task + TASK_FLAGS] = m[task + TASK_FLAGS] & ~mine | scope
    return worked


def kswapd_run_pending(m: memoryview, cpu: int) -> int:
    """Gives every node's daemon its turn; how many worked."""
    worked = 0
    for nid in range(MAX_NUMNODES):
        va = m[NODE_DATA + nid]
        if va and m[((va - PAGE_OFFSET) >> 3) + ND_KSWAPD_STATE] != KSWAPD_ASLEEP:
            worked += kswapd_run_node(m, cpu, (va - PAGE_OFFSET) >> 3)
    return worked


def run_daemons(m: memoryview, cpu: int) -> None:
    """The turns of flusher, kswapd and kcompactd, before the guest goes on.

    Nothing on a machine without processes and files: there is nothing to reclaim."""
    if m[G_MM_INIT_DONE] == 0:
        return
    writeback_tick(m, cpu)
    kswapd_run_pending(m, cpu)
    kcompactd_run_pending(m, cpu)
