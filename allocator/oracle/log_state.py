# SPDX-License-Identifier: GPL-2.0-only
"""STATEs and struct pages as far as a free-running log knows them.

A log holds no LRU membership, no page flags and no counters but those of free pages.
`compare_log_state` therefore compares a STATE without these; `settle_claim` sets LRU membership
such that a recorded steal comes out as recorded; `undress` makes a page what it is when its last
reference is dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..layout import PAGE_OFFSET
from ..mm_types import (
    COUNTS_BUDDY,
    COUNTS_FREE,
    COUNTS_ONE,
    MAPCOUNT_MASK,
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    P_NEXT,
    P_PREV,
    P_PRIVATE,
    PG_HEAD,
    PG_LRU,
    REF_SHIFT,
    ZONEID_PGSHIFT,
)
from ..mmzone import (
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    NR_FREE_CMA_PAGES,
    NR_FREE_PAGES,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    PSET_NUMA_DIFF,
    PSET_WORDS,
    Z_NUMA_STAT,
    Z_PAGESET,
    Z_SPANNED,
    Z_START_PFN,
)
from ..pageblock import get_pageblock_migratetype
from .events import Event
from .guest import Guest
from .state_compare import compare_state
from .zone_load import NUMA_NAMES

LINKS_MASK = -1 << ZONEID_PGSHIFT
KNOWN_ITEMS = (NR_FREE_PAGES, NR_FREE_CMA_PAGES)
KNOWN_GLOBALS = ("nr_cpu_ids", "max_pfn", "totalram", "min_free_kbytes", "highest_memmap_pfn")


def known_part(state: dict[str, Any]) -> dict[str, Any]:
    """The STATE without what a log cannot know."""
    zones = []
    for zone in state["zones"]:
        known = dict(zone)
        for name in ("lru", "slab", "compound", "movable", "skip", "compact", "contiguous"):
            known[name] = None if name in zone else zone.get(name)
        known.pop("contiguous", None)
        known["stat"] = {
            name: value
            for name, value in zone["stat"].items()
            if name in ("nr_free_pages", "free_cma")
        }
        known["numa"] = {}
        known["pcp"] = [
            {key: value for key, value in pcp.items() if key not in ("numa", "expire", "online")}
            for pcp in zone["pcp"]
        ]
        zones.append(known)
    recorded = state["globals"]
    return {
        **state,
        "zones": zones,
        "nodes": [],
        "cpus": [{k: v for k, v in c.items() if k != "online"} for c in state["cpus"]],
        "globals": {name: recorded[name] for name in KNOWN_GLOBALS if name in recorded},
    }


def compare_log_state(guest: Guest, state: dict[str, Any]) -> list[str]:
    """Differences between guest RAM and the part of a STATE that the log determines."""
    lines = compare_state(guest, known_part(state), items=KNOWN_ITEMS)
    return [*lines, *compare_numa_totals(guest, state)][:20]


def compare_numa_totals(guest: Guest, state: dict[str, Any]) -> list[str]:
    """NUMA counts of each zone, all CPUs' shares added; interleave hits are in no log."""
    m = guest.m
    lines: list[str] = []
    shared = len({guest.m[guest.zone(n, z) + Z_PAGESET] for n, z, _ in guest.zones()}) == 1
    if shared and len(guest.zones()) > 1:
        return lines
    for zone in state["zones"]:
        if not zone["pcp"]:
            continue
        z = guest.zone(zone["nid"], zone["zid"])
        base = (m[z + Z_PAGESET] - PAGE_OFFSET) >> 3
        for i, name in enumerate(NUMA_NAMES):
            if name == "interleave_hit":
                continue
            ours = m[z + Z_NUMA_STAT + i] + sum(
                m[base + pcp["cpu"] * PSET_WORDS + PSET_NUMA_DIFF + i] for pcp in zone["pcp"]
            )
            recorded = zone["numa"][name] + sum(pcp["numa"][i] for pcp in zone["pcp"])
            if ours != recorded:
                where = f"zone {zone['nid']}:{zone['zid']}"
                lines.append(f"{where} numa {name} in all: {ours}, recorded {recorded}")
    return lines


def forget_compound_pages(guest: Guest) -> None:
    """Makes all compound pages runs of single pages in use: how they end is not in the log."""
    for _, _, z in guest.zones():
        start, spanned = guest.m[z + Z_START_PFN], guest.m[z + Z_SPANNED]
        heads = guest.column(start, spanned, P_FLAGS) & PG_HEAD != 0
        tails = guest.column(start, spanned, P_NEXT) & 1 != 0
        pfns = np.flatnonzero(heads | tails).astype(np.int64) + start
        words = guest.page_words(pfns)
        guest.q[words + P_FLAGS] &= ~PG_HEAD
        guest.q[words + P_COUNTS] = COUNTS_ONE
        for word in (P_NEXT, P_PREV, P_MAPPING):
            guest.q[words + word] = 0


def undress(guest: Guest, pfn: int, order: int) -> None:
    """Leaves nothing but node and zone on the pages of a block whose last owner lets go."""
    m = guest.m
    first = guest.page(pfn)
    for page in range(first, first + (8 << order), 8):
        m[page + P_FLAGS] &= LINKS_MASK
        m[page + P_COUNTS] = COUNTS_FREE
        m[page + P_MAPPING] = 0
        m[page + P_PRIVATE] = 0


def settle_claim(guest: Guest, stolen: Event) -> int:
    """Marks pages in use as LRU pages or not, so that the recorded claim of an `X` follows.

    Returns 1 if that was needed, 0 if the steal comes out as recorded by itself. Blocks of a
    pageblock and more, and steals of a single block, ask no LRU list.
    """
    pfn, found_order, start_mt, can_steal, after = (stolen[i] for i in (4, 6, 7, 9, 10))
    m = guest.m
    guest.page(pfn)
    old = get_pageblock_migratetype(m, pfn)
    if found_order >= PAGEBLOCK_ORDER or not can_steal or old == MIGRATE_HIGHATOMIC:
        return 0
    first = pfn & -PAGEBLOCK_NR_PAGES
    free = used = movable = 0
    pages = []
    at = first
    while at < first + PAGEBLOCK_NR_PAGES:
        page = guest.page(at)
        if m[page + P_COUNTS] & MAPCOUNT_MASK == COUNTS_BUDDY:
            free += 1 << m[page + P_PRIVATE]
            at += 1 << m[page + P_PRIVATE]
            continue
        if m[page + P_COUNTS] >> REF_SHIFT:
            used += 1
            pages.append(page)
            movable += m[page + P_FLAGS] & PG_LRU != 0
        at += 1
    if start_mt == MIGRATE_MOVABLE:
        alike = movable
    else:
        alike = PAGEBLOCK_NR_PAGES - free - movable if old == MIGRATE_MOVABLE else 0
    claims = free + alike >= PAGEBLOCK_NR_PAGES // 2
    if claims == (after == start_mt) or old == start_mt:
        return 0
    mark = claims != (start_mt == MIGRATE_MOVABLE)
    for page in pages:
        m[page + P_FLAGS] = m[page + P_FLAGS] | PG_LRU if mark else m[page + P_FLAGS] & ~PG_LRU
    return 1
