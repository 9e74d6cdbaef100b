# SPDX-License-Identifier: GPL-2.0-only
"""allocator/page_free.py: dropping references, and frees that make no sense."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from allocator.gfp import parse_gfp
from allocator.kernel_globals import G_LOG_HEAD
from allocator.layout import CPU_BLOCKS, LOG_RING, RECORD_WORDS, word_of_va
from allocator.mm_types import (
    COUNTS_FREE,
    P_COUNTS,
    P_INDEX,
    P_MAPPING,
    P_MEMCG,
    PG_LOCKED,
    REF_ONE,
)
from allocator.mmzone import (
    MAX_ORDER,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    PSET_COUNT,
    PSET_HIGH,
    Z_PAGESET,
)
from allocator.page_alloc import alloc_pages_nodemask
from allocator.page_check import (
    BAD_COMPOUND_ORDER,
    BAD_DOUBLE_FREE,
    BAD_FLAGS_FREE,
    BAD_FREE_OF_TAIL,
    BAD_MAPPING,
    BAD_MEMCG,
    BAD_UNALIGNED,
)
from allocator.page_free import FREE_DONE, FREE_REFUSED, FREE_STILL_REFERENCED, free_pages
from allocator.pageblock import set_pageblock_migratetype
from allocator.pcp import CPU_EVENTS_PGFREE
from allocator.trace_events import (
    EV_FREE_REQUEST,
    EV_FREE_TO_BUDDY,
    EV_FREE_TO_PCP,
    EV_MM_PAGE_FREE,
)
from tests.allocator.tiny import Tiny, make_tiny

MOVABLE = parse_gfp("GFP_HIGHUSER_MOVABLE")
COMPOUND = parse_gfp("GFP_KERNEL|__GFP_COMP")


@pytest.fixture
def tiny() -> Tiny:
    found = make_tiny(1, 1)
    found.m[pageset(found) + PSET_HIGH] = 100
    return found


def pageset(tiny: Tiny) -> int:
    return word_of_va(tiny.m[tiny.z + Z_PAGESET])


def alloc(tiny: Tiny, gfp: int, order: int) -> int:
    pfn = alloc_pages_nodemask(tiny.m, 0, gfp, order, 0, 0)
    assert pfn >= 0
    return pfn


def test_single_page_goes_to_the_cpus_list_with_its_pageblocks_type(tiny: Tiny) -> None:
    pfn = alloc(tiny, MOVABLE, 0)
    events = tiny.m[CPU_BLOCKS + CPU_EVENTS_PGFREE]
    held = tiny.m[pageset(tiny) + PSET_COUNT]
    assert free_pages(tiny.m, 0, pfn, 0) == FREE_DONE
    assert tiny.m[pageset(tiny) + PSET_COUNT] == held + 1
    assert tiny.m[tiny.page(pfn) + P_COUNTS] == COUNTS_FREE
    assert tiny.m[tiny.page(pfn) + P_INDEX] == MIGRATE_MOVABLE
    assert tiny.m[CPU_BLOCKS + CPU_EVENTS_PGFREE] == events + 1


def test_block_goes_to_the_buddy_lists_and_merges(tiny: Tiny) -> None:
    before = tiny.listed_pages()
    pfn = alloc(tiny, COMPOUND, 3)
    assert tiny.listed_pages() == before - 8
    assert free_pages(tiny.m, 0, pfn, 3) == FREE_DONE
    assert tiny.listed_pages() == before


def test_page_with_references_left_stays(tiny: Tiny) -> None:
    pfn = alloc(tiny, MOVABLE, 0)
    tiny.m[tiny.page(pfn) + P_COUNTS] += REF_ONE
    assert free_pages(tiny.m, 0, pfn, 0) == FREE_STILL_REFERENCED
    assert free_pages(tiny.m, 0, pfn, 0) == FREE_DONE


def test_page_of_an_isolated_pageblock_bypasses_the_cpus_list(tiny: Tiny) -> None:
    pfn = alloc(tiny, MOVABLE, 0)
    set_pageblock_migratetype(tiny.m, pfn, MIGRATE_ISOLATE)
    held = tiny.m[pageset(tiny) + PSET_COUNT]
    assert free_pages(tiny.m, 0, pfn, 0) == FREE_DONE
    assert tiny.m[pageset(tiny) + PSET_COUNT] == held
    assert any(
        head <= pfn < head + (1 << order)
        for order in range(MAX_ORDER)
        for head in tiny.free_list(order, MIGRATE_ISOLATE)
    )


def _again(tiny: Tiny) -> tuple[int, int]:
    pfn = alloc(tiny, MOVABLE, 0)
    free_pages(tiny.m, 0, pfn, 0)
    return pfn, 0


def _word(field: int, value: int) -> Callable[[Tiny], tuple[int, int]]:
    def damage(tiny: Tiny) -> tuple[int, int]:
        pfn = alloc(tiny, MOVABLE, 0)
        tiny.m[tiny.page(pfn) + field] |= value
        return pfn, 0

    return damage


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_again, BAD_DOUBLE_FREE),
        (lambda tiny: (alloc(tiny, COMPOUND, 2) + 1, 0), BAD_FREE_OF_TAIL),
        (lambda tiny: (alloc(tiny, MOVABLE, 3) + 2, 3), BAD_DOUBLE_FREE),
        (lambda tiny: (alloc(tiny, COMPOUND, 2), 0), BAD_COMPOUND_ORDER),
        (lambda tiny: (_odd(tiny), 1), BAD_UNALIGNED),
        (_word(P_MAPPING, 4096), BAD_MAPPING),
        (_word(P_MEMCG, 4096), BAD_MEMCG),
        (_word(0, PG_LOCKED), BAD_FLAGS_FREE),
    ],
)
def test_free_that_makes_no_sense_is_refused_and_says_why(
    tiny: Tiny, damage: Callable[[Tiny], tuple[int, int]], reason: int
) -> None:
    pfn, order = damage(tiny)
    listed, held = tiny.listed_pages(), tiny.m[pageset(tiny) + PSET_COUNT]
    head = tiny.m[G_LOG_HEAD]
    assert free_pages(tiny.m, 0, pfn, order) == FREE_REFUSED
    record = LOG_RING + head * RECORD_WORDS
    assert tiny.m[record + 3 : record + 5].tolist() == [pfn, reason]
    assert (tiny.listed_pages(), tiny.m[pageset(tiny) + PSET_COUNT]) == (listed, held)


def _odd(tiny: Tiny) -> int:
    pages = [alloc(tiny, MOVABLE, 0) for _ in range(2)]
    return next(pfn for pfn in pages if pfn & 1)


def test_trace_has_the_request_the_tracepoint_and_where_the_page_went(tiny: Tiny) -> None:
    single, block = alloc(tiny, MOVABLE, 0), alloc(tiny, COMPOUND, 1)
    tiny.record(EV_FREE_REQUEST, EV_MM_PAGE_FREE, EV_FREE_TO_PCP, EV_FREE_TO_BUDDY)
    free_pages(tiny.m, 0, single, 0)
    free_pages(tiny.m, 0, block, 1)
    assert [event[:3] for event in tiny.events()] == [
        (EV_FREE_REQUEST, single, 0),
        (EV_MM_PAGE_FREE, single, 0),
        (EV_FREE_TO_PCP, 0, 2),
        (EV_FREE_REQUEST, block, 1),
        (EV_MM_PAGE_FREE, block, 1),
        (EV_FREE_TO_BUDDY, 0, 2),
    ]
