# SPDX-License-Identifier: GPL-2.0-only
"""Isolation: what is refused, what is counted, and that undoing restores lists and counters."""

from __future__ import annotations

import pytest

from allocator import page_isolation as iso
from allocator.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from allocator.migrate import set_page_movable
from allocator.mm_types import PG_HWPOISON, PG_LRU, PG_RESERVED
from allocator.mmzone import (
    MIGRATE_CMA,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    Z_NR_ISOLATE,
    Z_WMARK,
)
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.pageblock import get_pageblock_migratetype, set_pageblock_migratetype
from allocator.trace_events import EV_FREE_TO_BUDDY, EV_ISOLATE_PAGEBLOCK, EV_UNISOLATE_PAGEBLOCK
from tests.allocator.tiny import NODE_PAGES, Tiny

EBUSY = 16


def isolate(tiny: Tiny, start: int, end: int, mt: int = MIGRATE_MOVABLE) -> int:
    return iso.start_isolate_page_range(tiny.m, 0, start, end, mt)


def undo(tiny: Tiny, start: int, end: int, mt: int = MIGRATE_MOVABLE) -> None:
    iso.undo_isolate_page_range(tiny.m, 0, start, end, mt)


def test_isolated_free_pages_leave_the_counter_and_come_back(tiny_zone: Tiny) -> None:
    start = tiny_zone.start
    assert isolate(tiny_zone, start, start + 2048) == 0
    assert tiny_zone.free_pages() == NODE_PAGES - 2048
    assert tiny_zone.m[tiny_zone.z + Z_NR_ISOLATE] == 4
    assert sorted(tiny_zone.free_list(10, MIGRATE_ISOLATE)) == [start, start + 1024]
    undo(tiny_zone, start, start + 2048)
    assert tiny_zone.free_pages() == tiny_zone.listed_pages() == NODE_PAGES
    assert tiny_zone.m[tiny_zone.z + Z_NR_ISOLATE] == 0
    assert len(tiny_zone.free_list(10, MIGRATE_MOVABLE)) == 4


def test_the_events_tell_pages_moved_and_refreed_blocks(tiny_zone: Tiny) -> None:
    start = tiny_zone.start
    tiny_zone.record(EV_ISOLATE_PAGEBLOCK, EV_UNISOLATE_PAGEBLOCK, EV_FREE_TO_BUDDY)
    isolate(tiny_zone, start, start + 2048)
    undo(tiny_zone, start, start + 2048)
    blocks = [(0, 2, start + 512 * i, MIGRATE_MOVABLE) for i in range(4)]
    # the first block of a MAX_ORDER pair has an isolated buddy and is only moved; the second pair
    # finds its buddy free again
    assert tiny_zone.events() == [
        (EV_ISOLATE_PAGEBLOCK, *blocks[0], 1024),
        (EV_ISOLATE_PAGEBLOCK, *blocks[1], 0),
        (EV_ISOLATE_PAGEBLOCK, *blocks[2], 1024),
        (EV_ISOLATE_PAGEBLOCK, *blocks[3], 0),
        (EV_UNISOLATE_PAGEBLOCK, *blocks[0], 1024),
        (EV_UNISOLATE_PAGEBLOCK, *blocks[1], 0),
        (EV_UNISOLATE_PAGEBLOCK, *blocks[2], -1),
        (EV_FREE_TO_BUDDY, 0, 2, 10, start + 1024, MIGRATE_MOVABLE),
        (EV_UNISOLATE_PAGEBLOCK, *blocks[3], 0),
    ]


def test_a_block_that_grew_while_isolated_is_freed_again_to_merge(tiny_zone: Tiny) -> None:
    start, m = tiny_zone.start, tiny_zone.m
    page = alloc_pages_nodemask(m, 0, GFP_HIGHUSER_MOVABLE, 9, 0, 0)
    base = page & ~1023
    set_page_movable(m, page, 1 << 20)
    for i in range(1, 512):
        set_page_movable(m, page + i, 1 << 20)
    assert isolate(tiny_zone, page, page + 512) == 0
    for i in range(512):
        m[tiny_zone.page(page + i) + 3] = 0
    assert free_pages(m, 0, page, 9) == 0
    assert tiny_zone.free_list(9, MIGRATE_ISOLATE) == [page]
    tiny_zone.record(EV_UNISOLATE_PAGEBLOCK, EV_FREE_TO_BUDDY)
    undo(tiny_zone, page, page + 512)
    assert [event[0] for event in tiny_zone.events()] == [EV_UNISOLATE_PAGEBLOCK, EV_FREE_TO_BUDDY]
    assert tiny_zone.events()[0][-1] == -1
    assert base in tiny_zone.free_list(10, MIGRATE_MOVABLE)
    assert tiny_zone.free_pages() == NODE_PAGES
    assert start <= base


def test_an_unmovable_page_refuses_the_range_and_nothing_stays_isolated(tiny_zone: Tiny) -> None:
    start, m = tiny_zone.start, tiny_zone.m
    while (pfn := alloc_pages_nodemask(m, 0, GFP_KERNEL, 0, 0, 0)) // 512 != (start + 1024) // 512:
        assert pfn >= 0
    free = tiny_zone.free_pages()
    assert isolate(tiny_zone, start + 512, start + 1536) == -EBUSY
    assert tiny_zone.m[tiny_zone.z + Z_NR_ISOLATE] == 0
    assert tiny_zone.free_pages() == free
    assert get_pageblock_migratetype(m, start + 512) == MIGRATE_MOVABLE


def test_isolating_twice_is_refused(tiny_zone: Tiny) -> None:
    start = tiny_zone.start
    isolate(tiny_zone, start, start + 1024)
    assert isolate(tiny_zone, start, start + 1024) == -EBUSY
    assert tiny_zone.m[tiny_zone.z + Z_NR_ISOLATE] == 2


@pytest.mark.parametrize(
    ("flags", "movable", "refused"),
    [
        (0, False, True),
        (PG_LRU, False, False),
        (0, True, False),
        (PG_RESERVED | PG_LRU, True, True),
    ],
)
def test_used_pages_must_be_on_an_lru_or_movable_and_never_reserved(
    tiny_zone: Tiny, flags: int, movable: bool, refused: bool
) -> None:
    m = tiny_zone.m
    pfn = alloc_pages_nodemask(m, 0, GFP_HIGHUSER_MOVABLE, 0, 0, 0)
    m[tiny_zone.page(pfn)] |= flags
    if movable:
        set_page_movable(m, pfn, 1 << 20)
    block = pfn & ~511
    assert iso.has_unmovable_pages(m, tiny_zone.z, block, MIGRATE_MOVABLE) is refused


def test_cma_may_isolate_its_own_blocks_whatever_is_in_them(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    pfn = alloc_pages_nodemask(m, 0, GFP_KERNEL, 0, 0, 0)
    block = pfn & ~511
    assert iso.has_unmovable_pages(m, tiny_zone.z, block, MIGRATE_CMA)
    set_pageblock_migratetype(m, pfn, MIGRATE_CMA)
    assert not iso.has_unmovable_pages(m, tiny_zone.z, block, MIGRATE_CMA)


def test_pages_freed_into_an_isolated_block_are_not_handed_out(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    pfn = alloc_pages_nodemask(m, 0, GFP_HIGHUSER_MOVABLE, 0, 0, 0)
    set_page_movable(m, pfn, 1 << 20)
    block = pfn & ~1023
    assert isolate(tiny_zone, block, block + 1024) == 0
    before = tiny_zone.free_pages()
    free_pages(m, 0, pfn, 0)
    assert tiny_zone.free_pages() == before
    taken = [alloc_pages_nodemask(m, 0, 0x400000, 10, 0, 0) for _ in range(4)]
    assert block not in taken
    assert taken[-1] == -1
    assert iso.test_pages_isolated(m, block, block + 1024, False) == 0


def test_only_a_wholly_free_isolated_range_passes_the_test(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    start = tiny_zone.start
    assert iso.test_pages_isolated(m, start, start + 1024, False) == -EBUSY
    pfn = alloc_pages_nodemask(m, 0, GFP_HIGHUSER_MOVABLE, 0, 0, 0)
    set_page_movable(m, pfn, 1 << 20)
    block = pfn & ~1023
    isolate(tiny_zone, block, block + 1024)
    assert iso.test_pages_isolated(m, block, block + 1024, False) == -EBUSY
    m[tiny_zone.page(pfn)] |= PG_HWPOISON
    assert iso.test_pages_isolated(m, block, block + 1024, True) == 0
    assert iso.test_pages_isolated(m, 1 << 20, (1 << 20) + 1024, False) == -EBUSY


def test_taking_a_free_block_respects_the_min_watermark(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    tiny_zone.m[tiny_zone.z + Z_WMARK] = NODE_PAGES - 1024
    block = tiny_zone.free_list(10, MIGRATE_MOVABLE)[0]
    assert iso.isolate_free_page(m, 0, block, 10) == 0
    tiny_zone.m[tiny_zone.z + Z_WMARK] = NODE_PAGES - 1024 - 1
    assert iso.isolate_free_page(m, 0, block, 10) == 1024
    assert block not in tiny_zone.free_list(10, MIGRATE_MOVABLE)
    assert tiny_zone.free_pages() == NODE_PAGES - 1024


def test_taking_half_a_pageblock_makes_it_movable(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    pfn = alloc_pages_nodemask(m, 0, GFP_KERNEL, 8, 0, 0)
    assert get_pageblock_migratetype(m, pfn) == 0
    buddy = pfn ^ 256
    assert iso.isolate_free_page(m, 0, buddy, 8) == 256
    assert get_pageblock_migratetype(m, pfn) == MIGRATE_MOVABLE
