# SPDX-License-Identifier: GPL-2.0-only
"""A frame that the hardware has given up: memory_failure() of mm/memory-failure.c.

The frame is marked PG_hwpoison and never used again. What can be done depends on what it is: a free
block is left alone, since the allocator refuses poisoned pages; a page that the kernel itself uses
cannot be helped; a page of a process or file is taken out of all page tables, which keep a trap in
its place, and off the LRU lists and its cache. A clean page can be read again; the bytes of a dirty
one are lost, and whoever touches them gets SIGBUS. Of a huge page only the bad part is lost.

`p` is a struct page's word index. A reference that was taken keeps the frame from being freed.
"""

from __future__ import annotations

from . import memory_failure_report as report
from .address_space import AOPS_FILE, AOPS_SHMEM, AS_A_OPS, mapping_set_error, page_mapping
from .blockdev import lock_page_wait, wait_on_page_writeback
from .fault import (
    BUS_MCEERR_AO,
    BUS_MCEERR_AR,
    SI_KERNEL,
    SIGBUS,
    SIGKILL,
    bad_area,
    fatal_signal,
)
from .gfp import GFP_KERNEL
from .huge_split import split_huge_page
from .hwpoison import is_free_buddy_page
from .kernel_globals import G_NUM_POISONED_PAGES
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    PAGE_OFFSET,
    SECTION_PAGES,
    TASK_FATAL_SIGNAL,
)
from .lru_isolate import isolate_lru_page
from .memcg_charge import mem_cgroup_uncharge
from .memory_failure_report import MF_DELAYED, MF_FAILED, MF_IGNORED, MF_RECOVERED
from .mm_inline import (
    PG_SWAPCACHE,
    compound_head,
    page_anon,
    page_count,
    page_mapcount,
    page_mapped,
    page_node,
    page_to_pfn,
    unlock_page,
)
from .mm_struct import MM_OWNER, VMA_MM
from .mm_types import (
    P_COUNTS,
    P_INDEX,
    P_MAPPING,
    PAGE_MAPPING_ANON,
    PG_ACTIVE,
    PG_DIRTY,
    PG_ERROR,
    PG_HEAD,
    PG_HWPOISON,
    PG_LRU,
    PG_MAPPEDTODISK,
    PG_MLOCKED,
    PG_RESERVED,
    PG_SLAB,
    PG_SWAPBACKED,
    PG_UNEVICTABLE,
    PG_UPTODATE,
    REF_ONE,
)
from .mmzone import ND_NODE_ID
from .page_cache import delete_from_page_cache_only
from .page_dirty import cancel_dirty_page, set_page_dirty
from .page_frag import pfn_is_valid
from .pagevec import put_page_p
from .pcp import drain_all_pages, page_zone
from .rbtree import interval_tree_iter_first, interval_tree_iter_next
from .rmap_walk import (
    TTU_IGNORE_ACCESS,
    TTU_IGNORE_HWPOISON,
    TTU_IGNORE_MLOCK,
    page_address_in_vma,
    page_mapped_in_vma,
    page_mkclean,
    rmap_root,
    rmap_vma,
    try_to_unmap,
)
from .shrinker import shrink_slab
from .swap import lru_add_drain_all
from .swap_cache import delete_from_swap_cache

MF_ACTION_REQUIRED = 2
MF_MUST_KILL = 4
ENXIO, EBUSY = 6, 16
ENOUGH_OBJECTS = 10
"""So few freed at once mean that the slab caches have nothing more to give."""

# what is done about a page
ME_KERNEL = 0
ME_UNKNOWN = 1
ME_SWAPCACHE_DIRTY = 2
ME_SWAPCACHE_CLEAN = 3
ME_LRU_DIRTY = 4
ME_LRU_CLEAN = 5
ME_HUGE = 6
_SC = PG_SWAPCACHE | PG_SWAPBACKED
_MLOCKED, _UNEVICTABLE, _LRU = PG_MLOCKED | PG_DIRTY, PG_UNEVICTABLE | PG_DIRTY, PG_LRU | PG_DIRTY
ERROR_STATES = (
    (PG_RESERVED, PG_RESERVED, ME_KERNEL, report.MSG_KERNEL),
    (PG_SLAB, PG_SLAB, ME_KERNEL, report.MSG_SLAB),
    (PG_HEAD, PG_HEAD, ME_HUGE, report.MSG_HUGE),
    (_SC | PG_DIRTY, _SC | PG_DIRTY, ME_SWAPCACHE_DIRTY, report.MSG_DIRTY_SWAPCACHE),
    (_SC | PG_DIRTY, _SC, ME_SWAPCACHE_CLEAN, report.MSG_CLEAN_SWAPCACHE),
    (_MLOCKED, _MLOCKED, ME_LRU_DIRTY, report.MSG_DIRTY_MLOCKED_LRU),
    (_MLOCKED, PG_MLOCKED, ME_LRU_CLEAN, report.MSG_CLEAN_MLOCKED_LRU),
    (_UNEVICTABLE, _UNEVICTABLE, ME_LRU_DIRTY, report.MSG_DIRTY_UNEVICTABLE_LRU),
    (_UNEVICTABLE, PG_UNEVICTABLE, ME_LRU_CLEAN, report.MSG_CLEAN_UNEVICTABLE_LRU),
    (_LRU, _LRU, ME_LRU_DIRTY, report.MSG_DIRTY_LRU),
    (_LRU, PG_LRU, ME_LRU_CLEAN, report.MSG_CLEAN_LRU),
    (0, 0, ME_UNKNOWN, report.MSG_UNKNOWN),
)
"""What the flags (mask, value) say that a page is: what is done about it, and its name."""


def error_state(flags: int) -> tuple[int, int]:
    """What has to be done about a page with these flags (ME_), and what it is (MSG_)."""
    for mask, value, action, name in ERROR_STATES:
        if flags & mask == value:
            return action, name
    return ME_UNKNOWN, report.MSG_UNKNOWN


def delete_from_lru_cache(m: memoryview, cpu: int, p: int) -> bool:
    """Takes a page off its LRU list for good; False if it is on none."""
    if isolate_lru_page(m, cpu, p):
        return False
    m[p] &= ~(PG_ACTIVE | PG_UNEVICTABLE)
    mem_cgroup_uncharge(m, cpu, p)
    put_page_p(m, cpu, p)
    return True


def truncate_error_page(m: memoryview, cpu: int, p: int, mapping: int) -> int:
    """Takes a locked page out of its file, dirty or not."""
    if m[mapping + AS_A_OPS] not in (AOPS_FILE, AOPS_SHMEM):
        return MF_FAILED
    cancel_dirty_page(m, cpu, p)
    m[p] &= ~PG_MAPPEDTODISK
    delete_from_page_cache_only(m, cpu, p, 0)
    put_page_p(m, cpu, p)
    return MF_RECOVERED


def me_lru(m: memoryview, cpu: int, p: int) -> int:
    """A page on the lists, which nobody maps any more: off them, and out of its file
    (me_pagecache_clean)."""
    delete_from_lru_cache(m, cpu, p)
    if page_anon(m, p):
        return MF_RECOVERED
    mapping = page_mapping(m, p)
    return truncate_error_page(m, cpu, p, mapping) if mapping else MF_FAILED


def take_action(m: memoryview, cpu: int, p: int, action: int) -> int:
    """Does what a page's state asks for: an MF_ result."""
    if action == ME_KERNEL:
        return MF_IGNORED
    if action == ME_HUGE:
        return MF_DELAYED
    if action == ME_SWAPCACHE_DIRTY:
        # stays in the swap cache, so that whoever comes back to it is told
        m[p] &= ~(PG_DIRTY | PG_UPTODATE)
        return MF_DELAYED if delete_from_lru_cache(m, cpu, p) else MF_FAILED
    if action == ME_SWAPCACHE_CLEAN:
        delete_from_swap_cache(m, cpu, p)
        return MF_RECOVERED if delete_from_lru_cache(m, cpu, p) else MF_FAILED
    if action == ME_LRU_DIRTY:
        m[p] |= PG_ERROR
        mapping = page_mapping(m, p)
        if mapping:
            mapping_set_error(m, mapping)
    if action in (ME_LRU_DIRTY, ME_LRU_CLEAN):
        return me_lru(m, cpu, p)
    report.say(m, cpu, report.SAY_UNKNOWN, page_to_pfn(m, p))
    return MF_FAILED


def page_action(m: memoryview, cpu: int, p: int, action: int, name: int) -> int:
    """Does it and says so: 0 if it worked, -EBUSY if others still use the page."""
    pfn = page_to_pfn(m, p)
    result = take_action(m, cpu, p, action)
    others = page_count(m, p) - 1
    if action == ME_SWAPCACHE_DIRTY and result == MF_DELAYED:
        others -= 1
    if others > 0:
        report.say(m, cpu, report.SAY_REFERENCED, pfn, name, others)
        result = MF_FAILED
    report.say(m, cpu, report.SAY_ACTION, pfn, name, result)
    return 0 if result in (MF_RECOVERED, MF_DELAYED) else -EBUSY


def collect_procs(m: memoryview, p: int) -> list[tuple[int, int]]:
    """The processes that are to be told of page `p`, each with its address there: those that map an
    anonymous page, and all whose areas show this part of the file."""
    root = rmap_root(m, p)
    found = []
    node = interval_tree_iter_first(m, root, m[p + P_INDEX], m[p + P_INDEX]) if root else 0
    while node:
        vma = rmap_vma(m, p, node)
        owner = m[((m[vma + VMA_MM] - PAGE_OFFSET) >> 3) + MM_OWNER]
        if owner and (not page_anon(m, p) or page_mapped_in_vma(m, p, vma)):
            found.append(((owner - PAGE_OFFSET) >> 3, page_address_in_vma(m, p, vma)))
        node = interval_tree_iter_next(m, node, m[p + P_INDEX], m[p + P_INDEX])
    return found


def kill_procs(
    m: memoryview, cpu: int, pfn: int, doomed: list[tuple[int, int]], unmapped: bool
) -> None:
    """Sends SIGBUS to each process; SIGKILL if the page could not be taken from it.

    Who runs on the CPU has touched the frame (BUS_MCEERR_AR), the others only have it."""
    current = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    for task, address in doomed:
        message = report.SAY_KILLING if unmapped else report.SAY_FORCIBLY
        report.say_about_task(m, cpu, message, pfn, task)
        if m[task + TASK_FATAL_SIGNAL] and fatal_signal(m, task) == SIGKILL:
            continue
        m[task + TASK_FATAL_SIGNAL] = 1
        if unmapped:
            code = BUS_MCEERR_AR if task == current else BUS_MCEERR_AO
            bad_area(m, task, address, SIGBUS, code)
        else:
            bad_area(m, task, address, SIGKILL, SI_KERNEL)


def hwpoison_user_mappings(m: memoryview, cpu: int, p: int, flags: int) -> bool:
    """Takes the page out of all page tables, leaving traps if its bytes are lost; False if it
    could not be."""
    pfn = page_to_pfn(m, p)
    if m[p] & (PG_RESERVED | PG_SLAB) or not m[p] & PG_LRU or not page_mapped(m, p):
        return True
    ttu = TTU_IGNORE_MLOCK | TTU_IGNORE_ACCESS
    if m[p] & PG_SWAPCACHE:
        report.say(m, cpu, report.SAY_SWAPCACHE, pfn)
        ttu |= TTU_IGNORE_HWPOISON
    kill = True
    mapping = page_mapping(m, p) if m[p + P_MAPPING] & PAGE_MAPPING_ANON == 0 else 0
    file = mapping != 0 and m[mapping + AS_A_OPS] == AOPS_FILE
    if flags & MF_MUST_KILL == 0 and m[p] & PG_DIRTY == 0 and file:
        if page_mkclean(m, cpu, p):
            set_page_dirty(m, cpu, p)
        else:
            # clean: it will be read again
            kill = False
            ttu |= TTU_IGNORE_HWPOISON
            report.say(m, cpu, report.SAY_CLEAN, pfn)
    # before the page tables forget who they are
    doomed = collect_procs(m, p) if kill and flags & MF_ACTION_REQUIRED else []
    mlocked = m[p] & PG_MLOCKED
    unmapped = try_to_unmap(m, cpu, p, ttu)
    if not unmapped:
        report.say(m, cpu, report.SAY_NOT_UNMAPPED, pfn, page_mapcount(m, p))
    if mlocked:
        shake_page(m, cpu, p, False)
    # the dirty bits of the entries are in the page now
    if m[p] & PG_DIRTY or flags & MF_MUST_KILL:
        kill_procs(m, cpu, pfn, doomed, unmapped)
    return unmapped


def shake_page(m: memoryview, cpu: int, p: int, access: bool) -> None:
    """Makes sure that a page waits in no pagevec and on no per-cpu list; with `access`, which it is
    safe to touch, that no slab cache keeps it for nothing."""
    if m[p] & PG_SLAB == 0:
        lru_add_drain_all(m)
        if m[p] & PG_LRU:
            return
        drain_all_pages(m, page_zone(m, p))
        if m[p] & PG_LRU or is_free_buddy_page(m, page_to_pfn(m, p)):
            return
    if access:
        nid = m[page_node(m, p) + ND_NODE_ID]
        while shrink_slab(m, cpu, GFP_KERNEL, nid, 0, 0) > ENOUGH_OBJECTS:
            pass


def get_hwpoison_page(m: memoryview, p: int) -> bool:
    """Takes a reference of the page that `p` is part of; False if it is free, or cannot be
    helped."""
    head = compound_head(m, p)
    if (m[head] & PG_HEAD and not page_anon(m, head)) or m[head + P_COUNTS] < REF_ONE:
        return False
    m[head + P_COUNTS] += REF_ONE
    return True


def split_poisoned(m: memoryview, cpu: int, p: int) -> bool:
    """Splits a huge page around its bad part; False, unmarked, if that cannot be."""
    head = compound_head(m, p)
    lock_page_wait(m, cpu, head)
    if split_huge_page(m, cpu, p):
        unlock_page(m, head)
        report.say(m, cpu, report.SAY_NOT_SPLIT, page_to_pfn(m, p))
        m[p] &= ~PG_HWPOISON
        m[G_NUM_POISONED_PAGES] -= 1
        put_page_p(m, cpu, head)
        return False
    unlock_page(m, p)
    return True


def give_up(m: memoryview, cpu: int, p: int, name: int) -> int:
    """Nothing can be done: says why, unlocks the page; -EBUSY."""
    report.say(m, cpu, report.SAY_ACTION, page_to_pfn(m, p), name, MF_IGNORED)
    unlock_page(m, p)
    return -EBUSY


def contain(m: memoryview, cpu: int, p: int, flags: int) -> int:
    """The part of memory_failure() about a page that is in use, and ours by a reference."""
    lock_page_wait(m, cpu, p)
    state = m[p]
    if state & PG_LRU:
        wait_on_page_writeback(m, cpu, p)
        if not hwpoison_user_mappings(m, cpu, p, flags):
            return give_up(m, cpu, p, report.MSG_UNMAP_FAILED)
        if m[p] & (PG_LRU | PG_SWAPCACHE) == PG_LRU and m[p + P_MAPPING] == 0:
            return give_up(m, cpu, p, report.MSG_TRUNCATED_LRU)
    action, name = error_state(m[p])
    if action == ME_UNKNOWN:
        action, name = error_state(state | m[p] & PG_DIRTY)
    rc = page_action(m, cpu, p, action, name)
    unlock_page(m, p)
    return rc


def memory_failure(m: memoryview, cpu: int, pfn: int, flags: int = 0) -> int:
    """Frame `pfn` is bad: 0 if nobody can be hurt by it any more, or a negative errno.

    -ENXIO: no such frame; -EBUSY: somebody uses it still (the kernel itself, or whoever holds a
    reference). `flags`: MF_ACTION_REQUIRED kills the processes that map a page whose bytes are lost
    at once, others die when they touch it; MF_MUST_KILL: even if the page is clean.
    """
    if not pfn_is_valid(m, pfn):
        report.say(m, cpu, report.SAY_OUTSIDE, pfn)
        return -ENXIO
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if m[p] & PG_HWPOISON:
        report.say(m, cpu, report.SAY_ALREADY, pfn)
        return 0
    m[p] |= PG_HWPOISON
    m[G_NUM_POISONED_PAGES] += 1
    if not get_hwpoison_page(m, p):
        head = compound_head(m, p)
        if m[head] & PG_HEAD and not page_anon(m, head):
            report.say(m, cpu, report.SAY_NOT_ANON_THP, pfn)
        if is_free_buddy_page(m, pfn):
            report.say(m, cpu, report.SAY_ACTION, pfn, report.MSG_BUDDY, MF_DELAYED)
            return 0
        report.say(m, cpu, report.SAY_ACTION, pfn, report.MSG_KERNEL_HIGH_ORDER, MF_IGNORED)
        return -EBUSY
    if m[compound_head(m, p)] & PG_HEAD and not split_poisoned(m, cpu, p):
        return -EBUSY
    shake_page(m, cpu, p, False)
    if not m[p] & PG_LRU and is_free_buddy_page(m, pfn):
        report.say(m, cpu, report.SAY_ACTION, pfn, report.MSG_BUDDY_2ND, MF_DELAYED)
        return 0
    return contain(m, cpu, p, flags)
