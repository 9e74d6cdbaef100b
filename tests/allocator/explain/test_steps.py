# SPDX-License-Identifier: GPL-2.0-only
"""allocator/explain/steps.py: records become sentences."""

from __future__ import annotations

from allocator.explain.records import Record
from allocator.explain.steps import Stepper, merge_step, some, split_step, steal_reason
from allocator.trace_events import (
    EV_FREE_TO_PCP,
    EV_MERGE,
    EV_MIGRATE,
    EV_MM_PAGE_ALLOC_EXTFRAG,
    EV_MOVE_FREEPAGES,
    EV_RESERVE_HIGHATOMIC,
    EV_RMQUEUE,
    EV_RMQUEUE_BULK,
    EV_RMQUEUE_SMALLEST,
    EV_SET_PAGEBLOCK,
    EV_UNRESERVE_HIGHATOMIC,
    EV_WAKE_KSWAPD,
    EVENTS,
)


def record(event: int, *values: int, cpu: int = 0) -> Record:
    name, fields = EVENTS[event]
    return Record(event, name, cpu, 0, dict(zip(fields, values, strict=True)))


def texts(*records: Record) -> list[str]:
    lines: list[str] = []
    for step in Stepper().feed(records):
        lines += step.lines("")
    return lines


def test_a_split_names_every_half_that_is_left() -> None:
    step = split_step(record(EV_RMQUEUE_SMALLEST, 0, 1, 3, 6, 1, 0xC340))
    assert step.text == (
        "block 0xc340/6 taken from the Movable list of order 6, split 6 -> 3: "
        "left 0xc348/3 0xc350/4 0xc360/5"
    )
    left = step.data["left"]
    assert isinstance(left, list)
    assert sum(1 << block["order"] for block in left) + 8 == 64


def test_a_merge_names_every_buddy_and_where_the_block_is_listed() -> None:
    step = merge_step(record(EV_MERGE, 0, 1, 0x105, 0, 0x100, 3, 0))
    assert step.text == ("0x105/0 merged with 0x104/0 0x106/1 0x100/2: 0x100/3 listed at the head")
    alone = merge_step(record(EV_MERGE, 0, 1, 0x100, 3, 0x100, 3, 1))
    assert alone.text == (
        "0x100/3 listed at the tail, its buddy 0x108/3 is not free (its buddy of the next order is "
        "free, so it may soon merge)"
    )


def test_a_steal_gathers_what_it_changed() -> None:
    assert texts(
        record(EV_MOVE_FREEPAGES, 0, 1, 0xC200, 0, 300, 10),
        record(EV_SET_PAGEBLOCK, 0xC200, 1, 0),
        record(EV_MM_PAGE_ALLOC_EXTFRAG, 0, 1, 0xC200, 3, 5, 0, 1, 1, 0),
        record(EV_RMQUEUE_SMALLEST, 0, 1, 3, 5, 0, 0xC200),
        record(EV_RMQUEUE, 0, 1, 3, 0, 0xC200, 0),
    ) == [
        "Unmovable lists empty from order 3 up; fallback to Movable: order 5 block at 0xc200, "
        "can steal (Unmovable requests steal at any order)",
        "  300 free pages of its pageblock move to the Unmovable lists",
        "  pageblock 97 (Movable) becomes Unmovable",
        "block 0xc200/5 taken from the Unmovable list of order 5, split 5 -> 3: left 0xc208/3 "
        "0xc210/4",
    ]


def test_a_pageblock_that_keeps_its_type_says_why() -> None:
    lines = texts(
        record(EV_MOVE_FREEPAGES, 0, 1, 0xC200, 0, 40, 400),
        record(EV_MM_PAGE_ALLOC_EXTFRAG, 0, 1, 0xC200, 0, 2, 0, 1, 1, 1),
    )
    assert (
        "the pageblock keeps its type, for with 400 movable pages in it less than half" in lines[1]
    )


def test_a_movable_request_that_cannot_steal_takes_the_block_alone() -> None:
    assert texts(record(EV_MM_PAGE_ALLOC_EXTFRAG, 0, 1, 0x20, 0, 1, 1, 0, 0, 0)) == [
        "Movable lists empty from order 0 up; fallback to Unmovable: order 1 block at 0x20, "
        "too small to steal its pageblock for a movable request; the block alone moves"
    ]


def test_a_refill_is_one_step_with_its_splits_below() -> None:
    lines = texts(
        record(EV_RMQUEUE_SMALLEST, 1, 1, 0, 1, 0, 0x40, cpu=3),
        record(EV_RMQUEUE_SMALLEST, 1, 1, 0, 0, 0, 0x41, cpu=3),
        record(EV_RMQUEUE_BULK, 1, 1, 0, 7, 2, cpu=3),
        record(EV_RMQUEUE, 1, 1, 0, 0, 0x40, 0, cpu=3),
    )
    assert lines == [
        "the Unmovable list of cpu 3 in zone 1:DMA32 is empty: refilled with 2 of 7 pages, frames "
        "0x40 0x41",
        "  block 0x40/1 taken from the Unmovable list of order 1, split 1 -> 0: left 0x41/0",
        "frame 0x40 is the first on the Unmovable list of cpu 3 in zone 1:DMA32",
    ]
    hit = texts(record(EV_RMQUEUE, 1, 1, 0, 1, 0x40, 3))
    assert hit == [
        "frame 0x40 is the first on the Movable list of cpu 0 in zone 1:DMA32, no lock and no "
        "buddy list needed (it came from a HighAtomic list)"
    ]
    assert texts(record(EV_RMQUEUE, 0, 0, 4, 0, -1, -1)) == ["zone 0:DMA had no block after all"]


def test_the_highatomic_reserve_tells_both_ways() -> None:
    assert texts(
        record(EV_SET_PAGEBLOCK, 0xC200, 1, 3),
        record(EV_MOVE_FREEPAGES, 0, 1, 0xC200, 3, 100, 0),
        record(EV_RESERVE_HIGHATOMIC, 0, 1, 0xC200, 1, 512),
    ) == [
        "pageblock 97 reserved for high-order atomic requests; zone 0:DMA32 now reserves 512 pages",
        "  100 free pages of its pageblock move to the HighAtomic lists",
        "  pageblock 97 (Movable) becomes HighAtomic",
    ]
    assert texts(record(EV_UNRESERVE_HIGHATOMIC, 0, 1, 0xC200, 0, 9))[0] == (
        "highatomic pageblock 97 given back"
    )


def test_records_without_words_are_shown_with_their_fields() -> None:
    assert texts(record(EV_MIGRATE, 1, 2, 0, 1)) == ["unmap_and_move: src=1 dst=2 rc=0 lru=1"]
    assert texts(record(EV_WAKE_KSWAPD, 1, 1, 3, 1, 0)) == [
        "kswapd of node 1 woken for order 3 up to zone DMA32"
    ]
    assert texts(record(EV_WAKE_KSWAPD, 1, 1, 3, 1, 2)) == [
        "kswapd of node 1 left asleep, kcompactd woken for order 3 up to zone DMA32"
    ]
    assert texts(record(EV_FREE_TO_PCP, 0, 1, 1, 0x33, 3)) == [
        "frame 0x33 put at the head of the Movable list of cpu 0 in zone 0:DMA32, to go back to "
        "the HighAtomic lists later"
    ]


def test_long_lists_are_cut_and_reasons_fit_the_rule() -> None:
    assert some([str(i) for i in range(9)]) == "0 1 2 3 4 5 6 7 ... (9 in all)"
    assert steal_reason(4, 1) == "order 4 is at least 4"
    assert steal_reason(0, 2) == "Reclaimable requests steal at any order"
    assert steal_reason(0, 1) == "grouping by mobility is off"
