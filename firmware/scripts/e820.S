# SPDX-License-Identifier: GPL-2.0-only
#
# e820.S: what memory is there? The answer the firmware gave.
#
# Before a kernel can manage memory it has to be told where there is any. On a PC the BIOS answers
# with a list of address ranges, named after the call that asks for it (INT 15h, AX=E820h). A boot
# loader leaves the list in boot_params, and RSI points there when a 64-bit kernel is entered. No
# kernel service is used here but printing: this script could run first of all.
#
# Exit code 0: the ranges ascend, do not overlap, and some RAM is usable. 1: the map makes no sense.

    .include "numalab.inc"

    .globl _start
_start:
    mov     rbp, rsi                        # RBP = boot_params (numalab_init leaves it alone)
    numalab_init
    movzx   r14d, byte ptr [rbp + BOOT_PARAMS_e820_entries]     # R14 = entries left
    lea     rbx, [rbp + BOOT_PARAMS_e820_table]                 # RBX = this entry
    xor     r12d, r12d                      # R12 = usable bytes so far
    xor     r13d, r13d                      # R13 = end of the entry before

next_entry:
    test    r14, r14
    jz      finished
    mov     r8, [rbx + E820_ENTRY_addr]     # first byte
    mov     r9, [rbx + E820_ENTRY_size]
    add     r9, r8                          # one past the last byte
    cmp     r8, r13
    jb      nonsense                        # begins before its predecessor ended
    cmp     r9, r8
    jbe     nonsense                        # empty, or past the end of the address space
    mov     r13, r9

    dec     r9                              # the kernel's way of writing a range
    print   "[mem "
    print_hex r8, 16
    print   "-"
    print_hex r9, 16
    print   "] "

    mov     eax, [rbx + E820_ENTRY_type]
    cmp     eax, E820_USABLE
    je      usable
    cmp     eax, E820_RESERVED
    je      reserved
    print   "type "
    print_decimal rax
    print   "\n"
    jmp     entry_done
usable:
    add     r12, [rbx + E820_ENTRY_size]
    print   "usable\n"
    jmp     entry_done
reserved:
    print   "reserved\n"                    # firmware and devices live here: hands off

entry_done:
    add     rbx, SIZEOF_E820_ENTRY
    dec     r14
    jmp     next_entry

finished:
    shr     r12, 10
    print_decimal r12
    print   " KiB usable\n"
    test    r12, r12
    jz      nonsense
    exit    0

nonsense:
    fail    "this map makes no sense"
