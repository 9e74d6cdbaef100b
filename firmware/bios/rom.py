# SPDX-License-Identifier: GPL-2.0-only
"""The BIOS ROM: 64 KiB at F000:0000, and the interrupt vectors that lead into it.

A service is a stub of a few instructions that hands over to Python through the BIOS port
(`machine.biosport`) and returns with IRET, so a guest can take its vector over, call it, or jump
to it, as it could with any BIOS:

    start: push NUMBER      which service; Python puts flags in its place
           out  0xEE, al    the service runs
           popf
           jc   again       it has to be waited for
           iret
    again: let interrupts in, halted if ZF is clear; jmp start

Hardware interrupts are real code around that: the timer calls INT 1Ch, the keyboard INT 15h/4Fh,
and both end the interrupt at the 8259. The stubs lie where the first PC had its services, because
some software jumps there. Vectors without a service lead to an IRET.

The number of a service is its vector doubled: with the bits that would then be CF, TF and IF in the
flags clear, a stub returns at once even when nobody listens at the port."""

from __future__ import annotations

import struct

from machine.biosport import BIOS_PORT

ROM_BASE, ROM_SEGMENT, ROM_SIZE = 0xF0000, 0xF000, 0x10000
POST = 0x40
"""The pseudo vector of the power-on self test."""

CONFIG_TABLE, DISKETTE_TABLE = 0xE6F5, 0xEFC7
DUMMY_IRET, RESET, MODEL = 0xFF53, 0xFFF0, 0xFC
HARD_DISK_TABLE = 0xE401
"""Offsets in the ROM: INT 15h/C0h's answer, INT 1Eh's table, an IRET, the reset vector."""

SERVICES = {
    0x10: 0xF065, 0x11: 0xF84D, 0x12: 0xF841, 0x13: 0xE3FE, 0x14: 0xE739, 0x15: 0xF859,
    0x16: 0xE82E, 0x17: 0xEFD2, 0x1A: 0xFE6E,
}  # fmt: skip
"""Vector and offset of the services that software calls. There is no room behind INT 13h's place
for more than a jump."""

TIMER_IRQ, KEYBOARD_IRQ, PRINT_SCREEN, NMI = 0xFEA5, 0xE987, 0xFF54, 0xE2C3
BOOTSTRAP, POST_ENTRY = 0xE6F2, 0xE05B
_STUBS = 0xD000
"""Where code without a place of its own goes."""

TIMER_TICK = 0x08
KEYBOARD = 0x09
NO_BOOT = 0x18
BOOT = 0x19

BOOT_STACK = 0x6F04
"""SP of a boot sector, with SS 0, as on QEMU's PC."""

_CONFIG = bytes((8, 0, MODEL, 0, 1, 0x74, 0x40, 0, 0, 0))
"""INT 15h/C0h: length, model, submodel, revision; second 8259, clock, INT 15h/4Fh, EBDA; INT
16h/09h."""

_DISKETTE = bytes((0xAF, 0x02, 0x25, 0x02, 0x12, 0x1B, 0xFF, 0x6C, 0xF6, 0x0F, 0x08))
"""Step rate, motor off delay, 512 bytes, 18 sectors a track, gaps, fill byte."""


def service(vector: int) -> bytes:
    """The stub described above, 21 bytes."""
    code = bytes((0x68, 2 * vector, 0, 0xE6, BIOS_PORT, 0x9D, 0x72, 0x01, 0xCF))
    # jz +4; sti; hlt; jmp +3; sti; nop; nop; cli; jmp start
    code += bytes((0x74, 0x04, 0xFB, 0xF4, 0xEB, 0x03, 0xFB, 0x90, 0x90, 0xFA))
    return code + bytes((0xEB, 256 - len(code) - 2))


def call(vector: int) -> bytes:
    """The same in the middle of other code, for a service that nobody waits for."""
    return bytes((0x68, 2 * vector, 0, 0xE6, BIOS_PORT, 0x9D))


_END_OF_INTERRUPT = bytes.fromhex("50 b020 e620 58")
"""push ax; mov al, 20h; out 20h, al; pop ax"""
_END_OF_BOTH = bytes.fromhex("50 b020 e6a0 e620 58")


def build_rom() -> bytes:
    """The ROM's contents."""
    rom = bytearray(ROM_SIZE)
    taken = bytearray(ROM_SIZE)

    def put(offset: int, code: bytes) -> None:
        if any(taken[offset : offset + len(code)]) or offset + len(code) > ROM_SIZE:
            raise ValueError(f"ROM offset {offset:#x} is taken")
        rom[offset : offset + len(code)] = code
        taken[offset : offset + len(code)] = b"\x01" * len(code)

    def jump(offset: int, target: int) -> None:
        put(offset, b"\xe9" + struct.pack("<H", target - offset - 3 & 0xFFFF))

    cursor = _STUBS
    for vector, offset in SERVICES.items():
        put(cursor, service(vector))
        jump(offset, cursor)
        cursor += 32
    for offset, code in _interrupts().items():
        put(cursor, code)
        jump(offset, cursor)
        cursor += 48
    for offset, code in _plain().items():
        put(offset, code)
    return bytes(rom)


def _interrupts() -> dict[int, bytes]:
    """Entry offset and code of what is more than a stub."""
    # in al, 60h; mov ah, 4Fh; stc; int 15h; jnc over the service
    key = call(KEYBOARD)
    keyboard = bytes.fromhex("50 e460 b44f f9 cd15 73") + bytes((len(key),)) + key
    keyboard += bytes.fromhex("b020 e620 58 cf")
    # cli; xor ax, ax; mov ss, ax; mov sp, BOOT_STACK
    stack = bytes.fromhex("fa 31c0 8ed0 bc") + struct.pack("<H", BOOT_STACK)
    # The services set the registers and the frame that IRET takes them to.
    frame = bytes.fromhex("9c 0e 50")
    return {
        TIMER_IRQ: call(TIMER_TICK) + b"\xcd\x1c" + _END_OF_INTERRUPT + b"\xcf",
        KEYBOARD_IRQ: keyboard,
        BOOTSTRAP: stack + frame + service(BOOT),
        POST_ENTRY: stack + frame + service(POST),
        NMI: b"\xcf",
        PRINT_SCREEN: b"\xcf",
    }


IRQ_MASTER, IRQ_SLAVE, CLOCK_IRQ = 0xD800, 0xD810, 0xD820
COPROCESSOR, NO_BOOT_DEVICE = 0xD840, 0xD860


def _plain() -> dict[int, bytes]:
    """Offset and contents of what has no entry elsewhere."""
    # push ax; mov al, 0Ch; out 70h, al; in al, 71h; test al, 20h; pop ax; jz +2; int 4Ah
    clock = bytes.fromhex("50 b00c e670 e471 a820 58 7402 cd4a") + _END_OF_BOTH + b"\xcf"
    return {
        IRQ_MASTER: _END_OF_INTERRUPT + b"\xcf",
        IRQ_SLAVE: _END_OF_BOTH + b"\xcf",
        CLOCK_IRQ: clock,
        # push ax; xor al, al; out F0h, al; ...; int 2
        COPROCESSOR: bytes.fromhex("50 30c0 e6f0 58") + _END_OF_BOTH + b"\xcd\x02\xcf",
        # the service says so on the screen; then cli; hlt, for good
        NO_BOOT_DEVICE: call(NO_BOOT) + bytes.fromhex("fa f4 ebfc"),
        CONFIG_TABLE: _CONFIG,
        DISKETTE_TABLE: _DISKETTE,
        DUMMY_IRET: b"\xcf",
        RESET: b"\xea" + struct.pack("<HH", POST_ENTRY, ROM_SEGMENT),
        RESET + 5: b"12/23/18",
        RESET + 14: bytes((MODEL,)),
    }


def vectors() -> dict[int, int]:
    """Offset in the ROM for every interrupt vector."""
    table = dict.fromkeys(range(0x78), DUMMY_IRET) | SERVICES
    table |= dict.fromkeys(range(0x08, 0x10), IRQ_MASTER)
    table |= dict.fromkeys(range(0x70, 0x78), IRQ_SLAVE)
    table |= {
        0x02: NMI, 0x05: PRINT_SCREEN, 0x08: TIMER_IRQ, 0x09: KEYBOARD_IRQ, 0x18: NO_BOOT_DEVICE,
        0x19: BOOTSTRAP, 0x1E: DISKETTE_TABLE, 0x40: SERVICES[0x13], 0x42: SERVICES[0x10],
        0x70: CLOCK_IRQ, 0x71: IRQ_SLAVE, 0x75: COPROCESSOR,
    }  # fmt: skip
    return table
