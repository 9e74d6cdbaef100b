# SPDX-License-Identifier: GPL-2.0-only
"""Huge entries made small: a PMD that maps 2 MiB becomes a table (mm/huge_memory.c).

The huge page itself stays whole: it is mapped in pieces afterwards. The table comes from those laid
by when huge entries were made (`pgtable_deposit`), so that splitting never needs memory. They hang
as a ring on the struct page of the PMD table.

All hot; `pmd` is the word index of the entry, `vma` and `mm` word indices.
"""

from __future__ import annotations

from .kernel_globals import G_HUGE_ZERO_PAGE, G_TLB_GEN
from .layout import (
    CPU_BLOCKS,
    CPU_EVENTS,
    CPU_WORDS,
    EMPTY_ZERO_PAGE,
    PAGE_OFFSET,
    SECTION_PAGES,
    VMEMMAP_START,
)
from .list_head import va_word
from .mm_inline import (
    PG_DOUBLE_MAP,
    compound_mapcount,
    dec_compound_mapcount,
    dec_mapcount,
    inc_mapcount,
    page_node,
)
from .mm_struct import VM_WRITE, VMA_END, VMA_FLAGS, VMA_MM, VMA_PROT, VMA_START
from .mm_types import P_COUNTS, P_FLAGS, P_NEXT, PG_DIRTY, REF_SHIFT
from .mmzone import NODE_STAT_NAMES
from .pgtable import (
    PMD_HUGE_PTE,
    PMD_SIZE,
    PTE_A,
    PTE_D,
    PTE_RW,
    PTE_SPECIAL,
    PTE_TABLE,
    mk_pte,
    mm_find_pmd,
    pmd_pfn,
    pmd_trans_huge,
)
from .vm_events import VM_EVENT_NAMES
from .vmstat import mod_node_page_state

HPAGE_PMD_NR = 512
HPAGE_PMD_ORDER = 9
NR_ANON_THPS = NODE_STAT_NAMES.index("nr_anon_transparent_hugepages")
THP_SPLIT_PMD = CPU_EVENTS + VM_EVENT_NAMES.index("thp_split_pmd")
ZERO_PFN = EMPTY_ZERO_PAGE >> 9


def pgtable_deposit(m: memoryview, pmd: int, pfn: int) -> None:
    """Lays a table's frame by for the huge entry at `pmd` (pgtable_trans_huge_deposit). Hot."""
    table = pmd >> 9
    head = m[SECTION_PAGES + (table >> 15 << 2)] + (table << 3) + PMD_HUGE_PTE
    node = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3) + P_NEXT
    va = VMEMMAP_START + (pfn << 6) + 8
    if m[head] == 0:
        m[node] = va
        m[node + 1] = va
    else:
        old = va_word(m, m[head])
        after = m[old]
        m[node] = after
        m[node + 1] = m[head]
        m[va_word(m, after) + 1] = va
        m[old] = va
    m[head] = va


def pgtable_withdraw(m: memoryview, pmd: int) -> int:
    """Takes back a table laid by for the huge entry at `pmd`: its PFN. Hot."""
    table = pmd >> 9
    head = m[SECTION_PAGES + (table >> 15 << 2)] + (table << 3) + PMD_HUGE_PTE
    va = m[head]
    node = va_word(m, va)
    after = m[node]
    if after == va:
        m[head] = 0
    else:
        m[head] = after
        m[va_word(m, after) + 1] = m[node + 1]
        m[va_word(m, m[node + 1])] = after
    m[node] = 0
    m[node + 1] = 0
    return (va - VMEMMAP_START) >> 6


def huge_zero_pfn(m: memoryview) -> int:
    """First frame of the huge zero page, -1 if there is none. Hot."""
    va = m[G_HUGE_ZERO_PAGE]
    return (va - VMEMMAP_START) >> 6 if va else -1


def split_huge_pmd(m: memoryview, cpu: int, vma: int, pmd: int, address: int) -> None:  # noqa: ARG001
    """Makes the huge entry at `pmd` a table of small entries. Hot (__split_huge_pmd)."""
    m[CPU_BLOCKS + cpu * CPU_WORDS + THP_SPLIT_PMD] += 1
    old = m[pmd]
    pfn = pmd_pfn(old)
    prot = m[vma + VMA_PROT]
    m[pmd] = 0
    m[G_TLB_GEN] += 1
    frame = pgtable_withdraw(m, pmd)
    at = frame << 9
    if pfn == huge_zero_pfn(m):
        entry = mk_pte(ZERO_PFN, prot) | PTE_SPECIAL
        for i in range(HPAGE_PMD_NR):
            m[at + i] = entry
        m[pmd] = (frame << 12) | PTE_TABLE
        return
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if old & PTE_D:
        m[p + P_FLAGS] |= PG_DIRTY
    m[p + P_COUNTS] += (HPAGE_PMD_NR - 1) << REF_SHIFT
    if old & PTE_RW and m[vma + VMA_FLAGS] & VM_WRITE:
        prot |= PTE_RW
    if old & PTE_A == 0:
        prot &= ~PTE_A
    for i in range(HPAGE_PMD_NR):
        m[at + i] = mk_pte(pfn + i, prot)
        inc_mapcount(m, p + 8 * i + P_COUNTS)
    if compound_mapcount(m, p) > 1 and m[p + 8] & PG_DOUBLE_MAP == 0:
        m[p + 8] |= PG_DOUBLE_MAP
        for i in range(HPAGE_PMD_NR):
            inc_mapcount(m, p + 8 * i + P_COUNTS)
    if dec_compound_mapcount(m, p):
        mod_node_page_state(m, cpu, page_node(m, p), NR_ANON_THPS, -1)
        if m[p + 8] & PG_DOUBLE_MAP:
            m[p + 8] &= ~PG_DOUBLE_MAP
            for i in range(HPAGE_PMD_NR):
                dec_mapcount(m, p + 8 * i + P_COUNTS)
    m[pmd] = (frame << 12) | PTE_TABLE


def split_huge_pmd_address(m: memoryview, cpu: int, vma: int, address: int) -> None:
    """Splits the huge entry over `address` if there is one. Hot."""
    pmd = mm_find_pmd(m, (m[vma + VMA_MM] - PAGE_OFFSET) >> 3, address)
    if pmd and pmd_trans_huge(m[pmd]):
        split_huge_pmd(m, cpu, vma, pmd, address)


def split_at_border(m: memoryview, cpu: int, vma: int, address: int) -> None:
    """Splits the huge entry that a new border of the area at `address` cuts through. Hot."""
    start = address & -PMD_SIZE
    if start != address and start >= m[vma + VMA_START] and start + PMD_SIZE <= m[vma + VMA_END]:
        split_huge_pmd_address(m, cpu, vma, address)


def vma_adjust_trans_huge(
    m: memoryview, cpu: int, vma: int, start: int, end: int, following: int, following_start: int
) -> None:
    """Before an area's borders move to [start, end), and the start of the area behind it (0: it
    does not) to `following_start`: no huge entry may reach across them. Hot."""
    split_at_border(m, cpu, vma, start)
    split_at_border(m, cpu, vma, end)
    if following:
        split_at_border(m, cpu, following, following_start)
