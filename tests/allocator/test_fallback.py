# SPDX-License-Identifier: GPL-2.0-only
"""allocator/fallback.py: stealing rules of 4.20, one row a branch."""

from __future__ import annotations

import pytest

from allocator.buddy import free_one_page, rmqueue_smallest
from allocator.fallback import (
    can_steal_fallback,
    move_freepages_block,
    reserve_highatomic_pageblock,
    rmqueue_fallback,
    rmqueue_one,
    unreserve_highatomic_pageblock,
)
from allocator.kernel import Kernel
from allocator.mm_types import P_FLAGS, PG_LRU
from allocator.page_alloc import node_zonelist
from allocator.pageblock import get_pageblock_migratetype, set_pageblock_migratetype
from allocator.trace_events import EV_MM_PAGE_ALLOC_EXTFRAG
from allocator.views import Zone
from tests.allocator.machines import boot
from tests.allocator.records import recorded

UNMOVABLE, MOVABLE, RECLAIMABLE, HIGHATOMIC, CMA = range(5)


class Bench:
    """One empty zone with free order-10 areas to build states in."""

    def __init__(self) -> None:
        self.kernel: Kernel = boot("1x64M")
        self.zone: Zone = self.kernel.zone(0, "DMA32")
        self.m = self.kernel.m
        self.base = sorted(self.zone.free_list(10, MOVABLE))[2]
        for order in range(11):
            for mt in range(6):
                while rmqueue_smallest(self.m, 0, self.zone.word, order, mt) >= 0:
                    pass

    def free(self, at: int, order: int, mt: int) -> int:
        free_one_page(self.m, 0, self.zone.word, self.base + at, order, mt)
        return self.base + at

    def block(self, at: int) -> int:
        return get_pageblock_migratetype(self.m, self.base + at)

    def retype(self, at: int, mt: int) -> None:
        set_pageblock_migratetype(self.m, self.base + at, mt)

    def take(self, order: int, mt: int) -> int:
        return rmqueue_one(self.m, 0, self.zone.word, order, mt)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("order", "mt", "can"),
    [
        (10, MOVABLE, True),
        (9, MOVABLE, True),
        (4, MOVABLE, True),
        (3, MOVABLE, False),
        (0, MOVABLE, False),
        (0, UNMOVABLE, True),
        (0, RECLAIMABLE, True),
    ],
)
def test_which_orders_justify_stealing(bench: Bench, order: int, mt: int, can: bool) -> None:
    assert can_steal_fallback(bench.m, order, mt) is can


@pytest.mark.parametrize(
    ("want", "first", "second"),
    [
        (UNMOVABLE, RECLAIMABLE, MOVABLE),
        (MOVABLE, RECLAIMABLE, UNMOVABLE),
        (RECLAIMABLE, UNMOVABLE, MOVABLE),
    ],
)
def test_fallback_types_come_in_their_fixed_order(
    bench: Bench, want: int, first: int, second: int
) -> None:
    bench.free(0, 5, second)
    preferred = bench.free(1024, 5, first)
    assert bench.take(5, want) == preferred


def test_largest_block_is_stolen_first(bench: Bench) -> None:
    bench.free(0, 4, RECLAIMABLE)
    large = bench.free(1024, 7, MOVABLE)
    with recorded(bench.kernel, 1 << EV_MM_PAGE_ALLOC_EXTFRAG) as events:
        assert bench.take(0, UNMOVABLE) == large
    assert events[0].args[2:7] == (large, 0, 7, UNMOVABLE, MOVABLE)


def test_movable_that_cannot_steal_takes_the_smallest_block(bench: Bench) -> None:
    bench.free(0, 3, UNMOVABLE)
    small = bench.free(1024, 1, UNMOVABLE)
    assert bench.take(0, MOVABLE) == small


def test_whole_blocks_change_type_with_every_pageblock_they_cover(bench: Bench) -> None:
    head = bench.free(0, 10, MOVABLE)
    assert bench.take(0, UNMOVABLE) == head
    assert (bench.block(0), bench.block(512)) == (UNMOVABLE, UNMOVABLE)


def test_steal_moves_all_free_pages_of_the_block_and_takes_the_last_moved(bench: Bench) -> None:
    bench.free(0, 5, MOVABLE)
    bench.free(64, 5, MOVABLE)
    last = bench.free(200, 3, MOVABLE)
    rmqueue_fallback(bench.m, 0, bench.zone.word, 0, UNMOVABLE)
    assert bench.zone.free_list(5, MOVABLE) == []
    assert bench.zone.free_list(5, UNMOVABLE) == [bench.base + 64, bench.base]
    assert bench.take(3, UNMOVABLE) == last


@pytest.mark.parametrize(
    ("free_pages", "lru", "want", "old", "claimed"),
    [
        (256, 0, UNMOVABLE, RECLAIMABLE, True),  # half of the block free
        (128, 0, UNMOVABLE, RECLAIMABLE, False),  # nothing counts as alike
        (128, 0, UNMOVABLE, MOVABLE, True),  # allocated non-movable pages are alike
        (128, 300, UNMOVABLE, MOVABLE, False),  # 128 + (512 - 128 - 300) < 256
        (128, 256, UNMOVABLE, MOVABLE, True),  # 128 + 128
        (128, 128, MOVABLE, UNMOVABLE, True),  # LRU pages are alike to movable
        (128, 127, MOVABLE, UNMOVABLE, False),
    ],
)
def test_pageblock_is_claimed_when_half_of_it_is_free_or_alike(
    bench: Bench, free_pages: int, lru: int, want: int, old: int, claimed: bool
) -> None:
    bench.retype(0, old)
    bench.free(0, free_pages.bit_length() - 1, old)
    for i in range(lru):
        page = bench.kernel.page(bench.base + free_pages + i)
        bench.m[page.word + P_FLAGS] |= PG_LRU
    assert bench.take(0, want) == bench.base
    assert bench.block(0) == (want if claimed else old)


def test_highatomic_block_is_never_claimed(bench: Bench) -> None:
    bench.retype(0, HIGHATOMIC)
    bench.free(0, 8, RECLAIMABLE)
    bench.take(0, UNMOVABLE)
    assert bench.block(0) == HIGHATOMIC


def test_movable_takes_cma_before_it_steals(bench: Bench) -> None:
    bench.free(0, 10, UNMOVABLE)
    cma = bench.free(1024, 2, CMA)
    assert bench.take(0, MOVABLE) == cma
    assert bench.take(0, UNMOVABLE) == bench.base


def test_block_that_reaches_beyond_the_zone_moves_nothing(bench: Bench) -> None:
    dma = bench.kernel.zone(0, "DMA")
    assert dma.start_pfn == 1
    last = bench.zone.end_pfn - 1
    if (last + 1) % 512:
        assert move_freepages_block(bench.m, 0, bench.zone.word, last, UNMOVABLE) == (0, 0)
    moved, _ = move_freepages_block(bench.m, 0, dma.word, 100, MOVABLE)
    assert moved > 0


def test_highatomic_reserve_is_limited_to_a_block_more_than_one_percent(bench: Bench) -> None:
    limit = bench.zone.managed_pages // 100 + 512
    for at in range(0, 8192, 512):
        reserve_highatomic_pageblock(bench.m, 0, bench.zone.word, bench.base - 2048 + at)
    assert bench.zone.nr_reserved_highatomic >= limit
    assert bench.zone.nr_reserved_highatomic - 512 < limit


@pytest.mark.parametrize(("force", "given_back"), [(False, False), (True, True)])
def test_last_highatomic_block_is_given_back_only_by_force(
    bench: Bench, force: bool, given_back: bool
) -> None:
    bench.free(0, 4, HIGHATOMIC)
    reserve_highatomic_pageblock(bench.m, 0, bench.zone.word, bench.base)
    zonelist = node_zonelist(bench.m, 0, 0)
    done = unreserve_highatomic_pageblock(bench.m, 0, zonelist, 2, 0, MOVABLE, force)
    assert done is given_back
    assert (bench.block(0) == MOVABLE) is given_back
    assert bench.zone.nr_reserved_highatomic == (0 if given_back else 512)
