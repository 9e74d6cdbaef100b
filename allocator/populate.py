# SPDX-License-Identifier: GPL-2.0-only
"""Faulting pages in ahead of use: MAP_POPULATE, mlock, mremap of what is locked (mm/gup.c).

Every page of a range is touched as its area allows, writing where private pages would be written.
In a locked area the pages are mlocked as they are met.

All hot. Results are 0 or a negative errno; addresses in bytes.
"""

from __future__ import annotations

from .memory import handle_mm_fault
from .mlock import mapped_page
from .mlock_page import mlock_vma_page
from .mm_inline import lock_page, unlock_page
from .mm_struct import (
    FAULT_FLAG_WRITE,
    MM_BRK,
    MM_DEF_FLAGS,
    MM_MMAP,
    VM_ACCESS_FLAGS,
    VM_FAULT_ERROR,
    VM_FAULT_OOM,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_SHARED,
    VM_SPECIAL,
    VM_WRITE,
    VMA_END,
    VMA_FLAGS,
    VMA_NEXT,
    VMA_START,
)
from .mm_types import P_MAPPING
from .mmap import do_brk
from .mremap import do_mremap
from .pgtable import PTE_P, PTE_RW, mm_find_pmd, mm_find_pte, pmd_trans_huge
from .swap import lru_add_drain
from .vma import find_vma, vma_word

EFAULT, ENOMEM = 14, 12


def page_is_there(m: memoryview, mm: int, addr: int, write: int) -> bool:
    """True if an entry maps `addr` for this access. Hot."""
    pmd = mm_find_pmd(m, mm, addr)
    at = pmd if pmd and pmd_trans_huge(m[pmd]) else mm_find_pte(m, mm, addr)
    if at == 0 or m[at] & PTE_P == 0:
        return False
    return write == 0 or m[at] & PTE_RW != 0


def populate_vma_page_range(
    m: memoryview, cpu: int, mm: int, vma: int, start: int, end: int
) -> int:
    """Faults [start, end) of one area in: 0 or -errno. Hot."""
    flags = m[vma + VMA_FLAGS]
    if flags & VM_ACCESS_FLAGS == 0:
        return -EFAULT
    write = FAULT_FLAG_WRITE if flags & (VM_WRITE | VM_SHARED) == VM_WRITE else 0
    while start < end:
        if not page_is_there(m, mm, start, write):
            said = handle_mm_fault(m, cpu, vma, start, write)
            if said & VM_FAULT_ERROR:
                return -ENOMEM if said & VM_FAULT_OOM else -EFAULT
        if flags & VM_LOCKED:
            p = mapped_page(m, mm, start)
            if p and m[p + P_MAPPING]:
                lru_add_drain(m, cpu)
                lock_page(m, p)
                mlock_vma_page(m, cpu, p)
                unlock_page(m, p)
        start += 4096
    return 0


def mm_populate(m: memoryview, cpu: int, mm: int, start: int, length: int) -> int:
    """Faults in `length` bytes from `start` on, as far as areas cover them: 0, or -errno of the
    first page that could not be had, -ENOMEM for a hole. Hot (__mm_populate)."""
    end = start + ((length + 4095) & -4096)
    while start < end:
        vma = find_vma(m, mm, start)
        if vma == 0 or m[vma + VMA_START] > start:
            return -ENOMEM
        stop = min(m[vma + VMA_END], end)
        if m[vma + VMA_FLAGS] & VM_LOCKONFAULT == 0:
            rc = populate_vma_page_range(m, cpu, mm, vma, start, stop)
            if rc:
                return rc
        start = stop
        if start < end and vma_word(m[vma + VMA_NEXT]) == 0:
            return -ENOMEM
    return 0


def populate_all(m: memoryview, cpu: int, mm: int) -> None:
    """Faults in whatever locked areas want, passing over what cannot be had: mlockall() does not
    fail for it. Hot (mm_populate with ignore_errors)."""
    vma = vma_word(m[mm + MM_MMAP])
    while vma:
        flags = m[vma + VMA_FLAGS]
        start, end = m[vma + VMA_START], m[vma + VMA_END]
        if flags & (VM_LOCKED | VM_LOCKONFAULT) == VM_LOCKED and flags & VM_SPECIAL == 0:
            populate_vma_page_range(m, cpu, mm, vma, start, end)
        vma = find_vma(m, mm, end)


def mremap(
    m: memoryview, cpu: int, mm: int, addr: int, old_len: int, new_len: int, flags: int, new: int
) -> int:
    """do_mremap(), and what a locked area has grown by is faulted in. Hot."""
    said = do_mremap(m, cpu, mm, addr, old_len, new_len, flags, new)
    if said >= 0 and new_len > old_len:
        vma = find_vma(m, mm, said)
        if vma and m[vma + VMA_FLAGS] & VM_LOCKED:
            done = (old_len + 4095) & -4096
            mm_populate(m, cpu, mm, said + done, new_len - done)
    return said


def brk(m: memoryview, cpu: int, mm: int, end: int) -> int:
    """do_brk(), and what the heap has grown by is faulted in where all is locked. Hot."""
    before = m[mm + MM_BRK]
    said = do_brk(m, cpu, mm, end)
    if said > before and m[mm + MM_DEF_FLAGS] & VM_LOCKED:
        mm_populate(m, cpu, mm, (before + 4095) & -4096, said - before)
    return said
