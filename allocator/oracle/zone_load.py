# SPDX-License-Identifier: GPL-2.0-only
"""Writing the nodes, zones, pagesets and lists of a recorded STATE into guest RAM.

Called by `state_load`, which lays the memory out first. All lists are linked in bulk: a list's
frames become three arrays, and three assignments set every next, prev and struct page.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from machine.errors import ImageError

from ..kernel_globals import G_NR_CPU_IDS
from ..layout import BOOT_PAGESETS, PAGE_OFFSET, VMEMMAP_START, va_of_word
from ..list_head import list_init
from ..mm_types import COUNTS_BUDDY, P_COUNTS, P_INDEX, P_NEXT, P_PREV, P_PRIVATE
from ..mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_NR_ZONES,
    MAX_ORDER,
    MIGRATE_PCPTYPES,
    MIGRATE_TYPES,
    ND_KSWAPD_CLASSZONE,
    ND_NODE_ID,
    ND_NR_ZONES,
    ND_PER_CPU_NODESTATS,
    ND_PRESENT,
    ND_SPANNED,
    ND_START_PFN,
    NR_VM_NUMA_STAT_ITEMS,
    NR_VM_ZONE_STAT_ITEMS,
    NR_WMARK,
    PAGEBLOCK_NR_PAGES,
    PSET_BATCH,
    PSET_COUNT,
    PSET_EXPIRE,
    PSET_HIGH,
    PSET_LISTS,
    PSET_NUMA_DIFF,
    PSET_STAT_DIFF,
    PSET_THRESHOLD,
    PSET_WORDS,
    Z_COMPACT_BLOCKSKIP_FLUSH,
    Z_COMPACT_CONSIDERED,
    Z_COMPACT_DEFER_SHIFT,
    Z_COMPACT_FREE_PFN,
    Z_COMPACT_MIGRATE_PFN,
    Z_COMPACT_ORDER_FAILED,
    Z_CONTIGUOUS,
    Z_DRIFT_MARK,
    Z_FLAGS,
    Z_FREE_AREA,
    Z_INITIALIZED,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_NODE,
    Z_NR_HIGHATOMIC,
    Z_NR_ISOLATE,
    Z_NUMA_STAT,
    Z_PAGESET,
    Z_PGDAT,
    Z_PRESENT,
    Z_SPANNED,
    Z_START_PFN,
    Z_VM_STAT,
    Z_WMARK,
)
from ..pageblock import set_pageblock_migratetype, set_pageblock_skip
from .guest import Guest

# The names that a STATE gives to the zone counters, in their order
STAT_NAMES = (
    "nr_free_pages",
    "zone_inactive_anon",
    "zone_active_anon",
    "zone_inactive_file",
    "zone_active_file",
    "zone_unevictable",
    "write_pending",
    "mlock",
    "pagetable",
    "kernel_stack_kb",
    "bounce",
    "free_cma",
)
NUMA_NAMES = ("hit", "miss", "foreign", "interleave_hit", "local", "other")
SIZE_FIELDS = {
    "start": Z_START_PFN,
    "spanned": Z_SPANNED,
    "present": Z_PRESENT,
    "managed": Z_MANAGED,
}
ZONE_FIELDS = {
    "min": Z_WMARK,
    "low": Z_WMARK + 1,
    "high": Z_WMARK + NR_WMARK - 1,
    "hiatomic": Z_NR_HIGHATOMIC,
    "contiguous": Z_CONTIGUOUS,
    "drift_mark": Z_DRIFT_MARK,
    "isolate": Z_NR_ISOLATE,
    "flags": Z_FLAGS,
}
COMPACT_FIELDS = {
    "migrate0": Z_COMPACT_MIGRATE_PFN,
    "migrate1": Z_COMPACT_MIGRATE_PFN + 1,
    "free": Z_COMPACT_FREE_PFN,
    "considered": Z_COMPACT_CONSIDERED,
    "defer_shift": Z_COMPACT_DEFER_SHIFT,
    "order_failed": Z_COMPACT_ORDER_FAILED,
    "blockskip_flush": Z_COMPACT_BLOCKSKIP_FLUSH,
}
PCP_FIELDS = {
    "count": PSET_COUNT,
    "high": PSET_HIGH,
    "batch": PSET_BATCH,
    "thr": PSET_THRESHOLD,
    "expire": PSET_EXPIRE,
}


def load_node(guest: Guest, node: dict[str, Any], nd: int, stats: int) -> None:
    """Fields of a pglist_data at word `nd`; `stats`: word of its per-cpu counters."""
    m = guest.m
    m[nd + ND_NODE_ID] = node["nid"]
    m[nd + ND_NR_ZONES] = node["nr_zones"]
    m[nd + ND_START_PFN] = node["start"]
    m[nd + ND_PRESENT] = node["present"]
    m[nd + ND_SPANNED] = node["spanned"]
    m[nd + ND_PER_CPU_NODESTATS] = va_of_word(stats)
    m[nd + ND_KSWAPD_CLASSZONE] = MAX_NR_ZONES


def load_zone(guest: Guest, zone: dict[str, Any], pagesets: int, boot_pagesets: bool) -> None:
    """Figures of one zone, its empty free lists, its pagesets (at word `pagesets`), its blocks."""
    m = guest.m
    z = guest.zone(zone["nid"], zone["zid"])
    m[z + Z_NODE] = zone["nid"]
    m[z + Z_PGDAT] = va_of_word(guest.node(zone["nid"]))
    m[z + Z_INITIALIZED] = 1 if zone["spanned"] else 0
    for name, offset in (SIZE_FIELDS | ZONE_FIELDS).items():
        m[z + offset] = zone.get(name, 0)
    for i, reserve in enumerate(zone.get("lowmem", [])[:MAX_NR_ZONES]):
        m[z + Z_LOWMEM_RESERVE + i] = reserve
    for i, name in enumerate(STAT_NAMES):
        m[z + Z_VM_STAT + i] = zone.get("stat", {}).get(name, 0)
    for i, name in enumerate(NUMA_NAMES):
        m[z + Z_NUMA_STAT + i] = zone.get("numa", {}).get(name, 0)
    for name, value in (zone.get("compact") or {}).items():
        if name in COMPACT_FIELDS:
            m[z + COMPACT_FIELDS[name]] = value
    for order in range(MAX_ORDER):
        for mt in range(MIGRATE_TYPES):
            list_init(m, z + Z_FREE_AREA + order * FA_WORDS + 2 * mt)
    at = BOOT_PAGESETS if boot_pagesets or not zone.get("pcp") else pagesets
    m[z + Z_PAGESET] = va_of_word(at)
    for cpu in range(guest_cpus(guest)):
        for mt in range(MIGRATE_PCPTYPES):
            list_init(m, at + cpu * PSET_WORDS + PSET_LISTS + 2 * mt)
        if at == BOOT_PAGESETS:
            m[at + cpu * PSET_WORDS + PSET_BATCH] = 1
    load_blocks(guest, zone)


def guest_cpus(guest: Guest) -> int:
    """nr_cpu_ids."""
    count: int = guest.m[G_NR_CPU_IDS]
    return count


def load_blocks(guest: Guest, zone: dict[str, Any]) -> None:
    """Migratetypes and skip bits of the zone's pageblocks. Raises ImageError for a bad digit."""
    blocks = zone.get("pageblocks")
    if not blocks:
        return
    where = f"zone {zone['nid']}:{zone['zid']}"
    skips = zone.get("skip") or ""
    for i, digit in enumerate(blocks["types"]):
        pfn = blocks["start"] + i * PAGEBLOCK_NR_PAGES
        if digit == ".":
            continue
        if digit not in "012345" or not guest.pfn_valid(pfn):
            raise ImageError(f"{where}: pageblock {pfn:#x} is of type {digit!r}")
        set_pageblock_migratetype(guest.m, pfn, int(digit))
        if i < len(skips) and skips[i] in "01":
            set_pageblock_skip(guest.m, pfn, int(skips[i]))


def link_list(guest: Guest, head: int, pfns: Any) -> Any:
    """Links the frames' struct pages, in order, on the list head at word `head`.

    Returns the word indices of the struct pages.
    """
    q = guest.q
    words = guest.page_words(pfns)
    vas = (pfns << 6) + (VMEMMAP_START + 8)
    head_va = PAGE_OFFSET + (head << 3)
    q[words[:-1] + P_NEXT] = vas[1:]
    q[words[1:] + P_PREV] = vas[:-1]
    q[words[-1] + P_NEXT] = head_va
    q[words[0] + P_PREV] = head_va
    guest.m[head] = int(vas[0])
    guest.m[head + 1] = int(vas[-1])
    return words


def load_lists(guest: Guest, state: dict[str, Any], boot_pagesets: bool) -> None:
    """Free lists and per-cpu lists of all zones, in recorded order, with the pagesets' figures."""
    for zone in state["zones"]:
        z = guest.zone(zone["nid"], zone["zid"])
        where = f"STATE {state['tag']} zone {zone['nid']}:{zone['zid']}"
        for area in zone.get("free_area", []):
            order = area["order"]
            if not 0 <= order < MAX_ORDER:
                raise ImageError(f"{where}: free area of order {order}")
            at = z + Z_FREE_AREA + order * FA_WORDS
            guest.m[at + FA_NR_FREE] = area["nr_free"]
            for mt, listed in area["lists"].items():
                if not listed:
                    continue
                if mt not in ("0", "1", "2", "3", "4", "5"):
                    raise ImageError(f"{where}: free list of migratetype {mt!r}")
                pfns = np.asarray(listed, dtype=np.int64)
                check_frames(guest, pfns, order, where)
                words = link_list(guest, at + 2 * int(mt), pfns)
                guest.q[words + P_PRIVATE] = order
                guest.q[words + P_COUNTS] = COUNTS_BUDDY
        for pcp in zone.get("pcp", []):
            load_pageset(guest, z, pcp, where)
    if boot_pagesets and not any(zone.get("pcp") for zone in state["zones"]):
        raise ImageError(f"STATE {state['tag']}: no zone shows the boot pageset")


def check_frames(guest: Guest, pfns: Any, order: int, where: str) -> None:
    """Raises ImageError unless all frames have struct pages and are aligned to the order."""
    bases = guest.section_bases()[pfns >> 15]
    if int((bases == 0).sum()) or int((pfns & ((1 << order) - 1) != 0).sum()):
        raise ImageError(
            f"{where}: a listed block of order {order} is unaligned or has no struct page"
        )


def load_pageset(guest: Guest, z: int, pcp: dict[str, Any], where: str) -> None:
    """One CPU's pageset of the zone at word `z`."""
    m = guest.m
    if not 0 <= pcp["cpu"] < guest_cpus(guest):
        raise ImageError(f"{where}: pageset of CPU {pcp['cpu']}")
    ps = ((m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + pcp["cpu"] * PSET_WORDS
    for name, offset in PCP_FIELDS.items():
        m[ps + offset] = pcp[name]
    for i, value in enumerate(pcp["diff"][:NR_VM_ZONE_STAT_ITEMS]):
        m[ps + PSET_STAT_DIFF + i] = value
    for i, value in enumerate(pcp["numa"][:NR_VM_NUMA_STAT_ITEMS]):
        m[ps + PSET_NUMA_DIFF + i] = value
    for mt, pages in pcp["lists"].items():
        if mt not in ("0", "1", "2"):
            raise ImageError(f"{where}: per-cpu list of migratetype {mt!r}")
        if pages:
            pfns = np.asarray([page[0] for page in pages], dtype=np.int64)
            check_frames(guest, pfns, 0, where)
            words = link_list(guest, ps + PSET_LISTS + 2 * int(mt), pfns)
            guest.q[words + P_INDEX] = np.asarray([page[1] for page in pages], dtype=np.int64)
