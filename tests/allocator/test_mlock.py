# SPDX-License-Identifier: GPL-2.0-only
"""mlock and munlock: areas, pages, the unevictable list."""

from __future__ import annotations

import pytest

from allocator.mm_struct import MM_RLIM, RLIM_MEMLOCK
from allocator.mm_types import PG_MLOCKED, PG_UNEVICTABLE

from .processes import PAGE, events, maps, process, refused, settle, sound


def test_locked_pages_are_there_marked_and_unevictable() -> None:
    proc = process()
    start = proc.mmap(8 * PAGE)
    proc.mlock(start + 2 * PAGE, 3 * PAGE)
    assert proc.counters["anon"] == proc.counters["locked"] == 3
    proc.kernel.lru_add_drain_all()
    page = proc.page(start + 2 * PAGE)
    assert page is not None
    assert page.flags & PG_MLOCKED
    assert page.flags & PG_UNEVICTABLE
    assert maps(proc) == [(2, "rw-p"), (3, "rw-p"), (3, "rw-p")]
    sound(proc.kernel)


def test_unlocking_puts_pages_back_and_merges_areas() -> None:
    proc = process()
    start = proc.mmap(8 * PAGE)
    proc.mlock(start, 8 * PAGE)
    proc.munlock(start, 8 * PAGE)
    assert proc.counters["locked"] == 0
    assert maps(proc) == [(8, "rw-p")]
    proc.kernel.lru_add_drain_all()
    page = proc.page(start)
    assert page is not None
    assert not page.flags & (PG_MLOCKED | PG_UNEVICTABLE)
    assert events(proc.kernel, "unevictable_pgs_munlocked") == 8
    sound(proc.kernel)


def test_a_child_inherits_pages_but_no_locks() -> None:
    proc = process()
    start = proc.mmap(4 * PAGE)
    proc.mlock(start, 4 * PAGE)
    child = proc.fork()
    assert child.counters["locked"] == 0
    child.write(start, b"copy")
    sound(proc.kernel)
    proc.munlock(start, 4 * PAGE)
    sound(proc.kernel)


def test_a_page_that_two_lock_stays_locked_until_both_let_go() -> None:
    proc = process()
    start = proc.mmap(PAGE)
    proc.write(start, b"x")
    child = proc.fork()
    proc.mlock(start, PAGE)
    child.mlock(start, PAGE)
    proc.munlock(start, PAGE)
    sound(proc.kernel)
    child.munlock(start, PAGE)
    sound(proc.kernel)


@pytest.mark.parametrize(
    ("address", "length", "errno"),
    [(1 << 40, PAGE, "ENOMEM"), (0, 1 << 48, "ENOMEM"), (0, -PAGE, "EINVAL")],
)
def test_what_is_not_there_cannot_be_locked(address: int, length: int, errno: str) -> None:
    proc = process()
    refused(lambda: proc.mlock(address, length), errno)


def test_the_limit_of_locked_memory_holds() -> None:
    proc = process()
    start = proc.mmap(8 * PAGE)
    proc.m[proc.mm + MM_RLIM + RLIM_MEMLOCK] = 4 * PAGE
    refused(lambda: proc.mlock(start, 5 * PAGE), "ENOMEM")
    proc.mlock(start, 4 * PAGE)
    proc.mlock(start + PAGE, 2 * PAGE)
    refused(lambda: proc.mmap(PAGE, flags=0x2000), "EAGAIN")


def test_an_area_without_access_cannot_be_faulted_in() -> None:
    proc = process()
    start = proc.mmap(2 * PAGE, "-")
    refused(lambda: proc.mlock(start, 2 * PAGE), "ENOMEM")


def test_unmapping_and_exit_leave_no_locked_page() -> None:
    proc = process()
    proc.fork().exit()
    proc.wait()
    free = settle(proc.kernel)
    start = proc.mmap(8 * PAGE)
    proc.mlock(start, 8 * PAGE)
    proc.munmap(start, 4 * PAGE)
    child = proc.fork()
    child.mlock(start + 4 * PAGE, 2 * PAGE)
    child.exit()
    proc.wait()
    proc.munmap(start, 8 * PAGE)
    assert settle(proc.kernel) == free
    sound(proc.kernel)


def test_all_of_a_process_is_locked_and_unlocked() -> None:
    proc = process()
    start = proc.mmap(8 * PAGE)
    proc.mmap(3 * PAGE, "-")
    proc.mlockall()
    assert proc.counters["anon"] == 8
    assert proc.counters["locked"] == 11
    later = proc.mmap(2 * PAGE)
    assert proc.page(later) is None
    proc.munlockall()
    assert proc.counters["locked"] == 0
    proc.kernel.lru_add_drain_all()
    page = proc.page(start)
    assert page is not None
    assert not page.flags & (PG_MLOCKED | PG_UNEVICTABLE)
    sound(proc.kernel)


def test_what_comes_later_is_locked_as_it_comes() -> None:
    proc = process()
    early = proc.mmap(2 * PAGE)
    proc.mlockall(current=False, future=True)
    assert proc.page(early) is None
    proc.mmap(4 * PAGE)
    heap = proc.brk()
    proc.brk(heap + 3 * PAGE)
    shared = proc.mmap(2 * PAGE, shared=True)
    assert proc.counters["locked"] == 9
    assert proc.counters["anon"] == 7
    assert proc.counters["shmem"] == 2
    child = proc.fork()
    assert child.counters["locked"] == 0
    child.exit()
    proc.munlockall()
    proc.kernel.lru_add_drain_all()
    page = proc.page(shared)
    assert page is not None
    assert not page.flags & PG_MLOCKED
    proc.mmap(PAGE)
    assert proc.counters["locked"] == 0
    sound(proc.kernel)


def test_locking_on_fault_waits_for_the_touch() -> None:
    proc = process()
    start = proc.mmap(4 * PAGE)
    proc.mlockall(on_fault=True)
    assert proc.counters["anon"] == 0
    proc.write(start, b"x")
    proc.kernel.lru_add_drain_all()
    page = proc.page(start)
    assert page is not None
    assert page.flags & PG_MLOCKED
    assert proc.counters["locked"] == 4
    sound(proc.kernel)


def test_locking_everything_has_its_refusals() -> None:
    proc = process()
    refused(lambda: proc.mlockall(current=False), "EINVAL")
    proc.mmap(8 * PAGE)
    proc.m[proc.mm + MM_RLIM + RLIM_MEMLOCK] = 4 * PAGE
    refused(proc.mlockall, "ENOMEM")
    assert proc.counters["locked"] == 0
    proc.mlockall(current=False, future=True)
    refused(lambda: proc.mmap(5 * PAGE), "EAGAIN")
    proc.munlockall()
    proc.mmap(5 * PAGE)
    sound(proc.kernel)
