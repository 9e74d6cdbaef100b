# SPDX-License-Identifier: GPL-2.0-only
"""firmware/diskimage.py: which files are disks, and which disks cannot be booted."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware.diskimage import is_disk_image, open_disk
from machine import ImageError, InputError
from tests.firmware.test_multiboot import header_1

BOOTABLE = bytes(510) + b"\x55\xaa"


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.img", BOOTABLE, True),
        ("a.bin", BOOTABLE, True),
        ("a", BOOTABLE, True),
        ("a.img", b"short", True),
        ("a.bin", b"\x90" * 600, False),
        ("a.S", BOOTABLE, False),
        ("a.img", header_1(0) + bytes(600), False),
        ("a.img", b"\x7fELF" + BOOTABLE[4:], False),
    ],
)
def test_a_disk_is_told_by_its_name_or_its_signature(
    tmp_path: Path, name: str, data: bytes, expected: bool
) -> None:
    (tmp_path / name).write_bytes(data)
    assert is_disk_image(tmp_path / name) is expected


def test_a_file_that_is_not_there_is_none() -> None:
    assert not is_disk_image("/nowhere/none.img")


@pytest.mark.parametrize(
    ("size", "floppy"), [(512, False), (737_280, True), (1_474_560, True), (1_474_561, False)]
)
def test_the_size_of_a_floppy_makes_a_floppy(tmp_path: Path, size: int, floppy: bool) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(BOOTABLE.ljust(size, b"\0"))
    assert open_disk(path).floppy is floppy
    assert open_disk(path, floppy=not floppy).floppy is not floppy


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes are less than a boot sector"),
        (bytes(511), "511 bytes are less than a boot sector"),
        (bytes(1024), "no boot signature 55AA"),
    ],
)
def test_what_cannot_boot_is_refused_in_one_line(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=rf"d\.img: {reason}"):
        open_disk(path)


def test_an_image_too_large_for_a_floppy_is_no_floppy(tmp_path: Path) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(BOOTABLE.ljust(3 << 20, b"\0"))
    with pytest.raises(ImageError, match="do not fit on a floppy"):
        open_disk(path, floppy=True)


def test_an_image_nobody_may_write_is_read_only(tmp_path: Path) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(BOOTABLE)
    assert not open_disk(path).read_only
    assert open_disk(path, read_only=True).read_only
    path.chmod(0o444)
    assert open_disk(path).read_only


def test_directories_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a regular file"):
        open_disk(tmp_path)
    with pytest.raises(InputError, match=r"none\.img"):
        open_disk(tmp_path / "none.img")
