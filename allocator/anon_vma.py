# SPDX-License-Identifier: GPL-2.0-only
"""anon_vma: from an anonymous page to all areas that may map it (mm/rmap.c).

An anonymous page names an `anon_vma`, and with it all areas that can have inherited the page by
fork. An area is linked to its own anon_vma and to those of all its ancestors, each link being an
`anon_vma_chain`: in the area's list, and in the anon_vma's interval tree by the area's offsets.
An anon_vma counts its areas and child anon_vmas (`degree`), so that a child of a long line of forks
can take over one that only a dead ancestor used.

All hot. `vma`, `av` (an anon_vma) and `avc` (a chain link) are word indices.
"""

from __future__ import annotations

from .gfp import GFP_KERNEL, GFP_NOWAIT, GFP_NOWARN_BIT
from .kernel_globals import G_ANON_VMA_CACHEP, G_ANON_VMA_CHAIN_CACHEP
from .layout import PAGE_OFFSET
from .list_head import list_add, list_del
from .mempolicy_vma import mpol_equal, vma_policy
from .mm_struct import (
    VM_ACCESS_FLAGS,
    VM_SOFTDIRTY,
    VMA_ANON_CHAIN,
    VMA_ANON_VMA,
    VMA_END,
    VMA_FILE,
    VMA_FLAGS,
    VMA_NEXT,
    VMA_PGOFF,
    VMA_PREV,
    VMA_START,
)
from .rbtree import (
    INTERVAL_NODE,
    IT_LAST,
    IT_START,
    interval_tree_insert,
    interval_tree_remove,
)
from .slab_common import kmem_cache_create
from .slub import kmem_cache_alloc, kmem_cache_free
from .structs import Struct, list_head, scalar

ANON_VMA = Struct(
    "anon_vma",
    [
        scalar("root", "struct anon_vma *"),
        scalar("refcount", "atomic_t"),
        scalar("degree", "unsigned int"),
        scalar("parent", "struct anon_vma *"),
        scalar("rb_root", "struct rb_root"),
    ],
)
AV_ROOT = ANON_VMA["root"]
AV_REFCOUNT = ANON_VMA["refcount"]
AV_DEGREE = ANON_VMA["degree"]
AV_PARENT = ANON_VMA["parent"]
AV_RB_ROOT = ANON_VMA["rb_root"]

ANON_VMA_CHAIN = Struct(
    "anon_vma_chain",
    [
        scalar("vma", "struct vm_area_struct *"),
        scalar("anon_vma", "struct anon_vma *"),
        list_head("same_vma"),
        ("rb", "struct interval_node", INTERVAL_NODE, 1),
    ],
)
AVC_VMA = ANON_VMA_CHAIN["vma"]
AVC_ANON_VMA = ANON_VMA_CHAIN["anon_vma"]
AVC_SAME_VMA = ANON_VMA_CHAIN["same_vma"]
AVC_RB = ANON_VMA_CHAIN["rb"]
ENOMEM = 12


def anon_vma_init(m: memoryview, cpu: int) -> int:
    """Creates the two slab caches: 0 or -ENOMEM."""
    s = kmem_cache_create(m, cpu, b"anon_vma", ANON_VMA.size, 0, 0)
    c = kmem_cache_create(m, cpu, b"anon_vma_chain", ANON_VMA_CHAIN.size, 0, 0)
    if s == 0 or c == 0:
        return -ENOMEM
    m[G_ANON_VMA_CACHEP] = PAGE_OFFSET + (s << 3)
    m[G_ANON_VMA_CHAIN_CACHEP] = PAGE_OFFSET + (c << 3)
    return 0


def anon_vma_alloc(m: memoryview, cpu: int) -> int:
    """A new anon_vma, its own root and parent: its word index, 0 without memory. Hot."""
    av = kmem_cache_alloc(m, cpu, (m[G_ANON_VMA_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if av:
        va = PAGE_OFFSET + (av << 3)
        m[av + AV_ROOT] = va
        m[av + AV_REFCOUNT] = 1
        m[av + AV_DEGREE] = 1
        m[av + AV_PARENT] = va
        m[av + AV_RB_ROOT] = 0
    return av


def put_anon_vma(m: memoryview, cpu: int, av: int) -> None:
    """Drops a reference; with the last the anon_vma goes, and perhaps its root too. Hot."""
    s = (m[G_ANON_VMA_CACHEP] - PAGE_OFFSET) >> 3
    m[av + AV_REFCOUNT] -= 1
    if m[av + AV_REFCOUNT] == 0:
        root = (m[av + AV_ROOT] - PAGE_OFFSET) >> 3
        kmem_cache_free(m, cpu, s, av)
        if root != av:
            m[root + AV_REFCOUNT] -= 1
            if m[root + AV_REFCOUNT] == 0:
                kmem_cache_free(m, cpu, s, root)


def avc_alloc(m: memoryview, cpu: int, gfp: int) -> int:
    """A chain link: its word index, 0 without memory. Hot."""
    return kmem_cache_alloc(m, cpu, (m[G_ANON_VMA_CHAIN_CACHEP] - PAGE_OFFSET) >> 3, gfp)


def avc_free(m: memoryview, cpu: int, avc: int) -> None:
    """Gives a chain link back. Hot."""
    kmem_cache_free(m, cpu, (m[G_ANON_VMA_CHAIN_CACHEP] - PAGE_OFFSET) >> 3, avc)


def avc_insert(m: memoryview, avc: int) -> None:
    """Puts a link into its anon_vma's tree, under its area's page offsets of now. Hot."""
    vma = (m[avc + AVC_VMA] - PAGE_OFFSET) >> 3
    first = m[vma + VMA_PGOFF]
    m[avc + AVC_RB + IT_START] = first
    m[avc + AVC_RB + IT_LAST] = first + (m[vma + VMA_END] - m[vma + VMA_START] >> 12) - 1
    root = ((m[avc + AVC_ANON_VMA] - PAGE_OFFSET) >> 3) + AV_RB_ROOT
    interval_tree_insert(m, avc + AVC_RB, root)


def avc_remove(m: memoryview, avc: int) -> None:
    """Takes a link out of its anon_vma's tree. Hot."""
    root = ((m[avc + AVC_ANON_VMA] - PAGE_OFFSET) >> 3) + AV_RB_ROOT
    interval_tree_remove(m, avc + AVC_RB, root)


def anon_vma_chain_link(m: memoryview, vma: int, avc: int, av: int) -> None:
    """Links an area to an anon_vma. Hot."""
    m[avc + AVC_VMA] = PAGE_OFFSET + (vma << 3)
    m[avc + AVC_ANON_VMA] = PAGE_OFFSET + (av << 3)
    node = avc + AVC_SAME_VMA
    list_add(m, node, PAGE_OFFSET + (node << 3), vma + VMA_ANON_CHAIN)
    avc_insert(m, avc)


def next_link(m: memoryview, vma: int, node: int, way: int) -> int:
    """The link behind (`way` 0) or before (1) list node `node` of an area; 0 at the end. Hot."""
    va = m[node + way]
    if va == PAGE_OFFSET + (vma + VMA_ANON_CHAIN << 3):
        return 0
    return ((va - PAGE_OFFSET) >> 3) - AVC_SAME_VMA


# --- the anon_vma of an area --------------------------------------------------------------------
def anon_vma_compatible(m: memoryview, a: int, b: int) -> bool:
    """True if area `b` follows `a` and the two differ in permissions at most. Hot."""
    if m[a + VMA_END] != m[b + VMA_START] or m[a + VMA_FILE] != m[b + VMA_FILE]:
        return False
    if (m[a + VMA_FLAGS] ^ m[b + VMA_FLAGS]) & ~(VM_ACCESS_FLAGS | VM_SOFTDIRTY):
        return False
    if m[b + VMA_PGOFF] != m[a + VMA_PGOFF] + (m[b + VMA_START] - m[a + VMA_START] >> 12):
        return False
    return mpol_equal(m, vma_policy(m, a), vma_policy(m, b))


def reusable_anon_vma(m: memoryview, old: int, a: int, b: int) -> int:
    """The anon_vma of area `old`, if it is its only one and `a` and `b` could merge; or 0. Hot."""
    va = m[old + VMA_ANON_VMA]
    if va == 0 or not anon_vma_compatible(m, a, b):
        return 0
    chain = old + VMA_ANON_CHAIN
    return (va - PAGE_OFFSET) >> 3 if m[chain] == m[chain + 1] else 0


def find_mergeable_anon_vma(m: memoryview, vma: int) -> int:
    """An anon_vma that `vma` can share with a neighbour, so that they may merge later; or 0. Hot.

    (mm/mmap.c)
    """
    near = m[vma + VMA_NEXT]
    if near:
        near = (near - PAGE_OFFSET) >> 3
        av = reusable_anon_vma(m, near, vma, near)
        if av:
            return av
    near = m[vma + VMA_PREV]
    if near:
        near = (near - PAGE_OFFSET) >> 3
        return reusable_anon_vma(m, near, near, vma)
    return 0


def anon_vma_prepare(m: memoryview, cpu: int, vma: int) -> int:
    """Sees to it that an area has an anon_vma: 0 or -ENOMEM. Hot."""
    if m[vma + VMA_ANON_VMA]:
        return 0
    avc = avc_alloc(m, cpu, GFP_KERNEL)
    if avc == 0:
        return -ENOMEM
    av = find_mergeable_anon_vma(m, vma)
    fresh = av == 0
    if fresh:
        av = anon_vma_alloc(m, cpu)
        if av == 0:
            avc_free(m, cpu, avc)
            return -ENOMEM
    m[vma + VMA_ANON_VMA] = PAGE_OFFSET + (av << 3)
    anon_vma_chain_link(m, vma, avc, av)
    m[av + AV_DEGREE] += 1
    return 0


def anon_vma_clone(m: memoryview, cpu: int, dst: int, src: int) -> int:
    """Links area `dst` to all anon_vmas of `src`: 0 or -ENOMEM, nothing linked then. Hot.

    If `dst` has no anon_vma of its own it takes over one that no area uses and that has at most one
    child, if there is one.
    """
    pavc = next_link(m, src, src + VMA_ANON_CHAIN, 1)
    while pavc:
        avc = avc_alloc(m, cpu, GFP_NOWAIT | GFP_NOWARN_BIT)
        if avc == 0:
            avc = avc_alloc(m, cpu, GFP_KERNEL)
        if avc == 0:
            m[dst + VMA_ANON_VMA] = 0
            unlink_anon_vmas(m, cpu, dst)
            return -ENOMEM
        va = m[pavc + AVC_ANON_VMA]
        av = (va - PAGE_OFFSET) >> 3
        anon_vma_chain_link(m, dst, avc, av)
        if m[dst + VMA_ANON_VMA] == 0 and va != m[src + VMA_ANON_VMA] and m[av + AV_DEGREE] < 2:
            m[dst + VMA_ANON_VMA] = va
        pavc = next_link(m, src, pavc + AVC_SAME_VMA, 1)
    if m[dst + VMA_ANON_VMA]:
        m[((m[dst + VMA_ANON_VMA] - PAGE_OFFSET) >> 3) + AV_DEGREE] += 1
    return 0


def anon_vma_fork(m: memoryview, cpu: int, vma: int, pvma: int) -> int:
    """Gives a forked area its anon_vma, and links to those of its parent `pvma`. Hot.

    0 or -ENOMEM.
    """
    if m[pvma + VMA_ANON_VMA] == 0:
        return 0
    m[vma + VMA_ANON_VMA] = 0
    if anon_vma_clone(m, cpu, vma, pvma):
        return -ENOMEM
    if m[vma + VMA_ANON_VMA]:
        return 0
    av = anon_vma_alloc(m, cpu)
    avc = avc_alloc(m, cpu, GFP_KERNEL) if av else 0
    if avc == 0:
        if av:
            put_anon_vma(m, cpu, av)
        unlink_anon_vmas(m, cpu, vma)
        return -ENOMEM
    parent = (m[pvma + VMA_ANON_VMA] - PAGE_OFFSET) >> 3
    m[av + AV_ROOT] = m[parent + AV_ROOT]
    m[av + AV_PARENT] = m[pvma + VMA_ANON_VMA]
    m[((m[av + AV_ROOT] - PAGE_OFFSET) >> 3) + AV_REFCOUNT] += 1
    m[vma + VMA_ANON_VMA] = PAGE_OFFSET + (av << 3)
    anon_vma_chain_link(m, vma, avc, av)
    m[parent + AV_DEGREE] += 1
    return 0


def unlink_anon_vmas(m: memoryview, cpu: int, vma: int) -> None:
    """Takes an area off all its anon_vmas; those without areas and children go. Hot."""
    avc = next_link(m, vma, vma + VMA_ANON_CHAIN, 0)
    while avc:
        nxt = next_link(m, vma, avc + AVC_SAME_VMA, 0)
        av = (m[avc + AVC_ANON_VMA] - PAGE_OFFSET) >> 3
        avc_remove(m, avc)
        if m[av + AV_RB_ROOT] == 0:
            # empty: freed below, after all trees are done with
            m[((m[av + AV_PARENT] - PAGE_OFFSET) >> 3) + AV_DEGREE] -= 1
        else:
            list_del(m, avc + AVC_SAME_VMA)
            avc_free(m, cpu, avc)
        avc = nxt
    if m[vma + VMA_ANON_VMA]:
        m[((m[vma + VMA_ANON_VMA] - PAGE_OFFSET) >> 3) + AV_DEGREE] -= 1
    avc = next_link(m, vma, vma + VMA_ANON_CHAIN, 0)
    while avc:
        nxt = next_link(m, vma, avc + AVC_SAME_VMA, 0)
        put_anon_vma(m, cpu, (m[avc + AVC_ANON_VMA] - PAGE_OFFSET) >> 3)
        list_del(m, avc + AVC_SAME_VMA)
        avc_free(m, cpu, avc)
        avc = nxt


def anon_vma_interval_tree_pre_update_vma(m: memoryview, vma: int) -> None:
    """Takes an area out of its anon_vmas' trees before its range changes (mm/mmap.c). Hot."""
    avc = next_link(m, vma, vma + VMA_ANON_CHAIN, 0)
    while avc:
        avc_remove(m, avc)
        avc = next_link(m, vma, avc + AVC_SAME_VMA, 0)


def anon_vma_interval_tree_post_update_vma(m: memoryview, vma: int) -> None:
    """Puts an area back into its anon_vmas' trees after its range has changed. Hot."""
    avc = next_link(m, vma, vma + VMA_ANON_CHAIN, 0)
    while avc:
        avc_insert(m, avc)
        avc = next_link(m, vma, avc + AVC_SAME_VMA, 0)
