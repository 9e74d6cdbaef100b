# SPDX-License-Identifier: GPL-2.0-only
"""Kernel stacks: block, node, count."""

from __future__ import annotations

from allocator.kernel import Kernel
from allocator.kstack import THREAD_SIZE, alloc_thread_stack, free_thread_stack
from allocator.layout import PAGE_OFFSET
from allocator.mm_struct import TASK_STACK
from allocator.mmzone import NR_KERNEL_STACK_KB
from allocator.vmstat import zone_page_state_snapshot

from .processes import boot, process


def counted(kernel: Kernel) -> int:
    return sum(
        zone_page_state_snapshot(kernel.m, zone.word, NR_KERNEL_STACK_KB) for zone in kernel.zones
    )


def test_a_stack_is_a_cleared_block_on_its_node_and_counted_in_kib() -> None:
    kernel = boot("2x64M")
    free = kernel.nr_free_pages
    for nid in (0, 1):
        before = counted(kernel)
        stack = alloc_thread_stack(kernel.m, 0, nid)
        pfn = (stack - PAGE_OFFSET) >> 12
        assert pfn % 4 == 0
        assert kernel.page(pfn).nid == nid
        assert kernel.m[pfn << 9 : (pfn << 9) + THREAD_SIZE // 8].tolist() == [0] * 2048
        assert counted(kernel) == before + 16
        free_thread_stack(kernel.m, 0, stack)
        assert counted(kernel) == before
    assert kernel.nr_free_pages == free


def test_every_process_has_one_until_it_ends() -> None:
    proc = process()
    assert proc.m[proc.task + TASK_STACK]
    before = counted(proc.kernel)
    child = proc.fork()
    assert counted(proc.kernel) == before + 16
    child.exit()
    assert proc.m[child.task + TASK_STACK] == 0
    assert counted(proc.kernel) == before


def test_no_memory_is_no_stack() -> None:
    kernel = boot()
    kernel.exhaust(0, order=0)
    assert alloc_thread_stack(kernel.m, 0, 0) == 0
