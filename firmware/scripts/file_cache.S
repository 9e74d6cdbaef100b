# SPDX-License-Identifier: GPL-2.0-only
#
# file_cache.S: files are memory until somebody insists on the disk.
#
# The script makes a file and writes 256 KiB to it: that ends in the page cache, and takes no time on
# the disk. fsync does, in modelled nanoseconds. Reading it back takes none: the pages are there.
# Mapped shared, the same pages appear at an address; what is written there is in the file, what is
# written to the file is there. Mapped private, a page becomes the process's own when it is written.
# A shorter file has lost its pages; one without a name lives as long as it is mapped.
#
# Exit code 0: everything as it should be. 1: something was not.

    .include "numalab.inc"

    .set SIZE, 256 << 10

    .globl _start
_start:
    numalab_init                            # R15 = this CPU's mailbox
    hypercall HC_MMAP, 0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    jnz     refused
    mov     rbx, rax                        # RBX = what is written
    xor     ecx, ecx
1:  mov     [rbx + rcx], rcx
    add     rcx, 8
    cmp     rcx, SIZE
    jb      1b
    hypercall HC_MMAP, 0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    jnz     refused
    mov     r13, rax                        # R13 = what is read

    lea     r14, [rip + name]
    hypercall HC_OPEN, r14, 5, O_CREAT | O_EXCL | O_RDWR
    jnz     refused
    mov     r12, rax                        # R12 = the file
    info    INFO_CLOCK
    mov     rbp, rax
    hypercall HC_WRITE, r12, rbx, SIZE, -1
    jnz     refused
    cmp     rax, SIZE
    jne     broken
    print   "wrote 256 KiB"
    call    time_passed
    hypercall HC_FSYNC, r12
    jnz     refused
    print   "fsync"
    call    time_passed
    hypercall HC_READ, r12, r13, SIZE, 0
    jnz     refused
    cmp     rax, SIZE
    jne     broken
    print   "read it back"
    call    time_passed
    mov     rsi, rbx
    mov     rdi, r13
    mov     ecx, SIZE / 8
    repe    cmpsq
    jne     broken

    # The same pages at an address.
    hypercall HC_MMAP, 0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, r12, 0
    jnz     refused
    mov     r14, rax                        # R14 = the shared mapping
    mov     rsi, rbx
    mov     rdi, r14
    mov     ecx, SIZE / 8
    repe    cmpsq
    jne     broken
    mov     qword ptr [r14 + 5 * PAGE_SIZE], 77
    hypercall HC_READ, r12, r13, 8, 5 * PAGE_SIZE
    jnz     refused
    cmp     qword ptr [r13], 77
    jne     broken
    mov     qword ptr [rbx], 88
    hypercall HC_WRITE, r12, rbx, 8, 9 * PAGE_SIZE
    jnz     refused
    cmp     qword ptr [r14 + 9 * PAGE_SIZE], 88
    jne     broken
    print   "mapped shared: one page, two ways to it\n"

    # A page of one's own.
    hypercall HC_MMAP, 0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, r12, 0
    jnz     refused
    mov     rbp, rax                        # RBP = the private mapping
    mov     qword ptr [rbp + 5 * PAGE_SIZE], 99
    cmp     qword ptr [r14 + 5 * PAGE_SIZE], 77
    jne     broken
    mov     qword ptr [r14 + 6 * PAGE_SIZE], 66
    cmp     qword ptr [rbp + 6 * PAGE_SIZE], 66
    jne     broken
    print   "mapped private: a written page is its own\n"

    # Shorter, then longer: what was cut off is gone.
    hypercall HC_FTRUNCATE, r12, 3 * PAGE_SIZE + 8
    jnz     refused
    hypercall HC_READ, r12, r13, SIZE, 0
    jnz     refused
    cmp     rax, 3 * PAGE_SIZE + 8
    jne     broken
    hypercall HC_FTRUNCATE, r12, SIZE
    jnz     refused
    cmp     qword ptr [r14 + 3 * PAGE_SIZE], 3 * PAGE_SIZE
    jne     broken
    cmp     qword ptr [r14 + 3 * PAGE_SIZE + 8], 0
    jne     broken
    cmp     qword ptr [rbp + 5 * PAGE_SIZE], 0
    jne     broken
    print   "cut and made longer: zeroes where it was cut\n"

    # The name goes at once, the file when nobody has it any more.
    mov     r8, r14                         # R8 = the shared mapping
    lea     r14, [rip + name]
    hypercall HC_UNLINK, r14, 5
    jnz     refused
    hypercall HC_OPEN, r14, 5, O_RDONLY
    cmp     rdx, ENOENT
    jne     broken
    hypercall HC_CLOSE, r12
    jnz     refused
    cmp     qword ptr [r8 + 3 * PAGE_SIZE], 3 * PAGE_SIZE
    jne     broken
    print   "no name, but mapped: it lives\n"
    hypercall HC_MUNMAP, r8, SIZE
    jnz     refused
    hypercall HC_MUNMAP, rbp, SIZE
    jnz     refused
    hypercall HC_READ, r12, r13, 8, 0
    cmp     rdx, EBADF
    jne     broken
    print   "gone\n"
    exit    0

# Says whether the disk has taken its time since RBP, which is set anew.
time_passed:
    info    INFO_CLOCK
    xchg    rbp, rax
    sub     rax, rbp
    neg     rax
    cmp     rax, 1000000
    jb      2f
    print   ": the disk took its time\n"
    ret
2:  print   ": no disk\n"
    ret

refused:
    print   "refused with errno "
    print_decimal rdx
    print   "\n"
    exit    1
broken:
    fail    "a file is not what it should be"

    .section .rodata
name:
    .ascii  "notes"
