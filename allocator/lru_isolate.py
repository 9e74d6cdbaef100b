# SPDX-License-Identifier: GPL-2.0-only
"""Taking pages off the LRU lists to work on them, and putting them back (mm/vmscan.c).

An isolated page is on no list, has no PG_lru and one reference more; whoever isolated it links it
to a list of its own. Reclaim, compaction, migration, mlock and memory offlining begin so.

All hot. `p` is a struct page's word index.
"""

from __future__ import annotations

from .list_head import list_add
from .lruvec import page_lruvec
from .mm_inline import (
    del_page_from_lru_list,
    page_is_file_cache,
    page_lru,
    page_mapped,
    page_node,
    page_va_of,
)
from .mm_types import (
    P_COUNTS,
    P_NEXT,
    PG_DIRTY,
    PG_LOCKED,
    PG_LRU,
    PG_UNEVICTABLE,
    PG_WRITEBACK,
    REF_ONE,
)
from .mmzone import NR_ISOLATED_ANON
from .pagevec import put_page_p
from .swap import lru_cache_add
from .vmstat import mod_node_page_state

ISOLATE_UNMAPPED = 0x2
ISOLATE_ASYNC_MIGRATE = 0x4
ISOLATE_UNEVICTABLE = 0x8
EBUSY, EINVAL = 16, 22


def isolate_lru_page_mode(m: memoryview, p: int, mode: int) -> int:
    """Takes a reference of a page on a list and clears PG_lru; the caller unlinks it. Hot.

    0; -EINVAL off the lists or unevictable without ISOLATE_UNEVICTABLE; -EBUSY where `mode` does
    not want it: mapped (ISOLATE_UNMAPPED), or not to be migrated without waiting. All mappings know
    how to migrate a dirty page. (__isolate_lru_page)
    """
    flags = m[p]
    if flags & PG_LRU == 0:
        return -EINVAL
    if flags & PG_UNEVICTABLE and mode & ISOLATE_UNEVICTABLE == 0:
        return -EINVAL
    if mode & ISOLATE_ASYNC_MIGRATE:
        if flags & PG_WRITEBACK:
            return -EBUSY
        if flags & PG_DIRTY and flags & PG_LOCKED:
            return -EBUSY
    if mode & ISOLATE_UNMAPPED and page_mapped(m, p):
        return -EBUSY
    if m[p + P_COUNTS] < REF_ONE:
        return -EBUSY
    m[p + P_COUNTS] += REF_ONE
    m[p] &= ~PG_LRU
    return 0


def isolate_lru_page(m: memoryview, cpu: int, p: int) -> int:
    """Takes a page off its LRU list, with a reference: 0, or -EBUSY if it is on none. Hot."""
    if m[p] & PG_LRU == 0:
        return -EBUSY
    lru = page_lru(m, p)
    m[p + P_COUNTS] += REF_ONE
    m[p] &= ~PG_LRU
    del_page_from_lru_list(m, cpu, p, page_lruvec(m, p), lru)
    return 0


def putback_lru_page(m: memoryview, cpu: int, p: int) -> None:
    """Queues an isolated page for its list again and drops the isolation's reference. Hot."""
    lru_cache_add(m, cpu, p)
    put_page_p(m, cpu, p)


def mod_isolated(m: memoryview, cpu: int, p: int, nr: int) -> None:
    """Adds `nr` pages to the counter of isolated pages of p's node and kind. Hot."""
    item = NR_ISOLATED_ANON + page_is_file_cache(m, p)
    mod_node_page_state(m, cpu, page_node(m, p), item, nr)


def add_isolated_page(m: memoryview, p: int, head: int) -> None:
    """Links an isolated page behind list head `head`. Hot."""
    list_add(m, p + P_NEXT, page_va_of(m, p) + 8, head)
