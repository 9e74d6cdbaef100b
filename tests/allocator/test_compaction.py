# SPDX-License-Identifier: GPL-2.0-only
"""allocator/compaction.py: whole runs, on drivers' movable pages and on pages of processes."""

from __future__ import annotations

import random

from allocator.compact_free import (
    CC_FREE_PFN,
    CC_MIGRATE_PFN,
    MIGRATE_ASYNC,
    init_compact_control,
)
from allocator.compaction import compact_node, compact_scanners_met
from allocator.gfp import GFP_KERNEL
from allocator.kernel import Kernel
from allocator.layout import COMPACT_CONTROLS, CPU_BLOCKS, CPU_EVENTS, NODE_DATA, word_of_va
from allocator.migrate import set_page_movable
from allocator.mmzone import (
    Z_COMPACT_DEFER_SHIFT,
    Z_COMPACT_MIGRATE_PFN,
    Z_SPANNED,
    Z_START_PFN,
)
from allocator.vm_events import VM_EVENT_NAMES
from tests.allocator.machines import boot
from tests.allocator.process_support import PAGE, Lab

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
