# SPDX-License-Identifier: GPL-2.0-only
"""move_pages: where the pages of a process are, and moving them one by one (mm/migrate.c).

Addresses and nodes come as lists, the answer is a status for each page: its node, or a negative
errno. Pages for the same node that follow each other are isolated together and moved together.
`task` is the word index of a task with an mm.
"""

from __future__ import annotations

from collections.abc import Sequence

from .kernel_globals import G_NODES_MEMORY
from .layout import PAGE_OFFSET, SECTION_PAGES, TASK_MEMS_ALLOWED, TASK_MM
from .list_head import list_empty
from .mbind import (
    EFAULT,
    MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL,
    migrate_page_add,
    vma_migratable,
)
from .mempolicy import EINVAL
from .migrate import MIGRATE_SYNC, MR_SYSCALL, NEW_PAGE_NODE, migrate_pages, putback_movable_pages
from .mm_inline import page_mapcount
from .mm_struct import VMA_OPS, VMA_START
from .mm_types import NODES_MASK, NODES_PGSHIFT
from .mmzone import MAX_NUMNODES
from .pagevec import PV_SCRATCH, pagevecs
from .pgtable import (
    PTE_SPECIAL,
    mm_find_pmd,
    mm_find_pte,
    pmd_pfn,
    pmd_trans_huge,
    pte_pfn,
    pte_present,
)
from .swap import lru_add_drain_all
from .swap_state import is_huge_zero_page
from .vma import find_vma

ENOENT, EACCES, EBUSY, ENODEV = 2, 13, 16, 19


def follow_dump_page(m: memoryview, mm: int, vma: int, address: int) -> int:
    """The struct page mapped at `address`, -EFAULT for the zero page or an untouched anonymous one,
    -ENOENT for one that is swapped out or not read yet (follow_page with FOLL_DUMP)."""
    missing = -ENOENT if m[vma + VMA_OPS] else -EFAULT
    pmd = mm_find_pmd(m, mm, address)
    if pmd and pmd_trans_huge(m[pmd]):
        pfn = pmd_pfn(m[pmd])
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        return -EFAULT if is_huge_zero_page(m, p) else p + 8 * (address >> 12 & 511)
    w = mm_find_pte(m, mm, address)
    pte = m[w] if w else 0
    if pte == 0:
        return missing
    if not pte_present(pte):
        return -ENOENT
    if pte & PTE_SPECIAL:
        return -EFAULT
    pfn = pte_pfn(pte)
    return m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)


def page_nid(m: memoryview, p: int) -> int:
    """Node of a page."""
    return m[p] >> NODES_PGSHIFT & NODES_MASK


class Mover:
    """One call of move_pages(2): what is isolated for which node, and the pages' statuses."""

    def __init__(self, m: memoryview, cpu: int, task: int, flags: int) -> None:
        self.m, self.cpu, self.flags = m, cpu, flags
        self.mm = (m[task + TASK_MM] - PAGE_OFFSET) >> 3
        self.allowed: int = m[task + TASK_MEMS_ALLOWED]
        self.head = pagevecs(m, cpu) + PV_SCRATCH
        self.node = -1
        self.start = 0

    def check_node(self, node: int) -> int:
        """0 if pages may be moved to `node`, -ENODEV or -EACCES."""
        if not 0 <= node < MAX_NUMNODES or not self.m[G_NODES_MEMORY] >> node & 1:
            return -ENODEV
        return 0 if self.allowed >> node & 1 else -EACCES

    def add(self, address: int) -> int:
        """Isolates the page at `address` for the current node: 0, or its status."""
        m = self.m
        vma = find_vma(m, self.mm, address)
        if vma == 0 or address < m[vma + VMA_START] or not vma_migratable(m, vma):
            return -EFAULT
        p = follow_dump_page(m, self.mm, vma, address)
        if p < 0:
            return p
        if page_nid(m, p) == self.node:
            return 0
        if page_mapcount(m, p) > 1 and not self.flags & MPOL_MF_MOVE_ALL:
            return -EACCES
        return 0 if migrate_page_add(m, self.cpu, p, self.head, MPOL_MF_MOVE_ALL) else -EBUSY

    def flush(self) -> int:
        """Moves what is isolated: 0, how many pages stayed, or -ENOMEM."""
        if list_empty(self.m, self.head):
            return 0
        left = migrate_pages(
            self.m, self.cpu, self.head, NEW_PAGE_NODE, self.node, MIGRATE_SYNC, MR_SYSCALL
        )
        if left:
            putback_movable_pages(self.m, self.cpu, self.head)
        return left

    def flush_into(self, status: list[int], end: int) -> int:
        """flush(), telling the pages from the run's start up to `end` their node if it worked."""
        left = self.flush()
        if left == 0:
            for i in range(self.start, end):
                status[i] = self.node
        return left

    def move(self, addresses: Sequence[int], nodes: Sequence[int], status: list[int]) -> int:
        """do_pages_move(): 0, a negative errno, or how many pages of a run could not be moved."""
        error = 0
        count = len(addresses)
        for i in range(count):
            error = self.check_node(nodes[i])
            if error:
                count = i
                break
            if self.node < 0:
                self.node, self.start = nodes[i], i
            elif nodes[i] != self.node:
                error = self.flush_into(status, i)
                if error:
                    return error
                self.node, self.start = nodes[i], i
            said = self.add(addresses[i])
            if said == 0:
                continue
            status[i] = said
            error = self.flush_into(status, i)
            if error:
                return error
            self.node = -1
        if self.node >= 0:
            left = self.flush_into(status, count)
            return error or left
        return error


def move_pages(
    m: memoryview,
    cpu: int,
    task: int,
    addresses: Sequence[int],
    nodes: Sequence[int] | None,
    flags: int,
) -> tuple[int, list[int]]:
    """move_pages(2) for the pages at user addresses (bytes), to a node each, or None: only look.

    `flags`: MPOL_MF_MOVE, or MPOL_MF_MOVE_ALL to move pages that others map too. Returns (0, a
    negative errno, or a number of pages that stayed; each page's node or negative errno). -EINVAL,
    -ENODEV: no such node with memory; -EACCES: a node that the task's cpuset forbids. Pages behind
    an error keep the status -EFAULT.
    """
    status = [-EFAULT] * len(addresses)
    if flags & ~(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) or m[task + TASK_MM] == 0:
        return -EINVAL, status
    if nodes is not None:
        if len(nodes) != len(addresses):
            return -EINVAL, status
        lru_add_drain_all(m)
        return Mover(m, cpu, task, flags).move(addresses, nodes, status), status
    mm = (m[task + TASK_MM] - PAGE_OFFSET) >> 3
    for i, address in enumerate(addresses):
        vma = find_vma(m, mm, address)
        if vma and address >= m[vma + VMA_START]:
            p = follow_dump_page(m, mm, vma, address)
            status[i] = page_nid(m, p) if p >= 0 else p
    return 0, status
