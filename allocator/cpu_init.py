# SPDX-License-Identifier: GPL-2.0-only
"""CPUs as the allocator sees them: node, online mark, and the idle task that runs there at first.

Each possible CPU has a block in the static data and an init task. At first only CPU 0 is online;
`bring_up_cpus` stands for smp_init(), after which all are and their nodes count as nodes with CPUs.
(That a virtual CPU executes anything is the business of the machine.)
"""

from __future__ import annotations

from collections.abc import Sequence

from machine import BringUpError

from .boot_context import nodes_mask, set_current
from .kernel_globals import G_NODES_CPU, G_NODES_ONLINE, G_NR_CPU_IDS, G_NUM_ONLINE_CPUS
from .layout import (
    CPU_APICID,
    CPU_BLOCKS,
    CPU_BULK_FREE,
    CPU_EARLY_NODE,
    CPU_NUMA_NODE,
    CPU_ONLINE,
    CPU_PRESENT,
    CPU_WORDS,
    DEFAULT_PRIO,
    INIT_TASKS,
    PF_KTHREAD,
    TASK,
    TASK_COMM,
    TASK_FLAGS,
    TASK_HARDWALL_MEMS,
    TASK_MEMS_ALLOWED,
    TASK_PRIO,
    TASK_WORDS,
)
from .list_head import list_init
from .mmzone import NR_CPUS
from .pageset import refresh_zone_stat_thresholds


def setup_cpus(m: memoryview, nodes: Sequence[int], apicids: Sequence[int]) -> None:
    """Enters the possible CPUs: `nodes[cpu]` and `apicids[cpu]`; CPU 0 goes online.

    Raises BringUpError for no CPU or more than NR_CPUS."""
    if not 1 <= len(nodes) <= NR_CPUS:
        raise BringUpError(f"{len(nodes)} CPUs: the kernel is built for 1 to {NR_CPUS}")
    m[G_NR_CPU_IDS] = len(nodes)
    for cpu, (nid, apicid) in enumerate(zip(nodes, apicids, strict=True)):
        block = CPU_BLOCKS + cpu * CPU_WORDS
        m[block + CPU_NUMA_NODE] = m[block + CPU_EARLY_NODE] = nid
        m[block + CPU_PRESENT] = 1
        m[block + CPU_APICID] = apicid
        list_init(m, block + CPU_BULK_FREE)
        _init_idle(m, cpu)
    _online(m, 0)


def _init_idle(m: memoryview, cpu: int) -> None:
    """The idle task of `cpu` becomes its current task."""
    task = INIT_TASKS + cpu * TASK_WORDS
    comm = f"swapper/{cpu}".encode().ljust(16, b"\0")
    m[task + TASK_FLAGS] = PF_KTHREAD
    m[task + TASK_COMM] = int.from_bytes(comm[:8], "little")
    m[task + TASK_COMM + 1] = int.from_bytes(comm[8:], "little")
    m[task + TASK_PRIO] = DEFAULT_PRIO
    m[task + TASK_MEMS_ALLOWED] = m[task + TASK_HARDWALL_MEMS] = m[G_NODES_ONLINE]
    m[task + TASK["cpu"]] = cpu
    set_current(m, cpu, task)


def _online(m: memoryview, cpu: int) -> None:
    m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE] = 1
    m[G_NUM_ONLINE_CPUS] += 1


def bring_up_cpus(m: memoryview, max_cpus: int | None = None) -> int:
    """Puts the CPUs that are still offline online, up to `max_cpus` in all; how many are."""
    for cpu in range(m[G_NR_CPU_IDS]):
        if max_cpus is not None and m[G_NUM_ONLINE_CPUS] >= max(max_cpus, 1):
            break
        if not m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE]:
            _online(m, cpu)
            # vmstat_cpu_online(): with the watermarks still zero this leaves a drift mark in every
            # zone, which later rounds replace only where drift matters.
            refresh_zone_stat_thresholds(m)
    blocks = [CPU_BLOCKS + cpu * CPU_WORDS for cpu in range(m[G_NR_CPU_IDS])]
    m[G_NODES_CPU] = nodes_mask({m[b + CPU_NUMA_NODE] for b in blocks if m[b + CPU_ONLINE]})
    online: int = m[G_NUM_ONLINE_CPUS]
    return online
