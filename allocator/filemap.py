# SPDX-License-Identifier: GPL-2.0-only
"""Reading and writing files through the page cache, and faults on them (mm/filemap.c).

A read takes pages from the cache; what is missing is read, with readahead. A write changes pages in
the cache and makes them dirty; it needs to read first what it changes in part. A fault in an area
that maps a file gets the page locked. Bytes are moved by the caller, who knows where from and to:
`read_page` and `write_begin`/`write_end` hand over one page at a time.

All hot: `file` is the word index of an open file, positions and lengths are bytes, indexes pages.
Pages come back with a reference. Errors are negative errnos, VM_FAULT_ bits from faults.
"""

from __future__ import annotations

from .address_space import AS_GFP
from .blockdev import lock_page_wait, wait_on_page_locked
from .flatfs import clear_bytes, flatfs_reserve
from .fs import (
    EFBIG,
    EIO,
    ENOMEM,
    FILE_RA,
    I_DIRTY_DATASYNC,
    INODE_BLOCKS,
    INODE_SIZE,
    RA_ASYNC_SIZE,
    RA_MMAP_MISS,
    RA_PAGES,
    RA_PREV_POS,
    RA_SIZE,
    RA_START,
    file_inode,
    file_mapping,
)
from .gfp import GFP_WRITE_BIT
from .layout import PAGE_OFFSET
from .mm_inline import page_to_pfn, unlock_page
from .mm_struct import (
    VM_FAULT_LOCKED,
    VM_FAULT_MAJOR,
    VM_FAULT_NOPAGE,
    VM_FAULT_OOM,
    VM_FAULT_SIGBUS,
    VM_RAND_READ,
    VM_SEQ_READ,
    VMA_FILE,
    VMA_FLAGS,
    VMF_PAGE,
    VMF_PGOFF,
    VMF_VMA,
)
from .mm_types import (
    P_FLAGS,
    P_MAPPING,
    PAGE_SHIFT,
    PAGE_SIZE,
    PG_HWPOISON,
    PG_LOCKED,
    PG_UPTODATE,
)
from .page_cache import (
    EEXIST,
    add_to_page_cache_lru,
    find_get_page,
    find_lock_page,
    next_cached,
    page_cache_alloc,
)
from .page_dirty import mark_inode_dirty, set_page_dirty
from .page_poison import clear_pages
from .pagevec import put_page_p
from .readahead import (
    PG_READAHEAD,
    do_page_cache_readahead,
    page_cache_async_readahead,
    page_cache_sync_readahead,
    readpage,
)
from .swap import mark_page_accessed
from .vm_events import PGMAJFAULT
from .vmstat import count_vm_events

MMAP_LOTSAMISS = 100
MAX_FILE_BYTES = 1 << 40


# --- reading --------------------------------------------------------------------------------------
def page_ready(m: memoryview, cpu: int, inode: int, p: int) -> bool:
    """Waits until the page holds the file's bytes, reading it if nobody does; False where it cannot
    be read. Hot."""
    if m[p + P_FLAGS] & PG_LOCKED and m[p + P_FLAGS] & PG_UPTODATE == 0:
        wait_on_page_locked(m, cpu, p)
    if m[p + P_FLAGS] & PG_UPTODATE:
        return True
    if not lock_page_wait(m, cpu, p):
        return False
    readpage(m, cpu, inode, p)
    wait_on_page_locked(m, cpu, p)
    return m[p + P_FLAGS] & PG_UPTODATE != 0


def read_page(m: memoryview, cpu: int, file: int, pos: int, end: int, asked: int) -> int:
    """The page with byte `pos`, of a read that goes to `end`, the end of the file at the most, and
    was asked for up to `asked`: it, or -EIO or -ENOMEM. Hot (a round of
    generic_file_buffered_read()). `pos` lies within the file."""
    inode = file_inode(m, file)
    mapping = file_mapping(m, file)
    ra = file + FILE_RA
    index = pos >> PAGE_SHIFT
    last = (asked + PAGE_SIZE - 1) >> PAGE_SHIFT
    p = find_get_page(m, mapping, index)
    if p == 0:
        page_cache_sync_readahead(m, cpu, file, index, last - index)
        p = find_get_page(m, mapping, index)
    if p == 0:
        p = page_cache_alloc(m, cpu, mapping, 0)
        if p == 0:
            return -ENOMEM
        said = add_to_page_cache_lru(m, cpu, p, mapping, index, m[mapping + AS_GFP])
        if said:
            put_page_p(m, cpu, p)
            return said
        readpage(m, cpu, inode, p)
    elif m[p + P_FLAGS] & PG_READAHEAD:
        page_cache_async_readahead(m, cpu, file, p, index, last - index)
    if not page_ready(m, cpu, inode, p):
        put_page_p(m, cpu, p)
        m[ra + RA_PAGES] //= 4
        return -EIO
    before = m[ra + RA_PREV_POS]
    if before >> PAGE_SHIFT != index or before & (PAGE_SIZE - 1) != pos & (PAGE_SIZE - 1):
        mark_page_accessed(m, cpu, p)
    stop = min(end, (index + 1) << PAGE_SHIFT) & (PAGE_SIZE - 1)
    m[ra + RA_PREV_POS] = index << PAGE_SHIFT | stop
    return p


# --- writing --------------------------------------------------------------------------------------
def write_begin(m: memoryview, cpu: int, file: int, pos: int, length: int) -> int:
    """The page for a write of `length` bytes at `pos`, within one page: it, locked and with what
    the write leaves of it, or -EIO, -ENOMEM, -ENOSPC, -EFBIG. Hot."""
    if pos + length > MAX_FILE_BYTES:
        return -EFBIG
    inode = file_inode(m, file)
    mapping = file_mapping(m, file)
    index = pos >> PAGE_SHIFT
    if pos > m[inode + INODE_SIZE]:
        clear_tail(m, cpu, mapping, m[inode + INODE_SIZE])
    if index >= m[inode + INODE_BLOCKS]:
        said = flatfs_reserve(m, inode, index + 1)
        if said:
            return said
    p = grab_cache_page(m, cpu, mapping, index)
    if p < 0:
        return p
    if m[p + P_FLAGS] & PG_UPTODATE or length == PAGE_SIZE:
        return p
    if index << PAGE_SHIFT >= m[inode + INODE_SIZE]:
        clear_pages(m, page_to_pfn(m, p), 0)
        m[p + P_FLAGS] |= PG_UPTODATE
        return p
    readpage(m, cpu, inode, p)
    if not wait_on_page_locked(m, cpu, p) or m[p + P_FLAGS] & PG_UPTODATE == 0:
        put_page_p(m, cpu, p)
        return -EIO
    m[p + P_FLAGS] |= PG_LOCKED
    return p


def clear_tail(m: memoryview, cpu: int, mapping: int, size: int) -> None:
    """Zeroes what lies behind byte `size` in the cached page that holds it: a process that maps the
    page may have written there, and the file is about to reach further. Hot."""
    if size & (PAGE_SIZE - 1) == 0:
        return
    p = find_lock_page(m, cpu, mapping, size >> PAGE_SHIFT)
    if p:
        clear_bytes(m, page_to_pfn(m, p) << 9, size & (PAGE_SIZE - 1), PAGE_SIZE)
        unlock_page(m, p)
        put_page_p(m, cpu, p)


def grab_cache_page(m: memoryview, cpu: int, mapping: int, index: int) -> int:
    """The page at `index`, new if there is none, locked: it or -ENOMEM. Hot
    (grab_cache_page_write_begin)."""
    while True:
        p = find_get_page(m, mapping, index)
        if p:
            if not lock_page_wait(m, cpu, p):
                put_page_p(m, cpu, p)
                return -ENOMEM
            if m[p + P_MAPPING] == PAGE_OFFSET + (mapping << 3):
                return p
            unlock_page(m, p)
            put_page_p(m, cpu, p)
            continue
        p = page_cache_alloc(m, cpu, mapping, GFP_WRITE_BIT)
        if p == 0:
            return -ENOMEM
        gfp = m[mapping + AS_GFP] | GFP_WRITE_BIT
        said = add_to_page_cache_lru(m, cpu, p, mapping, index, gfp)
        if said == 0:
            return p
        put_page_p(m, cpu, p)
        if said != -EEXIST:
            return said


def write_end(m: memoryview, cpu: int, file: int, p: int, pos: int, copied: int) -> None:
    """The caller has put `copied` bytes at `pos` into the page of write_begin(): dirty, unlocked,
    reference dropped; the file may have grown. Writing does not count as a look at it. Hot."""
    inode = file_inode(m, file)
    m[p + P_FLAGS] |= PG_UPTODATE
    set_page_dirty(m, cpu, p)
    if pos + copied > m[inode + INODE_SIZE]:
        m[inode + INODE_SIZE] = pos + copied
        mark_inode_dirty(m, inode, I_DIRTY_DATASYNC)
    unlock_page(m, p)
    put_page_p(m, cpu, p)


# --- faults ---------------------------------------------------------------------------------------
def do_sync_mmap_readahead(m: memoryview, cpu: int, file: int, flags: int, index: int) -> None:
    """A fault has missed the page at `index`: reads what lies around it. Hot."""
    ra = file + FILE_RA
    pages = m[ra + RA_PAGES]
    if flags & VM_RAND_READ or pages == 0:
        return
    if flags & VM_SEQ_READ:
        page_cache_sync_readahead(m, cpu, file, index, pages)
        return
    if m[ra + RA_MMAP_MISS] < MMAP_LOTSAMISS * 10:
        m[ra + RA_MMAP_MISS] += 1
    if m[ra + RA_MMAP_MISS] > MMAP_LOTSAMISS:
        return
    m[ra + RA_START] = max(0, index - pages // 2)
    m[ra + RA_SIZE] = pages
    m[ra + RA_ASYNC_SIZE] = pages // 4
    do_page_cache_readahead(m, cpu, file, m[ra + RA_START], pages, pages // 4)


def do_async_mmap_readahead(
    m: memoryview, cpu: int, file: int, flags: int, p: int, index: int
) -> None:
    """A fault has found page `p`: goes on reading if it is a marked one. Hot."""
    ra = file + FILE_RA
    if flags & VM_RAND_READ:
        return
    if m[ra + RA_MMAP_MISS] > 0:
        m[ra + RA_MMAP_MISS] -= 1
    if m[p + P_FLAGS] & PG_READAHEAD:
        page_cache_async_readahead(m, cpu, file, p, index, m[ra + RA_PAGES])


def pages_of(m: memoryview, inode: int) -> int:
    """Pages that the file has, the last one perhaps in part. Hot."""
    return (m[inode + INODE_SIZE] + PAGE_SIZE - 1) >> PAGE_SHIFT


def filemap_fault(m: memoryview, cpu: int, vmf: int) -> int:
    """Delivers the page of a fault, locked, into the vm_fault: VM_FAULT_ bits. Hot."""
    vma = m[vmf + VMF_VMA]
    file = (m[vma + VMA_FILE] - PAGE_OFFSET) >> 3
    inode = file_inode(m, file)
    mapping = file_mapping(m, file)
    index = m[vmf + VMF_PGOFF]
    if index >= pages_of(m, inode):
        return VM_FAULT_SIGBUS
    said = 0
    p = find_get_page(m, mapping, index)
    if p:
        do_async_mmap_readahead(m, cpu, file, m[vma + VMA_FLAGS], p, index)
    else:
        do_sync_mmap_readahead(m, cpu, file, m[vma + VMA_FLAGS], index)
        count_vm_events(m, cpu, PGMAJFAULT, 1)
        said = VM_FAULT_MAJOR
        p = find_get_page(m, mapping, index)
    if p == 0:
        p = page_cache_alloc(m, cpu, mapping, 0)
        if p == 0:
            return VM_FAULT_OOM
        if add_to_page_cache_lru(m, cpu, p, mapping, index, m[mapping + AS_GFP]):
            put_page_p(m, cpu, p)
            return VM_FAULT_OOM
        readpage(m, cpu, inode, p)
    if not page_ready(m, cpu, inode, p) or not lock_page_wait(m, cpu, p):
        m[file + FILE_RA + RA_PAGES] //= 4
        put_page_p(m, cpu, p)
        return VM_FAULT_SIGBUS
    m[vmf + VMF_PAGE] = p
    return said | VM_FAULT_LOCKED


def filemap_next_map_page(m: memoryview, cpu: int, vmf: int, index: int, last: int) -> int:
    """The next page in [`index`, `last`] that fault-around may map: locked, with a reference; 0
    when there are no more. Hot (filemap_map_pages)."""
    file = (m[m[vmf + VMF_VMA] + VMA_FILE] - PAGE_OFFSET) >> 3
    mapping = file_mapping(m, file)
    last = min(last, pages_of(m, file_inode(m, file)) - 1)
    while index <= last:
        index = next_cached(m, mapping, index, last)
        if index < 0:
            return 0
        p = find_get_page(m, mapping, index)
        if p:
            flags = m[p + P_FLAGS]
            if flags & PG_UPTODATE and flags & (PG_READAHEAD | PG_HWPOISON | PG_LOCKED) == 0:
                m[p + P_FLAGS] = flags | PG_LOCKED
                if m[file + FILE_RA + RA_MMAP_MISS] > 0:
                    m[file + FILE_RA + RA_MMAP_MISS] -= 1
                return p
            put_page_p(m, cpu, p)
        index += 1
    return 0


def filemap_page_mkwrite(m: memoryview, cpu: int, vmf: int) -> int:
    """A shared page is about to be written for the first time: VM_FAULT_LOCKED, with the page
    locked and dirty, or VM_FAULT_NOPAGE where it has left the file. Hot."""
    p = m[vmf + VMF_PAGE]
    file = (m[m[vmf + VMF_VMA] + VMA_FILE] - PAGE_OFFSET) >> 3
    lock_page_wait(m, cpu, p)
    if m[p + P_MAPPING] != PAGE_OFFSET + (file_mapping(m, file) << 3):
        unlock_page(m, p)
        return VM_FAULT_NOPAGE
    set_page_dirty(m, cpu, p)
    return VM_FAULT_LOCKED
