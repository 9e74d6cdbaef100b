# SPDX-License-Identifier: GPL-2.0-only
"""machine/hpet.py: the counter, comparators and where their interrupts go."""

from __future__ import annotations

import pytest

from machine.hpet import Hpet
from tests.machine.fake_time import FakeTime

CONFIG, STATUS, COUNTER = 0x10, 0x20, 0xF0
T0, T0_COMPARATOR = 0x100, 0x108


class Board:
    def __init__(self) -> None:
        self.time = FakeTime()
        self.lines: list[tuple[int, int]] = []
        self.hpet = Hpet(self.time, lambda line, level: self.lines.append((line, level)))

    def read(self, offset: int, size: int = 8) -> int:
        return self.hpet.mmio_read(0, offset, size)

    def write(self, offset: int, value: int, size: int = 8) -> None:
        self.hpet.mmio_write(0, offset, size, value)

    @property
    def rises(self) -> list[int]:
        return [line for line, level in self.lines if level]


def test_it_says_what_qemus_says() -> None:
    assert Board().read(0) == 0x989680_8086A201
    assert Board().read(4, 4) == 0x989680


def test_the_counter_counts_a_hundred_million_a_second_while_enabled() -> None:
    board = Board()
    board.time.go(1000)
    assert board.read(COUNTER) == 0
    board.write(COUNTER, 5)
    board.write(CONFIG, 1)
    board.time.go(1000)
    assert board.read(COUNTER) == 105
    board.write(COUNTER, 0)  # not while it runs
    board.write(CONFIG, 0)
    board.time.go(1000)
    assert board.read(COUNTER) == 105


def test_a_one_shot_comparator_rings_once_on_its_route() -> None:
    board = Board()
    board.write(T0, 1 << 2 | 20 << 9)
    board.write(T0_COMPARATOR, 1000)
    board.write(CONFIG, 1)
    board.time.go(9_990)
    assert not board.rises
    board.time.go(10)
    assert board.rises == [20]
    board.time.go(10**9)
    assert board.rises == [20]


def test_a_periodic_comparator_rings_every_period() -> None:
    board = Board()
    board.write(T0, 1 << 2 | 1 << 3 | 1 << 6 | 16 << 9)
    board.write(T0_COMPARATOR, 500)
    board.write(T0_COMPARATOR, 1000)
    board.write(CONFIG, 1)
    board.time.go(5_000)
    assert len(board.rises) == 1
    board.time.go(100_000)
    assert len(board.rises) == 11


def test_legacy_replacement_takes_the_place_of_timer_and_clock() -> None:
    board = Board()
    board.write(CONFIG, 3)
    for n in (0, 1):
        board.write(T0 + 0x20 * n, 1 << 2)
        board.write(T0_COMPARATOR + 0x20 * n, board.read(COUNTER) + 100)
    assert board.hpet.legacy
    board.time.go(2000)
    assert board.rises == [0, 8]


def test_a_level_interrupt_lasts_until_its_status_bit_is_written() -> None:
    board = Board()
    board.write(T0, 1 << 1 | 1 << 2 | 16 << 9)
    board.write(T0_COMPARATOR, 10)
    board.write(CONFIG, 1)
    board.time.go(200)
    assert board.read(STATUS) == 1
    assert board.lines[-1] == (16, 1)
    board.write(STATUS, 1)
    assert board.read(STATUS) == 0
    assert board.lines[-1] == (16, 0)


@pytest.mark.parametrize("size", [4, 8])
def test_registers_can_be_written_in_halves(size: int) -> None:
    board = Board()
    for part in range(0, 8, size):
        value = 0x1122334455667788 >> 8 * part & ((1 << 8 * size) - 1)
        board.write(T0_COMPARATOR + part, value, size)
    assert board.read(T0_COMPARATOR) == 0x1122334455667788


def test_saved_and_loaded_it_goes_on() -> None:
    board, other = Board(), Board()
    board.write(T0, 1 << 2 | 16 << 9)
    board.write(T0_COMPARATOR, 1000)
    board.write(CONFIG, 1)
    board.time.go(5000)
    other.time.clock.advance(board.time.now)
    other.hpet.load(board.hpet.save())
    other.time.events.load(board.time.events.save())
    other.time.go(5000)
    assert other.rises == [16]
    assert other.read(COUNTER) == 1000
