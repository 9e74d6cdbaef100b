# SPDX-License-Identifier: GPL-2.0-only
"""The end of a process (kernel/exit.c).

`do_exit` gives back everything but the task_struct: the address space with all its pages and
tables, open files, the kernel stack. Children go to init, or to nobody if there is none. What is
left is a zombie that holds the exit code until the parent has asked for it (`do_wait`); without a
parent it is gone at once.

All hot. Tasks are word indices. An exit code is as in the kernel: (status << 8) | signal.
"""

from __future__ import annotations

from .fork import cpuset_exit, exit_files, free_task, mmput
from .kernel_globals import G_CHILD_REAPER
from .kstack import free_thread_stack
from .layout import PAGE_OFFSET, PF_EXITING, TASK_FLAGS, TASK_MM, TASK_PID
from .list_head import list_add_tail, list_del, list_init
from .mm_struct import (
    EXIT_DEAD,
    EXIT_ZOMBIE,
    TASK_CHILDREN,
    TASK_EXIT_CODE,
    TASK_EXIT_STATE,
    TASK_ON_RQ,
    TASK_PARENT,
    TASK_RUN_LIST,
    TASK_SIBLING,
    TASK_STACK,
    TASK_TASKS,
)
from .vma import vma_word

ECHILD = 10


def list_is_empty(m: memoryview, head: int) -> bool:
    """True if the list has no member. Hot."""
    return m[head] == PAGE_OFFSET + (head << 3)


def release_task(m: memoryview, cpu: int, task: int) -> None:
    """Forgets a dead process for good. Hot."""
    m[task + TASK_EXIT_STATE] = EXIT_DEAD
    if not list_is_empty(m, task + TASK_SIBLING):
        list_del(m, task + TASK_SIBLING)
    list_del(m, task + TASK_TASKS)
    free_task(m, cpu, task)


def forget_original_parent(m: memoryview, cpu: int, task: int) -> None:
    """Gives the children of a dying process to init; without one, the dead among them go. Hot."""
    reaper = vma_word(m[G_CHILD_REAPER])
    if reaper == task:
        reaper = 0
    while not list_is_empty(m, task + TASK_CHILDREN):
        child = ((m[task + TASK_CHILDREN] - PAGE_OFFSET) >> 3) - TASK_SIBLING
        list_del(m, child + TASK_SIBLING)
        list_init(m, child + TASK_SIBLING)
        m[child + TASK_PARENT] = PAGE_OFFSET + (reaper << 3) if reaper else 0
        if reaper:
            sibling = child + TASK_SIBLING
            list_add_tail(m, sibling, PAGE_OFFSET + (sibling << 3), reaper + TASK_CHILDREN)
        elif m[child + TASK_EXIT_STATE] == EXIT_ZOMBIE:
            release_task(m, cpu, child)


def do_exit(m: memoryview, cpu: int, task: int, code: int) -> None:
    """Ends a process with this exit code. It must not be anybody's current task afterwards if it
    has no parent: its task_struct is gone then. Hot."""
    m[task + TASK_FLAGS] |= PF_EXITING
    m[task + TASK_EXIT_CODE] = code
    if m[task + TASK_ON_RQ]:
        list_del(m, task + TASK_RUN_LIST)
        list_init(m, task + TASK_RUN_LIST)
        m[task + TASK_ON_RQ] = 0
    mm = vma_word(m[task + TASK_MM])
    m[task + TASK_MM] = 0
    if mm:
        mmput(m, cpu, mm)
    exit_files(m, cpu, task)
    cpuset_exit(m, task)
    forget_original_parent(m, cpu, task)
    if m[task + TASK_STACK]:
        free_thread_stack(m, cpu, m[task + TASK_STACK])
        m[task + TASK_STACK] = 0
    m[task + TASK_EXIT_STATE] = EXIT_ZOMBIE
    if m[task + TASK_PARENT] == 0:
        release_task(m, cpu, task)


def do_wait(m: memoryview, parent: int, pid: int) -> int:
    """A dead child of `parent` with this id (-1: any): its task; 0 if none has died yet, -ECHILD if
    there is no such child. Hot."""
    found = 0
    head = PAGE_OFFSET + (parent + TASK_CHILDREN << 3)
    va = m[parent + TASK_CHILDREN]
    while va != head:
        child = ((va - PAGE_OFFSET) >> 3) - TASK_SIBLING
        if pid == -1 or m[child + TASK_PID] == pid:
            found = 1
            if m[child + TASK_EXIT_STATE] == EXIT_ZOMBIE:
                return child
        va = m[child + TASK_SIBLING]
    return 0 if found else -ECHILD
