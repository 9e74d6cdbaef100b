# SPDX-License-Identifier: GPL-2.0-only
"""node_reclaim_mode: reclaim on the near node before going to a far one (mm/vmscan.c).

With node_reclaim_mode set, the allocation loop may reclaim from a node within RECLAIM_DISTANCE
instead of passing its zone by. The mode bits and the tests that come before any scanning are here,
the scan itself is in `vmscan`. A machine without processes and files has nothing to scan.

All hot.
"""

from __future__ import annotations

from .gfp import GFP_DIRECT_RECLAIM_BIT
from .kernel_globals import G_MM_INIT_DONE, G_NODE_RECLAIM_MODE, G_NODES_CPU
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_NUMA_NODE,
    CPU_WORDS,
    NODE_DISTANCE,
    PAGE_OFFSET,
    PF_MEMALLOC,
    TASK_FLAGS,
)
from .mmzone import (
    MAX_NUMNODES,
    ND_FLAGS,
    ND_MIN_SLAB,
    ND_MIN_UNMAPPED,
    ND_NODE_ID,
    ND_VM_STAT,
    NR_ACTIVE_FILE,
    NR_FILE_DIRTY,
    NR_FILE_MAPPED,
    NR_FILE_PAGES,
    NR_INACTIVE_FILE,
    NR_SLAB_RECLAIMABLE,
    PGDAT_RECLAIM_LOCKED,
    RECLAIM_DISTANCE,
    Z_NODE,
    Z_PGDAT,
    ZR_ZONE,
)
from .vm_events import ZONE_RECLAIM_FAILED
from .vmstat import count_vm_events
from .watermark import zone_watermark_ok

RECLAIM_ZONE = 1 << 0
RECLAIM_WRITE = 1 << 1
RECLAIM_UNMAP = 1 << 2

NODE_RECLAIM_NOSCAN = -2
NODE_RECLAIM_FULL = -1
NODE_RECLAIM_SOME = 0
NODE_RECLAIM_SUCCESS = 1


def zone_allows_reclaim(m: memoryview, local: int, z: int) -> bool:
    """True if zone `z` is near enough to the preferred zone `local`. Hot."""
    distance = m[NODE_DISTANCE + m[local + Z_NODE] * MAX_NUMNODES + m[z + Z_NODE]]
    return distance <= RECLAIM_DISTANCE


def node_pagecache_reclaimable(m: memoryview, nd: int) -> int:
    """Page cache pages of node `nd` that the mode lets reclaim take (pages). Hot."""
    stat = nd + ND_VM_STAT
    mode = m[G_NODE_RECLAIM_MODE]
    if mode & RECLAIM_UNMAP:
        pages = m[stat + NR_FILE_PAGES]
    else:
        file_lru = m[stat + NR_INACTIVE_FILE] + m[stat + NR_ACTIVE_FILE]
        pages = file_lru - m[stat + NR_FILE_MAPPED]
        pages = max(pages, 0)
    delta = 0 if mode & RECLAIM_WRITE else m[stat + NR_FILE_DIRTY]
    delta = min(delta, pages)
    return pages - delta


def node_reclaim_scan(m: memoryview, cpu: int, nd: int, gfp: int, order: int) -> int:
    """vmscan's __node_reclaim(): 1 if it freed as many pages as the request has."""
    from .vmscan import node_reclaim_pages

    return 1 if node_reclaim_pages(m, cpu, nd, gfp, order) else 0


def node_reclaim(m: memoryview, cpu: int, nd: int, gfp: int, order: int) -> int:
    """Tries to reclaim from the node at word `nd`; one of the NODE_RECLAIM values. Hot."""
    slab = m[nd + ND_VM_STAT + NR_SLAB_RECLAIMABLE]
    if node_pagecache_reclaimable(m, nd) <= m[nd + ND_MIN_UNMAPPED] and slab <= m[nd + ND_MIN_SLAB]:
        return NODE_RECLAIM_FULL
    block = CPU_BLOCKS + cpu * CPU_WORDS
    task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
    if gfp & GFP_DIRECT_RECLAIM_BIT == 0 or m[task + TASK_FLAGS] & PF_MEMALLOC:
        return NODE_RECLAIM_NOSCAN
    nid = m[nd + ND_NODE_ID]
    if m[G_NODES_CPU] >> nid & 1 and nid != m[block + CPU_NUMA_NODE]:
        return NODE_RECLAIM_NOSCAN
    if m[nd + ND_FLAGS] & PGDAT_RECLAIM_LOCKED:
        return NODE_RECLAIM_NOSCAN
    enough = 0
    if m[G_MM_INIT_DONE]:
        m[nd + ND_FLAGS] |= PGDAT_RECLAIM_LOCKED
        enough = node_reclaim_scan(m, cpu, nd, gfp, order)
        m[nd + ND_FLAGS] &= ~PGDAT_RECLAIM_LOCKED
    if enough == 0:
        count_vm_events(m, cpu, ZONE_RECLAIM_FAILED, 1)
    return NODE_RECLAIM_SUCCESS if enough else NODE_RECLAIM_SOME


def node_reclaim_made_room(
    m: memoryview,
    cpu: int,
    preferred_zr: int,
    z: int,
    order: int,
    gfp: int,
    mark: int,
    classzone: int,
    flags: int,
) -> bool:
    """True if node reclaim was allowed for zone `z` and lifted it over `mark`. Hot."""
    local = (m[preferred_zr + ZR_ZONE] - PAGE_OFFSET) >> 3
    if not zone_allows_reclaim(m, local, z):
        return False
    nd = (m[z + Z_PGDAT] - PAGE_OFFSET) >> 3
    if node_reclaim(m, cpu, nd, gfp, order) < NODE_RECLAIM_SOME:
        return False
    return zone_watermark_ok(m, z, order, mark, classzone, flags)
