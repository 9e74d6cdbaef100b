# SPDX-License-Identifier: GPL-2.0-only
"""What a request may do: alloc flags and migratetype out of gfp flags and the caller's context.

The fast path needs the migratetype alone. The slow path asks for the rest: which watermark, whether
the caller is atomic, a real-time task or in an interrupt, which reserves a task that frees memory
itself (PF_MEMALLOC) or is being killed may use, and what a memalloc_noio or memalloc_nofs scope
forbids. Warnings that 4.20 gives once about impossible requests are here, too.

All hot, names of mm/page_alloc.c.
"""

from __future__ import annotations

from .gfp import (
    GFP_ATOMIC_BIT,
    GFP_FS_BIT,
    GFP_HIGH_BIT,
    GFP_IO_BIT,
    GFP_MEMALLOC_BIT,
    GFP_MOVABLE_MASK,
    GFP_MOVABLE_SHIFT,
    GFP_NOMEMALLOC_BIT,
    GFP_THISNODE_BIT,
    GFP_ZONEMASK,
    ZONE_TABLE,
)
from .kernel_globals import G_MOBILITY_DISABLED, G_WARNED_ONCE
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_PREEMPT_COUNT,
    CPU_WORDS,
    IN_INTERRUPT_MASK,
    MAX_RT_PRIO,
    PAGE_OFFSET,
    PF_MEMALLOC,
    PF_MEMALLOC_NOFS,
    PF_MEMALLOC_NOIO,
    SOFTIRQ_OFFSET,
    TASK_FLAGS,
    TASK_OOM_MM,
    TASK_PRIO,
)
from .mmzone import MIGRATE_MOVABLE, MIGRATE_UNMOVABLE, ND_NOFALLBACK, ND_ZONELISTS
from .trace import log_record
from .watermark import (
    ALLOC_CMA,
    ALLOC_CPUSET,
    ALLOC_HARDER,
    ALLOC_NO_WATERMARKS,
    ALLOC_OOM,
    ALLOC_WMARK_MIN,
)

# Bits of warned_once
ONCE_ORDER = 1 << 0
ONCE_NOFAIL_ORDER = 1 << 1
ONCE_NOFAIL_WAIT = 1 << 2
ONCE_NOFAIL_MEMALLOC = 1 << 3


def warn_once(m: memoryview, cpu: int, bit: int, kind: int, gfp: int, order: int) -> None:
    """Logs a WARN_ON_ONCE of the allocator, the first time. Hot."""
    if m[G_WARNED_ONCE] & bit == 0:
        m[G_WARNED_ONCE] |= bit
        log_record(m, kind, cpu, order, gfp, 0, 0, 0, 0)


def gfpflags_to_migratetype(m: memoryview, gfp: int) -> int:
    """The migratetype that a request wants (include/linux/gfp.h). Hot."""
    if m[G_MOBILITY_DISABLED]:
        return MIGRATE_UNMOVABLE
    return (gfp & GFP_MOVABLE_MASK) >> GFP_MOVABLE_SHIFT


def request_kind(gfp: int) -> tuple[int, int, int]:
    """What the gfp flags alone say: word of the zonelist within the node, highest zone index, and
    migratetype where mobility grouping is on (gfp_zonelist, gfp_zone, gfpflags_to_migratetype).

    Hot.
    """
    return (
        ND_NOFALLBACK if gfp & GFP_THISNODE_BIT else ND_ZONELISTS,
        ZONE_TABLE[gfp & GFP_ZONEMASK],
        (gfp & GFP_MOVABLE_MASK) >> GFP_MOVABLE_SHIFT,
    )


def gfp_to_alloc_flags(m: memoryview, cpu: int, gfp: int) -> int:
    """Alloc flags of the slow path (mm/page_alloc.c). Hot."""
    flags = ALLOC_WMARK_MIN | ALLOC_CPUSET | (gfp & GFP_HIGH_BIT)
    block = CPU_BLOCKS + cpu * CPU_WORDS
    if gfp & GFP_ATOMIC_BIT:
        if gfp & GFP_NOMEMALLOC_BIT == 0:
            flags |= ALLOC_HARDER
        flags &= ~ALLOC_CPUSET
    elif m[block + CPU_PREEMPT_COUNT] & IN_INTERRUPT_MASK == 0:
        task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
        if m[task + TASK_PRIO] < MAX_RT_PRIO:
            flags |= ALLOC_HARDER
    if gfpflags_to_migratetype(m, gfp) == MIGRATE_MOVABLE:
        flags |= ALLOC_CMA
    return flags


def gfp_pfmemalloc_flags(m: memoryview, cpu: int, gfp: int) -> int:
    """Which reserves the caller's context opens (__gfp_pfmemalloc_flags). Hot."""
    if gfp & GFP_NOMEMALLOC_BIT:
        return 0
    if gfp & GFP_MEMALLOC_BIT:
        return ALLOC_NO_WATERMARKS
    block = CPU_BLOCKS + cpu * CPU_WORDS
    task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
    preempt = m[block + CPU_PREEMPT_COUNT]
    if preempt & SOFTIRQ_OFFSET and m[task + TASK_FLAGS] & PF_MEMALLOC:
        return ALLOC_NO_WATERMARKS
    if preempt & IN_INTERRUPT_MASK == 0:
        if m[task + TASK_FLAGS] & PF_MEMALLOC:
            return ALLOC_NO_WATERMARKS
        if m[task + TASK_OOM_MM]:
            return ALLOC_OOM
    return 0


def current_gfp_context(m: memoryview, cpu: int, gfp: int) -> int:
    """`gfp` without what the task's memalloc_noio / memalloc_nofs scope forbids. Hot."""
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    if m[task + TASK_FLAGS] & PF_MEMALLOC_NOIO:
        return gfp & ~(GFP_IO_BIT | GFP_FS_BIT)
    if m[task + TASK_FLAGS] & PF_MEMALLOC_NOFS:
        return gfp & ~GFP_FS_BIT
    return gfp
