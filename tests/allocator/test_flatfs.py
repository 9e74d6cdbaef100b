# SPDX-License-Identifier: GPL-2.0-only
"""The disk's file system: blocks belong to one file at most, records survive."""

from __future__ import annotations

import random

import pytest

from allocator.flatfs import (
    DS_FREE,
    DS_NR_BLOCKS,
    EXTENT_LENGTH,
    NR_DISK_INODES,
    clear_bytes,
    find_record,
    find_run,
    flatfs_block,
    flatfs_grow,
    flatfs_mount,
    flatfs_reserve,
    flatfs_shrink,
    fs_base,
    is_used,
    new_record,
    read_inode,
    take_blocks,
    write_inode,
)
from allocator.fs import (
    EFBIG,
    ENOSPC,
    EXTENT_SHIFT,
    INODE_BLOCKS,
    INODE_INO,
    INODE_NR_EXTENTS,
    INODE_SIZE,
    MAX_EXTENTS,
    SB_BDEV,
)
from allocator.kernel_globals import G_SUPER_BLOCK
from allocator.layout import word_of_va
from tests.allocator.disk import Disk
from tests.allocator.tiny import SCRATCH_WORD


def blocks_of(disk: Disk, file: int) -> list[int]:
    """The blocks of a file in its order."""
    m, inode = disk.m, disk.inode(file)
    return [flatfs_block(m, inode, i) for i in range(m[inode + INODE_BLOCKS])]


def test_files_share_no_block_and_all_come_back() -> None:
    disk = Disk()
    m, rng = disk.m, random.Random(3)
    base = fs_base(m)
    free = m[base + DS_FREE]
    files = [disk.file(f"f{i}") for i in range(6)]
    for _ in range(200):
        file = rng.choice(files)
        inode = disk.inode(file)
        pages = rng.randrange(200)
        if pages > m[inode + INODE_BLOCKS]:
            assert flatfs_reserve(m, inode, pages) == 0
            assert m[inode + INODE_BLOCKS] >= pages
        else:
            flatfs_shrink(m, inode, pages)
            assert m[inode + INODE_BLOCKS] == pages
        owned = [block for file in files for block in blocks_of(disk, file)]
        assert len(owned) == len(set(owned))
        assert all(is_used(m, base, block) for block in owned)
        assert m[base + DS_FREE] == free - len(owned)
    for file in files:
        flatfs_shrink(m, disk.inode(file), 0)
        assert m[disk.inode(file) + INODE_NR_EXTENTS] == 0
    assert m[base + DS_FREE] == free


def test_a_file_grows_in_place_while_it_can() -> None:
    disk = Disk()
    m = disk.m
    a, b = disk.file("a"), disk.file("b")
    assert flatfs_grow(m, disk.inode(a), 3) == 0
    assert flatfs_grow(m, disk.inode(a), 7) == 0
    assert m[disk.inode(a) + INODE_NR_EXTENTS] == 1
    assert flatfs_grow(m, disk.inode(b), 2) == 0
    assert flatfs_grow(m, disk.inode(a), 9) == 0
    assert m[disk.inode(a) + INODE_NR_EXTENTS] == 2
    first = blocks_of(disk, a)
    assert first[:7] == list(range(first[0], first[0] + 7))
    assert flatfs_block(m, disk.inode(a), 9) == -1


def test_a_full_disk_and_too_many_pieces_are_refused_without_loss() -> None:
    disk = Disk()
    m = disk.m
    base = fs_base(m)
    file = disk.file("f")
    inode = disk.inode(file)
    assert flatfs_grow(m, inode, m[base + DS_FREE] + 1) == -ENOSPC
    assert m[inode + INODE_BLOCKS] == 0
    # nothing but every other block is left
    for block in range(m[base + DS_NR_BLOCKS]):
        if block % 2 and not is_used(m, base, block):
            take_blocks(m, base, block, 1)
    free = m[base + DS_FREE]
    assert flatfs_grow(m, inode, MAX_EXTENTS) == 0
    assert m[inode + INODE_NR_EXTENTS] == MAX_EXTENTS
    assert flatfs_grow(m, inode, MAX_EXTENTS + 1) == -EFBIG
    assert m[inode + INODE_BLOCKS] == MAX_EXTENTS
    assert m[base + DS_FREE] == free - MAX_EXTENTS


def test_the_first_run_that_fits_is_taken_else_the_longest() -> None:
    disk = Disk()
    m = disk.m
    base = fs_base(m)
    start = find_run(m, base, 1) >> EXTENT_SHIFT
    take_blocks(m, base, start + 5, 3)
    assert find_run(m, base, 4) == start << EXTENT_SHIFT | 4
    assert find_run(m, base, 6) >> EXTENT_SHIFT == start + 8
    everything = find_run(m, base, 1 << 30)
    assert everything >> EXTENT_SHIFT == start + 8
    assert everything & EXTENT_LENGTH == m[base + DS_NR_BLOCKS] - start - 8


def test_records_are_found_by_name_and_hold_length_and_extents() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("kept")
    inode = disk.inode(file)
    flatfs_grow(m, inode, 5)
    m[inode + INODE_SIZE] = 20_000
    before = blocks_of(disk, file)
    write_inode(m, inode)
    m[inode + INODE_SIZE] = 0
    flatfs_extent_lost = m[inode + INODE_BLOCKS]
    m[inode + INODE_BLOCKS] = 0
    read_inode(m, inode)
    assert m[inode + INODE_SIZE] == 20_000
    assert m[inode + INODE_BLOCKS] == flatfs_extent_lost
    assert blocks_of(disk, file) == before
    assert find_record(m, disk.name("kept")) == m[inode + INODE_INO]
    assert find_record(m, disk.name("absent")) == 0


def test_the_table_of_files_has_an_end() -> None:
    disk = Disk()
    for i in range(NR_DISK_INODES):
        assert new_record(disk.m, disk.name(f"n{i}")) == i + 1
    assert new_record(disk.m, disk.name("one more")) == 0


def test_a_disk_with_a_file_system_is_taken_as_it_is() -> None:
    disk = Disk()
    m = disk.m
    new_record(m, disk.name("there"))
    bdev = word_of_va(m[word_of_va(m[G_SUPER_BLOCK]) + SB_BDEV])
    flatfs_mount(m, bdev)
    assert find_record(m, disk.name("there")) == 1


@pytest.mark.parametrize(("start", "end"), [(0, 8), (0, 16), (3, 5), (1, 30), (15, 17), (7, 8)])
def test_bytes_are_cleared_to_the_byte(start: int, end: int) -> None:
    disk = Disk()
    memory = disk.memory
    at = SCRATCH_WORD << 3
    memory.bytes[at : at + 32] = b"\xff" * 32
    clear_bytes(disk.m, SCRATCH_WORD, start, end)
    assert bytes(memory.bytes[at : at + 32]) == b"\xff" * start + bytes(end - start) + b"\xff" * (
        32 - end
    )
