# SPDX-License-Identifier: GPL-2.0-only
"""Huge pages that are only partly in use, queued to be split (mm/huge_memory.c).

When some but not all small pages of an anonymous huge page lose their mappings, memory is wasted:
the page goes on its node's split queue, from which reclaim splits pages. The list node lies in the
second tail page. A huge page that is freed leaves the queue first.

All hot. `p` is the head's struct page.
"""

from __future__ import annotations

from .list_head import list_add_tail, list_del
from .mm_inline import page_node, page_to_pfn, page_va_of
from .mm_types import P_MAPPING, P_PREV, PG_HEAD
from .mmzone import ND_SPLIT_QUEUE, ND_SPLIT_QUEUE_LEN
from .page_alloc import free_pages_ok
from .page_check import compound_order

TRANSHUGE_PAGE_DTOR = 3
DTOR_MASK = 0xFF
# page_deferred_list(): two words of the second tail page
DEFERRED_LIST = 2 * 8 + P_MAPPING


def deferred_list_va(m: memoryview, p: int) -> int:
    """Address of the list node of huge page `p`. Hot."""
    return page_va_of(m, p) + (DEFERRED_LIST << 3)


def prep_transhuge_page(m: memoryview, p: int) -> None:
    """Makes a compound page a transparent huge page. Hot."""
    node = p + DEFERRED_LIST
    va = deferred_list_va(m, p)
    m[node] = va
    m[node + 1] = va
    m[p + 8 + P_PREV] = m[p + 8 + P_PREV] & ~DTOR_MASK | TRANSHUGE_PAGE_DTOR


def is_transparent_hugepage(m: memoryview, p: int) -> bool:
    """True if the page with head `p` was made by prep_transhuge_page(). Hot."""
    return m[p] & PG_HEAD != 0 and m[p + 8 + P_PREV] & DTOR_MASK == TRANSHUGE_PAGE_DTOR


def deferred_split_huge_page(m: memoryview, p: int) -> None:
    """Queues a huge page for splitting, unless it is queued. Hot."""
    nd = page_node(m, p)
    va = deferred_list_va(m, p)
    if m[p + DEFERRED_LIST] == va:
        list_add_tail(m, p + DEFERRED_LIST, va, nd + ND_SPLIT_QUEUE)
        m[nd + ND_SPLIT_QUEUE_LEN] += 1


def deferred_split_unlink(m: memoryview, p: int) -> None:
    """Takes a huge page off the split queue if it is on it. Hot."""
    va = deferred_list_va(m, p)
    if m[p + DEFERRED_LIST] != va:
        list_del(m, p + DEFERRED_LIST)
        m[p + DEFERRED_LIST] = va
        m[p + DEFERRED_LIST + 1] = va
        m[page_node(m, p) + ND_SPLIT_QUEUE_LEN] -= 1


def free_compound(m: memoryview, cpu: int, p: int) -> bool:
    """Frees a compound page without references by its destructor; False if it was set aside.

    (free_compound_page, free_transhuge_page) Hot.
    """
    if is_transparent_hugepage(m, p):
        deferred_split_unlink(m, p)
    return free_pages_ok(m, cpu, page_to_pfn(m, p), p, compound_order(m, p))
