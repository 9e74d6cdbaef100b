# SPDX-License-Identifier: GPL-2.0-only
"""Callers' conveniences: splitting a block, exact sizes, addresses instead of pages (page_alloc.c).

`alloc_pages_exact` allocates the next power of two, splits the block into single pages and frees
those beyond the wanted size, singly and upwards, as 4.20 does. `get_free_pages` returns the direct
map address of a block that is never highmem.

All hot. PFNs in and out, -1 for failure, sizes in bytes.
"""

from __future__ import annotations

from .gfp import GFP_COMP_BIT, GFP_HIGHMEM_BIT, GFP_ZERO_BIT
from .kernel_globals import G_STATIC_KEYS, KEY_PAGE_OWNER
from .layout import PAGE_OFFSET, SECTION_PAGES
from .mempolicy import alloc_pages_current
from .mm_types import MAPCOUNT_MASK, P_COUNTS, P_NEXT, PAGE_SHIFT, PAGE_SIZE, PG_HEAD, REF_ONE
from .page_alloc import alloc_pages_nodemask, free_pages
from .page_owner import split_page_owner

GET_ORDER_OF_ZERO = 64 - PAGE_SHIFT


def get_order(size: int) -> int:
    """The order of the smallest block that holds `size` bytes (get_order). Hot."""
    if size <= 0:
        return GET_ORDER_OF_ZERO
    order = 0
    pages = (size - 1) >> PAGE_SHIFT
    while pages:
        order += 1
        pages >>= 1
    return order


def split_page(m: memoryview, pfn: int, order: int) -> int:
    """Makes a block of 2^order allocated pages into so many pages of order 0. Hot.

    Returns 0, or -1 with nothing done for what 4.20 stops with VM_BUG_ON_PAGE: a compound page, or
    a page without a reference.
    """
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if m[p] & PG_HEAD or m[p + P_NEXT] & 1 or m[p + P_COUNTS] < REF_ONE:
        return -1
    for w in range(p + 8, p + (8 << order), 8):
        m[w + P_COUNTS] = (m[w + P_COUNTS] & MAPCOUNT_MASK) | REF_ONE
    if m[G_STATIC_KEYS] & KEY_PAGE_OWNER:
        split_page_owner(m, pfn, order)
    return 0


def make_alloc_exact(m: memoryview, cpu: int, pfn: int, order: int, size: int) -> int:
    """Splits the block at `pfn` and frees its pages beyond `size` bytes; `pfn`. Hot."""
    if pfn >= 0:
        split_page(m, pfn, order)
        for i in range(pfn + ((size + PAGE_SIZE - 1) >> PAGE_SHIFT), pfn + (1 << order)):
            free_pages(m, cpu, i, 0)
    return pfn


def alloc_pages_exact(m: memoryview, cpu: int, size: int, gfp: int) -> int:
    """Pages for exactly `size` bytes where the task's policy says; first PFN or -1. Hot.

    __GFP_COMP makes no sense here and is dropped, where 4.20 would take apart a compound page.
    """
    order = get_order(size)
    pfn = alloc_pages_current(m, cpu, gfp & ~(GFP_HIGHMEM_BIT | GFP_COMP_BIT), order)
    return make_alloc_exact(m, cpu, pfn, order, size)


def alloc_pages_exact_nid(m: memoryview, cpu: int, nid: int, size: int, gfp: int) -> int:
    """alloc_pages_exact() with a preferred node instead of the task's policy. Hot."""
    order = get_order(size)
    pfn = alloc_pages_nodemask(m, cpu, gfp & ~GFP_COMP_BIT, order, nid, 0)
    return make_alloc_exact(m, cpu, pfn, order, size)


def free_pages_exact(m: memoryview, cpu: int, pfn: int, size: int) -> int:
    """Frees what alloc_pages_exact() of this size gave, upwards; how many were refused. Hot."""
    refused = 0
    for i in range(pfn, pfn + ((size + PAGE_SIZE - 1) >> PAGE_SHIFT)):
        if free_pages(m, cpu, i, 0) < 0:
            refused += 1
    return refused


def get_free_pages(m: memoryview, cpu: int, gfp: int, order: int) -> int:
    """__get_free_pages(): direct map address (signed) of 2^order pages, or 0. Hot."""
    pfn = alloc_pages_current(m, cpu, gfp & ~GFP_HIGHMEM_BIT, order)
    if pfn < 0:
        return 0
    return PAGE_OFFSET + (pfn << PAGE_SHIFT)


def get_zeroed_page(m: memoryview, cpu: int, gfp: int) -> int:
    """Direct map address (signed) of one zeroed page, or 0. Hot."""
    return get_free_pages(m, cpu, gfp | GFP_ZERO_BIT, 0)
