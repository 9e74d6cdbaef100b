# SPDX-License-Identifier: GPL-2.0-only
"""Advice about memory: madvise (mm/madvise.c).

Some advice changes the flags of areas (how they are read, what a child gets, huge pages), some acts
at once: DONTNEED takes the pages out, FREE lets reclaim take them as long as nobody writes to them
again, WILLNEED reads a file ahead.

All hot. Results are 0 or a negative errno; addresses in bytes.
"""

from __future__ import annotations

from .address_space import AS_I_PAGES
from .fs import file_mapping
from .gfp import GFP_HIGHUSER_MOVABLE
from .huge_pmd_split import huge_zero_pfn
from .huge_split import split_huge_page
from .kernel_globals import G_MAX_MAP_COUNT, G_TLB_GEN
from .layout import PAGE_OFFSET, SECTION_PAGES
from .memory_zap import zap_page_range
from .mm_inline import PG_SWAPCACHE, get_page_p, page_mapcount, trylock_page, unlock_page
from .mm_struct import (
    MM_MAP_COUNT,
    MM_RSS,
    MM_SWAPENTS,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_HUGEPAGE,
    VM_IO,
    VM_LOCKED,
    VM_NOHUGEPAGE,
    VM_OPS_SHMEM,
    VM_PFNMAP,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_SHARED,
    VM_SPECIAL,
    VM_WIPEONFORK,
    VMA_END,
    VMA_FILE,
    VMA_FLAGS,
    VMA_MM,
    VMA_NEXT,
    VMA_OPS,
    VMA_PGOFF,
    VMA_PREV,
    VMA_START,
)
from .mm_types import P_FLAGS, P_NEXT, PG_DIRTY, PG_HEAD
from .pagevec import put_page_p
from .pgtable import (
    PMD_SHIFT,
    PMD_SIZE,
    PTE_A,
    PTE_D,
    PTE_P,
    PTE_SPECIAL,
    entry_table,
    mm_find_pmd,
    pmd_pfn,
    pmd_trans_huge,
    pte_pfn,
    pte_present,
)
from .readahead import do_page_cache_readahead
from .shmem import radix_to_swp_entry
from .swap import lru_add_drain, mark_page_lazyfree
from .swap_state import read_swap_cache_async, swapin_readahead
from .swapfile import free_swap_and_cache, try_to_free_swap
from .swapops import non_swap_entry, pte_to_swp_entry
from .vma import find_vma, vma_word
from .vma_range import range_with_flags
from .xarray import xa_load

EBADF, ENOMEM, EINVAL = 9, 12, 22

MADV_NORMAL = 0
MADV_RANDOM = 1
MADV_SEQUENTIAL = 2
MADV_WILLNEED = 3
MADV_DONTNEED = 4
MADV_FREE = 8
MADV_DONTFORK = 10
MADV_DOFORK = 11
MADV_HUGEPAGE = 14
MADV_NOHUGEPAGE = 15
MADV_DONTDUMP = 16
MADV_DODUMP = 17
MADV_WIPEONFORK = 18
MADV_KEEPONFORK = 19
VALID = 1 << MADV_NORMAL | 1 << MADV_RANDOM | 1 << MADV_SEQUENTIAL | 1 << MADV_WILLNEED
VALID |= 1 << MADV_DONTNEED | 1 << MADV_FREE | 1 << MADV_DONTFORK | 1 << MADV_DOFORK
VALID |= 1 << MADV_HUGEPAGE | 1 << MADV_NOHUGEPAGE | 1 << MADV_DONTDUMP | 1 << MADV_DODUMP
VALID |= 1 << MADV_WIPEONFORK | 1 << MADV_KEEPONFORK
S64_MAX = (1 << 63) - 1


def advised_flags(m: memoryview, vma: int, advice: int) -> int:
    """What the advice makes of an area's flags, or -errno. Hot."""
    flags = m[vma + VMA_FLAGS]
    if advice == MADV_NORMAL:
        return flags & ~(VM_RAND_READ | VM_SEQ_READ)
    if advice == MADV_SEQUENTIAL:
        return flags & ~VM_RAND_READ | VM_SEQ_READ
    if advice == MADV_RANDOM:
        return flags & ~VM_SEQ_READ | VM_RAND_READ
    if advice == MADV_DONTFORK:
        return flags | VM_DONTCOPY
    if advice == MADV_DOFORK:
        return -EINVAL if flags & VM_IO else flags & ~VM_DONTCOPY
    if advice == MADV_WIPEONFORK:
        return -EINVAL if m[vma + VMA_FILE] or flags & VM_SHARED else flags | VM_WIPEONFORK
    if advice == MADV_KEEPONFORK:
        return flags & ~VM_WIPEONFORK
    if advice == MADV_DONTDUMP:
        return flags | VM_DONTDUMP
    if advice == MADV_DODUMP:
        return -EINVAL if flags & VM_SPECIAL else flags & ~VM_DONTDUMP
    if flags & VM_SPECIAL:
        return -EINVAL
    if advice == MADV_HUGEPAGE:
        return flags & ~VM_NOHUGEPAGE | VM_HUGEPAGE
    return flags & ~VM_HUGEPAGE | VM_NOHUGEPAGE


def madvise_behavior(
    m: memoryview, cpu: int, mm: int, vma: int, prev: int, start: int, end: int, advice: int
) -> int:
    """Changes the flags of [start, end) of an area: the area it is now, or -errno. Hot."""
    flags = advised_flags(m, vma, advice)
    if flags < 0 or flags == m[vma + VMA_FLAGS]:
        return flags if flags < 0 else vma
    cuts = start != m[vma + VMA_START] or end != m[vma + VMA_END]
    if cuts and m[mm + MM_MAP_COUNT] >= m[G_MAX_MAP_COUNT]:
        return -ENOMEM
    vma = range_with_flags(m, cpu, mm, vma, prev, start, end, flags)
    if vma >= 0:
        m[vma + VMA_FLAGS] = flags
    return vma


def lazyfree_page(m: memoryview, cpu: int, p: int, at: int) -> None:
    """Gives up one small page that the entry at word `at` maps. Hot."""
    if m[p + P_FLAGS] & (PG_SWAPCACHE | PG_DIRTY):
        if not trylock_page(m, p):
            return
        kept = page_mapcount(m, p) != 1
        if not kept and m[p + P_FLAGS] & PG_SWAPCACHE:
            kept = not try_to_free_swap(m, cpu, p)
        if not kept:
            m[p + P_FLAGS] &= ~PG_DIRTY
        unlock_page(m, p)
        if kept:
            return
    m[at] &= ~(PTE_A | PTE_D)
    mark_page_lazyfree(m, cpu, p)


def madvise_free_huge_pmd(m: memoryview, cpu: int, pmd: int, start: int, end: int) -> None:
    """Gives up a huge page, or splits it if only a part of it is meant. Hot."""
    pfn = pmd_pfn(m[pmd])
    if pfn == huge_zero_pfn(m):
        return
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if page_mapcount(m, p) != 1 or not trylock_page(m, p):
        return
    if end - start != PMD_SIZE:
        get_page_p(m, p)
        split_huge_page(m, cpu, p)
        unlock_page(m, p)
        put_page_p(m, cpu, p)
        return
    m[p + P_FLAGS] &= ~PG_DIRTY
    unlock_page(m, p)
    m[pmd] &= ~(PTE_A | PTE_D)
    mark_page_lazyfree(m, cpu, p)


def madvise_free_range(m: memoryview, cpu: int, vma: int, start: int, end: int) -> None:
    """Gives up the pages of [start, end) of an anonymous area. Hot.

    A huge page that is mapped in pieces stays as it is.
    """
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    lru_add_drain(m, cpu)
    m[G_TLB_GEN] += 1
    while start < end:
        pmd = mm_find_pmd(m, mm, start)
        stop = min((start >> PMD_SHIFT) + 1 << PMD_SHIFT, end)
        if pmd and pmd_trans_huge(m[pmd]):
            madvise_free_huge_pmd(m, cpu, pmd, start, stop)
        if pmd == 0 or m[pmd] & PTE_P == 0 or pmd_trans_huge(m[pmd]):
            start = stop
            continue
        at = entry_table(m[pmd]) + (start >> 12 & 511)
        for i in range(at, at + (stop - start >> 12)):
            value = m[i]
            if value and not pte_present(value):
                entry = pte_to_swp_entry(value)
                if not non_swap_entry(entry):
                    m[mm + MM_RSS + MM_SWAPENTS] -= 1
                    free_swap_and_cache(m, cpu, entry)
                    m[i] = 0
            elif value and value & PTE_SPECIAL == 0:
                pfn = pte_pfn(value)
                p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
                if m[p + P_FLAGS] & PG_HEAD == 0 and m[p + P_NEXT] & 1 == 0:
                    lazyfree_page(m, cpu, p, i)
        start = stop


def shmem_willneed(m: memoryview, cpu: int, vma: int, start: int, end: int) -> None:
    """Brings what shared memory has in swap back into the swap cache. Hot
    (force_shm_swapin_readahead)."""
    mapping = file_mapping(m, vma_word(m[vma + VMA_FILE]))
    while start < end:
        index = (start - m[vma + VMA_START] >> 12) + m[vma + VMA_PGOFF]
        entry = xa_load(m, mapping + AS_I_PAGES, index)
        if entry & 1:
            gfp = GFP_HIGHUSER_MOVABLE
            p = read_swap_cache_async(m, cpu, radix_to_swp_entry(entry), gfp, vma, start)
            if p:
                put_page_p(m, cpu, p)
        start += 4096
    lru_add_drain(m, cpu)


def madvise_willneed(m: memoryview, cpu: int, vma: int, start: int, end: int) -> int:
    """Brings what is in swap back into its cache, or reads the file ahead: 0 or -errno. Hot."""
    file = vma_word(m[vma + VMA_FILE])
    if file and m[vma + VMA_OPS] == VM_OPS_SHMEM:
        shmem_willneed(m, cpu, vma, start, end)
        return 0
    if file:
        index = (start - m[vma + VMA_START] >> 12) + m[vma + VMA_PGOFF]
        do_page_cache_readahead(m, cpu, file, index, end - start >> 12, 0)
        return 0
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    while start < end:
        pmd = mm_find_pmd(m, mm, start)
        if pmd and m[pmd] & PTE_P and not pmd_trans_huge(m[pmd]):
            value = m[entry_table(m[pmd]) + (start >> 12 & 511)]
            if value and not pte_present(value):
                entry = pte_to_swp_entry(value)
                if not non_swap_entry(entry):
                    p = swapin_readahead(m, cpu, entry, GFP_HIGHUSER_MOVABLE, vma, start)
                    if p:
                        put_page_p(m, cpu, p)
        start += 4096
    lru_add_drain(m, cpu)
    return 0


def madvise_vma(
    m: memoryview, cpu: int, mm: int, vma: int, prev: int, start: int, end: int, advice: int
) -> int:
    """Advice for [start, end) of one area: the area it is now, or -errno. Hot."""
    if advice == MADV_WILLNEED:
        rc = madvise_willneed(m, cpu, vma, start, end)
        return rc if rc < 0 else vma
    if advice == MADV_DONTNEED or advice == MADV_FREE:
        if m[vma + VMA_FLAGS] & (VM_LOCKED | VM_PFNMAP):
            return -EINVAL
        if advice == MADV_DONTNEED:
            zap_page_range(m, cpu, vma, start, end - start)
            return vma
        if m[vma + VMA_OPS]:
            return -EINVAL
        madvise_free_range(m, cpu, vma, start, end)
        return vma
    return madvise_behavior(m, cpu, mm, vma, prev, start, end, advice)


def do_madvise(m: memoryview, cpu: int, mm: int, start: int, length: int, advice: int) -> int:
    """Advice about `length` bytes from `start` on: 0 or -errno; -ENOMEM at last if no area covers
    some of them. Hot."""
    if advice < 0 or advice > MADV_KEEPONFORK or VALID >> advice & 1 == 0 or start & 4095:
        return -EINVAL
    if length < 0 or length > S64_MAX - 4095 or start < 0 or start + length > S64_MAX - 4095:
        return -EINVAL
    end = start + ((length + 4095) & -4096)
    if end == start:
        return 0
    unmapped = 0
    vma = find_vma(m, mm, start)
    if vma == 0:
        return -ENOMEM
    prev = vma if start > m[vma + VMA_START] else vma_word(m[vma + VMA_PREV])
    while True:
        if vma == 0:
            return -ENOMEM
        if start < m[vma + VMA_START]:
            unmapped = -ENOMEM
            start = m[vma + VMA_START]
            if start >= end:
                return -ENOMEM
        stop = min(m[vma + VMA_END], end)
        prev = madvise_vma(m, cpu, mm, vma, prev, start, stop, advice)
        if prev < 0:
            return prev
        start = max(stop, m[prev + VMA_END])
        if start >= end:
            return unmapped
        vma = vma_word(m[prev + VMA_NEXT])
