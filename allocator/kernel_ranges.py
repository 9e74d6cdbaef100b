# SPDX-License-Identifier: GPL-2.0-only
"""The Kernel's ranges of frames and fragments of blocks: isolation, contiguous ranges, CMA, frags.

A part of `Kernel`. Ranges are [start, end) in PFNs. What 4.20 answers with -EBUSY, -ENOMEM or
-EINTR comes back as False or None; a range that 4.20 would not survive raises BadRequest.
"""

from __future__ import annotations

from .deferred_pages import page_uninitialised
from .errors import BadRequest, OutOfMemory
from .gfp import parse_gfp
from .kernel_base import KernelBase
from .kernel_globals import G_CMA_AREA_COUNT
from .layout import CMA_AREAS, CMA_WORDS, PAGE_OFFSET, PAGES_PER_SECTION, SECTION_PAGES, unsigned
from .mm_types import PAGE_SHIFT, ZONEID_PGSHIFT
from .mmzone import (
    MAX_ORDER_NR_PAGES,
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    PAGEBLOCK_NR_PAGES,
)
from .page_frag import NC_BIAS, NC_VA, PAGE_FRAG_CACHE_MAX_SIZE
from .views import Page

RANGE_TYPES = {"Movable": MIGRATE_MOVABLE, "CMA": MIGRATE_CMA}
MAX_CMA_ALIGN = 8
"""CONFIG_CMA_ALIGNMENT: the largest alignment that 4.20's callers ask for, as an order."""


class KernelRanges(KernelBase):
    """Isolation, contiguous allocation, CMA and page fragments."""

    def start_isolate_page_range(
        self, start: int, end: int, migratetype: str = "Movable", cpu: int = 0
    ) -> bool:
        """Isolates the pageblocks of a range; False (-EBUSY) with none left isolated.

        `migratetype`: what a refused range gets back, "Movable" or "CMA". Raises BadRequest unless
        the range is whole pageblocks in one zone.
        """
        mt = self._check_range(start, end, PAGEBLOCK_NR_PAGES, migratetype, cpu)
        return bool(self._call("start_isolate_page_range", cpu, start, end, mt) == 0)

    def undo_isolate_page_range(
        self, start: int, end: int, migratetype: str = "Movable", cpu: int = 0
    ) -> None:
        """Gives the isolated pageblocks of a range type `migratetype` again."""
        mt = self._check_range(start, end, PAGEBLOCK_NR_PAGES, migratetype, cpu)
        self._call("undo_isolate_page_range", cpu, start, end, mt)

    def alloc_contig_range(
        self, start: int, end: int, migratetype: str = "Movable", cpu: int = 0
    ) -> bool:
        """Allocates exactly the frames of a range; False if something in it could not be moved.

        `migratetype` is the type of its pageblocks. Raises BadRequest unless the range, rounded to
        MAX_ORDER blocks, lies in one zone.
        """
        mt = self._check_range(start, end, 1, migratetype, cpu)
        return bool(self._call("alloc_contig_range", cpu, start, end, mt) == 0)

    def free_contig_range(self, start: int, pages: int, cpu: int = 0) -> int:
        """Frees `pages` single pages from `start` upwards; how many had not just one reference."""
        self._check_range(start, start + pages, 1, "Movable", cpu, rounded=False)
        in_use: int = self._call("free_contig_range", cpu, start, pages)
        return in_use

    def cma_alloc(self, area: int, pages: int, align: int = 0, cpu: int = 0) -> Page | None:
        """Allocates contiguous pages, aligned to 2^align, from CMA area number `area`, or None."""
        word = self._cma_area(area, cpu)
        if pages <= 0 or not 0 <= align <= MAX_CMA_ALIGN:
            raise BadRequest(f"cma_alloc: {pages} pages aligned to order {align}")
        pfn = self._call("cma_alloc", cpu, word, pages, align)
        return Page(self.m, pfn) if pfn >= 0 else None

    def cma_release(self, area: int, page: Page | int, pages: int, cpu: int = 0) -> bool:
        """Gives back what cma_alloc() gave; False if the frames are not the area's."""
        word = self._cma_area(area, cpu)
        return bool(self._call("cma_release", cpu, word, self._check_pfn(page), pages))

    def page_frag_cache(self, cpu: int = 0) -> PageFragCache:
        """A fresh cache of page fragments, whose struct lies in a page of its own."""
        return PageFragCache(self, cpu)

    def _check_range(
        self, start: int, end: int, unit: int, migratetype: str, cpu: int, rounded: bool = True
    ) -> int:
        """The migratetype's number; raises BadRequest for a range that makes no sense."""
        self._check_cpu(cpu)
        if migratetype not in RANGE_TYPES:
            raise BadRequest(f"migratetype {migratetype!r}: one of {', '.join(RANGE_TYPES)}")
        if not 0 <= start < end or start % unit or end % unit:
            raise BadRequest(f"frames {start:#x} to {end:#x} are no range of {unit}-page blocks")
        step = MAX_ORDER_NR_PAGES if rounded else 1
        first, last = start // step * step, -(-end // step) * step
        zones = set()
        for pfn in {first, *range(-(-first // 512) * 512, last, PAGEBLOCK_NR_PAGES), last - 1}:
            p = self.m[SECTION_PAGES + (self._check_pfn(pfn) // PAGES_PER_SECTION << 2)]
            if page_uninitialised(self.m, pfn):
                raise BadRequest(f"frame {pfn:#x} has no initialised struct page yet")
            zones.add(unsigned(self.m[p + (pfn << 3)]) >> ZONEID_PGSHIFT)
        if len(zones) != 1:
            raise BadRequest(f"frames {first:#x} to {last:#x} are of more than one zone")
        return RANGE_TYPES[migratetype]

    def _cma_area(self, area: int, cpu: int) -> int:
        self._check_cpu(cpu)
        if not 0 <= area < self.m[G_CMA_AREA_COUNT]:
            raise BadRequest(f"there is no CMA area {area} (of {self.m[G_CMA_AREA_COUNT]})")
        return CMA_AREAS + area * CMA_WORDS


class PageFragCache:
    """A page_frag_cache: pieces of a block, in guest RAM. `word`: the struct's word index."""

    def __init__(self, kernel: KernelRanges, cpu: int) -> None:
        kernel._check_cpu(cpu)
        self.kernel = kernel
        flags = parse_gfp("GFP_KERNEL|__GFP_ZERO")
        nid = kernel._cpu_node(cpu)
        pfn = kernel._call("alloc_pages_nodemask", cpu, flags, 0, nid, 0)
        if pfn < 0:
            raise OutOfMemory("no page for a page_frag_cache")
        self.word = pfn << PAGE_SHIFT - 3

    def alloc(self, size: int, gfp: str | int = "GFP_ATOMIC", cpu: int = 0) -> int | None:
        """page_frag_alloc(): direct map address (unsigned) of `size` bytes, or None."""
        flags = self.kernel._check_gfp(gfp)
        self.kernel._check_cpu(cpu)
        self._check_open()
        if not 0 < size <= PAGE_FRAG_CACHE_MAX_SIZE:
            raise BadRequest(f"a fragment of {size} bytes, not 1 to {PAGE_FRAG_CACHE_MAX_SIZE}")
        return unsigned(self.kernel._call("page_frag_alloc", cpu, self.word, size, flags)) or None

    def free(self, address: int, cpu: int = 0) -> bool:
        """page_frag_free() of a piece; True if it was the last of its block. Raises BadPage."""
        kernel = self.kernel
        address = kernel._check_address(address)
        kernel._check_cpu(cpu)
        said = kernel._call("page_frag_free", cpu, address)
        if said < 0:
            kernel._raise_bad_page(address - PAGE_OFFSET >> PAGE_SHIFT, 0)
        return bool(said == 0)

    def close(self, cpu: int = 0) -> None:
        """Lets go of the block at hand (its pieces live on) and of the cache itself."""
        kernel = self.kernel
        kernel._check_cpu(cpu)
        self._check_open()
        va = kernel.m[self.word + NC_VA]
        if va:
            pfn = va - PAGE_OFFSET >> PAGE_SHIFT
            kernel._call("page_frag_cache_drain", cpu, pfn, kernel.m[self.word + NC_BIAS])
        kernel._call("free_pages", cpu, self.word >> PAGE_SHIFT - 3, 0)
        self.word = 0

    def _check_open(self) -> None:
        if not self.word:
            raise BadRequest("the page_frag_cache is closed")
