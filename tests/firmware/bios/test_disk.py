# SPDX-License-Identifier: GPL-2.0-only
"""firmware/bios/disk.py: INT 13h."""

from __future__ import annotations

import struct

import pytest

from firmware.bios.disk import logical_geometry
from machine.drive import Drive, Geometry
from tests.firmware.bios.pc import Pc

BUFFER = 0xA000


def numbered(sectors: int) -> bytes:
    """An image whose sectors begin with their numbers."""
    return b"".join(n.to_bytes(4, "little") + bytes(508) for n in range(sectors))


def pc(*, floppy: bool = False, read_only: bool = False, sectors: int = 2880) -> Pc:
    drive = Drive(numbered(sectors), floppy=floppy, read_only=read_only)
    return Pc(drives={0 if floppy else 0x80: drive})


@pytest.mark.parametrize(
    ("cylinder", "head", "sector", "lba"), [(0, 0, 1, 0), (0, 1, 3, 20), (79, 1, 18, 2879)]
)
def test_a_floppys_sectors_are_where_its_shape_has_them(
    cylinder: int, head: int, sector: int, lba: int
) -> None:
    board = pc(floppy=True)
    got = board.call(0x13, ax=0x0201, bx=BUFFER, cx=cylinder << 8 | sector, dx=head << 8)
    assert (got.cf, got.ax) == (False, 0x0001)
    assert board.memory.read_u32(BUFFER) == lba


def test_cylinders_above_255_use_the_upper_bits_of_cl() -> None:
    board = pc(sectors=16 * 63 * 400)
    got = board.call(0x13, ax=0x0201, bx=BUFFER, cx=(300 & 255) << 8 | 1 << 6 | 5, dx=0x0280)
    assert not got.cf
    assert board.memory.read_u32(BUFFER) == (300 * 16 + 2) * 63 + 4


def test_the_packet_reads_by_number_and_tells_how_much() -> None:
    board = pc()
    board.memory.write(0x900, struct.pack("<BBHHHQ", 16, 0, 5, BUFFER, 0, 2877))
    got = board.call(0x13, ax=0x4200, dx=0x80, si=0x900)
    assert (got.cf, got.ah) == (True, 0x0C)
    assert board.memory.read_u16(0x902) == 3
    assert board.memory.read_u32(BUFFER + 1024) == 2879


@pytest.mark.parametrize(
    ("ax", "cx", "dx", "status"),
    [
        (0x0201, 0x0000, 0x0080, 0x01),
        (0x0200, 0x0001, 0x0080, 0x01),
        (0x0201, 0x0001, 0x1080, 0x01),
        (0x0201, 0xFFFF, 0x0080, 0x01),
        (0x0201, 0x0001, 0x0081, 0x01),
        (0x0201, 0x0001, 0x0000, 0x01),
        (0x5500, 0x0001, 0x0080, 0x01),
    ],
)
def test_what_cannot_be_done_fails_with_a_status_that_is_remembered(
    ax: int, cx: int, dx: int, status: int
) -> None:
    board = pc()
    got = board.call(0x13, ax=ax, bx=BUFFER, cx=cx, dx=dx)
    assert (got.cf, got.ah) == (True, status)
    again = board.call(0x13, ax=0x0100, dx=dx)
    assert (again.cf, again.ah) == (True, status)


def test_what_is_written_is_read_back_and_the_image_is_not_touched() -> None:
    board = pc()
    board.memory.write(BUFFER, b"w" * 1024)
    assert not board.call(0x13, ax=0x0302, bx=BUFFER, cx=0x0005, dx=0x80).cf
    board.memory.write(BUFFER, bytes(1024))
    assert not board.call(0x13, ax=0x0202, bx=BUFFER, cx=0x0005, dx=0x80).cf
    assert board.memory.read(BUFFER, 1024) == b"w" * 1024
    assert board.machine.pc.bios.drives[0x80].changed == 2


@pytest.mark.parametrize("floppy", [True, False])
def test_a_read_only_medium_answers_write_protected(floppy: bool) -> None:
    board = pc(floppy=floppy, read_only=True)
    got = board.call(0x13, ax=0x0301, bx=BUFFER, cx=0x0001, dx=0 if floppy else 0x80)
    assert (got.cf, got.ah, got.al) == (True, 0x03, 0)


def test_a_floppy_transfer_across_64_kib_fails_as_its_dma_would() -> None:
    got = pc(floppy=True).call(0x13, ax=0x0202, bx=0xFE00, cx=0x0001, dx=0)
    assert (got.cf, got.ah, got.al) == (True, 0x09, 0)
    assert not pc().call(0x13, ax=0x0202, bx=0xFE00, cx=0x0001, dx=0x80).cf


def test_parameters_of_both_kinds_of_drive() -> None:
    got = pc(floppy=True).call(0x13, ax=0x0800, dx=0)
    assert (got.cf, got.bx, got.cx, got.dx) == (False, 4, 0x4F12, 0x0101)
    assert got.es == 0xF000
    got = pc(sectors=16 * 63 * 100).call(0x13, ax=0x0800, dx=0x80)
    assert (got.cf, got.cx, got.dx) == (False, 98 << 8 | 63, 0x0F01)


def test_code_that_is_read_over_code_is_run() -> None:
    # The INT is followed by CLI, HLT; the sector read over them says STC first.
    image = bytes((0xF9, 0xFA, 0xF4)).ljust(512, b"\0")
    board = Pc(drives={0x80: Drive(image, floppy=False)})
    assert board.call(0x13, ax=0x0201, bx=0x602, cx=1, dx=0x80).cf


@pytest.mark.parametrize(
    ("sectors", "expected"),
    [
        (16 * 63 * 1000, Geometry(1000, 16, 63)),
        (2_000_000, Geometry(992, 32, 63)),
        (4_000_000, Geometry(992, 64, 63)),
        (40_000_000, Geometry(1024, 255, 63)),
    ],
)
def test_large_disks_are_told_with_more_heads(sectors: int, expected: Geometry) -> None:
    drive = Drive(b"", floppy=False)
    drive.size = sectors * 512
    assert logical_geometry(drive) == expected
