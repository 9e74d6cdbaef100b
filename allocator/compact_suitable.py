# SPDX-License-Identifier: GPL-2.0-only
"""Whether compacting a zone is worth while, and when to put it off (mm/compaction.c, mm/vmstat.c).

Compaction can only help where memory is free but scattered. `compaction_suitable` looks at the
watermarks - enough room for targets, and the request not satisfiable already - and, for costly
orders, at the fragmentation index: near 0 a failure is due to lack of memory, near 1000 to
fragmentation, -1000 means that a block of that order is free.

A zone in which compaction failed is left alone for a while: the next 2^defer_shift attempts at that
order or above are skipped, doubling up to 64. The counters are in the zone.

All hot. `z` is the word index of a zone; results are enum compact_result.
"""

from __future__ import annotations

from .kernel_globals import G_EXTFRAG_THRESHOLD, G_TRACE_MASK
from .mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_ORDER,
    PAGE_ALLOC_COSTLY_ORDER,
    WMARK_LOW,
    WMARK_MIN,
    Z_COMPACT_CONSIDERED,
    Z_COMPACT_DEFER_SHIFT,
    Z_COMPACT_ORDER_FAILED,
    Z_FREE_AREA,
    Z_FREE_PAGES,
    Z_NODE,
    Z_WMARK,
)
from .pcp import zone_idx
from .trace import trace
from .trace_events import (
    EV_COMPACTION_DEFER,
    EV_COMPACTION_DEFER_RESET,
    EV_COMPACTION_DEFERRED,
    EV_COMPACTION_SUITABLE,
)
from .watermark import ALLOC_CMA, ALLOC_WMARK_MASK, zone_watermark_ok, zone_watermark_ok_free

COMPACT_NOT_SUITABLE_ZONE = 0
COMPACT_SKIPPED = 1
COMPACT_DEFERRED = 2
COMPACT_NO_SUITABLE_PAGE = 3
COMPACT_CONTINUE = 4
COMPACT_COMPLETE = 5
COMPACT_PARTIAL_SKIPPED = 6
COMPACT_CONTENDED = 7
COMPACT_SUCCESS = 8
COMPACT_RESULTS = (
    "not_suitable_zone",
    "skipped",
    "deferred",
    "no_suitable_page",
    "continue",
    "complete",
    "partial_skipped",
    "contended",
    "success",
)
COMPACT_MAX_DEFER_SHIFT = 6
VIA_COMPACT_MEMORY = -1
"""The order of a run that a person asked for: the whole zone, no request behind it."""


def fragmentation_index(m: memoryview, z: int, order: int) -> int:
    """Why a request of `order` would fail in zone `z`: 0 lack of memory .. 1000 fragmentation. Hot.

    -1000 if it would not fail. (mm/vmstat.c)
    """
    pages = 0
    blocks = 0
    suitable = 0
    for i in range(MAX_ORDER):
        free = m[z + Z_FREE_AREA + i * FA_WORDS + FA_NR_FREE]
        blocks += free
        pages += free << i
        if i >= order:
            suitable += free
    if order >= MAX_ORDER or blocks == 0:
        return 0
    if suitable:
        return -1000
    return 1000 - (1000 + pages * 1000 // (1 << order)) // blocks


def compact_gap(order: int) -> int:
    """Free pages above the watermark that a run needs: twice the block (mm/internal.h). Hot."""
    return 2 << order


def zone_compaction_suitable(
    m: memoryview, z: int, order: int, flags: int, classzone: int, free: int
) -> int:
    """The watermark part, with `free` pages taken to be free (__compaction_suitable). Hot.

    COMPACT_SUCCESS if the request would be served as it is, COMPACT_SKIPPED without room to work.
    """
    if order == VIA_COMPACT_MEMORY:
        return COMPACT_CONTINUE
    mark = m[z + Z_WMARK + (flags & ALLOC_WMARK_MASK)]
    if zone_watermark_ok(m, z, order, mark, classzone, flags):
        return COMPACT_SUCCESS
    mark = m[z + Z_WMARK + (WMARK_LOW if order > PAGE_ALLOC_COSTLY_ORDER else WMARK_MIN)]
    mark += compact_gap(order)
    if not zone_watermark_ok_free(m, z, 0, mark, classzone, ALLOC_CMA, free):
        return COMPACT_SKIPPED
    return COMPACT_CONTINUE


def compaction_suitable(
    m: memoryview, cpu: int, z: int, order: int, flags: int, classzone: int
) -> int:
    """COMPACT_CONTINUE if zone `z` should be compacted now, else SKIPPED or SUCCESS. Hot."""
    free = m[z + Z_FREE_PAGES]
    free = max(free, 0)
    ret = zone_compaction_suitable(m, z, order, flags, classzone, free)
    if ret == COMPACT_CONTINUE and order > PAGE_ALLOC_COSTLY_ORDER:
        index = fragmentation_index(m, z, order)
        if 0 <= index <= m[G_EXTFRAG_THRESHOLD]:
            ret = COMPACT_NOT_SUITABLE_ZONE
    if m[G_TRACE_MASK] >> EV_COMPACTION_SUITABLE & 1:
        zid = zone_idx(m, z)
        trace(m, EV_COMPACTION_SUITABLE, cpu, m[z + Z_NODE], zid, order, ret, 0, 0, 0)
    return COMPACT_SKIPPED if ret == COMPACT_NOT_SUITABLE_ZONE else ret


def trace_defer(m: memoryview, ev: int, cpu: int, z: int, order: int) -> None:
    """Records a zone's deferral counters. Hot."""
    if m[G_TRACE_MASK] >> ev & 1:
        considered = m[z + Z_COMPACT_CONSIDERED]
        shift = m[z + Z_COMPACT_DEFER_SHIFT]
        failed = m[z + Z_COMPACT_ORDER_FAILED]
        zid = zone_idx(m, z)
        trace(m, ev, cpu, m[z + Z_NODE], zid, order, considered, shift, failed, 0)


def defer_compaction(m: memoryview, cpu: int, z: int, order: int) -> None:
    """Compaction failed at `order`: twice as many attempts are skipped from now on. Hot."""
    m[z + Z_COMPACT_CONSIDERED] = 0
    m[z + Z_COMPACT_DEFER_SHIFT] += 1
    m[z + Z_COMPACT_ORDER_FAILED] = min(m[z + Z_COMPACT_ORDER_FAILED], order)
    m[z + Z_COMPACT_DEFER_SHIFT] = min(m[z + Z_COMPACT_DEFER_SHIFT], COMPACT_MAX_DEFER_SHIFT)
    trace_defer(m, EV_COMPACTION_DEFER, cpu, z, order)


def compaction_deferred(m: memoryview, cpu: int, z: int, order: int) -> bool:
    """True if this attempt is one to skip; counts it. Hot."""
    limit = 1 << (m[z + Z_COMPACT_DEFER_SHIFT] & 63)
    if order < m[z + Z_COMPACT_ORDER_FAILED]:
        return False
    m[z + Z_COMPACT_CONSIDERED] = min(m[z + Z_COMPACT_CONSIDERED] + 1, limit)
    if m[z + Z_COMPACT_CONSIDERED] >= limit:
        return False
    trace_defer(m, EV_COMPACTION_DEFERRED, cpu, z, order)
    return True


def compaction_defer_reset(
    m: memoryview, cpu: int, z: int, order: int, alloc_success: bool
) -> None:
    """Compaction helped at `order`, or should have: fewer attempts are skipped. Hot.

    `alloc_success`: a page was really allocated, nothing is put off any more.
    """
    if alloc_success:
        m[z + Z_COMPACT_CONSIDERED] = 0
        m[z + Z_COMPACT_DEFER_SHIFT] = 0
    if order >= m[z + Z_COMPACT_ORDER_FAILED]:
        m[z + Z_COMPACT_ORDER_FAILED] = order + 1
    if m[G_TRACE_MASK] >> EV_COMPACTION_DEFER_RESET & 1:
        considered = m[z + Z_COMPACT_CONSIDERED]
        shift = m[z + Z_COMPACT_DEFER_SHIFT]
        failed = m[z + Z_COMPACT_ORDER_FAILED]
        said = 1 if alloc_success else 0
        zid = zone_idx(m, z)
        ev = EV_COMPACTION_DEFER_RESET
        trace(m, ev, cpu, m[z + Z_NODE], zid, order, said, considered, shift, failed)


def compaction_restarting(m: memoryview, z: int, order: int) -> bool:
    """True if so many attempts were skipped that this one should look at everything. Hot."""
    if order < m[z + Z_COMPACT_ORDER_FAILED]:
        return False
    shift = m[z + Z_COMPACT_DEFER_SHIFT]
    return shift == COMPACT_MAX_DEFER_SHIFT and m[z + Z_COMPACT_CONSIDERED] >= 1 << shift
