# SPDX-License-Identifier: GPL-2.0-only
"""Reading and writing through the page cache, one page at a time."""

from __future__ import annotations

import pytest

from allocator.blockdev import BD_BAD_COUNT, BD_BAD_FIRST, block_devices
from allocator.errors import ProcessKilled
from allocator.filemap import MAX_FILE_BYTES, read_page, write_begin, write_end
from allocator.flatfs import flatfs_block
from allocator.flusher import sync_inodes
from allocator.fs import EFBIG, EIO, ENOSPC, FILE_RA, INODE_SIZE, RA_PAGES
from allocator.kernel_globals import G_CLOCK
from allocator.layout import CPU_BLOCKS, CPU_EVENTS
from allocator.mm_inline import page_to_pfn
from allocator.mm_types import (
    P_COUNTS,
    P_FLAGS,
    PG_ACTIVE,
    PG_DIRTY,
    PG_LOCKED,
    PG_REFERENCED,
    PG_UPTODATE,
    REF_SHIFT,
)
from allocator.pagecache import drop_caches
from allocator.pagevec import put_page_p
from allocator.swap import lru_add_drain
from allocator.vm_events import PGPGIN
from tests.allocator.disk import Disk
from tests.allocator.machines import boot

PAGE = 4096


def go_cold(disk: Disk) -> None:
    """Everything written, and out of memory."""
    sync_inodes(disk.m, 0)
    lru_add_drain(disk.m, 0)
    drop_caches(disk.m, 0, 3)
    disk.m[CPU_BLOCKS + CPU_EVENTS + PGPGIN] = 0


def pages_read(disk: Disk) -> int:
    """Pages that came from the disk since."""
    return disk.m[CPU_BLOCKS + CPU_EVENTS + PGPGIN] // 8


def test_a_page_in_memory_is_read_without_the_disk() -> None:
    disk = Disk()
    file = disk.file("f", b"abcd" * 2000)
    before = disk.m[G_CLOCK]
    assert disk.read(file, 4094, 6) == b"cdabcd"
    assert disk.m[G_CLOCK] == before


def test_a_page_comes_back_with_a_reference_and_has_been_seen() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", bytes(PAGE))
    go_cold(disk)
    p = read_page(m, 0, file, 0, PAGE, PAGE)
    lru_add_drain(m, 0)
    assert m[p + P_COUNTS] >> REF_SHIFT == 2
    assert m[p + P_FLAGS] & (PG_UPTODATE | PG_LOCKED) == PG_UPTODATE
    assert m[p + P_FLAGS] & PG_REFERENCED
    put_page_p(m, 0, p)
    # the same byte again is the same look; another one makes it active
    disk.read(file, 0, 10)
    disk.read(file, 0, 10)
    lru_add_drain(m, 0)
    assert m[p + P_FLAGS] & PG_ACTIVE


def test_a_sequential_reader_of_whole_pages_sees_each_page_once() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", bytes(4 * PAGE))
    go_cold(disk)
    disk.read(file, 0, 4 * PAGE)
    lru_add_drain(m, 0)
    flags = [m[disk.page(file, i) + P_FLAGS] & (PG_REFERENCED | PG_ACTIVE) for i in range(4)]
    assert flags == [PG_REFERENCED] * 4


def test_an_unreadable_block_is_eio_and_readahead_shrinks() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", bytes(8 * PAGE))
    go_cold(disk)
    (vda,) = block_devices(m)
    m[vda + BD_BAD_FIRST], m[vda + BD_BAD_COUNT] = flatfs_block(m, disk.inode(file), 2), 1
    assert disk.read(file, 2 * PAGE, 10) == -EIO
    assert m[file + FILE_RA + RA_PAGES] == 8
    assert disk.read(file, 0, 8 * PAGE) == bytes(2 * PAGE), "what could be read"
    m[vda + BD_BAD_COUNT] = 0
    assert disk.read(file, 2 * PAGE, 10) == bytes(10)


def test_a_whole_page_is_written_without_reading_it_first() -> None:
    disk = Disk()
    file = disk.file("f", b"x" * 2 * PAGE)
    go_cold(disk)
    assert disk.write(file, PAGE, b"y" * PAGE) == PAGE
    assert pages_read(disk) == 0
    assert disk.write(file, 0, b"z") == 1
    assert pages_read(disk) == 1
    assert disk.read(file, 0, 2 * PAGE) == b"z" + b"x" * (PAGE - 1) + b"y" * PAGE


def test_a_write_behind_the_end_reads_nothing_and_leaves_zeroes_between() -> None:
    disk = Disk()
    file = disk.file("f", b"x" * 100)
    go_cold(disk)
    assert disk.write(file, 3 * PAGE + 5, b"end") == 3
    assert pages_read(disk) == 0
    assert disk.m[disk.inode(file) + INODE_SIZE] == 3 * PAGE + 8
    assert disk.read(file, 50, 4 * PAGE) == b"x" * 50 + bytes(3 * PAGE - 95) + b"end"


def test_bytes_a_mapping_left_behind_the_end_do_not_get_into_the_file() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"x" * 100)
    m[(page_to_pfn(m, disk.page(file, 0)) << 9) + 20] = -1
    assert disk.write(file, 300, b"y") == 1
    assert disk.read(file, 0, 400) == b"x" * 100 + bytes(200) + b"y"


def test_write_begin_hands_over_a_locked_page_and_write_end_makes_it_dirty() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f")
    p = write_begin(m, 0, file, 10, 5)
    assert m[p + P_FLAGS] & (PG_LOCKED | PG_UPTODATE | PG_DIRTY) == PG_LOCKED | PG_UPTODATE
    write_end(m, 0, file, p, 10, 5)
    assert m[p + P_FLAGS] & (PG_LOCKED | PG_DIRTY | PG_REFERENCED) == PG_DIRTY
    assert m[disk.inode(file) + INODE_SIZE] == 15


@pytest.mark.parametrize(("pos", "said"), [(MAX_FILE_BYTES, -EFBIG), (1 << 39, -ENOSPC)])
def test_a_file_ends_where_the_disk_or_the_format_does(pos: int, said: int) -> None:
    disk = Disk()
    file = disk.file("f")
    assert disk.write(file, pos, b"x") == said
    assert disk.m[disk.inode(file) + INODE_SIZE] == 0


def test_faults_are_served_by_the_page_cache() -> None:
    """A process that maps a file sees the page cache's page, and no page behind the end."""
    kernel = boot("1x64M")
    file = kernel.create_file("f", data=b"q" * 5000)
    process = kernel.create_process("p")
    start = process.mmap(4 * PAGE, file=file, shared=True)
    assert process.read(start + 4990, 20) == b"q" * 10 + bytes(10)
    mapped = process.page(start)
    assert mapped is not None
    assert mapped.pfn == file.pages[0].pfn
    assert process.page(start + PAGE) is not None, "mapped by fault-around"
    process.write(start + 1, b"!")
    assert file.read(3, 0) == b"q!q"
    with pytest.raises(ProcessKilled) as death:
        process.read(start + 2 * PAGE, 1)
    assert death.value.signal == 7


def test_a_page_that_cannot_be_read_is_a_bus_error_for_who_maps_it() -> None:
    kernel = boot("1x64M")
    m = kernel.m
    file = kernel.create_file("f", data=b"q" * 3 * PAGE)
    file.fsync()
    kernel.drop_caches(1)
    (vda,) = block_devices(m)
    m[vda + BD_BAD_FIRST], m[vda + BD_BAD_COUNT] = flatfs_block(m, file.inode, 1), 1
    process = kernel.create_process("p")
    start = process.mmap(3 * PAGE, file=file)
    assert process.read(start, 1) == b"q"
    with pytest.raises(ProcessKilled) as death:
        process.read(start + PAGE, 1)
    assert death.value.signal == 7
