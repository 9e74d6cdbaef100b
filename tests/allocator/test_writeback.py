# SPDX-License-Identifier: GPL-2.0-only
"""Writing a file's dirty pages: which, in which order, and what the page tables are told."""

from __future__ import annotations

from allocator.address_space import AS_I_PAGES, AS_WRITEBACK_INDEX
from allocator.blockdev import BD_BAD_COUNT, BD_BAD_FIRST, BD_WRITES, blk_wait_any, block_devices
from allocator.flatfs import DI_SIZE, disk_inode, flatfs_block, fs_base
from allocator.flusher import wakeup_flusher_threads
from allocator.fs import I_DIRTY, INODE_INO, INODE_SIZE, INODE_STATE
from allocator.mm_types import P_FLAGS, PG_DIRTY, PG_LOCKED, PG_WRITEBACK
from allocator.page_dirty import set_page_dirty
from allocator.writeback import (
    WB_SYNC_ALL,
    WB_SYNC_NONE,
    clear_page_dirty_for_io,
    fsync_range,
    tag_pages_for_writeback,
    write_cache_pages,
    writeback_single_inode,
)
from allocator.xarray import PAGECACHE_TAG_TOWRITE, xa_get_mark
from tests.allocator.disk import Disk
from tests.allocator.machines import boot

PAGE = 4096


def dirty_pages(disk: Disk, file: int, pages: int) -> list[int]:
    """Indexes of the dirty pages of a file."""
    return [i for i in range(pages) if disk.m[disk.page(file, i) + P_FLAGS] & PG_DIRTY]


def on_disk(disk: Disk, file: int, index: int) -> int:
    """The first word of a page on the disk."""
    m = disk.m
    return m[fs_base(m) + (flatfs_block(m, disk.inode(file), index) << 9)]


def test_fsync_puts_pages_and_length_on_the_disk() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"\x01" * (3 * PAGE + 100))
    inode = disk.inode(file)
    assert on_disk(disk, file, 1) == 0
    assert m[disk_inode(m, m[inode + INODE_INO]) + DI_SIZE] == 0
    assert fsync_range(m, 0, inode, 0, 99) == 0
    assert on_disk(disk, file, 1) == 0x0101010101010101
    assert m[disk_inode(m, m[inode + INODE_INO]) + DI_SIZE] == 3 * PAGE + 100
    assert dirty_pages(disk, file, 4) == []
    assert m[inode + INODE_STATE] & I_DIRTY == 0


def test_what_lies_behind_the_end_is_written_as_zeroes() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"\x01" * 8)
    from allocator.mm_inline import page_to_pfn

    m[(page_to_pfn(m, disk.page(file, 0)) << 9) + 1] = -1
    fsync_range(m, 0, disk.inode(file), 0, 0)
    block = fs_base(m) + (flatfs_block(m, disk.inode(file), 0) << 9)
    assert m[block + 1] == 0


def test_a_visit_goes_on_where_the_last_one_stopped() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", bytes(10 * PAGE))
    mapping = disk.mapping(file)
    assert write_cache_pages(m, 0, mapping, -1, 99, 4, WB_SYNC_NONE) == 4
    assert dirty_pages(disk, file, 10) == [4, 5, 6, 7, 8, 9]
    assert m[mapping + AS_WRITEBACK_INDEX] == 4
    set_page_dirty(m, 0, disk.page(file, 0))
    assert write_cache_pages(m, 0, mapping, -1, 99, 100, WB_SYNC_NONE) == 6
    assert dirty_pages(disk, file, 10) == [0], "behind the place it started from"
    assert m[mapping + AS_WRITEBACK_INDEX] == 0


def test_a_page_under_writeback_is_left_or_waited_for() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", bytes(PAGE))
    mapping, p = disk.mapping(file), disk.page(file, 0)
    write_cache_pages(m, 0, mapping, 0, 0, 1, WB_SYNC_NONE)
    set_page_dirty(m, 0, p)
    assert m[p + P_FLAGS] & (PG_WRITEBACK | PG_DIRTY) == PG_WRITEBACK | PG_DIRTY
    write_cache_pages(m, 0, mapping, 0, 0, 1, WB_SYNC_NONE)
    assert m[p + P_FLAGS] & PG_DIRTY, "left alone"
    (vda,) = block_devices(m)
    before = m[vda + BD_WRITES]
    assert fsync_range(m, 0, disk.inode(file), 0, 0) == 0
    assert m[vda + BD_WRITES] == before + 1
    assert m[p + P_FLAGS] & (PG_DIRTY | PG_WRITEBACK | PG_LOCKED) == 0


def test_a_sync_writes_what_is_dirty_when_it_begins() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", bytes(3 * PAGE))
    xa = disk.mapping(file) + AS_I_PAGES
    tag_pages_for_writeback(m, disk.mapping(file), 1, 2)
    assert [xa_get_mark(m, xa, i, PAGECACHE_TAG_TOWRITE) for i in range(3)] == [False, True, True]
    assert write_cache_pages(m, 0, disk.mapping(file), 0, 0, 99, WB_SYNC_ALL) == 1
    assert dirty_pages(disk, file, 3) == [1, 2]


def test_a_block_that_cannot_be_written_is_told_to_whoever_syncs() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", bytes(PAGE))
    (vda,) = block_devices(m)
    m[vda + BD_BAD_FIRST], m[vda + BD_BAD_COUNT] = flatfs_block(m, disk.inode(file), 0), 1
    assert fsync_range(m, 0, disk.inode(file), 0, 0) == -5
    assert fsync_range(m, 0, disk.inode(file), 0, 0) == 0, "told once"


def test_a_visit_that_could_not_write_everything_keeps_the_file_on_a_list() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", bytes(8 * PAGE))
    inode = disk.inode(file)
    assert writeback_single_inode(m, 0, inode, 3, WB_SYNC_NONE) == 4, "three pages, one record"
    assert m[inode + INODE_STATE] & I_DIRTY
    while blk_wait_any(m, 0):
        continue
    assert writeback_single_inode(m, 0, inode, 99, WB_SYNC_NONE) == 5
    assert m[inode + INODE_STATE] & I_DIRTY == 0


def test_a_page_that_somebody_up_the_stack_has_locked_is_no_progress() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", bytes(3 * PAGE))
    p = disk.page(file, 1)
    m[p + P_FLAGS] |= PG_LOCKED
    assert wakeup_flusher_threads(m, 0) == 3, "two pages, one record"
    assert wakeup_flusher_threads(m, 0) == 0
    assert dirty_pages(disk, file, 3) == [1]


def test_a_file_cut_short_before_its_page_is_written_writes_nothing() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", bytes(2 * PAGE))
    m[disk.inode(file) + INODE_SIZE] = PAGE
    (vda,) = block_devices(m)
    before = m[vda + BD_WRITES]
    write_cache_pages(m, 0, disk.mapping(file), 1, 1, 9, WB_SYNC_NONE)
    assert m[vda + BD_WRITES] == before


def test_a_page_written_through_a_mapping_is_dirty_again_after_it_was_written_back() -> None:
    kernel = boot("1x64M")
    m = kernel.m
    file = kernel.create_file("f", data=b"a" * PAGE)
    process = kernel.create_process("p")
    start = process.mmap(PAGE, file=file, shared=True)
    process.write(start, b"b")
    page = file.pages[0]
    m[page.word + P_FLAGS] |= PG_LOCKED
    assert clear_page_dirty_for_io(m, 0, page.word)
    assert not clear_page_dirty_for_io(m, 0, page.word)
    m[page.word + P_FLAGS] &= ~PG_LOCKED
    assert "dirty" not in file.pages[0].flag_names
    process.write(start, b"c")
    assert "dirty" in file.pages[0].flag_names, "its page table entry had been made read-only"
