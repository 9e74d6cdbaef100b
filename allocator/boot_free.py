# SPDX-License-Identifier: GPL-2.0-only
"""Handing memory from memblock to the buddy lists (mm/memblock.c, memblock_free_all).

The kernel frees every unreserved range in address order, cut into the largest aligned blocks, each
through __free_pages. What the lists look like afterwards follows from that order: a block goes to
the head of its list, or to the tail if its next larger buddy is free already, and merges with a
free buddy that an adjoining range left behind.

Here the blocks of the largest order, which neither merge nor look at neighbours, are laid down as
arrays; only the ragged ends of ranges - a few dozen blocks each - are played through one by one, in
`_Lists`. Then lists, struct pages and counters are written with NumPy. The result is what freeing
one by one gives, links, poison and page->index of single pages included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .boot_context import BootContext, all_zones, node_word
from .deferred_init import early_free_ranges
from .kernel_globals import G_MAX_LOW_PFN, G_TOTALRAM
from .layout import (
    CPU_BLOCKS,
    CPU_EVENTS,
    PAGE_OFFSET,
    PAGE_POISON,
    SECTION_PAGES,
    SECTION_USEMAP,
    VMEMMAP_START,
    va_of_word,
)
from .memblock import MEMBLOCK_HOTPLUG
from .memmap_init import page_rows, reserve_bootmem_region, run_spans, section_spans
from .mm_types import (
    COUNTS_BUDDY,
    COUNTS_FREE,
    LIST_POISON1,
    LIST_POISON2,
    MAPCOUNT_MASK,
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_NEXT,
    P_PREV,
    P_PRIVATE,
    PAGE_SHIFT,
    ZONEID_MASK,
    ZONEID_PGSHIFT,
)
from .mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_ORDER,
    MAX_ORDER_NR_PAGES,
    MIGRATE_TYPES,
    Z_FREE_AREA,
    Z_FREE_PAGES,
    Z_MANAGED,
    ZONE_WORDS,
)
from .pageblock import get_pageblock_migratetype
from .vm_events import PGFREE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pfns = npt.NDArray[np.int64]

TOP = MAX_ORDER - 1
Key = tuple[int, int, int]
"""Zone id (node << 2 | zone), order, migratetype: names one free list."""


class _Lists:
    """The free lists while blocks are played through. Lists below TOP hold pfns, head first; TOP
    holds runs of pfns in the order of insertion."""

    def __init__(self, ctx: BootContext) -> None:
        self.m = ctx.m
        self.small: dict[Key, list[int]] = {}
        self.top: dict[Key, list[Pfns]] = {}
        self.free: dict[int, tuple[int, int]] = {}
        self.absorbed: list[int] = []

    def zone_id(self, pfn: int) -> int:
        """Node and zone bits in the flags of `pfn`'s struct page."""
        flags: int = self.m[self.m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3) + P_FLAGS]
        return flags >> ZONEID_PGSHIFT & ZONEID_MASK

    def is_buddy(self, page: int, buddy: int, order: int) -> bool:
        """page_is_buddy: `buddy` heads a free block of `order` in the zone of frame `page`."""
        found = self.free.get(buddy)
        return (
            found is not None and found[0] == order and (self.zone_id(page) == self.zone_id(buddy))
        )

    def free_one(self, pfn: int, order: int) -> None:
        """__free_one_page on these lists."""
        import numpy as np

        zone_id = self.zone_id(pfn)
        mt = get_pageblock_migratetype(self.m, pfn)
        while order < TOP and self.is_buddy(pfn, pfn ^ (1 << order), order):
            buddy = pfn ^ (1 << order)
            _, buddy_mt = self.free.pop(buddy)
            self.small[zone_id, order, buddy_mt].remove(buddy)
            self.absorbed.append(buddy)
            pfn &= buddy
            order += 1
        if order == TOP:
            self.top.setdefault((zone_id, order, mt), []).append(np.array([pfn], dtype=np.int64))
            return
        self.free[pfn] = (order, mt)
        queue = self.small.setdefault((zone_id, order, mt), [])
        higher = pfn & ~(1 << order)
        if order < TOP - 1 and self.is_buddy(higher, higher ^ (2 << order), order + 1):
            queue.append(pfn)
        else:
            queue.insert(0, pfn)

    def free_top(self, q: npt.NDArray[np.int64], start: int, end: int) -> None:
        """Frees the TOP blocks of [start, end), whole sections' worth at once."""
        import numpy as np

        for lo, hi in section_spans(self.m, start, end):
            base = self.m[SECTION_PAGES + (lo >> 15 << 2)]
            pfns = np.arange(lo, hi, MAX_ORDER_NR_PAGES, dtype=np.int64)
            ids = q[base + (pfns << 3) + P_FLAGS] >> ZONEID_PGSHIFT & ZONEID_MASK
            usemap = (self.m[SECTION_USEMAP + (lo >> 15 << 2)] - PAGE_OFFSET) >> 3
            mts = q[usemap + (pfns >> 13 & 3)] >> (61 - (pfns >> 9 & 15) * 4) & 7
            keys = ids * MIGRATE_TYPES + mts
            for key in sorted(set(keys.tolist())):  # np.unique would load all of numpy.ma
                zone_id, mt = divmod(key, MIGRATE_TYPES)
                self.top.setdefault((zone_id, TOP, mt), []).append(pfns[keys == key])

    def result(self) -> dict[Key, Pfns]:
        """All lists, head first."""
        import numpy as np

        lists = {key: np.array(pfns, dtype=np.int64) for key, pfns in self.small.items() if pfns}
        for key, runs in self.top.items():
            lists[key] = np.concatenate(runs)[::-1]
        return lists


def free_ranges(ctx: BootContext) -> list[tuple[int, int]]:
    """Frames [start, end) that go to the buddy lists, in the order in which they do."""
    limit = ctx.m[G_MAX_LOW_PFN]
    ranges = []
    for start, end, _ in ctx.mb.free_mem_ranges():
        lo, hi = -(-start >> PAGE_SHIFT), min(end >> PAGE_SHIFT, limit)
        if lo < hi:
            ranges.append((lo, hi))
    return ranges


def free_pages_memory(
    ctx: BootContext, lists: _Lists, start: int, end: int, singles: list[int]
) -> None:
    """Plays one range through `lists` (__free_pages_memory); notes the order-0 blocks."""
    while start < end:
        order = min(TOP, (start & -start).bit_length() - 1 if start else TOP)
        while start + (1 << order) > end:
            order -= 1
        if order == TOP:
            stop = end & ~(MAX_ORDER_NR_PAGES - 1)
            lists.free_top(ctx.q, start, stop)
            start = stop
            continue
        if order == 0:
            singles.append(start)
        lists.free_one(start, order)
        start += 1 << order


def memblock_free_all(ctx: BootContext) -> int:
    """Marks reserved frames and frees all others; pages freed. The memmap must be initialised."""
    m, mb = ctx.m, ctx.mb
    for z in all_zones(m):
        m[z + Z_MANAGED] = 0
    mb.setclr_flag(0, 1 << 62, MEMBLOCK_HOTPLUG, False)
    for base, end, _, _ in mb.reserved.regions():
        reserve_bootmem_region(ctx, base, end)
    ranges = free_ranges(ctx)
    early = early_free_ranges(ctx, ranges)
    good = _take_pages(ctx, early)
    lists = _Lists(ctx)
    singles: list[int] = []
    for start, end in good:
        free_pages_memory(ctx, lists, start, end, singles)
    if ctx.params.page_poison:
        for start, end in good:
            ctx.memory.u8[start << PAGE_SHIFT : end << PAGE_SHIFT] = PAGE_POISON
    _write_pages(ctx, singles, lists.absorbed)
    _write_lists(ctx, lists.result())
    total = sum(end - start for start, end in ranges)
    m[G_TOTALRAM] += total
    m[CPU_BLOCKS + CPU_EVENTS + PGFREE] += sum(m[z + Z_FREE_PAGES] for z in all_zones(m))
    ctx.printk.elapse(4 * sum(end - start for start, end in early))
    return total


def _take_pages(ctx: BootContext, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Gives all frames of `ranges` the state of free pages and counts them in their zones; the
    parts that can be freed.

    What cannot is memory of a node that never went online (below 4 MiB and without a CPU): no zone
    has initialised it. Such frames read as page 0 does, node 0 and zone DMA, with a mapcount of 0;
    the kernel adds them to that zone's managed pages, then finds the bad state and keeps them.
    """
    import numpy as np

    m = ctx.m
    found: dict[tuple[int, int], tuple[list[tuple[int, int]], dict[int, int]]] = {}

    def work(span: tuple[int, int]) -> None:
        rows = page_rows(ctx, *span)
        ready = (rows[:, P_COUNTS] & MAPCOUNT_MASK) == MAPCOUNT_MASK
        ids = rows[:, P_FLAGS] >> ZONEID_PGSHIFT & ZONEID_MASK
        parts = [span]
        if not ready.all():
            ids = ids[ready]
            edges = np.flatnonzero(np.diff(ready, prepend=False, append=False)) + span[0]
            parts = [(a, b) for a, b in edges.reshape(-1, 2).tolist()]
        lowest = int(ids.min()) if len(ids) else 0
        if len(ids) and lowest == int(ids.max()):
            counts = {lowest: len(ids)}
        else:
            counts = {i: n for i, n in enumerate(np.bincount(ids).tolist()) if n}
        for lo, hi in parts:
            page_rows(ctx, lo, hi)[:, P_COUNTS] = COUNTS_FREE
        found[span] = (parts, counts)

    good: list[tuple[int, int]] = []
    spans = [[*section_spans(m, start, end)] for start, end in ranges]
    run_spans(work, [span for several in spans for span in several])
    for several in spans:
        first = len(good)
        for span in several:
            parts, counts = found[span]
            for zone_id, count in counts.items():
                z = node_word(m, zone_id >> 2) + (zone_id & 3) * ZONE_WORDS
                m[z + Z_MANAGED] += count
                m[z + Z_FREE_PAGES] += count
            bad = span[1] - span[0] - sum(counts.values())
            if bad:
                m[node_word(m, 0) + Z_MANAGED] += bad
                where = f"{span[0]:05x}-{span[1]:05x}"
                ctx.printk.err(f"BUG: Bad page state: {bad} pages of no node in pfn {where}")
            for lo, hi in parts:
                if len(good) > first and good[-1][1] == lo:
                    good[-1] = (good[-1][0], hi)
                else:
                    good.append((lo, hi))
    return good


def _write_pages(ctx: BootContext, singles: list[int], absorbed: list[int]) -> None:
    """Traces that freeing leaves in pages that head no block."""
    m = ctx.m
    for pfn in singles:
        # page->index keeps the migratetype from the page's passage through the pcp list
        w = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        m[w + P_INDEX] = get_pageblock_migratetype(m, pfn)
        m[w + P_NEXT], m[w + P_PREV] = LIST_POISON1, LIST_POISON2
    for pfn in absorbed:
        w = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        m[w + P_NEXT], m[w + P_PREV] = LIST_POISON1, LIST_POISON2


def _write_lists(ctx: BootContext, lists: dict[Key, Pfns]) -> None:
    """Links the blocks into their zones' free areas."""
    import numpy as np

    m, q = ctx.m, ctx.q
    bases = q[SECTION_PAGES : SECTION_PAGES + (int(m[G_MAX_LOW_PFN]) >> 15 << 2) + 4 : 4]
    for (zone_id, order, mt), pfns in lists.items():
        z = node_word(m, zone_id >> 2) + (zone_id & 3) * ZONE_WORDS
        area = z + Z_FREE_AREA + order * FA_WORDS
        head = area + 2 * mt
        words = bases[pfns >> 15] + (pfns << 3)
        lru = (pfns << 6) + (VMEMMAP_START + 8)
        around = np.concatenate(([va_of_word(head)], lru, [va_of_word(head)]))
        q[words + P_NEXT] = around[2:]
        q[words + P_PREV] = around[:-2]
        q[words + P_PRIVATE] = order
        q[words + P_COUNTS] = COUNTS_BUDDY
        m[head], m[head + 1] = int(lru[0]), int(lru[-1])
        m[area + FA_NR_FREE] += len(pfns)
