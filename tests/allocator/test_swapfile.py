# SPDX-License-Identifier: GPL-2.0-only
"""Slots found, and slots taken back."""

from __future__ import annotations

import pytest

from allocator.address_space import swap_info
from allocator.kernel_globals import G_NR_SWAP_PAGES
from allocator.mm_inline import PG_SWAPCACHE, inc_mapcount, page_mapcount
from allocator.mm_types import (
    P_COUNTS,
    P_PRIVATE,
    PG_DIRTY,
    PG_LOCKED,
    PG_SWAPBACKED,
    PG_WRITEBACK,
)
from allocator.swap_cache import find_swap_page
from allocator.swap_map import (
    SI_CLUSTER_NEXT,
    SI_CLUSTER_NR,
    SWAP_HAS_CACHE,
    set_slot_usage,
    slot_usage,
    swap_duplicate,
    swap_free,
)
from allocator.swap_state import add_to_swap
from allocator.swapfile import (
    TTRS_ANYWAY,
    TTRS_FULL,
    TTRS_UNMAPPED,
    free_swap_and_cache,
    get_swap_page,
    get_swap_pages,
    page_map_swapcount,
    page_swapped,
    reuse_swap_page,
    scan_swap_map_slots,
    try_to_free_swap,
    try_to_reclaim_swap,
)
from allocator.swapops import make_migration_entry, swp_offset, swp_type
from tests.allocator.process_support import Lab


def cached(lab: Lab) -> tuple[int, int]:
    """A locked page in the swap cache, and its entry."""
    p = lab.new_page()
    lab.m[p] |= PG_LOCKED | PG_SWAPBACKED
    assert add_to_swap(lab.m, 0, p)
    return p, lab.m[p + P_PRIVATE]


def take(lab: Lab, si: int, n: int) -> list[int]:
    """Offsets of up to `n` slots, one request."""
    out = lab.scratch()
    return [swp_offset(lab.m[out + i]) for i in range(scan_swap_map_slots(lab.m, 0, si, n, out))]


def test_slots_come_one_after_the_other_from_the_first_free_cluster(lab: Lab) -> None:
    m = lab.m
    si = swap_info(m, lab.swap(1024))
    assert take(lab, si, 3) == [1, 2, 3]
    assert take(lab, si, 2) == [4, 5]
    assert (m[si + SI_CLUSTER_NEXT], m[si + SI_CLUSTER_NR]) == (6, 255 - 5 + 1)


def test_a_new_cluster_begins_at_the_first_run_of_256(lab: Lab) -> None:
    m = lab.m
    si = swap_info(m, lab.swap(1024))
    set_slot_usage(m, si, 100, 1)
    assert take(lab, si, 1) == [101]
    m[si + SI_CLUSTER_NR] = 0
    assert take(lab, si, 1) == [102]


def test_without_a_free_run_any_free_slot_will_do(lab: Lab) -> None:
    m = lab.m
    si = swap_info(m, lab.swap(1024))
    for slot in range(1, 1024):
        if slot % 200:
            set_slot_usage(m, si, slot, 1)
    assert take(lab, si, 1) == [200]
    assert [take(lab, si, 2) for _ in range(5)] == [[400], [600], [800], [1000], []]


def test_a_request_ends_at_the_first_used_slot(lab: Lab) -> None:
    m = lab.m
    si = swap_info(m, lab.swap(1024))
    take(lab, si, 1)
    set_slot_usage(m, si, 5, 1)
    assert take(lab, si, 10) == [2, 3, 4]
    assert take(lab, si, 1) == [6]


def test_areas_are_asked_by_priority_and_equals_in_turn(lab: Lab) -> None:
    m = lab.m
    lab.swap(32, 5, b"a")
    lab.swap(32, 9, b"b")
    lab.swap(32, 9, b"c")
    lab.swap(32, -1, b"d")
    kinds = [swp_type(get_swap_page(m, 0, lab.new_page())) for _ in range(4 * 31)]
    assert kinds[:62] == [1, 2] * 31
    assert kinds[62:] == [0] * 31 + [3] * 31
    assert get_swap_page(m, 0, lab.new_page()) == 0
    assert m[G_NR_SWAP_PAGES] == 0


def test_areas_without_a_priority_rank_below_and_in_order(lab: Lab) -> None:
    lab.swap(32, -1, b"a")
    lab.swap(32, -1, b"b")
    kinds = [swp_type(get_swap_page(lab.m, 0, lab.new_page())) for _ in range(62)]
    assert kinds == [0] * 31 + [1] * 31


def test_a_huge_page_and_a_machine_without_swap_get_no_slot(lab: Lab) -> None:
    assert get_swap_page(lab.m, 0, lab.new_page()) == 0
    assert get_swap_pages(lab.m, 0, 4, lab.scratch()) == 0
    lab.swap(64)
    assert get_swap_page(lab.m, 0, lab.new_page(9)) == 0


def test_a_slot_that_only_its_page_needs_is_freed(lab: Lab) -> None:
    lab.swap(64)
    m = lab.m
    p, entry = cached(lab)
    swap_duplicate(m, entry)
    assert page_swapped(m, p)
    assert not try_to_free_swap(m, 0, p)
    swap_free(m, 0, entry)
    m[p] |= PG_WRITEBACK
    assert not try_to_free_swap(m, 0, p)
    m[p] &= ~PG_WRITEBACK
    assert try_to_free_swap(m, 0, p)
    assert m[p] & (PG_SWAPCACHE | PG_DIRTY) == PG_DIRTY
    assert not try_to_free_swap(m, 0, p)


@pytest.mark.parametrize(
    ("flags", "mapped", "full", "freed"),
    [
        (TTRS_ANYWAY, True, False, True),
        (TTRS_UNMAPPED, True, False, False),
        (TTRS_UNMAPPED, False, False, True),
        (TTRS_FULL, True, False, False),
        (TTRS_FULL, True, True, True),
    ],
)
def test_slots_are_taken_back_from_pages_as_the_caller_wants(
    lab: Lab, flags: int, mapped: bool, full: bool, freed: bool
) -> None:
    m = lab.m
    si = swap_info(m, lab.swap(64))
    p, entry = cached(lab)
    m[p] &= ~PG_LOCKED
    if mapped:
        inc_mapcount(m, p + P_COUNTS)
    if full:
        m[G_NR_SWAP_PAGES] = 1
    assert try_to_reclaim_swap(m, 0, si, swp_offset(entry), flags) == freed
    assert bool(m[p] & PG_SWAPCACHE) != freed


def test_a_locked_page_keeps_its_slot(lab: Lab) -> None:
    m = lab.m
    si = swap_info(m, lab.swap(64))
    _, entry = cached(lab)
    assert not try_to_reclaim_swap(m, 0, si, swp_offset(entry), TTRS_ANYWAY)
    assert not try_to_reclaim_swap(m, 0, si, swp_offset(entry) + 1, TTRS_ANYWAY)


def test_full_swap_takes_the_slot_of_a_page_in_memory(lab: Lab) -> None:
    m = lab.m
    si = swap_info(m, lab.swap(16))
    p, entry = cached(lab)
    m[p] &= ~PG_LOCKED
    for _ in range(10):
        get_swap_page(m, 0, lab.new_page())
    m[si + SI_CLUSTER_NEXT] = swp_offset(entry)
    assert get_swap_page(m, 0, lab.new_page()) == entry
    assert not m[p] & PG_SWAPCACHE
    assert slot_usage(m, si, swp_offset(entry)) == SWAP_HAS_CACHE


def test_the_last_process_to_leave_a_slot_frees_its_unmapped_page(lab: Lab) -> None:
    lab.swap(64)
    m = lab.m
    p, entry = cached(lab)
    swap_duplicate(m, entry)
    swap_duplicate(m, entry)
    m[p] &= ~PG_LOCKED
    assert free_swap_and_cache(m, 0, entry)
    assert find_swap_page(m, entry) == p
    assert free_swap_and_cache(m, 0, entry)
    assert find_swap_page(m, entry) == 0
    assert not free_swap_and_cache(m, 0, 0)
    assert free_swap_and_cache(m, 0, make_migration_entry(1, 0))


@pytest.mark.parametrize(
    ("mappings", "users", "reusable", "keeps"),
    [(1, 0, True, False), (1, 1, False, True), (2, 0, False, True), (0, 1, True, False)],
)
def test_a_page_is_reused_if_nobody_else_has_it(
    lab: Lab, mappings: int, users: int, reusable: bool, keeps: bool
) -> None:
    lab.swap(64)
    m = lab.m
    p, entry = cached(lab)
    for _ in range(mappings):
        inc_mapcount(m, p + P_COUNTS)
    for _ in range(users):
        swap_duplicate(m, entry)
    assert page_mapcount(m, p) == mappings
    assert page_map_swapcount(m, p) == mappings + users
    assert reuse_swap_page(m, 0, p) == reusable
    assert bool(m[p] & PG_SWAPCACHE) == keeps


def test_a_page_under_writeback_is_reused_with_its_slot(lab: Lab) -> None:
    lab.swap(64)
    m = lab.m
    p, _ = cached(lab)
    inc_mapcount(m, p + P_COUNTS)
    m[p] |= PG_WRITEBACK
    assert reuse_swap_page(m, 0, p)
    assert m[p] & PG_SWAPCACHE
