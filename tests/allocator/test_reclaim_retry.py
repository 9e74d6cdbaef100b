# SPDX-License-Identifier: GPL-2.0-only
"""allocator/reclaim_retry.py: rows read from should_reclaim_retry and should_compact_retry."""

from __future__ import annotations

import pytest

from allocator.compact_suitable import (
    COMPACT_COMPLETE,
    COMPACT_CONTENDED,
    COMPACT_CONTINUE,
    COMPACT_DEFERRED,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
)
from allocator.kernel import Kernel
from allocator.kernel_globals import G_CLOCK, G_NR_SWAP_PAGES
from allocator.mmzone import (
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    ND_ZONELISTS,
    NR_FREE_PAGES,
    NR_ZONE_LRU_BASE,
    NR_ZONE_WRITE_PENDING,
    WMARK_MIN,
    Z_VM_STAT,
    Z_WMARK,
    ZONE_NORMAL,
)
from allocator.reclaim_retry import (
    CONGESTION_WAIT_NS,
    MAX_RECLAIM_RETRIES,
    compaction_withdrawn,
    should_compact_retry,
    should_reclaim_retry,
    zone_reclaimable_pages,
)
from allocator.watermark import ALLOC_WMARK_MIN
from tests.allocator.machines import boot


@pytest.fixture
def kernel() -> Kernel:
    return boot("1x64M")


def zonelist(kernel: Kernel) -> int:
    return kernel.nodes[0].word + ND_ZONELISTS


def reclaim(kernel: Kernel, order: int, progress: bool, loops: int) -> tuple[int, int]:
    where = (zonelist(kernel), ZONE_NORMAL, 0, 1)
    return should_reclaim_retry(kernel.m, 0, order, ALLOC_WMARK_MIN, *where, 1, progress, loops)


def set_free(kernel: Kernel, pages: int) -> None:
    for zone in kernel.zones:
        kernel.m[zone.word + Z_VM_STAT + NR_FREE_PAGES] = pages
        kernel.m[zone.word + Z_WMARK + WMARK_MIN] = 100


@pytest.mark.parametrize(
    ("order", "progress", "loops", "again", "after"),
    [
        (0, True, 9, 1, 0),  # progress forgets the rounds without
        (0, False, 9, 1, 10),
        (4, True, 9, 1, 10),  # not for costly orders
        (0, False, MAX_RECLAIM_RETRIES - 1, 1, MAX_RECLAIM_RETRIES),
        (0, False, MAX_RECLAIM_RETRIES, 0, MAX_RECLAIM_RETRIES + 1),  # no highatomic block to give
    ],
)
def test_rounds_without_progress_are_counted_and_end_it(
    kernel: Kernel, order: int, progress: bool, loops: int, again: int, after: int
) -> None:
    assert reclaim(kernel, order, progress, loops) == (again, after)


def test_it_retries_as_long_as_reclaiming_everything_would_do(kernel: Kernel) -> None:
    set_free(kernel, 0)
    assert reclaim(kernel, 0, True, 0) == (0, 0)
    for zone in kernel.zones:
        kernel.m[zone.word + Z_VM_STAT + NR_ZONE_LRU_BASE + LRU_INACTIVE_FILE] = 5000
    assert reclaim(kernel, 0, True, 0) == (1, 0)


def test_anonymous_pages_count_as_reclaimable_only_with_swap(kernel: Kernel) -> None:
    zone = kernel.zones[-1].word
    kernel.m[zone + Z_VM_STAT + NR_ZONE_LRU_BASE + LRU_INACTIVE_ANON] = 70
    kernel.m[zone + Z_VM_STAT + NR_ZONE_LRU_BASE + LRU_INACTIVE_FILE] = 5
    assert zone_reclaimable_pages(kernel.m, zone) == 5
    kernel.m[G_NR_SWAP_PAGES] = 1
    assert zone_reclaimable_pages(kernel.m, zone) == 75


@pytest.mark.parametrize(
    ("progress", "pending", "waits"),
    [(False, 3000, True), (False, 2000, False), (True, 3000, False)],
)
def test_without_progress_it_waits_when_most_of_it_is_being_written(
    kernel: Kernel, progress: bool, pending: int, waits: bool
) -> None:
    set_free(kernel, 0)
    for zone in kernel.zones:
        kernel.m[zone.word + Z_VM_STAT + NR_ZONE_LRU_BASE + LRU_INACTIVE_FILE] = 5000
        kernel.m[zone.word + Z_VM_STAT + NR_ZONE_WRITE_PENDING] = pending
    before = kernel.m[G_CLOCK]
    assert reclaim(kernel, 0, progress, 0)[0] == 1
    assert (kernel.m[G_CLOCK] - before == CONGESTION_WAIT_NS) is waits


def test_compaction_withdraws_where_it_did_not_try_everything() -> None:
    withdrawn = {r for r in range(9) if compaction_withdrawn(r)}
    assert withdrawn == {
        COMPACT_SKIPPED,
        COMPACT_DEFERRED,
        COMPACT_CONTENDED,
        COMPACT_PARTIAL_SKIPPED,
    }


@pytest.mark.parametrize(
    ("order", "result", "state", "again", "after"),
    [
        (0, COMPACT_COMPLETE, 1, 0, 1),  # order 0 is not compacted for
        (2, COMPACT_SUCCESS, 1, 1, 1 << 8 | 1),  # progress is counted
        (2, COMPACT_SUCCESS, 15 << 8 | 1, 1, 16 << 8 | 1),
        (2, COMPACT_SUCCESS, 16 << 8 | 1, 1, 0),  # 17th: the next priority, counted anew
        (2, COMPACT_SUCCESS, 16 << 8, 0, 17 << 8),  # there is none below
        (5, COMPACT_SUCCESS, 4 << 8 | 2, 1, 1),  # costly: a quarter of the retries
        (5, COMPACT_SUCCESS, 4 << 8 | 1, 0, 5 << 8 | 1),  # and not down to the lowest priority
        (2, COMPACT_COMPLETE, 3 << 8 | 1, 1, 0),  # failed wholly: only priority can help
        (2, COMPACT_COMPLETE, 0, 0, 0),
        (2, COMPACT_SKIPPED, 1, 1, 1),  # some zone can still be compacted
        (2, COMPACT_CONTINUE, 1, 1, 1),
    ],
)
def test_compaction_is_retried_at_lower_priorities_a_bounded_number_of_times(
    kernel: Kernel, order: int, result: int, state: int, again: int, after: int
) -> None:
    where = (zonelist(kernel), ZONE_NORMAL, 0, 1)
    got = should_compact_retry(kernel.m, 0, order, ALLOC_WMARK_MIN, *where, result, state)
    assert got == (again, after)


def test_withdrawn_compaction_is_not_retried_without_memory_to_work_in(kernel: Kernel) -> None:
    set_free(kernel, 0)
    where = (zonelist(kernel), ZONE_NORMAL, 0, 1)
    got = should_compact_retry(kernel.m, 0, 2, ALLOC_WMARK_MIN, *where, COMPACT_SKIPPED, 1)
    assert got == (0, 1)
