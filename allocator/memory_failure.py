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

from .address_space import page_mapping
from .blockdev import lock_page_wait, wait_on_page_writeback
from .fault import BUS_MCEERR_AO, SIGBUS, bad_area
from .huge_split import split_huge_page
from .layout import (
    G_NUM_POISONED_PAGES,
    PAGE_OFFSET,
    SECTION_PAGES,
    TASK_FATAL_SIGNAL,
)
from .lru_isolate import isolate_lru_page
from .memcg_charge import mem_cgroup_uncharge
from .mm_inline import (
    PG_SWAPCACHE,
    compound_head,
    page_anon,
    page_count,
    page_mapped,
    unlock_page,
)
from .mm_struct import MM_OWNER, VMA_MM
from .mm_types import (
    P_COUNTS,
    P_INDEX,
    P_MAPPING,
    P_PRIVATE,
    PAGE_MAPPING_ANON,
    PG_ACTIVE,
    PG_DIRTY,
    PG_ERROR,
    PG_HEAD,
    PG_HWPOISON,
    PG_LRU,
    PG_MLOCKED,
    PG_RESERVED,
    PG_SLAB,
    PG_SWAPBACKED,
    PG_UNEVICTABLE,
    PG_UPTODATE,
    REF_ONE,
)
from .mmzone import MAX_ORDER
from .page_dirty import cancel_dirty_page, set_page_dirty
from .page_frag import pfn_is_valid
from .page_isolation import page_is_free_block
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
from .swap import lru_add_drain_all
from .swap_cache import delete_from_swap_cache
from .truncate import drop_locked_page

MF_ACTION_REQUIRED = 2
MF_MUST_KILL = 4
# what became of it (enum mf_result)
MF_IGNORED = 0
MF_FAILED = 1
MF_DELAYED = 2
MF_RECOVERED = 3
ENXIO, EBUSY = 6, 16

# error_states: what the flags (mask, value) say that a page is, and what is done about it
ME_KERNEL = 0
ME_UNKNOWN = 1
ME_SWAPCACHE_DIRTY = 2
ME_SWAPCACHE_CLEAN = 3
ME_LRU_DIRTY = 4
ME_LRU_CLEAN = 5
ME_HUGE = 6
_SC = PG_SWAPCACHE | PG_SWAPBACKED
ERROR_STATES = (
    (PG_RESERVED, PG_RESERVED, ME_KERNEL),
    (PG_SLAB, PG_SLAB, ME_KERNEL),
    (PG_HEAD, PG_HEAD, ME_HUGE),
    (_SC | PG_DIRTY, _SC | PG_DIRTY, ME_SWAPCACHE_DIRTY),
    (_SC | PG_DIRTY, _SC, ME_SWAPCACHE_CLEAN),
    (PG_MLOCKED | PG_DIRTY, PG_MLOCKED | PG_DIRTY, ME_LRU_DIRTY),
    (PG_MLOCKED | PG_DIRTY, PG_MLOCKED, ME_LRU_CLEAN),
    (PG_UNEVICTABLE | PG_DIRTY, PG_UNEVICTABLE | PG_DIRTY, ME_LRU_DIRTY),
    (PG_UNEVICTABLE | PG_DIRTY, PG_UNEVICTABLE, ME_LRU_CLEAN),
    (PG_LRU | PG_DIRTY, PG_LRU | PG_DIRTY, ME_LRU_DIRTY),
    (PG_LRU | PG_DIRTY, PG_LRU, ME_LRU_CLEAN),
    (0, 0, ME_UNKNOWN),
)


def error_state(flags: int) -> int:
    """What has to be done about a page with these flags (ME_)."""
    for mask, value, action in ERROR_STATES:
        if flags & mask == value:
            return action
    return ME_UNKNOWN


def is_free_buddy_page(m: memoryview, pfn: int) -> bool:
    """True if the frame lies in a block on the buddy lists."""
    for order in range(MAX_ORDER):
        head = pfn & -(1 << order)
        if not pfn_is_valid(m, head):
            return False
        p = m[SECTION_PAGES + (head >> 15 << 2)] + (head << 3)
        if page_is_free_block(m, p) and pfn - head < 1 << m[p + P_PRIVATE]:
            return True
    return False


def delete_from_lru_cache(m: memoryview, cpu: int, p: int) -> bool:
    """Takes a page off its LRU list for good; False if it is on none."""
    if isolate_lru_page(m, cpu, p):
        return False
    m[p] &= ~(PG_ACTIVE | PG_UNEVICTABLE)
    mem_cgroup_uncharge(m, cpu, p)
    put_page_p(m, cpu, p)
    return True


def me_lru(m: memoryview, cpu: int, p: int) -> int:
    """A page on the lists, which nobody maps any more: off them, and out of its file."""
    delete_from_lru_cache(m, cpu, p)
    if page_anon(m, p):
        return MF_RECOVERED
    if page_mapping(m, p) == 0:
        return MF_FAILED
    cancel_dirty_page(m, cpu, p)
    drop_locked_page(m, cpu, p)
    return MF_RECOVERED


def page_action(m: memoryview, cpu: int, p: int, action: int) -> int:
    """Does what a page's state asks for: 0 if it worked, -EBUSY if others still use the page."""
    result = MF_FAILED
    if action in (ME_KERNEL, ME_HUGE):
        result = MF_IGNORED if action == ME_KERNEL else MF_DELAYED
    elif action == ME_SWAPCACHE_DIRTY:
        m[p] &= ~(PG_DIRTY | PG_UPTODATE)
        result = MF_DELAYED if delete_from_lru_cache(m, cpu, p) else MF_FAILED
    elif action == ME_SWAPCACHE_CLEAN:
        delete_from_swap_cache(m, cpu, p)
        result = MF_RECOVERED if delete_from_lru_cache(m, cpu, p) else MF_FAILED
    elif action in (ME_LRU_DIRTY, ME_LRU_CLEAN):
        if action == ME_LRU_DIRTY:
            m[p] |= PG_ERROR
        result = me_lru(m, cpu, p)
    others = page_count(m, p) - 1
    if action == ME_SWAPCACHE_DIRTY and result == MF_DELAYED:
        others -= 1
    return 0 if result in (MF_RECOVERED, MF_DELAYED) and others <= 0 else -EBUSY


def kill_procs(m: memoryview, p: int) -> None:
    """Every process that maps page `p` dies of SIGBUS (collect_procs and kill_procs)."""
    root = rmap_root(m, p)
    node = interval_tree_iter_first(m, root, m[p + P_INDEX], m[p + P_INDEX]) if root else 0
    while node:
        vma = rmap_vma(m, p, node)
        owner = m[((m[vma + VMA_MM] - PAGE_OFFSET) >> 3) + MM_OWNER]
        if owner and page_mapped_in_vma(m, p, vma):
            task = (owner - PAGE_OFFSET) >> 3
            m[task + TASK_FATAL_SIGNAL] = 1
            bad_area(m, task, page_address_in_vma(m, p, vma), SIGBUS, BUS_MCEERR_AO)
        node = interval_tree_iter_next(m, node, m[p + P_INDEX], m[p + P_INDEX])


def hwpoison_user_mappings(m: memoryview, cpu: int, p: int, flags: int) -> bool:
    """Takes the page out of all page tables, leaving traps if its bytes are lost; False if it
    could not be."""
    if m[p] & (PG_RESERVED | PG_SLAB) or not m[p] & PG_LRU or not page_mapped(m, p):
        return True
    ttu = TTU_IGNORE_MLOCK | TTU_IGNORE_ACCESS
    if m[p] & PG_SWAPCACHE:
        ttu |= TTU_IGNORE_HWPOISON
    kill = True
    file = m[p + P_MAPPING] & PAGE_MAPPING_ANON == 0 and page_mapping(m, p) != 0
    if flags & MF_MUST_KILL == 0 and m[p] & PG_DIRTY == 0 and file:
        if page_mkclean(m, cpu, p):
            set_page_dirty(m, cpu, p)
        else:
            # clean: it will be read again
            kill = False
            ttu |= TTU_IGNORE_HWPOISON
    if kill and flags & MF_ACTION_REQUIRED:
        kill_procs(m, p)
    mlocked = m[p] & PG_MLOCKED
    unmapped = try_to_unmap(m, cpu, p, ttu)
    if mlocked:
        lru_add_drain_all(m)
    return unmapped


def shake_page(m: memoryview, p: int) -> None:
    """Makes sure that a page waits in no pagevec and on no per-cpu list."""
    if m[p] & (PG_SLAB | PG_LRU) == 0:
        lru_add_drain_all(m)
        if m[p] & PG_LRU == 0:
            drain_all_pages(m, page_zone(m, p))


def take_poisoned(m: memoryview, cpu: int, p: int) -> bool:
    """Takes a reference of a page, splitting a huge one; False, unmarked, if that cannot be."""
    head = compound_head(m, p)
    m[head + P_COUNTS] += REF_ONE
    if m[head] & PG_HEAD:
        lock_page_wait(m, cpu, head)
        if split_huge_page(m, cpu, p):
            unlock_page(m, head)
            m[p] &= ~PG_HWPOISON
            m[G_NUM_POISONED_PAGES] -= 1
            put_page_p(m, cpu, head)
            return False
        unlock_page(m, p)
    return True


def memory_failure(m: memoryview, cpu: int, pfn: int, flags: int = 0) -> int:
    """Frame `pfn` is bad: 0 if nobody can be hurt by it any more, or a negative errno.

    -ENXIO: no such frame; -EBUSY: somebody uses it still (the kernel itself, or whoever holds a
    reference). `flags`: MF_ACTION_REQUIRED kills the processes that map a page whose bytes are lost
    at once, others die when they touch it; MF_MUST_KILL: even if the page is clean.
    """
    if not pfn_is_valid(m, pfn):
        return -ENXIO
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if m[p] & PG_HWPOISON:
        return 0
    m[p] |= PG_HWPOISON
    m[G_NUM_POISONED_PAGES] += 1
    head = compound_head(m, p)
    unknown = m[head] & PG_HEAD != 0 and not page_anon(m, head)
    if unknown or m[head + P_COUNTS] < REF_ONE:
        return 0 if is_free_buddy_page(m, pfn) else -EBUSY
    if not take_poisoned(m, cpu, p):
        return -EBUSY
    shake_page(m, p)
    lock_page_wait(m, cpu, p)
    state = m[p]
    if state & PG_LRU:
        wait_on_page_writeback(m, cpu, p)
        state = m[p]
        if not hwpoison_user_mappings(m, cpu, p, flags):
            unlock_page(m, p)
            return -EBUSY
        if m[p] & (PG_LRU | PG_SWAPCACHE) == PG_LRU and m[p + P_MAPPING] == 0:
            unlock_page(m, p)
            return -EBUSY
    action = error_state(m[p])
    if action == ME_UNKNOWN:
        action = error_state(state | m[p] & PG_DIRTY)
    rc = page_action(m, cpu, p, action)
    unlock_page(m, p)
    return rc
