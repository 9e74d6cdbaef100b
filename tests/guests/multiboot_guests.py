# SPDX-License-Identifier: GPL-2.0-only
"""Multiboot kernels that look closely at what they are told.

`TAGS` goes through the version 2 information and holds every tag against the specification: it
tells on COM1 a letter for each that is right ('a' for type 0, 'b' for type 1, ...), the first byte
of every module behind its letter, and '!' at the first that is wrong. `MODULES` prints what
version 1 says of modules, for a comparison with QEMU. `elf32` packs code into a kernel with
sections."""

from __future__ import annotations

import struct

from .assembled import flat

BASE = 0x100000
_HEADER_2 = """
        .long   0xe85250d6, 0, 2f - 1b, -(0xe85250d6 + (2f - 1b))
        .word   1, 0                    # all of this is wanted
        .long   8 + 4 * 9, 1, 2, 3, 4, 6, 8, 9, 14, 15
        .balign 8
        .word   4, 0
        .long   12, 3
        .balign 8
        .word   6, 0                    # modules on pages of their own
        .long   8
        .word   0, 0
        .long   8
2:
"""
TAGS = """
1:
HEADER
entry:  cld
        mov     esp, 0x90000
        cmp     eax, 0x36d76289
        jne     wrong
        test    ebx, 7
        jnz     wrong
        cmp     dword ptr [ebx + 4], 0
        jne     wrong
        mov     ebp, [ebx]              # EBP: behind the last tag
        test    ebp, 7
        jnz     wrong
        add     ebp, ebx
        lea     esi, [ebx + 8]          # ESI: the tag
next:   mov     eax, [esi]
        mov     ecx, [esi + 4]          # ECX: its size
        cmp     ecx, 8
        jb      wrong
        lea     edx, [esi + ecx]
        cmp     edx, ebp
        ja      wrong
        cmp     eax, 22
        jae     wrong
        jmp     [table + eax * 4]
good:   mov     al, [esi]
        add     al, 'a'
        call    put
        add     ecx, 7
        and     ecx, -8
        add     esi, ecx
        jmp     next
wrong:  mov     al, '!'
        call    put
done:   cli
1:      hlt
        jmp     1b
put:    mov     dx, 0x3f8
        out     dx, al
        ret
last:   cmp     ecx, 8
        jne     wrong
        mov     eax, [upper]            # both tags have said the same
        test    eax, eax
        jz      wrong
        cmp     eax, [mapped]
        jne     wrong
        lea     edx, [esi + 8]
        cmp     edx, ebp
        jne     wrong
        mov     al, 'a'
        call    put
        jmp     done
text:   lea     edi, [esi + 8]          # it ends where the tag does, with its only zero
string: mov     edx, ecx
        lea     ecx, [esi + ecx]
        sub     ecx, edi
        jbe     wrong
        mov     al, 0
        repne scasb
        jne     wrong
        test    ecx, ecx
        jnz     wrong
        mov     ecx, edx
        jmp     good
module: mov     edi, [esi + 8]
        test    edi, 0xfff
        jnz     wrong
        cmp     edi, [esi + 12]
        jae     wrong
        mov     al, [edi]
        call    put
        lea     edi, [esi + 16]
        jmp     string
memory: cmp     ecx, 16
        jne     wrong
        cmp     dword ptr [esi + 8], 639
        jne     wrong
        mov     eax, [esi + 12]
        mov     [upper], eax
        jmp     good
map:    cmp     dword ptr [esi + 8], 24
        jne     wrong
        cmp     dword ptr [esi + 12], 0
        jne     wrong
        lea     edi, [esi + 16]
        lea     ebx, [esi + ecx]
        xor     edx, edx                # what lies below the entry
1:      cmp     edi, ebx
        je      3f
        ja      wrong
        cmp     dword ptr [edi + 20], 0
        jne     wrong
        cmp     dword ptr [edi + 16], 5
        ja      wrong
        cmp     dword ptr [edi + 16], 0
        je      wrong
        cmp     dword ptr [edi + 4], 0
        jne     2f
        cmp     [edi], edx
        jb      wrong
        mov     edx, [edi]
        cmp     edx, 0x100000
        jne     2f
        mov     eax, [edi + 8]
        shr     eax, 10
        mov     [mapped], eax
2:      add     edi, 24
        jmp     1b
3:      jmp     good
base:   cmp     ecx, 12
        jne     wrong
        jmp     good
apm:    cmp     ecx, 28
        jne     wrong
        jmp     good
screen: cmp     ecx, 32
        jb      wrong
        cmp     dword ptr [esi + 12], 0
        jne     wrong
        cmp     byte ptr [esi + 29], 2
        jne     wrong
        movzx   eax, byte ptr [esi + 28]
        shr     eax, 3
        imul    eax, [esi + 20]
        cmp     eax, [esi + 16]
        jne     wrong
        mov     edi, [esi + 8]          # it can be written
        imul    eax, [esi + 24]
        cmp     eax, 4000
        jne     wrong
        mov     word ptr [edi + eax - 2], 0x072a
        jmp     good
elf:    mov     eax, [esi + 8]
        imul    eax, [esi + 12]
        add     eax, 20
        cmp     eax, ecx
        jne     wrong
        mov     eax, [esi + 16]
        cmp     eax, [esi + 8]
        jae     wrong
        imul    eax, [esi + 12]
        mov     ebx, [esi + eax + 20 + 12]      # the section with the names
        mov     edi, [esi + eax + 20]
        cmp     dword ptr [ebx + edi], 0x7368732e       # .shs
        jne     wrong
        lea     edi, [esi + 20]
        mov     edx, [esi + 8]
1:      cmp     dword ptr [edi + 4], 2          # the symbols
        je      2f
        add     edi, [esi + 12]
        dec     edx
        jnz     1b
        jmp     wrong
2:      mov     eax, [edi + 24]                 # their names
        imul    eax, [esi + 12]
        mov     edx, [esi + eax + 20 + 12]
        mov     eax, [edi + 12]
        cmp     dword ptr [eax + 16 + 4], offset entry
        jne     wrong
        add     edx, [eax + 16]
        cmp     dword ptr [edx], 0x72746e65     # entr
        jne     wrong
        jmp     good
old:    cmp     ecx, 28
        jne     wrong
        mov     edx, 20
        jmp     sum
new:    cmp     ecx, 44
        jne     wrong
        cmp     byte ptr [esi + 8 + 15], 2
        jb      wrong
        mov     edx, [esi + 8 + 20]
sum:    cmp     dword ptr [esi + 8], 0x20445352 # RSD
        jne     wrong
        cmp     dword ptr [esi + 12], 0x20525450
        jne     wrong
        xor     eax, eax
1:      add     al, [esi + 7 + edx]
        dec     edx
        jnz     1b
        test    al, al
        jnz     wrong
        jmp     good
        .balign 4
table:  .long   last, text, text, module, memory, wrong, map, wrong
        .long   screen, elf, apm, wrong, wrong, wrong, old, new
        .long   wrong, wrong, wrong, wrong, wrong, base
upper:  .long   0
mapped: .long   0
""".replace("HEADER", _HEADER_2)
MODULES = """
        .long   0x1badb002, 0x10003, -(0x1badb002 + 0x10003)
        .long   0x100000, 0x100000, 0, 0, 0x100020
entry:  mov     esp, 0x90000
        cld
        mov     dx, 0x3f8
        test    byte ptr [ebx], 8
        jz      9f
        mov     ecx, [ebx + 20]
        mov     al, cl
        add     al, '0'
        out     dx, al
        mov     edi, [ebx + 24]
1:      jecxz   9f
        mov     esi, [edi]
        test    esi, 0xfff
        jnz     9f
        mov     ebx, [edi + 4]
2:      lodsb                           # all of it
        out     dx, al
        cmp     esi, ebx
        jb      2b
        mov     esi, [edi + 8]
3:      lodsb                           # and its line
        out     dx, al
        test    al, al
        jnz     3b
        mov     eax, [edi + 12]
        out     dx, al
        add     edi, 16
        dec     ecx
        jmp     1b
9:      cli
4:      hlt
        jmp     4b
"""


def code(text: str) -> bytes:
    """A kernel's code, for `BASE`."""
    for letter in "a!0":
        text = text.replace(f"'{letter}'", hex(ord(letter)))
    return flat(f".code32\n{text}", BASE)


def elf32(program: bytes, entry: int) -> bytes:
    """An i386 executable with `program` at `BASE` and a symbol table in which `entry` is."""
    names = b"\0.text\0.symtab\0.strtab\0.shstrtab\0"
    strings = b"\0entry\0"
    symbols = bytes(16) + struct.pack("<3I2BH", 1, entry, 0, 0x12, 0, 1)
    parts, offset = [], 0x1000
    for data in (program, symbols, strings, names):
        parts.append((offset, data))
        offset += -(-len(data) // 16) * 16
    table = offset
    rows = [(1, 1, 6, BASE, 0), (7, 2, 0, 0, 3), (15, 3, 0, 0, 0), (23, 3, 0, 0, 0)]
    headers = bytes(40)
    for (name, kind, flags, address, link), (at, data) in zip(rows, parts, strict=True):
        size = 16 if kind == 2 else 0
        headers += struct.pack(
            "<10I", name, kind, flags, address, at, len(data), link, link and 1, 16, size
        )
    head = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    head += struct.pack("<2H5I6H", 2, 3, 1, entry, 52, table, 0, 52, 32, 1, 40, 5, 4)
    head += struct.pack("<8I", 1, 0x1000, BASE, BASE, len(program), len(program), 7, 0x1000)
    image = bytearray(head.ljust(table, b"\0"))
    for at, data in parts:
        image[at : at + len(data)] = data
    return bytes(image + headers)
