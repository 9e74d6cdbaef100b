# SPDX-License-Identifier: GPL-2.0-only
"""Pages on their way to swap and back."""

from __future__ import annotations

import pytest

from allocator.gfp import GFP_HIGHUSER_MOVABLE
from allocator.kernel_globals import G_NR_SWAP_PAGES, G_SWAPIN_HITS, G_SWAPIN_LAST
from allocator.mm_inline import PG_SWAPCACHE, page_va_of
from allocator.mm_types import (
    P_COUNTS,
    P_PRIVATE,
    PG_DIRTY,
    PG_LOCKED,
    PG_SWAPBACKED,
    PG_UPTODATE,
    PG_WORKINGSET,
    REF_SHIFT,
)
from allocator.pagevec import put_page_p
from allocator.swap_cache import find_swap_page
from allocator.swap_map import swp_swapcount
from allocator.swap_state import (
    PG_READAHEAD,
    add_to_swap,
    free_page_and_swap_cache,
    free_pages_and_swap_cache,
    is_huge_zero_page,
    lookup_swap_cache,
    read_swap_cache_async,
    swapin_nr_pages,
    swapin_readahead,
    swapin_window,
)
from allocator.swapops import pte_to_swp_entry, swp_entry, swp_offset
from tests.allocator.process_support import PAGE, Lab


def swapped(lab: Lab, pages: int) -> tuple[int, int, list[int]]:
    """A process whose pages are swapped out in address order: task, address, entries."""
    task = lab.process()
    at = lab.map(task, pages)
    for i in range(pages):
        lab.poke(task, at + i * PAGE, 100 + i)
    for i in range(pages):
        p = lab.page(task, at + i * PAGE)
        assert lab.page_out(p)
        lab.forget(p)
    return task, at, [pte_to_swp_entry(lab.pte(task, at + i * PAGE)) for i in range(pages)]


def test_a_page_gets_a_slot_and_is_dirty(lab: Lab) -> None:
    lab.swap(64)
    m, p = lab.m, lab.new_page()
    m[p] |= PG_LOCKED | PG_SWAPBACKED
    assert add_to_swap(m, 0, p)
    assert m[p] & (PG_SWAPCACHE | PG_DIRTY) == PG_SWAPCACHE | PG_DIRTY
    assert find_swap_page(m, m[p + P_PRIVATE]) == p


def test_without_a_free_slot_a_page_is_not_swapped(lab: Lab) -> None:
    m, p = lab.m, lab.new_page()
    assert not add_to_swap(m, 0, p)
    assert not m[p] & PG_SWAPCACHE


def test_what_was_swapped_out_comes_back_byte_for_byte(lab: Lab) -> None:
    lab.swap(256)
    task, at, entries = swapped(lab, 20)
    assert [swp_offset(entry) for entry in entries] == list(range(1, 21))
    assert [lab.peek(task, at + i * PAGE) for i in range(20)] == [100 + i for i in range(20)]
    assert lab.event("pswpout") == 20
    assert lab.event("pswpin") == 20
    assert lab.check().sound


def test_a_fault_reads_an_aligned_cluster_around_the_slot(lab: Lab) -> None:
    lab.swap(256)
    m = lab.m
    _, _, entries = swapped(lab, 40)
    m[G_SWAPIN_HITS] = 4
    p = swapin_readahead(m, 0, entries[18], GFP_HIGHUSER_MOVABLE, 0, 0)
    assert p == find_swap_page(m, entries[18])
    assert m[p] & (PG_LOCKED | PG_UPTODATE) == PG_UPTODATE
    # hits 4: 6 pages, rounded up to the 8 of page_cluster; slot 19 lies in [16, 24)
    assert [find_swap_page(m, e) != 0 for e in entries] == [16 <= i + 1 < 24 for i in range(40)]
    marked = [bool(m[find_swap_page(m, entries[i])] & PG_READAHEAD) for i in range(15, 23)]
    assert marked == [True, True, True, False, True, True, True, True]
    assert lab.event("swap_ra") == 7
    assert all(m[find_swap_page(m, entries[i])] & PG_WORKINGSET for i in range(15, 23))
    assert m[p + P_COUNTS] >> REF_SHIFT == 2


def test_a_used_read_ahead_page_counts_as_a_hit_once(lab: Lab) -> None:
    lab.swap(256)
    m = lab.m
    _, _, entries = swapped(lab, 16)
    m[G_SWAPIN_HITS] = 4
    put_page_p(m, 0, swapin_readahead(m, 0, entries[8], GFP_HIGHUSER_MOVABLE, 0, 0))
    for _ in range(2):
        p = lookup_swap_cache(m, 0, entries[9], 0, 0)
        assert not m[p] & (PG_READAHEAD | PG_LOCKED)
        put_page_p(m, 0, p)
    assert (m[G_SWAPIN_HITS], lab.event("swap_ra_hit")) == (1, 1)
    assert lookup_swap_cache(m, 0, swp_entry(0, 200), 0, 0) == 0
    assert lookup_swap_cache(m, 0, swp_entry(5, 1), 0, 0) == 0


def test_slots_that_nobody_uses_are_not_read(lab: Lab) -> None:
    lab.swap(256)
    assert read_swap_cache_async(lab.m, 0, swp_entry(0, 9), GFP_HIGHUSER_MOVABLE, 0, 0) == 0
    assert lab.event("pswpin") == 0


@pytest.mark.parametrize(
    ("prev", "offset", "hits", "most", "last", "pages"),
    [
        (10, 11, 0, 8, 0, 2),
        (10, 9, 0, 8, 0, 2),
        (10, 12, 0, 8, 0, 1),
        (10, 12, 1, 8, 0, 4),
        (10, 12, 3, 8, 0, 8),
        (10, 12, 9, 8, 0, 8),
        (10, 12, 9, 32, 0, 16),
        (10, 50, 0, 8, 8, 4),
        (10, 50, 0, 8, 2, 1),
    ],
)
def test_the_window_follows_the_hits(
    prev: int, offset: int, hits: int, most: int, last: int, pages: int
) -> None:
    assert swapin_window(prev, offset, hits, most, last) == pages


def test_the_window_shrinks_by_halves_when_nothing_hits(lab: Lab) -> None:
    m = lab.m
    m[G_SWAPIN_HITS] = 8
    assert [swapin_nr_pages(m, 100 * i) for i in range(5)] == [8, 4, 2, 1, 1]
    assert m[G_SWAPIN_LAST] == 1


def test_the_last_user_of_a_page_takes_its_slot_along(lab: Lab) -> None:
    lab.swap(64)
    m = lab.m
    free = m[G_NR_SWAP_PAGES]
    pages = []
    for _ in range(2):
        p = lab.new_page()
        m[p] |= PG_LOCKED | PG_SWAPBACKED | PG_UPTODATE
        add_to_swap(m, 0, p)
        m[p] &= ~PG_LOCKED
        pages.append(p)
    entry = m[pages[0] + P_PRIVATE]
    free_page_and_swap_cache(m, 0, pages[0])
    assert find_swap_page(m, entry) == 0
    assert swp_swapcount(m, entry) == 0
    first = lab.scratch()
    m[first] = page_va_of(m, pages[1])
    free_pages_and_swap_cache(m, 0, first, 1)
    assert m[G_NR_SWAP_PAGES] == free
    assert not is_huge_zero_page(m, pages[0])
    assert lab.check().sound
