# SPDX-License-Identifier: GPL-2.0-only
"""Mapped files: sharing, private copies, dirtying, fault-around, and pages beyond the end."""

from __future__ import annotations

from allocator.kernel_globals import G_FAULT_AROUND
from allocator.mm_types import PG_DIRTY
from allocator.pgtable import PTE_RW, mm_find_pte

from .processes import PAGE, boot, killed, refused, sound


def test_two_processes_that_share_a_file_see_each_others_writes_and_so_does_the_file() -> None:
    kernel = boot()
    file = kernel.create_file("shared", data=bytes(range(256)) * 64)
    one, two = kernel.create_process("one"), kernel.create_process("two")
    a = one.mmap(4 * PAGE, "rw", file=file, shared=True)
    b = two.mmap(4 * PAGE, "rw", file=file, shared=True)
    assert one.read(a + 10, 4) == bytes([10, 11, 12, 13])
    one.write(a + PAGE, b"hello")
    assert two.read(b + PAGE, 5) == b"hello"
    assert file.read(5, PAGE) == b"hello"
    assert one.page(a + PAGE) == two.page(b + PAGE)
    assert one.counters["anon"] == 0
    sound(kernel)


def test_a_private_mapping_keeps_its_writes_to_itself() -> None:
    kernel = boot()
    file = kernel.create_file("private", data=b"f" * 2 * PAGE)
    proc = kernel.create_process("test")
    start = proc.mmap(2 * PAGE, "rw", file=file)
    proc.write(start, b"mine")
    assert proc.read(start, 6) == b"mineff"
    assert file.read(4, 0) == b"ffff"
    proc.read(start + PAGE, 1)
    proc.write(start + PAGE, b"also")
    assert proc.counters["anon"] == 2
    child = proc.fork()
    assert child.read(start, 4) == b"mine"
    child.write(start, b"hers")
    assert proc.read(start, 4) == b"mine"
    sound(kernel)


def test_a_shared_page_is_writable_only_once_it_is_dirty() -> None:
    kernel = boot()
    file = kernel.create_file("dirty", data=b"x" * PAGE)
    kernel.sync()
    proc = kernel.create_process("test")
    start = proc.mmap(PAGE, "rw", file=file, shared=True)
    proc.read(start, 1)
    at = mm_find_pte(proc.m, proc.mm, start)
    assert not proc.m[at] & PTE_RW
    page = proc.page(start)
    assert page is not None
    assert not page.flags & PG_DIRTY
    proc.write(start, b"y")
    assert proc.m[at] & PTE_RW
    assert page.flags & PG_DIRTY
    sound(kernel)


def test_neighbours_in_the_cache_are_mapped_along_with_a_page() -> None:
    kernel = boot()
    file = kernel.create_file("around", data=b"n" * 64 * PAGE)
    file.read(64 * PAGE, 0)
    proc = kernel.create_process("test")
    start = proc.mmap(64 * PAGE, "r", file=file)
    proc.read(start + 20 * PAGE, 1)
    mapped = [n for n in range(64) if proc.page(start + n * PAGE) is not None]
    assert 20 in mapped
    assert 1 < len(mapped) <= 16
    assert mapped == list(range(mapped[0], mapped[-1] + 1))
    kernel.m[G_FAULT_AROUND] = PAGE
    proc.read(start + 50 * PAGE, 1)
    assert proc.page(start + 51 * PAGE) is None
    sound(kernel)


def test_beyond_the_end_of_a_file_is_sigbus() -> None:
    kernel = boot()
    file = kernel.create_file("short", data=b"s" * (PAGE + 10))
    proc = kernel.create_process("test")
    start = proc.mmap(4 * PAGE, "rw", file=file)
    assert proc.read(start + PAGE, 12) == b"s" * 10 + b"\0\0"
    killed(lambda: proc.read(start + 2 * PAGE, 1), 7, 2)
    sound(kernel)


def test_a_file_opened_for_reading_cannot_be_mapped_for_writing() -> None:
    kernel = boot()
    kernel.create_file("ro", data=b"r" * PAGE).close()
    file = kernel.open_file("ro", "r")
    proc = kernel.create_process("test")
    refused(lambda: proc.mmap(PAGE, "rw", file=file, shared=True), "EACCES")
    start = proc.mmap(PAGE, "r", file=file, shared=True)
    refused(lambda: proc.mprotect(start, PAGE, "rw"), "EACCES")
    private = proc.mmap(PAGE, "rw", file=file)
    proc.write(private, b"ok")
    sound(kernel)
