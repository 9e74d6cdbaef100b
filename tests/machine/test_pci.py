# SPDX-License-Identifier: GPL-2.0-only
"""machine/pci.py: configuration space and the reset control register."""

from __future__ import annotations

import pytest

from machine.bus import PortBus
from machine.pci import Ecam, PciHost


class Board:
    def __init__(self, kind: str = "pc") -> None:
        self.resets = 0
        self.pci = PciHost(kind, self.reset)
        self.ports = PortBus()
        self.pci.attach(self.ports)

    def reset(self) -> None:
        self.resets += 1

    def read(self, bdf: int, place: int, size: int = 4) -> int:
        self.ports.write(0, 0xCF8, 4, 1 << 31 | bdf << 8 | place & 0xFC)
        return self.ports.read(0, 0xCFC + (place & 3), size)

    def write(self, bdf: int, place: int, size: int, value: int) -> None:
        self.ports.write(0, 0xCF8, 4, 1 << 31 | bdf << 8 | place & 0xFC)
        self.ports.write(0, 0xCFC + (place & 3), size, value)


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("pc", {0: 0x12378086, 8: 0x70008086, 9: 0x70108086, 11: 0x71138086}),
        ("q35", {0: 0x29C08086, 0xF8: 0x29188086}),
    ],
)
def test_the_functions_of_the_board_are_there_and_nothing_else(
    kind: str, ids: dict[int, int]
) -> None:
    board = Board(kind)
    found = {bdf: board.read(bdf, 0) for bdf in range(256)}
    assert {bdf: value for bdf, value in found.items() if value != 0xFFFFFFFF} == ids
    assert board.read(0x100, 0) == 0xFFFFFFFF


def test_bytes_and_words_come_from_their_place() -> None:
    board = Board()
    assert board.read(8, 2, 2) == 0x7000
    assert [board.read(8, n, 1) for n in range(4)] == [0x86, 0x80, 0x00, 0x70]


def test_only_what_can_be_written_changes() -> None:
    board = Board()
    board.write(0, 0, 4, 0)
    board.write(0, 4, 2, 0xFFFF)
    assert board.read(0, 0) == 0x12378086
    assert board.read(0, 4, 2) == 0x0107
    for place in (0x10, 0x24, 0x30):  # no base addresses to be sized
        board.write(0, place, 4, 0xFFFFFFFF)
        assert board.read(0, place) == 0


def test_without_the_enable_bit_the_data_port_floats() -> None:
    board = Board()
    board.ports.write(0, 0xCF8, 4, 0)
    assert board.ports.read(0, 0xCFC, 4) == 0xFFFFFFFF


def test_port_cf9_resets_when_bit_2_rises() -> None:
    board = Board()
    board.ports.write(0, 0xCF9, 1, 0x02)
    assert (board.resets, board.ports.read(0, 0xCF9, 1)) == (0, 2)
    board.ports.write(0, 0xCF9, 1, 0x06)
    assert board.resets == 1


def test_the_window_in_memory_shows_the_same_registers() -> None:
    board = Board("q35")
    ecam = Ecam(board.pci)
    assert ecam.mmio_read(0, 0xF8 << 12, 4) == 0x29188086
    assert ecam.mmio_read(0, 1 << 20, 4) == 0xFFFFFFFF
    assert ecam.mmio_read(0, 0x800, 4) == 0
    ecam.mmio_write(0, 0xF8 << 12 | 0x3C, 1, 5)
    assert board.read(0xF8, 0x3C, 1) == 5


def test_saved_and_loaded_it_is_the_same() -> None:
    board, other = Board(), Board()
    board.write(0, 0x5A, 1, 0x33)
    other.pci.load(board.pci.save())
    assert other.pci.save() == board.pci.save()
    other.pci.reset()
    assert other.read(0, 0x5A, 1) == 0
