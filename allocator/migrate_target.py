# SPDX-License-Identifier: GPL-2.0-only
"""Where migrated pages go: the targets that callers of migrate_pages() ask for.

4.20 passes a function that allocates and one that takes back; here it is a number, with one word of
the caller's. Huge pages get huge targets, prepared as such, where the caller's policy has any.

All hot. `p` is the page to be migrated (a head), the result its target's struct page, 0 for none.
"""

from __future__ import annotations

from .compact_free import compaction_alloc, compaction_free
from .deferred_split import is_transparent_hugepage, prep_transhuge_page
from .gfp import (
    GFP_HIGHMEM_BIT,
    GFP_HIGHUSER_MOVABLE,
    GFP_MOVABLE_BIT,
    GFP_RETRY_MAYFAIL_BIT,
    GFP_THISNODE_BIT,
    GFP_TRANSHUGE,
    GFP_USER,
)
from .kernel_globals import G_NODES_MEMORY
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_NUMA_NODE,
    CPU_WORDS,
    PAGE_OFFSET,
    SECTION_PAGES,
    TASK_MM,
)
from .mempolicy_vma import alloc_hugepage_vma, alloc_pages_vma
from .mm_inline import HPAGE_PMD_ORDER, page_to_pfn
from .mm_struct import VMA_NEXT
from .mm_types import NODES_MASK, NODES_PGSHIFT, ZONES_MASK, ZONES_PGSHIFT
from .mmzone import ZONE_MOVABLE
from .page_alloc import alloc_pages_nodemask
from .pagevec import put_page_p
from .rmap_walk import page_address_in_vma
from .vma import find_vma

NEW_PAGE_CONTIG = 0
"""Near the CPU, on any node (alloc_migrate_target)."""
NEW_PAGE_COMPACTION = 1
"""From the free pages of a compact_control, whose word index is `private` (compaction_alloc)."""
NEW_PAGE_NODE = 2
"""On node `private` only (alloc_new_node_page)."""
NEW_PAGE_MBIND = 3
"""Where the policy of the page's area says; areas are tried from address `private` on."""
NEW_PAGE_OFFLINE = 4
"""On any node but the page's own, if there is another (new_node_page)."""
NEW_PAGE_SAME_NODE = 5
"""Best on the page's own node (new_page of mm/memory-failure.c)."""


def new_page_nodemask(m: memoryview, cpu: int, p: int, nid: int, nodemask: int) -> int:
    """A target on `nid` or another node of `nodemask`: a PFN, or -1. Hot."""
    gfp = GFP_USER | GFP_MOVABLE_BIT | GFP_RETRY_MAYFAIL_BIT
    order = 0
    if is_transparent_hugepage(m, p):
        gfp |= GFP_TRANSHUGE
        order = HPAGE_PMD_ORDER
    if m[p] >> ZONES_PGSHIFT & ZONES_MASK == ZONE_MOVABLE:
        gfp |= GFP_HIGHMEM_BIT
    return alloc_pages_nodemask(m, cpu, gfp, order, nid, nodemask)


def new_policy_page(m: memoryview, cpu: int, p: int, start: int) -> int:
    """A target by the policy of the area of the current process that has page `p`. Hot."""
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    vma = find_vma(m, (m[task + TASK_MM] - PAGE_OFFSET) >> 3, start)
    address = 0
    while vma:
        address = page_address_in_vma(m, p, vma)
        if address >= 0:
            break
        va = m[vma + VMA_NEXT]
        vma = (va - PAGE_OFFSET) >> 3 if va else 0
    if is_transparent_hugepage(m, p):
        return alloc_hugepage_vma(m, cpu, GFP_TRANSHUGE, vma, address, HPAGE_PMD_ORDER)
    node = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
    gfp = GFP_HIGHUSER_MOVABLE | GFP_RETRY_MAYFAIL_BIT
    return alloc_pages_vma(m, cpu, gfp, 0, vma, address, node)


def target_pfn(m: memoryview, cpu: int, p: int, target: int, private: int) -> int:
    """get_new_page() for all kinds of targets but compaction's: a PFN, or -1. Hot."""
    nodes = m[G_NODES_MEMORY]
    nid = m[p] >> NODES_PGSHIFT & NODES_MASK
    if target == NEW_PAGE_NODE:
        if is_transparent_hugepage(m, p):
            gfp = GFP_TRANSHUGE | GFP_THISNODE_BIT
            return alloc_pages_nodemask(m, cpu, gfp, HPAGE_PMD_ORDER, private, 0)
        gfp = GFP_HIGHUSER_MOVABLE | GFP_THISNODE_BIT
        return alloc_pages_nodemask(m, cpu, gfp, 0, private, 0)
    if target == NEW_PAGE_MBIND:
        return new_policy_page(m, cpu, p, private)
    if target == NEW_PAGE_OFFLINE:
        others = nodes & ~(1 << nid)
        return new_page_nodemask(m, cpu, p, nid, others if others else nodes)
    if target == NEW_PAGE_SAME_NODE:
        return new_page_nodemask(m, cpu, p, nid, nodes)
    local = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
    return new_page_nodemask(m, cpu, p, local, nodes)


def get_new_page(m: memoryview, cpu: int, p: int, target: int, private: int) -> int:
    """A target for page `p`: its struct page's word index, 0 if there is none. Hot."""
    if target == NEW_PAGE_COMPACTION:
        return compaction_alloc(m, cpu, private)
    pfn = target_pfn(m, cpu, p, target, private)
    if pfn < 0:
        return 0
    new = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if is_transparent_hugepage(m, p):
        prep_transhuge_page(m, new)
    return new


def put_new_page(m: memoryview, cpu: int, new: int, target: int, private: int) -> None:
    """Takes back a target that was not needed. Hot."""
    if target == NEW_PAGE_COMPACTION:
        compaction_free(m, cpu, private, page_to_pfn(m, new))
    else:
        put_page_p(m, cpu, new)
