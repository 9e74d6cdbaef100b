# SPDX-License-Identifier: GPL-2.0-only
"""Allocating a given range of page frames: alloc_contig_range (mm/page_alloc.c, mm/compaction.c).

The range is isolated in whole MAX_ORDER blocks, the used pages in it are migrated away, and then
the free blocks are taken off the lists: they may start before the range and reach beyond it, so the
surplus at both ends is freed again, page by page, into blocks that are still isolated. At the end
the isolation is undone. CMA areas (`cma_alloc`) and hot-unplug tests are the callers.

All hot. PFN ranges are [start, end); results 0, -EBUSY, -EINTR or -ENOMEM.
"""

from __future__ import annotations

from .exact import split_page
from .gfp import GFP_MOVABLE_BIT
from .layout import (
    CONTIG_MIGRATEPAGES,
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    G_TRACE_MASK,
    PAGE_OFFSET,
    SECTION_PAGES,
    TASK_FATAL_SIGNAL,
    VMEMMAP_START,
)
from .list_head import list_add, list_empty, list_init
from .migrate import (
    MR_CONTIG_RANGE,
    isolate_movable_page,
    migrate_pages,
    putback_movable_pages,
)
from .mm_types import P_COUNTS, P_FLAGS, P_NEXT, P_PREV, P_PRIVATE, PG_HEAD, PG_LRU, REF_SHIFT
from .mmzone import (
    MAX_ORDER,
    MAX_ORDER_NR_PAGES,
    PAGEBLOCK_NR_PAGES,
    Z_CONTIGUOUS,
    Z_START_PFN,
)
from .page_alloc import free_pages
from .page_check import prep_new_page
from .page_isolation import (
    isolate_free_page,
    page_is_free_block,
    page_is_movable,
    start_isolate_page_range,
    test_pages_isolated,
    undo_isolate_page_range,
)
from .pcp import drain_all_pages, page_zone
from .trace import EV_ISOLATE_FREEPAGES, EV_ISOLATE_MIGRATEPAGES, trace
from .vm_events import VM_EVENT_NAMES
from .vmstat import count_vm_events

EINTR, EBUSY = 4, 16
COMPACT_CLUSTER_MAX = 32
MIGRATE_TRIES = 5
COMPACTISOLATED = VM_EVENT_NAMES.index("compact_isolated")


def pageblock_in_zone(m: memoryview, start: int, end: int, z: int) -> bool:
    """True if both ends of [start, end) are memory of zone `z` (pageblock_pfn_to_page). Hot."""
    base = m[SECTION_PAGES + (start >> 15 << 2)]
    if m[z + Z_CONTIGUOUS]:
        return base != 0
    last = m[SECTION_PAGES + ((end - 1) >> 15 << 2)]
    if base == 0 or last == 0:
        return False
    return page_zone(m, base + (start << 3)) == z and page_zone(m, last + ((end - 1) << 3)) == z


def compound_pages(m: memoryview, p: int) -> int:
    """Pages to step over at page `p` if it is part of a compound page, else 0. Hot."""
    if m[p + P_FLAGS] & PG_HEAD:
        order = m[p + 8 + P_PREV] >> 8 & 0xFF
        return 1 << order if order < MAX_ORDER else 1
    return 1 if m[p + P_NEXT] & 1 else 0


def isolate_migratepages_block(
    m: memoryview, cpu: int, low: int, end: int, head: int, nr: int
) -> tuple[int, int]:
    """Puts the movable pages of [low, end), all in one pageblock, on list `head`. Hot.

    `nr` pages are on the list already. Returns the PFN where it stopped, `end` or behind the 32nd
    page on the list, and the pages on the list then.
    """
    start = low
    scanned = 0
    isolated = 0
    while low < end:
        scanned += 1
        p = m[SECTION_PAGES + (low >> 15 << 2)] + (low << 3)
        step = 1
        if page_is_free_block(m, p):
            order = m[p + P_PRIVATE]
            if 0 < order < MAX_ORDER:
                step = 1 << order
        elif compound_pages(m, p):
            step = compound_pages(m, p)
        elif m[p + P_FLAGS] & PG_LRU == 0 and page_is_movable(m, p):
            if isolate_movable_page(m, p) == 0:
                list_add(m, p + P_NEXT, VMEMMAP_START + (low << 6) + 8, head)
                isolated += 1
                if nr + isolated == COMPACT_CLUSTER_MAX:
                    low += 1
                    break
        low += step
    low = min(low, end)
    if m[G_TRACE_MASK] >> EV_ISOLATE_MIGRATEPAGES & 1:
        trace(m, EV_ISOLATE_MIGRATEPAGES, cpu, start, low, scanned, isolated, 0, 0, 0)
    count_vm_events(m, cpu, COMPACTISOLATED, isolated)
    return low, nr + isolated


def isolate_migratepages_range(
    m: memoryview, cpu: int, z: int, start: int, end: int, head: int
) -> int:
    """isolate_migratepages_block() block by block, until 32 pages are listed. Hot.

    Returns the PFN to go on from.
    """
    pfn = start
    nr = 0
    block_start = max(pfn & ~(PAGEBLOCK_NR_PAGES - 1), m[z + Z_START_PFN])
    block_end = (pfn | (PAGEBLOCK_NR_PAGES - 1)) + 1
    while pfn < end:
        block_end = min(block_end, end)
        if pageblock_in_zone(m, block_start, block_end, z):
            pfn, nr = isolate_migratepages_block(m, cpu, pfn, block_end, head, nr)
            if nr == COMPACT_CLUSTER_MAX:
                break
        pfn = block_end
        block_start = block_end
        block_end += PAGEBLOCK_NR_PAGES
    return pfn


def alloc_contig_migrate_range(m: memoryview, cpu: int, z: int, start: int, end: int) -> int:
    """Migrates what is movable in [start, end) away (__alloc_contig_migrate_range). Hot.

    0, -EBUSY if pages stayed after five tries, -ENOMEM without targets, -EINTR when killed.
    """
    head = CONTIG_MIGRATEPAGES
    list_init(m, head)
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    pfn = start
    tries = 0
    rc = 0
    while pfn < end or not list_empty(m, head):
        if m[task + TASK_FATAL_SIGNAL]:
            rc = -EINTR
            break
        if list_empty(m, head):
            pfn = isolate_migratepages_range(m, cpu, z, pfn, end, head)
            tries = 0
        else:
            tries += 1
            if tries == MIGRATE_TRIES:
                rc = rc if rc < 0 else -EBUSY
                break
        rc = migrate_pages(m, cpu, head, MR_CONTIG_RANGE)
    if rc < 0:
        putback_movable_pages(m, cpu, head)
        return rc
    return 0


def isolate_freepages_block(m: memoryview, cpu: int, start: int, end: int) -> int:
    """Takes the free blocks from `start` to `end`, without gaps, off the lists. Hot.

    Each is split into single pages with one reference. Returns the PFN behind the last block taken;
    less than `end` if a page was not free or its block could not be taken.
    """
    pfn = start
    scanned = 0
    isolated = 0
    while pfn < end:
        scanned += 1
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        if not page_is_free_block(m, p):
            break
        order = m[p + P_PRIVATE]
        if isolate_free_page(m, cpu, pfn, order) == 0:
            break
        m[p + P_PRIVATE] = order
        isolated += 1 << order
        pfn += 1 << order
    if m[G_TRACE_MASK] >> EV_ISOLATE_FREEPAGES & 1:
        trace(m, EV_ISOLATE_FREEPAGES, cpu, start, min(pfn, end), scanned, isolated, 0, 0, 0)
    count_vm_events(m, cpu, COMPACTISOLATED, isolated)
    return pfn


def split_map_pages(m: memoryview, cpu: int, start: int, end: int) -> None:
    """Dresses the blocks taken from [start, end) as single allocated pages (map_pages). Hot.

    The block sizes were kept in the head pages' `private`.
    """
    pfn = start
    while pfn < end:
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        order = m[p + P_PRIVATE]
        prep_new_page(m, cpu, pfn, order, GFP_MOVABLE_BIT, 0)
        if order:
            split_page(m, pfn, order)
        pfn += 1 << order


def isolate_freepages_range(m: memoryview, cpu: int, z: int, start: int, end: int) -> int:
    """Allocates the free range [start, end) page by page: the PFN it ends at, or 0. Hot.

    The last block may reach beyond `end`. If something in the range is not free, what was taken
    is freed again, from the top down, and 0 returned.
    """
    pfn = start
    block_start = max(pfn & ~(PAGEBLOCK_NR_PAGES - 1), m[z + Z_START_PFN])
    block_end = (pfn | (PAGEBLOCK_NR_PAGES - 1)) + 1
    while pfn < end:
        block_end = min(block_end, end)
        if pfn >= block_end:
            # a block beyond pageblock order has carried us over the border
            block_start = pfn & ~(PAGEBLOCK_NR_PAGES - 1)
            block_end = min((pfn | (PAGEBLOCK_NR_PAGES - 1)) + 1, end)
        if not pageblock_in_zone(m, block_start, block_end, z):
            break
        pfn = isolate_freepages_block(m, cpu, pfn, block_end)
        if pfn < block_end:
            break
        block_start = block_end
        block_end += PAGEBLOCK_NR_PAGES
    split_map_pages(m, cpu, start, pfn)
    if pfn >= end:
        return pfn
    for i in range(pfn - 1, start - 1, -1):
        free_pages(m, cpu, i, 0)
    return 0


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
