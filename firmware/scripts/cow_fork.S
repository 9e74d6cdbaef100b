# SPDX-License-Identifier: GPL-2.0-only
#
# cow_fork.S: processes that share their memory until one of them writes to it.
#
# The parent fills some pages and forks. Each child finds the parent's bytes, writes its own over
# them, lets the others run, and finds its own again; the parent waits for all of them and finds what
# it wrote. No frame is copied for a page that is only read.
#
# Exit code 0: everybody saw what they should. 1: somebody did not.

    .include "numalab.inc"

    .set PAGES, 16
    .set CHILDREN, 3
    .set MARK, 0x5041524e45540000           # "PARENT", and room for the number of a page

    .globl _start
_start:
    numalab_init                            # R15 = this CPU's mailbox
    hypercall HC_MMAP, 0, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    jnz     refused
    mov     rbx, rax                        # RBX = the memory
    movabs  rsi, MARK
    call    fill
    mov     r14d, CHILDREN

another:
    hypercall HC_FORK
    jnz     refused
    test    rax, rax
    jz      child
    dec     r14d
    jnz     another

    # The children have had no turn yet: they run while the parent waits.
    mov     r14d, CHILDREN
collect:
    hypercall HC_WAIT, -1
    jnz     refused
    mov     r12, rax
    mov     r13, [r15 + MAILBOX_ARG1]
    print   "child "
    print_decimal r12
    print   " ended with status "
    shr     r13, 8
    print_decimal r13
    print   "\n"
    test    r13, r13
    jnz     broken
    dec     r14d
    jnz     collect
    movabs  rsi, MARK
    call    compare
    jne     broken
    print   "the parent's pages are untouched\n"
    exit    0

child:
    movabs  rsi, MARK
    call    compare                         # what the parent wrote
    jne     wrong
    hypercall HC_GETPID
    mov     r12, rax
    mov     rsi, rax
    shl     rsi, 32
    call    fill                            # its own pages from here on
    hypercall HC_SCHED_YIELD
    mov     rsi, r12
    shl     rsi, 32
    call    compare
    jne     wrong
    hypercall HC_EXIT_PROCESS, 0
wrong:
    hypercall HC_EXIT_PROCESS, 1
1:  jmp     1b

# Every page gets RSI plus its number; the next one looks whether they still have it (ZF).
fill:
    xor     ecx, ecx
2:  mov     rax, rcx
    shl     rax, PAGE_SHIFT
    lea     rdx, [rsi + rcx]
    mov     [rbx + rax + 128], rdx
    inc     ecx
    cmp     ecx, PAGES
    jb      2b
    ret
compare:
    xor     ecx, ecx
3:  mov     rax, rcx
    shl     rax, PAGE_SHIFT
    lea     rdx, [rsi + rcx]
    cmp     [rbx + rax + 128], rdx
    jne     4f
    inc     ecx
    cmp     ecx, PAGES
    jb      3b
4:  ret

refused:
    print   "refused with errno "
    print_decimal rdx
    print   "\n"
    exit    1
broken:
    fail    "memory does not hold what it should"
