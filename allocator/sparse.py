# SPDX-License-Identifier: GPL-2.0-only
"""Sections and the memory map: where every frame's struct page lives (mm/sparse.c).

Physical memory is divided into sections of 128 MiB. A section that holds any memory is *present*
and gets 2 MiB of struct pages, taken from its own node from the top down, and four words of
pageblock bits. mem_section[] records both; vmemmap makes the struct pages of all sections one array
in virtual memory, which is why every 2 MiB piece is remembered for the page tables.
"""

from __future__ import annotations

from .boot_context import BootContext
from .layout import (
    MEM_SECTION,
    NR_MEM_SECTIONS,
    PAGES_PER_SECTION,
    PFN_SECTION_SHIFT,
    SECTION_HAS_MEM_MAP,
    SECTION_IS_ONLINE,
    SECTION_MARKED_PRESENT,
    SECTION_MEM_MAP,
    SECTION_PAGES,
    SECTION_USEMAP,
    USEMAP_WORDS,
    VMEMMAP_START,
    page_va,
    va_of_word,
)
from .memblock import SMP_CACHE_BYTES
from .mm_types import PAGE_SIZE, STRUCT_PAGE_SIZE

PMD_SIZE = 2 << 20
SECTION_MAP_SIZE = PAGES_PER_SECTION * STRUCT_PAGE_SIZE
MAX_DMA_ADDRESS = 16 << 20
SECTION_WORDS = MEM_SECTION.words


def memory_present(ctx: BootContext) -> dict[int, int]:
    """Section number -> node of its first memory region, ascending (memory_present)."""
    nodes: dict[int, int] = {}
    for start, end, nid in ctx.mb.mem_pfn_ranges():
        for section in range(
            start >> PFN_SECTION_SHIFT,
            min((end - 1 >> PFN_SECTION_SHIFT) + 1, NR_MEM_SECTIONS),
        ):
            nodes.setdefault(section, nid)
    return nodes


def sparse_init(ctx: BootContext) -> None:
    """Allocates usemaps and struct pages for all present sections, node by node in address order,
    and fills mem_section[]. Raises BringUpError when memory does not suffice."""
    nodes = memory_present(ctx)
    sections = sorted(nodes)
    first = 0
    for i in range(1, len(sections) + 1):
        if i == len(sections) or nodes[sections[i]] != nodes[sections[first]]:
            _sparse_init_nid(ctx, nodes[sections[first]], sections[first:i])
            first = i


def _sparse_init_nid(ctx: BootContext, nid: int, sections: list[int]) -> None:
    """One run of sections of one node (sparse_init_nid)."""
    usemap = ctx.alloc(USEMAP_WORDS * 8 * len(sections), SMP_CACHE_BYTES, nid)
    size = len(sections) * SECTION_MAP_SIZE
    # Raw memory, as the kernel's: memmap_init writes what it uses, and clearing what is not used
    # would cost the host its pages. Only whole 2 MiB units of the buffer serve; the cut-off one is
    # allocated by itself and what is left of the buffer goes back (sparse_buffer_fini).
    buffer = ctx.allocator.alloc(size, PAGE_SIZE, nid, MAX_DMA_ADDRESS)
    at, end = buffer, buffer + size
    for index, section in enumerate(sections):
        phys = -(-at // PMD_SIZE) * PMD_SIZE
        if phys + SECTION_MAP_SIZE <= end:
            at = phys + SECTION_MAP_SIZE
        else:
            phys = ctx.allocator.alloc(SECTION_MAP_SIZE, PMD_SIZE, nid, MAX_DMA_ADDRESS)
        _init_one_section(ctx, section, phys, usemap + index * USEMAP_WORDS * 8)
    if ctx.allocator is ctx.mb and at < end:
        ctx.mb.free(at, end - at)


def _init_one_section(ctx: BootContext, section: int, phys: int, usemap: int) -> None:
    """mem_section[section] for struct pages at `phys` and pageblock bits at `usemap` (bytes)."""
    m, w = ctx.m, section * SECTION_WORDS
    pfn = section << PFN_SECTION_SHIFT
    m[SECTION_MEM_MAP + w] = (
        VMEMMAP_START | SECTION_MARKED_PRESENT | SECTION_HAS_MEM_MAP | SECTION_IS_ONLINE
    )
    m[SECTION_USEMAP + w] = va_of_word(usemap >> 3)
    m[SECTION_PAGES + w] = (phys >> 3) - (pfn << 3)
    ctx.map_vmemmap.append((page_va(pfn), phys))


def pfn_valid(m: memoryview, pfn: int) -> bool:
    """True if `pfn` has a struct page: its section is present."""
    return bool(m[SECTION_MEM_MAP + (pfn >> PFN_SECTION_SHIFT) * SECTION_WORDS])
