# SPDX-License-Identifier: GPL-2.0-only
"""What an address space may grow by."""

from __future__ import annotations

import pytest

from allocator.kernel_globals import (
    G_COMMITTED_AS,
    G_OVERCOMMIT,
    G_OVERCOMMIT_RATIO,
    G_TOTALRAM,
    G_TOTALRESERVE,
)
from allocator.mm_struct import (
    MM_DATA_VM,
    MM_LOCKED_VM,
    MM_RLIM,
    MM_TOTAL_VM,
    RLIM_AS,
    RLIM_DATA,
    RLIM_MEMLOCK,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_SHARED,
    VM_WRITE,
)
from allocator.vm_account import (
    OVERCOMMIT_ALWAYS,
    OVERCOMMIT_GUESS,
    OVERCOMMIT_NEVER,
    guessed_free_pages,
    may_expand_vm,
    mlock_future_check,
    vm_enough_memory,
)

from .processes import PAGE, boot, process, refused


@pytest.mark.parametrize(
    ("flags", "pages", "allowed"),
    [
        (0, 10, True),
        (0, 11, False),
        (VM_WRITE, 5, True),
        (VM_WRITE, 6, False),
        (VM_WRITE | VM_SHARED, 10, True),
        (VM_WRITE | VM_GROWSDOWN, 10, True),
    ],
)
def test_data_is_what_is_private_and_writable(flags: int, pages: int, allowed: bool) -> None:
    m = memoryview(bytearray(1024)).cast("q")
    m[MM_TOTAL_VM], m[MM_DATA_VM] = 90, 15
    m[MM_RLIM + RLIM_AS], m[MM_RLIM + RLIM_DATA] = 100 * PAGE, 20 * PAGE
    assert may_expand_vm(m, 0, flags, pages) == allowed


@pytest.mark.parametrize(
    ("flags", "bytes_", "allowed"),
    [(0, 99 * PAGE, True), (VM_LOCKED, 4 * PAGE, True), (VM_LOCKED, 5 * PAGE, False)],
)
def test_locked_memory_has_its_own_limit(flags: int, bytes_: int, allowed: bool) -> None:
    m = memoryview(bytearray(1024)).cast("q")
    m[MM_LOCKED_VM], m[MM_RLIM + RLIM_MEMLOCK] = 12, 16 * PAGE + 100
    assert mlock_future_check(m, 0, flags, bytes_) == allowed


def test_overcommit_modes_promise_what_they_may() -> None:
    kernel = boot()
    kernel.mm_init()
    m = kernel.m
    room = guessed_free_pages(m) - m[G_TOTALRESERVE]
    assert room > 10_000
    committed = m[G_COMMITTED_AS]
    m[G_OVERCOMMIT] = OVERCOMMIT_GUESS
    assert vm_enough_memory(m, room - 1)
    assert m[G_COMMITTED_AS] == committed + room - 1
    assert not vm_enough_memory(m, room)
    m[G_COMMITTED_AS] = committed
    m[G_OVERCOMMIT] = OVERCOMMIT_ALWAYS
    assert vm_enough_memory(m, 1 << 40)
    m[G_COMMITTED_AS] = committed
    m[G_OVERCOMMIT] = OVERCOMMIT_NEVER
    limit = m[G_TOTALRAM] * m[G_OVERCOMMIT_RATIO] // 100
    assert vm_enough_memory(m, limit - committed - 1)
    assert not vm_enough_memory(m, 1)


def test_strict_overcommit_refuses_the_call_and_charges_nothing() -> None:
    proc = process()
    proc.m[G_OVERCOMMIT] = OVERCOMMIT_NEVER
    before = proc.m[G_COMMITTED_AS]
    refused(lambda: proc.mmap(60 << 20), "ENOMEM")
    refused(lambda: proc.mmap(60 << 20, flags=0x4000), "ENOMEM")
    start = proc.mmap(20 << 20, "r")
    proc.mprotect(start, 20 << 20, "rw")
    refused(lambda: proc.mmap(20 << 20), "ENOMEM")
    proc.munmap(start, 20 << 20)
    assert proc.m[G_COMMITTED_AS] == before
