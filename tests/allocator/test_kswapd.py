# SPDX-License-Identifier: GPL-2.0-only
"""allocator/kswapd.py: the daemon's turns on a machine short of memory."""

from __future__ import annotations

from allocator.gfp import GFP_HIGHUSER_MOVABLE
from allocator.kswapd import kswapd_run_pending, pgdat_balanced, prepare_kswapd_sleep, run_daemons
from allocator.layout import NODE_DATA, word_of_va
from allocator.mmzone import (
    MAX_NR_ZONES,
    ND_FLAGS,
    ND_KSWAPD_CLASSZONE,
    ND_KSWAPD_FAILURES,
    ND_KSWAPD_ORDER,
    NR_FREE_PAGES,
    PGDAT_DIRTY,
    WMARK_HIGH,
    Z_MANAGED,
    Z_VM_STAT,
    Z_WMARK,
    ZONE_WORDS,
)
from allocator.page_alloc import alloc_pages_nodemask
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
    while lab.m[nd + ND_KSWAPD_CLASSZONE] >= MAX_NR_ZONES:
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
    for _ in range(20):
        lab.m[nd + ND_KSWAPD_CLASSZONE] = 1
        kswapd_run_pending(lab.m, 0)
    assert lab.m[nd + ND_KSWAPD_FAILURES] >= 16
    runs = lab.event("pageoutrun")
    lab.m[nd + ND_KSWAPD_CLASSZONE] = 1
    kswapd_run_pending(lab.m, 0)
    assert lab.event("pageoutrun") == runs


def test_a_balanced_node_forgets_that_it_was_dirty() -> None:
    lab = Lab("1x64M")
    nd = word_of_va(lab.m[NODE_DATA])
    lab.m[nd + ND_FLAGS] |= PGDAT_DIRTY
    assert prepare_kswapd_sleep(lab.m, nd, 0, 2)
    assert not lab.m[nd + ND_FLAGS] & PGDAT_DIRTY


def test_one_balanced_zone_is_enough_and_a_node_without_memory_is_balanced() -> None:
    lab = Lab("1x64M")
    nd = word_of_va(lab.m[NODE_DATA])
    zones = [nd + zid * ZONE_WORDS for zid in range(MAX_NR_ZONES)]
    for z in zones:
        lab.m[z + Z_VM_STAT + NR_FREE_PAGES] = 0
    assert not pgdat_balanced(lab.m, nd, 0, 2)
    lab.m[zones[0] + Z_VM_STAT + NR_FREE_PAGES] = lab.m[zones[0] + Z_WMARK + WMARK_HIGH] + 5000
    assert pgdat_balanced(lab.m, nd, 0, 2)
    for z in zones:
        lab.m[z + Z_MANAGED] = 0
    assert pgdat_balanced(lab.m, nd, 0, 2)
    assert alloc_pages_nodemask(lab.m, 0, GFP_HIGHUSER_MOVABLE, 0, 0, 0) >= 0
