# SPDX-License-Identifier: GPL-2.0-only
"""Pages on their way to swap and from it (mm/swap_state.c).

Reclaim gives an anonymous page a slot (`add_to_swap`) before it unmaps and writes it. A fault on a
swap entry looks into the swap cache first, then reads the page, and with it an aligned cluster of
neighbouring slots: up to 1 << page_cluster pages, more the more of those read ahead before were
used. A page that was read ahead carries PG_readahead until it is.

All hot. `entry` is a swap entry, `p` a struct page's word index, 0 for none.
"""

from __future__ import annotations

from .blockdev import wait_on_page_locked
from .gfp import GFP_HIGH_BIT, GFP_KERNEL, GFP_NOMEMALLOC_BIT, GFP_NOWARN_BIT
from .kernel_globals import (
    G_HUGE_ZERO_PAGE,
    G_PAGE_CLUSTER,
    G_SWAPIN_HITS,
    G_SWAPIN_LAST,
    G_SWAPIN_PREV,
)
from .layout import CPU_BLOCKS, CPU_NUMA_NODE, CPU_WORDS, SECTION_PAGES, VMEMMAP_START
from .mempolicy_vma import alloc_pages_vma
from .mm_inline import PG_SWAPCACHE, page_mapped, trylock_page, unlock_page
from .mm_types import (
    P_COUNTS,
    PG_DIRTY,
    PG_HEAD,
    PG_LOCKED,
    PG_RECLAIM,
    PG_SWAPBACKED,
    PG_WORKINGSET,
    REF_ONE,
)
from .page_io import swap_readpage
from .pagevec import put_page_p, release_pages
from .swap import lru_add_drain, lru_cache_add_anon
from .swap_cache import (
    CACHE_FIND_SUCCESS,
    CACHE_FIND_TOTAL,
    add_to_swap_cache,
    find_swap_page,
)
from .swap_cache import delete_from_swap_cache as delete_from_swap_cache
from .swap_cache import delete_from_swap_cache_only as delete_from_swap_cache_only
from .swap_map import SI_MAX, put_swap_page, swap_info_get, swapcache_prepare, swp_swapcount
from .swapfile import get_swap_page, try_to_free_swap
from .swapops import swp_entry, swp_offset, swp_type
from .vm_events import VM_EVENT_NAMES
from .vmstat import count_vm_events

PG_READAHEAD = PG_RECLAIM
SWAP_RA = VM_EVENT_NAMES.index("swap_ra")
SWAP_RA_HIT = VM_EVENT_NAMES.index("swap_ra_hit")


def add_to_swap(m: memoryview, cpu: int, p: int) -> bool:
    """Gives locked anonymous page `p` a slot and makes it dirty; False if there is none. Hot."""
    entry = get_swap_page(m, cpu, p)
    if entry == 0:
        return False
    gfp = GFP_HIGH_BIT | GFP_NOMEMALLOC_BIT | GFP_NOWARN_BIT
    if add_to_swap_cache(m, cpu, p, entry, gfp):
        put_swap_page(m, cpu, p, entry)
        return False
    m[p] |= PG_DIRTY
    return True


# --- letting go -----------------------------------------------------------------------------------
def free_swap_cache(m: memoryview, cpu: int, p: int) -> None:
    """Frees the slot of a page that was just unmapped, if it was the last to need it. Hot."""
    if m[p] & PG_SWAPCACHE and not page_mapped(m, p) and trylock_page(m, p):
        try_to_free_swap(m, cpu, p)
        unlock_page(m, p)


def free_page_and_swap_cache(m: memoryview, cpu: int, p: int) -> None:
    """put_page() of a page that was just unmapped, and its slot with it. Hot."""
    if m[p] & PG_SWAPCACHE:
        free_swap_cache(m, cpu, p)
    if m[G_HUGE_ZERO_PAGE] == 0 or m[p] & PG_HEAD == 0 or not is_huge_zero_page(m, p):
        put_page_p(m, cpu, p)


def is_huge_zero_page(m: memoryview, p: int) -> bool:
    """True for the huge page of zeroes that all areas share. Hot."""
    va = m[G_HUGE_ZERO_PAGE]
    if va == 0:
        return False
    pfn = (va - VMEMMAP_START) >> 6
    return p == m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)


def free_pages_and_swap_cache(m: memoryview, cpu: int, first: int, nr: int) -> None:
    """free_page_and_swap_cache() for `nr` page addresses at word `first`, freed in one go. Hot."""
    lru_add_drain(m, cpu)
    for w in range(first, first + nr):
        pfn = (m[w] - VMEMMAP_START) >> 6
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        free_swap_cache(m, cpu, p)
        if is_huge_zero_page(m, p):
            m[w] = 0
    release_pages(m, cpu, first, nr)


# --- bringing back --------------------------------------------------------------------------------
def lookup_swap_cache(m: memoryview, cpu: int, entry: int, vma: int, addr: int) -> int:  # noqa: ARG001
    """The page of a swap entry if it is cached, with a reference, read to the end; or 0. Hot."""
    if swap_info_get(m, entry) == 0:
        return 0
    m[CACHE_FIND_TOTAL] += 1
    p = find_swap_page(m, entry)
    if p == 0:
        return 0
    m[CACHE_FIND_SUCCESS] += 1
    m[p + P_COUNTS] += REF_ONE
    if m[p] & PG_READAHEAD:
        m[p] &= ~PG_READAHEAD
        count_vm_events(m, cpu, SWAP_RA_HIT, 1)
        m[G_SWAPIN_HITS] += 1
    if m[p] & PG_LOCKED:
        wait_on_page_locked(m, cpu, p)
    return p


def new_swap_page(m: memoryview, cpu: int, entry: int, gfp: int, vma: int, addr: int) -> int:
    """A new page in the swap cache for a used slot, locked, to be read into; or 0. Hot.

    (the second half of __read_swap_cache_async)
    """
    if swp_swapcount(m, entry) == 0:
        return 0
    node = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
    pfn = alloc_pages_vma(m, cpu, gfp, 0, vma, addr, node)
    if pfn < 0:
        return 0
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if swapcache_prepare(m, entry) == 0:
        m[p] |= PG_LOCKED | PG_SWAPBACKED
        if add_to_swap_cache(m, cpu, p, entry, gfp & GFP_KERNEL) == 0:
            m[p] |= PG_WORKINGSET
            lru_cache_add_anon(m, cpu, p)
            return p
        m[p] &= ~PG_LOCKED
        put_swap_page(m, cpu, p, entry)
    put_page_p(m, cpu, p)
    return 0


def read_swap_cache_async(
    m: memoryview, cpu: int, entry: int, gfp: int, vma: int, addr: int
) -> int:
    """The page of a swap entry, with a reference, being read if it was not cached; or 0. Hot."""
    p = find_swap_page(m, entry)
    if p:
        m[p + P_COUNTS] += REF_ONE
        return p
    p = new_swap_page(m, cpu, entry, gfp, vma, addr)
    if p:
        swap_readpage(m, cpu, p)
    return p


def swapin_window(prev: int, offset: int, hits: int, most: int, last: int) -> int:
    """How many slots to read around `offset` (__swapin_nr_pages). Hot.

    `prev`: the last offset read without hits; `hits`: read-ahead pages used since; `last`: the
    number of slots read then.
    """
    pages = hits + 2
    if pages == 2:
        if offset not in (prev + 1, prev - 1):
            pages = 1
    else:
        roundup = 4
        while roundup < pages:
            roundup <<= 1
        pages = roundup
    return max(min(pages, most), last // 2)


def swapin_nr_pages(m: memoryview, offset: int) -> int:
    """How many slots to read around `offset`, by how the last windows did. Hot."""
    most = 1 << m[G_PAGE_CLUSTER]
    if most <= 1:
        return 1
    hits = m[G_SWAPIN_HITS]
    m[G_SWAPIN_HITS] = 0
    pages = swapin_window(m[G_SWAPIN_PREV], offset, hits, most, m[G_SWAPIN_LAST])
    if hits == 0:
        m[G_SWAPIN_PREV] = offset
    m[G_SWAPIN_LAST] = pages
    return pages


def swapin_readahead(m: memoryview, cpu: int, entry: int, gfp: int, vma: int, addr: int) -> int:
    """Reads the page of a swap entry and slots around it; the page, with a reference, or 0. Hot.

    The page has been read when this returns, the others may be on their way.
    (swap_cluster_readahead)
    """
    si = swap_info_get(m, entry)
    if si == 0:
        return 0
    wanted = swp_offset(entry)
    mask = swapin_nr_pages(m, wanted) - 1
    if mask:
        first = max(wanted & ~mask, 1)
        last = min(wanted | mask, m[si + SI_MAX] - 1)
        for offset in range(first, last + 1):
            read_around(m, cpu, swp_entry(swp_type(entry), offset), gfp, vma, addr, wanted)
        lru_add_drain(m, cpu)
    p = read_swap_cache_async(m, cpu, entry, gfp, vma, addr)
    if p and m[p] & PG_LOCKED:
        wait_on_page_locked(m, cpu, p)
    return p


def read_around(
    m: memoryview, cpu: int, entry: int, gfp: int, vma: int, addr: int, wanted: int
) -> None:
    """Begins to read a slot near `wanted`, the one asked for, unless it is cached. Hot."""
    if find_swap_page(m, entry):
        return
    p = new_swap_page(m, cpu, entry, gfp, vma, addr)
    if p:
        swap_readpage(m, cpu, p)
        if swp_offset(entry) != wanted:
            m[p] |= PG_READAHEAD
            count_vm_events(m, cpu, SWAP_RA, 1)
        put_page_p(m, cpu, p)
