# SPDX-License-Identifier: GPL-2.0-only
"""Areas of an address space: finding, linking, splitting and merging them (mm/mmap.c).

An mm keeps its areas in a list by address and in a tree; every tree node also knows the largest
hole in front of any area below it (`rbtree.AUG_GAP`), which is what finding room looks at.
Neighbours that say the same become one area (`vma_merge`), an area that is to differ in part is cut
(`split_vma`), and `vma_adjust` moves borders under the reverse maps' eyes.

All hot. `mm`, `vma`, `file` are word indices, 0 for none; addresses are user addresses in bytes.
"""

from __future__ import annotations

from .file_table import fput
from .fs import file_i_mmap, get_file
from .gfp import GFP_KERNEL
from .huge_pmd_split import vma_adjust_trans_huge
from .kernel_globals import G_STACK_GUARD_GAP, G_VMA_CACHEP
from .layout import PAGE_OFFSET
from .list_head import list_init
from .mempolicy_vma import mpol_equal, mpol_put, vma_dup_policy
from .mm_struct import (
    MM_DATA_VM,
    MM_EXEC_VM,
    MM_HIGHEST_VM_END,
    MM_MAP_COUNT,
    MM_MMAP,
    MM_RB,
    MM_STACK_VM,
    MM_TOTAL_VM,
    MM_VMACACHE,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_OPS_FILE,
    VM_SHARED,
    VM_SOFTDIRTY,
    VM_SPECIAL,
    VM_WRITE,
    VMA_ANON_CHAIN,
    VMA_ANON_VMA,
    VMA_END,
    VMA_FILE,
    VMA_FLAGS,
    VMA_MM,
    VMA_NEXT,
    VMA_OPS,
    VMA_PGOFF,
    VMA_POLICY,
    VMA_PREV,
    VMA_PROT,
    VMA_RB,
    VMA_SHARED,
    VMA_START,
    VMA_WORDS,
)
from .pgtable import PROTECTION_MAP
from .rbtree import (
    AUG_GAP,
    IT_LAST,
    IT_START,
    RB_LEFT,
    RB_RIGHT,
    interval_tree_insert,
    interval_tree_remove,
    rb_erase,
    rb_insert,
    rb_propagate,
)
from .rmap import (
    anon_vma_clone,
    anon_vma_interval_tree_post_update_vma,
    anon_vma_interval_tree_pre_update_vma,
    unlink_anon_vmas,
)
from .slub import kmem_cache_alloc, kmem_cache_free

ENOMEM = 12


def vma_word(va: int) -> int:
    """Word index of the area at address `va`, 0 for none. Hot."""
    return (va - PAGE_OFFSET) >> 3 if va else 0


def vma_va(vma: int) -> int:
    """Address of an area, 0 for none. Hot."""
    return PAGE_OFFSET + (vma << 3) if vma else 0


def vm_start_gap(m: memoryview, vma: int) -> int:
    """Where an area begins, its guard gap included. Hot."""
    start = m[vma + VMA_START]
    if m[vma + VMA_FLAGS] & VM_GROWSDOWN:
        start = max(start - m[G_STACK_GUARD_GAP], 0)
    return start


def find_vma(m: memoryview, mm: int, address: int) -> int:
    """The first area that ends above `address`, 0 for none. Hot."""
    cached = m[mm + MM_VMACACHE]
    if cached:
        vma = (cached - PAGE_OFFSET) >> 3
        if m[vma + VMA_START] <= address < m[vma + VMA_END]:
            return vma
    found = 0
    va = m[mm + MM_RB]
    while va:
        vma = ((va - PAGE_OFFSET) >> 3) - VMA_RB
        if m[vma + VMA_END] > address:
            found = vma
            if m[vma + VMA_START] <= address:
                break
            va = m[vma + VMA_RB + RB_LEFT]
        else:
            va = m[vma + VMA_RB + RB_RIGHT]
    if found:
        m[mm + MM_VMACACHE] = PAGE_OFFSET + (found << 3)
    return found


def vm_area_alloc(m: memoryview, cpu: int, mm: int) -> int:
    """A fresh area of `mm`, linked nowhere; 0 without memory. Hot."""
    vma = kmem_cache_alloc(m, cpu, (m[G_VMA_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if vma:
        for i in range(VMA_WORDS):
            m[vma + i] = 0
        m[vma + VMA_MM] = PAGE_OFFSET + (mm << 3)
        list_init(m, vma + VMA_ANON_CHAIN)
    return vma


def vm_area_dup(m: memoryview, cpu: int, orig: int) -> int:
    """A copy of an area, linked nowhere; 0 without memory. Hot."""
    vma = kmem_cache_alloc(m, cpu, (m[G_VMA_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if vma:
        m[vma : vma + VMA_WORDS] = m[orig : orig + VMA_WORDS]
        list_init(m, vma + VMA_ANON_CHAIN)
    return vma


def vm_area_free(m: memoryview, cpu: int, vma: int) -> None:
    """Gives the structure of an area back. Hot."""
    kmem_cache_free(m, cpu, (m[G_VMA_CACHEP] - PAGE_OFFSET) >> 3, vma)


def vma_set_page_prot(m: memoryview, vma: int) -> None:
    """What fresh entries of the area say; shared file pages must fault to be written. Hot."""
    flags = m[vma + VMA_FLAGS]
    shared = flags & (VM_WRITE | VM_SHARED) == VM_WRITE | VM_SHARED
    if shared and m[vma + VMA_OPS] == VM_OPS_FILE:
        flags &= ~VM_SHARED
    m[vma + VMA_PROT] = PROTECTION_MAP[flags & 15]


def vm_stat_account(m: memoryview, mm: int, flags: int, pages: int) -> None:
    """Counts `pages` more (or fewer) of an area with these flags. Hot."""
    m[mm + MM_TOTAL_VM] += pages
    if flags & (VM_EXEC | VM_WRITE | VM_GROWSDOWN) == VM_EXEC:
        m[mm + MM_EXEC_VM] += pages
    elif flags & VM_GROWSDOWN:
        m[mm + MM_STACK_VM] += pages
    elif flags & (VM_WRITE | VM_SHARED) == VM_WRITE:
        m[mm + MM_DATA_VM] += pages


# --- list and trees -------------------------------------------------------------------------------


def vma_gap_update(m: memoryview, vma: int) -> None:
    """The hole in front of an area has changed. Hot."""
    rb_propagate(m, vma + VMA_RB, AUG_GAP)


def vma_link_file(m: memoryview, vma: int) -> None:
    """Enters an area into its file's tree. Hot."""
    file = vma_word(m[vma + VMA_FILE])
    if file:
        node = vma + VMA_SHARED
        m[node + IT_START] = m[vma + VMA_PGOFF]
        m[node + IT_LAST] = m[vma + VMA_PGOFF] + (m[vma + VMA_END] - m[vma + VMA_START] >> 12) - 1
        interval_tree_insert(m, node, file_i_mmap(m, file))


def unlink_file_vma(m: memoryview, vma: int) -> None:
    """Takes an area out of its file's tree. Hot."""
    file = vma_word(m[vma + VMA_FILE])
    if file:
        interval_tree_remove(m, vma + VMA_SHARED, file_i_mmap(m, file))


def vma_link_mm(m: memoryview, mm: int, vma: int) -> None:
    """Enters an area into its mm's list and tree. Hot (__vma_link)."""
    start = m[vma + VMA_START]
    prev = 0
    parent = 0
    side = RB_LEFT
    va = m[mm + MM_RB]
    while va:
        parent = (va - PAGE_OFFSET) >> 3
        if m[parent - VMA_RB + VMA_END] > start:
            side = RB_LEFT
        else:
            side = RB_RIGHT
            prev = parent - VMA_RB
        va = m[parent + side]
    following = vma_word(m[prev + VMA_NEXT] if prev else m[mm + MM_MMAP])
    m[vma + VMA_PREV] = vma_va(prev)
    m[vma + VMA_NEXT] = vma_va(following)
    if prev:
        m[prev + VMA_NEXT] = vma_va(vma)
    else:
        m[mm + MM_MMAP] = vma_va(vma)
    if following:
        # before the tree turns: a rotation would renew it and not those above
        m[following + VMA_PREV] = vma_va(vma)
        vma_gap_update(m, following)
    else:
        m[mm + MM_HIGHEST_VM_END] = m[vma + VMA_END]
    rb_insert(m, vma + VMA_RB, parent, side, mm + MM_RB, AUG_GAP)


def vma_link(m: memoryview, mm: int, vma: int) -> None:
    """Enters an area into the mm and into its file's tree. Hot."""
    vma_link_mm(m, mm, vma)
    vma_link_file(m, vma)
    m[mm + MM_MAP_COUNT] += 1


def vma_unlink(m: memoryview, mm: int, vma: int) -> None:
    """Takes an area out of its mm's list and tree. Hot."""
    prev = vma_word(m[vma + VMA_PREV])
    following = vma_word(m[vma + VMA_NEXT])
    rb_erase(m, vma + VMA_RB, mm + MM_RB, AUG_GAP)
    if prev:
        m[prev + VMA_NEXT] = vma_va(following)
    else:
        m[mm + MM_MMAP] = vma_va(following)
    if following:
        m[following + VMA_PREV] = vma_va(prev)
        vma_gap_update(m, following)
    else:
        m[mm + MM_HIGHEST_VM_END] = m[prev + VMA_END] if prev else 0
    m[mm + MM_VMACACHE] = 0


# --- moving borders -------------------------------------------------------------------------------


def import_anon_vma(m: memoryview, cpu: int, importer: int, exporter: int) -> int:
    """An area that takes over pages of another shares its anon_vmas: 0 or -ENOMEM. Hot."""
    if exporter == 0 or m[exporter + VMA_ANON_VMA] == 0 or m[importer + VMA_ANON_VMA]:
        return 0
    m[importer + VMA_ANON_VMA] = m[exporter + VMA_ANON_VMA]
    return anon_vma_clone(m, cpu, importer, exporter)


def take_out(m: memoryview, vma: int) -> None:
    """Takes an area whose borders are about to move out of the reverse maps. Hot."""
    if m[vma + VMA_ANON_VMA]:
        anon_vma_interval_tree_pre_update_vma(m, vma)
    unlink_file_vma(m, vma)


def put_in(m: memoryview, vma: int) -> None:
    """The end of take_out(). Hot."""
    vma_link_file(m, vma)
    if m[vma + VMA_ANON_VMA]:
        anon_vma_interval_tree_post_update_vma(m, vma)


def move_borders(
    m: memoryview, cpu: int, mm: int, vma: int, start: int, end: int, pgoff: int, shift: int
) -> None:
    """The area is [start, end) from now on, from page `pgoff` of its object; the next one's start
    moves by `shift` bytes. Hot."""
    following = vma_word(m[vma + VMA_NEXT])
    other = following if shift else 0
    other_start = m[other + VMA_START] + shift if other else 0
    vma_adjust_trans_huge(m, cpu, vma, start, end, other if shift > 0 else 0, other_start)
    take_out(m, vma)
    if other:
        take_out(m, other)
    m[vma + VMA_START] = start
    m[vma + VMA_END] = end
    m[vma + VMA_PGOFF] = pgoff
    if other:
        m[other + VMA_START] = other_start
        m[other + VMA_PGOFF] += shift >> 12
    put_in(m, vma)
    if other:
        put_in(m, other)
    vma_gap_update(m, vma)
    if following:
        vma_gap_update(m, following)
    else:
        m[mm + MM_HIGHEST_VM_END] = end


def swallow(m: memoryview, cpu: int, mm: int, gone: int) -> None:
    """Frees an area that a neighbour has been extended over. Hot."""
    m[mm + MM_MAP_COUNT] -= 1
    unlink_anon_vmas(m, cpu, gone)
    file = vma_word(m[gone + VMA_FILE])
    if file:
        fput(m, cpu, file)
    if m[gone + VMA_POLICY]:
        mpol_put(m, cpu, vma_word(m[gone + VMA_POLICY]))
    vm_area_free(m, cpu, gone)


def vma_expand(m: memoryview, cpu: int, mm: int, vma: int, end: int) -> int:
    """Extends an area to `end`, over those areas that lie in the way as a whole and the part of one
    that does not: 0 or -ENOMEM. Hot (__vma_adjust, cases 1, 2, 5, 6, 7)."""
    following = vma_word(m[vma + VMA_NEXT])
    last = following
    while last and m[last + VMA_END] < end and m[last + VMA_NEXT]:
        after = vma_word(m[last + VMA_NEXT])
        if m[after + VMA_START] >= end:
            break
        last = after
    donor = following
    while donor and m[donor + VMA_START] < end:
        if import_anon_vma(m, cpu, vma, donor):
            return -ENOMEM
        if donor == last:
            break
        donor = vma_word(m[donor + VMA_NEXT])
    while following and m[following + VMA_START] < end and m[following + VMA_END] <= end:
        after = vma_word(m[following + VMA_NEXT])
        unlink_file_vma(m, following)
        vma_unlink(m, mm, following)
        stop = m[following + VMA_END]
        move_borders(m, cpu, mm, vma, m[vma + VMA_START], stop, m[vma + VMA_PGOFF], 0)
        swallow(m, cpu, mm, following)
        following = after
    shift = 0
    if following and m[following + VMA_START] < end:
        shift = end - m[following + VMA_START]
    if m[vma + VMA_END] != end:
        move_borders(m, cpu, mm, vma, m[vma + VMA_START], end, m[vma + VMA_PGOFF], shift)
    return 0


def list_is_singular(m: memoryview, head: int) -> bool:
    """True if the list has exactly one member. Hot."""
    return m[head] != PAGE_OFFSET + (head << 3) and m[head] == m[head + 1]


def is_mergeable_anon_vma(m: memoryview, one: int, other: int, vma: int) -> bool:
    """True if pages of both anon_vmas (addresses) may be in one area. Hot."""
    if (one == 0 or other == 0) and (vma == 0 or list_is_singular(m, vma + VMA_ANON_CHAIN)):
        return True
    return one == other


def can_vma_merge(
    m: memoryview, vma: int, flags: int, anon_vma: int, file: int, policy: int, pgoff: int
) -> bool:
    """True if memory with these properties may become part of `vma`, whose page there would be
    `pgoff` of its object. Hot (can_vma_merge_before, can_vma_merge_after)."""
    if (m[vma + VMA_FLAGS] ^ flags) & ~VM_SOFTDIRTY or m[vma + VMA_FILE] != file:
        return False
    if not is_mergeable_anon_vma(m, anon_vma, m[vma + VMA_ANON_VMA], vma):
        return False
    if m[vma + VMA_PGOFF] != pgoff:
        return False
    mine = m[vma + VMA_POLICY]
    return mine == policy or mpol_equal(m, vma_word(mine), vma_word(policy))


def vma_merge(
    m: memoryview,
    cpu: int,
    mm: int,
    prev: int,
    addr: int,
    end: int,
    flags: int,
    anon_vma: int,
    file: int,
    pgoff: int,
    policy: int,
) -> int:
    """Makes [addr, end), behind area `prev` (0: none), part of a neighbour that says the same: the
    area it is part of then, or 0. Hot. `anon_vma`, `file`, `policy` are addresses."""
    if flags & VM_SPECIAL:
        return 0
    area = vma_word(m[prev + VMA_NEXT] if prev else m[mm + MM_MMAP])
    after = area
    if area and m[area + VMA_END] == end:
        after = vma_word(m[area + VMA_NEXT])
    pages = end - addr >> 12
    with_next = (
        after != 0
        and m[after + VMA_START] == end
        and can_vma_merge(m, after, flags, anon_vma, file, policy, pgoff + pages)
    )
    if prev and m[prev + VMA_END] == addr:
        inside = m[prev + VMA_END] - m[prev + VMA_START] >> 12
        if can_vma_merge(m, prev, flags, anon_vma, file, policy, pgoff - inside):
            if with_next and is_mergeable_anon_vma(
                m, m[prev + VMA_ANON_VMA], m[after + VMA_ANON_VMA], 0
            ):
                end = m[after + VMA_END]
            return 0 if vma_expand(m, cpu, mm, prev, end) else prev
    if not with_next:
        return 0
    return merge_below(m, cpu, mm, prev, area, after, addr, pages)


def merge_below(
    m: memoryview, cpu: int, mm: int, prev: int, area: int, after: int, addr: int, pages: int
) -> int:
    """Extends area `after` downwards to `addr`: itself, or 0 without memory. Hot."""
    if prev and addr < m[prev + VMA_END]:
        # case 4: the end of prev goes over
        if import_anon_vma(m, cpu, after, prev):
            return 0
        shift = addr - m[prev + VMA_END]
        move_borders(m, cpu, mm, prev, m[prev + VMA_START], addr, m[prev + VMA_PGOFF], shift)
        return after
    if area != after:
        # case 8: the area in between goes over as a whole
        if import_anon_vma(m, cpu, after, area):
            return 0
        unlink_file_vma(m, area)
        vma_unlink(m, mm, area)
    start_page = m[after + VMA_PGOFF] - pages
    move_borders(m, cpu, mm, after, addr, m[after + VMA_END], start_page, 0)
    if area != after:
        swallow(m, cpu, mm, area)
    return after


def split_vma(m: memoryview, cpu: int, mm: int, vma: int, addr: int, new_below: bool) -> int:
    """Cuts an area at `addr`; the new one is the part below or the one above: 0 or -errno.
    Hot (__split_vma)."""
    new = vm_area_dup(m, cpu, vma)
    if new == 0:
        return -ENOMEM
    skipped = addr - m[vma + VMA_START] >> 12
    if new_below:
        m[new + VMA_END] = addr
    else:
        m[new + VMA_START] = addr
        m[new + VMA_PGOFF] += skipped
    rc = vma_dup_policy(m, cpu, vma, new)
    if rc == 0:
        rc = anon_vma_clone(m, cpu, new, vma)
        if rc and m[new + VMA_POLICY]:
            mpol_put(m, cpu, vma_word(m[new + VMA_POLICY]))
    if rc:
        vm_area_free(m, cpu, new)
        return rc
    file = vma_word(m[new + VMA_FILE])
    if file:
        get_file(m, file)
    start = m[vma + VMA_START]
    end = m[vma + VMA_END]
    pgoff = m[vma + VMA_PGOFF]
    if new_below:
        move_borders(m, cpu, mm, vma, addr, end, pgoff + skipped, 0)
    else:
        move_borders(m, cpu, mm, vma, start, addr, pgoff, 0)
    vma_link(m, mm, new)
    return 0
