# SPDX-License-Identifier: GPL-2.0-only
"""Giving pages back: `__free_pages` and what it refuses.

A block goes back when its last reference is dropped: single pages to the CPU's list (`pcp`), larger
ones to the buddy lists. 4.20 would stop the machine at frees that make no sense (VM_BUG_ON_PAGE);
here they are refused and reported like bad pages.

All hot.
"""

from __future__ import annotations

from .kernel_globals import G_STATIC_KEYS, G_TRACE_MASK
from .layout import SECTION_PAGES, SECTION_USEMAP
from .list_head import direct_word
from .mm_types import (
    COUNTS_FREE,
    COUNTS_ONE,
    P_COUNTS,
    P_INDEX,
    P_MAPPING,
    P_MEMCG,
    P_NEXT,
    PG_HEAD,
    REF_ONE,
    REF_SHIFT,
)
from .page_check import (
    BAD_COMPOUND_ORDER,
    BAD_DOUBLE_FREE,
    BAD_FREE_OF_TAIL,
    BAD_UNALIGNED,
    bad_page,
    compound_order,
    free_pages_prepare,
)
from .page_flags import page_place
from .pageblock import get_pageblock_migratetype
from .pcp import commit_page, free_block, free_unref_page, page_zone
from .spinlock import others_inside, replace_word
from .trace import trace
from .trace_events import EV_FREE_REQUEST, EV_MM_PAGE_FREE
from .vm_events import PGFREE
from .vmstat import count_vm_events

# What free_pages() says
FREE_DONE = 0
FREE_STILL_REFERENCED = 1
FREE_REFUSED = -1


def free_pages_ok(m: memoryview, cpu: int, pfn: int, p: int, order: int) -> bool:
    """Gives a block whose last reference is gone to the buddy lists (__free_pages_ok). Hot.

    False if a page of it was bad and the block was set aside.
    """
    if m[G_TRACE_MASK] >> EV_MM_PAGE_FREE & 1:
        trace(m, EV_MM_PAGE_FREE, cpu, pfn, order, 0, 0, 0, 0, 0)
    if not free_pages_prepare(m, cpu, pfn, p, order):
        return False
    mt = get_pageblock_migratetype(m, pfn)
    count_vm_events(m, cpu, PGFREE, 1 << order)
    free_block(m, cpu, page_zone(m, p), pfn, order, mt)
    return True


def free_pages(m: memoryview, cpu: int, pfn: int, order: int) -> int:
    """Drops one reference of the block at `pfn`, and frees it if that was the last. Hot.

    Returns FREE_DONE, FREE_STILL_REFERENCED, or FREE_REFUSED after a bad-page report: no reference
    to drop (a double free, or a frame that was never allocated), a tail page, a start that is
    not aligned to the order, or a struct page that fails the checks. `pfn` must be valid.
    (__free_pages; the VM_BUG_ON_PAGEs of 4.20 become reports.)
    """
    section = SECTION_PAGES + (pfn >> 15 << 2)
    p = m[section] + (pfn << 3)
    nid, zid, marks = page_place(m[p])
    if (
        order
        or m[p + P_COUNTS] != COUNTS_ONE
        or marks
        or m[p + P_MAPPING]
        or m[p + P_MEMCG]
        or m[G_TRACE_MASK]
        or m[G_STATIC_KEYS]
    ):
        return free_unusual(m, cpu, pfn, p, order)
    # the last reference to a single page that nothing has to be undone for; of several CPUs that
    # drop it at the same time, one has it (put_page_testzero)
    if others_inside(m) and not replace_word(m, p + P_COUNTS, COUNTS_ONE, COUNTS_FREE):
        return free_unusual(m, cpu, pfn, p, order)
    m[p + P_COUNTS] = COUNTS_FREE
    # get_pageblock_migratetype()
    w = direct_word(m[section + (SECTION_USEMAP - SECTION_PAGES)]) + (pfn >> 13 & 3)
    mt = m[w] >> 61 - (pfn >> 9 & 15) * 4 & 7
    m[p + P_INDEX] = mt
    commit_page(m, cpu, pfn, p, mt, nid, zid, 0)
    return FREE_DONE


def free_unusual(m: memoryview, cpu: int, pfn: int, p: int, order: int) -> int:
    """free_pages() of anything but a plain single page: checked, then one reference less. Hot."""
    if m[G_TRACE_MASK] >> EV_FREE_REQUEST & 1:
        trace(m, EV_FREE_REQUEST, cpu, pfn, order, m[p + P_COUNTS] >> REF_SHIFT, 0, 0, 0, 0)
    while True:
        counts = m[p + P_COUNTS]
        reason = 0
        if counts < REF_ONE:
            reason = BAD_FREE_OF_TAIL if m[p + P_NEXT] & 1 else BAD_DOUBLE_FREE
        elif pfn & ((1 << order) - 1):
            reason = BAD_UNALIGNED
        elif counts >> REF_SHIFT == 1 and m[p] & PG_HEAD and compound_order(m, p) != order:
            reason = BAD_COMPOUND_ORDER
        if reason:
            bad_page(m, cpu, pfn, p, reason, 0)
            return FREE_REFUSED
        if not others_inside(m):
            m[p + P_COUNTS] = counts - REF_ONE
            break
        if replace_word(m, p + P_COUNTS, counts, counts - REF_ONE):
            break
    if counts >> REF_SHIFT != 1:
        return FREE_STILL_REFERENCED
    if order == 0:
        done = free_unref_page(m, cpu, pfn)
    else:
        done = free_pages_ok(m, cpu, pfn, p, order)
    return FREE_DONE if done else FREE_REFUSED
