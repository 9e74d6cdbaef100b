# SPDX-License-Identifier: GPL-2.0-only
"""allocator/compaction.py: whole runs, on drivers' movable pages and on pages of processes."""

from __future__ import annotations

import random

import pytest

from allocator.compact_free import (
    CC_CONTENDED,
    CC_DIRECT,
    CC_FINISHING,
    CC_FREE_PFN,
    CC_MIGRATE_PFN,
    CC_MIGRATETYPE,
    CC_WHOLE_ZONE,
    MIGRATE_ASYNC,
    MIGRATE_SYNC_LIGHT,
    init_compact_control,
)
from allocator.compact_suitable import (
    COMPACT_COMPLETE,
    COMPACT_CONTENDED,
    COMPACT_CONTINUE,
    COMPACT_DEFERRED,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    VIA_COMPACT_MEMORY,
)
from allocator.compaction import (
    COMPACT_PRIO_ASYNC,
    COMPACT_PRIO_SYNC_LIGHT,
    MIN_COMPACT_PRIORITY,
    compact_finished,
    compact_node,
    compact_scanners_met,
    place_scanners,
    try_to_compact_pages,
)
from allocator.gfp import GFP_IO_BIT, GFP_KERNEL
from allocator.kernel import Kernel
from allocator.layout import (
    COMPACT_CONTROLS,
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_EVENTS,
    NODE_DATA,
    TASK_FATAL_SIGNAL,
    word_of_va,
)
from allocator.list_head import list_init
from allocator.migrate import set_page_movable
from allocator.mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_ORDER,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_TYPES,
    MIGRATE_UNMOVABLE,
    ND_ZONELISTS,
    Z_COMPACT_BLOCKSKIP_FLUSH,
    Z_COMPACT_DEFER_SHIFT,
    Z_COMPACT_FREE_PFN,
    Z_COMPACT_MIGRATE_PFN,
    Z_COMPACT_ORDER_FAILED,
    Z_FREE_AREA,
    Z_SPANNED,
    Z_START_PFN,
)
from allocator.trace_events import EV_COMPACTION_SUITABLE
from allocator.vm_events import VM_EVENT_NAMES
from tests.allocator.machines import boot
from tests.allocator.process_support import PAGE, Lab
from tests.allocator.records import recorded

ORDER_9 = 512


def fill_with_movable(kernel: Kernel, nid: int) -> list[int]:
    """Takes all free pages of a node, singly, as pages that a driver can move."""
    pfns = []
    while page := kernel.alloc_pages("GFP_HIGHUSER_MOVABLE|__GFP_THISNODE|__GFP_NOWARN", 0, nid):
        pfns.append(page.pfn)
        set_page_movable(kernel.m, page.pfn, 1 << 20)
    return pfns


def possible_blocks(kernel: Kernel, movable: set[int], nid: int) -> int:
    """Order-9 blocks that could be free at best: all pages free or movable, as many as fit."""
    zones = [z for z in kernel.zones if z.nid == nid]
    good = 0
    free = 0
    for zone in zones:
        listed: set[int] = set()
        for order in range(11):
            for mt in range(6):
                for head in zone.free_list(order, mt):
                    listed.update(range(head, head + (1 << order)))
        free += len(listed)
        start = kernel.m[zone.word + Z_START_PFN]
        end = start + kernel.m[zone.word + Z_SPANNED]
        for block in range(-(-start // 512) * 512, end - 511, 512):
            good += all(p in listed or p in movable for p in range(block, block + 512))
    return min(good, free // 512)


def free_order_9(kernel: Kernel, nid: int) -> int:
    return sum(
        len(zone.free_list(order, mt)) << (order - 9)
        for zone in kernel.zones
        if zone.nid == nid
        for order in (9, 10)
        for mt in range(6)
    )


def test_direct_compaction_restores_nine_tenths_of_the_blocks_that_are_possible() -> None:
    kernel = boot("node,nodeid=0,cpus=0,mem=48M", "node,nodeid=1,mem=256M")
    pfns = fill_with_movable(kernel, 1)
    random.Random(7).shuffle(pfns)
    half = pfns[: len(pfns) // 2]
    for pfn in half:
        kernel.free_pages(pfn, 0)
    kernel.drain_all_pages()
    possible = possible_blocks(kernel, set(pfns[len(half) :]), 1)
    gfp = "GFP_HIGHUSER_MOVABLE|__GFP_THISNODE|__GFP_RETRY_MAYFAIL|__GFP_NOWARN"
    # a failure puts compaction off for the next 64 attempts at most
    got = sum(kernel.alloc_pages(gfp, 9, 1) is not None for _ in range(possible + 64))
    assert possible >= 50
    assert got >= possible * 9 // 10


def test_compact_node_gathers_the_free_pages_of_a_node() -> None:
    kernel = boot("1x256M")
    pfns = fill_with_movable(kernel, 0)
    for pfn in pfns[::2]:
        kernel.free_pages(pfn, 0)
    kernel.drain_all_pages()
    before = free_order_9(kernel, 0)
    possible = possible_blocks(kernel, set(pfns[1::2]), 0)
    compact_node(kernel.m, 0, word_of_va(kernel.m[NODE_DATA]))
    kernel.drain_all_pages()
    assert free_order_9(kernel, 0) >= possible * 9 // 10 > before


def test_a_process_reads_its_bytes_after_its_pages_were_moved() -> None:
    lab = Lab("1x64M")
    task = lab.process()
    at = lab.map(task, 3000)
    for i in range(3000):
        lab.poke(task, at + i * PAGE, i ^ 0x5A5A)
    other = lab.process()
    hole = lab.map(other, 2)
    lab.poke(other, hole, 1)
    events = CPU_BLOCKS + CPU_EVENTS + VM_EVENT_NAMES.index("pgmigrate_success")
    before = lab.m[events]
    compact_node(lab.m, 0, word_of_va(lab.m[NODE_DATA]))
    assert lab.m[events] > before
    assert [lab.peek(task, at + i * PAGE) for i in range(3000)] == [i ^ 0x5A5A for i in range(3000)]
    lab.check()


def test_failed_sync_compaction_is_deferred_and_the_next_attempts_skipped() -> None:
    kernel = boot("1x64M")
    # every second page stays, and nothing can move: no order-4 block can come about
    taken = []
    while page := kernel.alloc_pages("GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN", 0):
        taken.append(page.pfn)
    for pfn in sorted(taken)[::2]:
        kernel.free_pages(pfn, 0)
    kernel.drain_all_pages()
    zone = max(kernel.zones, key=lambda z: z.free_pages)
    while kernel.alloc_pages("GFP_KERNEL|__GFP_RETRY_MAYFAIL|__GFP_NOWARN", 4):
        pass
    assert kernel.m[zone.word + Z_COMPACT_DEFER_SHIFT] > 0


def test_scanners_meet_in_one_pageblock_or_past_each_other() -> None:
    kernel = boot("1x64M")
    cc, zone = COMPACT_CONTROLS, kernel.zones[-1]
    init_compact_control(kernel.m, cc, zone.word, 3, GFP_KERNEL, MIGRATE_ASYNC)
    for free, low, met in (
        (1024, 511, False),
        (1024, 1024, True),
        (1535, 1024, True),
        (512, 1024, True),
    ):
        kernel.m[cc + CC_FREE_PFN], kernel.m[cc + CC_MIGRATE_PFN] = free, low
        assert compact_scanners_met(kernel.m, cc) is met


def test_runs_begin_where_the_last_one_stopped() -> None:
    kernel = boot("1x64M")
    pfns = fill_with_movable(kernel, 0)
    for pfn in pfns[::2]:
        kernel.free_pages(pfn, 0)
    kernel.drain_all_pages()
    zone = max(kernel.zones, key=lambda z: z.free_pages)
    start = kernel.m[zone.word + Z_START_PFN]
    assert kernel.alloc_pages("GFP_HIGHUSER_MOVABLE|__GFP_NORETRY|__GFP_NOWARN", 9)
    positions = [kernel.m[zone.word + Z_COMPACT_MIGRATE_PFN + i] for i in (0, 1)]
    assert all(start <= p < start + kernel.m[zone.word + Z_SPANNED] for p in positions)
    assert max(positions) > start


# --- when a run ends (__compact_finished) ---------------------------------------------------------


def run_in_empty_zone(mode: int, migratetype: int, order: int = 3) -> tuple[Kernel, int, int]:
    """A run over a zone that looks as if it had no free block: kernel, compact_control, zone."""
    kernel = boot("1x64M")
    m, z = kernel.m, max(kernel.zones, key=lambda zone: zone.free_pages).word
    for at in range(MAX_ORDER):
        area = z + Z_FREE_AREA + at * FA_WORDS
        m[area + FA_NR_FREE] = 0
        for mt in range(MIGRATE_TYPES):
            list_init(m, area + 2 * mt)
    cc = COMPACT_CONTROLS
    init_compact_control(m, cc, z, order, GFP_KERNEL, mode)
    m[cc + CC_MIGRATETYPE] = migratetype
    m[cc + CC_MIGRATE_PFN], m[cc + CC_FREE_PFN] = 0x1410, 0x3000
    return kernel, cc, z


def put_block(kernel: Kernel, z: int, order: int, mt: int) -> None:
    """Makes a free list look as if it had a block."""
    area = z + Z_FREE_AREA + order * FA_WORDS
    kernel.m[area + FA_NR_FREE] = 1
    kernel.m[area + 2 * mt] += 8


UNMOVABLE, MOVABLE, RECLAIMABLE = MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE


@pytest.mark.parametrize(
    ("wanted", "mode", "aligned", "block", "result"),
    [
        (MOVABLE, MIGRATE_ASYNC, False, None, COMPACT_CONTINUE),  # nothing yet
        (MOVABLE, MIGRATE_ASYNC, False, (2, MOVABLE), COMPACT_CONTINUE),  # too small
        (MOVABLE, MIGRATE_ASYNC, False, (3, MOVABLE), COMPACT_SUCCESS),
        (MOVABLE, MIGRATE_ASYNC, False, (10, MOVABLE), COMPACT_SUCCESS),
        (MOVABLE, MIGRATE_ASYNC, False, (3, MIGRATE_CMA), COMPACT_SUCCESS),
        (UNMOVABLE, MIGRATE_ASYNC, False, (3, MIGRATE_CMA), COMPACT_CONTINUE),
        (MOVABLE, MIGRATE_ASYNC, False, (3, MIGRATE_HIGHATOMIC), COMPACT_CONTINUE),
        # stealing: movable requests from order 4 on, the others at once
        (MOVABLE, MIGRATE_ASYNC, False, (3, UNMOVABLE), COMPACT_CONTINUE),
        (MOVABLE, MIGRATE_ASYNC, False, (4, UNMOVABLE), COMPACT_SUCCESS),
        (MOVABLE, MIGRATE_SYNC_LIGHT, False, (4, RECLAIMABLE), COMPACT_SUCCESS),
        (UNMOVABLE, MIGRATE_ASYNC, False, (3, MOVABLE), COMPACT_SUCCESS),
        # but a synchronous run finishes its pageblock first
        (UNMOVABLE, MIGRATE_SYNC_LIGHT, False, (3, MOVABLE), COMPACT_CONTINUE),
        (UNMOVABLE, MIGRATE_SYNC_LIGHT, True, (3, MOVABLE), COMPACT_SUCCESS),
        (UNMOVABLE, MIGRATE_SYNC_LIGHT, False, (3, UNMOVABLE), COMPACT_SUCCESS),
        (RECLAIMABLE, MIGRATE_SYNC_LIGHT, True, (3, UNMOVABLE), COMPACT_SUCCESS),
    ],
)
def test_a_run_ends_when_a_block_is_free_that_the_request_would_get(
    wanted: int, mode: int, aligned: bool, block: tuple[int, int] | None, result: int
) -> None:
    kernel, cc, z = run_in_empty_zone(mode, wanted)
    if aligned:
        kernel.m[cc + CC_MIGRATE_PFN] = 0x1400
    if block:
        put_block(kernel, z, *block)
    assert compact_finished(kernel.m, 0, cc, z) == result


@pytest.mark.parametrize(
    ("low", "free", "result"),
    [
        (0x1410, True, COMPACT_CONTINUE),  # not through with it
        (0x1400, True, COMPACT_SUCCESS),
        (0x1400, False, COMPACT_CONTINUE),  # the block is gone meanwhile
    ],
)
def test_a_pageblock_that_is_being_finished_is_finished(low: int, free: bool, result: int) -> None:
    kernel, cc, z = run_in_empty_zone(MIGRATE_SYNC_LIGHT, UNMOVABLE)
    kernel.m[cc + CC_FINISHING] = 1
    kernel.m[cc + CC_MIGRATE_PFN] = low
    if free:
        put_block(kernel, z, 3, UNMOVABLE)
    assert compact_finished(kernel.m, 0, cc, z) == result


@pytest.mark.parametrize(
    ("contended", "dying", "met", "whole", "direct", "order", "result"),
    [
        (True, False, False, False, True, 3, COMPACT_CONTENDED),
        (False, True, True, True, True, 3, COMPACT_CONTENDED),
        (False, False, True, True, True, 3, COMPACT_COMPLETE),
        (False, False, True, False, True, 3, COMPACT_PARTIAL_SKIPPED),
        (False, False, True, True, False, 3, COMPACT_COMPLETE),
        (False, False, False, True, False, VIA_COMPACT_MEMORY, COMPACT_CONTINUE),
        (False, False, True, True, False, VIA_COMPACT_MEMORY, COMPACT_COMPLETE),
    ],
)
def test_contention_and_scanners_that_meet_end_a_run(
    contended: bool, dying: bool, met: bool, whole: bool, direct: bool, order: int, result: int
) -> None:
    kernel, cc, z = run_in_empty_zone(MIGRATE_SYNC_LIGHT, UNMOVABLE, order)
    m = kernel.m
    put_block(kernel, z, 3, UNMOVABLE)
    m[cc + CC_CONTENDED], m[cc + CC_WHOLE_ZONE], m[cc + CC_DIRECT] = contended, whole, direct
    m[word_of_va(m[CPU_BLOCKS + CPU_CURRENT]) + TASK_FATAL_SIGNAL] = int(dying)
    m[z + Z_COMPACT_BLOCKSKIP_FLUSH], m[z + Z_COMPACT_MIGRATE_PFN] = 0, 0
    if met:
        m[cc + CC_FREE_PFN] = m[cc + CC_MIGRATE_PFN]
    assert compact_finished(m, 0, cc, z) == result
    ended = met and not dying
    # the next run starts anew, and after a request's kswapd clears the hints
    assert (m[z + Z_COMPACT_MIGRATE_PFN] == m[z + Z_START_PFN]) is ended
    assert bool(m[z + Z_COMPACT_BLOCKSKIP_FLUSH]) is (ended and direct)


@pytest.mark.parametrize(
    ("whole", "mode", "cached", "free", "starts", "whole_after"),
    [
        (True, MIGRATE_ASYNC, (100, 200), 5000, (0, -1), True),
        (False, MIGRATE_ASYNC, (1024, 2048), 5120, (1024, 5120), False),
        (False, MIGRATE_SYNC_LIGHT, (1024, 2048), 5120, (2048, 5120), False),
        (False, MIGRATE_ASYNC, (-5, 2048), 5120, (0, 5120), True),  # outside: from the beginning
        (False, MIGRATE_ASYNC, (1024, 2048), 1 << 30, (1024, -1), False),
        (False, MIGRATE_ASYNC, (0, 0), 5120, (0, 5120), True),  # all of the zone after all
    ],
)
def test_scanners_start_at_the_ends_or_where_the_zone_remembers(
    whole: bool,
    mode: int,
    cached: tuple[int, int],
    free: int,
    starts: tuple[int, int],
    whole_after: bool,
) -> None:
    kernel, cc, z = run_in_empty_zone(mode, UNMOVABLE)
    m = kernel.m
    start = m[z + Z_START_PFN]
    last = (start + m[z + Z_SPANNED] - 1) & -ORDER_9
    m[cc + CC_WHOLE_ZONE] = whole
    for i in (0, 1):
        m[z + Z_COMPACT_MIGRATE_PFN + i] = start + cached[i]
    m[z + Z_COMPACT_FREE_PFN] = start + free
    place_scanners(m, cc, z)
    assert m[cc + CC_MIGRATE_PFN] == start + starts[0]
    assert m[cc + CC_FREE_PFN] == (last if starts[1] < 0 else start + starts[1])
    assert bool(m[cc + CC_WHOLE_ZONE]) is whole_after


@pytest.mark.parametrize(
    ("gfp", "prio", "deferred", "result", "tried"),
    [
        (GFP_KERNEL, COMPACT_PRIO_ASYNC, False, COMPACT_SUCCESS, True),
        (GFP_KERNEL, COMPACT_PRIO_ASYNC, True, COMPACT_DEFERRED, False),
        (GFP_KERNEL, COMPACT_PRIO_SYNC_LIGHT, True, COMPACT_DEFERRED, False),
        (GFP_KERNEL, MIN_COMPACT_PRIORITY, True, COMPACT_SUCCESS, True),  # leaves nothing out
        (GFP_KERNEL & ~GFP_IO_BIT, MIN_COMPACT_PRIORITY, False, COMPACT_SKIPPED, False),
    ],
)
def test_direct_compaction_respects_deferral_down_to_the_last_priority(
    gfp: int, prio: int, deferred: bool, result: int, tried: bool
) -> None:
    kernel = boot("1x64M")
    m = kernel.m
    for zone in kernel.zones:
        if deferred:
            m[zone.word + Z_COMPACT_ORDER_FAILED] = 0
            m[zone.word + Z_COMPACT_DEFER_SHIFT] = 6
    zonelist = word_of_va(m[NODE_DATA]) + ND_ZONELISTS
    with recorded(kernel, 1 << EV_COMPACTION_SUITABLE) as found:
        # memory is plenty: the first zone that is looked at has such a block
        assert try_to_compact_pages(m, 0, gfp, 3, 0, zonelist, 2, 0, 1, prio) == result
    assert bool(found) is tried
