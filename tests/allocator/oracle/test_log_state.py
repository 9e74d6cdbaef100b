# SPDX-License-Identifier: GPL-2.0-only
"""What a log knows of a STATE, and what it tells about LRU pages."""

from __future__ import annotations

import pytest

from allocator.fallback import steal_suitable_fallback
from allocator.mm_types import COUNTS_ONE, P_COUNTS, P_FLAGS, PG_HEAD, PG_LRU
from allocator.mmzone import Z_FREE_PAGES, Z_NR_HIGHATOMIC, Z_NUMA_STAT, Z_VM_STAT
from allocator.oracle.guest import Guest
from allocator.oracle.log_state import (
    compare_log_state,
    forget_compound_pages,
    settle_claim,
    undress,
)
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.pageblock import get_pageblock_migratetype, set_pageblock_migratetype
from allocator.pcp import drain_local_pages

from .dump import dump_state
from .machines import TWO_NODES, bring_up


@pytest.fixture
def guest() -> Guest:
    """A machine of two nodes."""
    return bring_up(TWO_NODES)


def test_lru_counters_are_not_compared_but_free_pages_are(guest: Guest) -> None:
    state = dump_state(guest)
    z = guest.zone(1, 1)
    guest.m[z + Z_VM_STAT + 1] += 5
    assert compare_log_state(guest, state) == []
    guest.m[z + Z_FREE_PAGES] += 1
    guest.m[z + Z_NR_HIGHATOMIC] += 512
    assert len(compare_log_state(guest, state)) == 2


def test_numa_counts_are_compared_in_all(guest: Guest) -> None:
    state = dump_state(guest)
    guest.m[guest.zone(1, 1) + Z_NUMA_STAT] += 1
    assert compare_log_state(guest, state) == ["zone 1:1 numa hit in all: 1, recorded 0"]


def half_used_block(guest: Guest) -> int:
    """First frame of a movable pageblock with 300 pages in use and a free block of order 4."""
    block = alloc_pages_nodemask(guest.m, 0, 0x6280CA, 9, 1, 0)
    for page in range(guest.page(block), guest.page(block) + 8 * 512, 8):
        guest.m[page + P_COUNTS] = COUNTS_ONE
    for pfn in range(block + 304, block + 512):
        free_pages(guest.m, 0, pfn, 0)
    drain_local_pages(guest.m, 0)
    return block


@pytest.mark.parametrize("start_mt", [0, 1, 2])
@pytest.mark.parametrize("claimed", [True, False])
def test_a_recorded_claim_follows_from_the_lru_pages_that_are_set(
    guest: Guest, start_mt: int, claimed: bool
) -> None:
    block = half_used_block(guest)
    old = get_pageblock_migratetype(guest.m, block)
    if start_mt == old:
        set_pageblock_migratetype(guest.m, block, 2)
        old = 2
    after = start_mt if claimed else old
    found = block + 304
    stolen = ["X", 0, 1, 1, found, 0, 4, start_mt, old, 1, after]
    settle_claim(guest, stolen)
    steal_suitable_fallback(guest.m, 0, guest.zone(1, 1), found, start_mt, True)
    assert get_pageblock_migratetype(guest.m, block) == after


def test_an_undressed_block_is_fit_to_be_freed(guest: Guest) -> None:
    pfn = alloc_pages_nodemask(guest.m, 0, 0x6040C0, 3, 1, 0)
    links = guest.m[guest.page(0x7000) + P_FLAGS]
    guest.m[guest.page(pfn + 3) + P_FLAGS] |= PG_LRU
    undress(guest, pfn, 3)
    assert {guest.m[guest.page(pfn + i) + P_FLAGS] for i in range(8)} == {links}


def test_compound_pages_become_single_pages_in_use(guest: Guest) -> None:
    pfn = alloc_pages_nodemask(guest.m, 0, 0x6040C0, 3, 1, 0)
    assert guest.m[guest.page(pfn) + P_FLAGS] & PG_HEAD
    forget_compound_pages(guest)
    for i in range(8):
        page = guest.page(pfn + i)
        assert guest.m[page + P_FLAGS] & PG_HEAD == 0
        assert guest.m[page + P_COUNTS] == COUNTS_ONE
