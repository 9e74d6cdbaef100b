# SPDX-License-Identifier: GPL-2.0-only
"""What a page fault of a process comes to: a page, or a signal (arch/x86/mm/fault.c).

`do_page_fault` finds the area of the address, lets a stack grow, compares the access with what the
area allows and hands it to `handle_mm_fault`. What cannot be served leaves a signal and its code in
the task: SIGSEGV for memory that is not there (MAPERR) or not for this access (ACCERR), SIGBUS for
a page that its file does not have, SIGKILL when memory has run out. The process dies of it.

`access_process` is the same for accesses that no CPU makes: it serves them as if the process did.

All hot. Addresses are user addresses in bytes; `code` is the error code of a page fault (SDM volume
3, 4.7).
"""

from __future__ import annotations

from machine.walk import PROT_EXEC, PROT_READ, PROT_WRITE

from .kernel_globals import G_PANIC
from .layout import CPU_BLOCKS, CPU_WORDS, PAGE_OFFSET, TASK_FATAL_SIGNAL, TASK_MM
from .memory import PGFAULT, do_anonymous_page, handle_mm_fault
from .mm_struct import (
    FAULT_FLAG_INSTRUCTION,
    FAULT_FLAG_USER,
    FAULT_FLAG_WRITE,
    TASK_FAULT_ADDRESS,
    TASK_FAULT_CODE,
    TASK_FAULT_SIGNAL,
    TASK_MAJ_FLT,
    TASK_MIN_FLT,
    VM_EXEC,
    VM_FAULT_ERROR,
    VM_FAULT_HWPOISON,
    VM_FAULT_MAJOR,
    VM_FAULT_OOM,
    VM_FAULT_SIGBUS,
    VM_GROWSDOWN,
    VM_READ,
    VM_WRITE,
    VMA_FLAGS,
    VMA_OPS,
    VMA_START,
)
from .mmap import expand_downwards
from .oom_kill import pagefault_out_of_memory
from .pgtable import (
    ADDRESS_MASK,
    MMAP_MIN_ADDR,
    PTE_A,
    PTE_D,
    PTE_P,
    PTE_PSE,
    PTE_RW,
    TASK_SIZE,
    mm_find_pmd,
    mm_find_pte,
    pmd_trans_huge,
)
from .vma import find_vma

PF_PROT = 1
PF_WRITE = 2
PF_USER = 4
PF_RSVD = 8
PF_INSTR = 16

SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGKILL, SIGSEGV = 4, 5, 7, 8, 9, 11
SEGV_MAPERR = 1
SEGV_ACCERR = 2
BUS_ADRERR = 2
BUS_MCEERR_AR = 4
BUS_MCEERR_AO = 5
SI_USER = 0
SI_KERNEL = 0x80

READ, WRITE, FETCH = 0, 1, 2
MAX_TRIES = 1000
"""Faults of one access: more than the processes that the OOM killer could kill for it."""


def bad_area(m: memoryview, task: int, address: int, signal: int, code: int) -> int:
    """Notes the signal that an access ends in: the signal. Hot."""
    m[task + TASK_FAULT_SIGNAL] = signal
    m[task + TASK_FAULT_CODE] = code
    m[task + TASK_FAULT_ADDRESS] = address
    return signal


def fatal_signal(m: memoryview, task: int) -> int:
    """The signal that a task with a fatal signal pending dies of, its reason where bad_area() notes
    it. Hot.

    Who sent it has noted it; SIGKILL where nobody did."""
    if m[task + TASK_FAULT_SIGNAL] == 0:
        return bad_area(m, task, 0, SIGKILL, SI_KERNEL)
    return m[task + TASK_FAULT_SIGNAL]


def access_error(code: int, flags: int) -> bool:
    """True if an area with these flags does not allow the access. Hot."""
    if code & PF_WRITE:
        return flags & VM_WRITE == 0
    return code & PF_PROT != 0 or flags & (VM_READ | VM_EXEC | VM_WRITE) == 0


def mm_fault_error(m: memoryview, cpu: int, task: int, address: int, said: int) -> int:
    """What comes of a fault that handle_mm_fault() could not serve: a signal, or 0 to try again
    once the OOM killer has been. Hot."""
    if said & VM_FAULT_OOM:
        pagefault_out_of_memory(m, cpu)
        if m[task + TASK_FATAL_SIGNAL]:
            return fatal_signal(m, task)
        if m[G_PANIC]:
            return bad_area(m, task, address, SIGKILL, SI_KERNEL)
        return 0
    if said & VM_FAULT_HWPOISON:
        return bad_area(m, task, address, SIGBUS, BUS_MCEERR_AR)
    if said & VM_FAULT_SIGBUS:
        return bad_area(m, task, address, SIGBUS, BUS_ADRERR)
    return bad_area(m, task, address, SIGSEGV, SEGV_MAPERR)


def do_page_fault(m: memoryview, cpu: int, task: int, address: int, code: int, sp: int) -> int:
    """Serves a fault of process `task` at `address`: 0, or the signal it dies of. `sp` is its stack
    pointer. Hot (__do_page_fault)."""
    if address < 0 or address >= TASK_SIZE or code & PF_RSVD:
        return bad_area(m, task, address, SIGSEGV, SEGV_MAPERR)
    mm = (m[task + TASK_MM] - PAGE_OFFSET) >> 3
    vma = find_vma(m, mm, address)
    if vma == 0:
        return bad_area(m, task, address, SIGSEGV, SEGV_MAPERR)
    flags = m[vma + VMA_FLAGS]
    if m[vma + VMA_START] > address:
        if flags & VM_GROWSDOWN == 0 or (code & PF_USER and address + 65536 + 256 < sp):
            return bad_area(m, task, address, SIGSEGV, SEGV_MAPERR)
        if expand_downwards(m, cpu, vma, address):
            return bad_area(m, task, address, SIGSEGV, SEGV_MAPERR)
    if access_error(code, flags):
        return bad_area(m, task, address, SIGSEGV, SEGV_ACCERR)
    fault_flags = FAULT_FLAG_USER if code & PF_USER else 0
    if code & PF_WRITE:
        fault_flags |= FAULT_FLAG_WRITE
    if code & PF_INSTR:
        fault_flags |= FAULT_FLAG_INSTRUCTION
    said = handle_mm_fault(m, cpu, vma, address, fault_flags)
    if said & VM_FAULT_ERROR:
        return mm_fault_error(m, cpu, task, address, said)
    if m[task + TASK_FATAL_SIGNAL]:
        return fatal_signal(m, task)
    m[task + (TASK_MAJ_FLT if said & VM_FAULT_MAJOR else TASK_MIN_FLT)] += 1
    return 0


def first_touch(m: memoryview, cpu: int, task: int, address: int, code: int) -> int:
    """do_page_fault() for the most frequent case alone: the first access to a small page of an
    anonymous area whose table is there. The new entry; 0, with nothing done, for others. Hot."""
    mm = (m[task + TASK_MM] - PAGE_OFFSET) >> 3
    vma = find_vma(m, mm, address)
    if vma == 0 or m[vma + VMA_START] > address or m[vma + VMA_OPS]:
        return 0
    if code & (PF_PROT | PF_RSVD) or access_error(code, m[vma + VMA_FLAGS]):
        return 0
    pmd = mm_find_pmd(m, mm, address)
    if pmd == 0 or m[pmd] & (PTE_P | PTE_PSE) != PTE_P:
        return 0
    pte = ((m[pmd] & ADDRESS_MASK) >> 3) + (address >> 12 & 511)
    if m[pte]:
        return 0
    flags = FAULT_FLAG_WRITE if code & PF_WRITE else 0
    if do_anonymous_page(m, cpu, mm, vma, address, flags, pmd):
        return 0
    m[CPU_BLOCKS + cpu * CPU_WORDS + PGFAULT] += 1
    m[task + TASK_MIN_FLT] += 1
    return 0 if m[task + TASK_FATAL_SIGNAL] else m[pte]


def granted(entry: int) -> int:
    """What a page walk says of a lowest entry that was just made. Hot."""
    result = entry & 0x3FFFFFFFF000 | PROT_READ
    if entry >= 0:
        result |= PROT_EXEC
    return result | PROT_WRITE if entry & (PTE_RW | PTE_D) == PTE_RW | PTE_D else result


def user_entry(m: memoryview, mm: int, address: int) -> int:
    """Word index of the entry that maps `address`, small or huge; 0 if there is none. Hot."""
    pmd = mm_find_pmd(m, mm, address)
    if pmd and pmd_trans_huge(m[pmd]):
        return pmd
    return mm_find_pte(m, mm, address)


def access_process(m: memoryview, cpu: int, task: int, address: int, access: int) -> int:
    """Physical address of byte `address` of a process for this access, faulted in and marked
    accessed and dirty as by the process itself; minus the signal that it would die of. Hot."""
    if address < MMAP_MIN_ADDR or address >= TASK_SIZE:
        return -bad_area(m, task, address, SIGSEGV, SEGV_MAPERR)
    mm = (m[task + TASK_MM] - PAGE_OFFSET) >> 3
    for _ in range(MAX_TRIES):
        at = user_entry(m, mm, address)
        entry = m[at] if at else 0
        code = PF_USER | (PF_WRITE if access == WRITE else 0) | (PF_INSTR if access == FETCH else 0)
        if entry & PTE_P:
            allowed = entry & PTE_RW if access == WRITE else entry >= 0 or access == READ
            if allowed:
                m[at] = entry | PTE_A | PTE_D if access == WRITE else entry | PTE_A
                return physical(entry, address, mm_find_pmd(m, mm, address) == at)
            code |= PF_PROT
        signal = do_page_fault(m, cpu, task, address, code, 0)
        if signal:
            return -signal
    return -bad_area(m, task, address, SIGKILL, SI_KERNEL)


def physical(entry: int, address: int, huge: bool) -> int:
    """The byte that `entry` maps `address` to. Hot."""
    if huge:
        return (entry & 0xFFFFFFFE00000) | (address & 0x1FFFFF)
    return (entry & 0xFFFFFFFFFF000) | (address & 4095)
