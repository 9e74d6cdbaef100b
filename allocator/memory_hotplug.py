# SPDX-License-Identifier: GPL-2.0-only
"""Taking memory away from a running machine, and giving it back (mm/memory_hotplug.c).

To take a range offline its pageblocks are isolated, so that nothing is allocated from them any
more; what is used there is migrated elsewhere, on other nodes if there are any; and when the whole
range is free it leaves the free lists: its frames are reserved; zone, node and watermarks shrink
by them. Coming online again, the frames are freed one by one. Pages that the kernel itself uses
cannot be moved: a range with such pages stays online.

Ranges are frame numbers; they lie within one zone and consist of whole blocks of the highest order
(4 MiB), since no free block may be cut; Linux takes whole sections of 128 MiB. Where 4.20 would try
for ever (somebody holds a reference and does not let go) it is given up after some passes without
progress.
"""

from __future__ import annotations

from .kernel_globals import G_NODES_MEMORY, G_NR_CPU_IDS, G_TOTALRAM
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    PAGE_OFFSET,
    SECTION_PAGES,
    TASK_FATAL_SIGNAL,
    VMEMMAP_START,
)
from .list_head import list_add_tail, list_del, list_empty
from .lru_isolate import isolate_lru_page, mod_isolated
from .migrate import (
    MIGRATE_SYNC,
    MR_MEMORY_HOTPLUG,
    NEW_PAGE_OFFLINE,
    is_movable,
    isolate_movable_page,
    migrate_pages,
    putback_movable_pages,
)
from .mm_inline import compound_head, hpage_nr_pages, page_to_pfn
from .mm_types import (
    COUNTS_FREE,
    COUNTS_ONE,
    P_COUNTS,
    P_NEXT,
    P_PRIVATE,
    PG_HWPOISON,
    PG_LRU,
    PG_RESERVED,
    REF_ONE,
)
from .mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_ORDER_NR_PAGES,
    MIGRATE_MOVABLE,
    ND_PRESENT,
    PSET_WORDS,
    Z_FREE_AREA,
    Z_MANAGED,
    Z_NODE,
    Z_PAGESET,
    Z_PGDAT,
    Z_PRESENT,
)
from .page_alloc import free_pages
from .page_frag import pfn_is_valid
from .page_isolation import (
    page_is_free_block,
    start_isolate_page_range,
    test_pages_isolated,
    undo_isolate_page_range,
)
from .pageset import pageset_set_high_and_batch
from .pagevec import PV_SCRATCH, pagevecs, put_page_p
from .pcp import drain_all_pages, page_zone
from .swap import lru_add_drain_all
from .wmark import init_per_zone_wmark_min
from .zonelist import build_all_zonelists

NR_OFFLINE_AT_ONCE_PAGES = 256
PATIENCE = 5
"""Passes in a row that may leave as many pages in the range as there were."""
EINTR, EBUSY, EINVAL = 4, 16, 22


def page_at(m: memoryview, pfn: int) -> int:
    """Word index of the struct page of a valid frame."""
    return m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)


def range_zone(m: memoryview, start: int, end: int) -> int:
    """Word index of the zone that all frames of [start, end) belong to, 0 if the range is none that
    can go offline."""
    if start < 0 or start >= end or start % MAX_ORDER_NR_PAGES or end % MAX_ORDER_NR_PAGES:
        return 0
    if not pfn_is_valid(m, start):
        return 0
    z = page_zone(m, page_at(m, start))
    for pfn in range(start, end):
        if not pfn_is_valid(m, pfn) or page_zone(m, page_at(m, pfn)) != z:
            return 0
    return z


def is_offline(m: memoryview, p: int) -> bool:
    """True for a frame that offline_pages() took away."""
    return m[p] & PG_RESERVED != 0 and m[p + P_COUNTS] == COUNTS_FREE


def is_lost(m: memoryview, p: int) -> bool:
    """True for a bad frame that memory_failure() has taken out of use."""
    return m[p] & (PG_HWPOISON | PG_LRU) == PG_HWPOISON and m[p + P_COUNTS] == COUNTS_ONE


def scan_movable_pages(m: memoryview, start: int, end: int) -> int:
    """The first frame of [start, end) whose page can be moved, or -1."""
    for pfn in range(start, end):
        p = page_at(m, pfn)
        if m[compound_head(m, p)] & PG_LRU or is_movable(m, p):
            return pfn
    return -1


def isolate_range(m: memoryview, cpu: int, start: int, end: int, head: int) -> int:
    """Isolates up to 256 used pages of [start, end) onto list `head`: 0, or -EBUSY for one that
    somebody uses and that cannot be isolated."""
    left = NR_OFFLINE_AT_ONCE_PAGES
    pfn = start
    while pfn < end and left > 0:
        p = compound_head(m, page_at(m, pfn))
        pfn = page_to_pfn(m, p) + hpage_nr_pages(m, p)
        if m[p + P_COUNTS] < REF_ONE or m[p] & PG_HWPOISON:
            continue
        m[p + P_COUNTS] += REF_ONE
        lru = m[p] & PG_LRU
        error = isolate_lru_page(m, cpu, p) if lru else isolate_movable_page(m, p)
        put_page_p(m, cpu, p)
        if error:
            return -EBUSY
        va = VMEMMAP_START + (page_to_pfn(m, p) << 6) + 8
        list_add_tail(m, p + P_NEXT, va, head)
        left -= 1
        if lru:
            mod_isolated(m, cpu, p, hpage_nr_pages(m, p))
    return 0


def do_migrate_range(m: memoryview, cpu: int, start: int, end: int) -> int:
    """Migrates up to 256 pages of [start, end) away: 0, how many stayed, or a negative errno."""
    head = pagevecs(m, cpu) + PV_SCRATCH
    error = isolate_range(m, cpu, start, end, head)
    if list_empty(m, head):
        return error
    if error == 0:
        error = migrate_pages(m, cpu, head, NEW_PAGE_OFFLINE, 0, MIGRATE_SYNC, MR_MEMORY_HOTPLUG)
    if error:
        putback_movable_pages(m, cpu, head)
    return error


def empty_range(m: memoryview, cpu: int, z: int, start: int, end: int) -> int:
    """Moves everything out of the isolated range: 0, -EBUSY, or -EINTR when killed."""
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    stuck = 0
    first = -1
    while stuck < PATIENCE:
        if m[task + TASK_FATAL_SIGNAL]:
            return -EINTR
        lru_add_drain_all(m)
        drain_all_pages(m, z)
        pfn = scan_movable_pages(m, start, end)
        if pfn >= 0:
            error = do_migrate_range(m, cpu, pfn, end)
            stuck = stuck + 1 if error and pfn == first else 0
            first = pfn
        elif test_pages_isolated(m, start, end, True) == 0:
            return 0
        else:
            stuck += 1
    return -EBUSY


def take_free_blocks(m: memoryview, z: int, start: int, end: int) -> None:
    """Takes the range, which is free, off the free lists; its frames are reserved then.

    (__offline_isolated_pages)
    """
    pfn = start
    while pfn < end:
        p = page_at(m, pfn)
        if not page_is_free_block(m, p):
            # a bad frame that nobody could free
            m[p] |= PG_RESERVED
            pfn += 1
            continue
        order = m[p + P_PRIVATE]
        list_del(m, p + P_NEXT)
        m[p + P_PRIVATE] = 0
        m[p + P_COUNTS] = COUNTS_FREE
        m[z + Z_FREE_AREA + order * FA_WORDS + FA_NR_FREE] -= 1
        for part in range(p, p + (8 << order), 8):
            m[part] |= PG_RESERVED
        pfn += 1 << order


def account(m: memoryview, z: int, pages: int) -> None:
    """Adds frames to a zone, its node and the machine; watermarks and pagesets follow."""
    populated = m[z + Z_PRESENT] != 0
    m[z + Z_MANAGED] += pages
    m[z + Z_PRESENT] += pages
    nd = (m[z + Z_PGDAT] - PAGE_OFFSET) >> 3
    m[nd + ND_PRESENT] += pages
    m[G_TOTALRAM] += pages
    node = 1 << m[z + Z_NODE]
    m[G_NODES_MEMORY] = m[G_NODES_MEMORY] & ~node | (node if m[nd + ND_PRESENT] else 0)
    if populated != (m[z + Z_PRESENT] != 0):
        build_all_zonelists(m)
    init_per_zone_wmark_min(m)
    first = (m[z + Z_PAGESET] - PAGE_OFFSET) >> 3
    for cpu in range(m[G_NR_CPU_IDS]):
        pageset_set_high_and_batch(m, z, first + cpu * PSET_WORDS)


def offline_pages(m: memoryview, cpu: int, start: int, nr_pages: int) -> int:
    """Takes the frames [start, start + nr_pages) offline: 0 or a negative errno.

    Whole 4 MiB blocks of one zone, all online: else -EINVAL. -EBUSY: there are pages that cannot be
    moved or that somebody holds; -EINTR: the task was killed. The range is online then as before.
    """
    end = start + nr_pages
    z = range_zone(m, start, end)
    if z == 0 or any(m[page_at(m, pfn)] & PG_RESERVED for pfn in range(start, end)):
        return -EINVAL
    bad = [p for p in (page_at(m, pfn) for pfn in range(start, end)) if is_lost(m, p)]
    for p in bad:
        # memory_failure()'s own reference must not look like a user's
        m[p + P_COUNTS] -= REF_ONE
    error = -EBUSY
    if start_isolate_page_range(m, cpu, start, end, MIGRATE_MOVABLE) == 0:
        error = empty_range(m, cpu, z, start, end)
        if error:
            undo_isolate_page_range(m, cpu, start, end, MIGRATE_MOVABLE)
    if error:
        for p in bad:
            m[p + P_COUNTS] += REF_ONE
        return error
    take_free_blocks(m, z, start, end)
    undo_isolate_page_range(m, cpu, start, end, MIGRATE_MOVABLE)
    account(m, z, -nr_pages)
    return 0


def online_pages(m: memoryview, cpu: int, start: int, nr_pages: int) -> int:
    """Brings frames that offline_pages() took away back: 0, or -EINVAL if some are not such.

    Bad frames among them keep a reference, so that nobody gets them.
    """
    end = start + nr_pages
    z = range_zone(m, start, end)
    if z == 0:
        return -EINVAL
    pages = [page_at(m, pfn) for pfn in range(start, end)]
    if not all(is_offline(m, p) or m[p] & PG_HWPOISON for p in pages):
        return -EINVAL
    account(m, z, nr_pages)
    for pfn, p in zip(range(start, end), pages, strict=True):
        m[p] &= ~PG_RESERVED
        m[p + P_COUNTS] = COUNTS_ONE
        if m[p] & PG_HWPOISON == 0:
            free_pages(m, cpu, pfn, 0)
    return 0
