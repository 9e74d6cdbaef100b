# SPDX-License-Identifier: GPL-2.0-only
"""Faulting in ahead: MAP_POPULATE."""

from __future__ import annotations

from allocator.layout import CPU_BLOCKS, CPU_CURRENT, va_of_word
from allocator.populate import mm_populate, page_is_there

from .processes import PAGE, process, sound

ENOMEM, EFAULT = 12, 14


def test_every_page_of_a_writable_area_gets_its_frame() -> None:
    proc = process()
    start = proc.mmap(9 * PAGE, populate=True)
    assert proc.counters["anon"] == 9
    assert all(page_is_there(proc.m, proc.mm, start + n * PAGE, 1) for n in range(9))
    sound(proc.kernel)


def test_an_area_to_read_gets_the_zero_page() -> None:
    proc = process()
    start = proc.mmap(3 * PAGE, "r", populate=True)
    assert proc.counters["anon"] == 0
    assert page_is_there(proc.m, proc.mm, start, 0)
    assert not page_is_there(proc.m, proc.mm, start, 1)


def test_a_hole_and_an_area_without_access_end_it() -> None:
    proc = process()
    proc.m[CPU_BLOCKS + CPU_CURRENT] = va_of_word(proc.task)
    start = proc.mmap(6 * PAGE)
    proc.munmap(start + 2 * PAGE, PAGE)
    assert mm_populate(proc.m, 0, proc.mm, start, 6 * PAGE) == -ENOMEM
    assert proc.counters["anon"] == 2
    proc.mprotect(start + 4 * PAGE, PAGE, "-")
    assert mm_populate(proc.m, 0, proc.mm, start + 3 * PAGE, 3 * PAGE) == -EFAULT
    assert proc.counters["anon"] == 3


def test_what_is_shared_with_a_child_is_copied_ahead_for_a_writer() -> None:
    proc = process()
    start = proc.mmap(4 * PAGE)
    proc.touch(start, 4 * PAGE)
    child = proc.fork()
    child.mlock(start, 4 * PAGE)
    for n in range(4):
        assert child.page(start + n * PAGE) != proc.page(start + n * PAGE)
    sound(proc.kernel)
