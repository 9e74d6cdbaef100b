# SPDX-License-Identifier: GPL-2.0-only
"""Truncation and invalidation: what goes, what stays, what is zero afterwards."""

from __future__ import annotations

import pytest

from allocator.address_space import AS_NREXCEPTIONAL, AS_NRPAGES
from allocator.errors import ProcessKilled
from allocator.flatfs import DS_FREE, flatfs_block, fs_base
from allocator.flusher import sync_inodes
from allocator.fs import EFBIG, EINVAL, ENOSPC, INODE_BLOCKS, INODE_SIZE
from allocator.gfp import GFP_KERNEL
from allocator.mm_inline import get_page_p
from allocator.mm_types import P_FLAGS, PG_DIRTY, PG_LOCKED
from allocator.pagecache import drop_caches
from allocator.swap import lru_add_drain
from allocator.truncate import LAST_INDEX, do_truncate, invalidate_mapping_pages
from allocator.writeback import write_cache_pages
from allocator.xarray import xa_mk_value, xa_store
from tests.allocator.disk import Disk
from tests.allocator.machines import boot

PAGE = 4096


def test_pages_behind_the_new_end_go_dirty_or_not_with_their_blocks() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"x" * 10 * PAGE)
    inode, mapping = disk.inode(file), disk.mapping(file)
    free = m[fs_base(m) + DS_FREE] + m[inode + INODE_BLOCKS]
    assert do_truncate(m, 0, inode, 3 * PAGE + 1) == 0
    assert m[mapping + AS_NRPAGES] == m[inode + INODE_BLOCKS] == 4
    assert m[fs_base(m) + DS_FREE] == free - 4
    assert disk.read(file, 3 * PAGE, 99) == b"x"
    assert do_truncate(m, 0, inode, 0) == 0
    assert m[mapping + AS_NRPAGES] == m[inode + INODE_BLOCKS] == 0


@pytest.mark.parametrize("cold", [False, True])
def test_what_was_cut_off_reads_as_zeroes_when_the_file_grows_again(cold: bool) -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"x" * 3 * PAGE)
    sync_inodes(m, 0)
    if cold:
        lru_add_drain(m, 0)
        drop_caches(m, 0, 3)
        assert disk.page(file, 1) == 0
    do_truncate(m, 0, disk.inode(file), PAGE + 100)
    do_truncate(m, 0, disk.inode(file), 3 * PAGE)
    assert disk.read(file, PAGE, 2 * PAGE) == b"x" * 100 + bytes(2 * PAGE - 100)
    sync_inodes(m, 0)
    lru_add_drain(m, 0)
    drop_caches(m, 0, 3)
    assert disk.read(file, PAGE, 2 * PAGE) == b"x" * 100 + bytes(2 * PAGE - 100)


def test_a_page_under_writeback_is_waited_for() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"x" * 4 * PAGE)
    write_cache_pages(m, 0, disk.mapping(file), 0, 9, 9, 0)
    assert do_truncate(m, 0, disk.inode(file), 0) == 0
    assert m[disk.mapping(file) + AS_NRPAGES] == 0


def test_shadows_go_with_the_pages() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"x" * PAGE)
    mapping = disk.mapping(file)
    xa_store(m, 0, mapping + 1, 700, xa_mk_value(5), GFP_KERNEL)
    m[mapping + AS_NREXCEPTIONAL] += 1
    do_truncate(m, 0, disk.inode(file), PAGE // 2)
    assert m[mapping + AS_NREXCEPTIONAL] == 0


@pytest.mark.parametrize(
    ("size", "said"), [(-1, -EINVAL), ((1 << 40) + 1, -EFBIG), (1 << 38, -ENOSPC)]
)
def test_impossible_lengths_change_nothing(size: int, said: int) -> None:
    disk = Disk()
    file = disk.file("f", b"abc")
    assert do_truncate(disk.m, 0, disk.inode(file), size) == said
    assert disk.m[disk.inode(file) + INODE_SIZE] == 3
    assert disk.read(file, 0, 9) == b"abc"


def test_invalidation_drops_only_what_is_clean_and_unused() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"x" * 5 * PAGE)
    mapping = disk.mapping(file)
    sync_inodes(m, 0)
    lru_add_drain(m, 0)
    m[disk.page(file, 1) + P_FLAGS] |= PG_LOCKED
    disk.write(file, 2 * PAGE, b"dirty")
    get_page_p(m, disk.page(file, 3))
    assert invalidate_mapping_pages(m, 0, mapping, 0, LAST_INDEX) == 2
    assert [i for i in range(5) if disk.page(file, i)] == [1, 2, 3]
    assert m[disk.page(file, 2) + P_FLAGS] & PG_DIRTY


def test_processes_lose_what_lies_behind_the_end_even_copies_of_their_own() -> None:
    kernel = boot("1x64M")
    file = kernel.create_file("f", data=b"x" * 3 * PAGE)
    shared, private = kernel.create_process("s"), kernel.create_process("p")
    a = shared.mmap(3 * PAGE, file=file, shared=True)
    b = private.mmap(3 * PAGE, file=file)
    shared.write(a + PAGE, b"1")
    private.write(b + PAGE, b"2")
    private.write(b, b"3")
    file.truncate(100)
    assert shared.page(a + PAGE) is None
    assert private.page(b + PAGE) is None
    assert private.read(b, 2) == b"3x", "its own page before the end stays"
    for process, start in ((shared, a), (private, b)):
        with pytest.raises(ProcessKilled):
            process.read(start + PAGE, 1)


def test_blocks_that_come_back_are_clean() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"secret" * 1000)
    sync_inodes(m, 0)
    block = flatfs_block(m, disk.inode(file), 0)
    do_truncate(m, 0, disk.inode(file), 0)
    at = fs_base(m) + (block << 9)
    assert not any(m[at : at + 512])
