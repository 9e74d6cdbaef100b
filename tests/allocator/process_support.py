# SPDX-License-Identifier: GPL-2.0-only
"""Processes for tests of what lies under them: a booted machine, mappings, bytes, swap.

`Lab` boots a machine and makes processes on CPU 0 through the same functions that hypercalls end
in; the process that acts is the CPU's current one while it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from allocator import start_kernel
from allocator.blockdev import BD_BAD_COUNT, BD_BAD_FIRST, bdev_create, blk_wait_any, blockdev_init
from allocator.check import check_frames
from allocator.check.context import Check
from allocator.check.lru_rules import node_counter
from allocator.check.report import Report
from allocator.exit import do_exit
from allocator.fault import access_process
from allocator.fork import copy_process
from allocator.gfp import GFP_COMP_BIT, GFP_HIGHUSER_MOVABLE
from allocator.layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_EVENTS,
    CPU_WORDS,
    INIT_TASKS,
    NODE_DATA,
    PAGE_OFFSET,
    SECTION_PAGES,
    TASK_MM,
    VMEMMAP_START,
)
from allocator.mm_init import mm_init
from allocator.mm_inline import PG_SWAPCACHE, page_to_pfn
from allocator.mm_types import P_COUNTS, P_NEXT, P_PRIVATE, PG_DIRTY, PG_LOCKED, REF_SHIFT
from allocator.mmap import do_mmap
from allocator.mmzone import ND_LRU_LISTS, PSET_COUNT, PSET_WORDS, Z_PAGESET
from allocator.page_alloc import alloc_pages_nodemask
from allocator.page_io import swap_writepage
from allocator.pagevec import put_page_p
from allocator.pcp import page_zone
from allocator.pgtable import mm_find_pte, pte_pfn, pte_present
from allocator.rmap_walk import TTU_IGNORE_ACCESS, try_to_unmap
from allocator.swap import lru_add_drain_all
from allocator.swap_cache import delete_from_swap_cache_only
from allocator.swap_map import put_swap_page
from allocator.swap_state import add_to_swap
from allocator.swapon import mkswap, swapon
from allocator.vm_events import VM_EVENT_NAMES
from allocator.vmstat import zone_page_state_snapshot
from allocator.xarray import radix_tree_init
from machine.ramhistory import RamCheckpoint
from tests.allocator.bringup_support import booted_machine

PROT_READ, PROT_WRITE = 1, 2
MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS = 1, 2, 0x20
READ, WRITE = 0, 1
PAGE = 4096


class Lab:
    """A booted machine with its memory owners set up."""

    def __init__(self, *specs: str, append: str = "") -> None:
        self.machine = booted_machine(*specs, append=append)
        start_kernel(self.machine, append)
        self.memory = self.machine.memory
        self.m: memoryview = self.memory.words
        assert mm_init(self.m, 0) == 0
        self.idle = INIT_TASKS

    # --- processes ------------------------------------------------------------------------------
    def process(self) -> int:
        task = copy_process(self.m, 0, self.idle, 0)
        assert task > 0
        return task

    @contextmanager
    def acting(self, task: int, cpu: int = 0) -> Iterator[None]:
        """`task` is the CPU's current one inside."""
        block = CPU_BLOCKS + cpu * CPU_WORDS
        before = self.m[block + CPU_CURRENT]
        self.m[block + CPU_CURRENT] = PAGE_OFFSET + (task << 3)
        try:
            yield
        finally:
            self.m[block + CPU_CURRENT] = before

    def mm(self, task: int) -> int:
        return (self.m[task + TASK_MM] - PAGE_OFFSET) >> 3

    def map(self, task: int, pages: int, prot: int = PROT_READ | PROT_WRITE) -> int:
        with self.acting(task):
            at = do_mmap(
                self.m, 0, self.mm(task), 0, 0, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, 0
            )
        assert at > 0
        return at

    def fork(self, task: int) -> int:
        with self.acting(task):
            child = copy_process(self.m, 0, task, 0)
        assert child > 0
        return child

    def exit(self, task: int) -> None:
        block = CPU_BLOCKS
        do_exit(self.m, 0, task, 0)
        assert self.m[block + CPU_CURRENT] == PAGE_OFFSET + (INIT_TASKS << 3)

    # --- bytes ----------------------------------------------------------------------------------
    def poke(self, task: int, address: int, value: int, cpu: int = 0) -> None:
        with self.acting(task, cpu):
            at = access_process(self.m, cpu, task, address, WRITE)
        assert at >= 0, at
        self.m[at >> 3] = value

    def peek(self, task: int, address: int, cpu: int = 0) -> int:
        with self.acting(task, cpu):
            at = access_process(self.m, cpu, task, address, READ)
        assert at >= 0, at
        return self.m[at >> 3]

    # --- frames ---------------------------------------------------------------------------------
    def pte(self, task: int, address: int) -> int:
        w = mm_find_pte(self.m, self.mm(task), address)
        return self.m[w] if w else 0

    def pfn(self, task: int, address: int) -> int:
        pte = self.pte(task, address)
        assert pte_present(pte)
        return pte_pfn(pte)

    def page_at(self, pfn: int) -> int:
        return self.m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)

    def page(self, task: int, address: int) -> int:
        return self.page_at(self.pfn(task, address))

    def zone_of(self, p: int) -> int:
        return page_zone(self.m, p)

    def new_page(self, order: int = 0, nid: int = 0) -> int:
        """A page of nobody's yet: its struct page."""
        gfp = GFP_HIGHUSER_MOVABLE | (GFP_COMP_BIT if order else 0)
        pfn = alloc_pages_nodemask(self.m, 0, gfp, order, nid, 0)
        assert pfn >= 0
        return self.page_at(pfn)

    def pcp_count(self, z: int, cpu: int) -> int:
        """Pages on a CPU's list of zone `z`."""
        ps = ((self.m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + cpu * PSET_WORDS
        return self.m[ps + PSET_COUNT]

    def node_counter(self, nid: int, item: int) -> int:
        """A node counter with all CPUs' deltas."""
        nd = (self.m[NODE_DATA + nid] - PAGE_OFFSET) >> 3
        return node_counter(Check(self.memory), nd, item)

    def zone_counter(self, p: int, item: int) -> int:
        """A counter of the zone of page `p`, with all CPUs' deltas."""
        return zone_page_state_snapshot(self.m, self.zone_of(p), item)

    def scratch(self) -> int:
        """A page's worth of words for a test's own use."""
        return page_to_pfn(self.m, self.new_page()) << 9

    def lru(self, nid: int, lru: int) -> list[int]:
        """Struct pages on an LRU list of a node, head first."""
        nd = (self.m[NODE_DATA + nid] - PAGE_OFFSET) >> 3
        return self.listed(nd + ND_LRU_LISTS + 2 * lru)

    def listed(self, head: int) -> list[int]:
        """Struct pages on a list, head first."""
        found, va = [], self.m[head]
        while va != PAGE_OFFSET + (head << 3):
            found.append(self.page_at((va - VMEMMAP_START) >> 6))
            va = self.m[found[-1] + P_NEXT]
        return found

    def event(self, name: str, cpu: int = 0) -> int:
        return self.m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_EVENTS + VM_EVENT_NAMES.index(name)]

    def references(self, p: int) -> int:
        return self.m[p + P_COUNTS] >> REF_SHIFT

    def nid(self, p: int) -> int:
        return self.m[p] >> 58 & 63

    def drain(self) -> None:
        lru_add_drain_all(self.m)

    def check(self) -> Report:
        return check_frames(self.memory, strict=True)

    # --- swap -----------------------------------------------------------------------------------
    def swap(self, pages: int = 1024, prio: int = -1, name: bytes = b"swap0") -> int:
        radix_tree_init(self.m, 0)
        blockdev_init(self.m, 0)
        bdev = bdev_create(self.m, 0, name, pages)
        assert bdev
        assert mkswap(self.m, bdev) == pages - 1
        kind = swapon(self.m, 0, bdev, prio)
        assert kind >= 0
        return kind

    def spoil(self, bdev: int, block: int) -> None:
        """From now on a block of a device cannot be read."""
        self.m[bdev + BD_BAD_FIRST] = block
        self.m[bdev + BD_BAD_COUNT] = 1

    def page_out(self, p: int) -> bool:
        """page_out() of a page that may still wait in a pagevec."""
        self.drain()
        return page_out(self.m, p)

    def forget(self, p: int) -> None:
        """Takes a clean unmapped page out of the swap cache and frees it, as reclaim does."""
        m = self.m
        entry = m[p + P_PRIVATE]
        assert m[p + P_COUNTS] >> REF_SHIFT == 1
        delete_from_swap_cache_only(m, 0, p, entry)
        put_swap_page(m, 0, p, entry)
        put_page_p(m, 0, p)


def page_out(m: memoryview, p: int) -> bool:
    """Swaps a listed page out as reclaim does, but for its decisions; True if it is clean in the
    swap cache then, without mappings."""
    assert not m[p] & PG_LOCKED
    m[p] |= PG_LOCKED
    m[p + P_COUNTS] += 1 << REF_SHIFT
    added = m[p] & PG_SWAPCACHE or add_to_swap(m, 0, p)
    gone = added and try_to_unmap(m, 0, p, TTU_IGNORE_ACCESS)
    if gone:
        m[p] &= ~PG_DIRTY
        assert swap_writepage(m, 0, p) == 0
        while blk_wait_any(m, 0):
            pass
    else:
        m[p] &= ~PG_LOCKED
    m[p + P_COUNTS] -= 1 << REF_SHIFT
    return bool(gone)


_BOOTED: dict[tuple[str, ...], tuple[Lab, RamCheckpoint]] = {}


def fresh_lab(*specs: str) -> Lab:
    """A Lab just booted: the same machine is booted once and rewound for every test."""
    if specs not in _BOOTED:
        lab = Lab(*specs)
        _BOOTED[specs] = lab, lab.memory.checkpoint()
    lab, begin = _BOOTED[specs]
    lab.memory.rewind(begin)
    lab.m = lab.memory.words
    return lab
