# SPDX-License-Identifier: GPL-2.0-only
"""Files as the kernel knows them: inodes, names, open files (include/linux/fs.h, dcache.h).

An *inode* is a file: its size, its place on the disk, and an address_space with the pages of it
that are in memory. A *dentry* is a name for one, kept after use until memory is wanted. A `struct
file` is an opening of it with a position and the state of its readahead. All come from slab caches
and refer to each other by direct map addresses.

References: a file counts for its inode, and so does a dentry. What nobody opens stays in memory on
lists of unused dentries and inodes, from which the shrinkers take (`dcache`). Where an inode's
blocks are and what its record on the disk looks like, `flatfs` knows.

Hot, as areas of processes hold files: `inode`, `file`, `dentry` are word indices.
"""

from __future__ import annotations

from .address_space import ADDRESS_SPACE, AS_I_MMAP
from .kernel_globals import G_SUPER_BLOCK
from .layout import PAGE_OFFSET
from .list_lru import list_lru_add
from .structs import Struct, array, list_head, scalar

ENOENT = 2
EIO = 5
EBADF = 9
ENOMEM = 12
EBUSY = 16
EEXIST = 17
EINVAL = 22
EFBIG = 27
ENOSPC = 28
EROFS = 30

NAME_BYTES = 55
NAME_WORDS = 7
MAX_EXTENTS = 20
EXTENT_SHIFT = 32

S_IFREG = 0o100000
S_IFBLK = 0o060000

# i_state
I_DIRTY_SYNC = 1 << 0
I_DIRTY_DATASYNC = 1 << 1
I_DIRTY_PAGES = 1 << 2
I_SYNC = 1 << 7
I_REFERENCED = 1 << 8
I_DIRTY = I_DIRTY_SYNC | I_DIRTY_DATASYNC | I_DIRTY_PAGES

FMODE_READ = 1
FMODE_WRITE = 2

INODE = Struct(
    "inode",
    [
        scalar("i_mode", "umode_t"),
        scalar("i_ino"),
        scalar("i_count", "atomic_t"),
        scalar("i_nlink", "unsigned int"),
        scalar("i_state"),
        scalar("i_size", "loff_t"),
        scalar("i_blocks", "blkcnt_t"),
        scalar("dirtied_when"),
        list_head("i_io_list"),
        list_head("i_lru"),
        list_head("i_sb_list"),
        scalar("i_bdev", "struct block_device *"),
        scalar("i_writecount", "atomic_t"),
        scalar("nr_extents"),
        array("extents", MAX_EXTENTS),
        ("i_data", "struct address_space", ADDRESS_SPACE, 1),
    ],
)
INODE_MODE = INODE["i_mode"]
INODE_INO = INODE["i_ino"]
INODE_COUNT = INODE["i_count"]
INODE_NLINK = INODE["i_nlink"]
INODE_STATE = INODE["i_state"]
INODE_SIZE = INODE["i_size"]
INODE_BLOCKS = INODE["i_blocks"]
INODE_DIRTIED_WHEN = INODE["dirtied_when"]
INODE_IO_LIST = INODE["i_io_list"]
INODE_LRU = INODE["i_lru"]
INODE_SB_LIST = INODE["i_sb_list"]
INODE_BDEV = INODE["i_bdev"]
INODE_WRITECOUNT = INODE["i_writecount"]
INODE_NR_EXTENTS = INODE["nr_extents"]
INODE_EXTENTS = INODE["extents"]
INODE_MAPPING = INODE["i_data"]

DENTRY = Struct(
    "dentry",
    [
        scalar("d_flags", "unsigned int"),
        scalar("d_count", "int"),
        scalar("d_inode", "struct inode *"),
        list_head("d_child"),
        list_head("d_lru"),
        array("d_name", NAME_WORDS, "char[56]"),
    ],
    words=24,
)
DENTRY_FLAGS = DENTRY["d_flags"]
DENTRY_COUNT = DENTRY["d_count"]
DENTRY_INODE = DENTRY["d_inode"]
DENTRY_CHILD = DENTRY["d_child"]
DENTRY_LRU = DENTRY["d_lru"]
DENTRY_NAME = DENTRY["d_name"]
DCACHE_REFERENCED = 0x40

FILE_RA_STATE = Struct(
    "file_ra_state",
    [
        scalar("start"),
        scalar("size", "unsigned int"),
        scalar("async_size", "unsigned int"),
        scalar("ra_pages", "unsigned int"),
        scalar("mmap_miss", "unsigned int"),
        scalar("prev_pos", "loff_t"),
    ],
)
RA_START = FILE_RA_STATE["start"]
RA_SIZE = FILE_RA_STATE["size"]
RA_ASYNC_SIZE = FILE_RA_STATE["async_size"]
RA_PAGES = FILE_RA_STATE["ra_pages"]
RA_MMAP_MISS = FILE_RA_STATE["mmap_miss"]
RA_PREV_POS = FILE_RA_STATE["prev_pos"]

FILE = Struct(
    "file",
    [
        scalar("f_mode", "fmode_t"),
        scalar("f_count", "atomic_long_t"),
        scalar("f_flags", "unsigned int"),
        scalar("f_pos", "loff_t"),
        scalar("f_inode", "struct inode *"),
        scalar("f_mapping", "struct address_space *"),
        scalar("f_dentry", "struct dentry *"),
        ("f_ra", "struct file_ra_state", FILE_RA_STATE, 1),
    ],
    words=32,
)
FILE_MODE = FILE["f_mode"]
FILE_COUNT = FILE["f_count"]
FILE_FLAGS = FILE["f_flags"]
FILE_POS = FILE["f_pos"]
FILE_INODE = FILE["f_inode"]
FILE_MAPPING = FILE["f_mapping"]
FILE_DENTRY = FILE["f_dentry"]
FILE_RA = FILE["f_ra"]

SUPER_BLOCK = Struct(
    "super_block",
    [
        scalar("s_bdev", "struct block_device *"),
        list_head("s_inodes"),
        list_head("s_dentries"),
        scalar("s_dentry_lru", "struct list_lru_node *"),
        scalar("s_inode_lru", "struct list_lru_node *"),
        scalar("nr_dentry"),
        scalar("nr_inodes"),
    ],
    words=16,
)
SB_BDEV = SUPER_BLOCK["s_bdev"]
SB_INODES = SUPER_BLOCK["s_inodes"]
SB_DENTRIES = SUPER_BLOCK["s_dentries"]
SB_DENTRY_LRU = SUPER_BLOCK["s_dentry_lru"]
SB_INODE_LRU = SUPER_BLOCK["s_inode_lru"]
SB_NR_DENTRY = SUPER_BLOCK["nr_dentry"]
SB_NR_INODES = SUPER_BLOCK["nr_inodes"]

BDI_WRITEBACK = Struct(
    "bdi_writeback",
    [
        list_head("b_dirty"),
        list_head("b_io"),
        list_head("b_more_io"),
        scalar("last_old_flush"),
        scalar("dwork_timer"),
        scalar("state"),
    ],
    words=16,
)
WB_DIRTY = BDI_WRITEBACK["b_dirty"]
WB_IO = BDI_WRITEBACK["b_io"]
WB_MORE_IO = BDI_WRITEBACK["b_more_io"]
WB_LAST_OLD_FLUSH = BDI_WRITEBACK["last_old_flush"]
WB_TIMER = BDI_WRITEBACK["dwork_timer"]
WB_STATE = BDI_WRITEBACK["state"]
WB_RUNNING = 1


def file_inode(m: memoryview, file: int) -> int:
    """The inode of an open file. Hot."""
    return (m[file + FILE_INODE] - PAGE_OFFSET) >> 3


def file_mapping(m: memoryview, file: int) -> int:
    """The address_space of an open file. Hot."""
    return (m[file + FILE_MAPPING] - PAGE_OFFSET) >> 3


def file_i_mmap(m: memoryview, file: int) -> int:
    """The word that holds the tree of areas which map the file (i_mmap). Hot."""
    return ((m[file + FILE_MAPPING] - PAGE_OFFSET) >> 3) + AS_I_MMAP


def file_mode(m: memoryview, file: int) -> int:
    """FMODE_READ and FMODE_WRITE bits. Hot."""
    return m[file + FILE_MODE]


def i_size_read(m: memoryview, inode: int) -> int:
    """Length of the file in bytes. Hot."""
    return m[inode + INODE_SIZE]


def get_file(m: memoryview, file: int) -> int:
    """One more reference to an open file: the file. Hot."""
    m[file + FILE_COUNT] += 1
    return file


def dget(m: memoryview, dentry: int) -> None:
    """One more user of a name. Hot."""
    m[dentry + DENTRY_COUNT] += 1


def dput(m: memoryview, dentry: int) -> None:
    """One user of a name less; unused ones stay, on the list that the shrinker takes from. Hot."""
    m[dentry + DENTRY_COUNT] -= 1
    if m[dentry + DENTRY_COUNT] == 0:
        sb = (m[G_SUPER_BLOCK] - PAGE_OFFSET) >> 3
        lru = (m[sb + SB_DENTRY_LRU] - PAGE_OFFSET) >> 3
        if not list_lru_add(m, lru, dentry + DENTRY_LRU):
            m[dentry + DENTRY_FLAGS] |= DCACHE_REFERENCED


def inode_add_lru(m: memoryview, inode: int) -> None:
    """An inode that nobody uses and that is clean becomes reclaimable. Hot."""
    if m[inode + INODE_COUNT] == 0 and m[inode + INODE_STATE] & (I_DIRTY | I_SYNC) == 0:
        sb = (m[G_SUPER_BLOCK] - PAGE_OFFSET) >> 3
        lru = (m[sb + SB_INODE_LRU] - PAGE_OFFSET) >> 3
        if not list_lru_add(m, lru, inode + INODE_LRU):
            m[inode + INODE_STATE] |= I_REFERENCED


def iput(m: memoryview, inode: int) -> None:
    """One reference to an inode less; unused ones stay in memory until it is wanted. Hot."""
    m[inode + INODE_COUNT] -= 1
    inode_add_lru(m, inode)
