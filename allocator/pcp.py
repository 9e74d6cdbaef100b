# SPDX-License-Identifier: GPL-2.0-only
"""Per-cpu page lists: the front of the allocator for single pages.

Every CPU has, for every zone, three short lists of order-0 pages (unmovable, movable,
reclaimable). A request takes the head; an empty list is refilled with `batch` pages. A freed page
goes to the head; at `high` pages, `batch` of them go back to the buddy lists, round robin from the
lists' tails. A page remembers in `index` the type of the free list that it belongs to.

All hot. `ps` is the word index of a pageset, `z` of a zone, names are those of mm/page_alloc.c.
"""

from __future__ import annotations

from .buddy import free_one_page
from .fallback import rmqueue_one
from .kernel_globals import G_NR_CPU_IDS, G_STATIC_KEYS, G_TRACE_MASK, KEY_DRAIN_ONE_ZONE
from .layout import (
    CPU_BLOCKS,
    CPU_BULK_FREE,
    CPU_EVENTS,
    CPU_NUMA_NODE,
    CPU_ONLINE,
    CPU_WORDS,
    NODE_DATA,
    PAGE_OFFSET,
    SECTION_PAGES,
    VMEMMAP_START,
)
from .list_head import direct_word, list_add_tail, list_del, va_word
from .mm_types import (
    COUNTS_FREE,
    COUNTS_ONE,
    LIST_POISON1,
    LIST_POISON2,
    NODES_MASK,
    NODES_PGSHIFT,
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_MEMCG,
    P_NEXT,
    P_PREV,
    P_PRIVATE,
    ZONES_MASK,
    ZONES_PGSHIFT,
)
from .mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MIGRATE_CMA,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_PCPTYPES,
    NR_FREE_CMA_PAGES,
    NR_FREE_PAGES,
    NUMA_HIT,
    NUMA_LOCAL,
    NUMA_STATS_THRESHOLD,
    PSET_BATCH,
    PSET_COUNT,
    PSET_HIGH,
    PSET_LISTS,
    PSET_NUMA_DIFF,
    PSET_WORDS,
    Z_NODE,
    Z_NR_ISOLATE,
    Z_PAGESET,
    Z_PRESENT,
    ZONE_WORDS,
)
from .page_check import check_new_page, free_pages_prepare
from .page_flags import page_place
from .pageblock import get_pageblock_migratetype
from .spinlock import lock_zone, unlock_zone
from .trace import trace
from .trace_events import (
    EV_DRAIN_PAGES_ZONE,
    EV_DRAIN_ZONE_PAGES,
    EV_FREE_PCPPAGES_BULK,
    EV_FREE_TO_BUDDY,
    EV_FREE_TO_PCP,
    EV_MM_PAGE_FREE,
    EV_MM_PAGE_FREE_BATCHED,
    EV_MM_PAGE_PCPU_DRAIN,
    EV_RMQUEUE,
    EV_RMQUEUE_BULK,
)
from .vm_events import PGALLOC, PGFREE
from .vmstat import mod_zone_page_state, zone_statistics

CPU_EVENTS_PGALLOC = CPU_EVENTS + PGALLOC
CPU_EVENTS_PGFREE = CPU_EVENTS + PGFREE
PSET_BYTES = PSET_WORDS * 8
PSET_LISTS_BYTES = PSET_LISTS * 8
PSET_NUMA_HIT = PSET_NUMA_DIFF + NUMA_HIT
PSET_NUMA_LOCAL = PSET_NUMA_DIFF + NUMA_LOCAL


def page_zone(m: memoryview, p: int) -> int:
    """Word index of the zone that the flags of page `p` name. Hot."""
    flags = m[p + P_FLAGS]
    nd = (m[NODE_DATA + (flags >> NODES_PGSHIFT & NODES_MASK)] - PAGE_OFFSET) >> 3
    return nd + (flags >> ZONES_PGSHIFT & ZONES_MASK) * ZONE_WORDS


def zone_idx(m: memoryview, z: int) -> int:
    """Index (0 DMA ... 3 Movable) of the zone at word `z` within its node. Hot."""
    return (z - ((m[NODE_DATA + m[z + Z_NODE]] - PAGE_OFFSET) >> 3)) // ZONE_WORDS


def rmqueue_bulk(m: memoryview, cpu: int, z: int, count: int, head: int, mt: int) -> int:
    """Moves up to `count` pages from the buddy lists to the tail of `head`; how many. Hot."""
    taken = 0
    lock_zone(m, z)
    while taken < count:
        pfn = rmqueue_one(m, cpu, z, 0, mt)
        if pfn < 0:
            break
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        list_add_tail(m, p + P_NEXT, VMEMMAP_START + (pfn << 6) + 8, head)
        taken += 1
        if m[p + P_INDEX] == MIGRATE_CMA:
            mod_zone_page_state(m, cpu, z, NR_FREE_CMA_PAGES, -1)
    mod_zone_page_state(m, cpu, z, NR_FREE_PAGES, -taken)
    unlock_zone(m, z)
    if m[G_TRACE_MASK] >> EV_RMQUEUE_BULK & 1:
        trace(m, EV_RMQUEUE_BULK, cpu, m[z + Z_NODE], zone_idx(m, z), mt, count, taken, 0, 0)
    return taken


def free_pcppages_bulk(m: memoryview, cpu: int, z: int, count: int, ps: int) -> None:
    """Gives `count` pages of a pageset back to the buddy lists, round robin over its lists.

    Starts with the movable list; every list that is tried adds one to the run taken from the next
    non-empty one, and when only one list is left it gives all the rest. The pages are first
    collected in that order, then merged in that order. `count` must not exceed the pageset's. Hot.
    """
    tm = m[G_TRACE_MASK]
    if tm >> EV_FREE_PCPPAGES_BULK & 1:
        trace(m, EV_FREE_PCPPAGES_BULK, cpu, m[z + Z_NODE], zone_idx(m, z), count, 0, 0, 0, 0)
    chain = CPU_BLOCKS + cpu * CPU_WORDS + CPU_BULK_FREE
    mt = 0
    batch_free = 0
    head = ps + PSET_LISTS
    head_va = PAGE_OFFSET + (head << 3)
    m[ps + PSET_COUNT] -= count
    while count > 0:
        tried = 0
        while tried < MIGRATE_PCPTYPES:
            tried += 1
            batch_free += 1
            mt += 1
            if mt == MIGRATE_PCPTYPES:
                mt = 0
            head = ps + PSET_LISTS + 2 * mt
            head_va = PAGE_OFFSET + (head << 3)
            if m[head] != head_va:
                break
        if m[head] == head_va:
            # the count promises pages that no list holds: somebody wrote over the pageset
            break
        if batch_free == MIGRATE_PCPTYPES:
            batch_free = count
        while True:
            va = m[head + 1]
            lru = va_word(m, va)
            list_del(m, lru)
            list_add_tail(m, lru, va, chain)
            count -= 1
            batch_free -= 1
            if count == 0 or batch_free == 0 or m[head] == head_va:
                break
    lock_zone(m, z)
    isolated = m[z + Z_NR_ISOLATE]
    end = PAGE_OFFSET + (chain << 3)
    va = m[chain]
    while va != end:
        pfn = (va - VMEMMAP_START) >> 6
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        va = m[p + P_NEXT]
        m[p + P_NEXT] = LIST_POISON1
        m[p + P_PREV] = LIST_POISON2
        mt = m[p + P_INDEX]
        if isolated:
            mt = get_pageblock_migratetype(m, pfn)
        free_one_page(m, cpu, z, pfn, 0, mt)
        if tm >> EV_MM_PAGE_PCPU_DRAIN & 1:
            trace(m, EV_MM_PAGE_PCPU_DRAIN, cpu, pfn, 0, mt, 0, 0, 0, 0)
    unlock_zone(m, z)
    m[chain] = end
    m[chain + 1] = end


def take_first_page(
    m: memoryview, cpu: int, preferred: int, z: int, ps: int, head: int, head_va: int, va: int
) -> int:
    """Takes the page whose lru has address `va` off the head of a list of zone `z`'s pageset `ps`.

    Counts it, and gives it the first reference that prep_new_page() gives; its rest is rarely
    needed. PFN, or -1 if the page was unfit and has been reported. Hot.
    """
    pfn = va - VMEMMAP_START >> 6
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    nxt = m[p + P_NEXT]
    m[head] = nxt
    if nxt == head_va:
        m[head + 1] = head_va
    elif nxt >= VMEMMAP_START:
        off = nxt - VMEMMAP_START
        m[m[SECTION_PAGES + (off >> 21 << 2)] + (off >> 3) + 1] = head_va
    else:
        m[direct_word(nxt) + 1] = head_va
    m[ps + PSET_COUNT] = m[ps + PSET_COUNT] - 1
    _, zid, marks = page_place(m[p])
    if m[p + P_COUNTS] != COUNTS_FREE or marks or m[p + P_MAPPING] or m[p + P_MEMCG]:
        m[p + P_NEXT] = LIST_POISON1
        m[p + P_PREV] = LIST_POISON2
        # which says why, because this is all that it lets pass
        check_new_page(m, cpu, pfn)
        return -1
    (
        m[p + P_NEXT],
        m[p + P_PREV],
        m[p + P_MAPPING],
        m[p + P_INDEX],
        m[p + P_PRIVATE],
        m[p + P_COUNTS],
        m[p + P_MEMCG],
    ) = LIST_POISON1, LIST_POISON2, 0, 0, 0, COUNTS_ONE, 0
    block = CPU_BLOCKS + cpu * CPU_WORDS
    m[block + CPU_EVENTS_PGALLOC + zid] += 1
    # zone_statistics() of the usual case: a hit, on the CPU's own node
    hits = m[ps + PSET_NUMA_HIT]
    local = m[ps + PSET_NUMA_LOCAL]
    if (
        preferred == z
        and hits < NUMA_STATS_THRESHOLD
        and local < NUMA_STATS_THRESHOLD
        and m[z + Z_NODE] == m[block + CPU_NUMA_NODE]
    ):
        m[ps + PSET_NUMA_HIT] = hits + 1
        m[ps + PSET_NUMA_LOCAL] = local + 1
    else:
        zone_statistics(m, cpu, preferred, z)
    return pfn


def rmqueue_pcplist(m: memoryview, cpu: int, preferred: int, z: int, mt: int, tracing: int) -> int:
    """Takes a page of type `mt` from `cpu`'s list of zone `z`, refilling it; PFN or -1.

    Counts the allocation, for the events and for NUMA statistics against the zone `preferred`. Hot.
    """
    head_va = m[z + Z_PAGESET] + (cpu * PSET_BYTES + (mt << 4) + PSET_LISTS_BYTES)
    head = direct_word(head_va)
    ps = head - (mt + mt + PSET_LISTS)
    page_mt = -1
    while True:
        va = m[head]
        if va == head_va:
            m[ps + PSET_COUNT] += rmqueue_bulk(m, cpu, z, m[ps + PSET_BATCH], head, mt)
            va = m[head]
            if va == head_va:
                if tracing >> EV_RMQUEUE & 1:
                    zid = zone_idx(m, z)
                    trace(m, EV_RMQUEUE, cpu, m[z + Z_NODE], zid, 0, mt, -1, -1, 0)
                return -1
        if tracing:
            page_mt = m[va_word(m, va) + P_INDEX - P_NEXT]
        pfn = take_first_page(m, cpu, preferred, z, ps, head, head_va, va)
        if pfn >= 0:
            break
    if tracing >> EV_RMQUEUE & 1:
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        zid = m[p + P_FLAGS] >> ZONES_PGSHIFT & ZONES_MASK
        trace(m, EV_RMQUEUE, cpu, m[z + Z_NODE], zid, 0, mt, pfn, page_mt, 0)
    return pfn


def free_block(m: memoryview, cpu: int, z: int, pfn: int, order: int, mt: int) -> None:
    """Gives a block back to the buddy lists, under its pageblock's type of now where isolation
    is going on (free_one_page of mm/page_alloc.c). Hot."""
    lock_zone(m, z)
    if m[z + Z_NR_ISOLATE] or mt == MIGRATE_ISOLATE:
        mt = get_pageblock_migratetype(m, pfn)
    if m[G_TRACE_MASK] >> EV_FREE_TO_BUDDY & 1:
        trace(m, EV_FREE_TO_BUDDY, cpu, m[z + Z_NODE], zone_idx(m, z), order, pfn, mt, 0, 0)
    free_one_page(m, cpu, z, pfn, order, mt)
    unlock_zone(m, z)


def free_isolated_page(m: memoryview, cpu: int, z: int, pfn: int) -> None:
    """Gives a page of an isolated pageblock to the buddy lists at once. Hot."""
    free_block(m, cpu, z, pfn, 0, MIGRATE_ISOLATE)


def free_unref_page_commit(m: memoryview, cpu: int, pfn: int, p: int, page_mt: int) -> None:
    """Puts a prepared page of type `page_mt` on `cpu`'s list, or back if it is isolated. Hot."""
    nid, zid, _ = page_place(m[p])
    commit_page(m, cpu, pfn, p, page_mt, nid, zid, m[G_TRACE_MASK])


def commit_page(
    m: memoryview, cpu: int, pfn: int, p: int, page_mt: int, nid: int, zid: int, tracing: int
) -> None:
    """free_unref_page_commit() where the page's zone and the trace mask are known. Hot."""
    z = direct_word(m[NODE_DATA + nid]) + zid * ZONE_WORDS
    m[CPU_BLOCKS + CPU_EVENTS_PGFREE + cpu * CPU_WORDS] += 1
    mt = page_mt
    if mt >= MIGRATE_PCPTYPES:
        if mt == MIGRATE_ISOLATE:
            free_isolated_page(m, cpu, z, pfn)
            return
        mt = MIGRATE_MOVABLE
    head_va = m[z + Z_PAGESET] + (cpu * PSET_BYTES + (mt << 4) + PSET_LISTS_BYTES)
    head = direct_word(head_va)
    ps = head - (mt + mt + PSET_LISTS)
    first = m[head]
    va = VMEMMAP_START + 8 + (pfn << 6)
    if first == head_va:
        m[head + 1] = va
    elif first >= VMEMMAP_START:
        off = first - VMEMMAP_START
        m[m[SECTION_PAGES + (off >> 21 << 2)] + (off >> 3) + 1] = va
    else:
        m[direct_word(first) + 1] = va
    m[p + P_NEXT] = first
    m[p + P_PREV] = head_va
    m[head] = va
    count = m[ps + PSET_COUNT] + 1
    m[ps + PSET_COUNT] = count
    if tracing >> EV_FREE_TO_PCP & 1:
        trace(m, EV_FREE_TO_PCP, cpu, nid, zid, mt, pfn, page_mt, 0, 0)
    if count >= m[ps + PSET_HIGH]:
        free_pcppages_bulk(m, cpu, z, m[ps + PSET_BATCH], ps)


def free_unref_page(m: memoryview, cpu: int, pfn: int) -> bool:
    """Frees one page whose last reference is gone; False if it was set aside as bad. Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    tracing = m[G_TRACE_MASK]
    if tracing >> EV_MM_PAGE_FREE & 1:
        trace(m, EV_MM_PAGE_FREE, cpu, pfn, 0, 0, 0, 0, 0, 0)
    if not free_pages_prepare(m, cpu, pfn, p, 0):
        return False
    mt = get_pageblock_migratetype(m, pfn)
    m[p + P_INDEX] = mt
    nid, zid, _ = page_place(m[p])
    commit_page(m, cpu, pfn, p, mt, nid, zid, tracing)
    return True


def free_unref_page_list(m: memoryview, cpu: int, head: int) -> int:
    """Frees the order-0 pages linked at list head `head`; how many were freed. Hot.

    The pages' last references are gone. Bad pages leave the list and are set aside; the head is
    left empty.
    """
    end = PAGE_OFFSET + (head << 3)
    tm = m[G_TRACE_MASK]
    va = m[head]
    while va != end:
        pfn = (va - VMEMMAP_START) >> 6
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        va = m[p + P_NEXT]
        if tm >> EV_MM_PAGE_FREE & 1:
            trace(m, EV_MM_PAGE_FREE, cpu, pfn, 0, 0, 0, 0, 0, 0)
        if free_pages_prepare(m, cpu, pfn, p, 0):
            m[p + P_INDEX] = get_pageblock_migratetype(m, pfn)
        else:
            list_del(m, p + P_NEXT)
        m[p + P_PRIVATE] = pfn
    freed = 0
    va = m[head]
    while va != end:
        pfn = (va - VMEMMAP_START) >> 6
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        va = m[p + P_NEXT]
        m[p + P_PRIVATE] = 0
        if tm >> EV_MM_PAGE_FREE_BATCHED & 1:
            trace(m, EV_MM_PAGE_FREE_BATCHED, cpu, pfn, 0, 0, 0, 0, 0, 0)
        free_unref_page_commit(m, cpu, pfn, p, m[p + P_INDEX])
        freed += 1
    m[head] = end
    m[head + 1] = end
    return freed


def drain_zone_pages(m: memoryview, cpu: int, z: int, ps: int) -> None:
    """Gives back at most `batch` pages of an expired remote pageset. Hot."""
    count = m[ps + PSET_COUNT]
    batch = m[ps + PSET_BATCH]
    count = min(count, batch)
    if m[G_TRACE_MASK] >> EV_DRAIN_ZONE_PAGES & 1:
        trace(m, EV_DRAIN_ZONE_PAGES, cpu, m[z + Z_NODE], zone_idx(m, z), count, 0, 0, 0, 0)
    if count > 0:
        free_pcppages_bulk(m, cpu, z, count, ps)


def drain_pages_zone(m: memoryview, cpu: int, z: int) -> None:
    """Gives all pages of `cpu`'s pageset of zone `z` back to the buddy lists. Hot."""
    ps = ((m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + cpu * PSET_WORDS
    count = m[ps + PSET_COUNT]
    if m[G_TRACE_MASK] >> EV_DRAIN_PAGES_ZONE & 1:
        trace(m, EV_DRAIN_PAGES_ZONE, cpu, cpu, m[z + Z_NODE], zone_idx(m, z), count, 0, 0, 0)
    if count:
        free_pcppages_bulk(m, cpu, z, count, ps)


def drain_local_pages(m: memoryview, cpu: int) -> None:
    """drain_pages_zone() for every populated zone. Hot."""
    for nid in range(MAX_NUMNODES):
        va = m[NODE_DATA + nid]
        if va:
            for zid in range(MAX_NR_ZONES):
                z = ((va - PAGE_OFFSET) >> 3) + zid * ZONE_WORDS
                if m[z + Z_PRESENT]:
                    drain_pages_zone(m, cpu, z)


def drain_all_pages(m: memoryview, z: int) -> None:
    """Drains every CPU that holds pages of zone `z` (all its zones then); z = -1: any zone. Hot.

    As in 4.20, the test looks at zone `z` only, but the work drains all zones of that CPU; with
    KEY_DRAIN_ONE_ZONE it drains `z` alone, as kernels that hand the zone to the work do.
    """
    one_zone = m[G_STATIC_KEYS] & KEY_DRAIN_ONE_ZONE
    for cpu in range(m[G_NR_CPU_IDS]):
        if m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE] == 0:
            continue
        if z >= 0:
            ps = ((m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + cpu * PSET_WORDS
            if m[ps + PSET_COUNT]:
                if one_zone:
                    drain_pages_zone(m, cpu, z)
                else:
                    drain_local_pages(m, cpu)
        elif cpu_has_pages(m, cpu):
            drain_local_pages(m, cpu)


def cpu_has_pages(m: memoryview, cpu: int) -> bool:
    """True if any per-cpu list of `cpu` holds a page. Hot."""
    for nid in range(MAX_NUMNODES):
        va = m[NODE_DATA + nid]
        if va:
            for zid in range(MAX_NR_ZONES):
                z = ((va - PAGE_OFFSET) >> 3) + zid * ZONE_WORDS
                if m[z + Z_PRESENT]:
                    ps = ((m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + cpu * PSET_WORDS
                    if m[ps + PSET_COUNT]:
                        return True
    return False
