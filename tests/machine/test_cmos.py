# SPDX-License-Identifier: GPL-2.0-only
"""machine/cmos.py: the time of day and what the board tells its BIOS."""

from __future__ import annotations

import pytest

from machine.bus import PortBus
from machine.cmos import SECOND, Cmos
from machine.topology import Topology
from tests.machine.fake_time import FakeTime, count_rises


class Board:
    def __init__(self, numa: str = "1x128M") -> None:
        self.time = FakeTime()
        self.cmos = Cmos(self.time, Topology.parse(numa))
        self.ports = PortBus()
        self.cmos.attach(self.ports)
        self.rises = count_rises(self.cmos.irq.connect)

    def read(self, index: int) -> int:
        self.ports.write(0, 0x70, 1, index)
        return self.ports.read(0, 0x71, 1)

    def write(self, index: int, value: int) -> None:
        self.ports.write(0, 0x70, 1, index)
        self.ports.write(0, 0x71, 1, value)

    def clock(self) -> list[int]:
        """Century, year, month, day, hours, minutes, seconds."""
        return [self.read(index) for index in (0x32, 9, 8, 7, 4, 2, 0)]


def test_the_time_at_power_on_is_the_same_in_every_run_and_goes_on() -> None:
    board = Board()
    assert board.clock() == [0x20, 0x18, 0x12, 0x23, 0x12, 0x00, 0x00]
    assert board.read(6) == 1  # a Sunday
    board.time.go(8 * 86_400 * SECOND + 61 * SECOND)
    assert board.clock() == [0x20, 0x18, 0x12, 0x31, 0x12, 0x01, 0x01]
    board.time.go(86_400 * SECOND)
    assert board.clock()[:4] == [0x20, 0x19, 0x01, 0x01]


def test_a_time_that_was_set_goes_on_from_there() -> None:
    board = Board()
    board.write(0x0B, 0x82)
    for index, value in ((0, 0x58), (2, 0x59), (4, 0x23), (7, 0x28), (8, 2), (9, 0x20)):
        board.write(index, value)
    board.time.go(5 * SECOND)
    assert board.clock() == [0x20, 0x20, 0x02, 0x28, 0x23, 0x59, 0x58]
    board.write(0x0B, 0x02)
    board.time.go(3 * SECOND)
    assert board.clock() == [0x20, 0x20, 0x02, 0x29, 0x00, 0x00, 0x01]


def test_binary_and_twelve_hour_modes() -> None:
    board = Board()
    board.time.go(3 * 3600 * SECOND)
    board.write(0x0B, 0x06)
    assert board.read(4) == 15
    board.write(0x0B, 0x00)
    assert board.read(4) == 0x83
    board.time.go(9 * 3600 * SECOND)
    assert board.read(4) == 0x12


@pytest.mark.parametrize(("rate", "expected"), [(6, 1024), (15, 2), (3, 8192), (1, 256)])
def test_periodic_interrupts_come_at_their_rate(rate: int, expected: int) -> None:
    board = Board()
    board.write(0x0A, 0x20 | rate)
    board.write(0x0B, 0x42)
    count = 0
    for _ in range(2 * expected):
        board.time.go(SECOND // expected)
        count += bool(board.read(0x0C) & 0x40)
    assert count == len(board.rises) == 2 * expected


def test_an_interrupt_stays_until_register_c_is_read() -> None:
    board = Board()
    board.write(0x0B, 0x12)
    board.time.go(5 * SECOND)
    assert len(board.rises) == 1
    assert board.read(0x0C) & 0x90 == 0x90
    assert board.read(0x0C) == 0
    board.time.go(SECOND)
    assert len(board.rises) == 2


def test_the_alarm_rings_at_its_time_and_every_minute_with_a_wildcard() -> None:
    board = Board()
    for index, value in ((1, 0x30), (3, 0x05), (5, 0x13)):
        board.write(index, value)
    board.write(0x0B, 0x22)
    board.time.go(65 * 60 * SECOND + 29 * SECOND)
    assert not board.rises
    board.time.go(SECOND)
    assert len(board.rises) == 1
    board.read(0x0C)
    board.write(3, 0xC0)
    board.write(5, 0xFF)
    for _ in range(3):
        board.time.go(60 * SECOND)
        assert board.read(0x0C) & 0x20
    assert len(board.rises) == 4


def test_no_event_is_planned_while_no_interrupt_is_enabled() -> None:
    board = Board()
    assert board.time.events.next is None
    board.write(0x0B, 0x42)
    assert board.time.events.next is not None
    board.write(0x0B, 0x02)
    assert board.time.events.next is None


@pytest.mark.parametrize(
    ("numa", "cells"),
    [
        ("1x32M", {0x15: 0x80, 0x16: 2, 0x17: 0x00, 0x18: 0x7C, 0x34: 0x00, 0x35: 1, 0x5F: 0}),
        ("2x3G,cpus=2", {0x17: 0xFF, 0x18: 0xFF, 0x34: 0, 0x35: 0xBF, 0x5C: 0xC0, 0x5F: 3}),
    ],
)
def test_the_sizes_of_memory_are_told(numa: str, cells: dict[int, int]) -> None:
    board = Board(numa)
    assert {index: board.read(index) for index in cells} == cells


def test_saved_and_loaded_it_goes_on() -> None:
    board, other = Board(), Board()
    board.write(0x0B, 0x42)
    board.write(0x20, 0x77)
    board.time.go(SECOND // 3)
    other.time.clock.advance(board.time.now)
    other.cmos.load(board.cmos.save())
    other.time.events.load(board.time.events.save())
    for each in (board, other):
        each.read(0x0C)
        each.time.go(SECOND // 100)
    assert other.cmos.save() == board.cmos.save()
