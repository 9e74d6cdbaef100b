# SPDX-License-Identifier: GPL-2.0-only
"""firmware/bios/boards.py: INT 11h, 12h, 14h and 17h."""

from __future__ import annotations

from machine.drive import Drive
from tests.firmware.bios.pc import Pc


def test_equipment_counts_what_is_there() -> None:
    assert Pc().call(0x11).ax == 0x0222
    floppies = {n: Drive(bytes(512), floppy=True) for n in (0, 1)}
    assert Pc(drives=floppies).call(0x11).ax == 0x0263


def test_639_kib_are_below_the_extended_data_area() -> None:
    assert Pc().call(0x12).ax == 639


def test_the_serial_port_sends_and_receives() -> None:
    board = Pc()
    board.call(0x14, ax=0x00E3, dx=0)
    assert board.call(0x14, ax=0x0141, dx=0).ah & 0x80 == 0
    assert board.machine.serial.text == "A"
    assert board.call(0x14, ax=0x0200, dx=0).ah & 0x80
    board.machine.serial.feed(b"z")
    assert board.call(0x14, ax=0x0200, dx=0).al == ord("z")


def test_there_is_no_printer_and_no_second_port() -> None:
    board = Pc()
    assert board.call(0x17, ax=0x0200).ah == 1
    assert board.call(0x14, ax=0x0300, dx=3).ax == 0x0300
