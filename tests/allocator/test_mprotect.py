# SPDX-License-Identifier: GPL-2.0-only
"""mprotect: areas, entries, errnos."""

from __future__ import annotations

import pytest

from allocator.mmap import PROT_GROWSDOWN
from allocator.mprotect import PROT_GROWSUP
from allocator.pgtable import PTE_NX, PTE_P, PTE_PROTNONE, PTE_RW, mm_find_pte, pte_pfn

from .processes import PAGE, killed, maps, process, refused, sound


@pytest.mark.parametrize(
    ("address", "length", "prot", "errno"),
    [
        (1, PAGE, 1, "EINVAL"),
        (1 << 40, PAGE, 1, "ENOMEM"),
        (0, -1, 1, "ENOMEM"),
        (1 << 40, (1 << 63) - 1, 1, "ENOMEM"),
        (1 << 40, PAGE, 0x40, "EINVAL"),
        (1 << 40, PAGE, PROT_GROWSDOWN | PROT_GROWSUP, "EINVAL"),
    ],
)
def test_a_range_or_protection_that_is_none_is_refused(
    address: int, length: int, prot: int, errno: str
) -> None:
    proc = process()
    refused(lambda: proc.mprotect(address, length, prot), errno)


def test_a_hole_in_the_range_is_enomem_after_what_came_before_it() -> None:
    proc = process()
    start = proc.mmap(8 * PAGE)
    proc.munmap(start + 4 * PAGE, PAGE)
    refused(lambda: proc.mprotect(start, 8 * PAGE, "r"), "ENOMEM")
    assert maps(proc) == [(4, "r--p"), (3, "rw-p")]


def test_read_only_pages_cannot_be_written_and_can_again_later() -> None:
    proc = process()
    start = proc.mmap(4 * PAGE)
    proc.write(start, b"text")
    frame = proc.page(start)
    proc.mprotect(start, 4 * PAGE, "r")
    child = proc.fork()
    killed(lambda: child.write(start, b"x"), 11, 2)
    proc.wait()
    proc.mprotect(start, 4 * PAGE, "rw")
    proc.write(start + 4, b"!")
    assert proc.read(start, 5) == b"text!"
    assert proc.page(start) == frame
    sound(proc.kernel)


def test_none_hides_pages_without_losing_them() -> None:
    proc = process()
    start = proc.mmap(2 * PAGE)
    proc.write(start, b"kept")
    pte = mm_find_pte(proc.m, proc.mm, start)
    frame = pte_pfn(proc.m[pte])
    proc.mprotect(start, PAGE, "-")
    assert proc.m[pte] & PTE_P == 0
    assert proc.m[pte] & PTE_PROTNONE
    assert pte_pfn(proc.m[pte]) == frame
    sound(proc.kernel)
    child = proc.fork()
    killed(lambda: child.read(start, 1), 11, 2)
    proc.mprotect(start, PAGE, "rw")
    assert proc.read(start, 4) == b"kept"


def test_code_runs_only_where_it_may() -> None:
    proc = process()
    start = proc.mmap(PAGE, "rwx")
    proc.write(start, b"\x90")
    proc.execute(start)
    assert proc.m[mm_find_pte(proc.m, proc.mm, start)] & PTE_NX == 0
    proc.mprotect(start, PAGE, "rw")
    killed(lambda: proc.execute(start), 11, 2)


def test_a_private_page_never_becomes_writable_without_a_fault() -> None:
    proc = process()
    start = proc.mmap(PAGE)
    proc.write(start, b"x")
    child = proc.fork()
    proc.mprotect(start, PAGE, "r")
    proc.mprotect(start, PAGE, "rw")
    assert proc.m[mm_find_pte(proc.m, proc.mm, start)] & PTE_RW == 0
    proc.write(start, b"y")
    assert child.read(start, 1) == b"x"


def test_areas_that_say_the_same_again_become_one_again() -> None:
    proc = process()
    start = proc.mmap(9 * PAGE)
    proc.write(start, b"a" * 9 * PAGE)
    for first, length in ((3, 3), (0, 2), (7, 2), (1, 7)):
        proc.mprotect(start + first * PAGE, length * PAGE, "r")
    assert maps(proc) == [(9, "r--p")]
    proc.mprotect(start, 9 * PAGE, "rw")
    assert maps(proc) == [(9, "rw-p")]
    assert proc.read(start, 9 * PAGE) == b"a" * 9 * PAGE
    sound(proc.kernel)


def test_growsdown_reaches_to_the_start_of_a_stack() -> None:
    proc = process()
    top = 0x7F0000000000
    proc.mmap(4 * PAGE, address=top, fixed=True, flags=0x100)
    proc.mprotect(top + 2 * PAGE, PAGE, PROT_GROWSDOWN | 1)
    assert maps(proc) == [(3, "r--p"), (1, "rw-p")]
    other = proc.mmap(PAGE)
    refused(lambda: proc.mprotect(other, PAGE, PROT_GROWSDOWN | 1), "EINVAL")
