# SPDX-License-Identifier: GPL-2.0-only
"""References to files: who keeps whom, and what becomes of the unused."""

from __future__ import annotations

from allocator.dcache import super_block
from allocator.file_table import fput
from allocator.fs import (
    DCACHE_REFERENCED,
    DENTRY,
    DENTRY_COUNT,
    DENTRY_FLAGS,
    FILE,
    FILE_COUNT,
    FILE_DENTRY,
    FMODE_READ,
    INODE,
    SB_DENTRY_LRU,
    dget,
    dput,
    file_i_mmap,
    file_inode,
    file_mapping,
    file_mode,
    get_file,
    i_size_read,
)
from allocator.kernel_globals import G_FILP_CACHEP
from allocator.layout import word_of_va
from allocator.list_lru import list_lru_count_node
from allocator.slab import KC_NODE, KCN_NR_SLABS
from allocator.slab_common import kmem_cache_shrink
from tests.allocator.disk import Disk


def unused_names(disk: Disk) -> int:
    """Names on the list of those that nobody uses."""
    lru = word_of_va(disk.m[super_block(disk.m) + SB_DENTRY_LRU])
    return list_lru_count_node(disk.m, lru, 0)


def test_an_open_file_knows_its_inode_and_mapping() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f", b"12345")
    assert i_size_read(m, file_inode(m, file)) == 5
    assert file_mapping(m, file) == disk.mapping(file)
    assert m[file_i_mmap(m, file)] == 0, "nobody maps it"
    assert file_mode(m, disk.open("f", FMODE_READ)) == FMODE_READ


def test_the_last_reference_closes() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f")
    dentry = word_of_va(m[file + FILE_DENTRY])
    assert get_file(m, file) == file
    assert m[file + FILE_COUNT] == 2
    fput(m, 0, file)
    assert m[dentry + DENTRY_COUNT] == 1
    fput(m, 0, file)
    assert m[dentry + DENTRY_COUNT] == 0
    assert unused_names(disk) == 1
    cache = word_of_va(m[G_FILP_CACHEP])
    kmem_cache_shrink(m, 0, cache)
    assert m[word_of_va(m[cache + KC_NODE]) + KCN_NR_SLABS] == 0


def test_a_name_used_again_while_it_is_listed_is_marked_as_used_lately() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f")
    dentry = word_of_va(m[file + FILE_DENTRY])
    fput(m, 0, file)
    assert m[dentry + DENTRY_FLAGS] & DCACHE_REFERENCED == 0
    dget(m, dentry)
    dput(m, dentry)
    assert m[dentry + DENTRY_FLAGS] & DCACHE_REFERENCED
    assert unused_names(disk) == 1


def test_structures_have_the_sizes_that_their_caches_are_made_for() -> None:
    assert DENTRY.size == 192
    assert FILE.size == 256
    assert INODE.size % 8 == 0
