# SPDX-License-Identifier: GPL-2.0-only
"""firmware/bios/timeofday.py: INT 1Ah and the timer's interrupt."""

from __future__ import annotations

from firmware.bios import bda
from tests.firmware.bios.pc import Pc


def test_ticks_are_those_of_the_time_of_day_and_go_on() -> None:
    board = Pc()
    got = board.call(0x1A, ax=0)
    assert got.cx << 16 | got.dx == 12 * 3600 * 1_193_182 // 65_536
    board.call(0x15, ax=0x8600, cx=0x0F, dx=0x4240)  # a second
    later = board.call(0x1A, ax=0)
    assert (later.cx << 16 | later.dx) - (got.cx << 16 | got.dx) in (17, 18, 19)


def test_midnight_is_told_once() -> None:
    board = Pc()
    board.call(0x1A, ax=0x0100, cx=0x18, dx=0x00AE)
    board.call(0x15, ax=0x8600, cx=3)
    got = board.call(0x1A, ax=0)
    assert got.al == 1
    assert got.cx == 0
    assert board.call(0x1A, ax=0).al == 0


def test_time_and_date_are_set_and_told() -> None:
    board = Pc()
    assert (board.call(0x1A, ax=0x0200).cx, board.call(0x1A, ax=0x0400).dx) == (0x1200, 0x1223)
    board.call(0x1A, ax=0x0300, cx=0x2358, dx=0x3000)
    board.call(0x1A, ax=0x0500, cx=0x2021, dx=0x0615)
    got = board.call(0x1A, ax=0x0200)
    assert (got.cf, got.cx, got.dx >> 8) == (False, 0x2358, 0x30)
    got = board.call(0x1A, ax=0x0400)
    assert (got.cx, got.dx) == (0x2021, 0x0615)


def test_the_pci_bios_finds_and_reads() -> None:
    board = Pc()
    got = board.call(0x1A, ax=0xB101)
    assert (got.cf, got.dx, got.bx) == (False, 0x20494350, 0x0210)
    assert board.call(0x1A, ax=0xB102, cx=0x7000, dx=0x8086).bx == 8
    assert board.call(0x1A, ax=0xB102, cx=0x7777, dx=0x8086).ah == 0x86
    assert board.call(0x1A, ax=0xB103, cx=0x060000).bx == 0
    assert board.call(0x1A, ax=0xB10A, bx=8, di=0).cx == 0x70008086
    assert board.call(0x1A, ax=0xB109, bx=8, di=1).ah == 0x87


def test_an_unknown_function_fails() -> None:
    assert Pc().call(0x1A, ax=0x7700).cf


def test_the_tick_counter_survives_any_value() -> None:
    board = Pc()
    board.memory.write_u32(bda.TICKS, 0xFFFFFFFF)
    board.call(0x15, ax=0x8600, cx=2)
    assert board.memory.read_u32(bda.TICKS) < 10
