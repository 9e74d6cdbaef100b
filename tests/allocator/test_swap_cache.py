# SPDX-License-Identifier: GPL-2.0-only
"""Pages in memory that have a slot of swap."""

from __future__ import annotations

from allocator.address_space import AS_NRPAGES, page_mapping, swap_address_space, swap_info
from allocator.gfp import GFP_KERNEL
from allocator.mm_inline import PG_SWAPCACHE
from allocator.mm_types import P_COUNTS, P_PRIVATE, PG_DIRTY, PG_LOCKED, PG_SWAPBACKED, REF_SHIFT
from allocator.mmzone import NR_FILE_PAGES
from allocator.swap_cache import (
    CACHE_ADD_TOTAL,
    CACHE_DEL_TOTAL,
    add_to_swap_cache,
    delete_from_swap_cache,
    delete_from_swap_cache_only,
    find_swap_page,
    free_swap_of,
)
from allocator.swap_map import SWAP_HAS_CACHE, slot_usage, swap_duplicate
from allocator.swapfile import get_swap_page
from allocator.swapops import swp_offset
from tests.allocator.process_support import Lab


def cached(lab: Lab) -> tuple[int, int]:
    """A locked page in the swap cache, and its entry."""
    p = lab.new_page(nid=1)
    lab.m[p] |= PG_LOCKED | PG_SWAPBACKED
    entry = get_swap_page(lab.m, 0, p)
    assert add_to_swap_cache(lab.m, 0, p, entry, GFP_KERNEL) == 0
    return p, entry


def test_a_cached_page_is_found_by_its_entry_and_held(lab: Lab) -> None:
    kind = lab.swap(64)
    m = lab.m
    p, entry = cached(lab)
    assert find_swap_page(m, entry) == p
    assert m[p] & PG_SWAPCACHE
    assert m[p + P_PRIVATE] == entry
    assert m[p + P_COUNTS] >> REF_SHIFT == 2
    assert page_mapping(m, p) == swap_address_space(m, entry)
    assert m[page_mapping(m, p) + AS_NRPAGES] == 1
    assert (lab.node_counter(1, NR_FILE_PAGES), m[CACHE_ADD_TOTAL]) == (1, 1)
    assert slot_usage(m, swap_info(m, kind), swp_offset(entry)) == SWAP_HAS_CACHE


def test_leaving_the_cache_gives_reference_and_slot_back(lab: Lab) -> None:
    lab.swap(64)
    m = lab.m
    p, entry = cached(lab)
    delete_from_swap_cache(m, 0, p)
    assert find_swap_page(m, entry) == 0
    assert (m[p + P_PRIVATE], m[p] & PG_SWAPCACHE) == (0, 0)
    assert m[p + P_COUNTS] >> REF_SHIFT == 1
    assert (lab.node_counter(1, NR_FILE_PAGES), m[CACHE_DEL_TOTAL]) == (0, 1)
    m[p] &= ~PG_LOCKED
    assert lab.check().sound


def test_reclaim_takes_a_page_out_and_keeps_slot_and_reference(lab: Lab) -> None:
    kind = lab.swap(64)
    m = lab.m
    p, entry = cached(lab)
    swap_duplicate(m, entry)
    delete_from_swap_cache_only(m, 0, p, entry)
    assert find_swap_page(m, entry) == 0
    assert m[p + P_COUNTS] >> REF_SHIFT == 2
    assert slot_usage(m, swap_info(m, kind), swp_offset(entry)) == 1 | SWAP_HAS_CACHE


def test_a_page_that_loses_its_slot_is_dirty(lab: Lab) -> None:
    lab.swap(64)
    p, _ = cached(lab)
    assert not lab.m[p] & PG_DIRTY
    free_swap_of(lab.m, 0, p)
    assert lab.m[p] & PG_DIRTY
