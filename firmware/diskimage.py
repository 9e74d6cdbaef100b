# SPDX-License-Identifier: GPL-2.0-only
"""Disk images on the command line: is this file one, and what kind of drive does it go into?

A file is a disk image when its name ends in `.img`, `.ima`, `.flp`, `.vfd`, `.iso`, `.raw` or
`.dsk`, or when its first sector ends in the boot signature 55AAh and nothing else claims it. It
becomes a floppy if it has the size of one, otherwise a hard disk, unless the user says which.

What a BIOS would only find out when it is too late is said at once, in one line: an image shorter
than a sector, or without the signature. A last sector that is not whole is filled up with zeros, as
QEMU does."""

from __future__ import annotations

import os
import stat
from os import PathLike
from pathlib import Path

from firmware.elf import MAGIC
from firmware.multiboot import SEARCH_2, find_header
from machine.drive import FLOPPIES, SECTOR, Drive
from machine.errors import ImageError, InputError

DISK_SUFFIXES = (".img", ".ima", ".flp", ".vfd", ".iso", ".raw", ".dsk")
TEXT_SUFFIXES = (".S", ".s", ".asm")
SIGNATURE = b"\x55\xaa"
_ANY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def is_disk_image(path: str | PathLike[str]) -> bool:
    """True for a file that a BIOS should boot. Files that cannot be read are not."""
    name = Path(path)
    if name.suffix in TEXT_SUFFIXES:
        return False
    try:
        with open(name, "rb") as file:
            start = file.read(SEARCH_2)
    except OSError:
        return False
    if start.startswith(MAGIC):
        return False
    if start[510:512] == SIGNATURE:
        return True
    if name.suffix.lower() not in DISK_SUFFIXES:
        return False
    return find_header(str(name), start) is None


def open_disk(
    path: str | PathLike[str], *, floppy: bool | None = None, read_only: bool = False
) -> Drive:
    """The drive with the image at `path` in it. `floppy` None: by its size. An image without write
    permission for anybody is read-only.

    Raises `InputError` when it cannot be read, `ImageError` when nothing can boot from it."""
    name = Path(path)
    try:
        status = os.stat(name)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{name}: not a regular file")
    if status.st_size < SECTOR:
        raise ImageError(f"{name}: {status.st_size} bytes are less than a boot sector (512)")
    if floppy is None:
        floppy = status.st_size % SECTOR == 0 and status.st_size // SECTOR in FLOPPIES
    if floppy and status.st_size > max(FLOPPIES) * SECTOR:
        raise ImageError(f"{name}: {status.st_size:,} bytes do not fit on a floppy disk")
    drive = Drive(name, floppy=floppy, read_only=read_only or not status.st_mode & _ANY_WRITE)
    first = drive.read(0, 1)
    if first is None or first[510:] != SIGNATURE:
        raise ImageError(f"{name}: no boot signature 55AA at the end of the first sector")
    return drive
