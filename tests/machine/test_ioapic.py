# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from machine.ioapic import IoApic

from .test_lapic import EOI, Board

LEVEL = 1 << 15
MASKED = 1 << 16


class Wired(Board):
    def __init__(self, cpus: int = 1) -> None:
        super().__init__(cpus)
        self.io = IoApic(self.bus)

    def route(self, line: int, low: int, high: int = 0) -> None:
        for index, value in ((0x11, high), (0x10, low)):
            self.io.mmio_write(0, 0, 4, index + 2 * line)
            self.io.mmio_write(0, 0x10, 4, value)

    def entry(self, line: int) -> int:
        self.io.mmio_write(0, 0, 4, 0x10 + 2 * line)
        return self.io.mmio_read(0, 0x10, 4)


def test_it_says_version_and_number_of_inputs() -> None:
    io = Wired().io
    io.mmio_write(0, 0, 1, 1)
    assert io.mmio_read(0, 0x10, 4) == 0x170020
    io.mmio_write(0, 0, 1, 0)
    io.mmio_write(0, 0x10, 4, 5 << 24)
    assert io.mmio_read(0, 0x10, 4) == 5 << 24
    assert io.mmio_read(0, 0, 4) == 0


def test_everything_is_masked_at_first() -> None:
    board = Wired()
    for line in range(24):
        board.io.set_irq(line, 1)
    assert not board.cpus[0].waiting


def test_an_edge_is_sent_once_to_the_cpu_that_the_entry_names() -> None:
    board = Wired(2)
    board.route(4, 0x54, 1 << 24)
    board.io.set_irq(4, 1)
    board.io.set_irq(4, 1)
    assert [cpu.waiting for cpu in board.cpus] == [False, True]
    assert board.apics[1].acknowledge() == 0x54
    board.apics[1].write(EOI, 0)
    assert not board.cpus[1].waiting
    board.io.set_irq(4, 0)
    board.io.set_irq(4, 1)
    assert board.cpus[1].waiting


def test_an_edge_while_masked_is_kept() -> None:
    board = Wired()
    board.io.set_irq(4, 1)
    board.io.set_irq(4, 0)
    board.route(4, 0x54)
    assert board.cpus[0].waiting


def test_a_level_comes_again_after_its_end_while_the_line_is_up() -> None:
    board = Wired()
    board.route(10, 0x5A | LEVEL)
    board.io.set_irq(10, 1)
    for _ in range(3):
        assert board.apic.acknowledge() == 0x5A
        assert board.entry(10) >> 14 & 1
        board.apic.write(EOI, 0)
        assert board.cpus[0].waiting
    board.io.set_irq(10, 0)
    board.apic.acknowledge()
    board.apic.write(EOI, 0)
    assert not board.cpus[0].waiting
    assert not board.entry(10) >> 14 & 1


def test_the_eoi_register_ends_a_level_by_vector() -> None:
    board = Wired()
    board.route(10, 0x5A | LEVEL)
    board.io.set_irq(10, 1)
    board.io.set_irq(10, 0)
    board.io.mmio_write(0, 0x40, 4, 0x5B)
    assert board.entry(10) >> 14 & 1
    board.io.mmio_write(0, 0x40, 4, 0x5A)
    assert not board.entry(10) >> 14 & 1


def test_extint_entries_ask_the_8259s_for_the_vector() -> None:
    board = Wired()
    board.route(0, 7 << 8)
    board.io.set_irq(0, 1)
    assert board.apic.acknowledge() == 0x20


def test_read_only_bits_stay() -> None:
    board = Wired()
    board.route(3, 0xFFFFFFFF, 0xFFFFFFFF)
    assert board.entry(3) == 0x1AFFF
    board.io.mmio_write(0, 0, 4, 0x17)
    assert board.io.mmio_read(0, 0x10, 4) == 0xFF000000


def test_what_is_saved_comes_back() -> None:
    board, other = Wired(), Wired()
    board.route(9, 0x59 | LEVEL, 3 << 24)
    board.io.set_irq(9, 1)
    other.io.load(board.io.save())
    assert other.io.save() == board.io.save()
    with pytest.raises(ValueError, match="entries"):
        other.io.load(board.io.save() | {"entries": b"x"})
