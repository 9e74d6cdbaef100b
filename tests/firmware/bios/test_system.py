# SPDX-License-Identifier: GPL-2.0-only
"""firmware/bios/system.py: INT 15h."""

from __future__ import annotations

import struct

import pytest

from firmware import e820_map
from firmware.bios.system import SMAP
from machine import Topology
from tests.firmware.bios.pc import Pc

BUFFER = 0x900


def read_map(board: Pc) -> list[tuple[int, int, int]]:
    out, index = [], 0
    while True:
        got = board.call(0x15, ax=0xE820, bx=index, cx=24, dx=SMAP, di=BUFFER)
        assert (got.cf, got.ax, got.cx) == (False, SMAP, 20)
        out.append(struct.unpack("<QQI", board.memory.read(BUFFER, 20)))
        index = got.bx
        if not index:
            return out


@pytest.mark.parametrize("numa", ["1x32M", "2x128M", "2x3G"])
def test_e820_tells_the_boards_map(numa: str) -> None:
    told = e820_map(Topology.parse(numa))
    assert read_map(Pc(numa)) == [(entry.addr, entry.size, entry.type) for entry in told]


@pytest.mark.parametrize(("cx", "dx", "bx"), [(19, SMAP, 0), (20, 0, 0), (20, SMAP, 99)])
def test_e820_refuses_what_it_was_not_asked_properly(cx: int, dx: int, bx: int) -> None:
    got = Pc().call(0x15, ax=0xE820, bx=bx, cx=cx, dx=dx, di=BUFFER)
    assert (got.cf, got.ah) == (True, 0x86)


@pytest.mark.parametrize(
    ("numa", "kib", "blocks", "kib_88"),
    [("1x32M", 15 << 10, 254, 0x7B80), ("2x3G", 15 << 10, 0xBEFE, 63 << 10)],
)
def test_older_interfaces_tell_less(numa: str, kib: int, blocks: int, kib_88: int) -> None:
    board = Pc(numa)
    got = board.call(0x15, ax=0xE801)
    assert (got.cf, got.ax, got.bx, got.cx, got.dx) == (False, kib, blocks, kib, blocks)
    assert board.call(0x15, ax=0x8800).ax == kib_88


def test_a20_is_closed_opened_and_told() -> None:
    board = Pc()
    assert not board.call(0x15, ax=0x2400).cf
    assert not board.machine.a20
    assert board.call(0x15, ax=0x2402).ax == 0
    assert not board.call(0x15, ax=0x2401).cf
    assert board.call(0x15, ax=0x2402).ax == 1
    assert board.call(0x15, ax=0x2403).bx == 3


def test_a_block_is_moved_above_1_mib() -> None:
    board = Pc()
    board.memory.write(0xA000, b"moved up")
    table = bytearray(0x30)
    for place, base in ((0x10, 0xA000), (0x18, 0x234560)):
        struct.pack_into("<HHBBH", table, place, 0xFFFF, base & 0xFFFF, base >> 16, 0x93, 0)
    board.memory.write(BUFFER, table)
    got = board.call(0x15, ax=0x8700, cx=4, si=BUFFER)
    assert (got.cf, got.ah) == (False, 0)
    assert board.memory.read(0x234560, 8) == b"moved up"


def test_a_wait_takes_its_time_and_lets_the_timer_tick() -> None:
    board = Pc()
    before, ticks = board.machine.clock.now, board.memory.read_u32(0x46C)
    assert not board.call(0x15, ax=0x8600, cx=3, dx=0xD090).cf  # 250 ms
    assert 250_000_000 <= board.machine.clock.now - before < 251_000_000
    assert board.memory.read_u32(0x46C) - ticks in (4, 5)


@pytest.mark.parametrize("ax", [0xD800, 0xEC00, 0x2405, 0x8000, 0xE881, 0x0000])
def test_what_is_not_there_fails_with_86(ax: int) -> None:
    got = Pc().call(0x15, ax=ax)
    assert (got.cf, got.ah) == (True, 0x86)


def test_power_management_switches_off() -> None:
    board = Pc()
    assert board.call(0x15, ax=0x5300).bx == 0x504D
    board.memory.write(0x600, bytes((0xCD, 0x15, 0xFA, 0xF4)))
    board.machine.cpus[0].start_real(0, 0x600, ax=0x5307, bx=1, cx=3, sp=0x7000)
    assert board.machine.run(1000).kind == "exit"
