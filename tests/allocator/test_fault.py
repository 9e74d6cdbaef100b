# SPDX-License-Identifier: GPL-2.0-only
"""What a fault comes to: the decision table of do_page_fault, and accesses from outside."""

from __future__ import annotations

import pytest

from allocator.fault import (
    PF_INSTR,
    PF_PROT,
    PF_RSVD,
    PF_USER,
    PF_WRITE,
    SEGV_ACCERR,
    SEGV_MAPERR,
    access_error,
    access_process,
    do_page_fault,
    first_touch,
    granted,
    physical,
    user_entry,
)
from allocator.layout import CPU_BLOCKS, CPU_CURRENT, PAGE_OFFSET, va_of_word
from allocator.mm_struct import (
    MM_PGD,
    TASK_FAULT_ADDRESS,
    TASK_FAULT_CODE,
    VM_EXEC,
    VM_READ,
    VM_WRITE,
)
from allocator.pgtable import PTE_A, PTE_D, mm_find_pte
from allocator.process import Process
from machine.mmu import READ, WRITE, walk

from .processes import PAGE, events, killed, process, sound


@pytest.mark.parametrize(
    ("code", "flags", "error"),
    [
        (0, VM_READ, False),
        (0, VM_WRITE, False),
        (0, VM_EXEC, False),
        (0, 0, True),
        (PF_PROT, VM_READ | VM_WRITE, True),
        (PF_WRITE, VM_READ, True),
        (PF_WRITE, VM_WRITE, False),
        (PF_WRITE | PF_PROT, VM_READ | VM_WRITE, False),
        (PF_INSTR, VM_READ, False),
        (PF_INSTR | PF_PROT, VM_READ | VM_EXEC, True),
        (PF_USER, 0, True),
    ],
)
def test_an_access_is_held_against_the_area_as_4_20_does(
    code: int, flags: int, error: bool
) -> None:
    assert access_error(code, flags) == error


def fault(proc: Process, address: int, code: int, sp: int = 0) -> tuple[int, int]:
    """The signal and its code, (0, 0) when the fault was served."""
    proc.m[CPU_BLOCKS + CPU_CURRENT] = va_of_word(proc.task)
    signal = do_page_fault(proc.m, 0, proc.task, address, code, sp)
    return (signal, proc.m[proc.task + TASK_FAULT_CODE]) if signal else (0, 0)


def test_each_kind_of_bad_address_has_its_signal_and_code() -> None:
    proc = process()
    start = proc.mmap(2 * PAGE, "r")
    for address, code, expected in (
        (start, PF_USER, (0, 0)),
        (start, PF_USER | PF_WRITE, (11, SEGV_ACCERR)),
        (start + 2 * PAGE, PF_USER, (11, SEGV_MAPERR)),
        (start - 1, PF_USER, (11, SEGV_MAPERR)),
        (-1, PF_USER, (11, SEGV_MAPERR)),
        (1 << 47, PF_USER, (11, SEGV_MAPERR)),
        (start, PF_USER | PF_RSVD | PF_PROT, (11, SEGV_MAPERR)),
    ):
        assert fault(proc, address, code) == expected
        if expected[0]:
            assert proc.m[proc.task + TASK_FAULT_ADDRESS] == address


def test_a_user_stack_grows_only_near_its_pointer() -> None:
    proc = process()
    top = 0x7F0000000000
    proc.mmap(PAGE, address=top, fixed=True, flags=0x100)
    far = top - 30 * PAGE
    code = PF_USER | PF_WRITE
    assert fault(proc, far, code, sp=far + 65536 + 257) == (11, SEGV_MAPERR)
    assert fault(proc, far, code, sp=far + 65536 + 256) == (0, 0)


@pytest.mark.parametrize(("access", "bits"), [(0, PTE_A), (1, PTE_A | PTE_D)])
def test_an_access_from_outside_leaves_the_marks_of_the_mmu(access: int, bits: int) -> None:
    proc = process()
    start = proc.mmap(PAGE)
    proc.write(start, b"x")
    at = mm_find_pte(proc.m, proc.mm, start)
    proc.m[at] &= ~(PTE_A | PTE_D)
    phys = access_process(proc.m, 0, proc.task, start + 9, access)
    assert proc.m[at] & (PTE_A | PTE_D) == bits
    assert phys == physical(proc.m[at], start + 9, False)
    assert user_entry(proc.m, proc.mm, start) == at


@pytest.mark.parametrize("address", [0, 0x5000, (1 << 39) - 1, -5, 1 << 47, 1 << 63])
def test_no_process_reaches_the_kernels_memory(address: int) -> None:
    proc = process()
    death = killed(lambda: proc.read(address, 1), 11, SEGV_MAPERR)
    assert death.address == address & (1 << 64) - 1


def test_a_first_touch_is_served_and_every_other_fault_left_alone() -> None:
    proc = process()
    start = proc.mmap(4 * PAGE)
    m, task = proc.m, proc.task
    m[CPU_BLOCKS + CPU_CURRENT] = va_of_word(task)
    write = PF_USER | PF_WRITE
    assert first_touch(m, 0, task, start, write) == 0  # there is no table yet
    proc.touch(start, write=False)
    faults = events(proc.kernel, "pgfault")
    assert first_touch(m, 0, task, start, write) == 0
    assert first_touch(m, 0, task, start + 4 * PAGE, write) == 0
    assert first_touch(m, 0, task, start - 1, PF_USER) == 0
    assert first_touch(m, 0, task, start + PAGE, write | PF_PROT) == 0
    assert events(proc.kernel, "pgfault") == faults
    entry = first_touch(m, 0, task, start + PAGE + 5, write)
    assert m[mm_find_pte(m, proc.mm, start + PAGE)] == entry
    assert first_touch(m, 0, task, start + 2 * PAGE, PF_USER) != 0
    assert proc.counters["anon"] == 1
    assert proc.counters["minflt"] == 3
    assert events(proc.kernel, "pgfault") == faults + 2
    proc.mprotect(start + 3 * PAGE, PAGE, "r")
    assert first_touch(m, 0, task, start + 3 * PAGE, write) == 0
    sound(proc.kernel)


@pytest.mark.parametrize("prot", ["rw", "r", "rwx"])
@pytest.mark.parametrize("access", [READ, WRITE])
def test_what_is_granted_is_what_a_walk_would_say(prot: str, access: int) -> None:
    if access == WRITE and "w" not in prot:
        return
    proc = process()
    start = proc.mmap(2 * PAGE, prot)
    proc.touch(start, write=False)
    m, task = proc.m, proc.task
    m[CPU_BLOCKS + CPU_CURRENT] = va_of_word(task)
    code = PF_USER | PF_WRITE if access == WRITE else PF_USER
    entry = first_touch(m, 0, task, start + PAGE, code)
    cr3 = m[proc.mm + MM_PGD] - PAGE_OFFSET
    said = walk(proc.kernel.memory, start + PAGE, access, True, 0x80050033, cr3, 0x620, 0xD01)
    assert granted(entry) == said
    assert m[mm_find_pte(m, proc.mm, start + PAGE)] == entry
