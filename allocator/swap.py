# SPDX-License-Identifier: GPL-2.0-only
"""How pages get onto the LRU lists and move on them (mm/swap.c).

Lists are touched in batches. Every CPU has five pagevecs of fifteen pages: pages to be added, to be
rotated to the inactive tail when their writeback ended, file pages to deactivate, anonymous pages
given up by their owner (lazyfree), and pages to activate. A page in a pagevec carries a reference
for it, so it can neither be freed nor moved on until the pagevec is full or drained; a compound
page drains the pagevec that it enters.

All hot. `p` is a struct page's word index, `pv` a pagevec's.
"""

from __future__ import annotations

from .kernel_globals import G_LRU_PVECS, G_MEMMAP_INDEX, G_MEMMAP_INDEX_LEN, G_NR_CPU_IDS
from .layout import (
    CPU_BLOCKS,
    CPU_EVENTS,
    CPU_ONLINE,
    CPU_WORDS,
    NODE_DATA,
    PAGE_OFFSET,
    SECTION_PAGES,
    VMEMMAP_START,
)
from .list_head import va_word
from .lruvec import page_lruvec
from .mm_inline import (
    PG_SWAPCACHE,
    add_page_to_lru_list,
    add_page_to_lru_list_tail,
    compound_head,
    del_page_from_lru_list,
    hpage_nr_pages,
    page_is_file_cache,
    page_lru,
    page_lru_base_type,
    page_mapped,
    page_to_pfn,
    update_lru_size,
    update_page_reclaim_stat,
)
from .mm_struct import VM_LOCKED, VM_SPECIAL, VMA_FLAGS
from .mm_types import (
    P_COUNTS,
    P_MAPPING,
    P_MEMCG,
    P_NEXT,
    PAGE_MAPPING_ANON,
    PG_ACTIVE,
    PG_DIRTY,
    PG_HEAD,
    PG_LOCKED,
    PG_LRU,
    PG_MLOCKED,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_SWAPBACKED,
    PG_UNEVICTABLE,
    PG_WRITEBACK,
    REF_ONE,
    ZONES_MASK,
    ZONES_PGSHIFT,
)
from .mmzone import (
    LRU_ACTIVE,
    LRU_FILE,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    LRU_UNEVICTABLE,
    ND_LRU_LISTS,
    ND_LRUVEC,
    ND_PER_CPU_NODESTATS,
    ND_RECENT_ROTATED,
    ND_RECENT_SCANNED,
    ND_VM_STAT,
    NODESTAT_DIFF,
    NODESTAT_THRESHOLD,
    NODESTAT_WORDS,
    NR_LRU_BASE,
    NR_MLOCK,
    NR_ZONE_LRU_BASE,
    PSET_STAT_DIFF,
    PSET_THRESHOLD,
    PSET_WORDS,
    Z_PAGESET,
    Z_VM_STAT,
    ZONE_WORDS,
)
from .pagevec import (
    PAGEVEC_SIZE,
    PV_ACTIVATE,
    PV_ADD,
    PV_DEACTIVATE,
    PV_LAZYFREE,
    PV_ROTATE,
    PVECS_WORDS,
    pagevec_add,
    pagevec_page,
    pagevec_release,
    pagevecs,
    put_page_p,
)
from .pagevec import release_pages as release_pages
from .pagevec import swap_setup as swap_setup
from .pcp import page_zone
from .vm_events import VM_EVENT_NAMES
from .vmstat import count_vm_events, mod_zone_page_state
from .workingset import workingset_activation

put_page = put_page_p
PG_SPECIAL = PG_MLOCKED | PG_UNEVICTABLE | PG_HEAD
KEY_MASK = -(1 << ZONES_PGSHIFT) | PG_SWAPBACKED | PG_ACTIVE
"""What of a plain page's flags decides on its list: node, zone, kind."""
PGACTIVATE = VM_EVENT_NAMES.index("pgactivate")
PGDEACTIVATE = VM_EVENT_NAMES.index("pgdeactivate")
PGLAZYFREE = VM_EVENT_NAMES.index("pglazyfree")
PGROTATED = VM_EVENT_NAMES.index("pgrotated")
UNEVICTABLE_PGCULLED = VM_EVENT_NAMES.index("unevictable_pgs_culled")
UNEVICTABLE_PGRESCUED = VM_EVENT_NAMES.index("unevictable_pgs_rescued")
UNEVICTABLE_PGMLOCKED = VM_EVENT_NAMES.index("unevictable_pgs_mlocked")


# --- adding ---------------------------------------------------------------------------------------
def lru_cache_add(m: memoryview, cpu: int, p: int) -> None:
    """Queues a page for the list that its flags say when the queue is drained. Hot."""
    pv = (m[G_LRU_PVECS] - PAGE_OFFSET >> 3) + cpu * PVECS_WORDS
    m[p + P_COUNTS] += REF_ONE
    nr = m[pv] + 1
    m[pv] = nr
    # page_to_pfn(): every page that is faulted in comes by here
    base = 0
    if p >> 18 < m[G_MEMMAP_INDEX_LEN]:
        base = m[(m[G_MEMMAP_INDEX] - PAGE_OFFSET >> 3) + (p >> 18)]
    pfn = p - base >> 3 if base else page_to_pfn(m, p)
    m[pv + nr] = VMEMMAP_START + (pfn << 6)
    if nr == PAGEVEC_SIZE or m[p] & PG_HEAD:
        pagevec_lru_add(m, cpu, pv)


def lru_cache_add_anon(m: memoryview, cpu: int, p: int) -> None:
    """Queues an anonymous page for the inactive list. Hot."""
    m[p] &= ~PG_ACTIVE
    lru_cache_add(m, cpu, p)


def lru_cache_add_file(m: memoryview, cpu: int, p: int) -> None:
    """Queues a file page for the inactive list. Hot."""
    m[p] &= ~PG_ACTIVE
    lru_cache_add(m, cpu, p)


def lru_cache_add_active_or_unevictable(m: memoryview, cpu: int, p: int, vma: int) -> None:
    """Queues a page that was faulted into `vma`: active, or mlocked with its area. Hot."""
    if m[vma + VMA_FLAGS] & (VM_LOCKED | VM_SPECIAL) != VM_LOCKED:
        m[p] |= PG_ACTIVE
    elif m[p] & PG_MLOCKED == 0:
        m[p] |= PG_MLOCKED
        mod_zone_page_state(m, cpu, page_zone(m, p), NR_MLOCK, hpage_nr_pages(m, p))
        count_vm_events(m, cpu, UNEVICTABLE_PGMLOCKED, 1)
    lru_cache_add(m, cpu, p)


def add_ones(m: memoryview, diff: int, threshold: int, total: int, n: int) -> None:
    """`n` single additions to a per-cpu delta (word `diff`), folded into word `total` as each one
    would. Hot."""
    x = m[diff] + 1
    if x > threshold or x < -threshold:
        # the threshold may have become lower since
        m[total] += x
        x = 0
    x += n - 1
    if x > threshold:
        folded = x - x % (threshold + 1)
        m[total] += folded
        x -= folded
    m[diff] = x


def count_added(m: memoryview, cpu: int, place: int, lru: int, n: int) -> None:
    """Counts `n` pages added to a list; `place` is the top byte of their flags. Hot."""
    nd = (m[NODE_DATA + (place >> 2)] - PAGE_OFFSET) >> 3
    va = m[nd + ND_PER_CPU_NODESTATS]
    if va == 0:
        update_lru_size(m, cpu, nd + ND_LRUVEC, lru, place & ZONES_MASK, n)
        return
    ns = (va - PAGE_OFFSET >> 3) + cpu * NODESTAT_WORDS
    item = NR_LRU_BASE + lru
    threshold = m[ns + NODESTAT_THRESHOLD]
    add_ones(m, ns + NODESTAT_DIFF + item, threshold, nd + ND_VM_STAT + item, n)
    z = nd + (place & ZONES_MASK) * ZONE_WORDS
    ps = (m[z + Z_PAGESET] - PAGE_OFFSET >> 3) + cpu * PSET_WORDS
    item = NR_ZONE_LRU_BASE + lru
    add_ones(m, ps + PSET_STAT_DIFF + item, m[ps + PSET_THRESHOLD], z + Z_VM_STAT + item, n)


def choose_lru(m: memoryview, cpu: int, p: int, flags: int) -> int:
    """The list for a page that is about to be added, setting its flags; PG_lru too. Hot."""
    events = CPU_BLOCKS + cpu * CPU_WORDS + CPU_EVENTS
    if flags & PG_MLOCKED == 0:
        if flags & PG_UNEVICTABLE:
            m[events + UNEVICTABLE_PGRESCUED] += 1
        m[p] = flags & ~PG_UNEVICTABLE | PG_LRU
        lru = 0 if flags & PG_SWAPBACKED else LRU_FILE
        return lru + LRU_ACTIVE if flags & PG_ACTIVE else lru
    if flags & PG_UNEVICTABLE == 0:
        m[events + UNEVICTABLE_PGCULLED] += 1
    m[p] = flags & ~PG_ACTIVE | PG_UNEVICTABLE | PG_LRU
    return LRU_UNEVICTABLE


def pagevec_lru_add(m: memoryview, cpu: int, pv: int) -> None:
    """Puts a pagevec's pages onto their lists and drops its references (__pagevec_lru_add). Hot.

    A run of plain pages for the same list is linked in one go, and counted once.
    """
    nr = m[pv]
    m[pv] = 0
    key = 1
    place = lru = head = first = first_lru = run = last = 0
    for w in range(pv + 1, pv + nr + 1):
        va = m[w]
        pfn = va - VMEMMAP_START >> 6
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        flags = m[p]
        if flags & PG_SPECIAL or m[p + P_MEMCG]:
            if run:
                end_run(m, cpu, place, lru, run, first, first_lru)
                run = 0
            key = 1
            lru_add_one(m, cpu, p, flags)
        else:
            if flags & KEY_MASK != key:
                if run:
                    end_run(m, cpu, place, lru, run, first, first_lru)
                    run = 0
                key = flags & KEY_MASK
                place = flags >> ZONES_PGSHIFT & 0xFF
                lru = 0 if flags & PG_SWAPBACKED else LRU_FILE
                if flags & PG_ACTIVE:
                    lru += LRU_ACTIVE
                nd = (m[NODE_DATA + (place >> 2)] - PAGE_OFFSET) >> 3
                head = nd + ND_LRU_LISTS + 2 * lru
                first = m[head]
                first_lru = va_word(m, first)
            m[p] = flags | PG_LRU
            va += 8
            m[first_lru + 1] = va
            m[p + P_NEXT] = first
            first = va
            first_lru = p + P_NEXT
            run += 1
        counts = m[p + P_COUNTS] - REF_ONE
        if counts >= REF_ONE:
            m[p + P_COUNTS] = counts
            m[w] = 0
        else:
            last = 1
    if run:
        end_run(m, cpu, place, lru, run, first, first_lru)
    if last:
        release_pages(m, cpu, pv + 1, nr)


def end_run(
    m: memoryview, cpu: int, place: int, lru: int, run: int, first: int, first_lru: int
) -> None:
    """Hangs `run` linked pages, of which the address `first` at word `first_lru` came last, onto
    the head of their list, and counts them. Hot."""
    nd = (m[NODE_DATA + (place >> 2)] - PAGE_OFFSET) >> 3
    head = nd + ND_LRU_LISTS + 2 * lru
    m[head] = first
    m[first_lru + 1] = PAGE_OFFSET + (head << 3)
    m[nd + ND_RECENT_SCANNED + (lru >> 1)] += run
    if lru & LRU_ACTIVE:
        m[nd + ND_RECENT_ROTATED + (lru >> 1)] += run
    count_added(m, cpu, place, lru, run)


def lru_add_one(m: memoryview, cpu: int, p: int, flags: int) -> None:
    """Puts a page that is mlocked, was unevictable, is compound or charged onto its list. Hot."""
    lru = choose_lru(m, cpu, p, flags)
    lv = page_lruvec(m, p)
    if lru != LRU_UNEVICTABLE:
        update_page_reclaim_stat(m, lv, lru >> 1, lru & LRU_ACTIVE)
    add_page_to_lru_list(m, cpu, p, lv, lru)


# --- moving ---------------------------------------------------------------------------------------
def pagevec_move_tail(m: memoryview, cpu: int, pv: int) -> None:
    """Moves a pagevec's pages to the tail of their inactive list. Hot."""
    moved = 0
    for i in range(1, m[pv] + 1):
        p = pagevec_page(m, pv, i)
        if m[p] & (PG_LRU | PG_UNEVICTABLE) == PG_LRU:
            lv = page_lruvec(m, p)
            del_page_from_lru_list(m, cpu, p, lv, page_lru(m, p))
            m[p] &= ~PG_ACTIVE
            add_page_to_lru_list_tail(m, cpu, p, lv, page_lru(m, p))
            moved += 1
    count_vm_events(m, cpu, PGROTATED, moved)
    pagevec_release(m, cpu, pv)


def rotate_reclaimable_page(m: memoryview, cpu: int, p: int) -> None:
    """Sends a page whose writeback ended, and that reclaim waits for, to the inactive tail. Hot."""
    if m[p] & (PG_LOCKED | PG_DIRTY | PG_UNEVICTABLE | PG_LRU) == PG_LRU:
        pv = pagevecs(m, cpu) + PV_ROTATE
        if pagevec_add(m, pv, p):
            pagevec_move_tail(m, cpu, pv)


def pagevec_activate(m: memoryview, cpu: int, pv: int) -> None:
    """Moves a pagevec's pages to the active lists. Hot."""
    for i in range(1, m[pv] + 1):
        p = pagevec_page(m, pv, i)
        if m[p] & (PG_LRU | PG_ACTIVE | PG_UNEVICTABLE) == PG_LRU:
            lv = page_lruvec(m, p)
            lru = page_lru_base_type(m, p)
            del_page_from_lru_list(m, cpu, p, lv, lru)
            m[p] |= PG_ACTIVE
            add_page_to_lru_list(m, cpu, p, lv, lru + LRU_ACTIVE)
            count_vm_events(m, cpu, PGACTIVATE, 1)
            update_page_reclaim_stat(m, lv, page_is_file_cache(m, p), 1)
    pagevec_release(m, cpu, pv)


def activate_page(m: memoryview, cpu: int, p: int) -> None:
    """Queues a page of an inactive list for the active one. Hot."""
    p = compound_head(m, p)
    if m[p] & (PG_LRU | PG_ACTIVE | PG_UNEVICTABLE) == PG_LRU:
        pv = pagevecs(m, cpu) + PV_ACTIVATE
        if pagevec_add(m, pv, p):
            pagevec_activate(m, cpu, pv)


def lru_cache_activate_page(m: memoryview, cpu: int, p: int) -> None:
    """Marks a page active that waits in this CPU's queue of additions. Hot."""
    pv = pagevecs(m, cpu) + PV_ADD
    va = VMEMMAP_START + (page_to_pfn(m, p) << 6)
    for i in range(m[pv], 0, -1):
        if m[pv + i] == va:
            m[p] |= PG_ACTIVE
            return


def mark_page_accessed(m: memoryview, cpu: int, p: int) -> None:
    """Notes a use of a page: the first sets PG_referenced, the second activates it. Hot."""
    p = compound_head(m, p)
    flags = m[p]
    if flags & (PG_ACTIVE | PG_UNEVICTABLE | PG_REFERENCED) == PG_REFERENCED:
        if flags & PG_LRU:
            activate_page(m, cpu, p)
        else:
            lru_cache_activate_page(m, cpu, p)
        m[p] &= ~PG_REFERENCED
        if page_is_file_cache(m, p):
            workingset_activation(m, p)
    elif flags & PG_REFERENCED == 0:
        m[p] = flags | PG_REFERENCED


def lru_deactivate_file(m: memoryview, cpu: int, p: int) -> None:
    """Moves an unmapped file page to the inactive list: its head if it must be written. Hot."""
    if m[p] & (PG_LRU | PG_UNEVICTABLE) != PG_LRU or page_mapped(m, p):
        return
    active = m[p] & PG_ACTIVE
    lru = page_lru_base_type(m, p)
    lv = page_lruvec(m, p)
    del_page_from_lru_list(m, cpu, p, lv, lru + LRU_ACTIVE if active else lru)
    m[p] &= ~(PG_ACTIVE | PG_REFERENCED)
    if m[p] & (PG_WRITEBACK | PG_DIRTY):
        add_page_to_lru_list(m, cpu, p, lv, lru)
        m[p] |= PG_RECLAIM
    else:
        add_page_to_lru_list_tail(m, cpu, p, lv, lru)
        count_vm_events(m, cpu, PGROTATED, 1)
    if active:
        count_vm_events(m, cpu, PGDEACTIVATE, 1)
    update_page_reclaim_stat(m, lv, page_is_file_cache(m, p), 0)


def pagevec_deactivate_file(m: memoryview, cpu: int, pv: int) -> None:
    """lru_deactivate_file() for a pagevec. Hot."""
    for i in range(1, m[pv] + 1):
        lru_deactivate_file(m, cpu, pagevec_page(m, pv, i))
    pagevec_release(m, cpu, pv)


def deactivate_file_page(m: memoryview, cpu: int, p: int) -> None:
    """Queues a page that could not be invalidated for the inactive list. Hot."""
    if m[p] & PG_UNEVICTABLE == 0 and m[p + P_COUNTS] >= REF_ONE:
        pv = pagevecs(m, cpu) + PV_DEACTIVATE
        if pagevec_add(m, pv, p):
            pagevec_deactivate_file(m, cpu, pv)


def can_lazyfree(m: memoryview, p: int) -> bool:
    """True for an evictable anonymous page on a list that has no swap yet. Hot."""
    flags = m[p]
    if m[p + P_MAPPING] & PAGE_MAPPING_ANON == 0:
        return False
    return (
        flags & (PG_LRU | PG_SWAPBACKED | PG_SWAPCACHE | PG_UNEVICTABLE) == PG_LRU | PG_SWAPBACKED
    )


def pagevec_lazyfree(m: memoryview, cpu: int, pv: int) -> None:
    """Moves a pagevec's anonymous pages to the inactive file list, without swap. Hot."""
    for i in range(1, m[pv] + 1):
        p = pagevec_page(m, pv, i)
        if can_lazyfree(m, p):
            lv = page_lruvec(m, p)
            lru = LRU_INACTIVE_ANON + (LRU_ACTIVE if m[p] & PG_ACTIVE else 0)
            del_page_from_lru_list(m, cpu, p, lv, lru)
            m[p] &= ~(PG_ACTIVE | PG_REFERENCED | PG_SWAPBACKED)
            add_page_to_lru_list(m, cpu, p, lv, LRU_INACTIVE_FILE)
            count_vm_events(m, cpu, PGLAZYFREE, hpage_nr_pages(m, p))
            update_page_reclaim_stat(m, lv, 1, 0)
    pagevec_release(m, cpu, pv)


def mark_page_lazyfree(m: memoryview, cpu: int, p: int) -> None:
    """Queues an anonymous page that its owner gave up (MADV_FREE). Hot."""
    if can_lazyfree(m, p):
        pv = pagevecs(m, cpu) + PV_LAZYFREE
        if pagevec_add(m, pv, p):
            pagevec_lazyfree(m, cpu, pv)


# --- draining -------------------------------------------------------------------------------------
def lru_add_drain(m: memoryview, cpu: int) -> None:
    """Empties all pagevecs of `cpu` (lru_add_drain_cpu). Hot."""
    if m[G_LRU_PVECS] == 0:
        return
    lru_add_drain_cpu(m, cpu, cpu)


def lru_add_drain_cpu(m: memoryview, cpu: int, of: int) -> None:
    """Empties the pagevecs of CPU `of`; counters and freed pages go to `cpu`. Hot."""
    pv = pagevecs(m, of)
    if m[pv + PV_ADD]:
        pagevec_lru_add(m, cpu, pv + PV_ADD)
    if m[pv + PV_ROTATE]:
        pagevec_move_tail(m, cpu, pv + PV_ROTATE)
    if m[pv + PV_DEACTIVATE]:
        pagevec_deactivate_file(m, cpu, pv + PV_DEACTIVATE)
    if m[pv + PV_LAZYFREE]:
        pagevec_lazyfree(m, cpu, pv + PV_LAZYFREE)
    if m[pv + PV_ACTIVATE]:
        pagevec_activate(m, cpu, pv + PV_ACTIVATE)


def lru_add_drain_all(m: memoryview) -> None:
    """Empties the pagevecs of all online CPUs, each by its own worker. Hot."""
    if m[G_LRU_PVECS] == 0:
        return
    for cpu in range(m[G_NR_CPU_IDS]):
        if m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE]:
            lru_add_drain_cpu(m, cpu, cpu)


def lru_add_page_tail(m: memoryview, cpu: int, p: int, tail: int, head: int) -> None:
    """Lists a small page that splits off the huge page `p`: behind it, or on list `head`. Hot.

    `tail` must no longer look like a tail page. With `head` (a word index, not 0) reclaim has the
    huge page isolated, and takes a reference of the small one.
    """
    va = VMEMMAP_START + (page_to_pfn(m, tail) << 6) + 8
    lv = page_lruvec(m, p)
    if head == 0:
        m[tail] |= PG_LRU
    if m[p] & PG_LRU:
        prev = m[p + P_NEXT + 1]
        m[va_word(m, prev)] = va
        m[tail + P_NEXT] = VMEMMAP_START + (page_to_pfn(m, p) << 6) + 8
        m[tail + P_NEXT + 1] = prev
        m[p + P_NEXT + 1] = va
    elif head:
        m[tail + P_COUNTS] += REF_ONE
        last = m[head + 1]
        m[va_word(m, last)] = va
        m[tail + P_NEXT] = PAGE_OFFSET + (head << 3)
        m[tail + P_NEXT + 1] = last
        m[head + 1] = va
    else:
        # the huge page is in a pagevec and not yet counted: its parts count for themselves
        add_page_to_lru_list_tail(m, cpu, tail, lv, page_lru(m, tail))
    if m[p] & PG_UNEVICTABLE == 0:
        update_page_reclaim_stat(m, lv, 0, 1 if m[tail] & PG_ACTIVE else 0)
