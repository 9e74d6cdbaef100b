# SPDX-License-Identifier: GPL-2.0-only
"""Zonelists: in which order a node's requests try the zones of the machine (mm/page_alloc.c).

Every online node has two lists of zonerefs in its pglist_data: with fallback, and its own zones
alone for __GFP_THISNODE. The fallback list takes nodes by distance. Ties go to the next higher node
id rather than a lower one, and then to the node that fewer others have as their first choice of
that distance (`node_load`), so that neighbours do not all lean on one node. Within a node zones run
from the highest to the lowest; zones without managed pages are left out.

The kernel also means to avoid nodes with CPUs, but builds the lists before any CPU is entered into
a node's mask, so that penalty never acts and is not here.
"""

from __future__ import annotations

from .boot_context import mask_nodes, node_word, online_nodes
from .gfp import GFP_HIGHUSER_MOVABLE, gfp_zone
from .kernel_globals import G_MOBILITY_DISABLED, G_NODES_MEMORY, G_NR_ONLINE_NODES
from .layout import CPU_BLOCKS, CPU_NUMA_NODE, PAGE_OFFSET, va_of_word
from .mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MIGRATE_TYPES,
    ND_NOFALLBACK,
    ND_ZONELISTS,
    PAGEBLOCK_NR_PAGES,
    WMARK_HIGH,
    Z_MANAGED,
    Z_WMARK,
    ZONE_MOVABLE,
    ZONE_NAMES,
    ZONE_WORDS,
    ZONEREF_WORDS,
    ZR_IDX,
    ZR_ZONE,
)
from .numa import node_distance
from .printk import KERN_DEBUG, Printk


def find_next_best_node(m: memoryview, node: int, used: set[int], load: list[int]) -> int:
    """The node that comes next in `node`'s fallback order, -1 when all are used; marks it used."""
    if node not in used:
        used.add(node)
        return node
    best, best_value = -1, 0
    for n in mask_nodes(m[G_NODES_MEMORY]):
        if n in used:
            continue
        value = node_distance(m, node, n) + (n < node)
        value = value * m[G_NR_ONLINE_NODES] * MAX_NUMNODES + load[n]
        if best < 0 or value < best_value:
            best, best_value = n, value
    if best >= 0:
        used.add(best)
    return best


def build_zonerefs_node(m: memoryview, nid: int, zonerefs: int) -> int:
    """Appends a node's zones at word `zonerefs`, highest first; the word behind them."""
    nd = node_word(m, nid)
    for zid in range(MAX_NR_ZONES - 1, -1, -1):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_MANAGED]:
            m[zonerefs + ZR_ZONE] = va_of_word(z)
            m[zonerefs + ZR_IDX] = zid
            zonerefs += ZONEREF_WORDS
    return zonerefs


def build_zonelists(m: memoryview, nid: int, load: list[int]) -> list[int]:
    """Both lists of node `nid`; `load` (by node id) is updated. Nodes in fallback order."""
    used: set[int] = set()
    order: list[int] = []
    left: int = m[G_NR_ONLINE_NODES]
    previous = nid
    while (node := find_next_best_node(m, nid, used, load)) >= 0:
        if node_distance(m, nid, node) != node_distance(m, nid, previous):
            load[node] = left
        order.append(node)
        previous = node
        left -= 1
    nd = node_word(m, nid)
    for at, nodes in ((nd + ND_ZONELISTS, order), (nd + ND_NOFALLBACK, [nid])):
        for node in nodes:
            at = build_zonerefs_node(m, node, at)
        m[at + ZR_ZONE] = m[at + ZR_IDX] = 0
    return order


def zonerefs(m: memoryview, first: int) -> list[tuple[int, int]]:
    """(zone word, zone index) of the list whose first zoneref is at word `first`."""
    found = []
    while m[first + ZR_ZONE]:
        found.append(((m[first + ZR_ZONE] - PAGE_OFFSET) >> 3, m[first + ZR_IDX]))
        first += ZONEREF_WORDS
    return found


def nr_free_zone_pages(m: memoryview, offset: int) -> int:
    """Managed pages above the high watermarks, of all zones up to index `offset`."""
    node: int = m[CPU_BLOCKS + CPU_NUMA_NODE]
    return sum(
        max(m[z + Z_MANAGED] - m[z + Z_WMARK + WMARK_HIGH], 0)
        for z, zid in zonerefs(m, node_word(m, node) + ND_ZONELISTS)
        if zid <= offset
    )


def build_all_zonelists(m: memoryview, printk: Printk | None = None) -> None:
    """Zonelists of all online nodes, and whether there is enough memory to group by mobility."""
    load = [0] * MAX_NUMNODES
    for nid in online_nodes(m):
        build_zonelists(m, nid, load)
    total = nr_free_zone_pages(m, gfp_zone(GFP_HIGHUSER_MOVABLE))
    m[G_MOBILITY_DISABLED] = int(total < PAGEBLOCK_NR_PAGES * MIGRATE_TYPES)
    if printk:
        _report(m, printk, total)


def policy_zone(m: memoryview) -> int:
    """The highest zone in any zonelist, ZONE_MOVABLE aside: the one that mempolicies apply to."""
    highest = 0
    for nid in online_nodes(m):
        for _, zid in zonerefs(m, node_word(m, nid) + ND_ZONELISTS):
            if zid != ZONE_MOVABLE:
                highest = max(highest, zid)
    return highest


def _report(m: memoryview, printk: Printk, total: int) -> None:
    for nid in online_nodes(m):
        nd = node_word(m, nid)
        for name, first in (("general", nd + ND_ZONELISTS), ("thisnode", nd + ND_NOFALLBACK)):
            refs = zonerefs(m, first)
            for zid in range(MAX_NR_ZONES):
                if m[nd + zid * ZONE_WORDS + Z_MANAGED]:
                    text = "".join(f"{_nid(m, z, i)}:{ZONE_NAMES[i]} " for z, i in refs if i <= zid)
                    label = f"{name} {nid}:{ZONE_NAMES[zid]}"
                    printk(f"mminit::zonelist {label} = {text}", KERN_DEBUG)
    grouping = "off" if m[G_MOBILITY_DISABLED] else "on"
    count = m[G_NR_ONLINE_NODES]
    printk(f"Built {count} zonelists, mobility grouping {grouping}.  Total pages: {total}")
    printk(f"Policy zone: {ZONE_NAMES[policy_zone(m)]}")


def _nid(m: memoryview, z: int, zid: int) -> int:
    nd = z - zid * ZONE_WORDS
    return next(nid for nid in online_nodes(m) if node_word(m, nid) == nd)
