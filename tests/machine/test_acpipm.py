# SPDX-License-Identifier: GPL-2.0-only
"""machine/acpipm.py: power management registers and timer."""

from __future__ import annotations

from machine.acpipm import AcpiPm
from machine.bus import PortBus
from tests.machine.fake_time import FakeTime


class Board:
    def __init__(self) -> None:
        self.time = FakeTime()
        self.offs = 0
        self.pm = AcpiPm(self.time, self.off)
        self.ports = PortBus()
        self.pm.attach(self.ports)

    def off(self) -> None:
        self.offs += 1


def test_the_timer_counts_3579545_a_second_in_24_bits() -> None:
    board = Board()
    board.time.go(1_000_000_000)
    assert board.ports.read(0, 0x608, 4) == 3_579_545
    board.time.go(4_000_000_000)
    assert board.ports.read(0, 0x608, 4) == 5 * 3_579_545 & 0xFFFFFF


def test_soft_off_is_sleep_type_0_with_the_enable_bit() -> None:
    board = Board()
    board.ports.write(0, 0x604, 2, 0x0001)
    board.ports.write(0, 0x604, 2, 0x2400)
    assert board.offs == 0
    board.ports.write(0, 0x604, 2, 0x2000)
    assert board.offs == 1


def test_the_smi_command_port_hands_over_and_back() -> None:
    board = Board()
    for command, enabled in ((0xF1, 1), (0xF0, 0)):
        board.ports.write(0, 0xB2, 1, command)
        assert board.ports.read(0, 0x604, 2) & 1 == enabled
        assert board.ports.read(0, 0xB2, 1) == command


def test_the_enable_register_keeps_what_is_written() -> None:
    board, other = Board(), Board()
    board.ports.write(0, 0x602, 2, 0x0120)
    assert board.ports.read(0, 0x602, 2) == 0x0120
    other.pm.load(board.pm.save())
    assert other.ports.read(0, 0x600, 4) == 0x0120 << 16
    other.pm.reset()
    assert other.ports.read(0, 0x602, 2) == 0
