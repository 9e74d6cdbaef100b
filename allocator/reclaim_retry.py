# SPDX-License-Identifier: GPL-2.0-only
"""Whether a failed request should try again, and when it has to give up (mm/page_alloc.c).

After direct reclaim and compaction both failed, two questions decide: would the request succeed if
everything reclaimable were reclaimed (`should_reclaim_retry`), and would compaction with a higher
priority (`should_compact_retry`)? Rounds without progress and compactions are counted, so that a
request ends in the OOM killer, or in failure, after a bounded number of rounds.

All hot. `zonelist` is the word index of the first zoneref; order and alloc flags as in the slow
path.
"""

from __future__ import annotations

from .compact_suitable import (
    COMPACT_COMPLETE,
    COMPACT_CONTENDED,
    COMPACT_DEFERRED,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    zone_compaction_suitable,
)
from .fallback import unreserve_highatomic_pageblock
from .get_page import first_zones_zonelist
from .kernel_globals import G_CLOCK, G_NR_SWAP_PAGES, G_TRACE_MASK2
from .layout import PAGE_OFFSET
from .mmzone import (
    LRU_ACTIVE_ANON,
    LRU_ACTIVE_FILE,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    NR_FREE_PAGES,
    NR_ZONE_LRU_BASE,
    NR_ZONE_WRITE_PENDING,
    PAGE_ALLOC_COSTLY_ORDER,
    WMARK_MIN,
    Z_NODE,
    Z_WMARK,
    ZONEREF_WORDS,
    ZR_IDX,
    ZR_ZONE,
)
from .trace import trace, trace_more
from .trace_events import EV_COMPACT_RETRY, EV_RECLAIM_RETRY_ZONE
from .vmstat import zone_page_state_snapshot
from .watermark import zone_watermark_ok_free

MAX_RECLAIM_RETRIES = 16
MAX_COMPACT_RETRIES = 16
MIN_COMPACT_PRIORITY = 0
MIN_COMPACT_COSTLY_PRIORITY = 1
CONGESTION_WAIT_NS = 100_000_000
"""HZ / 10: how long a round waits for writeback when most of what could be reclaimed is dirty."""


def zone_reclaimable_pages(m: memoryview, z: int) -> int:
    """Pages of zone `z` on the LRU lists that reclaim could take; anon only with swap. Hot."""
    nr = zone_page_state_snapshot(m, z, NR_ZONE_LRU_BASE + LRU_INACTIVE_FILE)
    nr += zone_page_state_snapshot(m, z, NR_ZONE_LRU_BASE + LRU_ACTIVE_FILE)
    if m[G_NR_SWAP_PAGES] > 0:
        nr += zone_page_state_snapshot(m, z, NR_ZONE_LRU_BASE + LRU_INACTIVE_ANON)
        nr += zone_page_state_snapshot(m, z, NR_ZONE_LRU_BASE + LRU_ACTIVE_ANON)
    return nr


def congestion_wait(m: memoryview) -> None:
    """Time passes, and nothing else: whose writeback ends meanwhile is ended by the clock. Hot."""
    m[G_CLOCK] += CONGESTION_WAIT_NS


def should_reclaim_retry(
    m: memoryview,
    cpu: int,
    order: int,
    flags: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    classzone: int,
    mt: int,
    progress: bool,
    loops: int,
) -> tuple[int, int]:
    """1 if reclaim should go on, and the new number of rounds without progress. Hot."""
    loops = 0 if progress and order <= PAGE_ALLOC_COSTLY_ORDER else loops + 1
    if loops > MAX_RECLAIM_RETRIES:
        # before the OOM killer, the reserve of highatomic blocks
        gave = unreserve_highatomic_pageblock(m, cpu, zonelist, high_zoneidx, nodemask, mt, True)
        return (1 if gave else 0), loops
    zr = first_zones_zonelist(m, zonelist, high_zoneidx, nodemask)
    while m[zr + ZR_ZONE]:
        z = (m[zr + ZR_ZONE] - PAGE_OFFSET) >> 3
        reclaimable = zone_reclaimable_pages(m, z)
        available = reclaimable + zone_page_state_snapshot(m, z, NR_FREE_PAGES)
        mark = m[z + Z_WMARK + WMARK_MIN]
        ok = zone_watermark_ok_free(m, z, order, mark, classzone, flags, available)
        if m[G_TRACE_MASK2] >> (EV_RECLAIM_RETRY_ZONE - 64) & 1:
            ev, nid, zid = EV_RECLAIM_RETRY_ZONE, m[z + Z_NODE], m[zr + ZR_IDX]
            trace(m, ev, cpu, nid, zid, order, reclaimable, available, mark, loops)
            trace_more(m, 1 if ok else 0, 0, 0, 0)
        if ok:
            if not progress:
                pending = zone_page_state_snapshot(m, z, NR_ZONE_WRITE_PENDING)
                if 2 * pending > reclaimable:
                    congestion_wait(m)
            return 1, loops
        zr = first_zones_zonelist(m, zr + ZONEREF_WORDS, high_zoneidx, nodemask)
    return 0, loops


def compaction_withdrawn(result: int) -> bool:
    """True if compaction stopped before it had tried everything (include/linux/compaction.h). Hot.

    Too little memory to work with, deferred, contended, or not from the zone's beginning.
    """
    return (
        result == COMPACT_SKIPPED
        or result == COMPACT_DEFERRED
        or result == COMPACT_CONTENDED
        or result == COMPACT_PARTIAL_SKIPPED
    )


def compaction_zonelist_suitable(
    m: memoryview,
    order: int,
    flags: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    classzone: int,
) -> bool:
    """True if some zone could be compacted after more reclaim (mm/compaction.c). Hot."""
    zr = first_zones_zonelist(m, zonelist, high_zoneidx, nodemask)
    while m[zr + ZR_ZONE]:
        z = (m[zr + ZR_ZONE] - PAGE_OFFSET) >> 3
        available = zone_reclaimable_pages(m, z) // order
        available += zone_page_state_snapshot(m, z, NR_FREE_PAGES)
        if zone_compaction_suitable(m, z, order, flags, classzone, available) != COMPACT_SKIPPED:
            return True
        zr = first_zones_zonelist(m, zr + ZONEREF_WORDS, high_zoneidx, nodemask)
    return False


def should_compact_retry(
    m: memoryview,
    cpu: int,
    order: int,
    flags: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    classzone: int,
    result: int,
    state: int,
) -> tuple[int, int]:
    """1 if compaction should be tried again, and the new state: retries << 8 | priority. Hot."""
    if order == 0:
        return 0, state
    priority, retries = state & 0xFF, state >> 8
    before = retries
    max_retries = MAX_COMPACT_RETRIES
    lowest = MIN_COMPACT_PRIORITY
    if result == COMPACT_SUCCESS:
        retries += 1
    if compaction_withdrawn(result):
        suitable = compaction_zonelist_suitable(
            m, order, flags, zonelist, high_zoneidx, nodemask, classzone
        )
        again = 1 if suitable else 0
    else:
        if order > PAGE_ALLOC_COSTLY_ORDER:
            lowest = MIN_COMPACT_COSTLY_PRIORITY
            if result != COMPACT_COMPLETE:
                max_retries //= 4
        again = 0
        if result != COMPACT_COMPLETE and retries <= max_retries:
            again = 1
        elif priority > lowest:
            again = 1
            retries = 0
            state = priority - 1
    if m[G_TRACE_MASK2] >> (EV_COMPACT_RETRY - 64) & 1:
        ev = EV_COMPACT_RETRY
        trace(m, ev, cpu, order, priority, result, before, max_retries, again, 0)
    return again, retries << 8 | state & 0xFF
