# SPDX-License-Identifier: GPL-2.0-only
"""allocator/reclaim_throttle.py: rows read from allow_direct_reclaim, throttle_direct_reclaim."""

from __future__ import annotations

import pytest

from allocator.gfp import GFP_FS_BIT, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from allocator.kernel_globals import G_CLOCK
from allocator.kswapd_wake import KSWAPD_ASLEEP, KSWAPD_RUNS, KSWAPD_WOKEN
from allocator.layout import NODE_DATA, PF_KTHREAD, TASK_FATAL_SIGNAL, TASK_FLAGS, word_of_va
from allocator.mmzone import (
    MAX_NR_ZONES,
    ND_KSWAPD_CLASSZONE,
    ND_KSWAPD_FAILURES,
    ND_KSWAPD_STATE,
    ND_ZONELISTS,
    NR_FREE_PAGES,
    WMARK_MIN,
    Z_VM_STAT,
    Z_WMARK,
    ZONE_NORMAL,
    ZONE_WORDS,
)
from allocator.page_alloc import alloc_pages_nodemask
from allocator.reclaim_throttle import (
    MAX_WAITS,
    SECOND_NS,
    allow_direct_reclaim,
    reserves_hold,
    throttle_direct_reclaim,
    throttling_node,
)
from allocator.vmscan import try_to_free_pages
from tests.allocator.process_support import PAGE, Lab


def used(pages: int = 400, swap: int = 8192) -> tuple[Lab, int, int]:
    """A process that has written pages; where DMA32 is the only zone with something to reclaim."""
    lab = Lab("1x64M")
    if swap:
        lab.swap(swap)
    task = lab.process()
    at = lab.map(task, pages)
    for i in range(pages):
        lab.poke(task, at + i * PAGE, i)
    lab.drain()
    return lab, task, word_of_va(lab.m[NODE_DATA])


def dma32(lab: Lab, nd: int) -> tuple[int, int]:
    """The word of DMA32's free page counter, and its min watermark."""
    z = nd + ZONE_WORDS
    return z + Z_VM_STAT + NR_FREE_PAGES, lab.m[z + Z_WMARK + WMARK_MIN]


@pytest.mark.parametrize(
    ("free", "failures", "allowed"),
    [
        (2, 0, True),  # min watermark times free
        (0.51, 0, True),
        (0.5, 0, False),
        (0, 0, False),
        (0, 15, False),
        (0, 16, True),  # hopeless: nobody will help
    ],
)
def test_half_the_min_watermarks_must_be_free(free: float, failures: int, allowed: bool) -> None:
    lab, _, nd = used()
    word, mark = dma32(lab, nd)
    lab.m[word] = int(mark * free)
    lab.m[nd + ND_KSWAPD_FAILURES] = failures
    assert reserves_hold(lab.m, nd) is (free > 0.5)
    assert allow_direct_reclaim(lab.m, nd) is allowed
    # who has to wait has woken kswapd, for all zones that count
    woken = KSWAPD_ASLEEP if allowed else KSWAPD_WOKEN
    assert lab.m[nd + ND_KSWAPD_STATE] == woken
    assert lab.m[nd + ND_KSWAPD_CLASSZONE] == (MAX_NR_ZONES if allowed else ZONE_NORMAL)


def test_a_kswapd_that_runs_already_keeps_what_it_was_asked_for() -> None:
    lab, _, nd = used()
    word, _ = dma32(lab, nd)
    lab.m[word] = 0
    lab.m[nd + ND_KSWAPD_STATE], lab.m[nd + ND_KSWAPD_CLASSZONE] = KSWAPD_RUNS, 3
    assert not allow_direct_reclaim(lab.m, nd)
    assert (lab.m[nd + ND_KSWAPD_STATE], lab.m[nd + ND_KSWAPD_CLASSZONE]) == (KSWAPD_RUNS, 3)


def test_zones_without_anything_to_reclaim_have_no_reserves_to_keep() -> None:
    lab = Lab("1x64M")
    nd = word_of_va(lab.m[NODE_DATA])
    for zid in range(MAX_NR_ZONES):
        lab.m[nd + zid * ZONE_WORDS + Z_VM_STAT + NR_FREE_PAGES] = 0
    assert reserves_hold(lab.m, nd)


def test_the_first_node_of_the_zonelist_is_the_one_that_counts() -> None:
    lab = Lab("2x64M")
    nodes = [word_of_va(lab.m[NODE_DATA + nid]) for nid in (0, 1)]
    assert throttling_node(lab.m, nodes[1] + ND_ZONELISTS, 2, 0) == nodes[1]
    assert throttling_node(lab.m, nodes[1] + ND_ZONELISTS, 2, 1) == nodes[0]
    assert throttling_node(lab.m, nodes[1] + ND_ZONELISTS, 2, 8) == 0


@pytest.mark.parametrize(
    ("kthread", "dying", "waits"),
    [(False, False, True), (True, False, False), (False, True, False)],
)
def test_kernel_threads_and_the_dying_do_not_wait(kthread: bool, dying: bool, waits: bool) -> None:
    lab, task, nd = used()
    word, _ = dma32(lab, nd)
    lab.m[word] = 0
    lab.m[task + TASK_FLAGS] |= PF_KTHREAD if kthread else 0
    lab.m[task + TASK_FATAL_SIGNAL] = int(dying)
    with lab.acting(task):
        assert not throttle_direct_reclaim(lab.m, 0, GFP_KERNEL, nd + ND_ZONELISTS, 0)
    assert lab.event("pgscan_direct_throttle") == int(waits)
    assert (lab.event("pageoutrun") > 0) is waits


def test_the_wait_ends_when_kswapd_has_refilled_the_reserves() -> None:
    lab, task, nd = used(9000)
    with lab.acting(task):
        while reserves_hold(lab.m, nd):
            assert alloc_pages_nodemask(lab.m, 0, NO_RECLAIM, 0, 0, 0) >= 0
        zonelist = nd + ND_ZONELISTS
        assert try_to_free_pages(lab.m, 0, zonelist, 0, GFP_HIGHUSER_MOVABLE, 0) >= 32
    assert lab.event("pgscan_direct_throttle") == 1
    assert lab.event("pgsteal_kswapd") > 0
    assert reserves_hold(lab.m, nd)
    lab.check()


def stuck() -> tuple[Lab, int, int]:
    """A process on a node whose reserves cannot be refilled, though kswapd finds it balanced."""
    lab, task, nd = used()
    word, _ = dma32(lab, nd)
    lab.m[word] = 0
    lab.m[nd + Z_VM_STAT + NR_FREE_PAGES] = 3000
    return lab, task, nd


@pytest.mark.parametrize(
    ("gfp", "bounded"), [(GFP_KERNEL & ~GFP_FS_BIT, True), (GFP_KERNEL, False)]
)
def test_who_may_not_call_the_file_system_waits_a_second_at_most(gfp: int, bounded: bool) -> None:
    lab, task, nd = stuck()
    before = lab.m[G_CLOCK]
    with lab.acting(task):
        assert not throttle_direct_reclaim(lab.m, 0, gfp, nd + ND_ZONELISTS, 0)
    passed = lab.m[G_CLOCK] - before
    if bounded:
        assert SECOND_NS <= passed < SECOND_NS + SECOND_NS // 10
    else:
        assert SECOND_NS < passed <= MAX_WAITS * SECOND_NS // 10
    assert lab.event("pgscan_direct_throttle") == 1


def test_reclaim_of_a_task_that_is_killed_while_it_waits_reports_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab, task, nd = stuck()

    def kill(m: memoryview, cpu: int, node: int) -> bool:
        m[task + TASK_FATAL_SIGNAL] = 1
        return True

    monkeypatch.setattr("allocator.reclaim_throttle.kswapd_run_node", kill)
    with lab.acting(task):
        assert try_to_free_pages(lab.m, 0, nd + ND_ZONELISTS, 0, GFP_KERNEL, 0) == 1
    assert lab.event("allocstall_normal") + lab.event("allocstall_dma32") == 0


NO_RECLAIM = 0x2000 | 0x2
"""__GFP_MEMALLOC|__GFP_HIGHMEM: takes everything, wakes nobody."""
