# SPDX-License-Identifier: GPL-2.0-only
"""Moving the owner of a frame to another frame: pages of processes and files (mm/migrate.c).

An isolated page of the LRU lists is locked, its page-table entries become migration entries, its
place in the page or swap cache is given to the target, bytes and state flags are copied, and then
the migration entries are made to map the target. If anybody else holds a reference the page cannot
be moved, and its entries are put back.

All hot. `p` is the page, `new` its target: locked heads, whose struct pages have word indices.
"""

from __future__ import annotations

from .address_space import AOPS_FILE, AS_A_OPS, AS_I_PAGES, page_file_index, page_mapping
from .blockdev import lock_page_wait, wait_on_page_writeback
from .compact_free import MIGRATE_ASYNC, MIGRATE_SYNC
from .kernel_globals import G_STATIC_KEYS, KEY_PAGE_OWNER
from .layout import CPU_BLOCKS, CPU_CURRENT, CPU_WORDS, PAGE_OFFSET, PF_MEMALLOC, TASK_FLAGS
from .lru_isolate import putback_lru_page
from .memcg_charge import mem_cgroup_migrate
from .mm_inline import (
    PG_SWAPCACHE,
    hpage_nr_pages,
    page_mapped,
    page_node,
    page_to_pfn,
    page_va_of,
    trylock_page,
    unlock_page,
)
from .mm_types import (
    P_COUNTS,
    P_INDEX,
    P_MAPPING,
    P_MEMCG,
    P_PRIVATE,
    PAGE_MAPPING_FLAGS,
    PG_ACTIVE,
    PG_DIRTY,
    PG_ERROR,
    PG_MAPPEDTODISK,
    PG_PRIVATE,
    PG_REFERENCED,
    PG_SWAPBACKED,
    PG_UNEVICTABLE,
    PG_UPTODATE,
    PG_WORKINGSET,
    PG_WRITEBACK,
    REF_ONE,
    REF_SHIFT,
)
from .mmzone import NR_FILE_DIRTY, NR_FILE_PAGES, NR_SHMEM, NR_ZONE_WRITE_PENDING
from .page_owner import copy_page_owner
from .pcp import page_zone
from .rmap_walk import (
    TTU_IGNORE_ACCESS,
    TTU_IGNORE_MLOCK,
    TTU_MIGRATION,
    remove_migration_ptes,
    try_to_unmap,
)
from .vmstat import mod_node_page_state, mod_zone_page_state
from .xarray import xa_load, xa_store

EAGAIN, EBUSY = 11, 16
PG_COPIED = (
    PG_ERROR
    | PG_REFERENCED
    | PG_UPTODATE
    | PG_ACTIVE
    | PG_UNEVICTABLE
    | PG_WORKINGSET
    | PG_MAPPEDTODISK
    | PG_DIRTY
)


def migrate_page_move_mapping(m: memoryview, cpu: int, mapping: int, new: int, p: int) -> int:
    """Gives the page's place in its address space (0: none) to `new`. Hot.

    0, or -EAGAIN if somebody holds a reference besides the cache and whoever isolated the page.
    """
    references = m[p + P_COUNTS] >> REF_SHIFT
    if mapping == 0:
        if references != 1:
            return -EAGAIN
        m[new + P_INDEX] = m[p + P_INDEX]
        m[new + P_MAPPING] = m[p + P_MAPPING]
        m[new] |= m[p] & PG_SWAPBACKED
        return 0
    expected = 1 + hpage_nr_pages(m, p) + (1 if m[p] & PG_PRIVATE else 0)
    index = page_file_index(m, p)
    xa = mapping + AS_I_PAGES
    if references != expected or xa_load(m, xa, index) != page_va_of(m, p):
        return -EAGAIN
    m[new + P_INDEX] = m[p + P_INDEX]
    m[new + P_MAPPING] = m[p + P_MAPPING]
    m[new + P_COUNTS] += REF_ONE
    m[new] |= m[p] & PG_SWAPBACKED
    if m[p] & PG_SWAPCACHE:
        m[new] |= PG_SWAPCACHE
        m[new + P_PRIVATE] = m[p + P_PRIVATE]
    dirty = m[p] & PG_DIRTY
    m[new] |= dirty
    m[p] &= ~PG_DIRTY
    xa_store(m, cpu, xa, index, page_va_of(m, new), 0)
    m[p + P_COUNTS] -= REF_ONE
    account_moved(m, cpu, new, p, dirty != 0 and m[mapping + AS_A_OPS] == AOPS_FILE)
    return 0


def account_moved(m: memoryview, cpu: int, new: int, p: int, dirty: bool) -> None:
    """Counts a cached page, and a dirty one, where it is now. Hot."""
    old_zone = page_zone(m, p)
    new_zone = page_zone(m, new)
    if old_zone != new_zone:
        old_node = page_node(m, p)
        new_node = page_node(m, new)
        mod_node_page_state(m, cpu, old_node, NR_FILE_PAGES, -1)
        mod_node_page_state(m, cpu, new_node, NR_FILE_PAGES, 1)
        if m[p] & (PG_SWAPBACKED | PG_SWAPCACHE) == PG_SWAPBACKED:
            mod_node_page_state(m, cpu, old_node, NR_SHMEM, -1)
            mod_node_page_state(m, cpu, new_node, NR_SHMEM, 1)
        if dirty:
            mod_node_page_state(m, cpu, old_node, NR_FILE_DIRTY, -1)
            mod_zone_page_state(m, cpu, old_zone, NR_ZONE_WRITE_PENDING, -1)
            mod_node_page_state(m, cpu, new_node, NR_FILE_DIRTY, 1)
            mod_zone_page_state(m, cpu, new_zone, NR_ZONE_WRITE_PENDING, 1)


def migrate_page_copy(m: memoryview, new: int, p: int) -> None:
    """Copies bytes and state of page `p` to `new`. Hot (migrate_page_copy, migrate_page_states)."""
    src = page_to_pfn(m, p)
    dst = page_to_pfn(m, new)
    for i in range(hpage_nr_pages(m, p)):
        at = dst + i << 9
        came = src + i << 9
        m[at : at + 512] = m[came : came + 512]
    m[new] |= m[p] & PG_COPIED
    m[p] &= ~(PG_ACTIVE | PG_UNEVICTABLE | PG_SWAPCACHE | PG_PRIVATE)
    m[p + P_PRIVATE] = 0
    if m[G_STATIC_KEYS] & KEY_PAGE_OWNER:
        copy_page_owner(m, src, dst)
    if m[p + P_MEMCG]:
        mem_cgroup_migrate(m, p, new)


def move_lru_page(m: memoryview, cpu: int, new: int, p: int) -> int:
    """migrate_page(): place, bytes and state go to `new`: 0 or -EAGAIN. Hot."""
    rc = migrate_page_move_mapping(m, cpu, page_mapping(m, p), new, p)
    if rc == 0:
        migrate_page_copy(m, new, p)
        if m[p + P_MAPPING] & PAGE_MAPPING_FLAGS == 0:
            m[p + P_MAPPING] = 0
    return rc


def lock_for_migration(m: memoryview, cpu: int, p: int, force: int, mode: int) -> int:
    """Locks the page, with `force` waiting for it and for writeback: 0, -EAGAIN, -EBUSY. Hot."""
    if not trylock_page(m, p):
        task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
        if force == 0 or mode == MIGRATE_ASYNC or m[task + TASK_FLAGS] & PF_MEMALLOC:
            return -EAGAIN
        if not lock_page_wait(m, cpu, p):
            return -EAGAIN
    if m[p] & PG_WRITEBACK:
        if mode != MIGRATE_SYNC or force == 0:
            unlock_page(m, p)
            return -EBUSY if mode != MIGRATE_SYNC else -EAGAIN
        wait_on_page_writeback(m, cpu, p)
    return 0


def unmap_and_move_lru(m: memoryview, cpu: int, p: int, new: int, force: int, mode: int) -> int:
    """Moves an isolated page to `new`, which goes to its LRU list then (__unmap_and_move). Hot.

    0, -EAGAIN, or -EBUSY for a page under writeback that `mode` will not wait for.
    """
    rc = lock_for_migration(m, cpu, p, force, mode)
    if rc:
        return rc
    rc = -EAGAIN
    if trylock_page(m, new):
        mapped = m[p + P_MAPPING] != 0 and page_mapped(m, p)
        if mapped:
            try_to_unmap(m, cpu, p, TTU_MIGRATION | TTU_IGNORE_MLOCK | TTU_IGNORE_ACCESS)
        if not page_mapped(m, p):
            rc = move_lru_page(m, cpu, new, p)
        if mapped:
            remove_migration_ptes(m, cpu, p, new if rc == 0 else p)
        unlock_page(m, new)
    unlock_page(m, p)
    if rc == 0:
        putback_lru_page(m, cpu, new)
    return rc
