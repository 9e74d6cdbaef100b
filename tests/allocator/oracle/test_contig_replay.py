# SPDX-License-Identifier: GPL-2.0-only
"""Isolation and contiguous ranges: the inputs that come from the recording go where they belong."""

from __future__ import annotations

from typing import Any

from allocator.mm_types import P_COUNTS, P_FLAGS, PG_LRU, REF_SHIFT
from allocator.mmzone import MIGRATE_CMA, PAGEBLOCK_NR_PAGES
from allocator.oracle.contig_replay import (
    drain_pagevecs,
    isolate,
    lru_was_drained,
    settle_references,
    waiting_for_lru,
)
from allocator.oracle.guest import Guest
from allocator.page_alloc import alloc_pages_nodemask
from allocator.page_isolation import has_unmovable_pages
from allocator.pageblock import get_pageblock_migratetype

from .machines import TWO_NODES, bring_up

BLOCK = 24 * 1024
RANGE = {"op": "I", "i": 0, "start": BLOCK, "end": BLOCK + 1024, "mt": 1}


def isolation(pfn: int, moved: int) -> list[Any]:
    """The recorded event of one isolated (or refused) pageblock of zone 1:1."""
    return ["IS", 0, 1, 1, pfn, 1, moved]


def used_page(guest: Guest) -> int:
    """A page in use in the first of the two blocks."""
    page = guest.page(BLOCK + 7)
    while True:
        pfn = alloc_pages_nodemask(guest.m, 0, 0x6280CA, 0, 1, 0)
        if pfn & -PAGEBLOCK_NR_PAGES == BLOCK:
            return pfn
        assert pfn >= 0, page


def test_a_block_that_was_isolated_has_no_references_that_the_state_cannot_show() -> None:
    guest = bring_up(TWO_NODES)
    pfn = used_page(guest)
    z = guest.zone(1, 1)
    assert has_unmovable_pages(guest.m, z, BLOCK, 1)
    settle_references(guest, RANGE | {"ev": [isolation(BLOCK, 400)]})
    assert guest.m[guest.page(pfn) + P_COUNTS] >> REF_SHIFT == 0
    assert not has_unmovable_pages(guest.m, z, BLOCK, 1)


def test_a_block_that_was_refused_gets_a_reference() -> None:
    guest = bring_up(TWO_NODES)
    pfn = used_page(guest)
    guest.m[guest.page(pfn) + P_COUNTS] = 0xFFFFFFFF
    settle_references(guest, RANGE | {"ev": [isolation(BLOCK, -1)]})
    assert has_unmovable_pages(guest.m, guest.zone(1, 1), BLOCK, 1)


def test_a_fate_that_follows_by_itself_changes_nothing() -> None:
    guest = bring_up(TWO_NODES)
    used_page(guest)
    before = bytes(guest.memory.bytes[: 1 << 27])
    settle_references(guest, RANGE | {"ev": [isolation(BLOCK, -1)]})
    assert bytes(guest.memory.bytes[: 1 << 27]) == before


def test_the_result_is_compared() -> None:
    guest = bring_up(TWO_NODES)
    assert isolate(guest, 0, RANGE | {"ev": [], "rc": -16}) == "result 0, recorded -16"
    assert get_pageblock_migratetype(guest.m, BLOCK) != MIGRATE_CMA


def test_pagevec_pages_join_lru_lists_or_are_freed() -> None:
    guest = bring_up(TWO_NODES)
    joins = alloc_pages_nodemask(guest.m, 0, 0x6280CA, 0, 1, 0)
    goes = alloc_pages_nodemask(guest.m, 0, 0x6280CA, 0, 1, 0)
    pagevec = [joins]
    drain_pagevecs(guest, [["f", 0, 1, 1, 1, goes, 1], ["CM", 0, 0, 0, 0, 0]], pagevec)
    assert guest.m[guest.page(joins) + P_FLAGS] & PG_LRU
    assert guest.m[guest.page(goes) + P_COUNTS] >> REF_SHIFT == 0
    assert pagevec == []


def test_frees_behind_the_first_scan_are_not_the_pagevecs() -> None:
    guest = bring_up(TWO_NODES)
    stays = alloc_pages_nodemask(guest.m, 0, 0x6280CA, 0, 1, 0)
    drain_pagevecs(guest, [["CM", 0, 0, 0, 0, 0], ["f", 0, 1, 1, 1, stays, 1]], [])
    assert guest.m[guest.page(stays) + P_COUNTS] >> REF_SHIFT == 1


def test_who_waits_for_an_lru_list_is_who_the_later_state_alone_has_there() -> None:
    def state(lru: list[list[int]], movable: list[list[int]]) -> dict[str, Any]:
        return {"zones": [{"nid": 0, "zid": 1, "lru": lru, "movable": movable}]}

    before = state([[10, 2], [40, 1]], [[40, 1]])
    after = state([[10, 4], [50, 2]], [[50, 2]])
    assert waiting_for_lru(before, after) == [12, 13]


def test_only_a_range_that_was_scanned_drains_pagevecs() -> None:
    assert not lru_was_drained([{"op": "Z", "ev": [isolation(BLOCK, -1)]}, {"op": "K"}])
    assert lru_was_drained([{"op": "Z", "ev": [["CM", 0, 0, 0, 0, 0]]}])
