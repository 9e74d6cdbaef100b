# SPDX-License-Identifier: GPL-2.0-only
"""Ageing the LRU lists of a node: what is scanned, how much of which list (mm/vmscan.c).

A node has two lists for anonymous and two for file pages. Pages at the tail of an inactive list are
reclaimed (`shrink_inactive_list`), and where that list is too short in proportion, pages from the
tail of the active list follow (`shrink_active_list`). `get_scan_count` decides how many pages of
each list to look at: by its size and the priority, by swappiness, and by how many of the pages
scanned lately turned out to be in use.

Pages of zones above the request's are passed over and go to the head of their list. `nd` is the
word index of a node, `lv` of one of its sets of lists (lruvec), `p` of a page.
"""

from __future__ import annotations

from math import isqrt

from .blockdev import blk_poll
from .compact_free import fatal_signal_pending
from .deferred_split import free_compound
from .flusher import wakeup_flusher_threads
from .gfp import GFP_FS_BIT, GFP_IO_BIT
from .kernel_globals import (
    G_CLOCK,
    G_MEMCG_ON_DFL,
    G_NR_SWAP_PAGES,
    G_TOTAL_SWAP_PAGES,
    G_TRACE_MASK2,
    G_VM_SWAPPINESS,
)
from .layout import SECTION_PAGES, VMEMMAP_START
from .list_head import list_add, list_del, list_empty
from .lru_isolate import ISOLATE_UNMAPPED, isolate_lru_page_mode, putback_lru_page
from .lruvec import (
    LV_LISTS,
    LV_RECENT_ROTATED,
    LV_RECENT_SCANNED,
    LV_REFAULTS,
    lruvec_lru_size,
    lruvec_node,
)
from .mm_inline import (
    add_page_to_lru_list,
    del_page_from_lru_list,
    hpage_nr_pages,
    page_evictable,
    page_is_file_cache,
    page_lru,
    page_va_of,
    update_lru_size,
)
from .mm_struct import VM_EXEC
from .mm_types import (
    P_COUNTS,
    P_NEXT,
    PG_ACTIVE,
    PG_HEAD,
    PG_LRU,
    PG_WORKINGSET,
    REF_ONE,
    REF_SHIFT,
    ZONES_MASK,
    ZONES_PGSHIFT,
)
from .mmzone import (
    LRU_ACTIVE,
    LRU_ACTIVE_ANON,
    LRU_ACTIVE_FILE,
    LRU_FILE,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    MAX_NR_ZONES,
    ND_NODE_ID,
    NR_ACTIVE_FILE,
    NR_FREE_PAGES,
    NR_INACTIVE_ANON,
    NR_INACTIVE_FILE,
    NR_ISOLATED_ANON,
    WMARK_HIGH,
    Z_MANAGED,
    Z_WMARK,
    ZONE_WORDS,
)
from .rmap_walk import page_referenced
from .scan_control import DEF_PRIORITY, SWAP_CLUSTER_MAX, ScanControl
from .swap import lru_add_drain
from .trace import trace, trace_more
from .trace_events import (
    EV_VMSCAN_INACTIVE_LOW,
    EV_VMSCAN_LRU_ISOLATE,
    EV_VMSCAN_SHRINK_ACTIVE,
    EV_VMSCAN_SHRINK_INACTIVE,
)
from .vm_events import VM_EVENT_NAMES
from .vmscan_page import free_page_list, shrink_page_list
from .vmstat import count_vm_events, mod_node_page_state, node_page_state, zone_page_state
from .workingset import refaults

PGSCAN_SKIP = VM_EVENT_NAMES.index("pgskip_dma")
PGSCAN_KSWAPD = VM_EVENT_NAMES.index("pgscan_kswapd")
PGSCAN_DIRECT = VM_EVENT_NAMES.index("pgscan_direct")
PGSTEAL_KSWAPD = VM_EVENT_NAMES.index("pgsteal_kswapd")
PGSTEAL_DIRECT = VM_EVENT_NAMES.index("pgsteal_direct")
PGREFILL = VM_EVENT_NAMES.index("pgrefill")
PGDEACTIVATE = VM_EVENT_NAMES.index("pgdeactivate")

# enum scan_balance
SCAN_EQUAL = 0
SCAN_FRACT = 1
SCAN_ANON = 2
SCAN_FILE = 3

PAGES_PER_GB_SHIFT = 30 - 12
ISOLATED_WAIT_NS = 100_000_000
"""100 ms: how long reclaim waits for others to put isolated pages back."""


def list_page(m: memoryview, va: int) -> int:
    """The struct page whose `lru` is at address `va`."""
    pfn = (va - VMEMMAP_START) >> 6
    return m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)


def page_zonenum(m: memoryview, p: int) -> int:
    """The zone index in the page's flags."""
    return m[p] >> ZONES_PGSHIFT & ZONES_MASK


def isolate_lru_pages(
    m: memoryview, cpu: int, lv: int, nr_to_scan: int, sc: ScanControl, mode: int, lru: int
) -> tuple[list[int], int, int]:
    """Takes pages off the tail of a list: the pages, the small pages in them, pages looked at.

    Stops after `nr_to_scan` eligible pages."""
    head = lv + LV_LISTS + 2 * lru
    pages: list[int] = []
    skipped: list[int] = []
    zone_taken = [0] * MAX_NR_ZONES
    zone_skipped = [0] * MAX_NR_ZONES
    scan = total = taken = 0
    while scan < nr_to_scan and taken < nr_to_scan and not list_empty(m, head):
        total += 1
        p = list_page(m, m[head + 1])
        zid = page_zonenum(m, p)
        list_del(m, p + P_NEXT)
        if zid > sc.reclaim_idx:
            skipped.append(p)
            zone_skipped[zid] += 1
            continue
        scan += 1
        if isolate_lru_page_mode(m, p, mode):
            list_add(m, p + P_NEXT, page_va_of(m, p) + 8, head)
            continue
        nr = hpage_nr_pages(m, p)
        taken += nr
        zone_taken[zid] += nr
        pages.append(p)
    for p in skipped:
        list_add(m, p + P_NEXT, page_va_of(m, p) + 8, head)
    for zid in range(MAX_NR_ZONES):
        if zone_skipped[zid]:
            count_vm_events(m, cpu, PGSCAN_SKIP + zid, zone_skipped[zid])
        if zone_taken[zid]:
            update_lru_size(m, cpu, lv, lru, zid, -zone_taken[zid])
    if m[G_TRACE_MASK2] >> (EV_VMSCAN_LRU_ISOLATE - 64) & 1:
        ev, idx, order = EV_VMSCAN_LRU_ISOLATE, sc.reclaim_idx, sc.order
        trace(m, ev, cpu, idx, order, nr_to_scan, total, len(skipped), taken, mode)
        trace_more(m, lru, 0, 0, 0)
    return pages, taken, total


def put_page_back(m: memoryview, cpu: int, lv: int, p: int, free: list[int]) -> bool:
    """Puts an isolated page on the list that its flags say; False if we held its last reference."""
    m[p] |= PG_LRU
    lru = page_lru(m, p)
    add_page_to_lru_list(m, cpu, p, lv, lru)
    m[p + P_COUNTS] -= REF_ONE
    if m[p + P_COUNTS] >> REF_SHIFT:
        return True
    m[p] &= ~(PG_LRU | PG_ACTIVE)
    del_page_from_lru_list(m, cpu, p, lv, lru)
    if m[p] & PG_HEAD:
        free_compound(m, cpu, p)
    else:
        free.append(p)
    return False


def putback_inactive_pages(m: memoryview, cpu: int, lv: int, pages: list[int]) -> list[int]:
    """Puts pages that were not reclaimed back on their lists; those to be freed."""
    free: list[int] = []
    for p in pages:
        if not page_evictable(m, p):
            putback_lru_page(m, cpu, p)
            continue
        active = m[p] & PG_ACTIVE != 0
        nr = hpage_nr_pages(m, p)
        file = page_is_file_cache(m, p)
        put_page_back(m, cpu, lv, p, free)
        if active:
            m[lv + LV_RECENT_ROTATED + file] += nr
    return free


def too_many_isolated(m: memoryview, nd: int, file: int, sc: ScanControl) -> bool:
    """True if others have taken more pages off the node's lists than are on the inactive one.

    Who may do I/O and call the file system has to leave eight times as many to those who may not.
    kswapd never waits, nor does a control group of the first version."""
    if sc.kswapd or (sc.memcg and not m[G_MEMCG_ON_DFL]):
        return False
    inactive = node_page_state(m, nd, NR_INACTIVE_FILE if file else NR_INACTIVE_ANON)
    if sc.gfp_mask & (GFP_IO_BIT | GFP_FS_BIT) == GFP_IO_BIT | GFP_FS_BIT:
        inactive >>= 3
    return node_page_state(m, nd, NR_ISOLATED_ANON + file) > inactive


def shrink_inactive_list(
    m: memoryview, cpu: int, lv: int, nr_to_scan: int, sc: ScanControl, lru: int
) -> int:
    """Reclaims from the tail of an inactive list: pages freed.

    Where too many pages are isolated it waits a tenth of a second of modelled time for them to come
    back: nothing is freed if they do not; who has been killed meanwhile is told 32."""
    nd = lruvec_node(m, lv)
    file = 1 if lru >= LRU_FILE else 0
    if too_many_isolated(m, nd, file, sc):
        m[G_CLOCK] += ISOLATED_WAIT_NS
        blk_poll(m, cpu)
        if fatal_signal_pending(m, cpu):
            return SWAP_CLUSTER_MAX
        if too_many_isolated(m, nd, file, sc):
            return 0
    lru_add_drain(m, cpu)
    mode = 0 if sc.may_unmap else ISOLATE_UNMAPPED
    pages, taken, scanned = isolate_lru_pages(m, cpu, lv, nr_to_scan, sc, mode, lru)
    mod_node_page_state(m, cpu, nd, NR_ISOLATED_ANON + file, taken)
    m[lv + LV_RECENT_SCANNED + file] += taken
    if not sc.memcg:
        count_vm_events(m, cpu, PGSCAN_KSWAPD if sc.kswapd else PGSCAN_DIRECT, scanned)
    if taken == 0:
        return 0
    before = sc.dirty, sc.unqueued_dirty, sc.writeback, sc.congested, sc.immediate
    pages_before = sc.nr_activate, sc.nr_ref_keep, sc.nr_unmap_fail
    reclaimed, kept = shrink_page_list(m, cpu, nd, pages, sc, 0, False)
    if not sc.memcg:
        count_vm_events(m, cpu, PGSTEAL_KSWAPD if sc.kswapd else PGSTEAL_DIRECT, reclaimed)
    free = putback_inactive_pages(m, cpu, lv, kept)
    mod_node_page_state(m, cpu, nd, NR_ISOLATED_ANON + file, -taken)
    free_page_list(m, cpu, free)
    if sc.unqueued_dirty - before[1] == taken:
        wakeup_flusher_threads(m, cpu)
    sc.taken += taken
    if file:
        sc.file_taken += taken
    if m[G_TRACE_MASK2] >> (EV_VMSCAN_SHRINK_INACTIVE - 64) & 1:
        ev, nid = EV_VMSCAN_SHRINK_INACTIVE, m[nd + ND_NODE_ID]
        dirty, writeback, congested = sc.dirty - before[0], sc.writeback - before[2], sc.congested
        trace(m, ev, cpu, nid, scanned, reclaimed, dirty, writeback, congested - before[3], file)
        activated = sc.nr_activate - pages_before[0]
        kept_in_use = (sc.nr_ref_keep - pages_before[1]) << 32
        still_mapped = sc.nr_unmap_fail - pages_before[2]
        trace_more(m, sc.immediate - before[4], sc.priority, activated, kept_in_use | still_mapped)
    return reclaimed


def move_active_pages(
    m: memoryview, cpu: int, lv: int, pages: list[int], lru: int, free: list[int]
) -> int:
    """Puts pages at the head of a list, in order; small pages moved (move_active_pages_to_lru)."""
    moved = 0
    for p in pages:
        nr = hpage_nr_pages(m, p)
        if put_page_back(m, cpu, lv, p, free):
            moved += nr
    if not lru & LRU_ACTIVE:
        count_vm_events(m, cpu, PGDEACTIVATE, moved)
    return moved


def shrink_active_list(
    m: memoryview, cpu: int, lv: int, nr_to_scan: int, sc: ScanControl, lru: int
) -> None:
    """Moves pages from the tail of an active list to the inactive one.

    File pages that are executed and were used stay active."""
    nd = lruvec_node(m, lv)
    file = 1 if lru >= LRU_FILE else 0
    lru_add_drain(m, cpu)
    mode = 0 if sc.may_unmap else ISOLATE_UNMAPPED
    pages, taken, scanned = isolate_lru_pages(m, cpu, lv, nr_to_scan, sc, mode, lru)
    mod_node_page_state(m, cpu, nd, NR_ISOLATED_ANON + file, taken)
    m[lv + LV_RECENT_SCANNED + file] += taken
    count_vm_events(m, cpu, PGREFILL, scanned)
    stay: list[int] = []
    leave: list[int] = []
    rotated = 0
    for p in pages:
        if not page_evictable(m, p):
            putback_lru_page(m, cpu, p)
            continue
        found = page_referenced(m, cpu, p, 0, sc.memcg)
        if found & 0xFFFFFFFF:
            rotated += hpage_nr_pages(m, p)
            if found >> 32 & VM_EXEC and page_is_file_cache(m, p):
                stay.append(p)
                continue
        m[p] = m[p] & ~PG_ACTIVE | PG_WORKINGSET
        leave.append(p)
    m[lv + LV_RECENT_ROTATED + file] += rotated
    free: list[int] = []
    activated = move_active_pages(m, cpu, lv, stay, lru, free)
    deactivated = move_active_pages(m, cpu, lv, leave, lru - LRU_ACTIVE, free)
    mod_node_page_state(m, cpu, nd, NR_ISOLATED_ANON + file, -taken)
    free_page_list(m, cpu, free)
    if m[G_TRACE_MASK2] >> (EV_VMSCAN_SHRINK_ACTIVE - 64) & 1:
        ev, nid = EV_VMSCAN_SHRINK_ACTIVE, m[nd + ND_NODE_ID]
        trace(m, ev, cpu, nid, taken, activated, deactivated, rotated, sc.priority, file)


def inactive_ratio(inactive: int, active: int) -> int:
    """How many times longer than the inactive list the active one may be (pages)."""
    gb = (inactive + active) >> PAGES_PER_GB_SHIFT
    return isqrt(10 * gb) if gb else 1


def inactive_list_is_low(
    m: memoryview, cpu: int, lv: int, file: int, sc: ScanControl, actual: bool
) -> bool:
    """True if the inactive list is too short beside the active one.

    `actual`: for reclaim itself, when refaults since the last one shorten the ratio to 0."""
    if not file and m[G_TOTAL_SWAP_PAGES] == 0:
        return False
    inactive = lruvec_lru_size(m, lv, file * LRU_FILE, sc.reclaim_idx)
    active = lruvec_lru_size(m, lv, file * LRU_FILE + LRU_ACTIVE, sc.reclaim_idx)
    if file and actual and m[lv + LV_REFAULTS] != refaults(m, lv):
        ratio = 0
    else:
        ratio = inactive_ratio(inactive, active)
    if actual and m[G_TRACE_MASK2] >> (EV_VMSCAN_INACTIVE_LOW - 64) & 1:
        whole = lruvec_lru_size(m, lv, file * LRU_FILE, MAX_NR_ZONES)
        whole_active = lruvec_lru_size(m, lv, file * LRU_FILE + LRU_ACTIVE, MAX_NR_ZONES)
        nid, idx = m[lruvec_node(m, lv) + ND_NODE_ID], sc.reclaim_idx
        ev = EV_VMSCAN_INACTIVE_LOW
        trace(m, ev, cpu, nid, idx, whole, inactive, whole_active, active, ratio)
        trace_more(m, file, 0, 0, 0)
    return inactive * ratio < active


def file_cache_is_tiny(m: memoryview, cpu: int, lv: int, sc: ScanControl) -> bool:
    """True if only anonymous pages are worth scanning: free memory and file pages of the whole
    node do not reach the high watermarks, and there are inactive anonymous pages enough."""
    nd = lruvec_node(m, lv)
    free = marks = 0
    for zid in range(MAX_NR_ZONES):
        z = nd + zid * ZONE_WORDS
        free += zone_page_state(m, z, NR_FREE_PAGES)
        if m[z + Z_MANAGED]:
            marks += m[z + Z_WMARK + WMARK_HIGH]
    file = node_page_state(m, nd, NR_ACTIVE_FILE) + node_page_state(m, nd, NR_INACTIVE_FILE)
    if file + free > marks or inactive_list_is_low(m, cpu, lv, 0, sc, False):
        return False
    return lruvec_lru_size(m, lv, LRU_INACTIVE_ANON, sc.reclaim_idx) >> sc.priority > 0


def scan_balance(m: memoryview, cpu: int, lv: int, sc: ScanControl) -> int:
    """Which lists to scan: one of SCAN_."""
    swappiness = m[G_VM_SWAPPINESS]
    if not sc.may_swap or m[G_NR_SWAP_PAGES] <= 0 or (sc.memcg and not swappiness):
        return SCAN_FILE
    if not sc.priority and swappiness:
        return SCAN_EQUAL
    if not sc.memcg and file_cache_is_tiny(m, cpu, lv, sc):
        return SCAN_ANON
    if not inactive_list_is_low(m, cpu, lv, 1, sc, False):
        if lruvec_lru_size(m, lv, LRU_INACTIVE_FILE, sc.reclaim_idx) >> sc.priority:
            return SCAN_FILE
    return SCAN_FRACT


def scan_fractions(m: memoryview, lv: int) -> tuple[int, int]:
    """The weights of anonymous and file pages, from swappiness and recent use."""
    weights = [0, 0]
    prio = (m[G_VM_SWAPPINESS], 200 - m[G_VM_SWAPPINESS])
    for file in (0, 1):
        size = lruvec_lru_size(m, lv, file * LRU_FILE, MAX_NR_ZONES)
        size += lruvec_lru_size(m, lv, file * LRU_FILE + LRU_ACTIVE, MAX_NR_ZONES)
        scanned, rotated = lv + LV_RECENT_SCANNED + file, lv + LV_RECENT_ROTATED + file
        if m[scanned] > size // 4:
            m[scanned] //= 2
            m[rotated] //= 2
        weights[file] = prio[file] * (m[scanned] + 1) // (m[rotated] + 1)
    return weights[0], weights[1]


def get_scan_count(m: memoryview, cpu: int, lv: int, sc: ScanControl) -> tuple[list[int], int]:
    """Pages to scan of each of the four lists, and the pages on the lists that are considered."""
    balance = scan_balance(m, cpu, lv, sc)
    fraction = scan_fractions(m, lv) if balance == SCAN_FRACT else (0, 0)
    denominator = fraction[0] + fraction[1] + 1
    counts = []
    lru_pages = 0
    for lru in range(LRU_ACTIVE_FILE + 1):
        file = 1 if lru >= LRU_FILE else 0
        size = lruvec_lru_size(m, lv, lru, sc.reclaim_idx)
        scan = size >> sc.priority
        if balance == SCAN_FRACT:
            scan = (scan * fraction[file] + denominator - 1) // denominator
        elif balance != SCAN_EQUAL and (balance == SCAN_FILE) != (file == 1):
            size = scan = 0
        lru_pages += size
        counts.append(scan)
    return counts, lru_pages


def shrink_list(
    m: memoryview, cpu: int, lv: int, lru: int, nr_to_scan: int, sc: ScanControl
) -> int:
    """Scans a list: pages freed."""
    if lru & LRU_ACTIVE:
        if inactive_list_is_low(m, cpu, lv, 1 if lru >= LRU_FILE else 0, sc, True):
            shrink_active_list(m, cpu, lv, nr_to_scan, sc, lru)
        return 0
    return shrink_inactive_list(m, cpu, lv, nr_to_scan, sc, lru)


def adjust_targets(counts: list[int], targets: list[int]) -> bool:
    """Enough is reclaimed: the smaller kind is left alone, the other scanned in proportion.

    False if one kind has been scanned wholly, so that nothing is left to balance."""
    file = counts[LRU_INACTIVE_FILE] + counts[LRU_ACTIVE_FILE]
    anon = counts[LRU_INACTIVE_ANON] + counts[LRU_ACTIVE_ANON]
    if not file or not anon:
        return False
    base, rest = (LRU_INACTIVE_ANON, anon) if file > anon else (LRU_INACTIVE_FILE, file)
    percentage = rest * 100 // (targets[base] + targets[base + LRU_ACTIVE] + 1)
    counts[base] = counts[base + LRU_ACTIVE] = 0
    other = LRU_INACTIVE_ANON if base == LRU_INACTIVE_FILE else LRU_INACTIVE_FILE
    for lru in (other, other + LRU_ACTIVE):
        done = targets[lru] - counts[lru]
        target = targets[lru] * (100 - percentage) // 100
        counts[lru] = target - min(target, done)
    return True


def shrink_lruvec(m: memoryview, cpu: int, lv: int, sc: ScanControl) -> int:
    """Scans a set of lists once as `sc` says; the pages considered (shrink_node_memcg)."""
    counts, lru_pages = get_scan_count(m, cpu, lv, sc)
    targets = list(counts)
    adjusted = not sc.memcg and not sc.kswapd and sc.priority == DEF_PRIORITY
    reclaimed = 0
    while counts[LRU_INACTIVE_ANON] or counts[LRU_ACTIVE_FILE] or counts[LRU_INACTIVE_FILE]:
        for lru in range(LRU_ACTIVE_FILE + 1):
            if counts[lru]:
                chunk = min(counts[lru], SWAP_CLUSTER_MAX)
                counts[lru] -= chunk
                reclaimed += shrink_list(m, cpu, lv, lru, chunk, sc)
        if reclaimed < sc.nr_to_reclaim or adjusted:
            continue
        if not adjust_targets(counts, targets):
            break
        adjusted = True
    sc.nr_reclaimed += reclaimed
    if inactive_list_is_low(m, cpu, lv, 0, sc, True):
        shrink_active_list(m, cpu, lv, SWAP_CLUSTER_MAX, sc, LRU_ACTIVE_ANON)
    return lru_pages
