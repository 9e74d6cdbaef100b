# SPDX-License-Identifier: GPL-2.0-only
"""allocator/kswapd_wake.py: rows read from wakeup_kswapd, wakeup_kcompactd and pgdat_balanced."""

from __future__ import annotations

import pytest

from allocator.gfp import GFP_ATOMIC, GFP_KERNEL
from allocator.kernel import Kernel
from allocator.kernel_globals import G_TRACE_HEAD, G_TRACE_MASK, G_TRACE_MASK2
from allocator.kswapd_wake import (
    KSWAPD_ASLEEP,
    KSWAPD_NAPS,
    KSWAPD_RUNS,
    KSWAPD_WOKEN,
    KSWAPD_WOKEN_EARLY,
    kcompactd_node_suitable,
    kswapd_classzone_idx,
    pgdat_balanced,
    wakeup_kcompactd,
    wakeup_kswapd,
)
from allocator.layout import NODE_DATA, word_of_va
from allocator.mmzone import (
    MAX_NR_ZONES,
    ND_KCOMPACTD_CLASSZONE,
    ND_KCOMPACTD_ORDER,
    ND_KCOMPACTD_WOKEN,
    ND_KSWAPD_CLASSZONE,
    ND_KSWAPD_FAILURES,
    ND_KSWAPD_ORDER,
    ND_KSWAPD_STATE,
    NR_FREE_PAGES,
    WMARK_HIGH,
    Z_MANAGED,
    Z_VM_STAT,
    Z_WMARK,
    ZONE_WORDS,
)
from allocator.trace_events import EV_VMSCAN_WAKEUP_KSWAPD, EV_WAKEUP_KCOMPACTD
from allocator.tracepoints import describe, trace_records
from tests.allocator.machines import boot
from tests.allocator.test_compaction import fill_with_movable

NOBODY = MAX_NR_ZONES


def node(kernel: Kernel) -> int:
    return word_of_va(kernel.m[NODE_DATA])


def drain_zones(kernel: Kernel) -> int:
    """Makes the node look as if no zone had a free page."""
    nd = node(kernel)
    for zid in range(MAX_NR_ZONES):
        kernel.m[nd + zid * ZONE_WORDS + Z_VM_STAT + NR_FREE_PAGES] = 0
    return nd


@pytest.fixture
def scattered() -> Kernel:
    """A machine with every second page free, the others movable."""
    kernel = boot("1x64M")
    for pfn in fill_with_movable(kernel, 0)[::2]:
        kernel.free_pages(pfn, 0)
    kernel.drain_all_pages()
    # filling memory has woken it
    kernel.m[node(kernel) + ND_KSWAPD_STATE] = KSWAPD_ASLEEP
    return kernel


@pytest.mark.parametrize(
    ("state", "failures", "balanced", "after", "traced"),
    [
        (KSWAPD_ASLEEP, 0, False, KSWAPD_WOKEN, True),
        (KSWAPD_NAPS, 0, False, KSWAPD_WOKEN_EARLY, True),
        (KSWAPD_NAPS, 15, False, KSWAPD_WOKEN_EARLY, True),
        # on no wait queue: it has been woken, or runs
        (KSWAPD_WOKEN, 0, False, KSWAPD_WOKEN, False),
        (KSWAPD_RUNS, 0, False, KSWAPD_RUNS, False),
        # hopeless: left to direct reclaim
        (KSWAPD_ASLEEP, 16, False, KSWAPD_ASLEEP, False),
        # nothing to do
        (KSWAPD_ASLEEP, 0, True, KSWAPD_ASLEEP, False),
        (KSWAPD_NAPS, 0, True, KSWAPD_NAPS, False),
    ],
)
def test_kswapd_is_woken_if_it_sleeps_and_the_node_is_neither_balanced_nor_hopeless(
    state: int, failures: int, balanced: bool, after: int, traced: bool
) -> None:
    kernel = boot("1x64M")
    nd = node(kernel) if balanced else drain_zones(kernel)
    m = kernel.m
    m[nd + ND_KSWAPD_STATE], m[nd + ND_KSWAPD_FAILURES] = state, failures
    m[G_TRACE_MASK2] = 1 << (EV_VMSCAN_WAKEUP_KSWAPD - 64)
    first = m[G_TRACE_HEAD]
    wakeup_kswapd(m, 0, nd + ZONE_WORDS, GFP_KERNEL, 3, 2)
    assert m[nd + ND_KSWAPD_STATE] == after
    # the wish is left in any case
    assert (m[nd + ND_KSWAPD_ORDER], m[nd + ND_KSWAPD_CLASSZONE]) == (3, 2)
    said = [describe(record) for record in trace_records(m, first)]
    expected = "mm_vmscan_wakeup_kswapd: nid=0 zid=2 order=3 gfp_flags=GFP_KERNEL"
    assert said == ([expected] if traced else [])


@pytest.mark.parametrize(
    ("had", "asked", "left"),
    [
        ((0, NOBODY), (0, 1), (0, 1)),
        ((3, NOBODY), (0, 0), (3, 0)),
        ((0, 0), (2, 1), (2, 1)),
        ((3, 2), (2, 1), (3, 2)),
    ],
)
def test_the_highest_order_and_the_highest_zone_are_left_for_kswapd(
    had: tuple[int, int], asked: tuple[int, int], left: tuple[int, int]
) -> None:
    kernel = boot("1x64M")
    nd, m = node(kernel), kernel.m
    m[nd + ND_KSWAPD_ORDER], m[nd + ND_KSWAPD_CLASSZONE] = had
    assert kswapd_classzone_idx(m, nd, asked[1]) == left[1]
    wakeup_kswapd(m, 0, nd + ZONE_WORDS, GFP_KERNEL, *asked)
    assert (m[nd + ND_KSWAPD_ORDER], m[nd + ND_KSWAPD_CLASSZONE]) == left


def test_a_zone_without_pages_asks_for_nothing() -> None:
    kernel = boot("1x64M")
    nd, m = drain_zones(kernel), kernel.m
    empty = nd + 2 * ZONE_WORDS
    assert m[empty + Z_MANAGED] == 0
    wakeup_kswapd(m, 0, empty, GFP_KERNEL, 3, 2)
    assert m[nd + ND_KSWAPD_CLASSZONE] == NOBODY
    assert m[nd + ND_KSWAPD_STATE] == KSWAPD_ASLEEP


@pytest.mark.parametrize(
    ("gfp", "order", "failures", "woken"),
    [
        (GFP_ATOMIC, 9, 16, True),
        (GFP_ATOMIC, 0, 16, False),  # no block to make
        (GFP_KERNEL, 9, 16, False),  # compacts itself
        (GFP_ATOMIC, 9, 0, False),  # not balanced: kswapd's business
    ],
)
def test_what_cannot_reclaim_itself_is_left_to_kcompactd_where_kswapd_would_not_help(
    scattered: Kernel, gfp: int, order: int, failures: int, woken: bool
) -> None:
    m, nd = scattered.m, node(scattered)
    m[nd + ND_KSWAPD_FAILURES] = failures
    m[G_TRACE_MASK] = 1 << EV_WAKEUP_KCOMPACTD
    wakeup_kswapd(m, 0, nd + ZONE_WORDS, gfp, order, 2)
    assert m[nd + ND_KCOMPACTD_WOKEN] == woken
    assert m[nd + ND_KCOMPACTD_ORDER] == (order if woken else 0)
    assert m[nd + ND_KSWAPD_STATE] == (KSWAPD_ASLEEP if failures or order == 0 else KSWAPD_WOKEN)


@pytest.mark.both_engines
def test_an_atomic_request_wakes_kcompactd_by_way_of_the_slow_path(scattered: Kernel) -> None:
    m, nd = scattered.m, node(scattered)
    m[nd + ND_KSWAPD_FAILURES] = 16
    assert scattered.alloc_pages("GFP_ATOMIC|__GFP_NOWARN", 9) is None
    assert m[nd + ND_KCOMPACTD_WOKEN] == 1
    assert m[nd + ND_KCOMPACTD_ORDER] == 9


@pytest.mark.both_engines
def test_the_slow_path_wakes_kswapd_once_and_the_tracepoint_says_for_what() -> None:
    kernel = boot("1x64M")
    m = kernel.m
    m[G_TRACE_MASK2] = 1 << (EV_VMSCAN_WAKEUP_KSWAPD - 64)
    kernel.exhaust(0, "GFP_ATOMIC", order=1)
    said = [describe(record) for record in trace_records(m)]
    assert [text for text in said if text.startswith("mm_vmscan")] == [
        "mm_vmscan_wakeup_kswapd: nid=0 zid=2 order=1 "
        "gfp_flags=GFP_ATOMIC|__GFP_NOWARN|__GFP_THISNODE"
    ]
    assert m[node(kernel) + ND_KSWAPD_STATE] == KSWAPD_WOKEN


@pytest.mark.parametrize(
    ("had", "asked", "left"),
    [
        ((0, 2), (8, 2), (8, 2)),
        ((8, 2), (9, 1), (9, 1)),
        ((9, 1), (3, 2), (9, 1)),
        ((9, 1), (0, 0), (9, 1)),  # order 0: nothing to compact for
    ],
)
def test_the_highest_order_and_the_lowest_zone_are_left_for_kcompactd(
    scattered: Kernel, had: tuple[int, int], asked: tuple[int, int], left: tuple[int, int]
) -> None:
    m, nd = scattered.m, node(scattered)
    m[nd + ND_KCOMPACTD_ORDER], m[nd + ND_KCOMPACTD_CLASSZONE] = had
    assert wakeup_kcompactd(m, 0, nd, *asked) == (asked[0] > 0)
    assert (m[nd + ND_KCOMPACTD_ORDER], m[nd + ND_KCOMPACTD_CLASSZONE]) == left


def test_kcompactd_is_woken_once(scattered: Kernel) -> None:
    m, nd = scattered.m, node(scattered)
    assert wakeup_kcompactd(m, 0, nd, 8, 2)
    assert not wakeup_kcompactd(m, 0, nd, 9, 2)
    assert m[nd + ND_KCOMPACTD_ORDER] == 9


def test_a_node_with_large_blocks_has_no_work_for_kcompactd() -> None:
    kernel = boot("1x64M")
    m, nd = kernel.m, node(kernel)
    assert not wakeup_kcompactd(m, 0, nd, 9, 2)
    assert not kcompactd_node_suitable(m, 0, nd)
    assert m[nd + ND_KCOMPACTD_WOKEN] == 0


@pytest.mark.parametrize(
    ("free", "classzone", "balanced"),
    [
        ((0, 0), 2, False),
        ((9000, 0), 2, True),  # one zone is enough
        ((0, 9000), 2, True),
        ((0, 9000), 0, False),  # but one that the request may use
    ],
)
def test_one_balanced_zone_is_enough(free: tuple[int, int], classzone: int, balanced: bool) -> None:
    kernel = boot("1x64M")
    m, nd = kernel.m, drain_zones(kernel)
    for zid, pages in enumerate(free):
        z = nd + zid * ZONE_WORDS
        m[z + Z_VM_STAT + NR_FREE_PAGES] = m[z + Z_WMARK + WMARK_HIGH] + pages if pages else 0
    assert pgdat_balanced(m, nd, 0, classzone) is balanced


def test_a_node_without_memory_is_balanced() -> None:
    kernel = boot("1x64M")
    m, nd = kernel.m, drain_zones(kernel)
    for zid in range(MAX_NR_ZONES):
        m[nd + zid * ZONE_WORDS + Z_MANAGED] = 0
    assert pgdat_balanced(m, nd, 0, 2)
