# SPDX-License-Identifier: GPL-2.0-only
"""Deliveries one by one; whole guests that use them are in tests/guests."""

from __future__ import annotations

from typing import Any

import pytest

from machine import Machine, Topology
from machine.hidden import CS, GDTR, IDTR, IF, SS, TF, TR, HiddenState
from machine.interrupts import Event, TripleFault, deliver, unpack_descriptor
from machine.linear import LinearMemory

GDT, IDT, TSS = 0x10000, 0x11000, 0x12000
CODE0, DATA0, CODE3, DATA3, SMALL, ABSENT = 0x08, 0x10, 0x1B, 0x23, 0x28, 0x30
ENTRIES = (
    0,
    0x00CF9A000000FFFF,
    0x00CF92000000FFFF,
    0x00CFFA000000FFFF,
    0x00CFF2000000FFFF,
    0x00009A001000FFFF,
    0x00CF1A000000FFFF,
    0x00CF9E000000FFFF,  # 38: conforming
)


class Protected:
    """A CPU in ring 3 (or 0) of 32-bit protected mode with a GDT, an empty IDT and a TSS."""

    def __init__(self, ring: int = 3) -> None:
        self.machine = Machine(Topology.parse("1x32M"))
        self.memory = self.machine.memory
        self.cpu = self.machine.cpus[0]
        self.cpu.start_protected(0x1000, esp=0x8000)
        self.hidden: HiddenState = self.cpu.hidden
        self.linear = LinearMemory(self.memory, self.cpu.ram)
        for n, entry in enumerate(ENTRIES):
            self.memory.write_u64(GDT + 8 * n, entry)
        self.memory.write_u32(TSS + 4, 0x9000)
        self.memory.write_u32(TSS + 8, DATA0)
        hidden = self.hidden
        hidden.load()
        hidden.set_segment(GDTR, 0, GDT, 8 * len(ENTRIES) - 1, 0)
        hidden.set_segment(IDTR, 0, IDT, 0x3FF, 0)
        hidden.set_segment(TR, 0x40, TSS, 0x67, 0x8B00)
        level = ring << 13
        hidden.set_segment(CS, CODE3 if ring else CODE0, 0, 0xFFFFFFFF, 0x00CF9A00 | level)
        hidden.set_segment(SS, DATA3 if ring else DATA0, 0, 0xFFFFFFFF, 0x00CF9200 | level)
        hidden.rflags = 0x2 | IF | TF

    def gate(
        self, vector: int, flags: int = 0x8E00, selector: int = CODE0, offset: int = 0x5000
    ) -> None:
        value = offset & 0xFFFF | selector << 16 | flags << 32 | offset >> 16 << 48
        self.memory.write_u64(IDT + 8 * vector, value)

    def send(self, vector: int, error: int | None = None, **kind: Any) -> None:
        deliver(self.hidden, self.linear, Event(vector, 0x1002, 0x1000, error, **kind))

    def pushed(self, count: int) -> list[int]:
        return [self.memory.read_u32(self.hidden.rsp + 4 * n) for n in range(count)]


def test_an_interrupt_gate_clears_if_and_a_trap_gate_does_not() -> None:
    for flags, left in ((0x8E00, 0), (0x8F00, IF)):
        cpu = Protected(0)
        cpu.gate(0x40, flags)
        cpu.send(0x40, external=True)
        assert cpu.hidden.rflags & (IF | TF) == left
        assert cpu.hidden.rip == 0x5000
        assert cpu.pushed(3) == [0x1002, CODE0, 2 | IF | TF]
        assert cpu.hidden.rsp == 0x8000 - 12


def test_from_ring_3_the_stack_is_that_of_the_tss() -> None:
    cpu = Protected()
    cpu.gate(13)
    cpu.send(13, 0x18)
    assert cpu.pushed(6) == [0x18, 0x1002, CODE3, 2 | IF | TF, 0x8000, DATA3]
    assert cpu.hidden.rsp == 0x9000 - 24
    assert (cpu.hidden.cpl, cpu.hidden.segment(SS)[0], cpu.hidden.segment(CS)[0]) == (0, 0x10, 8)


def test_a_16_bit_gate_pushes_words() -> None:
    cpu = Protected(0)
    cpu.gate(0x40, 0x8600, SMALL, 0x1234)
    cpu.send(0x40, external=True)
    assert cpu.hidden.rsp == 0x8000 - 6
    assert cpu.memory.read_u16(cpu.hidden.rsp) == 0x1002
    assert cpu.hidden.segment(CS)[:3] == (SMALL, 0x1000, 0xFFFF)


def test_conforming_code_keeps_the_level() -> None:
    cpu = Protected()
    cpu.gate(0x40, 0x8E00, 0x38)
    cpu.send(0x40, external=True)
    assert (cpu.hidden.cpl, cpu.hidden.segment(CS)[0]) == (3, 0x3B)


@pytest.mark.parametrize(
    ("software", "flags", "selector", "vector", "error"),
    [
        (True, 0x8E00, CODE0, 13, 0x40 * 8 + 2),  # not for ring 3
        (False, 0x0E00, CODE0, 11, 0x40 * 8 + 3),  # gate not present
        (False, 0x8200, CODE0, 13, 0x40 * 8 + 3),  # no gate at all
        (False, 0x8500, CODE0, 13, 9),  # a task gate to what is no task
        (False, 0x8E00, 0, 13, 1),
        (False, 0x8E00, 0x100, 13, 0x101),  # beyond the GDT
        (False, 0x8E00, DATA0, 13, 0x11),
        (False, 0x8E00, ABSENT, 11, 0x31),
    ],
)
def test_a_gate_that_does_not_work_is_an_exception_with_its_index(
    software: bool, flags: int, selector: int, vector: int, error: int
) -> None:
    cpu = Protected()
    cpu.gate(0x40, flags, selector)
    cpu.gate(vector)
    cpu.send(0x40, software=software, external=not software)
    assert cpu.pushed(2) == [error, 0x1000]  # the instruction's own address


@pytest.mark.parametrize(
    ("limit", "ss", "error"),
    [(0x67, 0, 0), (0x67, DATA3, 0x20), (0x67, CODE0, 8), (6, DATA0, 0x40)],
)
def test_a_tss_without_a_good_stack_is_an_invalid_tss(limit: int, ss: int, error: int) -> None:
    cpu = Protected()
    cpu.memory.write_u32(TSS + 8, ss)
    task = cpu.hidden.segment(TR)
    cpu.hidden.set_segment(TR, task[0], task[1], limit, task[3])
    cpu.gate(0x40)
    cpu.gate(10, 0xEE00, 0x38)  # conforming: needs no new stack
    cpu.send(0x40, external=True)
    assert cpu.pushed(2) == [error | 1, 0x1000]


@pytest.mark.parametrize(
    ("first", "present", "delivered"),
    [
        (0, (8,), 8),  # #DE, then #GP for its gate: contributory twice
        (13, (8,), 8),
        (14, (8,), 8),
        (6, (13,), 13),  # benign
        (3, (13,), 13),
    ],
)
def test_two_exceptions_make_a_double_fault_where_the_manual_says(
    first: int, present: tuple[int, ...], delivered: int
) -> None:
    cpu = Protected(0)
    for vector in present:
        cpu.gate(vector)
    cpu.send(first, 0 if first in (13, 14) else None, address=0xABC000)
    assert cpu.hidden.rip == 0x5000
    error = cpu.pushed(1)[0]
    assert error == (0 if delivered == 8 else first * 8 + 3)
    assert cpu.hidden.control(2) == (0xABC000 if first == 14 else 0)


def test_with_no_way_left_it_is_a_triple_fault() -> None:
    cpu = Protected()
    with pytest.raises(TripleFault) as caught:
        cpu.send(6)
    assert caught.value.missing
    cpu = Protected()
    for vector in (6, 8, 13):
        cpu.gate(vector, 0x8E00, DATA0)
    with pytest.raises(TripleFault) as caught:
        cpu.send(6)
    assert not caught.value.missing


def test_int_n_never_makes_a_double_fault() -> None:
    cpu = Protected(0)
    cpu.gate(13)
    cpu.send(8, software=True)
    assert cpu.pushed(2) == [8 * 8 + 2, 0x1000]


def test_an_error_code_of_int_n_is_not_pushed() -> None:
    cpu = Protected(0)
    cpu.gate(13, 0xEE00)
    cpu.send(13, 5, software=True)
    assert cpu.pushed(3) == [0x1002, CODE0, 2 | IF | TF]


def test_real_mode_goes_through_the_vector_table_and_wraps_the_stack() -> None:
    machine = Machine(Topology.parse("1x32M"))
    cpu = machine.cpus[0]
    cpu.start_real(0x100, 0x20, ss=0x2000, sp=2)
    machine.memory.write_u32(0x21 * 4, 0xF000_1234)
    hidden = cpu.hidden
    hidden.load()
    deliver(hidden, LinearMemory(machine.memory, cpu.ram), Event(0x21, 0x22, 0x20, software=True))
    assert (hidden.segment(CS)[:2], hidden.rip) == ((0xF000, 0xF0000), 0x1234)
    assert machine.memory.read_u16(0x20000) == 0x202
    assert machine.memory.read_u16(0x2FFFE) == 0x100
    assert (machine.memory.read_u16(0x2FFFC), hidden.rsp) == (0x22, 0xFFFC)
    assert not hidden.rflags & IF


def test_a_vector_beyond_the_table_of_real_mode_is_a_protection_fault() -> None:
    machine = Machine(Topology.parse("1x32M"))
    cpu = machine.cpus[0]
    cpu.start_real(0, 0x1000, sp=0x1000)
    machine.memory.write_u32(13 * 4, 0x777)
    hidden = cpu.hidden
    hidden.load()
    hidden.set_segment(IDTR, 0, 0, 0x7F, 0)
    deliver(hidden, LinearMemory(machine.memory, cpu.ram), Event(0x21, 0x22, 0x20, software=True))
    assert (hidden.rip, machine.memory.read_u16(0xFFA)) == (0x777, 0x20)
    hidden.set_segment(IDTR, 0, 0, 3, 0)
    with pytest.raises(TripleFault):
        deliver(hidden, LinearMemory(machine.memory, cpu.ram), Event(6, 0x20, 0x20))


def test_a_descriptor_is_unpacked_with_its_granularity() -> None:
    assert unpack_descriptor(0x12CF9A3456789ABC) == (0x12345678, 0xF9ABCFFF, 0x12CF9A34)
    assert unpack_descriptor(0x00409A000000FFFF)[:2] == (0, 0xFFFF)
