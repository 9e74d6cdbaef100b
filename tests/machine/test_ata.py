# SPDX-License-Identifier: GPL-2.0-only
"""machine/ata.py: transfers, errors and resets; guests that use it are in tests/guests."""

from __future__ import annotations

import struct

from machine.ata import BUSY_NS, AtaChannel
from machine.bus import PortBus
from machine.drive import Drive

from .fake_time import FakeTime, count_rises

CONTENT = b"".join(bytes((n,)) * 512 for n in range(64))


class Board:
    """A channel with one drive, on ports 1F0h and 3F6h."""

    def __init__(self, content: bytes = CONTENT, read_only: bool = False) -> None:
        self.time = FakeTime()
        self.drives = {0: Drive(content, floppy=False, read_only=read_only)}
        self.ata = AtaChannel("ata", self.time, self.drives.get)
        self.ports = PortBus()
        self.ata.attach(self.ports, 0x1F0, 0x3F6)
        self.rises = count_rises(self.ata.irq.connect)

    def out(self, port: int, value: int, size: int = 1) -> None:
        self.ports.write(0, port, size, value)

    def into(self, port: int, size: int = 1) -> int:
        return self.ports.read(0, port, size)

    def command(self, command: int, lba: int = 0, count: int = 1, wait: bool = True) -> None:
        self.out(0x1F6, 0xE0 | lba >> 24 & 15)
        for port, value in ((0x1F2, count), (0x1F3, lba), (0x1F4, lba >> 8), (0x1F5, lba >> 16)):
            self.out(port, value & 0xFF)
        self.out(0x1F7, command)
        if wait:
            self.time.go(BUSY_NS)

    def take(self, size: int = 512) -> bytes:
        return b"".join(struct.pack("<H", self.into(0x1F0, 2)) for _ in range(size // 2))

    def give(self, data: bytes) -> None:
        for (word,) in struct.iter_unpack("<H", data):
            self.out(0x1F0, word, 2)


def test_a_read_is_busy_for_a_while_and_then_has_its_sector() -> None:
    board = Board()
    board.command(0x20, 5, wait=False)
    assert board.into(0x3F6) & 0x80
    board.time.go(BUSY_NS)
    assert board.rises == [1]
    assert board.into(0x1F7) == 0x58
    assert board.take() == bytes((5,)) * 512
    assert board.into(0x1F7) == 0x50


def test_every_sector_has_its_interrupt_and_reading_the_status_takes_it_back() -> None:
    board = Board()
    board.command(0x20, 1, 3)
    for n in (1, 2, 3):
        assert board.ata.irq.level == 1
        assert board.into(0x3F6) == 0x58
        assert board.ata.irq.level == 1
        assert board.into(0x1F7) == 0x58
        assert board.ata.irq.level == 0
        assert board.take() == bytes((n,)) * 512
        board.time.go(BUSY_NS)
    assert len(board.rises) == 3
    assert board.into(0x1F7) == 0x50


def test_a_count_of_0_is_256_sectors() -> None:
    board = Board(bytes(512 * 300))
    board.command(0x20, 0, 0)
    for _ in range(256):
        assert board.into(0x1F7) == 0x58
        board.take()
        board.time.go(BUSY_NS)
    assert board.into(0x1F7) == 0x50


def test_a_write_asks_first_and_reports_behind() -> None:
    board = Board()
    board.command(0x30, 7, 2, wait=False)
    assert board.into(0x3F6) == 0x58
    assert board.rises == []
    board.give(b"a" * 512)
    assert board.into(0x3F6) & 0x80
    board.time.go(BUSY_NS)
    assert board.into(0x1F7) == 0x58
    board.give(b"b" * 512)
    board.time.go(BUSY_NS)
    assert len(board.rises) == 2
    assert board.drives[0].read(7, 2) == b"a" * 512 + b"b" * 512


def test_writes_to_a_read_only_disk_are_aborted() -> None:
    board = Board(read_only=True)
    board.command(0x30, 7)
    board.give(b"a" * 512)
    board.time.go(BUSY_NS)
    assert (board.into(0x1F7), board.into(0x1F1)) == (0x41, 4)
    assert board.drives[0].changed == 0


def test_an_address_of_48_bits_comes_in_two_goes() -> None:
    board = Board()
    board.out(0x1F6, 0x40)
    for port, high, low in ((0x1F2, 0, 1), (0x1F3, 0, 9), (0x1F4, 0, 0), (0x1F5, 0, 0)):
        board.out(port, high)
        board.out(port, low)
    board.out(0x1F7, 0x24)
    board.time.go(BUSY_NS)
    assert board.take() == bytes((9,)) * 512
    board.out(0x1F3, 1)
    board.out(0x1F3, 2)
    board.out(0x3F6, 0x80)
    assert board.into(0x1F3) == 1
    board.out(0x3F6, 0)
    assert board.into(0x1F3) == 2


def test_there_are_no_transfers_by_dma_and_identify_says_so() -> None:
    board = Board()
    board.command(0xC8, 1)
    assert (board.into(0x1F7), board.into(0x1F1)) == (0x41, 4)
    board.command(0xEC)
    words = struct.unpack("<256H", board.take())
    assert (words[49] & 0x100, words[63], words[88]) == (0, 0, 0)
    assert words[60] | words[61] << 16 == 64
    assert struct.pack(">20H", *words[27:47]).decode().strip() == "numalab disk"


def test_a_channel_without_drives_answers_nothing() -> None:
    board = Board()
    board.drives.clear()
    board.command(0xEC)
    assert [board.into(port) for port in range(0x1F1, 0x1F8)] == [0] * 7
    assert board.rises == []


def test_a_reset_ends_a_transfer() -> None:
    board = Board()
    board.command(0x20, 1, 4)
    board.take()
    board.out(0x3F6, 4)
    assert board.into(0x3F6) & 0x80
    board.out(0x3F6, 0)
    board.time.go(BUSY_NS)
    assert board.into(0x1F7) == 0x50
    assert board.into(0x1F0, 2) == 0
    assert [board.into(port) for port in (0x1F2, 0x1F3, 0x1F4, 0x1F5)] == [1, 1, 0, 0]


def test_a_transfer_goes_on_where_it_was_saved() -> None:
    board, other = Board(), Board()
    board.command(0x20, 3, 2)
    board.take(100)
    other.ata.load(board.ata.save())
    assert other.take(412) == bytes((3,)) * 412
    other.time.go(BUSY_NS)
    assert other.take() == bytes((4,)) * 512
