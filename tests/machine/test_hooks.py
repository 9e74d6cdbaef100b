# SPDX-License-Identifier: GPL-2.0-only
"""What the engine asks while it runs. (Ports, CPUID and faults are in test_vcpu and test_machine,
devices behind memory in test_mmio.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from machine import Machine, Topology
from machine.mmu import PTE_P, PTE_RW


def test_a_port_in_16_bit_code_is_reached_once_with_its_size() -> None:
    machine = Machine(Topology.parse("1x32M"))
    machine.memory.write(0x1000, bytes.fromhex("b034 e6e9 f4"))
    machine.cpus[0].start_real(0, 0x1000)
    machine.run()
    assert machine.console.output == b"4"


@pytest.mark.parametrize("paging", ["none", "two levels", "PAE"])
def test_code_without_long_mode_finds_its_pages(paging: str) -> None:
    machine = Machine(Topology.parse("1x32M"))
    memory = machine.memory
    memory.write(0x1000, bytes.fromhex("a100104000 f4"))  # mov eax, [0x401000]
    memory.write_u32(0x401000, 1)
    memory.write_u32(0x801000, 2)
    cpu = machine.cpus[0]
    cpu.start_protected(0x1000)
    hidden = cpu.hidden
    hidden.load()
    if paging != "none":
        hidden.set_control(0, hidden.control(0) | 1 << 31)
        hidden.set_control(3, 0x10000)
    if paging == "two levels":
        hidden.set_control(4, 0x10)
        memory.write_u32(0x10000, 0x83)
        memory.write_u32(0x10004, 0x800083)
    elif paging == "PAE":
        hidden.set_control(4, 0x20)
        memory.write_u64(0x10000, 0x11001)
        memory.write_u64(0x11000, 0x83)
        memory.write_u64(0x11010, 0x800083)
    hidden.store()
    stop = machine.run(10)
    assert stop.kind == "halt", stop
    assert cpu.regs.rax == (1 if paging == "none" else 2)
    assert cpu.translate(0x401234) == (0x401234 if paging == "none" else 0x801234)


def test_an_exception_in_a_block_with_a_device_counts_what_ran(
    guest: Callable[..., Any],
) -> None:
    # a store to the local APIC that has something to say, then an undefined instruction
    g = guest("1x64M")
    g.tables.map(0xFEE00000, 0xFEE00000, 4096, PTE_P | PTE_RW)
    machine = g.start("bb0000e0fe c783f0000000ff010000 c7830003000040400400 90 0f0b")
    stop = machine.run(100)
    assert (stop.kind, stop.instructions) == ("fault", 4)
    assert machine.cpus[0].attentive  # the message to itself waits


def test_a_halt_behind_a_store_to_a_device_is_a_halt(guest: Callable[..., Any]) -> None:
    g = guest("1x64M")
    g.tables.map(0xFEE00000, 0xFEE00000, 4096, PTE_P | PTE_RW)
    machine = g.start("bb0000e0fe c783f0000000ff010000 c7830003000040400400 f4 b041 e6e9")
    stop = machine.run(100)
    assert (stop.kind, stop.instructions, machine.console.output) == ("halt", 4, b"")


@pytest.mark.parametrize(("flags", "error"), [(0x87, None), (0x83, 5)])
def test_virtual_8086_mode_is_user_mode_to_the_pages(flags: int, error: int | None) -> None:
    machine = Machine(Topology.parse("1x32M"))
    machine.memory.write(0x1000, bytes.fromhex("90 a10050 90"))  # mov ax, [0x5000]
    machine.memory.write_u32(0x10000, flags)
    cpu = machine.cpus[0]
    cpu.start_real(0, 0x1000)
    hidden = cpu.hidden
    hidden.load()
    hidden.set_control(0, 1 << 31 | 0x11)
    hidden.set_control(3, 0x10000)
    hidden.set_control(4, 0x10)
    for number in range(6):
        hidden.set_segment(number, 0, 0, 0xFFFF, 0xF300 | (0x0800 if number == 1 else 0))
    hidden.rflags = 1 << 17 | 2
    hidden.store()
    assert cpu.mode == "v86"
    machine.run(3)
    assert (None if cpu.fault is None else cpu.fault.error_code & ~0x10) == error
