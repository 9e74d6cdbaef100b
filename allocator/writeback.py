# SPDX-License-Identifier: GPL-2.0-only
"""Writing the dirty pages of a file back (mm/page-writeback.c, fs/fs-writeback.c).

A dirty page is first made clean, in the page tables that map it too, so that whoever writes to it
from then on makes it dirty again; then it is under writeback and goes to the disk. A file's pages
are found by their marks, from where the last visit stopped. A sync first marks all that is dirty,
writes that, and waits. `flusher` decides when this happens.

All hot: `p` is the word index of a struct page, `mapping` of an address_space, `inode` of an inode.
"""

from __future__ import annotations

from .address_space import (
    AOPS_FILE,
    AS_A_OPS,
    AS_HOST,
    AS_I_PAGES,
    AS_WRITEBACK_INDEX,
    filemap_check_errors,
    page_mapping,
)
from .blockdev import (
    REQ_OP_WRITE,
    lock_page_wait,
    submit_page,
    wait_on_page_writeback,
)
from .flatfs import clear_bytes, flatfs_block, write_inode
from .fs import (
    I_DIRTY,
    I_DIRTY_DATASYNC,
    I_DIRTY_PAGES,
    I_DIRTY_SYNC,
    I_SYNC,
    INODE_BDEV,
    INODE_IO_LIST,
    INODE_MAPPING,
    INODE_SIZE,
    INODE_STATE,
    WB_IO,
    inode_add_lru,
)
from .kernel_globals import G_BDI_WB
from .layout import PAGE_OFFSET
from .list_head import list_add, list_del, list_init
from .mm_inline import page_to_pfn, unlock_page
from .mm_types import (
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    PAGE_SHIFT,
    PAGE_SIZE,
    PG_DIRTY,
    PG_ERROR,
    PG_WRITEBACK,
)
from .page_cache import find_get_page
from .page_dirty import account_page_cleaned, mark_inode_dirty, set_page_dirty, set_page_writeback
from .pagevec import put_page_p
from .rmap_walk import page_mkclean
from .xarray import (
    PAGECACHE_TAG_DIRTY,
    PAGECACHE_TAG_TOWRITE,
    PAGECACHE_TAG_WRITEBACK,
    xa_find,
    xa_marked,
    xa_set_mark,
)

EIO = 5
CENTISECOND = 10_000_000
RATELIMIT_PAGES = 32
"""Pages that a writer may dirty between two looks at the limits."""
MIN_WRITEBACK_PAGES = 1024
LAST_INDEX = (1 << 52) - 1
WB_SYNC_NONE = 0
WB_SYNC_ALL = 1


# --- one page -------------------------------------------------------------------------------------
def clear_page_dirty_for_io(m: memoryview, cpu: int, p: int) -> bool:
    """The locked page is about to be written: clean from now on, and in all page tables as well;
    False if it was clean. Hot."""
    mapping = page_mapping(m, p)
    if mapping and m[mapping + AS_A_OPS] == AOPS_FILE:
        if page_mkclean(m, cpu, p):
            set_page_dirty(m, cpu, p)
        if m[p + P_FLAGS] & PG_DIRTY == 0:
            return False
        m[p + P_FLAGS] &= ~PG_DIRTY
        account_page_cleaned(m, cpu, p)
        return True
    if m[p + P_FLAGS] & PG_DIRTY == 0:
        return False
    m[p + P_FLAGS] &= ~PG_DIRTY
    return True


def file_writepage(m: memoryview, cpu: int, p: int) -> int:
    """Starts writing the locked, just cleaned page of a file, and unlocks it: 0 or -EIO. Hot
    (a_ops->writepage). Bytes behind the end of the file are written as zeroes."""
    inode = (m[(m[p + P_MAPPING] - PAGE_OFFSET >> 3) + AS_HOST] - PAGE_OFFSET) >> 3
    size = m[inode + INODE_SIZE]
    index = m[p + P_INDEX]
    if index << PAGE_SHIFT >= size:
        unlock_page(m, p)
        return 0
    if (index + 1) << PAGE_SHIFT > size:
        clear_bytes(m, page_to_pfn(m, p) << 9, size & (PAGE_SIZE - 1), PAGE_SIZE)
    block = flatfs_block(m, inode, index)
    if block < 0:
        set_page_dirty(m, cpu, p)
        unlock_page(m, p)
        return -EIO
    set_page_writeback(m, cpu, p)
    unlock_page(m, p)
    submit_page(m, cpu, (m[inode + INODE_BDEV] - PAGE_OFFSET) >> 3, REQ_OP_WRITE, block, p)
    return 0


# --- one file -------------------------------------------------------------------------------------
def tag_pages_for_writeback(m: memoryview, mapping: int, first: int, last: int) -> None:
    """Marks what is dirty now, so that a sync does not chase what becomes dirty later. Hot."""
    xa = mapping + AS_I_PAGES
    index = xa_find(m, xa, first, last, PAGECACHE_TAG_DIRTY)
    while index >= 0:
        xa_set_mark(m, xa, index, PAGECACHE_TAG_TOWRITE)
        index = xa_find(m, xa, index + 1, last, PAGECACHE_TAG_DIRTY)


def write_one(m: memoryview, cpu: int, mapping: int, p: int, sync: int) -> int:
    """Writes a dirty page of the file if it still is one: 1, 0 if there was nothing to write, or a
    negative errno. Hot.

    A page that a caller further up has locked, while the flusher runs in its place, is left.
    """
    if not lock_page_wait(m, cpu, p):
        return 0
    if m[p + P_MAPPING] != PAGE_OFFSET + (mapping << 3) or m[p + P_FLAGS] & PG_DIRTY == 0:
        unlock_page(m, p)
        return 0
    if m[p + P_FLAGS] & PG_WRITEBACK:
        if sync == WB_SYNC_NONE:
            unlock_page(m, p)
            return 0
        wait_on_page_writeback(m, cpu, p)
    if not clear_page_dirty_for_io(m, cpu, p):
        unlock_page(m, p)
        return 0
    return file_writepage(m, cpu, p) or 1


def write_cache_pages(
    m: memoryview, cpu: int, mapping: int, first: int, last: int, nr: int, sync: int
) -> int:
    """Writes up to `nr` dirty pages with indexes in [`first`, `last`] (`first` -1: from where the
    last call stopped, to the end): pages written. Hot. WB_SYNC_ALL writes all of them."""
    cyclic = first < 0
    index = m[mapping + AS_WRITEBACK_INDEX] if cyclic else first
    tag = PAGECACHE_TAG_DIRTY
    if sync == WB_SYNC_ALL:
        tag = PAGECACHE_TAG_TOWRITE
        tag_pages_for_writeback(m, mapping, index, last)
    xa = mapping + AS_I_PAGES
    done_index = index
    wrote = 0
    index = xa_find(m, xa, index, last, tag)
    while index >= 0:
        done_index = index + 1
        p = find_get_page(m, mapping, index)
        said = write_one(m, cpu, mapping, p, sync)
        put_page_p(m, cpu, p)
        wrote += 1 if said > 0 else 0
        if said < 0 or (wrote >= nr and sync == WB_SYNC_NONE):
            break
        index = xa_find(m, xa, index + 1, last, tag)
    if cyclic:
        m[mapping + AS_WRITEBACK_INDEX] = 0 if index < 0 else done_index
    return wrote


def wait_for_writeback(m: memoryview, cpu: int, mapping: int, first: int, last: int) -> int:
    """Waits until pages [`first`, `last`] of the file have been written: 0, or -EIO if one could
    not be. Hot (filemap_fdatawait_range)."""
    xa = mapping + AS_I_PAGES
    index = xa_find(m, xa, first, last, PAGECACHE_TAG_WRITEBACK)
    said = 0
    while index >= 0:
        p = find_get_page(m, mapping, index)
        wait_on_page_writeback(m, cpu, p)
        if m[p + P_FLAGS] & PG_ERROR:
            m[p + P_FLAGS] &= ~PG_ERROR
            said = -EIO
        put_page_p(m, cpu, p)
        index = xa_find(m, xa, index + 1, last, PAGECACHE_TAG_WRITEBACK)
    return said


def move_inode(m: memoryview, inode: int, head: int) -> None:
    """Puts an inode at the young end of one of the flusher's lists. Hot."""
    io = inode + INODE_IO_LIST
    list_del(m, io)
    list_add(m, io, PAGE_OFFSET + (io << 3), head)


def writeback_single_inode(m: memoryview, cpu: int, inode: int, nr: int, sync: int) -> int:
    """Writes up to `nr` pages of a file, and its record: pages and records written. Hot."""
    wb = (m[G_BDI_WB] - PAGE_OFFSET) >> 3
    mapping = inode + INODE_MAPPING
    m[inode + INODE_STATE] |= I_SYNC
    first = 0 if sync == WB_SYNC_ALL else -1
    wrote = write_cache_pages(m, cpu, mapping, first, LAST_INDEX, nr, sync)
    state = m[inode + INODE_STATE]
    if state & (I_DIRTY_SYNC | I_DIRTY_DATASYNC):
        write_inode(m, inode)
        wrote += 1
    m[inode + INODE_STATE] = state & ~(I_DIRTY | I_SYNC)
    list_del(m, inode + INODE_IO_LIST)
    list_init(m, inode + INODE_IO_LIST)
    if xa_marked(m, mapping + AS_I_PAGES, PAGECACHE_TAG_DIRTY):
        mark_inode_dirty(m, inode, I_DIRTY_PAGES)
        if wrote >= nr and sync == WB_SYNC_NONE:
            move_inode(m, inode, wb + WB_IO)
    else:
        inode_add_lru(m, inode)
    return wrote


def fsync_range(m: memoryview, cpu: int, inode: int, first: int, last: int) -> int:
    """Writes pages [`first`, `last`] of a file and its record, and waits: 0, or -EIO if that failed
    or dirty pages were lost since the last time. Hot."""
    mapping = inode + INODE_MAPPING
    write_cache_pages(m, cpu, mapping, first, last, LAST_INDEX, WB_SYNC_ALL)
    said = wait_for_writeback(m, cpu, mapping, first, last)
    if filemap_check_errors(m, mapping):
        said = -EIO
    state = m[inode + INODE_STATE]
    if state & (I_DIRTY_SYNC | I_DIRTY_DATASYNC):
        write_inode(m, inode)
        m[inode + INODE_STATE] &= ~(I_DIRTY_SYNC | I_DIRTY_DATASYNC)
    if m[inode + INODE_STATE] & I_DIRTY and not xa_marked(
        m, mapping + AS_I_PAGES, PAGECACHE_TAG_DIRTY
    ):
        m[inode + INODE_STATE] &= ~I_DIRTY
        list_del(m, inode + INODE_IO_LIST)
        list_init(m, inode + INODE_IO_LIST)
        inode_add_lru(m, inode)
    return said
