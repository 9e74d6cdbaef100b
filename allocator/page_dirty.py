# SPDX-License-Identifier: GPL-2.0-only
"""Pages that are dirty or on their way to a disk, and who counts them (mm/page-writeback.c).

A page of the page cache that differs from its disk carries PG_dirty, and its slot in the address
space a mark by which writeback finds it; while it is being written it carries PG_writeback and
another mark. Both states are counted per node and per zone, and the file it belongs to is put on
the list of those that the flusher visits. Pages of the swap cache carry the flags, but no marks.

All hot: `p` is the word index of a struct page, `mapping` of an address_space, `inode` of an inode.
`blockdev` ends writeback, `writeback` begins it.
"""

from __future__ import annotations

from .address_space import (
    AOPS_FILE,
    AS_A_OPS,
    AS_HOST,
    AS_I_PAGES,
    page_mapping,
)
from .fs import (
    I_DIRTY,
    I_DIRTY_PAGES,
    I_SYNC,
    INODE_DIRTIED_WHEN,
    INODE_IO_LIST,
    INODE_STATE,
    WB_DIRTY,
)
from .kernel_globals import G_BDI_WB, G_CLOCK, G_NR_DIRTIED
from .layout import PAGE_OFFSET
from .list_head import list_add, list_del
from .mm_inline import compound_head
from .mm_types import P_FLAGS, P_INDEX, PG_DIRTY, PG_RECLAIM, PG_WRITEBACK
from .mmzone import (
    NR_DIRTIED,
    NR_FILE_DIRTY,
    NR_WRITEBACK,
    NR_WRITTEN,
    NR_ZONE_WRITE_PENDING,
)
from .pcp import page_zone
from .swap import rotate_reclaimable_page
from .vmstat import mod_lruvec_page_state, mod_zone_page_state
from .xarray import (
    PAGECACHE_TAG_DIRTY,
    PAGECACHE_TAG_TOWRITE,
    PAGECACHE_TAG_WRITEBACK,
    xa_clear_mark,
    xa_set_mark,
)


def mark_inode_dirty(m: memoryview, inode: int, flags: int) -> None:
    """Puts a file on the flusher's list, at the young end, unless it is on one (I_DIRTY_ flags).
    Hot (__mark_inode_dirty)."""
    state = m[inode + INODE_STATE]
    if state & flags == flags:
        return
    m[inode + INODE_STATE] = state | flags
    if state & I_SYNC or state & I_DIRTY:
        # being written: whoever writes it puts it back; dirty before: keeps its place
        return
    m[inode + INODE_DIRTIED_WHEN] = m[G_CLOCK]
    wb = (m[G_BDI_WB] - PAGE_OFFSET) >> 3
    io = inode + INODE_IO_LIST
    list_del(m, io)
    list_add(m, io, PAGE_OFFSET + (io << 3), wb + WB_DIRTY)


def account_page_dirtied(m: memoryview, cpu: int, p: int) -> None:
    """Counts a page of a file that has become dirty. Hot."""
    mod_lruvec_page_state(m, cpu, p, NR_FILE_DIRTY, 1)
    mod_zone_page_state(m, cpu, page_zone(m, p), NR_ZONE_WRITE_PENDING, 1)
    mod_lruvec_page_state(m, cpu, p, NR_DIRTIED, 1)
    m[G_NR_DIRTIED] += 1


def account_page_cleaned(m: memoryview, cpu: int, p: int) -> None:
    """Counts a dirty page that is no longer. Hot."""
    mod_lruvec_page_state(m, cpu, p, NR_FILE_DIRTY, -1)
    mod_zone_page_state(m, cpu, page_zone(m, p), NR_ZONE_WRITE_PENDING, -1)


def set_page_dirty(m: memoryview, cpu: int, p: int) -> int:
    """Makes a page dirty: 1 if it was clean. Hot."""
    p = compound_head(m, p)
    flags = m[p]
    mapping = page_mapping(m, p)
    if mapping and flags & PG_RECLAIM:
        # readahead or reclaim had plans for it as a clean page
        flags &= ~PG_RECLAIM
        m[p + P_FLAGS] = flags
    if flags & PG_DIRTY:
        return 0
    m[p + P_FLAGS] = flags | PG_DIRTY
    if mapping and m[mapping + AS_A_OPS] == AOPS_FILE:
        account_page_dirtied(m, cpu, p)
        xa_set_mark(m, mapping + AS_I_PAGES, m[p + P_INDEX], PAGECACHE_TAG_DIRTY)
        if m[mapping + AS_HOST]:
            mark_inode_dirty(m, (m[mapping + AS_HOST] - PAGE_OFFSET) >> 3, I_DIRTY_PAGES)
    return 1


def cancel_dirty_page(m: memoryview, cpu: int, p: int) -> None:
    """Forgets that a page is dirty: it is about to be dropped. Hot (__cancel_dirty_page)."""
    if m[p + P_FLAGS] & PG_DIRTY:
        m[p + P_FLAGS] &= ~PG_DIRTY
        mapping = page_mapping(m, p)
        if mapping and m[mapping + AS_A_OPS] == AOPS_FILE:
            account_page_cleaned(m, cpu, p)


def set_page_writeback(m: memoryview, cpu: int, p: int) -> bool:
    """Says that a page is being written; True if it had been (test_set_page_writeback). Hot."""
    flags = m[p + P_FLAGS]
    if flags & PG_WRITEBACK:
        return True
    m[p + P_FLAGS] = flags | PG_WRITEBACK
    mapping = page_mapping(m, p)
    if mapping and m[mapping + AS_A_OPS] == AOPS_FILE:
        xa = mapping + AS_I_PAGES
        index = m[p + P_INDEX]
        xa_set_mark(m, xa, index, PAGECACHE_TAG_WRITEBACK)
        if flags & PG_DIRTY == 0:
            xa_clear_mark(m, xa, index, PAGECACHE_TAG_DIRTY)
        xa_clear_mark(m, xa, index, PAGECACHE_TAG_TOWRITE)
    mod_lruvec_page_state(m, cpu, p, NR_WRITEBACK, 1)
    mod_zone_page_state(m, cpu, page_zone(m, p), NR_ZONE_WRITE_PENDING, 1)
    return False


def end_page_writeback(m: memoryview, cpu: int, p: int) -> None:
    """Says that a page has been written; one that reclaim waits for comes next in line. Hot."""
    flags = m[p + P_FLAGS]
    if flags & PG_RECLAIM:
        m[p + P_FLAGS] = flags & ~PG_RECLAIM
        rotate_reclaimable_page(m, cpu, p)
        flags = m[p + P_FLAGS]
    if flags & PG_WRITEBACK == 0:
        return
    m[p + P_FLAGS] = flags & ~PG_WRITEBACK
    mapping = page_mapping(m, p)
    if mapping and m[mapping + AS_A_OPS] == AOPS_FILE:
        xa_clear_mark(m, mapping + AS_I_PAGES, m[p + P_INDEX], PAGECACHE_TAG_WRITEBACK)
    mod_lruvec_page_state(m, cpu, p, NR_WRITEBACK, -1)
    mod_zone_page_state(m, cpu, page_zone(m, p), NR_ZONE_WRITE_PENDING, -1)
    mod_lruvec_page_state(m, cpu, p, NR_WRITTEN, 1)
