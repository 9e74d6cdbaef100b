# SPDX-License-Identifier: GPL-2.0-only
#
# numa_policy.S: where a process's memory comes from, and moving it.
#
# For every node with memory the script binds itself to it, maps sixteen pages with frames in them,
# and asks where they are. Then it takes the nodes in turn and counts how many pages each one gave.
# Last it moves all of those to the first node, and they keep what was written in them.
#
# Exit code 0: everything as it should be. 1: something was not.

    .include "numalab.inc"

    .set PAGES, 16
    .set LENGTH, PAGES * PAGE_SIZE

    .globl _start
_start:
    numalab_init                            # R15 = this CPU's mailbox
    call    nodes_with_memory               # R14 = their mask
    hypercall HC_MMAP, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    jnz     refused
    mov     r13, rax                        # R13 = addresses, +0x400 nodes, +0x800 answers

    # Bound to each node in turn.
    xor     ebp, ebp                        # RBP = the node
1:  bt      r14, rbp
    jnc     2f
    mov     ecx, ebp
    mov     eax, 1
    shl     rax, cl
    hypercall HC_SET_MEMPOLICY, MPOL_BIND, rax
    jnz     refused
    call    sixteen_pages
    call    ask
    xor     ecx, ecx
3:  cmp     [r13 + 0x800 + 8 * rcx], rbp
    jne     broken
    inc     ecx
    cmp     ecx, PAGES
    jb      3b
    print   "bound to node "
    print_decimal rbp
    print   ": 16 pages, all there\n"
    hypercall HC_MUNMAP, rbx, LENGTH
    jnz     refused
2:  inc     ebp
    cmp     ebp, MAX_NUMNODES
    jb      1b

    # In turn.
    hypercall HC_SET_MEMPOLICY, MPOL_INTERLEAVE, r14
    jnz     refused
    call    sixteen_pages
    call    ask
    popcnt  r12, r14                        # R12 = how many nodes take turns
    xor     ebp, ebp
4:  bt      r14, rbp
    jnc     5f
    xor     eax, eax
    xor     ecx, ecx
6:  cmp     [r13 + 0x800 + 8 * rcx], rbp
    jne     7f
    inc     eax
7:  inc     ecx
    cmp     ecx, PAGES
    jb      6b
    print   "in turn: node "
    print_decimal rbp
    print   " gave "
    print_decimal rax
    print   "\n"
    mov     ecx, eax                        # a fair share, give or take one
    mov     eax, PAGES
    xor     edx, edx
    div     r12
    cmp     ecx, eax
    jb      broken
    inc     eax
    cmp     ecx, eax
    ja      broken
5:  inc     ebp
    cmp     ebp, MAX_NUMNODES
    jb      4b

    # All to the first one.
    bsf     rbp, r14
    xor     ecx, ecx
8:  mov     rax, rcx
    shl     rax, PAGE_SHIFT
    mov     [rbx + rax + 24], rcx
    mov     [r13 + 0x400 + 8 * rcx], rbp
    inc     ecx
    cmp     ecx, PAGES
    jb      8b
    lea     rax, [r13 + 0x400]
    lea     rcx, [r13 + 0x800]
    hypercall HC_MOVE_PAGES, PAGES, r13, rax, rcx
    jnz     refused
    xor     ecx, ecx
9:  cmp     [r13 + 0x800 + 8 * rcx], rbp
    jne     broken
    mov     rax, rcx
    shl     rax, PAGE_SHIFT
    cmp     [rbx + rax + 24], rcx
    jne     broken
    inc     ecx
    cmp     ecx, PAGES
    jb      9b
    print   "moved to node "
    print_decimal rbp
    print   ": all there, nothing lost\n"

    # What is refused: a node that does not exist, a policy without nodes.
    mov     rax, 1 << 60
    hypercall HC_SET_MEMPOLICY, MPOL_BIND, rax
    cmp     rdx, EINVAL
    jne     broken
    hypercall HC_SET_MEMPOLICY, MPOL_INTERLEAVE, 0
    cmp     rdx, EINVAL
    jne     broken
    exit    0

# R14 = the nodes that have free memory.
nodes_with_memory:
    info    INFO_NODE_MASK
    mov     r14, rax
    xor     ebp, ebp
1:  bt      r14, rbp
    jnc     2f
    info    INFO_FREE_PAGES, rbp
    test    rax, rax
    jnz     2f
    btr     r14, rbp
2:  inc     ebp
    cmp     ebp, MAX_NUMNODES
    jb      1b
    ret

# RBX = sixteen pages with frames, their addresses at R13.
sixteen_pages:
    hypercall HC_MMAP, 0, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
    jnz     refused
    mov     rbx, rax
    xor     ecx, ecx
1:  mov     [r13 + 8 * rcx], rax
    mov     qword ptr [rax], 1
    add     rax, PAGE_SIZE
    inc     ecx
    cmp     ecx, PAGES
    jb      1b
    ret

# The nodes of the pages whose addresses are at R13, at R13 + 0x800.
ask:
    lea     rax, [r13 + 0x800]
    hypercall HC_MOVE_PAGES, PAGES, r13, 0, rax
    jnz     refused
    ret

refused:
    print   "refused with errno "
    print_decimal rdx
    print   "\n"
    exit    1
broken:
    fail    "pages are not where they should be"
