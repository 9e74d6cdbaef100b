# SPDX-License-Identifier: GPL-2.0-only
"""The cpuset tree: its rules of containment and exclusion, and what reaches the tasks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from allocator.cpuset_fs import (
    CS_MEM_EXCLUSIVE,
    CS_MEM_HARDWALL,
    CS_MEMS,
    CS_SPREAD_PAGE,
    TOP_CPUSET,
    cpuset_attach,
    cpuset_create,
    cpuset_path,
    cpuset_remove,
    cpuset_set_flag,
    cpuset_set_mems,
)
from allocator.kernel_globals import G_STATIC_KEYS, KEY_CPUSETS
from allocator.layout import (
    PFA_SPREAD_PAGE,
    TASK_ATOMIC_FLAGS,
    TASK_HARDWALL_MEMS,
    TASK_MEMS_ALLOWED,
    TASK_POLICY_NODES,
)
from allocator.mempolicy import MPOL_BIND, set_mempolicy
from allocator.page_alloc import alloc_pages_nodemask
from machine import UsageError
from tests.allocator.tiny import FIRST_PFN, NODE_PAGES, Tiny

EACCES, EBUSY, EINVAL, ENOSPC = 13, 16, 22, 28
Maker = Callable[[int, int], Tiny]


@pytest.fixture
def tiny(tiny_nodes: Maker) -> Tiny:
    return tiny_nodes(4, 1)


def test_the_static_key_lives_from_the_first_child_to_the_last(tiny: Tiny) -> None:
    a = cpuset_create(tiny.m, TOP_CPUSET, "a")
    assert tiny.m[G_STATIC_KEYS] & KEY_CPUSETS
    b = cpuset_create(tiny.m, a, "b")
    assert cpuset_path(tiny.m, b) == "/a/b"
    assert cpuset_remove(tiny.m, a) == -EBUSY
    assert (cpuset_remove(tiny.m, b), cpuset_remove(tiny.m, a)) == (0, 0)
    assert tiny.m[G_STATIC_KEYS] & KEY_CPUSETS == 0


def test_nodes_must_be_the_parents_and_must_hold_the_childrens(tiny: Tiny) -> None:
    m = tiny.m
    a = cpuset_create(m, TOP_CPUSET, "a")
    b = cpuset_create(m, a, "b")
    assert cpuset_set_mems(m, TOP_CPUSET, 1) == -EACCES
    assert cpuset_set_mems(m, a, 1 << 9) == -EINVAL
    assert cpuset_set_mems(m, b, 0b1) == -EACCES
    assert cpuset_set_mems(m, a, 0b11) == 0
    assert cpuset_set_mems(m, b, 0b10) == 0
    assert cpuset_set_mems(m, a, 0b01) == -EBUSY


def test_exclusive_siblings_do_not_overlap(tiny: Tiny) -> None:
    m = tiny.m
    a = cpuset_create(m, TOP_CPUSET, "a")
    b = cpuset_create(m, TOP_CPUSET, "b")
    assert cpuset_set_mems(m, a, 0b011) == 0
    assert cpuset_set_flag(m, a, CS_MEM_EXCLUSIVE, True) == 0
    assert cpuset_set_mems(m, b, 0b110) == -EINVAL
    assert cpuset_set_mems(m, b, 0b100) == 0
    inner = cpuset_create(m, b, "inner")
    assert cpuset_set_flag(m, inner, CS_MEM_EXCLUSIVE, True) == -EACCES


def test_a_cpuset_without_nodes_takes_no_task_and_one_with_tasks_keeps_a_node(tiny: Tiny) -> None:
    m = tiny.m
    a = cpuset_create(m, TOP_CPUSET, "a")
    assert cpuset_attach(m, a, tiny.task()) == -ENOSPC
    cpuset_set_mems(m, a, 0b1)
    assert cpuset_attach(m, a, tiny.task()) == 0
    assert cpuset_set_mems(m, a, 0) == -ENOSPC
    assert cpuset_remove(m, a) == -EBUSY
    assert cpuset_attach(m, TOP_CPUSET, tiny.task()) == 0
    assert cpuset_remove(m, a) == 0


def test_tasks_follow_their_cpusets_nodes_and_its_nearest_hardwall(tiny: Tiny) -> None:
    m, task = tiny.m, tiny.task()
    a = cpuset_create(m, TOP_CPUSET, "a")
    b = cpuset_create(m, a, "b")
    cpuset_set_mems(m, a, 0b0111)
    cpuset_set_mems(m, b, 0b0010)
    cpuset_attach(m, b, task)
    assert (m[task + TASK_MEMS_ALLOWED], m[task + TASK_HARDWALL_MEMS]) == (0b0010, 0b1111)
    cpuset_set_flag(m, a, CS_MEM_HARDWALL, True)
    assert m[task + TASK_HARDWALL_MEMS] == 0b0111
    cpuset_set_mems(m, b, 0b0100)
    assert m[task + TASK_MEMS_ALLOWED] == 0b0100


def test_a_memory_policy_is_rebound_when_the_nodes_change(tiny: Tiny) -> None:
    m, task = tiny.m, tiny.task()
    a = cpuset_create(m, TOP_CPUSET, "a")
    cpuset_set_mems(m, a, 0b0011)
    cpuset_attach(m, a, task)
    assert set_mempolicy(m, task, MPOL_BIND, 0, 0b0010) == 0
    cpuset_set_mems(m, a, 0b1100)
    assert m[task + TASK_POLICY_NODES] == 0b1000


def test_spread_flags_are_inherited_and_reach_the_task(tiny: Tiny) -> None:
    m, task = tiny.m, tiny.task()
    a = cpuset_create(m, TOP_CPUSET, "a")
    cpuset_set_flag(m, a, CS_SPREAD_PAGE, True)
    b = cpuset_create(m, a, "b")
    cpuset_set_mems(m, a, 0b1)
    cpuset_set_mems(m, b, 0b1)
    cpuset_attach(m, b, task)
    assert m[task + TASK_ATOMIC_FLAGS] & PFA_SPREAD_PAGE
    cpuset_set_flag(m, b, CS_SPREAD_PAGE, False)
    assert m[task + TASK_ATOMIC_FLAGS] & PFA_SPREAD_PAGE == 0


def test_the_allocator_keeps_user_pages_inside_and_lets_kernel_pages_out(tiny: Tiny) -> None:
    m = tiny.m
    a = cpuset_create(m, TOP_CPUSET, "a")
    cpuset_set_mems(m, a, 0b0100)
    cpuset_attach(m, a, tiny.task())
    gfp_user, gfp_nowait = 0x420000, 0x400000
    taken = [alloc_pages_nodemask(m, 0, gfp_user, 10, 0, 0) for _ in range(5)]
    low = FIRST_PFN + 2 * NODE_PAGES
    assert all(low <= pfn < low + NODE_PAGES for pfn in taken[:4])
    assert taken[-1] == -1
    assert alloc_pages_nodemask(m, 0, gfp_nowait, 10, 0, 0) >= 0


def test_bad_names_flags_and_words_are_refused(tiny: Tiny) -> None:
    m = tiny.m
    cpuset_create(m, TOP_CPUSET, "a")
    for name in ("", "a", "x/y", "n" * 64, "z\0z"):
        with pytest.raises(UsageError):
            cpuset_create(m, TOP_CPUSET, name)
    with pytest.raises(UsageError, match="not a cpuset"):
        cpuset_set_mems(m, TOP_CPUSET + 5, 1)
    with pytest.raises(UsageError, match="flag"):
        cpuset_set_flag(m, TOP_CPUSET, 1, True)
    for i in range(62):
        cpuset_create(m, TOP_CPUSET, f"n{i}")
    with pytest.raises(UsageError, match="no room"):
        cpuset_create(m, TOP_CPUSET, "last")
    assert m[TOP_CPUSET + CS_MEMS] == 0b1111
