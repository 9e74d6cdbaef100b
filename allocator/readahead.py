# SPDX-License-Identifier: GPL-2.0-only
"""Reading ahead of a reader (mm/readahead.c).

Every open file remembers the window it is reading ahead: [start, start + size), of which the last
async_size pages are not yet wanted when the window is read. The first of those carries
PG_readahead; whoever meets it starts the next window, larger than the one before, so a sequential
reader never waits. Random readers get what they ask for and no more; a reader that has lost its
state is recognised by the pages it left in the cache.

All hot: `ra` is the word index of a file_ra_state, `file` of the open file (its own inode is read),
sizes are pages. The first functions are the arithmetic alone.
"""

from __future__ import annotations

from .address_space import AS_GFP, AS_I_PAGES
from .blockdev import REQ_OP_READ, submit_page
from .flatfs import flatfs_block
from .fs import (
    FILE_RA,
    INODE_BDEV,
    INODE_MAPPING,
    INODE_SIZE,
    RA_ASYNC_SIZE,
    RA_PAGES,
    RA_PREV_POS,
    RA_SIZE,
    RA_START,
    file_inode,
)
from .gfp import GFP_NORETRY_BIT, GFP_NOWARN_BIT
from .layout import PAGE_OFFSET
from .mm_inline import page_to_pfn, unlock_page
from .mm_types import (
    P_FLAGS,
    P_INDEX,
    P_PRIVATE,
    PAGE_SHIFT,
    PG_ERROR,
    PG_RECLAIM,
    PG_UPTODATE,
    PG_WRITEBACK,
)
from .page_cache import add_to_page_cache_lru, page_cache_alloc
from .page_poison import clear_pages
from .pagevec import put_page_p
from .xarray import xa_load

VM_MAX_READAHEAD = 32
"""Pages (128 KiB)."""
PG_READAHEAD = PG_RECLAIM


def get_init_ra_size(size: int, most: int) -> int:
    """The first window for a request of `size` pages. Hot."""
    new = 1
    while new < size:
        new *= 2
    if new <= most // 32:
        return new * 4
    if new <= most // 4:
        return new * 2
    return most


def get_next_ra_size(current: int, most: int) -> int:
    """The window that follows one of `current` pages. Hot."""
    new = 4 * current if current < most // 16 else 2 * current
    return min(new, most)


def page_is_cached(m: memoryview, mapping: int, index: int) -> bool:
    """True if a page is in the cache at `index`. Hot."""
    entry = xa_load(m, mapping + AS_I_PAGES, index)
    return entry != 0 and entry & 1 == 0


def count_history_pages(m: memoryview, mapping: int, index: int, most: int) -> int:
    """Cached pages right before `index`, `most` at the utmost. Hot."""
    n = 0
    while n < most and n < index and page_is_cached(m, mapping, index - 1 - n):
        n += 1
    return n


# --- reading pages --------------------------------------------------------------------------------
def readpage(m: memoryview, cpu: int, inode: int, p: int) -> None:
    """Starts reading the locked page of a file; behind its blocks it is zeroes at once. Hot."""
    m[p + P_FLAGS] &= ~PG_ERROR
    block = flatfs_block(m, inode, m[p + P_INDEX])
    if block < 0:
        clear_pages(m, page_to_pfn(m, p), 0)
        m[p + P_FLAGS] |= PG_UPTODATE
        unlock_page(m, p)
        return
    submit_page(m, cpu, (m[inode + INODE_BDEV] - PAGE_OFFSET) >> 3, REQ_OP_READ, block, p)


def do_page_cache_readahead(
    m: memoryview, cpu: int, file: int, index: int, count: int, lookahead: int
) -> int:
    """Reads `count` pages from `index` on that are not cached, the one `lookahead` from the end
    marked: how many are read. Hot (__do_page_cache_readahead).

    All frames are taken before the first is read, as there.
    """
    inode = file_inode(m, file)
    size = m[inode + INODE_SIZE]
    if size == 0:
        return 0
    mapping = inode + INODE_MAPPING
    end = (size - 1) >> PAGE_SHIFT
    first = 0
    last = 0
    nr = 0
    for i in range(count):
        if index + i > end:
            break
        if page_is_cached(m, mapping, index + i):
            # a gap in what is to be read: what was gathered goes first
            nr += read_pages(m, cpu, inode, first)
            first = 0
            continue
        p = page_cache_alloc(m, cpu, mapping, GFP_NORETRY_BIT | GFP_NOWARN_BIT)
        if p == 0:
            break
        m[p + P_INDEX] = index + i
        m[p + P_PRIVATE] = 0
        if i == count - lookahead:
            m[p + P_FLAGS] |= PG_READAHEAD
        if first == 0:
            first = p
        else:
            m[last + P_PRIVATE] = p
        last = p
    return nr + read_pages(m, cpu, inode, first)


def read_pages(m: memoryview, cpu: int, inode: int, p: int) -> int:
    """Puts a chain of new pages into the cache and starts reading them: how many. Hot."""
    nr = 0
    while p:
        nxt = m[p + P_PRIVATE]
        m[p + P_PRIVATE] = 0
        mapping = inode + INODE_MAPPING
        gfp = m[mapping + AS_GFP] | GFP_NORETRY_BIT | GFP_NOWARN_BIT
        if add_to_page_cache_lru(m, cpu, p, mapping, m[p + P_INDEX], gfp) == 0:
            readpage(m, cpu, inode, p)
            nr += 1
        else:
            m[p + P_FLAGS] &= ~PG_READAHEAD
        put_page_p(m, cpu, p)
        p = nxt
    return nr


def ra_submit(m: memoryview, cpu: int, file: int) -> int:
    """Reads the window of the file's state: how many pages. Hot."""
    ra = file + FILE_RA
    return do_page_cache_readahead(
        m, cpu, file, m[ra + RA_START], m[ra + RA_SIZE], m[ra + RA_ASYNC_SIZE]
    )


# --- deciding what to read ------------------------------------------------------------------------
def start_window(m: memoryview, ra: int, index: int, wanted: int, most: int) -> None:
    """A first window at `index`. Hot."""
    size = get_init_ra_size(wanted, most)
    m[ra + RA_START] = index
    m[ra + RA_SIZE] = size
    m[ra + RA_ASYNC_SIZE] = size - wanted if size > wanted else size


def next_window(m: memoryview, ra: int, start: int, current: int, most: int) -> None:
    """The window at `start` that follows one of `current` pages. Hot."""
    m[ra + RA_START] = start
    m[ra + RA_SIZE] = get_next_ra_size(current, most)
    m[ra + RA_ASYNC_SIZE] = m[ra + RA_SIZE]


def marked_window(m: memoryview, mapping: int, ra: int, index: int, wanted: int, most: int) -> bool:
    """A window behind the cached pages after a marked one; False if there are too many. Hot."""
    start = index + 1
    while start - index <= most and page_is_cached(m, mapping, start):
        start += 1
    if start - index > most:
        return False
    next_window(m, ra, start, start - index + wanted, most)
    return True


def context_window(
    m: memoryview, mapping: int, ra: int, index: int, wanted: int, most: int
) -> bool:
    """A window for a reader whose traces are in the cache; False if there are too few. Hot
    (try_context_readahead)."""
    size = count_history_pages(m, mapping, index, most)
    if size <= wanted:
        return False
    if size >= index:
        size *= 2
    m[ra + RA_START] = index
    m[ra + RA_SIZE] = min(size + wanted, most)
    m[ra + RA_ASYNC_SIZE] = 1
    return True


def ondemand_window(
    m: memoryview, mapping: int, ra: int, hit_marker: bool, index: int, wanted: int
) -> int:
    """Decides what to read for a request of `wanted` pages at `index`: 1 the window in `ra`, 0
    nothing, -1 the request alone. Hot (ondemand_readahead)."""
    most = m[ra + RA_PAGES]
    start, size, behind = m[ra + RA_START], m[ra + RA_SIZE], m[ra + RA_ASYNC_SIZE]
    if index == 0:
        start_window(m, ra, index, wanted, most)
    elif index in (start + size - behind, start + size):
        next_window(m, ra, start + size, size, most)
    elif hit_marker:
        if not marked_window(m, mapping, ra, index, wanted, most):
            return 0
    elif wanted > most or 0 <= index - (m[ra + RA_PREV_POS] >> PAGE_SHIFT) <= 1:
        start_window(m, ra, index, wanted, most)
    elif not context_window(m, mapping, ra, index, wanted, most):
        return -1
    if index == m[ra + RA_START] and m[ra + RA_SIZE] == m[ra + RA_ASYNC_SIZE]:
        # this read would meet its own marker: join the window with the next one
        more = get_next_ra_size(m[ra + RA_SIZE], most)
        if m[ra + RA_SIZE] + more <= most:
            m[ra + RA_ASYNC_SIZE] = more
            m[ra + RA_SIZE] += more
        else:
            m[ra + RA_SIZE] = most
            m[ra + RA_ASYNC_SIZE] = most >> 1
    return 1


def ondemand_readahead(
    m: memoryview, cpu: int, file: int, hit_marker: bool, index: int, wanted: int
) -> int:
    """Reads what ondemand_window() decides: how many pages. Hot."""
    mapping = file_inode(m, file) + INODE_MAPPING
    said = ondemand_window(m, mapping, file + FILE_RA, hit_marker, index, wanted)
    if said == 0:
        return 0
    if said < 0:
        return do_page_cache_readahead(m, cpu, file, index, wanted, 0)
    return ra_submit(m, cpu, file)


def page_cache_sync_readahead(m: memoryview, cpu: int, file: int, index: int, wanted: int) -> None:
    """A reader has missed the page at `index` and wants `wanted` pages. Hot."""
    if m[file + FILE_RA + RA_PAGES]:
        ondemand_readahead(m, cpu, file, False, index, wanted)


def page_cache_async_readahead(
    m: memoryview, cpu: int, file: int, p: int, index: int, wanted: int
) -> None:
    """A reader has met the marked page `p`. Hot."""
    if m[file + FILE_RA + RA_PAGES] == 0 or m[p + P_FLAGS] & PG_WRITEBACK:
        return
    m[p + P_FLAGS] &= ~PG_READAHEAD
    ondemand_readahead(m, cpu, file, True, index, wanted)
