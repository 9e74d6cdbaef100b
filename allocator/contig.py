# SPDX-License-Identifier: GPL-2.0-only
"""Allocating a given range of page frames: alloc_contig_range (mm/page_alloc.c, mm/compaction.c).

The range is isolated in whole MAX_ORDER blocks, the used pages in it are migrated away, and then
the free blocks are taken off the lists: they may start before the range and reach beyond it, so the
surplus at both ends is freed again, page by page, into blocks that are still isolated. At the end
the isolation is undone. CMA areas (`cma_alloc`) and hot-unplug tests are the callers.

All hot. PFN ranges are [start, end); results 0, -EBUSY, -EINTR or -ENOMEM.
"""

from __future__ import annotations

from .compact_free import (
    CC_FREEPAGES,
    CC_IGNORE_SKIP,
    CC_MIGRATEPAGES,
    CC_NO_SET_SKIP,
    CC_NR_MIGRATEPAGES,
    MIGRATE_SYNC,
    fatal_signal_pending,
    init_compact_control,
    isolate_freepages_block,
    map_pages,
    pageblock_in_zone,
    release_freepages,
)
from .compact_scan import isolate_migratepages_range
from .compact_suitable import VIA_COMPACT_MEMORY
from .gfp import GFP_KERNEL
from .layout import CONTIG_CONTROL, SECTION_PAGES
from .list_head import list_del, list_empty, list_init, va_word
from .migrate import (
    MR_CONTIG_RANGE,
    NEW_PAGE_CONTIG,
    migrate_pages,
    putback_movable_pages,
)
from .mm_types import P_COUNTS, P_PRIVATE, REF_SHIFT
from .mmzone import MAX_ORDER, MAX_ORDER_NR_PAGES, PAGEBLOCK_NR_PAGES, Z_START_PFN
from .page_alloc import free_pages
from .page_isolation import (
    page_is_free_block,
    start_isolate_page_range,
    test_pages_isolated,
    undo_isolate_page_range,
)
from .pcp import drain_all_pages, page_zone
from .swap import lru_add_drain_all

EINTR, EBUSY = 4, 16
MIGRATE_TRIES = 5


def alloc_contig_migrate_range(m: memoryview, cpu: int, z: int, start: int, end: int) -> int:
    """Migrates what is movable in [start, end) away (__alloc_contig_migrate_range). Hot.

    0, -EBUSY if pages stayed after five tries, -ENOMEM without targets, -EINTR when killed.
    """
    cc = CONTIG_CONTROL
    init_compact_control(m, cc, z, VIA_COMPACT_MEMORY, GFP_KERNEL, MIGRATE_SYNC)
    m[cc + CC_IGNORE_SKIP] = 1
    m[cc + CC_NO_SET_SKIP] = 1
    head = cc + CC_MIGRATEPAGES
    lru_add_drain_all(m)
    pfn = start
    tries = 0
    rc = 0
    while pfn < end or not list_empty(m, head):
        if fatal_signal_pending(m, cpu):
            rc = -EINTR
            break
        if list_empty(m, head):
            m[cc + CC_NR_MIGRATEPAGES] = 0
            pfn = isolate_migratepages_range(m, cpu, cc, pfn, end)
            if pfn == 0:
                rc = -EINTR
                break
            tries = 0
        else:
            tries += 1
            if tries == MIGRATE_TRIES:
                rc = rc if rc < 0 else -EBUSY
                break
        rc = migrate_pages(m, cpu, head, NEW_PAGE_CONTIG, 0, MIGRATE_SYNC, MR_CONTIG_RANGE)
    if rc < 0:
        putback_movable_pages(m, cpu, head)
        return rc
    return 0


def isolate_freepages_range(m: memoryview, cpu: int, z: int, start: int, end: int) -> int:
    """Allocates the free range [start, end) page by page: the PFN it ends at, or 0. Hot.

    The last block may reach beyond `end`. If something in the range is not free, what was taken
    is freed again, from the top down, and 0 returned.
    """
    cc = CONTIG_CONTROL
    head = cc + CC_FREEPAGES
    list_init(m, head)
    pfn = start
    block = max(pfn & -PAGEBLOCK_NR_PAGES, m[z + Z_START_PFN])
    block_end = (pfn & -PAGEBLOCK_NR_PAGES) + PAGEBLOCK_NR_PAGES
    while pfn < end:
        block_end = min(block_end, end)
        if pfn >= block_end:
            # a block beyond pageblock order has carried us over the border
            block = pfn & -PAGEBLOCK_NR_PAGES
            block_end = min(block + PAGEBLOCK_NR_PAGES, end)
        if not pageblock_in_zone(m, block, block_end, z):
            break
        _, isolated = isolate_freepages_block(m, cpu, cc, pfn, block_end, head, True)
        if isolated == 0:
            break
        pfn += isolated
        block = block_end
        block_end += PAGEBLOCK_NR_PAGES
    map_pages(m, cpu, head)
    if pfn < end:
        release_freepages(m, cpu, head)
        return 0
    while not list_empty(m, head):
        # nobody wants the list; the pages leave it, so that freeing them finds no links
        list_del(m, va_word(m, m[head]))
    return pfn


def free_contig_range(m: memoryview, cpu: int, pfn: int, nr_pages: int) -> int:
    """Frees `nr_pages` single pages from `pfn` upwards; how many were still in use. Hot.

    A page is in use if it had not exactly one reference (the kernel warns with that number).
    """
    in_use = 0
    for i in range(pfn, pfn + nr_pages):
        p = m[SECTION_PAGES + (i >> 15 << 2)] + (i << 3)
        if m[p + P_COUNTS] >> REF_SHIFT != 1:
            in_use += 1
        free_pages(m, cpu, i, 0)
    return in_use


def outer_block(m: memoryview, start: int) -> int:
    """Where the free block that holds `start` begins; `start` if none does. Hot."""
    order = 0
    outer = start
    while not page_is_free_block(m, m[SECTION_PAGES + (outer >> 15 << 2)] + (outer << 3)):
        order += 1
        if order >= MAX_ORDER:
            return start
        outer &= ~((1 << order) - 1)
    p = m[SECTION_PAGES + (outer >> 15 << 2)] + (outer << 3)
    if outer != start and outer + (1 << m[p + P_PRIVATE]) <= start:
        return start
    return outer


def grab_isolated_range(m: memoryview, cpu: int, z: int, start: int, end: int) -> int:
    """Takes the isolated and now free range off the lists, freeing the surplus. Hot."""
    drain_all_pages(m, z)
    outer_start = outer_block(m, start)
    if test_pages_isolated(m, outer_start, end, False) != 0:
        return -EBUSY
    outer_end = isolate_freepages_range(m, cpu, z, outer_start, end)
    if outer_end == 0:
        return -EBUSY
    if start != outer_start:
        free_contig_range(m, cpu, outer_start, start - outer_start)
    if end != outer_end:
        free_contig_range(m, cpu, end, outer_end - end)
    return 0


def alloc_contig_range(m: memoryview, cpu: int, start: int, end: int, mt: int) -> int:
    """Allocates exactly the frames [start, end), which lie in one zone. Hot.

    `mt` is the type of all pageblocks there, MOVABLE or CMA. On success every page has one
    reference and is freed with free_contig_range(). 0, -EBUSY, -ENOMEM or -EINTR.
    """
    first = start & ~(MAX_ORDER_NR_PAGES - 1)
    last = (end + MAX_ORDER_NR_PAGES - 1) & ~(MAX_ORDER_NR_PAGES - 1)
    z = page_zone(m, m[SECTION_PAGES + (start >> 15 << 2)] + (start << 3))
    rc = start_isolate_page_range(m, cpu, first, last, mt)
    if rc:
        return rc
    rc = alloc_contig_migrate_range(m, cpu, z, start, end)
    # busy pages may have become free meanwhile: the test below decides
    if rc in (0, -EBUSY):
        rc = grab_isolated_range(m, cpu, z, start, end)
    undo_isolate_page_range(m, cpu, first, last, mt)
    return rc
