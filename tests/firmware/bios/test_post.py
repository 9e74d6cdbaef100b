# SPDX-License-Identifier: GPL-2.0-only
"""firmware/bios/post.py: RAM and devices as a boot sector finds them."""

from __future__ import annotations

from firmware.acpi import find_rsdp
from firmware.bios import bda
from machine.drive import Drive
from tests.firmware.bios.pc import Pc


def test_vectors_lead_into_the_rom_and_user_vectors_are_free() -> None:
    board = Pc()
    segments = [board.memory.read_u16(4 * vector + 2) for vector in range(256)]
    assert segments[:0x78] == [0xF000] * 0x78
    assert segments[0x80:] == [0] * 0x80


def test_the_data_area_says_what_is_there() -> None:
    board = Pc(drives={0: Drive(bytes(512), floppy=True), 0x80: Drive(bytes(512), floppy=False)})
    memory = board.memory
    assert memory.read_u16(bda.COM_PORTS) == 0x3F8
    assert memory.read_u16(bda.EBDA_SEGMENT) == 0x9FC0
    assert memory.read_u16(bda.BASE_KIB) == 639
    assert memory.read_u8(bda.DISKS) == 1
    assert memory.read_u16(bda.EQUIPMENT) & 1
    assert memory.read_u16(bda.KEY_HEAD) == memory.read_u16(bda.KEY_TAIL) == 0x1E
    assert memory.read_u8(bda.VIDEO_MODE) == 3
    assert board.machine.pc.cmos[0x10] == 0x40
    assert board.machine.pc.cmos[0x12] == 0xF0


def test_the_timer_ticks_18_times_a_second_and_the_keyboard_is_let_through() -> None:
    board = Pc()
    ports = board.machine.ports
    assert ports.read(0, 0x21, 1) & 3 == 0
    assert board.machine.pc.pit.counters[0].period == 65536
    board.machine.pc.pit.output.pulse()
    assert board.machine.pc.pic.acknowledge() == 8


def test_the_root_pointer_for_the_operating_system_survives() -> None:
    assert find_rsdp(Pc().memory).address == 0xF5A00


def test_a_second_post_leaves_the_same() -> None:
    board = Pc()
    before = board.memory.read(0x500, 0x100000 - 0x500)
    board.memory.write(4 * 0x10, b"\xff" * 64)
    board.memory.write(0xF1000, b"\xff" * 64)
    board.bios.post()
    assert board.memory.read(0x500, 0x100000 - 0x500) == before
