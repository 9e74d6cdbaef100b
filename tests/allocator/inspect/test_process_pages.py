# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/process_pages.py: what processes have mapped, read from their tables."""

from __future__ import annotations

import pytest

from allocator.inspect.process_pages import (
    mapped_pages,
    page_tables,
    stack_pfn,
    task_name,
    task_pid,
    tasks,
)
from allocator.kernel import Kernel
from allocator.layout import PAGE_OFFSET, word_of_va
from allocator.mm_struct import MM_PGD
from tests.allocator.machines import boot

PAGE = 4096


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x64M")


def test_processes_are_listed_oldest_first(kernel: Kernel) -> None:
    assert list(tasks(kernel.m)) == []
    first, second = kernel.create_process("first"), kernel.create_process("second")
    found = [(task_pid(kernel.m, t), task_name(kernel.m, t)) for t in tasks(kernel.m)]
    assert found == [(first.pid, "first"), (second.pid, "second")]
    stacks = [stack_pfn(kernel.m, task) for task in tasks(kernel.m)]
    assert len(set(stacks)) == 2
    first.exit()
    assert [task_pid(kernel.m, task) for task in tasks(kernel.m)] == [second.pid]


def test_what_is_mapped_is_read_from_the_tables(kernel: Kernel) -> None:
    process = kernel.create_process("p")
    start = process.mmap(3 * PAGE)
    process.write(start + PAGE, b"x")
    process.touch(start, write=False)
    (task,) = tasks(kernel.m)
    found = {mapped.address: mapped for mapped in mapped_pages(kernel.m, task)}
    assert sorted(found) == [start, start + PAGE]
    page = process.page(start + PAGE)
    assert page is not None
    assert (found[start + PAGE].pfn, found[start + PAGE].writable) == (page.pfn, True)
    assert not found[start].writable, "the page of zeroes"
    assert sorted(level for _, level in page_tables(kernel.m, task)) == [0, 1, 2, 3]


def test_damaged_tables_cost_entries_and_nothing_else(kernel: Kernel) -> None:
    process = kernel.create_process("p")
    process.touch(process.mmap(3 * PAGE), 3 * PAGE)
    (task,) = tasks(kernel.m)
    pgd = (kernel.m[process.mm + MM_PGD] - PAGE_OFFSET) >> 3
    for slot in range(1, 256):
        kernel.m[pgd + slot] = (1 << 50) + 7 if slot % 2 else (pgd << 3) | 7
    assert [level for _, level in page_tables(kernel.m, task)] == [3]
    assert list(mapped_pages(kernel.m, task)) == []
    assert word_of_va(kernel.m[process.mm + MM_PGD]) == pgd
