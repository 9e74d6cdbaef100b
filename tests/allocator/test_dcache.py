# SPDX-License-Identifier: GPL-2.0-only
"""Names and inodes: kept after use, given up when memory is wanted, read back from the disk."""

from __future__ import annotations

from allocator.address_space import AS_NRPAGES
from allocator.dcache import (
    d_lookup,
    find_inode,
    lookup,
    prune_dcache,
    prune_icache,
    super_block,
    super_cache_scan,
    unlink,
)
from allocator.file_table import fput
from allocator.flatfs import DS_FREE, NR_DISK_INODES, fs_base, new_record
from allocator.flusher import sync_inodes
from allocator.fs import (
    DENTRY_COUNT,
    ENOENT,
    ENOSPC,
    INODE_COUNT,
    INODE_INO,
    INODE_WRITECOUNT,
    SB_NR_DENTRY,
    SB_NR_INODES,
    dput,
    file_inode,
    get_file,
)
from allocator.gfp import GFP_KERNEL, GFP_NOFS
from allocator.swap import lru_add_drain
from tests.allocator.disk import Disk


def counts(disk: Disk) -> tuple[int, int]:
    """Names and inodes in memory."""
    sb = super_block(disk.m)
    return disk.m[sb + SB_NR_DENTRY], disk.m[sb + SB_NR_INODES]


def test_two_openings_share_name_and_inode() -> None:
    disk = Disk()
    m = disk.m
    first, second = disk.open("f"), disk.open("f", mode=1)
    assert first != second
    assert disk.inode(first) == disk.inode(second)
    assert m[disk.inode(first) + INODE_WRITECOUNT] == 1
    assert m[d_lookup(m, disk.name("f")) + DENTRY_COUNT] == 2
    get_file(m, first)
    fput(m, 0, first)
    assert m[disk.inode(first) + INODE_WRITECOUNT] == 1, "still referenced"
    fput(m, 0, first)
    assert m[disk.inode(second) + INODE_WRITECOUNT] == 0


def test_what_does_not_exist_is_made_only_when_asked_for() -> None:
    disk = Disk()
    m = disk.m
    assert lookup(m, 0, disk.name("f"), False) == -ENOENT
    assert counts(disk) == (0, 0)
    dput(m, lookup(m, 0, disk.name("f"), True))
    assert counts(disk) == (1, 1)


def test_a_full_table_of_files_is_enospc() -> None:
    disk = Disk()
    for i in range(NR_DISK_INODES):
        new_record(disk.m, disk.name(f"n{i}"))
    assert disk.open("one more") == -ENOSPC


def test_unused_names_go_first_then_their_inodes_and_all_can_be_read_back() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"contents")
    ino = m[disk.inode(file) + INODE_INO]
    assert prune_dcache(m, 0, 0, 9) == 0, "in use"
    sync_inodes(m, 0)
    fput(m, 0, file)
    assert prune_icache(m, 0, 0, 9) == 0, "held by its name"
    assert prune_dcache(m, 0, 0, 9) == 1
    assert counts(disk) == (0, 1)
    lru_add_drain(m, 0)
    while find_inode(m, ino):
        prune_icache(m, 0, 0, 1)
    assert counts(disk) == (0, 0)
    assert disk.read(disk.open("f", create=False), 0, 99) == b"contents"


def test_an_inode_with_dirty_pages_is_not_given_up() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"dirty")
    inode = disk.inode(file)
    fput(m, 0, file)
    prune_dcache(m, 0, 0, 9)
    assert m[inode + INODE_COUNT] == 0
    for _ in range(5):
        assert prune_icache(m, 0, 0, 9) == 0
    sync_inodes(m, 0)
    lru_add_drain(m, 0)
    freed = sum(prune_icache(m, 0, 0, 9) for _ in range(5))
    assert freed == 1


def test_an_inode_with_clean_pages_loses_them_first() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"x" * 4096)
    mapping = disk.mapping(file)
    sync_inodes(m, 0)
    lru_add_drain(m, 0)
    fput(m, 0, file)
    prune_dcache(m, 0, 0, 9)
    assert prune_icache(m, 0, 0, 1) == 0
    assert m[mapping + AS_NRPAGES] == 0
    assert prune_icache(m, 0, 0, 1) == 1


def test_a_file_loses_its_name_at_once_and_ends_when_nobody_has_it_open() -> None:
    disk = Disk()
    m = disk.m
    free = m[fs_base(m) + DS_FREE]
    file = disk.file("f", b"x" * 9000)
    assert unlink(m, 0, disk.name("f")) == 0
    assert unlink(m, 0, disk.name("f")) == -ENOENT
    other = disk.file("f", b"another")
    assert file_inode(m, file) != file_inode(m, other)
    sync_inodes(m, 0)
    prune_dcache(m, 0, 0, 9)
    assert disk.read(file, 0, 9000) == b"x" * 9000
    assert disk.read(other, 0, 9) == b"another"
    fput(m, 0, file)
    assert disk.read(other, 0, 9) == b"another"
    fput(m, 0, other)
    assert unlink(m, 0, disk.name("f")) == 0
    assert unlink(m, 0, disk.name("f")) == -ENOENT
    assert m[fs_base(m) + DS_FREE] == free
    assert counts(disk) == (0, 0)
    again = disk.open("f")
    assert disk.read(again, 0, 9) == b""


def test_a_request_that_may_not_enter_the_file_system_frees_nothing() -> None:
    disk = Disk()
    fput(disk.m, 0, disk.file("f"))
    assert super_cache_scan(disk.m, 0, 0, 100, GFP_NOFS) == -1
    assert super_cache_scan(disk.m, 0, 0, 100, GFP_KERNEL) == 2, "the name and its inode"
