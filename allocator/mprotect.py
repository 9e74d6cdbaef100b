# SPDX-License-Identifier: GPL-2.0-only
"""Changing the protection of memory: mprotect (mm/mprotect.c).

The areas of the range get new flags, cut and merged as need be; then every entry that is there gets
the permissions that fresh ones of the area have. An entry never becomes writable that way unless
its page is shared and dirty already: private pages fault first.

All hot. Results are 0 or a negative errno; addresses in bytes.
"""

from __future__ import annotations

from .huge_memory import change_huge_pmd
from .huge_pmd_split import split_huge_pmd
from .kernel_globals import G_COMMITTED_AS, G_TLB_GEN
from .layout import PAGE_OFFSET
from .mm_struct import (
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_NORESERVE,
    VM_OPS_FILE,
    VM_SHARED,
    VM_SOFTDIRTY,
    VM_WRITE,
    VMA_END,
    VMA_FLAGS,
    VMA_MM,
    VMA_NEXT,
    VMA_OPS,
    VMA_PREV,
    VMA_PROT,
    VMA_START,
)
from .mmap import PROT_EXEC, PROT_GROWSDOWN, PROT_READ, PROT_SEM, PROT_WRITE
from .pgtable import (
    PMD_SHIFT,
    PMD_SIZE,
    PTE_D,
    PTE_P,
    PTE_RW,
    entry_table,
    mm_find_pmd,
    pmd_trans_huge,
    pte_modify,
    pte_present,
)
from .populate import populate_vma_page_range
from .swapops import (
    is_write_migration_entry,
    make_migration_entry_read,
    pte_to_swp_entry,
    swp_entry_to_pte,
)
from .vm_account import may_expand_vm, vm_enough_memory
from .vma import find_vma, vm_stat_account, vma_set_page_prot, vma_word
from .vma_range import range_with_flags

EACCES, ENOMEM, EINVAL = 13, 12, 22
PROT_GROWSUP = 0x02000000
PROT_BITS = PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM
S64_MAX = (1 << 63) - 1


def change_pte(m: memoryview, at: int, prot: int, dirty_accountable: bool) -> None:
    """Gives one entry the permissions `prot`. Hot."""
    value = m[at]
    if pte_present(value):
        value = pte_modify(value, prot)
        if dirty_accountable and value & PTE_D:
            value |= PTE_RW
        m[at] = value
    elif value:
        entry = pte_to_swp_entry(value)
        if is_write_migration_entry(entry):
            m[at] = swp_entry_to_pte(make_migration_entry_read(entry))


def change_protection(m: memoryview, cpu: int, vma: int, start: int, end: int) -> None:
    """Gives the entries of [start, end) the permissions of their area. Hot."""
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    prot = m[vma + VMA_PROT]
    flags = m[vma + VMA_FLAGS]
    shared = flags & (VM_WRITE | VM_SHARED) == VM_WRITE | VM_SHARED
    shared = shared and m[vma + VMA_OPS] == VM_OPS_FILE
    dirty_accountable = shared and flags & VM_SOFTDIRTY == 0
    m[G_TLB_GEN] += 1
    while start < end:
        stop = min((start >> PMD_SHIFT) + 1 << PMD_SHIFT, end)
        pmd = mm_find_pmd(m, mm, start)
        if pmd and pmd_trans_huge(m[pmd]):
            if stop - start == PMD_SIZE:
                change_huge_pmd(m, pmd, prot)
                start = stop
                continue
            split_huge_pmd(m, cpu, vma, pmd, start)
        if pmd and m[pmd] & PTE_P:
            at = entry_table(m[pmd]) + (start >> 12 & 511)
            for i in range(stop - start >> 12):
                if m[at + i]:
                    change_pte(m, at + i, prot, dirty_accountable)
        start = stop


def mprotect_fixup(
    m: memoryview, cpu: int, mm: int, vma: int, prev: int, start: int, end: int, flags: int
) -> int:
    """Gives [start, end) of an area the flags `flags`: the area it is now, or -errno. Hot."""
    old = m[vma + VMA_FLAGS]
    if flags == old:
        return vma
    pages = end - start >> 12
    charged = 0
    if flags & VM_WRITE:
        if not may_expand_vm(m, mm, flags, pages) and may_expand_vm(m, mm, old, pages):
            return -ENOMEM
        if old & (VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE) == 0:
            charged = pages
            if not vm_enough_memory(m, pages):
                return -ENOMEM
            flags |= VM_ACCOUNT
    vma = range_with_flags(m, cpu, mm, vma, prev, start, end, flags)
    if vma < 0:
        m[G_COMMITTED_AS] -= charged
        return vma
    m[vma + VMA_FLAGS] = flags
    vma_set_page_prot(m, vma)
    change_protection(m, cpu, vma, start, end)
    if old & (VM_WRITE | VM_SHARED | VM_LOCKED) == VM_LOCKED and flags & VM_WRITE:
        populate_vma_page_range(m, cpu, mm, vma, start, end)
    vm_stat_account(m, mm, old, -pages)
    vm_stat_account(m, mm, flags, pages)
    return vma


def do_mprotect(m: memoryview, cpu: int, mm: int, start: int, length: int, prot: int) -> int:
    """Gives `length` bytes from `start` on the protection `prot`: 0 or -errno. Hot."""
    grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP)
    if grows == PROT_GROWSDOWN | PROT_GROWSUP or start & 4095:
        return -EINVAL
    if length == 0:
        return 0
    if length < 0 or start < 0 or length > S64_MAX - 4095 - start:
        return -ENOMEM
    end = start + ((length + 4095) & -4096)
    if prot & ~PROT_BITS:
        return -EINVAL
    vma = find_vma(m, mm, start)
    if vma == 0:
        return -ENOMEM
    if grows & PROT_GROWSDOWN:
        if m[vma + VMA_START] >= end:
            return -ENOMEM
        start = m[vma + VMA_START]
        if m[vma + VMA_FLAGS] & VM_GROWSDOWN == 0:
            return -EINVAL
    elif m[vma + VMA_START] > start:
        return -ENOMEM
    elif grows:
        return -EINVAL
    prev = vma if start > m[vma + VMA_START] else vma_word(m[vma + VMA_PREV])
    prot &= PROT_READ | PROT_WRITE | PROT_EXEC
    while True:
        flags = prot | m[vma + VMA_FLAGS] & ~VM_ACCESS_FLAGS
        if flags & ~(flags >> 4) & VM_ACCESS_FLAGS:
            return -EACCES
        stop = min(m[vma + VMA_END], end)
        prev = mprotect_fixup(m, cpu, mm, vma, prev, start, stop, flags)
        if prev < 0:
            return prev
        start = max(stop, m[prev + VMA_END])
        if start >= end:
            return 0
        vma = vma_word(m[prev + VMA_NEXT])
        if vma == 0 or m[vma + VMA_START] != start:
            return -ENOMEM
