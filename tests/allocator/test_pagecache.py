# SPDX-License-Identifier: GPL-2.0-only
"""Bringing files up, and dropping caches."""

from __future__ import annotations

import pytest

from allocator.address_space import AS_NRPAGES
from allocator.dcache import super_block
from allocator.file_table import fput
from allocator.flusher import sync_inodes
from allocator.fs import SB_NR_DENTRY
from allocator.kernel_globals import (
    G_DIRTY_EXPIRE_INTERVAL,
    G_DIRTY_WRITEBACK_INTERVAL,
    G_STORAGE_WORDS,
    G_SUPER_BLOCK,
)
from allocator.layout import CPU_BLOCKS, CPU_EVENTS
from allocator.mm_inline import memmap_index_init
from allocator.pagecache import drop_caches, pagecache_init
from allocator.slab import kmem_cache_name, slab_caches
from allocator.slab_common import kmem_cache_init
from allocator.swap import lru_add_drain, swap_setup
from allocator.vm_events import DROP_PAGECACHE, DROP_SLAB
from tests.allocator.disk import Disk
from tests.allocator.tiny import make_tiny


def test_it_is_brought_up_once_with_420s_settings() -> None:
    disk = Disk()
    m = disk.m
    names = {kmem_cache_name(m, s) for s in slab_caches(m)}
    assert {"radix_tree_node", "dentry", "inode_cache", "filp", "bio", "bdev_cache"} <= names
    assert (m[G_DIRTY_WRITEBACK_INTERVAL], m[G_DIRTY_EXPIRE_INTERVAL]) == (500, 3000)
    free = disk.tiny.free_pages()
    assert pagecache_init(m, 0) == 0
    assert disk.tiny.free_pages() == free


def test_without_storage_there_are_no_files() -> None:
    tiny = make_tiny(1, 1)
    for start in (kmem_cache_init, memmap_index_init, swap_setup, pagecache_init):
        assert start(tiny.m, 0) == 0
    assert tiny.m[G_STORAGE_WORDS] == tiny.m[G_SUPER_BLOCK] == 0
    assert drop_caches(tiny.m, 0, 3) == 0


@pytest.mark.parametrize(("what", "pages", "names"), [(1, 0, 4), (2, 1, 1), (3, 0, 1)])
def test_what_is_dropped_is_what_was_asked_for(what: int, pages: int, names: int) -> None:
    disk = Disk()
    m = disk.m
    files = [disk.file(f"f{i}", b"x" * 4096) for i in range(4)]
    sync_inodes(m, 0)
    lru_add_drain(m, 0)
    for file in files[1:]:
        fput(m, 0, file)
    assert drop_caches(m, 0, what) == 0
    assert m[super_block(m) + SB_NR_DENTRY] == names
    assert m[disk.mapping(files[0]) + AS_NRPAGES] == pages, "of the file that is still open"
    events = m[CPU_BLOCKS + CPU_EVENTS + DROP_PAGECACHE], m[CPU_BLOCKS + CPU_EVENTS + DROP_SLAB]
    assert events == (what & 1, what >> 1)


@pytest.mark.parametrize("what", [0, 4, -1])
def test_other_numbers_are_refused(what: int) -> None:
    assert drop_caches(Disk().m, 0, what) == -22
