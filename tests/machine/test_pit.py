# SPDX-License-Identifier: GPL-2.0-only
"""machine/pit.py: counters computed from the clock."""

from __future__ import annotations

import pytest

from machine.bus import PortBus
from machine.pit import PIT_HZ, SECOND, Pit
from tests.machine.fake_time import FakeTime, count_rises


class Board:
    def __init__(self) -> None:
        self.time = FakeTime()
        self.pit = Pit(self.time)
        self.ports = PortBus()
        self.pit.attach(self.ports)
        self.rises = count_rises(self.pit.output.connect)

    def program(self, counter: int, mode: int, count: int) -> None:
        self.ports.write(0, 0x43, 1, counter << 6 | 0x30 | mode << 1)
        self.ports.write(0, 0x40 + counter, 1, count & 0xFF)
        self.ports.write(0, 0x40 + counter, 1, count >> 8 & 0xFF)

    def value(self, counter: int) -> int:
        self.ports.write(0, 0x43, 1, counter << 6)
        low = self.ports.read(0, 0x40 + counter, 1)
        return low | self.ports.read(0, 0x40 + counter, 1) << 8

    def ticks(self, count: int) -> None:
        """Let `count` clocks of the counters pass, and a little more."""
        self.time.go(-(-count * SECOND // PIT_HZ) + 1)


@pytest.mark.parametrize("mode", [2, 3])
@pytest.mark.parametrize("count", [1193, 0])
def test_a_rate_generator_rises_once_a_period_and_never_drifts(mode: int, count: int) -> None:
    board = Board()
    board.program(0, mode, count)
    board.time.go(10 * SECOND)
    assert len(board.rises) == 10 * PIT_HZ // (count or 65536)


def test_mode_0_rises_once() -> None:
    board = Board()
    board.program(0, 0, 1000)
    board.ticks(999)
    assert not board.rises
    board.ticks(2)
    board.time.go(SECOND)
    assert len(board.rises) == 1


def test_the_count_goes_down_and_a_latched_one_stays() -> None:
    board = Board()
    board.program(0, 2, 1000)
    board.ticks(100)
    assert board.value(0) == 900
    board.ports.write(0, 0x43, 1, 0)
    board.ticks(50)
    assert board.ports.read(0, 0x40, 1) | board.ports.read(0, 0x40, 1) << 8 == 900
    assert board.value(0) == 850


def test_counter_2_waits_for_its_gate_and_shows_its_output_at_port_61() -> None:
    board = Board()
    board.program(2, 0, 500)
    board.ticks(2000)
    assert board.ports.read(0, 0x61, 1) & 0x20 == 0
    board.ports.write(0, 0x61, 1, 1)
    board.ticks(498)
    assert board.ports.read(0, 0x61, 1) & 0x21 == 0x01
    board.ticks(3)
    assert board.ports.read(0, 0x61, 1) & 0x21 == 0x21


def test_a_closed_gate_stops_the_count_where_it_is() -> None:
    board = Board()
    board.ports.write(0, 0x61, 1, 1)
    board.program(2, 0, 1000)
    board.ticks(300)
    board.ports.write(0, 0x61, 1, 0)
    held = board.value(2)
    board.ticks(300)
    assert board.value(2) == held == 700
    board.ports.write(0, 0x61, 1, 1)
    board.ticks(100)
    assert board.value(2) in (599, 600)


def test_a_one_shot_is_triggered_by_the_gate() -> None:
    board = Board()
    board.program(2, 1, 100)
    assert board.ports.read(0, 0x61, 1) & 0x20
    board.ports.write(0, 0x61, 1, 1)
    assert not board.ports.read(0, 0x61, 1) & 0x20
    board.ticks(101)
    assert board.ports.read(0, 0x61, 1) & 0x20


def test_read_back_latches_status_and_count() -> None:
    board = Board()
    board.program(0, 3, 0x1234)
    board.ports.write(0, 0x43, 1, 0xC2)
    assert board.ports.read(0, 0x40, 1) == 0x80 | 0x30 | 3 << 1
    low = board.ports.read(0, 0x40, 1)
    assert low | board.ports.read(0, 0x40, 1) << 8 == 0x1234


def test_bcd_counts_in_decimal() -> None:
    board = Board()
    board.ports.write(0, 0x43, 1, 0x35)
    for value in (0x00, 0x10):
        board.ports.write(0, 0x40, 1, value)
    board.ticks(1)
    assert board.value(0) == 0x0999


def test_low_byte_access_reads_and_writes_one_byte() -> None:
    board = Board()
    board.ports.write(0, 0x43, 1, 0x14)
    board.ports.write(0, 0x40, 1, 100)
    board.ticks(10)
    assert board.ports.read(0, 0x40, 1) == 90


def test_saved_and_loaded_it_goes_on() -> None:
    board, other = Board(), Board()
    board.program(0, 2, 5000)
    board.ticks(1234)
    other.time.clock.advance(board.time.now)
    other.pit.load(board.pit.save())
    other.time.events.load(board.time.events.save())
    assert other.value(0) == board.value(0)
    for each in (board, other):
        each.time.go(SECOND)
    assert len(board.rises) == len(other.rises) > 200
