# SPDX-License-Identifier: GPL-2.0-only
"""What the guests that try out the processor have in common: the way into each mode, the tables,
and a loader for the sectors behind the first. In the sources 'x' is the code of a letter."""

from __future__ import annotations

import re

from .assembled import boot_image

SECTORS = 8

_HEAD = """
    .macro  tell letter
    mov     al, \\letter
    mov     dx, 0x3f8
    out     dx, al
    .endm
    .macro  gate table, vector, handler, selector, flags
    mov     eax, offset \\handler
    mov     edi, \\table + \\vector * 8
    mov     [edi], ax
    mov     word ptr [edi + 2], \\selector
    mov     word ptr [edi + 4], \\flags
    shr     eax, 16
    mov     [edi + 6], ax
    .endm
    .macro  gate64 table, vector, handler, selector, flags
    mov     eax, offset \\handler
    mov     edi, \\table + \\vector * 16
    mov     [rdi], ax
    mov     word ptr [rdi + 2], \\selector
    mov     word ptr [rdi + 4], \\flags
    shr     eax, 16
    mov     [rdi + 6], eax
    mov     dword ptr [rdi + 12], 0
    .endm
start:
    cli
    xor     ax, ax
    mov     ds, ax
    mov     es, ax
    mov     ss, ax
    mov     sp, 0x7c00
    mov     ax, 0x0200 + (SECTORS - 1)
    mov     bx, 0x7e00
    mov     cx, 2
    xor     dh, dh
    int     0x13
    cli
    jc      start
    jmp     second
    .org    512
second:
""".replace("SECTORS", str(SECTORS))
_END = """
    cli
1:  hlt
    jmp     1b
"""
TO_PROTECTED = """
    lgdt    [gdtr]
    mov     eax, cr0
    or      al, 1
    mov     cr0, eax
    ljmp    0x08, offset protected
    .code32
protected:
    mov     ax, 0x10
    mov     ds, ax
    mov     es, ax
    mov     ss, ax
    mov     esp, 0x70000
    mov     edi, 0x10000
    xor     eax, eax
    mov     ecx, 0x8000
    rep stosd
"""
_TABLES = """
    .balign 8
gdt:.quad   0, 0x00cf9a000000ffff, 0x00cf92000000ffff   # 08 10: code and data, 32 bits
    .quad   0x00cffa000000ffff, 0x00cff2000000ffff      # 1b 23: the same for ring 3
    .quad   0x0000890180002067                          # 28: TSS at 0x18000
    .quad   0x00af9a000000ffff, 0x00cf92000000ffff      # 30 38: 64-bit code, data
    .quad   0x00009a000000ffff, 0x000092000000ffff      # 40 48: 16-bit code and data
    .quad   0x00cff2000000ffff, 0x00affa000000ffff      # 53 5b: ring 3 for SYSRET
    .quad   0x0000890180002067, 0                       # 60: the TSS again, as long mode has it
gdtr: .word 111
    .long   gdt
idtr: .word 0x7ff
    .long   0x10000
idtr64: .word 0xfff
    .quad   0x10000
ivtr: .word 0x3ff
    .long   0
"""

TO_LONG = (
    TO_PROTECTED
    + """
    mov     dword ptr [0x20000], 0x21003
    mov     dword ptr [0x21000], 0x22003
    mov     dword ptr [0x21018], 0x23003
    mov     dword ptr [0x22000], 0x83
    mov     dword ptr [0x23fb8], 0xfee00083         # the local APIC's 2 MiB
    mov     dword ptr [0x23fb0], 0xfec00083         # the I/O APIC's
    mov     eax, cr4
    or      eax, 0x220
    mov     cr4, eax
    mov     eax, 0x20000
    mov     cr3, eax
    mov     ecx, 0xc0000080
    rdmsr
    or      eax, 0x901
    wrmsr
    mov     eax, cr0
    or      eax, 0x80010000
    mov     cr0, eax
    ljmp    0x30, offset long_mode
    .code64
long_mode:
    mov     ax, 0x38
    mov     ss, ax
    mov     ds, ax
    mov     es, ax
    mov     rsp, 0x70000
"""
)


def image(text: str) -> bytes:
    """The disk image of a guest."""
    text = re.sub(r"'(.)'", lambda match: hex(ord(match[1])), _HEAD + text + _END)
    return boot_image(text + _TABLES, SECTORS)
