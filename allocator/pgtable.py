# SPDX-License-Identifier: GPL-2.0-only
"""Page tables of processes: x86-64's four levels, each table a frame of this allocator.

The bits of entries are those of arch/x86/include/asm/pgtable_types.h. An entry that is not present
can be nothing (0), a page without permissions (PROTNONE, its frame number inverted as 4.20 does
against L1TF), or a swap or migration entry (`swapops`). The top table of an address space shares
the kernel's half with every other, and the identity map in its first slot that the boot protocol
promises; slots 1 to 255 are the process's own.

Tables come with PGALLOC_GFP where the task's policy says (arch/x86/mm/pgtable.c). The lowest ones
are of page type PageTable and counted in NR_PAGETABLE; all but the top one count in the mm's
pgtables_bytes. A top table names its mm in `index`. Freed tables go when the areas around them are
gone (free_pgtables, mm/memory.c).

Translations that CPUs keep must be dropped whenever an entry loses something: `flush_tlb_*` count
G_TLB_GEN up, and whoever runs guest code looks at it first.

All hot. Entries are named by word index, 0 for none; tables by the word index of their first entry.
"""

from __future__ import annotations

from .gfp import GFP_KERNEL_ACCOUNT, GFP_ZERO_BIT
from .kernel_globals import G_PGD, G_PGD_LIST, G_TLB_GEN
from .layout import PAGE_OFFSET, SECTION_PAGES, VMEMMAP_START
from .list_head import list_add, list_del
from .mempolicy import alloc_pages_current
from .mm_struct import MM_PGD, MM_PGTABLES_BYTES
from .mm_types import P_COUNTS, P_INDEX, P_NEXT, P_PREV, PAGE_SIZE, PG_TABLE_TYPE
from .mmzone import NR_PAGETABLE
from .page_alloc import free_pages
from .pcp import page_zone
from .vmstat import mod_zone_page_state

PTE_P = 0x1
PTE_RW = 0x2
PTE_US = 0x4
PTE_A = 0x20
PTE_D = 0x40
PTE_PSE = 0x80
PTE_PROTNONE = 0x100
PTE_SPECIAL = 0x200
PTE_SOFT_DIRTY = 0x800
PTE_NX = -(1 << 63)
PTE_TABLE = PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D
PFN_MASK = (1 << 40) - 1
ADDRESS_MASK = 0xFFFFFFFFFF000
CHG_MASK = ADDRESS_MASK | 0x18 | PTE_A | PTE_D | PTE_SPECIAL | PTE_SOFT_DIRTY
"""What pte_modify() keeps of the old entry (_PAGE_CHG_MASK)."""

PAGE_NONE = PTE_PROTNONE | PTE_A
PAGE_READONLY = PTE_P | PTE_US | PTE_A | PTE_NX
PAGE_READONLY_EXEC = PTE_P | PTE_US | PTE_A
PAGE_SHARED = PAGE_READONLY | PTE_RW
PAGE_SHARED_EXEC = PAGE_READONLY_EXEC | PTE_RW
PROTECTION_MAP = (
    PAGE_NONE,
    PAGE_READONLY,
    PAGE_READONLY,
    PAGE_READONLY,
    PAGE_READONLY_EXEC,
    PAGE_READONLY_EXEC,
    PAGE_READONLY_EXEC,
    PAGE_READONLY_EXEC,
    PAGE_NONE,
    PAGE_READONLY,
    PAGE_SHARED,
    PAGE_SHARED,
    PAGE_READONLY_EXEC,
    PAGE_READONLY_EXEC,
    PAGE_SHARED_EXEC,
    PAGE_SHARED_EXEC,
)
"""Bits of a fresh entry by read, write, execute, shared of the area (protection_map)."""

PMD_SHIFT = 21
PMD_SIZE = 1 << PMD_SHIFT
PUD_SHIFT = 30
PUD_SIZE = 1 << PUD_SHIFT
PGDIR_SHIFT = 39
PGDIR_SIZE = 1 << PGDIR_SHIFT
TASK_SIZE = (1 << 47) - PAGE_SIZE
MMAP_MIN_ADDR = PGDIR_SIZE
"""Below lies the identity map."""
PGALLOC_GFP = GFP_KERNEL_ACCOUNT | GFP_ZERO_BIT
PMD_HUGE_PTE = P_PREV
"""Word of a PMD table's struct page: the tables laid by for its huge entries."""
ENOMEM = 12


# --- entries --------------------------------------------------------------------------------------


def pte_present(pte: int) -> bool:
    """True if the entry maps a page, with or without permissions. Hot."""
    return pte & (PTE_P | PTE_PROTNONE) != 0


def pte_pfn(pte: int) -> int:
    """Frame that a present entry maps. Hot."""
    if pte & PTE_P == 0:
        pte = ~pte
    return pte >> 12 & PFN_MASK


def mk_pte(pfn: int, prot: int) -> int:
    """The entry for frame `pfn` with the bits `prot` (pfn_pte). Hot."""
    if prot & PTE_P == 0:
        return (~(pfn << 12) & ADDRESS_MASK) | prot
    return (pfn << 12) | prot


def pte_modify(pte: int, prot: int) -> int:
    """The present entry with the permissions `prot` in place of its own. Hot."""
    return mk_pte(pte_pfn(pte), (pte & CHG_MASK & ~ADDRESS_MASK) | (prot & ~CHG_MASK))


def pmd_trans_huge(pmd: int) -> bool:
    """True if a PMD entry maps a huge page, with or without permissions. Hot."""
    return pmd & PTE_PSE != 0 and pmd & (PTE_P | PTE_PROTNONE) != 0


def pmd_pfn(pmd: int) -> int:
    """First frame that a huge entry maps. Hot."""
    if pmd & PTE_P == 0:
        pmd = ~pmd
    return pmd >> 12 & PFN_MASK & ~511


def entry_table(entry: int) -> int:
    """Word index of the table that a present upper entry leads to. Hot."""
    return (entry & ADDRESS_MASK) >> 3


def vm_get_page_prot(vm_flags: int) -> int:
    """Bits of a fresh entry in an area with these flags. Hot."""
    return PROTECTION_MAP[vm_flags & 15]


# --- translations that CPUs keep ------------------------------------------------------------------


def flush_tlb_mm(m: memoryview, cpu: int, mm: int) -> None:  # noqa: ARG001
    """CPUs must forget all translations of an address space. Hot."""
    m[G_TLB_GEN] += 1


def flush_tlb_range(m: memoryview, cpu: int, vma: int, start: int, end: int) -> None:  # noqa: ARG001
    """CPUs must forget the translations of bytes [start, end) of an area. Hot."""
    m[G_TLB_GEN] += 1


def flush_tlb_page(m: memoryview, cpu: int, vma: int, address: int) -> None:  # noqa: ARG001
    """CPUs must forget the translation of one page of an area. Hot."""
    m[G_TLB_GEN] += 1


def ptep_clear_flush(m: memoryview, cpu: int, vma: int, address: int, ptep: int) -> int:  # noqa: ARG001
    """Empties an entry and drops what CPUs keep of it: the old entry. Hot."""
    pte = m[ptep]
    m[ptep] = 0
    if pte & PTE_P:
        m[G_TLB_GEN] += 1
    return pte


# --- walking --------------------------------------------------------------------------------------


def mm_find_pmd(m: memoryview, mm: int, address: int) -> int:
    """The PMD entry over user address `address`, whatever it says; 0 if there is no table. Hot."""
    entry = m[((m[mm + MM_PGD] - PAGE_OFFSET) >> 3) + (address >> 39 & 511)]
    if entry & PTE_P == 0:
        return 0
    entry = m[((entry & ADDRESS_MASK) >> 3) + (address >> 30 & 511)]
    if entry & PTE_P == 0:
        return 0
    return ((entry & ADDRESS_MASK) >> 3) + (address >> 21 & 511)


def mm_find_pte(m: memoryview, mm: int, address: int) -> int:
    """The PTE of user address `address`; 0 if there is no table or a huge page. Hot."""
    pmd = mm_find_pmd(m, mm, address)
    if pmd == 0 or m[pmd] & (PTE_P | PTE_PSE) != PTE_P:
        return 0
    return ((m[pmd] & ADDRESS_MASK) >> 3) + (address >> 12 & 511)


# --- making tables --------------------------------------------------------------------------------


def alloc_table(m: memoryview, cpu: int, mm: int) -> int:
    """A cleared frame for a table: its PFN, or -1. Hot."""
    pfn = alloc_pages_current(m, cpu, PGALLOC_GFP, 0)
    if pfn >= 0:
        m[mm + MM_PGTABLES_BYTES] += PAGE_SIZE
    return pfn


def free_table(m: memoryview, cpu: int, mm: int, table: int) -> None:
    """Gives the frame of an upper table back. Hot."""
    m[mm + MM_PGTABLES_BYTES] -= PAGE_SIZE
    free_pages(m, cpu, table >> 9, 0)


def pte_alloc_one(m: memoryview, cpu: int, mm: int) -> int:
    """A frame for a lowest table, marked and counted: its PFN, or -1. Hot."""
    pfn = alloc_table(m, cpu, mm)
    if pfn >= 0:
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        m[p + P_COUNTS] &= ~PG_TABLE_TYPE
        mod_zone_page_state(m, cpu, page_zone(m, p), NR_PAGETABLE, 1)
    return pfn


def pte_free(m: memoryview, cpu: int, mm: int, pfn: int) -> None:
    """Gives the frame of a lowest table back. Hot (pgtable_page_dtor, pte_free)."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    m[p + P_COUNTS] |= PG_TABLE_TYPE
    mod_zone_page_state(m, cpu, page_zone(m, p), NR_PAGETABLE, -1)
    m[mm + MM_PGTABLES_BYTES] -= PAGE_SIZE
    free_pages(m, cpu, pfn, 0)


def pmd_alloc(m: memoryview, cpu: int, mm: int, address: int) -> int:
    """The PMD entry over `address`, tables made where there were none; 0 without memory. Hot."""
    at = ((m[mm + MM_PGD] - PAGE_OFFSET) >> 3) + (address >> 39 & 511)
    if m[at] & PTE_P == 0:
        pfn = alloc_table(m, cpu, mm)
        if pfn < 0:
            return 0
        m[at] = (pfn << 12) | PTE_TABLE
    at = ((m[at] & ADDRESS_MASK) >> 3) + (address >> 30 & 511)
    if m[at] & PTE_P == 0:
        pfn = alloc_table(m, cpu, mm)
        if pfn < 0:
            return 0
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        m[p + PMD_HUGE_PTE] = 0
        m[at] = (pfn << 12) | PTE_TABLE
    return ((m[at] & ADDRESS_MASK) >> 3) + (address >> 21 & 511)


def pte_alloc(m: memoryview, cpu: int, mm: int, pmd: int, address: int) -> int:
    """The PTE of `address` below PMD entry `pmd`, its table made if need be; 0 without memory.
    Hot (pte_alloc_map)."""
    if m[pmd] & PTE_P == 0:
        pfn = pte_alloc_one(m, cpu, mm)
        if pfn < 0:
            return 0
        m[pmd] = (pfn << 12) | PTE_TABLE
    return ((m[pmd] & ADDRESS_MASK) >> 3) + (address >> 12 & 511)


def pgd_alloc(m: memoryview, cpu: int, mm: int) -> int:
    """The top table of a new address space: 0 or -ENOMEM. Hot (pgd_alloc, pgd_ctor)."""
    pfn = alloc_pages_current(m, cpu, PGALLOC_GFP, 0)
    if pfn < 0:
        return -ENOMEM
    table = pfn << 9
    kernel = (m[G_PGD] & ADDRESS_MASK) >> 3
    m[table] = m[kernel]
    m[table + 256 : table + 512] = m[kernel + 256 : kernel + 512]
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    m[p + P_INDEX] = PAGE_OFFSET + (mm << 3)
    list_add(m, p + P_NEXT, VMEMMAP_START + (pfn << 6) + 8, G_PGD_LIST)
    m[mm + MM_PGD] = PAGE_OFFSET + (table << 3)
    return 0


def pgd_free(m: memoryview, cpu: int, mm: int) -> None:
    """Gives the top table of an address space back. Hot."""
    pfn = (m[mm + MM_PGD] - PAGE_OFFSET) >> 12
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    list_del(m, p + P_NEXT)
    m[p + P_INDEX] = 0
    m[mm + MM_PGD] = 0
    free_pages(m, cpu, pfn, 0)


# --- freeing tables (mm/memory.c, free_pgd_range and below) ---------------------------------------


def widened(start: int, end: int, floor: int, ceiling: int, shift: int) -> bool:
    """True if the table that serves [start, end) serves nothing outside [floor, ceiling) (0: no
    ceiling), looking at entries that each serve 1 << `shift` bytes. Hot."""
    if start >> shift << shift < floor:
        return False
    if ceiling:
        ceiling = ceiling >> shift << shift
        if ceiling == 0 or end > ceiling:
            return False
    return True


def free_pmd_range(
    m: memoryview, cpu: int, mm: int, pud: int, addr: int, end: int, floor: int, ceiling: int
) -> None:
    """Frees the lowest tables of [addr, end), then the PMD table at PUD entry `pud` if nothing else
    is below it. Hot."""
    table = (m[pud] & ADDRESS_MASK) >> 3
    for i in range(addr >> PMD_SHIFT & 511, (end - 1 >> PMD_SHIFT & 511) + 1):
        entry = m[table + i]
        if entry & (PTE_P | PTE_PSE) == PTE_P:
            m[table + i] = 0
            pte_free(m, cpu, mm, (entry & ADDRESS_MASK) >> 12)
    if widened(addr, end, floor, ceiling, PUD_SHIFT):
        m[pud] = 0
        free_table(m, cpu, mm, table)


def free_pud_range(
    m: memoryview, cpu: int, mm: int, pgd: int, addr: int, end: int, floor: int, ceiling: int
) -> None:
    """Frees the tables of [addr, end) below top entry `pgd`, and its own if it is empty. Hot."""
    table = (m[pgd] & ADDRESS_MASK) >> 3
    start = addr
    while addr < end:
        stop = min((addr >> PUD_SHIFT) + 1 << PUD_SHIFT, end)
        pud = table + (addr >> PUD_SHIFT & 511)
        if m[pud] & PTE_P:
            free_pmd_range(m, cpu, mm, pud, addr, stop, floor, ceiling)
        addr = stop
    if widened(start, end, floor, ceiling, PGDIR_SHIFT):
        m[pgd] = 0
        free_table(m, cpu, mm, table)


def free_pgd_range(
    m: memoryview, cpu: int, mm: int, addr: int, end: int, floor: int, ceiling: int
) -> None:
    """Frees all tables that serve only bytes of [addr, end) and the holes around it, which reach
    from `floor` to `ceiling` (0: the end of the address space). Hot."""
    addr = addr >> PMD_SHIFT << PMD_SHIFT
    if addr < floor:
        addr += PMD_SIZE
        if addr == 0:
            return
    if ceiling:
        ceiling = ceiling >> PMD_SHIFT << PMD_SHIFT
        if ceiling == 0:
            return
    if ceiling and end > ceiling:
        end -= PMD_SIZE
    if addr >= end:
        return
    table = (m[mm + MM_PGD] - PAGE_OFFSET) >> 3
    while addr < end:
        stop = min((addr >> PGDIR_SHIFT) + 1 << PGDIR_SHIFT, end)
        pgd = table + (addr >> PGDIR_SHIFT & 511)
        if m[pgd] & PTE_P:
            free_pud_range(m, cpu, mm, pgd, addr, stop, floor, ceiling)
        addr = stop
    m[G_TLB_GEN] += 1
