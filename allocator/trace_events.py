# SPDX-License-Identifier: GPL-2.0-only
"""The records of the trace and log rings: their numbers, and what their words mean.

EV_ are the kinds of trace record: the kernel's own tracepoints (bits 0-5 of the mask kmem, 34-45
compaction, 64-77 vmscan, 78-85 oom, then migrate and page_isolation) and, between them, the steps
that `explain` tells. LOG_ are the kinds of record in the log ring. `trace` writes them,
`tracepoints` and `printk` turn them into text.
"""

from __future__ import annotations

EV_MM_PAGE_ALLOC = 0
EV_MM_PAGE_FREE = 1
EV_MM_PAGE_FREE_BATCHED = 2
EV_MM_PAGE_ALLOC_ZONE_LOCKED = 3
EV_MM_PAGE_PCPU_DRAIN = 4
EV_MM_PAGE_ALLOC_EXTFRAG = 5
# What happened inside the allocator, finer than the kernel's tracepoints
EV_RMQUEUE = 6
EV_RMQUEUE_BULK = 7
EV_FREE_PCPPAGES_BULK = 8
EV_RESERVE_HIGHATOMIC = 9
EV_UNRESERVE_HIGHATOMIC = 10
EV_SLOWPATH_FIRST = 11
EV_SLOWPATH_RETRY = 12
EV_FREE_TO_PCP = 13
EV_FREE_TO_BUDDY = 14
EV_DRAIN_PAGES_ZONE = 15
EV_DRAIN_ZONE_PAGES = 16
EV_CONTEXT = 17
EV_ISOLATE_PAGEBLOCK = 18
EV_UNISOLATE_PAGEBLOCK = 19
EV_ISOLATE_FREE_PAGE = 20
EV_MIGRATE = 21
EV_ISOLATE_MIGRATEPAGES = 22
EV_ISOLATE_FREEPAGES = 23
# Decisions, for explain
EV_REQUEST = 24
EV_ZONE_SKIPPED = 25
EV_WATERMARK = 26
EV_RMQUEUE_SMALLEST = 27
EV_MERGE = 28
EV_MOVE_FREEPAGES = 29
EV_SET_PAGEBLOCK = 30
EV_RESULT = 31
EV_WAKE_KSWAPD = 32
EV_FREE_REQUEST = 33
# Tracepoints of the compaction group (include/trace/events/compaction.h); zones as nid and zid
EV_COMPACTION_BEGIN = 34
EV_COMPACTION_END = 35
EV_COMPACTION_MIGRATEPAGES = 36
EV_COMPACTION_TRY_TO_COMPACT = 37
EV_COMPACTION_FINISHED = 38
EV_COMPACTION_SUITABLE = 39
EV_COMPACTION_DEFERRED = 40
EV_COMPACTION_DEFER = 41
EV_COMPACTION_DEFER_RESET = 42
EV_KCOMPACTD_SLEEP = 43
EV_WAKEUP_KCOMPACTD = 44
EV_KCOMPACTD_WAKE = 45
# and around it
EV_COMPACT_ZONE_RETURNS = 46
EV_DIRECT_COMPACT = 47
EV_PERFORM_RECLAIM = 48
# From 64 on an event's bit is in G_TRACE_MASK2. The vmscan group (trace/events/vmscan.h)
EV_VMSCAN_KSWAPD_SLEEP = 64
EV_VMSCAN_KSWAPD_WAKE = 65
EV_VMSCAN_WAKEUP_KSWAPD = 66
EV_VMSCAN_DIRECT_BEGIN = 67
EV_VMSCAN_DIRECT_END = 68
EV_VMSCAN_MEMCG_BEGIN = 69
EV_VMSCAN_MEMCG_END = 70
EV_SHRINK_SLAB_START = 71
EV_SHRINK_SLAB_END = 72
EV_VMSCAN_LRU_ISOLATE = 73
EV_VMSCAN_WRITEPAGE = 74
EV_VMSCAN_SHRINK_INACTIVE = 75
EV_VMSCAN_SHRINK_ACTIVE = 76
EV_VMSCAN_INACTIVE_LOW = 77
# The oom group (trace/events/oom.h)
EV_OOM_SCORE_ADJ = 78
EV_RECLAIM_RETRY_ZONE = 79
EV_MARK_VICTIM = 80
EV_WAKE_REAPER = 81
EV_START_TASK_REAPING = 82
EV_FINISH_TASK_REAPING = 83
EV_SKIP_TASK_REAPING = 84
EV_COMPACT_RETRY = 85
# The migrate and page_isolation groups
EV_MM_MIGRATE_PAGES = 86
EV_TEST_PAGES_ISOLATED = 87

KMEM_EVENTS = (1 << 6) - 1
ACTION_EVENTS = ((1 << 24) - 1) & ~KMEM_EVENTS
COMPACTION_EVENTS = (1 << 46) - (1 << 34) | 1 << EV_ISOLATE_MIGRATEPAGES | 1 << EV_ISOLATE_FREEPAGES
ALL_EVENTS = (1 << 49) - 1
"""All of those whose bits are in G_TRACE_MASK."""
ALL_EVENTS2 = (1 << 24) - 1
"""All of those whose bits are in G_TRACE_MASK2: number 64 has bit 0."""
VMSCAN_EVENTS = ((1 << 14) - 1) << 64
OOM_EVENTS = ((1 << 8) - 1) << 78
MIGRATE_EVENTS = 1 << EV_MM_MIGRATE_PAGES
PAGE_ISOLATION_EVENTS = 1 << EV_TEST_PAGES_ISOLATED

# Log records
LOG_BAD_PAGE = 1
LOG_WARN_ALLOC = 2
LOG_WARN_ONCE_ORDER = 3
LOG_WARN_ONCE_NOFAIL_ORDER = 4
LOG_WARN_ONCE_NOFAIL_WAIT = 5
LOG_FAULT_INJECTED = 6
LOG_DOUBLE_FREE = 7
LOG_BAD_FREE_TAIL = 8
LOG_BAD_FREE_ORDER = 9
LOG_PAGE_POISON = 10
LOG_HEX_DATA = 11
LOG_RAW_PAGE = 12
LOG_WARN_ONCE_NOFAIL_MEMALLOC = 13
LOG_OOM_INVOKED = 14
LOG_OOM_TASK = 15
LOG_OOM_KILL = 16
LOG_OOM_KILLED = 17
LOG_OOM_REAPED = 18
LOG_OOM_NOBODY = 19
LOG_MEMORY_FAILURE = 20
# Words of a log record that name the current task
LOG_PID = 12
LOG_MEMS = 13
LOG_COMM = 14

RECLAIM_FIELDS = ("order", "may_writepage", "gfp_flags", "classzone_idx")
DEFER_FIELDS = ("nid", "zid", "order", "considered", "defer_shift", "order_failed")

EVENTS: dict[int, tuple[str, tuple[str, ...]]] = {
    EV_MM_PAGE_ALLOC: ("mm_page_alloc", ("pfn", "order", "gfp_flags", "migratetype")),
    EV_MM_PAGE_FREE: ("mm_page_free", ("pfn", "order")),
    EV_MM_PAGE_FREE_BATCHED: ("mm_page_free_batched", ("pfn",)),
    EV_MM_PAGE_ALLOC_ZONE_LOCKED: (
        "mm_page_alloc_zone_locked",
        ("pfn", "order", "migratetype"),
    ),
    EV_MM_PAGE_PCPU_DRAIN: ("mm_page_pcpu_drain", ("pfn", "order", "migratetype")),
    EV_MM_PAGE_ALLOC_EXTFRAG: (
        "mm_page_alloc_extfrag",
        (
            "nid",
            "zid",
            "pfn",
            "alloc_order",
            "fallback_order",
            "alloc_migratetype",
            "fallback_migratetype",
            "can_steal",
            "block_migratetype",
        ),
    ),
    EV_RMQUEUE: ("rmqueue", ("nid", "zid", "order", "migratetype", "pfn", "page_migratetype")),
    EV_RMQUEUE_BULK: ("rmqueue_bulk", ("nid", "zid", "migratetype", "wanted", "got")),
    EV_FREE_PCPPAGES_BULK: ("free_pcppages_bulk", ("nid", "zid", "count")),
    EV_RESERVE_HIGHATOMIC: (
        "reserve_highatomic_pageblock",
        ("nid", "zid", "pfn", "old_migratetype", "nr_reserved"),
    ),
    EV_UNRESERVE_HIGHATOMIC: (
        "unreserve_highatomic_pageblock",
        ("nid", "zid", "pfn", "migratetype", "moved"),
    ),
    EV_SLOWPATH_FIRST: ("slowpath_first", ("alloc_flags", "gfp_flags")),
    EV_SLOWPATH_RETRY: ("slowpath_retry", ("alloc_flags", "gfp_flags")),
    EV_FREE_TO_PCP: ("free_to_pcp", ("nid", "zid", "migratetype", "pfn", "page_migratetype")),
    EV_FREE_TO_BUDDY: ("free_to_buddy", ("nid", "zid", "order", "pfn", "migratetype")),
    EV_DRAIN_PAGES_ZONE: ("drain_pages_zone", ("drained_cpu", "nid", "zid", "count")),
    EV_DRAIN_ZONE_PAGES: ("drain_zone_pages", ("nid", "zid", "count")),
    EV_CONTEXT: ("context", ("mems_allowed", "in_interrupt")),
    EV_ISOLATE_PAGEBLOCK: (
        "set_migratetype_isolate",
        ("nid", "zid", "pfn", "old_migratetype", "moved"),
    ),
    EV_UNISOLATE_PAGEBLOCK: (
        "unset_migratetype_isolate",
        ("nid", "zid", "pfn", "migratetype", "moved"),
    ),
    EV_ISOLATE_FREE_PAGE: (
        "isolate_free_page",
        ("nid", "zid", "order", "pfn", "migratetype"),
    ),
    EV_MIGRATE: ("unmap_and_move", ("src", "dst", "rc", "lru")),
    EV_ISOLATE_MIGRATEPAGES: (
        "isolate_migratepages_block",
        ("start", "end", "scanned", "isolated"),
    ),
    EV_ISOLATE_FREEPAGES: (
        "isolate_freepages_block",
        ("start", "end", "scanned", "isolated"),
    ),
    EV_REQUEST: (
        "request",
        ("gfp_flags", "order", "nid", "nodemask", "migratetype", "high_zoneidx", "alloc_flags"),
    ),
    EV_ZONE_SKIPPED: ("zone_skipped", ("nid", "zid", "reason")),
    EV_WATERMARK: (
        "watermark",
        (
            "nid",
            "zid",
            "order",
            "mark",
            "lowmem_reserve",
            "free_pages",
            "free_cma",
            "nr_highatomic",
            "alloc_flags",
            "classzone_idx",
            "ok",
        ),
    ),
    EV_RMQUEUE_SMALLEST: (
        "rmqueue_smallest",
        ("nid", "zid", "order", "found_order", "migratetype", "pfn"),
    ),
    EV_MERGE: (
        "free_one_page",
        ("nid", "zid", "pfn", "order", "merged_pfn", "merged_order", "tail"),
    ),
    EV_MOVE_FREEPAGES: (
        "move_freepages_block",
        ("nid", "zid", "pfn", "migratetype", "moved", "movable"),
    ),
    EV_SET_PAGEBLOCK: ("set_pageblock_migratetype", ("pfn", "old_migratetype", "migratetype")),
    EV_RESULT: ("result", ("pfn", "order", "gfp_flags")),
    EV_WAKE_KSWAPD: ("wakeup_kswapd", ("nid", "zid", "order", "classzone_idx", "outcome")),
    EV_FREE_REQUEST: ("free_request", ("pfn", "order", "refcount")),
    EV_COMPACTION_BEGIN: (
        "mm_compaction_begin",
        (
            "nid",
            "zid",
            "order",
            "mode",
            "migrate_pfn",
            "free_pfn",
            "migratetype",
            "whole_zone",
            "zone_start",
            "zone_end",
        ),
    ),
    EV_COMPACTION_END: (
        "mm_compaction_end",
        (
            "nid",
            "zid",
            "status_mode",
            "migrate_pfn",
            "free_pfn",
            "cached_migrate_async",
            "cached_migrate_sync",
            "cached_free",
            "migrate_scanned",
            "free_scanned",
            "zone_span",
        ),
    ),
    EV_COMPACTION_MIGRATEPAGES: ("mm_compaction_migratepages", ("nr_migrated", "nr_failed")),
    EV_COMPACTION_TRY_TO_COMPACT: (
        "mm_compaction_try_to_compact_pages",
        ("order", "gfp_flags", "prio"),
    ),
    EV_COMPACTION_FINISHED: ("mm_compaction_finished", ("nid", "zid", "order", "ret")),
    EV_COMPACTION_SUITABLE: ("mm_compaction_suitable", ("nid", "zid", "order", "ret")),
    EV_COMPACTION_DEFERRED: ("mm_compaction_deferred", DEFER_FIELDS),
    EV_COMPACTION_DEFER: ("mm_compaction_defer_compaction", DEFER_FIELDS),
    EV_COMPACTION_DEFER_RESET: (
        "mm_compaction_defer_reset",
        ("nid", "zid", "order", "alloc_success", "considered", "defer_shift", "order_failed"),
    ),
    EV_KCOMPACTD_SLEEP: ("mm_compaction_kcompactd_sleep", ("nid",)),
    EV_WAKEUP_KCOMPACTD: ("mm_compaction_wakeup_kcompactd", ("nid", "order", "classzone_idx")),
    EV_KCOMPACTD_WAKE: ("mm_compaction_kcompactd_wake", ("nid", "order", "classzone_idx")),
    EV_COMPACT_ZONE_RETURNS: ("compact_zone", ("nid", "zid", "order", "mode", "ret")),
    EV_DIRECT_COMPACT: ("direct_compact", ("order", "prio", "ret")),
    EV_PERFORM_RECLAIM: ("perform_reclaim", ("progress",)),
    EV_VMSCAN_KSWAPD_SLEEP: ("mm_vmscan_kswapd_sleep", ("nid",)),
    EV_VMSCAN_KSWAPD_WAKE: ("mm_vmscan_kswapd_wake", ("nid", "zid", "order")),
    EV_VMSCAN_WAKEUP_KSWAPD: ("mm_vmscan_wakeup_kswapd", ("nid", "zid", "order", "gfp_flags")),
    EV_VMSCAN_DIRECT_BEGIN: ("mm_vmscan_direct_reclaim_begin", RECLAIM_FIELDS),
    EV_VMSCAN_DIRECT_END: ("mm_vmscan_direct_reclaim_end", ("nr_reclaimed",)),
    EV_VMSCAN_MEMCG_BEGIN: ("mm_vmscan_memcg_reclaim_begin", RECLAIM_FIELDS),
    EV_VMSCAN_MEMCG_END: ("mm_vmscan_memcg_reclaim_end", ("nr_reclaimed",)),
    EV_SHRINK_SLAB_START: (
        "mm_shrink_slab_start",
        (
            "shrinker",
            "scan_objects",
            "nid",
            "nr_objects_to_shrink",
            "gfp_flags",
            "cache_items",
            "delta",
            "total_scan",
            "priority",
        ),
    ),
    EV_SHRINK_SLAB_END: (
        "mm_shrink_slab_end",
        ("shrinker", "scan_objects", "nid", "unused_scan", "new_scan", "total_scan", "retval"),
    ),
    EV_VMSCAN_LRU_ISOLATE: (
        "mm_vmscan_lru_isolate",
        (
            "classzone_idx",
            "order",
            "nr_requested",
            "nr_scanned",
            "nr_skipped",
            "nr_taken",
            "isolate_mode",
            "lru",
        ),
    ),
    EV_VMSCAN_WRITEPAGE: ("mm_vmscan_writepage", ("pfn", "file")),
    EV_VMSCAN_SHRINK_INACTIVE: (
        "mm_vmscan_lru_shrink_inactive",
        (
            "nid",
            "nr_scanned",
            "nr_reclaimed",
            "nr_dirty",
            "nr_writeback",
            "nr_congested",
            "file",
            "nr_immediate",
            "priority",
            "nr_activate",
            "nr_ref_keep",
        ),
    ),
    EV_VMSCAN_SHRINK_ACTIVE: (
        "mm_vmscan_lru_shrink_active",
        ("nid", "nr_taken", "nr_active", "nr_deactivated", "nr_referenced", "priority", "file"),
    ),
    EV_VMSCAN_INACTIVE_LOW: (
        "mm_vmscan_inactive_list_is_low",
        (
            "nid",
            "reclaim_idx",
            "total_inactive",
            "inactive",
            "total_active",
            "active",
            "ratio",
            "file",
        ),
    ),
    EV_OOM_SCORE_ADJ: ("oom_score_adj_update", ("pid", "oom_score_adj")),
    EV_RECLAIM_RETRY_ZONE: (
        "reclaim_retry_zone",
        (
            "nid",
            "zid",
            "order",
            "reclaimable",
            "available",
            "min_wmark",
            "no_progress_loops",
            "wmark_check",
        ),
    ),
    EV_MARK_VICTIM: ("mark_victim", ("pid",)),
    EV_WAKE_REAPER: ("wake_reaper", ("pid",)),
    EV_START_TASK_REAPING: ("start_task_reaping", ("pid",)),
    EV_FINISH_TASK_REAPING: ("finish_task_reaping", ("pid",)),
    EV_SKIP_TASK_REAPING: ("skip_task_reaping", ("pid",)),
    EV_COMPACT_RETRY: (
        "compact_retry",
        ("order", "priority", "result", "retries", "max_retries", "ret"),
    ),
    EV_MM_MIGRATE_PAGES: ("mm_migrate_pages", ("nr_succeeded", "nr_failed", "mode", "reason")),
    EV_TEST_PAGES_ISOLATED: ("test_pages_isolated", ("start_pfn", "end_pfn", "fin_pfn")),
}
