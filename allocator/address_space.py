# SPDX-License-Identifier: GPL-2.0-only
"""`struct address_space`: the pages of one object, a file or a piece of swap (include/linux/fs.h).

The pages are in an xarray by their offset, the areas that map them in an interval tree. What can be
done to the pages is told by `a_ops`, here a small number. A page finds its address space through
`mapping`, but for anonymous pages, whose address space, while they are in the swap cache, is that
of their swap slot: 64 MiB of a swap area have one address space.

All hot. `mapping` is the word index of an address_space, 0 for none.
"""

from __future__ import annotations

from .kernel_globals import G_SWAP_INFO
from .layout import PAGE_OFFSET
from .list_head import va_word
from .mm_inline import PG_SWAPCACHE, compound_head
from .mm_types import P_INDEX, P_MAPPING, P_PRIVATE, PAGE_MAPPING_ANON, PAGE_MAPPING_FLAGS, PG_SLAB
from .structs import Struct, scalar
from .swapops import swp_offset, swp_type
from .xarray import XARRAY

ADDRESS_SPACE = Struct(
    "address_space",
    [
        scalar("host", "struct inode *"),
        ("i_pages", "struct xarray", XARRAY, 1),
        scalar("gfp_mask", "gfp_t"),
        scalar("i_mmap_writable", "atomic_t"),
        scalar("i_mmap", "struct rb_root"),
        scalar("nrpages"),
        scalar("nrexceptional"),
        scalar("writeback_index"),
        scalar("a_ops", "int"),
        scalar("flags"),
    ],
    words=16,
)
AS_HOST = ADDRESS_SPACE["host"]
AS_I_PAGES = ADDRESS_SPACE["i_pages"]
AS_GFP = ADDRESS_SPACE["gfp_mask"]
AS_I_MMAP_WRITABLE = ADDRESS_SPACE["i_mmap_writable"]
AS_I_MMAP = ADDRESS_SPACE["i_mmap"]
AS_NRPAGES = ADDRESS_SPACE["nrpages"]
AS_NREXCEPTIONAL = ADDRESS_SPACE["nrexceptional"]
AS_WRITEBACK_INDEX = ADDRESS_SPACE["writeback_index"]
AS_A_OPS = ADDRESS_SPACE["a_ops"]
AS_FLAGS = ADDRESS_SPACE["flags"]
ADDRESS_SPACE_WORDS = ADDRESS_SPACE.words

# flags
AS_EIO = 1 << 0

# a_ops
AOPS_NONE = 0
AOPS_FILE = 1
AOPS_SWAP = 2
AOPS_SHMEM = 3

# One swap area (include/linux/swap.h); swapfile.py says what they mean.
SWAP_INFO = Struct(
    "swap_info_struct",
    [
        scalar("flags"),
        scalar("prio", "signed short"),
        scalar("type", "signed char"),
        scalar("max", "unsigned int"),
        scalar("pages", "unsigned int"),
        scalar("swap_map", "unsigned char *"),
        scalar("lowest_bit", "unsigned int"),
        scalar("highest_bit", "unsigned int"),
        scalar("inuse_pages", "unsigned int"),
        scalar("cluster_next", "unsigned int"),
        scalar("cluster_nr", "unsigned int"),
        scalar("bdev", "struct block_device *"),
        scalar("spaces", "struct address_space *"),
        scalar("avail_stamp"),
    ],
    words=16,
)
SI_SPACES = SWAP_INFO["spaces"]
SWAP_INFO_WORDS = SWAP_INFO.words
SWAP_ADDRESS_SPACE_SHIFT = 14


def mapping_set_error(m: memoryview, mapping: int) -> None:
    """Remembers that bytes of the object were lost, for who asks next. Hot."""
    m[mapping + AS_FLAGS] |= AS_EIO


def filemap_check_errors(m: memoryview, mapping: int) -> bool:
    """True if bytes of the object were lost since the last time that somebody asked. Hot."""
    lost = m[mapping + AS_FLAGS] & AS_EIO != 0
    m[mapping + AS_FLAGS] &= ~AS_EIO
    return lost


def swap_info(m: memoryview, kind: int) -> int:
    """Word index of the swap area of type `kind`. Hot."""
    return (m[G_SWAP_INFO] - PAGE_OFFSET >> 3) + kind * SWAP_INFO_WORDS


def swap_address_space(m: memoryview, entry: int) -> int:
    """The address space of a swap entry's slot. Hot."""
    si = swap_info(m, swp_type(entry))
    first = (m[si + SI_SPACES] - PAGE_OFFSET) >> 3
    return first + (swp_offset(entry) >> SWAP_ADDRESS_SPACE_SHIFT) * ADDRESS_SPACE_WORDS


def page_mapping(m: memoryview, p: int) -> int:
    """The address space of a page, of its swap slot for one in the swap cache; 0: none. Hot."""
    p = compound_head(m, p)
    flags = m[p]
    if flags & PG_SLAB:
        return 0
    if flags & PG_SWAPCACHE:
        return swap_address_space(m, m[p + P_PRIVATE])
    mapping = m[p + P_MAPPING]
    if mapping & PAGE_MAPPING_ANON:
        return 0
    mapping &= ~PAGE_MAPPING_FLAGS
    return va_word(m, mapping) if mapping else 0


def page_file_index(m: memoryview, p: int) -> int:
    """The page's offset (pages) in its address space; of a swap cache page, its slot. Hot."""
    if m[p] & PG_SWAPCACHE:
        return swp_offset(m[p + P_PRIVATE])
    return m[p + P_INDEX]


def page_rmapping(m: memoryview, p: int) -> int:
    """What a page's `mapping` points to, without its flags; 0 for nothing (page_rmapping). Hot."""
    return m[compound_head(m, p) + P_MAPPING] & ~PAGE_MAPPING_FLAGS
