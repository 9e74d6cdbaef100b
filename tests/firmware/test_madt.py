# SPDX-License-Identifier: GPL-2.0-only
"""firmware/madt.py: CPUs and interrupt controllers there and back."""

from __future__ import annotations

import pytest

from firmware import read_madt
from firmware.madt import IoApic, LocalApic, Override, build_madt
from machine.errors import BringUpError
from machine.topology import Topology
from tests.firmware.boards import powered, reseal, table


def test_two_cpus_give_qemus_bytes() -> None:
    body = (
        "0000e0fe01000000"
        "0008000001000000"
        "0008010101000000"
        "010c00000000c0fe00000000"
        "020a0000020000000000"
        "020a0005050000000d00"
        "020a0009090000000d00"
        "020a000a0a0000000d00"
        "020a000b0b0000000d00"
        "0406ff000001"
    )
    assert build_madt(Topology.parse("2x128M"))[36:] == bytes.fromhex(body)


def test_the_kernel_reads_cpus_and_controllers_back() -> None:
    madt = read_madt(powered("3x64M").memory)
    assert madt is not None
    assert madt.lapic_address == 0xFEE00000
    assert madt.cpus == tuple(LocalApic(cpu, cpu, 1) for cpu in range(3))
    assert madt.io_apics == (IoApic(0, 0xFEC00000, 0),)
    assert madt.overrides[0] == Override(0, 2, 0)
    assert [o.irq for o in madt.overrides[1:]] == [5, 9, 10, 11]


def test_cpu_255_is_an_x2apic_and_changes_the_nmi_entry() -> None:
    madt = build_madt(Topology.parse("1x64M,cpus=256"))
    assert bytes.fromhex("09100000ff00000001000000ff000000") in madt
    assert madt.endswith(bytes.fromhex("0a0c0000ffffffff01000000"))
    assert build_madt(Topology.parse("1x64M,cpus=255")).endswith(bytes.fromhex("0406ff000001"))
    read = read_madt(powered("1x64M,cpus=256").memory)
    assert read is not None
    assert read.cpus[255] == LocalApic(255, 255, 1)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (45, 7, "type 0 is 7 bytes long instead of 8"),
        (45, 1, "entry at byte 0x2c has length 1"),
        (53, 255, "entry at byte 0x34 has length 255"),
    ],
)
def test_a_malformed_entry_is_named(offset: int, value: int, message: str) -> None:
    board = powered("2x64M")
    found = table(board.memory, "APIC")
    board.memory.write_u8(found.address + offset, value)
    reseal(board.memory, found.address, len(found.data))
    with pytest.raises(BringUpError, match=message):
        read_madt(board.memory)
