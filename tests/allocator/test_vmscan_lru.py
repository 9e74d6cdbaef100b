# SPDX-License-Identifier: GPL-2.0-only
"""allocator/vmscan_lru.py: rows read from get_scan_count and its like."""

from __future__ import annotations

import pytest

from allocator.gfp import GFP_FS_BIT, GFP_KERNEL
from allocator.kernel_globals import (
    G_CLOCK,
    G_NR_SWAP_PAGES,
    G_TOTAL_SWAP_PAGES,
    G_TRACE_MASK2,
    G_VM_SWAPPINESS,
)
from allocator.layout import CPU_BLOCKS, CPU_CURRENT, NODE_DATA, TASK_FATAL_SIGNAL, word_of_va
from allocator.mmzone import (
    LRU_ACTIVE_ANON,
    LRU_ACTIVE_FILE,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    MAX_NR_ZONES,
    ND_LRUVEC,
    ND_RECENT_ROTATED,
    ND_RECENT_SCANNED,
    ND_REFAULTS,
    ND_VM_STAT,
    NR_FREE_PAGES,
    NR_INACTIVE_ANON,
    NR_ISOLATED_ANON,
    NR_ZONE_LRU_BASE,
    WORKINGSET_ACTIVATE,
    Z_VM_STAT,
    ZONE_WORDS,
)
from allocator.scan_control import ScanControl
from allocator.swap import lru_add_drain
from allocator.trace_events import EV_VMSCAN_SHRINK_INACTIVE
from allocator.tracepoints import trace_records
from allocator.vmscan_lru import (
    ISOLATED_WAIT_NS,
    SCAN_ANON,
    SCAN_EQUAL,
    SCAN_FILE,
    SCAN_FRACT,
    adjust_targets,
    get_scan_count,
    inactive_list_is_low,
    inactive_ratio,
    isolate_lru_pages,
    scan_balance,
    scan_fractions,
    shrink_active_list,
    shrink_inactive_list,
    too_many_isolated,
)
from allocator.vmstat import cpu_vm_stats_fold
from tests.allocator.process_support import PAGE, Lab


@pytest.mark.parametrize(
    ("pages", "ratio"),
    [(10 << 8, 1), (1 << 18, 3), (10 << 18, 10), (100 << 18, 31), (1 << 28, 101)],
)
def test_active_list_may_be_longer_on_larger_machines(pages: int, ratio: int) -> None:
    assert inactive_ratio(pages, 0) == ratio


@pytest.mark.parametrize(
    ("counts", "targets", "goes_on", "after"),
    [
        ([0, 0, 5, 5], [10, 10, 10, 10], False, [0, 0, 5, 5]),  # one kind is through
        # anon is the smaller rest (20 of 64+1, 30%): files go on to 70% of their target
        ([10, 10, 68, 68], [32, 32, 100, 100], True, [0, 0, 38, 38]),
        ([68, 68, 10, 10], [100, 100, 32, 32], True, [38, 38, 0, 0]),
        ([4, 4, 4, 4], [8, 8, 8, 8], True, [0, 0, 0, 0]),  # equal: files are the smaller kind
    ],
)
def test_after_enough_pages_the_smaller_kind_is_left_alone(
    counts: list[int], targets: list[int], goes_on: bool, after: list[int]
) -> None:
    assert adjust_targets(counts, targets) is goes_on
    if counts != after and after == [0, 0, 0, 0]:
        assert counts[:2] == [0, 0] or counts[2:] == [0, 0]
    else:
        assert counts == after


def length(lab: Lab, lru: int) -> int:
    return len(lab.lru(0, lru))


def lab_with_pages(count: int = 300) -> tuple[Lab, int]:
    lab = Lab("1x64M")
    lab.swap(4096)
    task = lab.process()
    at = lab.map(task, count)
    for i in range(count):
        lab.poke(task, at + i * PAGE, i)
    lru_add_drain(lab.m, 0)
    return lab, word_of_va(lab.m[NODE_DATA])


@pytest.mark.parametrize(
    ("may_swap", "slots", "priority", "swappiness", "balance"),
    [
        (False, 9, 12, 60, SCAN_FILE),  # not allowed to swap
        (True, 0, 12, 60, SCAN_FILE),  # no slot left
        (True, 9, 0, 60, SCAN_EQUAL),  # nearly out of memory
        (True, 9, 0, 0, SCAN_FRACT),  # but not if swapping is unwanted
        (True, 9, 12, 60, SCAN_FRACT),
    ],
)
def test_what_is_scanned_follows_swap_priority_and_swappiness(
    may_swap: bool, slots: int, priority: int, swappiness: int, balance: int
) -> None:
    lab, nd = lab_with_pages(8)
    lab.m[G_NR_SWAP_PAGES], lab.m[G_VM_SWAPPINESS] = slots, swappiness
    sc = ScanControl(GFP_KERNEL, priority=priority, may_swap=may_swap)
    assert scan_balance(lab.m, 0, nd + ND_LRUVEC, sc) == balance


def test_lists_of_pages_lately_in_use_are_scanned_less() -> None:
    lab, nd = lab_with_pages(8)
    m = lab.m
    m[G_VM_SWAPPINESS] = 60
    for i in (0, 1):
        m[nd + ND_RECENT_SCANNED + i] = m[nd + ND_RECENT_ROTATED + i] = 0
    assert scan_fractions(m, nd + ND_LRUVEC) == (60, 140)
    m[nd + ND_RECENT_SCANNED], m[nd + ND_RECENT_ROTATED] = 1, 1
    assert scan_fractions(m, nd + ND_LRUVEC)[0] == 60
    m[nd + ND_RECENT_SCANNED], m[nd + ND_RECENT_ROTATED] = 2, 0
    assert scan_fractions(m, nd + ND_LRUVEC)[0] == 180
    m[nd + ND_RECENT_SCANNED], m[nd + ND_RECENT_ROTATED] = 100, 50
    assert (
        scan_fractions(m, nd + ND_LRUVEC)[0] == 60 * 51 // 26
    )  # halved: more than a quarter of the list
    assert (m[nd + ND_RECENT_SCANNED], m[nd + ND_RECENT_ROTATED]) == (50, 25)


def test_priority_is_the_part_of_a_list_that_is_looked_at() -> None:
    lab, nd = lab_with_pages(300)
    total = length(lab, LRU_ACTIVE_ANON) + length(lab, LRU_INACTIVE_ANON)
    counts, pages = get_scan_count(lab.m, 0, nd + ND_LRUVEC, ScanControl(GFP_KERNEL, priority=0))
    assert counts[LRU_ACTIVE_ANON] + counts[LRU_INACTIVE_ANON] == total == 300
    assert pages == 300 + counts[LRU_ACTIVE_FILE] + counts[LRU_INACTIVE_FILE]
    halved, _ = get_scan_count(lab.m, 0, nd + ND_LRUVEC, ScanControl(GFP_KERNEL, priority=2))
    assert sum(halved) <= total // 4


def test_pages_of_zones_above_the_request_go_to_the_head_untaken() -> None:
    lab, nd = lab_with_pages(40)
    lru = LRU_ACTIVE_ANON if length(lab, LRU_ACTIVE_ANON) else LRU_INACTIVE_ANON
    before = length(lab, lru)
    sc = ScanControl(GFP_KERNEL, reclaim_idx=-1)
    pages, taken, scanned = isolate_lru_pages(lab.m, 0, nd + ND_LRUVEC, 8, sc, 0, lru)
    assert (pages, taken, scanned) == ([], 0, before)
    assert length(lab, lru) == before


def test_oldest_pages_of_the_active_list_are_deactivated() -> None:
    lab, nd = lab_with_pages(100)
    lab.m[G_TOTAL_SWAP_PAGES] = 4096
    active = length(lab, LRU_ACTIVE_ANON)
    assert active == 100, "new anonymous pages begin on the active list"
    shrink_active_list(lab.m, 0, nd + ND_LRUVEC, 32, ScanControl(GFP_KERNEL), LRU_ACTIVE_ANON)
    assert length(lab, LRU_ACTIVE_ANON) == active - 32
    assert length(lab, LRU_INACTIVE_ANON) == 32
    lab.check()


@pytest.mark.parametrize(
    ("inactive", "isolated", "gfp", "kswapd", "too_many"),
    [
        (800, 101, GFP_KERNEL, False, True),
        (800, 100, GFP_KERNEL, False, False),
        (800, 101, GFP_KERNEL, True, False),  # kswapd never waits
        (800, 800, GFP_KERNEL & ~GFP_FS_BIT, False, False),  # who holds others up has more room
        (800, 801, GFP_KERNEL & ~GFP_FS_BIT, False, True),
        (800, 801, 0, False, True),
        (0, 0, GFP_KERNEL, False, False),
    ],
)
@pytest.mark.parametrize("file", [0, 1])
def test_reclaim_waits_when_others_have_isolated_more_than_is_left(
    inactive: int, isolated: int, gfp: int, kswapd: bool, too_many: bool, file: int
) -> None:
    lab, nd = lab_with_pages(8)
    m = lab.m
    m[nd + ND_VM_STAT + NR_INACTIVE_ANON + 2 * file] = inactive
    m[nd + ND_VM_STAT + NR_ISOLATED_ANON + file] = isolated
    sc = ScanControl(gfp, kswapd=kswapd)
    assert too_many_isolated(m, nd, file, sc) is too_many
    before = m[G_CLOCK]
    shrink_inactive_list(
        m, 0, nd + ND_LRUVEC, 0, sc, LRU_INACTIVE_FILE if file else LRU_INACTIVE_ANON
    )
    assert m[G_CLOCK] - before == (ISOLATED_WAIT_NS if too_many else 0)


def test_who_is_killed_while_waiting_for_isolated_pages_stops_reclaiming() -> None:
    lab, nd = lab_with_pages(8)
    lab.m[nd + ND_VM_STAT + NR_ISOLATED_ANON] = 1000
    current = word_of_va(lab.m[CPU_BLOCKS + CPU_CURRENT])
    lab.m[current + TASK_FATAL_SIGNAL] = 1
    assert (
        shrink_inactive_list(
            lab.m, 0, nd + ND_LRUVEC, 8, ScanControl(GFP_KERNEL), LRU_INACTIVE_ANON
        )
        == 32
    )


def test_the_tracepoint_counts_what_was_activated_and_what_was_kept_as_in_use() -> None:
    lab, nd = lab_with_pages(100)
    m = lab.m
    m[G_TRACE_MASK2] = 1 << (EV_VMSCAN_SHRINK_INACTIVE - 64)
    shrink_active_list(m, 0, nd + ND_LRUVEC, 32, ScanControl(GFP_KERNEL), LRU_ACTIVE_ANON)
    # their accessed bits are gone by now but those of pages that are read again
    sc = ScanControl(GFP_KERNEL)
    shrink_inactive_list(m, 0, nd + ND_LRUVEC, 32, sc, LRU_INACTIVE_ANON)
    said = [r.args for r in trace_records(m) if r.event == EV_VMSCAN_SHRINK_INACTIVE]
    assert [(a[1], a[2], a[9], a[10]) for a in said] == [
        (32, sc.nr_reclaimed or said[0][2], sc.nr_activate, sc.nr_ref_keep << 32)
    ]
    assert said[0][2] + said[0][9] + (said[0][10] >> 32) <= 32


def sizes(lab: Lab, nd: int, **lists: int) -> None:
    """Sets what the LRU counters of the node and of its DMA32 zone say."""
    names = {
        "inactive_anon": NR_INACTIVE_ANON,
        "active_anon": NR_INACTIVE_ANON + 1,
        "inactive_file": NR_INACTIVE_ANON + 2,
        "active_file": NR_INACTIVE_ANON + 3,
    }
    cpu_vm_stats_fold(lab.m, 0)
    for zid in range(MAX_NR_ZONES):
        for i in range(4):
            lab.m[nd + zid * ZONE_WORDS + Z_VM_STAT + NR_ZONE_LRU_BASE + i] = 0
    for name, item in names.items():
        value = lists.get(name, 0)
        lab.m[nd + ND_VM_STAT + item] = value
        lab.m[nd + ZONE_WORDS + Z_VM_STAT + NR_ZONE_LRU_BASE + item - NR_INACTIVE_ANON] = value


@pytest.mark.parametrize(
    ("file", "inactive", "active", "swap", "refaults", "actual", "low"),
    [
        (0, 100, 101, 9, 0, True, True),  # below 1 GiB the ratio is 1
        (0, 100, 100, 9, 0, True, False),
        (0, 0, 1000, 0, 0, True, False),  # without swap nobody scans anonymous pages
        (1, 100, 101, 0, 0, True, True),
        (1, 100, 100, 0, 0, True, False),
        (1, 1 << 18, 3 << 18, 0, 0, True, False),  # 4 GiB: up to isqrt(40) = 6 times as many
        (1, 1 << 18, (6 << 18) + 1, 0, 0, True, False),  # 7 GiB: isqrt(70) = 8
        (1, 1 << 16, (7 << 16) + 1, 0, 0, True, True),  # 2 GiB: isqrt(20) = 4
        (1, 1000, 1, 0, 7, True, True),  # refaults since the last reclaim: any active page is many
        (1, 1000, 0, 0, 7, True, False),
        (1, 1000, 1, 0, 7, False, False),  # not where nothing is reclaimed
        (0, 1000, 1, 9, 7, True, False),  # nor for anonymous pages
    ],
)
def test_the_inactive_list_is_low(
    file: int, inactive: int, active: int, swap: int, refaults: int, actual: bool, low: bool
) -> None:
    lab, nd = lab_with_pages(8)
    m = lab.m
    kind = "file" if file else "anon"
    sizes(lab, nd, **{f"inactive_{kind}": inactive, f"active_{kind}": active})
    m[G_TOTAL_SWAP_PAGES] = swap
    m[nd + ND_REFAULTS] = 0
    m[nd + ND_VM_STAT + WORKINGSET_ACTIVATE] = refaults
    sc = ScanControl(GFP_KERNEL)
    assert inactive_list_is_low(m, 0, nd + ND_LRUVEC, file, sc, actual) is low


@pytest.mark.parametrize(
    ("anon", "file", "priority", "memcg", "balance"),
    [
        # free memory and files together below the high watermarks: only anonymous pages
        ((8000, 0), (10, 10), 12, False, SCAN_ANON),
        ((4000, 0), (10, 10), 12, False, SCAN_FRACT),  # none to scan at this priority
        ((4000, 0), (10, 10), 11, False, SCAN_ANON),
        ((8000, 8001), (10, 10), 12, False, SCAN_FRACT),  # the inactive ones are few
        ((8000, 0), (10, 10), 12, True, SCAN_FRACT),  # a group's reclaim does not look at it
        # inactive file pages enough: only those
        ((8000, 0), (9000, 100), 12, False, SCAN_FILE),
        ((8000, 0), (9000, 9001), 12, False, SCAN_FRACT),
        ((8000, 0), (4000, 100), 12, False, SCAN_FRACT),
        ((8000, 0), (4000, 100), 11, False, SCAN_FILE),
    ],
)
def test_one_kind_alone_is_scanned_where_the_other_is_tiny_or_this_one_plenty(
    anon: tuple[int, int], file: tuple[int, int], priority: int, memcg: bool, balance: int
) -> None:
    lab, nd = lab_with_pages(8)
    m, group = lab.m, lab.scratch()
    m[G_NR_SWAP_PAGES] = m[G_TOTAL_SWAP_PAGES] = 9
    names = ("inactive_anon", "active_anon", "inactive_file", "active_file")
    sizes(lab, nd, **dict(zip(names, (*anon, *file), strict=True)))
    for zid in range(MAX_NR_ZONES):
        m[nd + zid * ZONE_WORDS + Z_VM_STAT + NR_FREE_PAGES] = 0
    m[nd + ND_REFAULTS] = m[nd + ND_VM_STAT + WORKINGSET_ACTIVATE]
    sc = ScanControl(GFP_KERNEL, priority=priority, memcg=group if memcg else 0)
    assert scan_balance(m, 0, nd + ND_LRUVEC, sc) == balance


@pytest.mark.parametrize(
    ("balance", "counts", "considered"),
    [
        (SCAN_EQUAL, [100, 200, 300, 400], 1000),
        (SCAN_FILE, [0, 0, 300, 400], 700),
    ],
)
def test_counts_are_of_the_lists_that_balance_names(
    balance: int, counts: list[int], considered: int
) -> None:
    lab, nd = lab_with_pages(8)
    lab.m[G_NR_SWAP_PAGES] = 9
    sizes(lab, nd, inactive_anon=100, active_anon=200, inactive_file=300, active_file=400)
    sc = ScanControl(GFP_KERNEL, priority=0, may_swap=balance == SCAN_EQUAL)
    assert get_scan_count(lab.m, 0, nd + ND_LRUVEC, sc) == (counts, considered)


def test_a_fraction_is_rounded_up_so_that_the_last_page_is_not_missed() -> None:
    lab, nd = lab_with_pages(8)
    m = lab.m
    m[G_NR_SWAP_PAGES], m[G_VM_SWAPPINESS] = 9, 0
    sizes(lab, nd, inactive_anon=1, active_anon=1, inactive_file=1, active_file=2)
    for zid in range(MAX_NR_ZONES):
        m[nd + zid * ZONE_WORDS + Z_VM_STAT + NR_FREE_PAGES] = 5000
    for i in (0, 1):
        m[nd + ND_RECENT_SCANNED + i] = m[nd + ND_RECENT_ROTATED + i] = 0
    counts, _ = get_scan_count(m, 0, nd + ND_LRUVEC, ScanControl(GFP_KERNEL, priority=0))
    # 0 of 201 for anonymous pages, 200 of 201 for files
    assert counts == [0, 0, 1, 2]
