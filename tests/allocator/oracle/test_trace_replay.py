# SPDX-License-Identifier: GPL-2.0-only
"""Free-running logs: every event must be what our functions do at that moment."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from allocator.oracle.records import Recording
from allocator.oracle.trace_replay import LogReplayer, match_requests, replay_trace
from machine.errors import ImageError

from .machines import TWO_NODES, bring_up, recording

LOG = "trace-boot.json.xz"
Log = dict[str, Any]


def replay_changed(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Log], int]
) -> tuple[int, Any]:
    """Replays M2's boot log after a change; what was changed, and the outcome."""
    source = recording("M2/trace")
    log = copy.deepcopy(source.trace(LOG))
    at = change(log)
    monkeypatch.setattr(Recording, "trace", lambda self, name: log)
    return at, replay_trace(source, LOG)


def find(log: Log, code: str, skip: int = 0) -> int:
    """Index of an event with that code."""
    return [i for i, event in enumerate(log["events"]) if event[0] == code][skip]


def other_frame(log: Log) -> int:
    at = find(log, "r", 900)
    log["events"][at][6] += 1
    return at


def other_refill(log: Log) -> int:
    at = find(log, "R", 300)
    log["events"][at][6] -= 1
    return at


def no_bulk_free(log: Log) -> int:
    at = find(log, "B", 100)
    del log["events"][at]
    return at


def extra_bulk_free(log: Log) -> int:
    at = find(log, "B", 100)
    log["events"].insert(at, log["events"][at])
    return at + 1


def other_steal(log: Log) -> int:
    at = find(log, "X", 3)
    log["events"][at][4] ^= 1024
    return next(i for i in range(at, len(log["events"])) if log["events"][i][0] in "Rr")


def other_watermark(log: Log) -> int:
    at = find(log, "w")
    log["events"][at][5] += 1
    return at


def other_reserve(log: Log) -> int:
    at = find(log, "l")
    log["events"][at][5] += 1
    return at


def other_threshold(log: Log) -> int:
    at = find(log, "t")
    log["events"][at][5] += 1
    return at


def freed_twice(log: Log) -> int:
    at = find(log, "f", 500)
    log["events"].insert(at + 1, log["events"][at])
    return at + 1


@pytest.mark.parametrize(
    "change",
    [
        other_frame,
        other_refill,
        extra_bulk_free,
        other_steal,
        other_watermark,
        other_reserve,
        other_threshold,
        freed_twice,
    ],
)
def test_a_changed_event_stops_the_replay_there(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Log], int]
) -> None:
    at, outcome = replay_changed(monkeypatch, change)
    assert outcome.problem.startswith(f"event {at} ")
    assert outcome.final == "not reached"
    assert outcome.details


def test_a_missing_bulk_free_is_missed_at_its_cpus_next_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, outcome = replay_changed(monkeypatch, no_bulk_free)
    assert "B should follow" in outcome.problem


def test_a_changed_end_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(log: Log) -> int:
        del log["events"][-3:]
        return 0

    _, outcome = replay_changed(monkeypatch, cut)
    assert outcome.problem == ""
    assert outcome.final == "differs"


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (["Q", 0, 0, 1], "unknown code 'Q'"),
        (["R", 9, 0, 1, 0, 1, 1], "CPU 9"),
        (["R", 0, 0, 1, 7, 1, 1], "list 7"),
        (["r", 0, 7, 1, 0, 1, 1, 1], "zone 7:1"),
        (["F", 0, 0, 1, 40, 8192, 1], "order 40"),
        (["f", 0, 0, 1, 1, 1 << 40, 1], "no struct page"),
    ],
)
def test_an_event_that_cannot_be_is_an_image_error(event: list[Any], message: str) -> None:
    replayer = LogReplayer(bring_up(TWO_NODES), [event], None)
    with pytest.raises(ImageError, match=message):
        replayer.apply(0)


def test_requests_of_an_interrupt_lie_between_a_page_and_its_return() -> None:
    events = [
        ["r", 0, 0, 1, 0, 1, 100, 1],
        ["r", 1, 0, 1, 0, 1, 300, 1],
        ["r", 0, 0, 1, 0, 0, 200, 0],
        ["a", 0, 1, 0, 0, 0, 200, 1, 2],
        ["a", 1, 2, 0, 0, 0, 300, 2, 0],
        ["a", 0, 3, 0, 0, 0, 100, 3, 0],
    ]
    assert {i: a[2] for i, a in match_requests(events).items()} == {0: 3, 1: 2, 2: 1}
