# SPDX-License-Identifier: GPL-2.0-only
"""Mappings counted: from the first page-table entry of a page to the last (mm/rmap.c).

Whoever writes a page-table entry for a page adds a mapping here, whoever clears one removes it. The
first mapping of an anonymous page tells it its anon_vma and its place there; the last one leaves
both, for a page in the swap cache may be mapped again. Mapped anonymous and file pages are counted
per node. A huge page is counted as a whole while a PMD maps it, and small page by small page where
page tables do; when only a part of it is mapped any more it is queued for splitting.

All hot. `p` is the struct page of the small page that is mapped (of a huge one with `compound`).
The anon_vmas themselves are in anon_vma.py, the walk from page to entries in rmap_walk.py.
"""

from __future__ import annotations

from .anon_vma import AV_ROOT
from .anon_vma import anon_vma_clone as anon_vma_clone
from .anon_vma import anon_vma_fork as anon_vma_fork
from .anon_vma import anon_vma_init as anon_vma_init
from .anon_vma import (
    anon_vma_interval_tree_post_update_vma as anon_vma_interval_tree_post_update_vma,
)
from .anon_vma import anon_vma_interval_tree_pre_update_vma as anon_vma_interval_tree_pre_update_vma
from .anon_vma import anon_vma_prepare as anon_vma_prepare
from .anon_vma import find_mergeable_anon_vma as find_mergeable_anon_vma
from .anon_vma import unlink_anon_vmas as unlink_anon_vmas
from .deferred_split import deferred_split_huge_page
from .layout import NODE_DATA, PAGE_OFFSET
from .mlock_page import clear_page_mlock
from .mm_inline import (
    PG_DOUBLE_MAP,
    compound_head,
    dec_compound_mapcount,
    dec_mapcount,
    hpage_nr_pages,
    inc_compound_mapcount,
    inc_mapcount,
    page_anon,
    page_node,
)
from .mm_struct import MM_FILEPAGES, MM_SHMEMPAGES, VMA_ANON_VMA, VMA_PGOFF, VMA_START
from .mm_types import (
    MAPCOUNT_MASK,
    NODES_MASK,
    NODES_PGSHIFT,
    P_COUNTS,
    P_INDEX,
    P_MAPPING,
    P_NEXT,
    PAGE_MAPPING_ANON,
    PG_HEAD,
    PG_MLOCKED,
    PG_SWAPBACKED,
)
from .mmzone import (
    ND_PER_CPU_NODESTATS,
    ND_VM_STAT,
    NODESTAT_DIFF,
    NODESTAT_THRESHOLD,
    NODESTAT_WORDS,
    NR_ANON_MAPPED,
    NR_ANON_THPS,
    NR_FILE_MAPPED,
)
from .vmstat import mod_node_page_state

RMAP_EXCLUSIVE = 0x01
RMAP_COMPOUND = 0x02


def page_add_new_anon_rmap(
    m: memoryview, cpu: int, p: int, vma: int, address: int, compound: int
) -> None:
    """The first mapping of a new anonymous page, at user address `address` of `vma`. Hot."""
    flags = m[p] | PG_SWAPBACKED
    m[p] = flags
    nd = (m[NODE_DATA + (flags >> NODES_PGSHIFT & NODES_MASK)] - PAGE_OFFSET) >> 3
    if compound:
        inc_compound_mapcount(m, p)
        mod_node_page_state(m, cpu, nd, NR_ANON_THPS, 1)
        mod_node_page_state(m, cpu, nd, NR_ANON_MAPPED, hpage_nr_pages(m, p))
    else:
        m[p + P_COUNTS] &= ~MAPCOUNT_MASK
        # mod_node_page_state(NR_ANON_MAPPED, 1): this is the path of every demand fault
        va = m[nd + ND_PER_CPU_NODESTATS]
        if va:
            ns = (va - PAGE_OFFSET >> 3) + cpu * NODESTAT_WORDS
            x = m[ns + NODESTAT_DIFF + NR_ANON_MAPPED] + 1
            if x > m[ns + NODESTAT_THRESHOLD]:
                m[nd + ND_VM_STAT + NR_ANON_MAPPED] += x
                x = 0
            m[ns + NODESTAT_DIFF + NR_ANON_MAPPED] = x
        else:
            m[nd + ND_VM_STAT + NR_ANON_MAPPED] += 1
    m[p + P_MAPPING] = m[vma + VMA_ANON_VMA] + PAGE_MAPPING_ANON
    m[p + P_INDEX] = (address - m[vma + VMA_START] >> 12) + m[vma + VMA_PGOFF]


def do_page_add_anon_rmap(
    m: memoryview, cpu: int, p: int, vma: int, address: int, flags: int
) -> None:
    """A mapping of an anonymous page that may have others; RMAP_EXCLUSIVE: it has none. Hot.

    A page without mapping that may be shared goes to the oldest anon_vma that can have it.
    """
    compound = flags & RMAP_COMPOUND
    if inc_compound_mapcount(m, p) if compound else inc_mapcount(m, p + P_COUNTS):
        nd = page_node(m, p)
        nr = 1
        if compound:
            nr = hpage_nr_pages(m, p)
            mod_node_page_state(m, cpu, nd, NR_ANON_THPS, 1)
        mod_node_page_state(m, cpu, nd, NR_ANON_MAPPED, nr)
        if not page_anon(m, p):
            va = m[vma + VMA_ANON_VMA]
            if flags & RMAP_EXCLUSIVE == 0:
                va = m[((va - PAGE_OFFSET) >> 3) + AV_ROOT]
            m[p + P_MAPPING] = va + PAGE_MAPPING_ANON
            m[p + P_INDEX] = (address - m[vma + VMA_START] >> 12) + m[vma + VMA_PGOFF]


def page_add_anon_rmap(
    m: memoryview, cpu: int, p: int, vma: int, address: int, compound: int
) -> None:
    """A mapping of an anonymous page that may have others. Hot."""
    do_page_add_anon_rmap(m, cpu, p, vma, address, RMAP_COMPOUND if compound else 0)


def page_dup_rmap(m: memoryview, p: int, compound: int) -> None:
    """One more mapping of a page that is mapped, for a forked page table. Hot."""
    if compound:
        inc_compound_mapcount(m, p)
    else:
        inc_mapcount(m, p + P_COUNTS)


def page_move_anon_rmap(m: memoryview, p: int, vma: int) -> None:
    """Gives a page that only `vma` maps to the anon_vma of just that area. Hot."""
    m[compound_head(m, p) + P_MAPPING] = m[vma + VMA_ANON_VMA] + PAGE_MAPPING_ANON


def mm_counter_file(m: memoryview, p: int) -> int:
    """Which counter of the mm a mapped page of a file is in: shared memory has its own. Hot."""
    return MM_SHMEMPAGES if m[p] & PG_SWAPBACKED else MM_FILEPAGES


def page_add_file_rmap(m: memoryview, cpu: int, p: int, compound: int) -> None:  # noqa: ARG001
    """A mapping of a page of a file. The page cache has no huge pages: `compound` is 0. Hot."""
    if inc_mapcount(m, p + P_COUNTS):
        mod_node_page_state(m, cpu, page_node(m, p), NR_FILE_MAPPED, 1)


def page_remove_anon_compound_rmap(m: memoryview, cpu: int, p: int) -> None:
    """Removes the mapping of a whole huge page; queued for splitting if parts stay. Hot."""
    if not dec_compound_mapcount(m, p):
        return
    nd = page_node(m, p)
    mod_node_page_state(m, cpu, nd, NR_ANON_THPS, -1)
    nr = hpage_nr_pages(m, p)
    if m[p + 8] & PG_DOUBLE_MAP:
        # small pages are mapped by themselves as well: each gave up its share of this mapping
        m[p + 8] &= ~PG_DOUBLE_MAP
        gone = 0
        for i in range(nr):
            if dec_mapcount(m, p + 8 * i + P_COUNTS):
                gone += 1
        nr = gone
    if m[p] & PG_MLOCKED:
        clear_page_mlock(m, cpu, p)
    if nr:
        mod_node_page_state(m, cpu, nd, NR_ANON_MAPPED, -nr)
        deferred_split_huge_page(m, p)


def page_remove_rmap(m: memoryview, cpu: int, p: int, compound: int) -> None:
    """Removes a mapping of a page. Hot.

    The page's anon_vma stays written in it: it may come back from the swap cache.
    """
    anon = m[p + P_MAPPING] & PAGE_MAPPING_ANON
    if m[p + P_NEXT] & 1:
        anon = m[compound_head(m, p) + P_MAPPING] & PAGE_MAPPING_ANON
    if anon and compound:
        page_remove_anon_compound_rmap(m, cpu, p)
        return
    counts = m[p + P_COUNTS]
    if counts & MAPCOUNT_MASK:
        m[p + P_COUNTS] = counts - 1
        return
    m[p + P_COUNTS] = counts + MAPCOUNT_MASK
    mod_node_page_state(m, cpu, page_node(m, p), NR_ANON_MAPPED if anon else NR_FILE_MAPPED, -1)
    if m[p] & PG_MLOCKED:
        clear_page_mlock(m, cpu, p)
    if anon and (m[p + P_NEXT] & 1 or m[p] & PG_HEAD):
        deferred_split_huge_page(m, compound_head(m, p))
