# SPDX-License-Identifier: GPL-2.0-only
"""firmware/bios/rom.py: the ROM's contents and the vectors into it."""

from __future__ import annotations

from firmware.bios.rom import (
    DUMMY_IRET,
    POST_ENTRY,
    RESET,
    ROM_SEGMENT,
    ROM_SIZE,
    SERVICES,
    build_rom,
    service,
    vectors,
)
from machine import Machine, Topology

IRET = 0xCF


def test_services_lie_where_the_first_pc_had_them() -> None:
    rom, table = build_rom(), vectors()
    assert len(rom) == ROM_SIZE
    for vector, offset in SERVICES.items():
        assert table[vector] == offset
        target = offset + 3 + int.from_bytes(rom[offset + 1 : offset + 3], "little") & 0xFFFF
        assert rom[offset] == 0xE9
        assert rom[target : target + len(service(vector))] == service(vector)


def test_every_vector_leads_to_code() -> None:
    rom = build_rom()
    for vector, offset in vectors().items():
        assert rom[offset] != 0, hex(vector)
    assert rom[DUMMY_IRET] == IRET


def test_the_reset_vector_jumps_to_post() -> None:
    rom = build_rom()
    assert rom[RESET] == 0xEA
    assert int.from_bytes(rom[RESET + 1 : RESET + 3], "little") == POST_ENTRY
    assert int.from_bytes(rom[RESET + 3 : RESET + 5], "little") == ROM_SEGMENT
    assert rom[RESET + 14] == 0xFC


def test_a_stub_returns_at_once_when_nobody_serves_it() -> None:
    machine = Machine(Topology.parse("1x32M"))
    machine.memory.write(0xF0000, build_rom())
    for vector, offset in vectors().items():
        machine.memory.write(4 * vector, bytes((offset & 255, offset >> 8, 0, 0xF0)))
    for vector in (*SERVICES, 0x00, 0x08, 0x70):
        machine.memory.write(0x600, bytes((0xCD, vector, 0xFA, 0xF4)))
        machine.code_written(0x600, 4)
        machine.cpus[0].start_real(0, 0x600, ax=0x1234, sp=0x7000)
        stop = machine.run(1000)
        assert (stop.kind, stop.rip) == ("halt", 0x604), hex(vector)
        assert machine.cpus[0].regs.rax == 0x1234
