# SPDX-License-Identifier: GPL-2.0-only
"""Giving a swap area up: everything in it comes back into memory (swapoff of mm/swapfile.c).

No new slots are given out. Slot by slot the page is read, and every process that names the slot
gets the page mapped instead, aged and read-only until it writes, or the shared memory that has the
slot gets the page back; the page loses its slot and is dirty. Processes that may have swap entries
are on `mmlist`. If memory runs out the area is taken into use again, with what is left in it.

Called from the side of the host; `si` is the word index of a swap_info_struct.
"""

from __future__ import annotations

from .address_space import SI_SPACES, SWAP_INFO_WORDS, swap_info
from .blockdev import lock_page_wait, wait_on_page_writeback
from .gfp import GFP_HIGHUSER_MOVABLE
from .kernel_globals import (
    G_LEAST_PRIORITY,
    G_MMLIST,
    G_NR_ROTATE_SWAP,
    G_NR_SWAP_PAGES,
    G_NR_SWAPFILES,
    G_SWAP_SLOTS_ACTIVE,
    G_TOTAL_SWAP_PAGES,
)
from .layout import PAGE_OFFSET
from .mm_inline import PG_SWAPCACHE, page_to_pfn, unlock_page
from .mm_struct import (
    MM_ANONPAGES,
    MM_MMAP,
    MM_MMLIST,
    MM_RSS,
    MM_SWAPENTS,
    VMA_ANON_VMA,
    VMA_END,
    VMA_MM,
    VMA_NEXT,
    VMA_PROT,
    VMA_START,
)
from .mm_types import P_COUNTS, P_MAPPING, P_PRIVATE, PG_UPTODATE, PG_WRITEBACK, REF_ONE
from .pagevec import put_page_p
from .pgtable import PMD_SIZE, PTE_A, mk_pte, mm_find_pte
from .rmap import page_add_anon_rmap
from .rmap_walk import page_address_in_vma
from .shmem_swap import shmem_unuse
from .swap import activate_page
from .swap_cache import free_swap_of
from .swap_map import (
    SI_FLAGS,
    SI_MAP,
    SI_MAX,
    SI_PAGES,
    SI_PRIO,
    SLOTS_A_WORD,
    SLOTS_DISABLED,
    SWAP_HAS_CACHE,
    SWAP_MAP_BAD,
    SWAP_MAP_SHMEM,
    SWP_USED,
    SWP_WRITEOK,
    drain_swap_slots,
    slot_usage,
    swap_free,
    swp_swapcount,
)
from .swap_state import read_swap_cache_async
from .swapon import free_block, space_words
from .swapops import swp_entry, swp_entry_to_pte

EIO, ENOMEM, EINVAL = 5, 12, 22


def unuse_pte(m: memoryview, cpu: int, vma: int, at: int, entry: int, p: int) -> None:
    """Maps page `p` at user address `at`, where a swap entry names its slot."""
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    m[mm + MM_RSS + MM_SWAPENTS] -= 1
    m[mm + MM_RSS + MM_ANONPAGES] += 1
    m[p + P_COUNTS] += REF_ONE
    m[mm_find_pte(m, mm, at)] = mk_pte(page_to_pfn(m, p), m[vma + VMA_PROT]) & ~PTE_A
    page_add_anon_rmap(m, cpu, p, vma, at, 0)
    swap_free(m, cpu, entry)
    activate_page(m, cpu, p)


def find_entry(m: memoryview, vma: int, pte: int) -> int:
    """The user address in `vma` whose entry is `pte`, or -1."""
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    at = m[vma + VMA_START]
    while at < m[vma + VMA_END]:
        stop = min(at // PMD_SIZE * PMD_SIZE + PMD_SIZE, m[vma + VMA_END])
        first = mm_find_pte(m, mm, at)
        if first:
            for w in range(first, first + (stop - at >> 12)):
                if m[w] == pte:
                    return at + (w - first << 12)
        at = stop
    return -1


def unuse_mm(m: memoryview, cpu: int, mm: int, entry: int, p: int) -> None:
    """Maps page `p` wherever an address space names its slot."""
    pte = swp_entry_to_pte(entry)
    va = m[mm + MM_MMAP]
    while va:
        vma = (va - PAGE_OFFSET) >> 3
        if m[vma + VMA_ANON_VMA]:
            if m[p + P_MAPPING]:
                at = page_address_in_vma(m, p, vma)
                w = mm_find_pte(m, mm, at) if at >= 0 else 0
                at = at if w and m[w] == pte else -1
            else:
                at = find_entry(m, vma, pte)
            if at >= 0:
                unuse_pte(m, cpu, vma, at, entry, p)
        va = m[vma + VMA_NEXT]


def unuse_slot(m: memoryview, cpu: int, entry: int) -> int:
    """Brings the page of a slot back to all who name it: 0, -ENOMEM, -EIO if it is unreadable."""
    p = read_swap_cache_async(m, cpu, entry, GFP_HIGHUSER_MOVABLE, 0, 0)
    if p == 0:
        return -ENOMEM if swp_swapcount(m, entry) else 0
    lock_page_wait(m, cpu, p)
    error = 0
    if m[p] & PG_WRITEBACK:
        wait_on_page_writeback(m, cpu, p)
    if m[p] & PG_UPTODATE == 0:
        error = -EIO
    elif m[p] & PG_SWAPCACHE and m[p + P_PRIVATE] == entry:
        if swp_swapcount(m, entry) == SWAP_MAP_SHMEM:
            error = shmem_unuse(m, cpu, entry, p)
            unlock_page(m, p)
            put_page_p(m, cpu, p)
            return error if error == -ENOMEM else 0
        node = m[G_MMLIST]
        while swp_swapcount(m, entry) and node != PAGE_OFFSET + (G_MMLIST << 3):
            mm = ((node - PAGE_OFFSET) >> 3) - MM_MMLIST
            unuse_mm(m, cpu, mm, entry, p)
            node = m[mm + MM_MMLIST]
        if swp_swapcount(m, entry) == 0:
            free_swap_of(m, cpu, p)
    unlock_page(m, p)
    put_page_p(m, cpu, p)
    return error


def try_to_unuse(m: memoryview, cpu: int, kind: int) -> int:
    """unuse_slot() for all used slots of an area: 0, -ENOMEM or -EIO."""
    si = swap_info(m, kind)
    for offset in range(1, m[si + SI_MAX]):
        usage = slot_usage(m, si, offset)
        if usage and usage != SWAP_MAP_BAD:
            error = unuse_slot(m, cpu, swp_entry(kind, offset))
            # without the CPUs' caches a slot that nobody uses is free at once
            left = slot_usage(m, si, offset) & ~SWAP_HAS_CACHE
            if error or left:
                return error or -ENOMEM
    return 0


def swapoff(m: memoryview, cpu: int, kind: int) -> int:
    """Ends the use of the swap area of type `kind`: 0, -EINVAL if it is none, -ENOMEM, -EIO.

    After an error the area is in use as before.
    """
    if not 0 <= kind < m[G_NR_SWAPFILES]:
        return -EINVAL
    si = swap_info(m, kind)
    if m[si + SI_FLAGS] & (SWP_USED | SWP_WRITEOK) != SWP_USED | SWP_WRITEOK:
        return -EINVAL
    pages = m[si + SI_PAGES]
    m[G_NR_SWAP_PAGES] -= pages
    m[G_TOTAL_SWAP_PAGES] -= pages
    m[si + SI_FLAGS] &= ~SWP_WRITEOK
    m[G_SWAP_SLOTS_ACTIVE] = SLOTS_DISABLED
    drain_swap_slots(m)
    error = try_to_unuse(m, cpu, kind)
    m[G_SWAP_SLOTS_ACTIVE] = 0
    if error:
        m[si + SI_FLAGS] |= SWP_WRITEOK
        m[G_NR_SWAP_PAGES] += pages
        m[G_TOTAL_SWAP_PAGES] += pages
        return error
    close_ranks(m, m[si + SI_PRIO])
    m[G_NR_ROTATE_SWAP] -= 1
    words = (m[si + SI_MAX] + SLOTS_A_WORD - 1) // SLOTS_A_WORD
    free_block(m, cpu, (m[si + SI_MAP] - PAGE_OFFSET) >> 3, words)
    spaces = (m[si + SI_SPACES] - PAGE_OFFSET) >> 3
    free_block(m, cpu, spaces, space_words(m[si + SI_MAX]))
    for i in range(SWAP_INFO_WORDS):
        m[si + i] = 0
    return 0


def close_ranks(m: memoryview, prio: int) -> None:
    """Areas below one of priority `prio` that goes, which nobody chose, move up by one."""
    if prio >= 0:
        return
    m[G_LEAST_PRIORITY] += 1
    for kind in range(m[G_NR_SWAPFILES]):
        other = swap_info(m, kind)
        if m[other + SI_FLAGS] & SWP_USED and m[other + SI_PRIO] < prio:
            m[other + SI_PRIO] += 1
