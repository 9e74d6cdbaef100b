# SPDX-License-Identifier: GPL-2.0-only
"""allocator/pressure_calls.py below the doorbell: limits below what is charged reclaim first."""

from __future__ import annotations

from allocator.call_numbers import PRESSURE_CALLS
from allocator.layout import MEM_CGROUP_WORDS, MEM_CGROUPS, TASK_MEMCG, va_of_word
from allocator.memcg import MC_MEMORY, PC_USAGE
from allocator.pressure_calls import EBUSY, PressureCalls
from tests.allocator.process_support import PAGE, Lab


def call(lab: Lab, task: int, number: int, *args: int) -> tuple[int, int]:
    a = lab.scratch()
    for i, value in enumerate(args):
        lab.m[a + i] = value
    with lab.acting(task):
        return PressureCalls(lab.m).table[number](0, task, a)


def test_a_lower_limit_reclaims_what_is_charged_beyond_it() -> None:
    lab = Lab("1x64M")
    task = lab.process()
    assert call(lab, task, PRESSURE_CALLS["SWAPON"], 1024, -1) == (0, 0)
    group, errno = call(lab, task, PRESSURE_CALLS["MEMCG_CREATE"], 0)
    assert (group, errno) == (1, 0)
    assert call(lab, task, PRESSURE_CALLS["MEMCG_ATTACH"], 0, group) == (0, 0)
    word = MEM_CGROUPS + group * MEM_CGROUP_WORDS
    assert lab.m[task + TASK_MEMCG] == va_of_word(word)
    at = lab.map(task, 300)
    for i in range(300):
        lab.poke(task, at + i * PAGE, i + 1)
    used = lab.m[word + MC_MEMORY + PC_USAGE]
    assert used >= 300
    assert call(lab, task, PRESSURE_CALLS["MEMCG_SET_MAX"], group, 100) == (0, 0)
    assert call(lab, task, PRESSURE_CALLS["MEMCG_USAGE"], group)[0] <= 100
    lab.check()
    assert [lab.peek(task, at + i * PAGE) for i in range(300)] == list(range(1, 301))
    assert call(lab, task, PRESSURE_CALLS["MEMCG_USAGE"], group)[0] <= 100


def test_a_limit_that_nothing_can_be_reclaimed_for_is_busy() -> None:
    lab = Lab("1x64M")
    task = lab.process()
    group, _ = call(lab, task, PRESSURE_CALLS["MEMCG_CREATE"], 0)
    call(lab, task, PRESSURE_CALLS["MEMCG_ATTACH"], 0, group)
    at = lab.map(task, 50)
    for i in range(50):
        lab.poke(task, at + i * PAGE, i)
    assert call(lab, task, PRESSURE_CALLS["MEMCG_SET_MAX"], group, 10) == (0, EBUSY)
    lab.check()
