# SPDX-License-Identifier: GPL-2.0-only
"""allocator/slowpath.py: rows read from __alloc_pages_slowpath and what it calls."""

from __future__ import annotations

import pytest

from allocator.gfp import parse_gfp
from allocator.kernel import Kernel
from allocator.kernel_globals import G_CLOCK, G_STATIC_KEYS, KEY_CPUSETS
from allocator.kswapd_wake import KSWAPD_WOKEN
from allocator.layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    NODE_DATA,
    PF_MEMALLOC,
    TASK_FLAGS,
    TASK_HARDWALL_MEMS,
    TASK_MEMS_ALLOWED,
    TASK_PRIO,
    word_of_va,
)
from allocator.mmzone import ND_KSWAPD_STATE, ND_ZONELISTS
from allocator.slowpath import (
    NOPAGE_BURST,
    NOPAGE_INTERVAL,
    alloc_pages_cpuset_fallback,
    nodemask_misses_cpuset,
    wake_all_kswapds,
    warn_alloc,
)
from allocator.trace_events import EV_SLOWPATH_FIRST, EV_SLOWPATH_RETRY
from tests.allocator.machines import boot
from tests.allocator.records import recorded

HARDER, HIGH, CPUSET, CMA, NO_WATERMARKS = 0x10, 0x20, 0x40, 0x80, 0x04


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x48M")


def node(kernel: Kernel, nid: int) -> int:
    return word_of_va(kernel.m[NODE_DATA + nid])


def task(kernel: Kernel) -> int:
    return word_of_va(kernel.m[CPU_BLOCKS + CPU_CURRENT])


def confine(kernel: Kernel, mems: int) -> None:
    """The current task is in a cpuset with these nodes."""
    kernel.m[G_STATIC_KEYS] |= KEY_CPUSETS
    kernel.m[task(kernel) + TASK_MEMS_ALLOWED] = mems
    kernel.m[task(kernel) + TASK_HARDWALL_MEMS] = mems


@pytest.mark.parametrize(
    ("cpusets", "mems", "nodemask", "misses"),
    [
        (True, 0b01, 0b10, True),
        (True, 0b01, 0b11, False),
        (True, 0b01, 0, False),  # no nodemask: nothing to drop
        (False, 0b01, 0b10, False),  # no cpusets
    ],
)
def test_a_nodemask_outside_of_the_cpuset_is_noticed(
    kernel: Kernel, cpusets: bool, mems: int, nodemask: int, misses: bool
) -> None:
    confine(kernel, mems)
    if not cpusets:
        kernel.m[G_STATIC_KEYS] &= ~KEY_CPUSETS
    assert nodemask_misses_cpuset(kernel.m, 0, nodemask) is misses


@pytest.mark.parametrize(
    ("high_zoneidx", "nodemask", "mems", "woken"),
    [
        (2, 0, 3, [0, 1]),
        (2, 0b10, 3, [1]),
        (0, 0, 3, [0]),  # only node 0 has DMA
        (2, 0, 0b10, [1]),  # the cpuset's nodes
    ],
)
def test_kswapd_of_every_node_that_could_serve_is_woken(
    kernel: Kernel, high_zoneidx: int, nodemask: int, mems: int, woken: list[int]
) -> None:
    kernel.exhaust(0)
    kernel.exhaust(1)
    for nid in (0, 1):
        kernel.m[node(kernel, nid) + ND_KSWAPD_STATE] = 0
    kernel.drain_all_pages()
    if mems != 3:
        confine(kernel, mems)
    zonelist = node(kernel, 1) + ND_ZONELISTS
    gfp = parse_gfp("GFP_KERNEL|__GFP_HARDWALL")
    wake_all_kswapds(kernel.m, 0, gfp, 3, zonelist, high_zoneidx, nodemask)
    states = {nid: kernel.m[node(kernel, nid) + ND_KSWAPD_STATE] for nid in (0, 1)}
    assert [nid for nid, state in states.items() if state == KSWAPD_WOKEN] == woken


@pytest.mark.both_engines
@pytest.mark.parametrize(
    ("gfp", "prio", "memalloc", "first", "second"),
    [
        # no direct reclaim: two attempts with the same flags
        ("GFP_NOWAIT", 120, False, CPUSET, CPUSET),
        ("GFP_NOWAIT", 50, False, CPUSET | HARDER, CPUSET | HARDER),
        ("GFP_NOWAIT|__GFP_MOVABLE", 120, False, CPUSET | CMA, CPUSET | CMA),
        ("GFP_ATOMIC", 120, False, HIGH | HARDER, HIGH | HARDER),
        ("GFP_ATOMIC|__GFP_NOMEMALLOC", 120, True, HIGH, HIGH),
        # the second one with the reserves that the context opens, whatever else was asked for
        ("GFP_NOWAIT", 120, True, CPUSET, NO_WATERMARKS),
        ("GFP_ATOMIC|__GFP_MEMALLOC", 120, False, HIGH | HARDER, NO_WATERMARKS),
    ],
)
def test_two_attempts_of_a_request_that_may_not_wait(
    kernel: Kernel, gfp: str, prio: int, memalloc: bool, first: int, second: int
) -> None:
    m = kernel.m
    m[task(kernel) + TASK_PRIO] = prio
    m[task(kernel) + TASK_FLAGS] |= PF_MEMALLOC if memalloc else 0
    events = 1 << EV_SLOWPATH_FIRST | 1 << EV_SLOWPATH_RETRY
    kernel.exhaust(0, order=1)
    with recorded(kernel, events) as found:
        assert kernel.alloc_pages(f"{gfp}|__GFP_NOWARN|__GFP_THISNODE", 10, nid=0) is None
    said = [(e.event, e.args[0]) for e in found]
    assert said == [(EV_SLOWPATH_FIRST, first), (EV_SLOWPATH_RETRY, second)]


def test_atomic_and_direct_reclaim_exclude_each_other_and_waiting_wins(kernel: Kernel) -> None:
    kernel.exhaust(0, order=1)
    kernel.exhaust(1, order=1)
    with recorded(kernel, 1 << EV_SLOWPATH_FIRST) as found:
        gfp = "GFP_ATOMIC|__GFP_DIRECT_RECLAIM|__GFP_NORETRY|__GFP_NOWARN"
        assert kernel.alloc_pages(gfp, 10) is None
    assert found[0].args[0] == HIGH | CPUSET


def test_a_nodemask_outside_of_the_cpuset_is_dropped_and_all_begins_again(kernel: Kernel) -> None:
    confine(kernel, 0b01)
    with recorded(kernel, 1 << EV_SLOWPATH_FIRST) as found:
        page = kernel.alloc_pages("GFP_NOWAIT|__GFP_HARDWALL|__GFP_NOWARN", 0, nid=0, nodemask={1})
    assert page is not None
    assert page.nid == 0
    assert len(found) == 2


@pytest.mark.parametrize(
    ("mems", "nid"),
    [(0b01, 0), (0b10, 1), (0b11, 0)],
)
def test_nofails_help_comes_from_the_cpuset_while_that_has_memory(
    kernel: Kernel, mems: int, nid: int
) -> None:
    confine(kernel, mems)
    zonelist, gfp = node(kernel, 0) + ND_ZONELISTS, parse_gfp("GFP_KERNEL|__GFP_HARDWALL")
    pfn = alloc_pages_cpuset_fallback(kernel.m, 0, gfp, 0, 0, zonelist, 2, 0, 0)
    assert kernel.page(pfn).nid == nid


def test_nofails_help_goes_anywhere_when_the_cpuset_is_empty(kernel: Kernel) -> None:
    kernel.exhaust(1, "GFP_KERNEL|__GFP_MEMALLOC")
    confine(kernel, 0b10)
    zonelist, gfp = node(kernel, 1) + ND_ZONELISTS, parse_gfp("GFP_KERNEL|__GFP_HARDWALL")
    pfn = alloc_pages_cpuset_fallback(kernel.m, 0, gfp, 0, HARDER, zonelist, 2, 0, 0)
    assert kernel.page(pfn).nid == 0
    # but where nothing is, there is no help
    nowhere = 1 << 5
    assert alloc_pages_cpuset_fallback(kernel.m, 0, gfp, 0, 0, zonelist, 2, nowhere, 0) < 0


def test_failures_are_reported_ten_times_in_five_seconds_and_not_with_nowarn(
    kernel: Kernel,
) -> None:
    m, gfp = kernel.m, parse_gfp("GFP_ATOMIC")
    m[G_CLOCK] += NOPAGE_INTERVAL
    list(kernel.reports())
    for _ in range(NOPAGE_BURST + 5):
        warn_alloc(m, 0, gfp, 4, 0)
    warn_alloc(m, 0, gfp | parse_gfp("__GFP_NOWARN"), 4, 0)
    failures = [line for line in kernel.reports() if "page allocation failure" in line]
    assert len(failures) == NOPAGE_BURST
    m[G_CLOCK] += NOPAGE_INTERVAL + 1
    warn_alloc(m, 0, gfp, 4, 0)
    failures = [line for line in kernel.reports() if "page allocation failure" in line]
    assert len(failures) == NOPAGE_BURST + 1
