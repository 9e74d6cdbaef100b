# SPDX-License-Identifier: GPL-2.0-only
"""Trace text: the kernel's own lines, reproduced to the byte, and readable by stock scripts."""

from __future__ import annotations

import re

import pytest

from allocator.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL_ACCOUNT, GFP_ZERO_BIT
from allocator.kernel_globals import G_CLOCK, G_TRACE_BASE, G_TRACE_HEAD, G_TRACE_SIZE
from allocator.layout import (
    CPU_BLOCKS,
    CPU_PREEMPT_COUNT,
    HARDIRQ_OFFSET,
    NMI_MASK,
    SOFTIRQ_OFFSET,
    TASK_COMM,
    TASK_PID,
    TRACE_RECORDS,
)
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.trace import trace, trace_more
from allocator.trace_events import (
    EV_MM_PAGE_ALLOC,
    EV_MM_PAGE_ALLOC_EXTFRAG,
    EV_MM_PAGE_ALLOC_ZONE_LOCKED,
    EV_MM_PAGE_FREE,
    EV_MM_PAGE_FREE_BATCHED,
    EV_MM_PAGE_PCPU_DRAIN,
    EV_REQUEST,
    EV_RMQUEUE_BULK,
)
from allocator.tracepoints import (
    describe,
    format_kmem,
    format_line,
    page_pointer,
    trace_lines,
    trace_records,
    trace_text,
)
from tests.allocator.tiny import Tiny

# The expression with which Documentation/trace/postprocess reads a line
STOCK_LINE = re.compile(r"\s*([a-zA-Z0-9-]*)\s*(\[[0-9]*\])\s*([0-9.]*):\s*([a-zA-Z_]*):\s*(.*)")
HEADER_IRQ_INFO = """\
# tracer: nop
#
#                              _-----=> irqs-off
#                             / _----=> need-resched
#                            | / _---=> hardirq/softirq
#                            || / _--=> preempt-depth
#                            ||| /     delay
#           TASK-PID   CPU#  ||||    TIMESTAMP  FUNCTION
#              | |       |   ||||       |         |
"""
P24636 = "page=ffffea0000180f00 pfn=24636"
# Lines of a recorded kernel, with the true page address where it printed a hashed one
RECORDED = [
    (
        EV_MM_PAGE_ALLOC_ZONE_LOCKED,
        (24636, 2, 0),
        850_326_000,
        f"           <...>-1     [000] d...     0.850326: mm_page_alloc_zone_locked: {P24636} "
        "order=2 migratetype=0 percpu_refill=0",
    ),
    (
        EV_MM_PAGE_ALLOC,
        (24636, 2, GFP_KERNEL_ACCOUNT | GFP_ZERO_BIT, 0),
        850_861_000,
        f"           <...>-1     [000] ....     0.850861: mm_page_alloc: {P24636} "
        "order=2 migratetype=0 gfp_flags=GFP_KERNEL_ACCOUNT|__GFP_ZERO",
    ),
    (
        EV_MM_PAGE_ALLOC,
        (24636, 0, GFP_HIGHUSER_MOVABLE, 1),
        851_772_400,
        f"           <...>-1     [000] ....     0.851772: mm_page_alloc: {P24636} "
        "order=0 migratetype=1 gfp_flags=GFP_HIGHUSER_MOVABLE",
    ),
    (
        EV_MM_PAGE_FREE,
        (24636, 0),
        853_440_500,
        f"           <...>-1     [000] ....     0.853441: mm_page_free: {P24636} order=0",
    ),
    (
        EV_MM_PAGE_FREE_BATCHED,
        (24636,),
        853_496_000,
        f"           <...>-1     [000] d...     0.853496: mm_page_free_batched: {P24636} order=0",
    ),
    (
        EV_MM_PAGE_PCPU_DRAIN,
        (24636, 0, 1),
        857_380_000,
        f"           <...>-1     [000] d...     0.857380: mm_page_pcpu_drain: {P24636} "
        "order=0 migratetype=1",
    ),
]


def emit(tiny: Tiny, event: int, *args: int) -> None:
    padded = [*args, *[0] * (7 - len(args))]
    trace(tiny.m, event, 0, *padded[:7])


@pytest.mark.parametrize(("event", "args", "time", "line"), RECORDED)
def test_lines_are_those_of_the_recorded_kernel(
    tiny_zone: Tiny, event: int, args: tuple[int, ...], time: int, line: str
) -> None:
    tiny_zone.m[G_CLOCK] = time
    emit(tiny_zone, event, *args)
    (record,) = trace_records(tiny_zone.m)
    assert format_line(record, {}) == line


def test_the_header_is_the_recorded_one(tiny_zone: Tiny) -> None:
    assert trace_text(tiny_zone.m) == HEADER_IRQ_INFO


def test_a_failed_allocation_has_a_null_page(tiny_zone: Tiny) -> None:
    assert page_pointer(-1) == "          (null)"
    assert format_kmem(EV_MM_PAGE_ALLOC, (-1, 10, 0, 0)) == (
        "page=          (null) pfn=0 order=10 migratetype=0 gfp_flags=none"
    )


@pytest.mark.parametrize(
    ("order", "block_mt", "fragmenting", "change"), [(3, 0, 1, 0), (9, 1, 0, 1)]
)
def test_extfrag_tells_fragmenting_and_change_of_ownership(
    tiny_zone: Tiny, order: int, block_mt: int, fragmenting: int, change: int
) -> None:
    emit(tiny_zone, EV_MM_PAGE_ALLOC_EXTFRAG, 0, 2, 24636, 0, order, 1, 2)
    trace_more(tiny_zone.m, 1, block_mt, 0, 0)
    (record,) = trace_records(tiny_zone.m)
    assert describe(record) == (
        f"mm_page_alloc_extfrag: {P24636} alloc_order=0 fallback_order={order} pageblock_order=9 "
        f"alloc_migratetype=1 fallback_migratetype=2 fragmenting={fragmenting} "
        f"change_ownership={change}"
    )


@pytest.mark.parametrize(
    ("preempt", "flags"),
    [
        (0, "...."),
        (1, "...1"),
        (SOFTIRQ_OFFSET, "..s."),
        (HARDIRQ_OFFSET, "d.h."),
        (HARDIRQ_OFFSET | SOFTIRQ_OFFSET | 2, "d.H2"),
        (NMI_MASK, "d.z."),
        (NMI_MASK | HARDIRQ_OFFSET, "d.Z."),
    ],
)
def test_the_flag_column_tells_the_context(tiny_zone: Tiny, preempt: int, flags: str) -> None:
    tiny_zone.m[CPU_BLOCKS + CPU_PREEMPT_COUNT] = preempt
    emit(tiny_zone, EV_MM_PAGE_FREE, 5, 0)
    assert list(trace_lines(tiny_zone.m))[-1].split()[2] == flags


def test_stock_scripts_can_read_the_short_layout(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    tiny_zone.record(*range(6))
    for order in (0, 3):
        free_pages(m, 0, alloc_pages_nodemask(m, 0, GFP_HIGHUSER_MOVABLE, order, 0, 0), order)
    lines = trace_text(m, irq_info=False).splitlines()
    body = [line for line in lines if not line.startswith("#")]
    assert lines[2] == f"# entries-in-buffer/entries-written: {len(body)}/{len(body)}   #P:1"
    seen = []
    for line in body:
        match = STOCK_LINE.match(line)
        assert match
        assert match[1] == "init-1"
        fields = dict(field.split("=") for field in match[5].split())
        assert re.fullmatch("[0-9a-f]{16}", fields["page"])
        seen.append(match[4])
    assert seen[:3] == ["mm_page_alloc_zone_locked", "mm_page_alloc", "mm_page_free"]
    assert seen.count("mm_page_alloc") == seen.count("mm_page_free") == 2


def test_idle_is_pid_0_and_long_names_are_cut_at_the_terminator(tiny_zone: Tiny) -> None:
    m, task = tiny_zone.m, tiny_zone.task()
    m[task + TASK_PID] = 0
    emit(tiny_zone, EV_MM_PAGE_FREE, 5, 0)
    assert list(trace_lines(m))[-1].startswith("          <idle>-0     [000]")
    m[task + TASK_PID] = 4711
    m[task + TASK_COMM] = int.from_bytes(b"kswapd0\0", "little")
    emit(tiny_zone, EV_MM_PAGE_FREE, 5, 0)
    assert list(trace_lines(m))[-1].startswith("         kswapd0-4711  [000]")


def test_our_own_events_show_their_field_names(tiny_zone: Tiny) -> None:
    emit(tiny_zone, EV_RMQUEUE_BULK, 0, 2, 1, 31, 30)
    emit(tiny_zone, EV_REQUEST, 0x6000C0, 0, 0, 0, 0, 2, 0x41)
    found = list(trace_lines(tiny_zone.m, all_events=True))[-2:]
    assert [line.split(": ", 1)[1] for line in found] == [
        "rmqueue_bulk: nid=0 zid=2 migratetype=1 wanted=31 got=30",
        "request: gfp_flags=0x6000c0 order=0 nid=0 nodemask=0 migratetype=0 high_zoneidx=2 "
        "alloc_flags=0x41",
    ]
    assert trace_text(tiny_zone.m) == HEADER_IRQ_INFO


def test_the_ring_keeps_the_newest_records(tiny_zone: Tiny) -> None:
    for pfn in range(TRACE_RECORDS + 5):
        emit(tiny_zone, EV_MM_PAGE_FREE, pfn, 0)
    records = list(trace_records(tiny_zone.m))
    assert [records[0].seq, records[0].args[0], len(records)] == [5, 5, TRACE_RECORDS]
    assert [r.seq for r in trace_records(tiny_zone.m, TRACE_RECORDS + 3)] == [
        TRACE_RECORDS + 3,
        TRACE_RECORDS + 4,
    ]


@pytest.mark.parametrize("word", [G_TRACE_SIZE, G_TRACE_BASE, G_TRACE_HEAD])
def test_a_ring_that_a_guest_wrote_over_is_read_without_harm(tiny_zone: Tiny, word: int) -> None:
    m = tiny_zone.m
    emit(tiny_zone, EV_MM_PAGE_FREE, 5, 0)
    m[m[G_TRACE_BASE] + 1] = 999
    assert list(trace_records(m)) == []
    for value in (-1, 7, 1 << 60):
        m[word] = value
        assert isinstance(list(trace_records(m, max(value - 3, 0))), list)
