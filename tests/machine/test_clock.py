# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from machine import Clock


def test_time_passes_only_by_work_and_never_backwards() -> None:
    clock = Clock()
    clock.advance(5)
    clock.advance(-3)
    assert clock.now == 5


def test_a_running_slice_counts_before_it_is_added() -> None:
    clock = Clock()
    clock.advance(100)
    clock.progress = lambda: 7
    assert clock.now == 107


def test_a_saved_clock_goes_on_where_it_was() -> None:
    clock, other = Clock(), Clock()
    clock.advance(42)
    other.load(clock.save())
    assert other.now == 42
