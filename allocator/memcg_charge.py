# SPDX-License-Identifier: GPL-2.0-only
"""Charging pages of processes and files to control groups (mm/memcontrol.c).

A page that a process maps or a file caches is charged to the group of the process that brought it
in, and carries a pointer to that group until it is freed. A group at its limit reclaims from its
own pages first (`memcg.try_charge`), then one of its processes is killed. Root is never charged;
while there are no groups (KEY_MEMCG is off) a charge costs one test.

All hot. `p` is the word index of a struct page (a head), `task` of a task.
"""

from __future__ import annotations

from .kernel_globals import G_STATIC_KEYS, KEY_MEMCG_KMEM
from .layout import CPU_BLOCKS, CPU_CURRENT, CPU_WORDS, MEM_CGROUPS, PAGE_OFFSET, TASK_MEMCG
from .lruvec import page_lruvec
from .memcg import (
    MC_MEMORY,
    MC_MEMSW,
    MC_REFCNT,
    do_memsw_account,
    page_counter_uncharge,
    try_charge,
)
from .mm_inline import add_page_to_lru_list, del_page_from_lru_list, hpage_nr_pages, page_lru
from .mm_types import P_MEMCG, PG_LRU


def current_memcg(m: memoryview, cpu: int) -> int:
    """The group of the task that runs on `cpu`, 0 for root or none. Hot."""
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    va = m[task + TASK_MEMCG]
    if va == 0 or va == PAGE_OFFSET + (MEM_CGROUPS << 3):
        return 0
    return (va - PAGE_OFFSET) >> 3


def mem_cgroup_charge(m: memoryview, cpu: int, p: int, gfp: int) -> int:
    """Charges page `p`, wholly, to the current task's group: 0 or -ENOMEM. Hot.

    A page that is charged already (swapped in again from the swap cache) stays where it is.
    (mem_cgroup_try_charge and mem_cgroup_commit_charge)
    """
    if m[G_STATIC_KEYS] & KEY_MEMCG_KMEM == 0 or m[p + P_MEMCG]:
        return 0
    memcg = current_memcg(m, cpu)
    if memcg == 0:
        return 0
    rc = try_charge(m, cpu, memcg, gfp, hpage_nr_pages(m, p))
    if rc == 0:
        commit_charge(m, cpu, p, memcg)
    return rc


def commit_charge(m: memoryview, cpu: int, p: int, memcg: int) -> None:
    """The page is the group's from now on; if it is on root's LRU list it changes over. Hot.

    (commit_charge with lock_page_lru, for pages out of the swap cache)
    """
    if m[p] & PG_LRU:
        lru = page_lru(m, p)
        del_page_from_lru_list(m, cpu, p, page_lruvec(m, p), lru)
        m[p + P_MEMCG] = PAGE_OFFSET + (memcg << 3)
        add_page_to_lru_list(m, cpu, p, page_lruvec(m, p), lru)
    else:
        m[p + P_MEMCG] = PAGE_OFFSET + (memcg << 3)


def mem_cgroup_uncharge(m: memoryview, cpu: int, p: int) -> None:  # noqa: ARG001
    """Takes the charge of a page that is about to be freed back. Hot."""
    va = m[p + P_MEMCG]
    if va == 0:
        return
    memcg = (va - PAGE_OFFSET) >> 3
    nr = hpage_nr_pages(m, p)
    page_counter_uncharge(m, memcg + MC_MEMORY, nr)
    if do_memsw_account(m):
        page_counter_uncharge(m, memcg + MC_MEMSW, nr)
    m[memcg + MC_REFCNT] -= nr
    m[p + P_MEMCG] = 0


def mem_cgroup_migrate(m: memoryview, old: int, new: int) -> None:
    """The charge of page `old` goes over to the page that takes its place. Hot."""
    if m[old + P_MEMCG] and m[new + P_MEMCG] == 0:
        m[new + P_MEMCG] = m[old + P_MEMCG]
        m[old + P_MEMCG] = 0
