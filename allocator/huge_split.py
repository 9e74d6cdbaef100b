# SPDX-License-Identifier: GPL-2.0-only
"""Making a huge page 512 small ones (mm/huge_memory.c, split_huge_page_to_list).

Reclaim, migration and hardware errors work on small pages where a huge one stands in their way. All
its mappings are replaced by migration entries first; if then nobody holds a reference but the
caller, the tails become pages of their own, each with the head's state and its place in the
mapping, on the LRU list behind the head or on the caller's list, and the entries map them again.

All hot. `p` is the locked head, of which the caller has a reference.
"""

from __future__ import annotations

from .deferred_split import deferred_split_unlink
from .mm_inline import (
    HPAGE_PMD_NR,
    PG_DOUBLE_MAP,
    compound_head,
    page_anon_vma,
    page_count,
    total_mapcount,
    unlock_page,
)
from .mm_types import (
    COUNTS_ONE,
    P_COUNTS,
    P_INDEX,
    P_MAPPING,
    P_MEMCG,
    P_NEXT,
    P_PREV,
    P_PRIVATE,
    PAGE_FLAGS_CHECK_AT_PREP,
    PG_ACTIVE,
    PG_DIRTY,
    PG_HEAD,
    PG_LOCKED,
    PG_MLOCKED,
    PG_REFERENCED,
    PG_SWAPBACKED,
    PG_UNEVICTABLE,
    PG_UPTODATE,
    PG_WORKINGSET,
    PG_WRITEBACK,
    REF_ONE,
)
from .pagevec import put_page_p
from .rmap_walk import (
    TTU_IGNORE_ACCESS,
    TTU_IGNORE_MLOCK,
    TTU_RMAP_LOCKED,
    TTU_SPLIT_FREEZE,
    TTU_SPLIT_HUGE_PMD,
    remove_migration_ptes,
    try_to_unmap,
)
from .swap import lru_add_drain, lru_add_page_tail
from .vm_events import VM_EVENT_NAMES
from .vmstat import count_vm_events

EBUSY = 16
THP_SPLIT_PAGE = VM_EVENT_NAMES.index("thp_split_page")
THP_SPLIT_PAGE_FAILED = VM_EVENT_NAMES.index("thp_split_page_failed")
TTU_SPLIT = (
    TTU_IGNORE_MLOCK | TTU_IGNORE_ACCESS | TTU_RMAP_LOCKED | TTU_SPLIT_HUGE_PMD | TTU_SPLIT_FREEZE
)
PG_INHERITED = (
    PG_REFERENCED
    | PG_SWAPBACKED
    | PG_MLOCKED
    | PG_UPTODATE
    | PG_ACTIVE
    | PG_WORKINGSET
    | PG_LOCKED
    | PG_UNEVICTABLE
    | PG_DIRTY
)


def can_split_huge_page(m: memoryview, p: int) -> bool:
    """True if only mappings and the caller hold references of anonymous huge page `p`. Hot."""
    return total_mapcount(m, p) == page_count(m, p) - 1


def split_tail(m: memoryview, cpu: int, p: int, i: int, head: int) -> None:
    """Makes the i-th tail of huge page `p` a page of its own (__split_huge_page_tail). Hot."""
    tail = p + 8 * i
    m[tail] = m[tail] & ~PAGE_FLAGS_CHECK_AT_PREP | m[p] & PG_INHERITED
    m[tail + P_MAPPING] = m[p + P_MAPPING]
    m[tail + P_INDEX] = m[p + P_INDEX] + i
    m[tail + P_PRIVATE] = 0
    m[tail + P_MEMCG] = m[p + P_MEMCG]
    m[tail + P_NEXT] = 0
    m[tail + P_PREV] = 0
    m[tail + P_COUNTS] = COUNTS_ONE
    lru_add_page_tail(m, cpu, p, tail, head)


def split_pages(m: memoryview, cpu: int, p: int, keep: int, head: int) -> None:
    """Takes the unmapped huge page apart; all parts but `keep` are unlocked. Hot."""
    m[p + 8] &= ~PG_DOUBLE_MAP
    for i in range(HPAGE_PMD_NR - 1, 0, -1):
        split_tail(m, cpu, p, i, head)
    m[p] &= ~PG_HEAD
    for sub in range(p, p + 8 * HPAGE_PMD_NR, 8):
        remove_migration_ptes(m, cpu, sub, sub)
    for sub in range(p, p + 8 * HPAGE_PMD_NR, 8):
        if sub != keep:
            unlock_page(m, sub)
            put_page_p(m, cpu, sub)


def try_to_split(m: memoryview, cpu: int, page: int, p: int, head: int) -> int:
    """split_huge_page_to_list() without its counters: 0 or -EBUSY. Hot."""
    if m[p] & PG_WRITEBACK or page_anon_vma(m, p) == 0 or not can_split_huge_page(m, p):
        return -EBUSY
    mlocked = m[p] & PG_MLOCKED
    try_to_unmap(m, cpu, p, TTU_SPLIT)
    if mlocked:
        # no longer mlocked, it may sit in a pagevec, which holds a reference
        lru_add_drain(m, cpu)
    if total_mapcount(m, p) or m[p + P_COUNTS] >= 2 * REF_ONE:
        remove_migration_ptes(m, cpu, p, p)
        return -EBUSY
    deferred_split_unlink(m, p)
    split_pages(m, cpu, p, page, head)
    return 0


def split_huge_page_to_list(m: memoryview, cpu: int, page: int, head: int) -> int:
    """Splits the anonymous huge page that `page` is a part of: 0 or -EBUSY. Hot.

    `page` stays locked and keeps the caller's reference. With list head `head` (0: none) the page
    is isolated, and the tails go to the end of that list with a reference each.
    """
    rc = try_to_split(m, cpu, page, compound_head(m, page), head)
    count_vm_events(m, cpu, THP_SPLIT_PAGE_FAILED if rc else THP_SPLIT_PAGE, 1)
    return rc


def split_huge_page(m: memoryview, cpu: int, page: int) -> int:
    """Splits a huge page whose head is on an LRU list: 0 or -EBUSY. Hot."""
    return split_huge_page_to_list(m, cpu, page, 0)
