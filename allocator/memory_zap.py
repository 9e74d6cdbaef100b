# SPDX-License-Identifier: GPL-2.0-only
"""Taking pages out of address spaces, and copying page tables for fork (mm/memory.c).

`unmap_vmas` empties the entries of a range: what they map loses a mapping and a reference, swap
slots are given back, the mm's counters go down. `zap_page_range` does that inside one area (for
madvise), `unmap_mapping_range` in all areas that map a part of a file (for truncation).
`copy_page_range` fills a child's tables with its parent's entries, write-protecting on both sides
what is to be copied on write.

Pages go as they are met, where 4.20 gathers them until CPUs have dropped their translations: here
no guest instruction runs in between.

All hot; `vma`, `mm` are word indices, addresses user addresses in bytes.
"""

from __future__ import annotations

from .huge_memory import copy_huge_pmd, zap_huge_pmd
from .huge_pmd_split import split_huge_pmd
from .kernel_globals import G_MMLIST, G_TLB_GEN
from .layout import PAGE_OFFSET, SECTION_PAGES
from .list_head import list_add
from .mm_inline import compound_head, get_page_p, page_anon
from .mm_struct import (
    MM_ANONPAGES,
    MM_MMLIST,
    MM_PGD,
    MM_RSS,
    MM_SWAPENTS,
    VM_MAYWRITE,
    VM_SEQ_READ,
    VM_SHARED,
    VMA_ANON_VMA,
    VMA_END,
    VMA_FLAGS,
    VMA_MM,
    VMA_NEXT,
    VMA_PGOFF,
    VMA_SHARED,
    VMA_START,
)
from .page_dirty import set_page_dirty
from .pgtable import (
    ADDRESS_MASK,
    PFN_MASK,
    PMD_SHIFT,
    PMD_SIZE,
    PTE_A,
    PTE_D,
    PTE_P,
    PTE_PROTNONE,
    PTE_RW,
    PTE_SPECIAL,
    mm_find_pmd,
    pmd_alloc,
    pmd_trans_huge,
    pte_alloc,
)
from .rbtree import interval_tree_iter_first, interval_tree_iter_next
from .rmap import mm_counter_file, page_dup_rmap, page_remove_rmap
from .swap import mark_page_accessed
from .swap_state import free_page_and_swap_cache
from .swapfile import free_swap_and_cache, swap_duplicate
from .swapops import (
    is_migration_entry,
    is_write_migration_entry,
    make_migration_entry,
    migration_entry_to_pfn,
    non_swap_entry,
    pte_to_swp_entry,
    swp_entry_to_pte,
)

ENOMEM = 12
ZAP_ALL = 0
ZAP_PAGES = 1
ZAP_FILE_PAGES = 2
"""What a zap takes: everything, leave swap entries (truncation), leave private copies as well."""


def is_cow_mapping(flags: int) -> bool:
    """True for areas whose pages are copied on write. Hot."""
    return flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE


def mm_counter(m: memoryview, p: int) -> int:
    """Which counter of the mm a mapped page is in. Hot."""
    return MM_ANONPAGES if page_anon(m, p) else mm_counter_file(m, p)


def zap_present_pte(
    m: memoryview, cpu: int, mm: int, vma: int, pte: int, value: int, what: int
) -> None:
    """Empties a present entry. Hot."""
    p = 0
    if value & PTE_SPECIAL == 0:
        pfn = (value if value & PTE_P else ~value) >> 12 & PFN_MASK
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    anon = p != 0 and page_anon(m, p)
    if what == ZAP_FILE_PAGES and anon:
        return
    m[pte] = 0
    if p == 0:
        return
    if anon:
        m[mm + MM_RSS + MM_ANONPAGES] -= 1
    else:
        if value & PTE_D:
            set_page_dirty(m, cpu, p)
        if value & PTE_A and m[vma + VMA_FLAGS] & VM_SEQ_READ == 0:
            mark_page_accessed(m, cpu, p)
        m[mm + MM_RSS + mm_counter_file(m, p)] -= 1
    page_remove_rmap(m, cpu, p, False)
    free_page_and_swap_cache(m, cpu, p)


def zap_pte_range(
    m: memoryview, cpu: int, mm: int, vma: int, table: int, addr: int, end: int, what: int
) -> None:
    """Empties the entries of [addr, end) in one lowest table. Hot."""
    first = table + (addr >> 12 & 511)
    for pte in range(first, first + (end - addr >> 12)):
        value = m[pte]
        if value == 0:
            continue
        if value & (PTE_P | PTE_PROTNONE):
            zap_present_pte(m, cpu, mm, vma, pte, value, what)
        elif what == ZAP_ALL:
            entry = pte_to_swp_entry(value)
            m[pte] = 0
            if not non_swap_entry(entry):
                m[mm + MM_RSS + MM_SWAPENTS] -= 1
                free_swap_and_cache(m, cpu, entry)
            elif is_migration_entry(entry):
                pfn = migration_entry_to_pfn(entry)
                p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
                m[mm + MM_RSS + mm_counter(m, p)] -= 1


def unmap_page_range(m: memoryview, cpu: int, vma: int, addr: int, end: int, what: int) -> None:
    """Empties the entries of [addr, end) of one area. Hot."""
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    m[G_TLB_GEN] += 1
    while addr < end:
        stop = min((addr >> PMD_SHIFT) + 1 << PMD_SHIFT, end)
        pmd = mm_find_pmd(m, mm, addr)
        if pmd == 0:
            addr = next_table(m, mm, addr)
            continue
        entry = m[pmd]
        if pmd_trans_huge(entry):
            if stop - addr == PMD_SIZE:
                zap_huge_pmd(m, cpu, mm, pmd)
                addr = stop
                continue
            split_huge_pmd(m, cpu, vma, pmd, addr)
            entry = m[pmd]
        if entry & PTE_P:
            zap_pte_range(m, cpu, mm, vma, (entry & ADDRESS_MASK) >> 3, addr, stop, what)
        addr = stop


def next_table(m: memoryview, mm: int, addr: int) -> int:
    """The first address behind `addr` that another entry of the upper two tables serves. Hot."""
    entry = m[((m[mm + MM_PGD] - PAGE_OFFSET) >> 3) + (addr >> 39 & 511)]
    if entry & PTE_P == 0:
        return (addr >> 39) + 1 << 39
    return (addr >> 30) + 1 << 30


def unmap_vmas(m: memoryview, cpu: int, vma: int, start: int, end: int) -> None:
    """Empties the entries of [start, end) in `vma` and the areas behind it. Hot."""
    while vma and m[vma + VMA_START] < end:
        lo = max(m[vma + VMA_START], start)
        hi = min(m[vma + VMA_END], end)
        if lo < hi:
            unmap_page_range(m, cpu, vma, lo, hi, ZAP_ALL)
        va = m[vma + VMA_NEXT]
        vma = (va - PAGE_OFFSET) >> 3 if va else 0


def zap_page_range(m: memoryview, cpu: int, vma: int, start: int, size: int) -> None:
    """Empties the entries of `size` bytes from `start` on, which areas from `vma` on hold. Hot."""
    unmap_vmas(m, cpu, vma, start, start + size)


def unmap_mapping_range(
    m: memoryview, cpu: int, root: int, first: int, nr: int, even_cows: int
) -> None:
    """Takes pages [first, first + nr) of a file (nr 0: to its end) out of all areas in the tree at
    `root`; private copies as well if `even_cows`. Hot (unmap_mapping_pages)."""
    last = first + nr - 1 if nr else (1 << 51) - 1
    what = ZAP_PAGES if even_cows else ZAP_FILE_PAGES
    node = interval_tree_iter_first(m, root, first, last)
    while node:
        vma = node - VMA_SHARED
        pgoff = m[vma + VMA_PGOFF]
        start = m[vma + VMA_START]
        pages = m[vma + VMA_END] - start >> 12
        lo = max(first, pgoff) - pgoff
        hi = min(last, pgoff + pages - 1) + 1 - pgoff
        unmap_page_range(m, cpu, vma, start + (lo << 12), start + (hi << 12), what)
        node = interval_tree_iter_next(m, node, first, last)


# --- fork -----------------------------------------------------------------------------------------


def copy_nonpresent_pte(m: memoryview, dst: int, src: int, pte: int, value: int) -> int:
    """The child's entry for a swap or migration entry, 0 without memory. Hot."""
    entry = pte_to_swp_entry(value)
    if not non_swap_entry(entry):
        if swap_duplicate(m, entry) < 0:
            return 0
        if m[dst + MM_MMLIST] == PAGE_OFFSET + (dst + MM_MMLIST << 3):
            head = src + MM_MMLIST
            if m[head] == PAGE_OFFSET + (head << 3):
                head = G_MMLIST
            list_add(m, dst + MM_MMLIST, PAGE_OFFSET + (dst + MM_MMLIST << 3), head)
        m[dst + MM_RSS + MM_SWAPENTS] += 1
    elif is_migration_entry(entry):
        pfn = migration_entry_to_pfn(entry)
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        m[dst + MM_RSS + mm_counter(m, p)] += 1
        if is_write_migration_entry(entry):
            value = swp_entry_to_pte(make_migration_entry(pfn, False))
            m[pte] = value
    return value


def copy_pte_range(
    m: memoryview, dst: int, src: int, flags: int, to: int, at: int, count: int
) -> int:
    """Copies `count` entries from word `at` to word `to`: 0 or -ENOMEM. Hot."""
    cow = is_cow_mapping(flags)
    for i in range(count):
        value = m[at + i]
        if value == 0:
            continue
        if value & (PTE_P | PTE_PROTNONE) == 0:
            value = copy_nonpresent_pte(m, dst, src, at + i, value)
            if value == 0:
                return -ENOMEM
            m[to + i] = value
            continue
        if cow and value & PTE_RW:
            value &= ~PTE_RW
            m[at + i] = value
        if flags & VM_SHARED:
            value &= ~PTE_D
        value &= ~PTE_A
        if value & PTE_SPECIAL == 0:
            pfn = (value if value & PTE_P else ~value) >> 12 & PFN_MASK
            p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
            get_page_p(m, compound_head(m, p))
            page_dup_rmap(m, p, False)
            m[dst + MM_RSS + mm_counter(m, p)] += 1
        m[to + i] = value
    return 0


def copy_page_range(m: memoryview, cpu: int, dst: int, src: int, vma: int) -> int:
    """Copies the entries of area `vma` of the mm `src` into the tables of `dst`: 0 or -ENOMEM.
    Hot. Areas that only map a file start empty: they will fault."""
    if m[vma + VMA_ANON_VMA] == 0:
        return 0
    flags = m[vma + VMA_FLAGS]
    addr = m[vma + VMA_START]
    end = m[vma + VMA_END]
    m[G_TLB_GEN] += 1
    while addr < end:
        stop = min((addr >> PMD_SHIFT) + 1 << PMD_SHIFT, end)
        pmd = mm_find_pmd(m, src, addr)
        if pmd == 0:
            addr = next_table(m, src, addr)
            continue
        if m[pmd] == 0:
            addr = stop
            continue
        other = pmd_alloc(m, cpu, dst, addr)
        if other == 0:
            return -ENOMEM
        if pmd_trans_huge(m[pmd]):
            rc = copy_huge_pmd(m, cpu, dst, vma, other, pmd)
            if rc == 0:
                addr = stop
                continue
            if rc == -ENOMEM:
                return rc
        to = pte_alloc(m, cpu, dst, other, addr)
        if to == 0:
            return -ENOMEM
        at = ((m[pmd] & ADDRESS_MASK) >> 3) + (addr >> 12 & 511)
        rc = copy_pte_range(m, dst, src, flags, to, at, stop - addr >> 12)
        if rc:
            return rc
        addr = stop
    return 0
