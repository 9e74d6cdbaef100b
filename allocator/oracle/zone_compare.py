# SPDX-License-Identifier: GPL-2.0-only
"""Nodes, zones, pagesets and lists in guest RAM against those of a recorded STATE.

Every function returns the differences as lines a person can read, in the recording's terms:
"zone 0:1 free list order 3 type 1: position 2 is frame 0x1a80, recorded 0x1b00". Walking a list
stops after more entries than the zone has pages, so that a broken list is a difference and not a
hang.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

import numpy as np

from ..kernel_globals import G_NODES_CPU
from ..layout import PAGE_OFFSET, VMEMMAP_START
from ..mm_types import COUNTS_BUDDY, MAPCOUNT_MASK, P_COUNTS, P_INDEX, P_NEXT, P_PREV, P_PRIVATE
from ..mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_ZONES_PER_ZONELIST,
    ND_NODE_ID,
    ND_NOFALLBACK,
    ND_NR_ZONES,
    ND_PRESENT,
    ND_SPANNED,
    ND_START_PFN,
    ND_ZONELISTS,
    PAGEBLOCK_NR_PAGES,
    PSET_LISTS,
    PSET_NUMA_DIFF,
    PSET_STAT_DIFF,
    PSET_WORDS,
    Z_FREE_AREA,
    Z_LOWMEM_RESERVE,
    Z_NODE,
    Z_NUMA_STAT,
    Z_PAGESET,
    Z_SPANNED,
    Z_VM_STAT,
    ZONE_WORDS,
    ZONEREF_WORDS,
    ZR_IDX,
    ZR_ZONE,
)
from ..pageblock import get_pageblock_migratetype, get_pageblock_skip
from .guest import Guest
from .page_flags import flag_masks, range_mask, zone_members
from .zone_load import (
    COMPACT_FIELDS,
    NUMA_NAMES,
    PCP_FIELDS,
    SIZE_FIELDS,
    STAT_NAMES,
    ZONE_FIELDS,
)


def zonelist_of(guest: Guest, nid: int, which: int) -> list[list[int]]:
    """A node's zonelist as [node, zone index] pairs; `which`: 0 with fallback, 1 this node only."""
    m = guest.m
    zr = guest.node(nid) + (ND_NOFALLBACK if which else ND_ZONELISTS)
    found: list[list[int]] = []
    while m[zr + ZR_ZONE] and len(found) < MAX_ZONES_PER_ZONELIST:
        z = (m[zr + ZR_ZONE] - PAGE_OFFSET) >> 3
        found.append([m[z + Z_NODE], m[zr + ZR_IDX]])
        zr += ZONEREF_WORDS
    return found


def compare_zonelists(guest: Guest, node: dict[str, Any]) -> Iterator[str]:
    """Both zonelists of a recorded node."""
    for which, recorded in enumerate(node["zonelists"][:2]):
        ours = zonelist_of(guest, node["nid"], which)
        if ours != [entry[:2] for entry in recorded]:
            name = "this-node zonelist" if which else "zonelist"
            yield f"node {node['nid']} {name}: {spell(ours)}, recorded {spell(recorded)}"


def spell(zonelist: list[list[int]]) -> str:
    """A zonelist as words."""
    return " ".join(f"{entry[0]}:{entry[1]}" for entry in zonelist) or "(empty)"


def compare_node(guest: Guest, node: dict[str, Any]) -> Iterator[str]:
    """Figures and zonelists of one node."""
    nid = node["nid"]
    nd = guest.node(nid)
    if nd < 0:
        yield f"node {nid} does not exist"
        return
    fields = {
        "nid": ND_NODE_ID,
        "start": ND_START_PFN,
        "spanned": ND_SPANNED,
        "present": ND_PRESENT,
        "nr_zones": ND_NR_ZONES,
    }
    yield from compare_words(guest, nd, node, fields, f"node {nid}")
    has_cpu = guest.m[G_NODES_CPU] >> nid & 1
    if has_cpu != node["has_cpu"]:
        yield f"node {nid} has_cpu: {has_cpu}, recorded {node['has_cpu']}"
    yield from compare_zonelists(guest, node)


def compare_words(
    guest: Guest, base: int, recorded: dict[str, Any], fields: dict[str, int], where: str
) -> Iterator[str]:
    """Named words from `base` on, those that the recording has."""
    for name, offset in fields.items():
        if name in recorded and guest.m[base + offset] != recorded[name]:
            yield f"{where} {name}: {guest.m[base + offset]}, recorded {recorded[name]}"


def compare_zone(guest: Guest, zone: dict[str, Any], items: Container[int]) -> Iterator[str]:
    """Everything that the STATE says about one zone; of its counters those in `items`."""
    where = f"zone {zone['nid']}:{zone['zid']}"
    nd = guest.node(zone["nid"])
    if nd < 0:
        yield f"{where} does not exist"
        return
    z = nd + zone["zid"] * ZONE_WORDS
    size_fields = SIZE_FIELDS
    if not zone["spanned"]:
        # 4.20 leaves the start of an empty zone 0, or where an absent range would begin
        size_fields = {k: v for k, v in SIZE_FIELDS.items() if k != "start"}
    yield from compare_words(guest, z, zone, size_fields | ZONE_FIELDS, where)
    if "stat" not in zone:
        return
    m = guest.m
    lowmem = [m[z + Z_LOWMEM_RESERVE + i] for i in range(len(zone["lowmem"]))]
    if lowmem != zone["lowmem"]:
        yield f"{where} lowmem_reserve: {lowmem}, recorded {zone['lowmem']}"
    stats = {name: Z_VM_STAT + i for i, name in enumerate(STAT_NAMES) if i in items}
    yield from compare_words(guest, z, zone["stat"], stats, where)
    numa = {name: Z_NUMA_STAT + i for i, name in enumerate(NUMA_NAMES)}
    yield from compare_words(guest, z, zone["numa"], numa, f"{where} numa")
    yield from compare_words(
        guest, z, zone.get("compact") or {}, COMPACT_FIELDS, f"{where} compact"
    )
    yield from compare_free_lists(guest, z, zone, where)
    for pcp in zone["pcp"]:
        yield from compare_pageset(guest, z, pcp, where, items)
    yield from compare_blocks(guest, zone, where)
    yield from compare_flags(guest, zone, where)


def walk(guest: Guest, head: int, limit: int) -> tuple[list[int], str]:
    """Frames on the list head at word `head`, and what is wrong with the list ("" if nothing)."""
    m = guest.m
    head_va = PAGE_OFFSET + (head << 3)
    pfns: list[int] = []
    previous, va = head_va, m[head]
    while va != head_va:
        pfn, rest = divmod(va - VMEMMAP_START - 8, 64)
        if rest or not guest.pfn_valid(pfn):
            return pfns, f"broken link {va & 0xFFFFFFFFFFFFFFFF:#x}"
        page = guest.page(pfn)
        if m[page + P_PREV] != previous:
            return pfns, f"frame {pfn:#x} does not point back"
        pfns.append(pfn)
        if len(pfns) > limit:
            return pfns, "endless list"
        previous, va = va, m[page + P_NEXT]
    return pfns, "" if m[head + 1] == previous else "the head's last entry is another one"


def compare_list(ours: list[int], recorded: list[int], where: str) -> Iterator[str]:
    """Two lists of frames, the first position at which they differ."""
    if ours == recorded:
        return
    for i, (a, b) in enumerate(zip(ours, recorded, strict=False)):
        if a != b:
            yield f"{where}: position {i} is frame {a:#x}, recorded {b:#x}"
            return
    yield f"{where}: {len(ours)} entries, recorded {len(recorded)}"


def compare_free_lists(guest: Guest, z: int, zone: dict[str, Any], where: str) -> Iterator[str]:
    """All free lists of a zone in order, their counts, and the struct pages of their blocks."""
    m = guest.m
    listed = 0
    for area in zone["free_area"]:
        order = area["order"]
        at = z + Z_FREE_AREA + order * FA_WORDS
        if m[at + FA_NR_FREE] != area["nr_free"]:
            yield f"{where} order {order} nr_free: {m[at + FA_NR_FREE]}, recorded {area['nr_free']}"
        for mt in range(6):
            name = f"{where} free list order {order} type {mt}"
            pfns, broken = walk(guest, at + 2 * mt, m[z + Z_SPANNED] + PAGEBLOCK_NR_PAGES)
            listed += len(pfns)
            if broken:
                yield f"{name}: {broken}"
            yield from compare_list(pfns, area["lists"].get(str(mt), []), name)
            if pfns:
                words = guest.page_words(np.asarray(pfns, dtype=np.int64))
                bad = (guest.q[words + P_PRIVATE] != order) | (
                    guest.q[words + P_COUNTS] & MAPCOUNT_MASK != COUNTS_BUDDY
                )
                for i in np.flatnonzero(bad)[:1]:
                    yield f"{name}: frame {pfns[i]:#x} is not marked as a free block of that order"


def compare_pageset(
    guest: Guest, z: int, pcp: dict[str, Any], where: str, items: Container[int]
) -> Iterator[str]:
    """One CPU's pageset of a zone: figures, deltas, and lists in order with page->index."""
    m = guest.m
    where = f"{where} cpu {pcp['cpu']}"
    ps = ((m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + pcp["cpu"] * PSET_WORDS
    yield from compare_words(guest, ps, pcp, PCP_FIELDS, where)
    for name, offset in (("diff", PSET_STAT_DIFF), ("numa", PSET_NUMA_DIFF)):
        if name not in pcp:
            continue
        ours = [m[ps + offset + i] for i in range(len(pcp[name]))]
        if name == "diff":
            ours = [ours[i] if i in items else pcp[name][i] for i in range(len(ours))]
        if ours != pcp[name]:
            yield f"{where} {name}: {ours}, recorded {pcp[name]}"
    for mt in range(3):
        recorded = pcp["lists"].get(str(mt), [])
        pfns, broken = walk(guest, ps + PSET_LISTS + 2 * mt, 1 << 20)
        name = f"{where} list {mt}"
        if broken:
            yield f"{name}: {broken}"
        yield from compare_list(pfns, [page[0] for page in recorded], name)
        for pfn, page in zip(pfns, recorded, strict=False):
            index = m[guest.page(pfn) + P_INDEX]
            if pfn == page[0] and index != page[1]:
                yield f"{name}: frame {pfn:#x} remembers type {index}, recorded {page[1]}"
                break


def compare_blocks(guest: Guest, zone: dict[str, Any], where: str) -> Iterator[str]:
    """Pageblock types and skip bits."""
    blocks = zone["pageblocks"]
    if not blocks:
        return
    for name, recorded, read in (
        ("type", blocks["types"], get_pageblock_migratetype),
        ("skip", zone.get("skip") or "", get_pageblock_skip),
    ):
        for i, digit in enumerate(recorded):
            pfn = blocks["start"] + i * PAGEBLOCK_NR_PAGES
            ours = str(read(guest.m, pfn)) if guest.pfn_valid(pfn) else "."
            if ours != digit:
                yield f"{where} pageblock {pfn:#x} {name}: {ours}, recorded {digit}"
                break


def compare_flags(guest: Guest, zone: dict[str, Any], where: str) -> Iterator[str]:
    """Reserved, LRU, slab, compound and movable frames of the zone's own pages."""
    if not zone["spanned"]:
        return
    start, spanned = zone["start"], zone["spanned"]
    mine = zone_members(guest, zone["nid"], zone["zid"], start, spanned)
    for name, mask in flag_masks(guest, start, spanned).items():
        if zone.get(name) is None:
            continue
        odd = np.flatnonzero((mask ^ range_mask(zone[name], start, spanned)) & mine)
        if odd.size:
            verb = "is" if mask[odd[0]] else "is not"
            count = f" and {odd.size - 1} more" if odd.size > 1 else ""
            yield f"{where}: frame {start + odd[0]:#x}{count} {verb} {name}, not so recorded"
