# SPDX-License-Identifier: GPL-2.0-only
"""Locking memory: mlock, munlock, mlockall (mm/mlock.c).

Locking marks areas VM_LOCKED, cutting and merging them as need be, and faults their pages in
(`populate`); the pages move to the unevictable list as they are met. Unlocking takes the mark off
every page in the range; a page that another locked area maps keeps it, which the reverse map tells.

All hot. Results are 0 or a negative errno; addresses in bytes.
"""

from __future__ import annotations

from .layout import CPU_BLOCKS, CPU_EVENTS, CPU_WORDS, PAGE_OFFSET, SECTION_PAGES
from .lru_isolate import putback_lru_page
from .lruvec import page_lruvec
from .mlock_page import UNEVICTABLE_PGSTRANDED
from .mm_inline import (
    compound_head,
    del_page_from_lru_list,
    hpage_nr_pages,
    lock_page,
    page_lru,
    page_mapcount,
    unlock_page,
)
from .mm_struct import (
    MM_DEF_FLAGS,
    MM_LOCKED_VM,
    MM_MMAP,
    MM_RLIM,
    MM_TOTAL_VM,
    RLIM_MEMLOCK,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_LOCKONFAULT,
    VM_SPECIAL,
    VMA_END,
    VMA_FLAGS,
    VMA_MM,
    VMA_NEXT,
    VMA_PREV,
    VMA_START,
)
from .mm_types import P_COUNTS, P_FLAGS, PG_LRU, PG_MLOCKED, PG_UNEVICTABLE, REF_ONE
from .mmzone import NR_MLOCK
from .pcp import page_zone
from .pgtable import (
    PMD_SHIFT,
    PTE_P,
    PTE_SPECIAL,
    TASK_SIZE,
    mm_find_pmd,
    mm_find_pte,
    pmd_pfn,
    pmd_trans_huge,
    pte_pfn,
    pte_present,
)
from .rmap_walk import try_to_munlock
from .swap import lru_add_drain
from .vm_events import VM_EVENT_NAMES
from .vma import find_vma, vma_word
from .vma_range import range_with_flags
from .vmstat import mod_zone_page_state

UNEVICTABLE_PGMUNLOCKED = CPU_EVENTS + VM_EVENT_NAMES.index("unevictable_pgs_munlocked")
ENOMEM, EINVAL = 12, 22
MCL_CURRENT = 1
MCL_FUTURE = 2
MCL_ONFAULT = 4


def munlock_vma_page(m: memoryview, cpu: int, p: int) -> int:
    """Takes the mark off a locked page `p` (a head), unless another area still wants it: small
    pages dealt with, less one. Hot."""
    if m[p + P_FLAGS] & PG_MLOCKED == 0:
        return 0
    m[p + P_FLAGS] &= ~PG_MLOCKED
    nr = hpage_nr_pages(m, p)
    mod_zone_page_state(m, cpu, page_zone(m, p), NR_MLOCK, -nr)
    events = CPU_BLOCKS + cpu * CPU_WORDS
    if m[p + P_FLAGS] & PG_LRU == 0:
        stranded = m[p + P_FLAGS] & PG_UNEVICTABLE
        m[events + (UNEVICTABLE_PGSTRANDED if stranded else UNEVICTABLE_PGMUNLOCKED)] += 1
        return nr - 1
    m[p + P_COUNTS] += REF_ONE
    m[p + P_FLAGS] &= ~PG_LRU
    del_page_from_lru_list(m, cpu, p, page_lruvec(m, p), page_lru(m, p))
    if page_mapcount(m, p) > 1:
        try_to_munlock(m, cpu, p)
    if m[p + P_FLAGS] & PG_MLOCKED == 0:
        m[events + UNEVICTABLE_PGMUNLOCKED] += 1
    putback_lru_page(m, cpu, p)
    return nr - 1


def mapped_page(m: memoryview, mm: int, addr: int) -> int:
    """Struct page of the small page at `addr`, or of the huge one around it; 0 for none. Hot."""
    pmd = mm_find_pmd(m, mm, addr)
    if pmd and pmd_trans_huge(m[pmd]):
        pfn = pmd_pfn(m[pmd])
        return m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    pte = mm_find_pte(m, mm, addr)
    if pte == 0 or not pte_present(m[pte]) or m[pte] & PTE_SPECIAL:
        return 0
    pfn = pte_pfn(m[pte])
    return compound_head(m, m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3))


def munlock_vma_pages_range(m: memoryview, cpu: int, vma: int, start: int, end: int) -> None:
    """Unlocks [start, end) of an area and all its pages. Hot."""
    m[vma + VMA_FLAGS] &= ~VM_LOCKED_MASK
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    lru_add_drain(m, cpu)
    while start < end:
        pmd = mm_find_pmd(m, mm, start)
        if pmd == 0 or m[pmd] & PTE_P == 0:
            start = (start >> PMD_SHIFT) + 1 << PMD_SHIFT
            continue
        p = mapped_page(m, mm, start)
        if p:
            lock_page(m, p)
            munlock_vma_page(m, cpu, p)
            unlock_page(m, p)
        start += 4096


def mlock_fixup(
    m: memoryview, cpu: int, mm: int, vma: int, prev: int, start: int, end: int, flags: int
) -> int:
    """Gives [start, end) of an area the flags `flags`: the area it is now, or -errno. Hot."""
    old = m[vma + VMA_FLAGS]
    if flags == old or old & VM_SPECIAL:
        return vma
    vma = range_with_flags(m, cpu, mm, vma, prev, start, end, flags)
    if vma < 0:
        return vma
    pages = end - start >> 12
    if flags & VM_LOCKED == 0:
        m[mm + MM_LOCKED_VM] -= pages
        munlock_vma_pages_range(m, cpu, vma, start, end)
    else:
        if old & VM_LOCKED == 0:
            m[mm + MM_LOCKED_VM] += pages
        m[vma + VMA_FLAGS] = flags
    return vma


def apply_vma_lock_flags(
    m: memoryview, cpu: int, mm: int, start: int, length: int, flags: int
) -> int:
    """Gives every area of `length` bytes from `start` on the lock flags: 0 or -errno. Hot."""
    end = start + length
    if end == start:
        return 0
    vma = find_vma(m, mm, start)
    if vma == 0 or m[vma + VMA_START] > start:
        return -ENOMEM
    prev = vma if start > m[vma + VMA_START] else vma_word(m[vma + VMA_PREV])
    at = start
    while True:
        stop = min(m[vma + VMA_END], end)
        want = m[vma + VMA_FLAGS] & ~VM_LOCKED_MASK | flags
        prev = mlock_fixup(m, cpu, mm, vma, prev, at, stop, want)
        if prev < 0:
            return prev
        at = max(stop, m[prev + VMA_END])
        if at >= end:
            return 0
        vma = vma_word(m[prev + VMA_NEXT])
        if vma == 0 or m[vma + VMA_START] != at:
            return -ENOMEM


def count_locked(m: memoryview, mm: int, start: int, length: int) -> int:
    """Pages of the range that are locked already. Hot (count_mm_mlocked_page_nr)."""
    count = 0
    vma = find_vma(m, mm, start)
    while vma and m[vma + VMA_START] < start + length:
        if m[vma + VMA_FLAGS] & VM_LOCKED:
            lo = max(m[vma + VMA_START], start)
            count += min(m[vma + VMA_END], start + length) - lo >> 12
        vma = vma_word(m[vma + VMA_NEXT])
    return count


def do_mlock(m: memoryview, cpu: int, mm: int, start: int, length: int, flags: int) -> int:
    """Locks the pages of `length` bytes from `start` on with VM_LOCKED (and VM_LOCKONFAULT): 0 or
    -errno. Hot. Faulting them in is the caller's to do (mm_populate)."""
    length = length + (start & 4095)
    start &= -4096
    if length < 0 or start < 0 or length > TASK_SIZE or start + length > TASK_SIZE:
        return -EINVAL if length < 0 else -ENOMEM
    length = (length + 4095) & -4096
    limit = m[mm + MM_RLIM + RLIM_MEMLOCK] >> 12
    locked = m[mm + MM_LOCKED_VM] + (length >> 12)
    if locked > limit:
        locked -= count_locked(m, mm, start, length)
    if locked > limit:
        return -ENOMEM
    return apply_vma_lock_flags(m, cpu, mm, start, length, flags)


def apply_mlockall_flags(m: memoryview, cpu: int, mm: int, flags: int) -> None:
    """Locks all areas there are, or will be, as the MCL_ bits say; 0 unlocks all. Hot.

    An area that cannot be dealt with is passed over.
    """
    m[mm + MM_DEF_FLAGS] &= ~VM_LOCKED_MASK
    on_fault = VM_LOCKONFAULT if flags & MCL_ONFAULT else 0
    if flags & MCL_FUTURE:
        m[mm + MM_DEF_FLAGS] |= VM_LOCKED | on_fault
        if flags & MCL_CURRENT == 0:
            return
    add = VM_LOCKED | on_fault if flags & MCL_CURRENT else 0
    prev = 0
    vma = vma_word(m[mm + MM_MMAP])
    while vma:
        start, end = m[vma + VMA_START], m[vma + VMA_END]
        want = m[vma + VMA_FLAGS] & ~VM_LOCKED_MASK | add
        said = mlock_fixup(m, cpu, mm, vma, prev, start, end, want)
        prev = said if said >= 0 else vma
        vma = vma_word(m[prev + VMA_NEXT])


def do_mlockall(m: memoryview, cpu: int, mm: int, flags: int) -> int:
    """mlockall() with MCL_ bits: 0, -EINVAL, or -ENOMEM beyond the limit. Hot. Faulting in what is
    there (MCL_CURRENT) is the caller's to do (populate_all)."""
    if flags & (MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0:
        return -EINVAL
    if flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT):
        return -EINVAL
    if flags & MCL_CURRENT and m[mm + MM_TOTAL_VM] > m[mm + MM_RLIM + RLIM_MEMLOCK] >> 12:
        return -ENOMEM
    apply_mlockall_flags(m, cpu, mm, flags)
    return 0


def do_munlockall(m: memoryview, cpu: int, mm: int) -> int:
    """munlockall(): 0. Hot."""
    apply_mlockall_flags(m, cpu, mm, 0)
    return 0


def do_munlock(m: memoryview, cpu: int, mm: int, start: int, length: int) -> int:
    """Unlocks the pages of `length` bytes from `start` on: 0 or -errno. Hot."""
    length = (length + (start & 4095) + 4095) & -4096
    start &= -4096
    if length < 0 or start < 0 or start + length > TASK_SIZE:
        return -EINVAL if length < 0 else -ENOMEM
    return apply_vma_lock_flags(m, cpu, mm, start, length, 0)
