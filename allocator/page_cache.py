# SPDX-License-Identifier: GPL-2.0-only
"""The page cache itself: putting pages of files in, finding them, taking them out (mm/filemap.c).

A page in the cache belongs to an address_space (`mapping`, `index`) and is counted in NR_FILE_PAGES
of its node; the cache holds one reference to it. What is evicted may leave a value in its place,
its shadow, which tells when the page was last used.

All hot: `mapping` is the word index of an address_space, `p` of a struct page. `filemap` reads and
writes through it, `truncate` and reclaim take from it.
"""

from __future__ import annotations

from .address_space import AS_GFP, AS_I_PAGES, AS_NREXCEPTIONAL, AS_NRPAGES
from .blockdev import lock_page_wait
from .cpuset import cpuset_mem_spread_node
from .gfp import GFP_WRITE_BIT
from .kernel_globals import G_STATIC_KEYS, KEY_MEMCG_KMEM
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    PAGE_OFFSET,
    PFA_SPREAD_PAGE,
    SECTION_PAGES,
    TASK_ATOMIC_FLAGS,
    TASK_MEM_SPREAD_ROTOR,
)
from .memcg_charge import mem_cgroup_charge, mem_cgroup_uncharge
from .mempolicy import alloc_pages_current
from .mm_inline import (
    get_page_p,
    page_va_of,
    unlock_page,
    va_to_page,
)
from .mm_types import (
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    PG_ACTIVE,
    PG_DIRTY,
    PG_LOCKED,
    PG_SWAPBACKED,
)
from .mmzone import NR_FILE_PAGES, NR_SHMEM
from .page_alloc import alloc_pages_nodemask
from .page_dirty import account_page_cleaned
from .pagevec import put_page_p
from .swap import lru_cache_add
from .vmstat import mod_lruvec_page_state
from .workingset import workingset_refault
from .xarray import XA_PRESENT, xa_err, xa_find, xa_init_marks, xa_load, xa_store

EEXIST = 17
ENOMEM = 12


def page_cache_alloc(m: memoryview, cpu: int, mapping: int, gfp: int) -> int:
    """A frame for a page of the file: its struct page, or 0. Hot (__page_cache_alloc).

    It comes from where the task's policy says, or, where its cpuset spreads page cache, from the
    nodes in turn. `gfp` is added to what the mapping asks for.
    """
    gfp |= m[mapping + AS_GFP]
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    if m[task + TASK_ATOMIC_FLAGS] & PFA_SPREAD_PAGE:
        nid = cpuset_mem_spread_node(m, cpu, TASK_MEM_SPREAD_ROTOR)
        pfn = alloc_pages_nodemask(m, cpu, gfp, 0, nid, 0)
    else:
        pfn = alloc_pages_current(m, cpu, gfp, 0)
    return m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3) if pfn >= 0 else 0


def find_get_page(m: memoryview, mapping: int, index: int) -> int:
    """The page at `index` with a reference, 0 if it is not in memory. Hot."""
    entry = xa_load(m, mapping + AS_I_PAGES, index)
    if entry == 0 or entry & 1:
        return 0
    p = va_to_page(m, entry)
    get_page_p(m, p)
    return p


def find_lock_page(m: memoryview, cpu: int, mapping: int, index: int) -> int:
    """find_get_page(), locked. Hot."""
    p = find_get_page(m, mapping, index)
    if p and not lock_page_wait(m, cpu, p):
        put_page_p(m, cpu, p)
        return 0
    return p


def add_to_page_cache_locked(
    m: memoryview, cpu: int, p: int, mapping: int, index: int, gfp: int
) -> int:
    """Puts the locked page into the cache: the shadow that was there (or 0), -EEXIST where there is
    a page, -ENOMEM. Hot (__add_to_page_cache_locked).

    A shadow is an odd positive number, so it cannot be taken for an error.
    """
    xa = mapping + AS_I_PAGES
    old = xa_load(m, xa, index)
    if old and old & 1 == 0:
        return -EEXIST
    if m[G_STATIC_KEYS] & KEY_MEMCG_KMEM and mem_cgroup_charge(m, cpu, p, gfp):
        return -ENOMEM
    # reclaim for a node may have taken the shadow: what counts is what was replaced
    old = xa_store(m, cpu, xa, index, page_va_of(m, p), gfp)
    if xa_err(old):
        mem_cgroup_uncharge(m, cpu, p)
        return -ENOMEM
    get_page_p(m, p)
    m[p + P_MAPPING] = PAGE_OFFSET + (mapping << 3)
    m[p + P_INDEX] = index
    if old:
        m[mapping + AS_NREXCEPTIONAL] -= 1
    m[mapping + AS_NRPAGES] += 1
    mod_lruvec_page_state(m, cpu, p, NR_FILE_PAGES, 1)
    return old


def add_to_page_cache_lru(
    m: memoryview, cpu: int, p: int, mapping: int, index: int, gfp: int
) -> int:
    """Puts a new page into the cache, locked, and on the LRU lists: 0, -EEXIST or -ENOMEM. Hot."""
    m[p + P_FLAGS] |= PG_LOCKED
    shadow = add_to_page_cache_locked(m, cpu, p, mapping, index, gfp)
    if shadow in (-EEXIST, -ENOMEM):
        unlock_page(m, p)
        return shadow
    m[p + P_FLAGS] &= ~PG_ACTIVE
    if shadow and gfp & GFP_WRITE_BIT == 0:
        workingset_refault(m, cpu, p, shadow)
    lru_cache_add(m, cpu, p)
    return 0


def delete_from_page_cache_only(m: memoryview, cpu: int, p: int, shadow: int) -> None:
    """Takes a locked page out of the cache, leaving `shadow` (0: nothing); the caller drops the
    cache's reference. Hot (__delete_from_page_cache)."""
    mapping = (m[p + P_MAPPING] - PAGE_OFFSET) >> 3
    index = m[p + P_INDEX]
    mod_lruvec_page_state(m, cpu, p, NR_FILE_PAGES, -1)
    if m[p + P_FLAGS] & PG_SWAPBACKED:
        mod_lruvec_page_state(m, cpu, p, NR_SHMEM, -1)
    if m[p + P_FLAGS] & PG_DIRTY and m[p + P_FLAGS] & PG_SWAPBACKED == 0:
        # truncation has undone this already; here data is lost, and the account must be right
        account_page_cleaned(m, cpu, p)
    xa = mapping + AS_I_PAGES
    xa_init_marks(m, xa, index)
    xa_store(m, cpu, xa, index, shadow, 0)
    m[p + P_MAPPING] = 0
    if shadow:
        m[mapping + AS_NREXCEPTIONAL] += 1
    m[mapping + AS_NRPAGES] -= 1


def delete_from_page_cache(m: memoryview, cpu: int, p: int) -> None:
    """Takes a locked page out of the cache and drops the cache's reference. Hot."""
    delete_from_page_cache_only(m, cpu, p, 0)
    put_page_p(m, cpu, p)


def next_cached(m: memoryview, mapping: int, index: int, last: int) -> int:
    """Index of the first page or shadow in [`index`, `last`], -1 if there is none. Hot."""
    return xa_find(m, mapping + AS_I_PAGES, index, last, XA_PRESENT)
