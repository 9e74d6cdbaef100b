# SPDX-License-Identifier: GPL-2.0-only
"""Looking at a file system before it is mounted: a disk from outside may hold anything.

The table of inodes is believed where it can be true; what follows from it, the bitmap, the count of
free blocks, and that free blocks are clear, is put right, as a check after a crash does it. So are
files without a name, which were open when they were removed and whose machine never closed them
(orphans).
A disk that holds nothing at all may be mounted: it will be formatted.

Works on all records at once with NumPy; `disk` is the disk, one row of 512 words a block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from machine import ImageError

from .flatfs import (
    DI_EXTENTS,
    DI_NAME,
    DI_NLINK,
    DI_NR_EXTENTS,
    DI_SIZE,
    DI_WORDS,
    DISK_SUPER,
    DS_BITMAP,
    DS_DATA,
    DS_FREE,
    DS_ITABLE,
    DS_MAGIC,
    DS_NR_BLOCKS,
    DS_NR_INODES,
    EXTENT_LENGTH,
    FLATFS_MAGIC,
    NR_DISK_INODES,
    ORPHAN,
    RECORDS_PER_BLOCK,
    first_data_block,
)
from .fs import EXTENT_SHIFT, MAX_EXTENTS, NAME_WORDS

if TYPE_CHECKING:
    import numpy.typing as npt

    Words = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

MIN_BLOCKS = 128
"""The smallest disk that is worth a file system: 512 KiB, the half of it for files."""


def check_disk(disk: Words, blank_will_do: bool, touched: Flags | None = None) -> bool:
    """Makes what the disk says about its files consistent: True if it holds a file system, False
    if it is blank. `touched` marks the blocks that may hold anything but zeroes (None: all).

    Raises ImageError for anything else; then nothing has been changed.
    """
    blocks = len(disk)
    if blocks < MIN_BLOCKS:
        raise ImageError(f"{blocks} blocks are too few for a file system ({MIN_BLOCKS})")
    if disk[0, DS_MAGIC] != FLATFS_MAGIC:
        if blank_will_do and not len(_dirty(disk, touched)):
            return False
        raise ImageError("there is no file system of numalab's on it")
    data = first_data_block(blocks)
    _check_super(disk[0], blocks, data)
    itable = int(disk[0, DS_ITABLE])
    records = disk[itable:data].reshape(NR_DISK_INODES, DI_WORDS)
    used = np.zeros(blocks, dtype=np.bool_)
    used[:data] = True
    records[records[:, DI_NLINK] == ORPHAN] = 0
    names: set[bytes] = set()
    for number in np.flatnonzero(records[:, DI_NLINK]).tolist():
        _check_record(records[number], number + 1, used, names, blocks)
    records[records[:, DI_NLINK] == 0] = 0
    _put_right(disk, used, itable, touched)
    return True


def _dirty(disk: Words, among: Flags | None) -> npt.NDArray[np.int64]:
    """The blocks that hold something, ascending, of those in `among` (None: all)."""
    blocks = np.arange(len(disk)) if among is None else np.flatnonzero(among)
    found = [np.zeros(0, dtype=np.int64)]
    for at in range(0, len(blocks), 4096):
        some = blocks[at : at + 4096]
        found.append(some[disk[some].any(axis=1)])
    return np.concatenate(found)


def _check_super(block: Words, blocks: int, data: int) -> None:
    wanted = {
        DS_NR_BLOCKS: blocks,
        DS_BITMAP: 1,
        DS_ITABLE: data - NR_DISK_INODES // RECORDS_PER_BLOCK,
        DS_NR_INODES: NR_DISK_INODES,
        DS_DATA: data,
    }
    names = {DISK_SUPER[name]: name for name in DISK_SUPER.fields}
    for word, value in wanted.items():
        if block[word] != value:
            raise ImageError(f"its file system has {names[word]} {block[word]}, not {value}")


def _check_record(record: Words, ino: int, used: Flags, names: set[bytes], blocks: int) -> None:
    """Whether a file's record can be true; its blocks are taken then."""

    def wrong(what: str) -> ImageError:
        return ImageError(f"file {ino} of its file system has {what}")

    raw = record[DI_NAME : DI_NAME + NAME_WORDS].tobytes()
    name = raw.rstrip(b"\0")
    if not name or len(name) == len(raw) or b"\0" in name or b"/" in name or name in names:
        raise wrong("no name of its own")
    names.add(name)
    count = int(record[DI_NR_EXTENTS])
    if record[DI_NLINK] != 1 or not 0 <= count <= MAX_EXTENTS:
        raise wrong(f"{record[DI_NLINK]} names and {count} extents")
    has = 0
    for extent in record[DI_EXTENTS : DI_EXTENTS + count].tolist():
        first, length = extent >> EXTENT_SHIFT, extent & EXTENT_LENGTH
        if first < 0 or length == 0 or first + length > blocks:
            raise wrong(f"blocks {first} to {first + length - 1}, which are not on the disk")
        if used[first : first + length].any():
            raise wrong(f"blocks {first} to {first + length - 1}, which are not its own")
        used[first : first + length] = True
        has += length
    if not 0 <= record[DI_SIZE] <= has << 12:
        raise wrong(f"{record[DI_SIZE]} bytes in {has} blocks")
    record[DI_EXTENTS + count : DI_EXTENTS + MAX_EXTENTS] = 0


def _put_right(disk: Words, used: Flags, itable: int, touched: Flags | None) -> None:
    """Bitmap and count say what the records say, and what is free is clear."""
    bits = np.ones((itable - 1) << 15, dtype=np.bool_)
    bits[: len(used)] = used
    disk[1:itable] = np.packbits(bits, bitorder="little").view(np.int64).reshape(-1, 512)
    disk[0, DS_FREE] = int((~used).sum())
    disk[_dirty(disk, ~used if touched is None else touched & ~used)] = 0
