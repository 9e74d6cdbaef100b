# SPDX-License-Identifier: GPL-2.0-only
"""Faults on anonymous memory: zero page, first write, copy on write, swap."""

from __future__ import annotations

from typing import Any

import pytest

from allocator import memory
from allocator.layout import EMPTY_ZERO_PAGE
from allocator.memory import maybe_mkwrite, vm_normal_page
from allocator.mempolicy_vma import alloc_pages_vma
from allocator.mm_struct import VM_WRITE, VMA_FLAGS
from allocator.mm_types import PG_SWAPBACKED, PG_UPTODATE
from allocator.pgtable import PTE_A, PTE_D, PTE_P, PTE_RW, PTE_SPECIAL, mm_find_pte, pte_pfn
from allocator.process import Process

from .process_support import page_out
from .processes import PAGE, boot, events, killed, process, settle, sound

ZERO = EMPTY_ZERO_PAGE >> 9


def entry(proc: Process, address: int) -> int:
    return proc.m[mm_find_pte(proc.m, proc.mm, address)]


def test_a_read_maps_the_zero_page_and_counts_nothing() -> None:
    proc = process()
    start = proc.mmap(4 * PAGE)
    proc.touch(start, 4 * PAGE, write=False)
    assert proc.counters["anon"] == 0
    for n in range(4):
        pte = entry(proc, start + n * PAGE)
        assert pte_pfn(pte) == ZERO
        assert pte & PTE_SPECIAL
        assert not pte & PTE_RW
    assert vm_normal_page(proc.m, entry(proc, start)) == 0


def test_the_first_write_gets_a_cleared_frame_of_ones_own() -> None:
    proc = process()
    start = proc.mmap(4 * PAGE)
    proc.touch(start, write=False)
    proc.write(start + 5, b"!")
    page = proc.page(start)
    assert page is not None
    assert proc.read(start, 8) == b"\0\0\0\0\0!\0\0"
    assert page.refcount == 2  # the entry's and the pagevec's
    assert page.mapcount == 0  # as _mapcount counts: one mapping
    assert page.flags & (PG_UPTODATE | PG_SWAPBACKED) == PG_UPTODATE | PG_SWAPBACKED
    assert entry(proc, start) & (PTE_P | PTE_RW | PTE_D | PTE_A) == PTE_P | PTE_RW | PTE_D | PTE_A
    assert page.index == start >> 12
    assert proc.counters["anon"] == 1
    sound(proc.kernel)


def test_after_a_fork_the_first_to_write_copies_and_the_last_keeps_the_frame() -> None:
    proc = process()
    start = proc.mmap(PAGE)
    proc.write(start, b"old")
    shared = proc.page(start)
    child = proc.fork()
    assert child.page(start) == shared
    assert not entry(proc, start) & PTE_RW
    assert not entry(child, start) & PTE_RW
    child.write(start, b"new")
    assert child.page(start) != shared
    proc.write(start, b"own")
    assert proc.page(start) == shared
    assert (proc.read(start, 3), child.read(start, 3)) == (b"own", b"new")
    sound(proc.kernel)


def test_a_write_to_the_zero_page_does_not_change_it() -> None:
    proc = process()
    start = proc.mmap(2 * PAGE)
    proc.touch(start, 2 * PAGE, write=False)
    child = proc.fork()
    child.write(start, b"x")
    assert proc.read(start, 1) == b"\0"
    assert proc.m[EMPTY_ZERO_PAGE : EMPTY_ZERO_PAGE + 512].tolist() == [0] * 512


def test_every_fault_is_counted() -> None:
    proc = process()
    start = proc.mmap(8 * PAGE)
    before = events(proc.kernel, "pgfault")
    proc.touch(start, 8 * PAGE)
    proc.touch(start, 8 * PAGE)
    assert events(proc.kernel, "pgfault") == before + 8
    assert proc.counters["minflt"] == 8


def test_pages_that_went_to_swap_come_back_with_their_bytes() -> None:
    kernel = boot("1x40M")
    kernel.swapon(20000)
    proc = kernel.create_process("large")
    pages = 9500
    start = proc.mmap(pages * PAGE)
    for n in range(pages):
        proc.write(start + n * PAGE, n.to_bytes(4, "little"))
    assert proc.counters["swap"] > 500
    sound(kernel)
    for n in range(0, pages, 7):
        assert proc.read(start + n * PAGE, 4) == n.to_bytes(4, "little")
    assert proc.counters["majflt"] > 0
    assert proc.counters["anon"] + proc.counters["swap"] == pages
    sound(kernel)
    child = proc.fork()
    proc.write(start, b"mine")
    assert child.read(start, 4) == bytes(4)
    proc.exit()
    sound(kernel)


def test_memory_that_runs_out_kills_a_process_and_spares_the_machine() -> None:
    kernel = boot("1x40M")
    small = kernel.create_process("small")
    keep = small.mmap(PAGE)
    small.write(keep, b"still here")
    large = kernel.create_process("large")
    start = large.mmap(200 << 20, flags=0x4000)
    death = killed(lambda: large.touch(start, 200 << 20), 9, 0x80)
    assert "out of memory" in str(death)
    assert not large.alive
    assert small.read(keep, 10) == b"still here"
    sound(kernel)


@pytest.mark.parametrize(("flags", "writable"), [(0, False), (VM_WRITE, True)])
def test_an_entry_is_writable_only_where_the_area_is(flags: int, writable: bool) -> None:
    m = memoryview(bytearray(8 * 64)).cast("q")
    m[VMA_FLAGS] = flags
    assert bool(maybe_mkwrite(m, PTE_P, 0) & PTE_RW) == writable


def test_all_frames_come_back_after_copies_and_exits_in_any_order() -> None:
    kernel = boot()
    first = kernel.create_process("first")
    first.write(first.mmap(PAGE), b"x")
    first.exit()
    free = settle(kernel)
    parent = kernel.create_process("parent")
    start = parent.mmap(16 * PAGE)
    parent.touch(start, 16 * PAGE)
    children = [parent.fork() for _ in range(3)]
    for n, child in enumerate(children):
        child.touch(start + 4 * n * PAGE, 8 * PAGE)
    parent.exit()
    children[1].exit()
    children[0].touch(start, 16 * PAGE)
    sound(kernel)
    children[0].exit()
    children[2].exit()
    assert settle(kernel) == free


def test_a_page_that_reclaim_takes_while_it_is_copied_is_read_back_and_copied_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proc = process()
    proc.kernel.swapon(64)
    start = proc.mmap(PAGE)
    proc.write(start, b"parent")
    child = proc.fork()
    shared = proc.page(start)
    assert shared is not None
    proc.kernel.lru_add_drain_all()
    taken: list[bool] = []

    def reclaim(*args: Any) -> int:
        if not taken:
            taken.append(page_out(proc.m, shared.word))
        return alloc_pages_vma(*args)

    monkeypatch.setattr(memory, "alloc_pages_vma", reclaim)
    child.write(start + 2, b"i")
    assert taken == [True]
    assert (proc.read(start, 6), child.read(start, 6)) == (b"parent", b"paient")
    sound(proc.kernel)


def test_a_huge_page_whose_parts_two_processes_map_stays_where_both_find_it() -> None:
    kernel = boot()
    kernel.transparent_hugepage("always")
    parent = kernel.create_process("parent")
    start = -(-parent.mmap(4 << 20) // (2 << 20)) * (2 << 20)
    parent.write(start, b"whole")
    parent.munmap(start + 6 * PAGE, (2 << 20) - 6 * PAGE)
    child = parent.fork()
    parent.munmap(start + 2 * PAGE, 4 * PAGE)
    child.munmap(start, 2 * PAGE)
    # nobody else maps the small page, so it is not copied; but the page is not the child's alone
    page = child.page(start + 2 * PAGE)
    child.write(start + 2 * PAGE, b"mine")
    assert child.page(start + 2 * PAGE) == page
    sound(kernel)
    parent.exit()
    child.write(start + 3 * PAGE, b"all mine")
    sound(kernel)
