# SPDX-License-Identifier: GPL-2.0-only
"""firmware/bios/bootstrap.py: how a boot sector is entered, and what comes of none."""

from __future__ import annotations

import pytest

from machine.drive import Drive
from tests.firmware.bios.pc import Pc


def sector(code: bytes, signature: bytes = b"\x55\xaa") -> bytes:
    return code.ljust(510, b"\0") + signature


@pytest.mark.parametrize(("number", "floppy"), [(0, True), (0x80, False)])
def test_registers_at_the_boot_sector_are_those_of_qemus_pc(number: int, floppy: bool) -> None:
    board = Pc(drives={number: Drive(sector(b"\xfa\xf4"), floppy=floppy)})
    board.bios.boot()
    regs = board.machine.cpus[0].regs
    assert (regs.cs, regs.rip, regs.rdx, regs.rax, regs.rsp) == (0, 0x7C00, number, 0xAA55, 0x6F04)
    assert (regs.ss, regs.ds, regs.es, regs.rflags & 0x202) == (0, 0, 0, 0x202)
    assert board.machine.run(100).rip == 0x7C02


def test_int_19h_boots_again() -> None:
    # inc byte [0x500]; cmp byte [0x500], 3; je +2; int 19h; cli; hlt
    code = bytes.fromhex("fe060005 803e000503 7402 cd19 faf4")
    board = Pc(drives={0x80: Drive(sector(code), floppy=False)})
    board.bios.boot()
    assert board.machine.run(10_000).kind == "halt"
    assert board.memory.read_u8(0x500) == 3


@pytest.mark.parametrize("drives", [{}, {0x80: Drive(sector(b"", b"no"), floppy=False)}])
def test_without_a_boot_sector_the_bios_says_so_and_halts(drives: dict[int, Drive]) -> None:
    board = Pc(drives=drives)
    board.bios.boot()
    assert board.machine.run(10_000).kind == "halt"
    assert board.screen()[0] == "No bootable device."
    board.machine.cpus[0].start_real(0, 0x600, sp=0x7000)
    board.memory.write(0x600, b"\xcd\x19")
    board.machine.code_written(0x600, 2)
    assert board.machine.run(10_000).kind == "halt"
    assert board.screen()[1] == "No bootable device."
