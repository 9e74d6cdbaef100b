# SPDX-License-Identifier: GPL-2.0-only
#
# smp.S: all CPUs allocate at once, each from its own node.
#
# CPU 0 starts the others and opens the gate. Then every CPU takes PAGES single pages from the node
# it belongs to, writes its name into each and lets the others run in between. When all have done so
# (a barrier), each looks whether its frames still bear its name: they would not, had the kernel
# given one frame to two CPUs. CPU 0 prints the results in the order of the CPUs, so the output is
# the same however their instructions interleave.
#
# Exit code 0: every CPU got frames of its own node, and kept them. 1: one did not.

    .include "numalab.inc"

    .set PAGES, 16

    .globl _start
_start:
    numalab_init
    info    INFO_NR_CPUS
    mov     r12, rax                        # R12 = number of CPUs
    mov     ebx, 1
1:  cmp     rbx, r12
    je      2f
    lea     rsi, [rip + other_cpu]          # there it begins, with RDI = its number
    hypercall HC_START_CPU, rbx, rsi, 0, rbx
    jnz     3f                              # this one stays off (maxcpus=)
    inc     dword ptr [rip + cpus]
3:  inc     rbx
    jmp     1b
2:  mov     dword ptr [rip + gate], 1
    xor     edi, edi
    call    work
4:  pause                                   # wait until the last one is through
    mov     eax, [rip + cpus]
    cmp     [rip + finished], eax
    jne     4b

    xor     ebx, ebx                        # RBX = CPU
    xor     r13d, r13d                      # R13 = exit code
5:  lea     rbp, [rip + results]
    mov     rsi, rbx
    shl     rsi, 5
    add     rbp, rsi                        # RBP = its result
    cmp     qword ptr [rbp + RESULT_text], 0
    je      6f                              # never ran
    print   "cpu "
    print_decimal rbx
    print   " node "
    print_decimal [rbp + RESULT_node]
    print   ": "
    print_decimal [rbp + RESULT_pages]
    print   " frames, "
    mov     rsi, [rbp + RESULT_text]        # a length byte and the text
    movzx   ecx, byte ptr [rsi]
    inc     rsi
    hypercall HC_PRINT, rsi, rcx
    or      r13, [rbp + RESULT_bad]
6:  inc     rbx
    cmp     rbx, r12
    jb      5b
    exit    r13

other_cpu:
    numalab_init                            # every CPU has a mailbox of its own
7:  pause
    cmp     dword ptr [rip + gate], 0
    je      7b
    call    work
    halt

# The work of CPU RDI. Leaves its RESULT.
work:
    push    rbx
    push    r12
    push    r13
    mov     r8, rdi                         # R8 = CPU
    mov     rbx, rdi
    imul    rbx, rbx, PAGES * 8
    lea     rax, [rip + frames]
    add     rbx, rax                        # RBX = frame numbers of this CPU
    mov     rbp, rdi
    shl     rbp, 5
    lea     rax, [rip + results]
    add     rbp, rax                        # RBP = its RESULT
    info    INFO_THIS_NODE
    mov     r12, rax                        # R12 = its node
    mov     [rbp + RESULT_node], r12

    # Insist on the own node, unless it has no memory: then the nearest node that has some will do.
    mov     r13d, GFP_KERNEL | __GFP_THISNODE
    info    INFO_PGLIST_DATA, r12
    cmp     qword ptr [rax + PGLIST_DATA_node_present_pages], 0
    jne     1f
    mov     r13d, GFP_KERNEL
1:  xor     r9d, r9d                        # R9 = pages so far
take:
    hypercall HC_ALLOC_PAGES, r13, 0, r12, 0
    jnz     2f
    mov     [rbx + r9*8], rax
    pfn_to_virt rsi, rax
    mov     rax, r8
    shl     rax, 32
    or      rax, r9
    mov     [rsi], rax                      # the name: CPU and number
    inc     r9
    hypercall HC_YIELD                      # now somebody else
    cmp     r9, PAGES
    jb      take
2:  mov     [rbp + RESULT_pages], r9

    lock inc dword ptr [rip + arrived]      # the barrier
3:  pause
    mov     eax, [rip + cpus]
    cmp     [rip + arrived], eax
    jb      3b

    lea     r11, [rip + no_memory_text]
    cmp     r9, PAGES
    jne     bad
    xor     ecx, ecx
4:  mov     rax, [rbx + rcx*8]
    pfn_to_virt rsi, rax
    mov     r10, r8
    shl     r10, 32
    or      r10, rcx
    lea     r11, [rip + shared_text]
    cmp     [rsi], r10                      # still ours?
    jne     bad
    pfn_to_page rsi, rax
    mov     rsi, [rsi + PAGE_flags]
    shr     rsi, NODES_PGSHIFT              # the node the frame lies on
    lea     r11, [rip + wrong_node_text]
    cmp     rsi, r12
    je      5f
    test    r13d, __GFP_THISNODE
    jnz     bad
5:  inc     ecx
    cmp     ecx, PAGES
    jb      4b
    lea     r11, [rip + own_text]
    test    r13d, __GFP_THISNODE
    jnz     done
    lea     r11, [rip + nearest_text]
    jmp     done
bad:
    mov     qword ptr [rbp + RESULT_bad], 1
done:
    mov     [rbp + RESULT_text], r11
    hypercall HC_FREE_BULK, 0, r9, rbx
    jz      6f
    mov     qword ptr [rbp + RESULT_bad], 1
6:  lock inc dword ptr [rip + finished]
    pop     r13
    pop     r12
    pop     rbx
    ret

# What a CPU tells CPU 0
    .set RESULT_node,  0
    .set RESULT_pages, 8
    .set RESULT_bad,   16
    .set RESULT_text,  24

    .section .rodata
.macro text label, string
\label: .byte   \label\()_end - \label - 1
    .ascii  "\string"
\label\()_end:
.endm
    text own_text, "all from its own node\n"
    text nearest_text, "from other nodes: its own has no memory\n"
    text wrong_node_text, "but one is from another node\n"
    text shared_text, "but one belongs to somebody else, too\n"
    text no_memory_text, "then the memory was used up\n"

    .data
    .balign 8
cpus:     .long 1                           # CPUs that take part
gate:     .long 0
arrived:  .long 0
finished: .long 0

    .bss
    .balign 8
frames:  .skip NR_CPUS * PAGES * 8
results: .skip NR_CPUS * 32
