# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from allocator import kernel_globals as kg
from allocator import layout as lay
from allocator.cpu_init import setup_cpus
from machine import BringUpError
from tests.allocator.bringup_support import MIB, context, tables_boot


def test_only_the_boot_cpu_is_online_until_smp_init() -> None:
    k = tables_boot(
        [(MIB, 63 * MIB, 0), (64 * MIB, 64 * MIB, 1)], [(16 * MIB, 8 * MIB)], cpu_nodes=[0, 1, 1]
    )
    k.early0()
    m = k.m
    assert (m[kg.G_NR_CPU_IDS], m[kg.G_NUM_ONLINE_CPUS]) == (3, 1)
    k.smp_init()
    assert m[kg.G_NUM_ONLINE_CPUS] == 3
    assert m[kg.G_NODES_CPU] == 0b11
    nodes = [m[lay.CPU_BLOCKS + cpu * lay.CPU_WORDS + lay.CPU_NUMA_NODE] for cpu in range(3)]
    assert nodes == [0, 1, 1]


def test_every_cpu_runs_its_idle_task() -> None:
    k = tables_boot([(MIB, 63 * MIB, 0)], [(16 * MIB, 8 * MIB)], cpu_nodes=[0, 0])
    k.early0()
    m = k.m
    task = lay.word_of_va(m[lay.CPU_BLOCKS + lay.CPU_WORDS + lay.CPU_CURRENT])
    assert task == lay.INIT_TASKS + lay.TASK_WORDS
    comm = k.memory.read((task + lay.TASK_COMM) << 3, 16)
    assert comm.rstrip(b"\0") == b"swapper/1"
    assert m[task + lay.TASK_PRIO] == 120
    assert m[task + lay.TASK_MEMS_ALLOWED] == 1


def test_no_cpu_or_too_many_are_refused() -> None:
    for count in (0, 257):
        with pytest.raises(BringUpError, match=f"{count} CPUs"):
            setup_cpus(context().m, [0] * count, list(range(count)))
