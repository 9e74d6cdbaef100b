# SPDX-License-Identifier: GPL-2.0-only
"""machine/vga.py: the registers, and the text they show."""

from __future__ import annotations

import pytest

from machine.bus import PortBus
from machine.physmem import Bank, PhysicalMemory
from machine.vga import TEXT_MEMORY, TextScreen, Vga
from tests.machine.fake_time import FakeTime


class Board:
    def __init__(self) -> None:
        self.memory = PhysicalMemory([Bank(0, 1 << 20, "low")])
        self.time = FakeTime()
        self.vga = Vga(self.time)
        self.ports = PortBus()
        self.vga.attach(self.ports)
        self.screen = TextScreen(self.memory, self.vga)

    def put(self, column: int, row: int, text: str, base: int = TEXT_MEMORY) -> None:
        place = base + 2 * (80 * row + column)
        data = b"".join(bytes((char, 7)) for char in text.encode("cp437"))
        self.memory.write(place, data)


def test_the_screen_is_80_by_25_and_shows_what_is_in_memory() -> None:
    board = Board()
    assert (board.screen.columns, board.screen.rows) == (80, 25)
    board.put(0, 0, "one")
    board.put(77, 24, "\u00e9nd")
    lines = board.screen.lines()
    assert lines[0].rstrip() == "one"
    assert lines[24].lstrip() == "\u00e9nd"
    assert board.screen.text().count("\n") == 24


def test_control_characters_show_as_their_glyphs() -> None:
    board = Board()
    board.memory.write(TEXT_MEMORY, bytes((1, 7, 3, 7, 0xDB, 7, 0, 7)))
    assert board.screen.text() == "\u263a\u2665\u2588"


def test_the_start_address_chooses_the_page_and_wraps() -> None:
    board = Board()
    board.put(0, 0, "first")
    board.put(0, 0, "second", TEXT_MEMORY + 0x1000)
    for index, value in ((0x0C, 0x08), (0x0D, 0x00)):
        board.ports.write(0, 0x3D4, 1, index)
        board.ports.write(0, 0x3D5, 1, value)
    assert board.screen.text() == "second"
    board.ports.write(0, 0x3D4, 2, 0x400C)
    assert board.screen.text() == "first"


def test_the_cursor_is_where_the_registers_say() -> None:
    board = Board()
    board.ports.write(0, 0x3D4, 2, (10 * 80 + 5) >> 8 << 8 | 0x0E)
    board.ports.write(0, 0x3D4, 2, (10 * 80 + 5 & 0xFF) << 8 | 0x0F)
    assert board.screen.cursor == (5, 10)
    board.ports.write(0, 0x3D4, 2, 0x200A)
    assert board.screen.cursor is None


def test_the_attribute_register_alternates_and_a_status_read_resets_it() -> None:
    board = Board()
    for value in (0x05, 0x3A, 0x06):
        board.ports.write(0, 0x3C0, 1, value)
    board.ports.read(0, 0x3DA, 1)
    board.ports.write(0, 0x3C0, 1, 0x05)
    assert board.ports.read(0, 0x3C1, 1) == 0x3A


def test_the_palette_counts_up_by_itself() -> None:
    board = Board()
    board.ports.write(0, 0x3C8, 1, 10)
    for value in (1, 2, 63, 0xFF):
        board.ports.write(0, 0x3C9, 1, value)
    board.ports.write(0, 0x3C7, 1, 10)
    assert [board.ports.read(0, 0x3C9, 1) for _ in range(4)] == [1, 2, 63, 0x3F]


def test_retrace_comes_and_goes() -> None:
    board = Board()
    seen = set()
    for _ in range(2000):
        board.time.go(10_000)
        seen.add(board.ports.read(0, 0x3DA, 1))
    assert seen == {0x00, 0x01, 0x09}


@pytest.mark.parametrize("port", [0x3B4, 0x3B5, 0x3BA])
def test_the_monochrome_ports_are_not_there_on_a_colour_screen(port: int) -> None:
    assert Board().ports.read(0, port, 1) == 0xFF


def test_saved_and_loaded_it_is_the_same() -> None:
    board, other = Board(), Board()
    board.ports.write(0, 0x3D4, 2, 0x330F)
    board.ports.write(0, 0x3C0, 1, 0x15)
    other.vga.load(board.vga.save())
    assert other.vga.save() == board.vga.save()
    other.vga.reset()
    assert other.vga.save() != board.vga.save()
