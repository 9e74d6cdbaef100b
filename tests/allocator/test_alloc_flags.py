# SPDX-License-Identifier: GPL-2.0-only
"""allocator/alloc_flags.py: rows read from gfp_to_alloc_flags, __gfp_pfmemalloc_flags,
current_gfp_context (4.20, mm/page_alloc.c) and gfp_zone, gfpflags_to_migratetype (gfp.h)."""

from __future__ import annotations

import pytest

from allocator.alloc_flags import (
    ONCE_NOFAIL_ORDER,
    ONCE_ORDER,
    current_gfp_context,
    gfp_pfmemalloc_flags,
    gfp_to_alloc_flags,
    gfpflags_to_migratetype,
    request_kind,
    warn_once,
)
from allocator.gfp import gfp_zone, parse_gfp
from allocator.kernel import Kernel
from allocator.kernel_globals import G_LOG_HEAD, G_MOBILITY_DISABLED, G_WARNED_ONCE
from allocator.layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_PREEMPT_COUNT,
    HARDIRQ_OFFSET,
    PF_MEMALLOC,
    PF_MEMALLOC_NOFS,
    PF_MEMALLOC_NOIO,
    SOFTIRQ_OFFSET,
    TASK_FLAGS,
    TASK_OOM_MM,
    TASK_PRIO,
    word_of_va,
)
from allocator.mmzone import (
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    ND_NOFALLBACK,
    ND_ZONELISTS,
)
from allocator.trace_events import LOG_WARN_ONCE_ORDER
from tests.allocator.machines import boot

HARDER, HIGH, CPUSET, CMA, OOM, NO_WATERMARKS = 0x10, 0x20, 0x40, 0x80, 0x08, 0x04


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x48M")


def task(kernel: Kernel) -> int:
    return word_of_va(kernel.m[CPU_BLOCKS + CPU_CURRENT])


@pytest.mark.parametrize(
    ("gfp", "prio", "preempt", "flags"),
    [
        ("GFP_KERNEL", 120, 0, CPUSET),
        ("GFP_KERNEL|__GFP_HIGH", 120, 0, CPUSET | HIGH),
        ("GFP_ATOMIC", 120, 0, HIGH | HARDER),
        ("GFP_ATOMIC|__GFP_NOMEMALLOC", 120, 0, HIGH),
        ("GFP_KERNEL", 50, 0, CPUSET | HARDER),
        ("GFP_KERNEL", 50, HARDIRQ_OFFSET, CPUSET),
        ("GFP_HIGHUSER_MOVABLE", 120, 0, CPUSET | CMA),
        ("GFP_KERNEL|__GFP_RECLAIMABLE", 120, 0, CPUSET),
    ],
)
def test_slow_path_flags_follow_gfp_priority_and_interrupt(
    kernel: Kernel, gfp: str, prio: int, preempt: int, flags: int
) -> None:
    kernel.m[task(kernel) + TASK_PRIO] = prio
    kernel.m[CPU_BLOCKS + CPU_PREEMPT_COUNT] = preempt
    assert gfp_to_alloc_flags(kernel.m, 0, parse_gfp(gfp)) == flags


@pytest.mark.parametrize(
    ("gfp", "task_flags", "oom", "preempt", "reserve"),
    [
        ("GFP_KERNEL", 0, 0, 0, 0),
        ("GFP_KERNEL|__GFP_MEMALLOC", 0, 0, 0, NO_WATERMARKS),
        ("GFP_KERNEL|__GFP_MEMALLOC", 0, 0, HARDIRQ_OFFSET, NO_WATERMARKS),
        ("GFP_KERNEL|__GFP_MEMALLOC|__GFP_NOMEMALLOC", PF_MEMALLOC, 1, 0, 0),
        ("GFP_KERNEL", PF_MEMALLOC, 0, 0, NO_WATERMARKS),
        ("GFP_KERNEL", PF_MEMALLOC, 0, HARDIRQ_OFFSET, 0),
        ("GFP_KERNEL", PF_MEMALLOC, 0, SOFTIRQ_OFFSET, NO_WATERMARKS),
        ("GFP_KERNEL", 0, 0, SOFTIRQ_OFFSET, 0),
        ("GFP_KERNEL", 0, 1, 0, OOM),
        ("GFP_KERNEL", 0, 1, HARDIRQ_OFFSET, 0),
        ("GFP_KERNEL", PF_MEMALLOC, 1, 0, NO_WATERMARKS),
    ],
)
def test_reserves_open_by_context(
    kernel: Kernel, gfp: str, task_flags: int, oom: int, preempt: int, reserve: int
) -> None:
    kernel.m[task(kernel) + TASK_FLAGS] = task_flags
    kernel.m[task(kernel) + TASK_OOM_MM] = oom
    kernel.m[CPU_BLOCKS + CPU_PREEMPT_COUNT] = preempt
    assert gfp_pfmemalloc_flags(kernel.m, 0, parse_gfp(gfp)) == reserve


@pytest.mark.parametrize(
    ("scope", "result"),
    [
        (0, "GFP_KERNEL"),
        (PF_MEMALLOC_NOFS, "GFP_NOFS"),
        (PF_MEMALLOC_NOIO, "GFP_NOIO"),
        (PF_MEMALLOC_NOIO | PF_MEMALLOC_NOFS, "GFP_NOIO"),
    ],
)
def test_memalloc_scopes_take_io_and_fs_away(kernel: Kernel, scope: int, result: str) -> None:
    kernel.m[task(kernel) + TASK_FLAGS] = scope
    gfp = current_gfp_context(kernel.m, 0, parse_gfp("GFP_KERNEL"))
    assert gfp == parse_gfp(result)


@pytest.mark.parametrize(
    ("gfp", "which", "mt"),
    [
        ("GFP_KERNEL", ND_ZONELISTS, MIGRATE_UNMOVABLE),
        ("GFP_KERNEL|__GFP_THISNODE", ND_NOFALLBACK, MIGRATE_UNMOVABLE),
        ("GFP_HIGHUSER_MOVABLE", ND_ZONELISTS, MIGRATE_MOVABLE),
        ("GFP_HIGHUSER_MOVABLE|__GFP_THISNODE", ND_NOFALLBACK, MIGRATE_MOVABLE),
        ("GFP_DMA|__GFP_RECLAIMABLE", ND_ZONELISTS, MIGRATE_RECLAIMABLE),
        ("GFP_DMA32", ND_ZONELISTS, MIGRATE_UNMOVABLE),
    ],
)
def test_gfp_alone_says_zonelist_highest_zone_and_migratetype(
    kernel: Kernel, gfp: str, which: int, mt: int
) -> None:
    flags = parse_gfp(gfp)
    assert request_kind(flags) == (which, gfp_zone(flags), mt)
    assert gfpflags_to_migratetype(kernel.m, flags) == mt


def test_everything_is_unmovable_while_mobility_grouping_is_off(kernel: Kernel) -> None:
    kernel.m[G_MOBILITY_DISABLED] = 1
    flags = parse_gfp("GFP_HIGHUSER_MOVABLE")
    assert gfpflags_to_migratetype(kernel.m, flags) == MIGRATE_UNMOVABLE
    assert gfp_to_alloc_flags(kernel.m, 0, flags) == CPUSET


def test_each_warning_comes_once(kernel: Kernel) -> None:
    m = kernel.m
    head = m[G_LOG_HEAD]
    for bit in (ONCE_ORDER, ONCE_NOFAIL_ORDER, ONCE_ORDER):
        warn_once(m, 0, bit, LOG_WARN_ONCE_ORDER, 0, 11)
    assert m[G_LOG_HEAD] == head + 2
    assert m[G_WARNED_ONCE] == ONCE_ORDER | ONCE_NOFAIL_ORDER
