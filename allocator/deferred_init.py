# SPDX-License-Identifier: GPL-2.0-only
"""Bring-up of a machine whose struct pages are initialised late (CONFIG_DEFERRED_STRUCT_PAGE_INIT).

Here is what boot does differently then: `use_deferred_init` decides, `defer_init` cuts off what
memmap_init_zone() leaves, `early_free_ranges` keeps those frames from the buddy lists,
`init_reserved_pages` initialises the reserved frames among them, and `deferred_init_late` books
what is left. The rest happens in `deferred_pages`, when a zone runs short.

The kernels whose decisions are on record were built without it, and a small machine is up in no
time either way; so `deferred_meminit=auto`, the default, uses it only with more than 32 GiB of RAM.
`on` and `off` decide for any machine. What marks every frame for debugging (page_poison=,
page_owner=, guard pages) turns it off.

4.20 ends deferral in page_alloc_init_late(), before watermarks are computed. So the zones' managed
pages count all memory from there on, and watermarks and reserves are those of a kernel that has
initialised everything, while the free lists hold what has been initialised. The pagesets were sized
before, from the little that was free then: that, too, is as in 4.20.
"""

from __future__ import annotations

from collections.abc import Iterator

from .boot_context import BootContext, mask_nodes, node_word, online_nodes
from .deferred_pages import (
    NOT_DEFERRED,
    init_page_range,
    init_reserved_section,
    section_reserved,
)
from .kernel_globals import G_DEFERRED_PAGES, G_MEMINIT_DONE, G_NODES_MEMORY
from .layout import PAGES_PER_SECTION, PFN_SECTION_SHIFT
from .mm_types import COUNTS_ONE, PAGE_SHIFT, PG_RESERVED, page_links
from .mmzone import (
    MAX_NR_ZONES,
    ND_FIRST_DEFERRED_PFN,
    ND_SPANNED,
    ND_START_PFN,
    PGLIST_DATA,
    Z_MANAGED,
    Z_PGDAT,
    Z_SPANNED,
    Z_START_PFN,
    ZONE_WORDS,
)

AUTO_BYTES = 32 << 30
"""With more RAM than this, deferred_meminit=auto means on."""
ND_STATIC_INIT_PGCNT = PGLIST_DATA["static_init_pgcnt"]
Span = tuple[int, int]


def use_deferred_init(ctx: BootContext) -> bool:
    """Whether this boot defers struct pages (deferred_meminit=); says so in the log."""
    params = ctx.params
    wanted = params.deferred_meminit == "on"
    if params.deferred_meminit == "auto":
        wanted = ctx.mb.memory.total_size() > AUTO_BYTES
    guards = params.debug_pagealloc and params.debug_guardpage_minorder > 0
    if wanted and (guards or params.page_owner or params.page_poison):
        ctx.printk("deferred_meminit: off, debugging parameters need all struct pages")
        return False
    return wanted


def pgdat_set_deferred_range(ctx: BootContext, nd: int) -> None:
    """A node starts with one section (pgdat_set_deferred_range)."""
    if ctx.deferred:
        ctx.m[nd + ND_STATIC_INIT_PGCNT] = min(PAGES_PER_SECTION, ctx.m[nd + ND_SPANNED])
        ctx.m[nd + ND_FIRST_DEFERRED_PFN] = NOT_DEFERRED


def defer_init(ctx: BootContext, nd: int, zone_end: int, spans: list[Span]) -> list[Span]:
    """Of the spans of a zone (each within one section), those to initialise now.

    In the node's highest zone initialisation stops at the first section that begins when
    static_init_pgcnt pages have been done; the node remembers where."""
    m = ctx.m
    if not ctx.deferred or zone_end < m[nd + ND_START_PFN] + m[nd + ND_SPANNED]:
        return spans
    done = 0
    for i, (start, end) in enumerate(spans):
        if done >= m[nd + ND_STATIC_INIT_PGCNT] and start % PAGES_PER_SECTION == 0:
            m[nd + ND_FIRST_DEFERRED_PFN] = start
            m[G_DEFERRED_PAGES] += 1
            return spans[:i]
        done += end - start
    return spans


def first_deferred_pfn(ctx: BootContext, nid: int) -> int:
    """The first frame of a node whose struct page is left out, -1 if there is none."""
    if not ctx.deferred or nid not in online_nodes(ctx.m):
        return NOT_DEFERRED
    first: int = ctx.m[node_word(ctx.m, nid) + ND_FIRST_DEFERRED_PFN]
    return first


def early_free_ranges(ctx: BootContext, ranges: list[Span]) -> list[Span]:
    """The parts of free ranges [start, end), each of one node, that are initialised."""
    if not ctx.m[G_DEFERRED_PAGES]:
        return ranges
    parts = []
    for start, end in ranges:
        first = first_deferred_pfn(ctx, ctx.mb.search_pfn_nid(start))
        stop = end if first == NOT_DEFERRED else min(end, first)
        if start < stop:
            parts.append((start, stop))
    return parts


def split_reserved(ctx: BootContext, start: int, end: int) -> tuple[list[Span], list[Span]]:
    """Reserved frames [start, end) as those with a struct page, and those to give one to.

    Whole reserved sections are left out of both: growth initialises them (init_reserved_section).
    """
    if not ctx.m[G_DEFERRED_PAGES]:
        return [(start, end)], []
    ready: list[Span] = []
    late: list[Span] = []
    at = start
    for lo, hi, nid in ctx.mb.mem_pfn_ranges():
        first = first_deferred_pfn(ctx, nid)
        lo, hi = max(lo, start, first), min(hi, end)
        if first == NOT_DEFERRED or lo >= hi:
            continue
        if at < lo:
            ready.append((at, lo))
        late.extend(_mixed_sections(ctx, lo, hi))
        at = hi
    if at < end:
        ready.append((at, end))
    return ready, late


def _mixed_sections(ctx: BootContext, start: int, end: int) -> Iterator[Span]:
    """[start, end) cut at section borders, sections that are reserved as a whole left out."""
    while start < end:
        stop = min((start | (PAGES_PER_SECTION - 1)) + 1, end)
        if not section_reserved(ctx.m, start >> PFN_SECTION_SHIFT):
            yield start, stop
        start = stop


def page_flags(ctx: BootContext, pfn: int) -> int:
    """The flags that a frame of memory starts with: its node and its zone in that node."""
    m, nid = ctx.m, ctx.mb.search_pfn_nid(pfn)
    nd = node_word(m, nid)
    for zid in range(MAX_NR_ZONES):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_START_PFN] <= pfn < m[z + Z_START_PFN] + m[z + Z_SPANNED]:
            return page_links(nid, zid)
    return page_links(nid, MAX_NR_ZONES - 1)


def init_reserved_pages(ctx: BootContext, spans: list[Span]) -> None:
    """init_reserved_page() for the spans' frames, and PageReserved."""
    for start, end in spans:
        init_page_range(ctx.m, start, end, page_flags(ctx, start) | PG_RESERVED, COUNTS_ONE)


def init_cma_pages(ctx: BootContext, pfn: int, count: int) -> None:
    """Struct pages for the sections of a CMA area that nobody initialised, before its release."""
    if ctx.m[G_DEFERRED_PAGES]:
        for at in range(pfn, pfn + count, PAGES_PER_SECTION):
            init_reserved_section(ctx.m, at, page_flags(ctx, at))
        init_reserved_section(ctx.m, pfn + count - 1, page_flags(ctx, pfn + count - 1))


def deferred_init_late(ctx: BootContext) -> None:
    """What page_alloc_init_late() knows of deferred pages: they are managed from now on."""
    m = ctx.m
    if not m[G_DEFERRED_PAGES]:
        return
    for nid in mask_nodes(m[G_NODES_MEMORY]):
        nd, first = node_word(m, nid), first_deferred_pfn(ctx, nid)
        if first == NOT_DEFERRED:
            continue
        pages = 0
        for start, end, _ in ctx.mb.free_mem_ranges(nid):
            lo, hi = max(-(-start >> PAGE_SHIFT), first), end >> PAGE_SHIFT
            pages += max(hi - lo, 0)
        for zid in range(MAX_NR_ZONES):
            z = nd + zid * ZONE_WORDS
            if m[z + Z_START_PFN] <= first < m[z + Z_START_PFN] + m[z + Z_SPANNED]:
                m[z + Z_MANAGED] += pages
        ctx.printk(f"node {nid}: {pages} pages from pfn {first:#x} on are initialised on demand")
    m[G_MEMINIT_DONE] = 1


def zone_is_deferred(m: memoryview, z: int) -> bool:
    """True if the struct pages of a zone are not all initialised."""
    from .layout import PAGE_OFFSET

    if not m[G_DEFERRED_PAGES]:
        return False
    first: int = m[(m[z + Z_PGDAT] - PAGE_OFFSET >> 3) + ND_FIRST_DEFERRED_PFN]
    return first != NOT_DEFERRED and first < m[z + Z_START_PFN] + m[z + Z_SPANNED]
