# SPDX-License-Identifier: GPL-2.0-only
"""Which node a context may use: the order of __cpuset_node_allowed's questions."""

from __future__ import annotations

from collections.abc import Callable

from allocator.cpuset import cpuset_mem_spread_node, cpuset_node_allowed, cpuset_zone_allowed
from allocator.gfp import GFP_KERNEL, GFP_USER
from allocator.layout import (
    CPU_BLOCKS,
    CPU_PREEMPT_COUNT,
    HARDIRQ_OFFSET,
    PF_EXITING,
    SOFTIRQ_OFFSET,
    TASK_FLAGS,
    TASK_HARDWALL_MEMS,
    TASK_MEM_SPREAD_ROTOR,
    TASK_MEMS_ALLOWED,
    TASK_OOM_MM,
)
from tests.allocator.tiny import Tiny


def confined(tiny: Tiny, mems: int, hardwall: int) -> int:
    task = tiny.task()
    tiny.m[task + TASK_MEMS_ALLOWED] = mems
    tiny.m[task + TASK_HARDWALL_MEMS] = hardwall
    return task


def test_allowed_nodes_are_allowed_even_with_hardwall(tiny_zone: Tiny) -> None:
    confined(tiny_zone, 0b10, 0b10)
    assert cpuset_node_allowed(tiny_zone.m, 0, 1, GFP_USER)
    assert not cpuset_node_allowed(tiny_zone.m, 0, 0, GFP_USER)


def test_without_hardwall_the_nearest_hardwall_ancestor_decides(tiny_zone: Tiny) -> None:
    confined(tiny_zone, 0b0010, 0b0110)
    got = [cpuset_node_allowed(tiny_zone.m, 0, nid, GFP_KERNEL) for nid in range(4)]
    assert got == [False, True, True, False]


def test_hardwall_requests_stay_in_the_cpuset(tiny_zone: Tiny) -> None:
    confined(tiny_zone, 0b0010, -1)
    got = [cpuset_node_allowed(tiny_zone.m, 0, nid, GFP_USER) for nid in range(3)]
    assert got == [False, True, False]


def test_any_interrupt_may_go_anywhere(tiny_zone: Tiny) -> None:
    confined(tiny_zone, 0b10, 0b10)
    for preempt in (HARDIRQ_OFFSET, SOFTIRQ_OFFSET):
        tiny_zone.m[CPU_BLOCKS + CPU_PREEMPT_COUNT] = preempt
        assert cpuset_node_allowed(tiny_zone.m, 0, 0, GFP_USER)


def test_oom_victims_escape_hardwall_but_exiting_tasks_do_not(tiny_zone: Tiny) -> None:
    task = confined(tiny_zone, 0b10, 0b10)
    tiny_zone.m[task + TASK_FLAGS] = PF_EXITING
    assert cpuset_node_allowed(tiny_zone.m, 0, 0, GFP_KERNEL)
    assert not cpuset_node_allowed(tiny_zone.m, 0, 0, GFP_USER)
    tiny_zone.m[task + TASK_OOM_MM] = 1
    assert cpuset_node_allowed(tiny_zone.m, 0, 0, GFP_USER)


def test_a_zone_is_judged_by_its_node(tiny_nodes: Callable[[int, int], Tiny]) -> None:
    tiny = tiny_nodes(2, 1)
    confined(tiny, 0b10, 0b10)
    assert [cpuset_zone_allowed(tiny.m, 0, z, GFP_USER) for z in tiny.zones] == [False, True]


def test_spreading_takes_the_allowed_nodes_in_turn(tiny_zone: Tiny) -> None:
    task = confined(tiny_zone, 0b1011, -1)
    got = [cpuset_mem_spread_node(tiny_zone.m, 0, TASK_MEM_SPREAD_ROTOR) for _ in range(4)]
    assert got == [1, 3, 0, 1]
    assert tiny_zone.m[task + TASK_MEM_SPREAD_ROTOR] == 1
