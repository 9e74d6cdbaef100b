# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/owner.py: every frame's owner by name."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.inspect import inspect
from allocator.inspect.owner import FREE, NAMELESS, RESERVED, Owners, used_frames
from allocator.kernel import Kernel
from allocator.layout import word_of_va
from allocator.mm_struct import TASK_STACK
from tests.allocator.machines import boot

PAGE = 4096


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x64M")


def test_before_anybody_owns_memory_frames_are_free_reserved_or_nameless(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL")
    assert page is not None
    owners = Owners(kernel.m)
    assert owners.name(page.pfn) == NAMELESS
    assert owners.name(0x1000) == RESERVED, "the kernel's own data"
    kernel.free_pages(page)
    assert Owners(kernel.m).name(page.pfn) == FREE


def test_frames_of_files_and_processes_are_named(kernel: Kernel) -> None:
    file = kernel.create_file("notes", data=b"x" * 3 * PAGE)
    process = kernel.create_process("shell")
    mapped = process.mmap(3 * PAGE, file=file, shared=True)
    heap = process.mmap(2 * PAGE)
    process.write(heap + PAGE, b"y")
    process.read(mapped + 2 * PAGE, 1)
    child = process.fork()
    owners = Owners(kernel.m)
    who, other = f"shell[{process.pid}]", f"shell[{child.pid}]"
    page = file.pages[2]
    assert owners.name(page.pfn) == f"file notes offset 0x2000, {who} at {mapped + 2 * PAGE:#x}"
    anonymous = process.page(heap + PAGE)
    assert anonymous is not None
    name = owners.name(anonymous.pfn)
    assert name == f"anonymous, {who} at {heap + PAGE:#x}, {other} at {heap + PAGE:#x}"
    assert owners.kind(anonymous.pfn) == f"anonymous of {who}, {other}"
    assert owners.kind(page.pfn) == "file notes"
    stack = word_of_va(kernel.m[process.task + TASK_STACK]) >> 9
    assert owners.name(stack + 3) == f"kernel stack of {who}"
    assert owners.name(process.mm >> 9) == "slab mm_struct"
    assert owners.name(file.word >> 9) == "slab filp"
    tables = [name for name in owners.tables.values() if name.endswith(f"of {who}")]
    for level in ("PGD", "PUD", "PMD", "PTE"):
        assert f"page table ({level}) of {who}" in tables


def test_every_frame_in_use_is_counted_for_somebody(kernel: Kernel) -> None:
    kernel.create_file("notes", data=b"x" * 3 * PAGE)
    process = kernel.create_process("shell")
    process.write(process.mmap(5 * PAGE), b"z" * 5 * PAGE)
    report = inspect(kernel.memory, "owner")
    data = dict(report.data) if isinstance(report.data, dict) else {}
    assert data["file notes"] == 3
    assert data[f"anonymous of shell[{process.pid}]"] == 5
    assert data[f"kernel stack of shell[{process.pid}]"] == 4
    assert NAMELESS not in data
    assert sum(int(n) for n in data.values()) >= len(used_frames(kernel.memory, kernel.m))
    assert report.text.splitlines()[0].split()[0] == str(max(data.values()))


def test_one_frame_is_asked_for_by_number(kernel: Kernel) -> None:
    file = kernel.create_file("notes", data=b"x")
    pfn = file.pages[0].pfn
    assert (
        inspect(kernel.memory, "owner", [hex(pfn)]).text
        == f"frame {pfn:#x}: file notes offset 0x0\n"
    )
    assert "belongs to: file notes" in inspect(kernel.memory, "kmem", [hex(pfn << 12)]).text
    with pytest.raises(BadRequest, match="one frame"):
        inspect(kernel.memory, "owner", ["1", "2"])
    with pytest.raises(BadRequest, match="no struct page"):
        inspect(kernel.memory, "owner", ["0x7fffffff"])


def test_looking_changes_nothing(kernel: Kernel) -> None:
    kernel.create_file("notes", data=b"x")
    before = bytes(kernel.memory.bytes)
    inspect(kernel.memory, "owner")
    assert bytes(kernel.memory.bytes) == before
