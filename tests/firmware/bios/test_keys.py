# SPDX-License-Identifier: GPL-2.0-only
"""firmware/bios/keys.py: INT 16h, the keyboard's interrupt, and typing."""

from __future__ import annotations

import pytest

from firmware.bios import bda, scan_codes
from machine import ImageError
from tests.firmware.bios.pc import Pc


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("a", 0x1E61),
        ("A", 0x1E41),
        ("\n", 0x1C0D),
        ("!", 0x0221),
        ("{F1}", 0x3B00),
        ("{Shift-F1}", 0x5400),
        ("{Ctrl-C}", 0x2E03),
        ("{Alt-X}", 0x2D00),
        ("{Up}", 0x4800),
        ("{Esc}", 0x011B),
        ("{Tab}", 0x0F09),
        ("{Shift-Tab}", 0x0F00),
        ("{{", 0x1A7B),
        ("\\", 0x2B5C),
        ("{CapsLock}q{CapsLock}", 0x1051),
    ],
)
def test_a_key_typed_is_a_key_read(typed: str, expected: int) -> None:
    board = Pc()
    board.machine.pc.keyboard.press(scan_codes(typed))
    assert board.call(0x16, ax=0x0000).ax == expected


def test_extended_keys_differ_for_those_who_ask() -> None:
    board = Pc()
    board.machine.pc.keyboard.press(scan_codes("{Up}"))
    assert board.call(0x16, ax=0x1000).ax == 0x48E0


def test_peeking_takes_nothing_and_zf_tells() -> None:
    board = Pc()
    assert board.call(0x16, ax=0x0100).zf
    board.call(0x16, ax=0x0500, cx=0x1E61)
    for _ in range(2):
        got = board.call(0x16, ax=0x0100)
        assert (got.zf, got.ax) == (False, 0x1E61)
    assert board.call(0x16, ax=0x0000).ax == 0x1E61
    assert board.call(0x16, ax=0x0100).zf


def test_no_key_is_lost_however_late_they_are_read() -> None:
    board, text = Pc(), "the quick brown fox jumps over the lazy dog" * 2
    board.machine.pc.keyboard.press(scan_codes(text))
    board.call(0x15, ax=0x8600, cx=0x10)  # a second without reading
    got = "".join(chr(board.call(0x16, ax=0).al) for _ in text)
    assert got == text


def test_the_buffer_takes_fifteen_keys() -> None:
    board = Pc()
    results = [board.call(0x16, ax=0x0500, cx=0x1E61 + n).al for n in range(16)]
    assert results == [0] * 15 + [1]


def test_shift_flags_follow_the_keys() -> None:
    board = Pc()
    board.machine.pc.keyboard.press([0x2A, 0x3A, 0xBA, 0x1E])
    board.call(0x16, ax=0)
    assert board.call(0x16, ax=0x0200).al == 0x42


def test_a_wrecked_buffer_does_no_harm() -> None:
    board = Pc()
    for place in (bda.KEY_BUFFER_START_AT, bda.KEY_HEAD, bda.KEY_TAIL):
        board.memory.write(place, b"\xff\xff\x01\x00")
        board.machine.pc.keyboard.press(scan_codes("ab"))
        board.call(0x15, ax=0x8600, cx=1)
        board.call(0x16, ax=0x0100)


@pytest.mark.parametrize(
    ("text", "where"), [("ab\n\u20ac", "k:2:1"), ("{Nokey}", "k:1:1"), ("x{Ctrl-Nokey}", "k:1:2")]
)
def test_what_is_on_no_key_is_named_with_its_place(text: str, where: str) -> None:
    with pytest.raises(ImageError, match=where):
        list(scan_codes(text, "k"))
