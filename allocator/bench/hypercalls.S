# SPDX-License-Identifier: GPL-2.0-only
#
# hypercalls.S: PAIRS times one page and its return, through the mailbox.

    .include "numalab.inc"

    .set PAIRS, 100000

    .globl _start
_start:
    numalab_init
    mov     r12d, PAIRS
1:  hypercall HC_ALLOC_PAGES, GFP_KERNEL, 0, -1, 0
    test    rdx, rdx
    jnz     2f
    hypercall HC_FREE_PAGES, rax, 0
    test    rdx, rdx
    jnz     2f
    dec     r12
    jnz     1b
    exit    0
2:  exit    1
