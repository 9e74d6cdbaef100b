# SPDX-License-Identifier: GPL-2.0-only
"""Guests that let the processor switch tasks: JMP, CALL and IRET, task gates, exceptions that come
to a task of their own, and what is wrong with a task state segment."""

from __future__ import annotations

from .cpu_common import TO_PROTECTED

_SET_UP = """
    .macro  tss at, start, stack
    mov     dword ptr [\\at + 0x20], offset \\start
    mov     dword ptr [\\at + 0x24], 2
    mov     dword ptr [\\at + 0x38], \\stack
    mov     dword ptr [\\at + 0x28], 0x600d
    mov     dword ptr [\\at + 0x48], 0x10
    mov     dword ptr [\\at + 0x4c], 8
    mov     dword ptr [\\at + 0x50], 0x10
    mov     dword ptr [\\at + 0x54], 0x10
    mov     dword ptr [\\at + 0x58], 0x10
    mov     dword ptr [\\at + 0x5c], 0
    mov     dword ptr [\\at + 0x64], 0x680000
    .endm
    .macro  entry place, low, high
    mov     dword ptr [0x14000 + \\place], \\low
    mov     dword ptr [0x14004 + \\place], \\high
    .endm
    .macro  busy selector
    mov     al, [0x14005 + \\selector]
    call    digit
    .endm
    mov     esi, offset gdt
    mov     edi, 0x14000
    mov     ecx, 28
    rep movsd
    entry   0x70, 0xc0000067, 0x00008901        # a task at 0x1c000
    entry   0x78, 0x00700000, 0x0000e500        # a gate to it
    entry   0x80, 0xd0000067, 0x00008901        # one for exceptions, at 0x1d000
    entry   0x88, 0xe0000067, 0x00000901        # not there
    entry   0x90, 0xe0000050, 0x00008901        # too short
    entry   0x98, 0xe0000067, 0x00008901        # one with a bad stack segment
    entry   0xa0, 0xf000002b, 0x00008101        # a 16-bit one at 0x1f000
    tss     0x1c000, task, 0x60000
    tss     0x1d000, trouble, 0x58000
    tss     0x1e000, never, 0x50000
    mov     dword ptr [0x1e050], 0x18
    lgdt    [big]
    gate    0x10000, 0x41, reply, 8, 0x8e00
    gate    0x10000, 10, fault, 8, 0x8e00
    gate    0x10000, 11, fault, 8, 0x8e00
    gate    0x10000, 13, fault, 8, 0x8e00
    mov     dword ptr [0x10000 + 0x40 * 8], 0x00700000
    mov     dword ptr [0x10004 + 0x40 * 8], 0x0000e500
    lidt    [idtr]
    mov     ax, 0x28
    ltr     ax
    jmp     main
big: .word  0xa7
    .long   0x14000
digit:
    shr     al, 1                               # the bit that says: busy
    and     al, 1
    add     al, '0'
    mov     dx, 0x3f8
    out     dx, al
    ret
task:
    cmp     eax, 0x600d                         # as the segment says
    jne     wrong
    pushfd
    mov     al, 'n'                             # nested, and the flag that is left by a switch
    test    byte ptr [esp + 1], 0x40
    jnz     1f
    mov     al, '-'
1:  mov     dx, 0x3f8
    out     dx, al
    pop     eax
    mov     eax, cr0
    shr     eax, 3
    and     al, 1
    add     al, '0'
    out     dx, al
    clts
    str     ax
    cmp     ax, 0x70
    jne     wrong
    busy    0x28
    busy    0x70
    mov     ax, [0x1c000]                       # where it came from
    shr     al, 3
    add     al, '0'
    mov     dx, 0x3f8
    out     dx, al
    mov     eax, 0x600d
    cmp     ebx, 1
    je      2f
    iretd
    jmp     task
2:  xor     ebx, ebx
    ljmp    0x28, 0
    jmp     task
never: tell '?'
reply: iretd
wrong: tell '!'
    cli
1:  hlt
    jmp     1b
"""
TASKS = (
    TO_PROTECTED
    + _SET_UP
    + """
main:
    mov     dword ptr [0x1c034], 1              # EBX: it is to jump back
    ljmp    0x70, 0
    tell    'j'
    mov     eax, cr0
    test    al, 8
    jz      wrong
    busy    0x28
    busy    0x70
    lcall   0x70, 0
    tell    'c'
    busy    0x28
    busy    0x70
    lcall   0x78, 0x1234
    tell    'g'
    mov     ecx, 0x1234
    stc
    int     0x40
    jnc     wrong
    cmp     ecx, 0x1234
    jne     wrong
    tell    'i'
    busy    0x28
    busy    0x70
    push    0x23                                # and from ring 3
    push    0x50000
    pushfd
    push    0x1b
    mov     eax, offset user
    push    eax
    mov     dword ptr [0x18004], 0x68000
    mov     dword ptr [0x18008], 0x10
    mov     byte ptr [0x10005 + 0x42 * 8], 0xee
    mov     dword ptr [0x10000 + 0x42 * 8], offset back
    mov     word ptr [0x10006 + 0x42 * 8], 0
    mov     word ptr [0x10002 + 0x42 * 8], 8
    iretd
user:
    int     0x40
    mov     ax, cs
    and     al, 3
    cmp     al, 3
    jne     user
    int     0x42
back:
    mov     ax, 0x10
    mov     ds, ax
    mov     es, ax
    tell    'u'
    ljmp    0x28, 0                             # busy
    ljmp    0x88, 0
    lcall   0x90, 0
    ljmp    0x10, 0
    tell    'e'
    jmp     end
fault:
    push    eax
    push    edx
    mov     eax, [esp + 8]
    shr     eax, 3
    add     al, '0'
    mov     dx, 0x3f8
    out     dx, al
    add     dword ptr [esp + 12], 7             # over a far jump
    pop     edx
    pop     eax
    add     esp, 4
    iretd
trouble:
    hlt
end:
"""
)
TASK_FAULTS = (
    TO_PROTECTED
    + _SET_UP
    + """
main:
    mov     dword ptr [0x10000 + 13 * 8], 0x00800000    # #GP has a task
    mov     byte ptr [0x10005 + 13 * 8], 0x85
    mov     ecx, 0x4321
    mov     ebp, esp
    mov     ax, 0xf8
    mov     fs, eax
back:
    tell    'b'
    cmp     ecx, 0x4321
    jne     wrong
    cmp     ebp, esp
    jne     wrong
    mov     byte ptr [0x10005 + 8 * 8], 0x85
    mov     dword ptr [0x10000 + 8 * 8], 0x00800000     # a double fault
    mov     dword ptr [0x10000 + 13 * 8], 0x00f80000    # as #GP has no code segment
    mov     byte ptr [0x10005 + 13 * 8], 0x8e
    mov     dword ptr [0x1d020], offset doubled
    mov     dword ptr [0x1d038], 0x58000
    mov     byte ptr [0x14085], 0x89
    mov     esp, 0x100
    mov     fs, eax
    jmp     wrong
trouble:
    mov     eax, [esp]                          # the error code
    shr     eax, 3
    add     al, '0'
    mov     dx, 0x3f8
    out     dx, al
    mov     eax, esp
    shr     eax, 12
    sub     al, 0x20
    out     dx, al
    busy    0x28
    busy    0x80
    mov     ebx, [0x18020]
    cmp     word ptr [ebx], 0xe08e              # at the instruction
    jne     wrong
    mov     dword ptr [0x18020], offset back
    add     esp, 4
    iretd
fault:
    tell    '!'
doubled:
    mov     al, [esp]
    add     al, 'd'
    mov     dx, 0x3f8
    out     dx, al
    str     ax
    shr     al, 3
    add     al, '0'
    out     dx, al
    mov     eax, [0x18038]
    cmp     eax, 0x100
    jne     wrong
    mov     ebx, [0x18020]
    cmp     word ptr [ebx], 0xe08e
    jne     wrong
    tell    'D'
"""
)
TASK_PAGES = (
    TO_PROTECTED
    + _SET_UP
    + """
main:
    mov     dword ptr [0x20000], 0x83           # one to one, and a page at 4 MiB + 5000h
    mov     dword ptr [0x20004], 0x21003
    mov     dword ptr [0x21014], 0x30003
    mov     dword ptr [0x22000], 0x83           # the other task has another one there
    mov     dword ptr [0x22004], 0x23003
    mov     dword ptr [0x23014], 0x31003
    mov     dword ptr [0x30000], 0x61           # 'a'
    mov     dword ptr [0x31000], 0x62
    mov     dword ptr [0x1c01c], 0x22000
    mov     dword ptr [0x1d01c], 0x22000
    mov     dword ptr [0x1801c], 0x20000
    mov     eax, cr4
    or      al, 0x10
    mov     cr4, eax
    mov     eax, 0x20000
    mov     cr3, eax
    mov     eax, cr0
    or      eax, 0x80010000
    mov     cr0, eax
    mov     dword ptr [0x1c020], offset other
    mov     dx, 0x3f8
    mov     al, [0x405000]
    out     dx, al
    int     0x40
    mov     al, [0x405000]
    out     dx, al
    int     0x40
    mov     al, [0x405000]
    out     dx, al
    mov     dword ptr [0x10000 + 8 * 8], 0x00800000
    mov     byte ptr [0x10005 + 8 * 8], 0x85
    gate    0x10000, 14, never, 8, 0x8e00
    mov     esp, 0x405008                       # the stack runs into a page that is not there
    mov     ecx, 10
1:  push    ecx
    loop    1b
other:
    mov     dx, 0x3f8
    mov     al, [0x405000]
    out     dx, al
    inc     byte ptr [0x405000]
    iretd
    jmp     other
trouble:
    mov     al, [esp]
    add     al, 'd'
    mov     dx, 0x3f8
    out     dx, al
    mov     eax, cr2
    shr     eax, 12
    and     al, 15
    add     al, '0'
    out     dx, al
    mov     eax, cr3
    shr     eax, 12
    add     al, '0'
    out     dx, al
    mov     al, [0x405000]
    out     dx, al
    mov     eax, [0x1801c]
    shr     eax, 12
    add     al, '0'
    out     dx, al
    jmp     end
fault:
end:
    mov     eax, cr0
    and     eax, 0x7fffffff
    mov     cr0, eax
"""
)
