# SPDX-License-Identifier: GPL-2.0-only
"""Shared memory without a file: pages that processes share and swap holds (mm/shmem.c).

A shared anonymous area maps a file that nobody can open: an inode of an internal tmpfs, which has
no name and no disk. Its pages lie in the page cache like any file's, but on the anonymous LRU lists
(PG_swapbacked), and are counted in NR_SHMEM as well. Where a file's page cache keeps a shadow of
what was evicted, its xarray keeps the swap entry, from which `shmem_getpage` brings the page back;
`shmem_swap` writes it there. The last area that goes takes the inode with it, pages and slots.

The inode's own fields (SHMEM_I) lie where a file on a disk has its extents. New pages come from the
node that the policy of the area which faults says; 4.20 keeps such policies with the inode.

All hot: `inode` and `p` are word indices, indexes count pages.
"""

from __future__ import annotations

from .address_space import AOPS_SHMEM, AS_A_OPS, AS_GFP, AS_HOST, AS_I_PAGES, AS_NRPAGES
from .blockdev import lock_page_wait, wait_on_page_writeback
from .fs import (
    EIO,
    ENOMEM,
    FILE_COUNT,
    FILE_INODE,
    FILE_MAPPING,
    FILE_MODE,
    FMODE_READ,
    FMODE_WRITE,
    INODE_COUNT,
    INODE_EXTENTS,
    INODE_IO_LIST,
    INODE_LRU,
    INODE_MAPPING,
    INODE_MODE,
    INODE_SB_LIST,
    INODE_SIZE,
    INODE_WRITECOUNT,
    S_IFREG,
    file_inode,
    i_size_read,
)
from .gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from .kernel_globals import (
    G_COMMITTED_AS,
    G_FILP_CACHEP,
    G_INODE_CACHEP,
    G_SHMEM_INODES,
    G_SHMEM_SWAPLIST,
)
from .layout import (
    CPU_BLOCKS,
    CPU_NUMA_NODE,
    CPU_WORDS,
    EMPTY_ZERO_PAGE,
    PAGE_OFFSET,
    SECTION_PAGES,
)
from .list_head import list_add_tail, list_del, list_init
from .memcg_charge import mem_cgroup_charge
from .mempolicy_vma import alloc_pages_vma
from .mm_inline import (
    PG_SWAPCACHE,
    get_page_p,
    page_to_pfn,
    page_va_of,
    unlock_page,
    va_to_page,
)
from .mm_struct import (
    VM_FAULT_LOCKED,
    VM_FAULT_MAJOR,
    VM_FAULT_OOM,
    VM_FAULT_SIGBUS,
    VM_NORESERVE,
    VMA_FILE,
    VMF_ADDRESS,
    VMF_PAGE,
    VMF_PGOFF,
    VMF_VMA,
)
from .mm_types import (
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_PRIVATE,
    PAGE_SHIFT,
    PG_LOCKED,
    PG_SWAPBACKED,
    PG_UPTODATE,
)
from .mmzone import NR_FILE_PAGES, NR_SHMEM
from .page_cache import find_lock_page, next_cached
from .page_dirty import cancel_dirty_page, set_page_dirty
from .pagevec import put_page_p
from .slub import kmem_cache_free, kmem_cache_zalloc
from .swap import lru_cache_add_anon
from .swap_cache import delete_from_swap_cache, find_swap_page
from .swap_state import lookup_swap_cache, swapin_readahead
from .swapfile import free_swap_and_cache, swap_free
from .truncate import LAST_INDEX, drop_locked_page
from .vm_account import vm_enough_memory
from .vm_events import PGMAJFAULT
from .vmstat import count_vm_events, mod_lruvec_page_state
from .xarray import xa_erase, xa_err, xa_init, xa_load, xa_store

EEXIST, ENOSPC = 17, 28
SHMEM_ALLOCED = INODE_EXTENTS
"""Pages that the inode is charged for: those in memory and those in swap."""
SHMEM_SWAPPED = INODE_EXTENTS + 1
SHMEM_SWAPLIST = INODE_EXTENTS + 2
SHMEM_FLAGS = INODE_EXTENTS + 4
ENTRY_LOW = (1 << 62) - 1
SIGN = -(1 << 63)


def swp_to_radix_entry(entry: int) -> int:
    """A swap entry as the xarray holds it. Hot."""
    value = (entry & ENTRY_LOW) << 1 | 1
    return value | SIGN if entry >> 62 & 1 else value


def radix_to_swp_entry(value: int) -> int:
    """The swap entry that an odd entry of the xarray is. Hot."""
    return value >> 1 & ((1 << 63) - 1)


# --- files that have no name ----------------------------------------------------------------------
def shmem_get_inode(m: memoryview, cpu: int, size: int, flags: int) -> int:
    """An inode of `size` bytes for areas with the VM_ `flags`, with a reference; 0 without memory.
    Hot."""
    if m[G_SHMEM_INODES] == 0:
        list_init(m, G_SHMEM_INODES)
        list_init(m, G_SHMEM_SWAPLIST)
    inode = kmem_cache_zalloc(m, cpu, (m[G_INODE_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if inode == 0:
        return 0
    m[inode + INODE_MODE] = S_IFREG | 0o777
    m[inode + INODE_COUNT] = 1
    m[inode + INODE_SIZE] = size
    m[inode + SHMEM_FLAGS] = flags & VM_NORESERVE
    for head in (INODE_IO_LIST, INODE_LRU, SHMEM_SWAPLIST):
        list_init(m, inode + head)
    mapping = inode + INODE_MAPPING
    m[mapping + AS_HOST] = PAGE_OFFSET + (inode << 3)
    m[mapping + AS_A_OPS] = AOPS_SHMEM
    m[mapping + AS_GFP] = GFP_HIGHUSER_MOVABLE
    xa_init(m, mapping + AS_I_PAGES, 0)
    node = inode + INODE_SB_LIST
    list_add_tail(m, node, PAGE_OFFSET + (node << 3), G_SHMEM_INODES)
    return inode


def shmem_zero_setup(m: memoryview, cpu: int, size: int, flags: int) -> int:
    """The file behind a shared anonymous area of `size` bytes: a struct file with one reference, or
    -ENOMEM, -ENOSPC. Its whole size is committed, unless `flags` has VM_NORESERVE. Hot."""
    pages = 0 if flags & VM_NORESERVE else size >> PAGE_SHIFT
    if pages and not vm_enough_memory(m, pages):
        return -ENOMEM
    inode = shmem_get_inode(m, cpu, size, flags)
    if inode == 0:
        m[G_COMMITTED_AS] -= pages
        return -ENOSPC
    file = kmem_cache_zalloc(m, cpu, (m[G_FILP_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if file == 0:
        shmem_evict_inode(m, cpu, inode)
        return -ENOMEM
    m[file + FILE_MODE] = FMODE_READ | FMODE_WRITE
    m[file + FILE_COUNT] = 1
    m[file + FILE_INODE] = PAGE_OFFSET + (inode << 3)
    m[file + FILE_MAPPING] = PAGE_OFFSET + ((inode + INODE_MAPPING) << 3)
    m[inode + INODE_WRITECOUNT] = 1
    return file


def shmem_evict_inode(m: memoryview, cpu: int, inode: int) -> None:
    """Ends an inode that nobody maps: pages, swap slots and what was committed are free. Hot."""
    if m[inode + SHMEM_FLAGS] & VM_NORESERVE == 0:
        m[G_COMMITTED_AS] -= m[inode + INODE_SIZE] >> PAGE_SHIFT
    m[inode + INODE_SIZE] = 0
    shmem_undo_range(m, cpu, inode)
    list_del(m, inode + SHMEM_SWAPLIST)
    list_del(m, inode + INODE_SB_LIST)
    kmem_cache_free(m, cpu, (m[G_INODE_CACHEP] - PAGE_OFFSET) >> 3, inode)


def shmem_undo_range(m: memoryview, cpu: int, inode: int) -> None:
    """Drops all pages and swap slots of an inode; nobody maps them. Hot (shmem_truncate_range)."""
    mapping = inode + INODE_MAPPING
    index = next_cached(m, mapping, 0, LAST_INDEX)
    while index >= 0:
        entry = xa_load(m, mapping + AS_I_PAGES, index)
        if entry & 1:
            xa_erase(m, cpu, mapping + AS_I_PAGES, index)
            free_swap_and_cache(m, cpu, radix_to_swp_entry(entry))
            m[inode + SHMEM_SWAPPED] -= 1
        else:
            p = va_to_page(m, entry)
            lock_page_wait(m, cpu, p)
            wait_on_page_writeback(m, cpu, p)
            cancel_dirty_page(m, cpu, p)
            drop_locked_page(m, cpu, p)
        index = next_cached(m, mapping, index + 1, LAST_INDEX)
    shmem_recalc_inode(m, inode)


def shmem_recalc_inode(m: memoryview, inode: int) -> None:
    """Takes back what is charged for pages that reclaim has dropped: clean ones, which nobody had
    written to. Hot."""
    freed = m[inode + SHMEM_ALLOCED] - m[inode + SHMEM_SWAPPED]
    freed -= m[inode + INODE_MAPPING + AS_NRPAGES]
    if freed > 0:
        m[inode + SHMEM_ALLOCED] -= freed
        if m[inode + SHMEM_FLAGS] & VM_NORESERVE:
            m[G_COMMITTED_AS] -= freed


# --- the page cache of it -------------------------------------------------------------------------
def shmem_add_to_page_cache(
    m: memoryview, cpu: int, p: int, mapping: int, index: int, expected: int, gfp: int
) -> int:
    """Puts the locked page into the cache where entry `expected` (0: nothing) is: 0, -EEXIST if
    something else is there, -ENOMEM. Hot."""
    xa = mapping + AS_I_PAGES
    if xa_load(m, xa, index) != expected:
        return -EEXIST
    if xa_err(xa_store(m, cpu, xa, index, page_va_of(m, p), gfp)):
        return -ENOMEM
    get_page_p(m, p)
    m[p + P_MAPPING] = PAGE_OFFSET + (mapping << 3)
    m[p + P_INDEX] = index
    m[mapping + AS_NRPAGES] += 1
    mod_lruvec_page_state(m, cpu, p, NR_FILE_PAGES, 1)
    mod_lruvec_page_state(m, cpu, p, NR_SHMEM, 1)
    return 0


def shmem_back_from_swap(m: memoryview, cpu: int, p: int, inode: int, index: int) -> int:
    """Moves the locked, read page from the swap cache to the place where its swap entry is: 0,
    -EEXIST, -ENOMEM. Hot. The slot is free then, the page dirty."""
    entry = m[p + P_PRIVATE]
    mapping = inode + INODE_MAPPING
    said = mem_cgroup_charge(m, cpu, p, m[mapping + AS_GFP])
    if said == 0:
        expected = swp_to_radix_entry(entry)
        said = shmem_add_to_page_cache(m, cpu, p, mapping, index, expected, m[mapping + AS_GFP])
    if said:
        return said
    m[inode + SHMEM_SWAPPED] -= 1
    shmem_recalc_inode(m, inode)
    delete_from_swap_cache(m, cpu, p)
    set_page_dirty(m, cpu, p)
    swap_free(m, cpu, entry)
    return 0


def shmem_swapin_page(m: memoryview, cpu: int, vmf: int, inode: int, swap: int) -> int:
    """The page of the fault, which is in swap: locked, with a reference, or -EEXIST (look again),
    -ENOMEM, -EIO. Hot."""
    index = m[vmf + VMF_PGOFF]
    xa = inode + INODE_MAPPING + AS_I_PAGES
    value = swp_to_radix_entry(swap)
    vma, at = m[vmf + VMF_VMA], m[vmf + VMF_ADDRESS]
    p = lookup_swap_cache(m, cpu, swap, vma, at)
    if p == 0:
        p = swapin_readahead(m, cpu, swap, GFP_HIGHUSER_MOVABLE, vma, at)
        if p == 0:
            return -ENOMEM if xa_load(m, xa, index) == value else -EEXIST
    if not lock_page_wait(m, cpu, p):
        put_page_p(m, cpu, p)
        return -ENOMEM
    said = 0
    if m[p] & PG_SWAPCACHE == 0 or m[p + P_PRIVATE] != swap or xa_load(m, xa, index) != value:
        said = -EEXIST
    elif m[p + P_FLAGS] & PG_UPTODATE == 0:
        said = -EIO
    else:
        wait_on_page_writeback(m, cpu, p)
        said = shmem_back_from_swap(m, cpu, p, inode, index)
    if said:
        unlock_page(m, p)
        put_page_p(m, cpu, p)
        return said
    return p


def shmem_alloc_page(m: memoryview, cpu: int, vmf: int, inode: int) -> int:
    """A new page of zeroes for the fault, in the cache, locked, with a reference, or -ENOMEM,
    -EEXIST (look again), -ENOSPC. Hot (shmem_alloc_and_acct_page and what follows)."""
    mapping = inode + INODE_MAPPING
    counted = 1 if m[inode + SHMEM_FLAGS] & VM_NORESERVE else 0
    if counted and not vm_enough_memory(m, 1):
        return -ENOSPC
    node = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
    gfp = m[mapping + AS_GFP]
    pfn = alloc_pages_vma(m, cpu, gfp, 0, m[vmf + VMF_VMA], m[vmf + VMF_ADDRESS], node)
    if pfn < 0:
        m[G_COMMITTED_AS] -= counted
        return -ENOMEM
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    m[p + P_FLAGS] |= PG_LOCKED | PG_SWAPBACKED
    said = mem_cgroup_charge(m, cpu, p, gfp)
    if said == 0:
        said = shmem_add_to_page_cache(m, cpu, p, mapping, m[vmf + VMF_PGOFF], 0, GFP_KERNEL)
    if said:
        m[G_COMMITTED_AS] -= counted
        unlock_page(m, p)
        put_page_p(m, cpu, p)
        return said
    lru_cache_add_anon(m, cpu, p)
    m[inode + SHMEM_ALLOCED] += 1
    shmem_recalc_inode(m, inode)
    return p


def shmem_getpage(m: memoryview, cpu: int, vmf: int, inode: int) -> int:
    """The page of the fault: locked, with a reference, its bytes in it; or a negative errno. Hot
    (shmem_getpage_gfp)."""
    mapping = inode + INODE_MAPPING
    index = m[vmf + VMF_PGOFF]
    while True:
        if index << PAGE_SHIFT >= i_size_read(m, inode):
            return -EIO
        entry = xa_load(m, mapping + AS_I_PAGES, index)
        if entry & 1:
            p = shmem_swapin_page(m, cpu, vmf, inode, radix_to_swp_entry(entry))
        elif entry:
            p = find_lock_page(m, cpu, mapping, index)
            if p == 0:
                return -ENOMEM
            if m[p + P_MAPPING] != PAGE_OFFSET + (mapping << 3):
                # reclaim has swapped it out meanwhile
                unlock_page(m, p)
                put_page_p(m, cpu, p)
                continue
        else:
            p = shmem_alloc_page(m, cpu, vmf, inode)
        if p != -EEXIST:
            break
    if p > 0 and m[p + P_FLAGS] & PG_UPTODATE == 0:
        at = page_to_pfn(m, p) << 9
        m[at : at + 512] = m[EMPTY_ZERO_PAGE : EMPTY_ZERO_PAGE + 512]
        m[p + P_FLAGS] |= PG_UPTODATE
    return p


def shmem_fault(m: memoryview, cpu: int, vmf: int) -> int:
    """Delivers the page of a fault, locked, into the vm_fault: VM_FAULT_ bits. Hot."""
    inode = file_inode(m, (m[m[vmf + VMF_VMA] + VMA_FILE] - PAGE_OFFSET) >> 3)
    said = VM_FAULT_LOCKED
    entry = xa_load(m, inode + INODE_MAPPING + AS_I_PAGES, m[vmf + VMF_PGOFF])
    if entry & 1 and find_swap_page(m, radix_to_swp_entry(entry)) == 0:
        count_vm_events(m, cpu, PGMAJFAULT, 1)
        said |= VM_FAULT_MAJOR
    p = shmem_getpage(m, cpu, vmf, inode)
    if p < 0:
        return VM_FAULT_OOM if p == -ENOMEM else VM_FAULT_SIGBUS
    m[vmf + VMF_PAGE] = p
    return said
