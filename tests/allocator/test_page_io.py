# SPDX-License-Identifier: GPL-2.0-only
"""Pages written to their slots and read from them, in modelled time."""

from __future__ import annotations

from allocator.blockdev import BD_START_WORD, blk_wait_any
from allocator.kernel_globals import G_CLOCK
from allocator.mm_inline import PG_SWAPCACHE, page_to_pfn
from allocator.mm_types import (
    P_PRIVATE,
    PG_DIRTY,
    PG_LOCKED,
    PG_SWAPBACKED,
    PG_UPTODATE,
    PG_WRITEBACK,
)
from allocator.mmzone import NR_WRITEBACK
from allocator.page_io import swap_bdev, swap_readpage, swap_writepage
from allocator.swap_map import swap_duplicate
from allocator.swap_state import add_to_swap
from allocator.swapops import swp_offset
from tests.allocator.process_support import Lab


def cached(lab: Lab, used: bool) -> tuple[int, int]:
    """A locked clean page in the swap cache, and its first word's index."""
    m, p = lab.m, lab.new_page()
    m[p] |= PG_LOCKED | PG_SWAPBACKED | PG_UPTODATE
    assert add_to_swap(m, 0, p)
    m[p] &= ~PG_DIRTY
    if used:
        swap_duplicate(m, m[p + P_PRIVATE])
    return p, page_to_pfn(m, p) << 9


def test_a_page_is_under_writeback_until_the_disk_has_it(lab: Lab) -> None:
    lab.swap(64)
    m = lab.m
    p, at = cached(lab, used=True)
    m[at], m[at + 511] = 17, 18
    began = m[G_CLOCK]
    assert swap_writepage(m, 0, p) == 0
    assert m[p] & (PG_WRITEBACK | PG_LOCKED) == PG_WRITEBACK
    assert lab.node_counter(0, NR_WRITEBACK) == 1
    while blk_wait_any(m, 0):
        pass
    assert m[G_CLOCK] > began
    assert not m[p] & PG_WRITEBACK
    assert lab.node_counter(0, NR_WRITEBACK) == 0
    slot = m[swap_bdev(m, m[p + P_PRIVATE]) + BD_START_WORD] + (swp_offset(m[p + P_PRIVATE]) << 9)
    assert (m[slot], m[slot + 511]) == (17, 18)
    assert lab.event("pswpout") == 1


def test_a_page_is_locked_until_it_was_read(lab: Lab) -> None:
    lab.swap(64)
    m = lab.m
    p, at = cached(lab, used=True)
    entry = m[p + P_PRIVATE]
    m[m[swap_bdev(m, entry) + BD_START_WORD] + (swp_offset(entry) << 9) + 5] = 99
    m[p] &= ~PG_UPTODATE
    swap_readpage(m, 0, p)
    assert m[p] & PG_LOCKED
    while blk_wait_any(m, 0):
        pass
    assert m[p] & (PG_LOCKED | PG_UPTODATE) == PG_UPTODATE
    assert m[at + 5] == 99
    assert lab.event("pswpin") == 1


def test_a_page_whose_slot_nobody_needs_is_not_written(lab: Lab) -> None:
    lab.swap(64)
    m = lab.m
    p, _ = cached(lab, used=False)
    assert swap_writepage(m, 0, p) == 0
    assert m[p] & (PG_LOCKED | PG_SWAPCACHE | PG_WRITEBACK | PG_DIRTY) == PG_DIRTY
    assert lab.event("pswpout") == 0
