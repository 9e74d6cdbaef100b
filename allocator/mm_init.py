# SPDX-License-Identifier: GPL-2.0-only
"""The start of everything that owns memory: caches, swap, page cache, processes.

A kernel that only allocates pages needs none of it and its bring-up is a recorded kernel's to the
last page, so this runs at the first use: the first process, file or object from a cache. Afterwards
G_MM_INIT_DONE says so. The order is that of what needs what (start_kernel() and the initcalls).
"""

from __future__ import annotations

from .anon_vma import anon_vma_init
from .huge_memory import THP_DEFAULT
from .kernel_globals import (
    G_FAULT_AROUND,
    G_LAST_PID,
    G_MAX_MAP_COUNT,
    G_MM_CACHEP,
    G_MM_INIT_DONE,
    G_MMLIST,
    G_NR_CPU_IDS,
    G_OVERCOMMIT_RATIO,
    G_PGD_LIST,
    G_STACK_GUARD_GAP,
    G_TASK_CACHEP,
    G_TASKS,
    G_THP_FLAGS,
    G_TOTALRAM,
    G_VMA_CACHEP,
)
from .layout import CPU_BLOCKS, CPU_RUNQUEUE, CPU_WORDS, PAGE_OFFSET
from .list_head import list_init
from .memcg_tree import mem_cgroup_init
from .mempolicy_vma import numa_policy_init
from .mm_inline import memmap_index_init
from .mm_struct import MM_WORDS, PROCESS_WORDS, VMA_WORDS
from .pagecache import pagecache_init
from .slab import SLAB_ACCOUNT
from .slab_common import kmem_cache_create, kmem_cache_init
from .swap import swap_setup
from .swapon import swapfile_init

ENOMEM = 12
INIT_PID = 1
DEFAULT_MAX_MAP_COUNT = 65530
THP_MIN_PAGES = 512 << 8
"""A smaller machine has no transparent huge pages unless they are switched on."""


def mm_init(m: memoryview, cpu: int) -> int:
    """Sets all of it up, once: 0, or -ENOMEM when not even that fits."""
    if m[G_MM_INIT_DONE]:
        return 0
    for start in STARTS:
        if start(m, cpu):
            return -ENOMEM
    return mem_cgroup_init(m, cpu)


def proc_caches_init(m: memoryview, cpu: int) -> int:
    """The caches of processes, and what all of them share: 0 or -ENOMEM."""
    caches = (
        (G_TASK_CACHEP, b"task_struct", PROCESS_WORDS),
        (G_MM_CACHEP, b"mm_struct", MM_WORDS),
        (G_VMA_CACHEP, b"vm_area_struct", VMA_WORDS),
    )
    for where, name, words in caches:
        if m[where] == 0:
            cache = kmem_cache_create(m, cpu, name, words * 8, 0, SLAB_ACCOUNT)
            if cache == 0:
                return -ENOMEM
            m[where] = PAGE_OFFSET + (cache << 3)
    for head in (G_TASKS, G_PGD_LIST, G_MMLIST):
        list_init(m, head)
    for number in range(m[G_NR_CPU_IDS]):
        list_init(m, CPU_BLOCKS + number * CPU_WORDS + CPU_RUNQUEUE)
    m[G_LAST_PID] = INIT_PID
    m[G_MAX_MAP_COUNT] = DEFAULT_MAX_MAP_COUNT
    m[G_STACK_GUARD_GAP] = 256 << 12
    m[G_FAULT_AROUND] = 65536
    m[G_OVERCOMMIT_RATIO] = 50
    if m[G_TOTALRAM] >= THP_MIN_PAGES:
        m[G_THP_FLAGS] = THP_DEFAULT
    return 0


STARTS = (
    kmem_cache_init,
    memmap_index_init,
    swap_setup,
    pagecache_init,
    anon_vma_init,
    numa_policy_init,
    swapfile_init,
    proc_caches_init,
)
