# SPDX-License-Identifier: GPL-2.0-only
"""Finding room in an address space (mm/mmap.c, arch/x86/kernel/sys_x86_64.c).

From mmap_base down, the highest hole that is large enough: the tree of areas knows the largest hole
below each of its nodes, so the search goes straight there. Only when nothing is left, the lowest
hole from a third of the address space up. Nothing is randomised.

Room begins at MMAP_MIN_ADDR: the first 512 GiB are the identity map of boot scripts. All hot;
results are addresses or a negative errno.
"""

from __future__ import annotations

from .layout import (
    PAGE_OFFSET,
)
from .mm_struct import (
    MM_HIGHEST_VM_END,
    MM_MMAP_BASE,
    MM_RB,
    VMA_END,
    VMA_GAP,
    VMA_NEXT,
    VMA_PREV,
    VMA_RB,
)
from .pgtable import (
    MMAP_MIN_ADDR,
    TASK_SIZE,
)
from .rbtree import RB_LEFT, RB_RIGHT
from .vma import (
    find_vma,
    vm_start_gap,
    vma_word,
)

MAP_FIXED = 0x10
EPERM, ENOMEM, EINVAL = 1, 12, 22
TASK_UNMAPPED_BASE = (TASK_SIZE // 3 + 4095) & -4096


def end_of_prev(m: memoryview, vma: int) -> int:
    """End of the area in front of `vma`, 0 if it is the first. Hot."""
    prev = m[vma + VMA_PREV]
    return m[((prev - PAGE_OFFSET) >> 3) + VMA_END] if prev else 0


def unmapped_area_topdown(m: memoryview, mm: int, length: int, low: int, high: int) -> int:
    """Start of the highest hole of `length` bytes in [low, high), or -ENOMEM. Hot."""
    if high < length or low > high - length:
        return -ENOMEM
    high_limit = high - length
    low_limit = low + length
    if m[mm + MM_HIGHEST_VM_END] <= high_limit:
        return high_limit
    if m[mm + MM_RB] == 0:
        return -ENOMEM
    vma = ((m[mm + MM_RB] - PAGE_OFFSET) >> 3) - VMA_RB
    if m[vma + VMA_GAP] < length:
        return -ENOMEM
    down = True
    while True:
        start = end_of_prev(m, vma)
        if down and start <= high_limit and m[vma + VMA_RB + RB_RIGHT]:
            right = ((m[vma + VMA_RB + RB_RIGHT] - PAGE_OFFSET) >> 3) - VMA_RB
            if m[right + VMA_GAP] >= length:
                vma = right
                continue
        end = vm_start_gap(m, vma)
        if end < low_limit:
            return -ENOMEM
        if start <= high_limit and end > start and end - start >= length:
            return min(end, high) - length
        if m[vma + VMA_RB + RB_LEFT]:
            left = ((m[vma + VMA_RB + RB_LEFT] - PAGE_OFFSET) >> 3) - VMA_RB
            if m[left + VMA_GAP] >= length:
                vma = left
                down = True
                continue
        while True:
            node = vma + VMA_RB
            up = m[node] & ~3
            if up == 0:
                return -ENOMEM
            vma = ((up - PAGE_OFFSET) >> 3) - VMA_RB
            if m[vma + VMA_RB + RB_RIGHT] == PAGE_OFFSET + (node << 3):
                down = False
                break


def unmapped_area(m: memoryview, mm: int, length: int, low: int, high: int) -> int:
    """Start of the lowest hole of `length` bytes in [low, high), or -ENOMEM. Hot."""
    at = low
    vma = find_vma(m, mm, low)
    while vma and vm_start_gap(m, vma) - at < length:
        at = max(at, m[vma + VMA_END])
        vma = vma_word(m[vma + VMA_NEXT])
    return at if at + length <= high else -ENOMEM


def get_unmapped_area(m: memoryview, mm: int, addr: int, length: int, flags: int) -> int:
    """Where `length` bytes go: `addr` if it is fixed or free, else the highest room; or -errno.
    Hot."""
    if length > TASK_SIZE:
        return -ENOMEM
    if flags & MAP_FIXED == 0:
        wish = addr & -4096
        found = -ENOMEM
        if wish and wish <= TASK_SIZE - length:
            vma = find_vma(m, mm, wish)
            if vma == 0 or wish + length <= vm_start_gap(m, vma):
                found = wish
        if found < 0:
            base = m[mm + MM_MMAP_BASE]
            found = unmapped_area_topdown(m, mm, length, MMAP_MIN_ADDR, base)
        if found < 0:
            found = unmapped_area(m, mm, length, TASK_UNMAPPED_BASE, TASK_SIZE)
        if found < 0:
            return found
        addr = found
    if addr < 0 or addr > TASK_SIZE - length:
        return -ENOMEM
    if addr & 4095:
        return -EINVAL
    return -EPERM if addr < MMAP_MIN_ADDR else addr
