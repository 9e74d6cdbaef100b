# SPDX-License-Identifier: GPL-2.0-only
"""The migration scanner of compaction: which pages are moved (mm/compaction.c).

It goes up through a zone and isolates, within one pageblock at a time, at most 32 pages that can be
moved: pages on the LRU lists and drivers' movable pages. Free blocks and compound pages are stepped
over. Asynchronous direct compaction looks only into pageblocks of the request's own kind, and gives
an aligned block of the wanted order up as soon as one page of it cannot be isolated. A pageblock
without anything to isolate gets the skip hint and moves the zone's cached position.

All hot. `cc` is the word index of a compact_control, `z` of a zone.
"""

from __future__ import annotations

from .compact_free import (
    CC_CONTENDED,
    CC_DIRECT,
    CC_FREE_PFN,
    CC_GFP_MASK,
    CC_LAST_MIGRATED,
    CC_MIGRATE_PFN,
    CC_MIGRATE_SCANNED,
    CC_MIGRATEPAGES,
    CC_MIGRATETYPE,
    CC_MODE,
    CC_NR_MIGRATEPAGES,
    CC_ORDER,
    CC_ZONE,
    COMPACTISOLATED,
    MIGRATE_ASYNC,
    MIGRATE_SYNC,
    SWAP_CLUSTER_MAX,
    compound_pages,
    fatal_signal_pending,
    isolation_suitable,
    pageblock_in_zone,
    update_pageblock_skip,
)
from .gfp import GFP_FS_BIT
from .kernel_globals import G_COMPACT_UNEVICTABLE, G_TRACE_MASK
from .layout import PAGE_OFFSET, SECTION_PAGES, VMEMMAP_START
from .list_head import list_add
from .lru_isolate import (
    ISOLATE_ASYNC_MIGRATE,
    ISOLATE_UNEVICTABLE,
    isolate_lru_page_mode,
    mod_isolated,
)
from .lruvec import page_lruvec
from .migrate import PG_ISOLATED, isolate_movable_page, putback_movable_pages
from .mm_inline import (
    PG_SWAPCACHE,
    del_page_from_lru_list,
    page_count,
    page_lru,
    page_mapcount,
)
from .mm_types import (
    P_FLAGS,
    P_MAPPING,
    P_NEXT,
    P_PRIVATE,
    PAGE_MAPPING_FLAGS,
    PG_LRU,
)
from .mmzone import (
    MAX_ORDER,
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    NR_ACTIVE_FILE,
    NR_ISOLATED_ANON,
    NR_ISOLATED_FILE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    Z_COMPACT_BLOCKSKIP_FLUSH,
    Z_COMPACT_FREE_PFN,
    Z_COMPACT_MIGRATE_PFN,
    Z_PGDAT,
    Z_SPANNED,
    Z_START_PFN,
)
from .page_isolation import page_is_free_block, page_is_movable
from .pageblock import get_pageblock_migratetype, set_pageblock_skip
from .pcp import page_zone
from .trace import trace
from .trace_events import EV_ISOLATE_MIGRATEPAGES
from .vmstat import count_vm_events, node_page_state

COMPACT_CLUSTER_MAX = 32
# enum isolate_migrate_t
ISOLATE_ABORT = 0
ISOLATE_NONE = 1
ISOLATE_SUCCESS = 2


def reset_cached_positions(m: memoryview, z: int) -> None:
    """The next runs in zone `z` begin at its ends again. Hot."""
    start = m[z + Z_START_PFN]
    m[z + Z_COMPACT_MIGRATE_PFN] = start
    m[z + Z_COMPACT_MIGRATE_PFN + 1] = start
    m[z + Z_COMPACT_FREE_PFN] = (start + m[z + Z_SPANNED] - 1) & -PAGEBLOCK_NR_PAGES


def pageblock_skip_persistent(m: memoryview, p: int) -> bool:
    """True if page `p` is part of a compound page of a pageblock or more. Hot."""
    if m[p + P_NEXT] & 1:
        pfn = (m[p + P_NEXT] - 1 - VMEMMAP_START) >> 6
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    return compound_pages(m, p) >= 1 << PAGEBLOCK_ORDER


def reset_isolation_suitable(m: memoryview, z: int) -> None:
    """Clears all skip hints of zone `z` and its cached positions. Hot.

    (__reset_isolation_suitable)
    """
    m[z + Z_COMPACT_BLOCKSKIP_FLUSH] = 0
    pfn = m[z + Z_START_PFN]
    end = pfn + m[z + Z_SPANNED]
    while pfn < end:
        base = m[SECTION_PAGES + (pfn >> 15 << 2)]
        if base != 0:
            p = base + (pfn << 3)
            if page_zone(m, p) == z and not pageblock_skip_persistent(m, p):
                set_pageblock_skip(m, pfn, 0)
        pfn += PAGEBLOCK_NR_PAGES
    reset_cached_positions(m, z)


def too_many_isolated(m: memoryview, z: int) -> bool:
    """True if more than half of the node's LRU pages are isolated already. Hot."""
    nd = (m[z + Z_PGDAT] - PAGE_OFFSET) >> 3
    listed = 0
    for item in range(NR_ACTIVE_FILE + 1):
        listed += node_page_state(m, nd, item)
    isolated = node_page_state(m, nd, NR_ISOLATED_FILE) + node_page_state(m, nd, NR_ISOLATED_ANON)
    return isolated > listed // 2


def has_page_mapping(m: memoryview, p: int) -> bool:
    """True if `p` belongs to a file or to the swap cache (page_mapping() is not NULL). Hot."""
    if m[p + P_FLAGS] & PG_SWAPCACHE:
        return True
    mapping = m[p + P_MAPPING]
    return mapping != 0 and mapping & PAGE_MAPPING_FLAGS == 0


def isolate_one_page(m: memoryview, cpu: int, cc: int, p: int, mode: int) -> bool:
    """Takes page `p` away from its LRU list or its driver; False if it cannot be moved. Hot."""
    if m[p + P_FLAGS] & PG_LRU == 0:
        if not page_is_movable(m, p) or m[p + P_FLAGS] & PG_ISOLATED:
            return False
        return isolate_movable_page(m, p) == 0
    filed = has_page_mapping(m, p)
    if not filed and page_count(m, p) > page_mapcount(m, p):
        return False
    if filed and m[cc + CC_GFP_MASK] & GFP_FS_BIT == 0:
        return False
    if isolate_lru_page_mode(m, p, mode) != 0:
        return False
    del_page_from_lru_list(m, cpu, p, page_lruvec(m, p), page_lru(m, p))
    mod_isolated(m, cpu, p, 1)
    return True


def isolate_migratepages_block(
    m: memoryview, cpu: int, cc: int, low: int, end: int, mode: int
) -> int:
    """Puts the movable pages of [low, end), all in one pageblock, on the run's list. Hot.

    Returns the PFN of the first page not looked at: `end`, behind the 32nd page on the list, or
    behind an aligned block that asynchronous direct compaction may complete now. 0: give up, for a
    fatal signal or since too much is isolated already (where 4.20 would wait for others to put
    pages back; here nobody else runs).
    """
    z = (m[cc + CC_ZONE] - PAGE_OFFSET) >> 3
    if too_many_isolated(m, z):
        return 0
    order = m[cc + CC_ORDER]
    skip_on_failure = m[cc + CC_DIRECT] != 0 and m[cc + CC_MODE] == MIGRATE_ASYNC
    next_skip = ((low >> order) + 1) << order if skip_on_failure else end
    start = low
    scanned = 0
    isolated = 0
    while low < end:
        if skip_on_failure and low >= next_skip:
            if isolated:
                break
            next_skip = ((low >> order) + 1) << order
        if low & (SWAP_CLUSTER_MAX - 1) == 0 and fatal_signal_pending(m, cpu):
            m[cc + CC_CONTENDED] = 1
            break
        scanned += 1
        p = m[SECTION_PAGES + (low >> 15 << 2)] + (low << 3)
        if page_is_free_block(m, p):
            free_order = m[p + P_PRIVATE]
            low += 1 << free_order if 0 < free_order < MAX_ORDER else 1
            continue
        step = compound_pages(m, p)
        if step == 0 and isolate_one_page(m, cpu, cc, p, mode):
            list_add(m, p + P_NEXT, VMEMMAP_START + (low << 6) + 8, cc + CC_MIGRATEPAGES)
            m[cc + CC_NR_MIGRATEPAGES] += 1
            isolated += 1
            if m[cc + CC_LAST_MIGRATED] == 0:
                m[cc + CC_LAST_MIGRATED] = low
            low += 1
            if m[cc + CC_NR_MIGRATEPAGES] == COMPACT_CLUSTER_MAX:
                break
            continue
        low += max(step, 1)
        if skip_on_failure:
            if isolated:
                putback_movable_pages(m, cpu, cc + CC_MIGRATEPAGES)
                m[cc + CC_NR_MIGRATEPAGES] = 0
                m[cc + CC_LAST_MIGRATED] = 0
                isolated = 0
            if low - 1 < next_skip:
                low = next_skip
                next_skip += 1 << order
    low = min(low, end)
    if low == end and scanned:
        update_pageblock_skip(m, cc, start, isolated, True)
    if m[G_TRACE_MASK] >> EV_ISOLATE_MIGRATEPAGES & 1:
        trace(m, EV_ISOLATE_MIGRATEPAGES, cpu, start, low, scanned, isolated, 0, 0, 0)
    m[cc + CC_MIGRATE_SCANNED] += scanned
    count_vm_events(m, cpu, COMPACTISOLATED, isolated)
    return low


def isolate_migratepages_range(m: memoryview, cpu: int, cc: int, start: int, end: int) -> int:
    """isolate_migratepages_block() block by block, until 32 pages are listed. Hot.

    Returns the PFN to go on from, 0 to give up.
    """
    z = (m[cc + CC_ZONE] - PAGE_OFFSET) >> 3
    pfn = start
    block = max(pfn & -PAGEBLOCK_NR_PAGES, m[z + Z_START_PFN])
    block_end = (pfn & -PAGEBLOCK_NR_PAGES) + PAGEBLOCK_NR_PAGES
    while pfn < end:
        block_end = min(block_end, end)
        if pageblock_in_zone(m, block, block_end, z):
            pfn = isolate_migratepages_block(m, cpu, cc, pfn, block_end, ISOLATE_UNEVICTABLE)
            if pfn == 0 or m[cc + CC_NR_MIGRATEPAGES] == COMPACT_CLUSTER_MAX:
                break
        pfn = block_end
        block = block_end
        block_end += PAGEBLOCK_NR_PAGES
    return pfn


def suitable_migration_source(m: memoryview, cc: int, pfn: int) -> bool:
    """False if asynchronous direct compaction has no business in this pageblock. Hot."""
    if m[cc + CC_MODE] != MIGRATE_ASYNC or m[cc + CC_DIRECT] == 0:
        return True
    mt = get_pageblock_migratetype(m, pfn)
    if m[cc + CC_MIGRATETYPE] == MIGRATE_MOVABLE:
        return mt in (MIGRATE_MOVABLE, MIGRATE_CMA)
    return mt == m[cc + CC_MIGRATETYPE]


def isolate_migratepages(m: memoryview, cpu: int, cc: int, z: int) -> int:
    """Isolates what can be moved from the next suitable pageblock of the zone. Hot.

    Does not cross the free scanner. ISOLATE_SUCCESS, ISOLATE_NONE or ISOLATE_ABORT.
    """
    mode = ISOLATE_UNEVICTABLE if m[G_COMPACT_UNEVICTABLE] else 0
    if m[cc + CC_MODE] != MIGRATE_SYNC:
        mode |= ISOLATE_ASYNC_MIGRATE
    low = m[cc + CC_MIGRATE_PFN]
    block = max(low & -PAGEBLOCK_NR_PAGES, m[z + Z_START_PFN])
    block_end = (low & -PAGEBLOCK_NR_PAGES) + PAGEBLOCK_NR_PAGES
    while block_end <= m[cc + CC_FREE_PFN]:
        if (
            pageblock_in_zone(m, block, block_end, z)
            and isolation_suitable(m, cc, block)
            and suitable_migration_source(m, cc, block)
        ):
            low = isolate_migratepages_block(m, cpu, cc, low, block_end, mode)
            if low == 0 or m[cc + CC_CONTENDED]:
                return ISOLATE_ABORT
            break
        low = block_end
        block = block_end
        block_end += PAGEBLOCK_NR_PAGES
    m[cc + CC_MIGRATE_PFN] = low
    return ISOLATE_SUCCESS if m[cc + CC_NR_MIGRATEPAGES] else ISOLATE_NONE
