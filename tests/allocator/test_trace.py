# SPDX-License-Identifier: GPL-2.0-only
"""allocator/trace.py: rings of fixed-size records in guest RAM."""

from __future__ import annotations

from allocator.kernel_globals import G_CLOCK, G_LOG_HEAD, G_TRACE_HEAD, G_TRACE_MASK, G_TRACE_MASK2
from allocator.layout import LOG_RECORDS
from allocator.trace import log_record, trace, trace_more
from allocator.trace_events import (
    ALL_EVENTS,
    ALL_EVENTS2,
    EV_MM_PAGE_ALLOC,
    EV_VMSCAN_DIRECT_BEGIN,
    EV_WATERMARK,
    EVENTS,
    LOG_BAD_PAGE,
)
from tests.allocator.machines import boot
from tests.allocator.records import recorded

KERNEL = boot("1x48M")


def test_record_keeps_time_event_cpu_and_up_to_eleven_numbers() -> None:
    KERNEL.m[G_CLOCK] = 12345
    with recorded(KERNEL) as events:
        trace(KERNEL.m, EV_WATERMARK, 3, 1, -2, 3, 4, 5, 6, 7)
        trace_more(KERNEL.m, 8, 9, 10, 11)
    assert (events[0].event, events[0].cpu) == (EV_WATERMARK, 3)
    assert events[0].args == (1, -2, 3, 4, 5, 6, 7, 8, 9, 10, 11)


def test_ring_wraps_and_keeps_the_newest() -> None:
    head = KERNEL.m[G_TRACE_HEAD]
    for i in range(5000):
        trace(KERNEL.m, EV_MM_PAGE_ALLOC, 0, i, 0, 0, 0, 0, 0, 0)
    assert KERNEL.m[G_TRACE_HEAD] == head + 5000
    with recorded(KERNEL) as events:
        trace(KERNEL.m, EV_MM_PAGE_ALLOC, 0, 77, 0, 0, 0, 0, 0, 0)
    assert [e.args[0] for e in events] == [77]


def test_log_ring_wraps_too() -> None:
    head = KERNEL.m[G_LOG_HEAD]
    for i in range(LOG_RECORDS + 10):
        log_record(KERNEL.m, LOG_BAD_PAGE, 0, i, 0, 0, 0, 0, 0)
    assert KERNEL.m[G_LOG_HEAD] == head + LOG_RECORDS + 10


def test_nothing_is_recorded_while_the_mask_is_clear() -> None:
    assert KERNEL.m[G_TRACE_MASK] == 0
    with recorded(KERNEL) as events:
        page = KERNEL.alloc_pages("GFP_KERNEL", 2)
        assert page is not None
        KERNEL.free_pages(page, 2)
    assert events == []


def test_tracing_does_not_change_what_the_allocator_does() -> None:
    traced, silent = boot("2x48M"), boot("2x48M")
    traced.m[G_TRACE_MASK] = ALL_EVENTS
    for order in (0, 3, 0, 10, 5, 0):
        pages = [kernel.alloc_pages("GFP_KERNEL", order, nid=1) for kernel in (traced, silent)]
        assert len({page.pfn for page in pages if page}) == 1
        assert all(pages)


def test_every_event_has_a_name_and_fields_that_fit_a_record() -> None:
    names = [name for name, _ in EVENTS.values()]
    assert len(set(names)) == len(names)
    assert all(len(fields) <= 13 for _, fields in EVENTS.values())
    assert all(1 << event & (ALL_EVENTS | ALL_EVENTS2 << 64) for event in EVENTS)


def test_events_of_the_second_mask_are_turned_on_and_off_by_name() -> None:
    kernel = boot("1x48M")
    kernel.trace_on("mm_vmscan_direct_reclaim_begin", "mm_page_alloc")
    assert kernel.m[G_TRACE_MASK] == 1
    assert kernel.m[G_TRACE_MASK2] == 1 << EV_VMSCAN_DIRECT_BEGIN - 64
    kernel.trace_off()
    assert kernel.m[G_TRACE_MASK] == kernel.m[G_TRACE_MASK2] == 0
