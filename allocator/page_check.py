# SPDX-License-Identifier: GPL-2.0-only
"""Checking and dressing pages as they leave and enter the allocator.

`prep_new_page` gives a block its first reference, zeroes it, poisons-checks it, builds a compound
page; `free_pages_prepare` undoes that and refuses pages whose struct page is not that of an unused
page. Checks are those of 4.20 with CONFIG_DEBUG_VM: every page is tested when it is freed and when
it is handed out. A page that fails is reported on the log ring (`bad_page`) and set aside: it never
reaches a list again, and the lists stay sound.

One thing goes beyond 4.20: bad_page() there resets _mapcount even on a page that lies on a free
list, which would corrupt the list; here such a page keeps its type.

All hot; memory is cleared and poisoned word by word through `m`, whole pages at a time.
"""

from __future__ import annotations

from .gfp import GFP_COMP_BIT, GFP_ZERO_BIT
from .kernel_globals import (
    G_BAD_PAGE_RESUME,
    G_BAD_PAGE_SHOWN,
    G_BAD_PAGE_UNSHOWN,
    G_CLOCK,
    G_STATIC_KEYS,
    KEY_MEMCG_KMEM,
    KEY_PAGE_OWNER,
    KEY_PAGE_POISONING,
)
from .layout import SECTION_PAGES, VMEMMAP_START
from .memcg import memcg_kmem_uncharge
from .mm_types import (
    COMPOUND_MAPCOUNT_ONE,
    COMPOUND_MAPCOUNT_SHIFT,
    COMPOUND_PAGE_DTOR,
    COUNTS_FREE,
    COUNTS_ONE,
    MAPCOUNT_MASK,
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_MEMCG,
    P_NEXT,
    P_PREV,
    P_PRIVATE,
    PAGE_FLAGS_CHECK_AT_FREE,
    PAGE_FLAGS_CHECK_AT_PREP,
    PAGE_FLAGS_NEW_PAGE,
    PAGE_MAPPING_FLAGS,
    PG_BUDDY_TYPE,
    PG_HEAD,
    PG_HWPOISON,
    PG_KMEMCG_TYPE,
    PG_PRIVATE_2,
    REF_SHIFT,
    TAIL_MAPPING,
)
from .page_owner import reset_page_owner, set_page_owner
from .page_poison import clear_pages, poison_pages, unpoison_pages
from .trace import log_raw_page, log_record
from .trace_events import LOG_BAD_PAGE

# Reasons of a bad-page report, in the kernel's words (page_report.py has the texts)
BAD_MAPCOUNT = 1
BAD_MAPPING = 2
BAD_REFCOUNT_FREE = 3
BAD_FLAGS_FREE = 4
BAD_MEMCG = 5
BAD_REFCOUNT_NEW = 6
BAD_FLAGS_NEW = 7
BAD_HWPOISON = 8
BAD_COMPOUND_MAPCOUNT = 9
BAD_TAIL_MAPPING = 10
BAD_TAIL_NOT_SET = 11
BAD_COMPOUND_HEAD = 12
BAD_DOUBLE_FREE = 13
BAD_FREE_OF_TAIL = 14
BAD_COMPOUND_ORDER = 15
BAD_ON_LIST = 16
BAD_UNALIGNED = 17
BAD_PFN = 18

BAD_PAGE_BURST = 60
BAD_PAGE_PERIOD = 60 * 1_000_000_000


def bad_page(m: memoryview, cpu: int, pfn: int, p: int, reason: int, bad_flags: int) -> None:
    """Reports page `pfn` on the log ring, sixty reports a minute at most (bad_page). Hot."""
    now = m[G_CLOCK]
    shown = m[G_BAD_PAGE_SHOWN]
    if shown == BAD_PAGE_BURST:
        if now < m[G_BAD_PAGE_RESUME]:
            m[G_BAD_PAGE_UNSHOWN] += 1
            return
        m[G_BAD_PAGE_UNSHOWN] = 0
        shown = 0
    if shown == 0:
        m[G_BAD_PAGE_RESUME] = now + BAD_PAGE_PERIOD
    m[G_BAD_PAGE_SHOWN] = shown + 1
    flags = m[p + P_FLAGS]
    log_record(
        m, LOG_BAD_PAGE, cpu, pfn, reason, bad_flags, flags, m[p + P_COUNTS], m[p + P_MAPPING]
    )
    log_raw_page(m, cpu, pfn, p)


def set_aside(m: memoryview, p: int) -> None:
    """What bad_page() leaves of _mapcount: reset, unless the page is on a free list. Hot."""
    if m[p + P_COUNTS] & PG_BUDDY_TYPE:
        m[p + P_COUNTS] |= MAPCOUNT_MASK


def free_page_reason(m: memoryview, p: int) -> int:
    """Why page `p` must not be freed, 0 if it may (free_pages_check_bad's order). Hot."""
    counts = m[p + P_COUNTS]
    if (
        counts == COUNTS_FREE
        and m[p + P_MAPPING] == 0
        and m[p + P_MEMCG] == 0
        and m[p + P_FLAGS] & PAGE_FLAGS_CHECK_AT_FREE == 0
    ):
        return 0
    reason = 0
    if counts & MAPCOUNT_MASK != MAPCOUNT_MASK:
        reason = BAD_MAPCOUNT
    if m[p + P_MAPPING]:
        reason = BAD_MAPPING
    if counts >> REF_SHIFT:
        reason = BAD_REFCOUNT_FREE
    if m[p + P_FLAGS] & PAGE_FLAGS_CHECK_AT_FREE:
        reason = BAD_FLAGS_FREE
    if m[p + P_MEMCG]:
        reason = BAD_MEMCG
    return reason


def check_new_page(m: memoryview, cpu: int, pfn: int) -> bool:
    """True if page `pfn` is unfit to be handed out; reports it then (check_new_page). Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    counts = m[p + P_COUNTS]
    flags = m[p + P_FLAGS]
    if (
        counts == COUNTS_FREE
        and m[p + P_MAPPING] == 0
        and m[p + P_MEMCG] == 0
        and flags & PAGE_FLAGS_NEW_PAGE == 0
    ):
        return False
    if flags & PG_HWPOISON:
        m[p + P_COUNTS] |= MAPCOUNT_MASK
        return True
    reason = 0
    bad_flags = 0
    if counts & MAPCOUNT_MASK != MAPCOUNT_MASK:
        reason = BAD_MAPCOUNT
    if m[p + P_MAPPING]:
        reason = BAD_MAPPING
    if counts >> REF_SHIFT:
        reason = BAD_REFCOUNT_NEW
    if flags & PAGE_FLAGS_CHECK_AT_PREP:
        reason = BAD_FLAGS_NEW
        bad_flags = PAGE_FLAGS_CHECK_AT_PREP
    if m[p + P_MEMCG]:
        reason = BAD_MEMCG
    bad_page(m, cpu, pfn, p, reason, bad_flags)
    m[p + P_COUNTS] |= MAPCOUNT_MASK
    return True


def check_new_pages(m: memoryview, cpu: int, pfn: int, order: int) -> bool:
    """True if any page of the block is unfit to be handed out. Hot."""
    first = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    clean = m[first] & ~PAGE_FLAGS_NEW_PAGE
    for p in range(first, first + (8 << order), 8):
        # a sound page needs no more than this
        if m[p + P_COUNTS] != COUNTS_FREE or m[p] != clean or m[p + P_MAPPING] or m[p + P_MEMCG]:
            if check_new_page(m, cpu, pfn + (p - first >> 3)):
                return True
    return False


def prep_compound_page(m: memoryview, pfn: int, order: int) -> None:
    """Makes the block one compound page: head, order in the first tail, tails. Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    head_ref = VMEMMAP_START + (pfn << 6) + 1
    # with atomic_set(compound_mapcount_ptr(page), -1)
    m[p + 8 + P_PREV] = (COMPOUND_PAGE_DTOR | order << 8) - COMPOUND_MAPCOUNT_ONE
    m[p + P_FLAGS] |= PG_HEAD
    for w in range(p + 8, p + (8 << order), 8):
        m[w + P_COUNTS] = COUNTS_FREE
        m[w + P_MAPPING] = TAIL_MAPPING
        m[w + P_NEXT] = head_ref


def compound_order(m: memoryview, p: int) -> int:
    """Order of the compound page with head struct page `p`, 0 if it is none. Hot."""
    if m[p + P_FLAGS] & PG_HEAD:
        return m[p + 8 + P_PREV] >> 8 & 0xFF
    return 0


def prep_new_page(
    m: memoryview, cpu: int, pfn: int, order: int, gfp: int, no_watermarks: int
) -> None:
    """First reference, poison check, zeroing, compound page, pfmemalloc mark. Hot.

    `no_watermarks` is not 0 if the reserves were needed (page_is_pfmemalloc then).
    """
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    m[p + P_PRIVATE] = 0
    m[p + P_COUNTS] = COUNTS_ONE
    m[p + P_INDEX] = -1 if no_watermarks else 0
    keys = m[G_STATIC_KEYS]
    if keys & KEY_PAGE_POISONING:
        unpoison_pages(m, cpu, pfn, order)
    if keys & KEY_PAGE_OWNER:
        set_page_owner(m, cpu, pfn, order, gfp)
    if gfp & (GFP_ZERO_BIT | GFP_COMP_BIT):
        if gfp & GFP_ZERO_BIT:
            clear_pages(m, pfn, order)
        if order and gfp & GFP_COMP_BIT:
            prep_compound_page(m, pfn, order)


def tail_reason(m: memoryview, t: int, i: int, head_ref: int) -> int:
    """Why tail page `t`, i-th of its compound page, is corrupt; 0 if it is sound. Hot."""
    if i == 1:
        if m[t + P_PREV] >> COMPOUND_MAPCOUNT_SHIFT != -1:
            return BAD_COMPOUND_MAPCOUNT
    elif i > 2 and m[t + P_MAPPING] != TAIL_MAPPING:
        return BAD_TAIL_MAPPING
    if m[t + P_NEXT] & 1 == 0:
        return BAD_TAIL_NOT_SET
    if m[t + P_NEXT] != head_ref:
        return BAD_COMPOUND_HEAD
    return 0


def free_tails_prepare(m: memoryview, cpu: int, pfn: int, p: int, order: int) -> int:
    """Checks and cleans the pages behind the head of a block; number of bad ones. Hot."""
    compound = m[p + P_FLAGS] & PG_HEAD
    bad = 0
    if compound:
        m[p + 8 + P_FLAGS] &= ~PG_PRIVATE_2
        head_ref = VMEMMAP_START + (pfn << 6) + 1
        if m[p + 8 + P_PREV] >> 8 & 0xFF != order:
            bad_page(m, cpu, pfn, p, BAD_COMPOUND_ORDER, 0)
            return 1
        for i in range(1, 1 << order):
            t = p + 8 * i
            reason = tail_reason(m, t, i, head_ref)
            if reason:
                bad_page(m, cpu, pfn + i, t, reason, 0)
                bad += 1
            m[t + P_MAPPING] = 0
            m[t + P_NEXT] = 0
    clean = m[p] & ~PAGE_FLAGS_NEW_PAGE
    own = VMEMMAP_START + 8 + (pfn << 6)
    for t in range(p + 8, p + (8 << order), 8):
        own += 64
        flags = m[t]
        nxt = m[t + P_NEXT]
        unfit = m[t + P_COUNTS] != COUNTS_FREE or m[t + P_MAPPING] != 0 or m[t + P_MEMCG] != 0
        if flags == clean and not unfit and (nxt < VMEMMAP_START or nxt == own):
            continue
        if unfit or flags & PAGE_FLAGS_CHECK_AT_FREE:
            reason = free_page_reason(m, t)
            bad_page(m, cpu, pfn + (t - p >> 3), t, reason, PAGE_FLAGS_CHECK_AT_FREE)
            set_aside(m, t)
            bad += 1
        elif nxt >= VMEMMAP_START and nxt != own and on_some_list(m, own, nxt):
            bad_page(m, cpu, pfn + (t - p >> 3), t, BAD_ON_LIST, 0)
            bad += 1
        elif flags & PAGE_FLAGS_CHECK_AT_PREP:
            m[t] = flags & ~PAGE_FLAGS_CHECK_AT_PREP
    return bad


def on_some_list(m: memoryview, lru_va: int, nxt: int) -> bool:
    """True if the lru at `lru_va` is linked: its successor, the page at `nxt`, points back. Hot.

    Pages on per-cpu lists look like the unused tail of a block otherwise; 4.20 would free them a
    second time.
    """
    off = nxt - VMEMMAP_START
    base = m[SECTION_PAGES + (off >> 21 << 2)] if off >> 21 < 32768 else 0
    if base == 0 or off & 7:
        return False
    return m[base + (off >> 3) + 1] == lru_va


def free_pages_prepare(m: memoryview, cpu: int, pfn: int, p: int, order: int) -> bool:
    """Checks and undresses a block that is being freed; False if it must be set aside. Hot."""
    bad = 0
    if order:
        bad = free_tails_prepare(m, cpu, pfn, p, order)
    if m[p + P_MAPPING] & PAGE_MAPPING_FLAGS:
        m[p + P_MAPPING] = 0
    keys = m[G_STATIC_KEYS]
    if keys & KEY_MEMCG_KMEM and m[p + P_COUNTS] & PG_KMEMCG_TYPE == 0:
        memcg_kmem_uncharge(m, cpu, p, order)
    if (
        m[p + P_COUNTS] != COUNTS_FREE
        or m[p + P_MAPPING]
        or m[p + P_MEMCG]
        or m[p + P_FLAGS] & PAGE_FLAGS_CHECK_AT_FREE
    ):
        bad_page(m, cpu, pfn, p, free_page_reason(m, p), PAGE_FLAGS_CHECK_AT_FREE)
        set_aside(m, p)
        bad += 1
    if bad:
        return False
    m[p + P_FLAGS] &= ~PAGE_FLAGS_CHECK_AT_PREP
    if keys & KEY_PAGE_OWNER:
        reset_page_owner(m, cpu, pfn, order)
    if keys & KEY_PAGE_POISONING:
        poison_pages(m, pfn, order)
    return True
