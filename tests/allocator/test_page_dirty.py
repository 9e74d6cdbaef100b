# SPDX-License-Identifier: GPL-2.0-only
"""Dirty and writeback: flags, marks, counters and the flusher's list change together."""

from __future__ import annotations

from allocator.address_space import AS_I_PAGES
from allocator.fs import I_DIRTY_PAGES, INODE_IO_LIST, INODE_STATE, WB_DIRTY
from allocator.kernel_globals import G_BDI_WB
from allocator.layout import PAGE_OFFSET, va_of_word, word_of_va
from allocator.mm_types import P_FLAGS, PG_DIRTY, PG_RECLAIM, PG_WRITEBACK
from allocator.mmzone import (
    ND_VM_STAT,
    NR_DIRTIED,
    NR_FILE_DIRTY,
    NR_WRITEBACK,
    NR_WRITTEN,
    NR_ZONE_WRITE_PENDING,
    Z_PGDAT,
    Z_VM_STAT,
)
from allocator.page_dirty import (
    cancel_dirty_page,
    end_page_writeback,
    set_page_dirty,
    set_page_writeback,
)
from allocator.vmstat import zone_page_state_snapshot
from allocator.xarray import (
    PAGECACHE_TAG_DIRTY,
    PAGECACHE_TAG_TOWRITE,
    PAGECACHE_TAG_WRITEBACK,
    xa_get_mark,
    xa_set_mark,
)
from tests.allocator.disk import Disk


def node(disk: Disk, item: int) -> int:
    """A counter of the only node."""
    return disk.m[((disk.m[disk.tiny.z + Z_PGDAT] - PAGE_OFFSET) >> 3) + ND_VM_STAT + item]


def pending(disk: Disk) -> int:
    """NR_ZONE_WRITE_PENDING."""
    return zone_page_state_snapshot(disk.m, disk.tiny.z, NR_ZONE_WRITE_PENDING)


def clean_page(disk: Disk) -> tuple[int, int, int]:
    """File, struct page and array of a page that was read."""
    from allocator.writeback import fsync_range

    file = disk.file("f", b"x" * 5000)
    assert fsync_range(disk.m, 0, disk.inode(file), 0, 99) == 0
    return file, disk.page(file, 1), disk.mapping(file) + AS_I_PAGES


def test_making_a_page_dirty_counts_it_once_and_lists_its_file() -> None:
    disk = Disk()
    m = disk.m
    file, p, xa = clean_page(disk)
    dirtied = node(disk, NR_DIRTIED)
    assert m[p + P_FLAGS] & PG_DIRTY == node(disk, NR_FILE_DIRTY) == pending(disk) == 0
    assert set_page_dirty(m, 0, p) == 1
    assert set_page_dirty(m, 0, p) == 0
    assert node(disk, NR_FILE_DIRTY) == pending(disk) == 1
    assert node(disk, NR_DIRTIED) == dirtied + 1
    assert xa_get_mark(m, xa, 1, PAGECACHE_TAG_DIRTY)
    inode = disk.inode(file)
    assert m[inode + INODE_STATE] & I_DIRTY_PAGES
    wb = word_of_va(m[G_BDI_WB])
    assert m[wb + WB_DIRTY] == va_of_word(inode + INODE_IO_LIST)


def test_a_page_dropped_while_dirty_is_uncounted() -> None:
    disk = Disk()
    _, p, _ = clean_page(disk)
    set_page_dirty(disk.m, 0, p)
    cancel_dirty_page(disk.m, 0, p)
    cancel_dirty_page(disk.m, 0, p)
    assert node(disk, NR_FILE_DIRTY) == pending(disk) == 0


def test_writeback_has_a_mark_and_counters_of_its_own() -> None:
    disk = Disk()
    m = disk.m
    _, p, xa = clean_page(disk)
    written = node(disk, NR_WRITTEN)
    xa_set_mark(m, xa, 1, PAGECACHE_TAG_TOWRITE)
    xa_set_mark(m, xa, 1, PAGECACHE_TAG_DIRTY)
    assert not set_page_writeback(m, 0, p)
    assert set_page_writeback(m, 0, p), "it was already"
    marks = [xa_get_mark(m, xa, 1, mark) for mark in range(3)]
    assert marks == [False, True, False], "clean, under writeback, no longer to be written"
    assert node(disk, NR_WRITEBACK) == pending(disk) == 1
    end_page_writeback(m, 0, p)
    end_page_writeback(m, 0, p)
    assert not xa_get_mark(m, xa, 1, PAGECACHE_TAG_WRITEBACK)
    assert node(disk, NR_WRITEBACK) == pending(disk) == 0
    assert node(disk, NR_WRITTEN) == written + 1


def test_a_page_made_dirty_again_under_writeback_stays_marked_dirty() -> None:
    disk = Disk()
    m = disk.m
    _, p, xa = clean_page(disk)
    set_page_writeback(m, 0, p)
    set_page_dirty(m, 0, p)
    assert m[p + P_FLAGS] & (PG_DIRTY | PG_WRITEBACK) == PG_DIRTY | PG_WRITEBACK
    end_page_writeback(m, 0, p)
    assert xa_get_mark(m, xa, 1, PAGECACHE_TAG_DIRTY)


def test_the_mark_of_readahead_or_reclaim_goes_when_the_page_gets_dirty() -> None:
    disk = Disk()
    _, p, _ = clean_page(disk)
    disk.m[p + P_FLAGS] |= PG_RECLAIM
    set_page_dirty(disk.m, 0, p)
    assert disk.m[p + P_FLAGS] & PG_RECLAIM == 0


def test_zone_counters_are_zone_counters() -> None:
    disk = Disk()
    _, p, _ = clean_page(disk)
    before = disk.m[disk.tiny.z + Z_VM_STAT + NR_ZONE_WRITE_PENDING]
    set_page_dirty(disk.m, 0, p)
    assert disk.m[disk.tiny.z + Z_VM_STAT + NR_ZONE_WRITE_PENDING] == before + 1
