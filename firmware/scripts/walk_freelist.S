# SPDX-License-Identifier: GPL-2.0-only
#
# walk_freelist.S: the buddy allocator's free lists, followed pointer by pointer.
#
# Free memory is kept in blocks of 1, 2, 4 ... 1024 pages. Every zone has a free_area for each of
# these eleven orders, and in it one list for each migrate type. A list runs through the struct
# pages of the blocks' first frames: page->lru, head -> page -> page -> ... -> back to the head.
# Nothing of it is hidden, so this script walks it all without asking the kernel for help, checks
# what it meets, and compares the number of blocks with what the kernel believes (nr_free).
#
# Exit code 0: all lists are sound and the numbers agree. 1: the line printed last says what is not.

    .include "numalab.inc"

    .globl _start
_start:
    numalab_init
    xor     r12d, r12d                      # R12 = node id
    xor     r14d, r14d                      # R14 = free pages of the machine

next_node:
    info    INFO_NR_NODES
    cmp     r12, rax
    jae     finished
    info    INFO_PGLIST_DATA, r12
    jnz     node_done                       # there is no node of this number
    lea     rbx, [rax + PGLIST_DATA_node_zones]     # RBX = this zone
    xor     ebp, ebp                        # RBP = zone index
next_zone:
    cmp     qword ptr [rbx + ZONE_present_pages], 0
    je      zone_done                       # an empty zone is not worth a line
    print   "node "
    print_decimal r12
    print   " zone "
    mov     rsi, [rbx + ZONE_name]
    call    print_name
    lea     r8, [rbx + ZONE_free_area]      # R8 = this free_area
    xor     r9d, r9d                        # R9 = order
next_order:
    call    walk_free_area                  # R13 = blocks it found
    print   " "
    print_decimal r13, 5
    cmp     r13, [r8 + FREE_AREA_nr_free]
    jne     wrong_count
    mov     ecx, r9d
    shl     r13, cl                         # a block of order n is 2^n pages
    add     r14, r13
    add     r8, SIZEOF_FREE_AREA
    inc     r9
    cmp     r9, MAX_ORDER
    jb      next_order
    print   "\n"
zone_done:
    add     rbx, SIZEOF_ZONE
    inc     ebp
    cmp     ebp, MAX_NR_ZONES
    jb      next_zone
node_done:
    inc     r12
    jmp     next_node

finished:
    print_decimal r14
    print   " pages free, every block where it belongs\n"
    exit    0

# R13 = number of blocks on the six lists of the free_area at R8 (order R9). Changes RAX RCX RDX RSI
# RDI R10 R11. Does not return when something is wrong.
walk_free_area:
    xor     r13d, r13d
    mov     ecx, r9d                        # CL = order, for the shifts
    xor     edx, edx                        # RDX = migrate type
1:  mov     rdi, rdx
    shl     rdi, 4                          # a list_head is two pointers
    lea     rdi, [r8 + rdi + FREE_AREA_free_list]   # RDI = head of this list
    mov     rsi, rdi                        # RSI = the list_head we stand on
2:  mov     rax, [rsi + LIST_HEAD_next]
    cmp     [rax + LIST_HEAD_prev], rsi     # whoever comes next must point back
    jne     broken_link
    mov     rsi, rax
    cmp     rsi, rdi
    je      3f                              # once around
    lea     rax, [rsi - PAGE_lru]           # from page->lru to the page itself
    cmp     dword ptr [rax + PAGE__mapcount], PAGE_BUDDY
    jne     not_free
    cmp     [rax + PAGE_private], r9        # a free block knows its order
    jne     not_free
    page_to_pfn r10, rax
    mov     r11, r10                        # it is aligned to its size:
    shr     r11, cl                         # the low bits of the frame number are clear
    shl     r11, cl
    cmp     r11, r10
    jne     not_aligned
    mov     r11, [rax + PAGE_flags]         # and it lies on this node, in this zone
    shr     r11, ZONES_PGSHIFT
    lea     rax, [rbp + r12*4]
    cmp     r11, rax
    jne     wrong_zone
    inc     r13
    jmp     2b
3:  inc     edx
    cmp     edx, MIGRATE_TYPES
    jb      1b
    ret

# The zero-terminated name at RSI, in eight columns.
print_name:
    mov     ecx, 8
1:  mov     al, [rsi]
    test    al, al
    jz      2f
    out     PORT_CONSOLE, al
    inc     rsi
    dec     ecx
    jmp     1b
2:  print   " "
    dec     ecx
    jg      2b
    ret

broken_link: fail "\na list entry does not point back to the one before it"
wrong_count: fail " blocks found, but nr_free says otherwise"
not_free:    fail "\na page on a free list does not head a free block of this order"
not_aligned: fail "\na block is not aligned to its size"
wrong_zone:  fail "\na block belongs to another zone"
