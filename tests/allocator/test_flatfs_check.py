# SPDX-License-Identifier: GPL-2.0-only
"""A disk from outside is refused or made consistent, whatever is on it."""

from __future__ import annotations

import random

import numpy as np
import pytest

from allocator.errors import SystemCallError
from allocator.flatfs import (
    DI_EXTENTS,
    DI_NLINK,
    DI_NR_EXTENTS,
    DI_SIZE,
    DI_WORDS,
    DS_BITMAP,
    DS_FREE,
    DS_ITABLE,
    DS_MAGIC,
    DS_NR_BLOCKS,
    ORPHAN,
    first_data_block,
    fs_base,
)
from allocator.flatfs_check import MIN_BLOCKS, check_disk
from allocator.kernel import Kernel
from machine import ImageError
from tests.allocator.machines import boot

BLOCKS = 1024
TABLE = first_data_block(BLOCKS) - 64


@pytest.fixture(scope="module")
def good() -> np.ndarray:
    """A disk with three files."""
    kernel = boot("1x64M")
    kernel.mm_init()
    m = kernel.m
    base = fs_base(m)
    kernel.create_file("a", data=b"a" * 30000).close()
    kernel.create_file("b", data=b"b" * 5).close()
    kernel.create_file("c", 0).close()
    kernel.sync()
    whole = kernel.memory.rows[base >> 9 : (base >> 9) + 131072]
    disk = np.zeros((BLOCKS, 512), dtype=np.int64)
    # the same file system on a smaller disk: the records move to where its table is
    disk[0, DS_MAGIC], disk[0, DS_NR_BLOCKS] = whole[0, DS_MAGIC], BLOCKS
    disk[0, 2:6] = (1, TABLE, 1024, TABLE + 64)
    records = whole[int(whole[0, DS_ITABLE])].reshape(-1, DI_WORDS)
    target = disk[TABLE].reshape(-1, DI_WORDS)
    at = TABLE + 64
    for number in range(3):
        target[number] = records[number]
        for i in range(int(records[number, DI_NR_EXTENTS])):
            first, length = divmod(int(records[number, DI_EXTENTS + i]), 1 << 32)
            disk[at : at + length] = whole[first : first + length]
            target[number, DI_EXTENTS + i] = at << 32 | length
            at += length
    assert check_disk(disk, False)
    return disk


def record(disk: np.ndarray, number: int) -> np.ndarray:
    return disk[TABLE].reshape(-1, DI_WORDS)[number]


def mounted(disk: np.ndarray) -> Kernel:
    """A kernel whose files lie on the disk."""
    from allocator.kernel_globals import G_DISK_BLOCKS, G_STORAGE_START

    kernel = boot("1x64M")
    start = kernel.m[G_STORAGE_START] >> 9
    kernel.memory.rows[start : start + BLOCKS] = disk
    kernel.m[G_DISK_BLOCKS] = BLOCKS
    kernel.mm_init()
    return kernel


def test_a_sound_disk_stays_as_it_is(good: np.ndarray) -> None:
    disk = good.copy()
    assert check_disk(disk, False)
    assert (disk == good).all()
    kernel = mounted(disk)
    assert kernel.files == {"a": 30000, "b": 5, "c": 0}
    assert kernel.open_file("a").read() == b"a" * 30000


def test_blank_disks_may_be_formatted_and_nothing_else() -> None:
    blank = np.zeros((MIN_BLOCKS, 512), dtype=np.int64)
    assert not check_disk(blank, True)
    with pytest.raises(ImageError, match="no file system"):
        check_disk(blank, False)
    blank[-1, -1] = 1
    with pytest.raises(ImageError, match="no file system"):
        check_disk(blank, True)
    with pytest.raises(ImageError, match="too few"):
        check_disk(blank[1:], True)


def test_bitmap_free_count_and_free_blocks_are_made_right(good: np.ndarray) -> None:
    disk = good.copy()
    disk[1] = 0
    disk[0, DS_FREE] = -5
    disk[-3] = 9
    assert check_disk(disk, False)
    assert (disk == good).all()


def test_orphans_end(good: np.ndarray) -> None:
    disk = good.copy()
    free = disk[0, DS_FREE]
    blocks = sum(int(e) & 0xFFFFFFFF for e in record(disk, 0)[DI_EXTENTS:])
    record(disk, 0)[DI_NLINK] = ORPHAN
    assert check_disk(disk, False)
    assert not record(disk, 0).any()
    assert disk[0, DS_FREE] == free + blocks
    assert mounted(disk).files == {"b": 5, "c": 0}


@pytest.mark.parametrize(
    ("number", "word", "value", "why"),
    [
        (0, DI_SIZE, 1 << 40, "bytes in"),
        (0, DI_SIZE, -1, "bytes in"),
        (1, DI_NLINK, 2, "2 names"),
        (1, DI_NR_EXTENTS, 21, "21 extents"),
        (1, DI_NR_EXTENTS, -1, "-1 extents"),
        (1, DI_EXTENTS, 5000 << 32 | 20, "not on the disk"),
        (1, DI_EXTENTS, -1, "not on the disk"),
        (1, DI_EXTENTS, 70 << 32, "not on the disk"),
        (1, DI_EXTENTS, 2 << 32 | 1, "not its own"),
        (1, 0, ord("a"), "no name of its own"),
        (1, 0, 0, "no name of its own"),
        (1, 0, ord("/"), "no name of its own"),
        (1, 3, 5, "no name of its own"),
    ],
)
def test_a_record_that_cannot_be_true_is_refused(
    good: np.ndarray, number: int, word: int, value: int, why: str
) -> None:
    disk = good.copy()
    record(disk, number)[word] = value
    before = disk.copy()
    with pytest.raises(ImageError, match=why):
        check_disk(disk, False)
    assert (disk == before).all()


def test_a_superblock_of_another_disk_is_refused(good: np.ndarray) -> None:
    for word in (DS_NR_BLOCKS, DS_BITMAP, DS_ITABLE):
        disk = good.copy()
        disk[0, word] += 1
        with pytest.raises(ImageError, match="its file system has"):
            check_disk(disk, False)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_passes_can_be_used(good: np.ndarray, seed: int) -> None:
    dice = random.Random(seed)
    disk = good.copy()
    for _ in range(dice.randrange(1, 4)):
        block = dice.choice([0, 1, TABLE, TABLE, TABLE, TABLE + 1])
        word = dice.randrange(96 if block else 8)
        disk[block, word] ^= 1 << dice.randrange(63)
    try:
        check_disk(disk, False)
    except ImageError:
        return
    kernel = mounted(disk)
    for name in kernel.files:
        with kernel.open_file(name) as file:
            file.read()
            file.write(b"x" * 5000, 100)
            file.truncate(20000)
            file.fsync()
        kernel.unlink(name)
    with pytest.raises(SystemCallError, match="ENOSPC"):
        kernel.create_file("all", (BLOCKS - TABLE - 63) << 12)
