# SPDX-License-Identifier: GPL-2.0-only
"""Memory policies of areas: where the pages of a part of an address space come from.

`mbind` gives an area a `struct mempolicy`, which goes before the task's own policy (mempolicy.py).
The modes are the same; `interleave` takes the node from the page's place in its object, so that a
page comes from the same node whenever it is faulted in. A policy belongs to one area: areas that
are split or copied get copies, areas with equal policies may merge (mm/mempolicy.c).

All hot but the cache's creation. `pol` is the word index of a mempolicy, 0 for none.
"""

from __future__ import annotations

from .gfp import GFP_KERNEL, GFP_THISNODE_BIT, GFP_ZONEMASK, ZONE_TABLE
from .kernel_globals import G_NODES_MEMORY, G_POLICY_CACHEP
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_NUMA_NODE,
    CPU_WORDS,
    PAGE_OFFSET,
    TASK_IL_PREV,
    TASK_MEMS_ALLOWED,
    TASK_POLICY_FLAGS,
    TASK_POLICY_MODE,
    TASK_POLICY_NODES,
    TASK_POLICY_PREFERRED,
)
from .mempolicy import (
    EINVAL,
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_F_LOCAL,
    MPOL_F_RELATIVE_NODES,
    MPOL_F_STATIC_NODES,
    MPOL_INTERLEAVE,
    MPOL_LOCAL,
    MPOL_MODE_FLAGS,
    MPOL_PREFERRED,
    alloc_page_interleave,
    apply_policy_zone,
    relative_nodemask,
)
from .mm_struct import VMA_PGOFF, VMA_POLICY, VMA_START
from .nodemask import first_node, next_node_in, node_remap, nodes_remap, nodes_weight
from .page_alloc import alloc_pages_nodemask
from .slab_common import kmem_cache_create
from .slub import kmem_cache_alloc, kmem_cache_free
from .structs import Struct, scalar

MEMPOLICY = Struct(
    "mempolicy",
    [
        scalar("refcnt", "atomic_t"),
        scalar("mode", "unsigned short"),
        scalar("flags", "unsigned short"),
        scalar("preferred_node", "short"),
        scalar("nodes", "nodemask_t"),
        scalar("cpuset_mems_allowed", "nodemask_t"),
        scalar("user_nodemask", "nodemask_t"),
    ],
)
MPOL_REFCNT = MEMPOLICY["refcnt"]
MPOL_MODE = MEMPOLICY["mode"]
MPOL_FLAGS = MEMPOLICY["flags"]
MPOL_PREFERRED_NODE = MEMPOLICY["preferred_node"]
MPOL_NODES = MEMPOLICY["nodes"]
MPOL_CPUSET_MEMS = MEMPOLICY["cpuset_mems_allowed"]
MPOL_USER_NODES = MEMPOLICY["user_nodemask"]
MPOL_WORDS = MEMPOLICY.words
ENOMEM = 12


def numa_policy_init(m: memoryview, cpu: int) -> int:
    """Creates the slab cache of policies: 0 or -ENOMEM."""
    s = kmem_cache_create(m, cpu, b"numa_policy", MEMPOLICY.size, 0, 0)
    if s == 0:
        return -ENOMEM
    m[G_POLICY_CACHEP] = PAGE_OFFSET + (s << 3)
    return 0


def mpol_check(mode: int, flags: int, nodes: int) -> int:
    """0 if `mode`, `flags` and `nodes` make a policy, else -EINVAL (mpol_new). Hot."""
    if mode < MPOL_DEFAULT or mode > MPOL_LOCAL:
        return -EINVAL
    if flags & ~MPOL_MODE_FLAGS or flags == MPOL_MODE_FLAGS:
        return -EINVAL
    if mode == MPOL_DEFAULT:
        return -EINVAL if nodes else 0
    if mode == MPOL_LOCAL:
        return -EINVAL if nodes or flags else 0
    if nodes == 0 and (mode != MPOL_PREFERRED or flags):
        return -EINVAL
    return 0


def mpol_new(m: memoryview, cpu: int, mode: int, flags: int, nodes: int, mems: int) -> int:
    """A policy over `nodes`, cut to the task's allowed nodes `mems` that have memory. Hot.

    Its word index, 0 for MPOL_DEFAULT, -EINVAL or -ENOMEM. `flags`: MPOL_F_STATIC_NODES,
    MPOL_F_RELATIVE_NODES or 0.
    """
    error = mpol_check(mode, flags, nodes)
    if error or mode == MPOL_DEFAULT:
        return error
    local = mode == MPOL_LOCAL or nodes == 0
    allowed = mems & m[G_NODES_MEMORY]
    wanted = nodes & allowed
    if flags & MPOL_F_RELATIVE_NODES:
        wanted = relative_nodemask(nodes, allowed)
    if not local and wanted == 0:
        return -EINVAL
    pol = kmem_cache_alloc(m, cpu, (m[G_POLICY_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if pol == 0:
        return -ENOMEM
    m[pol + MPOL_REFCNT] = 1
    m[pol + MPOL_MODE] = MPOL_PREFERRED if mode == MPOL_LOCAL else mode
    m[pol + MPOL_FLAGS] = flags | (MPOL_F_LOCAL if local else 0)
    preferred = mode in (MPOL_PREFERRED, MPOL_LOCAL)
    m[pol + MPOL_PREFERRED_NODE] = first_node(wanted) if preferred and not local else 0
    m[pol + MPOL_NODES] = 0 if preferred else wanted
    stored = flags & MPOL_MODE_FLAGS
    m[pol + MPOL_USER_NODES] = nodes if stored else 0
    m[pol + MPOL_CPUSET_MEMS] = 0 if stored or local else mems
    return pol


def mpol_dup(m: memoryview, cpu: int, pol: int) -> int:
    """A copy of policy `pol`, 0 without memory. Hot."""
    new = kmem_cache_alloc(m, cpu, (m[G_POLICY_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if new:
        for i in range(1, MPOL_WORDS):
            m[new + i] = m[pol + i]
        m[new + MPOL_REFCNT] = 1
    return new


def mpol_put(m: memoryview, cpu: int, pol: int) -> None:
    """Drops a reference of policy `pol` (0: nothing), freeing it with the last. Hot."""
    if pol:
        m[pol + MPOL_REFCNT] -= 1
        if m[pol + MPOL_REFCNT] == 0:
            kmem_cache_free(m, cpu, (m[G_POLICY_CACHEP] - PAGE_OFFSET) >> 3, pol)


def mpol_equal(m: memoryview, a: int, b: int) -> bool:
    """True if two policies (0: none) say the same. Hot."""
    if a == b:
        return True
    if a == 0 or b == 0:
        return False
    mode = m[a + MPOL_MODE]
    flags = m[a + MPOL_FLAGS]
    if mode != m[b + MPOL_MODE] or flags != m[b + MPOL_FLAGS]:
        return False
    if flags & MPOL_MODE_FLAGS and m[a + MPOL_USER_NODES] != m[b + MPOL_USER_NODES]:
        return False
    if mode == MPOL_PREFERRED:
        if flags & MPOL_F_LOCAL:
            return True
        return m[a + MPOL_PREFERRED_NODE] == m[b + MPOL_PREFERRED_NODE]
    return m[a + MPOL_NODES] == m[b + MPOL_NODES]


def vma_policy(m: memoryview, vma: int) -> int:
    """The policy of an area, 0 if it has none. Hot."""
    va = m[vma + VMA_POLICY]
    return (va - PAGE_OFFSET) >> 3 if va else 0


def vma_dup_policy(m: memoryview, cpu: int, src: int, dst: int) -> int:
    """Gives area `dst` a copy of the policy of `src`: 0 or -ENOMEM. Hot."""
    m[dst + VMA_POLICY] = 0
    pol = vma_policy(m, src)
    if pol:
        new = mpol_dup(m, cpu, pol)
        if new == 0:
            return -ENOMEM
        m[dst + VMA_POLICY] = PAGE_OFFSET + (new << 3)
    return 0


def vma_replace_policy(m: memoryview, cpu: int, vma: int, pol: int) -> int:
    """Gives an area a copy of policy `pol` (0: none) in place of its own: 0 or -ENOMEM. Hot."""
    new = 0
    if pol:
        new = mpol_dup(m, cpu, pol)
        if new == 0:
            return -ENOMEM
    old = vma_policy(m, vma)
    m[vma + VMA_POLICY] = PAGE_OFFSET + (new << 3) if new else 0
    mpol_put(m, cpu, old)
    return 0


def mpol_rebind_policy(m: memoryview, pol: int, mems: int) -> None:
    """Makes an area's policy follow its task's cpuset to the nodes `mems`. Hot."""
    flags = m[pol + MPOL_FLAGS]
    old = m[pol + MPOL_CPUSET_MEMS]
    if flags & (MPOL_MODE_FLAGS | MPOL_F_LOCAL) == 0 and old == mems:
        return
    user = m[pol + MPOL_USER_NODES]
    if m[pol + MPOL_MODE] == MPOL_PREFERRED:
        if flags & MPOL_F_STATIC_NODES:
            nid = first_node(user)
            if mems >> nid & 1:
                m[pol + MPOL_PREFERRED_NODE] = nid
                m[pol + MPOL_FLAGS] = flags & ~MPOL_F_LOCAL
            else:
                m[pol + MPOL_FLAGS] = flags | MPOL_F_LOCAL
        elif flags & MPOL_F_RELATIVE_NODES:
            m[pol + MPOL_PREFERRED_NODE] = first_node(relative_nodemask(user, mems))
        elif flags & MPOL_F_LOCAL == 0:
            m[pol + MPOL_PREFERRED_NODE] = node_remap(m[pol + MPOL_PREFERRED_NODE], old, mems)
            m[pol + MPOL_CPUSET_MEMS] = mems
        return
    if flags & MPOL_F_STATIC_NODES:
        nodes = user & mems
    elif flags & MPOL_F_RELATIVE_NODES:
        nodes = relative_nodemask(user, mems)
    else:
        nodes = nodes_remap(m[pol + MPOL_NODES], old, mems)
        m[pol + MPOL_CPUSET_MEMS] = nodes
    m[pol + MPOL_NODES] = nodes if nodes else mems


# --- allocation -----------------------------------------------------------------------------------
def offset_il_node(m: memoryview, cpu: int, nodes: int, n: int) -> int:
    """The node whose turn it is at place `n` of an interleaved object. Hot."""
    weight = nodes_weight(nodes)
    if weight == 0:
        return m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
    nid = first_node(nodes)
    for _ in range((n & 0xFFFFFFFF) % weight):
        nid = next_node_in(nid, nodes)
    return nid


def vma_interleave_nid(m: memoryview, cpu: int, nodes: int, vma: int, addr: int, order: int) -> int:
    """The node of the page at user address `addr` of an interleaved area. Hot (interleave_nid)."""
    off = m[vma + VMA_PGOFF] >> order
    return offset_il_node(m, cpu, nodes, off + (addr - m[vma + VMA_START] >> 12 + order))


def policy_mask(m: memoryview, task: int, mode: int, nodes: int, gfp: int) -> int:
    """The nodemask that a policy puts on a request, 0 for none (policy_nodemask). Hot."""
    if mode != MPOL_BIND or nodes & m[task + TASK_MEMS_ALLOWED] == 0:
        return 0
    return nodes if apply_policy_zone(m, nodes, ZONE_TABLE[gfp & GFP_ZONEMASK]) else 0


def alloc_pages_vma(
    m: memoryview, cpu: int, gfp: int, order: int, vma: int, addr: int, node: int
) -> int:
    """2^order pages for user address `addr` of `vma`, by its policy or the task's. Hot.

    `node` is preferred where the policy names none. PFN or -1. `vma` may be 0: the task's policy.
    """
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    va = m[vma + VMA_POLICY] if vma else 0
    if va == 0 and m[task + TASK_POLICY_MODE] == MPOL_DEFAULT:
        return alloc_pages_nodemask(m, cpu, gfp, order, node, 0)
    return alloc_pages_policy(m, cpu, gfp, order, vma, addr, node, 0)


def alloc_hugepage_vma(m: memoryview, cpu: int, gfp: int, vma: int, addr: int, order: int) -> int:
    """A huge page for user address `addr`: PFN or -1. Hot.

    From the CPU's node or the policy's only: a remote huge page is worth less than near small ones.
    """
    node = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
    return alloc_pages_policy(m, cpu, gfp, order, vma, addr, node, 1)


def alloc_pages_policy(
    m: memoryview, cpu: int, gfp: int, order: int, vma: int, addr: int, node: int, huge: int
) -> int:
    """alloc_pages_vma() with a policy to look at. Hot."""
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    pol = vma_policy(m, vma) if vma else 0
    if pol:
        mode = m[pol + MPOL_MODE]
        flags = m[pol + MPOL_FLAGS]
        nodes = m[pol + MPOL_NODES]
        preferred = m[pol + MPOL_PREFERRED_NODE]
    else:
        mode = m[task + TASK_POLICY_MODE]
        flags = m[task + TASK_POLICY_FLAGS]
        nodes = m[task + TASK_POLICY_NODES]
        preferred = m[task + TASK_POLICY_PREFERRED]
    if mode == MPOL_INTERLEAVE:
        if vma:
            nid = vma_interleave_nid(m, cpu, nodes, vma, addr, order)
        else:
            nid = next_node_in(m[task + TASK_IL_PREV], nodes)
            m[task + TASK_IL_PREV] = nid
        return alloc_page_interleave(m, cpu, gfp, order, nid)
    if mode == MPOL_PREFERRED and flags & MPOL_F_LOCAL == 0:
        node = preferred
    mask = policy_mask(m, task, mode, nodes, gfp)
    if huge and (mask == 0 or mask >> node & 1):
        return alloc_pages_nodemask(m, cpu, gfp | GFP_THISNODE_BIT, order, node, 0)
    return alloc_pages_nodemask(m, cpu, gfp, order, node, mask)
