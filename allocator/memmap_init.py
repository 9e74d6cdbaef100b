# SPDX-License-Identifier: GPL-2.0-only
"""Filling in struct pages in bulk: memmap_init_zone, reserve_bootmem_region (mm/page_alloc.c).

Each zone initialises the frames it spans, leaving out those that memblock gives to another node,
and then - a quirk of 4.20 - everything from its end to the end of that 128 MiB section, whoever
owns it. A node that lies lower in memory but is initialised later thus takes over the first pages
of its neighbour, for good. Pageblocks become MOVABLE when their first frame is visited; the block
of frame 0, which is never visited, stays UNMOVABLE.

Work goes by section with NumPy over guest RAM: a ready section of struct pages is copied and the
self-pointing list links are added. Large machines use a few threads; they write disjoint memory, so
the result does not depend on them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from .boot_context import BootContext, node_word
from .deferred_init import defer_init, init_reserved_pages, split_reserved
from .kernel_globals import G_HIGHEST_MEMMAP_PFN
from .layout import (
    PAGE_OFFSET,
    PAGES_PER_SECTION,
    PFN_SECTION_SHIFT,
    SECTION_PAGES,
    SECTION_USEMAP,
    VMEMMAP_START,
)
from .mm_types import (
    COUNTS_ONE,
    P_COUNTS,
    P_FLAGS,
    P_NEXT,
    P_PREV,
    PAGE_SHIFT,
    PG_RESERVED,
    STRUCT_PAGE_WORDS,
    page_links,
)
from .mmzone import MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER
from .pageblock import set_pageblock_migratetype
from .sparse import SECTION_WORDS, pfn_valid

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Words = npt.NDArray[np.int64]

THREAD_PAGES = 1 << 20
"""Below this many struct pages starting threads does not pay."""
Span = tuple[int, int]


def section_spans(m: memoryview, start: int, end: int) -> Iterator[Span]:
    """[start, end) cut at section borders, sections without struct pages left out."""
    while start < end:
        stop = min((start | (PAGES_PER_SECTION - 1)) + 1, end)
        if pfn_valid(m, start):
            yield start, stop
        start = stop


def page_rows(ctx: BootContext, start: int, end: int) -> Words:
    """The struct pages of frames [start, end) of one section, shape (n, 8) words, writable."""
    base: int = ctx.m[SECTION_PAGES + (start >> PFN_SECTION_SHIFT) * SECTION_WORDS]
    first = base + start * STRUCT_PAGE_WORDS
    return ctx.q[first : first + (end - start) * STRUCT_PAGE_WORDS].reshape(-1, STRUCT_PAGE_WORDS)


def run_spans(work: Callable[[Span], None], spans: Iterable[Span]) -> None:
    """Calls `work` for every span, in a few threads when there is much to do."""
    todo = list(spans)
    workers = min(os.cpu_count() or 1, 4)
    if workers == 1 or sum(end - start for start, end in todo) < THREAD_PAGES:
        for span in todo:
            work(span)
        return

    def run(part: list[Span]) -> None:
        for span in part:
            work(span)

    threads = [threading.Thread(target=run, args=(todo[i::workers],)) for i in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def init_pages(ctx: BootContext, spans: Iterable[Span], zid: int, nid: int) -> None:
    """__init_single_page for all frames of `spans` (each within one section): zone and node in the
    flags, one reference, not mapped, lru pointing to itself, all else zero."""
    import numpy as np

    todo = list(spans)
    longest = max((end - start for start, end in todo), default=0)
    template = np.zeros((longest, STRUCT_PAGE_WORDS), dtype=np.int64)
    template[:, P_FLAGS] = page_links(nid, zid)
    template[:, P_COUNTS] = COUNTS_ONE
    links = np.arange(longest, dtype=np.int64) * 64 + 8

    def work(span: Span) -> None:
        start, end = span
        n = end - start
        rows = page_rows(ctx, start, end)
        rows[:] = template[:n]
        rows[:, P_NEXT] = links[:n] + (VMEMMAP_START + (start << 6))
        rows[:, P_PREV] = rows[:, P_NEXT]

    run_spans(work, todo)


def set_blocks_movable(ctx: BootContext, start: int, end: int) -> None:
    """MOVABLE for every pageblock whose first frame lies in [start, end), frames of one section."""
    m = ctx.m
    pfn = -(-start // PAGEBLOCK_NR_PAGES) * PAGEBLOCK_NR_PAGES
    while pfn < end:
        if not pfn & (16 * PAGEBLOCK_NR_PAGES - 1) and pfn + 16 * PAGEBLOCK_NR_PAGES <= end:
            usemap = (m[SECTION_USEMAP + (pfn >> PFN_SECTION_SHIFT) * SECTION_WORDS]) - PAGE_OFFSET
            m[(usemap >> 3) + (pfn >> PAGEBLOCK_ORDER + 4 & 3)] = _SIXTEEN_MOVABLE
            pfn += 16 * PAGEBLOCK_NR_PAGES
        else:
            set_pageblock_migratetype(m, pfn, MIGRATE_MOVABLE)
            pfn += PAGEBLOCK_NR_PAGES


_SIXTEEN_MOVABLE = int("2" * 16, 16)
"""A usemap word of sixteen MOVABLE blocks: type 1 above a clear skip bit, sixteen times."""


def memmap_init_zone(ctx: BootContext, size: int, nid: int, zid: int, start_pfn: int) -> None:
    """Initialises the struct pages of a zone that spans `size` frames from `start_pfn`."""
    m = ctx.m
    end_pfn = start_pfn + size
    m[G_HIGHEST_MEMMAP_PFN] = max(m[G_HIGHEST_MEMMAP_PFN], end_pfn - 1)
    spans: list[Span] = []
    at = start_pfn
    for lo, hi, region_nid in [*ctx.mb.mem_pfn_ranges(), (end_pfn, end_pfn, -1)]:
        if region_nid != nid and hi > at:
            stop = min(lo, end_pfn)
            if at < stop:
                spans.extend(section_spans(m, at, stop))
            at = min(max(hi, at), end_pfn)
    if at < end_pfn:
        spans.extend(section_spans(m, at, end_pfn))
    whole = len(spans)
    spans = defer_init(ctx, node_word(m, nid), end_pfn, spans)
    for lo, hi in spans:
        set_blocks_movable(ctx, lo, hi)
    tail_end = -(-end_pfn // PAGES_PER_SECTION) * PAGES_PER_SECTION
    init_pages(ctx, spans, zid, nid)
    init_pages(ctx, section_spans(m, end_pfn, tail_end), zid, nid)
    cut = len(spans) < whole
    ctx.printk.elapse(4 * (sum(hi - lo for lo, hi in spans) if cut else size))


def zero_resv_unavail(ctx: BootContext, max_pfn: int) -> None:
    """Clears the struct pages of frames that are not memory (zero_resv_unavail), by pageblock.

    They may be looked at (page 0's are), and where no zone spans them nobody else writes them."""
    spans: list[Span] = []
    at = 0
    for start, end, _, _ in ctx.mb.memory.regions():
        if at < start:
            spans.append((at >> PAGE_SHIFT, -(-start >> PAGE_SHIFT)))
        at = end
    spans.append((at >> PAGE_SHIFT, max_pfn))
    count = 0
    for start, end in spans:
        for lo, hi in section_spans(ctx.m, start, end):
            page_rows(ctx, lo, hi)[:] = 0
            count += hi - lo
    if count:
        ctx.printk(f"Zeroed struct page in unavailable ranges: {count} pages")


def reserve_bootmem_region(ctx: BootContext, start: int, end: int) -> None:
    """PageReserved for every frame that physical bytes [start, end) touch."""
    import numpy as np

    first, last = start >> PAGE_SHIFT, (end + (1 << PAGE_SHIFT) - 1) >> PAGE_SHIFT
    ready, late = split_reserved(ctx, first, last)
    init_reserved_pages(ctx, late)
    for lo, hi in (span for part in ready for span in section_spans(ctx.m, *part)):
        rows = page_rows(ctx, lo, hi)
        rows[:, P_NEXT] = np.arange(lo, hi, dtype=np.int64) * 64 + (VMEMMAP_START + 8)
        rows[:, P_PREV] = rows[:, P_NEXT]
        rows[:, P_FLAGS] |= PG_RESERVED
