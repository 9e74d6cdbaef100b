# SPDX-License-Identifier: GPL-2.0-only
"""Faults in areas that map files (mm/memory.c, do_fault and below).

The file's side (`filemap`) finds the page in the page cache or reads it, and hands it over locked
in the vm_fault; here it gets into the page tables. A read maps it, with the pages around it that
the cache happens to hold (fault-around); a write to a private area maps a copy that belongs to the
process from then on; a write to a shared one lets the file system know first (page_mkwrite) and
leaves the page dirty. Shared writable areas start read-only for that reason.

All hot. `vmf` is the word index of the CPU's vm_fault, filled in by `memory.set_vmf`; answers are
VM_FAULT_ bits.
"""

from __future__ import annotations

from .address_space import AOPS_FILE, AS_A_OPS
from .blockdev import lock_page_wait
from .filemap import filemap_fault, filemap_next_map_page, filemap_page_mkwrite
from .flusher import balance_dirty_pages_ratelimited
from .gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from .kernel_globals import G_FAULT_AROUND
from .layout import CPU_BLOCKS, CPU_NUMA_NODE, CPU_WORDS, PAGE_OFFSET, SECTION_PAGES
from .memcg_charge import mem_cgroup_charge
from .mempolicy_vma import alloc_pages_vma
from .mm_inline import get_page_p, lock_page, page_to_pfn, unlock_page
from .mm_struct import (
    FAULT_FLAG_MKWRITE,
    FAULT_FLAG_WRITE,
    MM_ANONPAGES,
    MM_FLAGS,
    MM_RSS,
    MMF_UNSTABLE,
    VM_FAULT_DONE_COW,
    VM_FAULT_ERROR,
    VM_FAULT_HWPOISON,
    VM_FAULT_LOCKED,
    VM_FAULT_NOPAGE,
    VM_FAULT_OOM,
    VM_FAULT_RETRY,
    VM_FAULT_SIGBUS,
    VM_FAULT_WRITE,
    VM_OPS_FILE,
    VM_OPS_SHMEM,
    VM_SHARED,
    VM_WRITE,
    VMA_ANON_VMA,
    VMA_END,
    VMA_FLAGS,
    VMA_MM,
    VMA_OPS,
    VMA_PGOFF,
    VMA_PROT,
    VMA_START,
    VMF_ADDRESS,
    VMF_COW_PAGE,
    VMF_FLAGS,
    VMF_ORIG_PTE,
    VMF_PAGE,
    VMF_PGOFF,
    VMF_PMD,
    VMF_PTE,
    VMF_VMA,
)
from .mm_types import P_FLAGS, P_INDEX, P_MAPPING, PG_HWPOISON, PG_UPTODATE
from .page_dirty import set_page_dirty
from .pagevec import put_page_p
from .pgtable import PTE_A, PTE_D, PTE_RW, mk_pte, pte_alloc
from .rmap import anon_vma_prepare, mm_counter_file, page_add_file_rmap, page_add_new_anon_rmap
from .shmem import shmem_fault
from .swap import lru_cache_add_active_or_unevictable

NO_PAGE = VM_FAULT_ERROR | VM_FAULT_NOPAGE | VM_FAULT_RETRY


def ask_file(m: memoryview, cpu: int, vmf: int) -> int:
    """Has the file deliver the page of the fault, locked: VM_FAULT_ bits. Hot (__do_fault)."""
    shared = m[m[vmf + VMF_VMA] + VMA_OPS] == VM_OPS_SHMEM
    said = shmem_fault(m, cpu, vmf) if shared else filemap_fault(m, cpu, vmf)
    if said & (NO_PAGE | VM_FAULT_DONE_COW):
        return said
    p = m[vmf + VMF_PAGE]
    if m[p + P_FLAGS] & PG_HWPOISON:
        if said & VM_FAULT_LOCKED:
            unlock_page(m, p)
        put_page_p(m, cpu, p)
        m[vmf + VMF_PAGE] = 0
        return VM_FAULT_HWPOISON
    if said & VM_FAULT_LOCKED == 0:
        lock_page(m, p)
    return said


def alloc_set_pte(m: memoryview, cpu: int, vmf: int, p: int) -> int:
    """Enters page `p` at the address of the fault, with a table if there is none: 0,
    VM_FAULT_NOPAGE if something is there already, VM_FAULT_OOM. Hot."""
    vma = m[vmf + VMF_VMA]
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    address = m[vmf + VMF_ADDRESS]
    pte = m[vmf + VMF_PTE]
    if pte == 0:
        pte = pte_alloc(m, cpu, mm, m[vmf + VMF_PMD], address)
        if pte == 0:
            return VM_FAULT_OOM
        m[vmf + VMF_PTE] = pte
    if m[pte]:
        return VM_FAULT_NOPAGE
    flags = m[vma + VMA_FLAGS]
    entry = mk_pte(page_to_pfn(m, p), m[vma + VMA_PROT])
    write = m[vmf + VMF_FLAGS] & FAULT_FLAG_WRITE
    if write:
        entry |= PTE_D
        if flags & VM_WRITE:
            entry |= PTE_RW
    if write and flags & VM_SHARED == 0:
        m[mm + MM_RSS + MM_ANONPAGES] += 1
        page_add_new_anon_rmap(m, cpu, p, vma, address, False)
        lru_cache_add_active_or_unevictable(m, cpu, p, vma)
    else:
        m[mm + MM_RSS + mm_counter_file(m, p)] += 1
        page_add_file_rmap(m, cpu, p, False)
    m[pte] = entry
    return 0


def finish_fault(m: memoryview, cpu: int, vmf: int) -> int:
    """Enters the page of the fault, or the copy made of it: VM_FAULT_ bits. Hot."""
    vma = m[vmf + VMF_VMA]
    private = m[vma + VMA_FLAGS] & VM_SHARED == 0
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    if private and m[mm + MM_FLAGS] & MMF_UNSTABLE:
        return VM_FAULT_SIGBUS
    p = m[vmf + VMF_PAGE]
    if private and m[vmf + VMF_FLAGS] & FAULT_FLAG_WRITE:
        p = m[vmf + VMF_COW_PAGE]
    return alloc_set_pte(m, cpu, vmf, p)


def do_fault_around(m: memoryview, cpu: int, vmf: int) -> int:
    """Maps what the page cache holds around the fault: VM_FAULT_NOPAGE if that served it. Hot."""
    vma = m[vmf + VMF_VMA]
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    address = m[vmf + VMF_ADDRESS]
    pages = m[G_FAULT_AROUND] >> 12
    first = max(address & -(pages << 12), m[vma + VMA_START])
    start = m[vmf + VMF_PGOFF] - ((address - first >> 12) & 511)
    end = start - (first >> 12 & 511) + 511
    end = min(end, (m[vma + VMA_END] - m[vma + VMA_START] >> 12) + m[vma + VMA_PGOFF] - 1)
    end = min(end, start + pages - 1)
    if pte_alloc(m, cpu, mm, m[vmf + VMF_PMD], address) == 0:
        return 0
    index = start
    while True:
        p = filemap_next_map_page(m, cpu, vmf, index, end)
        if p == 0:
            break
        index = m[p + P_INDEX]
        m[vmf + VMF_ADDRESS] = first + (index - start << 12)
        m[vmf + VMF_PTE] = 0
        said = alloc_set_pte(m, cpu, vmf, p)
        unlock_page(m, p)
        if said:
            put_page_p(m, cpu, p)
        index += 1
    m[vmf + VMF_ADDRESS] = address
    m[vmf + VMF_PTE] = 0
    pte = pte_alloc(m, cpu, mm, m[vmf + VMF_PMD], address)
    return VM_FAULT_NOPAGE if m[pte] else 0


def do_read_fault(m: memoryview, cpu: int, vmf: int) -> int:
    """A read of a page that is not mapped. Hot."""
    if m[G_FAULT_AROUND] >> 12 > 1:
        said = do_fault_around(m, cpu, vmf)
        if said:
            return said
    said = ask_file(m, cpu, vmf)
    if said & NO_PAGE:
        return said
    said |= finish_fault(m, cpu, vmf)
    p = m[vmf + VMF_PAGE]
    unlock_page(m, p)
    if said & NO_PAGE:
        put_page_p(m, cpu, p)
    return said


def do_cow_fault(m: memoryview, cpu: int, vmf: int) -> int:
    """A write to a page of a private area that is not mapped: the process gets a copy. Hot."""
    vma = m[vmf + VMF_VMA]
    address = m[vmf + VMF_ADDRESS]
    if m[vma + VMA_ANON_VMA] == 0 and anon_vma_prepare(m, cpu, vma):
        return VM_FAULT_OOM
    pfn = alloc_pages_vma(
        m,
        cpu,
        GFP_HIGHUSER_MOVABLE,
        0,
        vma,
        address,
        m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE],
    )
    if pfn < 0:
        return VM_FAULT_OOM
    copy = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if mem_cgroup_charge(m, cpu, copy, GFP_KERNEL):
        put_page_p(m, cpu, copy)
        return VM_FAULT_OOM
    m[vmf + VMF_COW_PAGE] = copy
    said = ask_file(m, cpu, vmf)
    if said & NO_PAGE:
        put_page_p(m, cpu, copy)
        return said
    p = m[vmf + VMF_PAGE]
    source = page_to_pfn(m, p) << 9
    m[pfn << 9 : (pfn << 9) + 512] = m[source : source + 512]
    m[copy + P_FLAGS] |= PG_UPTODATE
    said |= finish_fault(m, cpu, vmf)
    unlock_page(m, p)
    put_page_p(m, cpu, p)
    if said & NO_PAGE:
        put_page_p(m, cpu, copy)
    return said


def do_page_mkwrite(m: memoryview, cpu: int, vmf: int) -> int:
    """Tells the file system that the page is about to be written, and locks it: VM_FAULT_ bits, 0
    if the page has left the file meanwhile. Hot."""
    flags = m[vmf + VMF_FLAGS]
    m[vmf + VMF_FLAGS] = FAULT_FLAG_WRITE | FAULT_FLAG_MKWRITE
    said = filemap_page_mkwrite(m, cpu, vmf)
    m[vmf + VMF_FLAGS] = flags
    if said & (VM_FAULT_ERROR | VM_FAULT_NOPAGE):
        return said
    if said & VM_FAULT_LOCKED == 0:
        p = m[vmf + VMF_PAGE]
        lock_page(m, p)
        if m[p + P_MAPPING] == 0:
            unlock_page(m, p)
            return 0
        said |= VM_FAULT_LOCKED
    return said


def fault_dirty_shared_page(m: memoryview, cpu: int, p: int) -> None:
    """The page of a shared area has been written to: dirty, and writeback hears of it. Hot."""
    set_page_dirty(m, cpu, p)
    mapping = m[p + P_MAPPING]
    unlock_page(m, p)
    if mapping and m[(mapping - PAGE_OFFSET >> 3) + AS_A_OPS] == AOPS_FILE:
        balance_dirty_pages_ratelimited(m, cpu, (mapping - PAGE_OFFSET) >> 3)


def do_shared_fault(m: memoryview, cpu: int, vmf: int) -> int:
    """A write to a page of a shared area that is not mapped. Hot."""
    said = ask_file(m, cpu, vmf)
    if said & NO_PAGE:
        return said
    p = m[vmf + VMF_PAGE]
    if m[m[vmf + VMF_VMA] + VMA_OPS] == VM_OPS_FILE:
        unlock_page(m, p)
        more = do_page_mkwrite(m, cpu, vmf)
        if more == 0 or more & (VM_FAULT_ERROR | VM_FAULT_NOPAGE):
            put_page_p(m, cpu, p)
            return more
    said |= finish_fault(m, cpu, vmf)
    if said & NO_PAGE:
        unlock_page(m, p)
        put_page_p(m, cpu, p)
        return said
    fault_dirty_shared_page(m, cpu, p)
    return said


def do_fault(m: memoryview, cpu: int, vmf: int) -> int:
    """A fault on a page of a file that is not mapped: VM_FAULT_ bits. Hot."""
    if m[vmf + VMF_FLAGS] & FAULT_FLAG_WRITE == 0:
        return do_read_fault(m, cpu, vmf)
    if m[m[vmf + VMF_VMA] + VMA_FLAGS] & VM_SHARED == 0:
        return do_cow_fault(m, cpu, vmf)
    return do_shared_fault(m, cpu, vmf)


def wp_page_shared(m: memoryview, cpu: int, vmf: int) -> int:
    """A write to a page of a shared area that is mapped read-only so far. Hot."""
    p = m[vmf + VMF_PAGE]
    get_page_p(m, p)
    if m[m[vmf + VMF_VMA] + VMA_OPS] == VM_OPS_SHMEM:
        # shared memory need not be told; nobody else waits for the lock
        lock_page_wait(m, cpu, p)
        said = VM_FAULT_LOCKED
    else:
        said = do_page_mkwrite(m, cpu, vmf)
    if said == 0 or said & (VM_FAULT_ERROR | VM_FAULT_NOPAGE):
        put_page_p(m, cpu, p)
        return said
    pte = m[vmf + VMF_PTE]
    if m[pte] != m[vmf + VMF_ORIG_PTE]:
        unlock_page(m, p)
        put_page_p(m, cpu, p)
        return VM_FAULT_NOPAGE
    entry = m[pte] | PTE_A | PTE_D
    if m[m[vmf + VMF_VMA] + VMA_FLAGS] & VM_WRITE:
        entry |= PTE_RW
    m[pte] = entry
    fault_dirty_shared_page(m, cpu, p)
    put_page_p(m, cpu, p)
    return VM_FAULT_WRITE
