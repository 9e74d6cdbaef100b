# SPDX-License-Identifier: GPL-2.0-only
"""kcompactd: compaction in the background, one daemon a node (mm/compaction.c).

Whoever finds a node short of large blocks leaves the order and the zone index in its pglist_data
(`kswapd_wake.wakeup_kcompactd`); the daemon compacts the node's zones up to that index when its
turn comes. There is no thread: `kcompactd_run_pending` is the turn, taken when the modelled clock
lets the kernel's daemons work.

All hot. `nd` is the word index of a node.
"""

from __future__ import annotations

from .compact_free import (
    CC_CLASSZONE,
    CC_FREE_SCANNED,
    CC_MIGRATE_SCANNED,
    MIGRATE_SYNC_LIGHT,
    init_compact_control,
)
from .compact_suitable import (
    COMPACT_COMPLETE,
    COMPACT_CONTINUE,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_SUCCESS,
    compaction_defer_reset,
    compaction_deferred,
    compaction_suitable,
    defer_compaction,
)
from .compaction import (
    KCOMPACTD_FREE_SCANNED,
    KCOMPACTD_MIGRATE_SCANNED,
    KCOMPACTD_WAKE,
    compact_node,
    compact_zone,
)
from .gfp import GFP_KERNEL
from .kernel_globals import G_TRACE_MASK
from .layout import COMPACT_CONTROL_WORDS, COMPACT_CONTROLS, NODE_DATA, PAGE_OFFSET
from .mmzone import (
    MAX_NUMNODES,
    ND_KCOMPACTD_CLASSZONE,
    ND_KCOMPACTD_ORDER,
    ND_KCOMPACTD_WOKEN,
    ND_NODE_ID,
    ND_NR_ZONES,
    Z_PRESENT,
    ZONE_WORDS,
)
from .pcp import drain_all_pages
from .swap import lru_add_drain_all
from .trace import trace
from .trace_events import EV_KCOMPACTD_SLEEP, EV_KCOMPACTD_WAKE
from .vmstat import count_vm_events


def kcompactd_zone(m: memoryview, cpu: int, cc: int, z: int, order: int, zid: int) -> None:
    """One zone's share of the daemon's work, deferred like direct compaction. Hot."""
    if compaction_deferred(m, cpu, z, order):
        return
    if compaction_suitable(m, cpu, z, order, 0, zid) != COMPACT_CONTINUE:
        return
    classzone = m[cc + CC_CLASSZONE]
    init_compact_control(m, cc, z, order, GFP_KERNEL, MIGRATE_SYNC_LIGHT)
    m[cc + CC_CLASSZONE] = classzone
    status = compact_zone(m, cpu, cc, z)
    if status == COMPACT_SUCCESS:
        compaction_defer_reset(m, cpu, z, order, False)
    elif status in (COMPACT_PARTIAL_SKIPPED, COMPACT_COMPLETE):
        drain_all_pages(m, z)
        defer_compaction(m, cpu, z, order)
    count_vm_events(m, cpu, KCOMPACTD_MIGRATE_SCANNED, m[cc + CC_MIGRATE_SCANNED])
    count_vm_events(m, cpu, KCOMPACTD_FREE_SCANNED, m[cc + CC_FREE_SCANNED])


def kcompactd_do_work(m: memoryview, cpu: int, nd: int) -> None:
    """Compacts the node for the order and index that were asked for. Hot."""
    order = m[nd + ND_KCOMPACTD_ORDER]
    classzone = m[nd + ND_KCOMPACTD_CLASSZONE]
    nid = m[nd + ND_NODE_ID]
    if m[G_TRACE_MASK] >> EV_KCOMPACTD_WAKE & 1:
        trace(m, EV_KCOMPACTD_WAKE, cpu, nid, order, classzone, 0, 0, 0, 0)
    count_vm_events(m, cpu, KCOMPACTD_WAKE, 1)
    cc = COMPACT_CONTROLS + cpu * COMPACT_CONTROL_WORDS
    m[cc + CC_CLASSZONE] = classzone
    for zid in range(classzone + 1):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_PRESENT]:
            kcompactd_zone(m, cpu, cc, z, order, zid)
    if m[nd + ND_KCOMPACTD_ORDER] <= order:
        m[nd + ND_KCOMPACTD_ORDER] = 0
    if m[nd + ND_KCOMPACTD_CLASSZONE] >= classzone:
        m[nd + ND_KCOMPACTD_CLASSZONE] = m[nd + ND_NR_ZONES] - 1
    if m[G_TRACE_MASK] >> EV_KCOMPACTD_SLEEP & 1:
        trace(m, EV_KCOMPACTD_SLEEP, cpu, nid, 0, 0, 0, 0, 0, 0)


def kcompactd_run_pending(m: memoryview, cpu: int) -> int:
    """Gives the daemon of every node where it was woken its turn; how many there were. Hot."""
    worked = 0
    for nid in range(MAX_NUMNODES):
        va = m[NODE_DATA + nid]
        nd = (va - PAGE_OFFSET) >> 3
        if va and m[nd + ND_KCOMPACTD_WOKEN]:
            # it sleeps only when nothing was asked for while it worked
            while m[nd + ND_KCOMPACTD_ORDER] > 0:
                kcompactd_do_work(m, cpu, nd)
            m[nd + ND_KCOMPACTD_WOKEN] = 0
            worked += 1
    return worked


def compact_nodes(m: memoryview, cpu: int) -> None:
    """Compacts all memory (/proc/sys/vm/compact_memory). Hot."""
    lru_add_drain_all(m)
    for nid in range(MAX_NUMNODES):
        va = m[NODE_DATA + nid]
        if va:
            compact_node(m, cpu, (va - PAGE_OFFSET) >> 3)


def compact_one_node(m: memoryview, cpu: int, nd: int) -> None:
    """Compacts one node (/sys/devices/system/node/nodeN/compact). Hot."""
    lru_add_drain_all(m)
    compact_node(m, cpu, nd)
