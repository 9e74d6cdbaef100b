# SPDX-License-Identifier: GPL-2.0-only
"""How much of a node may be dirty page cache (the allocator's part of mm/page-writeback.c).

Requests with __GFP_WRITE are spread: a node whose dirty, unstable and writeback pages exceed its
share of the dirty limit is passed by in the fast path. The share is vm_dirty_ratio percent of what
could be dirtied there: free pages above the node's reserve, and file pages on its LRU lists.

All hot. `nd` is the word index of a pglist_data.
"""

from __future__ import annotations

from .kernel_globals import G_TOTALRESERVE, G_VM_DIRTY_BYTES, G_VM_DIRTY_RATIO
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    MAX_RT_PRIO,
    NODE_DATA,
    PAGE_OFFSET,
    TASK_FLAGS,
    TASK_PRIO,
)
from .mm_types import PAGE_SHIFT
from .mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    ND_TOTALRESERVE,
    ND_VM_STAT,
    NR_ACTIVE_FILE,
    NR_FILE_DIRTY,
    NR_INACTIVE_FILE,
    NR_UNSTABLE_NFS,
    NR_WRITEBACK,
    Z_FREE_PAGES,
    Z_PRESENT,
    ZONE_WORDS,
)

PF_LESS_THROTTLE = 0x100000


def zone_free_pages(m: memoryview, nd: int) -> int:
    """Sum of the global free counters of a node's populated zones (pages). Hot."""
    free = 0
    for zid in range(MAX_NR_ZONES):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_PRESENT]:
            x = m[z + Z_FREE_PAGES]
            free += x if x > 0 else 0
    return free


def node_stat(m: memoryview, nd: int, item: int) -> int:
    """A node counter, 0 where deltas not yet folded make it negative (node_page_state). Hot."""
    x = m[nd + ND_VM_STAT + item]
    return x if x > 0 else 0


def node_dirtyable_memory(m: memoryview, nd: int) -> int:
    """Pages of the node that page cache could dirty. Hot."""
    nr = zone_free_pages(m, nd)
    nr -= min(nr, m[nd + ND_TOTALRESERVE])
    return nr + node_stat(m, nd, NR_INACTIVE_FILE) + node_stat(m, nd, NR_ACTIVE_FILE)


def global_dirtyable_memory(m: memoryview) -> int:
    """Pages of the machine that page cache could dirty, plus one. Hot."""
    free = 0
    cache = 0
    for nid in range(MAX_NUMNODES):
        va = m[NODE_DATA + nid]
        if va:
            nd = (va - PAGE_OFFSET) >> 3
            # the global counters are sums that are clipped at 0 only once they are added up
            for zid in range(MAX_NR_ZONES):
                free += m[nd + zid * ZONE_WORDS + Z_FREE_PAGES]
            cache += m[nd + ND_VM_STAT + NR_INACTIVE_FILE] + m[nd + ND_VM_STAT + NR_ACTIVE_FILE]
    free = max(free, 0)
    free -= min(free, m[G_TOTALRESERVE])
    return free + max(cache, 0) + 1


def node_dirty_limit(m: memoryview, cpu: int, nd: int) -> int:
    """The most pages of the node that may be dirty for the current task. Hot."""
    memory = node_dirtyable_memory(m, nd)
    if m[G_VM_DIRTY_BYTES]:
        pages = (m[G_VM_DIRTY_BYTES] + (1 << PAGE_SHIFT) - 1) >> PAGE_SHIFT
        dirty = pages * memory // global_dirtyable_memory(m)
    else:
        dirty = m[G_VM_DIRTY_RATIO] * memory // 100
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    if m[task + TASK_FLAGS] & PF_LESS_THROTTLE or m[task + TASK_PRIO] < MAX_RT_PRIO:
        dirty += dirty // 4
    return dirty


def node_dirty_ok_on(m: memoryview, cpu: int, nd: int) -> bool:
    """True if the node is within its dirty limit for `cpu`'s current task. Hot."""
    nr = node_stat(m, nd, NR_FILE_DIRTY)
    nr += node_stat(m, nd, NR_UNSTABLE_NFS) + node_stat(m, nd, NR_WRITEBACK)
    return nr <= node_dirty_limit(m, cpu, nd)


def node_dirty_ok(m: memoryview, nd: int) -> bool:
    """node_dirty_ok_on() for callers that do not know their CPU: the task of CPU 0 counts. Hot."""
    return node_dirty_ok_on(m, 0, nd)
