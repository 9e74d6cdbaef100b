# SPDX-License-Identifier: GPL-2.0-only
"""All CPUs by INIT and start-up messages: a guest of the kernel's finds them in the MADT, sends
them through real and protected mode into its own page tables, and has each allocate from its
node."""

from __future__ import annotations

import pytest

from allocator.boot_image import boot_image
from firmware import load_script
from machine import Machine, Topology

BUDGET = 20_000_000
SCRIPT = """
    .include "numalab.inc"
    .set TRAMPOLINE, 0x8000
    .set PAGES, 8
    .globl _start
_start:
    numalab_init
    mov     r12d, 0xe0000                   # the RSDP
1:  mov     rax, 0x2052545020445352
    cmp     [r12], rax
    je      2f
    add     r12, 16
    cmp     r12, 0x100000
    jb      1b
    fail    "no RSDP"
2:  mov     r12, [r12 + 24]                 # the XSDT
    mov     ecx, [r12 + 4]
    lea     r14, [r12 + rcx]
    add     r12, 36
3:  mov     rbx, [r12]
    cmp     dword ptr [rbx], 0x43495041
    je      4f
    add     r12, 8
    cmp     r12, r14
    jb      3b
    fail    "no MADT"
4:  mov     eax, [rbx + 36]
    mov     [rip + lapic], rax
    mov     r14d, [rbx + 4]
    add     r14, rbx                        # its end
    lea     r12, [rbx + 44]

    mov     rax, cr3                        # the others will run on these tables
    mov     [rip + boot_cr3], rax
    mov     rax, cr4
    mov     [rip + boot_cr4], rax
    mov     rax, cr0
    mov     [rip + boot_cr0], rax
    mov     ecx, 0xc0000080
    rdmsr
    and     eax, 0xfffffbff                 # LMA comes of itself
    mov     [rip + boot_efer], rax
    lea     rsi, [rip + trampoline]
    mov     edi, TRAMPOLINE
    lea     rcx, [rip + trampoline_end]
    sub     rcx, rsi
    rep movsb

    mov     rax, cr3                        # the kernel maps RAM only: map the APIC's 2 MiB
    mov     rcx, 0x3ffffffff000
    and     rax, rcx
    mov     rax, [rax]
    and     rax, rcx
    cmp     qword ptr [rax + 3 * 8], 0
    jne     9f
    lea     rdx, [rip + directory]
    or      rdx, 3
    mov     [rax + 3 * 8], rdx
9:  mov     rdx, [rax + 3 * 8]
    and     rdx, rcx
    mov     r13, [rip + lapic]
    mov     rsi, r13
    shr     rsi, 21
    and     esi, 511
    lea     rdi, [r13 + 0x9b]
    mov     [rdx + rsi * 8], rdi
    mov     dword ptr [r13 + 0xf0], 0x1ff
5:  cmp     byte ptr [r12], 0               # a local APIC
    jne     6f
    test    dword ptr [r12 + 4], 1
    jz      6f
    inc     qword ptr [rip + found]
    movzx   eax, byte ptr [r12 + 3]
    shl     eax, 24
    cmp     [r13 + 0x20], eax
    je      6f                              # that is us
    mov     [r13 + 0x310], eax
    mov     dword ptr [r13 + 0x300], 0x4500
    mov     dword ptr [r13 + 0x300], 0x8500
    mov     dword ptr [r13 + 0x310], eax
    mov     dword ptr [r13 + 0x300], 0x4608
    mov     dword ptr [r13 + 0x300], 0x4608
6:  movzx   eax, byte ptr [r12 + 1]
    add     r12, rax
    cmp     r12, r14
    jb      5b

    call    work
7:  pause
    mov     rax, [rip + found]
    cmp     [rip + finished], rax
    jne     7b
    xor     ebx, ebx
8:  print   "cpu "
    print_decimal rbx
    print   " node "
    lea     rbp, [rip + results]
    print_decimal [rbp + rbx*8]
    print   "\\n"
    inc     rbx
    cmp     rbx, [rip + found]
    jb      8b
    mov     r13, [rip + wrong]
    exit    r13

other:                                      # 64-bit mode, on the kernel's tables
    numalab_init
    mov     rsp, [r15 + MAILBOX_STACK]
    call    work
    halt

work:                                       # pages of the own node, or else it is wrong
    push    rbx
    push    r12
    push    rbp
    mov     eax, CPUID_MAILBOX
    cpuid
    mov     ebp, edx                        # this CPU
    info    INFO_THIS_NODE
    mov     r12, rax
    lea     rsi, [rip + results]
    mov     [rsi + rbp*8], r12
    mov     ebx, PAGES
1:  hypercall HC_ALLOC_PAGES, GFP_KERNEL | __GFP_THISNODE, 0, -1, 0
    jnz     2f
    pfn_to_page rsi, rax
    mov     rsi, [rsi + PAGE_flags]
    shr     rsi, NODES_PGSHIFT
    cmp     rsi, r12
    jne     2f
    dec     ebx
    jnz     1b
    jmp     3f
2:  mov     qword ptr [rip + wrong], 1
3:  lock inc qword ptr [rip + finished]
    pop     rbp
    pop     r12
    pop     rbx
    ret

    .code16
    .balign 256
trampoline:
    jmp     1f
    .balign 8
boot_cr0:  .quad 0                          # 0x8008
boot_cr3:  .quad 0
boot_cr4:  .quad 0
boot_efer: .quad 0
gdt:  .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff, 0x00af9a000000ffff
gdtr: .word 31                              # 0x8048
    .long   0x8028
1:  cli
    mov     ax, cs
    mov     ds, ax
    lgdt    [0x48]
    mov     eax, cr0
    or      al, 1
    mov     cr0, eax
    ljmp    8, 0x8080
    .code32
    .balign 128                             # 0x8080
    mov     ax, 0x10
    mov     ds, ax
    mov     eax, [TRAMPOLINE + 24]
    mov     cr4, eax
    mov     eax, [TRAMPOLINE + 16]
    mov     cr3, eax
    mov     ecx, 0xc0000080
    mov     eax, [TRAMPOLINE + 32]
    xor     edx, edx
    wrmsr
    mov     eax, [TRAMPOLINE + 8]
    mov     cr0, eax
    ljmp    0x18, 0x8100
    .code64
    .balign 128                             # 0x8100
    mov     ax, 0x10
    mov     ss, ax
    mov     rax, offset other
    jmp     rax
trampoline_end:

    .data
    .balign 8
lapic:    .quad 0
found:    .quad 0
finished: .quad 0
wrong:    .quad 0
results:  .skip 64 * 8
    .bss
    .balign 4096
directory: .skip 4096
"""


def run(spec: str, quantum: int = 10_000) -> tuple[str, object]:
    machine = Machine(Topology.parse(spec), quantum=quantum)
    guest = boot_image(machine, load_script(SCRIPT))
    stop = machine.run(BUDGET)
    assert (stop.kind, stop.code) == ("exit", 0), f"{stop.message}\n{machine.console.text}"
    assert guest.machine is machine
    return machine.console.text, machine.save()


def test_every_cpu_of_four_nodes_comes_up_and_allocates_from_its_own() -> None:
    text, state = run("4x64M,cpus=2")
    assert text.splitlines() == [f"cpu {cpu} node {cpu // 2}" for cpu in range(8)]
    assert run("4x64M,cpus=2") == (text, state)


@pytest.mark.parametrize("quantum", [100, 1_000_000])
def test_it_does_not_depend_on_the_quantum(quantum: int) -> None:
    assert run("4x64M,cpus=2", quantum)[0] == run("4x64M,cpus=2")[0]
