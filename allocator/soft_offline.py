# SPDX-License-Identifier: GPL-2.0-only
"""Taking a frame out of use before it goes bad: soft_offline_page() of mm/memory-failure.c.

Nobody loses anything: a clean page of a file that nobody maps is dropped, any other page of a
process or file moves to another frame; then the frame is marked PG_hwpoison, and the allocator
never hands it out again. While that goes on the pageblock counts as isolated, so that the frame
goes to the buddy lists at once. As in 4.20 the block stays on the list of isolated ones, not
counted as free, until a neighbour that is freed merges with it.

`p` is a struct page's word index.
"""

from __future__ import annotations

from . import memory_failure_report as report
from .blockdev import lock_page_wait, wait_on_page_writeback
from .compact_free import MIGRATE_SYNC
from .huge_split import split_huge_page
from .hwpoison import is_free_buddy_page, set_hwpoison_free_buddy_page
from .kernel_globals import G_NUM_POISONED_PAGES
from .layout import SECTION_PAGES
from .list_head import list_empty, list_init
from .lru_isolate import add_isolated_page, isolate_lru_page, mod_isolated
from .memory_failure import EBUSY, ENXIO, get_hwpoison_page, shake_page
from .migrate import (
    MR_MEMORY_FAILURE,
    is_movable,
    isolate_movable_page,
    migrate_pages,
    putback_movable_pages,
)
from .migrate_target import NEW_PAGE_SAME_NODE
from .mm_inline import compound_head, page_anon, page_count, page_to_pfn, unlock_page
from .mm_types import P_MAPPING, PAGE_MAPPING_FLAGS, PG_HEAD, PG_HWPOISON, PG_LRU
from .mmzone import MIGRATE_ISOLATE
from .page_frag import pfn_is_valid
from .pageblock import get_pageblock_migratetype, set_pageblock_migratetype
from .pagevec import PV_SCRATCH, pagevecs, put_page_p
from .truncate import invalidate_inode_page

EIO = 5


def on_lru(m: memoryview, p: int) -> bool:
    """True if the page that `p` is part of is on an LRU list."""
    return m[compound_head(m, p)] & PG_LRU != 0


def try_any_page(m: memoryview, cpu: int, p: int) -> int:
    """1 with a reference taken, 0 for a free frame, -EIO for one that nobody knows
    (__get_any_page)."""
    pfn = page_to_pfn(m, p)
    if get_hwpoison_page(m, p):
        return 1
    if is_free_buddy_page(m, pfn):
        report.say(m, cpu, report.SAY_SOFT_FREE, pfn)
        return 0
    report.say(m, cpu, report.SAY_SOFT_NO_REFERENCE, pfn, 0, m[p])
    return -EIO


def get_any_page(m: memoryview, cpu: int, p: int) -> int:
    """try_any_page(), twice for a page of no kind that can be moved: with some luck it is freed."""
    got = try_any_page(m, cpu, p)
    if got != 1 or on_lru(m, p) or is_movable(m, p):
        return got
    put_page_p(m, cpu, compound_head(m, p))
    shake_page(m, cpu, p, True)
    got = try_any_page(m, cpu, p)
    if got == 1 and not on_lru(m, p):
        put_page_p(m, cpu, compound_head(m, p))
        report.say(m, cpu, report.SAY_SOFT_NOT_LRU, page_to_pfn(m, p), 0, m[p])
        return -EIO
    return got


def drop_clean_page(m: memoryview, cpu: int, p: int) -> bool:
    """Drops a locked page of a file if it is clean and nobody uses it; unlocks it."""
    mapping = m[p + P_MAPPING]
    filed = mapping != 0 and mapping & PAGE_MAPPING_FLAGS == 0
    if filed and invalidate_inode_page(m, cpu, p):
        return True
    unlock_page(m, p)
    return False


def move_away(m: memoryview, cpu: int, p: int) -> int:
    """Migrates a page that we hold a reference of, which is dropped: 0 or a negative errno."""
    pfn = page_to_pfn(m, p)
    lru = m[p] & PG_LRU != 0
    error = isolate_lru_page(m, cpu, p) if lru else isolate_movable_page(m, p)
    put_page_p(m, cpu, p)
    if error:
        report.say(m, cpu, report.SAY_SOFT_ISOLATION, pfn, error, m[p], page_count(m, p))
        return error
    if lru:
        mod_isolated(m, cpu, p, 1)
    head = pagevecs(m, cpu) + PV_SCRATCH
    list_init(m, head)
    add_isolated_page(m, p, head)
    error = migrate_pages(m, cpu, head, NEW_PAGE_SAME_NODE, 0, MIGRATE_SYNC, MR_MEMORY_FAILURE)
    if error:
        if not list_empty(m, head):
            putback_movable_pages(m, cpu, head)
        report.say(m, cpu, report.SAY_SOFT_MIGRATION, pfn, error, m[p])
    return -EIO if error > 0 else error


def offline_small_page(m: memoryview, cpu: int, p: int) -> int:
    """Drops or migrates a page that we hold a reference of (__soft_offline_page)."""
    pfn = page_to_pfn(m, p)
    lock_page_wait(m, cpu, p)
    wait_on_page_writeback(m, cpu, p)
    if m[p] & PG_HWPOISON:
        unlock_page(m, p)
        put_page_p(m, cpu, p)
        report.say(m, cpu, report.SAY_SOFT_ALREADY, pfn)
        return -EBUSY
    if drop_clean_page(m, cpu, p):
        put_page_p(m, cpu, p)
        report.say(m, cpu, report.SAY_SOFT_INVALIDATED, pfn)
        m[p] |= PG_HWPOISON
        m[G_NUM_POISONED_PAGES] += 1
        return 0
    return move_away(m, cpu, p)


def split_around(m: memoryview, cpu: int, p: int) -> bool:
    """Splits the huge page that `p` is part of, our reference going to `p`; False if that cannot
    be, without the reference."""
    head = compound_head(m, p)
    lock_page_wait(m, cpu, head)
    failed = not page_anon(m, head) or split_huge_page(m, cpu, head) != 0
    unlock_page(m, head)
    if failed:
        anon = page_anon(m, head)
        message = report.SAY_SOFT_NOT_SPLIT if anon else report.SAY_SOFT_NOT_ANON_THP
        report.say(m, cpu, message, page_to_pfn(m, p))
        put_page_p(m, cpu, head)
        return False
    get_hwpoison_page(m, p)
    put_page_p(m, cpu, head)
    return True


def offline_page_in_use(m: memoryview, cpu: int, p: int) -> int:
    """Frees the frame of a page that we hold a reference of, and marks it."""
    if m[compound_head(m, p)] & PG_HEAD and not split_around(m, cpu, p):
        return -EBUSY
    pfn = page_to_pfn(m, p)
    kind = get_pageblock_migratetype(m, pfn)
    set_pageblock_migratetype(m, pfn, MIGRATE_ISOLATE)
    rc = offline_small_page(m, cpu, p)
    set_pageblock_migratetype(m, pfn, kind)
    return rc


def soft_offline_page(m: memoryview, cpu: int, pfn: int) -> int:
    """Takes frame `pfn` out of use without harm to anybody: 0, or a negative errno.

    -ENXIO: no such frame; -EBUSY: bad already, or a huge page that cannot be split; -EIO: neither
    free nor a page that could be moved; -ENOMEM: nowhere to move it.
    """
    if not pfn_is_valid(m, pfn):
        return -ENXIO
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if m[p] & PG_HWPOISON:
        report.say(m, cpu, report.SAY_SOFT_ALREADY, pfn)
        return -EBUSY
    got = get_any_page(m, cpu, p)
    if got > 0:
        return offline_page_in_use(m, cpu, p)
    if got == 0:
        return 0 if set_hwpoison_free_buddy_page(m, pfn) else -EBUSY
    return got
