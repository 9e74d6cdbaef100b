# SPDX-License-Identifier: GPL-2.0-only
"""firmware/bios/bios.py: which calls are served, and what follows a reset."""

from __future__ import annotations

from machine.drive import Drive
from tests.firmware.bios.pc import Pc

HALT = b"\xfa\xf4"


def booting(code: bytes) -> Pc:
    """A PC with a boot sector of this code entered; resets boot again."""
    image = code.ljust(510, b"\0") + b"\x55\xaa"
    board = Pc(drives={0x80: Drive(image, floppy=False)})
    board.machine.no_reboot = False
    board.bios.boot()
    return board


def test_a_write_to_the_port_from_elsewhere_is_not_a_call() -> None:
    # push 20h; out EEh, al; pop ax; cli; hlt: not in the ROM
    board = booting(bytes.fromhex("6a20 e6ee 58 faf4"))
    assert board.machine.run(1000).kind == "halt"
    assert board.machine.cpus[0].regs.rax & 0xFFFF == 0x20


def test_a_reset_goes_through_post_and_boots_again() -> None:
    # inc byte [0x7000]; cmp byte [0x7000], 2; jae +4; mov al, FEh; out 64h, al; cli; hlt
    board = booting(bytes.fromhex("fe060070 803e007002 7304 b0fe e664 faf4"))
    board.memory.write(4 * 0x13, b"\0\0\0\0")
    assert board.machine.run(100_000).kind == "halt"
    assert board.memory.read_u8(0x7000) == 2
    assert board.memory.read_u16(4 * 0x13 + 2) == 0xF000


def test_shutdown_code_0a_jumps_without_post() -> None:
    # mov byte [0x467..]: the vector 0000:7C40; CMOS 0Fh = 0Ah; reset by the 8042
    code = bytes.fromhex("c7066704407c c70669040000 b00f e670 b00a e671 b0fe e664 f4")
    board = booting(code.ljust(0x40, b"\x90") + b"\xb8\x34\x12" + HALT)
    assert board.machine.run(100_000).kind == "halt"
    assert board.machine.cpus[0].regs.rax & 0xFFFF == 0x1234
    assert board.machine.pc.cmos[0x0F] == 0


def test_a_jump_to_the_reset_vector_resets() -> None:
    board = booting(bytes.fromhex("ea0000ffff"))
    board.machine.no_reboot = True
    stop = board.machine.run(1000)
    assert stop.kind == "reset"
    assert "reset vector" in stop.message
