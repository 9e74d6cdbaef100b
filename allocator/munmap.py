# SPDX-License-Identifier: GPL-2.0-only
"""Unmapping: munmap and the end of an address space (mm/mmap.c).

`do_munmap` cuts areas at the borders of the range, takes what lies inside out of list and tree,
empties its entries, takes it out of the reverse maps, frees the tables that only it needed, and
forgets it. All hot; results are 0 or a negative errno.
"""

from __future__ import annotations

from .file_table import fput
from .kernel_globals import G_COMMITTED_AS, G_MAX_MAP_COUNT
from .memory_zap import unmap_vmas
from .mempolicy_vma import mpol_put
from .mlock import munlock_vma_pages_range
from .mm_struct import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_HIWATER_RSS,
    MM_HIWATER_VM,
    MM_LOCKED_VM,
    MM_MAP_COUNT,
    MM_MMAP,
    MM_RB,
    MM_RSS,
    MM_SHMEMPAGES,
    MM_TOTAL_VM,
    VM_ACCOUNT,
    VM_LOCKED,
    VMA_END,
    VMA_FILE,
    VMA_FLAGS,
    VMA_NEXT,
    VMA_POLICY,
    VMA_PREV,
    VMA_START,
)
from .pgtable import (
    MMAP_MIN_ADDR,
    PMD_SIZE,
    TASK_SIZE,
    free_pgd_range,
)
from .rmap import (
    unlink_anon_vmas,
)
from .swap import lru_add_drain
from .vma import (
    find_vma,
    split_vma,
    unlink_file_vma,
    vm_area_free,
    vm_stat_account,
    vma_unlink,
    vma_va,
    vma_word,
)

ENOMEM, EINVAL = 12, 22


def free_pgtables(m: memoryview, cpu: int, mm: int, vma: int, floor: int, ceiling: int) -> None:
    """Takes a chain of unlinked areas from `vma` on out of the reverse maps, and frees the tables
    that only they needed. Hot."""
    while vma:
        addr = m[vma + VMA_START]
        unlink_anon_vmas(m, cpu, vma)
        unlink_file_vma(m, vma)
        following = vma_word(m[vma + VMA_NEXT])
        while following and m[following + VMA_START] <= m[vma + VMA_END] + PMD_SIZE:
            vma = following
            unlink_anon_vmas(m, cpu, vma)
            unlink_file_vma(m, vma)
            following = vma_word(m[vma + VMA_NEXT])
        top = m[following + VMA_START] if following else ceiling
        free_pgd_range(m, cpu, mm, addr, m[vma + VMA_END], floor, top)
        vma = following


def remove_vma(m: memoryview, cpu: int, vma: int) -> int:
    """Frees an area that is unlinked everywhere: the one behind it in its chain. Hot."""
    following = vma_word(m[vma + VMA_NEXT])
    file = vma_word(m[vma + VMA_FILE])
    if file:
        fput(m, cpu, file)
    if m[vma + VMA_POLICY]:
        mpol_put(m, cpu, vma_word(m[vma + VMA_POLICY]))
    vm_area_free(m, cpu, vma)
    return following


def update_hiwater(m: memoryview, mm: int) -> None:
    """Remembers how large the process has been, before it shrinks. Hot."""
    rss = m[mm + MM_RSS + MM_ANONPAGES] + m[mm + MM_RSS + MM_FILEPAGES]
    rss += m[mm + MM_RSS + MM_SHMEMPAGES]
    m[mm + MM_HIWATER_RSS] = max(m[mm + MM_HIWATER_RSS], rss)
    m[mm + MM_HIWATER_VM] = max(m[mm + MM_HIWATER_VM], m[mm + MM_TOTAL_VM])


def do_munmap(m: memoryview, cpu: int, mm: int, start: int, length: int) -> int:
    """Unmaps `length` bytes from `start` on: 0 or -errno. Hot."""
    if start & 4095 or start < 0 or start > TASK_SIZE:
        return -EINVAL
    if length < 0 or length > TASK_SIZE - start:
        return -EINVAL
    length = (length + 4095) & -4096
    if length == 0:
        return -EINVAL
    end = start + length
    vma = find_vma(m, mm, start)
    if vma == 0 or m[vma + VMA_START] >= end:
        return 0
    if start > m[vma + VMA_START]:
        if end < m[vma + VMA_END] and m[mm + MM_MAP_COUNT] >= m[G_MAX_MAP_COUNT]:
            return -ENOMEM
        rc = split_vma(m, cpu, mm, vma, start, False)
        if rc:
            return rc
        vma = vma_word(m[vma + VMA_NEXT])
    last = find_vma(m, mm, end)
    if last and end > m[last + VMA_START]:
        rc = split_vma(m, cpu, mm, last, end, True)
        if rc:
            return rc
        vma = find_vma(m, mm, start)
    prev = vma_word(m[vma + VMA_PREV])
    chain_end = detach_vmas(m, cpu, mm, vma, end)
    lru_add_drain(m, cpu)
    update_hiwater(m, mm)
    unmap_vmas(m, cpu, vma, start, end)
    floor = m[prev + VMA_END] if prev else MMAP_MIN_ADDR
    ceiling = m[chain_end + VMA_START] if chain_end else TASK_SIZE + 4096
    free_pgtables(m, cpu, mm, vma, floor, ceiling)
    while vma:
        pages = m[vma + VMA_END] - m[vma + VMA_START] >> 12
        if m[vma + VMA_FLAGS] & VM_ACCOUNT:
            m[G_COMMITTED_AS] -= pages
        vm_stat_account(m, mm, m[vma + VMA_FLAGS], -pages)
        vma = remove_vma(m, cpu, vma)
    return 0


def detach_vmas(m: memoryview, cpu: int, mm: int, vma: int, end: int) -> int:
    """Unlinks the areas from `vma` to `end`, which stay a chain of their own: the area behind them.
    Hot."""
    tail = 0
    while vma and m[vma + VMA_START] < end:
        following = vma_word(m[vma + VMA_NEXT])
        if m[vma + VMA_FLAGS] & VM_LOCKED:
            m[mm + MM_LOCKED_VM] -= m[vma + VMA_END] - m[vma + VMA_START] >> 12
            munlock_vma_pages_range(m, cpu, vma, m[vma + VMA_START], m[vma + VMA_END])
        vma_unlink(m, mm, vma)
        m[mm + MM_MAP_COUNT] -= 1
        m[vma + VMA_PREV] = vma_va(tail)
        m[vma + VMA_NEXT] = 0
        if tail:
            m[tail + VMA_NEXT] = vma_va(vma)
        tail = vma
        vma = following
    return vma


def exit_mmap(m: memoryview, cpu: int, mm: int) -> None:
    """Takes everything out of an address space that nobody uses any more. Hot."""
    vma = vma_word(m[mm + MM_MMAP])
    if m[mm + MM_LOCKED_VM]:
        each = vma
        while each:
            if m[each + VMA_FLAGS] & VM_LOCKED:
                munlock_vma_pages_range(m, cpu, each, m[each + VMA_START], m[each + VMA_END])
            each = vma_word(m[each + VMA_NEXT])
    if vma == 0:
        return
    lru_add_drain(m, cpu)
    unmap_vmas(m, cpu, vma, 0, TASK_SIZE)
    free_pgtables(m, cpu, mm, vma, MMAP_MIN_ADDR, TASK_SIZE + 4096)
    while vma:
        if m[vma + VMA_FLAGS] & VM_ACCOUNT:
            m[G_COMMITTED_AS] -= m[vma + VMA_END] - m[vma + VMA_START] >> 12
        vma = remove_vma(m, cpu, vma)
    m[mm + MM_MMAP] = 0
    m[mm + MM_RB] = 0
    m[mm + MM_MAP_COUNT] = 0
