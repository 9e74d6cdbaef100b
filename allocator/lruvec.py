# SPDX-License-Identifier: GPL-2.0-only
"""Whose lists a page is on: a set of LRU lists for each node and memory control group.

The pages of a node that are charged to no group (to the root group) are on the lists in its
`pglist_data`; those of a group are on the lists of that group's `mem_cgroup_per_node`, which also
counts them by zone. Node and zone counters go over all groups, and `memcg_lru_size` in the node is
what of them belongs to groups: the rest is root's own. So a machine without groups pays one test a
page.

All hot. `lv` is the word index of a lruvec, `nd` of a node, `p` of a struct page, `memcg` of a
control group. (struct lruvec and mem_cgroup_per_node; mem_cgroup_page_lruvec, mem_cgroup_lruvec of
mm/memcontrol.c; lruvec_lru_size of mm/vmscan.c)
"""

from __future__ import annotations

from .layout import MEM_CGROUP, MEM_CGROUPS, NODE_DATA, PAGE_OFFSET
from .mm_types import NODES_MASK, NODES_PGSHIFT, P_MEMCG
from .mmzone import (
    LRUVEC,
    MAX_NR_ZONES,
    ND_LRUVEC,
    ND_MEMCG_LRU,
    ND_NODE_ID,
    NR_LRU_LISTS,
    NR_ZONE_LRU_BASE,
    Z_MANAGED,
    ZONE_WORDS,
)
from .structs import Struct, array, scalar
from .vmstat import zone_page_state_snapshot

RECLAIM_PRIORITIES = 13
MEM_CGROUP_PER_NODE = Struct(
    "mem_cgroup_per_node",
    [
        ("lruvec", "struct lruvec", LRUVEC, 1),
        scalar("memcg", "struct mem_cgroup *"),
        array("lru_zone_size", MAX_NR_ZONES * NR_LRU_LISTS),
        array("iter_position", RECLAIM_PRIORITIES, "struct mem_cgroup *"),
        array("iter_generation", RECLAIM_PRIORITIES, "unsigned int"),
    ],
)
PN_LRUVEC = MEM_CGROUP_PER_NODE["lruvec"]
PN_MEMCG = MEM_CGROUP_PER_NODE["memcg"]
PN_LRU_ZONE_SIZE = MEM_CGROUP_PER_NODE["lru_zone_size"]
PN_ITER_POSITION = MEM_CGROUP_PER_NODE["iter_position"]
PN_ITER_GENERATION = MEM_CGROUP_PER_NODE["iter_generation"]
PN_WORDS = MEM_CGROUP_PER_NODE.words
MC_NODEINFO = MEM_CGROUP["nodeinfo"]

LV_LISTS = LRUVEC["lists"]
LV_RECENT_ROTATED = LRUVEC["recent_rotated"]
LV_RECENT_SCANNED = LRUVEC["recent_scanned"]
LV_INACTIVE_AGE = LRUVEC["inactive_age"]
LV_REFAULTS = LRUVEC["refaults"]
LV_PGDAT = LRUVEC["pgdat"]


def mem_cgroup_nodeinfo(m: memoryview, memcg: int, nid: int) -> int:
    """The group's mem_cgroup_per_node of node `nid`, 0 if it has none. Hot."""
    table = m[memcg + MC_NODEINFO]
    if table == 0:
        return 0
    va = m[(table - PAGE_OFFSET >> 3) + nid]
    return va - PAGE_OFFSET >> 3 if va else 0


def mem_cgroup_lruvec(m: memoryview, nd: int, memcg: int) -> int:
    """The lists of a group on a node; the node's own for root (or 0). Hot."""
    if memcg == 0 or memcg == MEM_CGROUPS:
        return nd + ND_LRUVEC
    pn = mem_cgroup_nodeinfo(m, memcg, m[nd + ND_NODE_ID])
    return pn + PN_LRUVEC if pn else nd + ND_LRUVEC


def page_lruvec(m: memoryview, p: int) -> int:
    """The lists that page `p` (a head) belongs on (mem_cgroup_page_lruvec). Hot."""
    nd = (m[NODE_DATA + (m[p] >> NODES_PGSHIFT & NODES_MASK)] - PAGE_OFFSET) >> 3
    va = m[p + P_MEMCG]
    if va == 0:
        return nd + ND_LRUVEC
    return mem_cgroup_lruvec(m, nd, va - PAGE_OFFSET >> 3)


def lruvec_node(m: memoryview, lv: int) -> int:
    """The node of a set of lists (lruvec_pgdat). Hot."""
    return m[lv + LV_PGDAT] - PAGE_OFFSET >> 3


def lruvec_memcg(m: memoryview, lv: int) -> int:
    """The group of a set of lists (lruvec_memcg). Hot."""
    if lv == lruvec_node(m, lv) + ND_LRUVEC:
        return MEM_CGROUPS
    return m[lv - PN_LRUVEC + PN_MEMCG] - PAGE_OFFSET >> 3


def mem_cgroup_update_lru_size(
    m: memoryview, nd: int, lv: int, lru: int, zid: int, nr: int
) -> None:
    """Adds `nr` pages to a group's own count of a list; nothing to do for root. Hot."""
    if lv != nd + ND_LRUVEC:
        item = zid * NR_LRU_LISTS + lru
        m[lv - PN_LRUVEC + PN_LRU_ZONE_SIZE + item] += nr
        m[nd + ND_MEMCG_LRU + item] += nr


def lruvec_lru_size(m: memoryview, lv: int, lru: int, zone_idx: int) -> int:
    """Pages on one list in zones up to index `zone_idx` (MAX_NR_ZONES: all), exactly. Hot."""
    nd = lruvec_node(m, lv)
    size = 0
    for zid in range(min(zone_idx + 1, MAX_NR_ZONES)):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_MANAGED]:
            item = zid * NR_LRU_LISTS + lru
            if lv != nd + ND_LRUVEC:
                size += m[lv - PN_LRUVEC + PN_LRU_ZONE_SIZE + item]
            else:
                size += zone_page_state_snapshot(m, z, NR_ZONE_LRU_BASE + lru)
                size -= m[nd + ND_MEMCG_LRU + item]
    return size
