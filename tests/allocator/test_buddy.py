# SPDX-License-Identifier: GPL-2.0-only
"""allocator/buddy.py: splitting, merging and where a freed block is listed."""

from __future__ import annotations

import pytest

from allocator.buddy import free_one_page, rmqueue_smallest
from allocator.kernel import Kernel
from allocator.mmzone import MIGRATE_CMA, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from allocator.trace_events import EV_MERGE, EV_RMQUEUE_SMALLEST
from allocator.views import Zone
from tests.allocator.machines import boot
from tests.allocator.records import recorded


@pytest.fixture
def kernel() -> Kernel:
    return boot("1x64M")


@pytest.fixture
def zone(kernel: Kernel) -> Zone:
    return kernel.zone(0, "DMA32")


def drop_lists(kernel: Kernel, zone: Zone) -> int:
    """Takes every block off the lists; a free order-10 block's PFN to play with."""
    first = zone.free_list(10, MIGRATE_MOVABLE)[-1]
    for order in range(11):
        for mt in range(6):
            while rmqueue_smallest(kernel.m, 0, zone.word, order, mt) >= 0:
                pass
    assert zone.free_lists() == {}
    return first


def free(kernel: Kernel, zone: Zone, pfn: int, order: int, mt: int = MIGRATE_UNMOVABLE) -> None:
    free_one_page(kernel.m, 0, zone.word, pfn, order, mt)


def test_split_leaves_the_upper_halves_one_a_list(kernel: Kernel, zone: Zone) -> None:
    base = drop_lists(kernel, zone)
    free(kernel, zone, base, 10)
    assert rmqueue_smallest(kernel.m, 0, zone.word, 3, MIGRATE_UNMOVABLE) == base
    assert zone.free_lists() == {(order, 0): [base + (1 << order)] for order in range(3, 10)}


def test_freeing_what_was_split_merges_everything_back(kernel: Kernel, zone: Zone) -> None:
    base = drop_lists(kernel, zone)
    free(kernel, zone, base, 10)
    rmqueue_smallest(kernel.m, 0, zone.word, 0, MIGRATE_UNMOVABLE)
    with recorded(kernel, 1 << EV_MERGE) as events:
        free(kernel, zone, base, 0)
    assert zone.free_lists() == {(10, 0): [base]}
    assert events[0].args == (0, 1, base, 0, base, 10, 0, 0, 0, 0, 0)[:7] + events[0].args[7:]


def test_smallest_sufficient_block_is_taken_from_the_head(kernel: Kernel, zone: Zone) -> None:
    base = drop_lists(kernel, zone)
    free(kernel, zone, base + 512, 9)
    free(kernel, zone, base + 16, 2)
    free(kernel, zone, base + 32, 2)
    with recorded(kernel, 1 << EV_RMQUEUE_SMALLEST) as events:
        assert rmqueue_smallest(kernel.m, 0, zone.word, 1, MIGRATE_UNMOVABLE) == base + 32
    assert events[0].args[2:6] == (1, 2, 0, base + 32)


def test_block_whose_higher_buddy_is_free_goes_to_the_tail(kernel: Kernel, zone: Zone) -> None:
    base = drop_lists(kernel, zone)
    free(kernel, zone, base + 64, 3)
    free(kernel, zone, base + 16, 4)
    free(kernel, zone, base, 3)
    assert zone.free_list(3, 0) == [base + 64, base]
    free(kernel, zone, base + 128, 3)
    assert zone.free_list(3, 0) == [base + 128, base + 64, base]


def test_orders_9_and_10_are_always_listed_at_the_head(kernel: Kernel, zone: Zone) -> None:
    base = drop_lists(kernel, zone)
    free(kernel, zone, base + 1024, 10)
    free(kernel, zone, base, 9)
    assert zone.free_list(9, 0) == [base]
    free(kernel, zone, base - 1024, 10)
    assert zone.free_list(10, 0) == [base - 1024, base + 1024]


def test_blocks_of_other_migratetypes_merge_onto_the_last_ones_list(
    kernel: Kernel, zone: Zone
) -> None:
    base = drop_lists(kernel, zone)
    free(kernel, zone, base, 2, MIGRATE_UNMOVABLE)
    free(kernel, zone, base + 4, 2, MIGRATE_MOVABLE)
    assert zone.free_lists() == {(3, MIGRATE_MOVABLE): [base]}


def test_isolated_and_cma_pages_are_counted_as_4_20_counts_them(kernel: Kernel, zone: Zone) -> None:
    base = drop_lists(kernel, zone)
    kernel.fold_vm_stats()
    before = zone.stat()
    free(kernel, zone, base, 4, MIGRATE_ISOLATE)
    free(kernel, zone, base + 512, 4, MIGRATE_CMA)
    kernel.fold_vm_stats()
    after = zone.stat()
    assert after["nr_free_pages"] - before["nr_free_pages"] == 16
    assert after["nr_free_cma"] - before["nr_free_cma"] == 16


def test_blocks_of_two_zones_never_merge(kernel: Kernel) -> None:
    for zone in kernel.zones:
        for (order, _), pfns in zone.free_lists().items():
            for pfn in pfns:
                assert zone.start_pfn <= pfn
                assert pfn + (1 << order) <= zone.end_pfn
