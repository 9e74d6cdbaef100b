# SPDX-License-Identifier: GPL-2.0-only
"""allocator/oom_kill.py: rows read from mm/oom_kill.c, on processes of a booted machine."""

from __future__ import annotations

import pytest

from allocator.fork import copy_process
from allocator.gfp import GFP_IO_BIT, GFP_KERNEL, GFP_THISNODE_BIT, GFP_USER
from allocator.kernel_globals import (
    G_CHILD_REAPER,
    G_OOM_KILL_ALLOCATING,
    G_PANIC,
    G_PANIC_ON_OOM,
    G_STATIC_KEYS,
    G_TOTAL_SWAP_PAGES,
    G_TOTALRAM,
    G_VM_SWAPPINESS,
    KEY_CPUSETS,
)
from allocator.layout import (
    NODE_DATA,
    PF_KTHREAD,
    TASK_FATAL_SIGNAL,
    TASK_FLAGS,
    TASK_HARDWALL_MEMS,
    TASK_MEMS_ALLOWED,
    TASK_OOM_MM,
    TASK_OOM_SCORE_ADJ,
    TASK_PID,
    va_of_word,
    word_of_va,
)
from allocator.memcg import MC_MEMORY, MC_MEMSW, PC_MAX
from allocator.mm_struct import MM_FLAGS, MM_PGTABLES_BYTES
from allocator.mmzone import ND_SPANNED, ND_ZONELISTS
from allocator.oom_kill import (
    CONSTRAINT_CPUSET,
    CONSTRAINT_MEMCG,
    CONSTRAINT_MEMORY_POLICY,
    CONSTRAINT_NONE,
    MMF_OOM_SKIP,
    PANIC_DEADLOCK,
    OomControl,
    constrained_alloc,
    mm_rss,
    oom_badness,
    oom_select_and_kill,
    out_of_memory,
    pagefault_out_of_memory,
)
from allocator.page_report import log_lines
from tests.allocator.process_support import PAGE, Lab

TOTAL = 16000


def process(lab: Lab, pages: int) -> int:
    task = lab.process()
    at = lab.map(task, pages)
    for i in range(pages):
        lab.poke(task, at + i * PAGE, i)
    return task


def badness(lab: Lab, task: int) -> int:
    return oom_badness(lab.m, 0, task, 0, 0, TOTAL)


def test_badness_is_resident_pages_swap_and_page_tables() -> None:
    lab = Lab("1x64M")
    task = process(lab, 100)
    mm = lab.mm(task)
    assert mm_rss(lab.m, mm) == 100
    assert badness(lab, task) == 100 + lab.m[mm + MM_PGTABLES_BYTES] // PAGE


@pytest.mark.parametrize(
    ("adj", "shift"), [(0, 0), (10, 160), (1000, 16000), (-10, -160), (-999, None)]
)
def test_oom_score_adj_shifts_badness_by_thousandths_of_memory(adj: int, shift: int | None) -> None:
    lab = Lab("1x64M")
    task = process(lab, 200)
    plain = badness(lab, task)
    lab.m[task + TASK_OOM_SCORE_ADJ] = adj
    assert badness(lab, task) == (1 if shift is None else plain + shift)


@pytest.mark.parametrize("why", ["adj", "init", "kthread", "reaped", "no mm"])
def test_some_processes_are_never_killed(why: str) -> None:
    lab = Lab("1x64M")
    task = process(lab, 20)
    m = lab.m
    if why == "adj":
        m[task + TASK_OOM_SCORE_ADJ] = -1000
    elif why == "init":
        m[G_CHILD_REAPER] = va_of_word(task)
    elif why == "kthread":
        m[task + TASK_FLAGS] |= PF_KTHREAD
    elif why == "reaped":
        m[lab.mm(task) + MM_FLAGS] |= MMF_OOM_SKIP
    else:
        lab.exit(task)
    assert badness(lab, task) == 0


def test_the_worst_process_is_killed_and_its_memory_taken_at_once() -> None:
    lab = Lab("1x64M")
    small, large, middle = process(lab, 50), process(lab, 500), process(lab, 200)
    assert out_of_memory(lab.m, 0, GFP_KERNEL, 0, 0, 2, 0)
    assert lab.m[large + TASK_FATAL_SIGNAL] == 1
    assert lab.m[large + TASK_OOM_MM] == va_of_word(lab.mm(large))
    assert mm_rss(lab.m, lab.mm(large)) == 0
    assert not lab.m[small + TASK_FATAL_SIGNAL]
    assert not lab.m[middle + TASK_FATAL_SIGNAL]
    assert (mm_rss(lab.m, lab.mm(small)), mm_rss(lab.m, lab.mm(middle))) == (50, 200)
    lab.check()


def test_a_child_is_sacrificed_for_its_parent() -> None:
    lab = Lab("1x64M")
    parent = process(lab, 300)
    with lab.acting(parent):
        child = copy_process(lab.m, 0, parent, parent)
    assert out_of_memory(lab.m, 0, GFP_KERNEL, 0, 0, 2, 0)
    assert lab.m[child + TASK_FATAL_SIGNAL] == 1
    assert not lab.m[parent + TASK_FATAL_SIGNAL]


def test_the_report_is_the_kernels() -> None:
    lab = Lab("1x64M")
    task = process(lab, 100)
    pid = lab.m[task + TASK_PID]
    out_of_memory(lab.m, 0, GFP_KERNEL, 0, 0, 2, 0)
    text = "\n".join(log_lines(lab.m))
    assert "invoked oom-killer: gfp_mask=0x6000c0(GFP_KERNEL), nodemask=(null), order=0" in text
    assert "oom_score_adj=0" in text
    assert f"Out of memory: Kill process {pid} (" in text
    assert "or sacrifice child" in text
    assert f"Killed process {pid} (" in text
    assert "anon-rss:400kB, file-rss:0kB, shmem-rss:0kB" in text
    assert f"oom_reaper: reaped process {pid} (" in text
    assert "now anon-rss:0kB" in text


def test_without_killable_processes_the_kernel_is_deadlocked() -> None:
    lab = Lab("1x64M")
    assert not out_of_memory(lab.m, 0, GFP_KERNEL, 0, 0, 2, 0)
    assert lab.m[G_PANIC] == PANIC_DEADLOCK
    assert "Out of memory and no killable processes..." in "\n".join(log_lines(lab.m))


def test_requests_without_io_kill_nobody_but_count_as_progress() -> None:
    lab = Lab("1x64M")
    task = process(lab, 100)
    assert out_of_memory(lab.m, 0, GFP_IO_BIT, 0, 0, 2, 0)
    assert not lab.m[task + TASK_FATAL_SIGNAL]


def test_nobody_else_is_killed_while_a_victim_still_has_memory() -> None:
    lab = Lab("1x64M")
    victim, other = process(lab, 300), process(lab, 100)
    with lab.acting(victim):
        assert pagefault_out_of_memory(lab.m, 0)
        # the victim runs, so the reaper left it alone
        assert mm_rss(lab.m, lab.mm(victim)) == 300
    assert lab.m[victim + TASK_FATAL_SIGNAL] == 1
    assert out_of_memory(lab.m, 0, GFP_KERNEL, 0, 0, 2, 0)
    assert not lab.m[other + TASK_FATAL_SIGNAL]


def test_sysctls_choose_the_asking_process_or_panic() -> None:
    lab = Lab("1x64M")
    asking, large = process(lab, 10), process(lab, 300)
    lab.m[G_OOM_KILL_ALLOCATING] = 1
    with lab.acting(asking):
        assert oom_select_and_kill(lab.m, 0, OomControl(GFP_KERNEL))
    assert lab.m[asking + TASK_FATAL_SIGNAL] == 1
    assert not lab.m[large + TASK_FATAL_SIGNAL]
    lab.m[G_PANIC_ON_OOM] = 1
    assert not oom_select_and_kill(lab.m, 0, OomControl(GFP_KERNEL))
    assert lab.m[G_PANIC] == PANIC_DEADLOCK


def test_a_nodemask_counts_only_the_memory_of_its_nodes() -> None:
    lab = Lab("2x64M")
    process(lab, 10)
    oc = OomControl(GFP_KERNEL, zonelist=1, nodemask=2)
    assert constrained_alloc(lab.m, 0, oc) == CONSTRAINT_MEMORY_POLICY
    assert oc.total_pages < lab.m[G_TOTALRAM] + lab.m[G_TOTAL_SWAP_PAGES]


@pytest.mark.parametrize(
    ("gfp", "zonelist", "nodemask", "mems", "constraint", "nodes"),
    [
        (GFP_KERNEL, True, 0, 0b11, CONSTRAINT_NONE, 0b11),
        (GFP_KERNEL, False, 0b10, 0b01, CONSTRAINT_NONE, 0b11),  # a page fault's: no zonelist
        (GFP_KERNEL | GFP_THISNODE_BIT, True, 0b10, 0b01, CONSTRAINT_NONE, 0b11),
        (GFP_KERNEL, True, 0b10, 0b11, CONSTRAINT_MEMORY_POLICY, 0b10),
        (GFP_KERNEL, True, 0b11, 0b11, CONSTRAINT_NONE, 0b11),  # names every node with memory
        (GFP_USER, True, 0, 0b01, CONSTRAINT_CPUSET, 0b01),
        (GFP_USER, True, 0b01, 0b01, CONSTRAINT_MEMORY_POLICY, 0b01),  # the policy comes first
    ],
)
def test_what_confines_the_request_says_whose_memory_counts(
    gfp: int, zonelist: bool, nodemask: int, mems: int, constraint: int, nodes: int
) -> None:
    lab = Lab("2x64M")
    m, task = lab.m, process(lab, 10)
    m[G_STATIC_KEYS] |= KEY_CPUSETS if mems != 0b11 else 0
    m[task + TASK_MEMS_ALLOWED] = m[task + TASK_HARDWALL_MEMS] = mems
    where = word_of_va(m[NODE_DATA]) + ND_ZONELISTS if zonelist else 0
    oc = OomControl(gfp, zonelist=where, nodemask=nodemask)
    with lab.acting(task):
        assert constrained_alloc(m, 0, oc) == constraint
    pages = [m[word_of_va(m[NODE_DATA + nid]) + ND_SPANNED] for nid in (0, 1)]
    swap = m[G_TOTAL_SWAP_PAGES]
    if nodes == 0b11:
        assert oc.total_pages == m[G_TOTALRAM] + swap
    else:
        assert oc.total_pages == swap + pages[nodes >> 1]


@pytest.mark.parametrize(
    ("memory", "memsw", "swappiness", "swap", "total"),
    [
        (1000, 1 << 40, 60, 0, 1000),
        (1000, 1 << 40, 60, 500, 1500),
        (1000, 1200, 60, 500, 1200),
        (1000, 1200, 0, 500, 1000),  # no swapping: only its memory counts
        (0, 1 << 40, 60, 0, 1),
    ],
)
def test_a_control_group_is_measured_against_its_own_limits(
    memory: int, memsw: int, swappiness: int, swap: int, total: int
) -> None:
    lab = Lab("1x64M")
    m, group = lab.m, lab.scratch()
    m[group + MC_MEMORY + PC_MAX], m[group + MC_MEMSW + PC_MAX] = memory, memsw
    m[G_VM_SWAPPINESS], m[G_TOTAL_SWAP_PAGES] = swappiness, swap
    oc = OomControl(GFP_KERNEL, memcg=group)
    assert constrained_alloc(m, 0, oc) == CONSTRAINT_MEMCG
    assert oc.total_pages == total
