# SPDX-License-Identifier: GPL-2.0-only
"""The tree of memory control groups, with each group's part of every node (mm/memcontrol.c).

A group gets its LRU lists, one set a node, when it comes online (`memcg_online`), from the kernel's
own slabs, and gives them back when it is removed. Reclaim walks the groups below one in preorder,
children in the order in which they were made. Walks of different reclaimers on the same node and at
the same priority share one position, so that each goes on where the last one stopped and all groups
get their share (`mem_cgroup_iter`); a walk without a `Cookie` starts at the top.

`memcg`, `root` and `prev` are word indices in the MEM_CGROUPS table. Everything here is cold: it
runs when groups change and once a group in reclaim.
"""

from __future__ import annotations

from dataclasses import dataclass

from .cpuset_fs import tasks
from .gfp import GFP_KERNEL
from .kernel_globals import G_MM_INIT_DONE, G_NR_CPU_IDS, G_STATIC_KEYS, KEY_MEMCG_KMEM
from .layout import (
    CPU_BLOCKS,
    CPU_MEMCG_STOCK,
    CPU_MEMCG_STOCK_PAGES,
    CPU_WORDS,
    MAX_MEM_CGROUPS,
    MEM_CGROUP_WORDS,
    MEM_CGROUPS,
    NODE_DATA,
    TASK_MEMCG,
    va_of_word,
    word_of_va,
)
from .list_head import list_init
from .lruvec import (
    LV_LISTS,
    LV_PGDAT,
    MC_NODEINFO,
    PN_ITER_GENERATION,
    PN_ITER_POSITION,
    PN_LRUVEC,
    PN_MEMCG,
    PN_WORDS,
    mem_cgroup_nodeinfo,
)
from .memcg import COUNTERS, MC_ID, MC_PARENT, MC_SERIAL_NR, PC_USAGE, drain_all_stock
from .mmzone import MAX_NUMNODES, ND_NODE_ID, NR_LRU_LISTS
from .slab_common import kmalloc, kmalloc_node
from .slub import kfree

EBUSY, ENOMEM = 16, 12


@dataclass
class Cookie:
    """Where one reclaimer is in a shared walk (mem_cgroup_reclaim_cookie)."""

    node: int
    priority: int
    generation: int = 0


# --- coming and going -----------------------------------------------------------------------------
def memcg_online(m: memoryview, cpu: int, memcg: int) -> int:
    """Gives a group its part of every node: 0 or -ENOMEM, with nothing left behind.

    Root gets its own, for the positions of walks, with the first group. Before the slabs are there
    nothing is done: mem_cgroup_init() makes up for it. (mem_cgroup_alloc)
    """
    if not m[G_MM_INIT_DONE]:
        return 0
    for group in (MEM_CGROUPS, memcg):
        if m[group + MC_NODEINFO] == 0 and not alloc_nodeinfo(m, cpu, group):
            return -ENOMEM
    return 0


def mem_cgroup_init(m: memoryview, cpu: int) -> int:
    """Brings the groups online that were made before there were slabs: 0 or -ENOMEM."""
    m[G_MM_INIT_DONE] = 1
    for memcg in groups(m):
        if memcg != MEM_CGROUPS and memcg_online(m, cpu, memcg):
            m[G_MM_INIT_DONE] = 0
            return -ENOMEM
    return 0


def alloc_nodeinfo(m: memoryview, cpu: int, memcg: int) -> bool:
    """Empty lists for each node, each on its node (alloc_mem_cgroup_per_node_info)."""
    nodes = [nid for nid in range(MAX_NUMNODES) if m[NODE_DATA + nid]]
    table = kmalloc(m, cpu, 8 * (nodes[-1] + 1), GFP_KERNEL)
    if table == 0:
        return False
    for nid in range(nodes[-1] + 1):
        m[table + nid] = 0
    m[memcg + MC_NODEINFO] = va_of_word(table)
    for nid in nodes:
        pn = kmalloc_node(m, cpu, 8 * PN_WORDS, GFP_KERNEL, nid)
        if pn == 0:
            free_nodeinfo(m, cpu, memcg)
            return False
        for w in range(pn, pn + PN_WORDS):
            m[w] = 0
        for lru in range(NR_LRU_LISTS):
            list_init(m, pn + PN_LRUVEC + LV_LISTS + 2 * lru)
        m[pn + PN_LRUVEC + LV_PGDAT] = m[NODE_DATA + nid]
        m[pn + PN_MEMCG] = va_of_word(memcg)
        m[table + nid] = va_of_word(pn)
    return True


def free_nodeinfo(m: memoryview, cpu: int, memcg: int) -> None:
    """Gives a group's part of the nodes back."""
    table = m[memcg + MC_NODEINFO]
    if table == 0:
        return
    m[memcg + MC_NODEINFO] = 0
    at = word_of_va(table)
    for nid in range(MAX_NUMNODES):
        if m[NODE_DATA + nid] and m[at + nid]:
            kfree(m, cpu, word_of_va(m[at + nid]))
    kfree(m, cpu, at)


def memcg_remove(m: memoryview, cpu: int, memcg: int) -> int:
    """Removes a group that nobody is in and nothing is charged to: 0, or -EBUSY.

    4.20 lets a group go while pages are charged to it, and keeps it, without a name, until the last
    one is; here they must be gone before.
    """
    drain_all_stock(m, memcg)
    if (
        memcg == MEM_CGROUPS
        or any(m[memcg + c + PC_USAGE] for c in COUNTERS)
        or has_tasks(m, memcg)
    ):
        return -EBUSY
    if any(m[group + MC_PARENT] == va_of_word(memcg) for group in groups(m)):
        return -EBUSY
    forget_positions(m, memcg)
    for number in range(m[G_NR_CPU_IDS]):
        block = CPU_BLOCKS + number * CPU_WORDS
        if m[block + CPU_MEMCG_STOCK] == va_of_word(memcg):
            m[block + CPU_MEMCG_STOCK] = m[block + CPU_MEMCG_STOCK_PAGES] = 0
    free_nodeinfo(m, cpu, memcg)
    for w in range(memcg, memcg + MEM_CGROUP_WORDS):
        m[w] = 0
    if len(groups(m)) == 1:
        free_nodeinfo(m, cpu, MEM_CGROUPS)
        m[G_STATIC_KEYS] &= ~KEY_MEMCG_KMEM
    return 0


def has_tasks(m: memoryview, memcg: int) -> bool:
    """True if a process, or the idle task of a CPU, is in the group."""
    return any(m[task + TASK_MEMCG] == va_of_word(memcg) for task in tasks(m))


def forget_positions(m: memoryview, memcg: int) -> None:
    """No walk stops at a group that is about to go (invalidate_reclaim_iterators)."""
    for group in groups(m):
        for nid in range(MAX_NUMNODES):
            pn = mem_cgroup_nodeinfo(m, group, nid) if m[NODE_DATA + nid] else 0
            for w in range(pn + PN_ITER_POSITION, pn + PN_ITER_GENERATION) if pn else ():
                if m[w] == va_of_word(memcg):
                    m[w] = 0


# --- walking --------------------------------------------------------------------------------------
def groups(m: memoryview) -> list[int]:
    """All groups, root first."""
    table = range(MEM_CGROUPS, MEM_CGROUPS + MAX_MEM_CGROUPS * MEM_CGROUP_WORDS, MEM_CGROUP_WORDS)
    return [memcg for memcg in table if m[memcg + MC_ID]]


def preorder(m: memoryview, root: int) -> list[int]:
    """A group and those below it, each before its children (css_next_descendant_pre)."""
    children: dict[int, list[int]] = {}
    for memcg in sorted(groups(m), key=lambda group: m[group + MC_SERIAL_NR]):
        children.setdefault(m[memcg + MC_PARENT], []).append(memcg)
    order, todo = [], [root]
    while todo:
        memcg = todo.pop()
        order.append(memcg)
        todo += reversed(children.get(va_of_word(memcg), []))
    return order


def mem_cgroup_iter(m: memoryview, root: int, prev: int, cookie: Cookie | None = None) -> int:
    """The group after `prev` (0: the first) in a walk below `root`; 0 at the end.

    With a cookie, the group after the one that any walk of that node and priority came to last; a
    walk that begins always gets one, and ends when another has begun the next round.
    """
    root = root or MEM_CGROUPS
    if not m[G_STATIC_KEYS] & KEY_MEMCG_KMEM:
        return 0 if prev else root
    order = preorder(m, root)
    pn = mem_cgroup_nodeinfo(m, root, m[cookie.node + ND_NODE_ID]) if cookie else 0
    if cookie is None or pn == 0:
        at = order.index(prev) + 1 if prev else 0
        return order[at] if at < len(order) else 0
    position = pn + PN_ITER_POSITION + cookie.priority
    generation = pn + PN_ITER_GENERATION + cookie.priority
    if prev and cookie.generation != m[generation]:
        return 0
    pos = word_of_va(m[position]) if m[position] else 0
    at = order.index(pos) + 1 if pos in order else 0
    if at == len(order) and not prev:
        at = 0
    memcg = order[at] if at < len(order) else 0
    m[position] = va_of_word(memcg) if memcg else 0
    if memcg == 0:
        m[generation] += 1
    elif not prev:
        cookie.generation = m[generation]
    return memcg
