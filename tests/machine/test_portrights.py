# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from machine import Machine, Topology
from machine.hidden import CS, DS, SS, TR
from machine.portrights import port_allowed

TSS = 0x18000


def user(code: str, iopl: int = 0, bitmap: int = 0x68, limit: int = 0x2068) -> Machine:
    """A machine in ring 3 of protected mode, all ports allowed but 0xe9 and what `code` says."""
    machine = Machine(Topology.parse("1x32M"))
    memory = machine.memory
    memory.write(0x1000, bytes.fromhex(code) + b"\x90\xf4")
    memory.write_u16(TSS + 0x66, bitmap)
    memory.write_u8(TSS + 0x68 + (0xE9 >> 3), 1 << (0xE9 & 7))
    cpu = machine.cpus[0]
    cpu.start_protected(0x1000, esp=0x8000, eax=0x41, edx=0xE8, ecx=1, edi=0x4000)
    hidden = cpu.hidden
    hidden.load()
    hidden.set_segment(CS, 0x1B, 0, 0xFFFFFFFF, 0x00CFFB00)
    for number in (SS, DS):
        hidden.set_segment(number, 0x23, 0, 0xFFFFFFFF, 0x00CFF300)
    hidden.set_segment(TR, 0x28, TSS, limit, 0x8B00)
    hidden.rflags = 2 | iopl << 12
    hidden.store()
    return machine


@pytest.mark.parametrize(
    ("port", "size", "limit", "allowed"),
    [
        (0xE8, 1, 0x2068, True),
        (0xE9, 1, 0x2068, False),
        (0xE8, 2, 0x2068, False),
        (0xE6, 4, 0x2068, False),
        (0xEA, 4, 0x2068, True),
        (0xFFFF, 1, 0x2068, True),
        (0xFFFF, 1, 0x2067, False),
        (0x10, 1, 0x66, False),
    ],
)
def test_the_bitmap_has_a_bit_for_each_port_up_to_its_limit(
    port: int, size: int, limit: int, allowed: bool
) -> None:
    cpu = user("90", limit=limit).cpus[0]
    assert port_allowed(cpu.hidden, cpu._linear, port, size) is allowed


def test_iopl_3_allows_everything() -> None:
    cpu = user("90", iopl=3).cpus[0]
    assert port_allowed(cpu.hidden, cpu._linear, 0xE9, 1)


@pytest.mark.parametrize("code", ["e6e9", "e4e9", "42ee", "42ec", "66ef", "42f36e", "426c"])
def test_a_port_that_is_not_allowed_is_a_protection_fault_at_the_instruction(code: str) -> None:
    machine = user(code)
    stop = machine.run(100)
    own = 0x1000 + (code.startswith("42") or 0)
    assert (stop.kind, stop.rip) == ("fault", own)
    assert stop.instructions == own - 0x1000
    assert machine.cpus[0].fault is not None
    assert machine.cpus[0].fault.vector == 13
    assert (stop.registers["rax"], stop.registers["rcx"]) == (0x41, 1)
    assert (stop.registers["rdi"], machine.console.output) == (0x4000, b"")


def test_an_allowed_port_is_reached_from_user_mode() -> None:
    machine = user("e6e9", iopl=3)
    machine.run(2)
    assert machine.console.output == b"A"
