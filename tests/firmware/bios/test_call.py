# SPDX-License-Identifier: GPL-2.0-only
"""firmware/bios/call.py: the caller's registers, flags and memory."""

from __future__ import annotations

import pytest

from firmware.bios.call import CF, ZF, Call
from tests.firmware.bios.pc import Pc


def call(board: Pc) -> Call:
    """A call of CPU 0 with known registers and a frame of zeros at 0000:7000."""
    cpu = board.machine.cpus[0]
    cpu.start_real(0, 0x600, ax=0x11223344, bx=0x5566, sp=0x7000, es=0x1234)
    board.memory.write(0x7000, bytes(8))
    return Call(board.machine, cpu)


def test_parts_of_registers_are_read_and_written_alone() -> None:
    board = Pc()
    it = call(board)
    assert (it.eax, it.ax, it.ah, it.al, it.bx, it.es) == (
        0x11223344, 0x3344, 0x33, 0x44, 0x5566, 0x1234,
    )  # fmt: skip
    it.ah, it.bl = 0xAA, 0xBB
    it.finish()
    regs = board.machine.cpus[0].regs
    assert (regs.rax, regs.rbx) == (0x1122AA44, 0x55BB)


def test_flags_go_to_the_frame_and_not_to_the_cpu() -> None:
    board = Pc()
    it = call(board)
    it.fail(0x86)
    it.set_flag(ZF, True)
    assert board.memory.read_u16(0x7006) == CF | ZF
    it.succeed()
    assert board.memory.read_u16(0x7006) == ZF
    assert not board.machine.cpus[0].regs.rflags & CF


@pytest.mark.parametrize("offset", [0, 0xFFF, 0xFFFE])
def test_memory_goes_on_across_pages_and_segment_ends(offset: int) -> None:
    board = Pc()
    it = call(board)
    it.write(0x2000, offset, b"abcdefgh" * 700)
    assert board.memory.read(0x20000 + offset, 5600) == b"abcdefgh" * 700
    assert it.read(0x2000, offset, 5600) == b"abcdefgh" * 700


def test_with_a20_closed_addresses_wrap_at_1_mib() -> None:
    board = Pc("1x32M")
    it = call(board)
    board.machine.a20 = False
    it.write(0xFFFF, 0x0510, b"wrapped")
    assert board.memory.read(0x500, 7) == b"wrapped"
