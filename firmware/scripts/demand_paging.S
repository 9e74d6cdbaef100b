# SPDX-License-Identifier: GPL-2.0-only
#
# demand_paging.S: memory that comes when it is touched, and not before.
#
# The script becomes the process init with its first call and maps memory that nobody has given a
# frame yet. Reading it finds zeroes: one page of them stands for all. Writing faults a frame in for
# every page, through the MMU, in the middle of the instruction. A stack grows under the pushes that
# reach below it. A child that strays into memory that is not mapped, one that writes where it may
# only read, and one that jumps to data that may not be executed die of it; nobody else does.
#
# Exit code 0: everything as it should be. 1: something was not.

    .include "numalab.inc"

    .set PAGES, 64
    .set STACK_PAGES, 12

    .globl _start
_start:
    numalab_init                            # R15 = this CPU's mailbox
    hypercall HC_MMAP, 0, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    jnz     refused
    mov     rbx, rax                        # RBX = the memory
    print   "mapped 64 pages at "
    print_hex rbx
    print   "\n"

    # Nothing has been written: every page reads as zero.
    xor     ecx, ecx
    xor     eax, eax
1:  or      rax, [rbx + rcx]
    add     rcx, PAGE_SIZE
    cmp     rcx, PAGES * PAGE_SIZE
    jb      1b
    test    rax, rax
    jnz     broken
    print   "read: all zero\n"

    # Each page gets its own address written into it, and still has it when all are there.
    xor     ecx, ecx
2:  lea     rax, [rbx + rcx]
    mov     [rax], rax
    add     rcx, PAGE_SIZE
    cmp     rcx, PAGES * PAGE_SIZE
    jb      2b
    xor     ecx, ecx
3:  lea     rax, [rbx + rcx]
    cmp     [rax], rax
    jne     broken
    add     rcx, PAGE_SIZE
    cmp     rcx, PAGES * PAGE_SIZE
    jb      3b
    print   "written: 64 pages keep what they got\n"

    # Given up, they read as zero again.
    hypercall HC_MADVISE, rbx, PAGES * PAGE_SIZE, MADV_DONTNEED
    jnz     refused
    cmp     qword ptr [rbx], 0
    jne     broken
    print   "given up: zero again\n"

    # A stack of one page grows with what is pushed.
    hypercall HC_MMAP, 0, 1024 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    jnz     refused
    mov     r12, rax
    hypercall HC_MUNMAP, r12, 1024 * PAGE_SIZE
    lea     r12, [r12 + 1023 * PAGE_SIZE]
    hypercall HC_MMAP, r12, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0
    jnz     refused
    mov     r13, rsp
    lea     rsp, [r12 + PAGE_SIZE]
    mov     ecx, STACK_PAGES * PAGE_SIZE / 8
4:  push    rcx
    dec     ecx
    jnz     4b
    lea     rax, [r12 - (STACK_PAGES - 1) * PAGE_SIZE]
    cmp     rax, rsp
    jne     broken
    mov     rsp, r13
    print   "a stack grew to 12 pages\n"

    # Three children that do what they must not.
    lea     r12, [rip + stray]
    call    send_child
    hypercall HC_MPROTECT, rbx, PAGE_SIZE, PROT_READ
    jnz     refused
    lea     r12, [rip + write_to_it]
    call    send_child
    lea     r12, [rip + jump_to_it]
    call    send_child

    hypercall HC_MUNMAP, rbx, PAGES * PAGE_SIZE
    jnz     refused
    print   "unmapped\n"
    exit    0

# A child runs the code at R12; here it is told what became of it.
send_child:
    hypercall HC_FORK
    jnz     refused
    test    rax, rax
    jnz     5f
    jmp     r12
5:  mov     r13, rax
    hypercall HC_WAIT, r13
    jnz     refused
    print   "child "
    print_decimal r13
    print   " died of signal "
    mov     rax, [r15 + MAILBOX_ARG1]
    print_decimal rax
    print   "\n"
    ret

stray:
    mov     rax, [rbx + PAGES * PAGE_SIZE * 1024]
    jmp     survived
write_to_it:
    mov     qword ptr [rbx], 1
    jmp     survived
jump_to_it:
    jmp     rbx
survived:
    hypercall HC_EXIT_PROCESS, 1
6:  jmp     6b

refused:
    print   "refused with errno "
    print_decimal rdx
    print   "\n"
    exit    1
broken:
    fail    "memory does not hold what it should"
