# SPDX-License-Identifier: GPL-2.0-only
"""A small file system for the modelled disk: one directory, files of a few extents.

Blocks are pages of 4 KiB. Block 0 says what follows: a bitmap of the blocks in use, the table of
inodes, 16 a block, and data. An inode's record on the disk holds its name, size and extents, each
(first block << 32 | blocks), in the order of the file; a file has a block for each of its pages,
and fresh blocks read as zeroes, because blocks are cleared when they are freed (as a disk that
trims does). Records are read and written in place; only data goes through queues and page cache.

`ino` counts from 1. `base` is the word index of block 0. All hot but mounting.
"""

from __future__ import annotations

from .blockdev import BD_NR_BLOCKS, BD_START_WORD, mark_block
from .fs import (
    EFBIG,
    ENOSPC,
    EXTENT_SHIFT,
    INODE_BLOCKS,
    INODE_EXTENTS,
    INODE_INO,
    INODE_NLINK,
    INODE_NR_EXTENTS,
    INODE_SIZE,
    MAX_EXTENTS,
    NAME_WORDS,
    SB_BDEV,
)
from .kernel_globals import G_SUPER_BLOCK
from .layout import EMPTY_ZERO_PAGE, PAGE_OFFSET
from .structs import Struct, array, scalar

FLATFS_MAGIC = int.from_bytes(b"flatfs\0\0", "little")
NR_DISK_INODES = 1024
RECORDS_PER_BLOCK = 16
EXTENT_LENGTH = (1 << EXTENT_SHIFT) - 1
ALL_USED = -1
ORPHAN = -1
"""A record's `nlink` while its file is in use without a name."""
PREALLOC_MIN = 16
PREALLOC_MAX = 4096

DISK_SUPER = Struct(
    "flatfs_super_block",
    [
        scalar("magic"),
        scalar("nr_blocks"),
        scalar("bitmap_start"),
        scalar("itable_start"),
        scalar("nr_inodes"),
        scalar("data_start"),
        scalar("free_blocks"),
    ],
)
DS_MAGIC = DISK_SUPER["magic"]
DS_NR_BLOCKS = DISK_SUPER["nr_blocks"]
DS_BITMAP = DISK_SUPER["bitmap_start"]
DS_ITABLE = DISK_SUPER["itable_start"]
DS_NR_INODES = DISK_SUPER["nr_inodes"]
DS_DATA = DISK_SUPER["data_start"]
DS_FREE = DISK_SUPER["free_blocks"]

DISK_INODE = Struct(
    "flatfs_inode",
    [
        array("name", NAME_WORDS, "char[56]"),
        scalar("size"),
        scalar("nlink"),
        scalar("nr_extents"),
        array("extents", MAX_EXTENTS),
    ],
    words=32,
)
DI_NAME = DISK_INODE["name"]
DI_SIZE = DISK_INODE["size"]
DI_NLINK = DISK_INODE["nlink"]
DI_NR_EXTENTS = DISK_INODE["nr_extents"]
DI_EXTENTS = DISK_INODE["extents"]
DI_WORDS = DISK_INODE.words


def first_data_block(blocks: int) -> int:
    """Where the blocks of files begin on a disk of so many blocks."""
    return 1 + ((blocks + 32767) >> 15) + NR_DISK_INODES // RECORDS_PER_BLOCK


def fs_changed(m: memoryview, base: int, w: int) -> None:
    """Word `w` of the mounted disk was written in place. Hot."""
    sb = (m[G_SUPER_BLOCK] - PAGE_OFFSET) >> 3
    mark_block(m, (m[sb + SB_BDEV] - PAGE_OFFSET) >> 3, (w - base) >> 9)


def fs_base(m: memoryview) -> int:
    """Word index of block 0 of the mounted disk. Hot."""
    sb = (m[G_SUPER_BLOCK] - PAGE_OFFSET) >> 3
    return m[((m[sb + SB_BDEV] - PAGE_OFFSET) >> 3) + BD_START_WORD]


def flatfs_mount(m: memoryview, bdev: int) -> None:
    """Takes the file system on the disk as it is, or makes an empty one where there is none."""
    base = m[bdev + BD_START_WORD]
    blocks = m[bdev + BD_NR_BLOCKS]
    if m[base + DS_MAGIC] == FLATFS_MAGIC and m[base + DS_NR_BLOCKS] == blocks:
        return
    bitmap_blocks = (blocks + 32767) >> 15
    itable = 1 + bitmap_blocks
    data = first_data_block(blocks)
    for block in range(data):
        at = base + (block << 9)
        m[at : at + 512] = m[EMPTY_ZERO_PAGE : EMPTY_ZERO_PAGE + 512]
        fs_changed(m, base, at)
    m[base + DS_NR_BLOCKS] = blocks
    m[base + DS_BITMAP] = 1
    m[base + DS_ITABLE] = itable
    m[base + DS_NR_INODES] = NR_DISK_INODES
    m[base + DS_DATA] = data
    m[base + DS_FREE] = blocks
    take_blocks(m, base, 0, data)
    # bits behind the end of the disk are never free
    for block in range(blocks, bitmap_blocks << 15):
        set_used(m, base, block, True)
    m[base + DS_MAGIC] = FLATFS_MAGIC


# --- blocks ---------------------------------------------------------------------------------------
def set_used(m: memoryview, base: int, block: int, used: bool) -> None:
    """Marks one block in the bitmap. Hot."""
    w = base + (m[base + DS_BITMAP] << 9) + (block >> 6)
    bit = 1 << (block & 63) if block & 63 < 63 else -(1 << 63)
    m[w] = m[w] | bit if used else m[w] & ~bit
    fs_changed(m, base, w)


def is_used(m: memoryview, base: int, block: int) -> bool:
    """True if a block is taken. Hot."""
    return m[base + (m[base + DS_BITMAP] << 9) + (block >> 6)] >> (block & 63) & 1 != 0


def take_blocks(m: memoryview, base: int, first: int, count: int) -> None:
    """Takes a run of blocks. Hot."""
    block = first
    while block < first + count:
        if block & 63 == 0 and first + count - block >= 64:
            w = base + (m[base + DS_BITMAP] << 9) + (block >> 6)
            m[w] = ALL_USED
            fs_changed(m, base, w)
            block += 64
        else:
            set_used(m, base, block, True)
            block += 1
    m[base + DS_FREE] -= count
    fs_changed(m, base, base)


def release_blocks(m: memoryview, base: int, first: int, count: int) -> None:
    """Gives a run of blocks back, cleared. Hot."""
    for block in range(first, first + count):
        set_used(m, base, block, False)
        at = base + (block << 9)
        m[at : at + 512] = m[EMPTY_ZERO_PAGE : EMPTY_ZERO_PAGE + 512]
        fs_changed(m, base, at)
    m[base + DS_FREE] += count
    fs_changed(m, base, base)


def find_run(m: memoryview, base: int, wanted: int) -> int:
    """The first free run of `wanted` blocks, or the longest: first << 32 | blocks; 0: none. Hot."""
    bitmap = base + (m[base + DS_BITMAP] << 9)
    blocks = m[base + DS_NR_BLOCKS]
    best = 0
    first = -1
    block = m[base + DS_DATA]
    while block < blocks:
        word = m[bitmap + (block >> 6)]
        step = 64 if block & 63 == 0 and word in (0, ALL_USED) else 1
        if word >> (block & 63) & 1:
            first = -1
        else:
            if first < 0:
                first = block
            length = min(block + step, blocks) - first
            if length >= wanted:
                return first << EXTENT_SHIFT | wanted
            if length > best & EXTENT_LENGTH:
                best = first << EXTENT_SHIFT | length
        block += step
    return best


def flatfs_block(m: memoryview, inode: int, index: int) -> int:
    """The disk block of page `index` of a file, -1 behind its last block. Hot (get_block)."""
    for i in range(m[inode + INODE_NR_EXTENTS]):
        extent = m[inode + INODE_EXTENTS + i]
        length = extent & EXTENT_LENGTH
        if index < length:
            return (extent >> EXTENT_SHIFT) + index
        index -= length
    return -1


def flatfs_grow(m: memoryview, inode: int, pages: int) -> int:
    """Gives a file blocks for so many pages: 0, -ENOSPC or -EFBIG and it has those it had. Hot."""
    base = fs_base(m)
    before = m[inode + INODE_BLOCKS]
    if pages - before > m[base + DS_FREE]:
        return -ENOSPC
    while m[inode + INODE_BLOCKS] < pages:
        missing = pages - m[inode + INODE_BLOCKS]
        n = m[inode + INODE_NR_EXTENTS]
        last = inode + INODE_EXTENTS + n - 1
        if n:
            # best right behind what it has
            nxt = (m[last] >> EXTENT_SHIFT) + (m[last] & EXTENT_LENGTH)
            got = 0
            while got < missing and nxt + got < m[base + DS_NR_BLOCKS]:
                if is_used(m, base, nxt + got):
                    break
                got += 1
            if got:
                take_blocks(m, base, nxt, got)
                m[last] += got
                m[inode + INODE_BLOCKS] += got
                continue
        run = find_run(m, base, missing) if n < MAX_EXTENTS else 0
        if run == 0:
            flatfs_shrink(m, inode, before)
            return -EFBIG
        take_blocks(m, base, run >> EXTENT_SHIFT, run & EXTENT_LENGTH)
        m[last + 1] = run
        m[inode + INODE_NR_EXTENTS] = n + 1
        m[inode + INODE_BLOCKS] += run & EXTENT_LENGTH
    return 0


def flatfs_reserve(m: memoryview, inode: int, pages: int) -> int:
    """flatfs_grow() of a file that is being written, with as much again ahead of it where there is
    room, so that files that grow side by side stay in few pieces. Hot."""
    before = m[inode + INODE_BLOCKS]
    ahead = before + min(max(before, PREALLOC_MIN), PREALLOC_MAX)
    if ahead > pages and flatfs_grow(m, inode, ahead) == 0:
        return 0
    return flatfs_grow(m, inode, pages)


def flatfs_shrink(m: memoryview, inode: int, pages: int) -> None:
    """Takes from a file what it has beyond so many blocks. Hot."""
    base = fs_base(m)
    while m[inode + INODE_BLOCKS] > pages:
        last = inode + INODE_EXTENTS + m[inode + INODE_NR_EXTENTS] - 1
        length = m[last] & EXTENT_LENGTH
        cut = min(m[inode + INODE_BLOCKS] - pages, length)
        release_blocks(m, base, (m[last] >> EXTENT_SHIFT) + length - cut, cut)
        m[last] -= cut
        m[inode + INODE_BLOCKS] -= cut
        if cut == length:
            m[last] = 0
            m[inode + INODE_NR_EXTENTS] -= 1


def clear_bytes(m: memoryview, w: int, start: int, end: int) -> None:
    """Zeroes bytes [start, end) behind word `w`. Hot."""
    while start < end:
        at = w + (start >> 3)
        if start & 7 == 0 and end - start >= 8:
            m[at] = 0
            start += 8
        else:
            shift = (start & 7) << 3
            m[at] -= m[at] >> shift << shift & 0xFF << shift if shift < 56 else m[at] >> 56 << 56
            start += 1


def flatfs_clear_tail(m: memoryview, inode: int, size: int) -> None:
    """Clears what the disk holds behind byte `size` in that byte's block. Hot."""
    block = flatfs_block(m, inode, size >> 12)
    if size & 4095 and block >= 0:
        base = fs_base(m)
        clear_bytes(m, base + (block << 9), size & 4095, 4096)
        fs_changed(m, base, base + (block << 9))


# --- records --------------------------------------------------------------------------------------
def disk_inode(m: memoryview, ino: int) -> int:
    """Word index of an inode's record on the disk. Hot."""
    base = fs_base(m)
    return base + (m[base + DS_ITABLE] << 9) + (ino - 1) * DI_WORDS


def write_inode(m: memoryview, inode: int) -> None:
    """Puts size and extents into the record on the disk. Hot."""
    d = disk_inode(m, m[inode + INODE_INO])
    m[d + DI_SIZE] = m[inode + INODE_SIZE]
    m[d + DI_NLINK] = m[inode + INODE_NLINK] or ORPHAN
    m[d + DI_NR_EXTENTS] = m[inode + INODE_NR_EXTENTS]
    for i in range(MAX_EXTENTS):
        m[d + DI_EXTENTS + i] = m[inode + INODE_EXTENTS + i]
    fs_changed(m, fs_base(m), d)


def read_inode(m: memoryview, inode: int) -> None:
    """Fills an inode that has its number in from the record on the disk. Hot."""
    d = disk_inode(m, m[inode + INODE_INO])
    m[inode + INODE_SIZE] = m[d + DI_SIZE]
    m[inode + INODE_NLINK] = m[d + DI_NLINK]
    m[inode + INODE_NR_EXTENTS] = m[d + DI_NR_EXTENTS]
    blocks = 0
    for i in range(MAX_EXTENTS):
        m[inode + INODE_EXTENTS + i] = m[d + DI_EXTENTS + i]
        blocks += m[d + DI_EXTENTS + i] & EXTENT_LENGTH
    m[inode + INODE_BLOCKS] = blocks


def names_equal(m: memoryview, a: int, b: int) -> bool:
    """True if the names of NAME_WORDS words at words `a` and `b` are the same. Hot."""
    for i in range(NAME_WORDS):
        if m[a + i] != m[b + i]:
            return False
    return True


def find_record(m: memoryview, name: int) -> int:
    """Number of the file whose name lies at word `name`, 0 if there is none. Hot."""
    for ino in range(1, NR_DISK_INODES + 1):
        d = disk_inode(m, ino)
        if m[d + DI_NLINK] and names_equal(m, d + DI_NAME, name):
            return ino
    return 0


def new_record(m: memoryview, name: int) -> int:
    """An empty file with the name at word `name`: its number, or 0 if the table is full. Hot."""
    for ino in range(1, NR_DISK_INODES + 1):
        d = disk_inode(m, ino)
        if m[d + DI_NLINK] == 0:
            for i in range(DI_WORDS):
                m[d + i] = 0
            for i in range(NAME_WORDS):
                m[d + DI_NAME + i] = m[name + i]
            m[d + DI_NLINK] = 1
            fs_changed(m, fs_base(m), d)
            return ino
    return 0


def orphan_record(m: memoryview, inode: int) -> None:
    """Takes the name out of the record of a file in use; the record stays taken. Hot."""
    write_inode(m, inode)
    d = disk_inode(m, m[inode + INODE_INO])
    for i in range(NAME_WORDS):
        m[d + DI_NAME + i] = 0


def clear_record(m: memoryview, ino: int) -> None:
    """Ends the record of a file that has no blocks. Hot."""
    d = disk_inode(m, ino)
    for i in range(DI_WORDS):
        m[d + i] = 0
    fs_changed(m, fs_base(m), d)
