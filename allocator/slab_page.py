# SPDX-License-Identifier: GPL-2.0-only
"""Slabs as blocks of pages: taking them from the page allocator and giving them back (mm/slub.c).

A new slab is one compound page, or a single one, from where the task's policy or the caller says;
its objects are chained in the order of their addresses. When a block of the cache's favourite order
is not to be had, the smallest that holds an object will do. `slub` decides when; its docstring says
what the struct page of a slab holds.

All hot: `s` is the word index of a cache, `p` of a struct page.
"""

from __future__ import annotations

from .gfp import (
    GFP_DIRECT_RECLAIM_BIT,
    GFP_NOFAIL_BIT,
    GFP_NOMEMALLOC_BIT,
    GFP_NORETRY_BIT,
    GFP_NOWARN_BIT,
)
from .kernel_globals import G_GFP_ALLOWED
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_RECLAIMED_SLAB,
    CPU_WORDS,
    PAGE_OFFSET,
    PF_MEMALLOC,
    SECTION_PAGES,
    TASK_FLAGS,
    VMEMMAP_START,
)
from .mempolicy import alloc_pages_current
from .mm_types import (
    NODES_MASK,
    NODES_PGSHIFT,
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_PRIVATE,
    PG_ACTIVE,
    PG_SLAB,
)
from .mmzone import NR_SLAB_RECLAIMABLE, NR_SLAB_UNRECLAIMABLE
from .page_alloc import alloc_pages_nodemask, free_pages
from .page_check import compound_order
from .slab import (
    GFP_RECLAIM_BITS,
    GFP_SLAB_MASK,
    KC_ALLOCFLAGS,
    KC_FLAGS,
    KC_MIN,
    KC_NODE,
    KC_OFFSET,
    KC_OO,
    KC_SIZE,
    KCN_NR_SLABS,
    KCN_TOTAL_OBJECTS,
    NUMA_NO_NODE,
    OO_MASK,
    OO_SHIFT,
    SLAB_FROZEN,
    SLAB_OBJECTS_MASK,
    SLAB_OBJECTS_SHIFT,
    SLAB_RECLAIM_ACCOUNT,
)
from .vmstat import mod_lruvec_page_state


def page_of_va(m: memoryview, va: int) -> int:
    """Word index of the struct page at vmemmap address `va`. Hot."""
    off = va - VMEMMAP_START
    return m[SECTION_PAGES + (off >> 21 << 2)] + (off >> 3)


def page_node(m: memoryview, p: int) -> int:
    """Node id of struct page `p` (page_to_nid). Hot."""
    return m[p + P_FLAGS] >> NODES_PGSHIFT & NODES_MASK


def get_node(m: memoryview, s: int, nid: int) -> int:
    """The cache's kmem_cache_node of node `nid`, 0 if it has none. Hot."""
    va = m[s + KC_NODE + nid]
    return (va - PAGE_OFFSET) >> 3 if va else 0


# --- slabs: getting and giving back blocks of pages -------------------------------------------
def alloc_slab_page(m: memoryview, cpu: int, gfp: int, nid: int, oo: int) -> int:
    """Pages for a slab, by the task's policy or of node `nid`: PFN or -1. Hot."""
    if nid == NUMA_NO_NODE:
        return alloc_pages_current(m, cpu, gfp, oo >> OO_SHIFT)
    return alloc_pages_nodemask(m, cpu, gfp, oo >> OO_SHIFT, nid, 0)


def allocate_slab(m: memoryview, cpu: int, s: int, gfp: int, nid: int) -> int:
    """A new frozen slab with all objects in its freelist: PFN or -1. Hot."""
    flags = gfp & GFP_SLAB_MASK & m[G_GFP_ALLOWED] | m[s + KC_ALLOCFLAGS]
    oo = m[s + KC_OO]
    alloc_gfp = (flags | GFP_NOWARN_BIT | GFP_NORETRY_BIT) & ~GFP_NOFAIL_BIT
    if alloc_gfp & GFP_DIRECT_RECLAIM_BIT and oo >> OO_SHIFT > m[s + KC_MIN] >> OO_SHIFT:
        alloc_gfp = (alloc_gfp | GFP_NOMEMALLOC_BIT) & ~GFP_RECLAIM_BITS
    pfn = alloc_slab_page(m, cpu, alloc_gfp, nid, oo)
    if pfn < 0:
        oo = m[s + KC_MIN]
        pfn = alloc_slab_page(m, cpu, flags, nid, oo)
        if pfn < 0:
            return -1
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    objects = oo & OO_MASK
    pfmemalloc = m[p + P_INDEX] == -1
    m[p + P_FLAGS] |= PG_SLAB | PG_ACTIVE if pfmemalloc else PG_SLAB
    m[p + P_MAPPING] = PAGE_OFFSET + (s << 3)
    link_objects(m, s, pfn << 9, objects)
    m[p + P_INDEX] = PAGE_OFFSET + (pfn << 12)
    m[p + P_PRIVATE] = objects | objects << SLAB_OBJECTS_SHIFT | SLAB_FROZEN
    account_slab(m, cpu, s, p, 1 << (oo >> OO_SHIFT))
    n = get_node(m, s, page_node(m, p))
    if n:
        m[n + KCN_NR_SLABS] += 1
        m[n + KCN_TOTAL_OBJECTS] += objects
    return pfn


def link_objects(m: memoryview, s: int, first: int, objects: int) -> None:
    """Chains the objects of a new slab whose memory starts at word `first`, in order. Hot."""
    words = m[s + KC_SIZE] >> 3
    at = first + (m[s + KC_OFFSET] >> 3)
    va = PAGE_OFFSET + (first << 3)
    for _ in range(objects - 1):
        va += words << 3
        m[at] = va
        at += words
    m[at] = 0


def account_slab(m: memoryview, cpu: int, s: int, p: int, pages: int) -> None:
    """Counts slab pages of the node, reclaimable or not. Hot."""
    item = NR_SLAB_RECLAIMABLE if m[s + KC_FLAGS] & SLAB_RECLAIM_ACCOUNT else NR_SLAB_UNRECLAIMABLE
    mod_lruvec_page_state(m, cpu, p, item, pages)


def discard_slab(m: memoryview, cpu: int, s: int, pfn: int) -> None:
    """Gives an empty slab's pages back (discard_slab, __free_slab). Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    n = get_node(m, s, page_node(m, p))
    if n:
        m[n + KCN_NR_SLABS] -= 1
        m[n + KCN_TOTAL_OBJECTS] -= m[p + P_PRIVATE] >> SLAB_OBJECTS_SHIFT & SLAB_OBJECTS_MASK
    order = compound_order(m, p)
    account_slab(m, cpu, s, p, -(1 << order))
    block = CPU_BLOCKS + cpu * CPU_WORDS
    if m[((m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3) + TASK_FLAGS] & PF_MEMALLOC:
        # reclaim is at work and wants to know
        m[block + CPU_RECLAIMED_SLAB] += 1 << order
    m[p + P_FLAGS] &= ~(PG_SLAB | PG_ACTIVE)
    m[p + P_MAPPING] = 0
    free_pages(m, cpu, pfn, order)
