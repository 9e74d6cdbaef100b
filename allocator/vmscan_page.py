# SPDX-License-Identifier: GPL-2.0-only
"""What reclaim does with one page: keep, activate, write or free it (mm/vmscan.c).

`shrink_page_list` gets pages that were isolated from an inactive list. A page in use since the last
look is activated or given another round, an anonymous page gets a swap slot, a mapped page is taken
out of the page tables, a dirty one is written, and what is then referenced by nobody but its
mapping and us is freed. Which of the kernel's ways a page goes is decided in `reclaim_page`; the
outcome (KEEP, ACTIVATE, FREED...) is carried out by the caller.

Lists of isolated pages are Python lists of struct page words here, as the kernel's are list heads
on its stack. `p` is a struct page's word index.
"""

from __future__ import annotations

from collections import deque

from .address_space import AOPS_FILE, AOPS_SHMEM, AOPS_SWAP, AS_A_OPS, page_mapping
from .blockdev import wait_on_page_writeback
from .deferred_split import free_compound
from .gfp import GFP_FS_BIT, GFP_IO_BIT
from .huge_split import can_split_huge_page, split_huge_page_to_list
from .kernel_globals import G_MEMCG_ON_DFL, G_TRACE_MASK2
from .list_head import list_add, list_del, list_empty, list_init
from .memcg_charge import mem_cgroup_uncharge
from .mm_inline import (
    PG_SWAPCACHE,
    hpage_nr_pages,
    page_anon,
    page_count,
    page_evictable,
    page_is_file_cache,
    page_mapped,
    page_node,
    page_to_pfn,
    page_va_of,
    trylock_page,
    unlock_page,
)
from .mm_struct import VM_EXEC, VM_LOCKED
from .mm_types import (
    P_COUNTS,
    P_NEXT,
    P_PRIVATE,
    PG_ACTIVE,
    PG_DIRTY,
    PG_HEAD,
    PG_MLOCKED,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_SWAPBACKED,
    PG_WRITEBACK,
    REF_SHIFT,
)
from .mmzone import (
    ND_FLAGS,
    NR_VMSCAN_IMMEDIATE,
    NR_VMSCAN_WRITE,
    PGDAT_DIRTY,
    PGDAT_WRITEBACK,
)
from .page_cache import delete_from_page_cache_only
from .page_io import swap_writepage
from .pagevec import PV_SCRATCH, PV_TO_FREE, pagevecs
from .pcp import free_unref_page_list
from .rmap_walk import TTU_BATCH_FLUSH, TTU_SPLIT_HUGE_PMD, page_referenced, try_to_unmap
from .scan_control import ScanControl
from .shmem_swap import shmem_writepage
from .swap_state import add_to_swap, delete_from_swap_cache_only
from .swapfile import put_swap_page, try_to_free_swap, vm_swap_full
from .trace import trace
from .trace_events import EV_VMSCAN_WRITEPAGE
from .vm_events import VM_EVENT_NAMES
from .vmstat import count_vm_events, mod_node_page_state
from .workingset import workingset_eviction
from .writeback import clear_page_dirty_for_io, file_writepage

PGACTIVATE = VM_EVENT_NAMES.index("pgactivate")
PGLAZYFREED = VM_EVENT_NAMES.index("pglazyfreed")

# enum page_references
PAGEREF_RECLAIM = 0
PAGEREF_RECLAIM_CLEAN = 1
PAGEREF_KEEP = 2
PAGEREF_ACTIVATE = 3

# enum pageout
PAGE_KEEP = 0
PAGE_ACTIVATE = 1
PAGE_SUCCESS = 2
PAGE_CLEAN = 3

# What becomes of a page of shrink_page_list
KEEP = 0
"""Back to the LRU list; the page is not locked any more."""
KEEP_LOCKED = 1
ACTIVATE_LOCKED = 2
FREED = 3
WAIT_LOCKED = 4
"""Its writing has to be waited for; then it is looked at again."""


def references_decision(
    vm_flags: int, referenced_ptes: int, referenced_page: bool, swap_backed: bool
) -> int:
    """One of PAGEREF_, from what page_referenced() found (page_check_references)."""
    if vm_flags & VM_LOCKED:
        return PAGEREF_RECLAIM
    if referenced_ptes:
        if swap_backed or referenced_page or referenced_ptes > 1 or vm_flags & VM_EXEC:
            return PAGEREF_ACTIVATE
        return PAGEREF_KEEP
    if referenced_page and not swap_backed:
        return PAGEREF_RECLAIM_CLEAN
    return PAGEREF_RECLAIM


def page_check_references(m: memoryview, cpu: int, p: int, sc: ScanControl) -> int:
    """Reads and clears the accessed bits of all mappings and PG_referenced: one of PAGEREF_.

    A file page mapped and used once is marked, for the next round to see."""
    found = page_referenced(m, cpu, p, 1, sc.memcg)
    referenced_ptes, vm_flags = found & 0xFFFFFFFF, found >> 32
    flags = m[p]
    m[p] = flags & ~PG_REFERENCED
    swap_backed = flags & PG_SWAPBACKED != 0
    marked = flags & PG_REFERENCED != 0
    decision = references_decision(vm_flags, referenced_ptes, marked, swap_backed)
    if referenced_ptes and not swap_backed and vm_flags & VM_LOCKED == 0:
        m[p] |= PG_REFERENCED
    return decision


def may_enter_fs(m: memoryview, p: int, gfp: int) -> bool:
    """True if reclaim for `gfp` may wait for this page's I/O: noio and nofs scopes may not."""
    return gfp & GFP_FS_BIT != 0 or (m[p] & PG_SWAPCACHE != 0 and gfp & GFP_IO_BIT != 0)


def is_page_cache_freeable(m: memoryview, p: int) -> bool:
    """True if only its mapping and whoever isolated it hold the page."""
    pins = hpage_nr_pages(m, p) if m[p] & PG_HEAD and m[p] & PG_SWAPCACHE else 1
    return page_count(m, p) == 1 + pins


def pageout(m: memoryview, cpu: int, p: int, mapping: int) -> int:
    """Starts writing a dirty, locked, unmapped page: one of PAGE_; unlocked if PAGE_SUCCESS."""
    if not is_page_cache_freeable(m, p) or mapping == 0:
        return PAGE_KEEP
    ops = m[mapping + AS_A_OPS]
    if ops not in (AOPS_FILE, AOPS_SWAP, AOPS_SHMEM):
        return PAGE_ACTIVATE
    if not clear_page_dirty_for_io(m, cpu, p):
        return PAGE_CLEAN
    m[p] |= PG_RECLAIM
    if ops == AOPS_SWAP:
        swap_writepage(m, cpu, p)
    elif ops == AOPS_SHMEM:
        if not shmem_writepage(m, cpu, p):
            m[p] &= ~PG_RECLAIM
            return PAGE_ACTIVATE
    else:
        file_writepage(m, cpu, p)
    if m[p] & PG_WRITEBACK == 0:
        m[p] &= ~PG_RECLAIM
    if m[G_TRACE_MASK2] >> (EV_VMSCAN_WRITEPAGE - 64) & 1:
        kind = page_is_file_cache(m, p)
        trace(m, EV_VMSCAN_WRITEPAGE, cpu, page_to_pfn(m, p), kind, 0, 0, 0, 0, 0)
    mod_node_page_state(m, cpu, page_node(m, p), NR_VMSCAN_WRITE, 1)
    return PAGE_SUCCESS


def take_from_mapping(m: memoryview, cpu: int, mapping: int, p: int, reclaimed: bool) -> bool:
    """Removes a locked page from its file or swap cache if nobody else holds it.

    True: the page has no references any more. False: busy or dirty. (__remove_mapping)"""
    held = 1 + (hpage_nr_pages(m, p) if m[p] & PG_HEAD and m[p] & PG_SWAPCACHE else 1)
    if m[p + P_COUNTS] >> REF_SHIFT != held or m[p] & PG_DIRTY:
        return False
    m[p + P_COUNTS] -= held << REF_SHIFT
    if m[p] & PG_SWAPCACHE:
        entry = m[p + P_PRIVATE]
        delete_from_swap_cache_only(m, cpu, p, entry)
        put_swap_page(m, cpu, p, entry)
    else:
        shadow = 0
        if reclaimed and page_is_file_cache(m, p):
            shadow = workingset_eviction(m, cpu, mapping, p)
        delete_from_page_cache_only(m, cpu, p, shadow)
    return True


def remove_mapping(m: memoryview, cpu: int, mapping: int, p: int) -> bool:
    """take_from_mapping(), leaving the caller's one reference."""
    if not take_from_mapping(m, cpu, mapping, p, False):
        return False
    m[p + P_COUNTS] += 1 << REF_SHIFT
    return True


def free_page_list(m: memoryview, cpu: int, pages: list[int]) -> None:
    """Frees unreferenced pages as one batch, the last found first (free_unref_page_list)."""
    head = pagevecs(m, cpu) + PV_TO_FREE
    list_init(m, head)
    for p in pages:
        mem_cgroup_uncharge(m, cpu, p)
        list_add(m, p + P_NEXT, page_va_of(m, p) + 8, head)
    if not list_empty(m, head):
        free_unref_page_list(m, cpu, head)
        list_init(m, head)


def written_pages_wait(m: memoryview, p: int, sc: ScanControl, node_flags: int) -> None:
    """A page under writeback: marked to be freed at once when written, or counted as cycling."""
    if sc.kswapd and m[p] & PG_RECLAIM and node_flags & PGDAT_WRITEBACK:
        sc.immediate += 1
    else:
        m[p] |= PG_RECLAIM
        sc.writeback += 1


def prepare_swap(m: memoryview, cpu: int, p: int, sc: ScanControl, tails: deque[int]) -> int:
    """Gives an anonymous page a place in the swap cache: FREED to go on, or what becomes of it.

    A huge page that no slot can be found for is split; its tails join `tails`."""
    if sc.gfp_mask & GFP_IO_BIT == 0:
        return KEEP_LOCKED
    if m[p] & PG_HEAD and not can_split_huge_page(m, p):
        return ACTIVATE_LOCKED
    if add_to_swap(m, cpu, p):
        return FREED
    if m[p] & PG_HEAD == 0:
        return ACTIVATE_LOCKED
    rest = [p + 8 * i for i in range(1, hpage_nr_pages(m, p))]
    # isolated, as the huge page is: on no LRU list, with a reference each
    if split_huge_page_to_list(m, cpu, p, pagevecs(m, cpu) + PV_SCRATCH) != 0:
        return ACTIVATE_LOCKED
    for tail in rest:
        list_del(m, tail + P_NEXT)
    tails.extendleft(reversed(rest))
    return FREED if add_to_swap(m, cpu, p) else ACTIVATE_LOCKED


def write_dirty_page(
    m: memoryview, cpu: int, p: int, mapping: int, sc: ScanControl, refs: int, may_enter: bool
) -> int:
    """A dirty page: FREED if it is clean now and can go, else what becomes of it."""
    nd = page_node(m, p)
    if page_is_file_cache(m, p):
        written = sc.kswapd and m[p] & PG_RECLAIM and m[nd + ND_FLAGS] & PGDAT_DIRTY
        if not written:
            # the flusher writes files; the page is freed as soon as that is done
            mod_node_page_state(m, cpu, nd, NR_VMSCAN_IMMEDIATE, 1)
            m[p] |= PG_RECLAIM
            return ACTIVATE_LOCKED
    if refs == PAGEREF_RECLAIM_CLEAN or not may_enter or not sc.may_writepage:
        return KEEP_LOCKED
    done = pageout(m, cpu, p, mapping)
    if done == PAGE_KEEP:
        return KEEP_LOCKED
    if done == PAGE_ACTIVATE:
        return ACTIVATE_LOCKED
    if done == PAGE_SUCCESS:
        if m[p] & (PG_WRITEBACK | PG_DIRTY) or not trylock_page(m, p):
            return KEEP
        if m[p] & (PG_WRITEBACK | PG_DIRTY):
            return KEEP_LOCKED
    return FREED


def count_dirty(m: memoryview, p: int, sc: ScanControl) -> None:
    """Counts a file page that is dirty or being written (page_check_dirty_writeback)."""
    flags = m[p]
    if page_is_file_cache(m, p) and not (page_anon(m, p) and flags & PG_SWAPBACKED == 0):
        if flags & (PG_DIRTY | PG_WRITEBACK):
            sc.dirty += 1
        if flags & PG_DIRTY and flags & PG_WRITEBACK == 0:
            sc.unqueued_dirty += 1
    if flags & PG_WRITEBACK and flags & PG_RECLAIM:
        sc.congested += 1


def unmap_page(m: memoryview, cpu: int, p: int, ttu: int) -> bool:
    """Takes the page out of all page tables; False if one of them keeps it."""
    if not page_mapped(m, p):
        return True
    flags = ttu | TTU_BATCH_FLUSH
    if m[p] & PG_HEAD:
        flags |= TTU_SPLIT_HUGE_PMD
    return bool(try_to_unmap(m, cpu, p, flags))


def reclaim_page(
    m: memoryview,
    cpu: int,
    nd: int,
    p: int,
    sc: ScanControl,
    ttu: int,
    force: bool,
    tails: deque[int],
) -> int:
    """Decides about one isolated, locked page: KEEP, KEEP_LOCKED, ACTIVATE_LOCKED or FREED."""
    sc.nr_scanned += 1
    if not page_evictable(m, p):
        return ACTIVATE_LOCKED
    mapped = page_mapped(m, p)
    if not sc.may_unmap and mapped:
        return KEEP_LOCKED
    anon = page_anon(m, p)
    lazyfree = anon and m[p] & PG_SWAPBACKED == 0
    if (mapped or m[p] & PG_SWAPCACHE) and not lazyfree:
        sc.nr_scanned += 1
    may_enter = may_enter_fs(m, p, sc.gfp_mask)
    count_dirty(m, p, sc)
    if m[p] & PG_WRITEBACK:
        if sc.memcg and not m[G_MEMCG_ON_DFL] and m[p] & PG_RECLAIM and may_enter:
            # groups of the legacy hierarchy have no dirty limits to slow their writers down
            return WAIT_LOCKED
        written_pages_wait(m, p, sc, m[nd + ND_FLAGS])
        return ACTIVATE_LOCKED
    refs = PAGEREF_RECLAIM_CLEAN if force else page_check_references(m, cpu, p, sc)
    if refs == PAGEREF_ACTIVATE:
        return ACTIVATE_LOCKED
    if refs == PAGEREF_KEEP:
        sc.nr_ref_keep += 1
        return KEEP_LOCKED
    if anon and not lazyfree and m[p] & PG_SWAPCACHE == 0:
        way = prepare_swap(m, cpu, p, sc, tails)
        if way != FREED:
            return way
        may_enter = True
    if not unmap_page(m, cpu, p, ttu):
        sc.nr_unmap_fail += 1
        return ACTIVATE_LOCKED
    mapping = page_mapping(m, p)
    if m[p] & PG_DIRTY:
        way = write_dirty_page(m, cpu, p, mapping, sc, refs, may_enter)
        if way != FREED:
            return way
    return release_page(m, cpu, p, mapping, lazyfree)


def release_page(m: memoryview, cpu: int, p: int, mapping: int, lazyfree: bool) -> int:
    """The last step: FREED if nobody but its mapping holds the clean page, else KEEP_LOCKED."""
    if lazyfree:
        if m[p + P_COUNTS] >> REF_SHIFT != 1 or m[p] & PG_DIRTY:
            return KEEP_LOCKED
        m[p + P_COUNTS] -= 1 << REF_SHIFT
        count_vm_events(m, cpu, PGLAZYFREED, 1)
    elif mapping == 0 or not take_from_mapping(m, cpu, mapping, p, True):
        return KEEP_LOCKED
    return FREED


def activate_page_again(m: memoryview, cpu: int, p: int) -> bool:
    """A page that will not be reclaimed now; True if it counts as activated."""
    if m[p] & PG_SWAPCACHE and (vm_swap_full(m) or m[p] & PG_MLOCKED):
        try_to_free_swap(m, cpu, p)
    if m[p] & PG_MLOCKED:
        return False
    m[p] |= PG_ACTIVE
    return True


def shrink_page_list(
    m: memoryview, cpu: int, nd: int, pages: list[int], sc: ScanControl, ttu: int, force: bool
) -> tuple[int, list[int]]:
    """Reclaims from isolated `pages` in order: how many were freed, and those to put back.

    `force`: without looking at references (reclaim_clean_pages_from_list, hot-unplug)."""
    kept: list[int] = []
    free: list[int] = []
    reclaimed = activated = 0
    work = deque(pages)
    while work:
        p = work.popleft()
        if not trylock_page(m, p):
            kept.append(p)
            continue
        way = reclaim_page(m, cpu, nd, p, sc, ttu, force, work)
        if way == FREED:
            unlock_page(m, p)
            # a huge page counts as one, as in 4.20
            reclaimed += 1
            if m[p] & PG_HEAD:
                mem_cgroup_uncharge(m, cpu, p)
                free_compound(m, cpu, p)
            else:
                free.append(p)
            continue
        if way == WAIT_LOCKED:
            unlock_page(m, p)
            if wait_on_page_writeback(m, cpu, p):
                work.appendleft(p)
            else:
                kept.append(p)
            continue
        if way == ACTIVATE_LOCKED and activate_page_again(m, cpu, p):
            activated += 1
        if way != KEEP:
            unlock_page(m, p)
        kept.append(p)
    free_page_list(m, cpu, free)
    count_vm_events(m, cpu, PGACTIVATE, activated)
    sc.nr_activate += activated
    return reclaimed, kept
