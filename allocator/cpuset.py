# SPDX-License-Identifier: GPL-2.0-only
"""May this task use that node? The cpuset tests of the allocation path (kernel/cgroup/cpuset.c).

The answer needs only what the task carries: mems_allowed (its own cpuset's nodes) and
`hardwall_mems` (the nodes of the nearest ancestor that is mem_exclusive or mem_hardwall, kept up to
date by cpuset_fs). Interrupts and OOM victims may go anywhere; __GFP_HARDWALL keeps a request in
mems_allowed; an exiting task is let out; all others may use the hardwall ancestor's nodes.

All hot. Callers test KEY_CPUSETS first, as cpusets_enabled() does.
"""

from __future__ import annotations

from .gfp import GFP_HARDWALL_BIT
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_PREEMPT_COUNT,
    CPU_WORDS,
    IN_INTERRUPT_MASK,
    PAGE_OFFSET,
    PF_EXITING,
    TASK_FLAGS,
    TASK_HARDWALL_MEMS,
    TASK_MEMS_ALLOWED,
    TASK_OOM_MM,
)
from .mmzone import Z_NODE
from .nodemask import next_node_in


def cpuset_node_allowed(m: memoryview, cpu: int, nid: int, gfp: int) -> bool:
    """True if `cpu`'s current context may take memory from node `nid` for `gfp`. Hot."""
    block = CPU_BLOCKS + cpu * CPU_WORDS
    if m[block + CPU_PREEMPT_COUNT] & IN_INTERRUPT_MASK:
        return True
    task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
    if m[task + TASK_MEMS_ALLOWED] >> nid & 1:
        return True
    if m[task + TASK_OOM_MM]:
        return True
    if gfp & GFP_HARDWALL_BIT:
        return False
    if m[task + TASK_FLAGS] & PF_EXITING:
        return True
    return m[task + TASK_HARDWALL_MEMS] >> nid & 1 != 0


def cpuset_zone_allowed(m: memoryview, cpu: int, z: int, gfp: int) -> bool:
    """cpuset_node_allowed() for the node of the zone at word `z`. Hot."""
    return cpuset_node_allowed(m, cpu, m[z + Z_NODE], gfp)


def cpuset_mem_spread_node(m: memoryview, cpu: int, rotor: int) -> int:
    """The node that spread page-cache or slab pages go to next (cpuset_mem_spread_node). Hot.

    `rotor` is the task's field that remembers the last one: TASK_MEM_SPREAD_ROTOR or
    TASK_SLAB_SPREAD_ROTOR. Where 4.20 starts at a random node, this starts behind the last one.
    """
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    nid = next_node_in(m[task + rotor], m[task + TASK_MEMS_ALLOWED])
    m[task + rotor] = nid
    return nid
