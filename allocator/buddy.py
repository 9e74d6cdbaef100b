# SPDX-License-Identifier: GPL-2.0-only
"""The buddy lists of a zone: taking a block, splitting it, giving it back, merging.

A free block of 2^order pages is one entry on `zone.free_area[order].free_list[migratetype]`,
linked through its first struct page, which says PageBuddy and keeps the order in `private`. Two
neighbours of one order that differ in one address bit are buddies: `__rmqueue_smallest` splits a
larger block and lists the upper halves, `__free_one_page` joins buddies for as long as it can.

Who calls it: `pcp` and `page_alloc` for requests, `fallback` for stealing, isolation and
compaction for whole blocks. All functions are hot (word array and ints); names are those of
mm/page_alloc.c. The caller accounts NR_FREE_PAGES where the kernel leaves that to the caller.
"""

from __future__ import annotations

from .debug_guardpage import clear_page_guard, page_is_guard, set_page_guard
from .kernel_globals import G_STATIC_KEYS, G_TRACE_MASK, KEY_DEBUG_GUARDPAGE
from .layout import PAGE_OFFSET, SECTION_PAGES, VMEMMAP_START
from .list_head import list_add, list_add_tail, list_del, va_word
from .mm_types import (
    COUNTS_FREE,
    LIST_POISON1,
    LIST_POISON2,
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_NEXT,
    P_PREV,
    P_PRIVATE,
    PAGE_BUDDY_MASK,
    PAGE_TYPE_BASE,
    PG_BUDDY_TYPE,
    ZONEID_MASK,
    ZONEID_PGSHIFT,
)
from .mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_ORDER,
    MIGRATE_ISOLATE,
    PAGEBLOCK_ORDER,
    Z_FREE_AREA,
    Z_NODE,
    Z_NR_ISOLATE,
)
from .pageblock import get_pageblock_migratetype
from .trace import trace
from .trace_events import EV_MERGE, EV_RMQUEUE_SMALLEST
from .vmstat import mod_zone_freepage_state

FA_BYTES = FA_WORDS * 8
COUNTS_BUDDY = COUNTS_FREE & ~PG_BUDDY_TYPE
"""_mapcount and _refcount of the head of a free block."""


def page_is_buddy(m: memoryview, p: int, b: int, order: int) -> bool:
    """True if the page at word `b` heads a free block of `order` in the zone of page `p`. Hot."""
    return (
        m[b + P_COUNTS] & PAGE_BUDDY_MASK == PAGE_TYPE_BASE
        and m[b + P_PRIVATE] == order
        and (m[p + P_FLAGS] ^ m[b + P_FLAGS]) >> ZONEID_PGSHIFT & ZONEID_MASK == 0
    )


def expand(m: memoryview, cpu: int, z: int, pfn: int, low: int, high: int, mt: int) -> None:
    """Lists the unused upper halves of a block split from order `high` to `low`. Hot."""
    guard = m[G_STATIC_KEYS] & KEY_DEBUG_GUARDPAGE
    size = 1 << high
    head = z + (Z_FREE_AREA + high * FA_WORDS + 2 * mt)
    head_va = PAGE_OFFSET + (head << 3)
    to_nr_free = FA_NR_FREE - 2 * mt
    # the whole block lies in one section
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    block_va = VMEMMAP_START + 8 + (pfn << 6)
    while high > low:
        head -= FA_WORDS
        head_va -= FA_BYTES
        high -= 1
        size >>= 1
        w = p + (size << 3)
        if guard and set_page_guard(m, cpu, z, pfn + size, w, high, mt):
            continue
        # the list is empty or starts with another page: list_add() written out
        first = m[head]
        va = block_va + (size << 6)
        if first == head_va:
            m[head + 1] = va
        else:
            m[va_word(m, first) + 1] = va
        m[w + P_NEXT] = first
        m[w + P_PREV] = head_va
        m[head] = va
        nr_free = head + to_nr_free
        m[nr_free] = m[nr_free] + 1
        m[w + P_PRIVATE] = high
        counts = m[w + P_COUNTS]
        m[w + P_COUNTS] = COUNTS_BUDDY if counts == COUNTS_FREE else counts & ~PG_BUDDY_TYPE


def rmqueue_smallest(m: memoryview, cpu: int, z: int, order: int, mt: int) -> int:
    """Takes the first block of the smallest sufficient order off the lists of type `mt`.

    Returns its PFN, or -1. The remembered type (page->index) is `mt`. Hot
    (__rmqueue_smallest).
    """
    head = z + (Z_FREE_AREA + order * FA_WORDS + 2 * mt)
    head_va = PAGE_OFFSET + (head << 3)
    for current in range(order, MAX_ORDER):
        va = m[head]
        if va != head_va:
            pfn = (va - VMEMMAP_START) >> 6
            p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
            nxt = m[p + P_NEXT]
            m[head] = nxt
            if nxt == head_va:
                m[head + 1] = nxt
            else:
                m[va_word(m, nxt) + 1] = head_va
            m[p + P_NEXT] = LIST_POISON1
            m[p + P_PREV] = LIST_POISON2
            m[p + P_COUNTS] |= PG_BUDDY_TYPE
            m[p + P_PRIVATE] = 0
            m[head + FA_NR_FREE - 2 * mt] -= 1
            if current > order:
                expand(m, cpu, z, pfn, order, current, mt)
            m[p + P_INDEX] = mt
            if m[G_TRACE_MASK] >> EV_RMQUEUE_SMALLEST & 1:
                zid = (m[p + P_FLAGS] >> ZONEID_PGSHIFT) & 3
                trace(m, EV_RMQUEUE_SMALLEST, cpu, m[z + Z_NODE], zid, order, current, mt, pfn, 0)
            return pfn
        head += FA_WORDS
        head_va += FA_BYTES
    return -1


def del_page_from_free_area(m: memoryview, z: int, p: int, order: int) -> None:
    """Takes the free block headed by page `p` off whatever list it is on. Hot."""
    list_del(m, p + P_NEXT)
    m[z + Z_FREE_AREA + order * FA_WORDS + FA_NR_FREE] -= 1
    m[p + P_COUNTS] |= PG_BUDDY_TYPE
    m[p + P_PRIVATE] = 0


def free_one_page(m: memoryview, cpu: int, z: int, pfn: int, order: int, mt: int) -> None:
    """Gives a block back: counts it, merges it upwards and lists the result.

    A merged block below order 9 whose next-higher buddy is free goes to the tail of its list, so
    that it is used late and may merge. Blocks of pageblock order and more do not merge across the
    border of an isolated pageblock. Hot (__free_one_page).
    """
    if mt != MIGRATE_ISOLATE:
        mod_zone_freepage_state(m, cpu, z, 1 << order, mt)
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    guard = m[G_STATIC_KEYS] & KEY_DEBUG_GUARDPAGE
    from_pfn = pfn
    from_order = order
    flags = m[p]
    zid = flags >> ZONEID_PGSHIFT & ZONEID_MASK
    # every buddy below MAX_ORDER lies in the section of `pfn`: one base serves them all
    base = p - (pfn << 3)
    nr_free = z + (Z_FREE_AREA + FA_NR_FREE + order * FA_WORDS)
    while order < MAX_ORDER - 1:
        buddy = pfn ^ (1 << order)
        b = base + (buddy << 3)
        if order >= PAGEBLOCK_ORDER and m[z + Z_NR_ISOLATE]:
            buddy_mt = get_pageblock_migratetype(m, buddy)
            if mt != buddy_mt and MIGRATE_ISOLATE in (mt, buddy_mt):
                break
        if guard and page_is_guard(m, buddy, b, order):
            if (m[p + P_FLAGS] ^ m[b + P_FLAGS]) >> ZONEID_PGSHIFT & ZONEID_MASK:
                break
            clear_page_guard(m, cpu, z, buddy, b, order, mt)
        else:
            # page_is_buddy(): most are plain, and of the same zone if they have the same flags
            counts = m[b + P_COUNTS]
            if counts != COUNTS_BUDDY and counts & PAGE_BUDDY_MASK != PAGE_TYPE_BASE:
                break
            if m[b + P_PRIVATE] != order:
                break
            if m[b] != flags and m[b] >> ZONEID_PGSHIFT & ZONEID_MASK != zid:
                break
            # list_del(), the buddy being alone on its list or not
            nxt = m[b + P_NEXT]
            prev = m[b + P_PREV]
            if nxt == prev and nxt < VMEMMAP_START:
                head = nxt - PAGE_OFFSET >> 3
                m[head + 1] = prev
                m[head] = nxt
                m[b + P_NEXT] = LIST_POISON1
                m[b + P_PREV] = LIST_POISON2
            else:
                list_del(m, b + P_NEXT)
            m[nr_free] = m[nr_free] - 1
            m[b + P_COUNTS] = COUNTS_FREE if counts == COUNTS_BUDDY else counts | PG_BUDDY_TYPE
            m[b + P_PRIVATE] = 0
        pfn &= buddy
        p = base + (pfn << 3)
        order += 1
        nr_free += FA_WORDS
    m[p + P_PRIVATE] = order
    counts = m[p + P_COUNTS]
    m[p + P_COUNTS] = COUNTS_BUDDY if counts == COUNTS_FREE else counts & ~PG_BUDDY_TYPE
    area = z + Z_FREE_AREA + order * FA_WORDS
    m[area + FA_NR_FREE] += 1
    tail = False
    if order < MAX_ORDER - 2:
        higher = pfn & ~(1 << order)
        buddy = higher ^ (2 << order)
        b = base + (buddy << 3)
        tail = page_is_buddy(m, base + (higher << 3), b, order + 1)
        if guard and not tail:
            tail = page_is_guard(m, buddy, b, order + 1)
    if tail:
        list_add_tail(m, p + P_NEXT, VMEMMAP_START + (pfn << 6) + 8, area + 2 * mt)
    else:
        list_add(m, p + P_NEXT, VMEMMAP_START + (pfn << 6) + 8, area + 2 * mt)
    if m[G_TRACE_MASK] >> EV_MERGE & 1:
        trace(m, EV_MERGE, cpu, m[z + Z_NODE], zid & 3, from_pfn, from_order, pfn, order, int(tail))
