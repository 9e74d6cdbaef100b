# SPDX-License-Identifier: GPL-2.0-only
"""Zone, NUMA and event counters with their per-cpu deltas (mm/vmstat.c).

Every CPU collects small differences in its pageset and folds them into the zone's global counter
when they pass the stat threshold. The watermark tests read only the global value, so what has been
folded decides which page a request gets; the deltas are therefore exact to the page.

Node counters have their deltas in the node's per_cpu_nodestat in the same way.

The functions here are hot. `ps` is the word index of a pageset, `z` of a zone, `nd` of a node.
"""

from __future__ import annotations

from .kernel_globals import G_NR_CPU_IDS
from .layout import CPU_BLOCKS, CPU_EVENTS, CPU_NUMA_NODE, CPU_WORDS, NODE_DATA, PAGE_OFFSET
from .mm_types import NODES_MASK, NODES_PGSHIFT, P_FLAGS
from .mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MIGRATE_CMA,
    ND_PER_CPU_NODESTATS,
    ND_VM_STAT,
    NODESTAT_DIFF,
    NODESTAT_THRESHOLD,
    NODESTAT_WORDS,
    NR_FREE_CMA_PAGES,
    NR_FREE_PAGES,
    NR_VM_NODE_STAT_ITEMS,
    NR_VM_NUMA_STAT_ITEMS,
    NR_VM_ZONE_STAT_ITEMS,
    NUMA_FOREIGN,
    NUMA_HIT,
    NUMA_LOCAL,
    NUMA_MISS,
    NUMA_OTHER,
    NUMA_STATS_THRESHOLD,
    PSET_NUMA_DIFF,
    PSET_STAT_DIFF,
    PSET_THRESHOLD,
    PSET_WORDS,
    Z_NODE,
    Z_NUMA_STAT,
    Z_PAGESET,
    Z_PRESENT,
    Z_VM_STAT,
    ZONE_WORDS,
)
from .spinlock import add_to_word


def mod_zone_page_state(m: memoryview, cpu: int, z: int, item: int, delta: int) -> None:
    """Adds `delta` to a zone counter through `cpu`'s pageset (__mod_zone_page_state). Hot."""
    ps = ((m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + cpu * PSET_WORDS
    w = ps + PSET_STAT_DIFF + item
    x = delta + m[w]
    t = m[ps + PSET_THRESHOLD]
    if x > t or x < -t:
        add_to_word(m, z + Z_VM_STAT + item, x)
        x = 0
    m[w] = x


def mod_zone_freepage_state(m: memoryview, cpu: int, z: int, nr: int, mt: int) -> None:
    """Adds `nr` pages to NR_FREE_PAGES, and to NR_FREE_CMA_PAGES for CMA pages. Hot."""
    ps = ((m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + cpu * PSET_WORDS
    w = ps + PSET_STAT_DIFF + NR_FREE_PAGES
    x = nr + m[w]
    t = m[ps + PSET_THRESHOLD]
    if x > t or x < -t:
        add_to_word(m, z + Z_VM_STAT + NR_FREE_PAGES, x)
        x = 0
    m[w] = x
    if mt == MIGRATE_CMA:
        mod_zone_page_state(m, cpu, z, NR_FREE_CMA_PAGES, nr)


def mod_node_page_state(m: memoryview, cpu: int, nd: int, item: int, delta: int) -> None:
    """Adds `delta` to a node counter through `cpu`'s nodestat (__mod_node_page_state). Hot."""
    va = m[nd + ND_PER_CPU_NODESTATS]
    if va == 0:
        m[nd + ND_VM_STAT + item] += delta
        return
    ns = ((va - PAGE_OFFSET) >> 3) + cpu * NODESTAT_WORDS
    w = ns + NODESTAT_DIFF + item
    x = delta + m[w]
    t = m[ns + NODESTAT_THRESHOLD]
    if x > t or x < -t:
        add_to_word(m, nd + ND_VM_STAT + item, x)
        x = 0
    m[w] = x


def mod_lruvec_page_state(m: memoryview, cpu: int, p: int, item: int, delta: int) -> None:
    """mod_node_page_state() of the node that struct page `p` is on. Hot."""
    nid = m[p + P_FLAGS] >> NODES_PGSHIFT & NODES_MASK
    mod_node_page_state(m, cpu, (m[NODE_DATA + nid] - PAGE_OFFSET) >> 3, item, delta)


def node_page_state(m: memoryview, nd: int, item: int) -> int:
    """A node counter without the CPUs' deltas, at least 0 (node_page_state). Hot."""
    x = m[nd + ND_VM_STAT + item]
    return x if x > 0 else 0


def global_node_page_state(m: memoryview, item: int) -> int:
    """A node counter summed over all nodes, at least 0 (global_node_page_state). Hot."""
    x = 0
    for nid in range(MAX_NUMNODES):
        va = m[NODE_DATA + nid]
        if va:
            x += m[((va - PAGE_OFFSET) >> 3) + ND_VM_STAT + item]
    return x if x > 0 else 0


def inc_numa_state(m: memoryview, cpu: int, z: int, item: int) -> None:
    """Counts one NUMA event of a zone (__inc_numa_state). Hot."""
    w = ((m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + cpu * PSET_WORDS + PSET_NUMA_DIFF + item
    v = m[w] + 1
    if v > NUMA_STATS_THRESHOLD:
        add_to_word(m, z + Z_NUMA_STAT + item, v)
        v = 0
    m[w] = v


def zone_statistics(m: memoryview, cpu: int, preferred: int, z: int) -> None:
    """NUMA hit, miss, foreign, local and other for one allocation (mm/page_alloc.c). Hot."""
    nid = m[z + Z_NODE]
    if nid == m[preferred + Z_NODE]:
        inc_numa_state(m, cpu, z, NUMA_HIT)
    else:
        inc_numa_state(m, cpu, z, NUMA_MISS)
        inc_numa_state(m, cpu, preferred, NUMA_FOREIGN)
    if nid == m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]:
        inc_numa_state(m, cpu, z, NUMA_LOCAL)
    else:
        inc_numa_state(m, cpu, z, NUMA_OTHER)


def count_vm_events(m: memoryview, cpu: int, item: int, delta: int) -> None:
    """Adds `delta` to one of `cpu`'s event counters (__count_vm_events). Hot."""
    m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_EVENTS + item] += delta


def zone_page_state(m: memoryview, z: int, item: int) -> int:
    """A zone counter without the CPUs' deltas, at least 0 (zone_page_state). Hot."""
    x = m[z + Z_VM_STAT + item]
    return x if x > 0 else 0


def zone_page_state_snapshot(m: memoryview, z: int, item: int) -> int:
    """A zone counter with all CPUs' deltas added, at least 0 (pages). Hot."""
    x = m[z + Z_VM_STAT + item]
    base = (m[z + Z_PAGESET] - PAGE_OFFSET) >> 3
    for cpu in range(m[G_NR_CPU_IDS]):
        x += m[base + cpu * PSET_WORDS + PSET_STAT_DIFF + item]
    return x if x > 0 else 0


def fold_zone_diffs(m: memoryview, cpu: int, z: int) -> None:
    """Folds `cpu`'s deltas of one zone into the global counters. Hot."""
    ps = ((m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + cpu * PSET_WORDS
    for i in range(NR_VM_ZONE_STAT_ITEMS):
        v = m[ps + PSET_STAT_DIFF + i]
        if v:
            m[ps + PSET_STAT_DIFF + i] = 0
            m[z + Z_VM_STAT + i] += v
    for i in range(NR_VM_NUMA_STAT_ITEMS):
        v = m[ps + PSET_NUMA_DIFF + i]
        if v:
            m[ps + PSET_NUMA_DIFF + i] = 0
            m[z + Z_NUMA_STAT + i] += v


def fold_node_diffs(m: memoryview, cpu: int, nd: int) -> None:
    """Folds `cpu`'s deltas of one node into the global counters. Hot."""
    va = m[nd + ND_PER_CPU_NODESTATS]
    if va == 0:
        return
    first = ((va - PAGE_OFFSET) >> 3) + cpu * NODESTAT_WORDS + NODESTAT_DIFF
    for i in range(NR_VM_NODE_STAT_ITEMS):
        v = m[first + i]
        if v:
            m[first + i] = 0
            m[nd + ND_VM_STAT + i] += v


def cpu_vm_stats_fold(m: memoryview, cpu: int) -> None:
    """Folds all deltas of `cpu` into the global counters (cpu_vm_stats_fold). Hot."""
    for nid in range(MAX_NUMNODES):
        va = m[NODE_DATA + nid]
        if va:
            nd = (va - PAGE_OFFSET) >> 3
            for zid in range(MAX_NR_ZONES):
                z = nd + zid * ZONE_WORDS
                if m[z + Z_PRESENT]:
                    fold_zone_diffs(m, cpu, z)
            fold_node_diffs(m, cpu, nd)
