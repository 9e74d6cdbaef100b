# SPDX-License-Identifier: GPL-2.0-only
"""Guests that program the old devices: timer, interrupt controllers, keyboard, clock, serial."""

from __future__ import annotations

from .pc_program import Program

_IN = """
        .macro  shows port              # the byte at a port
        in      al, \\port
        mov     ah, 0
        call    hex16
        .endm
        .macro  cmos index
        mov     al, \\index
        out     0x70, al
        in      al, 0x71
        mov     ah, 0
        call    hex16
        .endm
        .macro  sends port, value
        mov     al, \\value
        out     \\port, al
        .endm
"""
PIC = Program(
    _IN
    + """
        cli
        sends   0x21, 0xff              # nothing comes through, requests are kept
        sends   0xa1, 0xff
        shows   0x21
        shows   0xa1
        sends   0x20, 0x11              # initialise: vectors 20h and 28h
        sends   0xa0, 0x11
        sends   0x21, 0x20
        sends   0xa1, 0x28
        sends   0x21, 0x04
        sends   0xa1, 0x02
        sends   0x21, 0x01
        sends   0xa1, 0x01
        sends   0x21, 0xfe              # the timer alone
        sends   0xa1, 0xff
        mov     word ptr [0x20 * 4], offset timer
        mov     word ptr [0x20 * 4 + 2], 0
        sti
1:      hlt
        cmp     word ptr [count], 2
        jb      1b
        cli
        sends   0x20, 0x0b              # in service: nothing, all was acknowledged
        shows   0x20
        sends   0x21, 0xff
2:      sends   0x20, 0x0a              # wait for a request that is masked
        in      al, 0x20
        and     al, 1
        jz      2b
        mov     ah, 0
        call    hex16
        mov     dx, 0x4d0
        in      al, dx
        mov     ah, 0
        call    hex16
        inc     dx
        mov     al, 0xff
        out     dx, al
        in      al, dx
        call    hex16
""",
    data="""
timer:  push    ax
        inc     word ptr [count]
        mov     al, 0x0b                # in service: this one
        out     0x20, al
        in      al, 0x20
        mov     ah, 0
        call    hex16
        mov     al, 0x60                # its own end of interrupt
        out     0x20, al
        pop     ax
        iret
count:  .word   0
""",
)
PIT = Program(
    _IN
    + """
        cli
        sends   0x43, 0xb0              # counter 2, mode 0, gate closed
        in      al, 0x61
        and     al, 0xfc
        out     0x61, al
        sends   0x42, 0x34
        sends   0x42, 0x12
        sends   0x43, 0xe8              # status and count latched: nothing has been counted
        shows   0x42
        in      al, 0x61
        and     al, 0x20
        mov     ah, 0
        call    hex16
        in      al, 0x61                # gate open: OUT rises at the end of the count
        or      al, 1
        out     0x61, al
1:      in      al, 0x61
        test    al, 0x20
        jz      1b
        and     al, 0x23
        mov     ah, 0
        call    hex16
        sends   0x43, 0x34              # counter 0, mode 2, and its status
        sends   0x40, 0x00
        sends   0x40, 0x10
        sends   0x43, 0xe2
        in      al, 0x40
        and     al, 0x3f
        mov     ah, 0
        call    hex16
        mov     word ptr [0x1c * 4], offset tick
        mov     word ptr [0x1c * 4 + 2], 0
        sti
2:      hlt
        cmp     word ptr [count], 20
        jb      2b
        cli
        mov     ax, [count]
        call    hex16
        mov     cx, 1000
3:      sends   0x43, 0x00              # latched counts stay below the period
        in      al, 0x40
        mov     ah, al
        in      al, 0x40
        xchg    al, ah
        cmp     ax, 0x1000
        ja      4f
        loop    3b
4:      mov     ax, cx
        call    hex16
""",
    data="""
tick:   inc     word ptr cs:[count]
        iret
count:  .word   0
""",
)
CLOCK = Program(
    _IN
    + """
        .irp    index, 0x15, 0x16, 0x17, 0x18, 0x30, 0x31, 0x34, 0x35, 0x5b, 0x5f
        cmos    \\index
        .endr
        call    newline
        .irp    index, 0x0b, 0x0d, 0x07, 0x08, 0x09, 0x32, 0x04
        cmos    \\index
        .endr
        call    newline
        cli                             # periodic interrupts, 1024 a second
        mov     word ptr [0x70 * 4], offset clock
        mov     word ptr [0x70 * 4 + 2], 0
        in      al, 0xa1
        and     al, 0xfe
        out     0xa1, al
        sends   0x70, 0x0b
        sends   0x71, 0x42
        sends   0x70, 0x0c
        in      al, 0x71
        sti
1:      hlt
        cmp     word ptr [count], 50
        jb      1b
        cli
        cmos    0x0b
        sends   0x70, 0x0b
        sends   0x71, 0x12              # and once a second, when the time is updated
        mov     word ptr [count], 0
        sends   0x70, 0x0c
        in      al, 0x71
        sti
2:      hlt
        cmp     word ptr [count], 2
        jb      2b
        cli
        mov     ax, [reason]
        and     ax, 0x90
        call    hex16
        sends   0x70, 0x0b
        sends   0x71, 0x02
""",
    data="""
clock:  push    ax
        inc     word ptr [count]
        mov     al, 0x0c
        out     0x70, al
        in      al, 0x71
        mov     [reason], al
        mov     al, 0x20
        out     0xa0, al
        out     0x20, al
        pop     ax
        iret
count:  .word   0
reason: .word   0
""",
)
SERIAL = Program(
    """
        .macro  uart offset, value
        mov     dx, 0x3f8 + \\offset
        mov     al, \\value
        out     dx, al
        .endm
        .macro  shows offset
        mov     dx, 0x3f8 + \\offset
        in      al, dx
        mov     ah, 0
        call    hex16
        .endm
        uart    1, 0
        uart    3, 0x80
        uart    0, 3
        uart    1, 0
        shows   0
        uart    3, 3
        shows   3
        uart    2, 0xc7
        uart    7, 0x5a
        shows   7
        shows   5
        call    newline
        uart    4, 0x1e                 # loopback: modem inputs, then a byte
        mov     dx, 0x3fe
        in      al, dx
        shows   6
        uart    0, 0x41
        shows   5
        shows   0
        shows   5
        uart    4, 0x0b
        call    newline
        mov     word ptr [0x0c * 4], offset serial
        mov     word ptr [0x0c * 4 + 2], 0
        in      al, 0x21
        and     al, 0xef
        out     0x21, al
        sti
        uart    1, 2                    # the transmitter is empty: an interrupt at once
1:      hlt
        cmp     word ptr [count], 5
        jb      1b
        cli
        uart    1, 0
        mov     ax, [cause]
        call    hex16
        shows   2
""",
    data="""
serial: push    ax
        push    dx
        mov     dx, 0x3fa
        in      al, dx
        mov     [cause], al
        inc     word ptr [count]
        mov     al, 'a' - 1
        add     al, [count]
        cmp     al, 'e'
        ja      1f
        mov     dx, 0x3f8
        out     dx, al
1:      mov     al, 0x20
        out     0x20, al
        pop     dx
        pop     ax
        iret
count:  .word   0
cause:  .word   0
""",
)
KEYBOARD = Program(
    _IN
    + """
        .macro  command value
1:      in      al, 0x64
        test    al, 2
        jnz     1b
        mov     al, \\value
        out     0x64, al
        .endm
        .macro  answer
2:      in      al, 0x64
        test    al, 1
        jz      2b
        in      al, 0x60
        mov     ah, 0
        call    hex16
        .endm
        cli
        command 0xad                    # no keys meanwhile
        command 0xaa
        answer
        command 0xab
        answer
        command 0x60
        sends   0x60, 0x25
        command 0x20
        answer
        command 0xd2                    # as if a key had come
        sends   0x60, 0x1e
        answer
        command 0xae
        call    newline
        sends   0x60, 0xee              # the keyboard's own commands
        answer
        sends   0x60, 0xf5
        answer
        sends   0x60, 0xf4
        answer
        sends   0x60, 0xf3
        answer
        sends   0x60, 0x00
        answer
        sends   0x60, 0xed
        answer
        sends   0x60, 0x00
        answer
        call    newline
        command 0x60
        sends   0x60, 0x65
"""
)
A20 = Program(
    _IN
    + """
        .macro  wraps                   # 1 if 1 MiB is the same as 0
        mov     ax, 0xffff
        mov     es, ax
        mov     ax, [0x500]
        not     ax
        mov     es:[0x510], ax
        cmp     [0x500], ax
        mov     ax, 0
        jne     3f
        inc     ax
3:      call    hex16
        .endm
        wraps
        mov     ax, 0x2400
        int     0x15
        wraps
        in      al, 0x92
        and     al, 2
        mov     ah, 0
        call    hex16
        mov     ax, 0x2402
        int     0x15
        call    hex16
        in      al, 0x92
        or      al, 2
        out     0x92, al
        wraps
        in      al, 0x92
        and     al, 0xfd
        out     0x92, al
        wraps
        cli
        mov     al, 0xd1
        out     0x64, al
        mov     al, 0xdf
        out     0x60, al
        wraps
        mov     ax, 0x2401
        int     0x15
        mov     ax, 0x2402
        int     0x15
        call    hex16
"""
)
GUESTS = {name: value for name, value in sorted(globals().items()) if isinstance(value, Program)}
"""The programs by name."""
