# SPDX-License-Identifier: GPL-2.0-only
"""Making a mapping larger, smaller, or putting it elsewhere: mremap (mm/mremap.c).

Shrinking unmaps the end. Growing extends the area where it is, if nothing lies behind it, or moves
it (MREMAP_MAYMOVE): a new area with the old one's properties is made, the page-table entries go
over, and the old one is unmapped empty. Pages keep their place in their object, so the reverse map
finds them in the new area. An old length of 0 makes a second mapping of the same shared pages.

All hot. Results are addresses or a negative errno; lengths in bytes.
"""

from __future__ import annotations

from .anon_vma import anon_vma_clone
from .fs import get_file
from .huge_pmd_split import pgtable_deposit, pgtable_withdraw, split_huge_pmd
from .kernel_globals import G_COMMITTED_AS, G_MAX_MAP_COUNT, G_TLB_GEN
from .mempolicy_vma import mpol_put, vma_dup_policy
from .mm_struct import (
    MM_HIWATER_VM,
    MM_LOCKED_VM,
    MM_MAP_COUNT,
    MM_RLIM,
    RLIM_MEMLOCK,
    VM_ACCOUNT,
    VM_DONTEXPAND,
    VM_LOCKED,
    VM_MAYSHARE,
    VM_PFNMAP,
    VM_SHARED,
    VMA_ANON_VMA,
    VMA_END,
    VMA_FILE,
    VMA_FLAGS,
    VMA_NEXT,
    VMA_OPS,
    VMA_PGOFF,
    VMA_POLICY,
    VMA_START,
)
from .mmap import find_prev
from .munmap import do_munmap
from .pgtable import (
    PMD_SHIFT,
    PMD_SIZE,
    TASK_SIZE,
    mm_find_pmd,
    mm_find_pte,
    pmd_alloc,
    pmd_trans_huge,
    pte_alloc,
)
from .unmapped_area import MAP_FIXED, get_unmapped_area
from .vm_account import may_expand_vm, vm_enough_memory
from .vma import (
    find_vma,
    move_borders,
    vm_area_dup,
    vm_area_free,
    vm_stat_account,
    vma_link,
    vma_merge,
    vma_word,
)

MREMAP_MAYMOVE = 1
MREMAP_FIXED = 2
EAGAIN, ENOMEM, EFAULT, EINVAL = 11, 12, 14, 22
S64_MAX = (1 << 63) - 1


# --- page-table entries ---------------------------------------------------------------------------
def move_huge_pmd(m: memoryview, at: int, to: int) -> None:
    """Moves a huge entry, and the table that is laid by for it. Hot."""
    frame = pgtable_withdraw(m, at)
    m[to] = m[at]
    m[at] = 0
    pgtable_deposit(m, to, frame)


def move_page_tables(
    m: memoryview, cpu: int, mm: int, vma: int, old: int, new: int, length: int
) -> int:
    """Moves the entries of `length` bytes at `old` of an area to `new`: bytes that were done, fewer
    than all without memory for tables. Hot."""
    end = old + length
    at = old
    m[G_TLB_GEN] += 1
    while at < end:
        to = new + (at - old)
        # as far as both lie in one table
        stop = min((at >> PMD_SHIFT) + 1 << PMD_SHIFT, end)
        stop = min(stop, at + ((to >> PMD_SHIFT) + 1 << PMD_SHIFT) - to)
        pmd = mm_find_pmd(m, mm, at)
        if pmd == 0 or m[pmd] == 0:
            at = stop
            continue
        other = pmd_alloc(m, cpu, mm, to)
        if other == 0:
            return at - old
        if pmd_trans_huge(m[pmd]):
            if stop - at == PMD_SIZE and m[other] == 0:
                move_huge_pmd(m, pmd, other)
                at = stop
                continue
            split_huge_pmd(m, cpu, vma, pmd, at)
        if pte_alloc(m, cpu, mm, other, to) == 0:
            return at - old
        first, target = mm_find_pte(m, mm, at), mm_find_pte(m, mm, to)
        if first:
            for i in range(stop - at >> 12):
                if m[first + i]:
                    m[target + i] = m[first + i]
                    m[first + i] = 0
        at = stop
    return length


# --- areas ----------------------------------------------------------------------------------------
def copy_vma(m: memoryview, cpu: int, mm: int, vma: int, addr: int, length: int, pgoff: int) -> int:
    """An area of `length` bytes at `addr`, where there is none, with the properties of `vma`, or a
    neighbour that has them and is extended: it, or 0 without memory. Hot."""
    if m[vma + VMA_OPS] == 0 and m[vma + VMA_ANON_VMA] == 0:
        pgoff = addr >> 12
    prev = find_prev(m, mm, addr)
    flags, anon_vma, policy = m[vma + VMA_FLAGS], m[vma + VMA_ANON_VMA], m[vma + VMA_POLICY]
    end = addr + length
    file = m[vma + VMA_FILE]
    new = vma_merge(m, cpu, mm, prev, addr, end, flags, anon_vma, file, pgoff, policy)
    if new:
        return new
    new = vm_area_dup(m, cpu, vma)
    if new == 0:
        return 0
    m[new + VMA_START] = addr
    m[new + VMA_END] = end
    m[new + VMA_PGOFF] = pgoff
    rc = vma_dup_policy(m, cpu, vma, new)
    if rc == 0:
        rc = anon_vma_clone(m, cpu, new, vma)
        if rc and m[new + VMA_POLICY]:
            mpol_put(m, cpu, vma_word(m[new + VMA_POLICY]))
    if rc:
        vm_area_free(m, cpu, new)
        return 0
    if file:
        get_file(m, vma_word(file))
    vma_link(m, mm, new)
    return new


def move_vma(
    m: memoryview, cpu: int, mm: int, vma: int, old: int, old_len: int, new_len: int, new: int
) -> int:
    """Moves [old, old + old_len) of an area to `new`, where it is `new_len` bytes long: `new`, or
    -ENOMEM and all is as before. Hot."""
    if m[mm + MM_MAP_COUNT] >= m[G_MAX_MAP_COUNT] - 3:
        return -ENOMEM
    flags = m[vma + VMA_FLAGS]
    pgoff = m[vma + VMA_PGOFF] + (old - m[vma + VMA_START] >> 12)
    area = copy_vma(m, cpu, mm, vma, new, new_len, pgoff)
    if area == 0:
        return -ENOMEM
    # a neighbour that both are part of now may have taken the old area's place
    vma = find_vma(m, mm, old)
    moved = move_page_tables(m, cpu, mm, vma, old, new, old_len)
    said = new
    if moved < old_len:
        move_page_tables(m, cpu, mm, area, new, old, moved)
        vma, old, old_len, said = area, new, new_len, -ENOMEM
    excess = 0
    split = False
    if flags & VM_ACCOUNT:
        # what was committed for the old place goes on for the new one
        m[vma + VMA_FLAGS] &= ~VM_ACCOUNT
        excess = m[vma + VMA_END] - m[vma + VMA_START] - old_len
        split = old > m[vma + VMA_START] and old + old_len < m[vma + VMA_END]
    hiwater = m[mm + MM_HIWATER_VM]
    vm_stat_account(m, mm, flags, new_len >> 12)
    if old_len and do_munmap(m, cpu, mm, old, old_len) < 0:
        m[G_COMMITTED_AS] -= excess >> 12
        excess = 0
    m[mm + MM_HIWATER_VM] = hiwater
    if excess:
        m[vma + VMA_FLAGS] |= VM_ACCOUNT
        if split:
            m[vma_word(m[vma + VMA_NEXT]) + VMA_FLAGS] |= VM_ACCOUNT
    if flags & VM_LOCKED:
        m[mm + MM_LOCKED_VM] += new_len >> 12
    return said


# --- the call -------------------------------------------------------------------------------------
def vma_to_resize(m: memoryview, mm: int, addr: int, old_len: int, new_len: int) -> int:
    """The area in which [addr, addr + old_len) lies, if it may get another length: it, or -errno;
    what it grows by is committed then. Hot."""
    vma = find_vma(m, mm, addr)
    if vma == 0 or m[vma + VMA_START] > addr:
        return -EFAULT
    flags = m[vma + VMA_FLAGS]
    if old_len == 0 and flags & (VM_SHARED | VM_MAYSHARE) == 0:
        return -EINVAL
    if old_len > m[vma + VMA_END] - addr:
        return -EFAULT
    if new_len == old_len:
        return vma
    if flags & (VM_DONTEXPAND | VM_PFNMAP):
        return -EFAULT
    more = new_len - old_len >> 12
    if flags & VM_LOCKED and m[mm + MM_LOCKED_VM] + more > m[mm + MM_RLIM + RLIM_MEMLOCK] >> 12:
        return -EAGAIN
    if not may_expand_vm(m, mm, flags, more):
        return -ENOMEM
    if flags & VM_ACCOUNT and not vm_enough_memory(m, more):
        return -ENOMEM
    return vma


def uncharge(m: memoryview, vma_flags: int, old_len: int, new_len: int) -> None:
    """Takes back what vma_to_resize() has committed. Hot."""
    if vma_flags & VM_ACCOUNT:
        m[G_COMMITTED_AS] -= new_len - old_len >> 12


def mremap_to(
    m: memoryview, cpu: int, mm: int, addr: int, old_len: int, new_len: int, new: int
) -> int:
    """Moves a mapping to `new`, in place of what is there: `new` or -errno. Hot."""
    if new & 4095 or new_len > TASK_SIZE or new < 0 or new > TASK_SIZE - new_len:
        return -EINVAL
    if addr + old_len > new and new + new_len > addr:
        return -EINVAL
    rc = do_munmap(m, cpu, mm, new, new_len)
    if rc:
        return rc
    if old_len >= new_len:
        if old_len != new_len:
            rc = do_munmap(m, cpu, mm, addr + new_len, old_len - new_len)
            if rc:
                return rc
        old_len = new_len
    vma = vma_to_resize(m, mm, addr, old_len, new_len)
    if vma < 0:
        return vma
    flags = m[vma + VMA_FLAGS]
    said = get_unmapped_area(m, mm, new, new_len, MAP_FIXED)
    if said >= 0:
        said = move_vma(m, cpu, mm, vma, addr, old_len, new_len, new)
    if said < 0:
        uncharge(m, flags, old_len, new_len)
    return said


def vma_expandable(m: memoryview, mm: int, vma: int, more: int) -> bool:
    """True if nothing lies in the `more` bytes behind the area. Hot."""
    end = m[vma + VMA_END] + more
    following = vma_word(m[vma + VMA_NEXT])
    if following and m[following + VMA_START] < end:
        return False
    start = m[vma + VMA_START]
    return get_unmapped_area(m, mm, start, end - start, MAP_FIXED) >= 0


def expand_in_place(m: memoryview, cpu: int, mm: int, vma: int, more: int) -> None:
    """Makes an area longer by `more` bytes, which are free. Hot."""
    end = m[vma + VMA_END] + more
    move_borders(m, cpu, mm, vma, m[vma + VMA_START], end, m[vma + VMA_PGOFF], 0)
    vm_stat_account(m, mm, m[vma + VMA_FLAGS], more >> 12)
    if m[vma + VMA_FLAGS] & VM_LOCKED:
        m[mm + MM_LOCKED_VM] += more >> 12


def do_mremap(
    m: memoryview, cpu: int, mm: int, addr: int, old_len: int, new_len: int, flags: int, new: int
) -> int:
    """mremap(): where the mapping of `old_len` bytes at `addr` is now, `new_len` bytes long, or
    -errno. Hot. Faulting in what a locked area has grown by is the caller's to do (mm_populate)."""
    if flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE) or flags == MREMAP_FIXED or addr & 4095:
        return -EINVAL
    if old_len < 0 or new_len < 0 or max(old_len, new_len) > S64_MAX - 4095:
        return -EINVAL
    old_len = (old_len + 4095) & -4096
    new_len = (new_len + 4095) & -4096
    if new_len == 0:
        return -EINVAL
    if flags & MREMAP_FIXED:
        return mremap_to(m, cpu, mm, addr, old_len, new_len, new)
    if old_len >= new_len:
        rc = do_munmap(m, cpu, mm, addr + new_len, old_len - new_len) if old_len != new_len else 0
        return rc if rc < 0 else addr
    vma = vma_to_resize(m, mm, addr, old_len, new_len)
    if vma < 0:
        return vma
    area_flags = m[vma + VMA_FLAGS]
    if old_len == m[vma + VMA_END] - addr and vma_expandable(m, mm, vma, new_len - old_len):
        expand_in_place(m, cpu, mm, vma, new_len - old_len)
        return addr
    said = -ENOMEM
    if flags & MREMAP_MAYMOVE:
        said = get_unmapped_area(m, mm, 0, new_len, 0)
        if said >= 0:
            said = move_vma(m, cpu, mm, vma, addr, old_len, new_len, said)
    if said < 0:
        uncharge(m, area_flags, old_len, new_len)
    return said
