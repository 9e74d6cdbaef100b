# SPDX-License-Identifier: GPL-2.0-only
#
# first_light.S: one page from every node, a pattern written into it and read back.
#
# The shortest way from a booted kernel to memory of one's own. For every node of the machine: ask
# the kernel for a page that lies on this node and no other, compute where the frame is in the
# direct map, fill it, look whether everything arrived, and give it back.
#
# Exit code 0: every node with memory gave a page that kept its pattern. 1: one did not.

    .include "numalab.inc"

    .set PATTERN, 0x4c494748540000          # the letters "LIGHT", and room for a node id

    .globl _start
_start:
    numalab_init                            # R15 = this CPU's mailbox
    xor     r12d, r12d                      # R12 = node id
    xor     r13d, r13d                      # R13 = exit code
    info    INFO_NODE_MASK
    mov     r14, rax                        # R14 = nodes still to visit, one bit each

next_node:
    test    r14, r14
    jz      finished
    test    r14, 1
    jz      skip_node

    # A node may exist and have no memory: its struct pglist_data tells.
    info    INFO_PGLIST_DATA, r12
    cmp     qword ptr [rax + PGLIST_DATA_node_present_pages], 0
    jne     has_memory
    print   "node "
    print_decimal r12
    print   ": has no memory\n"
    jmp     skip_node

has_memory:
    # __GFP_THISNODE: rather no page than one from another node. Order 0 is a single page.
    hypercall HC_ALLOC_PAGES, GFP_KERNEL | __GFP_THISNODE, 0, r12, 0
    jnz     no_page
    mov     rbx, rax                        # RBX = page frame number
    print   "node "
    print_decimal r12
    print   ": frame "
    print_hex rbx, 5

    # Write the pattern into all 512 words of the frame.
    pfn_to_virt rsi, rbx                    # RSI = the frame in the direct map
    movabs  rax, PATTERN
    or      rax, r12                        # every node gets its own
    mov     rdi, rsi
    mov     ecx, PAGE_SIZE / 8
    rep stosq
    print   " wrote "
    print_hex rax

    # Read it back through the other mapping, where an address is the physical address.
    mov     rdi, rbx
    shl     rdi, PAGE_SHIFT
    mov     ecx, PAGE_SIZE / 8
    repe scasq                              # stops at the first word that differs from RAX
    jne     damaged
    print   " read back ok\n"
    jmp     give_back
damaged:
    print   " read back something else\n"
    mov     r13d, 1

give_back:
    hypercall HC_FREE_PAGES, rbx, 0
    jz      skip_node
    print   "the kernel does not take the frame back\n"
    mov     r13d, 1
    jmp     skip_node

no_page:
    print   "node "
    print_decimal r12
    print   ": no page, errno "
    print_decimal rdx
    print   "\n"
    mov     r13d, 1

skip_node:
    inc     r12
    shr     r14, 1
    jmp     next_node

finished:
    exit    r13
