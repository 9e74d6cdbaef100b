# SPDX-License-Identifier: GPL-2.0-only
"""A part of an area that is to differ from the rest: merged or cut out (mm/mmap.c).

mprotect, madvise, mlock and mbind all give a range new properties; what is common to them is here.

All hot. `mm`, `vma`, `prev` are word indices, addresses user addresses in bytes.
"""

from __future__ import annotations

from .mm_struct import (
    VMA_ANON_VMA,
    VMA_END,
    VMA_FILE,
    VMA_PGOFF,
    VMA_POLICY,
    VMA_START,
)
from .vma import split_vma, vma_merge


def range_with_flags(
    m: memoryview, cpu: int, mm: int, vma: int, prev: int, start: int, end: int, flags: int
) -> int:
    """The area that is to get `flags` for [start, end) of `vma`: a neighbour that has them and has
    been extended over the range, or `vma`, cut down to it; -errno if it could not be cut. Hot.

    `prev` is the area in front of `start`, `vma` itself if it begins further down.
    """
    pgoff = m[vma + VMA_PGOFF] + (start - m[vma + VMA_START] >> 12)
    anon_vma = m[vma + VMA_ANON_VMA]
    file = m[vma + VMA_FILE]
    policy = m[vma + VMA_POLICY]
    merged = vma_merge(m, cpu, mm, prev, start, end, flags, anon_vma, file, pgoff, policy)
    if merged:
        return merged
    if start != m[vma + VMA_START]:
        rc = split_vma(m, cpu, mm, vma, start, True)
        if rc:
            return rc
    if end != m[vma + VMA_END]:
        rc = split_vma(m, cpu, mm, vma, end, False)
        if rc:
            return rc
    return vma
