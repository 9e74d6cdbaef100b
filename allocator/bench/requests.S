# SPDX-License-Identifier: GPL-2.0-only
#
# requests.S: every CPU PAIRS times one page and its return, through the mailbox, all at once.

    .include "numalab.inc"

    .set PAIRS, 100000

    .globl _start
_start:
    numalab_init
    info    INFO_NR_CPUS
    mov     r13, rax                        # R13 = number of CPUs
    mov     ebx, 1
1:  cmp     rbx, r13
    je      2f
    lea     rsi, [rip + other]
    hypercall HC_START_CPU, rbx, rsi, 0, 0
    jnz     5f
    inc     rbx
    jmp     1b
2:  mov     dword ptr [rip + gate], 1
    call    work
3:  pause
    mov     eax, [rip + finished]
    cmp     rax, r13
    jne     3b
    mov     rcx, [rip + refused]
    exit    rcx
5:  exit    1

other:
    numalab_init
4:  pause
    cmp     dword ptr [rip + gate], 0
    je      4b
    call    work
    halt

work:
    mov     r12d, PAIRS
1:  hypercall HC_ALLOC_PAGES, GFP_KERNEL, 0, -1, 0
    jnz     2f
    hypercall HC_FREE_PAGES, rax, 0
    jnz     2f
    dec     r12
    jnz     1b
    jmp     3f
2:  mov     qword ptr [rip + refused], 1
3:  lock inc dword ptr [rip + finished]
    ret

    .data
    .balign 8
refused:  .quad 0
gate:     .long 0
finished: .long 0
