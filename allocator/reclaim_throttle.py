# SPDX-License-Identifier: GPL-2.0-only
"""Holding direct reclaim back while the last reserves go (throttle_direct_reclaim, mm/vmscan.c).

A process that finds less than half of its node's min watermarks free does not reclaim itself, since
that, too, needs memory: it wakes the node's kswapd and waits until there is more. A process that
holds a file system back waits a second at most, kernel threads and the dying do not wait.

Nobody else runs meanwhile, so a wait is a turn of kswapd (`kswapd`) after the other, and modelled
time that passes between them. 4.20 waits for as long as it takes; where MAX_WAITS turns of a
daemon that is not yet hopeless have not helped, only others could, and the process goes on.

`nd` is the word index of a node.
"""

from __future__ import annotations

from .blockdev import blk_wait_any
from .compact_free import fatal_signal_pending
from .get_page import first_zones_zonelist
from .gfp import GFP_FS_BIT, GFP_ZONEMASK, ZONE_TABLE
from .kernel_globals import G_CLOCK
from .kswapd import NAP_NS, kswapd_run_node
from .kswapd_wake import MAX_RECLAIM_RETRIES, kswapd_sleeps, wake_kswapd
from .layout import CPU_BLOCKS, CPU_CURRENT, CPU_WORDS, PAGE_OFFSET, PF_KTHREAD, TASK_FLAGS
from .mmzone import (
    ND_KSWAPD_CLASSZONE,
    ND_KSWAPD_FAILURES,
    NR_FREE_PAGES,
    WMARK_MIN,
    Z_MANAGED,
    Z_PGDAT,
    Z_WMARK,
    ZONE_NORMAL,
    ZONE_WORDS,
    ZONEREF_WORDS,
    ZR_IDX,
    ZR_ZONE,
)
from .reclaim_retry import zone_reclaimable_pages
from .vm_events import VM_EVENT_NAMES
from .vmstat import count_vm_events, zone_page_state

PGSCAN_DIRECT_THROTTLE = VM_EVENT_NAMES.index("pgscan_direct_throttle")
SECOND_NS = 1_000_000_000
MAX_WAITS = 64


def reserves_hold(m: memoryview, nd: int) -> bool:
    """True if more than half of the min watermarks of the node's zones up to Normal is free.

    Zones without anything to reclaim do not count. (the sum in allow_direct_reclaim)"""
    reserve = free = 0
    for zid in range(ZONE_NORMAL + 1):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_MANAGED] and zone_reclaimable_pages(m, z):
            reserve += m[z + Z_WMARK + WMARK_MIN]
            free += zone_page_state(m, z, NR_FREE_PAGES)
    return reserve == 0 or free > reserve // 2


def allow_direct_reclaim(m: memoryview, nd: int) -> bool:
    """True if a process may reclaim from the node itself; else its kswapd has been woken."""
    if m[nd + ND_KSWAPD_FAILURES] >= MAX_RECLAIM_RETRIES or reserves_hold(m, nd):
        return True
    if kswapd_sleeps(m, nd):
        m[nd + ND_KSWAPD_CLASSZONE] = min(m[nd + ND_KSWAPD_CLASSZONE], ZONE_NORMAL)
        wake_kswapd(m, nd)
    return False


def throttling_node(m: memoryview, zonelist: int, high_zoneidx: int, nodemask: int) -> int:
    """The node that the request depends on: the first with a zone up to Normal; 0 for none."""
    zr = first_zones_zonelist(m, zonelist, high_zoneidx, nodemask)
    while m[zr + ZR_ZONE]:
        if m[zr + ZR_IDX] <= ZONE_NORMAL:
            z = (m[zr + ZR_ZONE] - PAGE_OFFSET) >> 3
            return (m[z + Z_PGDAT] - PAGE_OFFSET) >> 3
        zr = first_zones_zonelist(m, zr + ZONEREF_WORDS, high_zoneidx, nodemask)
    return 0


def throttle_direct_reclaim(
    m: memoryview, cpu: int, gfp: int, zonelist: int, nodemask: int
) -> bool:
    """Waits where the reserves are half gone; True if the task has been killed meanwhile, so that
    it should not reclaim, but die."""
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    if m[task + TASK_FLAGS] & PF_KTHREAD or fatal_signal_pending(m, cpu):
        return False
    nd = throttling_node(m, zonelist, ZONE_TABLE[gfp & GFP_ZONEMASK], nodemask)
    if nd == 0 or allow_direct_reclaim(m, nd):
        return False
    count_vm_events(m, cpu, PGSCAN_DIRECT_THROTTLE, 1)
    end = m[G_CLOCK] + SECOND_NS
    for _ in range(MAX_WAITS):
        kswapd_run_node(m, cpu, nd)
        if fatal_signal_pending(m, cpu) or allow_direct_reclaim(m, nd):
            break
        if not blk_wait_any(m, cpu):
            m[G_CLOCK] += NAP_NS
        if gfp & GFP_FS_BIT == 0 and m[G_CLOCK] >= end:
            break
    return fatal_signal_pending(m, cpu)
