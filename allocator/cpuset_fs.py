# SPDX-License-Identifier: GPL-2.0-only
"""The cpuset hierarchy: making cpusets, giving them nodes, moving tasks in (cpuset.c, legacy mode).

A cpuset is an entry of the CPUSETS table in RAM: its memory nodes, its flags, its parent. Rules are
those of the legacy hierarchy: a child's nodes are a subset of its parent's; cpusets that are
mem_exclusive do not overlap their siblings; a cpuset that has tasks may not lose its last node.
What a task needs to know is copied into it (mems_allowed, the nodes of its nearest hardwall
ancestor, the spread flags), so the allocation path never walks this tree; its NUMA policy is
rebound when its nodes change. The static key goes on with the first cpuset besides the root.

Changes return 0 or the kernel's negative errno. `cs` and `task` are word indices.
"""

from __future__ import annotations

from collections.abc import Iterator

from machine import UsageError

from .kernel_globals import (
    G_MM_INIT_DONE,
    G_NODES_MEMORY,
    G_NR_CPU_IDS,
    G_NR_CPUSETS,
    G_STATIC_KEYS,
    G_TASKS,
    KEY_CPUSETS,
)
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    CPUSET,
    CPUSET_WORDS,
    CPUSETS,
    INIT_TASKS,
    MAX_CPUSETS,
    PAGE_OFFSET,
    PFA_SPREAD_PAGE,
    PFA_SPREAD_SLAB,
    TASK_ATOMIC_FLAGS,
    TASK_CPUSET,
    TASK_HARDWALL_MEMS,
    TASK_MEMS_ALLOWED,
    TASK_MM,
    TASK_WORDS,
)
from .mempolicy import mpol_rebind_task
from .mm_struct import MM_MMAP, TASK_TASKS, VMA_NEXT, VMA_POLICY

EACCES, EBUSY, EINVAL, ENOSPC = 13, 16, 22, 28

CS_ONLINE = 1 << 0
CS_CPU_EXCLUSIVE = 1 << 1
CS_MEM_EXCLUSIVE = 1 << 2
CS_MEM_HARDWALL = 1 << 3
CS_MEMORY_MIGRATE = 1 << 4
CS_SCHED_LOAD_BALANCE = 1 << 5
CS_SPREAD_PAGE = 1 << 6
CS_SPREAD_SLAB = 1 << 7
SETTABLE = CS_MEM_EXCLUSIVE | CS_MEM_HARDWALL | CS_MEMORY_MIGRATE | CS_SPREAD_PAGE | CS_SPREAD_SLAB

CS_ID = CPUSET["id"]
CS_FLAGS = CPUSET["flags"]
CS_PARENT = CPUSET["parent"]
CS_MEMS = CPUSET["mems_allowed"]
CS_EFFECTIVE = CPUSET["effective_mems"]
CS_NR_TASKS = CPUSET["nr_tasks"]
CS_NAME = CPUSET["name"]
NAME_BYTES = 64
TOP_CPUSET = CPUSETS


def cpuset_init(m: memoryview) -> int:
    """Sets up the root cpuset with all nodes that have memory; its word index."""
    for w in range(CPUSETS, CPUSETS + MAX_CPUSETS * CPUSET_WORDS):
        m[w] = 0
    m[TOP_CPUSET + CS_ID] = 1
    m[TOP_CPUSET + CS_FLAGS] = CS_ONLINE | CS_CPU_EXCLUSIVE | CS_MEM_EXCLUSIVE
    m[TOP_CPUSET + CS_MEMS] = m[G_NODES_MEMORY]
    m[TOP_CPUSET + CS_EFFECTIVE] = m[G_NODES_MEMORY]
    m[G_NR_CPUSETS] = 1
    return TOP_CPUSET


def parent_cs(m: memoryview, cs: int) -> int:
    """The parent's word index, 0 for the root."""
    va = m[cs + CS_PARENT]
    return (va - PAGE_OFFSET) >> 3 if va else 0


def children(m: memoryview, cs: int) -> Iterator[int]:
    """The cpusets directly below `cs`, in the order of the table."""
    va = PAGE_OFFSET + (cs << 3)
    for number in range(1, MAX_CPUSETS):
        child = CPUSETS + number * CPUSET_WORDS
        if m[child + CS_ID] and m[child + CS_PARENT] == va:
            yield child


def check_cpuset(m: memoryview, cs: int) -> None:
    """Raises UsageError unless `cs` is the word index of a live cpuset."""
    at = cs - CPUSETS
    inside = 0 <= at < MAX_CPUSETS * CPUSET_WORDS and at % CPUSET_WORDS == 0
    if not inside or m[cs + CS_ID] == 0:
        raise UsageError(f"word {cs:#x} is not a cpuset")


def cpuset_create(m: memoryview, parent: int, name: str) -> int:
    """mkdir of a cpuset below `parent`: no nodes yet, spread flags inherited; its word index.

    Raises:
        UsageError: no such parent, a bad name, or the table of MAX_CPUSETS is full.
    """
    check_cpuset(m, parent)
    raw = name.encode()
    if not raw or len(raw) >= NAME_BYTES or b"/" in raw or b"\0" in raw:
        raise UsageError(f"cpuset name {name!r} is empty, has a slash or exceeds 63 bytes")
    if any(cpuset_name(m, child) == name for child in children(m, parent)):
        raise UsageError(f"cpuset {name!r} exists")
    for number in range(1, MAX_CPUSETS):
        cs = CPUSETS + number * CPUSET_WORDS
        if m[cs + CS_ID]:
            continue
        for w in range(cs, cs + CPUSET_WORDS):
            m[w] = 0
        m[cs + CS_ID] = number + 1
        m[cs + CS_FLAGS] = CS_ONLINE | (m[parent + CS_FLAGS] & (CS_SPREAD_PAGE | CS_SPREAD_SLAB))
        m[cs + CS_PARENT] = PAGE_OFFSET + (parent << 3)
        padded = raw.ljust(NAME_BYTES, b"\0")
        for i in range(NAME_BYTES // 8):
            word = padded[8 * i : 8 * i + 8]
            m[cs + CS_NAME + i] = int.from_bytes(word, "little", signed=True)
        m[G_NR_CPUSETS] += 1
        m[G_STATIC_KEYS] |= KEY_CPUSETS
        return cs
    raise UsageError(f"no room for more than {MAX_CPUSETS} cpusets")


def cpuset_remove(m: memoryview, cs: int) -> int:
    """rmdir: 0, or -EBUSY while it is the root, has children or tasks."""
    check_cpuset(m, cs)
    if cs == TOP_CPUSET or any(True for _ in children(m, cs)) or m[cs + CS_NR_TASKS]:
        return -EBUSY
    m[cs + CS_ID] = 0
    m[G_NR_CPUSETS] -= 1
    if m[G_NR_CPUSETS] == 1:
        m[G_STATIC_KEYS] &= ~KEY_CPUSETS
    return 0


def cpuset_name(m: memoryview, cs: int) -> str:
    """The name that the cpuset was made with, empty for the root."""
    raw = b"".join(
        m[cs + CS_NAME + i].to_bytes(8, "little", signed=True) for i in range(NAME_BYTES // 8)
    )
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def cpuset_path(m: memoryview, cs: int) -> str:
    """`/` for the root, `/a/b` below it."""
    names = []
    for _ in range(MAX_CPUSETS):
        parent = parent_cs(m, cs)
        if not parent:
            break
        names.append(cpuset_name(m, cs))
        cs = parent
    return "/" + "/".join(reversed(names))


def nearest_hardwall_ancestor(m: memoryview, cs: int) -> int:
    """The first of `cs` and its ancestors that is exclusive, hardwalled or the root."""
    while m[cs + CS_FLAGS] & (CS_MEM_EXCLUSIVE | CS_MEM_HARDWALL) == 0 and parent_cs(m, cs):
        cs = parent_cs(m, cs)
    return cs


def validate_change(m: memoryview, cs: int, mems: int, flags: int) -> int:
    """0 if `cs` may get these nodes and flags, else a negative errno (validate_change)."""
    for child in children(m, cs):
        if m[child + CS_MEMS] & ~mems or m[child + CS_FLAGS] & CS_MEM_EXCLUSIVE & ~flags:
            return -EBUSY
    if cs == TOP_CPUSET:
        return 0
    parent = parent_cs(m, cs)
    if mems & ~m[parent + CS_MEMS]:
        return -EACCES
    if flags & CS_MEM_EXCLUSIVE & ~m[parent + CS_FLAGS]:
        return -EACCES
    for sibling in children(m, parent):
        if sibling != cs and (flags | m[sibling + CS_FLAGS]) & CS_MEM_EXCLUSIVE:
            if mems & m[sibling + CS_MEMS]:
                return -EINVAL
    if m[cs + CS_NR_TASKS] and m[cs + CS_MEMS] and mems == 0:
        return -ENOSPC
    return 0


def online_mems(m: memoryview, cs: int) -> int:
    """The nodes with memory that tasks of `cs` get (guarantee_online_mems)."""
    while m[cs + CS_EFFECTIVE] & m[G_NODES_MEMORY] == 0 and parent_cs(m, cs):
        cs = parent_cs(m, cs)
    mems: int = m[cs + CS_EFFECTIVE] & m[G_NODES_MEMORY]
    return mems


def tasks(m: memoryview) -> list[int]:
    """Word indices of the tasks there are: the idle tasks and whoever is current."""
    found = []
    for cpu in range(m[G_NR_CPU_IDS]):
        current = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT]
        for task in (INIT_TASKS + cpu * TASK_WORDS, (current - PAGE_OFFSET) >> 3):
            if current and task not in found:
                found.append(task)
    if m[G_MM_INIT_DONE]:
        va = m[G_TASKS]
        while va != PAGE_OFFSET + (G_TASKS << 3):
            task = ((va - PAGE_OFFSET) >> 3) - TASK_TASKS
            if task not in found and m[task + TASK_MM]:
                found.append(task)
            va = m[task + TASK_TASKS]
    return found


def task_cs(m: memoryview, task: int) -> int:
    """The cpuset that a task is in."""
    va = m[task + TASK_CPUSET]
    return (va - PAGE_OFFSET) >> 3 if va else TOP_CPUSET


def refresh_task(m: memoryview, task: int) -> None:
    """Copies what the allocation path needs from a task's cpuset into the task."""
    cs = task_cs(m, task)
    mems = online_mems(m, cs)
    if m[task + TASK_MEMS_ALLOWED] != mems:
        mpol_rebind_task(m, task, mems)
        m[task + TASK_MEMS_ALLOWED] = mems
    m[task + TASK_HARDWALL_MEMS] = m[nearest_hardwall_ancestor(m, cs) + CS_MEMS]
    spread = m[task + TASK_ATOMIC_FLAGS] & ~(PFA_SPREAD_PAGE | PFA_SPREAD_SLAB)
    if m[cs + CS_FLAGS] & CS_SPREAD_PAGE:
        spread |= PFA_SPREAD_PAGE
    if m[cs + CS_FLAGS] & CS_SPREAD_SLAB:
        spread |= PFA_SPREAD_SLAB
    m[task + TASK_ATOMIC_FLAGS] = spread


def rebind_areas(m: memoryview, task: int) -> None:
    """The policies of a process's areas follow its nodes (mpol_rebind_mm)."""
    from .mempolicy_vma import mpol_rebind_policy

    mm = m[task + TASK_MM]
    vma = m[((mm - PAGE_OFFSET) >> 3) + MM_MMAP] if mm else 0
    while vma:
        area = (vma - PAGE_OFFSET) >> 3
        if m[area + VMA_POLICY]:
            pol = (m[area + VMA_POLICY] - PAGE_OFFSET) >> 3
            mpol_rebind_policy(m, pol, m[task + TASK_MEMS_ALLOWED])
        vma = m[area + VMA_NEXT]


def refresh_tasks_below(m: memoryview, cs: int) -> None:
    """refresh_task() for the tasks in `cs` and the cpusets below it."""
    for task in tasks(m):
        above = task_cs(m, task)
        while above not in (cs, 0):
            above = parent_cs(m, above)
        if above == cs:
            refresh_task(m, task)
            rebind_areas(m, task)


def cpuset_set_mems(m: memoryview, cs: int, mems: int) -> int:
    """Writes cpuset.mems: 0 or -EACCES, -EINVAL, -EBUSY, -ENOSPC (update_nodemask)."""
    check_cpuset(m, cs)
    if cs == TOP_CPUSET:
        return -EACCES
    if mems & ~m[TOP_CPUSET + CS_MEMS]:
        return -EINVAL
    if mems == m[cs + CS_MEMS]:
        return 0
    rc = validate_change(m, cs, mems, m[cs + CS_FLAGS])
    if rc == 0:
        m[cs + CS_MEMS] = mems
        m[cs + CS_EFFECTIVE] = mems & m[parent_cs(m, cs) + CS_EFFECTIVE]
        refresh_tasks_below(m, cs)
    return rc


def cpuset_set_flag(m: memoryview, cs: int, flag: int, on: bool) -> int:
    """Writes one of the flag files (CS_MEM_EXCLUSIVE, ...): 0 or a negative errno (update_flag).

    Raises:
        UsageError: no such flag.
    """
    check_cpuset(m, cs)
    if flag & ~SETTABLE or flag & (flag - 1) or not flag:
        raise UsageError(f"no cpuset flag {flag:#x}")
    flags = m[cs + CS_FLAGS] | flag if on else m[cs + CS_FLAGS] & ~flag
    rc = validate_change(m, cs, m[cs + CS_MEMS], flags)
    if rc == 0:
        m[cs + CS_FLAGS] = flags
        refresh_tasks_below(m, cs)
    return rc


def cpuset_attach(m: memoryview, cs: int, task: int) -> int:
    """Moves a task into `cs`: 0, or -ENOSPC if the cpuset has no nodes."""
    check_cpuset(m, cs)
    if m[cs + CS_EFFECTIVE] == 0:
        return -ENOSPC
    old = task_cs(m, task)
    if m[task + TASK_CPUSET]:
        m[old + CS_NR_TASKS] -= 1
    m[cs + CS_NR_TASKS] += 1
    m[task + TASK_CPUSET] = PAGE_OFFSET + (cs << 3)
    refresh_task(m, task)
    return 0
