# SPDX-License-Identifier: GPL-2.0-only
"""allocator/slowpath_sleep.py: rows read from __alloc_pages_slowpath, and whole requests."""

from __future__ import annotations

import pytest

from allocator.gfp import (
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_NOFAIL_BIT,
    GFP_NORETRY_BIT,
    GFP_NOWARN_BIT,
    GFP_RETRY_MAYFAIL_BIT,
)
from allocator.kernel_globals import G_PANIC
from allocator.layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    PF_MEMALLOC,
    TASK_FATAL_SIGNAL,
    TASK_FLAGS,
    word_of_va,
)
from allocator.page_alloc import alloc_pages_nodemask
from allocator.slowpath_sleep import PANIC_NOFAIL, PANIC_TEXT, compact_first
from tests.allocator.machines import boot
from tests.allocator.process_support import PAGE, Lab


@pytest.mark.parametrize(
    ("order", "mt", "reserve", "first"),
    [
        (0, 0, 0, False),
        (1, 0, 0, True),  # an unmovable block: compaction keeps pageblocks of one kind
        (1, 1, 0, False),
        (3, 1, 0, False),
        (4, 1, 0, True),  # costly
        (4, 1, 4, False),  # may use the reserves: those come first
    ],
)
def test_compaction_comes_before_reclaim_for_costly_and_unmovable_blocks(
    order: int, mt: int, reserve: int, first: bool
) -> None:
    assert compact_first(order, mt, reserve) is first


def full(swap: int) -> tuple[Lab, int, int, int]:
    """A machine filled by a process, one page after the other."""
    lab = Lab("1x64M")
    if swap:
        lab.swap(swap)
    task = lab.process()
    count = 11000
    at = lab.map(task, count)
    for i in range(count):
        lab.poke(task, at + i * PAGE, i)
    return lab, task, at, count


def test_a_request_that_may_wait_gets_what_was_swapped_out_for_it() -> None:
    lab, task, at, count = full(30000)
    taken = [alloc_pages_nodemask(lab.m, 0, GFP_KERNEL, 0, 0, 0) for _ in range(5000)]
    assert all(pfn >= 0 for pfn in taken)
    assert lab.event("pswpout") > 1000
    assert lab.m[G_PANIC] == 0
    lab.check()
    assert [lab.peek(task, at + i * PAGE) for i in range(0, count, 97)] == list(range(0, count, 97))


def test_noretry_and_memalloc_requests_never_kill() -> None:
    for gfp, flag in ((GFP_NORETRY_BIT, 0), (GFP_RETRY_MAYFAIL_BIT, 0), (0, PF_MEMALLOC)):
        lab, task = small()
        current = word_of_va(lab.m[CPU_BLOCKS + CPU_CURRENT])
        lab.m[current + TASK_FLAGS] |= flag
        request = GFP_KERNEL | GFP_NOWARN_BIT | gfp
        while alloc_pages_nodemask(lab.m, 0, request, 0, 0, 0) >= 0:
            pass
        assert lab.event("oom_kill") == 0
        assert not lab.m[task + TASK_FATAL_SIGNAL]


def small() -> tuple[Lab, int]:
    """A machine with one small process and no swap."""
    lab = Lab("1x64M")
    task = lab.process()
    at = lab.map(task, 100)
    for i in range(100):
        lab.poke(task, at + i * PAGE, i)
    return lab, task


def test_the_last_resort_of_a_small_order_is_the_oom_killer() -> None:
    lab, task = small()
    while lab.event("oom_kill") == 0:
        assert alloc_pages_nodemask(lab.m, 0, GFP_HIGHUSER_MOVABLE, 0, 0, 0) >= 0
    assert lab.m[task + TASK_FATAL_SIGNAL] == 1


def test_costly_orders_fail_instead() -> None:
    lab, _ = small()
    while alloc_pages_nodemask(lab.m, 0, GFP_KERNEL | GFP_NOWARN_BIT, 4, 0, 0) >= 0:
        pass
    assert lab.event("oom_kill") == 0


def test_nofail_with_nothing_left_stops_with_a_name_instead_of_going_round_for_ever() -> None:
    kernel = boot("1x48M")
    gfp = GFP_KERNEL | GFP_NOFAIL_BIT | GFP_NOWARN_BIT
    while kernel.m[G_PANIC] == 0:
        alloc_pages_nodemask(kernel.m, 0, gfp, 0, 0, 0)
    assert kernel.m[G_PANIC] == PANIC_NOFAIL
    assert "__GFP_NOFAIL" in PANIC_TEXT[PANIC_NOFAIL]


def test_without_processes_a_request_fails_as_before() -> None:
    kernel = boot("1x48M")
    while kernel.alloc_pages("GFP_KERNEL|__GFP_NOWARN", 0):
        pass
    assert kernel.m[G_PANIC] == 0
