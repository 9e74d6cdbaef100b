# SPDX-License-Identifier: GPL-2.0-only
"""Taking pages out of address spaces, and the entries a child gets."""

from __future__ import annotations

import pytest

from allocator.memory_zap import is_cow_mapping, next_table, unmap_mapping_range, zap_page_range
from allocator.mm_struct import VM_MAYWRITE, VM_SHARED
from allocator.pgtable import PTE_A, PTE_D, PTE_RW, mm_find_pte
from allocator.vma import find_vma

from .processes import PAGE, boot, process, settle, sound


@pytest.mark.parametrize(
    ("flags", "cow"),
    [(VM_MAYWRITE, True), (VM_MAYWRITE | VM_SHARED, False), (0, False), (VM_SHARED, False)],
)
def test_private_memory_that_may_become_writable_is_copied_on_write(flags: int, cow: bool) -> None:
    assert is_cow_mapping(flags) == cow


def test_zapping_reaches_over_areas_and_leaves_them() -> None:
    proc = process()
    start = proc.mmap(9 * PAGE)
    proc.write(start, b"z" * 9 * PAGE)
    proc.mprotect(start + 3 * PAGE, 3 * PAGE, "r")
    before = len(proc.areas)
    vma = find_vma(proc.m, proc.mm, start)
    zap_page_range(proc.m, 0, vma, start + 2 * PAGE, 5 * PAGE)
    assert proc.counters["anon"] == 4
    assert len(proc.areas) == before
    assert proc.read(start + 4 * PAGE, 1) == b"\0"
    sound(proc.kernel)


def test_a_childs_entries_are_old_read_only_and_count_once_more() -> None:
    proc = process()
    start = proc.mmap(2 * PAGE)
    proc.write(start, b"x")
    frame = proc.page(start)
    assert frame is not None
    child = proc.fork()
    mine = proc.m[mm_find_pte(proc.m, proc.mm, start)]
    its = proc.m[mm_find_pte(proc.m, child.mm, start)]
    assert not mine & PTE_RW
    assert its & (PTE_RW | PTE_A) == 0
    assert its & PTE_D
    assert frame.mapcount == 1
    assert mm_find_pte(proc.m, child.mm, start + PAGE)
    assert proc.m[mm_find_pte(proc.m, child.mm, start + PAGE)] == 0


def test_empty_parts_of_the_address_space_are_passed_over_at_once() -> None:
    proc = process()
    assert next_table(proc.m, proc.mm, (1 << 40) + 5) == (1 << 40) + (1 << 39)
    start = proc.mmap(PAGE, address=1 << 40, fixed=True)
    proc.write(start, b"x")
    assert next_table(proc.m, proc.mm, start) == start + (1 << 30)


def test_swapped_pages_are_shared_by_a_fork_and_their_slots_come_back() -> None:
    kernel = boot("1x40M")
    kernel.swapon(20000)
    first = kernel.create_process("warm")
    first.write(first.mmap(PAGE), b"x")
    first.exit()
    free = settle(kernel)
    proc = kernel.create_process("large")
    pages = 9000
    start = proc.mmap(pages * PAGE)
    for n in range(pages):
        proc.write(start + n * PAGE, n.to_bytes(4, "little"))
    # room for the child, so that the fork itself need not swap anything out
    kernel.advance_clock(10**9)
    swapped = proc.counters["swap"]
    assert swapped > 0
    child = proc.fork()
    assert child.counters["swap"] == proc.counters["swap"] == swapped
    sound(kernel)
    proc.exit()
    for n in range(0, pages, 97):
        assert child.read(start + n * PAGE, 4) == n.to_bytes(4, "little")
    child.munmap(start, pages * PAGE // 2)
    child.exit()
    sound(kernel)
    assert abs(settle(kernel) - free) < 64


def test_a_part_of_a_file_leaves_all_address_spaces() -> None:
    kernel = boot()
    file = kernel.create_file("data", data=b"d" * 16 * PAGE)
    one, two = kernel.create_process("one"), kernel.create_process("two")
    a = one.mmap(16 * PAGE, "rw", file=file, shared=True)
    b = two.mmap(8 * PAGE, "rw", file=file, offset=8 * PAGE)
    one.touch(a, 16 * PAGE, write=False)
    two.touch(b, 8 * PAGE, write=False)
    two.write(b + PAGE, b"own")
    from allocator.fs import file_i_mmap

    root = file_i_mmap(kernel.m, file.word)
    unmap_mapping_range(kernel.m, 0, root, 9, 2, 0)
    assert one.page(a + 9 * PAGE) is None
    assert one.page(a + 8 * PAGE) is not None
    assert two.page(b + 2 * PAGE) is None
    assert two.page(b + PAGE) is not None
    unmap_mapping_range(kernel.m, 0, root, 9, 0, 1)
    assert two.page(b + PAGE) is None
    assert one.read(a + 9 * PAGE, 1) == b"d"
    sound(kernel)
