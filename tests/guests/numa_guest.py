# SPDX-License-Identifier: GPL-2.0-only
"""A disk guest that brings up every CPU by INIT-SIPI-SIPI and has each ask for a page of its node.

It runs beside the page allocator: in 32-bit protected mode without paging, every CPU finds its
mailbox by CPUID, asks for one order-0 page that must come from its own node, and leaves the frame
number at `RESULTS`, indexed by CPU. CPU 0 tells them on COM1, one line each, when all are there."""

from __future__ import annotations

from allocator.gfp import GFP_KERNEL, GFP_THISNODE_BIT
from allocator.hypercall import HYPERCALLS
from machine import DOORBELL_PORT

from .assembled import boot_image

RESULTS, COUNT, TRAMPOLINE = 0x9000, 0x8F00, 0x8000

_SOURCE = f"""
        cli
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7c00
        mov     ax, 0x0203
        mov     bx, 0x7e00
        mov     cx, 2
        mov     dh, 0
        int     0x13
        cli
        mov     si, offset ap_start     # the APs begin on a page below 1 MiB
        mov     di, {TRAMPOLINE}
        mov     cx, 64
        rep movsb
        lgdt    [table]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        .byte   0x66, 0xea              # jmp far 8:boot32
        .long   boot32
        .word   8
        .org    512
ap_start:
        cli
        xor     ax, ax
        mov     ds, ax
        lgdt    [table]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        .byte   0x66, 0xea              # jmp far 8:ap32
        .long   ap32
        .word   8

        .balign 8
gdt:    .quad   0, 0x00cf9b000000ffff, 0x00cf93000000ffff
table:  .word   23
        .long   gdt

        .code32
boot32: mov     ax, 16
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     esp, 0x7c00
        mov     esi, 0xfee00000
        or      dword ptr [esi + 0xf0], 0x100
        mov     dword ptr [esi + 0x300], 0xc4500        # INIT to all others
        mov     ecx, 10000
1:      loop    1b
        mov     dword ptr [esi + 0x300], 0xc4600 + {TRAMPOLINE >> 12}
        mov     ecx, 2000
1:      loop    1b
        mov     dword ptr [esi + 0x300], 0xc4600 + {TRAMPOLINE >> 12}
        call    allocate
        mov     eax, 1
        cpuid
        shr     ebx, 16
        movzx   ebx, bl                 # CPUs of the machine
2:      pause
        cmp     [{COUNT}], ebx
        jb      2b
        mov     ecx, 0
3:      mov     eax, [{RESULTS} + ecx * 8]
        call    tell
        inc     ecx
        cmp     ecx, ebx
        jb      3b
9:      cli
        hlt
        jmp     9b

ap32:   mov     ax, 16
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     eax, 1                  # a stack of its own: by its APIC id
        cpuid
        shr     ebx, 24
        shl     ebx, 8
        lea     esp, [ebx + 0x9f00]
        call    allocate
        jmp     9b

allocate:
        mov     eax, 0x40000001
        cpuid
        mov     edi, edx                # this CPU
        mov     esi, ebx                # its mailbox
        mov     dword ptr [esi], {HYPERCALLS["ALLOC_PAGES"]}
        mov     dword ptr [esi + 4], 0
        mov     dword ptr [esi + 8], {GFP_KERNEL | GFP_THISNODE_BIT:#x}
        mov     dword ptr [esi + 12], 0
        mov     dword ptr [esi + 16], 0
        mov     dword ptr [esi + 20], 0
        mov     dword ptr [esi + 24], -1
        mov     dword ptr [esi + 28], -1
        mov     dword ptr [esi + 32], 0
        mov     dword ptr [esi + 36], 0
        mov     dx, {DOORBELL_PORT:#x}
        out     dx, eax
        mov     eax, [esi + 56]
        cmp     dword ptr [esi + 64], 0
        je      1f
        mov     eax, -1
1:      mov     [{RESULTS} + edi * 8], eax
        lock inc dword ptr [{COUNT}]
        ret

tell:   push    ecx                     # EAX in hexadecimal
        mov     ecx, 8
        mov     edx, 0x3f8
1:      rol     eax, 4
        push    eax
        and     al, 15
        add     al, 0x90
        daa
        adc     al, 0x40
        daa
        out     dx, al
        pop     eax
        loop    1b
        mov     al, 10
        out     dx, al
        pop     ecx
        ret
"""


def image() -> bytes:
    """The disk image."""
    return boot_image(_SOURCE, 4)
