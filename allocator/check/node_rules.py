# SPDX-License-Identifier: GPL-2.0-only
"""Nodes: pglist_data, zonelists, distances, and the masks that name nodes.

A zonelist may only hold zones of online nodes, each once, a node's zones together and from the
highest down, nodes by distance from the node whose list it is (ties prefer a higher id), and the
__GFP_THISNODE list is the part of it that is the node's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..boot_context import mask_nodes
from ..kernel_globals import G_NODES_CPU, G_NODES_MEMORY, G_NODES_ONLINE, G_NR_ONLINE_NODES
from ..kswapd_wake import KSWAPD_RUNS
from ..layout import NODE_DATA, NODE_DISTANCE
from ..mmzone import (
    LOCAL_DISTANCE,
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MAX_ORDER,
    MAX_ZONES_PER_ZONELIST,
    ND_KSWAPD_CLASSZONE,
    ND_KSWAPD_FAILURES,
    ND_KSWAPD_ORDER,
    ND_KSWAPD_STATE,
    ND_NODE_ID,
    ND_NOFALLBACK,
    ND_NR_ZONES,
    ND_PER_CPU_NODESTATS,
    ND_PRESENT,
    ND_SPANNED,
    ND_START_PFN,
    ND_ZONELISTS,
    NR_VM_NODE_STAT_ITEMS,
    PER_CPU_NODESTAT,
    ZONE_WORDS,
    ZONEREF_WORDS,
    ZR_IDX,
    ZR_ZONE,
)
from .registry import register

if TYPE_CHECKING:
    from .context import Check

RULES = {
    "node-data": "NODE_DATA points at a pglist_data for exactly the online nodes",
    "node-masks": "node counts and masks agree: online, with memory, with CPUs",
    "node-static": "node_id, nr_zones and node_start_pfn are what the zones say",
    "node-pages": "present and spanned pages of a node are the sums over its zones",
    "node-kswapd": "what is asked of kswapd is an order and a class zone",
    "node-stats": "a node's per-cpu counters are in RAM, their thresholds in range",
    "zonelist-zone": "every zoneref points at a zone with pages and holds its index",
    "zonelist-order": "a zonelist has each zone once, by distance, then from the highest down",
    "zonelist-thisnode": "the list without fallback is the node's own zones of the other list",
    "node-distance": "a node is 10 from itself, and distances fit a SLIT",
}
NODESTAT_THRESHOLD = PER_CPU_NODESTAT["stat_threshold"]
NODESTAT_DIFF = PER_CPU_NODESTAT["vm_node_stat_diff"]
Zonelist = list[tuple[int, int]]


def check_masks(check: Check) -> None:
    """NODE_DATA, nr_online_nodes and the node states."""
    m = check.m
    online = mask_nodes(m[G_NODES_ONLINE])
    for nid in range(MAX_NUMNODES):
        if (nid in check.nodes) != (nid in online) or (m[NODE_DATA + nid] != 0) != (nid in online):
            said = "online" if nid in online else "offline"
            text = f"is {said}, NODE_DATA leads to {m[NODE_DATA + nid] & (1 << 64) - 1:#x}"
            check.add("node-data", f"node {nid}", text, NODE_DATA + nid)
    if m[G_NR_ONLINE_NODES] != len(online):
        text = f"nr_online_nodes is {m[G_NR_ONLINE_NODES]}, the mask has {len(online)}"
        check.add("node-masks", "node masks", text, G_NR_ONLINE_NODES)
    with_memory = [nid for nid, nd in check.nodes.items() if m[nd + ND_PRESENT] > 0]
    if mask_nodes(m[G_NODES_MEMORY]) != with_memory:
        text = f"nodes with memory {mask_nodes(m[G_NODES_MEMORY])}, but {with_memory} have some"
        check.add("node-masks", "node masks", text, G_NODES_MEMORY)
    if set(mask_nodes(m[G_NODES_CPU])) - set(online):
        text = f"nodes with CPUs {mask_nodes(m[G_NODES_CPU])} are not all online"
        check.add("node-masks", "node masks", text, G_NODES_CPU)


def check_pgdat(check: Check) -> None:
    """Fields of every pglist_data."""
    m = check.m
    for nid, nd in check.nodes.items():
        where = f"node {nid}"
        zones = [zone for zone in check.all_zones if zone.nid == nid]
        spanned = [zone for zone in zones if zone.end > zone.start]
        highest = max((zone.zid + 1 for zone in spanned), default=0)
        for offset, value, field in (
            (ND_NODE_ID, nid, "node_id"),
            (ND_NR_ZONES, highest, "nr_zones"),
            (ND_START_PFN, min((zone.start for zone in spanned), default=0), "node_start_pfn"),
        ):
            if m[nd + offset] != value:
                text = f"{field} is {m[nd + offset]}, the zones say {value}"
                check.add("node-static", where, text, nd + offset)
        for offset, value, field in (
            (ND_PRESENT, sum(zone.present for zone in zones), "node_present_pages"),
            (ND_SPANNED, sum(zone.end - zone.start for zone in zones), "node_spanned_pages"),
        ):
            if m[nd + offset] != value:
                text = f"{field} is {m[nd + offset]:,}, its zones add up to {value:,}"
                check.add("node-pages", where, text, nd + offset)
        for offset, top, field in (
            (ND_KSWAPD_ORDER, MAX_ORDER - 1, "kswapd_order"),
            (ND_KSWAPD_CLASSZONE, MAX_NR_ZONES, "kswapd_classzone_idx"),
            (ND_KSWAPD_FAILURES, 1 << 31, "kswapd_failures"),
            (ND_KSWAPD_STATE, KSWAPD_RUNS, "kswapd_state"),
        ):
            if not 0 <= m[nd + offset] <= top:
                check.add("node-kswapd", where, f"{field} is {m[nd + offset]}", nd + offset)
        _check_nodestats(check, nid, nd)


def _check_nodestats(check: Check, nid: int, nd: int) -> None:
    m = check.m
    size = PER_CPU_NODESTAT.words
    first = check.structure(m[nd + ND_PER_CPU_NODESTATS], check.cpus * size)
    if first < 0:
        text = "per_cpu_nodestats does not lead into RAM"
        check.add("node-stats", f"node {nid}", text, nd + ND_PER_CPU_NODESTATS)
        return
    for cpu in range(check.cpus):
        for i in range(NR_VM_NODE_STAT_ITEMS + 1):
            word = first + cpu * size + (NODESTAT_DIFF + i - 1 if i else NODESTAT_THRESHOLD)
            if not (-128 if i else 0) <= m[word] <= 127:
                text = f"per-cpu counter {i} of cpu {cpu} is {m[word]}"
                check.add("node-stats", f"node {nid}", text, word)


def read_zonelist(check: Check, nid: int, first: int, name: str) -> Zonelist:
    """(node, zone) of each zoneref of the list at word `first`; bad ones are left out."""
    m = check.m
    by_word = {zone.word: zone for zone in check.all_zones}
    found: Zonelist = []
    for i in range(MAX_ZONES_PER_ZONELIST + 1):
        at = first + i * ZONEREF_WORDS
        va = m[at + ZR_ZONE]
        if va == 0:
            if m[at + ZR_IDX]:
                text = f"the end of the {name} list has an index"
                check.add("zonelist-zone", f"node {nid}", text, at + ZR_IDX)
            return found
        zone = by_word.get(check.structure(va, ZONE_WORDS))
        if zone is None or not zone.present:
            text = f"entry {i} of the {name} list points at no zone with pages"
            check.add("zonelist-zone", f"node {nid}", text, at + ZR_ZONE)
        elif m[at + ZR_IDX] != zone.zid:
            text = f"entry {i} of the {name} list is {zone.label}, its index {m[at + ZR_IDX]}"
            check.add("zonelist-zone", f"node {nid}", text, at + ZR_IDX)
        else:
            found.append((zone.nid, zone.zid))
    check.add("zonelist-zone", f"node {nid}", f"the {name} list has no end", first)
    return found


def check_zonelists(check: Check) -> None:
    """Both zonelists of every node."""
    m = check.m
    for nid, nd in check.nodes.items():
        where = f"node {nid}"
        full = read_zonelist(check, nid, nd + ND_ZONELISTS, "fallback")
        own = read_zonelist(check, nid, nd + ND_NOFALLBACK, "thisnode")

        def key(entry: tuple[int, int], nid: int = nid) -> tuple[int, int]:
            node, zid = entry
            distance = m[NODE_DISTANCE + nid * MAX_NUMNODES + node] + (node < nid)
            return (-1 if node == nid else distance), -zid

        seen: list[tuple[int, int]] = []
        for i, entry in enumerate(full):
            before = full[i - 1] if i else None
            split = any(node == entry[0] for node, _ in full[: max(i - 1, 0)]) and (
                before is not None and before[0] != entry[0]
            )
            same = before is not None and before[0] == entry[0]
            late = before is not None and (
                before[1] <= entry[1] if same else key(before)[0] > key(entry)[0]
            )
            if entry in seen or split or late:
                text = (
                    f"entry {i} of the fallback list, zone {entry[0]}:{entry[1]}, is out of place"
                )
                at = nd + ND_ZONELISTS + i * ZONEREF_WORDS
                check.add("zonelist-order", where, text, at)
                break
            seen.append(entry)
        if own != [entry for entry in full if entry[0] == nid]:
            text = f"the thisnode list has {own}"
            check.add("zonelist-thisnode", where, text, nd + ND_NOFALLBACK)


def check_distances(check: Check) -> None:
    """The distances between the online nodes."""
    for i in check.nodes:
        for j in check.nodes:
            word = NODE_DISTANCE + i * MAX_NUMNODES + j
            value = check.m[word]
            if (value != LOCAL_DISTANCE) if i == j else not LOCAL_DISTANCE <= value <= 255:
                text = f"its distance to node {j} is {value}"
                check.add("node-distance", f"node {i}", text, word)


def run(check: Check) -> None:
    """All rules about nodes."""
    check_masks(check)
    check_pgdat(check)
    check_zonelists(check)
    check_distances(check)


register("nodes", RULES, run, rank=30)
