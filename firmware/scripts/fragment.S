# SPDX-License-Identifier: GPL-2.0-only
#
# fragment.S: half of the memory is free, and no large block of it; compaction makes some.
#
# The script maps as much memory as its node has free, writes to every page of it until the node runs
# short, and gives every second page back. A request for an order-9 block that may not wait fails.
# One that may wait compacts the node: pages of this very process are moved out of the way. All the
# blocks are asked for that three quarters of the free pages come to, and then every page that is
# left must still hold what was written.
#
# Exit code 0: got them, nothing was lost. 1: something was not as it should be.

    .include "numalab.inc"

    .set SPARE, 1024                            # pages left alone
    .set ORDER, 9

    .globl _start
_start:
    numalab_init                                # R15 = this CPU's mailbox
    info    INFO_THIS_NODE
    mov     r14, rax                            # R14 = the node
    info    INFO_FREE_PAGES, r14
    lea     r12, [rax - SPARE]                  # R12 = pages to map
    mov     rcx, r12
    shl     rcx, PAGE_SHIFT
    hypercall HC_MMAP, 0, rcx, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    jnz     refused
    mov     rbx, rax                            # RBX = the memory

    # Every page gets its own address.
    xor     ecx, ecx
1:  mov     rax, rcx
    shl     rax, PAGE_SHIFT
    add     rax, rbx
    mov     [rax], rax
    inc     rcx
    cmp     rcx, r12
    jb      1b

    # Every second page goes back.
    xor     r13d, r13d
2:  mov     rax, r13
    shl     rax, PAGE_SHIFT
    add     rax, rbx
    hypercall HC_MADVISE, rax, PAGE_SIZE, MADV_DONTNEED
    jnz     refused
    add     r13, 2
    cmp     r13, r12
    jb      2b
    hypercall HC_DRAIN_ALL_PAGES

    # Requests that may not wait take the blocks that were spared, and soon find none any more.
    xor     r13d, r13d
7:  hypercall HC_ALLOC_PAGES, GFP_HIGHUSER_MOVABLE & ~__GFP_DIRECT_RECLAIM | __GFP_THISNODE | __GFP_NOWARN, ORDER, r14, 0
    jnz     8f
    inc     r13
    cmp     r13, SPARE >> ORDER
    jbe     7b
    jmp     whole
8:  info    INFO_FREE_PAGES, r14
    mov     rbp, rax                            # RBP = pages free
    print_decimal rbp
    print   " pages of the node are free, and no block of order 9\n"

    # Those that may wait get three quarters of what there could be.
    shr     rbp, ORDER
    imul    rbp, rbp, 3
    shr     rbp, 2                              # RBP = blocks wanted
    xor     r13d, r13d                          # R13 = blocks got
    mov     esi, 256                            # ESI = attempts
3:  hypercall HC_ALLOC_PAGES, GFP_HIGHUSER_MOVABLE | __GFP_THISNODE | __GFP_RETRY_MAYFAIL | __GFP_NOWARN, ORDER, r14, 0
    jnz     4f
    inc     r13
    cmp     r13, rbp
    jae     5f
4:  dec     esi
    jnz     3b
5:  print   "compaction made "
    print_decimal r13
    print   " of "
    print_decimal rbp
    print   " blocks\n"
    cmp     r13, rbp
    jb      broken

    # What was moved is what it was.
    mov     ecx, 1
6:  mov     rax, rcx
    shl     rax, PAGE_SHIFT
    add     rax, rbx
    cmp     [rax], rax
    jne     broken
    add     rcx, 2
    cmp     rcx, r12
    jb      6b
    print   "every page that was left holds what was written\n"
    exit    0

whole:
    fail    "there is a block of order 9 before anything was compacted"
refused:
    fail    "a call was refused"
broken:
    fail    "something is not as it should be"
