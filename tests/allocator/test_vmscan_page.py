# SPDX-License-Identifier: GPL-2.0-only
"""allocator/vmscan_page.py: rows read from page_check_references and shrink_page_list."""

from __future__ import annotations

import pytest

from allocator.blockdev import blk_wait_any
from allocator.gfp import GFP_FS_BIT, GFP_IO_BIT
from allocator.lru_isolate import isolate_lru_page
from allocator.mm_inline import PG_SWAPCACHE, page_node
from allocator.mm_struct import VM_EXEC, VM_LOCKED
from allocator.mm_types import P_COUNTS, PG_ACTIVE, PG_DIRTY, PG_WRITEBACK, REF_SHIFT
from allocator.scan_control import ScanControl
from allocator.swap import lru_add_drain
from allocator.vmscan_page import (
    PAGEREF_ACTIVATE,
    PAGEREF_KEEP,
    PAGEREF_RECLAIM,
    PAGEREF_RECLAIM_CLEAN,
    may_enter_fs,
    references_decision,
    shrink_page_list,
)
from tests.allocator.process_support import PAGE, Lab


@pytest.mark.parametrize(
    ("vm_flags", "ptes", "marked", "swap_backed", "decision"),
    [
        (VM_LOCKED, 3, True, False, PAGEREF_RECLAIM),  # mlock lost the race
        (0, 1, False, True, PAGEREF_ACTIVATE),  # an anonymous page in use
        (0, 1, False, False, PAGEREF_KEEP),  # a file page used once
        (0, 1, True, False, PAGEREF_ACTIVATE),  # used again
        (0, 2, False, False, PAGEREF_ACTIVATE),  # used through two mappings
        (VM_EXEC, 1, False, False, PAGEREF_ACTIVATE),  # executed
        (0, 0, True, False, PAGEREF_RECLAIM_CLEAN),
        (0, 0, True, True, PAGEREF_RECLAIM),
        (0, 0, False, False, PAGEREF_RECLAIM),
    ],
)
def test_use_since_the_last_look_decides(
    vm_flags: int, ptes: int, marked: bool, swap_backed: bool, decision: int
) -> None:
    assert references_decision(vm_flags, ptes, marked, swap_backed) == decision


@pytest.mark.parametrize(
    ("gfp", "cached", "may"),
    [
        (GFP_FS_BIT, False, True),
        (GFP_IO_BIT, False, False),
        (GFP_IO_BIT, True, True),
        (0, True, False),
    ],
)
def test_nofs_scopes_write_to_swap_only_and_noio_scopes_not_at_all(
    gfp: int, cached: bool, may: bool
) -> None:
    lab = Lab("1x64M")
    task = lab.process()
    at = lab.map(task, 1)
    lab.poke(task, at, 1)
    p = lab.page(task, at)
    if cached:
        lab.m[p] |= PG_SWAPCACHE
    assert may_enter_fs(lab.m, p, gfp) is may


def isolated_pages(lab: Lab, task: int, at: int, count: int) -> list[int]:
    lru_add_drain(lab.m, 0)
    pages = [lab.page(task, at + i * PAGE) for i in range(count)]
    for p in pages:
        assert isolate_lru_page(lab.m, 0, p) == 0
        lab.m[p] &= ~PG_ACTIVE
    return pages


def shrink(lab: Lab, pages: list[int], sc: ScanControl) -> tuple[int, list[int]]:
    return shrink_page_list(lab.m, 0, page_node(lab.m, pages[0]), pages, sc, 0, False)


def mapped(lab: Lab, count: int) -> tuple[int, int]:
    task = lab.process()
    at = lab.map(task, count)
    for i in range(count):
        lab.poke(task, at + i * PAGE, i)
    return task, at


def test_pages_used_since_the_last_look_are_activated() -> None:
    lab = Lab("1x64M")
    lab.swap(64)
    task, at = mapped(lab, 4)
    pages = isolated_pages(lab, task, at, 4)
    freed, kept = shrink(lab, pages, ScanControl(GFP_FS_BIT | GFP_IO_BIT))
    assert (freed, kept) == (0, pages)
    assert all(lab.m[p] & PG_ACTIVE for p in kept)


def test_unused_anonymous_pages_go_to_swap_and_are_freed_when_written() -> None:
    lab = Lab("1x64M")
    lab.swap(64)
    task, at = mapped(lab, 4)
    pages = isolated_pages(lab, task, at, 4)
    sc = ScanControl(GFP_FS_BIT | GFP_IO_BIT)
    shrink(lab, pages, sc)
    for p in pages:
        lab.m[p] &= ~PG_ACTIVE
    freed, kept = shrink(lab, pages, sc)
    assert (freed, kept) == (0, pages)
    assert all(lab.m[p] & PG_WRITEBACK and lab.m[p] & PG_SWAPCACHE for p in kept)
    while blk_wait_any(lab.m, 0):
        pass
    assert not any(lab.m[p] & (PG_WRITEBACK | PG_DIRTY) for p in kept)
    freed, kept = shrink(lab, pages, sc)
    assert (freed, kept) == (4, [])
    assert [lab.peek(task, at + i * PAGE) for i in range(4)] == [0, 1, 2, 3]


def test_without_io_anonymous_pages_stay() -> None:
    lab = Lab("1x64M")
    lab.swap(64)
    task, at = mapped(lab, 2)
    pages = isolated_pages(lab, task, at, 2)
    sc = ScanControl(0)
    shrink(lab, pages, sc)
    freed, kept = shrink(lab, pages, sc)
    assert (freed, kept) == (0, pages)
    assert all(lab.m[p + P_COUNTS] >> REF_SHIFT == 2 for p in kept)
