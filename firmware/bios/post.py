# SPDX-License-Identifier: GPL-2.0-only
"""POST for software of the real mode: ROM, interrupt vectors, BIOS data area, devices.

What a boot sector relies on without asking: vectors 0 to 77h, the variables at 0040:0000, an
interrupt controller with the timer and the keyboard let through at vectors 8 and 70h up, a timer of
18.2 Hz, a clean text screen. The values are those that QEMU's PC shows to a boot sector, as far as
the board has the same parts. The screen is empty: this BIOS says nothing if all goes well."""

from __future__ import annotations

import struct

from firmware.bios import bda, rom
from firmware.bios.timeofday import TimeOfDay
from firmware.bios.video import Video
from firmware.e820 import BIOS_START, EBDA
from machine import Machine
from machine.cmos import (
    DISK_0,
    DISK_0_KIND,
    DISK_1,
    DISK_1_KIND,
    DISK_TYPES,
    EQUIPMENT,
    FLOPPY_TYPES,
)
from machine.drive import Drive

COM1 = 0x3F8
VECTORS = 256
_RSDP_SIGNATURE = b"RSD PTR "
_MASKS = 0xB8, 0x8F
"""Open: timer, keyboard, cascade, floppy; clock, mouse, coprocessor are the second's."""
_EBDA_SIZE = 0x400
_DISK_CELLS = struct.Struct("<BHBHBHB")
_USER_TYPE = 47


def set_up(machine: Machine, video: Video, time: TimeOfDay) -> None:
    """Bring RAM and devices into that state."""
    _rom(machine)
    _vectors(machine)
    _data_area(machine)
    _drives(machine)
    _devices(machine)
    video.set_mode(3)
    time.set_ticks_from_clock()


def _rom(machine: Machine) -> None:
    """The ROM, around what the firmware keeps there for the operating system."""
    memory = machine.memory
    old = memory.read(BIOS_START, rom.ROM_SIZE)
    image = bytearray(rom.build_rom())
    place = old.find(_RSDP_SIGNATURE)
    if place >= 0:
        image[place : place + 36] = old[place : place + 36]
    memory.write(BIOS_START, image)
    machine.code_written(BIOS_START, len(image))


def _vectors(machine: Machine) -> None:
    table = bytearray()
    offsets = rom.vectors()
    for vector in range(VECTORS):
        offset = offsets.get(vector)
        table += bytes(4) if offset is None else struct.pack("<HH", offset, rom.ROM_SEGMENT)
    machine.memory.write(0, table)


def _data_area(machine: Machine) -> None:
    memory = machine.memory
    drives = machine.pc.bios.drives
    memory.write(bda.COM_PORTS, bytes(bda.SIZE))
    memory.write_u16(bda.COM_PORTS, COM1)
    memory.write_u16(bda.EBDA_SEGMENT, EBDA >> 4)
    memory.write_u16(bda.BASE_KIB, EBDA >> 10)
    equipment = bda.EQUIPMENT_FPU | bda.EQUIPMENT_80x25 | bda.EQUIPMENT_ONE_SERIAL
    floppies = [number for number in drives if number < 0x80]
    if floppies:
        equipment |= bda.EQUIPMENT_FLOPPY | (len(floppies) - 1) << 6
    memory.write_u16(bda.EQUIPMENT, equipment)
    start, end = bda.KEY_BUFFER - 0x400, bda.KEY_BUFFER_END - 0x400
    for place, value in (
        (bda.KEY_HEAD, start), (bda.KEY_TAIL, start), (bda.KEY_BUFFER_START_AT, start),
        (bda.KEY_BUFFER_END_AT, end),
    ):  # fmt: skip
        memory.write_u16(place, value)
    memory.write_u8(bda.KEY_STATUS, 0x10)
    memory.write_u8(bda.DISKS, len(drives) - len(floppies))
    memory.write_u32(bda.LPT_TIMEOUTS, 0x14141414)
    memory.write_u32(bda.COM_TIMEOUTS, 0x0A0A0A0A)
    memory.write(EBDA, b"\x01" + bytes(_EBDA_SIZE - 1))


def _drives(machine: Machine) -> None:
    """What the CMOS says about drives."""
    cmos, drives = machine.pc.cmos, machine.pc.bios.drives
    types = [_floppy_type(drives.get(number)) for number in (0, 1)]
    cmos[FLOPPY_TYPES] = types[0] << 4 | types[1]
    cmos[DISK_TYPES] = (0xF0 if 0x80 in drives else 0) | (0x0F if 0x81 in drives else 0)
    for drive_number, kind, first in ((0x80, DISK_0_KIND, DISK_0), (0x81, DISK_1_KIND, DISK_1)):
        cells = _disk_cells(drives.get(drive_number))
        for place, value in zip((kind, *range(first, first + 9)), cells, strict=True):
            cmos[place] = value
    floppies = sum(1 for kind in types if kind)
    cmos[EQUIPMENT] = 0x06 | (floppies and 1 | (floppies - 1) << 6)


def _disk_cells(drive: Drive | None) -> bytes:
    """What the CMOS says about a hard disk: type 47, for which cylinders, heads, no write
    precompensation, control byte, landing zone and sectors follow."""
    if drive is None:
        return bytes(10)
    shape = drive.geometry
    control = 0xC0 | (shape.heads > 8) << 3
    return _DISK_CELLS.pack(
        _USER_TYPE, shape.cylinders, shape.heads, 0xFFFF, control, shape.cylinders, shape.sectors
    )


def _floppy_type(drive: Drive | None) -> int:
    return 0 if drive is None else drive.floppy_type


def _devices(machine: Machine) -> None:
    """The interrupt controllers, the CPUs' own ones among them, and the timer."""
    ports = machine.ports

    def out(port: int, *values: int) -> None:
        for value in values:
            ports.write(0, port, 1, value)

    out(0x20, 0x11)
    out(0xA0, 0x11)
    out(0x21, 0x08, 0x04, 0x01)
    out(0xA1, 0x70, 0x02, 0x01)
    out(0x21, _MASKS[0])
    out(0xA1, _MASKS[1])
    out(0x43, 0x34)
    out(0x40, 0x00, 0x00)
    for apic in machine.apics.apics:
        apic.firmware_setup()
