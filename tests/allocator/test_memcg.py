# SPDX-License-Identifier: GPL-2.0-only
"""Memory cgroups: who is charged, what a limit refuses, and that every charge comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from allocator.gfp import (
    GFP_ACCOUNT_BIT,
    GFP_KERNEL,
    GFP_KERNEL_ACCOUNT,
    GFP_NOFAIL_BIT,
    GFP_NORETRY_BIT,
    GFP_NOWAIT,
)
from allocator.kernel_globals import G_MEMCG_ON_DFL, G_MEMCG_SWAP_ACCOUNT
from allocator.layout import (
    CPU_BLOCKS,
    CPU_MEMCG_STOCK_PAGES,
    CPU_PREEMPT_COUNT,
    CPU_WORDS,
    HARDIRQ_OFFSET,
    MEM_CGROUPS,
    PF_EXITING,
    PF_KTHREAD,
    PF_MEMALLOC,
    TASK_FATAL_SIGNAL,
    TASK_FLAGS,
    TASK_MEMCG,
    TASK_OOM_MM,
    va_of_word,
)
from allocator.memcg import (
    MC_EVENTS_MAX,
    MC_KMEM,
    MC_MEMORY,
    MC_MEMSW,
    MC_REFCNT,
    MEMCG_CHARGE_BATCH,
    PC_FAILCNT,
    PC_USAGE,
    PC_WATERMARK,
    drain_stock,
    memcg_create,
    memcg_set_max,
)
from allocator.mm_types import P_COUNTS, P_MEMCG, PG_KMEMCG_TYPE
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from machine import UsageError
from tests.allocator.tiny import Tiny


@pytest.fixture
def group(tiny_zone: Tiny) -> int:
    """A group that the current task is in."""
    memcg = memcg_create(tiny_zone.m, MEM_CGROUPS)
    tiny_zone.m[tiny_zone.task() + TASK_MEMCG] = va_of_word(memcg)
    return memcg


def usage(tiny: Tiny, memcg: int, counter: int = MC_MEMORY) -> int:
    return tiny.m[memcg + counter + PC_USAGE]


def alloc(tiny: Tiny, gfp: int = GFP_KERNEL_ACCOUNT, order: int = 0) -> int:
    return alloc_pages_nodemask(tiny.m, 0, gfp, order, 0, 0)


def test_an_accounted_page_is_charged_marked_and_uncharged(tiny_zone: Tiny, group: int) -> None:
    m = tiny_zone.m
    pfn = alloc(tiny_zone, order=1)
    p = tiny_zone.page(pfn)
    assert m[p + P_MEMCG] == va_of_word(group)
    assert m[p + P_COUNTS] & PG_KMEMCG_TYPE == 0
    assert usage(tiny_zone, group, MC_KMEM) == 2
    free_pages(m, 0, pfn, 1)
    drain_stock(m, 0)
    assert [usage(tiny_zone, group, c) for c in (MC_MEMORY, MC_MEMSW, MC_KMEM)] == [0, 0, 0]
    assert m[p + P_MEMCG] == 0
    assert m[group + MC_REFCNT] == 1


def test_charges_come_in_batches_and_the_surplus_serves_the_next(
    tiny_zone: Tiny, group: int
) -> None:
    alloc(tiny_zone)
    stock = CPU_BLOCKS + CPU_MEMCG_STOCK_PAGES
    assert (usage(tiny_zone, group), tiny_zone.m[stock]) == (MEMCG_CHARGE_BATCH, 31)
    for _ in range(31):
        alloc(tiny_zone)
    assert (usage(tiny_zone, group), tiny_zone.m[stock]) == (MEMCG_CHARGE_BATCH, 0)
    alloc(tiny_zone)
    assert usage(tiny_zone, group) == 2 * MEMCG_CHARGE_BATCH


def test_ancestors_are_charged_too(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    parent = memcg_create(m, MEM_CGROUPS)
    child = memcg_create(m, parent)
    m[tiny_zone.task() + TASK_MEMCG] = va_of_word(child)
    alloc(tiny_zone, order=6)
    assert [usage(tiny_zone, g, MC_KMEM) for g in (child, parent, MEM_CGROUPS)] == [64, 64, 64]


def test_requests_without_account_are_not_charged(tiny_zone: Tiny, group: int) -> None:
    alloc(tiny_zone, GFP_KERNEL)
    assert usage(tiny_zone, group) == 0


@pytest.mark.parametrize("case", ["interrupt", "kthread", "root", "none"])
def test_interrupts_kernel_threads_root_and_groupless_tasks_bypass(
    tiny_zone: Tiny, group: int, case: str
) -> None:
    m, task = tiny_zone.m, tiny_zone.task()
    if case == "interrupt":
        m[CPU_BLOCKS + CPU_PREEMPT_COUNT] = HARDIRQ_OFFSET
    elif case == "kthread":
        m[task + TASK_FLAGS] = PF_KTHREAD
    else:
        m[task + TASK_MEMCG] = va_of_word(MEM_CGROUPS) if case == "root" else 0
    pfn = alloc(tiny_zone)
    assert pfn >= 0
    assert tiny_zone.m[tiny_zone.page(pfn) + P_MEMCG] == 0
    assert usage(tiny_zone, group) == usage(tiny_zone, MEM_CGROUPS) == 0


def test_a_full_group_makes_the_allocation_fail_and_gives_the_page_back(
    tiny_zone: Tiny, group: int
) -> None:
    m = tiny_zone.m
    assert memcg_set_max(m, group, MC_MEMORY, 4)
    pages = [alloc(tiny_zone, GFP_NOWAIT | GFP_ACCOUNT_BIT) for _ in range(6)]
    assert sum(pfn >= 0 for pfn in pages) == 4
    assert pages[4:] == [-1, -1]
    assert usage(tiny_zone, group) == 4
    assert m[group + MC_MEMORY + PC_FAILCNT] > 0
    assert m[group + MC_MEMORY + PC_WATERMARK] == 4
    assert tiny_zone.listed_pages() == tiny_zone.free_pages() == 8 * 512 - 4


def test_a_kmem_limit_takes_the_memory_charge_back(tiny_zone: Tiny, group: int) -> None:
    memcg_set_max(tiny_zone.m, group, MC_KMEM, 1)
    assert alloc(tiny_zone, order=6) == -1
    assert [usage(tiny_zone, group, c) for c in (MC_MEMORY, MC_KMEM)] == [0, 0]


def test_the_unified_hierarchy_has_no_kmem_counter(tiny_zone: Tiny, group: int) -> None:
    tiny_zone.m[G_MEMCG_ON_DFL] = 1
    memcg_set_max(tiny_zone.m, group, MC_KMEM, 0)
    pfn = alloc(tiny_zone)
    assert pfn >= 0
    assert usage(tiny_zone, group, MC_KMEM) == 0
    free_pages(tiny_zone.m, 0, pfn, 0)
    assert usage(tiny_zone, group, MC_KMEM) == 0


def test_swap_accounting_limits_memory_plus_swap(tiny_zone: Tiny, group: int) -> None:
    tiny_zone.m[G_MEMCG_SWAP_ACCOUNT] = 1
    memcg_set_max(tiny_zone.m, group, MC_MEMSW, 2)
    pages = [alloc(tiny_zone, GFP_NOWAIT | GFP_ACCOUNT_BIT) for _ in range(3)]
    assert [pfn >= 0 for pfn in pages] == [True, True, False]
    assert usage(tiny_zone, group) == usage(tiny_zone, group, MC_MEMSW) == 2


@pytest.mark.parametrize("case", ["nofail", "memalloc", "exiting", "oom victim", "killed"])
def test_those_who_must_not_fail_are_charged_over_the_limit(
    tiny_zone: Tiny, group: int, case: str
) -> None:
    m, task = tiny_zone.m, tiny_zone.task()
    memcg_set_max(m, group, MC_MEMORY, 0)
    gfp = GFP_NOWAIT | GFP_ACCOUNT_BIT
    if case == "nofail":
        gfp |= GFP_NOFAIL_BIT
    elif case == "memalloc":
        m[task + TASK_FLAGS] = PF_MEMALLOC
    elif case == "exiting":
        m[task + TASK_FLAGS] = PF_EXITING
    elif case == "oom victim":
        m[task + TASK_OOM_MM] = 1
    else:
        m[task + TASK_FATAL_SIGNAL] = 1
    assert alloc(tiny_zone, gfp) >= 0
    assert usage(tiny_zone, group) == 1


def test_a_blocking_request_takes_back_what_other_cpus_have_stocked(
    tiny_nodes: Callable[[int, int], Tiny],
) -> None:
    tiny = tiny_nodes(1, 2)
    m = tiny.m
    memcg = memcg_create(m, MEM_CGROUPS)
    for cpu in range(2):
        m[tiny.task(cpu) + TASK_MEMCG] = va_of_word(memcg)
    memcg_set_max(m, memcg, MC_MEMORY, MEMCG_CHARGE_BATCH)
    assert alloc_pages_nodemask(m, 1, GFP_KERNEL_ACCOUNT, 0, 0, 0) >= 0
    assert m[CPU_BLOCKS + CPU_WORDS + CPU_MEMCG_STOCK_PAGES] == 31
    assert alloc(tiny, GFP_NOWAIT | GFP_ACCOUNT_BIT) == -1
    assert alloc(tiny) >= 0
    assert m[memcg + MC_EVENTS_MAX] > 0
    assert m[CPU_BLOCKS + CPU_WORDS + CPU_MEMCG_STOCK_PAGES] == 0


def test_a_blocking_request_gives_up_in_the_end(tiny_zone: Tiny, group: int) -> None:
    memcg_set_max(tiny_zone.m, group, MC_MEMORY, 0)
    assert alloc(tiny_zone) == -1
    assert alloc(tiny_zone, GFP_KERNEL_ACCOUNT | GFP_NORETRY_BIT) == -1
    assert usage(tiny_zone, group) == 0


def test_a_limit_below_the_usage_is_refused(tiny_zone: Tiny, group: int) -> None:
    alloc(tiny_zone, order=6)
    assert not memcg_set_max(tiny_zone.m, group, MC_MEMORY, 63)
    assert memcg_set_max(tiny_zone.m, group, MC_MEMORY, 64)


def test_bad_groups_counters_and_a_full_table_are_refused(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    with pytest.raises(UsageError, match="not a memory cgroup"):
        memcg_create(m, MEM_CGROUPS + 1)
    with pytest.raises(UsageError, match="limit"):
        memcg_set_max(m, MEM_CGROUPS, MC_MEMORY, -1)
    for _ in range(63):
        memcg_create(m, MEM_CGROUPS)
    with pytest.raises(UsageError, match="no room"):
        memcg_create(m, MEM_CGROUPS)


def test_a_scribbled_mem_cgroup_pointer_is_reported_not_followed(
    tiny_zone: Tiny, group: int
) -> None:
    m = tiny_zone.m
    pfn = alloc(tiny_zone)
    m[tiny_zone.page(pfn) + P_MEMCG] = 0x1234
    assert free_pages(m, 0, pfn, 0) == -1
    assert usage(tiny_zone, group, MC_KMEM) == 1
