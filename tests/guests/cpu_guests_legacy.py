# SPDX-License-Identifier: GPL-2.0-only
"""Guests that try out real, unreal, protected and virtual-8086 mode, 32-bit paging and PAE."""

from __future__ import annotations

from .cpu_common import TO_PROTECTED

REAL_MODE = """
    mov     word ptr [0x60 * 4], offset service     # INT n and IRET, flags kept
    mov     word ptr [0x60 * 4 + 2], 0
    stc
    int     0x60
    jnc     wrong
    tell    'i'
    mov     word ptr [0], offset divided            # the return address is the DIV's own
    mov     word ptr [2], 0
    xor     cx, cx
    xor     dx, dx
    mov     ax, 1
first_div: div cx
    tell    'd'
    mov     word ptr [4 * 4], offset overflowed
    mov     word ptr [4 * 4 + 2], 0
    mov     al, 0x7f
    add     al, 1
    into
    tell    'o'
    mov     word ptr [3 * 4], offset stepped
    mov     word ptr [3 * 4 + 2], 0
    int3
    tell    'b'
    mov     word ptr [6 * 4], offset undefined
    mov     word ptr [6 * 4 + 2], 0
first_ud: ud2
    tell    'u'
    mov     word ptr [1 * 4], offset traced          # single step: three instructions
    mov     word ptr [1 * 4 + 2], 0
    xor     cx, cx
    pushf
    pop     ax
    or      ah, 1
    push    ax
    popf
    nop
    nop
    pushf
    pop     ax
    and     ah, 0xfe
    push    ax
    popf
    mov     al, cl
    add     al, '0'
    mov     dx, 0x3f8
    out     dx, al
    tell    't'
    mov     sp, 0x7c00
    push    0x1234                                   # the segment limit of real mode
    mov     word ptr [13 * 4], offset limited
    mov     word ptr [13 * 4 + 2], 0
    mov     ebx, 0x12345
first_gp: mov al, [ebx]
    tell    'g'
    jmp     end
service: push bp
    mov     bp, sp
    or      word ptr [bp + 6], 1
    pop     bp
    iret
divided: mov bp, sp
    cmp     word ptr [bp], offset first_div
    jne     wrong
    mov     cx, 1
    iret
overflowed: tell 'O'
    iret
stepped: tell 'B'
    iret
undefined: mov bp, sp
    cmp     word ptr [bp], offset first_ud
    jne     wrong
    add     word ptr [bp], 2
    iret
traced: inc cx
    iret
limited: mov bp, sp
    cmp     word ptr [bp], offset first_gp
    jne     wrong
    mov     ebx, 0x7c00
    iret
wrong: tell '!'
end:
"""

PROTECTED = (
    TO_PROTECTED
    + """
    gate    0x10000, 0x30, service, 8, 0xee00
    gate    0x10000, 6, undefined, 8, 0x8e00
    gate    0x10000, 10, selected, 8, 0x8e00
    gate    0x10000, 11, selected, 8, 0x8e00
    gate    0x10000, 12, selected, 8, 0x8e00
    gate    0x10000, 13, protection, 8, 0x8f00
    gate    0x10000, 0x31, service, 8, 0x8e00
    gate    0x10000, 0x32, service, 8, 0x6e00
    lidt    [idtr]
    int     0x30
    ud2
    mov     ax, 0x70                        # beyond the GDT
    mov     ds, ax
    mov     word ptr [gdt + 0x26], 0x00cf   # a data segment that is not present: #NP
    mov     byte ptr [gdt + 0x25], 0x72
    mov     ax, 0x23
    mov     ds, ax
    mov     byte ptr [gdt + 0x25], 0xf2
    int     0x32                            # gate not present
    int     0x7f                            # empty entry
    mov     dword ptr [0x18004], 0x60000
    mov     dword ptr [0x18008], 0x10
    mov     word ptr [0x18066], 0x3000      # no port for ring 3
    mov     ax, 0x28
    ltr     ax
    push    0x23
    push    0x50000
    pushfd
    push    0x1b
    mov     eax, offset user
    push    eax
    iretd
user:
    mov     ax, 0x23
    mov     ds, ax
    mov     es, ax
    int     0x30
    cli
    in      al, 0x21
    hlt
    int     0x31                            # not for ring 3
    mov     ecx, cr0
    mov     ax, 0x10
    mov     ds, ax
    ud2
    mov     eax, 0x600d
    int     0x30
service:
    cmp     eax, 0x600d
    je      end
    push    eax
    push    edx
    mov     ax, cs
    mov     bx, [esp + 12]
    and     bl, 3
    and     al, 3
    add     al, bl
    add     al, '0'
    mov     dx, 0x3f8
    out     dx, al
    mov     eax, esp
    shr     eax, 16
    add     al, '0'
    out     dx, al
    pop     edx
    pop     eax
    iretd
undefined:
    push    eax
    push    edx
    tell    'u'
    pop     edx
    pop     eax
    add     dword ptr [esp], 2
    iretd
protection:
    push    eax
    push    edx
    tell    'g'
    jmp     1f
selected:
    push    eax
    push    edx
    tell    's'
1:  mov     eax, [esp + 8]                  # the error code, in octal
    shr     eax, 6
    and     al, 7
    add     al, '0'
    out     dx, al
    mov     eax, [esp + 8]
    shr     eax, 3
    and     al, 7
    add     al, '0'
    out     dx, al
    mov     eax, [esp + 8]
    and     al, 7
    add     al, '0'
    out     dx, al
    mov     eax, [esp + 12]                 # over the instruction, by its first byte
    movzx   edx, byte ptr cs:[eax]
    mov     ecx, 2
    cmp     dl, 0xfa
    je      5f
    cmp     dl, 0xf4
    je      5f
    cmp     dl, 0x0f
    je      7f
    cmp     dl, 0x66
    jne     6f
7:  inc     ecx
    jmp     6f
5:  mov     ecx, 1
6:  add     [esp + 12], ecx
    pop     edx
    pop     eax
    add     esp, 4
    iretd
end:
    mov     al, 'e'
    mov     dx, 0x3f8
    out     dx, al
"""
)

PAGING = (
    TO_PROTECTED
    + """
    gate    0x10000, 14, missing, 8, 0x8e00
    lidt    [idtr]
    mov     dword ptr [0x20000], 0x83               # 4 MiB pages
    mov     dword ptr [0x20004], 0x21000 | 3        # and one table of 4 KiB ones
    mov     eax, cr4
    or      al, 0x10
    mov     cr4, eax
    mov     eax, 0x20000
    mov     cr3, eax
    mov     eax, cr0
    or      eax, 0x80010000
    mov     cr0, eax
    mov     dword ptr [0x405678], 0x11223344        # not there: made by the handler
    tell    'w'
    mov     dword ptr [0x21000 + 5 * 4], 0x30001    # read-only
    invlpg  [0x405000]
    mov     eax, [0x405678]
    cmp     eax, 0x11223344
    jne     wrong
    mov     byte ptr [0x405678], 0x55
    tell    'r'
    mov     eax, [0x21000 + 5 * 4]
    and     eax, 0x60
    cmp     al, 0x60
    jne     wrong
    tell    'a'
    mov     eax, cr0                                # now with PAE
    and     eax, 0x7fffffff
    mov     cr0, eax
    mov     edi, 0x20000
    mov     ecx, 0x800
    xor     eax, eax
    rep stosd
    mov     dword ptr [0x20000], 0x21001
    mov     dword ptr [0x21000], 0x83
    mov     dword ptr [0x21010], 0x22003
    mov     eax, cr4
    or      al, 0x20
    mov     cr4, eax
    mov     eax, 0x20000
    mov     cr3, eax
    mov     ecx, 0xc0000080
    rdmsr
    or      ah, 0x08
    wrmsr
    mov     eax, cr0
    or      eax, 0x80000000
    mov     cr0, eax
    tell    'p'
    mov     dword ptr [pae], 1
    mov     byte ptr [0x405678], 0x66
    tell    'w'
    mov     dword ptr [0x22000 + 5 * 8 + 4], 0x80000000     # no execution
    invlpg  [0x405000]
    mov     byte ptr [0x405000], 0xc3
    mov     eax, 0x405000
    call    eax
back:
    jmp     end
pae: .long  0
missing:
    push    eax
    push    edx
    tell    'f'
    mov     eax, [esp + 8]
    and     eax, 0x1f
    add     al, '@'
    out     dx, al
    mov     eax, cr2
    shr     eax, 12
    and     al, 0xf
    add     al, '0'
    out     dx, al
    mov     eax, cr2
    cmp     eax, 0x405000
    je      2f
    cmp     dword ptr [pae], 0
    jne     1f
    mov     dword ptr [0x21000 + 5 * 4], 0x30003
    jmp     3f
1:  mov     dword ptr [0x22000 + 5 * 8], 0x30003
    jmp     3f
2:  mov     dword ptr [esp + 12], offset back
3:  invlpg  [0x405000]
    pop     edx
    pop     eax
    add     esp, 4
    iretd
wrong:
    tell    '!'
end:
    mov     eax, cr0
    and     eax, 0x7fffffff
    mov     cr0, eax
"""
)

UNREAL = """
    lgdt    [gdtr]
    mov     eax, cr0
    or      al, 1
    mov     cr0, eax
    mov     bx, 0x10
    mov     ds, bx
    and     al, 0xfe
    mov     cr0, eax
    xor     ax, ax
    mov     ds, ax
    mov     edi, 0x200000
    mov     dword ptr [edi], 0x12345678
    mov     word ptr [0x60 * 4], offset service
    mov     word ptr [0x60 * 4 + 2], 0
    int     0x60
    cmp     dword ptr [edi], 0x12345678     # the limit has lived through an interrupt
    jne     wrong
    tell    'u'
    in      al, 0x92                        # and A20: off, the megabytes fold
    and     al, 0xfc
    out     0x92, al
    mov     dword ptr [edi + 0x100000], 0xcafe
    cmp     dword ptr [edi], 0xcafe
    jne     wrong
    tell    'a'
    in      al, 0x92
    or      al, 2
    out     0x92, al
    mov     dword ptr [edi + 0x100000], 1
    cmp     dword ptr [edi], 0xcafe
    jne     wrong
    tell    'A'
    jmp     end
service:
    tell    's'
    iret
wrong:
    tell    '!'
end:
"""

VIRTUAL_86 = (
    TO_PROTECTED
    + """
    gate    0x10000, 13, protection, 8, 0x8e00
    gate    0x10000, 0x30, service, 8, 0xee00
    lidt    [idtr]
    mov     dword ptr [0x18004], 0x60000
    mov     dword ptr [0x18008], 0x10
    mov     word ptr [0x18066], 0x68        # all ports for everybody
    mov     ax, 0x28
    ltr     ax
    push    0x1111                          # GS FS DS ES SS ESP EFLAGS CS EIP
    push    0x2222
    push    0x0700
    push    0x0500
    push    0x3000
    push    0xf000
    push    0x23002                         # VM, IOPL 3
    push    0
    mov     eax, offset task
    push    eax
    iretd
    .code16
task:
    mov     ax, ds
    cmp     ax, 0x700
    jne     wrong
    tell    'v'
    int     0x30                            # IOPL 3: through the gate to ring 0
    mov     ax, gs
    cmp     ax, 0x1111
    jne     wrong
    tell    'V'
    hlt                                     # #GP
wrong:
    tell    '!'
    .code32
service:
    mov     eax, ds                         # the segments have been put away
    test    eax, eax
    jnz     1f
    tell    's'
1:  mov     eax, [esp + 8]
    shr     eax, 16
    and     al, 0xf
    add     al, '0'
    out     dx, al
    mov     eax, [esp + 28]
    shr     eax, 8
    and     al, 7
    add     al, '0'
    out     dx, al
    iretd
protection:
    mov     ax, 0x10
    mov     ds, ax
    tell    'g'
"""
)
