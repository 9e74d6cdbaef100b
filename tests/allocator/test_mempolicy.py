# SPDX-License-Identifier: GPL-2.0-only
"""Memory policies: which node and nodemask a task's requests get, and how they are rebound."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from allocator.gfp import GFP_DMA_BIT, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_THISNODE_BIT
from allocator.kernel_globals import G_NODES_MEMORY
from allocator.layout import (
    CPU_BLOCKS,
    CPU_PREEMPT_COUNT,
    HARDIRQ_OFFSET,
    TASK_MEMS_ALLOWED,
    TASK_POLICY_FLAGS,
    TASK_POLICY_NODES,
    TASK_POLICY_PREFERRED,
)
from allocator.mempolicy import (
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_F_LOCAL,
    MPOL_F_RELATIVE_NODES,
    MPOL_F_STATIC_NODES,
    MPOL_INTERLEAVE,
    MPOL_LOCAL,
    MPOL_PREFERRED,
    alloc_pages_current,
    mempolicy_slab_node,
    mpol_rebind_task,
    policy_node,
    policy_nodemask,
    policy_zone,
    set_mempolicy,
)
from allocator.mmzone import (
    NUMA_HIT,
    NUMA_INTERLEAVE_HIT,
    PGLIST_DATA_WORDS,
    PSET_NUMA_DIFF,
    ZONE_NORMAL,
    ZONE_WORDS,
)
from tests.allocator.tiny import FIRST_PFN, NODE_PAGES, Tiny

Maker = Callable[[int, int], Tiny]


@pytest.fixture
def tiny(tiny_nodes: Maker) -> Tiny:
    return tiny_nodes(4, 4)


def node_of(pfn: int) -> int:
    return (pfn - FIRST_PFN) // NODE_PAGES


def numa_diff(tiny: Tiny, nid: int, cpu: int, item: int) -> int:
    nd = tiny.zones[nid] - ZONE_NORMAL * ZONE_WORDS
    return tiny.m[nd + PGLIST_DATA_WORDS + cpu * 32 + PSET_NUMA_DIFF + item]


def test_default_and_local_take_the_cpus_node(tiny: Tiny) -> None:
    assert [node_of(alloc_pages_current(tiny.m, cpu, GFP_KERNEL, 0)) for cpu in range(4)] == [
        0,
        1,
        2,
        3,
    ]
    assert set_mempolicy(tiny.m, tiny.task(2), MPOL_LOCAL, 0, 0) == 0
    assert node_of(alloc_pages_current(tiny.m, 2, GFP_KERNEL, 0)) == 2


def test_preferred_takes_the_lowest_node_named(tiny: Tiny) -> None:
    assert set_mempolicy(tiny.m, tiny.task(), MPOL_PREFERRED, 0, 0b1100) == 0
    assert node_of(alloc_pages_current(tiny.m, 0, GFP_KERNEL, 3)) == 2


def test_bind_never_leaves_its_nodes(tiny: Tiny) -> None:
    m = tiny.m
    assert set_mempolicy(m, tiny.task(), MPOL_BIND, 0, 0b1010) == 0
    taken = [alloc_pages_current(m, 0, 0x400000, 10) for _ in range(9)]
    assert [node_of(pfn) for pfn in taken[:8]] == [1, 1, 1, 1, 3, 3, 3, 3]
    assert taken[8] == -1


def test_bind_does_not_govern_zones_below_the_policy_zone(tiny: Tiny) -> None:
    m, task = tiny.m, tiny.task()
    set_mempolicy(m, task, MPOL_BIND, 0, 0b1010)
    assert policy_zone(m) == ZONE_NORMAL
    assert policy_nodemask(m, task, GFP_KERNEL) == 0b1010
    assert policy_nodemask(m, task, GFP_HIGHUSER_MOVABLE) == 0b1010
    assert policy_nodemask(m, task, GFP_DMA_BIT) == 0


def test_bind_without_an_allowed_node_gives_no_mask(tiny: Tiny) -> None:
    m, task = tiny.m, tiny.task()
    set_mempolicy(m, task, MPOL_BIND, 0, 0b0010)
    m[task + TASK_MEMS_ALLOWED] = 0b0100
    assert policy_nodemask(m, task, GFP_KERNEL) == 0


def test_interleave_goes_round_and_counts_its_hits(tiny: Tiny) -> None:
    m = tiny.m
    set_mempolicy(m, tiny.task(), MPOL_INTERLEAVE, 0, 0b1101)
    got = [node_of(alloc_pages_current(m, 0, GFP_KERNEL, 0)) for _ in range(5)]
    assert got == [0, 2, 3, 0, 2]
    assert [numa_diff(tiny, nid, 0, NUMA_INTERLEAVE_HIT) for nid in range(4)] == [2, 0, 2, 1]
    assert [numa_diff(tiny, nid, 0, NUMA_HIT) for nid in range(4)] == [2, 0, 2, 1]


def test_an_interleaved_page_from_elsewhere_is_no_hit(tiny: Tiny) -> None:
    m = tiny.m
    set_mempolicy(m, tiny.task(), MPOL_INTERLEAVE, 0, 0b0001)
    taken = [alloc_pages_current(m, 0, GFP_KERNEL, 10) for _ in range(5)]
    assert [node_of(pfn) for pfn in taken] == [0, 0, 0, 0, 1]
    assert [numa_diff(tiny, nid, 0, NUMA_INTERLEAVE_HIT) for nid in range(2)] == [4, 0]


@pytest.mark.parametrize("case", ["interrupt", "thisnode"])
def test_interrupts_and_thisnode_ignore_the_policy(tiny: Tiny, case: str) -> None:
    m = tiny.m
    set_mempolicy(m, tiny.task(), MPOL_PREFERRED, 0, 0b1000)
    gfp = GFP_KERNEL
    if case == "interrupt":
        m[CPU_BLOCKS + CPU_PREEMPT_COUNT] = HARDIRQ_OFFSET
    else:
        gfp |= GFP_THISNODE_BIT
    assert node_of(alloc_pages_current(m, 0, gfp, 0)) == 0


@pytest.mark.parametrize(
    ("mode", "flags", "nodes"),
    [
        (MPOL_DEFAULT, 0, 1),
        (MPOL_BIND, 0, 0),
        (MPOL_INTERLEAVE, 0, 0),
        (MPOL_LOCAL, 0, 1),
        (MPOL_LOCAL, MPOL_F_STATIC_NODES, 0),
        (MPOL_PREFERRED, MPOL_F_RELATIVE_NODES, 0),
        (MPOL_BIND, MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES, 1),
        (MPOL_BIND, 0, 1 << 20),
        (MPOL_BIND, 1, 1),
        (5, 0, 1),
        (-1, 0, 1),
    ],
)
def test_policies_that_make_no_sense_are_einval_and_leave_the_old_one(
    tiny: Tiny, mode: int, flags: int, nodes: int
) -> None:
    set_mempolicy(tiny.m, tiny.task(), MPOL_BIND, 0, 0b0100)
    assert set_mempolicy(tiny.m, tiny.task(), mode, flags, nodes) == -22
    assert policy_nodemask(tiny.m, tiny.task(), GFP_KERNEL) == 0b0100


def test_relative_nodes_are_ranks_among_the_allowed(tiny: Tiny) -> None:
    m, task = tiny.m, tiny.task()
    m[task + TASK_MEMS_ALLOWED] = 0b1110
    set_mempolicy(m, task, MPOL_BIND, MPOL_F_RELATIVE_NODES, 0b1001)
    # ranks 0 and 3; 3 folds onto rank 0 of three allowed nodes
    assert m[task + TASK_POLICY_NODES] == 0b0010
    mpol_rebind_task(m, task, 0b1111)
    assert m[task + TASK_POLICY_NODES] == 0b1001


def test_static_nodes_come_back_when_they_are_allowed_again(tiny: Tiny) -> None:
    m, task = tiny.m, tiny.task()
    set_mempolicy(m, task, MPOL_INTERLEAVE, MPOL_F_STATIC_NODES, 0b0110)
    mpol_rebind_task(m, task, 0b0100)
    assert m[task + TASK_POLICY_NODES] == 0b0100
    mpol_rebind_task(m, task, 0b1001)
    assert m[task + TASK_POLICY_NODES] == 0b1001
    mpol_rebind_task(m, task, 0b1111)
    assert m[task + TASK_POLICY_NODES] == 0b0110


def test_a_static_preferred_node_turns_local_while_it_is_not_allowed(tiny: Tiny) -> None:
    m, task = tiny.m, tiny.task()
    set_mempolicy(m, task, MPOL_PREFERRED, MPOL_F_STATIC_NODES, 0b0100)
    mpol_rebind_task(m, task, 0b0011)
    assert m[task + TASK_POLICY_FLAGS] & MPOL_F_LOCAL
    assert policy_node(m, task, 1) == 1
    mpol_rebind_task(m, task, 0b0111)
    assert policy_node(m, task, 1) == 2


def test_a_plain_policy_is_remapped_by_rank(tiny: Tiny) -> None:
    m, task = tiny.m, tiny.task()
    m[task + TASK_MEMS_ALLOWED] = 0b0011
    set_mempolicy(m, task, MPOL_PREFERRED, 0, 0b0010)
    mpol_rebind_task(m, task, 0b1100)
    assert m[task + TASK_POLICY_PREFERRED] == 3


def test_slab_pages_follow_the_policy(tiny: Tiny) -> None:
    m, task = tiny.m, tiny.task()
    assert mempolicy_slab_node(m, 0) == 0
    set_mempolicy(m, task, MPOL_BIND, 0, 0b1100)
    assert mempolicy_slab_node(m, 0) == 2
    set_mempolicy(m, task, MPOL_INTERLEAVE, 0, 0b1100)
    assert [mempolicy_slab_node(m, 0) for _ in range(3)] == [2, 3, 2]
    set_mempolicy(m, task, MPOL_PREFERRED, 0, 0b0010)
    assert mempolicy_slab_node(m, 0) == 1
    assert m[G_NODES_MEMORY] == 0b1111
