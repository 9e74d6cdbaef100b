# SPDX-License-Identifier: GPL-2.0-only
#
# offline.S: memory that goes away under a process, comes back, and goes bad.
#
# The script writes to 12 MiB, finds the frames of its pages in its own page tables, and has the
# 4 MiB blocks around them taken offline. Its pages move elsewhere, every word is still right, and
# none of them lies in a block that is gone. Online again, the blocks are memory as before. Then the
# hardware reports an error in the frame of one page: a child that reads it is killed by SIGBUS, and
# all other pages are as they were.
#
# Exit code 0: so it was. 1: it was not.

    .include "numalab.inc"

    .set PAGES, 3072                            # pages the script writes to
    .set STEP, 32                               # pages between two that are looked at
    .set BLOCK, 1024                            # frames that go offline together
    .set WANTED, 2                              # blocks to take offline
    .set BAD, 5                                 # the page that goes bad
    .set SIGBUS, 7
    .set FRAME_MASK, 0x000ffffffffff000

    .globl _start
_start:
    numalab_init                                # R15 = this CPU's mailbox
    hypercall HC_MMAP, 0, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    jnz     refused
    mov     rbx, rax                            # RBX = the script's memory
    xor     ecx, ecx
1:  mov     rax, rcx
    shl     rax, PAGE_SHIFT
    add     rax, rbx
    mov     [rax], rax                          # each page holds its address
    inc     rcx
    cmp     rcx, PAGES
    jb      1b

    # Take blocks with pages of the script offline, until there are enough.
    xor     r12d, r12d                          # R12 = blocks that are offline
    xor     r13d, r13d                          # R13 = the page that is looked at
2:  mov     rdi, r13
    shl     rdi, PAGE_SHIFT
    add     rdi, rbx
    call    frame_of
    and     rax, -BLOCK
    mov     r14, rax                            # R14 = first frame of its block
    hypercall HC_OFFLINE, r14, BLOCK
    jnz     3f                                  # something there cannot be moved
    lea     rdx, [rip + blocks]
    mov     [rdx + r12 * 8], r14
    inc     r12
    cmp     r12, WANTED
    je      4f
3:  add     r13, STEP
    cmp     r13, PAGES
    jb      2b
4:  test    r12, r12
    jz      broken
    print   "blocks offline: "
    print_decimal r12
    print   "\n"
    call    verify
    jne     broken

    # No page lies where there is no memory any more.
    xor     r13d, r13d
5:  mov     rdi, r13
    shl     rdi, PAGE_SHIFT
    add     rdi, rbx
    call    frame_of
    and     rax, -BLOCK
    lea     rdx, [rip + blocks]
    mov     rcx, r12
6:  cmp     [rdx + rcx * 8 - 8], rax
    je      broken
    dec     rcx
    jnz     6b
    inc     r13
    cmp     r13, PAGES
    jb      5b
    print   "every page has moved, and holds what was written\n"

    lea     r14, [rip + blocks]
7:  mov     rax, [r14 + r12 * 8 - 8]
    hypercall HC_ONLINE, rax, BLOCK
    jnz     refused
    dec     r12
    jnz     7b
    call    verify
    jne     broken
    print   "all blocks are online again\n"

    # A frame goes bad; who reads the page is killed.
    lea     rdi, [rbx + BAD * PAGE_SIZE]
    call    frame_of
    hypercall HC_MEMORY_FAILURE, rax, 0
    jnz     refused
    hypercall HC_FORK
    jnz     refused
    test    rax, rax
    jz      child
    mov     r8, rax
    hypercall HC_WAIT, r8
    jnz     refused
    mov     rax, [r15 + MAILBOX_ARG1]
    and     eax, 0x7f
    cmp     eax, SIGBUS
    jne     broken
    print   "the page that went bad killed its reader\n"
    xor     ecx, ecx
8:  cmp     rcx, BAD
    je      9f
    mov     rax, rcx
    shl     rax, PAGE_SHIFT
    add     rax, rbx
    cmp     [rax], rax
    jne     broken
9:  inc     rcx
    cmp     rcx, PAGES
    jb      8b
    print   "the others are as they were\n"
    exit    0

child:
    mov     rax, [rbx + BAD * PAGE_SIZE]
    hypercall HC_EXIT_PROCESS, 0

# ZF if every page at RBX still holds its address. Changes RAX RCX.
verify:
    xor     ecx, ecx
1:  mov     rax, rcx
    shl     rax, PAGE_SHIFT
    add     rax, rbx
    cmp     [rax], rax
    jne     2f
    inc     rcx
    cmp     rcx, PAGES
    jb      1b
    xor     eax, eax
2:  ret

# RAX = frame of the page that the process has at RDI: its page tables, walked from CR3 through the
# identity map. Changes RCX RDX RSI.
frame_of:
    mov     rax, cr3
    movabs  rsi, FRAME_MASK
    mov     ecx, 39
1:  and     rax, rsi
    mov     rdx, rdi
    shr     rdx, cl
    and     edx, 511
    mov     rax, [rax + rdx * 8]
    test    al, 0x80                            # a huge page: the frame is further on
    jz      2f
    cmp     ecx, 21
    je      3f
2:  sub     ecx, 9
    cmp     ecx, 12
    jae     1b
    and     rax, rsi
    shr     rax, PAGE_SHIFT
    ret
3:  and     rax, rsi
    shr     rax, PAGE_SHIFT
    and     rax, -512
    mov     rdx, rdi
    shr     rdx, PAGE_SHIFT
    and     edx, 511
    add     rax, rdx
    ret

refused:
    fail    "a call was refused"
broken:
    fail    "something is not as it should be"

    .bss
    .balign 8
blocks:
    .skip   WANTED * 8
