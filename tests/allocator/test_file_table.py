# SPDX-License-Identifier: GPL-2.0-only
"""The last reference to a struct file takes with it what nothing else holds."""

from __future__ import annotations

from allocator.dcache import unlink
from allocator.file_table import fput
from allocator.fs import (
    DENTRY_COUNT,
    FILE_COUNT,
    FILE_DENTRY,
    INODE_WRITECOUNT,
    file_inode,
    get_file,
)
from allocator.kernel_globals import G_COMMITTED_AS, G_SHMEM_INODES
from allocator.layout import PAGE_OFFSET
from allocator.shmem import shmem_zero_setup
from tests.allocator.disk import Disk


def test_a_file_of_the_disk_lets_go_of_its_name() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f")
    dentry = (m[file + FILE_DENTRY] - PAGE_OFFSET) >> 3
    inode = file_inode(m, file)
    get_file(m, file)
    fput(m, 0, file)
    users = [m[file + FILE_COUNT], m[dentry + DENTRY_COUNT], m[inode + INODE_WRITECOUNT]]
    assert users == [1, 1, 1]
    fput(m, 0, file)
    assert (m[dentry + DENTRY_COUNT], m[inode + INODE_WRITECOUNT]) == (0, 0)


def test_a_file_without_a_name_ends() -> None:
    disk = Disk()
    m = disk.m
    first = disk.file("f", b"x" * 5000)
    second = disk.open("f", create=False)
    assert unlink(m, 0, disk.name("f")) == 0
    fput(m, 0, first)
    assert disk.read(second, 0, 5000) == b"x" * 5000
    fput(m, 0, second)
    again = disk.file("f")
    assert disk.read(again, 0, 1) == b""


def test_shared_memory_ends_with_its_file() -> None:
    disk = Disk()
    m = disk.m
    before = m[G_COMMITTED_AS]
    file = shmem_zero_setup(m, 0, 10 << 12, 0)
    assert file > 0
    assert m[G_COMMITTED_AS] == before + 10
    assert m[G_SHMEM_INODES] != PAGE_OFFSET + (G_SHMEM_INODES << 3)
    fput(m, 0, file)
    assert m[G_COMMITTED_AS] == before
    assert m[G_SHMEM_INODES] == PAGE_OFFSET + (G_SHMEM_INODES << 3)
