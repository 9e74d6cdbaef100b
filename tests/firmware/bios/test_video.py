# SPDX-License-Identifier: GPL-2.0-only
"""firmware/bios/video.py: INT 10h."""

from __future__ import annotations

import pytest

from firmware.bios import bda
from machine.vga import TEXT_MEMORY
from tests.firmware.bios.pc import Pc


def typed(board: Pc, text: bytes) -> None:
    for char in text:
        board.call(0x10, ax=0x0E00 | char)


def test_the_teletype_moves_the_cursor_and_knows_four_control_characters() -> None:
    board = Pc()
    typed(board, b"ab\x08c\r\nd\x07")
    assert board.screen()[:2] == ["ac", "d"]
    got = board.call(0x10, ax=0x0300)
    assert (got.cx, got.dx) == (0x0607, 0x0101)
    assert board.machine.pc.screen.cursor == (1, 1)


def test_at_the_bottom_the_screen_scrolls() -> None:
    board = Pc()
    typed(board, b"first")
    board.call(0x10, ax=0x0200, dx=0x184F)
    typed(board, b"x")
    assert board.screen()[0] == ""
    assert board.screen()[23][79] == "x"
    assert board.call(0x10, ax=0x0300).dx == 0x1800


def test_a_mode_clears_the_screen_unless_bit_7_is_set() -> None:
    board = Pc()
    typed(board, b"text")
    board.call(0x10, ax=0x0083)
    assert board.screen()[0] == "text"
    board.call(0x10, ax=0x0003)
    assert board.machine.pc.screen.text() == ""
    assert board.memory.read(TEXT_MEMORY, 4) == b"\x20\x07\x20\x07"


@pytest.mark.parametrize(
    ("mode", "columns", "text"), [(1, 40, True), (7, 80, True), (0x13, 40, False)]
)
def test_modes_are_told_and_shown(mode: int, columns: int, text: bool) -> None:
    board = Pc()
    board.call(0x10, ax=mode)
    got = board.call(0x10, ax=0x0F00)
    assert (got.al, got.ah, got.bx >> 8) == (mode, columns, 0)
    assert board.machine.pc.vga.text is text
    typed(board, b"in mode")
    assert ("in mode" in board.machine.pc.screen.text()) is text


def test_an_unknown_mode_changes_nothing() -> None:
    board = Pc()
    board.call(0x10, ax=0x0055)
    assert board.call(0x10, ax=0x0F00).ax == 0x5003


def test_scrolling_moves_a_window_only() -> None:
    board = Pc()
    for row in range(4):
        board.call(0x10, ax=0x0200, dx=row << 8)
        typed(board, b"abcdef"[row : row + 3])
    board.call(0x10, ax=0x0601, bx=0x1F00, cx=0x0001, dx=0x0301)
    assert board.screen()[:4] == ["acc", "bdd", "cee", "d f"]
    assert board.memory.read_u8(TEXT_MEMORY + 2 * (3 * 80 + 1) + 1) == 0x1F
    board.call(0x10, ax=0x0700, bx=0x0700, cx=0x0000, dx=0xFFFF)
    assert board.machine.pc.screen.text() == ""


def test_characters_are_written_and_read_with_their_attributes() -> None:
    board = Pc()
    board.call(0x10, ax=0x0200, dx=0x0203)
    board.call(0x10, ax=0x0941, bx=0x004E, cx=3)
    assert board.call(0x10, ax=0x0800).ax == 0x4E41
    board.call(0x10, ax=0x0A42, cx=1)
    assert board.call(0x10, ax=0x0800).ax == 0x4E42
    assert board.screen()[2] == "   BAA"


def test_pages_have_their_own_text_and_cursor() -> None:
    board = Pc()
    typed(board, b"zero")
    board.call(0x10, ax=0x0501)
    typed(board, b"one")
    assert board.machine.pc.screen.text() == "one"
    board.call(0x10, ax=0x0500)
    assert board.machine.pc.screen.text() == "zero"
    assert board.call(0x10, ax=0x0300, bx=0x0100).dx == 3


@pytest.mark.parametrize(("al", "cursor"), [(0, 0x0000), (1, 0x0507)])
def test_a_string_leaves_the_cursor_where_al_says(al: int, cursor: int) -> None:
    board = Pc()
    board.memory.write(0x900, b"hello")
    board.call(0x10, ax=0x1300 | al, bx=0x0007, cx=5, dx=0x0502, bp=0x900)
    assert board.screen()[5] == "  hello"
    assert board.call(0x10, ax=0x0300).dx == cursor


def test_vesa_is_not_there() -> None:
    got = Pc().call(0x10, ax=0x4F00, di=0x900)
    assert got.al != 0x4F


def test_fifty_rows_of_small_characters() -> None:
    board = Pc()
    board.call(0x10, ax=0x1112)
    assert board.machine.pc.screen.rows == 50
    assert board.memory.read_u8(bda.ROWS) == 49


def test_garbage_in_the_data_area_does_no_harm() -> None:
    board = Pc()
    board.memory.write(bda.COLUMNS, b"\0\0")
    board.memory.write(bda.CURSORS, b"\xff" * 16)
    board.memory.write(bda.PAGE_SIZE, b"\xff\xff")
    typed(board, b"x\n")
    for ah in range(0x14):
        board.call(0x10, ax=ah << 8 | 0xFF, bx=0xFFFF, cx=0xFFFF, dx=0xFFFF)
