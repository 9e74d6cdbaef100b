# SPDX-License-Identifier: GPL-2.0-only
"""What an address space may grow by: limits and overcommit (mm/mmap.c, mm/util.c).

Every mapping is held against the limits of its mm (all of it, data, locked memory, in bytes), and
private writable memory against what the machine could ever provide: overcommit mode 0 refuses only
what cannot possibly be served, 1 nothing, 2 what goes beyond a share of RAM plus swap.

All hot.
"""

from __future__ import annotations

from .kernel_globals import (
    G_COMMITTED_AS,
    G_NR_SWAP_PAGES,
    G_OVERCOMMIT,
    G_OVERCOMMIT_RATIO,
    G_TOTAL_SWAP_PAGES,
    G_TOTALRAM,
    G_TOTALRESERVE,
)
from .layout import NODE_DATA, PAGE_OFFSET
from .mm_struct import (
    MM_DATA_VM,
    MM_LOCKED_VM,
    MM_RLIM,
    MM_TOTAL_VM,
    RLIM_AS,
    RLIM_DATA,
    RLIM_MEMLOCK,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_SHARED,
    VM_WRITE,
)
from .mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    ND_VM_STAT,
    NR_FILE_PAGES,
    NR_SHMEM,
    NR_SLAB_RECLAIMABLE,
    Z_FREE_PAGES,
    ZONE_WORDS,
)

OVERCOMMIT_GUESS = 0
OVERCOMMIT_ALWAYS = 1
OVERCOMMIT_NEVER = 2


def may_expand_vm(m: memoryview, mm: int, flags: int, pages: int) -> bool:
    """True if the limits let the address space grow by `pages`. Hot."""
    if m[mm + MM_TOTAL_VM] + pages > m[mm + MM_RLIM + RLIM_AS] >> 12:
        return False
    if flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN) == VM_WRITE:
        return m[mm + MM_DATA_VM] + pages <= m[mm + MM_RLIM + RLIM_DATA] >> 12
    return True


def mlock_future_check(m: memoryview, mm: int, flags: int, length: int) -> bool:
    """True if locking `length` more bytes is within the limit, or nothing is to be locked. Hot."""
    if flags & VM_LOCKED == 0:
        return True
    return m[mm + MM_LOCKED_VM] + (length >> 12) <= m[mm + MM_RLIM + RLIM_MEMLOCK] >> 12


def guessed_free_pages(m: memoryview) -> int:
    """Pages that are free or could be made so, as OVERCOMMIT_GUESS reckons. Hot."""
    free = m[G_NR_SWAP_PAGES]
    for nid in range(MAX_NUMNODES):
        va = m[NODE_DATA + nid]
        if va:
            nd = (va - PAGE_OFFSET) >> 3
            for zid in range(MAX_NR_ZONES):
                free += m[nd + zid * ZONE_WORDS + Z_FREE_PAGES]
            # shared memory can only be swapped out
            free += m[nd + ND_VM_STAT + NR_FILE_PAGES] - m[nd + ND_VM_STAT + NR_SHMEM]
            free += m[nd + ND_VM_STAT + NR_SLAB_RECLAIMABLE]
    return free


def vm_enough_memory(m: memoryview, pages: int) -> bool:
    """Commits `pages` if the overcommit policy allows it. Hot (__vm_enough_memory)."""
    m[G_COMMITTED_AS] += pages
    mode = m[G_OVERCOMMIT]
    if mode == OVERCOMMIT_ALWAYS:
        return True
    if mode == OVERCOMMIT_GUESS:
        if guessed_free_pages(m) - m[G_TOTALRESERVE] > max(pages, 0):
            return True
    else:
        allowed = m[G_TOTALRAM] * m[G_OVERCOMMIT_RATIO] // 100 + m[G_TOTAL_SWAP_PAGES]
        if m[G_COMMITTED_AS] < allowed:
            return True
    m[G_COMMITTED_AS] -= pages
    return False
