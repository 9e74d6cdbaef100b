# SPDX-License-Identifier: GPL-2.0-only
"""Guests that program the rest of the board: PCI, the screen's registers, ACPI's timer, HPET."""

from __future__ import annotations

from .pc_program import Program

PCI = Program(
    """
        .macro  config place
        mov     dx, 0xcf8
        mov     eax, 0x80000000 + \\place
        out     dx, eax
        mov     dx, 0xcfc
        in      eax, dx
        push    eax
        shr     eax, 16
        call    hex16
        pop     eax
        call    hex16
        .endm
        .irp    place, 0x0000, 0x0008, 0x0800, 0x0808, 0x0b00, 0x0b08, 0x0b40, 0xf800
        config  \\place
        .endr
        call    newline
        mov     dx, 0xcfd               # bytes and words out of the middle
        mov     eax, 0
        in      al, dx
        call    hex16
        mov     dx, 0xcf8
        mov     eax, 0x80000800
        out     dx, eax
        mov     dx, 0xcfe
        in      ax, dx
        call    hex16
        mov     dx, 0xcf8
        mov     eax, 0
        out     dx, eax
        mov     dx, 0xcfc
        in      ax, dx
        call    hex16
"""
)
CURSOR = Program(
    """
        .macro  crtc index
        mov     dx, 0x3d4
        mov     al, \\index
        out     dx, al
        inc     dx
        in      al, dx
        mov     ah, 0
        push    ax
        .endm
        mov     ah, 2
        mov     bh, 0
        mov     dx, 0x0a05
        int     0x10
        crtc    0x0e
        crtc    0x0f
        mov     dx, 0x3d4               # moved behind the BIOS's back
        mov     ax, 0x030e
        out     dx, ax
        mov     ax, 0x210f
        out     dx, ax
        crtc    0x0e
        crtc    0x0f
        crtc    0x0c
        crtc    0x0d
        crtc    0x01
        crtc    0x09
        mov     cx, 8
1:      pop     ax
        call    hex16
        loop    1b
        mov     dx, 0x3da
2:      in      al, dx                  # retrace comes and goes
        test    al, 8
        jz      2b
3:      in      al, dx
        test    al, 8
        jnz     3b
        mov     dx, 0x3c0
        mov     al, 0x30
        out     dx, al
        inc     dx
        in      al, dx
        mov     ah, 0
        call    hex16
"""
)
PM_TIMER = Program(
    """
        mov     dx, 0x608
        in      eax, dx
        mov     ecx, eax
        shr     eax, 24
        call    hex16
1:      in      eax, dx                 # it counts on
        sub     eax, ecx
        and     eax, 0xffffff
        cmp     eax, 1000
        jb      1b
        cmp     eax, 1000000
        sbb     ax, ax
        call    hex16
        mov     dx, 0x604
        in      ax, dx
        and     ax, 0x2000
        call    hex16
"""
)
HPET = Program(
    """
        cli                             # unreal mode, to reach 0xfed00000
        lgdt    [table]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        mov     bx, 8
        mov     ds, bx
        and     al, 0xfe
        mov     cr0, eax
        xor     bx, bx
        mov     ds, bx
        mov     esi, 0xfed00000
        mov     eax, [esi]
        push    eax
        mov     eax, [esi + 4]
        push    eax
        mov     dword ptr [esi + 0x10], 0
        mov     dword ptr [esi + 0xf0], 0
        mov     dword ptr [esi + 0xf4], 0
        mov     dword ptr [esi + 0x10], 1
1:      mov     ecx, [esi + 0xf0]       # a hundred million a second
        cmp     ecx, 100000
        jb      1b
        mov     dword ptr [esi + 0x10], 0
        mov     eax, [esi + 0xf0]
        sub     eax, [esi + 0xf0]
        call    hex16
        mov     cx, 4
2:      pop     ax
        call    hex16
        loop    2b
""",
    data="""
        .balign 8
table:  .word   15
        .long   gdt
        .balign 8
gdt:    .quad   0, 0x00cf93000000ffff
""",
)

GUESTS = {name: value for name, value in sorted(globals().items()) if isinstance(value, Program)}
"""The programs by name."""
