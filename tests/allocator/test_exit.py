# SPDX-License-Identifier: GPL-2.0-only
"""The ends of processes: zombies, orphans, waiting."""

from __future__ import annotations

from allocator.exit import ECHILD, do_wait
from allocator.kernel_globals import G_CHILD_REAPER
from allocator.layout import va_of_word
from allocator.mm_struct import TASK_PARENT

from .processes import PAGE, boot, process, refused, settle, sound


def test_a_child_that_ended_waits_for_its_parent_without_memory() -> None:
    proc = process()
    start = proc.mmap(16 * PAGE)
    proc.touch(start, 16 * PAGE)
    proc.fork().exit()
    proc.wait()
    free = settle(proc.kernel)
    child = proc.fork()
    child.touch(start, 16 * PAGE)
    child.exit(7)
    assert child.is_zombie
    assert not child.alive
    refused(lambda: child.mmap(PAGE), "ESRCH")
    assert settle(proc.kernel) >= free - 1  # its task_struct, in a slab
    assert proc.wait(child.pid) == (child.pid, 7 << 8)
    assert settle(proc.kernel) == free
    refused(lambda: child.task, "ESRCH")
    sound(proc.kernel)


def test_waiting_says_what_there_is_to_wait_for() -> None:
    proc = process()
    refused(proc.wait, "ECHILD")
    child, other = proc.fork(), proc.fork()
    assert proc.wait() is None
    other.exit(1)
    assert proc.wait(child.pid) is None
    refused(lambda: proc.wait(9999), "ECHILD")
    assert proc.wait() == (other.pid, 1 << 8)
    assert do_wait(proc.m, proc.task, other.pid) == -ECHILD


def test_orphans_without_init_live_on_and_vanish() -> None:
    proc = process()
    kernel = proc.kernel
    child = proc.fork()
    dead = proc.fork()
    dead.exit()
    proc.exit()
    assert [p.pid for p in kernel.processes] == [child.pid]
    assert kernel.m[child.task + TASK_PARENT] == 0
    child.exit()
    assert kernel.processes == []
    sound(kernel)


def test_orphans_go_to_init() -> None:
    kernel = boot()
    init, parent = kernel.create_process("init"), kernel.create_process("parent")
    kernel.m[G_CHILD_REAPER] = va_of_word(init.task)
    child = parent.fork()
    parent.exit()
    assert kernel.m[child.task + TASK_PARENT] == va_of_word(init.task)
    child.exit(3)
    assert init.wait() == (child.pid, 3 << 8)


def test_a_process_without_parent_is_gone_at_once() -> None:
    proc = process()
    proc.exit()
    assert proc.kernel.processes == []
