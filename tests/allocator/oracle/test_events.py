# SPDX-License-Identifier: GPL-2.0-only
"""The trace ring as the recording's event lists."""

from __future__ import annotations

import pytest

from allocator.kernel_globals import G_TRACE_HEAD
from allocator.oracle.events import (
    CODES,
    RECORDED_EVENTS,
    first_difference,
    normal,
    take_events,
    watch,
)
from allocator.oracle.guest import RING_RECORDS, Guest
from allocator.page_alloc import alloc_pages_nodemask
from allocator.trace import trace
from allocator.trace_events import EV_MERGE, EV_RMQUEUE
from machine.errors import ImageError

from .machines import TWO_NODES, bring_up


@pytest.fixture
def guest() -> Guest:
    """A machine of two nodes."""
    return bring_up(TWO_NODES)


def test_codes_are_all_different() -> None:
    assert len(set(CODES.values())) == len(CODES)


def test_a_request_gives_its_events_in_order_and_empties_the_ring(guest: Guest) -> None:
    watch(guest, RECORDED_EVENTS)
    pfn = alloc_pages_nodemask(guest.m, 0, 0x6000C0, 0, 1, 0)
    events = take_events(guest)
    assert [event[0] for event in events] == ["X", "R", "r"]
    assert events[-1] == ["r", 0, 1, 1, 0, 0, pfn, 0]
    assert take_events(guest) == []


def test_events_without_a_code_are_left_out(guest: Guest) -> None:
    trace(guest.m, EV_MERGE, 0, 0, 0, 0, 0, 0, 0, 0)
    trace(guest.m, EV_RMQUEUE, 1, 0, 1, 2, 3, 4, 5, 0)
    assert take_events(guest) == [["r", 1, 0, 1, 2, 3, 4, 5]]


def test_a_ring_that_has_run_over_is_an_error(guest: Guest) -> None:
    guest.m[G_TRACE_HEAD] = RING_RECORDS + 1
    with pytest.raises(ImageError, match="events"):
        take_events(guest)


def test_null_is_minus_one_and_masks_are_signed() -> None:
    assert normal([["r", 0, None], ["c", 0, (1 << 64) - 1, 1]]) == [["r", 0, -1], ["c", 0, -1, 1]]


def test_the_first_difference_is_named() -> None:
    assert first_difference([["r", 1]], [["r", 1]]) == ""
    assert first_difference([["r", 1]], [["r", 2]]) == "event 0: here r 1, recorded r 2"
    assert first_difference([["r", 1]], []) == "event 0: here r 1, recorded (none)"
    assert first_difference([], [["f", 3]]) == "event 0: here (none), recorded f 3"
