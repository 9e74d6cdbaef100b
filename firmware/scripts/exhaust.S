# SPDX-License-Identifier: GPL-2.0-only
#
# exhaust.S: take everything, check that no frame was handed out twice, and give it all back.
#
# Blocks of 1024 pages until there are none, then of 512, and so on down to single pages, until even
# those are refused (a rest stays: the reserve below the min watermark is not for us). A bitmap has
# one bit for every frame; a frame whose bit is set already was handed out twice. The blocks are
# remembered where there is plenty of room: each holds the address of the one before and its own
# frame number, which must still be there in the end.
#
# Afterwards the free lists must be as they were: buddies find each other and merge. Pages on the
# per-cpu lists are free, but on no free list, so those lists are drained before both counts.
#
# Exit code 0: all of that is so. 1: it is not.

    .include "numalab.inc"

    # Movable pages may come from every zone. NORETRY: fail rather than kill somebody for memory.
    .set GFP, GFP_HIGHUSER_MOVABLE | __GFP_NORETRY | __GFP_NOWARN
    .set COUNTS, MAX_NUMNODES * MAX_NR_ZONES * MAX_ORDER        # one number for every free_area

    # The notes at the start of every block
    .set BLOCK_previous, 0
    .set BLOCK_pfn,      8
    .set BLOCK_order,    16

    .globl _start
_start:
    numalab_init
    call    make_bitmap                     # RBP = bitmap
    lea     rdi, [rip + before]
    call    count_free_blocks

    # --- take -------------------------------------------------------------------------------------
    xor     r12d, r12d                      # R12 = block taken last
    xor     r13d, r13d                      # R13 = pages so far
    mov     r14d, MAX_ORDER - 1             # R14 = order
    lea     rbx, [rip + buffer]             # RBX = where the kernel puts frame numbers
take_more:
    hypercall HC_ALLOC_BULK, GFP, r14, -1, BULK_MAX, rbx
    mov     r11, rdx                        # errno: 0, or the kernel had fewer than we asked for
    xor     esi, esi
1:  cmp     rsi, rax
    je      2f
    mov     r8, [rbx + rsi*8]               # R8 = first frame of the block
    call    note_block
    inc     rsi
    jmp     1b
2:  test    r11, r11
    jz      take_more
    dec     r14
    jns     take_more
    print_decimal r13, 8
    print   " pages taken, no frame twice\n"

    # --- give back --------------------------------------------------------------------------------
give_back:
    test    r12, r12
    jz      3f
    mov     r8, [r12 + BLOCK_pfn]
    pfn_to_virt rax, r8
    cmp     rax, r12                        # does the block still hold its own number?
    jne     overwritten
    mov     r9, [r12 + BLOCK_order]
    mov     r12, [r12 + BLOCK_previous]
    hypercall HC_FREE_PAGES, r8, r9
    jnz     refused
    mov     ecx, r9d
    mov     eax, 1
    shl     rax, cl
    sub     r13, rax
    jmp     give_back
3:  test    r13, r13
    jnz     refused

    lea     rdi, [rip + after]
    call    count_free_blocks
    xor     ecx, ecx
    lea     rsi, [rip + before]
4:  mov     rax, [rsi + rcx*8]
    cmp     rax, [rdi + rcx*8]
    jne     not_the_same
    inc     ecx
    cmp     ecx, COUNTS
    jb      4b
    print   "all given back, the free lists are as they were\n"
    mov     r8, [rip + bitmap_frame]        # now the bitmap, too
    mov     r9, [rip + bitmap_order]
    hypercall HC_FREE_PAGES, r8, r9
    jnz     refused
    exit    0

# RBP = a bitmap of zeros with a bit for every frame number of the machine.
make_bitmap:
    xor     r12d, r12d                      # node
    xor     r13d, r13d                      # highest frame number + 1
1:  info    INFO_PGLIST_DATA, r12
    jnz     2f
    mov     rbx, [rax + PGLIST_DATA_node_start_pfn]
    add     rbx, [rax + PGLIST_DATA_node_spanned_pages]
    cmp     rbx, r13
    cmova   r13, rbx
2:  inc     r12
    cmp     r12, MAX_NUMNODES
    jb      1b
    xor     r14d, r14d                      # smallest order with enough bits:
3:  mov     ecx, r14d                       # a page has 4096 * 8
    mov     eax, PAGE_SIZE * 8
    shl     rax, cl
    cmp     rax, r13
    jae     4f
    inc     r14
    jmp     3b
4:  hypercall HC_ALLOC_PAGES, GFP_KERNEL | __GFP_ZERO, r14, -1, 0
    jnz     no_bitmap
    mov     [rip + bitmap_frame], rax
    mov     [rip + bitmap_order], r14
    pfn_to_virt rbp, rax
    ret

# Note the block of order R14 at frame R8: mark its frames, chain it. Changes R9 R10.
note_block:
    mov     ecx, r14d
    mov     r10d, 1
    shl     r10, cl                         # R10 = pages in it
    add     r13, r10
    mov     r9, r8
1:  bts     [rbp], r9                       # the carry flag is the bit's old value
    jc      twice
    inc     r9
    dec     r10
    jnz     1b
    pfn_to_virt r9, r8
    mov     [r9 + BLOCK_previous], r12
    mov     [r9 + BLOCK_pfn], r8
    mov     [r9 + BLOCK_order], r14
    mov     r12, r9
    ret

# Copy nr_free of every order of every zone of every node to the COUNTS numbers at RDI.
count_free_blocks:
    hypercall HC_DRAIN_ALL_PAGES
    xor     r8d, r8d                        # node
    xor     ecx, ecx                        # number
1:  info    INFO_PGLIST_DATA, r8
    mov     rbx, rax                        # the zones begin where the node begins
    jz      2f
    add     ecx, MAX_NR_ZONES * MAX_ORDER   # no such node: leave zeros
    jmp     5f
2:  mov     r9d, MAX_NR_ZONES
3:  lea     rsi, [rbx + ZONE_free_area]
    mov     r10d, MAX_ORDER
4:  mov     rax, [rsi + FREE_AREA_nr_free]
    mov     [rdi + rcx*8], rax
    inc     ecx
    add     rsi, SIZEOF_FREE_AREA
    dec     r10d
    jnz     4b
    add     rbx, SIZEOF_ZONE
    dec     r9d
    jnz     3b
5:  inc     r8
    cmp     r8, MAX_NUMNODES
    jb      1b
    ret

twice:        fail "a frame was handed out twice"
overwritten:  fail "a block does not hold its own number any more"
refused:      fail "the kernel did not take everything back"
not_the_same: fail "a free list is not as it was"
no_bitmap:    fail "no memory for the bitmap"

    .bss
    .balign 8
buffer:       .skip BULK_MAX * 8
before:       .skip COUNTS * 8
after:        .skip COUNTS * 8
bitmap_frame: .skip 8
bitmap_order: .skip 8
