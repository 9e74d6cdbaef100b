# SPDX-License-Identifier: GPL-2.0-only
"""Guests that read and write their disk by programmed I/O, past the BIOS."""

from __future__ import annotations

from .pc_program import Program

_MACROS = """
        .macro  put register, value
        mov     dx, 0x1f0 + \\register
        mov     al, \\value
        out     dx, al
        .endm
        .macro  byte port
        mov     dx, \\port
        in      al, dx
        mov     ah, 0
        call    hex16
        .endm
        .macro  address select, high, middle, low, count
        put     6, \\select
        put     2, \\count
        put     3, \\low
        put     4, \\middle
        put     5, \\high
        .endm
        .macro  take                    # a sector to ES:DI
        call    settled
        mov     dx, 0x1f0
        mov     cx, 256
        rep insw
        .endm
        .macro  give
        call    settled
        mov     dx, 0x1f0
        mov     cx, 256
        rep outsw
        .endm
        .macro  told                    # error, count, address, drive, status
        call    settled
        .irp    port, 0x1f1, 0x1f2, 0x1f3, 0x1f4, 0x1f5, 0x1f6, 0x1f7
        byte    \\port
        .endr
        call    newline
        .endm
        cli
        put     -0x1f0 + 0x3f6, 2       # no interrupts
"""
_ROUTINES = """
settled:
        push    ax
        push    dx
        mov     dx, 0x3f6
1:      in      al, dx
        test    al, 0x80
        jnz     1b
        pop     dx
        pop     ax
        ret
interrupt:
        push    ax
        push    dx
        inc     word ptr cs:[count]
        mov     dx, 0x1f7
        in      al, dx
        mov     ah, 0
        call    hex16
        mov     al, 0x20
        out     0xa0, al
        out     0x20, al
        pop     dx
        pop     ax
        iret
count:  .word   0
"""


def _program(body: str, sectors: int = 64, **more: object) -> Program:
    return Program(_MACROS + body, _ROUTINES, sectors=sectors, **more)  # type: ignore[arg-type]


ATA_IDENTIFY = _program(
    """
        address 0xa0, 0, 0, 0, 0
        put     7, 0xec
        mov     di, 0xa000
        take
        .irp    word, 0, 1, 3, 6, 47, 48, 51, 54, 55, 56, 57, 58, 59, 60, 61, 64, 80, 83, 86, 100
        mov     ax, [0xa000 + 2 * \\word]
        call    hex16
        .endr
        mov     ax, [0xa000 + 2 * 49]   # QEMU's disk has DMA
        and     ax, 0xfeff
        call    hex16
        call    newline
        told
        put     2, 8                    # blocks of 8 sectors, and other heads
        put     7, 0xc6
        told
        address 0xa7, 0, 0, 0, 32
        put     7, 0x91
        told
        put     2, 7                    # 7 is no size of a block
        put     7, 0xc6
        told
        put     7, 0xa1
        told
        put     7, 0x08
        told
""",
    sectors=20_000,
)
ATA_ABSENT = _program(
    """
        address 0xa0, 1, 2, 3, 4
        put     7, 0x10
        told
        put     6, 0xb0
        told
        put     7, 0xec
        told
        put     2, 0x55
        put     6, 0xa0
        told
        .irp    port, 0x1f0, 0x3f6
        byte    \\port
        .endr
        call    newline
        put     -0x1f0 + 0x3f6, 6       # software reset
        put     -0x1f0 + 0x3f6, 2
        call    settled
        told
        put     7, 0x90
        told
        put     6, 0xf0
        told
""",
)
ATA_READ = _program(
    """
        address 0xe0, 0, 0, 1, 2        # LBA 1, 2 sectors
        put     7, 0x20
        mov     di, 0xa000
        take
        told
        take
        told
        mov     ax, [0xa000]
        call    hex16
        mov     ax, [0xa200]
        call    hex16
        mov     si, 0x7e00
        mov     di, 0xa000
        mov     cx, 256
        repe cmpsw
        mov     ax, cx
        call    hex16
        call    newline
        address 0xa0, 0, 0, 1, 1        # cylinder 0, head 0, sector 1
        put     7, 0x20
        mov     di, 0xa000
        take
        mov     ax, [0xa1fe]
        call    hex16
        told
        address 0xa1, 0, 0, 1, 1        # head 1: sector 63
        put     7, 0x20
        mov     di, 0xa000
        take
        told
        address 0xe0, 0, 0, 64, 1       # behind the end
        put     7, 0x20
        told
        address 0xe0, 0, 0, 63, 2       # over the end
        put     7, 0x20
        mov     di, 0xa000
        take
        told
        address 0xe0, 0, 0, 3, 4        # verified
        put     7, 0x40
        told
        address 0xe0, 0, 0, 2, 4        # in blocks of two
        put     2, 2
        put     7, 0xc6
        call    settled
        put     2, 4
        put     7, 0xc4
        mov     di, 0xa000
        call    settled
        mov     dx, 0x1f0
        mov     ecx, 256
        rep insd
        told
        call    settled
        mov     dx, 0x1f0
        mov     ecx, 256
        rep insd
        told
        put     6, 0x40
        put     2, 0
        put     2, 1
        .irp    register, 3, 4, 5
        put     \\register, 0
        .endr
        put     3, 5
        put     4, 0
        put     5, 0
        put     7, 0x24
        mov     di, 0xa000
        take
        mov     ax, [0xa000]
        call    hex16
        told
""",
)
ATA_WRITE = _program(
    """
        address 0xe0, 0, 0, 40, 2
        put     7, 0x30
        byte    0x1f7
        mov     si, 0x7c00
        give
        told
        mov     si, 0x7e00
        give
        told
        put     7, 0xe7
        told
        mov     ax, 0x0202              # the BIOS sees it
        mov     bx, 0xa000
        mov     cx, 41
        mov     dh, 0
        mov     dl, [drive]
        int     0x13
        mov     si, 0x7c00
        mov     di, 0xa000
        mov     cx, 512
        repe cmpsw
        mov     ax, cx
        call    hex16
        call    newline
        put     -0x1f0 + 0x3f6, 2
        address 0xe0, 0, 0, 64, 1
        put     7, 0x30
        told
        mov     si, 0x7c00
        give
        told
        address 0xe0, 0, 0, 41, 1
        put     7, 0x20
        put     2, 77                   # busy: not heard
        mov     di, 0xa000
        take
        told
""",
)
ATA_INTERRUPT = _program(
    """
        mov     word ptr [0x76 * 4], offset interrupt
        mov     word ptr [0x76 * 4 + 2], 0
        mov     al, 0xff
        out     0x21, al
        out     0xa1, al
        mov     al, 0xfb
        out     0x21, al
        mov     al, 0xbf
        out     0xa1, al
        mov     dx, 0x1f7
        in      al, dx
        put     -0x1f0 + 0x3f6, 0
        .macro  wait number
1:      cli
        cmp     word ptr [count], \\number
        jae     2f
        sti
        hlt
        jmp     1b
2:
        .endm
        address 0xe0, 0, 0, 1, 2
        put     7, 0x20
        wait    1
        mov     di, 0xa000
        take
        wait    2
        take
        address 0xe0, 0, 0, 40, 2
        put     7, 0x30
        mov     si, 0x7c00
        give
        wait    3
        give
        wait    4
        put     7, 0xec
        wait    5
        mov     di, 0xa000
        take
        put     7, 0xe7
        wait    6
        address 0xe0, 0, 0, 64, 1
        put     7, 0x20
        wait    7
        put     -0x1f0 + 0x3f6, 2       # none any more
        put     7, 0xe7
        call    settled
        mov     cx, 1000
1:      sti
        nop
        cli
        loop    1b
        mov     ax, [count]
        call    hex16
""",
)
GUESTS = {name: value for name, value in sorted(globals().items()) if isinstance(value, Program)}
"""The programs by name."""
