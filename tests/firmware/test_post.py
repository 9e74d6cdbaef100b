# SPDX-License-Identifier: GPL-2.0-only
"""firmware/post.py: what is in RAM after power-on."""

from __future__ import annotations

import struct

import pytest

from firmware import power_on, read_madt, read_srat
from firmware.acpi import find_rsdp
from machine.machine import Machine
from machine.physmem import Bank, PhysicalMemory
from machine.topology import Topology
from tests.firmware.boards import Board, board, powered


def test_the_bios_data_area_says_639_kib_and_where_the_ebda_is() -> None:
    memory = powered("2x128M").memory
    assert memory.read_u16(0x413) == 639
    assert memory.read_u16(0x40E) << 4 == 0x9FC00
    assert memory.read_u8(0x9FC00) == 1
    assert memory.read_u16(0x400) == 0x3F8


def test_the_root_pointer_is_at_the_place_the_boot_params_name() -> None:
    memory = powered("2x128M").memory
    rsdp = find_rsdp(memory)
    assert memory.read_u64(0x90070) == rsdp.address
    assert 0xF0000 <= rsdp.address < 0x100000


def test_two_power_ons_leave_the_same_bytes() -> None:
    first, second = powered("2x64M", append="quiet"), powered("2x64M", append="a long one")
    power_on(second, "quiet")
    assert first.memory.bytes == second.memory.bytes


def test_nothing_is_written_outside_the_firmwares_own_areas() -> None:
    memory = powered("2x64M", append="x" * 2047).memory
    used = [
        page << 12
        for page in range(memory.size >> 12)
        if any(memory.bytes[page << 12 : (page + 1) << 12])
    ]
    assert used == [0x0, 0x90000, 0x91000, 0x9F000, 0xF5000, 0x7FE0000]


def test_a_real_machine_takes_it() -> None:
    machine = Machine(Topology.parse("2x64M"))
    power_on(machine)
    srat, madt = read_srat(machine.memory), read_madt(machine.memory)
    assert srat is not None
    assert madt is not None
    assert [c.apic_id for c in madt.cpus] == [c.apic_id for c in srat.cpus] == [0, 1]


@pytest.mark.parametrize("spec", ["64x8M,cpus=4", "1x32M,cpus=256", "64x64G,cpus=4"])
def test_the_largest_tables_fit_into_the_area_reserved_for_them(spec: str) -> None:
    pc = board(spec)
    power_on(pc, numa=True)
    xsdt = find_rsdp(pc.memory).xsdt
    (length,) = struct.unpack("<I", pc.memory.read(xsdt + 4, 4))
    assert xsdt + length <= pc.topology.below_4g


def test_a_board_is_anything_with_a_topology_and_ram() -> None:
    pc = Board.__new__(Board)
    pc.topology = Topology.parse("1x64M")
    pc.memory = PhysicalMemory([Bank(0, 1 << 26, "ram")])
    power_on(pc)
    assert read_madt(pc.memory) is not None
