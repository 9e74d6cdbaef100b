# SPDX-License-Identifier: GPL-2.0-only
"""New address spaces and new processes (kernel/fork.c).

`mm_alloc` makes an empty address space, `dup_mm` one that is its parent's: the same areas, entries
shared with write permission taken away, so that both sides copy what they write. `copy_process`
makes the task around it: a copy of the parent's task_struct, a kernel stack, open files, a process
id, a place in the family and in the list of all tasks.

All hot. Structures are word indices; 0 or a negative errno for what may fail.
"""

from __future__ import annotations

from .file_table import fput
from .fs import get_file
from .gfp import GFP_KERNEL
from .kernel_globals import G_COMMITTED_AS, G_LAST_PID, G_MM_CACHEP, G_TASK_CACHEP, G_TASKS
from .kstack import alloc_thread_stack, free_thread_stack
from .layout import (
    CPU_BLOCKS,
    CPU_NUMA_NODE,
    CPU_WORDS,
    CPUSET,
    PAGE_OFFSET,
    PF_KTHREAD,
    TASK_CPUSET,
    TASK_FATAL_SIGNAL,
    TASK_FLAGS,
    TASK_MM,
    TASK_OOM_MM,
    TASK_PID,
    TASK_STATE,
    TASK_WORDS,
)
from .list_head import list_add_tail, list_del, list_init
from .memory_zap import copy_page_range
from .mempolicy_vma import mpol_put, vma_dup_policy
from .mm_struct import (
    MM_ANONPAGES,
    MM_BRK,
    MM_COUNT,
    MM_DEF_FLAGS,
    MM_FILEPAGES,
    MM_FLAGS,
    MM_HIGHEST_VM_END,
    MM_HIWATER_RSS,
    MM_HIWATER_VM,
    MM_LOCKED_VM,
    MM_MAP_COUNT,
    MM_MMAP,
    MM_MMAP_BASE,
    MM_MMLIST,
    MM_OWNER,
    MM_PGTABLES_BYTES,
    MM_RB,
    MM_RLIM,
    MM_RSS,
    MM_SHMEMPAGES,
    MM_START_BRK,
    MM_TASK_SIZE,
    MM_TOTAL_VM,
    MM_USERS,
    MM_VMACACHE,
    MM_WORDS,
    NR_MM_COUNTERS,
    NR_OPEN,
    PROCESS_WORDS,
    RLIM_INFINITY,
    RLIM_STACK,
    STACK_LIMIT,
    TASK_CHILDREN,
    TASK_FILES,
    TASK_PARENT,
    TASK_RUN_LIST,
    TASK_SIBLING,
    TASK_STACK,
    TASK_TASKS,
    VM_ACCOUNT,
    VM_DONTCOPY,
    VM_LOCKED_MASK,
    VM_WIPEONFORK,
    VMA_ANON_VMA,
    VMA_END,
    VMA_FILE,
    VMA_FLAGS,
    VMA_MM,
    VMA_NEXT,
    VMA_POLICY,
    VMA_START,
)
from .munmap import exit_mmap
from .pgtable import TASK_SIZE, pgd_alloc, pgd_free
from .rmap import anon_vma_fork
from .slub import kmem_cache_alloc, kmem_cache_free
from .vm_account import vm_enough_memory
from .vma import vm_area_dup, vm_area_free, vm_stat_account, vma_link, vma_va, vma_word

EAGAIN, ENOMEM = 11, 12
PID_MAX = 32768
CPUSET_NR_TASKS = CPUSET["nr_tasks"]
RESERVED_PIDS = 300
MMAP_GAP = 128 << 20
"""What lies between the end of the address space and mmap_base, at least: room for the stack."""
HEAP_START = 1 << 40
"""Where the heap of a process begins (there is no program below it whose end could say)."""


# --- address spaces -------------------------------------------------------------------------------


def mm_alloc(m: memoryview, cpu: int) -> int:
    """An empty address space with one user: its mm, or 0 without memory. Hot."""
    mm = kmem_cache_alloc(m, cpu, (m[G_MM_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if mm == 0:
        return 0
    for i in range(MM_WORDS):
        m[mm + i] = 0
    for i in range(8):
        m[mm + MM_RLIM + i] = RLIM_INFINITY
    m[mm + MM_RLIM + RLIM_STACK] = STACK_LIMIT
    m[mm + MM_TASK_SIZE] = TASK_SIZE
    m[mm + MM_MMAP_BASE] = TASK_SIZE - MMAP_GAP
    m[mm + MM_START_BRK] = HEAP_START
    m[mm + MM_BRK] = HEAP_START
    return mm if mm_init_fields(m, cpu, mm) else 0


def mm_init_fields(m: memoryview, cpu: int, mm: int) -> bool:
    """What every new mm begins with, its top table too; False (and it is freed) without memory.
    Hot (mm_init)."""
    m[mm + MM_MMAP] = 0
    m[mm + MM_RB] = 0
    m[mm + MM_VMACACHE] = 0
    m[mm + MM_HIGHEST_VM_END] = 0
    m[mm + MM_MAP_COUNT] = 0
    m[mm + MM_PGTABLES_BYTES] = 0
    m[mm + MM_LOCKED_VM] = 0
    m[mm + MM_OWNER] = 0
    m[mm + MM_DEF_FLAGS] = 0
    m[mm + MM_USERS] = 1
    m[mm + MM_COUNT] = 1
    for i in range(NR_MM_COUNTERS):
        m[mm + MM_RSS + i] = 0
    list_init(m, mm + MM_MMLIST)
    if pgd_alloc(m, cpu, mm) == 0:
        return True
    kmem_cache_free(m, cpu, (m[G_MM_CACHEP] - PAGE_OFFSET) >> 3, mm)
    return False


def mmdrop(m: memoryview, cpu: int, mm: int) -> None:
    """One reference less to the structure itself; frees it with its top table if it was the last.
    Hot."""
    m[mm + MM_COUNT] -= 1
    if m[mm + MM_COUNT] == 0:
        pgd_free(m, cpu, mm)
        kmem_cache_free(m, cpu, (m[G_MM_CACHEP] - PAGE_OFFSET) >> 3, mm)


def mmput(m: memoryview, cpu: int, mm: int) -> None:
    """One user less; the last one takes everything out of the address space. Hot."""
    m[mm + MM_USERS] -= 1
    if m[mm + MM_USERS]:
        return
    exit_mmap(m, cpu, mm)
    if m[mm + MM_MMLIST] != PAGE_OFFSET + (mm + MM_MMLIST << 3):
        list_del(m, mm + MM_MMLIST)
        list_init(m, mm + MM_MMLIST)
    mmdrop(m, cpu, mm)


def dup_vma(m: memoryview, cpu: int, mm: int, old: int, vma: int) -> int:
    """The child's copy of one area, its entries too: 0 or -ENOMEM. Hot."""
    pages = m[vma + VMA_END] - m[vma + VMA_START] >> 12
    flags = m[vma + VMA_FLAGS]
    charge = pages if flags & VM_ACCOUNT else 0
    if charge and not vm_enough_memory(m, charge):
        return -ENOMEM
    new = vm_area_dup(m, cpu, vma)
    if new == 0:
        m[G_COMMITTED_AS] -= charge
        return -ENOMEM
    rc = vma_dup_policy(m, cpu, vma, new)
    if rc == 0:
        m[new + VMA_MM] = PAGE_OFFSET + (mm << 3)
        if flags & VM_WIPEONFORK:
            m[new + VMA_ANON_VMA] = 0
        else:
            rc = anon_vma_fork(m, cpu, new, vma)
        if rc and m[new + VMA_POLICY]:
            mpol_put(m, cpu, vma_word(m[new + VMA_POLICY]))
    if rc:
        vm_area_free(m, cpu, new)
        m[G_COMMITTED_AS] -= charge
        return -ENOMEM
    m[new + VMA_FLAGS] = flags & ~VM_LOCKED_MASK
    m[new + VMA_NEXT] = 0
    file = vma_word(m[new + VMA_FILE])
    if file:
        get_file(m, file)
    vma_link(m, mm, new)
    if flags & VM_WIPEONFORK:
        return 0
    return copy_page_range(m, cpu, mm, old, vma)


def dup_mm(m: memoryview, cpu: int, old: int) -> int:
    """A copy of an address space, pages shared until written to: its mm, or 0 without memory.
    Hot (dup_mm, dup_mmap)."""
    mm = kmem_cache_alloc(m, cpu, (m[G_MM_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if mm == 0:
        return 0
    m[mm : mm + MM_WORDS] = m[old : old + MM_WORDS]
    m[mm + MM_FLAGS] = m[old + MM_FLAGS]
    if not mm_init_fields(m, cpu, mm):
        return 0
    vma = vma_word(m[old + MM_MMAP])
    while vma:
        if m[vma + VMA_FLAGS] & VM_DONTCOPY:
            pages = m[vma + VMA_END] - m[vma + VMA_START] >> 12
            vm_stat_account(m, mm, m[vma + VMA_FLAGS], -pages)
        elif dup_vma(m, cpu, mm, old, vma):
            mmput(m, cpu, mm)
            return 0
        vma = vma_word(m[vma + VMA_NEXT])
    rss = m[mm + MM_RSS + MM_ANONPAGES] + m[mm + MM_RSS + MM_FILEPAGES]
    m[mm + MM_HIWATER_RSS] = rss + m[mm + MM_RSS + MM_SHMEMPAGES]
    m[mm + MM_HIWATER_VM] = m[mm + MM_TOTAL_VM]
    return mm


# --- tasks ----------------------------------------------------------------------------------------


def alloc_pid(m: memoryview) -> int:
    """The next process id, from RESERVED_PIDS on again after the last; -EAGAIN if all are taken.
    Hot."""
    pid = m[G_LAST_PID]
    for _ in range(PID_MAX):
        pid += 1
        if pid >= PID_MAX:
            pid = RESERVED_PIDS
        if find_task(m, pid) == 0:
            m[G_LAST_PID] = pid
            return pid
    return -EAGAIN


def find_task(m: memoryview, pid: int) -> int:
    """The process with this id, dead ones that nobody has waited for too; 0 for none. Hot."""
    head = PAGE_OFFSET + (G_TASKS << 3)
    va = m[G_TASKS]
    while va != head:
        task = ((va - PAGE_OFFSET) >> 3) - TASK_TASKS
        if m[task + TASK_PID] == pid:
            return task
        va = m[task + TASK_TASKS]
    return 0


def dup_task_struct(m: memoryview, cpu: int, orig: int) -> int:
    """A task_struct with a kernel stack, equal to that of task `orig` in what every task has: the
    task, or 0 without memory. Hot."""
    task = kmem_cache_alloc(m, cpu, (m[G_TASK_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if task == 0:
        return 0
    for i in range(PROCESS_WORDS):
        m[task + i] = 0
    m[task : task + TASK_WORDS] = m[orig : orig + TASK_WORDS]
    nid = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
    stack = alloc_thread_stack(m, cpu, nid)
    if stack == 0:
        kmem_cache_free(m, cpu, (m[G_TASK_CACHEP] - PAGE_OFFSET) >> 3, task)
        return 0
    m[task + TASK_STACK] = stack
    if m[task + TASK_CPUSET]:
        m[((m[task + TASK_CPUSET] - PAGE_OFFSET) >> 3) + CPUSET_NR_TASKS] += 1
    m[task + TASK_FLAGS] &= ~PF_KTHREAD
    m[task + TASK_STATE] = 0
    m[task + TASK_FATAL_SIGNAL] = 0
    m[task + TASK_OOM_MM] = 0
    list_init(m, task + TASK_CHILDREN)
    list_init(m, task + TASK_RUN_LIST)
    list_init(m, task + TASK_SIBLING)
    return task


def cpuset_exit(m: memoryview, task: int) -> None:
    """Takes a task out of its cpuset; it counts as one of the root. Hot."""
    if m[task + TASK_CPUSET]:
        m[((m[task + TASK_CPUSET] - PAGE_OFFSET) >> 3) + CPUSET_NR_TASKS] -= 1
        m[task + TASK_CPUSET] = 0


def free_task(m: memoryview, cpu: int, task: int) -> None:
    """Gives a task_struct, and its kernel stack if it still has one, back. Hot."""
    cpuset_exit(m, task)
    if m[task + TASK_STACK]:
        free_thread_stack(m, cpu, m[task + TASK_STACK])
        m[task + TASK_STACK] = 0
    kmem_cache_free(m, cpu, (m[G_TASK_CACHEP] - PAGE_OFFSET) >> 3, task)


def copy_process(m: memoryview, cpu: int, orig: int, parent: int) -> int:
    """A new process like task `orig`, with its address space if it has one and an empty one if not;
    `parent` (0: none) may wait for it. The task, or -ENOMEM, -EAGAIN. Hot."""
    task = dup_task_struct(m, cpu, orig)
    if task == 0:
        return -ENOMEM
    old = vma_word(m[orig + TASK_MM])
    if old:
        for i in range(NR_OPEN):
            file = m[orig + TASK_FILES + i]
            m[task + TASK_FILES + i] = file
            if file:
                get_file(m, vma_word(file))
        mm = dup_mm(m, cpu, old)
    else:
        mm = mm_alloc(m, cpu)
    pid = alloc_pid(m) if mm else -ENOMEM
    if pid < 0:
        if mm:
            mmput(m, cpu, mm)
        exit_files(m, cpu, task)
        free_task(m, cpu, task)
        return pid
    m[task + TASK_PID] = pid
    m[task + TASK_MM] = PAGE_OFFSET + (mm << 3)
    m[mm + MM_OWNER] = PAGE_OFFSET + (task << 3)
    if parent:
        m[task + TASK_PARENT] = vma_va(parent)
        sibling = task + TASK_SIBLING
        list_add_tail(m, sibling, PAGE_OFFSET + (sibling << 3), parent + TASK_CHILDREN)
    tasks = task + TASK_TASKS
    list_add_tail(m, tasks, PAGE_OFFSET + (tasks << 3), G_TASKS)
    return task


def exit_files(m: memoryview, cpu: int, task: int) -> None:
    """Closes all files of a process. Hot."""
    for i in range(NR_OPEN):
        file = m[task + TASK_FILES + i]
        if file:
            m[task + TASK_FILES + i] = 0
            fput(m, cpu, vma_word(file))
