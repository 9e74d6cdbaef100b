# SPDX-License-Identifier: GPL-2.0-only
"""Deferred struct pages: a zone grows by a section when it runs short (mm/page_alloc.c).

On a large machine bring-up initialises one section of each node's highest zone and leaves the rest:
pglist_data's `first_deferred_pfn` says from where on (-1: nowhere). Such struct pages are all zero,
their frames are on no list, and `deferred_pages` counts the nodes that have any. When a zone fails
its watermark, or has no page of the wanted order, the allocation path calls `deferred_grow_zone`,
which initialises and frees at least a section more, as 4.20 does while it boots; here that goes on
for as long as the machine runs, so that what nobody touches is never paid for.

Two things differ from 4.20. Sections that are reserved as a whole - most of the memory map's own -
are initialised when growth comes past them, not at boot. And blocks are freed without the checks of
free_pages_prepare(), which would look at what was written a line before; all else is the ordinary
way of freeing, counters and tracepoints included.

All hot. Whole sections are written with strided slices, which NumPy and Numba both run as loops of
machine code, so that neither engine goes through the frames one by one.
"""

from __future__ import annotations

import numpy as np

from .kernel_globals import (
    G_DEFERRED_PAGES,
    G_MEMBLOCK_MEMORY_CNT,
    G_MEMBLOCK_RESERVED_CNT,
    G_MEMINIT_DONE,
    G_TRACE_MASK,
)
from .layout import (
    CPU_BLOCKS,
    CPU_EVENTS,
    CPU_WORDS,
    MEMBLOCK_MEMORY,
    MEMBLOCK_REGION,
    MEMBLOCK_RESERVED,
    NODE_DATA,
    PAGE_OFFSET,
    PAGES_PER_SECTION,
    PFN_SECTION_SHIFT,
    SECTION_MEM_MAP,
    SECTION_PAGES,
    VMEMMAP_START,
)
from .mm_types import (
    COUNTS_FREE,
    COUNTS_ONE,
    NODES_PGSHIFT,
    P_COUNTS,
    P_FLAGS,
    P_NEXT,
    P_PREV,
    PG_RESERVED,
    ZONES_PGSHIFT,
)
from .mmzone import (
    MIGRATE_MOVABLE,
    ND_FIRST_DEFERRED_PFN,
    ND_SPANNED,
    ND_START_PFN,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    Z_MANAGED,
    Z_NODE,
    Z_PGDAT,
    Z_SPANNED,
    Z_START_PFN,
    ZONE_WORDS,
)
from .pageblock import get_pageblock_migratetype, set_pageblock_migratetype
from .pcp import free_block, free_unref_page
from .trace import trace
from .trace_events import EV_MM_PAGE_FREE
from .vm_events import PGFREE

NOT_DEFERRED = -1
"""first_deferred_pfn of a node whose struct pages are all initialised (ULONG_MAX)."""
REGION_WORDS = MEMBLOCK_REGION.words
REGION_NID = MEMBLOCK_REGION["nid"]
_LOW = PAGES_PER_SECTION - 1


def init_page_range(m: memoryview, pfn: int, end: int, flags: int, counts: int) -> None:
    """__init_single_page() for the frames [pfn, end) of one section. Hot."""
    q = np.frombuffer(m, dtype=np.int64)
    w = m[SECTION_PAGES + (pfn >> PFN_SECTION_SHIFT << 2)] + (pfn << 3)
    stop = w + (end - pfn << 3)
    links = np.arange(pfn, end) * 64 + (VMEMMAP_START + 8)
    q[w:stop] = 0
    q[w + P_FLAGS : stop : 8] = flags
    q[w + P_COUNTS : stop : 8] = counts
    q[w + P_NEXT : stop : 8] = links
    q[w + P_PREV : stop : 8] = links


def page_uninitialised(m: memoryview, pfn: int) -> bool:
    """True if the struct page of `pfn`, which must be valid, is still to be initialised. Hot."""
    if m[G_DEFERRED_PAGES] == 0:
        return False
    p = m[SECTION_PAGES + (pfn >> PFN_SECTION_SHIFT << 2)] + (pfn << 3)
    if m[p + P_COUNTS] != 0:
        return False
    nid = memory_node(m, pfn)
    if nid < 0 or m[NODE_DATA + nid] == 0:
        return False
    first = m[(m[NODE_DATA + nid] - PAGE_OFFSET >> 3) + ND_FIRST_DEFERRED_PFN]
    return first != NOT_DEFERRED and pfn >= first


def memory_node(m: memoryview, pfn: int) -> int:
    """The node whose memory frame `pfn` is, -1 for a hole (early_pfn_to_nid). Hot."""
    at = pfn << 12
    for i in range(m[G_MEMBLOCK_MEMORY_CNT]):
        w = MEMBLOCK_MEMORY + i * REGION_WORDS
        if m[w] <= at < m[w] + m[w + 1]:
            return m[w + REGION_NID]
    return -1


def next_free_range(m: memoryview, nid: int, pfn: int) -> int:
    """First frame from `pfn` on that is whole, node `nid`'s memory and not reserved; -1. Hot."""
    for i in range(m[G_MEMBLOCK_MEMORY_CNT]):
        w = MEMBLOCK_MEMORY + i * REGION_WORDS
        end = m[w] + m[w + 1] >> 12
        if m[w + REGION_NID] != nid or end <= pfn:
            continue
        at = max(m[w] + 4095 >> 12, pfn)
        for j in range(m[G_MEMBLOCK_RESERVED_CNT]):
            r = MEMBLOCK_RESERVED + j * REGION_WORDS
            # a frame that is reserved in part is reserved
            if m[r] >> 12 <= at:
                at = max(at, m[r] + m[r + 1] + 4095 >> 12)
        if at < end:
            return at
    return -1


def free_range_end(m: memoryview, pfn: int) -> int:
    """End of the free range that holds frame `pfn`. Hot."""
    end = pfn + 1
    for i in range(m[G_MEMBLOCK_MEMORY_CNT]):
        w = MEMBLOCK_MEMORY + i * REGION_WORDS
        if m[w] >> 12 <= pfn < m[w] + m[w + 1] >> 12:
            end = m[w] + m[w + 1] >> 12
    for j in range(m[G_MEMBLOCK_RESERVED_CNT]):
        first = m[MEMBLOCK_RESERVED + j * REGION_WORDS] >> 12
        if pfn < first:
            end = min(end, first)
    return end


def section_reserved(m: memoryview, section: int) -> bool:
    """True if every frame of a section belongs to one reserved region. Hot."""
    start = section << PFN_SECTION_SHIFT + 12
    for j in range(m[G_MEMBLOCK_RESERVED_CNT]):
        r = MEMBLOCK_RESERVED + j * REGION_WORDS
        if m[r] <= start and start + (PAGES_PER_SECTION << 12) <= m[r] + m[r + 1]:
            return True
    return False


def init_reserved_section(m: memoryview, pfn: int, flags: int) -> None:
    """Initialises the section of `pfn` as reserved if it is that as a whole and nobody has. Hot."""
    section = pfn >> PFN_SECTION_SHIFT
    if m[SECTION_MEM_MAP + (section << 2)] == 0:
        return
    start = section << PFN_SECTION_SHIFT
    p = m[SECTION_PAGES + (section << 2)] + (start << 3)
    if m[p + P_COUNTS] == 0 and section_reserved(m, section):
        init_page_range(m, start, start + PAGES_PER_SECTION, flags | PG_RESERVED, COUNTS_ONE)


def deferred_init_range(m: memoryview, start: int, end: int, flags: int) -> None:
    """deferred_init_pages() for the free frames [start, end); those of a section at once. Hot."""
    while start < end:
        stop = min((start | _LOW) + 1, end)
        init_page_range(m, start, stop, flags, COUNTS_FREE)
        start = stop


def deferred_free_range(m: memoryview, cpu: int, z: int, start: int, end: int) -> None:
    """Frees [start, end): whole pageblocks as MOVABLE ones, what is left singly. Hot."""
    tracing = m[G_TRACE_MASK] >> EV_MM_PAGE_FREE & 1
    block = PAGEBLOCK_NR_PAGES - 1
    while start < end:
        if start & block == 0:
            set_pageblock_migratetype(m, start, MIGRATE_MOVABLE)
            if start + block < end:
                if tracing:
                    trace(m, EV_MM_PAGE_FREE, cpu, start, PAGEBLOCK_ORDER, 0, 0, 0, 0, 0)
                m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_EVENTS + PGFREE] += PAGEBLOCK_NR_PAGES
                mt = get_pageblock_migratetype(m, start)
                free_block(m, cpu, z, start, PAGEBLOCK_ORDER, mt)
                start += PAGEBLOCK_NR_PAGES
                continue
        free_unref_page(m, cpu, start)
        start += 1


def deferred_grow_zone(m: memoryview, cpu: int, z: int, order: int) -> bool:
    """Initialises and frees the next section or more of zone `z`'s node; True if that gave pages.

    Only a node's highest zone has deferred pages. The new first_deferred_pfn is where 4.20 has it;
    at the last one the node is done. Hot.
    """
    nd = m[z + Z_PGDAT] - PAGE_OFFSET >> 3
    first = m[nd + ND_FIRST_DEFERRED_PFN]
    node_end = m[nd + ND_START_PFN] + m[nd + ND_SPANNED]
    zone_end = m[z + Z_START_PFN] + m[z + Z_SPANNED]
    if first == NOT_DEFERRED or zone_end != node_end:
        return False
    nid = m[z + Z_NODE]
    zid = (z - nd) // ZONE_WORDS
    # nodes from 32 on reach the sign bit
    flags = (nid ^ 32) - 32 << NODES_PGSHIFT | zid << ZONES_PGSHIFT
    needed = max(1 << order, PAGES_PER_SECTION)
    first = max(first, m[z + Z_START_PFN])
    pages = 0
    at = next_free_range(m, nid, first)
    stop = first
    while 0 <= at < zone_end and pages < needed:
        end = min(free_range_end(m, at), zone_end)
        while at < end and pages < needed:
            stop = min(at + PAGES_PER_SECTION + _LOW & ~_LOW, end)
            deferred_init_range(m, at, stop, flags)
            pages += stop - at
            at = stop
        at = next_free_range(m, nid, at)
    done = at < 0 or at >= zone_end
    section = first >> PFN_SECTION_SHIFT
    last = (zone_end if done else stop) - 1 >> PFN_SECTION_SHIFT
    while section <= last:
        if memory_node(m, section << PFN_SECTION_SHIFT) == nid:
            init_reserved_section(m, section << PFN_SECTION_SHIFT, flags)
        section += 1
    m[nd + ND_FIRST_DEFERRED_PFN] = NOT_DEFERRED if done else stop
    if done:
        m[G_DEFERRED_PAGES] -= 1
    if m[G_MEMINIT_DONE] == 0:
        m[z + Z_MANAGED] += pages
    at = next_free_range(m, nid, first)
    while 0 <= at < stop:
        end = min(free_range_end(m, at), stop)
        deferred_free_range(m, cpu, z, at, end)
        at = next_free_range(m, nid, end)
    return pages > 0
