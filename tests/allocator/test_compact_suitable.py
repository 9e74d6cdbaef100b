# SPDX-License-Identifier: GPL-2.0-only
"""allocator/compact_suitable.py: rows read from mm/compaction.c and mm/vmstat.c."""

from __future__ import annotations

import pytest

from allocator.compact_suitable import (
    COMPACT_CONTINUE,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    VIA_COMPACT_MEMORY,
    compact_gap,
    compaction_defer_reset,
    compaction_deferred,
    compaction_restarting,
    defer_compaction,
    fragmentation_index,
    zone_compaction_suitable,
)
from allocator.mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    WMARK_LOW,
    WMARK_MIN,
    Z_COMPACT_CONSIDERED,
    Z_COMPACT_DEFER_SHIFT,
    Z_COMPACT_ORDER_FAILED,
    Z_FREE_AREA,
    Z_WMARK,
)
from tests.allocator.test_watermark import Z, zone
from tests.allocator.tiny import make_tiny


def with_blocks(*counts: int) -> memoryview:
    """A zone with so many free blocks of order 0, 1, 2 ..."""
    m = zone(0)
    for order, count in enumerate(counts):
        m[Z + Z_FREE_AREA + order * FA_WORDS + FA_NR_FREE] = count
    return m


@pytest.mark.parametrize(
    ("counts", "order", "index"),
    [
        ((), 3, 0),  # nothing free: nothing to say
        ((10, 0, 0, 1), 3, -1000),  # a block is there
        ((10, 0, 0, 0, 2), 3, -1000),  # a larger one is
        ((8,), 3, 1000 - (1000 + 1000) // 8),  # just enough pages, wholly scattered
        ((1000,), 3, 1000 - (1000 + 125_000) // 1000),  # plenty, scattered: near 1000
        ((1,), 9, 1000 - (1000 + 1) // 1),  # hardly anything free: near 0
        ((4,), 11, 0),  # no such order
    ],
)
def test_index_tells_lack_of_memory_from_fragmentation(
    counts: tuple[int, ...], order: int, index: int
) -> None:
    assert fragmentation_index(with_blocks(*counts), Z, order) == index


@pytest.mark.parametrize(
    ("free", "estimate", "order", "blocks", "result"),
    [
        (5000, 5000, VIA_COMPACT_MEMORY, (), COMPACT_CONTINUE),  # a person asked
        (5000, 5000, 3, ((3, 1),), COMPACT_SUCCESS),  # the request would be served as it is
        (5000, 5000, 3, (), COMPACT_CONTINUE),
        (117, 117, 3, (), COMPACT_CONTINUE),  # min 100 + gap 16: just above
        (116, 116, 3, (), COMPACT_SKIPPED),
        (232, 232, 4, (), COMPACT_SKIPPED),  # a costly order: low 200 + gap 32
        (233, 233, 4, (), COMPACT_CONTINUE),
        (50, 5000, 3, (), COMPACT_CONTINUE),  # counting what reclaim could add
    ],
)
def test_compaction_needs_room_above_the_watermark(
    free: int, estimate: int, order: int, blocks: tuple[tuple[int, int], ...], result: int
) -> None:
    m = zone(free, blocks=blocks)
    m[Z + Z_WMARK + WMARK_MIN], m[Z + Z_WMARK + WMARK_LOW] = 100, 200
    assert zone_compaction_suitable(m, Z, order, 0, 2, estimate) == result


def test_gap_is_twice_the_block() -> None:
    assert [compact_gap(order) for order in (0, 3, 9)] == [2, 16, 1024]


def deferral(m: memoryview, z: int) -> tuple[int, int, int]:
    return (
        m[z + Z_COMPACT_CONSIDERED],
        m[z + Z_COMPACT_DEFER_SHIFT],
        m[z + Z_COMPACT_ORDER_FAILED],
    )


def test_each_failure_doubles_the_attempts_that_are_skipped_up_to_64() -> None:
    tiny = make_tiny(1, 1)
    m, z = tiny.m, tiny.z
    m[z + Z_COMPACT_ORDER_FAILED] = 9
    for shift in (1, 2, 3, 4, 5, 6, 6):
        defer_compaction(m, 0, z, 5)
        assert deferral(m, z) == (0, shift, 5)
        skipped = 0
        while compaction_deferred(m, 0, z, 5):
            skipped += 1
        assert skipped == (1 << shift) - 1


def test_smaller_orders_than_the_one_that_failed_are_never_deferred() -> None:
    tiny = make_tiny(1, 1)
    m, z = tiny.m, tiny.z
    m[z + Z_COMPACT_ORDER_FAILED] = 11
    defer_compaction(m, 0, z, 4)
    assert not compaction_deferred(m, 0, z, 3)
    assert deferral(m, z) == (0, 1, 4)
    assert compaction_deferred(m, 0, z, 4)


@pytest.mark.parametrize(
    ("order", "success", "after"),
    [
        (3, True, (0, 0, 4)),
        (3, False, (1, 2, 4)),
        (2, True, (0, 0, 3)),
        (2, False, (1, 2, 3)),
    ],
)
def test_success_lifts_the_order_that_failed(
    order: int, success: bool, after: tuple[int, int, int]
) -> None:
    tiny = make_tiny(1, 1)
    m, z = tiny.m, tiny.z
    m[z + Z_COMPACT_CONSIDERED], m[z + Z_COMPACT_DEFER_SHIFT] = 1, 2
    m[z + Z_COMPACT_ORDER_FAILED] = 3
    compaction_defer_reset(m, 0, z, order, success)
    assert deferral(m, z) == after


@pytest.mark.parametrize(
    ("order", "considered", "shift", "restarting"),
    [(5, 64, 6, True), (5, 63, 6, False), (5, 64, 5, False), (4, 64, 6, False)],
)
def test_after_the_longest_deferral_everything_is_looked_at_again(
    order: int, considered: int, shift: int, restarting: bool
) -> None:
    tiny = make_tiny(1, 1)
    m, z = tiny.m, tiny.z
    m[z + Z_COMPACT_CONSIDERED], m[z + Z_COMPACT_DEFER_SHIFT] = considered, shift
    m[z + Z_COMPACT_ORDER_FAILED] = 5
    assert compaction_restarting(m, z, order) is restarting
