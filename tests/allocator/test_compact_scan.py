# SPDX-License-Identifier: GPL-2.0-only
"""allocator/compact_scan.py: rows read from isolate_migratepages_block and its like.

A pageblock is written as a pattern, a letter a page: m a driver's movable page, u one that cannot
be moved, f a free one.
"""

from __future__ import annotations

import pytest

from allocator import compact_free as cf
from allocator.compact_scan import (
    ISOLATE_ABORT,
    ISOLATE_NONE,
    ISOLATE_SUCCESS,
    isolate_migratepages,
    isolate_migratepages_block,
    isolate_migratepages_range,
    isolate_one_page,
    pageblock_skip_persistent,
    reset_isolation_suitable,
    suitable_migration_source,
    too_many_isolated,
)
from allocator.gfp import GFP_COMP_BIT, GFP_KERNEL, GFP_NOFS
from allocator.layout import PAGE_OFFSET, TASK_FATAL_SIGNAL
from allocator.migrate import set_page_movable
from allocator.mm_inline import page_to_pfn
from allocator.mm_types import P_COUNTS, PG_LRU, REF_ONE
from allocator.mmzone import (
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    ND_VM_STAT,
    NR_ACTIVE_FILE,
    NR_INACTIVE_ANON,
    NR_ISOLATED_ANON,
    NR_ISOLATED_FILE,
    Z_COMPACT_BLOCKSKIP_FLUSH,
    Z_COMPACT_FREE_PFN,
    Z_COMPACT_MIGRATE_PFN,
    Z_PGDAT,
    Z_SPANNED,
    Z_START_PFN,
)
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.pageblock import get_pageblock_skip, set_pageblock_migratetype, set_pageblock_skip
from allocator.pcp import drain_all_pages
from tests.allocator.process_support import Lab

BLOCK = 512
ASYNC, LIGHT, SYNC = cf.MIGRATE_ASYNC, cf.MIGRATE_SYNC_LIGHT, cf.MIGRATE_SYNC


class Scan:
    """A pageblock filled by a pattern (the rest cannot be moved), and a run over its zone."""

    def __init__(self, lab: Lab, pattern: str = "") -> None:
        self.lab, self.m = lab, lab.m
        self.cc = lab.scratch()
        self.first = alloc_pages_nodemask(lab.m, 0, GFP_KERNEL, 9, 0, 0)
        assert self.first % BLOCK == 0
        for i in range(1, BLOCK):
            lab.m[self.page(i) + P_COUNTS] += REF_ONE
        set_pageblock_migratetype(lab.m, self.first, MIGRATE_MOVABLE)
        for i, kind in enumerate(pattern.replace(" ", "")):
            if kind == "m":
                set_page_movable(lab.m, self.first + i, 0x1000)
            elif kind == "f":
                free_pages(lab.m, 0, self.first + i, 0)
        drain_all_pages(lab.m, -1)
        self.z = lab.zone_of(self.page(BLOCK - 1))

    def page(self, i: int) -> int:
        return self.lab.page_at(self.first + i)

    def run(
        self, mode: int, *, direct: bool = False, order: int = 9, gfp: int = GFP_KERNEL
    ) -> None:
        cf.init_compact_control(self.m, self.cc, self.z, order, gfp, mode)
        self.m[self.cc + cf.CC_DIRECT] = int(direct)
        self.m[self.cc + cf.CC_MIGRATETYPE] = MIGRATE_MOVABLE

    def block(self, end: int, low: int = 0) -> int:
        """isolate_migratepages_block() on pages [low, end): where it stopped."""
        first = self.first
        return isolate_migratepages_block(self.m, 0, self.cc, first + low, first + end, 0) - first

    @property
    def isolated(self) -> list[int]:
        """Which pages are on the run's list, ascending."""
        pages = self.lab.listed(self.cc + cf.CC_MIGRATEPAGES)
        return sorted(page_to_pfn(self.m, p) - self.first for p in pages)


@pytest.mark.parametrize(
    ("pattern", "end", "mode", "direct", "stopped", "isolated"),
    [
        ("m" * 64, 64, SYNC, True, 32, list(range(32))),  # no more than 32 at a time
        ("m" * 20, 20, SYNC, True, 20, list(range(20))),
        ("mumu uumm", 8, LIGHT, True, 8, [0, 2, 6, 7]),  # what cannot be moved is passed over
        ("mumu uumm", 8, ASYNC, False, 8, [0, 2, 6, 7]),  # so does kcompactd
        # direct and asynchronous: of aligned eights one that cannot be moved whole is given up
        ("mmmummmm mmmmmmmm", 16, ASYNC, True, 16, list(range(8, 16))),
        ("ummmmmmm mmmmmmmm mmmm", 20, ASYNC, True, 16, list(range(8, 16))),
        ("mmmmmmmm mmmm", 12, ASYNC, True, 8, list(range(8))),  # one that could is moved at once
        ("mmmmmmmu mmmmmmmu", 16, ASYNC, True, 16, []),
        ("ffff mmmm", 8, SYNC, True, 8, [4, 5, 6, 7]),  # free blocks are stepped over
        ("ffff mmmm mmmm", 12, ASYNC, True, 8, [4, 5, 6, 7]),  # and do not stand in the way
        ("uuuu", 4, SYNC, True, 4, []),
    ],
)
def test_pages_are_isolated_by_mode(
    lab: Lab, pattern: str, end: int, mode: int, direct: bool, stopped: int, isolated: list[int]
) -> None:
    scan = Scan(lab, pattern)
    scan.run(mode, direct=direct, order=3)
    assert scan.block(end) == stopped
    assert scan.isolated == isolated
    assert scan.m[scan.cc + cf.CC_NR_MIGRATEPAGES] == len(isolated)
    first = scan.first + isolated[0] if isolated else 0
    assert scan.m[scan.cc + cf.CC_LAST_MIGRATED] == first


def test_compound_pages_are_stepped_over_whole(lab: Lab) -> None:
    scan = Scan(lab)
    head = alloc_pages_nodemask(lab.m, 0, GFP_KERNEL | GFP_COMP_BIT, 4, 0, 0)
    scan.run(SYNC)
    scan.first = head
    assert scan.block(16) == 16
    assert scan.m[scan.cc + cf.CC_MIGRATE_SCANNED] == 1


@pytest.mark.parametrize(
    ("low", "isolated", "hint"),
    [(0, False, True), (0, True, False), (256, False, True)],
)
def test_a_pageblock_without_anything_to_isolate_gets_the_hint(
    lab: Lab, low: int, isolated: bool, hint: bool
) -> None:
    scan = Scan(lab, "u" * 300 + "m" * isolated)
    scan.run(LIGHT)
    scan.m[scan.z + Z_COMPACT_MIGRATE_PFN] = scan.m[scan.z + Z_COMPACT_MIGRATE_PFN + 1] = 0
    assert scan.block(BLOCK, low) == BLOCK
    assert get_pageblock_skip(scan.m, scan.first) == hint
    cached = scan.first + low if hint else 0
    assert scan.m[scan.z + Z_COMPACT_MIGRATE_PFN] == cached
    assert scan.m[scan.z + Z_COMPACT_MIGRATE_PFN + 1] == cached


def test_the_dying_stop_at_the_next_thirty_second_page(lab: Lab) -> None:
    scan = Scan(lab, "m" * 64)
    scan.run(SYNC)
    task = lab.process()
    lab.m[task + TASK_FATAL_SIGNAL] = 1
    with lab.acting(task):
        assert scan.block(64, low=20) == 32
        assert scan.m[scan.cc + cf.CC_CONTENDED] == 1
        assert scan.isolated == list(range(20, 32))


@pytest.mark.parametrize(
    ("listed", "isolated", "too_many"),
    [((100, 100), (50, 50), False), ((100, 100), (51, 50), True), ((0, 0), (0, 0), False)],
)
def test_it_gives_up_where_half_of_the_lists_is_isolated(
    lab: Lab, listed: tuple[int, int], isolated: tuple[int, int], too_many: bool
) -> None:
    scan = Scan(lab, "m" * 8)
    nd = (scan.m[scan.z + Z_PGDAT] - PAGE_OFFSET) >> 3
    for item in range(NR_ACTIVE_FILE + 1):
        scan.m[nd + ND_VM_STAT + item] = 0
    for item, value in zip((NR_INACTIVE_ANON, NR_ACTIVE_FILE), listed, strict=True):
        scan.m[nd + ND_VM_STAT + item] = value
    for item, value in zip((NR_ISOLATED_ANON, NR_ISOLATED_FILE), isolated, strict=True):
        scan.m[nd + ND_VM_STAT + item] = value
    assert too_many_isolated(scan.m, scan.z) is too_many
    scan.run(SYNC)
    assert scan.block(8) == (-scan.first if too_many else 8)


@pytest.mark.parametrize(
    ("mode", "direct", "wanted", "block", "suitable"),
    [
        (ASYNC, True, MIGRATE_MOVABLE, MIGRATE_MOVABLE, True),
        (ASYNC, True, MIGRATE_MOVABLE, MIGRATE_CMA, True),
        (ASYNC, True, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE, False),
        (ASYNC, True, MIGRATE_UNMOVABLE, MIGRATE_UNMOVABLE, True),
        (ASYNC, True, MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, False),
        (ASYNC, True, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE, False),
        (ASYNC, False, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE, True),
        (LIGHT, True, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE, True),
        (SYNC, True, MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, True),
    ],
)
def test_asynchronous_direct_compaction_stays_in_pageblocks_of_its_kind(
    lab: Lab, mode: int, direct: bool, wanted: int, block: int, suitable: bool
) -> None:
    scan = Scan(lab)
    scan.run(mode, direct=direct)
    scan.m[scan.cc + cf.CC_MIGRATETYPE] = wanted
    set_pageblock_migratetype(scan.m, scan.first, block)
    assert suitable_migration_source(scan.m, scan.cc, scan.first) is suitable


@pytest.mark.parametrize(
    ("what", "gfp", "taken"),
    [
        ("anonymous", GFP_KERNEL, True),
        ("anonymous", GFP_NOFS, True),
        ("pinned", GFP_KERNEL, False),
        ("swap cache", GFP_KERNEL, True),
        ("swap cache", GFP_NOFS, False),  # would need the file system
    ],
)
def test_pages_of_the_lru_lists_are_taken_unless_pinned_or_out_of_bounds(
    lab: Lab, what: str, gfp: int, taken: bool
) -> None:
    m = lab.m
    lab.swap(64)
    task = lab.process()
    at = lab.map(task, 1)
    lab.poke(task, at, 7)
    lab.drain()
    p = lab.page(task, at)
    if what == "pinned":
        m[p + P_COUNTS] += REF_ONE
    elif what == "swap cache":
        assert lab.page_out(p)
    cc = lab.scratch()
    cf.init_compact_control(m, cc, lab.zone_of(p), 9, gfp, SYNC)
    before = lab.node_counter(0, NR_ISOLATED_ANON)
    assert isolate_one_page(m, 0, cc, p, 0) is taken
    assert bool(m[p] & PG_LRU) is not taken
    assert lab.node_counter(0, NR_ISOLATED_ANON) - before == int(taken)


def test_hints_of_huge_compound_pages_are_for_good_others_are_cleared(lab: Lab) -> None:
    m = lab.m
    scan = Scan(lab)
    huge = alloc_pages_nodemask(m, 0, GFP_KERNEL | GFP_COMP_BIT, 9, 0, 0)
    assert pageblock_skip_persistent(m, lab.page_at(huge))
    assert pageblock_skip_persistent(m, lab.page_at(huge + 77))
    assert not pageblock_skip_persistent(m, scan.page(0))
    small = alloc_pages_nodemask(m, 0, GFP_KERNEL | GFP_COMP_BIT, 8, 0, 0)
    assert not pageblock_skip_persistent(m, lab.page_at(small))
    z = scan.z
    assert z == lab.zone_of(lab.page_at(huge))
    for pfn in (huge, scan.first):
        set_pageblock_skip(m, pfn, 1)
    m[z + Z_COMPACT_BLOCKSKIP_FLUSH] = 1
    reset_isolation_suitable(m, z)
    assert get_pageblock_skip(m, huge)
    assert not get_pageblock_skip(m, scan.first)
    assert m[z + Z_COMPACT_BLOCKSKIP_FLUSH] == 0
    start = m[z + Z_START_PFN]
    assert m[z + Z_COMPACT_MIGRATE_PFN] == m[z + Z_COMPACT_MIGRATE_PFN + 1] == start
    assert m[z + Z_COMPACT_FREE_PFN] == (start + m[z + Z_SPANNED] - 1) & -BLOCK


@pytest.mark.parametrize(
    ("pattern", "free", "dying", "outcome", "moved_to"),
    [
        ("mmmm", 2 * BLOCK, False, ISOLATE_SUCCESS, BLOCK),
        ("uuuu", 2 * BLOCK, False, ISOLATE_NONE, BLOCK),
        ("mmmm", 2 * BLOCK, True, ISOLATE_ABORT, 0),
        ("mmmm", BLOCK - 1, False, ISOLATE_NONE, 0),  # where the free scanner is
    ],
)
def test_the_next_suitable_pageblock_below_the_free_scanner_is_scanned(
    lab: Lab, pattern: str, free: int, dying: bool, outcome: int, moved_to: int
) -> None:
    scan = Scan(lab, pattern)
    scan.run(SYNC)
    scan.m[scan.cc + cf.CC_MIGRATE_PFN] = scan.first
    scan.m[scan.cc + cf.CC_FREE_PFN] = scan.first + free
    task = lab.process()
    lab.m[task + TASK_FATAL_SIGNAL] = int(dying)
    with lab.acting(task):
        assert isolate_migratepages(scan.m, 0, scan.cc, scan.z) == outcome
    assert scan.m[scan.cc + cf.CC_MIGRATE_PFN] == scan.first + moved_to


def test_a_pageblock_with_the_hint_is_left_out(lab: Lab) -> None:
    scan = Scan(lab, "mmmm")
    scan.run(SYNC)
    set_pageblock_skip(scan.m, scan.first, 1)
    scan.m[scan.cc + cf.CC_MIGRATE_PFN] = scan.first
    scan.m[scan.cc + cf.CC_FREE_PFN] = scan.first + BLOCK
    assert isolate_migratepages(scan.m, 0, scan.cc, scan.z) == ISOLATE_NONE
    assert scan.isolated == []
    scan.m[scan.cc + cf.CC_IGNORE_SKIP] = 1
    scan.m[scan.cc + cf.CC_MIGRATE_PFN] = scan.first
    assert isolate_migratepages(scan.m, 0, scan.cc, scan.z) == ISOLATE_SUCCESS


def test_a_range_is_scanned_until_thirty_two_pages_are_listed(lab: Lab) -> None:
    scan = Scan(lab, "m" * 40)
    scan.run(SYNC)
    first = scan.first
    assert isolate_migratepages_range(scan.m, 0, scan.cc, first, first + 20) == first + 20
    assert isolate_migratepages_range(scan.m, 0, scan.cc, first + 20, first + 512) == first + 32
    assert scan.isolated == list(range(32))
