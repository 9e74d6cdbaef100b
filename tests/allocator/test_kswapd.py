# SPDX-License-Identifier: GPL-2.0-only
"""allocator/kswapd.py: the daemon's turns on a machine short of memory."""

from __future__ import annotations

import pytest

from allocator.compact_suitable import compact_gap
from allocator.gfp import GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, RECLAIM
from allocator.kernel_globals import G_CLOCK, G_TRACE_MASK2
from allocator.kswapd import (
    NAP_NS,
    kswapd_run_pending,
    kswapd_shrink_node,
    prepare_kswapd_sleep,
    run_daemons,
)
from allocator.kswapd_wake import (
    KSWAPD_ASLEEP,
    KSWAPD_NAPS,
    KSWAPD_WOKEN,
    KSWAPD_WOKEN_EARLY,
    pgdat_balanced,
    wake_kswapd,
    wakeup_kswapd,
)
from allocator.layout import NODE_DATA, word_of_va
from allocator.mmzone import (
    MAX_NR_ZONES,
    ND_FLAGS,
    ND_KSWAPD_CLASSZONE,
    ND_KSWAPD_FAILURES,
    ND_KSWAPD_ORDER,
    ND_KSWAPD_STATE,
    NR_FREE_PAGES,
    PGDAT_DIRTY,
    PSET_THRESHOLD,
    WMARK_HIGH,
    Z_DRIFT_MARK,
    Z_VM_STAT,
    Z_WMARK,
    ZONE_WORDS,
)
from allocator.page_alloc import alloc_pages_nodemask
from allocator.pageset import calculate_pressure_threshold, zone_pageset
from allocator.scan_control import ScanControl
from allocator.trace_events import EV_VMSCAN_KSWAPD_SLEEP, EV_VMSCAN_KSWAPD_WAKE
from allocator.tracepoints import trace_records
from tests.allocator.process_support import PAGE, Lab


def full_node(swap: int = 20000, pages: int = 12000) -> tuple[Lab, int, int, int]:
    """A process that has written so many pages, and memory just below the low watermarks."""
    lab = Lab("1x64M")
    if swap:
        lab.swap(swap)
    task = lab.process()
    at = lab.map(task, pages)
    return lab, task, at, word_of_va(lab.m[NODE_DATA])


def exhaust(lab: Lab) -> None:
    """Takes pages until the allocator has woken kswapd."""
    nd = word_of_va(lab.m[NODE_DATA])
    while lab.m[nd + ND_KSWAPD_STATE] != KSWAPD_WOKEN:
        assert alloc_pages_nodemask(lab.m, 0, GFP_HIGHUSER_MOVABLE, 0, 0, 0) >= 0


def test_kswapd_reclaims_until_a_zone_is_above_its_high_watermark() -> None:
    lab, task, at, nd = full_node(pages=3000)
    for i in range(3000):
        lab.poke(task, at + i * PAGE, i + 7)
    exhaust(lab)
    classzone = lab.m[nd + ND_KSWAPD_CLASSZONE]
    assert not pgdat_balanced(lab.m, nd, 0, classzone)
    assert kswapd_run_pending(lab.m, 0) == 1
    assert pgdat_balanced(lab.m, nd, 0, classzone)
    assert lab.event("pgsteal_kswapd") > 0
    assert lab.event("pageoutrun") > 0
    lab.check()
    assert all(lab.peek(task, at + i * PAGE) == i + 7 for i in range(3000))


def test_kswapd_without_a_request_has_no_turn() -> None:
    lab = Lab("1x64M")
    assert kswapd_run_pending(lab.m, 0) == 0
    run_daemons(lab.m, 0)
    assert lab.event("pageoutrun") == 0


def test_a_turn_leaves_no_request_behind() -> None:
    lab, _, _, nd = full_node()
    exhaust(lab)
    kswapd_run_pending(lab.m, 0)
    assert lab.m[nd + ND_KSWAPD_CLASSZONE] == MAX_NR_ZONES
    assert lab.m[nd + ND_KSWAPD_ORDER] == 0


def test_turns_that_free_nothing_make_the_node_hopeless() -> None:
    lab, _, _, nd = full_node(swap=0)
    exhaust(lab)
    for turn in range(16):
        assert lab.m[nd + ND_KSWAPD_FAILURES] == turn
        kswapd_run_pending(lab.m, 0)
        wakeup_kswapd(lab.m, 0, nd + ZONE_WORDS, GFP_ATOMIC, 0, 3)
    assert lab.m[nd + ND_KSWAPD_STATE] == KSWAPD_NAPS
    runs = lab.event("pageoutrun")
    wakeup_kswapd(lab.m, 0, nd + ZONE_WORDS, GFP_ATOMIC, 0, 3)
    lab.m[G_CLOCK] += NAP_NS
    kswapd_run_pending(lab.m, 0)
    assert lab.m[nd + ND_KSWAPD_STATE] == KSWAPD_ASLEEP
    assert lab.event("pageoutrun") == runs


def test_a_balanced_node_forgets_that_it_was_dirty() -> None:
    lab = Lab("1x64M")
    nd = word_of_va(lab.m[NODE_DATA])
    lab.m[nd + ND_FLAGS] |= PGDAT_DIRTY
    assert prepare_kswapd_sleep(lab.m, nd, 0, 2)
    assert not lab.m[nd + ND_FLAGS] & PGDAT_DIRTY


def trace_of(lab: Lab) -> list[tuple[int, tuple[int, ...]]]:
    """kswapd's events in the trace ring: number and arguments."""
    kinds = (EV_VMSCAN_KSWAPD_WAKE, EV_VMSCAN_KSWAPD_SLEEP)
    return [(r.event, r.args) for r in trace_records(lab.m) if r.event in kinds]


def test_after_a_turn_it_naps_for_a_tenth_of_a_second_and_then_sleeps() -> None:
    lab, task, at, nd = full_node(pages=3000)
    for i in range(3000):
        lab.poke(task, at + i * PAGE, i)
    lab.m[G_TRACE_MASK2] = 3
    exhaust(lab)
    kswapd_run_pending(lab.m, 0)
    assert lab.m[nd + ND_KSWAPD_STATE] == KSWAPD_NAPS
    lab.m[G_CLOCK] += NAP_NS - 1
    assert kswapd_run_pending(lab.m, 0) == 0
    assert lab.m[nd + ND_KSWAPD_STATE] == KSWAPD_NAPS
    lab.m[G_CLOCK] += 1
    assert kswapd_run_pending(lab.m, 0) == 0
    assert lab.m[nd + ND_KSWAPD_STATE] == KSWAPD_ASLEEP
    kinds = [event for event, _ in trace_of(lab)]
    assert kinds == [EV_VMSCAN_KSWAPD_WAKE, EV_VMSCAN_KSWAPD_SLEEP]


def test_woken_out_of_its_nap_it_keeps_what_it_balanced_for() -> None:
    lab, task, at, nd = full_node(pages=3000)
    for i in range(3000):
        lab.poke(task, at + i * PAGE, i)
    exhaust(lab)
    kswapd_run_pending(lab.m, 0)
    hits = lab.event("kswapd_low_wmark_hit_quickly")
    lab.m[nd + ND_KSWAPD_ORDER], lab.m[nd + ND_KSWAPD_CLASSZONE] = 2, 0
    wake_kswapd(lab.m, nd)
    assert lab.m[nd + ND_KSWAPD_STATE] == KSWAPD_WOKEN_EARLY
    lab.m[G_TRACE_MASK2] = 3
    assert kswapd_run_pending(lab.m, 0) == 1
    assert lab.event("kswapd_low_wmark_hit_quickly") == hits + 1
    # the zone of the nap is the higher one, the order that of the new request
    assert trace_of(lab)[0] == (EV_VMSCAN_KSWAPD_WAKE, (0, 3, 2))


def test_a_nap_that_ends_out_of_balance_is_followed_by_work() -> None:
    lab, task, at, nd = full_node(pages=3000)
    for i in range(3000):
        lab.poke(task, at + i * PAGE, i)
    exhaust(lab)
    kswapd_run_pending(lab.m, 0)
    while pgdat_balanced(lab.m, nd, 0, 1):
        assert alloc_pages_nodemask(lab.m, 0, GFP_HIGHUSER_MOVABLE & ~RECLAIM, 0, 0, 0) >= 0
    hits, runs = lab.event("kswapd_high_wmark_hit_quickly"), lab.event("pageoutrun")
    lab.m[nd + ND_KSWAPD_CLASSZONE] = 1
    lab.m[G_CLOCK] += NAP_NS
    assert kswapd_run_pending(lab.m, 0) == 1
    assert lab.event("kswapd_high_wmark_hit_quickly") == hits + 1
    assert lab.event("pageoutrun") > runs


def test_while_it_is_awake_counters_drift_less() -> None:
    lab = Lab("2x64M,cpus=4")
    nd = word_of_va(lab.m[NODE_DATA])
    drifting = [z for z in (nd, nd + ZONE_WORDS) if lab.m[z + Z_DRIFT_MARK]]
    assert drifting
    before = [lab.m[zone_pageset(lab.m, z, 3) + PSET_THRESHOLD] for z in drifting]
    wake_kswapd(lab.m, nd)
    kswapd_run_pending(lab.m, 0)
    awake = [lab.m[zone_pageset(lab.m, z, 3) + PSET_THRESHOLD] for z in drifting]
    assert awake == [calculate_pressure_threshold(lab.m, z) for z in drifting]
    assert all(a < b for a, b in zip(awake, before, strict=True))
    lab.m[G_CLOCK] += NAP_NS
    kswapd_run_pending(lab.m, 0)
    after = [lab.m[zone_pageset(lab.m, z, 3) + PSET_THRESHOLD] for z in drifting]
    assert after == before


@pytest.mark.parametrize(
    ("failures", "free", "sleeps", "forgets"),
    [
        (0, 9000, True, True),  # balanced
        (0, 0, False, False),
        (15, 0, False, False),
        (16, 0, True, False),  # hopeless: it sleeps, but the node is as it was
        (16, 9000, True, False),
    ],
)
def test_it_may_sleep_when_the_node_is_balanced_or_hopeless(
    failures: int, free: int, sleeps: bool, forgets: bool
) -> None:
    lab = Lab("1x64M")
    nd, m = word_of_va(lab.m[NODE_DATA]), lab.m
    for zid in range(MAX_NR_ZONES):
        m[nd + zid * ZONE_WORDS + Z_VM_STAT + NR_FREE_PAGES] = free
    m[nd + ND_KSWAPD_FAILURES] = failures
    m[nd + ND_FLAGS] |= PGDAT_DIRTY
    assert prepare_kswapd_sleep(m, nd, 0, 1) is sleeps
    assert (m[nd + ND_FLAGS] & PGDAT_DIRTY == 0) is forgets


@pytest.mark.parametrize(
    ("order", "reclaimed", "order_after"),
    [
        (0, 0, 0),
        (3, compact_gap(3) - 1, 3),
        (3, compact_gap(3), 0),  # room for compaction is made: the rest is about order 0
    ],
)
def test_a_round_aims_at_the_high_watermarks_and_drops_the_order_when_there_is_room(
    order: int, reclaimed: int, order_after: int
) -> None:
    lab = Lab("1x64M")
    nd, m = word_of_va(lab.m[NODE_DATA]), lab.m
    sc = ScanControl(GFP_KERNEL, order, 1, kswapd=True)
    sc.nr_reclaimed = reclaimed
    assert not kswapd_shrink_node(m, 0, nd, sc)
    marks = [m[nd + zid * ZONE_WORDS + Z_WMARK + WMARK_HIGH] for zid in (0, 1)]
    assert sc.nr_to_reclaim == sum(max(mark, 32) for mark in marks)
    assert sc.order == order_after
    sc.nr_scanned = sc.nr_to_reclaim
    assert kswapd_shrink_node(m, 0, nd, sc)
