# SPDX-License-Identifier: GPL-2.0-only
"""Contiguous ranges: exactly the wanted frames, borrowed pages moved away, surplus given back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.contig import alloc_contig_range, free_contig_range
from allocator.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from allocator.layout import TASK_FATAL_SIGNAL
from allocator.migrate import PG_ISOLATED, set_page_movable
from allocator.mm_types import COUNTS_ONE, P_COUNTS, P_FLAGS, P_MAPPING, PG_LOCKED, REF_SHIFT
from allocator.mmzone import MIGRATE_MOVABLE, Z_NR_ISOLATE
from allocator.page_alloc import alloc_pages_nodemask
from allocator.pageblock import get_pageblock_migratetype
from allocator.trace_events import (
    EV_FREE_TO_BUDDY,
    EV_ISOLATE_FREEPAGES,
    EV_ISOLATE_MIGRATEPAGES,
    EV_MIGRATE,
)
from tests.allocator.tiny import NODE_PAGES, Tiny, make_tiny

EBUSY, EINTR = 16, 4


def contig(tiny: Tiny, start: int, end: int) -> int:
    return alloc_contig_range(tiny.m, 0, start, end, MIGRATE_MOVABLE)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, NODE_PAGES - 1), st.integers(1, 1500))
def test_every_page_of_the_range_and_no_other_is_allocated(offset: int, length: int) -> None:
    tiny = make_tiny(1, 1)
    start = tiny.start + offset
    end = min(start + length, tiny.start + NODE_PAGES)
    assert contig(tiny, start, end) == 0
    assert all(tiny.m[tiny.page(pfn) + P_COUNTS] == COUNTS_ONE for pfn in range(start, end))
    assert tiny.free_pages() == tiny.listed_pages() == NODE_PAGES - (end - start)
    assert tiny.m[tiny.z + Z_NR_ISOLATE] == 0
    assert free_contig_range(tiny.m, 0, start, end - start) == 0
    assert tiny.free_pages() == tiny.listed_pages() == NODE_PAGES
    assert len(tiny.free_list(10, MIGRATE_MOVABLE)) == 4


def test_head_and_tail_are_freed_singly_and_upwards(tiny_zone: Tiny) -> None:
    start = tiny_zone.start
    tiny_zone.record(EV_ISOLATE_MIGRATEPAGES, EV_ISOLATE_FREEPAGES, EV_FREE_TO_BUDDY)
    assert contig(tiny_zone, start + 3, start + 1020) == 0
    events = tiny_zone.events()
    assert events[:3] == [
        (EV_ISOLATE_MIGRATEPAGES, start + 3, start + 512, 509, 0),
        (EV_ISOLATE_MIGRATEPAGES, start + 512, start + 1020, 508, 0),
        (EV_ISOLATE_FREEPAGES, start, start + 512, 1, 1024),
    ]
    freed = [event[4] for event in events[3:]]
    assert freed == [start, start + 1, start + 2, *range(start + 1020, start + 1024)]


def test_movable_pages_are_migrated_out_newest_first(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    pages = [alloc_pages_nodemask(m, 0, GFP_HIGHUSER_MOVABLE, 0, 0, 0) for _ in range(40)]
    for pfn in pages:
        set_page_movable(m, pfn, 1 << 20)
        tiny_zone.memory.write(pfn << 12, pfn.to_bytes(8, "little"))
    base = pages[0] & ~1023
    tiny_zone.record(EV_MIGRATE)
    assert contig(tiny_zone, base, base + 512) == 0
    moves = [(event[1], event[2]) for event in tiny_zone.events()]
    ordered = sorted(pages)
    # 32 pages at a time, each batch a stack
    assert [src for src, _ in moves] == ordered[31::-1] + ordered[:31:-1]
    for src, dst in moves:
        assert not base <= dst < base + 1024
        assert tiny_zone.memory.read(dst << 12, 8) == src.to_bytes(8, "little")
    assert tiny_zone.free_pages() == NODE_PAGES - 512 - 40


def test_an_unmovable_page_makes_it_busy_and_leaves_everything_as_it_was(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    pfn = alloc_pages_nodemask(m, 0, GFP_KERNEL, 0, 0, 0)
    assert contig(tiny_zone, pfn & ~511, (pfn & ~511) + 512) == -EBUSY
    assert tiny_zone.free_pages() == tiny_zone.listed_pages() == NODE_PAGES - 1
    assert tiny_zone.m[tiny_zone.z + Z_NR_ISOLATE] == 0


def test_a_page_that_does_not_move_is_put_back_to_its_owner(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    pfn = alloc_pages_nodemask(m, 0, GFP_HIGHUSER_MOVABLE, 0, 0, 0)
    set_page_movable(m, pfn, 1 << 20)
    m[tiny_zone.page(pfn) + P_FLAGS] |= PG_LOCKED
    assert contig(tiny_zone, pfn & ~1023, (pfn & ~1023) + 1024) == -EBUSY
    p = tiny_zone.page(pfn)
    assert m[p + P_COUNTS] >> REF_SHIFT == 1
    assert m[p + P_FLAGS] & PG_ISOLATED == 0
    assert m[p + P_MAPPING] == 1 << 20 | 2
    assert tiny_zone.listed_pages() == NODE_PAGES - 1


def test_a_killed_task_is_interrupted(tiny_zone: Tiny) -> None:
    tiny_zone.m[tiny_zone.task() + TASK_FATAL_SIGNAL] = 1
    start = tiny_zone.start
    assert contig(tiny_zone, start, start + 100) == -EINTR
    assert tiny_zone.free_pages() == tiny_zone.listed_pages() == NODE_PAGES
    assert get_pageblock_migratetype(tiny_zone.m, start) == MIGRATE_MOVABLE


@pytest.mark.parametrize("extra", [0, 1])
def test_freeing_counts_pages_that_someone_still_uses(tiny_zone: Tiny, extra: int) -> None:
    start = tiny_zone.start
    contig(tiny_zone, start, start + 4)
    tiny_zone.m[tiny_zone.page(start + 2) + P_COUNTS] += extra << REF_SHIFT
    assert free_contig_range(tiny_zone.m, 0, start, 4) == extra
    assert tiny_zone.listed_pages() == NODE_PAGES - extra
