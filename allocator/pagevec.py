# SPDX-License-Identifier: GPL-2.0-only
"""Pagevecs, and references to pages that are dropped one by one or many at once (mm/swap.c).

A *pagevec* holds up to fifteen pages, with a reference for each. Every CPU has five, in which pages
wait for a place on the LRU lists (see swap.py). When the last reference of a page goes, the page
leaves its LRU list and is freed.

All hot. A pagevec is sixteen words, a count and page addresses, at word index `pv`; the CPUs' areas
are allocated by swap_setup() when owners of pages come into being.
"""

from __future__ import annotations

from .deferred_split import free_compound
from .gfp import GFP_KERNEL, GFP_ZERO_BIT
from .kernel_globals import G_LRU_PVECS, G_NR_CPU_IDS, G_PAGE_CLUSTER, G_TOTALRAM
from .layout import PAGE_OFFSET, SECTION_PAGES, VMEMMAP_START
from .list_head import list_add, list_init
from .lruvec import page_lruvec
from .memcg_charge import mem_cgroup_uncharge
from .mm_inline import (
    compound_head,
    del_page_from_lru_list,
    page_cache_release,
    page_off_lru,
    page_to_pfn,
)
from .mm_types import (
    P_COUNTS,
    P_MEMCG,
    P_NEXT,
    PG_ACTIVE,
    PG_HEAD,
    PG_KMEMCG_TYPE,
    PG_LRU,
    PG_WAITERS,
    REF_ONE,
)
from .page_alloc import FREE_DONE, FREE_REFUSED, FREE_STILL_REFERENCED, alloc_pages_nodemask
from .page_check import BAD_DOUBLE_FREE, bad_page
from .pcp import free_unref_page, free_unref_page_list
from .structs import Struct, array, list_head, scalar

PAGEVEC_SIZE = 15
PAGEVEC = Struct("pagevec", [scalar("nr"), array("pages", PAGEVEC_SIZE, "struct page *")])
PAGEVEC_WORDS = PAGEVEC.words
LRU_PVECS = Struct(
    "lru_pvecs",
    [
        ("lru_add_pvec", "struct pagevec", PAGEVEC, 1),
        ("lru_rotate_pvecs", "struct pagevec", PAGEVEC, 1),
        ("lru_deactivate_file_pvecs", "struct pagevec", PAGEVEC, 1),
        ("lru_lazyfree_pvecs", "struct pagevec", PAGEVEC, 1),
        ("activate_page_pvecs", "struct pagevec", PAGEVEC, 1),
        list_head("pages_to_free"),
        list_head("scratch"),
    ],
    words=128,
)
PV_ADD = LRU_PVECS["lru_add_pvec"]
PV_ROTATE = LRU_PVECS["lru_rotate_pvecs"]
PV_DEACTIVATE = LRU_PVECS["lru_deactivate_file_pvecs"]
PV_LAZYFREE = LRU_PVECS["lru_lazyfree_pvecs"]
PV_ACTIVATE = LRU_PVECS["activate_page_pvecs"]
PV_TO_FREE = LRU_PVECS["pages_to_free"]
PV_SCRATCH = LRU_PVECS["scratch"]
PVECS_WORDS = LRU_PVECS.words
NR_PVECS = 5
ENOMEM = 12


def swap_setup(m: memoryview, cpu: int) -> int:
    """Allocates all CPUs' pagevecs: 0 or -ENOMEM. Small machines read less ahead of swap. Hot."""
    cpus = m[G_NR_CPU_IDS]
    order = 0
    while 512 << order < cpus * PVECS_WORDS:
        order += 1
    pfn = alloc_pages_nodemask(m, cpu, GFP_KERNEL | GFP_ZERO_BIT, order, 0, 0)
    if pfn < 0:
        return -ENOMEM
    m[G_LRU_PVECS] = PAGE_OFFSET + (pfn << 12)
    for i in range(cpus):
        list_init(m, (pfn << 9) + i * PVECS_WORDS + PV_TO_FREE)
        list_init(m, (pfn << 9) + i * PVECS_WORDS + PV_SCRATCH)
    m[G_PAGE_CLUSTER] = 2 if m[G_TOTALRAM] >> 8 < 16 else 3
    return 0


def pagevecs(m: memoryview, cpu: int) -> int:
    """Word index of `cpu`'s pagevecs. Hot."""
    return (m[G_LRU_PVECS] - PAGE_OFFSET >> 3) + cpu * PVECS_WORDS


def pagevec_add(m: memoryview, pv: int, p: int) -> bool:
    """Takes a reference of `p` and appends it; True if the pagevec must be drained now. Hot."""
    m[p + P_COUNTS] += REF_ONE
    nr = m[pv] + 1
    m[pv] = nr
    m[pv + nr] = VMEMMAP_START + (page_to_pfn(m, p) << 6)
    return nr == PAGEVEC_SIZE or m[p] & PG_HEAD != 0


def pagevec_page(m: memoryview, pv: int, i: int) -> int:
    """The i-th page of a pagevec, from 1 on. Hot."""
    pfn = (m[pv + i] - VMEMMAP_START) >> 6
    return m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)


# --- references -----------------------------------------------------------------------------------
def put_page_p(m: memoryview, cpu: int, p: int) -> int:
    """Drops a reference of the page or its compound page, freeing it if that was the last. Hot.

    FREE_DONE, FREE_STILL_REFERENCED, or FREE_REFUSED after a report.
    """
    if m[p + P_NEXT] & 1:
        p = compound_head(m, p)
    counts = m[p + P_COUNTS] - REF_ONE
    if counts >= REF_ONE:
        m[p + P_COUNTS] = counts
        return FREE_STILL_REFERENCED
    if counts < 0:
        bad_page(m, cpu, page_to_pfn(m, p), p, BAD_DOUBLE_FREE, 0)
        return FREE_REFUSED
    m[p + P_COUNTS] = counts
    return FREE_DONE if free_page_without_references(m, cpu, p) else FREE_REFUSED


def free_page_without_references(m: memoryview, cpu: int, p: int) -> bool:
    """Frees a page whose last reference is gone (__put_page). Hot."""
    page_cache_release(m, cpu, p)
    if m[p + P_MEMCG] and m[p + P_COUNTS] & PG_KMEMCG_TYPE:
        # kernel pages are uncharged when they are freed
        mem_cgroup_uncharge(m, cpu, p)
    if m[p] & PG_HEAD:
        return free_compound(m, cpu, p)
    m[p] &= ~PG_WAITERS
    return free_unref_page(m, cpu, page_to_pfn(m, p))


def release_pages(m: memoryview, cpu: int, first: int, nr: int) -> None:
    """put_page_p() for `nr` page addresses at word `first`; those freed go in one batch. Hot.

    Words that are 0 are passed over.
    """
    head = pagevecs(m, cpu) + PV_TO_FREE
    for w in range(first, first + nr):
        va = m[w]
        if va == 0:
            continue
        pfn = (va - VMEMMAP_START) >> 6
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        if m[p + P_NEXT] & 1:
            p = compound_head(m, p)
        counts = m[p + P_COUNTS] - REF_ONE
        if counts < 0:
            bad_page(m, cpu, pfn, p, BAD_DOUBLE_FREE, 0)
            continue
        m[p + P_COUNTS] = counts
        if counts >= REF_ONE:
            continue
        flags = m[p]
        if flags & PG_HEAD:
            free_page_without_references(m, cpu, p)
            continue
        if flags & PG_LRU:
            m[p] = flags & ~PG_LRU
            del_page_from_lru_list(m, cpu, p, page_lruvec(m, p), page_off_lru(m, p))
        m[p] &= ~(PG_ACTIVE | PG_WAITERS)
        if m[p + P_MEMCG] and m[p + P_COUNTS] & PG_KMEMCG_TYPE:
            mem_cgroup_uncharge(m, cpu, p)
        list_add(m, p + P_NEXT, va + 8, head)
    if m[head] != PAGE_OFFSET + (head << 3):
        free_unref_page_list(m, cpu, head)


def pagevec_release(m: memoryview, cpu: int, pv: int) -> None:
    """Drops the references of a pagevec's pages and empties it. Hot."""
    nr = m[pv]
    m[pv] = 0
    release_pages(m, cpu, pv + 1, nr)
