# SPDX-License-Identifier: GPL-2.0-only
"""Mapping: mmap, brk, growing stacks (mm/mmap.c).

`do_mmap` checks a request as the system call does, finds room, and `mmap_region` clears what was
there and makes the area, or extends a neighbour that says the same. An area that grows down follows
the accesses below it as far as the stack limit and the guard gap to its neighbour allow.

All hot. Results are addresses or 0, or a negative errno. Every process has root's capabilities.
"""

from __future__ import annotations

from .fs import FMODE_READ, FMODE_WRITE, file_mode, get_file
from .kernel_globals import G_COMMITTED_AS, G_MAX_MAP_COUNT, G_OVERCOMMIT, G_STACK_GUARD_GAP
from .layout import PAGE_OFFSET
from .mm_struct import (
    MM_BRK,
    MM_DATA_VM,
    MM_DEF_FLAGS,
    MM_LOCKED_VM,
    MM_MAP_COUNT,
    MM_RB,
    MM_RLIM,
    MM_START_BRK,
    MM_TOTAL_VM,
    RLIM_DATA,
    RLIM_STACK,
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_NORESERVE,
    VM_OPS_FILE,
    VM_OPS_SHMEM,
    VM_READ,
    VM_SHARED,
    VM_SOFTDIRTY,
    VM_SPECIAL,
    VM_WRITE,
    VMA_END,
    VMA_FILE,
    VMA_FLAGS,
    VMA_MM,
    VMA_NEXT,
    VMA_OPS,
    VMA_PGOFF,
    VMA_PREV,
    VMA_RB,
    VMA_START,
)
from .munmap import do_munmap
from .pgtable import (
    MMAP_MIN_ADDR,
    TASK_SIZE,
)
from .rbtree import RB_RIGHT
from .rmap import (
    anon_vma_interval_tree_post_update_vma,
    anon_vma_interval_tree_pre_update_vma,
    anon_vma_prepare,
)
from .shmem import shmem_zero_setup
from .unmapped_area import MAP_FIXED, get_unmapped_area
from .vm_account import OVERCOMMIT_NEVER, may_expand_vm, mlock_future_check, vm_enough_memory
from .vma import (
    find_vma,
    vm_area_alloc,
    vm_area_free,
    vm_start_gap,
    vm_stat_account,
    vma_gap_update,
    vma_link,
    vma_merge,
    vma_set_page_prot,
    vma_va,
    vma_word,
)

PROT_NONE = 0
PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4
PROT_SEM = 8
PROT_GROWSDOWN = 0x01000000
MAP_SHARED = 0x01
MAP_PRIVATE = 0x02
MAP_SHARED_VALIDATE = 0x03
MAP_TYPE = 0x0F
MAP_ANONYMOUS = 0x20
MAP_32BIT = 0x40
MAP_GROWSDOWN = 0x0100
MAP_DENYWRITE = 0x0800
MAP_EXECUTABLE = 0x1000
MAP_LOCKED = 0x2000
MAP_NORESERVE = 0x4000
MAP_POPULATE = 0x8000
MAP_NONBLOCK = 0x10000
MAP_STACK = 0x20000
MAP_HUGETLB = 0x40000
MAP_FIXED_NOREPLACE = 0x100000
LEGACY_MAP_MASK = MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_DENYWRITE
LEGACY_MAP_MASK |= MAP_EXECUTABLE | MAP_GROWSDOWN | MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE
LEGACY_MAP_MASK |= MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB | MAP_32BIT

EPERM, EAGAIN, ENOMEM, EACCES, EEXIST, ENODEV, EINVAL = 1, 11, 12, 13, 17, 19, 22
EOVERFLOW, EOPNOTSUPP = 75, 95
S64_MAX = (1 << 63) - 1


def file_flags(m: memoryview, file: int, prot: int, flags: int, vm_flags: int) -> int:
    """The area's flags for a mapping of `file`, or -errno. Hot."""
    mode = file_mode(m, file)
    kind = flags & MAP_TYPE
    if kind == MAP_SHARED or kind == MAP_SHARED_VALIDATE:
        if kind == MAP_SHARED_VALIDATE and flags & ~(LEGACY_MAP_MASK | MAP_TYPE):
            return -EOPNOTSUPP
        if prot & PROT_WRITE and mode & FMODE_WRITE == 0:
            return -EACCES
        vm_flags |= VM_SHARED | VM_MAYSHARE
        if mode & FMODE_WRITE == 0:
            vm_flags &= ~(VM_MAYWRITE | VM_SHARED)
    elif kind != MAP_PRIVATE:
        return -EINVAL
    if mode & FMODE_READ == 0:
        return -EACCES
    if vm_flags & VM_GROWSDOWN:
        return -EINVAL
    return vm_flags


def do_mmap(
    m: memoryview,
    cpu: int,
    mm: int,
    file: int,
    addr: int,
    length: int,
    prot: int,
    flags: int,
    pgoff: int,
) -> int:
    """Maps `length` bytes of `file` from page `pgoff` on, or of nothing (file 0): the address, or
    -errno. Hot. What MAP_POPULATE and MAP_LOCKED ask for is the caller's to do (mm_populate)."""
    if length == 0:
        return -EINVAL
    if flags & MAP_FIXED_NOREPLACE:
        flags |= MAP_FIXED
    if flags & MAP_FIXED == 0:
        addr &= -4096
        if addr and 0 < addr < MMAP_MIN_ADDR:
            addr = MMAP_MIN_ADDR
    if length < 0 or length > S64_MAX - 4095:
        return -ENOMEM
    length = (length + 4095) & -4096
    if pgoff < 0 or pgoff + (length >> 12) > 1 << 52:
        return -EOVERFLOW
    if m[mm + MM_MAP_COUNT] > m[G_MAX_MAP_COUNT] or flags & MAP_HUGETLB:
        # the pool of hugetlb pages is empty
        return -ENOMEM
    addr = get_unmapped_area(m, mm, addr, length, flags)
    if addr < 0:
        return addr
    if flags & MAP_FIXED_NOREPLACE:
        vma = find_vma(m, mm, addr)
        if vma and m[vma + VMA_START] < addr + length:
            return -EEXIST
    vm_flags = prot & (PROT_READ | PROT_WRITE | PROT_EXEC) | m[mm + MM_DEF_FLAGS]
    vm_flags |= VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & MAP_LOCKED:
        vm_flags |= VM_LOCKED
    if not mlock_future_check(m, mm, vm_flags, length):
        return -EAGAIN
    if file:
        vm_flags = file_flags(m, file, prot, flags, vm_flags)
        if vm_flags < 0:
            return vm_flags
    elif flags & MAP_TYPE == MAP_SHARED:
        if vm_flags & VM_GROWSDOWN:
            return -EINVAL
        pgoff = 0
        vm_flags |= VM_SHARED | VM_MAYSHARE
    elif flags & MAP_TYPE == MAP_PRIVATE:
        pgoff = addr >> 12
    else:
        return -EINVAL
    if flags & MAP_NORESERVE and m[G_OVERCOMMIT] != OVERCOMMIT_NEVER:
        vm_flags |= VM_NORESERVE
    return mmap_region(m, cpu, mm, file, addr, length, vm_flags, pgoff)


def count_vma_pages_range(m: memoryview, mm: int, start: int, end: int) -> int:
    """Pages of [start, end) that areas cover. Hot."""
    pages = 0
    vma = find_vma(m, mm, start)
    while vma and m[vma + VMA_START] < end:
        pages += min(m[vma + VMA_END], end) - max(m[vma + VMA_START], start) >> 12
        vma = vma_word(m[vma + VMA_NEXT])
    return pages


def find_prev(m: memoryview, mm: int, addr: int) -> int:
    """The last area that begins below `addr`, when none covers it; 0 for none. Hot."""
    vma = find_vma(m, mm, addr)
    if vma:
        return vma_word(m[vma + VMA_PREV])
    found = 0
    va = m[mm + MM_RB]
    while va:
        found = ((va - PAGE_OFFSET) >> 3) - VMA_RB
        va = m[found + VMA_RB + RB_RIGHT]
    return found


def mmap_region(
    m: memoryview, cpu: int, mm: int, file: int, addr: int, length: int, flags: int, pgoff: int
) -> int:
    """Makes the area [addr, addr + length) in place of what is there: `addr` or -errno. Hot."""
    pages = length >> 12
    end = addr + length
    if not may_expand_vm(m, mm, flags, pages):
        covered = count_vma_pages_range(m, mm, addr, end)
        if not may_expand_vm(m, mm, flags, pages - covered):
            return -ENOMEM
    vma = find_vma(m, mm, addr)
    if vma and m[vma + VMA_START] < end and do_munmap(m, cpu, mm, addr, length):
        return -ENOMEM
    charged = 0
    if flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE:
        charged = pages
        if not vm_enough_memory(m, pages):
            return -ENOMEM
        flags |= VM_ACCOUNT
    prev = find_prev(m, mm, addr)
    vma = vma_merge(m, cpu, mm, prev, addr, end, flags, 0, vma_va(file), pgoff, 0)
    if vma == 0:
        vma = vm_area_alloc(m, cpu, mm)
        if vma == 0:
            m[G_COMMITTED_AS] -= charged
            return -ENOMEM
        m[vma + VMA_START] = addr
        m[vma + VMA_END] = end
        m[vma + VMA_FLAGS] = flags
        m[vma + VMA_PGOFF] = pgoff
        if file:
            get_file(m, file)
            m[vma + VMA_FILE] = vma_va(file)
            m[vma + VMA_OPS] = VM_OPS_FILE
        elif flags & VM_SHARED:
            file = shmem_zero_setup(m, cpu, length, flags)
            if file < 0:
                vm_area_free(m, cpu, vma)
                return file
            m[vma + VMA_FILE] = vma_va(file)
            m[vma + VMA_OPS] = VM_OPS_SHMEM
        vma_link(m, mm, vma)
    vm_stat_account(m, mm, flags, pages)
    if flags & VM_LOCKED:
        if flags & VM_SPECIAL:
            m[vma + VMA_FLAGS] &= ~VM_LOCKED_MASK
        else:
            m[mm + MM_LOCKED_VM] += pages
    m[vma + VMA_FLAGS] |= VM_SOFTDIRTY
    vma_set_page_prot(m, vma)
    return addr


# --- the heap and growing stacks ------------------------------------------------------------------


def do_brk_flags(m: memoryview, cpu: int, mm: int, addr: int, length: int) -> int:
    """Private memory for the heap at `addr`: 0 or -errno. Hot."""
    flags = VM_READ | VM_WRITE | VM_EXEC | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_ACCOUNT
    flags |= m[mm + MM_DEF_FLAGS]
    rc = get_unmapped_area(m, mm, addr, length, MAP_FIXED)
    if rc < 0:
        return rc
    if not mlock_future_check(m, mm, m[mm + MM_DEF_FLAGS], length):
        return -EAGAIN
    pages = length >> 12
    vma = find_vma(m, mm, addr)
    if vma and m[vma + VMA_START] < addr + length and do_munmap(m, cpu, mm, addr, length):
        return -ENOMEM
    if not may_expand_vm(m, mm, flags, pages) or m[mm + MM_MAP_COUNT] > m[G_MAX_MAP_COUNT]:
        return -ENOMEM
    if not vm_enough_memory(m, pages):
        return -ENOMEM
    prev = find_prev(m, mm, addr)
    vma = vma_merge(m, cpu, mm, prev, addr, addr + length, flags, 0, 0, addr >> 12, 0)
    if vma == 0:
        vma = vm_area_alloc(m, cpu, mm)
        if vma == 0:
            m[G_COMMITTED_AS] -= pages
            return -ENOMEM
        m[vma + VMA_START] = addr
        m[vma + VMA_END] = addr + length
        m[vma + VMA_PGOFF] = addr >> 12
        m[vma + VMA_FLAGS] = flags
        vma_set_page_prot(m, vma)
        vma_link(m, mm, vma)
    m[mm + MM_TOTAL_VM] += pages
    m[mm + MM_DATA_VM] += pages
    if flags & VM_LOCKED:
        m[mm + MM_LOCKED_VM] += pages
    m[vma + VMA_FLAGS] |= VM_SOFTDIRTY
    return 0


def do_brk(m: memoryview, cpu: int, mm: int, brk: int) -> int:
    """Moves the end of the heap to `brk` if that can be; where it is then. Hot."""
    old = m[mm + MM_BRK]
    if brk < m[mm + MM_START_BRK] or brk > TASK_SIZE:
        return old
    if brk - m[mm + MM_START_BRK] > m[mm + MM_RLIM + RLIM_DATA]:
        return old
    new_end = (brk + 4095) & -4096
    old_end = (old + 4095) & -4096
    if new_end < old_end:
        if do_munmap(m, cpu, mm, new_end, old_end - new_end):
            return old
    elif new_end > old_end:
        vma = find_vma(m, mm, old_end)
        if vma and new_end + 4096 > vm_start_gap(m, vma):
            return old
        if do_brk_flags(m, cpu, mm, old_end, new_end - old_end):
            return old
    m[mm + MM_BRK] = brk
    return brk


def acct_stack_growth(m: memoryview, mm: int, vma: int, size: int, grow: int) -> int:
    """May the stack be `size` bytes, `grow` pages more than now: 0 or -ENOMEM. Hot."""
    if not may_expand_vm(m, mm, m[vma + VMA_FLAGS], grow):
        return -ENOMEM
    if size > m[mm + MM_RLIM + RLIM_STACK]:
        return -ENOMEM
    if not mlock_future_check(m, mm, m[vma + VMA_FLAGS], grow << 12):
        return -ENOMEM
    return 0 if vm_enough_memory(m, grow) else -ENOMEM


def expand_downwards(m: memoryview, cpu: int, vma: int, address: int) -> int:
    """Lets an area that grows down reach `address`: 0 or -errno. Hot."""
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    address &= -4096
    if address < MMAP_MIN_ADDR:
        return -EPERM
    prev = vma_word(m[vma + VMA_PREV])
    if prev and m[prev + VMA_FLAGS] & VM_GROWSDOWN == 0:
        if m[prev + VMA_FLAGS] & VM_ACCESS_FLAGS:
            if address - m[prev + VMA_END] < m[G_STACK_GUARD_GAP]:
                return -ENOMEM
    if anon_vma_prepare(m, cpu, vma):
        return -ENOMEM
    if address >= m[vma + VMA_START]:
        return 0
    grow = m[vma + VMA_START] - address >> 12
    if grow > m[vma + VMA_PGOFF]:
        return -ENOMEM
    rc = acct_stack_growth(m, mm, vma, m[vma + VMA_END] - address, grow)
    if rc:
        return rc
    if m[vma + VMA_FLAGS] & VM_LOCKED:
        m[mm + MM_LOCKED_VM] += grow
    vm_stat_account(m, mm, m[vma + VMA_FLAGS], grow)
    anon_vma_interval_tree_pre_update_vma(m, vma)
    m[vma + VMA_START] = address
    m[vma + VMA_PGOFF] -= grow
    anon_vma_interval_tree_post_update_vma(m, vma)
    vma_gap_update(m, vma)
    return 0
