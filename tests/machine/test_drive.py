# SPDX-License-Identifier: GPL-2.0-only
"""machine/drive.py: sectors, what is written over them, and shapes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from machine.drive import FLOPPIES, IN_MEMORY, Drive, Geometry, disk_geometry
from machine.errors import InputError, OutputError, SnapshotError


def sector(value: int) -> bytes:
    return bytes((value,)) * 512


def test_what_is_written_is_read_back_and_the_image_stays(tmp_path: Path) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(sector(1) + sector(2) + sector(3))
    drive = Drive(path, floppy=False)
    assert drive.write(1, sector(9))
    assert drive.read(0, 3) == sector(1) + sector(9) + sector(3)
    assert path.read_bytes() == sector(1) + sector(2) + sector(3)
    drive.write_back()
    assert path.read_bytes() == sector(1) + sector(9) + sector(3)


def test_beyond_the_end_nothing_is_read_or_written() -> None:
    drive = Drive(sector(1) * 4, floppy=False)
    assert drive.read(3, 2) is None
    assert drive.read(-1, 1) is None
    assert not drive.write(3, sector(1) * 2)
    assert drive.changed == 0


def test_a_last_sector_that_is_not_whole_is_filled_up() -> None:
    drive = Drive(sector(1) + b"abc", floppy=False)
    assert drive.sectors == 2
    assert drive.read(1, 1) == b"abc".ljust(512, b"\0")


def test_a_read_only_medium_takes_nothing() -> None:
    drive = Drive(sector(1), floppy=True, read_only=True)
    assert not drive.write(0, sector(2))
    assert drive.read(0, 1) == sector(1)


@pytest.mark.parametrize("sectors", sorted(FLOPPIES))
def test_a_floppy_has_the_shape_of_its_size(sectors: int) -> None:
    drive = Drive(bytes(sectors * 512), floppy=True)
    assert drive.geometry.size == sectors
    assert drive.floppy_type == FLOPPIES[sectors][1]


def partition(end_head: int, end_sector: int) -> bytes:
    entry = struct.pack("<8BII", 0x80, 1, 1, 0, 12, end_head, end_sector, 0, 63, 1000)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


@pytest.mark.parametrize(
    ("sectors", "first", "expected"),
    [
        (64, bytes(512), (Geometry(2, 16, 63), "none")),
        (100_000, bytes(512), (Geometry(99, 16, 63), "none")),
        (2_000_000, bytes(512), (Geometry(1984, 16, 63), "lba")),
        (50_000_000, bytes(512), (Geometry(16_383, 16, 63), "lba")),
        (100_000, partition(7, 32), (Geometry(390, 8, 32), "none")),
        (100_000, partition(254, 63), (Geometry(99, 16, 63), "large")),
        (100_000, partition(7, 0), (Geometry(99, 16, 63), "none")),
    ],
)
def test_a_hard_disk_has_the_shape_that_qemu_guesses(
    sectors: int, first: bytes, expected: tuple[Geometry, str]
) -> None:
    assert disk_geometry(sectors, first) == expected


def test_a_large_image_is_read_when_needed_and_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "large.img"
    with open(path, "wb") as file:
        file.seek(IN_MEMORY)
        file.write(sector(7))
    drive = Drive(path, floppy=False)
    assert drive.read(IN_MEMORY // 512, 1) == sector(7)
    with pytest.raises(SnapshotError, match="too large for a snapshot"):
        drive.save("x")
    path.write_bytes(b"")  # cut off behind our back
    assert drive.read(0, 1) == bytes(512)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.img"):
        Drive(tmp_path / "none.img", floppy=False)
    path = tmp_path / "d.img"
    path.write_bytes(sector(1))
    drive = Drive(path, floppy=False)
    drive.write(0, sector(2))
    path.unlink()
    with pytest.raises(OutputError, match=r"d\.img"):
        drive.write_back()


def test_saved_and_loaded_with_what_was_written() -> None:
    drive = Drive(sector(1) * 3, floppy=True, read_only=False)
    drive.write(2, sector(5))
    other = Drive.load(drive.save("a_"), "a_")
    assert other.read(0, 3) == drive.read(0, 3)
    assert (other.floppy, other.read_only, other.changed) == (True, False, 1)
