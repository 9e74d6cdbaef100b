# SPDX-License-Identifier: GPL-2.0-only
"""allocator/vmscan.py: direct reclaim on processes of a booted machine."""

from __future__ import annotations

import pytest

from allocator.compact_suitable import compact_gap
from allocator.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_RETRY_MAYFAIL_BIT
from allocator.kernel_globals import G_STATIC_KEYS, KEY_CPUSETS
from allocator.layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    NODE_DATA,
    TASK_HARDWALL_MEMS,
    TASK_MEMS_ALLOWED,
    word_of_va,
)
from allocator.list_head import list_init
from allocator.mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_ORDER,
    MIGRATE_MOVABLE,
    MIGRATE_TYPES,
    ND_FLAGS,
    ND_KSWAPD_FAILURES,
    ND_VM_STAT,
    ND_ZONELISTS,
    NR_FREE_PAGES,
    NR_INACTIVE_ANON,
    PGDAT_CONGESTED,
    PGDAT_DIRTY,
    WMARK_HIGH,
    Z_DRIFT_MARK,
    Z_FREE_AREA,
    Z_VM_STAT,
    Z_WMARK,
    ZONE_WORDS,
)
from allocator.scan_control import DEF_PRIORITY, ScanControl
from allocator.vmscan import (
    compaction_ready,
    in_reclaim_compaction,
    note_node_state,
    should_continue_reclaim,
    shrink_node,
    try_to_free_pages,
    zone_is_shrunk,
)
from tests.allocator.process_support import PAGE, Lab


def lab_with_pages(pages: int, swap: int = 8192) -> tuple[Lab, int, int]:
    lab = Lab("1x64M")
    if swap:
        lab.swap(swap)
    task = lab.process()
    at = lab.map(task, pages)
    for i in range(pages):
        lab.poke(task, at + i * PAGE, i * 3 + 1)
    return lab, task, at


def free(lab: Lab, gfp: int = GFP_KERNEL) -> int:
    zonelist = word_of_va(lab.m[NODE_DATA]) + ND_ZONELISTS
    return try_to_free_pages(lab.m, 0, zonelist, 0, gfp, 0)


def test_direct_reclaim_swaps_pages_out_and_nothing_is_lost() -> None:
    lab, task, at = lab_with_pages(2000)
    freed = sum(free(lab, GFP_HIGHUSER_MOVABLE) for _ in range(20))
    assert freed >= 20 * 32
    assert lab.event("pswpout") >= freed
    assert lab.event("pgsteal_direct") >= freed
    lab.check()
    assert [lab.peek(task, at + i * PAGE) for i in range(2000)] == [i * 3 + 1 for i in range(2000)]
    lab.check()


def test_without_swap_anonymous_memory_cannot_be_reclaimed() -> None:
    lab, *_ = lab_with_pages(500, swap=0)
    assert free(lab) == 0
    assert lab.event("allocstall_normal") + lab.event("allocstall_dma32") == 1


@pytest.mark.parametrize(
    ("order", "priority", "mode"),
    [
        (0, 0, False),
        (3, DEF_PRIORITY, False),
        (3, DEF_PRIORITY - 3, True),
        (4, DEF_PRIORITY, True),
    ],
)
def test_reclaim_for_compaction_is_for_costly_orders_or_after_three_priorities(
    order: int, priority: int, mode: bool
) -> None:
    assert in_reclaim_compaction(ScanControl(GFP_KERNEL, order, priority=priority)) is mode


@pytest.mark.parametrize(
    ("gfp", "reclaimed", "scanned", "total", "goes_on"),
    [
        (GFP_KERNEL, 0, 500, 0, False),  # the last round freed nothing
        (GFP_RETRY_MAYFAIL_BIT, 0, 0, 0, False),  # nothing left to look at
        (GFP_RETRY_MAYFAIL_BIT, 0, 500, 0, True),
        (GFP_KERNEL, 32, 500, 32, True),  # not yet twice the block, and lists are long
    ],
)
def test_rounds_go_on_while_compaction_lacks_room(
    gfp: int, reclaimed: int, scanned: int, total: int, goes_on: bool
) -> None:
    lab, *_ = lab_with_pages(2000)
    nd = word_of_va(lab.m[NODE_DATA])
    sc = ScanControl(gfp, 6, 2)
    lab.m[nd + ND_VM_STAT + NR_INACTIVE_ANON] = 5000
    sc.nr_reclaimed = total
    assert should_continue_reclaim(lab.m, 0, nd, reclaimed, scanned, sc) is goes_on


def test_kswapd_tells_from_what_it_met_what_the_node_suffers_from() -> None:
    lab, *_ = lab_with_pages(10)
    nd = word_of_va(lab.m[NODE_DATA])
    sc = ScanControl(GFP_KERNEL, kswapd=True)
    sc.dirty = sc.congested = 8
    sc.file_taken = sc.taken = 32
    note_node_state(lab.m, 0, nd, sc)
    assert lab.m[nd + ND_FLAGS] & PGDAT_CONGESTED
    assert not lab.m[nd + ND_FLAGS] & PGDAT_DIRTY
    sc.unqueued_dirty = 32
    note_node_state(lab.m, 0, nd, sc)
    assert lab.m[nd + ND_FLAGS] & PGDAT_DIRTY


def test_progress_gives_a_hopeless_node_back_to_kswapd() -> None:
    lab, *_ = lab_with_pages(1000)
    nd = word_of_va(lab.m[NODE_DATA])
    lab.m[nd + ND_KSWAPD_FAILURES] = 16
    for _ in range(8):
        shrink_node(lab.m, 0, nd, ScanControl(GFP_KERNEL, priority=0))
    assert lab.m[nd + ND_KSWAPD_FAILURES] == 0


def scattered_zone(free: int, block: bool) -> tuple[Lab, int]:
    """DMA32 as if it had so many free pages above its high watermark for compaction of order 5,
    all single, or with one block of that order."""
    lab = Lab("1x64M")
    m = lab.m
    z = word_of_va(m[NODE_DATA]) + ZONE_WORDS
    for order in range(MAX_ORDER):
        area = z + Z_FREE_AREA + order * FA_WORDS
        m[area + FA_NR_FREE] = 0
        for mt in range(MIGRATE_TYPES):
            list_init(m, area + 2 * mt)
    if block:
        m[z + Z_FREE_AREA + 5 * FA_WORDS + FA_NR_FREE] = 1
        m[z + Z_FREE_AREA + 5 * FA_WORDS + 2 * MIGRATE_MOVABLE] += 8
    pages = m[z + Z_WMARK + WMARK_HIGH] + compact_gap(5) + free
    m[z + Z_VM_STAT + NR_FREE_PAGES] = pages
    m[z + Z_FREE_AREA + FA_NR_FREE] = pages
    m[z + Z_DRIFT_MARK] = 0
    return lab, z


@pytest.mark.parametrize(
    ("free", "block", "ready"),
    [
        (1, False, True),
        (0, False, False),  # room to begin, but none to spare
        (-1000, False, False),  # not even that
        (0, True, True),  # nothing to compact for
    ],
)
def test_reclaim_for_compaction_stops_when_that_can_begin(
    free: int, block: bool, ready: bool
) -> None:
    lab, z = scattered_zone(free, block)
    sc = ScanControl(GFP_KERNEL, 5, 1)
    assert compaction_ready(lab.m, 0, z, sc) is ready
    assert zone_is_shrunk(lab.m, 0, z, sc) is not ready
    assert sc.compaction_ready is ready


@pytest.mark.parametrize(
    ("order", "memcg", "cpuset", "shrunk"),
    [
        (5, False, 0, False),  # compaction can begin
        (3, False, 0, True),  # cheap orders are reclaimed for all the same
        (5, True, 0, True),  # a group at its limit looks at nothing
        (3, False, 0b10, False),  # not the task's memory
        (3, True, 0b10, True),
    ],
)
def test_zones_that_direct_reclaim_leaves_out(
    order: int, memcg: bool, cpuset: int, shrunk: bool
) -> None:
    lab, z = scattered_zone(1, False)
    m = lab.m
    if cpuset:
        m[G_STATIC_KEYS] |= KEY_CPUSETS
        task = word_of_va(m[CPU_BLOCKS + CPU_CURRENT])
        m[task + TASK_MEMS_ALLOWED] = m[task + TASK_HARDWALL_MEMS] = cpuset
    sc = ScanControl(GFP_KERNEL, order, 1, memcg=1 if memcg else 0)
    assert zone_is_shrunk(m, 0, z, sc) is shrunk
