# SPDX-License-Identifier: GPL-2.0-only
"""Moving the contents of a page to another page frame (mm/migrate.c), for drivers' movable pages.

A page that its owner can do without under its present address says so in `mapping`: the low bits
are PAGE_MAPPING_MOVABLE, the rest is the owner's cookie. Isolation takes a reference and marks the
page PG_isolated; migration allocates a target, copies the bytes, hands the owner's reference and
mapping to the target and frees the old page. There are no LRU pages to migrate yet.

All hot. `p` is a struct page's word index; lists of isolated pages are linked through `lru`.
"""

from __future__ import annotations

from .gfp import GFP_HIGHMEM_BIT, GFP_MOVABLE_BIT, GFP_RETRY_MAYFAIL_BIT, GFP_USER
from .layout import (
    CPU_BLOCKS,
    CPU_NUMA_NODE,
    CPU_WORDS,
    G_NODES_MEMORY,
    G_STATIC_KEYS,
    G_TRACE_MASK,
    KEY_PAGE_OWNER,
    PAGE_OFFSET,
    SECTION_PAGES,
    VMEMMAP_START,
)
from .list_head import list_del
from .mm_types import (
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    P_NEXT,
    PAGE_MAPPING_FLAGS,
    PAGE_MAPPING_MOVABLE,
    PG_LOCKED,
    PG_RECLAIM,
    REF_ONE,
    REF_SHIFT,
    ZONES_MASK,
    ZONES_PGSHIFT,
)
from .mmzone import ZONE_MOVABLE
from .page_alloc import alloc_pages_nodemask
from .page_frag import put_page
from .page_owner import set_page_owner_migrate_reason
from .trace import EV_MIGRATE, trace
from .vm_events import VM_EVENT_NAMES
from .vmstat import count_vm_events

EAGAIN, ENOMEM, EBUSY = 11, 12, 16
PG_ISOLATED = PG_RECLAIM
MR_CONTIG_RANGE = 6
MIGRATE_PASSES = 10
PGMIGRATE_SUCCESS = VM_EVENT_NAMES.index("pgmigrate_success")
PGMIGRATE_FAIL = VM_EVENT_NAMES.index("pgmigrate_fail")


def set_page_movable(m: memoryview, pfn: int, cookie: int) -> None:
    """Declares an allocated page movable; `cookie` (low two bits 0, not 0) is the owner's. Hot."""
    m[m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3) + P_MAPPING] = cookie | PAGE_MAPPING_MOVABLE


def clear_page_movable(m: memoryview, pfn: int) -> None:
    """Takes that back; the flag alone stays until the page is freed (__ClearPageMovable). Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    m[p + P_MAPPING] &= PAGE_MAPPING_MOVABLE


def page_has_mover(m: memoryview, p: int) -> bool:
    """True if page `p` is movable and its owner is still there (PageMovable). Hot."""
    mapping = m[p + P_MAPPING]
    return mapping & PAGE_MAPPING_FLAGS == PAGE_MAPPING_MOVABLE and mapping >> 2 != 0


def isolate_movable_page(m: memoryview, p: int) -> int:
    """Takes a reference of page `p` and marks it isolated: 0 or -EBUSY. Hot.

    Refused: a free, locked or already isolated page, one without an owner.
    """
    if m[p + P_COUNTS] < REF_ONE or m[p + P_FLAGS] & (PG_LOCKED | PG_ISOLATED):
        return -EBUSY
    if not page_has_mover(m, p):
        return -EBUSY
    m[p + P_COUNTS] += REF_ONE
    m[p + P_FLAGS] |= PG_ISOLATED
    return 0


def putback_movable_pages(m: memoryview, cpu: int, head: int) -> None:
    """Gives all pages on list `head` back to their owners. Hot."""
    while m[head] != PAGE_OFFSET + (head << 3):
        pfn = (m[head] - VMEMMAP_START) >> 6
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        list_del(m, p + P_NEXT)
        m[p + P_FLAGS] &= ~PG_ISOLATED
        put_page(m, cpu, pfn)


def alloc_migrate_target(m: memoryview, cpu: int, p: int) -> int:
    """A frame to migrate page `p` to, anywhere but best on the CPU's node; PFN or -1. Hot."""
    gfp = GFP_USER | GFP_MOVABLE_BIT | GFP_RETRY_MAYFAIL_BIT
    if m[p + P_FLAGS] >> ZONES_PGSHIFT & ZONES_MASK == ZONE_MOVABLE:
        gfp |= GFP_HIGHMEM_BIT
    nid = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
    return alloc_pages_nodemask(m, cpu, gfp, 0, nid, m[G_NODES_MEMORY])


def move_to_new_page(m: memoryview, cpu: int, src: int, dst: int) -> int:
    """Moves bytes, mapping and the owner's reference from page `src` to `dst` (PFNs). Hot.

    0, or -EAGAIN while `src` is locked. If the owner has let go meanwhile there is nothing to
    move. (__unmap_and_move, move_to_new_page and a driver's migratepage)
    """
    p = m[SECTION_PAGES + (src >> 15 << 2)] + (src << 3)
    rc = 0
    if m[p + P_FLAGS] & PG_LOCKED:
        rc = -EAGAIN
    elif page_has_mover(m, p):
        q = m[SECTION_PAGES + (dst >> 15 << 2)] + (dst << 3)
        m[dst << 9 : (dst << 9) + 512] = m[src << 9 : (src << 9) + 512]
        m[q + P_MAPPING] = m[p + P_MAPPING]
        m[p + P_MAPPING] &= PAGE_MAPPING_MOVABLE
        m[p + P_COUNTS] -= REF_ONE
        m[p + P_FLAGS] &= ~PG_ISOLATED
    else:
        m[p + P_FLAGS] &= ~PG_ISOLATED
        put_page(m, cpu, dst)
    if m[G_TRACE_MASK] >> EV_MIGRATE & 1:
        trace(m, EV_MIGRATE, cpu, src, dst, rc, 0, 0, 0, 0)
    return rc


def unmap_and_move(m: memoryview, cpu: int, src: int, reason: int) -> int:
    """Migrates one isolated page: 0, -ENOMEM without a target, -EAGAIN to be tried again. Hot."""
    p = m[SECTION_PAGES + (src >> 15 << 2)] + (src << 3)
    dst = alloc_migrate_target(m, cpu, p)
    if dst < 0:
        return -ENOMEM
    rc = 0
    if m[p + P_COUNTS] >> REF_SHIFT == 1:
        # only the isolation's reference is left: the owner has freed the page meanwhile
        m[p + P_FLAGS] &= ~PG_ISOLATED
        put_page(m, cpu, dst)
    else:
        rc = move_to_new_page(m, cpu, src, dst)
        if rc == 0 and m[G_STATIC_KEYS] & KEY_PAGE_OWNER:
            set_page_owner_migrate_reason(m, dst, reason)
    if rc == 0:
        list_del(m, p + P_NEXT)
        put_page(m, cpu, src)
    else:
        put_page(m, cpu, dst)
    return rc


def migrate_pages(m: memoryview, cpu: int, head: int, reason: int) -> int:
    """Migrates the pages on list `head`: how many are left, or -ENOMEM. Hot."""
    succeeded = 0
    retry = 1
    passes = 0
    end = PAGE_OFFSET + (head << 3)
    while retry and passes < MIGRATE_PASSES:
        retry = 0
        passes += 1
        va = m[head]
        while va != end:
            pfn = (va - VMEMMAP_START) >> 6
            va = m[m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3) + P_NEXT]
            rc = unmap_and_move(m, cpu, pfn, reason)
            if rc == -ENOMEM:
                count_vm_events(m, cpu, PGMIGRATE_SUCCESS, succeeded)
                count_vm_events(m, cpu, PGMIGRATE_FAIL, 1)
                return rc
            if rc == 0:
                succeeded += 1
            else:
                retry += 1
    count_vm_events(m, cpu, PGMIGRATE_SUCCESS, succeeded)
    count_vm_events(m, cpu, PGMIGRATE_FAIL, retry)
    return retry
