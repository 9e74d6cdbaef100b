# SPDX-License-Identifier: GPL-2.0-only
"""Counts, locks and lists of pages."""

from __future__ import annotations

import pytest

from allocator.kernel_globals import G_MEMMAP_INDEX_LEN, G_MM_INIT_DONE
from allocator.layout import va_of_word
from allocator.mm_inline import (
    PG_DOUBLE_MAP,
    add_page_to_lru_list,
    add_page_to_lru_list_tail,
    compound_head,
    dec_mapcount,
    del_page_from_lru_list,
    get_page_p,
    hpage_nr_pages,
    inc_compound_mapcount,
    inc_mapcount,
    lock_page,
    page_cache_release,
    page_count,
    page_evictable,
    page_lru,
    page_mapcount,
    page_mapped,
    page_node,
    page_off_lru,
    page_to_pfn,
    page_to_pfn_slow,
    total_mapcount,
    trylock_page,
    unlock_page,
    va_to_page,
)
from allocator.mm_types import (
    COUNTS_ONE,
    MAPCOUNT_MASK,
    P_COUNTS,
    P_MAPPING,
    P_NEXT,
    PAGE_MAPPING_ANON,
    PG_ACTIVE,
    PG_LRU,
    PG_MLOCKED,
    PG_SWAPBACKED,
    PG_UNEVICTABLE,
)
from allocator.mmzone import ND_LRU_LISTS, ND_LRUVEC, NR_ZONE_LRU_BASE
from allocator.vmstat import zone_page_state_snapshot
from tests.allocator.process_support import Lab, fresh_lab


@pytest.mark.parametrize("specs", [("2x128M",), ("1x64M",)])
def test_a_struct_page_tells_its_frame_number(specs: tuple[str, ...]) -> None:
    lab = fresh_lab(*specs)
    for section_pfn in (0, 0x1000, 0x3FFF):
        p = lab.page_at(section_pfn)
        assert page_to_pfn(lab.m, p) == page_to_pfn_slow(lab.m, p) == section_pfn


def test_without_its_table_the_frame_number_is_searched_for(lab: Lab) -> None:
    p = lab.new_page(nid=1)
    pfn = page_to_pfn(lab.m, p)
    lab.m[G_MEMMAP_INDEX_LEN] = 0
    assert page_to_pfn(lab.m, p) == pfn
    assert page_to_pfn(lab.m, 5) == -1
    assert lab.m[G_MM_INIT_DONE] == 1


def test_mapcounts_count_from_minus_one_and_leave_the_references_alone(lab: Lab) -> None:
    p = lab.new_page()
    assert (page_mapcount(lab.m, p), page_mapped(lab.m, p)) == (0, False)
    assert inc_mapcount(lab.m, p + P_COUNTS)
    assert not inc_mapcount(lab.m, p + P_COUNTS)
    assert (page_mapcount(lab.m, p), page_count(lab.m, p)) == (2, 1)
    assert page_mapped(lab.m, p)
    assert not dec_mapcount(lab.m, p + P_COUNTS)
    assert dec_mapcount(lab.m, p + P_COUNTS)
    assert lab.m[p + P_COUNTS] == COUNTS_ONE


def test_a_huge_page_is_mapped_by_either_kind_of_entry(lab: Lab) -> None:
    m = lab.m
    p = lab.new_page(9)
    m[p + P_MAPPING] = PAGE_MAPPING_ANON
    tail = p + 8 * 7
    assert hpage_nr_pages(m, p) == 512
    assert compound_head(m, tail) == p
    assert not page_mapped(m, tail)
    inc_compound_mapcount(m, p)
    assert page_mapped(m, tail)
    assert page_mapcount(m, tail) == 1
    assert total_mapcount(m, p) == 1
    # mapped in pieces as well: every small page then counts the whole mapping itself
    m[p + 8] |= PG_DOUBLE_MAP
    for i in range(512):
        inc_mapcount(m, p + 8 * i + P_COUNTS)
    inc_mapcount(m, tail + P_COUNTS)
    assert page_mapcount(m, tail) == 2
    assert page_mapcount(m, p) == 1
    assert total_mapcount(m, p) == 2


def test_only_one_can_hold_a_page_lock(lab: Lab) -> None:
    p = lab.new_page()
    assert trylock_page(lab.m, p)
    assert not trylock_page(lab.m, p)
    assert lock_page(lab.m, p) == -1
    unlock_page(lab.m, p)
    assert lock_page(lab.m, p) == 0


def test_a_reference_of_a_tail_is_one_of_its_head(lab: Lab) -> None:
    p = lab.new_page(2)
    get_page_p(lab.m, p + 8)
    assert page_count(lab.m, p) == page_count(lab.m, p + 16) == 2


@pytest.mark.parametrize(
    ("flags", "lru"),
    [
        (PG_SWAPBACKED, 0),
        (PG_SWAPBACKED | PG_ACTIVE, 1),
        (0, 2),
        (PG_ACTIVE, 3),
        (PG_UNEVICTABLE | PG_SWAPBACKED, 4),
        (PG_UNEVICTABLE, 4),
    ],
)
def test_flags_say_which_list_a_page_is_on(lab: Lab, flags: int, lru: int) -> None:
    p = lab.new_page()
    lab.m[p] |= flags
    assert page_lru(lab.m, p) == lru
    assert page_off_lru(lab.m, p) == lru
    assert lab.m[p] & (PG_ACTIVE | PG_UNEVICTABLE) == 0


def test_mlocked_pages_are_not_evictable(lab: Lab) -> None:
    p = lab.new_page()
    assert page_evictable(lab.m, p)
    lab.m[p] |= PG_MLOCKED
    assert not page_evictable(lab.m, p)


def test_lists_take_at_the_head_or_tail_and_count_small_pages(lab: Lab) -> None:
    m = lab.m
    a, b, huge = lab.new_page(), lab.new_page(), lab.new_page(3)
    nd = page_node(m, a)
    head = nd + ND_LRU_LISTS + 2 * 2
    z = lab.zone_of(a)
    before = zone_page_state_snapshot(m, z, NR_ZONE_LRU_BASE + 2)
    add_page_to_lru_list(m, 0, a, nd + ND_LRUVEC, 2)
    add_page_to_lru_list_tail(m, 0, b, nd + ND_LRUVEC, 2)
    add_page_to_lru_list(m, 0, huge, nd + ND_LRUVEC, 2)
    order = []
    va = m[head]
    while va != va_of_word(head):
        order.append(va_to_page(m, va - 8))
        va = m[order[-1] + P_NEXT]
    assert order == [huge, a, b]
    assert zone_page_state_snapshot(m, z, NR_ZONE_LRU_BASE + 2) == before + 10
    for p in order:
        del_page_from_lru_list(m, 0, p, nd + ND_LRUVEC, 2)
    assert m[head] == va_of_word(head)
    assert zone_page_state_snapshot(m, z, NR_ZONE_LRU_BASE + 2) == before


def test_a_page_that_is_freed_leaves_its_list(lab: Lab) -> None:
    m = lab.m
    p = lab.new_page()
    nd = page_node(m, p)
    m[p] |= PG_LRU | PG_ACTIVE
    add_page_to_lru_list(m, 0, p, nd + ND_LRUVEC, 3)
    m[p + P_COUNTS] = MAPCOUNT_MASK
    page_cache_release(m, 0, p)
    assert m[p] & (PG_LRU | PG_ACTIVE) == 0
    assert m[nd + ND_LRU_LISTS + 2 * 3] == va_of_word(nd + ND_LRU_LISTS + 2 * 3)
