# SPDX-License-Identifier: GPL-2.0-only
"""allocator/tracepoints_vm.py: text as TP_printk of the five headers writes it."""

from __future__ import annotations

import pytest

from allocator import trace_events as events
from allocator.trace_events import EVENTS
from allocator.tracepoints import TraceRecord, describe
from allocator.tracepoints_vm import FORMATS, feedback

GFP_KERNEL = 0x6000C0


@pytest.mark.parametrize(
    ("event", "args", "text"),
    [
        (
            "EV_ISOLATE_MIGRATEPAGES",
            (0x1000, 0x1200, 512, 32),
            "mm_compaction_isolate_migratepages: range=(0x1000 ~ 0x1200) nr_scanned=512 "
            "nr_taken=32",
        ),
        (
            "EV_COMPACTION_BEGIN",
            (0, 1, 9, 1, 0x1000, 0x3E00, 1, 1, 0x1000, 0x4000),
            "mm_compaction_begin: zone_start=0x1000 migrate_pfn=0x1000 free_pfn=0x3e00 "
            "zone_end=0x4000, mode=sync",
        ),
        (
            "EV_COMPACTION_END",
            (0, 1, 5, 0x3000, 0x2E00, 0, 0, 0, 9, 9, 0x1000 | 0x4000 << 31),
            "mm_compaction_end: zone_start=0x1000 migrate_pfn=0x3000 free_pfn=0x2e00 "
            "zone_end=0x4000, mode=async status=complete",
        ),
        (
            "EV_COMPACTION_MIGRATEPAGES",
            (30, 2),
            "mm_compaction_migratepages: nr_migrated=30 nr_failed=2",
        ),
        (
            "EV_COMPACTION_TRY_TO_COMPACT",
            (9, GFP_KERNEL, 2),
            "mm_compaction_try_to_compact_pages: order=9 gfp_mask=0x6000c0 priority=2",
        ),
        (
            "EV_COMPACTION_SUITABLE",
            (1, 2, 3, 4),
            "mm_compaction_suitable: node=1 zone=Normal   order=3 ret=continue",
        ),
        (
            "EV_COMPACTION_DEFER_RESET",
            (0, 0, 4, 1, 2, 3, 5),
            "mm_compaction_defer_reset: node=0 zone=DMA      order=4 order_failed=5 consider=2 "
            "limit=8",
        ),
        (
            "EV_WAKEUP_KCOMPACTD",
            (0, 3, 1),
            "mm_compaction_wakeup_kcompactd: nid=0 order=3 classzone_idx=DMA32   ",
        ),
        (
            "EV_VMSCAN_DIRECT_BEGIN",
            (2, 1, GFP_KERNEL, 2),
            "mm_vmscan_direct_reclaim_begin: order=2 may_writepage=1 gfp_flags=GFP_KERNEL "
            "classzone_idx=2",
        ),
        (
            "EV_VMSCAN_LRU_ISOLATE",
            (1, 0, 32, 33, 1, 32, 0, 2),
            "mm_vmscan_lru_isolate: isolate_mode=0 classzone=1 order=0 nr_requested=32 "
            "nr_scanned=33 nr_skipped=1 nr_taken=32 lru=inactive_file",
        ),
        (
            "EV_VMSCAN_WRITEPAGE",
            (0x10, 0),
            "mm_vmscan_writepage: page=ffffea0000000400 pfn=16 "
            "flags=RECLAIM_WB_ANON|RECLAIM_WB_ASYNC",
        ),
        (
            "EV_VMSCAN_SHRINK_ACTIVE",
            (0, 32, 1, 31, 1, 12, 1),
            "mm_vmscan_lru_shrink_active: nid=0 nr_taken=32 nr_active=1 nr_deactivated=31 "
            "nr_referenced=1 priority=12 flags=RECLAIM_WB_FILE|RECLAIM_WB_ASYNC",
        ),
        (
            "EV_RECLAIM_RETRY_ZONE",
            (0, 1, 0, 10, 30, 20, 3, 1),
            "reclaim_retry_zone: node=0 zone=DMA32    order=0 reclaimable=10 available=30 "
            "min_wmark=20 no_progress_loops=3 wmark_check=1",
        ),
        ("EV_MARK_VICTIM", (77,), "mark_victim: pid=77"),
        (
            "EV_COMPACT_RETRY",
            (2, 1, 8, 0, 16, 1),
            "compact_retry: order=2 priority=COMPACT_PRIO_SYNC_LIGHT "
            "compaction_result=progress retries=0 max_retries=16 should_retry=1",
        ),
        (
            "EV_MM_MIGRATE_PAGES",
            (31, 1, 1, 0),
            "mm_migrate_pages: nr_succeeded=31 nr_failed=1 mode=MIGRATE_SYNC_LIGHT "
            "reason=compaction",
        ),
        (
            "EV_TEST_PAGES_ISOLATED",
            (0x400, 0x800, 0x7FF),
            "test_pages_isolated: start_pfn=0x400 end_pfn=0x800 fin_pfn=0x7ff ret=fail",
        ),
    ],
)
def test_fields_are_printed_as_the_kernel_prints_them(
    event: str, args: tuple[int, ...], text: str
) -> None:
    record = TraceRecord(0, 0, getattr(events, event), 0, args, 0, 0)
    assert describe(record) == text


def test_every_format_fits_the_fields_of_its_record() -> None:
    for event, text in FORMATS.items():
        assert text(tuple(range(1, len(EVENTS[event][1]) + 1)))


def test_results_become_feedback_in_three_kinds() -> None:
    assert [feedback(result) for result in range(1, 9)] == [
        "withdrawn",
        "withdrawn",
        "progress",
        "progress",
        "failed",
        "withdrawn",
        "withdrawn",
        "progress",
    ]
