# SPDX-License-Identifier: GPL-2.0-only
"""allocator/memcg_charge.py: pages of processes are charged, moved and given back."""

from __future__ import annotations

from allocator.layout import MEM_CGROUPS, TASK_MEMCG, va_of_word
from allocator.memcg import MC_MEMORY, MEMCG_CHARGE_BATCH, PC_USAGE, memcg_create, memcg_set_max
from allocator.memcg_charge import mem_cgroup_migrate
from allocator.mm_types import P_MEMCG
from tests.allocator.process_support import PAGE, Lab


def grouped(pages: int) -> tuple[Lab, int, int, int]:
    lab = Lab("1x64M")
    task = lab.process()
    group = memcg_create(lab.m, MEM_CGROUPS)
    lab.m[task + TASK_MEMCG] = va_of_word(group)
    at = lab.map(task, pages)
    for i in range(pages):
        lab.poke(task, at + i * PAGE, i)
    return lab, task, at, group


def usage(lab: Lab, group: int) -> int:
    return lab.m[group + MC_MEMORY + PC_USAGE]


def test_every_page_of_a_process_is_charged_to_its_group() -> None:
    lab, task, at, group = grouped(100)
    assert 100 <= usage(lab, group) <= 100 + MEMCG_CHARGE_BATCH
    assert all(
        lab.m[lab.page(task, at + i * PAGE) + P_MEMCG] == va_of_word(group) for i in range(100)
    )
    lab.check()


def test_root_is_never_charged() -> None:
    lab = Lab("1x64M")
    memcg_create(lab.m, MEM_CGROUPS)
    task = lab.process()
    at = lab.map(task, 3)
    lab.poke(task, at, 1)
    assert lab.m[lab.page(task, at) + P_MEMCG] == 0
    assert usage(lab, MEM_CGROUPS) == 0


def test_charges_come_back_when_the_process_ends() -> None:
    lab, task, _, group = grouped(100)
    lab.exit(task)
    lab.drain()
    assert usage(lab, group) <= MEMCG_CHARGE_BATCH
    lab.check()


def test_a_group_never_has_more_than_its_limit() -> None:
    lab, task, at, group = grouped(10)
    lab.swap(512)
    assert memcg_set_max(lab.m, group, MC_MEMORY, 64)
    more = lab.map(task, 300)
    for i in range(300):
        lab.poke(task, more + i * PAGE, i + 5)
        assert usage(lab, group) <= 64
    assert [lab.peek(task, more + i * PAGE) for i in range(300)] == list(range(5, 305))
    assert lab.peek(task, at + PAGE) == 1
    lab.check()


def test_a_migrated_page_takes_its_charge_along() -> None:
    lab, task, at, group = grouped(2)
    old, new = lab.page(task, at), lab.new_page()
    before = usage(lab, group)
    mem_cgroup_migrate(lab.m, old, new)
    assert (lab.m[old + P_MEMCG], lab.m[new + P_MEMCG]) == (0, va_of_word(group))
    assert usage(lab, group) == before
