# SPDX-License-Identifier: GPL-2.0-only
"""Reports in the kernel's words, showing the state of their moment and not of the reading."""

from __future__ import annotations

import pytest

from allocator.cpuset_fs import TOP_CPUSET, cpuset_attach, cpuset_create, cpuset_set_mems
from allocator.gfp import GFP_COMP_BIT, GFP_KERNEL, GFP_NOFAIL_BIT, GFP_NOWARN_BIT
from allocator.kernel_globals import G_CLOCK, G_STATIC_KEYS, KEY_PAGE_OWNER
from allocator.layout import CPU_BLOCKS, CPU_CURRENT, PAGE_OFFSET
from allocator.mm_types import (
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_MEMCG,
    PG_DIRTY,
    PG_HWPOISON,
    PG_LOCKED,
    PG_WAITERS,
)
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.page_check import BAD_FLAGS_FREE, BAD_MAPPING, PAGE_FLAGS_CHECK_AT_FREE
from allocator.page_report import (
    dump_page,
    format_page_flags,
    log_lines,
    node_list,
)
from allocator.trace import log_raw_page, log_record
from allocator.trace_events import LOG_BAD_PAGE, LOG_WARN_ALLOC
from tests.allocator.tiny import Tiny


def lines(tiny: Tiny, mem_info: bool = False) -> list[str]:
    return [line.split("] ", 1)[1] for line in log_lines(tiny.m, mem_info=mem_info)]


def log_bad(tiny: Tiny, pfn: int, reason: int, bad_flags: int) -> None:
    m, p = tiny.m, tiny.page(pfn)
    flags, counts, mapping = m[p + P_FLAGS], m[p + P_COUNTS], m[p + P_MAPPING]
    log_record(m, LOG_BAD_PAGE, 0, pfn, reason, bad_flags, flags, counts, mapping)
    log_raw_page(m, 0, pfn, p)


def test_a_bad_page_report_is_that_of_4_20(tiny_zone: Tiny) -> None:
    m, pfn = tiny_zone.m, 0x4123
    p = tiny_zone.page(pfn)
    m[p : p + 8] = memoryview(
        b"".join(
            x.to_bytes(8, "little")
            for x in (
                (2 << 56) | PG_LOCKED | PG_DIRTY | PG_WAITERS,
                0xDEAD000000000100,
                0xDEAD000000000200,
                0xFFFF888000001000,
                0x42,
                0,
                0x00000002_FFFFFF7F,
                0,
            )
        )
    ).cast("q")
    log_bad(tiny_zone, pfn, BAD_FLAGS_FREE, PAGE_FLAGS_CHECK_AT_FREE)
    m[p + P_FLAGS] = m[p + P_COUNTS] = m[p + P_MAPPING] = m[p + P_INDEX] = 0
    assert lines(tiny_zone) == [
        "BUG: Bad page state in process init  pfn:04123",
        "page:ffffea00001048c0 count:2 mapcount:-128 mapping:ffff888000001000 index:0x42",
        "flags: 0x200000000000089(locked|waiters|dirty)",
        "raw: 0200000000000089 dead000000000100 dead000000000200 ffff888000001000",
        "raw: 0000000000000042 0000000000000000 00000002ffffff7f 0000000000000000",
        "page dumped because: PAGE_FLAGS_CHECK_AT_FREE flag(s) set",
        "bad because of flags: 0x1(locked)",
    ]


def test_a_report_without_a_raw_page_uses_what_was_captured(tiny_zone: Tiny) -> None:
    m, pfn = tiny_zone.m, tiny_zone.start
    p = tiny_zone.page(pfn)
    log_record(m, LOG_BAD_PAGE, 0, pfn, BAD_MAPPING, 0, 1 << 5, 0xFFFFFFFF, 0x1000)
    m[p + P_MEMCG] = PAGE_OFFSET
    found = lines(tiny_zone)
    assert "count:0 mapcount:0 mapping:0000000000001000" in found[1]
    assert found[2] == "flags: 0x20(active)"
    assert found[5:] == [
        "page dumped because: non-NULL mapping",
        "page->mem_cgroup:ffff888000000000",
    ]


def test_a_double_free_is_reported_by_the_allocator(tiny_zone: Tiny) -> None:
    pfn = alloc_pages_nodemask(tiny_zone.m, 0, GFP_KERNEL, 0, 0, 0)
    free_pages(tiny_zone.m, 0, pfn, 0)
    assert free_pages(tiny_zone.m, 0, pfn, 0) == -1
    found = lines(tiny_zone)
    assert found[0] == f"BUG: Bad page state in process init  pfn:{pfn:05x}"
    assert "page dumped because: VM_BUG_ON_PAGE(page_ref_count(page) == 0)" in found


def test_a_compound_page_shows_its_map_count(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    pfn = alloc_pages_nodemask(m, 0, GFP_KERNEL | GFP_COMP_BIT, 2, 0, 0)
    p = tiny_zone.page(pfn)
    head = list(dump_page(m, pfn, tuple(m[p : p + 8]), None))
    assert head[0].endswith(
        " count:1 mapcount:0 mapping:0000000000000000 index:0x0 compound_mapcount: 0"
    )
    tail = list(dump_page(m, pfn + 3, tuple(m[p + 24 : p + 32]), None))
    assert tail[0].endswith(" compound_mapcount: 0")
    assert "mapping:dead000000000400" in tail[0]


def test_the_owner_of_a_bad_page_is_named(tiny_zone: Tiny) -> None:
    tiny_zone.enable_page_ext()
    m = tiny_zone.m
    m[G_STATIC_KEYS] |= KEY_PAGE_OWNER
    pfn = alloc_pages_nodemask(m, 0, GFP_KERNEL, 1, 0, 0)
    log_bad(tiny_zone, pfn, BAD_MAPPING, 0)
    log_bad(tiny_zone, pfn + 1, BAD_MAPPING, 0)
    found = lines(tiny_zone)
    assert (
        "page allocated via order 1, migratetype Unmovable, gfp_mask 0x6000c0(GFP_KERNEL)" in found
    )
    assert found[-1] == "page_owner info is not active (free page?)"


def test_a_failed_allocation_warns_with_mode_nodemask_and_cpuset(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    a = cpuset_create(m, TOP_CPUSET, "lab")
    cpuset_set_mems(m, a, 1)
    cpuset_attach(m, a, tiny_zone.task())
    for nodemask in (0, 0b1011):
        log_record(m, LOG_WARN_ALLOC, 0, 5, GFP_KERNEL, nodemask, 0, 0, 0)
    assert lines(tiny_zone) == [
        "init: page allocation failure: order:5, mode:0x6000c0(GFP_KERNEL), nodemask=(null)",
        "init cpuset=lab mems_allowed=0",
        "init: page allocation failure: order:5, mode:0x6000c0(GFP_KERNEL), nodemask=0-1,3",
        "init cpuset=lab mems_allowed=0",
    ]


def test_mem_info_follows_when_asked_for(tiny_zone: Tiny) -> None:
    log_record(tiny_zone.m, LOG_WARN_ALLOC, 0, 5, GFP_KERNEL, 0, 0, 0, 0)
    assert len(lines(tiny_zone)) == 2
    with_info = lines(tiny_zone, mem_info=True)
    assert with_info[1] == "init cpuset=/ mems_allowed=0-63"
    assert with_info[2] == "Mem-Info:"
    assert with_info[-1] == "0 pages cma reserved"


def test_an_impossible_order_warns_once_and_nowarn_never(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    assert alloc_pages_nodemask(m, 0, GFP_KERNEL | GFP_NOWARN_BIT, 11, 0, 0) == -1
    assert lines(tiny_zone) == []
    for _ in range(2):
        alloc_pages_nodemask(m, 0, GFP_KERNEL, 11, 0, 0)
    assert lines(tiny_zone) == [
        "------------[ cut here ]------------",
        "WARNING: CPU: 0 PID: 1 at mm/page_alloc.c:4361 __alloc_pages_nodemask",
    ]
    alloc_pages_nodemask(m, 0, GFP_KERNEL | GFP_NOFAIL_BIT, 2, 0, 0)
    assert lines(tiny_zone)[-1] == "WARNING: CPU: 0 PID: 1 at mm/page_alloc.c:3003 rmqueue"


def test_lines_carry_the_modelled_time(tiny_zone: Tiny) -> None:
    tiny_zone.m[G_CLOCK] = 12_345_678_901
    log_record(tiny_zone.m, LOG_WARN_ALLOC, 0, 5, GFP_KERNEL, 0, 0, 0, 0)
    assert next(log_lines(tiny_zone.m)).startswith("[   12.345678] init: page allocation failure")


def test_records_without_a_task_and_of_unknown_kind_do_no_harm(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    m[CPU_BLOCKS + CPU_CURRENT] = 0
    log_record(m, LOG_WARN_ALLOC, 0, 0, 0, 0, 0, 0, 0)
    log_record(m, 999, 0, 0, 0, 0, 0, 0, 0)
    log_record(m, LOG_BAD_PAGE, 0, -1, 99, -1, -1, -1, -1)
    assert (
        lines(tiny_zone)[0] == ": page allocation failure: order:0, mode:0x0(none), nodemask=(null)"
    )


@pytest.mark.parametrize(
    ("mask", "text"),
    [(0, ""), (1, "0"), (0b1110, "1-3"), (0b1011, "0-1,3"), (-1, "0-63"), (-(1 << 63), "63")],
)
def test_node_lists_are_written_as_bitmaps(mask: int, text: str) -> None:
    assert node_list(mask) == text


def test_page_flags_come_in_the_order_of_mmflags() -> None:
    assert format_page_flags(PG_LOCKED | PG_WAITERS | PG_DIRTY) == "locked|waiters|dirty"
    assert format_page_flags(0) == ""
    assert format_page_flags(-(1 << 63) | PG_HWPOISON) == "hwpoison"
