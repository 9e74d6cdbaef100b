# SPDX-License-Identifier: GPL-2.0-only
"""INT 13h: floppy and hard disks.

Reads, writes and verifies by cylinder, head and sector and, on hard disks, by sector number (the
extensions of the Enhanced Disk Drive specification 3.0); reset, status, parameters, type. What
cannot be done fails as a controller would say it: a sector that is not there, a medium that is
write protected, a drive nobody has plugged in.

A hard disk of more than 1,024 cylinders is told to software in a shape that fits into the old
interface, with more heads than it has, as the BIOS of QEMU's PC does (Phoenix's LBA assisted
translation)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from firmware.bios import bda
from firmware.bios.call import Call
from firmware.bios.rom import DISKETTE_TABLE, ROM_SEGMENT
from machine import Machine
from machine.drive import SECTOR, Drive, Geometry

OK, BAD_PARAMETER, WRITE_PROTECTED, NO_CHANGE_LINE = 0x00, 0x01, 0x03, 0x06
DMA_BOUNDARY, BAD_TRACK = 0x09, 0x0C
FIRST_DISK = 0x80
MAX_SECTORS = 128
"""Sectors of one transfer by cylinder, head and sector."""
EDD_VERSION, EDD_SUBSETS = 0x30, 0x0007
"""Fixed disk access, locking and ejecting, drive parameters."""
_PACKET = struct.Struct("<BBHHHQ")
_PARAMETERS = struct.Struct("<HHIIIQH")
_DPTE_ABSENT = b"\xff\xff\xff\xff"
_WRITES = (0x03, 0x43)
_VERIFIES = (0x04, 0x44)


def logical_geometry(drive: Drive) -> Geometry:
    """The shape software is told."""
    shape = drive.geometry
    if drive.translation == "lba":
        tracks = drive.sectors // 63
        heads = next((n for n in (16, 32, 64, 128) if tracks // 1024 <= n), 255)
        shape = Geometry(tracks // heads, heads, 63)
    elif drive.translation == "large":
        while shape.cylinders > 1024 and shape.heads <= 127:
            shape = Geometry(shape.cylinders // 2, shape.heads * 2, shape.sectors)
    return Geometry(min(shape.cylinders, 1024), shape.heads, shape.sectors)


class Disks:
    """The services for the drives of a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._memory = machine.memory
        self._functions: dict[int, Callable[[Call, Drive], None]] = {
            0x00: self._done, 0x02: self._by_shape, 0x03: self._by_shape, 0x04: self._by_shape,
            0x08: self._parameters, 0x09: self._done, 0x0C: self._done, 0x0D: self._done,
            0x10: self._done, 0x11: self._done, 0x14: self._done, 0x15: self._type,
            0x16: self._changed, 0x41: self._extensions, 0x42: self._by_number,
            0x43: self._by_number, 0x44: self._by_number, 0x47: self._by_number,
            0x48: self._edd_parameters,
        }  # fmt: skip

    def __call__(self, call: Call) -> int:
        function, drive = self._functions.get(call.ah), self.drives.get(call.dl)
        if call.ah == 0x01:
            status = self._memory.read_u8(self._status_at(call.dl))
            self._end(call, status, keep=True)
        elif drive is None or function is None or (drive.floppy and call.ah > 0x40):
            self._end(call, BAD_PARAMETER)
        else:
            function(call, drive)
        return 0

    @property
    def drives(self) -> dict[int, Drive]:
        """Drives by number."""
        return self._machine.pc.bios.drives

    def _status_at(self, number: int) -> int:
        return bda.DISK_STATUS if number >= FIRST_DISK else bda.FLOPPY_STATUS

    def _end(self, call: Call, status: int, *, keep: bool = False) -> None:
        """Answer with `status`, and remember it for function 01h."""
        if not keep:
            self._memory.write_u8(self._status_at(call.dl), status)
        if status:
            call.fail(status)
        else:
            call.succeed()

    def _done(self, call: Call, drive: Drive) -> None:  # noqa: ARG002
        self._end(call, OK)

    def _by_shape(self, call: Call, drive: Drive) -> None:
        """02h, 03h, 04h: CX and DH say where, AL how many."""
        shape = logical_geometry(drive)
        cylinder, sector, head = (call.cl & 0xC0) << 2 | call.ch, call.cl & 0x3F, call.dh
        count = call.al
        if not 1 <= count <= MAX_SECTORS or sector == 0:
            self._end(call, BAD_PARAMETER)
            return
        if cylinder >= shape.cylinders or head >= shape.heads or sector > shape.sectors:
            self._end(call, BAD_PARAMETER)
            return
        lba = (cylinder * shape.heads + head) * shape.sectors + sector - 1
        status, call.al = self._transfer(call, drive, lba, count, call.es, call.bx)
        self._end(call, status)

    def _by_number(self, call: Call, drive: Drive) -> None:
        """42h, 43h, 44h, 47h: a packet at DS:SI says it all."""
        size, _, count, offset, segment, lba = _PACKET.unpack(call.read(call.ds, call.si, 16))
        if size < 16 or lba >= drive.sectors:
            self._end(call, BAD_PARAMETER)
            return
        if call.ah == 0x47:
            self._end(call, OK)
            return
        status, done = self._transfer(call, drive, lba, count, segment, offset)
        call.write(call.ds, call.si + 2, struct.pack("<H", done))
        self._end(call, status)

    def _transfer(
        self, call: Call, drive: Drive, lba: int, count: int, segment: int, offset: int
    ) -> tuple[int, int]:
        """Move the sectors; the status, and how many were moved: up to the end of the disk."""
        if drive.floppy and ((segment << 4) + offset & 0xFFFF) + count * SECTOR > 0x10000:
            return DMA_BOUNDARY, 0
        there = max(min(count, drive.addressable - lba), 0)
        status = OK if there == count else BAD_TRACK
        if call.ah in _WRITES:
            if drive.read_only:
                return WRITE_PROTECTED, 0
            there = min(there, max(drive.sectors - lba, 0))
            if not drive.write(lba, call.read(segment, offset, there * SECTOR)):
                return BAD_TRACK, 0
        elif call.ah not in _VERIFIES:
            data = drive.read(lba, max(min(there, drive.sectors - lba), 0))
            if data is None:
                return BAD_TRACK, 0
            call.write(segment, offset, data.ljust(there * SECTOR, b"\0"), code=True)
        return status, there

    def _parameters(self, call: Call, drive: Drive) -> None:
        """08h: the last cylinder, head and sector. A hard disk's very last cylinder is not told: it
        was once kept for diagnostics, and the BIOS of QEMU's PC keeps to that."""
        shape = logical_geometry(drive)
        last = shape.cylinders - (1 if drive.floppy else 2)
        call.al = 0
        call.ch, call.dh = last & 0xFF, shape.heads - 1
        call.cl = last >> 2 & 0xC0 | shape.sectors & 0x3F
        call.dl = self._count(call.dl)
        if drive.floppy:
            call.bx = drive.floppy_type
            call.es, call.di = ROM_SEGMENT, DISKETTE_TABLE
        self._end(call, OK)

    def _count(self, number: int) -> int:
        """Drives of the kind of `number`."""
        return sum((other >= FIRST_DISK) == (number >= FIRST_DISK) for other in self.drives)

    def _type(self, call: Call, drive: Drive) -> None:
        """15h: what kind of drive, and how many sectors a hard disk has."""
        if drive.floppy:
            call.succeed(0x01)
            return
        shape = logical_geometry(drive)
        size = (shape.cylinders - 1) * shape.heads * shape.sectors
        call.cx, call.dx = size >> 16, size & 0xFFFF
        call.succeed(0x03)
        call.al = 0

    def _changed(self, call: Call, drive: Drive) -> None:
        """16h: a floppy drive does not know whether its medium has been changed."""
        self._end(call, NO_CHANGE_LINE if drive.floppy else OK)

    def _extensions(self, call: Call, drive: Drive) -> None:  # noqa: ARG002
        """41h: are the functions from 42h on there?"""
        call.bx, call.cx = 0xAA55, EDD_SUBSETS
        self._end(call, OK)
        call.ah = EDD_VERSION

    def _edd_parameters(self, call: Call, drive: Drive) -> None:
        """48h: size and shape of a hard disk."""
        (room,) = struct.unpack("<H", call.read(call.ds, call.si, 2))
        if room < 26:
            self._end(call, BAD_PARAMETER)
            return
        shape = drive.geometry
        flags = 2 if drive.sectors <= 0xFFFFFF else 0
        result = _PARAMETERS.pack(
            26, flags, shape.cylinders, shape.heads, shape.sectors, drive.sectors, SECTOR
        )
        if room >= 30:
            result = struct.pack("<H", 30) + result[2:] + _DPTE_ABSENT
        call.write(call.ds, call.si, result)
        self._end(call, OK)
