# SPDX-License-Identifier: GPL-2.0-only
"""Exact sizes, split blocks and addresses."""

from __future__ import annotations

import pytest

from allocator.exact import (
    alloc_pages_exact,
    alloc_pages_exact_nid,
    free_pages_exact,
    get_free_pages,
    get_order,
    get_zeroed_page,
    split_page,
)
from allocator.gfp import GFP_COMP_BIT, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from allocator.layout import PAGE_OFFSET
from allocator.mm_types import COUNTS_ONE, P_COUNTS
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.trace_events import EV_MM_PAGE_FREE
from tests.allocator.tiny import Tiny


@pytest.mark.parametrize(
    ("size", "order"),
    [(1, 0), (4096, 0), (4097, 1), (8193, 2), (4 << 20, 10), ((4 << 20) + 1, 11), (0, 52)],
)
def test_get_order_rounds_up_to_a_power_of_two_pages(size: int, order: int) -> None:
    assert get_order(size) == order


def test_the_surplus_is_freed_page_by_page_upwards(tiny_zone: Tiny) -> None:
    tiny_zone.record(EV_MM_PAGE_FREE)
    pfn = alloc_pages_exact(tiny_zone.m, 0, 5 * 4096 - 100, GFP_KERNEL)
    freed = [event[1] for event in tiny_zone.events()]
    assert freed == [pfn + 5, pfn + 6, pfn + 7]
    assert tiny_zone.free_pages() == tiny_zone.listed_pages() == 8 * 512 - 5
    assert all(tiny_zone.m[tiny_zone.page(pfn + i) + P_COUNTS] == COUNTS_ONE for i in range(5))
    assert free_pages_exact(tiny_zone.m, 0, pfn, 5 * 4096 - 100) == 0
    assert tiny_zone.free_pages() == 8 * 512
    assert sum(len(tiny_zone.free_list(10, mt)) for mt in range(3)) == 4


@pytest.mark.parametrize("size", [0, -5, (4 << 20) + 1])
def test_sizes_that_no_block_holds_fail(tiny_zone: Tiny, size: int) -> None:
    assert alloc_pages_exact(tiny_zone.m, 0, size, GFP_KERNEL) == -1
    assert alloc_pages_exact_nid(tiny_zone.m, 0, 0, size, GFP_KERNEL) == -1
    assert tiny_zone.free_pages() == 8 * 512


def test_freeing_an_exact_range_twice_is_refused_page_by_page(tiny_zone: Tiny) -> None:
    pfn = alloc_pages_exact_nid(tiny_zone.m, 0, 0, 3 * 4096, GFP_KERNEL)
    assert free_pages_exact(tiny_zone.m, 0, pfn, 3 * 4096) == 0
    assert free_pages_exact(tiny_zone.m, 0, pfn, 3 * 4096) == 3
    assert tiny_zone.listed_pages() == 8 * 512


def test_a_compound_page_is_not_split(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    pfn = alloc_pages_nodemask(m, 0, GFP_KERNEL | GFP_COMP_BIT, 2, 0, 0)
    assert split_page(m, pfn, 2) == -1
    assert split_page(m, pfn + 1, 0) == -1
    assert free_pages(m, 0, pfn, 2) == 0
    assert split_page(m, pfn, 2) == -1


def test_exact_requests_drop_comp(tiny_zone: Tiny) -> None:
    pfn = alloc_pages_exact(tiny_zone.m, 0, 3 * 4096, GFP_KERNEL | GFP_COMP_BIT)
    assert free_pages_exact(tiny_zone.m, 0, pfn, 3 * 4096) == 0
    assert tiny_zone.listed_pages() == 8 * 512


def test_get_free_pages_gives_a_direct_map_address(tiny_zone: Tiny) -> None:
    va = get_free_pages(tiny_zone.m, 0, GFP_HIGHUSER_MOVABLE, 1)
    pfn = (va - PAGE_OFFSET) >> 12
    assert free_pages(tiny_zone.m, 0, pfn, 1) == 0
    assert get_free_pages(tiny_zone.m, 0, GFP_KERNEL, 11) == 0


def test_a_zeroed_page_is_zero_to_the_last_byte(tiny_zone: Tiny) -> None:
    first = get_free_pages(tiny_zone.m, 0, GFP_KERNEL, 0)
    pfn = (first - PAGE_OFFSET) >> 12
    tiny_zone.memory.write(pfn << 12, b"\xff" * 4096)
    free_pages(tiny_zone.m, 0, pfn, 0)
    again = get_zeroed_page(tiny_zone.m, 0, GFP_KERNEL)
    assert again == first
    assert tiny_zone.memory.read(pfn << 12, 4096) == bytes(4096)
