# SPDX-License-Identifier: GPL-2.0-only
#
# swap_storm.S: a process with far more memory than the machine has.
#
# A disk becomes swap space, and the script maps more than RAM, fills every word of it and reads every
# word back. Each page it writes pushes another one out; each page it reads comes back from the disk.
# It tells how many pages it had and how long that took by the machine's clock.
#
# Exit code 0: every word was what it should be. 1: one was not, or there was no room.

    .include "numalab.inc"

    .set STORM_MIB, 384
    .set SWAP_MIB,  512

    .globl _start
_start:
    numalab_init                            # R15 = this CPU's mailbox
    hypercall HC_SWAPON, SWAP_MIB * 256, -1
    jnz     refused
    hypercall HC_MMAP, 0, STORM_MIB << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
    jnz     refused
    mov     rbx, rax                        # RBX = the memory
    info    INFO_CLOCK
    mov     r13, rax

    # Every word of a page gets the page's address, shifted so that no two pages look alike.
    cld
    mov     rdi, rbx
    mov     r12d, STORM_MIB * 256           # R12 = pages to go
1:  mov     rax, rdi
    rol     rax, 17
    mov     ecx, PAGE_SIZE / 8
    rep     stosq
    dec     r12d
    jnz     1b
    print   "written: "
    print_decimal STORM_MIB
    print   " MiB\n"

    mov     rdi, rbx
    mov     r12d, STORM_MIB * 256
2:  mov     rax, rdi
    rol     rax, 17
    mov     ecx, PAGE_SIZE / 8
    repe    scasq
    jne     broken
    dec     r12d
    jnz     2b
    print   "read back: every word\n"

    info    INFO_CLOCK
    sub     rax, r13
    xor     edx, edx
    mov     ecx, 1000000
    div     rcx
    print   "time: "
    print_decimal rax
    print   " ms\n"
    hypercall HC_MUNMAP, rbx, STORM_MIB << 20
    jnz     refused
    exit    0

refused:
    print   "refused with errno "
    print_decimal rdx
    print   "\n"
    exit    1
broken:
    fail    "a word came back wrong"
