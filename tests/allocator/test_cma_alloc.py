# SPDX-License-Identifier: GPL-2.0-only
"""CMA areas: first fit in the bitmap, alignment, busy ranges stepped over, all of it given back."""

from __future__ import annotations

import pytest

from allocator.cma_alloc import (
    CMA_BASE_PFN,
    CMA_BITMAP,
    CMA_COUNT,
    CMA_ORDER_PER_BIT,
    bitmap_fill,
    cma_add_area,
    cma_alloc,
    cma_release,
    find_zero_area,
)
from allocator.gfp import GFP_HIGHUSER_MOVABLE
from allocator.layout import CMA_AREAS, CMA_WORDS, va_of_word
from allocator.mmzone import MIGRATE_CMA, MIGRATE_MOVABLE
from allocator.page_alloc import alloc_pages_nodemask
from allocator.page_isolation import start_isolate_page_range, undo_isolate_page_range
from machine import UsageError
from tests.allocator.tiny import NODE_PAGES, SCRATCH_WORD, Tiny

AREA = CMA_AREAS


@pytest.fixture
def tiny(tiny_zone: Tiny) -> Tiny:
    """An area of 1024 pages at the start of the zone."""
    m, start = tiny_zone.m, tiny_zone.start
    start_isolate_page_range(m, 0, start, start + 1024, MIGRATE_MOVABLE)
    undo_isolate_page_range(m, 0, start, start + 1024, MIGRATE_CMA)
    m[AREA + CMA_BASE_PFN] = start
    m[AREA + CMA_COUNT] = 1024
    m[AREA + CMA_BITMAP] = va_of_word(SCRATCH_WORD)
    return tiny_zone


def bits(tiny: Tiny) -> int:
    words = (tiny.m[SCRATCH_WORD + i] for i in range(16))
    return sum((word & (1 << 64) - 1).bit_count() for word in words)


def test_allocations_are_first_fit_and_released_ones_are_used_again(tiny: Tiny) -> None:
    m, start = tiny.m, tiny.start
    assert [cma_alloc(m, 0, AREA, 10, 0) for _ in range(3)] == [start, start + 10, start + 20]
    assert bits(tiny) == 30
    assert cma_release(m, 0, AREA, start + 10, 10)
    assert cma_alloc(m, 0, AREA, 11, 0) == start + 30
    assert cma_alloc(m, 0, AREA, 10, 0) == start + 10
    assert tiny.free_pages() == tiny.listed_pages() == NODE_PAGES - 41


def test_alignment_is_of_the_frame_number(tiny: Tiny) -> None:
    m, start = tiny.m, tiny.start
    cma_alloc(m, 0, AREA, 1, 0)
    assert cma_alloc(m, 0, AREA, 4, 6) == start + 64


def test_a_range_that_proves_busy_is_stepped_over(tiny: Tiny) -> None:
    m, start = tiny.m, tiny.start
    held = [alloc_pages_nodemask(m, 0, GFP_HIGHUSER_MOVABLE, 10, 0, 0) for _ in range(4)]
    assert start in held
    assert cma_alloc(m, 0, AREA, 4, 0) == -1
    assert bits(tiny) == 0


def test_order_per_bit_makes_each_bit_a_block(tiny: Tiny) -> None:
    m, start = tiny.m, tiny.start
    m[AREA + CMA_ORDER_PER_BIT] = 3
    assert [cma_alloc(m, 0, AREA, n, 0) for n in (1, 9, 8)] == [start, start + 8, start + 24]
    assert bits(tiny) == 4


@pytest.mark.parametrize(("count", "align"), [(0, 0), (-1, 0), (1025, 0), (1, -1)])
def test_requests_that_no_area_can_meet_fail(tiny: Tiny, count: int, align: int) -> None:
    assert cma_alloc(tiny.m, 0, AREA, count, align) == -1
    assert bits(tiny) == 0


def test_only_the_areas_own_pages_are_released(tiny: Tiny) -> None:
    m, start = tiny.m, tiny.start
    assert not cma_release(m, 0, AREA, start - 1, 1)
    assert not cma_release(m, 0, AREA, start + 1020, 5)
    assert not cma_release(m, 0, AREA, start, 0)


def test_an_area_that_was_never_activated_gives_nothing(tiny: Tiny) -> None:
    tiny.m[AREA + CMA_COUNT] = 0
    assert cma_alloc(tiny.m, 0, AREA, 1, 0) == -1


def test_the_search_reaches_the_last_bit_of_a_word(tiny: Tiny) -> None:
    m = tiny.m
    bitmap_fill(m, AREA, 0, 63, 1)
    assert find_zero_area(m, AREA, 1024, 0, 1, 0, 0) == 63
    bitmap_fill(m, AREA, 63, 1, 1)
    assert m[SCRATCH_WORD] == -1
    assert find_zero_area(m, AREA, 1024, 0, 2, 0, 0) == 64
    assert find_zero_area(m, AREA, 65, 0, 2, 0, 0) == 65


def test_an_area_is_entered_with_a_clear_bitmap_of_its_own(tiny_zone: Tiny) -> None:
    m, start = tiny_zone.m, tiny_zone.start
    first = cma_add_area(m, 0, start, 1024, 0, "lab")
    second = cma_add_area(m, 0, start + 1024, 1024, 2, "x" * 99)
    assert (first, second) == (CMA_AREAS, CMA_AREAS + CMA_WORDS)
    assert m[first + CMA_BITMAP] != m[second + CMA_BITMAP]
    assert find_zero_area(m, first, 1024, 0, 1024, 0, 0) == 0
    assert find_zero_area(m, second, 256, 0, 256, 0, 0) == 0


def test_areas_that_make_no_sense_or_have_no_room_are_refused(tiny_zone: Tiny) -> None:
    m, start = tiny_zone.m, tiny_zone.start
    for base, count, order in ((start, 0, 0), (-1, 8, 0), (start + 1, 8, 2), (start, 8, -1)):
        with pytest.raises(UsageError, match="CMA area"):
            cma_add_area(m, 0, base, count, order, "bad")
    for _ in range(8):
        cma_add_area(m, 0, start, 64, 0, "a")
    with pytest.raises(UsageError, match="no room"):
        cma_add_area(m, 0, start, 64, 0, "a")
