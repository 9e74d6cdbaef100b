# SPDX-License-Identifier: GPL-2.0-only
"""ftrace text: parsed, printed again to the letter, and every frame where it must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from allocator.oracle.ftrace_replay import (
    BUDDY,
    IN_USE,
    ON_LIST,
    FtraceOutcome,
    arguments,
    check_group,
    follow,
    parse_lines,
    replay_ftrace,
    whereabouts,
)
from allocator.oracle.records import find_recordings, read_packed
from allocator.tracepoints import format_kmem
from machine.errors import ImageError

from .machines import COPY, recording

HEAD = "          task-name-7     [001] d...     1.000002: "
PAGE = "page=(____ptrval____) "


def test_the_recorded_text_is_ours() -> None:
    outcome = replay_ftrace(recording("M2/workload"), "ftrace.txt.xz")
    assert outcome.problem == ""
    assert outcome.equal == outcome.lines > 5000


@pytest.mark.parametrize(
    "fields",
    [
        "mm_page_alloc: page=(____ptrval____) pfn=5 order=2 migratetype=1 "
        "gfp_flags=GFP_HIGHUSER_MOVABLE|__GFP_ZERO",
        "mm_page_free: page=(____ptrval____) pfn=5 order=0",
        "mm_page_free_batched: page=(____ptrval____) pfn=5 order=0",
        "mm_page_alloc_zone_locked: page=(____ptrval____) pfn=5 order=0 migratetype=1 "
        "percpu_refill=1",
        "mm_page_alloc_zone_locked: page=(____ptrval____) pfn=8 order=3 migratetype=0 "
        "percpu_refill=0",
        "mm_page_pcpu_drain: page=(____ptrval____) pfn=5 order=0 migratetype=2",
        "mm_page_alloc_extfrag: page=(____ptrval____) pfn=512 alloc_order=0 fallback_order=9 "
        "pageblock_order=9 alloc_migratetype=0 fallback_migratetype=1 fragmenting=0 "
        "change_ownership=1",
        "mm_page_alloc_extfrag: page=(____ptrval____) pfn=512 alloc_order=0 fallback_order=3 "
        "pageblock_order=9 alloc_migratetype=0 fallback_migratetype=1 fragmenting=1 "
        "change_ownership=0",
    ],
)
@pytest.mark.parametrize("flags", ["d... ", ""], ids=["irq-info", "noirq-info"])
def test_every_event_is_parsed_and_printed_again(fields: str, flags: str) -> None:
    text = f"{HEAD.replace('d... ', flags)}{fields}"
    (line,) = parse_lines(text, "x")
    assert (line.cpu, line.time) == (1, "1.000002")
    ours = format_kmem(line.event, arguments(line, "x"))
    assert ours.split("pfn=")[1] == fields.split("pfn=")[1]


def test_comments_and_other_events_are_passed_over() -> None:
    assert list(parse_lines(f"# tracer: nop\n\n{HEAD}sched_switch: prev=1\n", "x")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "x:1: not a line"),
        ("#\nCPU:1 [LOST 5 EVENTS]", "x:2: events were lost"),
        (HEAD + "mm_page_free: page=0 pfn=1", "'order' is missing"),
        (HEAD + "mm_page_free: page=0 pfn=abc order=0", "'pfn' is abc"),
        (
            HEAD + "mm_page_alloc: page=0 pfn=1 order=0 migratetype=0 gfp_flags=GFP_FUNNY",
            "GFP_FUNNY",
        ),
    ],
)
def test_text_that_is_no_trace_is_an_image_error_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        [arguments(line, "x") for line in parse_lines(text, "x")]


@pytest.mark.parametrize(
    ("event", "place", "after"),
    [
        ("mm_page_alloc: {} order=0 migratetype=0 gfp_flags=GFP_KERNEL", ON_LIST + 1, IN_USE),
        ("mm_page_free: {} order=0", IN_USE, ON_LIST + 1),
        ("mm_page_pcpu_drain: {} order=0 migratetype=0", ON_LIST + 1, BUDDY),
        (
            "mm_page_alloc_zone_locked: {} order=0 migratetype=0 percpu_refill=1",
            BUDDY,
            ON_LIST + 1,
        ),
    ],
)
def test_a_frame_moves_from_the_one_place_where_the_event_finds_it(
    event: str, place: int, after: int
) -> None:
    (line,) = parse_lines(HEAD + event.format(PAGE + "pfn=3"), "x")
    args = arguments(line, "x")
    for start in (IN_USE, BUDDY, ON_LIST, ON_LIST + 1):
        places = np.full(8, start, dtype=np.int16)
        problem = follow(line, args, places)
        assert (problem == "") == (start == place)
        assert places[3] == (after if start == place else start)


def test_lines_of_one_time_are_taken_as_they_fit() -> None:
    fields = PAGE + "pfn=3 order=0"
    text = (
        f"{HEAD}mm_page_free: {fields}\n"
        f"{HEAD.replace('[001]', '[000]')}mm_page_alloc: {fields} migratetype=0 gfp_flags=GFP_DMA\n"
    )
    places = np.full(8, ON_LIST, dtype=np.int16)
    outcome = FtraceOutcome()
    assert check_group(list(parse_lines(text, "x")), places, outcome, "x") == ""
    assert (outcome.equal, places[3]) == (2, ON_LIST + 1)


def test_a_frame_out_of_place_is_named(tmp_path: Path) -> None:
    source = COPY / "M2" / "workload"
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    lines = read_packed(source / "ftrace.txt.xz").decode().splitlines()
    at = next(i for i, line in enumerate(lines) if "mm_page_free:" in line)
    lines.insert(at, lines[at])
    (tmp_path / "ftrace.txt.xz").unlink()
    (tmp_path / "ftrace.txt").write_text("\n".join(lines))
    (found,) = find_recordings(tmp_path)
    outcome = replay_ftrace(found, "ftrace.txt")
    assert f"{at + 2}: frame" in outcome.problem
    assert "is freed from in use but is on a list of CPU" in outcome.problem


def test_whereabouts_of_a_state_are_its_lists() -> None:
    state = recording("M2/workload").state("ftrace-before")
    places = whereabouts(state, state["globals"]["max_pfn"])
    nr_free = sum(
        area["nr_free"] << area["order"] for z in state["zones"] for area in z["free_area"]
    )
    assert int((places == BUDDY).sum()) == nr_free
    held = [pcp["count"] for z in state["zones"] for pcp in z["pcp"] if pcp["cpu"] == 1]
    assert int((places == ON_LIST + 1).sum()) == sum(held)
