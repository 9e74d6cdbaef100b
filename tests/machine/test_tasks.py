# SPDX-License-Identifier: GPL-2.0-only
"""machine/tasks.py: a switch by a task gate; whole guests that switch are in tests/guests."""

from __future__ import annotations

import pytest

from machine.hidden import CS, DS, GDTR, LDTR, NT, SS, TR, VM
from machine.interrupts import Event, deliver
from machine.tasks import saved_rip

from .test_interrupts import CODE0, DATA0, DATA3, ENTRIES, GDT, TSS, Protected

NEW, NEW_TSS = 0x48, 0x14000
GATE = 0x40


class Switching(Protected):
    """With a second task behind gate 40h, and the running one's descriptor at 40h of the GDT."""

    def __init__(self, kind: int = 0x89, limit: int = 0x67) -> None:
        super().__init__(0)
        entry = limit | NEW_TSS << 16 | kind << 40
        self.memory.write_u64(GDT + 0x40, 0x67 | TSS << 16 | 0x8B << 40)
        self.memory.write_u64(GDT + NEW, entry)
        self.hidden.set_segment(GDTR, 0, GDT, 8 * len(ENTRIES) + 0x0F, 0)
        self.gate(GATE, 0x8500, NEW, 0)
        for vector in (10, 11, 12, 13):
            self.gate(vector, 0x8E00, CODE0, 0x5000)
        for offset, value in (
            (0x20, 0x6000), (0x24, 2), (0x38, 0x7000), (0x28, 0x1111), (0x4C, CODE0),
            (0x50, DATA0), (0x54, DATA0), (0x48, 0), (0x58, 0), (0x5C, 0), (0x60, 0),
        ):  # fmt: skip
            self.set(offset, value)

    def set(self, offset: int, value: int) -> None:
        self.memory.write_u32(NEW_TSS + offset, value)

    def old(self, offset: int) -> int:
        return self.memory.read_u32(TSS + offset)


def test_the_old_task_is_kept_and_the_new_one_is_nested_in_it() -> None:
    cpu = Switching()
    cpu.hidden.set_gpr(3, 0xB)
    flags = cpu.hidden.rflags
    cpu.send(GATE, external=True)
    hidden = cpu.hidden
    assert (cpu.old(0x20), cpu.old(0x24), cpu.old(0x34), cpu.old(0x38)) == (
        0x1002, flags, 0xB, 0x8000,
    )  # fmt: skip
    assert (cpu.old(0x4C), cpu.old(0x50)) == (CODE0, DATA0)
    assert (hidden.rip, hidden.rsp, hidden.gpr(0)) == (0x6000, 0x7000, 0x1111)
    assert hidden.rflags & NT
    assert hidden.control(0) & 8
    assert hidden.segment(TR)[:2] == (NEW, NEW_TSS)
    assert cpu.memory.read_u16(NEW_TSS) == 0x40
    assert cpu.memory.read_u8(GDT + NEW + 5) == 0x8B
    assert cpu.memory.read_u8(GDT + 0x40 + 5) == 0x8B
    assert hidden.segment(DS)[2] == 0xFFFFFFFF
    assert saved_rip(hidden, cpu.linear) == 0x6000


def test_an_error_code_goes_on_the_new_stack() -> None:
    cpu = Switching()
    cpu.gate(13, 0x8500, NEW, 0)
    cpu.send(13, 0x18)
    assert cpu.hidden.rsp == 0x7000 - 4
    assert cpu.memory.read_u32(0x6FFC) == 0x18


def test_a_16_bit_task_has_words() -> None:
    cpu = Switching(0x81, 43)
    words = [0x6000, 2, 1, 2, 3, 4, 0x7000, 6, 7, 8, 0, CODE0, DATA0, DATA0, 0]
    for n, value in enumerate(words):
        cpu.memory.write_u16(NEW_TSS + 14 + 2 * n, value)
    cpu.send(GATE, external=True)
    hidden = cpu.hidden
    assert (hidden.rip, hidden.rsp & 0xFFFF, hidden.gpr(0) & 0xFFFF) == (0x6000, 0x7000, 1)
    assert hidden.segment(SS)[0] == DATA0


def test_a_task_may_be_in_virtual_8086_mode() -> None:
    cpu = Switching()
    cpu.set(0x24, 2 | VM)
    cpu.set(0x4C, 0x1234)
    cpu.send(GATE, external=True)
    assert cpu.hidden.v86
    assert cpu.hidden.segment(CS)[:2] == (0x1234, 0x12340)


@pytest.mark.parametrize(
    ("kind", "limit", "vector", "error"),
    [(0x8B, 0x67, 13, NEW), (0x09, 0x67, 11, NEW), (0x89, 0x66, 10, NEW), (0x82, 0x67, 13, NEW)],
)
def test_a_task_that_cannot_be_entered_is_an_exception_of_the_old_one(
    kind: int, limit: int, vector: int, error: int
) -> None:
    cpu = Switching(kind, limit)
    cpu.gate(vector, 0x8E00, CODE0, 0x5100)
    cpu.send(GATE, external=True)
    assert cpu.pushed(3) == [error | 1, 0x1000, CODE0]
    assert cpu.hidden.rip == 0x5100
    assert cpu.hidden.segment(TR)[0] == 0x40


@pytest.mark.parametrize(
    ("offset", "value", "vector", "error"),
    [
        (0x54, CODE0 + 0x400, 10, 0x408),  # no such data segment
        (0x50, 0, 10, 0),
        (0x50, DATA3, 10, DATA3 & ~3),  # a stack of another level
        (0x4C, DATA0, 10, DATA0),
        (0x60, DATA0, 10, DATA0),  # no LDT
    ],
)
def test_a_segment_that_cannot_be_had_is_an_exception_of_the_new_task(
    offset: int, value: int, vector: int, error: int
) -> None:
    cpu = Switching()
    cpu.set(offset, value)
    cpu.gate(vector, 0x8500, 0x50, 0)  # whose own task has a stack, whatever became of this one's
    cpu.memory.write_u64(GDT + 0x50, 0x67 | 0x15000 << 16 | 0x89 << 40)
    cpu.hidden.set_segment(GDTR, 0, GDT, 8 * len(ENTRIES) + 0x1F, 0)
    for place in range(0, 0x68, 4):
        cpu.memory.write_u32(0x15000 + place, cpu.memory.read_u32(NEW_TSS + place))
    for place, good in ((0x4C, CODE0), (0x50, DATA0), (0x54, DATA0), (0x60, 0), (0x20, 0x6600)):
        cpu.memory.write_u32(0x15000 + place, good)
    deliver(cpu.hidden, cpu.linear, Event(GATE, 0x1002, 0x1000, software=True))
    assert cpu.hidden.rip == 0x6600
    assert cpu.memory.read_u32(cpu.hidden.rsp) & ~1 == error
    assert cpu.memory.read_u32(NEW_TSS + 0x20) == 0x6000  # its first instruction has not run
    assert cpu.memory.read_u16(0x15000) == NEW
    assert cpu.hidden.segment(LDTR)[0] == 0
