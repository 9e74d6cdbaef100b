# SPDX-License-Identifier: GPL-2.0-only
"""machine/pic.py: priorities, acknowledges and the commands of the 8259A."""

from __future__ import annotations

from machine.bus import PortBus
from machine.pic import PicPair
from tests.machine.fake_time import FakeTime


class Board:
    """A pair on a bus, initialised as a PC does: vectors 20h and 28h, nothing masked."""

    def __init__(self, icw4: int = 1) -> None:
        self.pic = PicPair(FakeTime())
        self.ports = PortBus()
        self.pic.attach(self.ports)
        for base, vector, cascade in ((0x20, 0x20, 4), (0xA0, 0x28, 2)):
            self.out(base, 0x11)
            for value in (vector, cascade, icw4, 0):
                self.out(base + 1, value)

    def out(self, port: int, value: int) -> None:
        self.ports.write(0, port, 1, value)

    def read(self, port: int) -> int:
        return self.ports.read(0, port, 1)


def test_the_lowest_number_is_served_first() -> None:
    board = Board()
    for irq in (5, 3, 12):
        board.pic.set_irq(irq, 1)
    assert board.pic.output
    vectors = []
    for _ in range(3):
        vector = board.pic.acknowledge()
        vectors.append(vector)
        if vector >= 0x28:
            board.out(0xA0, 0x20)
        board.out(0x20, 0x20)
    assert vectors == [0x2C, 0x23, 0x25]
    assert not board.pic.output


def test_what_is_in_service_holds_back_its_equals_and_inferiors() -> None:
    board = Board()
    board.pic.set_irq(4, 1)
    assert board.pic.acknowledge() == 0x24
    board.pic.set_irq(6, 1)
    assert not board.pic.output
    board.pic.set_irq(1, 1)
    assert board.pic.output
    assert board.pic.acknowledge() == 0x21
    board.out(0x20, 0x20)
    assert not board.pic.output
    board.out(0x20, 0x20)
    assert board.pic.acknowledge() == 0x26


def test_a_masked_request_waits_for_its_mask_to_open() -> None:
    board = Board()
    board.out(0x21, 0xFF)
    board.pic.set_irq(0, 1)
    assert not board.pic.output
    board.out(0x20, 0x0A)
    assert board.read(0x20) == 1
    assert board.read(0x21) == 0xFF
    board.out(0x21, 0xFE)
    assert board.pic.output


def test_an_acknowledge_without_request_gives_the_spurious_vector() -> None:
    assert Board().pic.acknowledge() == 0x27
    board = Board()
    board.pic.set_irq(8, 1)
    board.out(0xA1, 0xFF)
    assert board.pic.acknowledge() == 0x2F  # the master's request outlived the slave's


def test_an_edge_is_one_request_and_a_level_as_many_as_it_lasts() -> None:
    for elcr, expected in ((0x00, False), (0x20, True)):
        board = Board()
        board.out(0x4D0, elcr)
        board.pic.set_irq(5, 1)
        board.pic.set_irq(5, 1)
        board.pic.acknowledge()
        board.out(0x20, 0x20)
        assert board.pic.output is expected
        board.pic.set_irq(5, 0)
        assert not board.pic.output


def test_interrupts_0_1_2_8_and_13_cannot_be_level_triggered() -> None:
    board = Board()
    board.out(0x4D0, 0xFF)
    board.out(0x4D1, 0xFF)
    assert (board.read(0x4D0), board.read(0x4D1)) == (0xF8, 0xDE)


def test_automatic_end_of_interrupt_leaves_nothing_in_service() -> None:
    board = Board(icw4=3)
    board.pic.set_irq(3, 1)
    assert board.pic.acknowledge() == 0x23
    board.out(0x20, 0x0B)
    assert board.read(0x20) == 0


def test_rotation_makes_the_line_just_served_the_last() -> None:
    board = Board()
    for irq in (1, 4):
        board.pic.set_irq(irq, 1)
    assert board.pic.acknowledge() == 0x21
    board.out(0x20, 0xA0)
    board.pic.set_irq(1, 0)
    board.pic.set_irq(1, 1)
    assert board.pic.acknowledge() == 0x24


def test_polling_acknowledges() -> None:
    board = Board()
    board.out(0x20, 0x0C)
    assert board.read(0x20) == 0
    board.pic.set_irq(3, 1)
    board.out(0x20, 0x0C)
    assert board.read(0x20) == 0x83
    assert not board.pic.output


def test_special_mask_mode_lets_inferiors_through() -> None:
    board = Board()
    board.pic.set_irq(1, 1)
    board.pic.acknowledge()
    board.out(0x21, 0x02)
    board.out(0x20, 0x68)
    board.pic.set_irq(5, 1)
    assert board.pic.acknowledge() == 0x25


def test_a_specific_end_of_interrupt_ends_that_line() -> None:
    board = Board()
    for irq in (5, 2, 3):
        if irq != 2:
            board.pic.set_irq(irq, 1)
            board.pic.acknowledge()
    board.out(0x20, 0x65)
    board.out(0x20, 0x0B)
    assert board.read(0x20) == 0x08


def test_saved_and_loaded_it_goes_on() -> None:
    board, other = Board(), Board()
    board.pic.set_irq(3, 1)
    board.pic.acknowledge()
    board.pic.set_irq(9, 1)
    for mine, its in ((board.pic.master, other.pic.master), (board.pic.slave, other.pic.slave)):
        its.load(mine.save())
        assert its.save() == mine.save()
    assert other.pic.output
    assert other.pic.acknowledge() == board.pic.acknowledge() == 0x29
