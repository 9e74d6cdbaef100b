# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/numa_process.py: where a process has its memory."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.inspect import inspect
from allocator.inspect.numa_process import node_pages
from allocator.kernel import Kernel
from allocator.mmap import MAP_GROWSDOWN
from tests.allocator.machines import boot

PAGE = 4096


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x64M")


def test_pages_are_counted_by_node_and_kind(kernel: Kernel) -> None:
    process = kernel.create_process("p")
    process.set_mempolicy("bind", [1])
    start = process.mmap(300 * PAGE)
    process.touch(start, 300 * PAGE)
    process.set_mempolicy("bind", [0])
    heap = process.brk()
    process.brk(heap + 20 * PAGE)
    process.touch(heap, 20 * PAGE)
    stack = process.mmap(PAGE, flags=MAP_GROWSDOWN)
    process.touch(stack)
    counts = node_pages(kernel.m, process.task)
    assert counts == {"Huge": {}, "Heap": {0: 20}, "Stack": {0: 1}, "Private": {1: 300}}
    text = inspect(kernel.memory, "numastat", ["-p", str(process.pid)]).text
    lines = text.splitlines()
    assert lines[1] == f"Per-node process memory usage (in MBs) for PID {process.pid} (p)"
    assert lines[2].split() == ["Node", "0", "Node", "1", "Total"]
    assert lines[5].split() == ["Heap", "0.08", "0.00", "0.08"]
    assert lines[7].split() == ["Private", "0.00", "1.17", "1.17"]
    assert lines[9].split() == ["Total", "0.08", "1.17", "1.25"]


def test_a_huge_page_counts_as_512(kernel: Kernel) -> None:
    kernel.transparent_hugepage("always")
    process = kernel.create_process("p")
    start = process.mmap(4 << 20)
    process.touch(-(-start // (2 << 20)) * (2 << 20))
    assert node_pages(kernel.m, process.task)["Huge"] == {0: 512}


def test_there_must_be_such_a_process(kernel: Kernel) -> None:
    with pytest.raises(BadRequest, match="no process 99"):
        inspect(kernel.memory, "numastat", ["-p", "99"])
