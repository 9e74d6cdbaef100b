# SPDX-License-Identifier: GPL-2.0-only
"""CMA: areas of movable memory that a driver can have back in one piece (mm/cma.c, kernel/dma).

An area is reserved in memblock while booting - by `cma=` for the default area, or by name through
`cma_declare_contiguous` - and released to the buddy lists late, as pageblocks of type CMA, which
only movable requests may use. An area keeps to whole blocks of the largest order and to one zone.
"""

from __future__ import annotations

from dataclasses import dataclass

from machine import UsageError

from .boot_context import BootContext
from .kernel_globals import G_TOTALCMA, G_TOTALRAM
from .layout import SECTION_PAGES
from .memblock import Memblock
from .mm_types import (
    COUNTS_FREE,
    COUNTS_ONE,
    P_COUNTS,
    P_FLAGS,
    PAGE_SHIFT,
    PG_RESERVED,
    ZONEID_MASK,
    ZONEID_PGSHIFT,
)
from .mmzone import (
    MAX_ORDER,
    MIGRATE_CMA,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    Z_MANAGED,
)
from .pageblock import set_pageblock_migratetype
from .pcp import page_zone
from .printk import Printk
from .sparse import pfn_valid

MAX_CMA_AREAS = 8
CMA_ALIGNMENT = 1 << (max(MAX_ORDER - 1, PAGEBLOCK_ORDER) + PAGE_SHIFT)


@dataclass
class CmaArea:
    """A reserved area: first frame, number of pages (0 once it failed to activate)."""

    name: str
    base_pfn: int
    count: int


class CmaAreas:
    """The areas of one kernel, in the order of their declaration."""

    def __init__(self, mb: Memblock, printk: Printk) -> None:
        self.mb = mb
        self.m = mb.m
        self.printk = printk
        self.areas: list[CmaArea] = []

    def init_reserved_mem(self, base: int, size: int, name: str) -> CmaArea | None:
        """An area of already reserved bytes [base, base+size); None if it cannot be one."""
        if len(self.areas) == MAX_CMA_AREAS:
            self.printk.err("cma: Not enough slots for CMA reserved regions!")
            return None
        if not size or not self.mb.is_region_reserved(base, size):
            return None
        if base % CMA_ALIGNMENT or size % CMA_ALIGNMENT:
            return None
        area = CmaArea(name, base >> PAGE_SHIFT, size >> PAGE_SHIFT)
        self.areas.append(area)
        self.m[G_TOTALCMA] += area.count
        return area

    def declare_contiguous(
        self, base: int, size: int, limit: int = 0, fixed: bool = False, name: str = "reserved"
    ) -> CmaArea | None:
        """Reserves `size` bytes (rounded up to CMA_ALIGNMENT): exactly at `base` if `fixed`, else
        as high as possible in [base, limit) (0: no limit). None, and a line in the log, on failure.

        Raises UsageError for negative numbers."""
        if base < 0 or size < 0 or limit < 0:
            raise UsageError(f"cma area of {size} bytes at {base}: negative")
        if not size:
            return None
        end_of_dram = self.mb.end_of_dram()
        base = -(-base // CMA_ALIGNMENT) * CMA_ALIGNMENT
        size = -(-size // CMA_ALIGNMENT) * CMA_ALIGNMENT
        limit = min(limit // CMA_ALIGNMENT * CMA_ALIGNMENT or end_of_dram, end_of_dram)
        area = None
        if len(self.areas) == MAX_CMA_AREAS:
            self.printk.err("cma: Not enough slots for CMA reserved regions!")
            return None
        if fixed and base:
            if not self.mb.is_region_reserved(base, size):
                self.mb.reserve(base, size)
                area = self.init_reserved_mem(base, size, name)
        else:
            base = self.mb.alloc_range(size, CMA_ALIGNMENT, base, limit)
            if base:
                area = self.init_reserved_mem(base, size, name)
        if area is None:
            self.printk.err(f"cma: Failed to reserve {size >> 20} MiB")
        else:
            self.printk(f"cma: Reserved {size >> 20} MiB at {base:#018x}")
        return area


def dma_contiguous_reserve(ctx: BootContext, limit: int) -> CmaAreas:
    """The default area that cma= asks for, below physical `limit`."""
    areas = CmaAreas(ctx.mb, ctx.printk)
    params = ctx.params
    if params.cma_size:
        fixed = params.cma_base + params.cma_size == params.cma_limit
        top = min(params.cma_limit or limit, limit)
        areas.declare_contiguous(params.cma_base, params.cma_size, top, fixed)
    return areas


def _page_word(m: memoryview, pfn: int) -> int:
    word: int = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    return word


def init_cma_reserved_pageblock(m: memoryview, cpu: int, pfn: int) -> None:
    """Frees the reserved pageblock at `pfn` as type CMA."""
    from .page_alloc import free_pages

    for p in range(pfn, pfn + PAGEBLOCK_NR_PAGES):
        w = _page_word(m, p)
        m[w + P_FLAGS] &= ~PG_RESERVED
        m[w + P_COUNTS] = COUNTS_FREE
    set_pageblock_migratetype(m, pfn, MIGRATE_CMA)
    m[_page_word(m, pfn) + P_COUNTS] = COUNTS_ONE
    free_pages(m, cpu, pfn, PAGEBLOCK_ORDER)
    z = page_zone(m, _page_word(m, pfn))
    m[z + Z_MANAGED] += PAGEBLOCK_NR_PAGES
    m[G_TOTALRAM] += PAGEBLOCK_NR_PAGES


def cma_activate_area(m: memoryview, cpu: int, area: CmaArea, printk: Printk | None = None) -> bool:
    """Releases an area block by block; stops, False, at a frame of another zone."""
    zone_id = -1
    for block in range(area.base_pfn, area.base_pfn + area.count, PAGEBLOCK_NR_PAGES):
        for pfn in range(block, block + PAGEBLOCK_NR_PAGES):
            if pfn_valid(m, pfn):
                found = m[_page_word(m, pfn) + P_FLAGS] >> ZONEID_PGSHIFT & ZONEID_MASK
                zone_id = found if zone_id < 0 else zone_id
                if found == zone_id:
                    continue
            if printk:
                printk.err(f"cma: CMA area {area.name} could not be activated")
            area.count = 0
            return False
        init_cma_reserved_pageblock(m, cpu, block)
    return True


def cma_init_reserved_areas(
    m: memoryview, cpu: int, areas: list[CmaArea], printk: Printk | None = None
) -> bool:
    """Releases all areas, up to the first that fails (core_initcall)."""
    return all(cma_activate_area(m, cpu, area, printk) for area in areas)
