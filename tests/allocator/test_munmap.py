# SPDX-License-Identifier: GPL-2.0-only
"""Unmapping: what goes, what stays, and the tables."""

from __future__ import annotations

import pytest

from allocator.kernel_globals import G_COMMITTED_AS

from .processes import MIB, PAGE, killed, maps, process, refused, settle, sound


@pytest.mark.parametrize(
    ("address", "length"),
    [(1, PAGE), (PAGE, 0), (1 << 47, PAGE), (0, 1 << 48), (-PAGE, PAGE), (PAGE, -1)],
)
def test_a_range_that_is_none_is_einval(address: int, length: int) -> None:
    proc = process()
    refused(lambda: proc.munmap(address, length), "EINVAL")


def test_unmapping_nothing_is_no_error() -> None:
    proc = process()
    proc.munmap(1 << 40, 10 * MIB)
    proc.mmap(PAGE)
    proc.munmap(1 << 40, 10 * MIB)
    assert maps(proc) == [(1, "rw-p")]


def test_a_hole_cuts_an_area_in_two() -> None:
    proc = process()
    start = proc.mmap(10 * PAGE)
    proc.write(start, b"y" * 10 * PAGE)
    proc.munmap(start + 4 * PAGE, 2 * PAGE)
    assert maps(proc) == [(4, "rw-p"), (4, "rw-p")]
    assert proc.counters["anon"] == 8
    assert proc.read(start + 6 * PAGE, 1) == proc.read(start + 3 * PAGE, 1) == b"y"
    sound(proc.kernel)
    killed(lambda: proc.read(start + 4 * PAGE, 1), 11, 1)


def test_one_call_takes_several_areas_and_parts_of_the_outer_ones() -> None:
    proc = process()
    start = proc.mmap(16 * PAGE)
    for n in range(1, 15, 2):
        proc.mprotect(start + n * PAGE, PAGE, "r")
    proc.munmap(start + 2 * PAGE, 12 * PAGE)
    assert maps(proc) == [(1, "rw-p"), (1, "r--p"), (2, "rw-p")]
    sound(proc.kernel)


def test_tables_go_with_the_last_page_that_needed_them() -> None:
    proc = process()
    free = settle(proc.kernel)
    start = proc.mmap(1 << 31, flags=0x4000)
    for n in range(0, 1 << 31, 1 << 28):
        proc.write(start + n, b"z")
    assert proc.counters["pgtables"] >= 10 * PAGE
    proc.munmap(start, 1 << 31)
    assert proc.counters["pgtables"] == 0
    assert settle(proc.kernel) == free


def test_a_neighbour_in_the_same_table_keeps_it() -> None:
    proc = process()
    start = proc.mmap(8 * PAGE)
    proc.write(start, b"a")
    proc.write(start + 7 * PAGE, b"b")
    tables = proc.counters["pgtables"]
    proc.munmap(start, 4 * PAGE)
    assert proc.counters["pgtables"] == tables
    assert proc.read(start + 7 * PAGE, 1) == b"b"


def test_the_end_of_a_process_gives_back_memory_and_commitment() -> None:
    proc = process()
    kernel = proc.kernel
    proc.exit()
    free, committed = settle(kernel), kernel.m[G_COMMITTED_AS]
    other = kernel.create_process("other")
    start = other.mmap(4 * MIB)
    other.write(start, b"q" * MIB)
    other.mlock(start, 4 * PAGE)
    assert kernel.m[G_COMMITTED_AS] == committed + 1024
    other.exit()
    assert settle(kernel) == free
    assert kernel.m[G_COMMITTED_AS] == committed
