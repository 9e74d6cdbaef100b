# SPDX-License-Identifier: GPL-2.0-only
#
# memcg.S: a process in a box of its own memory, and what happens when it wants more.
#
# A child joins a memory control group that may have 2 MiB, and writes to 4 MiB. With swap it gets
# through: the group's own pages are swapped out, and every word is still right. A second child does
# the same in a group that may not swap, because there is no swap left for it: it is killed, by the
# rules of the OOM killer, and nobody else is. The script itself, outside, keeps its memory.
#
# Exit code 0: so it was. 1: it was not.

    .include "numalab.inc"

    .set LIMIT, 512                             # pages a group may have
    .set PAGES, 1024                            # pages a child writes to
    .set KILLED, 9

    .globl _start
_start:
    numalab_init                                # R15 = this CPU's mailbox
    hypercall HC_SWAPON, PAGES + 2, -1
    jnz     refused
    hypercall HC_MMAP, 0, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    jnz     refused
    mov     rbx, rax                            # RBX = memory of the script's own
    mov     qword ptr [rbx], 4711
    hypercall HC_MEMCG_CREATE, 0
    jnz     refused
    mov     r12, rax                            # R12 = the first group
    hypercall HC_MEMCG_SET_MAX, r12, LIMIT
    jnz     refused
    hypercall HC_MEMCG_CREATE, 0
    jnz     refused
    mov     r13, rax                            # R13 = the second group
    hypercall HC_MEMCG_SET_MAX, r13, LIMIT
    jnz     refused

    # The first child: over its limit, but there is swap.
    mov     r14, r12
    call    child_in_group
    hypercall HC_WAIT, r8
    jnz     refused
    mov     rax, [r15 + MAILBOX_ARG1]
    test    rax, rax
    jnz     broken
    print   "the first group swapped, and lost nothing\n"

    # A child outside fills the swap; then the second child has nowhere to go.
    hypercall HC_MMAP, 0, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    jnz     refused
    mov     r14, r13
    call    hungry_child_in_group
    hypercall HC_WAIT, r8
    jnz     refused
    mov     rax, [r15 + MAILBOX_ARG1]
    cmp     rax, KILLED
    jne     broken
    print   "the second group had a process killed\n"
    cmp     qword ptr [rbx], 4711
    jne     broken
    print   "outside nothing happened\n"
    exit    0

# Fork a child that joins group R14 and writes PAGES pages; R8 = its process id.
child_in_group:
    hypercall HC_FORK
    jnz     refused
    test    rax, rax
    jz      1f
    mov     r8, rax
    ret
1:  hypercall HC_MEMCG_ATTACH, 0, r14
    jnz     2f
    mov     r9d, PAGES
    call    write_and_verify
    jne     2f
    hypercall HC_MEMCG_USAGE, r14
    jnz     2f
    cmp     rax, LIMIT
    ja      2f
    hypercall HC_EXIT_PROCESS, 0
2:  hypercall HC_EXIT_PROCESS, 1

# The same with a child that wants more than limit and swap together.
hungry_child_in_group:
    hypercall HC_FORK
    jnz     refused
    test    rax, rax
    jz      1f
    mov     r8, rax
    ret
1:  hypercall HC_MEMCG_ATTACH, 0, r14
    mov     r9d, LIMIT + PAGES + 256
    call    write_and_verify
    hypercall HC_EXIT_PROCESS, 1

# Map R9 pages, write each page's address into it and look whether it is there. ZF: it is.
write_and_verify:
    mov     rcx, r9
    shl     rcx, PAGE_SHIFT
    hypercall HC_MMAP, 0, rcx, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    jnz     3f
    mov     rsi, rax
    xor     ecx, ecx
1:  mov     rax, rcx
    shl     rax, PAGE_SHIFT
    add     rax, rsi
    mov     [rax], rax
    inc     rcx
    cmp     rcx, r9
    jb      1b
    xor     ecx, ecx
2:  mov     rax, rcx
    shl     rax, PAGE_SHIFT
    add     rax, rsi
    cmp     [rax], rax
    jne     3f
    inc     rcx
    cmp     rcx, r9
    jb      2b
    xor     eax, eax
3:  ret

refused:
    fail    "a call was refused"
broken:
    fail    "something is not as it should be"
