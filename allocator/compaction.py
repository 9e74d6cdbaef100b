# SPDX-License-Identifier: GPL-2.0-only
"""Compaction: making free memory contiguous by moving used pages (mm/compaction.c).

Two scanners work through a zone towards each other. The migration scanner (`compact_scan`) goes up
from the bottom and isolates movable pages; the free scanner (`compact_free`) comes down from the
top and isolates free ones to move them to. A run ends when a block of the wanted order is free,
when the scanners meet, or when it has to give way. Where they stopped is kept in the zone, for the
next run; a run that covers the whole zone clears the skip hints for the one after.

Direct compaction works for a request (`try_to_compact_pages`), `kcompactd` for a node that kswapd
or a request has told it about, `compact_node` for a person.

All hot. `cc` is the word index of a compact_control, `z` of a zone, `nd` of a node.
"""

from __future__ import annotations

from .alloc_flags import gfpflags_to_migratetype
from .compact_free import (
    CC_ALLOC_FLAGS,
    CC_CLASSZONE,
    CC_CONTENDED,
    CC_DIRECT,
    CC_FINISHING,
    CC_FREE_PFN,
    CC_FREE_SCANNED,
    CC_FREEPAGES,
    CC_GFP_MASK,
    CC_IGNORE_SKIP,
    CC_IGNORE_SUITABLE,
    CC_LAST_MIGRATED,
    CC_MIGRATE_PFN,
    CC_MIGRATE_SCANNED,
    CC_MIGRATEPAGES,
    CC_MIGRATETYPE,
    CC_MODE,
    CC_NR_FREEPAGES,
    CC_NR_MIGRATEPAGES,
    CC_ORDER,
    CC_WHOLE_ZONE,
    MIGRATE_ASYNC,
    MIGRATE_SYNC,
    MIGRATE_SYNC_LIGHT,
    fatal_signal_pending,
    init_compact_control,
    release_freepages,
)
from .compact_scan import (
    ISOLATE_ABORT,
    ISOLATE_NONE,
    isolate_migratepages,
    reset_cached_positions,
    reset_isolation_suitable,
)
from .compact_suitable import (
    COMPACT_COMPLETE,
    COMPACT_CONTENDED,
    COMPACT_CONTINUE,
    COMPACT_DEFERRED,
    COMPACT_NO_SUITABLE_PAGE,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    VIA_COMPACT_MEMORY,
    compaction_defer_reset,
    compaction_deferred,
    compaction_restarting,
    compaction_suitable,
    defer_compaction,
)
from .fallback import can_steal_fallback, find_suitable_fallback
from .get_page import first_zones_zonelist
from .gfp import GFP_IO_BIT, GFP_KERNEL
from .kernel_globals import G_TRACE_MASK
from .layout import COMPACT_CONTROL_WORDS, COMPACT_CONTROLS, PAGE_OFFSET
from .list_head import list_empty, va_word
from .migrate import MR_COMPACTION, NEW_PAGE_COMPACTION, migrate_pages, putback_movable_pages
from .mmzone import (
    FA_WORDS,
    MAX_NR_ZONES,
    MAX_ORDER,
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    Z_COMPACT_BLOCKSKIP_FLUSH,
    Z_COMPACT_FREE_PFN,
    Z_COMPACT_MIGRATE_PFN,
    Z_FREE_AREA,
    Z_NODE,
    Z_PRESENT,
    Z_SPANNED,
    Z_START_PFN,
    ZONE_WORDS,
    ZONEREF_WORDS,
    ZR_ZONE,
)
from .pcp import drain_pages_zone, zone_idx
from .swap import lru_add_drain
from .trace import trace, trace_more
from .trace_events import (
    EV_COMPACT_ZONE_RETURNS,
    EV_COMPACTION_BEGIN,
    EV_COMPACTION_END,
    EV_COMPACTION_FINISHED,
    EV_COMPACTION_MIGRATEPAGES,
    EV_COMPACTION_TRY_TO_COMPACT,
)
from .vm_events import VM_EVENT_NAMES
from .vmstat import count_vm_events

# enum compact_priority
COMPACT_PRIO_SYNC_FULL = 0
MIN_COMPACT_PRIORITY = 0
COMPACT_PRIO_SYNC_LIGHT = 1
MIN_COMPACT_COSTLY_PRIORITY = 1
DEF_COMPACT_PRIORITY = 1
COMPACT_PRIO_ASYNC = 2
INIT_COMPACT_PRIORITY = 2

ENOMEM = 12
COMPACTMIGRATE_SCANNED = VM_EVENT_NAMES.index("compact_migrate_scanned")
COMPACTFREE_SCANNED = VM_EVENT_NAMES.index("compact_free_scanned")
KCOMPACTD_WAKE = VM_EVENT_NAMES.index("compact_daemon_wake")
KCOMPACTD_MIGRATE_SCANNED = VM_EVENT_NAMES.index("compact_daemon_migrate_scanned")
KCOMPACTD_FREE_SCANNED = VM_EVENT_NAMES.index("compact_daemon_free_scanned")


def compact_scanners_met(m: memoryview, cc: int) -> bool:
    """True if both scanners are in one pageblock or have passed each other. Hot."""
    free = m[cc + CC_FREE_PFN] >> PAGEBLOCK_ORDER
    return free <= m[cc + CC_MIGRATE_PFN] >> PAGEBLOCK_ORDER


def wanted_block_is_free(m: memoryview, cc: int, z: int) -> int:
    """Looks at the free lists: COMPACT_SUCCESS, CONTINUE or NO_SUITABLE_PAGE. Hot.

    CONTINUE: a block could be stolen for an unmovable request, but the pageblock that is being
    emptied should be finished first.
    """
    mt = m[cc + CC_MIGRATETYPE]
    order = m[cc + CC_ORDER]
    while order < MAX_ORDER:
        area = z + Z_FREE_AREA + order * FA_WORDS
        if not list_empty(m, area + 2 * mt):
            return COMPACT_SUCCESS
        if mt == MIGRATE_MOVABLE and not list_empty(m, area + 2 * MIGRATE_CMA):
            return COMPACT_SUCCESS
        if find_suitable_fallback(m, area, mt) >= 0 and can_steal_fallback(m, order, mt):
            aligned = m[cc + CC_MIGRATE_PFN] & (PAGEBLOCK_NR_PAGES - 1) == 0
            if mt == MIGRATE_MOVABLE or m[cc + CC_MODE] == MIGRATE_ASYNC or aligned:
                return COMPACT_SUCCESS
            m[cc + CC_FINISHING] = 1
            return COMPACT_CONTINUE
        order += 1
    return COMPACT_NO_SUITABLE_PAGE


def run_finished(m: memoryview, cpu: int, cc: int, z: int) -> int:
    """What __compact_finished says of the run, NO_SUITABLE_PAGE included. Hot."""
    if m[cc + CC_CONTENDED] or fatal_signal_pending(m, cpu):
        return COMPACT_CONTENDED
    if compact_scanners_met(m, cc):
        reset_cached_positions(m, z)
        if m[cc + CC_DIRECT]:
            m[z + Z_COMPACT_BLOCKSKIP_FLUSH] = 1
        return COMPACT_COMPLETE if m[cc + CC_WHOLE_ZONE] else COMPACT_PARTIAL_SKIPPED
    if m[cc + CC_ORDER] == VIA_COMPACT_MEMORY:
        return COMPACT_CONTINUE
    if m[cc + CC_FINISHING]:
        if m[cc + CC_MIGRATE_PFN] & (PAGEBLOCK_NR_PAGES - 1):
            return COMPACT_CONTINUE
        m[cc + CC_FINISHING] = 0
    return wanted_block_is_free(m, cc, z)


def compact_finished(m: memoryview, cpu: int, cc: int, z: int) -> int:
    """COMPACT_CONTINUE if the run has to go on, else its result. Hot."""
    ret = run_finished(m, cpu, cc, z)
    if m[G_TRACE_MASK] >> EV_COMPACTION_FINISHED & 1:
        nid, zid = m[z + Z_NODE], zone_idx(m, z)
        trace(m, EV_COMPACTION_FINISHED, cpu, nid, zid, m[cc + CC_ORDER], ret, 0, 0, 0)
    return COMPACT_CONTINUE if ret == COMPACT_NO_SUITABLE_PAGE else ret


def place_scanners(m: memoryview, cc: int, z: int) -> None:
    """Where the run begins: the zone's ends, or the cached positions if they lie in it. Hot."""
    start = m[z + Z_START_PFN]
    end = start + m[z + Z_SPANNED]
    last = (end - 1) & -PAGEBLOCK_NR_PAGES
    if m[cc + CC_WHOLE_ZONE]:
        m[cc + CC_MIGRATE_PFN] = start
        m[cc + CC_FREE_PFN] = last
        return
    sync = 0 if m[cc + CC_MODE] == MIGRATE_ASYNC else 1
    m[cc + CC_MIGRATE_PFN] = m[z + Z_COMPACT_MIGRATE_PFN + sync]
    m[cc + CC_FREE_PFN] = m[z + Z_COMPACT_FREE_PFN]
    if m[cc + CC_FREE_PFN] < start or m[cc + CC_FREE_PFN] >= end:
        m[cc + CC_FREE_PFN] = last
        m[z + Z_COMPACT_FREE_PFN] = last
    if m[cc + CC_MIGRATE_PFN] < start or m[cc + CC_MIGRATE_PFN] >= end:
        m[cc + CC_MIGRATE_PFN] = start
        m[z + Z_COMPACT_MIGRATE_PFN] = start
        m[z + Z_COMPACT_MIGRATE_PFN + 1] = start
    if m[cc + CC_MIGRATE_PFN] == start:
        m[cc + CC_WHOLE_ZONE] = 1


def trace_begin(m: memoryview, cpu: int, cc: int, z: int) -> None:
    """Records where the scanners start. Hot."""
    if m[G_TRACE_MASK] >> EV_COMPACTION_BEGIN & 1:
        start = m[z + Z_START_PFN]
        nid, zid, order = m[z + Z_NODE], zone_idx(m, z), m[cc + CC_ORDER]
        low, high = m[cc + CC_MIGRATE_PFN], m[cc + CC_FREE_PFN]
        mt = m[cc + CC_MIGRATETYPE]
        trace(m, EV_COMPACTION_BEGIN, cpu, nid, zid, order, m[cc + CC_MODE], low, high, mt)
        trace_more(m, m[cc + CC_WHOLE_ZONE], start, start + m[z + Z_SPANNED], 0)


def trace_end(m: memoryview, cpu: int, cc: int, z: int, ret: int) -> None:
    """Records how the run ended. Hot."""
    if m[G_TRACE_MASK] >> EV_COMPACTION_END & 1:
        nid, zid = m[z + Z_NODE], zone_idx(m, z)
        low, high = m[cc + CC_MIGRATE_PFN], m[cc + CC_FREE_PFN]
        cached = z + Z_COMPACT_MIGRATE_PFN
        ended = ret | m[cc + CC_MODE] << 8
        trace(m, EV_COMPACTION_END, cpu, nid, zid, ended, low, high, m[cached], m[cached + 1])
        scanned, free_scanned = m[cc + CC_MIGRATE_SCANNED], m[cc + CC_FREE_SCANNED]
        start = m[z + Z_START_PFN]
        span = start | start + m[z + Z_SPANNED] << 31
        trace_more(m, m[z + Z_COMPACT_FREE_PFN], scanned, free_scanned, span)


def trace_migratepages(m: memoryview, cpu: int, cc: int, err: int) -> None:
    """Records how many of the isolated pages were migrated. Hot."""
    if m[G_TRACE_MASK] >> EV_COMPACTION_MIGRATEPAGES & 1:
        failed = err
        if err < 0:
            failed = 0
            head = cc + CC_MIGRATEPAGES
            va = m[head]
            while va != PAGE_OFFSET + (head << 3):
                failed += 1
                va = m[va_word(m, va)]
        moved = m[cc + CC_NR_MIGRATEPAGES] - failed
        trace(m, EV_COMPACTION_MIGRATEPAGES, cpu, moved, failed, 0, 0, 0, 0, 0)


def flush_migrated(m: memoryview, cpu: int, cc: int, z: int) -> None:
    """Lets freed pages merge once the scanner has left the block that it emptied. Hot."""
    order = m[cc + CC_ORDER]
    if order > 0 and m[cc + CC_LAST_MIGRATED]:
        if m[cc + CC_LAST_MIGRATED] < m[cc + CC_MIGRATE_PFN] & -(1 << order):
            lru_add_drain(m, cpu)
            drain_pages_zone(m, cpu, z)
            m[cc + CC_LAST_MIGRATED] = 0


def migrate_isolated(m: memoryview, cpu: int, cc: int) -> bool:
    """Migrates the pages that the scanner isolated; False if the run must end. Hot."""
    mode = m[cc + CC_MODE]
    head = cc + CC_MIGRATEPAGES
    err = migrate_pages(m, cpu, head, NEW_PAGE_COMPACTION, cc, mode, MR_COMPACTION)
    trace_migratepages(m, cpu, cc, err)
    m[cc + CC_NR_MIGRATEPAGES] = 0
    if err:
        putback_movable_pages(m, cpu, head)
        if err == -ENOMEM and not compact_scanners_met(m, cc):
            return False
        if m[cc + CC_DIRECT] and mode == MIGRATE_ASYNC:
            order = m[cc + CC_ORDER]
            m[cc + CC_MIGRATE_PFN] = ((m[cc + CC_MIGRATE_PFN] - 1 >> order) + 1) << order
            m[cc + CC_LAST_MIGRATED] = 0
    return True


def compact_zone(m: memoryview, cpu: int, cc: int, z: int) -> int:
    """One run of compaction in zone `z` as `cc` says; enum compact_result. Hot."""
    m[cc + CC_MIGRATETYPE] = gfpflags_to_migratetype(m, m[cc + CC_GFP_MASK])
    order = m[cc + CC_ORDER]
    ret = compaction_suitable(m, cpu, z, order, m[cc + CC_ALLOC_FLAGS], m[cc + CC_CLASSZONE])
    if ret in (COMPACT_SUCCESS, COMPACT_SKIPPED):
        if m[G_TRACE_MASK] >> EV_COMPACT_ZONE_RETURNS & 1:
            nid, zid, mode = m[z + Z_NODE], zone_idx(m, z), m[cc + CC_MODE]
            trace(m, EV_COMPACT_ZONE_RETURNS, cpu, nid, zid, order, mode, ret, 0, 0)
        return ret
    if compaction_restarting(m, z, order):
        reset_isolation_suitable(m, z)
    place_scanners(m, cc, z)
    m[cc + CC_LAST_MIGRATED] = 0
    trace_begin(m, cpu, cc, z)
    lru_add_drain(m, cpu)
    ret = compact_finished(m, cpu, cc, z)
    while ret == COMPACT_CONTINUE:
        isolated = isolate_migratepages(m, cpu, cc, z)
        if isolated == ISOLATE_ABORT:
            ret = COMPACT_CONTENDED
            putback_movable_pages(m, cpu, cc + CC_MIGRATEPAGES)
            m[cc + CC_NR_MIGRATEPAGES] = 0
            break
        if isolated != ISOLATE_NONE and not migrate_isolated(m, cpu, cc):
            ret = COMPACT_CONTENDED
            break
        flush_migrated(m, cpu, cc, z)
        ret = compact_finished(m, cpu, cc, z)
    if m[cc + CC_NR_FREEPAGES] > 0:
        high = release_freepages(m, cpu, cc + CC_FREEPAGES) & -PAGEBLOCK_NR_PAGES
        m[cc + CC_NR_FREEPAGES] = 0
        m[z + Z_COMPACT_FREE_PFN] = max(m[z + Z_COMPACT_FREE_PFN], high)
    count_vm_events(m, cpu, COMPACTMIGRATE_SCANNED, m[cc + CC_MIGRATE_SCANNED])
    count_vm_events(m, cpu, COMPACTFREE_SCANNED, m[cc + CC_FREE_SCANNED])
    trace_end(m, cpu, cc, z, ret)
    return ret


def compact_zone_order(
    m: memoryview, cpu: int, z: int, order: int, gfp: int, prio: int, flags: int, classzone: int
) -> int:
    """Direct compaction of one zone; the minimum priority leaves nothing out. Hot."""
    cc = COMPACT_CONTROLS + cpu * COMPACT_CONTROL_WORDS
    mode = MIGRATE_ASYNC if prio == COMPACT_PRIO_ASYNC else MIGRATE_SYNC_LIGHT
    init_compact_control(m, cc, z, order, gfp, mode)
    m[cc + CC_ALLOC_FLAGS] = flags
    m[cc + CC_CLASSZONE] = classzone
    m[cc + CC_DIRECT] = 1
    if prio == MIN_COMPACT_PRIORITY:
        m[cc + CC_WHOLE_ZONE] = 1
        m[cc + CC_IGNORE_SKIP] = 1
        m[cc + CC_IGNORE_SUITABLE] = 1
    return compact_zone(m, cpu, cc, z)


def try_to_compact_pages(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    flags: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
    classzone: int,
    prio: int,
) -> int:
    """Direct compaction for a request, zone by zone; the best compact_result. Hot."""
    rc = COMPACT_SKIPPED
    if gfp & GFP_IO_BIT == 0:
        return rc
    if m[G_TRACE_MASK] >> EV_COMPACTION_TRY_TO_COMPACT & 1:
        trace(m, EV_COMPACTION_TRY_TO_COMPACT, cpu, order, gfp, prio, 0, 0, 0, 0)
    zr = first_zones_zonelist(m, zonelist, high_zoneidx, nodemask)
    while m[zr + ZR_ZONE]:
        z = (m[zr + ZR_ZONE] - PAGE_OFFSET) >> 3
        zr = first_zones_zonelist(m, zr + ZONEREF_WORDS, high_zoneidx, nodemask)
        if prio > MIN_COMPACT_PRIORITY and compaction_deferred(m, cpu, z, order):
            rc = max(rc, COMPACT_DEFERRED)
            continue
        status = compact_zone_order(m, cpu, z, order, gfp, prio, flags, classzone)
        rc = max(rc, status)
        if status == COMPACT_SUCCESS:
            compaction_defer_reset(m, cpu, z, order, False)
            break
        failed = status in (COMPACT_COMPLETE, COMPACT_PARTIAL_SKIPPED)
        if prio != COMPACT_PRIO_ASYNC and failed:
            defer_compaction(m, cpu, z, order)
        if fatal_signal_pending(m, cpu):
            break
    return rc


def compact_node(m: memoryview, cpu: int, nd: int) -> None:
    """Compacts all zones of the node at word `nd` wholly, for nobody's request. Hot."""
    cc = COMPACT_CONTROLS + cpu * COMPACT_CONTROL_WORDS
    scanned = 0
    free_scanned = 0
    for zid in range(MAX_NR_ZONES):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_PRESENT]:
            init_compact_control(m, cc, z, VIA_COMPACT_MEMORY, GFP_KERNEL, MIGRATE_SYNC)
            m[cc + CC_IGNORE_SKIP] = 1
            m[cc + CC_WHOLE_ZONE] = 1
            # one control serves all zones, so its totals run on
            m[cc + CC_MIGRATE_SCANNED] = scanned
            m[cc + CC_FREE_SCANNED] = free_scanned
            compact_zone(m, cpu, cc, z)
            scanned = m[cc + CC_MIGRATE_SCANNED]
            free_scanned = m[cc + CC_FREE_SCANNED]
