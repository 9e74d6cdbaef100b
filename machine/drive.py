# SPDX-License-Identifier: GPL-2.0-only
"""Disks: the sectors of an image, what the guest wrote over them, and the shape they pretend.

A `Drive` never changes the image it was made from. What a guest writes is kept beside it, read back
in its place, and part of a snapshot; `write_back` puts it into the file, if the owner wants that.
Sectors are 512 bytes. An image whose last sector is not whole is filled up with zeros.

Floppies have the shape of the format that has their size. A hard disk has the shape that QEMU gives
it (hw/block/hd-geometry.c): that of the partition table if there is one, otherwise 16 heads of 63
sectors. `translation` is how the BIOS makes it fit its interface: "none", "large", or "lba"."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from machine.bus import State
from machine.devstate import number, octets
from machine.errors import InputError, OutputError, SnapshotError

SECTOR = 512
MAX_SECTORS = 1 << 32
IN_MEMORY = 64 << 20
"""Images up to so many bytes are read at once, larger ones when needed."""

_CHANGE = struct.Struct(f"<Q{SECTOR}s")


@dataclass(frozen=True)
class Geometry:
    """Cylinders, heads, sectors a track."""

    cylinders: int
    heads: int
    sectors: int

    @property
    def size(self) -> int:
        """Sectors in all."""
        return self.cylinders * self.heads * self.sectors


FLOPPIES: dict[int, tuple[Geometry, int]] = {
    320: (Geometry(40, 1, 8), 1),
    360: (Geometry(40, 1, 9), 1),
    640: (Geometry(40, 2, 8), 1),
    720: (Geometry(40, 2, 9), 1),
    1440: (Geometry(80, 2, 9), 3),
    2400: (Geometry(80, 2, 15), 2),
    2880: (Geometry(80, 2, 18), 4),
    5760: (Geometry(80, 2, 36), 5),
}
"""Sectors of a format: its shape, and the type of drive in the CMOS."""

FLOPPY_144 = FLOPPIES[2880]


class Drive:
    """One disk with a medium in it. Raises `InputError` for a file that cannot be read."""

    def __init__(
        self, image: bytes | str | PathLike[str], *, floppy: bool, read_only: bool = False
    ) -> None:
        self.floppy = floppy
        self.read_only = read_only
        self.path: Path | None = None
        self._file: BinaryIO | None = None
        self._base = b""
        self._changes: dict[int, bytes] = {}
        if isinstance(image, bytes):
            self._base, self.size = image, len(image)
        else:
            self._open(Path(image))

    def _open(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open(path, "rb")  # noqa: SIM115  (open as long as the drive is)
            self.size = self._file.seek(0, os.SEEK_END)
            if self.size <= IN_MEMORY:
                self._file.seek(0)
                self._base = self._file.read(self.size)
                self._file.close()
                self._file = None
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None

    @property
    def sectors(self) -> int:
        """Sectors of the medium."""
        return -(-self.size // SECTOR)

    @property
    def changed(self) -> int:
        """Sectors the guest has written."""
        return len(self._changes)

    @cached_property
    def geometry(self) -> Geometry:
        """The shape that cylinder, head and sector numbers refer to."""
        if self.floppy:
            return FLOPPIES.get(self.sectors, FLOPPY_144)[0]
        return disk_geometry(self.sectors, self._read_base(0, SECTOR))[0]

    @cached_property
    def translation(self) -> str:
        """How the BIOS translates the shape."""
        if self.floppy:
            return "none"
        return disk_geometry(self.sectors, self._read_base(0, SECTOR))[1]

    @property
    def floppy_type(self) -> int:
        """Type of the drive as the CMOS has it."""
        return FLOPPIES.get(self.sectors, FLOPPY_144)[1]

    @property
    def addressable(self) -> int:
        """Sectors that commands may name: a floppy drive steps over its whole shape."""
        return self.geometry.size if self.floppy else self.sectors

    def read(self, lba: int, count: int) -> bytes | None:
        """`count` sectors from `lba` on; None beyond the end, or when the file cannot be read."""
        if not 0 <= lba <= lba + count <= max(self.sectors, 1):
            return None
        data = bytearray(self._read_base(lba * SECTOR, count * SECTOR))
        if self._changes:
            for n in range(count):
                if lba + n in self._changes:
                    data[n * SECTOR : (n + 1) * SECTOR] = self._changes[lba + n]
        return bytes(data)

    def write(self, lba: int, data: bytes) -> bool:
        """Put whole sectors at `lba`; False beyond the end, or on a medium that is read-only."""
        count = len(data) // SECTOR
        if self.read_only or not 0 <= lba <= lba + count <= self.sectors:
            return False
        for n in range(count):
            self._changes[lba + n] = bytes(data[n * SECTOR : (n + 1) * SECTOR])
        return True

    def write_back(self) -> None:
        """Put what the guest wrote into the file. Raises `OutputError`."""
        if self.path is None or not self._changes:
            return
        try:
            with open(self.path, "r+b") as file:
                for lba, data in sorted(self._changes.items()):
                    file.seek(lba * SECTOR)
                    file.write(data)
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}") from None

    def save(self, prefix: str) -> State:
        """Image and changes as plain data. Raises `SnapshotError` for an image too large to be
        kept in memory."""
        if self._file is not None:
            raise SnapshotError(
                f"{self.path}: a disk of {self.size:,} bytes is too large for a snapshot"
                f" (at most {IN_MEMORY:,})"
            )
        changes = b"".join(_CHANGE.pack(lba, data) for lba, data in sorted(self._changes.items()))
        return {
            f"{prefix}image": self._base,
            f"{prefix}changes": changes,
            f"{prefix}flags": self.floppy | self.read_only << 1,
        }

    @classmethod
    def load(cls, state: State, prefix: str) -> Drive:
        """The drive that `save` described. Raises `KeyError`, `ValueError`."""
        flags = number(state, f"{prefix}flags", 3)
        drive = cls(
            octets(state, f"{prefix}image"), floppy=bool(flags & 1), read_only=bool(flags & 2)
        )
        changes = octets(state, f"{prefix}changes")
        if len(changes) % _CHANGE.size:
            raise ValueError("changes of a disk")
        drive._changes = dict(_CHANGE.iter_unpack(changes))
        return drive

    def _read_base(self, start: int, size: int) -> bytes:
        """Bytes of the image, zeros behind its end."""
        if self._file is None:
            return self._base[start : start + size].ljust(size, b"\0")
        try:
            return os.pread(self._file.fileno(), size, start).ljust(size, b"\0")
        except OSError:
            return bytes(size)


def disk_geometry(sectors: int, first: bytes) -> tuple[Geometry, str]:
    """The physical shape of a hard disk of so many sectors with this first sector, and how the BIOS
    translates it."""
    cylinders = min(max(sectors // (16 * 63), 2), 16_383)
    plain = Geometry(cylinders, 16, 63)
    told = _partitioned(sectors, first)
    if told is None:
        return plain, "none" if cylinders <= 1024 else "lba"
    if told.heads > 16:
        return plain, "large" if cylinders * 16 <= 131_072 else "lba"
    return told, "none"


def _partitioned(sectors: int, first: bytes) -> Geometry | None:
    """The shape of which the last sector of a partition tells heads and sectors a track."""
    if first[510:512] != b"\x55\xaa":
        return None
    for place in range(446, 510, 16):
        head, sector = first[place + 5], first[place + 6] & 63
        (length,) = struct.unpack_from("<I", first, place + 12)
        if length and head and sector:
            cylinders = sectors // ((head + 1) * sector)
            if 1 <= cylinders <= 16_383:
                return Geometry(cylinders, head + 1, sector)
    return None
