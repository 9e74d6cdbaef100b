# SPDX-License-Identifier: GPL-2.0-only
"""Kernel stacks: 16 KiB for every process (kernel/fork.c, without CONFIG_VMAP_STACK).

A stack is one block of order 2 on the node where the process is made, charged to its memory cgroup
and counted in NR_KERNEL_STACK_KB. The task's `stack` points to it.

All hot. A stack is named by the direct map address of its lower end.
"""

from __future__ import annotations

from .gfp import GFP_KERNEL_ACCOUNT, GFP_ZERO_BIT
from .layout import PAGE_OFFSET, SECTION_PAGES
from .mmzone import NR_KERNEL_STACK_KB
from .page_alloc import alloc_pages_nodemask, free_pages
from .pcp import page_zone
from .vmstat import mod_zone_page_state

THREAD_SIZE_ORDER = 2
THREAD_SIZE = 4096 << THREAD_SIZE_ORDER
THREADINFO_GFP = GFP_KERNEL_ACCOUNT | GFP_ZERO_BIT


def account_kernel_stack(m: memoryview, cpu: int, pfn: int, sign: int) -> None:
    """Counts a stack that comes (1) or goes (-1). Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    mod_zone_page_state(m, cpu, page_zone(m, p), NR_KERNEL_STACK_KB, sign * (THREAD_SIZE >> 10))


def alloc_thread_stack(m: memoryview, cpu: int, nid: int) -> int:
    """A cleared stack, preferably on node `nid`: its address, or 0 without memory. Hot."""
    pfn = alloc_pages_nodemask(m, cpu, THREADINFO_GFP, THREAD_SIZE_ORDER, nid, 0)
    if pfn < 0:
        return 0
    account_kernel_stack(m, cpu, pfn, 1)
    return PAGE_OFFSET + (pfn << 12)


def free_thread_stack(m: memoryview, cpu: int, stack: int) -> None:
    """Gives a stack back. Hot."""
    pfn = (stack - PAGE_OFFSET) >> 12
    account_kernel_stack(m, cpu, pfn, -1)
    free_pages(m, cpu, pfn, THREAD_SIZE_ORDER)
