# SPDX-License-Identifier: GPL-2.0-only
"""Guest RAM as a STATE: the other direction of state_load, for machines nobody has recorded."""

from __future__ import annotations

from typing import Any

import numpy as np

from allocator.kernel_globals import G_NODES_CPU, G_NR_CPU_IDS
from allocator.layout import (
    CPU_BLOCKS,
    CPU_EARLY_NODE,
    CPU_NUMA_NODE,
    CPU_ONLINE,
    CPU_WORDS,
    NODE_DISTANCE,
    PAGE_OFFSET,
)
from allocator.mm_types import P_INDEX
from allocator.mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MAX_ORDER,
    ND_NR_ZONES,
    ND_PRESENT,
    ND_SPANNED,
    ND_START_PFN,
    PAGEBLOCK_NR_PAGES,
    PSET_LISTS,
    PSET_NUMA_DIFF,
    PSET_STAT_DIFF,
    PSET_WORDS,
    Z_FREE_AREA,
    Z_LOWMEM_RESERVE,
    Z_NUMA_STAT,
    Z_PAGESET,
    Z_VM_STAT,
    ZONE_NAMES,
)
from allocator.oracle.guest import Guest
from allocator.oracle.page_flags import flag_masks, zone_members
from allocator.oracle.state_compare import page_zone_runs
from allocator.oracle.state_load import GLOBALS
from allocator.oracle.zone_compare import walk, zonelist_of
from allocator.oracle.zone_load import (
    COMPACT_FIELDS,
    NUMA_NAMES,
    PCP_FIELDS,
    SIZE_FIELDS,
    STAT_NAMES,
    ZONE_FIELDS,
)
from allocator.pageblock import get_pageblock_migratetype

FAR = 1 << 30


def ranges(mask: Any, start: int) -> list[list[int]]:
    """A mask of a span as [start, length] ranges."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return [[int(a) + start, int(b - a)] for a, b in edges.reshape(-1, 2)]


def dump_pcp(guest: Guest, ps: int, cpu: int, online: int) -> dict[str, Any]:
    """One CPU's pageset."""
    m = guest.m
    lists = {
        str(mt): [
            [p, m[guest.page(p) + P_INDEX]] for p in walk(guest, ps + PSET_LISTS + 2 * mt, FAR)[0]
        ]
        for mt in range(3)
    }
    return {
        "cpu": cpu,
        "online": online,
        **{name: m[ps + offset] for name, offset in PCP_FIELDS.items()},
        "diff": [m[ps + PSET_STAT_DIFF + i] for i in range(len(STAT_NAMES))],
        "numa": [m[ps + PSET_NUMA_DIFF + i] for i in range(len(NUMA_NAMES))],
        "lists": lists,
    }


def dump_area(guest: Guest, z: int, order: int) -> dict[str, Any]:
    """One free area with its lists in order."""
    at = z + Z_FREE_AREA + order * FA_WORDS
    found = {str(mt): walk(guest, at + 2 * mt, FAR)[0] for mt in range(6)}
    return {
        "order": order,
        "nr_free": guest.m[at + FA_NR_FREE],
        "lists": {mt: pfns for mt, pfns in found.items() if pfns},
    }


def dump_zone(guest: Guest, nid: int, zid: int) -> dict[str, Any]:
    """Everything that a STATE says about a zone."""
    m = guest.m
    z = guest.zone(nid, zid)
    words = SIZE_FIELDS | ZONE_FIELDS
    zone: dict[str, Any] = {"nid": nid, "zid": zid, "name": ZONE_NAMES[zid]}
    zone |= {name: m[z + offset] for name, offset in words.items()}
    zone["lowmem"] = [m[z + Z_LOWMEM_RESERVE + i] for i in range(4)]
    zone["stat"] = {name: m[z + Z_VM_STAT + i] for i, name in enumerate(STAT_NAMES)}
    zone["numa"] = {name: m[z + Z_NUMA_STAT + i] for i, name in enumerate(NUMA_NAMES)}
    zone["compact"] = {name: m[z + offset] for name, offset in COMPACT_FIELDS.items()}
    zone |= {"pcp": [], "free_area": [], "pageblocks": None, "skip": None}
    zone |= {name: [] for name in ("reserved", "lru", "slab", "compound", "movable")}
    if zone["present"]:
        base = (m[z + Z_PAGESET] - PAGE_OFFSET) >> 3
        zone["pcp"] = [
            dump_pcp(
                guest, base + cpu * PSET_WORDS, cpu, m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE]
            )
            for cpu in range(m[G_NR_CPU_IDS])
        ]
        zone["free_area"] = [dump_area(guest, z, order) for order in range(MAX_ORDER)]
        start, spanned = zone["start"], zone["spanned"]
        first = start & -PAGEBLOCK_NR_PAGES
        blocks = range(first, start + spanned, PAGEBLOCK_NR_PAGES)
        types = [
            str(get_pageblock_migratetype(m, p)) if guest.pfn_valid(p) else "." for p in blocks
        ]
        zone["pageblocks"] = {"start": first, "types": "".join(types)}
        mine = zone_members(guest, nid, zid, start, spanned)
        for name, mask in flag_masks(guest, start, spanned).items():
            zone[name] = ranges(mask & mine, start)
    return zone


def dump_state(guest: Guest, tag: str = "dump") -> dict[str, Any]:
    """Guest RAM as a parsed STATE file."""
    m = guest.m
    nids = [nid for nid in range(MAX_NUMNODES) if guest.node(nid) >= 0]
    nodes = [
        {
            "nid": nid,
            "start": m[guest.node(nid) + ND_START_PFN],
            "spanned": m[guest.node(nid) + ND_SPANNED],
            "present": m[guest.node(nid) + ND_PRESENT],
            "nr_zones": m[guest.node(nid) + ND_NR_ZONES],
            "has_cpu": m[G_NODES_CPU] >> nid & 1,
            "zonelists": [zonelist_of(guest, nid, which) for which in (0, 1)],
        }
        for nid in nids
    ]
    cpus = [
        {
            "cpu": cpu,
            "node": m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_EARLY_NODE],
            "numa_node": m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE],
            "online": m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE],
        }
        for cpu in range(m[G_NR_CPU_IDS])
    ]
    max_pfn = m[GLOBALS["max_pfn"]]
    top = -(-max_pfn // 32768) * 32768
    return {
        "tag": tag,
        "globals": {"cpu": 0, **{name: m[word] for name, word in GLOBALS.items()}},
        "cpus": cpus,
        "dist": {
            str(i): {str(j): m[NODE_DISTANCE + i * MAX_NUMNODES + j] for j in nids} for i in nids
        },
        "memblock": None,
        "nodes": nodes,
        "zones": [dump_zone(guest, nid, zid) for nid in nids for zid in range(MAX_NR_ZONES)],
        "page_zone": page_zone_runs(guest, top),
    }
