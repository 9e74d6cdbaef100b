# SPDX-License-Identifier: GPL-2.0-only
"""The compaction, vmscan, oom, migrate and page_isolation tracepoints as text.

Byte for byte what TP_printk of those headers in include/trace/events prints, symbolic names of
mmflags.h included. Our records hold more than the kernel's for compaction (which zone a run is
about); here only the kernel's fields appear. `oom_score_adj_update` prints the name that the task
has when the text is made.
"""

from __future__ import annotations

from collections.abc import Callable

from .compact_suitable import (
    COMPACT_COMPLETE,
    COMPACT_CONTENDED,
    COMPACT_DEFERRED,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_RESULTS,
    COMPACT_SKIPPED,
)
from .gfp import format_gfp
from .layout import VMEMMAP_START, unsigned
from .mmzone import ZONE_NAMES
from .trace_events import (
    EV_COMPACT_RETRY,
    EV_COMPACTION_BEGIN,
    EV_COMPACTION_DEFER,
    EV_COMPACTION_DEFER_RESET,
    EV_COMPACTION_DEFERRED,
    EV_COMPACTION_END,
    EV_COMPACTION_FINISHED,
    EV_COMPACTION_MIGRATEPAGES,
    EV_COMPACTION_SUITABLE,
    EV_COMPACTION_TRY_TO_COMPACT,
    EV_FINISH_TASK_REAPING,
    EV_ISOLATE_FREEPAGES,
    EV_ISOLATE_MIGRATEPAGES,
    EV_KCOMPACTD_SLEEP,
    EV_KCOMPACTD_WAKE,
    EV_MARK_VICTIM,
    EV_MM_MIGRATE_PAGES,
    EV_OOM_SCORE_ADJ,
    EV_RECLAIM_RETRY_ZONE,
    EV_SHRINK_SLAB_END,
    EV_SHRINK_SLAB_START,
    EV_SKIP_TASK_REAPING,
    EV_START_TASK_REAPING,
    EV_TEST_PAGES_ISOLATED,
    EV_VMSCAN_DIRECT_BEGIN,
    EV_VMSCAN_DIRECT_END,
    EV_VMSCAN_INACTIVE_LOW,
    EV_VMSCAN_KSWAPD_SLEEP,
    EV_VMSCAN_KSWAPD_WAKE,
    EV_VMSCAN_LRU_ISOLATE,
    EV_VMSCAN_MEMCG_BEGIN,
    EV_VMSCAN_MEMCG_END,
    EV_VMSCAN_SHRINK_ACTIVE,
    EV_VMSCAN_SHRINK_INACTIVE,
    EV_VMSCAN_WAKEUP_KSWAPD,
    EV_VMSCAN_WRITEPAGE,
    EV_WAKE_REAPER,
    EV_WAKEUP_KCOMPACTD,
)

Args = tuple[int, ...]
NAMES = {
    EV_ISOLATE_MIGRATEPAGES: "mm_compaction_isolate_migratepages",
    EV_ISOLATE_FREEPAGES: "mm_compaction_isolate_freepages",
}
"""Records that are tracepoints of the kernel under another name than ours."""

LRU_NAMES = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
PRIORITIES = ("COMPACT_PRIO_SYNC_FULL", "COMPACT_PRIO_SYNC_LIGHT", "COMPACT_PRIO_ASYNC")
MIGRATE_MODES = ("MIGRATE_ASYNC", "MIGRATE_SYNC_LIGHT", "MIGRATE_SYNC")
REASONS = (
    "compaction",
    "memory_failure",
    "memory_hotplug",
    "syscall_or_cpuset",
    "mempolicy_mbind",
    "numa_misplaced",
    "contig_range",
)


def symbol(value: int, names: tuple[str, ...]) -> str:
    """__print_symbolic: the name, or the number in hex."""
    return names[value] if 0 <= value < len(names) else f"{value:#x}"


def zone_name(zid: int) -> str:
    """A zone type as `%-8s`."""
    return f"{symbol(zid, ZONE_NAMES):<8}"


def sync_name(mode: int) -> str:
    """The mode of a run of compaction."""
    return "sync" if mode else "async"


def reclaim_flags(file: int) -> str:
    """show_reclaim_flags() of a list."""
    return f"RECLAIM_WB_{'FILE' if file else 'ANON'}|RECLAIM_WB_ASYNC"


def feedback(result: int) -> str:
    """compact_result_to_feedback()."""
    if result == COMPACT_COMPLETE:
        return "failed"
    withdrawn = (
        COMPACT_SKIPPED,
        COMPACT_DEFERRED,
        COMPACT_CONTENDED,
        COMPACT_PARTIAL_SKIPPED,
    )
    return "withdrawn" if result in withdrawn else "progress"


def isolate(a: Args) -> str:
    return f"range=({a[0]:#x} ~ {a[1]:#x}) nr_scanned={a[2]} nr_taken={a[3]}"


def span(start: int, low: int, high: int, end: int, mode: int) -> str:
    """The fields that begin and end of a run have in common."""
    return (
        f"zone_start={start:#x} migrate_pfn={low:#x} free_pfn={high:#x} zone_end={end:#x}, "
        f"mode={sync_name(mode)}"
    )


def begin(a: Args) -> str:
    return span(a[8], a[4], a[5], a[9], a[3])


def end(a: Args) -> str:
    # the record packs: status with the mode, and both ends of the zone
    status, mode = symbol(a[2] & 0xFF, COMPACT_RESULTS), a[2] >> 8
    start, stop = a[10] & (1 << 31) - 1, a[10] >> 31
    return f"{span(start, a[3], a[4], stop, mode)} status={status}"


def suitable(a: Args) -> str:
    return f"node={a[0]} zone={zone_name(a[1])} order={a[2]} ret={symbol(a[3], COMPACT_RESULTS)}"


def defer(nid: int, zid: int, order: int, considered: int, shift: int, failed: int) -> str:
    """The three tracepoints of deferral."""
    return (
        f"node={nid} zone={zone_name(zid)} order={order} order_failed={failed} "
        f"consider={considered} limit={1 << (shift & 63)}"
    )


def wake(a: Args) -> str:
    return f"nid={a[0]} order={a[1]} classzone_idx={zone_name(a[2])}"


def reclaim_begin(a: Args) -> str:
    return f"order={a[0]} may_writepage={a[1]} gfp_flags={format_gfp(a[2])} classzone_idx={a[3]}"


def slab_start(a: Args) -> str:
    return (
        f"{unsigned(a[1]):#x} {unsigned(a[0]):016x}: nid: {a[2]} objects to shrink {a[3]} "
        f"gfp_flags {format_gfp(a[4])} cache items {a[5]} delta {a[6]} total_scan {a[7]} "
        f"priority {a[8]}"
    )


def slab_end(a: Args) -> str:
    return (
        f"{unsigned(a[1]):#x} {unsigned(a[0]):016x}: nid: {a[2]} unused scan count {a[3]} "
        f"new scan count {a[4]} total_scan {a[5]} last shrinker return val {a[6]}"
    )


def lru_isolate(a: Args) -> str:
    return (
        f"isolate_mode={a[6]} classzone={a[0]} order={a[1]} nr_requested={a[2]} "
        f"nr_scanned={a[3]} nr_skipped={a[4]} nr_taken={a[5]} lru={symbol(a[7], LRU_NAMES)}"
    )


def writepage(a: Args) -> str:
    page = unsigned(VMEMMAP_START + (a[0] << 6))
    return f"page={page:016x} pfn={a[0]} flags={reclaim_flags(a[1])}"


def shrink_inactive(a: Args) -> str:
    return (
        f"nid={a[0]} nr_scanned={a[1]} nr_reclaimed={a[2]} nr_dirty={a[3]} nr_writeback={a[4]} "
        f"nr_congested={a[5]} nr_immediate={a[7]} nr_activate={a[9]} nr_ref_keep={a[10] >> 32} "
        f"nr_unmap_fail={a[10] & 0xFFFFFFFF} priority={a[8]} flags={reclaim_flags(a[6])}"
    )


def shrink_active(a: Args) -> str:
    return (
        f"nid={a[0]} nr_taken={a[1]} nr_active={a[2]} nr_deactivated={a[3]} nr_referenced={a[4]} "
        f"priority={a[5]} flags={reclaim_flags(a[6])}"
    )


def inactive_low(a: Args) -> str:
    return (
        f"nid={a[0]} reclaim_idx={a[1]} total_inactive={a[2]} inactive={a[3]} "
        f"total_active={a[4]} active={a[5]} ratio={a[6]} flags={reclaim_flags(a[7])}"
    )


def retry_zone(a: Args) -> str:
    return (
        f"node={a[0]} zone={zone_name(a[1])} order={a[2]} reclaimable={a[3]} available={a[4]} "
        f"min_wmark={a[5]} no_progress_loops={a[6]} wmark_check={a[7]}"
    )


def compact_retry(a: Args) -> str:
    return (
        f"order={a[0]} priority={symbol(a[1], PRIORITIES)} compaction_result={feedback(a[2])} "
        f"retries={a[3]} max_retries={a[4]} should_retry={a[5]}"
    )


def isolated(a: Args) -> str:
    return (
        f"start_pfn={a[0]:#x} end_pfn={a[1]:#x} fin_pfn={a[2]:#x} "
        f"ret={'success' if a[1] <= a[2] else 'fail'}"
    )


def pid_only(a: Args) -> str:
    return f"pid={a[0]}"


def reclaimed(a: Args) -> str:
    return f"nr_reclaimed={a[0]}"


def migrate_pages(a: Args) -> str:
    mode, reason = symbol(a[2], MIGRATE_MODES), symbol(a[3], REASONS)
    return f"nr_succeeded={a[0]} nr_failed={a[1]} mode={mode} reason={reason}"


FORMATS: dict[int, Callable[[Args], str]] = {
    EV_ISOLATE_MIGRATEPAGES: isolate,
    EV_ISOLATE_FREEPAGES: isolate,
    EV_COMPACTION_BEGIN: begin,
    EV_COMPACTION_END: end,
    EV_COMPACTION_MIGRATEPAGES: lambda a: f"nr_migrated={a[0]} nr_failed={a[1]}",
    EV_COMPACTION_TRY_TO_COMPACT: lambda a: f"order={a[0]} gfp_mask={a[1]:#x} priority={a[2]}",
    EV_COMPACTION_FINISHED: suitable,
    EV_COMPACTION_SUITABLE: suitable,
    EV_COMPACTION_DEFERRED: lambda a: defer(a[0], a[1], a[2], a[3], a[4], a[5]),
    EV_COMPACTION_DEFER: lambda a: defer(a[0], a[1], a[2], a[3], a[4], a[5]),
    EV_COMPACTION_DEFER_RESET: lambda a: defer(a[0], a[1], a[2], a[4], a[5], a[6]),
    EV_KCOMPACTD_SLEEP: lambda a: f"nid={a[0]}",
    EV_WAKEUP_KCOMPACTD: wake,
    EV_KCOMPACTD_WAKE: wake,
    EV_VMSCAN_KSWAPD_SLEEP: lambda a: f"nid={a[0]}",
    EV_VMSCAN_KSWAPD_WAKE: lambda a: f"nid={a[0]} zid={a[1]} order={a[2]}",
    EV_VMSCAN_WAKEUP_KSWAPD: lambda a: (
        f"nid={a[0]} zid={a[1]} order={a[2]} gfp_flags={format_gfp(a[3])}"
    ),
    EV_VMSCAN_DIRECT_BEGIN: reclaim_begin,
    EV_VMSCAN_DIRECT_END: reclaimed,
    EV_VMSCAN_MEMCG_BEGIN: reclaim_begin,
    EV_VMSCAN_MEMCG_END: reclaimed,
    EV_SHRINK_SLAB_START: slab_start,
    EV_SHRINK_SLAB_END: slab_end,
    EV_VMSCAN_LRU_ISOLATE: lru_isolate,
    EV_VMSCAN_WRITEPAGE: writepage,
    EV_VMSCAN_SHRINK_INACTIVE: shrink_inactive,
    EV_VMSCAN_SHRINK_ACTIVE: shrink_active,
    EV_VMSCAN_INACTIVE_LOW: inactive_low,
    EV_OOM_SCORE_ADJ: lambda a: f"pid={a[0]} oom_score_adj={a[1]}",
    EV_RECLAIM_RETRY_ZONE: retry_zone,
    EV_MARK_VICTIM: pid_only,
    EV_WAKE_REAPER: pid_only,
    EV_START_TASK_REAPING: pid_only,
    EV_FINISH_TASK_REAPING: pid_only,
    EV_SKIP_TASK_REAPING: pid_only,
    EV_COMPACT_RETRY: compact_retry,
    EV_MM_MIGRATE_PAGES: migrate_pages,
    EV_TEST_PAGES_ISOLATED: isolated,
}
"""The text of the fields behind the event's name, by event."""
