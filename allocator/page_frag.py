# SPDX-License-Identifier: GPL-2.0-only
"""References to pages, and page fragments: pieces of a block for network buffers (page_alloc.c).

A page_frag_cache is six words in guest RAM wherever its owner keeps them. It holds one block (32
KiB if there is one, else a page) and hands out pieces from its end downwards; the block carries as
many references as it has bytes, minus what was handed out, so that the last piece that is freed
frees the block.

All hot. `nc` is the word index of the cache, addresses are direct map addresses (signed).
"""

from __future__ import annotations

from .gfp import GFP_COMP_BIT, GFP_NOMEMALLOC_BIT, GFP_NORETRY_BIT, GFP_NOWARN_BIT
from .kernel_globals import G_MAX_PFN
from .layout import CPU_BLOCKS, CPU_NUMA_NODE, CPU_WORDS, PAGE_OFFSET, SECTION_PAGES, VMEMMAP_START
from .mm_types import (
    MAPCOUNT_MASK,
    P_COUNTS,
    P_INDEX,
    P_NEXT,
    PAGE_SHIFT,
    PAGE_SIZE,
    REF_ONE,
    REF_SHIFT,
)
from .page_alloc import (
    FREE_DONE,
    FREE_REFUSED,
    FREE_STILL_REFERENCED,
    alloc_pages_nodemask,
    free_pages_ok,
)
from .page_check import BAD_COMPOUND_HEAD, BAD_DOUBLE_FREE, bad_page, compound_order
from .pagevec import free_page_without_references
from .pcp import free_unref_page
from .structs import Struct, scalar

PAGE_FRAG_CACHE = Struct(
    "page_frag_cache",
    [
        scalar("va", "void *"),
        scalar("offset", "__u16"),
        scalar("size", "__u16"),
        scalar("pagecnt_bias", "unsigned int"),
        scalar("pfmemalloc", "bool"),
    ],
)
NC_VA = PAGE_FRAG_CACHE["va"]
NC_OFFSET = PAGE_FRAG_CACHE["offset"]
NC_SIZE = PAGE_FRAG_CACHE["size"]
NC_BIAS = PAGE_FRAG_CACHE["pagecnt_bias"]
NC_PFMEMALLOC = PAGE_FRAG_CACHE["pfmemalloc"]
PAGE_FRAG_CACHE_MAX_ORDER = 3
PAGE_FRAG_CACHE_MAX_SIZE = PAGE_SIZE << PAGE_FRAG_CACHE_MAX_ORDER


def pfn_is_valid(m: memoryview, pfn: int) -> bool:
    """True if `pfn` has a struct page (pfn_valid). Hot."""
    return 0 <= pfn < 1 << 30 and m[SECTION_PAGES + (pfn >> 15 << 2)] != 0


def compound_head_pfn(m: memoryview, pfn: int) -> int:
    """PFN of the head if `pfn` is a tail page, else `pfn`; -1 if its pointer is no page. Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    head = m[p + P_NEXT]
    if head & 1 == 0:
        return pfn
    head = (head - 1 - VMEMMAP_START) >> 6
    return head if pfn_is_valid(m, head) else -1


def page_ref_sub(m: memoryview, p: int, nr: int) -> bool:
    """Drops `nr` references of page `p`; True if none is left (page_ref_sub_and_test). Hot."""
    m[p + P_COUNTS] -= nr << REF_SHIFT
    return m[p + P_COUNTS] >> REF_SHIFT == 0


def get_page(m: memoryview, cpu: int, pfn: int) -> int:
    """One more reference to the page or its compound page. Hot.

    0, or -1 with a report for a page that nobody holds (the VM_BUG_ON_PAGE of get_page).
    """
    head = compound_head_pfn(m, pfn)
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if head < 0:
        bad_page(m, cpu, pfn, p, BAD_COMPOUND_HEAD, 0)
        return -1
    p = m[SECTION_PAGES + (head >> 15 << 2)] + (head << 3)
    if m[p + P_COUNTS] < REF_ONE:
        bad_page(m, cpu, head, p, BAD_DOUBLE_FREE, 0)
        return -1
    m[p + P_COUNTS] += REF_ONE
    return 0


def put_page(m: memoryview, cpu: int, pfn: int) -> int:
    """Drops a reference of the page or its compound page, freeing it if that was the last. Hot.

    FREE_DONE, FREE_STILL_REFERENCED, or FREE_REFUSED after a report.
    """
    head = compound_head_pfn(m, pfn)
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if head < 0:
        bad_page(m, cpu, pfn, p, BAD_COMPOUND_HEAD, 0)
        return FREE_REFUSED
    p = m[SECTION_PAGES + (head >> 15 << 2)] + (head << 3)
    if m[p + P_COUNTS] < REF_ONE:
        bad_page(m, cpu, head, p, BAD_DOUBLE_FREE, 0)
        return FREE_REFUSED
    if not page_ref_sub(m, p, 1):
        return FREE_STILL_REFERENCED
    return FREE_DONE if free_page_without_references(m, cpu, p) else FREE_REFUSED


def page_frag_cache_refill(m: memoryview, cpu: int, nc: int, gfp: int) -> int:
    """Gives the cache a fresh block: its PFN, or -1. Hot (__page_frag_cache_refill)."""
    nid = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
    big = gfp | GFP_COMP_BIT | GFP_NOWARN_BIT | GFP_NORETRY_BIT | GFP_NOMEMALLOC_BIT
    pfn = alloc_pages_nodemask(m, cpu, big, PAGE_FRAG_CACHE_MAX_ORDER, nid, 0)
    m[nc + NC_SIZE] = PAGE_FRAG_CACHE_MAX_SIZE if pfn >= 0 else PAGE_SIZE
    if pfn < 0:
        pfn = alloc_pages_nodemask(m, cpu, gfp, 0, nid, 0)
    m[nc + NC_VA] = PAGE_OFFSET + (pfn << PAGE_SHIFT) if pfn >= 0 else 0
    return pfn


def page_frag_alloc(m: memoryview, cpu: int, nc: int, fragsz: int, gfp: int) -> int:
    """A piece of `fragsz` bytes: its direct map address, or 0. Hot.

    A piece that is larger than the block is refused, where 4.20 would return an address below it.
    """
    if fragsz < 0:
        return 0
    while True:
        if m[nc + NC_VA] == 0:
            pfn = page_frag_cache_refill(m, cpu, nc, gfp)
            if pfn < 0:
                return 0
            size = m[nc + NC_SIZE]
            p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
            m[p + P_COUNTS] += (size - 1) << REF_SHIFT
            m[nc + NC_PFMEMALLOC] = 1 if m[p + P_INDEX] == -1 else 0
            m[nc + NC_BIAS] = size
            m[nc + NC_OFFSET] = size
        offset = m[nc + NC_OFFSET] - fragsz
        if offset < 0:
            pfn = (m[nc + NC_VA] - PAGE_OFFSET) >> PAGE_SHIFT
            p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
            if not page_ref_sub(m, p, m[nc + NC_BIAS]):
                m[nc + NC_VA] = 0
                continue
            size = m[nc + NC_SIZE]
            m[p + P_COUNTS] = (m[p + P_COUNTS] & MAPCOUNT_MASK) | size << REF_SHIFT
            m[nc + NC_BIAS] = size
            m[nc + NC_OFFSET] = size
            offset = size - fragsz
            if offset < 0:
                return 0
        m[nc + NC_BIAS] -= 1
        m[nc + NC_OFFSET] = offset
        return m[nc + NC_VA] + offset


def drop_references(m: memoryview, cpu: int, pfn: int, count: int, to_pcp: bool) -> int:
    """Drops `count` references of a fragment block, freeing it if those were the last. Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if m[p + P_COUNTS] >> REF_SHIFT < count:
        bad_page(m, cpu, pfn, p, BAD_DOUBLE_FREE, 0)
        return FREE_REFUSED
    if not page_ref_sub(m, p, count):
        return FREE_STILL_REFERENCED
    order = compound_order(m, p)
    if order == 0 and to_pcp:
        done = free_unref_page(m, cpu, pfn)
    else:
        done = free_pages_ok(m, cpu, pfn, p, order)
    return FREE_DONE if done else FREE_REFUSED


def page_frag_cache_drain(m: memoryview, cpu: int, pfn: int, count: int) -> int:
    """Drops `count` references of a fragment block at once (__page_frag_cache_drain). Hot."""
    return drop_references(m, cpu, pfn, count, True)


def page_frag_free(m: memoryview, cpu: int, addr: int) -> int:
    """Frees the piece at direct map address `addr`; what put_page() says. Hot.

    A block of order 0 goes past the per-cpu lists, as 4.20 sends it to __free_pages_ok().
    """
    pfn = (addr - PAGE_OFFSET) >> PAGE_SHIFT
    if pfn < 0 or pfn >= m[G_MAX_PFN] or not pfn_is_valid(m, pfn):
        return FREE_REFUSED
    head = compound_head_pfn(m, pfn)
    if head < 0:
        return FREE_REFUSED
    return drop_references(m, cpu, head, 1, False)
