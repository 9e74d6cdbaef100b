# SPDX-License-Identifier: GPL-2.0-only
"""The operations of RUNs that isolate pageblocks and allocate contiguous ranges.

`I` and `J` are start_isolate_page_range() and undo_isolate_page_range(), `Z` and `Y`
alloc_contig_range() and free_contig_range(). Three things that these depend on are in no STATE and
come from the RUN, as inputs:

- whether an allocated page of the system's has a reference. In a block that could be isolated, or
  was refused (`IS` -1), against what the STATE lets one think, `settle_references` takes the
  references of such pages, or gives one;
- the pages that lay in LRU pagevecs: lru_add_drain_all() puts them on LRU lists before pages are
  migrated (those that only the AFTER STATE calls `lru`), or frees them if the pagevec held their
  last reference (`f` and `F` before the first `CM`);
- which pages migrate, and where to, needs no input: isolation finds the pages that `N` made
  movable, and their targets are allocated here.
"""

from __future__ import annotations

from typing import Any

from machine.errors import ImageError

from ..contig import alloc_contig_migrate_range, free_contig_range, grab_isolated_range
from ..mm_types import (
    COUNTS_FREE,
    COUNTS_ONE,
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    PG_LRU,
    PG_RESERVED,
    REF_SHIFT,
    ZONEID_PGSHIFT,
)
from ..mmzone import MAX_ORDER_NR_PAGES, MIGRATE_ISOLATE, PAGEBLOCK_NR_PAGES
from ..page_isolation import (
    has_unmovable_pages,
    page_is_free_block,
    page_is_movable,
    start_isolate_page_range,
    undo_isolate_page_range,
)
from ..pcp import free_unref_page, page_zone
from .events import Event
from .guest import Guest
from .page_flags import ranges_to_frames

EBUSY = 16
LINKS_MASK = -1 << ZONEID_PGSHIFT


def compare_rc(op: dict[str, Any], rc: int) -> str:
    """What the result differs in, "" if equal."""
    return "" if rc == op["rc"] else f"result {rc}, recorded {op['rc']}"


def isolate(guest: Guest, cpu: int, op: dict[str, Any]) -> str:
    """I: start_isolate_page_range()."""
    check_range(guest, op)
    settle_references(guest, op)
    return compare_rc(op, start_isolate_page_range(guest.m, cpu, op["start"], op["end"], op["mt"]))


def undo(guest: Guest, cpu: int, op: dict[str, Any]) -> str:
    """J: undo_isolate_page_range()."""
    check_range(guest, op)
    return compare_rc(op, undo_isolate_page_range(guest.m, cpu, op["start"], op["end"], op["mt"]))


def free_range(guest: Guest, cpu: int, op: dict[str, Any]) -> str:
    """Y: free_contig_range()."""
    check_range(guest, op)
    in_use = free_contig_range(guest.m, cpu, op["start"], op["end"] - op["start"])
    return f"{in_use} pages are in use" if in_use else ""


def alloc_range(guest: Guest, cpu: int, op: dict[str, Any], pagevec: list[int]) -> str:
    """Z: alloc_contig_range() in its steps, with the LRU drain of the recorded kernel.

    `pagevec`: frames that wait to be put on LRU lists; emptied when they are.
    """
    check_range(guest, op)
    settle_references(guest, op)
    m, start, end, mt = guest.m, op["start"], op["end"], op["mt"]
    first = start & -MAX_ORDER_NR_PAGES
    last = (end + MAX_ORDER_NR_PAGES - 1) & -MAX_ORDER_NR_PAGES
    z = page_zone(m, guest.page(start))
    rc = start_isolate_page_range(m, cpu, first, last, mt)
    if rc == 0:
        drain_pagevecs(guest, op["ev"], pagevec)
        rc = alloc_contig_migrate_range(m, cpu, z, start, end)
        if rc in (0, -EBUSY):
            rc = grab_isolated_range(m, cpu, z, start, end)
        undo_isolate_page_range(m, cpu, first, last, mt)
    return compare_rc(op, rc)


def check_range(guest: Guest, op: dict[str, Any]) -> None:
    """Raises ImageError unless the range has struct pages and is not absurd."""
    if not op["start"] < op["end"] <= op["start"] + (1 << 24):
        raise ImageError(f"range [{op['start']}, {op['end']})")
    for pfn in range(op["start"], op["end"], MAX_ORDER_NR_PAGES):
        guest.page(pfn)
    guest.page(op["end"] - 1)


def lru_was_drained(ops: list[dict[str, Any]]) -> bool:
    """True if one of the operations got as far as migrating pages, which drains LRU pagevecs."""
    return any(op["op"] == "Z" and any(e[0] == "CM" for e in op.get("ev", [])) for op in ops)


def waiting_for_lru(before: dict[str, Any], after: dict[str, Any]) -> list[int]:
    """Frames that are on an LRU list in the later STATE only, drivers' pages left out."""
    was, now = (
        {
            (nid, zid): set(ranges_to_frames(z["lru"], "lru").tolist())
            - set(ranges_to_frames(z.get("movable") or [], "movable").tolist())
            for z in state["zones"]
            for nid, zid in [(z["nid"], z["zid"])]
        }
        for state in (before, after)
    )
    return sorted(pfn for zone, frames in now.items() for pfn in frames - was.get(zone, set()))


def drain_pagevecs(guest: Guest, events: list[Event], pagevec: list[int]) -> None:
    """lru_add_drain_all(): pages of the pagevecs join LRU lists, those held by nobody else go."""
    for pfn in pagevec:
        guest.m[guest.page(pfn) + P_FLAGS] |= PG_LRU
    pagevec.clear()
    first_scan = next((i for i, event in enumerate(events) if event[0] == "CM"), 0)
    for event in events[:first_scan]:
        if event[0] in ("f", "F"):
            page = guest.page(event[5])
            guest.m[page + P_FLAGS] &= LINKS_MASK
            guest.m[page + P_MAPPING] = 0
            guest.m[page + P_COUNTS] = COUNTS_FREE
            free_unref_page(guest.m, event[1], event[5])


def settle_references(guest: Guest, op: dict[str, Any]) -> None:
    """Makes the references of the system's pages such that each block's recorded fate follows."""
    m = guest.m
    for event in op["ev"]:
        if event[0] != "IS" or event[5] == MIGRATE_ISOLATE:
            continue
        pfn, refused = event[4], event[6] == -1
        z = page_zone(m, guest.page(pfn))
        if has_unmovable_pages(m, z, pfn, op["mt"]) == refused:
            continue
        for page in map(guest.page, range(pfn, pfn + PAGEBLOCK_NR_PAGES)):
            held = m[page + P_COUNTS] >> REF_SHIFT != 0
            if held == refused or page_is_free_block(m, page) or page_is_movable(m, page):
                continue
            if m[page + P_FLAGS] & (PG_LRU | PG_RESERVED):
                continue
            m[page + P_COUNTS] = COUNTS_ONE if refused else COUNTS_FREE
            if refused:
                break
