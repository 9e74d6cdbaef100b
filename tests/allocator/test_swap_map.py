# SPDX-License-Identifier: GPL-2.0-only
"""Users of swap slots."""

from __future__ import annotations

import pytest

from allocator.address_space import swap_info
from allocator.kernel_globals import G_NR_SWAP_PAGES, G_SWAP_SLOTS_ACTIVE, G_TOTAL_SWAP_PAGES
from allocator.swap_map import (
    EEXIST,
    EINVAL,
    ENOENT,
    ENOMEM,
    SC_N_RET,
    SC_NR,
    SI_HIGHEST,
    SI_INUSE,
    SI_LOWEST,
    SWAP_BATCH,
    SWAP_HAS_CACHE,
    SWAP_MAP_BAD,
    SWAP_MAP_MAX,
    check_cache_active,
    drain_swap_slots,
    put_swap_page,
    set_slot_usage,
    slot_usage,
    slots_cache,
    swap_duplicate,
    swap_free,
    swap_info_get,
    swapcache_prepare,
    swp_swapcount,
    vm_swap_full,
)
from allocator.swapfile import get_swap_page
from allocator.swapops import make_migration_entry, swp_entry, swp_offset
from tests.allocator.process_support import Lab


def test_neighbouring_slots_do_not_disturb_each_other(lab: Lab) -> None:
    si = swap_info(lab.m, lab.swap(64))
    for slot in range(1, 64):
        set_slot_usage(lab.m, si, slot, slot * 7 | SWAP_HAS_CACHE)
    assert [slot_usage(lab.m, si, i) for i in range(64)] == [
        SWAP_MAP_BAD,
        *(slot * 7 | SWAP_HAS_CACHE for slot in range(1, 64)),
    ]
    set_slot_usage(lab.m, si, 7, 0)
    assert [slot_usage(lab.m, si, i) for i in (6, 7, 8)] == [
        42 | SWAP_HAS_CACHE,
        0,
        56 | SWAP_HAS_CACHE,
    ]


def test_a_slot_is_free_when_neither_users_nor_cache_are_left(lab: Lab) -> None:
    m = lab.m
    kind = lab.swap(64)
    free = m[G_NR_SWAP_PAGES]
    entry = get_swap_page(m, 0, lab.new_page())
    assert slot_usage(m, swap_info(m, kind), swp_offset(entry)) == SWAP_HAS_CACHE
    assert m[G_NR_SWAP_PAGES] == free - 1
    assert swap_duplicate(m, entry) == swap_duplicate(m, entry) == 0
    assert swp_swapcount(m, entry) == 2
    swap_free(m, 0, entry)
    put_swap_page(m, 0, 0, entry)
    assert (swp_swapcount(m, entry), m[G_NR_SWAP_PAGES]) == (1, free - 1)
    swap_free(m, 0, entry)
    assert (swp_swapcount(m, entry), m[G_NR_SWAP_PAGES]) == (0, free)
    assert m[swap_info(m, kind) + SI_INUSE] == 0


@pytest.mark.parametrize(
    ("usage", "dup", "claim"),
    [
        (0, -ENOENT, -ENOENT),
        (1, 0, 0),
        (SWAP_HAS_CACHE, 0, -EEXIST),
        (1 | SWAP_HAS_CACHE, 0, -EEXIST),
        (SWAP_MAP_BAD, -ENOENT, -ENOENT),
        (SWAP_MAP_MAX, -ENOMEM, 0),
    ],
)
def test_what_a_slot_allows(lab: Lab, usage: int, dup: int, claim: int) -> None:
    m = lab.m
    si = swap_info(m, lab.swap(64))
    entry = swp_entry(0, 9)
    set_slot_usage(m, si, 9, usage)
    assert swap_duplicate(m, entry) == dup
    set_slot_usage(m, si, 9, usage)
    assert swapcache_prepare(m, entry) == claim
    assert slot_usage(m, si, 9) == (usage | SWAP_HAS_CACHE if claim == 0 else usage)


@pytest.mark.parametrize("entry", [0, swp_entry(0, 64), swp_entry(3, 1), swp_entry(28, 1)])
def test_entries_that_name_no_slot_are_refused(lab: Lab, entry: int) -> None:
    lab.swap(64)
    assert swap_info_get(lab.m, entry) == 0
    assert swap_duplicate(lab.m, entry) == -EINVAL
    assert swapcache_prepare(lab.m, entry) == -EINVAL
    swap_free(lab.m, 0, entry)
    assert swap_info_get(lab.m, make_migration_entry(5, 1)) == 0


def test_a_freed_slot_widens_the_range_that_is_searched(lab: Lab) -> None:
    m = lab.m
    si = swap_info(m, lab.swap(16))
    entries = [get_swap_page(m, 0, lab.new_page()) for _ in range(15)]
    assert get_swap_page(m, 0, lab.new_page()) == 0
    assert (m[si + SI_LOWEST], m[si + SI_HIGHEST]) == (16, 0)
    put_swap_page(m, 0, 0, entries[6])
    assert (m[si + SI_LOWEST], m[si + SI_HIGHEST]) == (7, 7)
    assert get_swap_page(m, 0, lab.new_page()) == entries[6]


def test_swap_is_full_when_half_of_it_is_used(lab: Lab) -> None:
    m = lab.m
    lab.swap(101)
    assert m[G_TOTAL_SWAP_PAGES] == 100
    for free, full in ((50, False), (49, True)):
        m[G_NR_SWAP_PAGES] = free
        assert vm_swap_full(m) == full


def test_cpus_cache_slots_while_there_are_plenty(lab: Lab) -> None:
    m = lab.m
    kind = lab.swap(2048)
    total = m[G_NR_SWAP_PAGES]
    entry = get_swap_page(m, 0, lab.new_page())
    cache = slots_cache(m, 0)
    assert m[G_SWAP_SLOTS_ACTIVE] == 1
    assert m[cache + SC_NR] == SWAP_BATCH - 1
    assert m[G_NR_SWAP_PAGES] == total - SWAP_BATCH
    put_swap_page(m, 0, 0, entry)
    # kept with the returned ones, not given out again at once
    assert m[cache + SC_N_RET] == 1
    assert get_swap_page(m, 0, lab.new_page()) == entry + 1
    assert slot_usage(m, swap_info(m, kind), swp_offset(entry)) == SWAP_HAS_CACHE
    drain_swap_slots(m)
    assert m[G_NR_SWAP_PAGES] == total - 1
    assert slot_usage(m, swap_info(m, kind), swp_offset(entry)) == 0


def test_returned_slots_are_given_back_sixty_four_at_a_time(lab: Lab) -> None:
    m = lab.m
    lab.swap(2048)
    entries = [get_swap_page(m, 0, lab.new_page()) for _ in range(SWAP_BATCH + 1)]
    free = m[G_NR_SWAP_PAGES]
    for entry in entries[:-1]:
        put_swap_page(m, 0, 0, entry)
    assert m[G_NR_SWAP_PAGES] == free
    put_swap_page(m, 0, 0, entries[-1])
    assert m[G_NR_SWAP_PAGES] == free + SWAP_BATCH


@pytest.mark.parametrize(
    ("active", "free", "said"),
    [(0, 640, False), (0, 641, True), (1, 256, True), (1, 255, False)],
)
def test_slots_are_cached_above_one_mark_until_below_another(
    lab: Lab, active: int, free: int, said: bool
) -> None:
    # two CPUs: 5 * 64 slots each to begin, 2 * 64 each to go on
    lab.swap(64)
    lab.m[G_SWAP_SLOTS_ACTIVE] = active
    lab.m[G_NR_SWAP_PAGES] = free
    assert check_cache_active(lab.m) == said
