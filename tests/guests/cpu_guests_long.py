# SPDX-License-Identifier: GPL-2.0-only
"""Guests that try out long mode and back, the interrupt controllers, and other CPUs."""

from __future__ import annotations

from .cpu_common import TO_LONG, TO_PROTECTED

LONG_MODE = (
    TO_LONG
    + """
    gate64  0x10000, 0x40, on_ist, 0x30, 0xee01
    gate64  0x10000, 0x41, on_stack, 0x30, 0xee00
    gate64  0x10000, 14, missing, 0x30, 0x8e00
    gate64  0x10000, 13, protection, 0x30, 0x8e00
    gate64  0x10000, 8, doubled, 0x30, 0x8e02
    lidt    [idtr64]
    mov     dword ptr [0x18004], 0x60000            # RSP0
    mov     dword ptr [0x18000 + 36], 0x50008       # IST1, not aligned
    mov     dword ptr [0x18000 + 44], 0x48000       # IST2
    mov     ax, 0x60
    ltr     ax
    int     0x40
    int     0x41
    mov     rax, 0xdeadbeef000
    mov     bl, [rax]                               # not mapped
    mov     rax, 0x8000000000000000
    mov     bl, [rax]                               # not canonical
    tell    'l'
    mov     ecx, 0xc0000081
    xor     eax, eax
    mov     edx, 0x004b0030
    wrmsr
    inc     ecx
    lea     rax, [rip + kernel]
    xor     edx, edx
    wrmsr
    mov     ecx, 0xc0000084
    mov     eax, 0x4
    xor     edx, edx
    wrmsr
    mov     dword ptr [0x22000], 0x87               # for ring 3, too
    mov     dword ptr [0x21000], 0x22007
    mov     dword ptr [0x20000], 0x21007
    mov     rax, cr3
    mov     cr3, rax
    lea     rcx, [rip + user]
    mov     r11d, 2
    sysretq
user:
    mov     rsp, 0x40000
    mov     eax, 1
    syscall
    mov     eax, 2
    syscall
    int     0x41                                    # to the stack of ring 0
    mov     rax, 0xfee00000
    mov     al, [rax]                               # not for ring 3
    mov     eax, 3
    syscall
kernel:
    cmp     eax, 3
    je      to_double
    add     al, '0'
    mov     dx, 0x3f8
    out     dx, al
    sysretq
to_double:
    mov     rsp, 0x70000
    tell    'k'
    mov     word ptr [0x10000 + 14 * 16 + 2], 0xf0  # its handler's segment is not there
    mov     rax, 0xdeadbeef000
    mov     bl, [rax]
on_ist:
    tell    'I'
    lea     rax, [rsp + 0x10]
    shr     eax, 16
    add     al, '0'
    out     dx, al
    mov     al, spl
    shr     al, 3
    and     al, 1
    add     al, '0'
    out     dx, al
    iretq
on_stack:
    tell    'S'
    mov     rax, rsp
    shr     eax, 16
    add     al, '0'
    out     dx, al
    iretq
missing:
    push    rax
    tell    'f'
    mov     rax, [rsp + 8]
    add     al, '@'
    out     dx, al
    pop     rax
    add     rsp, 8
    add     qword ptr [rsp], 2
    iretq
protection:
    push    rax
    tell    'g'
    pop     rax
    add     rsp, 8
    add     qword ptr [rsp], 2
    iretq
doubled:
    tell    'D'
    mov     rax, rsp
    shr     eax, 12
    add     al, '0' - 0x40
    out     dx, al
    lea     rax, [rip + way_back]
    push    8
    push    rax
    retfq
    .code32
way_back:                                           # compatibility mode
    mov     esp, 0x70000
    mov     ax, 0x10
    mov     ss, ax
    mov     ds, ax
    mov     ds, ax
    tell    'c'
    mov     eax, cr0
    and     eax, 0x7fffffff
    mov     cr0, eax
    mov     ecx, 0xc0000080
    rdmsr
    and     eax, 0xfffffeff
    wrmsr
    mov     eax, cr4
    and     eax, 0xffffff00
    mov     cr4, eax
    tell    'p'
    ljmp    0x40, offset narrow
    .code16
narrow:
    mov     ax, 0x48
    mov     ss, ax
    mov     ds, ax
    mov     es, ax
    tell    'n'
    lidt    [ivtr]
    mov     eax, cr0
    and     al, 0xfe
    mov     cr0, eax
    ljmp    0, offset real
real:
    xor     ax, ax
    mov     ds, ax
    mov     es, ax
    mov     ss, ax
    mov     sp, 0x7c00
    mov     word ptr [0x60 * 4], offset service
    mov     word ptr [0x60 * 4 + 2], 0
    int     0x60
    jmp     end
service:
    tell    'r'
    iret
end:
"""
)

PIT = """
    mov     word ptr [8 * 4], offset tick
    mov     word ptr [8 * 4 + 2], 0
    mov     al, 0xfe
    out     0x21, al
    mov     al, 0x34
    out     0x43, al
    mov     ax, 11932
    out     0x40, al
    mov     al, ah
    out     0x40, al
    xor     cx, cx
1:  sti
    hlt
    cmp     cx, 5
    jb      1b
    cli
    mov     al, 0xff
    out     0x21, al
    tell    'e'
    jmp     end
tick:
    inc     cx
    tell    't'
    mov     al, 0x20
    out     0x20, al
    iret
end:
"""

LOCAL_APIC = (
    TO_LONG
    + """
    gate64  0x10000, 0x40, tick, 0x30, 0x8e00
    gate64  0x10000, 0x50, low, 0x30, 0x8e00
    gate64  0x10000, 0x60, high, 0x30, 0x8e00
    gate64  0x10000, 2, nmi, 0x30, 0x8e00
    lidt    [idtr64]
    mov     al, 0xff
    out     0x21, al
    out     0xa1, al
    mov     esi, 0xfee00000
    mov     dword ptr [rsi + 0xf0], 0x1ff
    mov     dword ptr [rsi + 0x3e0], 0xb
    mov     dword ptr [rsi + 0x320], 0x20040
    mov     dword ptr [rsi + 0x380], 1000000
    xor     ebx, ebx
1:  sti
    hlt
    cmp     ebx, 3
    jb      1b
    cli
    mov     dword ptr [rsi + 0x320], 0x10000
    mov     dword ptr [rsi + 0x300], 0x44050        # to itself; the higher goes first
    mov     dword ptr [rsi + 0x300], 0x44060
    tell    '-'
    sti
    nop
    nop
    cli
    tell    '='
    mov     eax, 5                                  # priority shuts out class 5
    mov     cr8, rax
    mov     dword ptr [rsi + 0x300], 0x44050
    sti
    nop
    nop
    tell    'p'
    mov     rax, cr8
    add     al, '0'
    out     dx, al
    xor     eax, eax
    mov     cr8, rax
    nop
    nop
    cli
    tell    'q'
    mov     dword ptr [rsi + 0x300], 0x44400        # NMI to itself: shorthand takes it
    nop
    nop
    mov     ecx, 0x1b
    rdmsr
    shr     eax, 8
    and     al, 0xf
    add     al, '@'
    mov     dx, 0x3f8
    out     dx, al
    jmp     end
tick:
    inc     ebx
    tell    't'
    mov     dword ptr [rsi + 0xb0], 0
    iretq
low:
    tell    'l'
    mov     dword ptr [rsi + 0xb0], 0
    iretq
high:
    tell    'h'
    mov     dword ptr [rsi + 0xb0], 0
    iretq
nmi:
    tell    'n'
    iretq
end:
"""
)

IO_APIC = (
    TO_LONG
    + """
    gate64  0x10000, 0x52, tick, 0x30, 0x8e00
    lidt    [idtr64]
    mov     al, 0xff
    out     0x21, al
    out     0xa1, al
    mov     esi, 0xfee00000
    mov     dword ptr [rsi + 0xf0], 0x1ff
    mov     edi, 0xfec00000
    mov     dword ptr [rdi], 1
    mov     eax, [rdi + 0x10]
    shr     eax, 16
    cmp     al, 23
    jne     wrong
    mov     dword ptr [rdi], 0x15                   # the timer's input, 2
    mov     dword ptr [rdi + 0x10], 0
    mov     dword ptr [rdi], 0x14
    mov     dword ptr [rdi + 0x10], 0x52
    mov     al, 0x34
    out     0x43, al
    mov     ax, 11932
    out     0x40, al
    mov     al, ah
    out     0x40, al
    xor     ebx, ebx
1:  sti
    hlt
    cmp     ebx, 4
    jb      1b
    cli
    mov     dword ptr [rdi + 0x10], 0x10052
    jmp     end
tick:
    inc     ebx
    tell    'i'
    mov     dword ptr [rsi + 0xb0], 0
    iretq
wrong:
    tell    '!'
end:
"""
)

SMP = (
    """
    jmp     boot
    .org    0x400                                   # 0x8000: where the others begin
others:
    cli
    xor     ax, ax
    mov     ds, ax
    lgdt    [gdtr]
    mov     eax, cr0
    or      al, 1
    mov     cr0, eax
    ljmp    0x08, offset other32
    .code32
other32:
    mov     ax, 0x10
    mov     ds, ax
    mov     es, ax
    mov     ss, ax
    mov     esi, 0xfee00000
    mov     ebx, [esi + 0x20]
    shr     ebx, 24
    mov     esp, ebx
    shl     esp, 12
    add     esp, 0x40000
    mov     dword ptr [esi + 0xf0], 0x1ff
    lidt    [idtr]
1:  pause                                           # in the order of their numbers
    cmp     [turn], ebx
    jne     1b
    mov     al, bl
    add     al, '0'
    mov     dx, 0x3f8
    out     dx, al
    inc     dword ptr [turn]
2:  sti
    hlt
    jmp     2b
ipi:
    mov     al, 'i'
    add     al, bl
    mov     dx, 0x3f8
    out     dx, al
    mov     dword ptr [esi + 0xb0], 0
    inc     dword ptr [turn]
    iretd
nmi:
    mov     al, 'n'
    mov     dx, 0x3f8
    out     dx, al
    inc     dword ptr [turn]
    iretd
sleep:
    lock inc dword ptr [turn]
3:  hlt
    jmp     3b
turn: .long 1
    .code16
boot:
"""
    + TO_PROTECTED
    + """
    gate    0x10000, 0x50, ipi, 8, 0x8e00
    gate    0x10000, 0x51, sleep, 8, 0x8e00
    gate    0x10000, 2, nmi, 8, 0x8e00
    lidt    [idtr]
    mov     al, 0xff
    out     0x21, al
    out     0xa1, al
    mov     esi, 0xfee00000
    mov     dword ptr [esi + 0xf0], 0x1ff
    mov     dword ptr [esi + 0x310], 0x55000000     # to a CPU that is not there
    mov     dword ptr [esi + 0x300], 0x4500
    mov     dword ptr [esi + 0x300], 0xc4500        # INIT, start-up to all others
    mov     ecx, 1000
1:  pause
    loop    1b
    mov     dword ptr [esi + 0x300], 0xc4608
    mov     ecx, 1000
2:  pause
    loop    2b
    mov     dword ptr [esi + 0x300], 0xc4608
3:  pause
    cmp     dword ptr [turn], 4
    jne     3b
    tell    'a'
    mov     dword ptr [esi + 0x310], 0x02000000     # to one
    mov     dword ptr [esi + 0x300], 0x4050
4:  pause
    cmp     dword ptr [turn], 5
    jne     4b
    mov     dword ptr [esi + 0x310], 0x03000000
    mov     dword ptr [esi + 0x300], 0x4400
5:  pause
    cmp     dword ptr [turn], 6
    jne     5b
    tell    'b'
    mov     dword ptr [esi + 0x300], 0xc4051        # and to sleep
6:  pause
    cmp     dword ptr [turn], 9
    jne     6b
    tell    'e'
"""
)
