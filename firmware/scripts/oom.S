# SPDX-License-Identifier: GPL-2.0-only
#
# oom.S: what happens when memory runs out.
#
# The first child asks for more than there is and touches it page by page; with nothing left to
# reclaim, the OOM killer takes it. Then two do so, one of which the killer may not touch
# (oom_score_adj -1000) and which only has a little: the other one dies, and the little is still what
# it was. Init is never killed.
#
# Exit code 0: those died who had to. 1: somebody else did, or nobody.

    .include "numalab.inc"

    .set HOG_MIB, 8192                      # more than any small machine has
    .set SIGKILL, 9

    .globl _start
_start:
    numalab_init                            # R15 = this CPU's mailbox
    hypercall HC_FORK
    jnz     refused
    test    rax, rax
    jz      hog
    mov     rbx, rax
    call    killed
    print   "the hog was killed\n"

    hypercall HC_FORK
    jnz     refused
    test    rax, rax
    jz      thrifty
    mov     r12, rax                        # R12 = the one that is to live
    hypercall HC_FORK
    jnz     refused
    test    rax, rax
    jz      hog
    mov     rbx, rax
    call    killed
    print   "the second hog was killed\n"
    hypercall HC_WAIT, r12
    mov     rax, [r15 + MAILBOX_ARG1]
    test    rax, rax
    jnz     wrong
    print   "the thrifty one lives and has what it wrote\n"
    exit    0

# Waits for the child RBX, which must die of SIGKILL.
killed:
    hypercall HC_WAIT, rbx
    jnz     refused
    mov     rax, [r15 + MAILBOX_ARG1]
    cmp     rax, SIGKILL
    jne     wrong
    ret

hog:
    movabs  rcx, HOG_MIB << 20
    hypercall HC_MMAP, 0, rcx, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
    mov     rbx, rax
    movabs  rcx, HOG_MIB << 20
    add     rcx, rbx
1:  mov     byte ptr [rbx], 1
    add     rbx, PAGE_SIZE
    cmp     rbx, rcx
    jb      1b
    hypercall HC_EXIT_PROCESS, 0
2:  jmp     2b

thrifty:
    hypercall HC_SET_OOM_SCORE_ADJ, 0, -1000
    hypercall HC_MMAP, 0, 16 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    mov     rbx, rax
    mov     qword ptr [rbx], 4711
    hypercall HC_SCHED_YIELD                # the hog has its turn and does not come back
    cmp     qword ptr [rbx], 4711
    jne     3f
    hypercall HC_EXIT_PROCESS, 0
3:  hypercall HC_EXIT_PROCESS, 1
4:  jmp     4b

refused:
    print   "refused with errno "
    print_decimal rdx
    print   "\n"
    exit    1
wrong:
    print   "ended with "
    print_hex rax
    print   "\n"
    exit    1
