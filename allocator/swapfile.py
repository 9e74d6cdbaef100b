# SPDX-License-Identifier: GPL-2.0-only
"""Swap areas: finding free slots, and giving slots back that are not needed (mm/swapfile.c).

Slots are given out in runs of 256 from the lowest free run on, then one by one where any is free,
so that pages that are swapped out together lie together on the disk. Areas are asked by priority,
those of one priority in turn. When more than half of all swap is used, slots whose pages are in
memory are taken away from them.

`swapon` and `swapoff` are in swapon.py and swapoff.py, the counts of a slot's users in swap_map.py.
All hot. `si` is the word index of a swap_info_struct.
"""

from __future__ import annotations

from .address_space import swap_info
from .kernel_globals import G_NR_SWAP_PAGES, G_NR_SWAPFILES, G_SWAP_AVAIL_STAMP
from .mm_inline import (
    PG_DOUBLE_MAP,
    PG_SWAPCACHE,
    atomic_s32,
    compound_head,
    compound_mapcount,
    hpage_nr_pages,
    page_mapped,
    trylock_page,
    unlock_page,
)
from .mm_types import P_COUNTS, P_PRIVATE, PG_HEAD, PG_WRITEBACK, REF_ONE
from .pagevec import put_page_p
from .swap_cache import find_swap_page, free_swap_of
from .swap_map import (
    SC_CUR,
    SC_GOT,
    SC_NR,
    SC_SLOTS,
    SI_AVAIL_STAMP,
    SI_CLUSTER_NEXT,
    SI_CLUSTER_NR,
    SI_FLAGS,
    SI_HIGHEST,
    SI_INUSE,
    SI_LOWEST,
    SI_PAGES,
    SI_PRIO,
    SI_TYPE,
    SWAP_BATCH,
    SWAP_HAS_CACHE,
    SWAPFILE_CLUSTER,
    SWP_WRITEOK,
    check_cache_active,
    set_slot_usage,
    slot_put,
    slot_usage,
    slots_cache,
    swap_info_get,
    swap_range_alloc,
    swp_swapcount,
)
from .swap_map import put_swap_page as put_swap_page
from .swap_map import swap_duplicate as swap_duplicate
from .swap_map import swap_free as swap_free
from .swap_map import vm_swap_full as vm_swap_full
from .swapops import non_swap_entry, swp_entry, swp_offset

TTRS_ANYWAY = 0x1
TTRS_UNMAPPED = 0x2
TTRS_FULL = 0x4


# --- giving slots back ----------------------------------------------------------------------------
def page_swapped(m: memoryview, p: int) -> bool:
    """True if page-table entries name the slot of swap cache page `p`. Hot."""
    return swp_swapcount(m, m[p + P_PRIVATE]) != 0


def try_to_free_swap(m: memoryview, cpu: int, p: int) -> bool:
    """Frees the slot of locked page `p` if only the page itself still needs it; True if so. Hot."""
    p = compound_head(m, p)
    if m[p] & PG_SWAPCACHE == 0 or m[p] & PG_WRITEBACK or page_swapped(m, p):
        return False
    free_swap_of(m, cpu, p)
    return True


def try_to_reclaim_swap(m: memoryview, cpu: int, si: int, offset: int, flags: int) -> bool:
    """Takes a slot away from its page in memory; True if it worked (__try_to_reclaim_swap). Hot.

    TTRS_ANYWAY; or TTRS_UNMAPPED: if no page table maps the page; TTRS_FULL: if swap is full.
    """
    p = find_swap_page(m, swp_entry(m[si + SI_TYPE], offset))
    if p == 0:
        return False
    m[p + P_COUNTS] += REF_ONE
    freed = False
    if trylock_page(m, p):
        if (
            flags & TTRS_ANYWAY
            or (flags & TTRS_UNMAPPED and not page_mapped(m, p))
            or (flags & TTRS_FULL and vm_swap_full(m))
        ):
            freed = try_to_free_swap(m, cpu, p)
        unlock_page(m, p)
    put_page_p(m, cpu, p)
    return freed


def free_swap_and_cache(m: memoryview, cpu: int, entry: int) -> bool:
    """One page-table entry less names the slot; a cached page that nobody maps goes too. Hot.

    False if the entry names no slot.
    """
    if non_swap_entry(entry):
        return True
    si = swap_info_get(m, entry)
    if si == 0:
        return False
    offset = swp_offset(entry)
    if slot_put(m, cpu, si, offset, 1) == SWAP_HAS_CACHE:
        try_to_reclaim_swap(m, cpu, si, offset, TTRS_UNMAPPED | TTRS_FULL)
    return True


def page_map_swapcount(m: memoryview, p: int) -> int:
    """Mappings of page `p`, and page-table entries that name its slot. Hot.

    Of a huge page, those of the small page that has most. (page_trans_huge_map_swapcount)
    """
    head = compound_head(m, p)
    if m[head] & PG_HEAD == 0:
        count = atomic_s32(m[p + P_COUNTS]) + 1
        return count + swp_swapcount(m, m[p + P_PRIVATE]) if m[p] & PG_SWAPCACHE else count
    most = 0
    for i in range(hpage_nr_pages(m, head)):
        most = max(most, atomic_s32(m[head + 8 * i + P_COUNTS]) + 1)
    if m[head + 8] & PG_DOUBLE_MAP:
        most -= 1
    return most + compound_mapcount(m, head)


def reuse_swap_page(m: memoryview, cpu: int, p: int) -> bool:
    """True if nobody else has locked page `p`: no need to copy it; frees its slot. Hot."""
    count = page_map_swapcount(m, p)
    if count == 1 and m[p] & PG_SWAPCACHE and m[p] & PG_WRITEBACK == 0:
        free_swap_of(m, cpu, p)
    return count <= 1


# --- taking slots ---------------------------------------------------------------------------------
def find_cluster(m: memoryview, si: int) -> int:
    """The first run of 256 free slots of an area, or -1. Hot."""
    first = m[si + SI_LOWEST]
    offset = first
    while offset <= m[si + SI_HIGHEST]:
        if slot_usage(m, si, offset):
            first = offset + 1
        elif offset - first == SWAPFILE_CLUSTER - 1:
            return first
        offset += 1
    return -1


def next_free_slot(m: memoryview, cpu: int, si: int, first: int, last: int) -> int:
    """The first slot in [first, last] that is free or can be taken from its page; -1: none. Hot."""
    full = vm_swap_full(m)
    for offset in range(first, last + 1):
        usage = slot_usage(m, si, offset)
        if usage == 0:
            return offset
        if full and usage == SWAP_HAS_CACHE:
            if try_to_reclaim_swap(m, cpu, si, offset, TTRS_ANYWAY):
                if slot_usage(m, si, offset) == 0:
                    return offset
    return -1


def first_slot(m: memoryview, cpu: int, si: int) -> int:
    """The slot that the next page of this area gets, or -1. Hot."""
    base = m[si + SI_CLUSTER_NEXT]
    m[si + SI_CLUSTER_NR] -= 1
    if m[si + SI_CLUSTER_NR] < 0:
        m[si + SI_CLUSTER_NR] = SWAPFILE_CLUSTER - 1
        if m[si + SI_PAGES] - m[si + SI_INUSE] >= SWAPFILE_CLUSTER:
            found = find_cluster(m, si)
            if found >= 0:
                m[si + SI_CLUSTER_NEXT] = found
                return found
            base = m[si + SI_LOWEST]
    if m[si + SI_FLAGS] & SWP_WRITEOK == 0 or m[si + SI_HIGHEST] == 0:
        return -1
    if base > m[si + SI_HIGHEST]:
        base = m[si + SI_LOWEST]
    offset = next_free_slot(m, cpu, si, base, m[si + SI_HIGHEST])
    if offset < 0:
        offset = next_free_slot(m, cpu, si, m[si + SI_LOWEST], base - 1)
    return offset


def scan_swap_map_slots(m: memoryview, cpu: int, si: int, nr: int, out: int) -> int:
    """Takes up to `nr` slots of an area, one behind the other; how many, entries at `out`. Hot."""
    if m[si + SI_FLAGS] & SWP_WRITEOK == 0 or m[si + SI_HIGHEST] == 0:
        return 0
    offset = first_slot(m, cpu, si)
    taken = 0
    while offset >= 0:
        set_slot_usage(m, si, offset, SWAP_HAS_CACHE)
        swap_range_alloc(m, si, offset)
        m[si + SI_CLUSTER_NEXT] = offset + 1
        m[out + taken] = swp_entry(m[si + SI_TYPE], offset)
        taken += 1
        offset += 1
        if taken == nr or offset > m[si + SI_HIGHEST]:
            break
        if m[si + SI_CLUSTER_NR] <= 0 or slot_usage(m, si, offset):
            break
        m[si + SI_CLUSTER_NR] -= 1
    return taken


def next_area(m: memoryview, tried: int) -> int:
    """The area to ask next, `tried` being a mask of types; -1 for none. Hot.

    The highest priority first, of several the one that was not asked for longest.
    """
    best = -1
    for kind in range(m[G_NR_SWAPFILES]):
        si = swap_info(m, kind)
        if tried >> kind & 1 or m[si + SI_FLAGS] & SWP_WRITEOK == 0 or m[si + SI_HIGHEST] == 0:
            continue
        if best < 0:
            best = kind
            continue
        ahead = m[si + SI_PRIO] - m[swap_info(m, best) + SI_PRIO]
        if ahead == 0:
            ahead = m[swap_info(m, best) + SI_AVAIL_STAMP] - m[si + SI_AVAIL_STAMP]
        if ahead > 0:
            best = kind
    return best


def get_swap_pages(m: memoryview, cpu: int, goal: int, out: int) -> int:
    """Takes up to `goal` slots for the swap cache; how many, entries at word `out`. Hot."""
    goal = min(goal, SWAP_BATCH, m[G_NR_SWAP_PAGES])
    if goal <= 0:
        return 0
    m[G_NR_SWAP_PAGES] -= goal
    taken = 0
    tried = 0
    kind = next_area(m, tried)
    while kind >= 0 and taken == 0:
        si = swap_info(m, kind)
        m[G_SWAP_AVAIL_STAMP] += 1
        m[si + SI_AVAIL_STAMP] = m[G_SWAP_AVAIL_STAMP]
        taken = scan_swap_map_slots(m, cpu, si, goal, out)
        tried |= 1 << kind
        kind = next_area(m, tried)
    m[G_NR_SWAP_PAGES] += goal - taken
    return taken


def get_swap_page(m: memoryview, cpu: int, p: int) -> int:
    """A slot for page `p`: its swap entry, or 0. A huge page gets none. Hot."""
    if m[p] & PG_HEAD or m[G_NR_SWAPFILES] == 0:
        return 0
    cache = slots_cache(m, cpu)
    if check_cache_active(m):
        if m[cache + SC_NR] == 0:
            m[cache + SC_CUR] = 0
            m[cache + SC_NR] = get_swap_pages(m, cpu, SWAP_BATCH, cache + SC_SLOTS)
        if m[cache + SC_NR]:
            entry = m[cache + SC_SLOTS + m[cache + SC_CUR]]
            m[cache + SC_CUR] += 1
            m[cache + SC_NR] -= 1
            return entry
    return m[cache + SC_GOT] if get_swap_pages(m, cpu, 1, cache + SC_GOT) else 0
