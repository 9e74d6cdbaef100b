# SPDX-License-Identifier: GPL-2.0-only
"""Shared memory goes to swap, and comes back when an area of swap is given up (mm/shmem.c).

`shmem_writepage` is what reclaim calls for a dirty page that no page table maps any more: the page
moves from the page cache of its inode to the swap cache, its swap entry takes its place in the
xarray, and it is written. The slot's only user is that entry, which the swap map says by a count of
its own (SWAP_MAP_SHMEM). Inodes that have pages in swap are on `shmem_swaplist`, where swapoff
looks for the owner of a slot.

All hot: `p` is the word index of a struct page, `entry` a swap entry.
"""

from __future__ import annotations

from .address_space import AS_HOST, AS_I_PAGES, AS_NRPAGES
from .fs import INODE_MAPPING
from .gfp import GFP_HIGH_BIT, GFP_NOMEMALLOC_BIT, GFP_NOWARN_BIT
from .kernel_globals import G_SHMEM_INODES, G_SHMEM_SWAPLIST, G_TOTAL_SWAP_PAGES
from .layout import PAGE_OFFSET
from .list_head import list_add_tail, list_del, list_init
from .mm_types import P_INDEX, P_MAPPING
from .mmzone import NR_FILE_PAGES, NR_SHMEM
from .page_cache import next_cached
from .page_dirty import set_page_dirty
from .page_io import swap_writepage
from .pagevec import put_page_p
from .shmem import (
    SHMEM_SWAPLIST,
    SHMEM_SWAPPED,
    shmem_back_from_swap,
    shmem_recalc_inode,
    swp_to_radix_entry,
)
from .swap_cache import add_to_swap_cache
from .swap_map import put_swap_page, swap_shmem_alloc
from .swapfile import get_swap_page
from .truncate import LAST_INDEX
from .vmstat import mod_lruvec_page_state
from .xarray import xa_load, xa_store

EEXIST = 17


def swap_list_empty(m: memoryview, inode: int) -> bool:
    """True if an inode is not on the list of those with pages in swap. Hot."""
    node = inode + SHMEM_SWAPLIST
    return m[node] == PAGE_OFFSET + (node << 3)


def shmem_writepage(m: memoryview, cpu: int, p: int) -> bool:
    """Starts writing the locked, unmapped, just cleaned page to swap, and unlocks it. Hot.

    False, and the page is dirty and locked as before, where there is no room in swap.
    """
    mapping = (m[p + P_MAPPING] - PAGE_OFFSET) >> 3
    inode = (m[mapping + AS_HOST] - PAGE_OFFSET) >> 3
    entry = get_swap_page(m, cpu, p) if m[G_TOTAL_SWAP_PAGES] else 0
    if entry == 0:
        set_page_dirty(m, cpu, p)
        return False
    gfp = GFP_HIGH_BIT | GFP_NOMEMALLOC_BIT | GFP_NOWARN_BIT
    if add_to_swap_cache(m, cpu, p, entry, gfp):
        put_swap_page(m, cpu, p, entry)
        set_page_dirty(m, cpu, p)
        return False
    if swap_list_empty(m, inode):
        node = inode + SHMEM_SWAPLIST
        list_add_tail(m, node, PAGE_OFFSET + (node << 3), G_SHMEM_SWAPLIST)
    shmem_recalc_inode(m, inode)
    m[inode + SHMEM_SWAPPED] += 1
    swap_shmem_alloc(m, entry)
    xa_store(m, cpu, mapping + AS_I_PAGES, m[p + P_INDEX], swp_to_radix_entry(entry), 0)
    m[p + P_MAPPING] = 0
    m[mapping + AS_NRPAGES] -= 1
    mod_lruvec_page_state(m, cpu, p, NR_FILE_PAGES, -1)
    mod_lruvec_page_state(m, cpu, p, NR_SHMEM, -1)
    put_page_p(m, cpu, p)
    swap_writepage(m, cpu, p)
    return True


def find_swap_entry(m: memoryview, inode: int, entry: int) -> int:
    """The index at which an inode's xarray holds a swap entry, or -1. Hot."""
    mapping = inode + INODE_MAPPING
    value = swp_to_radix_entry(entry)
    index = next_cached(m, mapping, 0, LAST_INDEX)
    while index >= 0 and xa_load(m, mapping + AS_I_PAGES, index) != value:
        index = next_cached(m, mapping, index + 1, LAST_INDEX)
    return index


def shmem_unuse(m: memoryview, cpu: int, entry: int, p: int) -> int:
    """Moves the locked page of a slot that shared memory has to where it belongs: 0, -ENOMEM, or
    -EEXIST where nobody misses it. Hot."""
    if m[G_SHMEM_INODES] == 0:
        return -EEXIST
    va = m[G_SHMEM_SWAPLIST]
    while va != PAGE_OFFSET + (G_SHMEM_SWAPLIST << 3):
        inode = ((va - PAGE_OFFSET) >> 3) - SHMEM_SWAPLIST
        va = m[inode + SHMEM_SWAPLIST]
        if m[inode + SHMEM_SWAPPED] == 0:
            list_del(m, inode + SHMEM_SWAPLIST)
            list_init(m, inode + SHMEM_SWAPLIST)
            continue
        index = find_swap_entry(m, inode, entry)
        if index >= 0:
            return shmem_back_from_swap(m, cpu, p, inode, index)
    return -EEXIST
