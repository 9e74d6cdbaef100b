# SPDX-License-Identifier: GPL-2.0-only
"""Taking pages of a file out of memory (mm/truncate.c).

Truncation makes a file shorter: its pages behind the new end leave the page tables of those who map
them and the cache, dirty or not, and what remains of the last page is cleared. Invalidation only
drops what is clean and nobody uses, to free memory.

All hot: `mapping` is the word index of an address_space, `inode` of an inode; indexes are pages.
"""

from __future__ import annotations

from .address_space import AS_I_MMAP, AS_I_PAGES, AS_NREXCEPTIONAL
from .blockdev import lock_page_wait, wait_on_page_writeback
from .filemap import clear_tail
from .flatfs import flatfs_clear_tail, flatfs_grow, flatfs_shrink
from .fs import (
    EFBIG,
    EINVAL,
    I_DIRTY_DATASYNC,
    INODE_BLOCKS,
    INODE_MAPPING,
    INODE_SIZE,
)
from .memory_zap import unmap_mapping_range
from .mm_inline import get_page_p, page_mapped, unlock_page, va_to_page
from .mm_types import (
    P_COUNTS,
    P_FLAGS,
    PAGE_SHIFT,
    PAGE_SIZE,
    PG_DIRTY,
    PG_LOCKED,
    PG_MAPPEDTODISK,
    PG_WRITEBACK,
    REF_SHIFT,
)
from .page_cache import delete_from_page_cache_only, next_cached
from .page_dirty import cancel_dirty_page, mark_inode_dirty
from .pagevec import put_page_p
from .swap import deactivate_file_page
from .xarray import xa_erase, xa_load

LAST_INDEX = (1 << 52) - 1
MAX_FILE_BYTES = 1 << 40


def clear_shadow(m: memoryview, cpu: int, mapping: int, index: int) -> None:
    """Removes the shadow at `index`. Hot (clear_exceptional_entry)."""
    xa_erase(m, cpu, mapping + AS_I_PAGES, index)
    m[mapping + AS_NREXCEPTIONAL] -= 1


def drop_locked_page(m: memoryview, cpu: int, p: int) -> None:
    """Takes a locked page out of the cache, unlocks it, drops the cache's reference. Hot."""
    delete_from_page_cache_only(m, cpu, p, 0)
    unlock_page(m, p)
    put_page_p(m, cpu, p)


def truncate_inode_pages(m: memoryview, cpu: int, mapping: int, first: int) -> None:
    """Drops all pages and shadows from index `first` on, dirty or not. Hot.

    Pages that are being read or written are waited for.
    """
    index = next_cached(m, mapping, first, LAST_INDEX)
    while index >= 0:
        entry = xa_load(m, mapping + AS_I_PAGES, index)
        if entry & 1:
            clear_shadow(m, cpu, mapping, index)
        else:
            p = va_to_page(m, entry)
            lock_page_wait(m, cpu, p)
            wait_on_page_writeback(m, cpu, p)
            if page_mapped(m, p):
                unmap_mapping_range(m, cpu, mapping + AS_I_MMAP, index, 1, 0)
            cancel_dirty_page(m, cpu, p)
            m[p + P_FLAGS] &= ~PG_MAPPEDTODISK
            drop_locked_page(m, cpu, p)
        index = next_cached(m, mapping, index + 1, LAST_INDEX)


def truncate_pagecache(m: memoryview, cpu: int, inode: int, size: int) -> None:
    """Takes everything behind byte `size` out of page tables and cache. Hot.

    Private copies go, too, and twice: those made between the first time and the cache's emptying.
    """
    mapping = inode + INODE_MAPPING
    first = (size + PAGE_SIZE - 1) >> PAGE_SHIFT
    unmap_mapping_range(m, cpu, mapping + AS_I_MMAP, first, 0, 1)
    truncate_inode_pages(m, cpu, mapping, first)
    unmap_mapping_range(m, cpu, mapping + AS_I_MMAP, first, 0, 1)


def do_truncate(m: memoryview, cpu: int, inode: int, size: int) -> int:
    """Makes a file `size` bytes long: 0, -EINVAL, -EFBIG or -ENOSPC. Hot. What is added reads as
    zeroes."""
    if size < 0:
        return -EINVAL
    if size > MAX_FILE_BYTES:
        return -EFBIG
    mapping = inode + INODE_MAPPING
    pages = (size + PAGE_SIZE - 1) >> PAGE_SHIFT
    before = m[inode + INODE_SIZE]
    if size > before:
        clear_tail(m, cpu, mapping, before)
        if pages > m[inode + INODE_BLOCKS]:
            said = flatfs_grow(m, inode, pages)
            if said:
                return said
    m[inode + INODE_SIZE] = size
    mark_inode_dirty(m, inode, I_DIRTY_DATASYNC)
    if size < before:
        truncate_pagecache(m, cpu, inode, size)
        clear_tail(m, cpu, mapping, size)
        flatfs_clear_tail(m, inode, size)
        flatfs_shrink(m, inode, pages)
    return 0


def invalidate_inode_page(m: memoryview, cpu: int, p: int) -> bool:
    """Drops (and unlocks) a locked page of the cache if it is clean and nobody uses it. Hot."""
    if m[p + P_FLAGS] & (PG_DIRTY | PG_WRITEBACK) or page_mapped(m, p):
        return False
    # the cache's reference and the caller's
    if m[p + P_COUNTS] >> REF_SHIFT != 2:
        return False
    drop_locked_page(m, cpu, p)
    return True


def invalidate_mapping_pages(m: memoryview, cpu: int, mapping: int, first: int, last: int) -> int:
    """Drops clean, unused pages and shadows in [`first`, `last`]: how many pages. Hot."""
    count = 0
    index = next_cached(m, mapping, first, last)
    while index >= 0:
        entry = xa_load(m, mapping + AS_I_PAGES, index)
        if entry & 1:
            clear_shadow(m, cpu, mapping, index)
        else:
            p = va_to_page(m, entry)
            if m[p + P_FLAGS] & PG_LOCKED == 0:
                m[p + P_FLAGS] |= PG_LOCKED
                get_page_p(m, p)
                if invalidate_inode_page(m, cpu, p):
                    count += 1
                else:
                    unlock_page(m, p)
                    deactivate_file_page(m, cpu, p)
                put_page_p(m, cpu, p)
        index = next_cached(m, mapping, index + 1, last)
    return count
