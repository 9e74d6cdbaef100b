# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from machine import Clock, UsageError
from machine.events import EventQueue


def queue() -> tuple[Clock, EventQueue, list[str]]:
    clock = Clock()
    return clock, EventQueue(clock), []


def test_timers_go_off_in_the_order_of_their_deadlines_and_then_of_their_making() -> None:
    clock, events, seen = queue()
    timers = {name: events.timer(name, lambda name=name: seen.append(name)) for name in "abc"}
    timers["c"].set(10)
    timers["b"].set(20)
    timers["a"].set(20)
    clock.advance(9)
    events.run_due()
    assert (seen, events.next) == ([], 10)
    clock.advance(11)
    events.run_due()
    assert (seen, events.next) == (["c", "a", "b"], None)


def test_a_timer_set_again_goes_off_once_and_a_cleared_one_not_at_all() -> None:
    clock, events, seen = queue()
    timer = events.timer("t", lambda: seen.append("t"))
    other = events.timer("o", lambda: seen.append("o"))
    timer.set(5)
    timer.set(7)
    other.set(6)
    other.clear()
    assert events.next == 7
    clock.advance(100)
    events.run_due()
    events.run_due()
    assert seen == ["t"]


def test_a_callback_may_arm_its_timer_again_and_it_goes_off_if_that_is_past() -> None:
    clock, events, _ = queue()
    times: list[int] = []

    def again() -> None:
        times.append(clock.now)
        if len(times) < 4:
            timer.set(10 * len(times))

    timer = events.timer("t", again)
    timer.set(1)
    clock.advance(25)
    events.run_due()
    assert (times, events.next) == ([25, 25, 25], 30)


def test_whoever_cuts_slices_hears_of_an_earlier_deadline_only() -> None:
    _, events, seen = queue()
    events.on_change = lambda: seen.append(str(events.next))
    first, second = events.timer("1", lambda: None), events.timer("2", lambda: None)
    first.set(10)
    second.set(20)
    second.set(5)
    second.clear()
    assert seen == ["10", "5", "10"]


def test_deadlines_are_kept_by_name() -> None:
    _, events, _ = queue()
    events.timer("a", lambda: None).set(3)
    events.timer("b", lambda: None)
    saved = events.save()
    assert saved == {"a": 3}
    _, other, _ = queue()
    other.timer("b", lambda: None).set(9)
    other.timer("a", lambda: None)
    other.load(saved)
    assert (other.save(), other.next) == ({"a": 3}, 3)
    with pytest.raises(KeyError):
        other.load({"x": 1})


def test_a_name_is_given_once() -> None:
    _, events, _ = queue()
    events.timer("a", lambda: None)
    with pytest.raises(UsageError, match="'a'"):
        events.timer("a", lambda: None)
