# SPDX-License-Identifier: GPL-2.0-only
"""Giving a part of an area other flags: cut out, or merged into a neighbour."""

from __future__ import annotations

import pytest

from allocator.mm_struct import VM_RAND_READ, VMA_END, VMA_FLAGS, VMA_PREV, VMA_START
from allocator.vma import find_vma, vma_word
from allocator.vma_range import range_with_flags

from .processes import PAGE, maps, process


@pytest.mark.parametrize(
    ("first", "count", "pieces"),
    [(0, 6, [6]), (0, 2, [2, 4]), (4, 2, [4, 2]), (2, 2, [2, 2, 2])],
)
def test_the_range_becomes_an_area_of_its_own(first: int, count: int, pieces: list[int]) -> None:
    proc = process()
    start = proc.mmap(6 * PAGE)
    m, mm = proc.m, proc.mm
    vma = find_vma(m, mm, start)
    prev = vma if first else vma_word(m[vma + VMA_PREV])
    flags = m[vma + VMA_FLAGS] | VM_RAND_READ
    lo, hi = start + first * PAGE, start + (first + count) * PAGE
    found = range_with_flags(m, 0, mm, vma, prev, lo, hi, flags)
    assert (m[found + VMA_START], m[found + VMA_END]) == (lo, hi)
    assert [pages for pages, _ in maps(proc)] == pieces


def test_a_neighbour_that_has_the_flags_takes_the_range_over() -> None:
    proc = process()
    start = proc.mmap(6 * PAGE)
    proc.madvise(start, 2 * PAGE, "random")
    m, mm = proc.m, proc.mm
    left, vma = find_vma(m, mm, start), find_vma(m, mm, start + 2 * PAGE)
    lo, hi = start + 2 * PAGE, start + 4 * PAGE
    assert range_with_flags(m, 0, mm, vma, left, lo, hi, m[left + VMA_FLAGS]) == left
    assert [pages for pages, _ in maps(proc)] == [4, 2]
