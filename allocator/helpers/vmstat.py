# SPDX-License-Identifier: GPL-2.0-only
"""The counters as the kernel reads them (include/linux/vmstat.h, mm/vmstat.c).

A counter has a global part, kept by zone or node, and differences that each CPU has not folded yet.
Most readers look at the global part only and show a negative one as 0; "snapshot" readers add the
differences. The machine-wide totals of the kernel (vm_zone_stat and so on) are exactly the sums of
the zones' and nodes' own parts, so only those exist here. Items are the indices of
`allocator.mmzone` (NR_FREE_PAGES ...) and `allocator.vm_events`.
"""

from __future__ import annotations

from ..layout import CPU_BLOCKS, CPU_EVENTS, CPU_WORDS, NODE_DATA, word_of_va
from ..mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    ND_VM_STAT,
    NR_FREE_PAGES,
    NR_VM_NUMA_STAT_ITEMS,
    PSET_NUMA_DIFF,
    PSET_STAT_DIFF,
    PSET_WORDS,
    Z_NUMA_STAT,
    Z_PAGESET,
    Z_VM_STAT,
    ZONE_WORDS,
)
from ..views import Node, Zone
from ..vm_events import NR_VM_EVENT_ITEMS
from .nodemask import for_each_online_cpu
from .prog import Prog, words


def _zone_words(m: memoryview) -> list[int]:
    found: list[int] = []
    for nid in range(MAX_NUMNODES):
        if m[NODE_DATA + nid]:
            nd = word_of_va(m[NODE_DATA + nid])
            found.extend(nd + zid * ZONE_WORDS for zid in range(MAX_NR_ZONES))
    return found


def zone_page_state(zone: Zone, item: int) -> int:
    """Global part of a zone counter, at least 0."""
    return max(zone.m[zone.word + Z_VM_STAT + item], 0)


def zone_page_state_snapshot(zone: Zone, item: int) -> int:
    """A zone counter with the online CPUs' differences added, at least 0."""
    m = zone.m
    base = word_of_va(m[zone.word + Z_PAGESET])
    value = m[zone.word + Z_VM_STAT + item]
    for cpu in for_each_online_cpu(m):
        value += m[base + cpu * PSET_WORDS + PSET_STAT_DIFF + item]
    return max(value, 0)


def global_zone_page_state(prog: Prog, item: int) -> int:
    """Sum of a counter over all zones, at least 0 (the sum is clipped, not its terms)."""
    m = words(prog)
    return max(sum(m[z + Z_VM_STAT + item] for z in _zone_words(m)), 0)


def nr_free_pages(prog: Prog) -> int:
    """Free pages of the machine, as the global counters have them."""
    return global_zone_page_state(prog, NR_FREE_PAGES)


def sum_zone_node_page_state(node: Node, item: int) -> int:
    """Sum of a zone counter over the zones of a node."""
    return sum(zone_page_state(zone, item) for zone in node.zones)


def node_page_state(node: Node, item: int) -> int:
    """Global part of a node counter, at least 0."""
    return max(node.m[node.word + ND_VM_STAT + item], 0)


def global_node_page_state(prog: Prog, item: int) -> int:
    """Sum of a node counter over all nodes, at least 0."""
    m = words(prog)
    total = sum(
        m[word_of_va(m[NODE_DATA + nid]) + ND_VM_STAT + item]
        for nid in range(MAX_NUMNODES)
        if m[NODE_DATA + nid]
    )
    return max(total, 0)


def zone_numa_state_snapshot(zone: Zone, item: int) -> int:
    """A NUMA event counter of a zone with the online CPUs' differences added."""
    m = zone.m
    base = word_of_va(m[zone.word + Z_PAGESET])
    value = m[zone.word + Z_NUMA_STAT + item]
    for cpu in for_each_online_cpu(m):
        value += m[base + cpu * PSET_WORDS + PSET_NUMA_DIFF + item]
    return value


def sum_zone_numa_state(node: Node, item: int) -> int:
    """A NUMA event counter of a node: the snapshots of its zones (sysfs numastat)."""
    return sum(zone_numa_state_snapshot(zone, item) for zone in node.zones)


def global_numa_state(prog: Prog, item: int) -> int:
    """Sum of a NUMA event counter over all zones, differences not included (/proc/vmstat)."""
    m = words(prog)
    return sum(m[z + Z_NUMA_STAT + item] for z in _zone_words(m))


def global_numa_event_state(prog: Prog, item: int) -> int:
    """drgn's name for global_numa_state(); raises ValueError for an unknown item."""
    if not 0 <= item < NR_VM_NUMA_STAT_ITEMS:
        raise ValueError(f"NUMA event {item}: 0 to {NR_VM_NUMA_STAT_ITEMS - 1}")
    return global_numa_state(prog, item)


def global_vm_event_state(prog: Prog, item: int) -> int:
    """One VM event counter summed over the online CPUs."""
    m = words(prog)
    return sum(m[CPU_BLOCKS + c * CPU_WORDS + CPU_EVENTS + item] for c in for_each_online_cpu(m))


def all_vm_events(prog: Prog) -> list[int]:
    """All VM event counters, in the order of `vm_events.VM_EVENT_NAMES`."""
    return [global_vm_event_state(prog, item) for item in range(NR_VM_EVENT_ITEMS)]
