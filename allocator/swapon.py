# SPDX-License-Identifier: GPL-2.0-only
"""Making a block device a swap area, and beginning to use it (mkswap, and swapon of mm/swapfile.c).

The first page of the device is the area's header: a version, the last page, and a signature at its
end. `swapon` reads and checks it, makes the swap map and an address space for every 64 MiB, and
gives the area a priority: the caller's, or one below all that were given so.

Called once an area, from the side of the host. `bdev` is the word index of a block_device.
"""

from __future__ import annotations

from .address_space import (
    ADDRESS_SPACE_WORDS,
    AOPS_SWAP,
    AS_A_OPS,
    AS_I_PAGES,
    SI_SPACES,
    SWAP_ADDRESS_SPACE_SHIFT,
    SWAP_INFO_WORDS,
    swap_info,
)
from .blockdev import BD_NR_BLOCKS, BD_START_WORD, bdev_read_page
from .gfp import GFP_KERNEL, GFP_ZERO_BIT
from .kernel_globals import (
    G_LEAST_PRIORITY,
    G_NR_CPU_IDS,
    G_NR_ROTATE_SWAP,
    G_NR_SWAP_PAGES,
    G_NR_SWAPFILES,
    G_SWAP_INFO,
    G_SWAP_SLOTS,
    G_SWAPIN_HITS,
    G_TOTAL_SWAP_PAGES,
)
from .layout import PAGE_OFFSET, SECTION_PAGES
from .mm_types import PG_LOCKED
from .page_alloc import alloc_pages_nodemask, free_pages
from .pagevec import put_page_p
from .swap_map import (
    SC_WORDS,
    SI_BDEV,
    SI_CLUSTER_NEXT,
    SI_CLUSTER_NR,
    SI_FLAGS,
    SI_HIGHEST,
    SI_INUSE,
    SI_LOWEST,
    SI_MAP,
    SI_MAX,
    SI_PAGES,
    SI_PRIO,
    SI_TYPE,
    SLOTS_A_WORD,
    SWAP_MAP_BAD,
    SWP_USED,
    SWP_WRITEOK,
    set_slot_usage,
)
from .swapops import MAX_SWAPFILES
from .xarray import XA_FLAGS_LOCK_IRQ, xa_init

SIGNATURE = b"SWAPSPACE2"
HEADER_VERSION = 128
"""Word of the header with version (low half) and last page (high half), behind the boot bits."""
MAGIC_OFFSET = 4096 - len(SIGNATURE)
MIN_SWAP_PAGES = 10
MAX_SLOTS = 512 << 10 << 2
"""A swap map is one block of the page allocator: 8 GiB an area."""
EPERM, ENOMEM, EBUSY, EINVAL = 1, 12, 16, 22


def swapfile_init(m: memoryview, cpu: int) -> int:  # noqa: ARG001
    """The variables of swap before there is any (their initialisers in mm/swapfile.c): 0."""
    m[G_LEAST_PRIORITY] = -1
    m[G_SWAPIN_HITS] = 4
    return 0


def mkswap(m: memoryview, bdev: int) -> int:
    """Writes a swap header onto a device: the area's size in pages, or -EINVAL if it is too small.

    It goes to the disk at once, as by a program that runs before the machine.
    """
    pages = m[bdev + BD_NR_BLOCKS]
    if pages < MIN_SWAP_PAGES:
        return -EINVAL
    at = m[bdev + BD_START_WORD]
    for i in range(512):
        m[at + i] = 0
    m[at + HEADER_VERSION] = 1 | (pages - 1) << 32
    tail = bytes(6) + SIGNATURE
    m[at + 510] = int.from_bytes(tail[:8], "little", signed=True)
    m[at + 511] = int.from_bytes(tail[8:], "little", signed=True)
    return pages - 1


def read_swap_header(m: memoryview, pfn: int, bdev: int) -> int:
    """The number of slots that the header in frame `pfn` promises, 0 if it is none."""
    at = pfn << 9
    tail = (m[at + 510] & (1 << 64) - 1) | (m[at + 511] & (1 << 64) - 1) << 64
    if tail.to_bytes(16, "little")[6:] != SIGNATURE:
        return 0
    version, last = m[at + HEADER_VERSION] & 0xFFFFFFFF, m[at + HEADER_VERSION] >> 32 & 0xFFFFFFFF
    if version != 1 or last == 0 or last + 1 > m[bdev + BD_NR_BLOCKS]:
        return 0
    return min(last + 1, MAX_SLOTS)


def alloc_block(m: memoryview, cpu: int, words: int) -> int:
    """Zeroed memory of so many words: a word index, 0 without memory. Its order: block_order()."""
    pfn = alloc_pages_nodemask(m, cpu, GFP_KERNEL | GFP_ZERO_BIT, block_order(words), 0, 0)
    return pfn << 9 if pfn >= 0 else 0


def free_block(m: memoryview, cpu: int, at: int, words: int) -> None:
    """Gives memory of alloc_block() back."""
    free_pages(m, cpu, at >> 9, block_order(words))


def block_order(words: int) -> int:
    """The order of the block that holds so many words."""
    return ((words - 1) >> 9).bit_length()


def space_words(slots: int) -> int:
    """Words of the address spaces for so many slots."""
    return (((slots - 1) >> SWAP_ADDRESS_SPACE_SHIFT) + 1) * ADDRESS_SPACE_WORDS


def setup_tables(m: memoryview, cpu: int) -> bool:
    """The table of areas and the CPUs' slot caches, made with the first area; False: no memory."""
    if m[G_SWAP_INFO]:
        return True
    table = alloc_block(m, cpu, MAX_SWAPFILES * SWAP_INFO_WORDS)
    slots = alloc_block(m, cpu, m[G_NR_CPU_IDS] * SC_WORDS) if table else 0
    if slots == 0:
        if table:
            free_block(m, cpu, table, MAX_SWAPFILES * SWAP_INFO_WORDS)
        return False
    m[G_SWAP_INFO] = PAGE_OFFSET + (table << 3)
    m[G_SWAP_SLOTS] = PAGE_OFFSET + (slots << 3)
    return True


def alloc_swap_info(m: memoryview) -> int:
    """A type that is not in use, or -EPERM if all 29 are."""
    for kind in range(m[G_NR_SWAPFILES]):
        if m[swap_info(m, kind) + SI_FLAGS] & SWP_USED == 0:
            return kind
    if m[G_NR_SWAPFILES] == MAX_SWAPFILES:
        return -EPERM
    m[G_NR_SWAPFILES] += 1
    return m[G_NR_SWAPFILES] - 1


def is_swap_device(m: memoryview, bdev: int) -> bool:
    """True if the device is in use as a swap area."""
    va = PAGE_OFFSET + (bdev << 3)
    for kind in range(m[G_NR_SWAPFILES]):
        si = swap_info(m, kind)
        if m[si + SI_FLAGS] & SWP_USED and m[si + SI_BDEV] == va:
            return True
    return False


def header_slots(m: memoryview, cpu: int, bdev: int) -> int:
    """Reads the device's header: its number of slots, -EINVAL or -ENOMEM."""
    pfn = alloc_pages_nodemask(m, cpu, GFP_KERNEL, 0, 0, 0)
    if pfn < 0:
        return -ENOMEM
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    m[p] |= PG_LOCKED
    slots = read_swap_header(m, pfn, bdev) if bdev_read_page(m, cpu, bdev, 0, p) else 0
    put_page_p(m, cpu, p)
    return slots if slots > 1 else -EINVAL


def swapon(m: memoryview, cpu: int, bdev: int, prio: int = -1) -> int:
    """Begins to use a device as swap: its type, or a negative errno.

    `prio` from 0 to 32767, or -1 for one below all others. -EBUSY: it is in use; -EINVAL: it
    bears no swap header; -EPERM: there are 29 areas; -ENOMEM.
    """
    if not -1 <= prio <= 0x7FFF:
        return -EINVAL
    if not setup_tables(m, cpu):
        return -ENOMEM
    if is_swap_device(m, bdev):
        return -EBUSY
    slots = header_slots(m, cpu, bdev)
    if slots < 0:
        return slots
    kind = alloc_swap_info(m)
    if kind < 0:
        return kind
    si = swap_info(m, kind)
    table = alloc_block(m, cpu, (slots + SLOTS_A_WORD - 1) // SLOTS_A_WORD)
    spaces = alloc_block(m, cpu, space_words(slots)) if table else 0
    if spaces == 0:
        if table:
            free_block(m, cpu, table, (slots + SLOTS_A_WORD - 1) // SLOTS_A_WORD)
        return -ENOMEM
    for at in range(spaces, spaces + space_words(slots), ADDRESS_SPACE_WORDS):
        xa_init(m, at + AS_I_PAGES, XA_FLAGS_LOCK_IRQ)
        m[at + AS_A_OPS] = AOPS_SWAP
    if prio < 0:
        m[G_LEAST_PRIORITY] -= 1
        prio = m[G_LEAST_PRIORITY]
    for field, value in (
        (SI_PRIO, prio),
        (SI_TYPE, kind),
        (SI_MAX, slots),
        (SI_PAGES, slots - 1),
        (SI_MAP, PAGE_OFFSET + (table << 3)),
        (SI_LOWEST, 1),
        (SI_HIGHEST, slots - 1),
        (SI_INUSE, 0),
        (SI_CLUSTER_NEXT, 1),
        (SI_CLUSTER_NR, 0),
        (SI_BDEV, PAGE_OFFSET + (bdev << 3)),
        (SI_SPACES, PAGE_OFFSET + (spaces << 3)),
        (SI_FLAGS, SWP_USED | SWP_WRITEOK),
    ):
        m[si + field] = value
    set_slot_usage(m, si, 0, SWAP_MAP_BAD)
    m[G_NR_SWAP_PAGES] += slots - 1
    m[G_TOTAL_SWAP_PAGES] += slots - 1
    m[G_NR_ROTATE_SWAP] += 1
    return kind
