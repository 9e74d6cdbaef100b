# SPDX-License-Identifier: GPL-2.0-only
"""Guests that call the BIOS from virtual-8086 mode, under a monitor of their own.

The monitor runs at ring 0 of 32-bit protected mode. It takes the general protection faults of the
16-bit code, carries out INT, IRET, PUSHF, POPF, CLI, STI and HLT, and lets INT n and interrupt 0
go on at the vector table's handlers, as a DOS extender or EMM386 does. With IOPL 3 only INT n (its
gates are for ring 0) and HLT come to it; with paging on no port is open, and it carries out IN and
OUT too. The program ends halted in the monitor."""

from __future__ import annotations

from .pc_program import Program, calls

_ENTER = """
        cli
        lgdt    [gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        ljmp    8, offset protected
        .code32
protected:
        mov     ax, 0x10
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     esp, 0x80000
        mov     edi, 0x18000                    # TSS, all ports open
        xor     eax, eax
        mov     ecx, 0x900
        rep stosd
        mov     dword ptr [0x18004], 0x80000
        mov     dword ptr [0x18008], 0x10
        mov     word ptr [0x18066], 0x68
        mov     byte ptr [0x1a068], 0xff
        PAGING
        mov     edi, 0x10000                    # every gate for ring 0
1:      mov     eax, offset wrong
        mov     [edi], ax
        mov     dword ptr [edi + 2], 0x8e000000 + 8
        mov     word ptr [edi + 2], 8
        mov     word ptr [edi + 4], 0x8e00
        mov     word ptr [edi + 6], 0
        add     edi, 8
        cmp     edi, 0x10800
        jb      1b
        mov     eax, offset general
        mov     [0x10000 + 13 * 8], ax
        mov     eax, offset timer
        mov     [0x10000 + 0x20 * 8], ax
        lidt    [idtr]
        mov     ax, 0x18
        ltr     ax
        .irp    what, 0x1120, 0x11a0, 0x2021, 0x28a1, 0x0421, 0x02a1, 0x0121, 0x01a1, 0xfe21, 0xffa1
        mov     ax, \\what
        movzx   edx, al
        mov     al, ah
        out     dx, al
        .endr
        xor     eax, eax
        push    eax                             # GS FS DS ES
        push    eax
        push    eax
        push    eax
        push    eax                             # SS:ESP
        push    0x7000
        push    FLAGS
        push    eax
        mov     eax, offset task
        push    eax
        iretd

timer:  push    0
        pushad
        mov     ax, 0x10
        mov     ds, ax
        mov     ebp, esp
        mov     ebx, 8
        jmp     reflect
general:
        pushad                                  # 32: error, EIP, CS, EFLAGS, ESP, SS
        mov     ax, 0x10
        mov     ds, ax
        mov     ebp, esp
        inc     word ptr [faults]
        movzx   edx, word ptr [ebp + 52]        # EDI: top of its stack
        shl     edx, 4
        movzx   edi, word ptr [ebp + 48]
        add     edi, edx
        xor     ecx, ecx
1:      movzx   edx, word ptr [ebp + 40]
        shl     edx, 4
        movzx   esi, word ptr [ebp + 36]
        mov     eax, [esi + edx]
        inc     word ptr [ebp + 36]
        cmp     al, 0x66
        jne     2f
        inc     ecx
        jmp     1b
2:      cmp     al, 0xcd
        je      interrupt
        cmp     al, 0xfa
        je      disable
        cmp     al, 0xfb
        je      enable
        cmp     al, 0xf4
        je      halt
        cmp     al, 0x9c
        je      push_flags
        cmp     al, 0x9d
        je      pop_flags
        cmp     al, 0xcf
        je      return
        movzx   edx, ah
        cmp     al, 0xe4
        je      3f
        cmp     al, 0xe6
        je      4f
        mov     edx, [ebp + 20]
        cmp     al, 0xec
        je      input
        cmp     al, 0xee
        je      output
        cmp     al, 0xef
        jne     wrong
        mov     eax, [ebp + 28]
        test    ecx, ecx
        jz      5f
        out     dx, eax
        jmp     resume
5:      out     dx, ax
        jmp     resume
3:      inc     word ptr [ebp + 36]
input:  in      al, dx
        mov     [ebp + 28], al
        jmp     resume
4:      inc     word ptr [ebp + 36]
output: mov     al, [ebp + 28]
        out     dx, al
        jmp     resume
wrong:  mov     dx, 0x3f8
        mov     al, 0x21
        out     dx, al
        cli
1:      hlt
        jmp     1b
halt:   test    word ptr [ebp + 44], 0x200
        jnz     resume
        mov     al, 0x68
        mov     dx, 0x3f8
        out     dx, al
1:      hlt
        jmp     1b
disable:
        and     word ptr [ebp + 44], 0xfdff
        jmp     resume
enable: or      word ptr [ebp + 44], 0x200
        jmp     resume
push_flags:
        mov     eax, [ebp + 44]
        test    ecx, ecx
        jnz     1f
        sub     edi, 2
        sub     word ptr [ebp + 48], 2
        mov     [edi], ax
        jmp     resume
1:      sub     edi, 4
        sub     word ptr [ebp + 48], 4
        and     eax, 0xffff
        mov     [edi], eax
        jmp     resume
return: mov     eax, [edi]
        test    ecx, ecx
        jnz     1f
        mov     [ebp + 36], ax
        shr     eax, 16
        mov     [ebp + 40], ax
        add     edi, 4
        add     word ptr [ebp + 48], 4
        jmp     pop_flags
1:      mov     [ebp + 36], eax
        mov     eax, [edi + 4]
        mov     [ebp + 40], ax
        add     edi, 8
        add     word ptr [ebp + 48], 8
pop_flags:
        mov     eax, [edi]
        and     eax, 0x0fd5
        or      eax, FLAGS & 0xffffcdff
        mov     [ebp + 44], eax
        add     word ptr [ebp + 48], 2
        test    ecx, ecx
        jz      resume
        add     word ptr [ebp + 48], 2
        jmp     resume
interrupt:
        movzx   ebx, ah
        inc     word ptr [ebp + 36]
reflect:
        movzx   edx, word ptr [ebp + 52]
        shl     edx, 4
        sub     word ptr [ebp + 48], 6
        movzx   edi, word ptr [ebp + 48]
        mov     ax, [ebp + 36]
        mov     [edi + edx], ax
        mov     ax, [ebp + 40]
        mov     [edi + edx + 2], ax
        mov     ax, [ebp + 44]
        mov     [edi + edx + 4], ax
        and     word ptr [ebp + 44], 0xfcff
        mov     eax, [ebx * 4]
        mov     [ebp + 36], ax
        shr     eax, 16
        mov     [ebp + 40], ax
resume: popad
        add     esp, 4
        iretd
        .balign 8
gdt:    .quad   0, 0x00cf9a000000ffff, 0x00cf92000000ffff, 0x0000890180002068
gdtr:   .word   31
        .long   gdt
idtr:   .word   0x7ff
        .long   0x10000
faults: .word   0
ticks:  .word   0
tick:   nop
        .code16
        inc     word ptr cs:[ticks]
        iret
packet: .byte   16, 0
        .word   1, 0xa000, 0
        .quad   0
task:
"""
_SERVICES = calls(
    "mov ax, [faults]\n out 0x80, al\n in al, 0x80\n mov ax, [faults]\n out 0x80, al\n neg ax\n"
    " add ax, [faults]",
    "mov ah, 3\n mov bh, 0\n int 0x10",
    "int 0x12\n mov dl, 0",
    "mov ah, 8\n int 0x13",
    "mov ax, 0x0201\n mov bx, 0xa000\n mov cx, 1\n int 0x13",
    "mov ax, [0xa000]\n mov bx, [0xa1fe]",
    "mov ah, 0x41\n mov bx, 0x55aa\n int 0x13",
    "mov word ptr [0xa1fe], 0\n mov si, offset packet\n mov ah, 0x42\n int 0x13",
    "mov bx, [0xa1fe]",
    "mov ax, 0x0201\n mov bx, 0xa000\n mov cx, 0x0041\n int 0x13",
    "mov eax, 0xe820\n mov edx, 0x534d4150\n mov ecx, 20\n mov di, 0xa000\n int 0x15",
    "mov ax, [0xa008]\n mov bx, [0xa00a]\n mov cx, [0xa010]",
    "mov ah, 0x88\n int 0x15",
    "mov ax, 0xe801\n int 0x15",
    "mov ah, 0xd8\n int 0x15",
    "mov ah, 5\n mov cx, 0x1e61\n int 0x16",
    "mov ah, 1\n int 0x16\n lahf\n and ax, 0x4000",
    "mov ah, 0\n int 0x16",
    "mov ah, 1\n int 0x16\n lahf\n and ax, 0x4000",
    "mov ah, 4\n int 0x1a",
    "mov ah, 0x0f\n mov bh, 0\n int 0x10",
)
_TICKS = """
        mov     word ptr [0x1c * 4], offset tick + 1
        mov     word ptr [0x1c * 4 + 2], 0
        mov     al, 0x34                        # two thousand a second
        out     0x43, al
        mov     al, 0
        out     0x40, al
        mov     al, 2
        out     0x40, al
        sti
1:      cmp     word ptr [ticks], 3
        jb      1b
        cli
        mov     ax, [ticks]
        cmp     ax, 20                          # some more may have come: QEMU's time is real
        sbb     ax, ax
        call    hex16
        pushfd
        pop     eax
        and     ah, 0x02
        call    hex16
        sti
        pushf
        cli
        pop     ax
        and     ah, 0x02
        call    hex16
"""


_PAGING = """
        mov     edi, 0x18068                    # no port is open
        mov     eax, -1
        mov     ecx, 0x801
        rep stosd
        mov     edi, 0x21000                    # 4 MiB one to one, for ring 3 too
        mov     eax, 7
1:      stosd
        add     eax, 0x1000
        cmp     edi, 0x22000
        jb      1b
        mov     dword ptr [0x21000 + 4 * 0x3], 0x66007  # 3000h is elsewhere
        mov     dword ptr [0x20000], 0x21007
        mov     eax, 0x20000
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        jmp     1f
1:
"""
_MAPPED = calls(
    "mov ax, [faults]\n out 0x80, al\n in al, 0x80\n mov ax, [faults]\n out 0x80, al\n neg ax\n"
    " add ax, [faults]",
    "mov word ptr [0x3000], 0x2a01\n mov cx, 1\n mov ax, 0x1301\n mov bx, 7\n mov dx, 0x0200\n"
    " mov bp, 0x3000\n int 0x10",
    "mov ah, 3\n mov bh, 0\n int 0x10",
    "int 0x12\n mov dl, 0",
    "mov eax, 0xe820\n mov edx, 0x534d4150\n mov ecx, 20\n mov di, 0x3000\n int 0x15",
    "mov ax, [0x3008]\n mov bx, [0x300a]\n mov cx, [0x3010]",
    "mov ax, 0xe801\n int 0x15",
    "mov ah, 0xd8\n int 0x15",
    "mov ah, 5\n mov cx, 0x1e61\n int 0x16",
    "mov ah, 0\n int 0x16",
    "mov ah, 4\n int 0x1a",
)


def _under_monitor(flags: str, body: str, paging: str = "") -> Program:
    return Program(_ENTER.replace("FLAGS", flags).replace("PAGING", paging) + body)


V86_MONITOR = _under_monitor("0x20202", _SERVICES + _TICKS)
V86_PAGED = _under_monitor("0x20202", _MAPPED + _TICKS, _PAGING)
V86_IOPL_3 = _under_monitor("0x23202", _SERVICES + _TICKS)

GUESTS = {name: value for name, value in sorted(globals().items()) if isinstance(value, Program)}
"""The programs by name."""
