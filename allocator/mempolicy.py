# SPDX-License-Identifier: GPL-2.0-only
"""NUMA memory policies of a task: where its pages should come from (mm/mempolicy.c).

A task's policy turns into the two arguments of `__alloc_pages_nodemask` that callers do not give
themselves: the preferred node and the nodemask. Default means the CPU's own node; `preferred` names
one node (or, with MPOL_F_LOCAL, the CPU's); `bind` allows some nodes only, for zones that are high
enough; `interleave` takes the nodes in turn. Interrupts and __GFP_THISNODE ignore the policy.

The policy lies in the task: mode, flags, nodes, preferred node, and what is needed to follow the
task's cpuset when its nodes change: the nodes the user asked for (MPOL_F_STATIC_NODES: those and no
others; MPOL_F_RELATIVE_NODES: by rank among the allowed ones) or the cpuset's nodes at that time.

All hot. `task` is the word index of a task_struct. Changes return 0 or a negative errno.
"""

from __future__ import annotations

from .gfp import GFP_KERNEL, GFP_THISNODE_BIT, GFP_ZONEMASK, ZONE_TABLE
from .kernel_globals import G_NODES_MEMORY, G_STATIC_KEYS, KEY_NUMA_STAT_OFF
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_NUMA_NODE,
    CPU_PREEMPT_COUNT,
    CPU_WORDS,
    IN_INTERRUPT_MASK,
    NODE_DATA,
    PAGE_OFFSET,
    SECTION_PAGES,
    TASK_IL_PREV,
    TASK_MEMS_ALLOWED,
    TASK_POLICY_CPUSET_MEMS,
    TASK_POLICY_FLAGS,
    TASK_POLICY_MODE,
    TASK_POLICY_NODES,
    TASK_POLICY_PREFERRED,
    TASK_POLICY_USER_NODES,
)
from .mm_types import NODES_MASK, NODES_PGSHIFT, P_FLAGS
from .mmzone import (
    MAX_NUMNODES,
    ND_ZONELISTS,
    NUMA_INTERLEAVE_HIT,
    Z_MANAGED,
    Z_NODE,
    Z_PRESENT,
    ZONE_MOVABLE,
    ZONE_WORDS,
    ZR_ZONE,
)
from .nodemask import (
    first_node,
    next_node_in,
    node_remap,
    nodes_fold,
    nodes_onto,
    nodes_remap,
    nodes_weight,
)
from .page_alloc import alloc_pages_nodemask, first_zones_zonelist
from .pcp import page_zone
from .vmstat import inc_numa_state

MPOL_DEFAULT = 0
MPOL_PREFERRED = 1
MPOL_BIND = 2
MPOL_INTERLEAVE = 3
MPOL_LOCAL = 4
MPOL_F_STATIC_NODES = 1 << 15
MPOL_F_RELATIVE_NODES = 1 << 14
MPOL_MODE_FLAGS = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES
MPOL_F_LOCAL = 1 << 1
EINVAL = 22


def relative_nodemask(nodes: int, allowed: int) -> int:
    """The user's relative nodes as members of `allowed` (mpol_relative_nodemask). Hot."""
    return nodes_onto(nodes_fold(nodes, nodes_weight(allowed)), allowed)


def set_mempolicy(m: memoryview, task: int, mode: int, flags: int, nodes: int) -> int:
    """Gives a task a policy: 0 or -EINVAL (do_set_mempolicy). Hot.

    `flags`: MPOL_F_STATIC_NODES, MPOL_F_RELATIVE_NODES or 0. The nodes are cut to those that have
    memory and that the task's cpuset allows; if none is left the old policy stays.
    """
    if mode < MPOL_DEFAULT or mode > MPOL_LOCAL or flags & ~MPOL_MODE_FLAGS:
        return -EINVAL
    if flags == MPOL_MODE_FLAGS:
        return -EINVAL
    if mode == MPOL_DEFAULT:
        if nodes:
            return -EINVAL
        m[task + TASK_POLICY_MODE] = MPOL_DEFAULT
        m[task + TASK_POLICY_FLAGS] = 0
        return 0
    if mode == MPOL_LOCAL:
        if nodes or flags:
            return -EINVAL
        mode = MPOL_PREFERRED
    if nodes == 0 and (mode != MPOL_PREFERRED or flags):
        return -EINVAL
    local = nodes == 0
    mems = m[task + TASK_MEMS_ALLOWED]
    allowed = mems & m[G_NODES_MEMORY]
    if flags & MPOL_F_RELATIVE_NODES:
        wanted = relative_nodemask(nodes, allowed)
    else:
        wanted = nodes & allowed
    if not local and wanted == 0:
        return -EINVAL
    m[task + TASK_POLICY_MODE] = mode
    m[task + TASK_POLICY_FLAGS] = flags | (MPOL_F_LOCAL if local else 0)
    m[task + TASK_POLICY_USER_NODES] = nodes
    m[task + TASK_POLICY_CPUSET_MEMS] = 0 if local else mems
    if mode == MPOL_PREFERRED:
        m[task + TASK_POLICY_NODES] = 0
        m[task + TASK_POLICY_PREFERRED] = 0 if local else first_node(wanted)
    else:
        m[task + TASK_POLICY_NODES] = wanted
        if mode == MPOL_INTERLEAVE:
            m[task + TASK_IL_PREV] = MAX_NUMNODES - 1
    return 0


def rebind_nodes(m: memoryview, task: int, mems: int) -> None:
    """Moves a bind or interleave policy to the nodes `mems` (mpol_rebind_nodemask). Hot."""
    flags = m[task + TASK_POLICY_FLAGS]
    if flags & MPOL_F_STATIC_NODES:
        nodes = m[task + TASK_POLICY_USER_NODES] & mems
    elif flags & MPOL_F_RELATIVE_NODES:
        nodes = relative_nodemask(m[task + TASK_POLICY_USER_NODES], mems)
    else:
        old = m[task + TASK_POLICY_CPUSET_MEMS]
        nodes = nodes_remap(m[task + TASK_POLICY_NODES], old, mems)
        # 4.20 remembers the policy's nodes here, not the cpuset's
        m[task + TASK_POLICY_CPUSET_MEMS] = nodes
    m[task + TASK_POLICY_NODES] = nodes if nodes else mems


def rebind_preferred(m: memoryview, task: int, mems: int) -> None:
    """Moves a preferred policy to the nodes `mems` (mpol_rebind_preferred). Hot."""
    flags = m[task + TASK_POLICY_FLAGS]
    if flags & MPOL_F_STATIC_NODES:
        nid = first_node(m[task + TASK_POLICY_USER_NODES])
        if mems >> nid & 1:
            m[task + TASK_POLICY_PREFERRED] = nid
            m[task + TASK_POLICY_FLAGS] = flags & ~MPOL_F_LOCAL
        else:
            m[task + TASK_POLICY_FLAGS] = flags | MPOL_F_LOCAL
    elif flags & MPOL_F_RELATIVE_NODES:
        nodes = relative_nodemask(m[task + TASK_POLICY_USER_NODES], mems)
        m[task + TASK_POLICY_PREFERRED] = first_node(nodes)
    elif flags & MPOL_F_LOCAL == 0:
        old = m[task + TASK_POLICY_CPUSET_MEMS]
        m[task + TASK_POLICY_PREFERRED] = node_remap(m[task + TASK_POLICY_PREFERRED], old, mems)
        m[task + TASK_POLICY_CPUSET_MEMS] = mems


def mpol_rebind_task(m: memoryview, task: int, mems: int) -> None:
    """Makes a task's policy follow its cpuset to the nodes `mems`. Hot."""
    mode = m[task + TASK_POLICY_MODE]
    if mode == MPOL_DEFAULT:
        return
    if m[task + TASK_POLICY_FLAGS] & MPOL_MODE_FLAGS == 0:
        if m[task + TASK_POLICY_CPUSET_MEMS] == mems:
            return
    if mode == MPOL_PREFERRED:
        rebind_preferred(m, task, mems)
    else:
        rebind_nodes(m, task, mems)


def policy_zone(m: memoryview) -> int:
    """The highest zone index below Movable that has pages: bind governs it and above. Hot."""
    highest = 0
    for nid in range(MAX_NUMNODES):
        va = m[NODE_DATA + nid]
        if va:
            for zid in range(highest + 1, ZONE_MOVABLE):
                if m[((va - PAGE_OFFSET) >> 3) + zid * ZONE_WORDS + Z_MANAGED]:
                    highest = zid
    return highest


def has_normal_memory(m: memoryview, nid: int) -> bool:
    """True if node `nid` has a populated zone below Movable (N_NORMAL_MEMORY). Hot."""
    va = m[NODE_DATA + nid]
    if va:
        for zid in range(ZONE_MOVABLE):
            if m[((va - PAGE_OFFSET) >> 3) + zid * ZONE_WORDS + Z_PRESENT]:
                return True
    return False


def apply_policy_zone(m: memoryview, nodes: int, zid: int) -> bool:
    """True if a bind policy over `nodes` governs requests for zone index `zid`. Hot."""
    for nid in range(MAX_NUMNODES):
        if nodes >> nid & 1 and has_normal_memory(m, nid):
            return zid >= policy_zone(m)
    return zid >= ZONE_MOVABLE


def policy_nodemask(m: memoryview, task: int, gfp: int) -> int:
    """The nodemask that a task's policy puts on a request, 0 for none. Hot."""
    if m[task + TASK_POLICY_MODE] != MPOL_BIND:
        return 0
    nodes = m[task + TASK_POLICY_NODES]
    if nodes & m[task + TASK_MEMS_ALLOWED] == 0:
        return 0
    return nodes if apply_policy_zone(m, nodes, ZONE_TABLE[gfp & GFP_ZONEMASK]) else 0


def policy_node(m: memoryview, task: int, nid: int) -> int:
    """The node that a task's policy prefers; `nid`, the local one, if it names none. Hot."""
    if m[task + TASK_POLICY_MODE] == MPOL_PREFERRED:
        if m[task + TASK_POLICY_FLAGS] & MPOL_F_LOCAL == 0:
            return m[task + TASK_POLICY_PREFERRED]
    return nid


def interleave_nodes(m: memoryview, task: int) -> int:
    """The next node in turn for an interleaving task. Hot."""
    nid = next_node_in(m[task + TASK_IL_PREV], m[task + TASK_POLICY_NODES])
    if nid < MAX_NUMNODES:
        m[task + TASK_IL_PREV] = nid
    return nid


def alloc_page_interleave(m: memoryview, cpu: int, gfp: int, order: int, nid: int) -> int:
    """Allocates preferably on `nid`, counting NUMA_INTERLEAVE_HIT if it worked. Hot."""
    pfn = alloc_pages_nodemask(m, cpu, gfp, order, nid, 0)
    if pfn >= 0 and m[G_STATIC_KEYS] & KEY_NUMA_STAT_OFF == 0:
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        if m[p + P_FLAGS] >> NODES_PGSHIFT & NODES_MASK == nid:
            inc_numa_state(m, cpu, page_zone(m, p), NUMA_INTERLEAVE_HIT)
    return pfn


def alloc_pages_current(m: memoryview, cpu: int, gfp: int, order: int) -> int:
    """alloc_pages(): 2^order pages from where the current task's policy says; PFN or -1. Hot."""
    block = CPU_BLOCKS + cpu * CPU_WORDS
    local = m[block + CPU_NUMA_NODE]
    if m[block + CPU_PREEMPT_COUNT] & IN_INTERRUPT_MASK or gfp & GFP_THISNODE_BIT:
        return alloc_pages_nodemask(m, cpu, gfp, order, local, 0)
    task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
    if m[task + TASK_POLICY_MODE] == MPOL_INTERLEAVE:
        return alloc_page_interleave(m, cpu, gfp, order, interleave_nodes(m, task))
    nid = policy_node(m, task, local)
    return alloc_pages_nodemask(m, cpu, gfp, order, nid, policy_nodemask(m, task, gfp))


def mempolicy_slab_node(m: memoryview, cpu: int) -> int:
    """The node that the policy gives the next slab page. Hot."""
    block = CPU_BLOCKS + cpu * CPU_WORDS
    local = m[block + CPU_NUMA_NODE]
    task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
    if m[block + CPU_PREEMPT_COUNT] & IN_INTERRUPT_MASK:
        return local
    mode = m[task + TASK_POLICY_MODE]
    if mode == MPOL_INTERLEAVE:
        return interleave_nodes(m, task)
    if mode == MPOL_BIND:
        nd = (m[NODE_DATA + local] - PAGE_OFFSET) >> 3
        high = ZONE_TABLE[GFP_KERNEL & GFP_ZONEMASK]
        zr = first_zones_zonelist(m, nd + ND_ZONELISTS, high, m[task + TASK_POLICY_NODES])
        va = m[zr + ZR_ZONE]
        return m[((va - PAGE_OFFSET) >> 3) + Z_NODE] if va else local
    return policy_node(m, task, local)
