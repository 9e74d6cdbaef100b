# SPDX-License-Identifier: GPL-2.0-only
"""The swap cache: pages in memory that have a slot of swap (mm/swap_state.c, the lower half).

An anonymous page is in the swap cache from when reclaim gives it a slot, or from when it is read
back, until nobody needs the slot any more. It is found by its swap entry in the address space of
its piece of the swap area; PG_swapcache is set and `private` holds the entry, while mapping and
index stay what they were for the anonymous page. The cache holds a reference.

All hot. `p` is a locked page. Huge pages have no place here: an area without clusters, as on a disk
that seeks, gives them no slots, so that they are split first.
"""

from __future__ import annotations

from .address_space import AS_I_PAGES, AS_NRPAGES, swap_address_space
from .kernel_globals import G_SWAP_CACHE_INFO
from .layout import VMEMMAP_START
from .mm_inline import PG_SWAPCACHE, page_node, page_to_pfn, va_to_page
from .mm_types import P_COUNTS, P_PRIVATE, PG_DIRTY, REF_ONE
from .mmzone import NR_FILE_PAGES
from .swap_map import put_swap_page
from .swapops import swp_offset
from .vmstat import mod_node_page_state
from .xarray import xa_erase, xa_err, xa_load, xa_store

CACHE_ADD_TOTAL = G_SWAP_CACHE_INFO
CACHE_DEL_TOTAL = G_SWAP_CACHE_INFO + 1
CACHE_FIND_SUCCESS = G_SWAP_CACHE_INFO + 2
CACHE_FIND_TOTAL = G_SWAP_CACHE_INFO + 3


def find_swap_page(m: memoryview, entry: int) -> int:
    """The page of a swap entry, with no new reference; 0 if none is cached. Hot."""
    space = swap_address_space(m, entry)
    return va_to_page(m, xa_load(m, space + AS_I_PAGES, swp_offset(entry)))


def add_to_swap_cache(m: memoryview, cpu: int, p: int, entry: int, gfp: int) -> int:
    """Puts a page into the cache under `entry`, with a reference: 0 or -ENOMEM. Hot."""
    space = swap_address_space(m, entry)
    va = VMEMMAP_START + (page_to_pfn(m, p) << 6)
    error = xa_err(xa_store(m, cpu, space + AS_I_PAGES, swp_offset(entry), va, gfp))
    if error:
        return error
    m[p + P_COUNTS] += REF_ONE
    m[p] |= PG_SWAPCACHE
    m[p + P_PRIVATE] = entry
    m[space + AS_NRPAGES] += 1
    mod_node_page_state(m, cpu, page_node(m, p), NR_FILE_PAGES, 1)
    m[CACHE_ADD_TOTAL] += 1
    return 0


def delete_from_swap_cache_only(m: memoryview, cpu: int, p: int, entry: int) -> None:
    """Takes a page out of the cache; slot and reference stay (__delete_from_swap_cache). Hot."""
    space = swap_address_space(m, entry)
    xa_erase(m, cpu, space + AS_I_PAGES, swp_offset(entry))
    m[p + P_PRIVATE] = 0
    m[p] &= ~PG_SWAPCACHE
    m[space + AS_NRPAGES] -= 1
    mod_node_page_state(m, cpu, page_node(m, p), NR_FILE_PAGES, -1)
    m[CACHE_DEL_TOTAL] += 1


def delete_from_swap_cache(m: memoryview, cpu: int, p: int) -> None:
    """Takes a page out of the cache, its slot and the cache's reference with it. Hot.

    The caller has a reference of its own.
    """
    entry = m[p + P_PRIVATE]
    delete_from_swap_cache_only(m, cpu, p, entry)
    put_swap_page(m, cpu, p, entry)
    m[p + P_COUNTS] -= REF_ONE


def free_swap_of(m: memoryview, cpu: int, p: int) -> None:
    """delete_from_swap_cache() of a page whose bytes are then only in memory: dirty. Hot."""
    delete_from_swap_cache(m, cpu, p)
    m[p] |= PG_DIRTY
