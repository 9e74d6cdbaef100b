# SPDX-License-Identifier: GPL-2.0-only
"""machine/keyboard.py: the 8042, its keyboard, A20 and the reset line."""

from __future__ import annotations

import pytest

from machine.bus import PortBus
from machine.keyboard import KEY_NS, Keyboard
from tests.machine.fake_time import FakeTime, count_rises


class Board:
    def __init__(self) -> None:
        self.time = FakeTime()
        self.a20 = True
        self.resets = 0
        self.keyboard = Keyboard(self.time, lambda: self.a20, self.gate, self.reset)
        self.ports = PortBus()
        self.keyboard.attach(self.ports)
        self.rises = count_rises(self.keyboard.irq.connect)

    def gate(self, on: bool) -> None:
        self.a20 = on

    def reset(self) -> None:
        self.resets += 1

    def command(self, *values: int) -> None:
        self.ports.write(0, 0x64, 1, values[0])
        for value in values[1:]:
            self.ports.write(0, 0x60, 1, value)

    @property
    def status(self) -> int:
        return self.ports.read(0, 0x64, 1)

    def answers(self) -> list[int]:
        out = []
        while self.status & 1:
            out.append(self.ports.read(0, 0x60, 1))
        return out


@pytest.mark.parametrize(
    ("command", "expected"),
    [(0xAA, [0x55]), (0xAB, [0x00]), (0x20, [0x45]), (0xC0, [0x80]), (0xD0, [0xD3 & ~0x10])],
)
def test_the_controller_answers(command: int, expected: list[int]) -> None:
    board = Board()
    board.command(command)
    assert [value & ~0x10 if command == 0xD0 else value for value in board.answers()] == expected


def test_keys_come_one_at_a_time_each_with_an_interrupt() -> None:
    board = Board()
    board.keyboard.press([0x1E, 0x9E])
    assert not board.status & 1
    board.time.go(KEY_NS)
    assert len(board.rises) == 1
    board.time.go(100 * KEY_NS)
    assert len(board.rises) == 1  # the second waits for the first to be read
    assert board.ports.read(0, 0x60, 1) == 0x1E
    board.time.go(KEY_NS)
    assert board.ports.read(0, 0x60, 1) == 0x9E
    assert len(board.rises) == 2
    assert board.keyboard.waiting == 0
    assert board.time.events.next is None


def test_keys_wait_while_the_keyboard_is_disabled_or_held() -> None:
    board = Board()
    board.command(0xAD)
    board.keyboard.press([0x1E])
    board.time.go(10 * KEY_NS)
    assert not board.status & 1
    board.keyboard.hold = True
    board.command(0xAE)
    board.time.go(10 * KEY_NS)
    assert not board.status & 1
    board.keyboard.hold = False
    board.time.go(10 * KEY_NS)
    assert board.answers() == [0x1E]


def test_no_interrupt_while_the_command_byte_forbids_it() -> None:
    board = Board()
    board.command(0x60, 0x44)
    board.keyboard.press([0x1E])
    board.time.go(KEY_NS)
    assert board.status & 1
    assert not board.rises


def test_without_translation_set_2_codes_arrive() -> None:
    board = Board()
    board.command(0x60, 0x05)
    board.keyboard.press([0x1E, 0x9E, 0xE0, 0x48])
    got = []
    for _ in range(4):
        board.time.go(2 * KEY_NS)
        got += board.answers()
    assert got == [0x1C, 0xF0, 0x1C, 0xE0, 0x75]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([0xEE], [0xEE]),
        ([0xFF], [0xFA, 0xAA]),
        ([0xF2], [0xFA, 0xAB, 0x41]),
        ([0xED, 0x07], [0xFA, 0xFA]),
        ([0xF0, 0x00], [0xFA, 0xFA, 0x41]),
        ([0x12], [0xFE]),
    ],
)
def test_the_keyboard_answers(sent: list[int], expected: list[int]) -> None:
    board = Board()
    for value in sent:
        board.ports.write(0, 0x60, 1, value)
    assert board.answers() == expected


def test_a20_by_the_output_port_and_by_command() -> None:
    board = Board()
    for command in ((0xD1, 0xDD), (0xD1, 0xDF), (0xDD,), (0xDF,)):
        board.command(*command)
        assert board.a20 is bool(command[-1] & 2)
    assert board.resets == 0


def test_the_reset_line_is_pulled_by_pulse_and_by_the_output_port() -> None:
    board = Board()
    board.command(0xFE)
    board.command(0xFF)
    board.command(0xD1, 0xDE)
    assert board.resets == 2


def test_saved_and_loaded_it_goes_on() -> None:
    board, other = Board(), Board()
    board.keyboard.press([0x1E, 0x9E])
    board.command(0x60, 0x44)
    other.keyboard.load(board.keyboard.save())
    other.time.events.load(board.time.events.save())
    assert other.keyboard.save() == board.keyboard.save()
    other.time.go(KEY_NS)
    assert other.answers() == [0x1E]
