# SPDX-License-Identifier: GPL-2.0-only
"""The free scanner of compaction: where migrated pages go to (mm/compaction.c).

Compaction moves used pages towards the end of a zone. The free scanner comes down from there,
pageblock by pageblock, and takes free blocks off the buddy lists as long as the zone stays above
its min watermark; they are dressed as single pages and wait on the `freepages` list of the run's
compact_control until `migrate_pages` asks for a target. `alloc_contig_range` uses the same block
scanner in its strict mode, in which every page of the range has to be free.

A pageblock from which nothing could be taken gets the skip hint and moves the zone's cached
position. All hot. `cc` is the word index of a compact_control, `z` of a zone; lists of pages are
linked through `lru`.
"""

from __future__ import annotations

from .exact import split_page
from .gfp import GFP_MOVABLE_BIT
from .kernel_globals import G_TRACE_MASK
from .layout import (
    COMPACT_CONTROL,
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    PAGE_OFFSET,
    SECTION_PAGES,
    TASK_FATAL_SIGNAL,
    VMEMMAP_START,
)
from .list_head import list_add, list_add_tail, list_del, list_empty, list_init
from .mm_types import P_FLAGS, P_NEXT, P_PREV, P_PRIVATE, PG_HEAD
from .mmzone import (
    MAX_ORDER,
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    Z_COMPACT_FREE_PFN,
    Z_COMPACT_MIGRATE_PFN,
    Z_CONTIGUOUS,
    Z_SPANNED,
    Z_START_PFN,
)
from .page_alloc import free_pages
from .page_check import prep_new_page
from .page_isolation import isolate_free_page, page_is_free_block
from .pageblock import get_pageblock_migratetype, get_pageblock_skip, set_pageblock_skip
from .pcp import page_zone
from .trace import trace
from .trace_events import EV_ISOLATE_FREEPAGES
from .vm_events import VM_EVENT_NAMES
from .vmstat import count_vm_events

CC_FREEPAGES = COMPACT_CONTROL["freepages"]
CC_MIGRATEPAGES = COMPACT_CONTROL["migratepages"]
CC_ZONE = COMPACT_CONTROL["zone"]
CC_NR_FREEPAGES = COMPACT_CONTROL["nr_freepages"]
CC_NR_MIGRATEPAGES = COMPACT_CONTROL["nr_migratepages"]
CC_MIGRATE_SCANNED = COMPACT_CONTROL["total_migrate_scanned"]
CC_FREE_SCANNED = COMPACT_CONTROL["total_free_scanned"]
CC_FREE_PFN = COMPACT_CONTROL["free_pfn"]
CC_MIGRATE_PFN = COMPACT_CONTROL["migrate_pfn"]
CC_LAST_MIGRATED = COMPACT_CONTROL["last_migrated_pfn"]
CC_GFP_MASK = COMPACT_CONTROL["gfp_mask"]
CC_ORDER = COMPACT_CONTROL["order"]
CC_MIGRATETYPE = COMPACT_CONTROL["migratetype"]
CC_ALLOC_FLAGS = COMPACT_CONTROL["alloc_flags"]
CC_CLASSZONE = COMPACT_CONTROL["classzone_idx"]
CC_MODE = COMPACT_CONTROL["mode"]
CC_IGNORE_SKIP = COMPACT_CONTROL["ignore_skip_hint"]
CC_NO_SET_SKIP = COMPACT_CONTROL["no_set_skip_hint"]
CC_IGNORE_SUITABLE = COMPACT_CONTROL["ignore_block_suitable"]
CC_DIRECT = COMPACT_CONTROL["direct_compaction"]
CC_WHOLE_ZONE = COMPACT_CONTROL["whole_zone"]
CC_CONTENDED = COMPACT_CONTROL["contended"]
CC_FINISHING = COMPACT_CONTROL["finishing_block"]

# enum migrate_mode
MIGRATE_ASYNC = 0
MIGRATE_SYNC_LIGHT = 1
MIGRATE_SYNC = 2

SWAP_CLUSTER_MAX = 32
COMPACTISOLATED = VM_EVENT_NAMES.index("compact_isolated")


def init_compact_control(m: memoryview, cc: int, z: int, order: int, gfp: int, mode: int) -> None:
    """An empty compact_control at word `cc` for zone `z`; all options off. Hot."""
    for i in range(COMPACT_CONTROL.words):
        m[cc + i] = 0
    list_init(m, cc + CC_FREEPAGES)
    list_init(m, cc + CC_MIGRATEPAGES)
    m[cc + CC_ZONE] = PAGE_OFFSET + (z << 3)
    m[cc + CC_ORDER] = order
    m[cc + CC_GFP_MASK] = gfp
    m[cc + CC_MODE] = mode


def fatal_signal_pending(m: memoryview, cpu: int) -> bool:
    """True if the task that runs on `cpu` is about to die. Hot."""
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    return m[task + TASK_FATAL_SIGNAL] != 0


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


def isolation_suitable(m: memoryview, cc: int, pfn: int) -> bool:
    """False if the pageblock at `pfn` has the skip hint and the run heeds it. Hot."""
    return m[cc + CC_IGNORE_SKIP] != 0 or get_pageblock_skip(m, pfn) == 0


def update_pageblock_skip(m: memoryview, cc: int, pfn: int, isolated: int, migrating: bool) -> None:
    """Notes that nothing could be isolated from the pageblock, scanned from `pfn` on. Hot.

    Later runs begin behind it. `migrating`: it was the migration scanner.
    """
    if m[cc + CC_NO_SET_SKIP] or isolated:
        return
    set_pageblock_skip(m, pfn, 1)
    z = (m[cc + CC_ZONE] - PAGE_OFFSET) >> 3
    if migrating:
        m[z + Z_COMPACT_MIGRATE_PFN] = max(m[z + Z_COMPACT_MIGRATE_PFN], pfn)
        if m[cc + CC_MODE] != MIGRATE_ASYNC and pfn > m[z + Z_COMPACT_MIGRATE_PFN + 1]:
            m[z + Z_COMPACT_MIGRATE_PFN + 1] = pfn
    elif pfn < m[z + Z_COMPACT_FREE_PFN]:
        m[z + Z_COMPACT_FREE_PFN] = pfn


def isolate_freepages_block(
    m: memoryview, cpu: int, cc: int, start: int, end: int, head: int, strict: bool
) -> tuple[int, int]:
    """Takes free blocks of [start, end), in one pageblock, off the buddy lists. Hot.

    They go to the tail of list `head`, their orders in `private`. Ends when there are as many free
    pages as pages to migrate, or at the watermark; `strict` ends at the first page that is not
    free. Returns the PFN where it stopped and the pages taken, 0 if strict and stopped early.
    """
    pfn = start
    scanned = 0
    isolated = 0
    while pfn < end:
        if pfn & (SWAP_CLUSTER_MAX - 1) == 0 and fatal_signal_pending(m, cpu):
            m[cc + CC_CONTENDED] = 1
            break
        scanned += 1
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        step = compound_pages(m, p)
        if step or not page_is_free_block(m, p):
            if strict:
                pfn += max(step, 1) - 1
                break
            pfn += max(step, 1)
            continue
        order = m[p + P_PRIVATE]
        taken = isolate_free_page(m, cpu, pfn, order)
        if taken == 0:
            break
        m[p + P_PRIVATE] = order
        isolated += taken
        m[cc + CC_NR_FREEPAGES] += taken
        list_add_tail(m, p + P_NEXT, VMEMMAP_START + (pfn << 6) + 8, head)
        pfn += taken
        if not strict and m[cc + CC_NR_MIGRATEPAGES] <= m[cc + CC_NR_FREEPAGES]:
            break
    pfn = min(pfn, end)
    if m[G_TRACE_MASK] >> EV_ISOLATE_FREEPAGES & 1:
        trace(m, EV_ISOLATE_FREEPAGES, cpu, start, pfn, scanned, isolated, 0, 0, 0)
    if strict and pfn < end:
        count = 0
    else:
        count = isolated
    if pfn == end and scanned:
        update_pageblock_skip(m, cc, start, count, False)
    m[cc + CC_FREE_SCANNED] += scanned
    count_vm_events(m, cpu, COMPACTISOLATED, count)
    return pfn, count


def map_pages(m: memoryview, cpu: int, head: int) -> None:
    """Turns the free blocks on list `head` into single allocated pages, in reverse order. Hot."""
    first = PAGE_OFFSET + (head << 3)
    va = m[head]
    list_init(m, head)
    while va != first:
        pfn = (va - VMEMMAP_START) >> 6
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        va = m[p + P_NEXT]
        order = m[p + P_PRIVATE]
        prep_new_page(m, cpu, pfn, order, GFP_MOVABLE_BIT, 0)
        if order:
            split_page(m, pfn, order)
        for i in range(pfn, pfn + (1 << order)):
            q = m[SECTION_PAGES + (i >> 15 << 2)] + (i << 3)
            list_add(m, q + P_NEXT, VMEMMAP_START + (i << 6) + 8, head)


def release_freepages(m: memoryview, cpu: int, head: int) -> int:
    """Frees the pages on list `head`; the highest PFN among them. Hot."""
    high = 0
    while not list_empty(m, head):
        pfn = (m[head] - VMEMMAP_START) >> 6
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        list_del(m, p + P_NEXT)
        free_pages(m, cpu, pfn, 0)
        high = max(high, pfn)
    return high


def suitable_migration_target(m: memoryview, cc: int, pfn: int) -> bool:
    """True if pages may be moved into the pageblock at `pfn`: movable, and not free whole. Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if page_is_free_block(m, p) and m[p + P_PRIVATE] >= PAGEBLOCK_ORDER:
        return False
    if m[cc + CC_IGNORE_SUITABLE]:
        return True
    mt = get_pageblock_migratetype(m, pfn)
    return mt == MIGRATE_MOVABLE or mt == MIGRATE_CMA


def isolate_freepages(m: memoryview, cpu: int, cc: int) -> None:
    """Scans down from the run's free position until there are targets enough. Hot.

    Ends where the migration scanner is. What was found is on the run's freepages list.
    """
    z = (m[cc + CC_ZONE] - PAGE_OFFSET) >> 3
    head = cc + CC_FREEPAGES
    pfn = m[cc + CC_FREE_PFN]
    block = pfn & -PAGEBLOCK_NR_PAGES
    end = min(block + PAGEBLOCK_NR_PAGES, m[z + Z_START_PFN] + m[z + Z_SPANNED])
    low = (m[cc + CC_MIGRATE_PFN] & -PAGEBLOCK_NR_PAGES) + PAGEBLOCK_NR_PAGES
    while block >= low:
        if (
            pageblock_in_zone(m, block, end, z)
            and suitable_migration_target(m, cc, block)
            and isolation_suitable(m, cc, block)
        ):
            pfn, _ = isolate_freepages_block(m, cpu, cc, pfn, end, head, False)
            if m[cc + CC_NR_FREEPAGES] >= m[cc + CC_NR_MIGRATEPAGES] or m[cc + CC_CONTENDED]:
                if pfn >= end:
                    pfn = block - PAGEBLOCK_NR_PAGES
                break
            if pfn < end:
                break
        end = block
        block -= PAGEBLOCK_NR_PAGES
        pfn = block
    map_pages(m, cpu, head)
    m[cc + CC_FREE_PFN] = pfn


def compaction_alloc(m: memoryview, cpu: int, cc: int) -> int:
    """A page for `migrate_pages` to move a page to: its struct page's word, or 0. Hot."""
    head = cc + CC_FREEPAGES
    if list_empty(m, head):
        if not m[cc + CC_CONTENDED]:
            isolate_freepages(m, cpu, cc)
        if list_empty(m, head):
            return 0
    pfn = (m[head] - VMEMMAP_START) >> 6
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    list_del(m, p + P_NEXT)
    m[cc + CC_NR_FREEPAGES] -= 1
    return p


def compaction_free(m: memoryview, cpu: int, cc: int, pfn: int) -> None:  # noqa: ARG001
    """Takes back frame `pfn`, a target that was not needed. Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    list_add(m, p + P_NEXT, VMEMMAP_START + (pfn << 6) + 8, cc + CC_FREEPAGES)
    m[cc + CC_NR_FREEPAGES] += 1
