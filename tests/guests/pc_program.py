# SPDX-License-Identifier: GPL-2.0-only
"""What the guests of bios_guests.py and device_guests.py begin and end with.

A guest is a body of 16-bit code that is loaded behind a boot sector, on a screen that has just been
cleared. It tells what it sees on the screen: `hex16` prints AX and a blank, `show` a line with AX,
BX, CX, DX, SI, DI, ES and the carry flag, all registers kept. Behind its end the CPU is halted with
interrupts off."""

from __future__ import annotations

from dataclasses import dataclass

from .assembled import boot_image

FLOPPY_SECTORS = 2880
_HEAD = """
        cld
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     [drive], dl
        mov     ax, 0x0210
        mov     bx, 0x7e00
        mov     cx, 2
        mov     dh, 0
        int     0x13
        mov     ax, 3
        int     0x10
        jmp     main
drive:  .byte   0
        .org    512
hex16:  push    ax
        push    bx
        push    cx
        mov     cx, 4
1:      rol     ax, 4
        push    ax
        and     al, 15
        add     al, 0x90
        daa
        adc     al, 0x40
        daa
        mov     ah, 0x0e
        mov     bx, 7
        int     0x10
        pop     ax
        loop    1b
        mov     ax, 0x0e20
        int     0x10
        pop     cx
        pop     bx
        pop     ax
        ret
newline:
        push    ax
        push    bx
        mov     bx, 7
        mov     ax, 0x0e0d
        int     0x10
        mov     ax, 0x0e0a
        int     0x10
        pop     bx
        pop     ax
        ret
show:   pushf
        push    ax
        push    bx
        push    cx
        push    dx
        push    si
        push    di
        push    es
        push    bp
        mov     bp, sp
        .irp    place, 14, 12, 10, 8, 6, 4, 2
        mov     ax, [bp + \\place]
        call    hex16
        .endr
        mov     ax, [bp + 16]
        and     ax, 1
        call    hex16
        call    newline
        pop     bp
        pop     es
        pop     di
        pop     si
        pop     dx
        pop     cx
        pop     bx
        pop     ax
        popf
        ret
main:
"""
_TAIL = """
        cli
9:      hlt
        jmp     9b
"""


@dataclass(frozen=True)
class Program:
    """One guest. `body` is its code, `data` what lies behind the halt; `memory` in MiB."""

    body: str
    data: str = ""
    floppy: bool = False
    sectors: int = 64
    memory: int = 128
    keys: tuple[tuple[str, str], ...] = ()
    """What is typed: a name of QEMU's `sendkey`, and the same for `scan_codes`."""
    qemu: tuple[str, ...] = ()
    """More arguments for QEMU, to leave out of its machine what this one does not have."""

    @property
    def image(self) -> bytes:
        """The disk image."""
        sectors = FLOPPY_SECTORS if self.floppy else self.sectors
        return boot_image(_HEAD + self.body + _TAIL + self.data, sectors)


def calls(*lines: str) -> str:
    """A body that runs each of `lines` on fresh registers and shows what came of it."""
    fresh = """
        xor     bx, bx
        mov     es, bx
        xor     cx, cx
        xor     si, si
        xor     di, di
        mov     dh, 0
        mov     dl, [drive]
"""
    return "".join(f"{fresh}\n{line}\n call show\n" for line in lines)
