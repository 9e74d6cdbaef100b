# SPDX-License-Identifier: GPL-2.0-only
"""Moving pages to other page frames (mm/migrate.c): lists of pages, and drivers' movable pages.

`migrate_pages` takes a list of isolated pages and moves each to a target (migrate_target.py), in up
to ten passes, of which the later ones wait for locks and writeback. Pages of processes and files
come from the LRU lists and are moved by migrate_page.py. Others belong to a driver that says in
`mapping` that it can do without them under their present address: the low bits are
PAGE_MAPPING_MOVABLE, the rest is the driver's cookie. Isolation takes a reference of such a page
and marks it PG_isolated; moving it copies the bytes and hands the owner's reference to the target.

All hot. `p` is a struct page's word index; lists of isolated pages are linked through `lru`.
"""

from __future__ import annotations

from .compact_free import MIGRATE_ASYNC as MIGRATE_ASYNC
from .compact_free import MIGRATE_SYNC as MIGRATE_SYNC
from .compact_free import MIGRATE_SYNC_LIGHT as MIGRATE_SYNC_LIGHT
from .huge_split import split_huge_page_to_list
from .hwpoison import set_hwpoison_free_buddy_page
from .kernel_globals import G_STATIC_KEYS, G_TRACE_MASK, KEY_PAGE_OWNER
from .layout import PAGE_OFFSET, SECTION_PAGES, VMEMMAP_START
from .list_head import list_del
from .lru_isolate import mod_isolated, putback_lru_page
from .migrate_page import EAGAIN as EAGAIN
from .migrate_page import EBUSY as EBUSY
from .migrate_page import unmap_and_move_lru
from .migrate_target import NEW_PAGE_COMPACTION as NEW_PAGE_COMPACTION
from .migrate_target import NEW_PAGE_CONTIG as NEW_PAGE_CONTIG
from .migrate_target import NEW_PAGE_MBIND as NEW_PAGE_MBIND
from .migrate_target import NEW_PAGE_NODE as NEW_PAGE_NODE
from .migrate_target import NEW_PAGE_OFFLINE as NEW_PAGE_OFFLINE
from .migrate_target import NEW_PAGE_SAME_NODE as NEW_PAGE_SAME_NODE
from .migrate_target import get_new_page, put_new_page
from .mm_inline import hpage_nr_pages, page_count, page_to_pfn, trylock_page, unlock_page
from .mm_types import (
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    P_NEXT,
    PAGE_MAPPING_FLAGS,
    PAGE_MAPPING_MOVABLE,
    PG_ACTIVE,
    PG_HEAD,
    PG_LOCKED,
    PG_RECLAIM,
    PG_UNEVICTABLE,
    REF_ONE,
)
from .page_owner import set_page_owner_migrate_reason
from .pagevec import put_page_p
from .trace import trace
from .trace_events import EV_MIGRATE
from .vm_events import VM_EVENT_NAMES
from .vmstat import count_vm_events

ENOMEM = 12
PG_ISOLATED = PG_RECLAIM
# enum migrate_reason
MR_COMPACTION = 0
MR_MEMORY_FAILURE = 1
MR_MEMORY_HOTPLUG = 2
MR_SYSCALL = 3
MR_MEMPOLICY_MBIND = 4
MR_NUMA_MISPLACED = 5
MR_CONTIG_RANGE = 6
MIGRATE_PASSES = 10
PATIENT_PASSES = 2
"""Passes after which locks and writeback are waited for."""
PGMIGRATE_SUCCESS = VM_EVENT_NAMES.index("pgmigrate_success")
PGMIGRATE_FAIL = VM_EVENT_NAMES.index("pgmigrate_fail")


# --- drivers' pages -------------------------------------------------------------------------------
def set_page_movable(m: memoryview, pfn: int, cookie: int) -> None:
    """Declares an allocated page movable; `cookie` (low two bits 0, not 0) is the owner's. Hot."""
    m[m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3) + P_MAPPING] = cookie | PAGE_MAPPING_MOVABLE


def clear_page_movable(m: memoryview, pfn: int) -> None:
    """Takes that back; the flag alone stays until the page is freed (__ClearPageMovable). Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    m[p + P_MAPPING] &= PAGE_MAPPING_MOVABLE


def is_movable(m: memoryview, p: int) -> bool:
    """True if page `p` is or was a driver's movable page (__PageMovable). Hot."""
    return m[p + P_MAPPING] & PAGE_MAPPING_FLAGS == PAGE_MAPPING_MOVABLE


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
    """Gives all pages on list `head` back, to their drivers or to the LRU lists. Hot."""
    while m[head] != PAGE_OFFSET + (head << 3):
        pfn = (m[head] - VMEMMAP_START) >> 6
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        list_del(m, p + P_NEXT)
        if is_movable(m, p):
            m[p + P_FLAGS] &= ~PG_ISOLATED
            put_page_p(m, cpu, p)
        else:
            mod_isolated(m, cpu, p, -hpage_nr_pages(m, p))
            putback_lru_page(m, cpu, p)


def move_movable_page(m: memoryview, cpu: int, p: int, new: int) -> int:
    """Moves bytes, mapping and the owner's reference of a driver's page to `new`. Hot.

    0, or -EAGAIN while the page is locked. If the owner has let go meanwhile there is nothing to
    move. (__unmap_and_move, move_to_new_page and a driver's migratepage)
    """
    if not trylock_page(m, p):
        return -EAGAIN
    if page_has_mover(m, p):
        src = page_to_pfn(m, p) << 9
        dst = page_to_pfn(m, new) << 9
        m[dst : dst + 512] = m[src : src + 512]
        m[new + P_MAPPING] = m[p + P_MAPPING]
        m[p + P_MAPPING] &= PAGE_MAPPING_MOVABLE
        m[p + P_COUNTS] -= REF_ONE
    else:
        put_page_p(m, cpu, new)
    m[p] &= ~PG_ISOLATED
    unlock_page(m, p)
    return 0


# --- lists of pages -------------------------------------------------------------------------------
def move_to_target(m: memoryview, cpu: int, p: int, new: int, force: int, mode: int) -> int:
    """Moves one page to its target: 0, -EAGAIN or -EBUSY. Traced. Hot."""
    lru = not is_movable(m, p)
    src = page_to_pfn(m, p)
    dst = page_to_pfn(m, new)
    if lru:
        rc = unmap_and_move_lru(m, cpu, p, new, force, mode)
    else:
        rc = move_movable_page(m, cpu, p, new)
    if m[G_TRACE_MASK] >> EV_MIGRATE & 1:
        trace(m, EV_MIGRATE, cpu, src, dst, rc, 1 if lru else 0, 0, 0, 0)
    return rc


def unmap_and_move(
    m: memoryview, cpu: int, p: int, target: int, private: int, force: int, mode: int, reason: int
) -> int:
    """Migrates one isolated page: 0, or a negative errno. Hot.

    -ENOMEM without a target and -EAGAIN leave it on its list; any other error puts it back where it
    came from.
    """
    new = get_new_page(m, cpu, p, target, private)
    if new == 0:
        return -ENOMEM
    freed = page_count(m, p) == 1
    rc = 0
    if freed:
        # only the isolation's reference is left: the owner has freed the page meanwhile
        m[p] &= ~(PG_ACTIVE | PG_UNEVICTABLE)
        if is_movable(m, p):
            m[p] &= ~PG_ISOLATED
    else:
        rc = move_to_target(m, cpu, p, new, force, mode)
        if rc == 0 and m[G_STATIC_KEYS] & KEY_PAGE_OWNER:
            set_page_owner_migrate_reason(m, page_to_pfn(m, new), reason)
    if rc != -EAGAIN:
        list_del(m, p + P_NEXT)
        if not is_movable(m, p):
            mod_isolated(m, cpu, p, -hpage_nr_pages(m, p))
    if rc == 0:
        put_page_p(m, cpu, p)
        if reason == MR_MEMORY_FAILURE:
            # marked only now that nobody uses the frame
            set_hwpoison_free_buddy_page(m, page_to_pfn(m, p))
    elif rc != -EAGAIN:
        putback_lru_page(m, cpu, p)
    if freed or rc:
        put_new_page(m, cpu, new, target, private)
    return rc


def split_on_list(m: memoryview, cpu: int, p: int, head: int) -> bool:
    """Splits a huge page that has no target, its parts going to the end of the list. Hot."""
    if m[p] & PG_HEAD == 0 or not trylock_page(m, p):
        return False
    rc = split_huge_page_to_list(m, cpu, p, head)
    unlock_page(m, p)
    return rc == 0


def migrate_pages(
    m: memoryview, cpu: int, head: int, target: int, private: int, mode: int, reason: int
) -> int:
    """Migrates the pages on list `head`: how many could not be, or -ENOMEM. Hot.

    `target` is a NEW_PAGE_ kind, `mode` MIGRATE_ASYNC (waits for nothing), MIGRATE_SYNC_LIGHT or
    MIGRATE_SYNC, `reason` an MR_. Pages still on the list are the caller's to put back.
    """
    succeeded = 0
    failed = 0
    retry = 1
    passes = 0
    rc = 0
    end = PAGE_OFFSET + (head << 3)
    while retry and passes < MIGRATE_PASSES and rc != -ENOMEM:
        retry = 0
        va = m[head]
        while va != end:
            pfn = (va - VMEMMAP_START) >> 6
            p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
            va = m[p + P_NEXT]
            force = 1 if passes > PATIENT_PASSES else 0
            rc = unmap_and_move(m, cpu, p, target, private, force, mode, reason)
            if rc == -ENOMEM and split_on_list(m, cpu, p, head):
                va = m[p + P_NEXT]
                rc = unmap_and_move(m, cpu, p, target, private, force, mode, reason)
            if rc == -ENOMEM:
                failed += 1
                break
            if rc == -EAGAIN:
                retry += 1
            elif rc == 0:
                succeeded += 1
            else:
                failed += 1
        passes += 1
    count_vm_events(m, cpu, PGMIGRATE_SUCCESS, succeeded)
    if rc == -ENOMEM:
        count_vm_events(m, cpu, PGMIGRATE_FAIL, failed)
        return rc
    count_vm_events(m, cpu, PGMIGRATE_FAIL, failed + retry)
    return failed + retry
