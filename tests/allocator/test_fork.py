# SPDX-License-Identifier: GPL-2.0-only
"""New processes: what they share, what is their own, and what happens without memory."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest, SystemCallError
from allocator.fork import PID_MAX, RESERVED_PIDS, alloc_pid, find_task
from allocator.kernel_globals import G_COMMITTED_AS, G_LAST_PID
from allocator.layout import TASK_PID, va_of_word
from allocator.mm_struct import MM_HIWATER_RSS, MM_OWNER, MM_USERS, TASK_CHILDREN

from .processes import PAGE, boot, maps, process, settle, sound


def test_a_child_has_the_same_areas_counters_and_policy_but_its_own_tables() -> None:
    proc = process("2x64M")
    start = proc.mmap(6 * PAGE)
    proc.mprotect(start + 2 * PAGE, PAGE, "r")
    proc.write(start, b"x" * 2 * PAGE)
    proc.set_mempolicy("interleave", [0, 1])
    child = proc.fork()
    assert maps(child) == maps(proc)
    assert child.counters["anon"] == 2
    assert child.counters["total"] == proc.counters["total"]
    assert child.mm != proc.mm
    m = proc.m
    assert m[child.mm + MM_USERS] == 1
    assert m[child.mm + MM_OWNER] == va_of_word(child.task)
    assert m[child.mm + MM_HIWATER_RSS] == 2
    nodes = set()
    other = child.mmap(8 * PAGE, "rw", address=1 << 40, fixed=True)
    for n in range(8):
        child.write(other + n * PAGE, b"i")
        page = child.page(other + n * PAGE)
        assert page is not None
        nodes.add(page.nid)
    assert nodes == {0, 1}
    sound(proc.kernel)


def test_commitment_is_charged_for_the_child_as_well() -> None:
    proc = process()
    proc.mmap(64 * PAGE)
    before = proc.m[G_COMMITTED_AS]
    child = proc.fork()
    assert proc.m[G_COMMITTED_AS] == before + 64
    child.exit()
    assert proc.m[G_COMMITTED_AS] == before


def test_process_ids_go_round_and_pass_over_those_in_use() -> None:
    kernel = boot()
    first = kernel.create_process("first")
    kernel.m[G_LAST_PID] = PID_MAX - 2
    assert kernel.create_process("last").pid == PID_MAX - 1
    kernel.m[first.task + TASK_PID] = RESERVED_PIDS
    assert alloc_pid(kernel.m) == RESERVED_PIDS + 1
    assert find_task(kernel.m, 12345) == 0


def test_families_are_linked_in_order_of_birth() -> None:
    proc = process()
    children = [proc.fork() for _ in range(3)]
    assert [p.pid for p in proc.kernel.processes] == [proc.pid, *(c.pid for c in children)]
    assert proc.m[proc.task + TASK_CHILDREN] != va_of_word(proc.task + TASK_CHILDREN)


def test_a_fork_that_fails_half_way_leaves_nothing_behind() -> None:
    kernel = boot("1x64M")
    proc = kernel.create_process("test")
    start = proc.mmap(32 * PAGE)
    for n in range(0, 32, 2):
        proc.mprotect(start + n * PAGE, PAGE, "r")
    proc.touch(start + PAGE)
    proc.fork().exit()
    proc.wait()
    free, committed = settle(kernel), kernel.m[G_COMMITTED_AS]
    refusals: set[int] = set()
    for interval in range(1, 40):
        kernel.fail_page_alloc(probability=100, interval=interval, times=1, space=0)
        try:
            proc.fork().exit()
            proc.wait()
        except SystemCallError as error:
            refusals.add(error.errno)
        kernel.fail_page_alloc(probability=0)
        assert kernel.m[G_COMMITTED_AS] == committed
    assert refusals <= {11, 12}
    assert settle(kernel) == free
    sound(kernel)


@pytest.mark.parametrize("depth", [12])
def test_generations_of_forks_share_and_separate(depth: int) -> None:
    proc = process()
    start = proc.mmap(PAGE)
    line = [proc]
    for n in range(depth):
        line[-1].write(start + 8 * n, bytes([n + 1]))
        line.append(line[-1].fork())
    for n, member in enumerate(line):
        seen = [member.read(start + 8 * k, 1)[0] for k in range(depth)]
        expected = [k + 1 if k <= n else 0 for k in range(depth)]
        assert seen == expected
    sound(proc.kernel)
    for member in line[::2]:
        member.exit()
    sound(proc.kernel)


def test_processes_count_in_their_cpuset_and_follow_its_nodes() -> None:
    kernel = boot("2x64M")
    proc = kernel.create_process("test")
    group = kernel.create_cpuset("group")
    group.set_mems({1})
    with proc.running() as cpu:
        group.attach(cpu)
    child = proc.fork()
    start = child.mmap(4 * PAGE)
    child.touch(start)
    page = child.page(start)
    assert page is not None
    assert page.nid == 1
    group.set_mems({0})
    child.touch(start + PAGE)
    page = child.page(start + PAGE)
    assert page is not None
    assert page.nid == 0
    with pytest.raises(BadRequest, match="EBUSY"):
        group.remove()
    child.exit()
    proc.exit()
    group.remove()
