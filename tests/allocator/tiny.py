# SPDX-License-Identifier: GPL-2.0-only
"""A hand-made memory for tests that want an allocator without a boot.

`make_tiny` gives nodes side by side, each with one Normal zone of 8 pageblocks, all free and
movable. Watermarks are 0 and per-cpu lists have high 0 and batch 1, so a freed page goes to the
buddy lists at once; a test that wants it otherwise sets the words itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from allocator.buddy import free_one_page
from allocator.cpuset_fs import cpuset_init
from allocator.fail_page_alloc import reset_fail_page_alloc
from allocator.kernel_globals import (
    G_GFP_ALLOWED,
    G_MAX_PFN,
    G_NODES_MEMORY,
    G_NODES_ONLINE,
    G_NR_CPU_IDS,
    G_NR_ONLINE_NODES,
    G_NUM_ONLINE_CPUS,
    G_STORAGE_START,
    G_STORAGE_WORDS,
    G_TRACE_BASE,
    G_TRACE_HEAD,
    G_TRACE_MASK,
    G_TRACE_SIZE,
)
from allocator.layout import (
    CPU_BLOCKS,
    CPU_BULK_FREE,
    CPU_CURRENT,
    CPU_NUMA_NODE,
    CPU_ONLINE,
    CPU_PRESENT,
    CPU_WORDS,
    INIT_TASKS,
    NODE_DATA,
    PAGE_OFFSET,
    POISON_PAGE,
    RECORD_WORDS,
    SECTION_PAGE_EXT,
    SECTION_PAGES,
    SECTION_USEMAP,
    TASK_COMM,
    TASK_HARDWALL_MEMS,
    TASK_MEMS_ALLOWED,
    TASK_PID,
    TASK_PRIO,
    TASK_WORDS,
    TRACE_RECORDS,
    TRACE_RING,
    VMEMMAP_START,
    va_of_word,
)
from allocator.list_head import list_init
from allocator.memcg import memcg_init
from allocator.mm_types import COUNTS_FREE, P_COUNTS, P_FLAGS, page_links
from allocator.mmzone import (
    FA_WORDS,
    MAX_ORDER,
    MIGRATE_MOVABLE,
    MIGRATE_PCPTYPES,
    MIGRATE_TYPES,
    ND_NODE_ID,
    ND_NOFALLBACK,
    ND_NR_ZONES,
    ND_ZONELISTS,
    PGLIST_DATA_WORDS,
    PSET_BATCH,
    PSET_LISTS,
    PSET_WORDS,
    Z_CONTIGUOUS,
    Z_FREE_AREA,
    Z_FREE_PAGES,
    Z_INITIALIZED,
    Z_MANAGED,
    Z_NODE,
    Z_PAGESET,
    Z_PGDAT,
    Z_PRESENT,
    Z_SPANNED,
    Z_START_PFN,
    ZONE_NORMAL,
    ZONE_WORDS,
)
from allocator.page_init import pgdat_init_internals
from allocator.page_poison import PAGE_POISON_WORD
from allocator.pageblock import set_pageblock_migratetype
from allocator.trace_events import EVENTS
from machine import Bank, PhysicalMemory

BLOCKS = 8
NODE_PAGES = BLOCKS * 512
FIRST_PFN = 16384
SECTION = 0x8000
# what a boot would take from memblock, all below the zones
MEMMAP_WORD = 32 << 20 >> 3
NODE_WORD = 40 << 20 >> 3
USEMAP_WORD = 48 << 20 >> 3
PAGE_EXT_WORD = 52 << 20 >> 3
SCRATCH_WORD = 60 << 20 >> 3


@dataclass
class Tiny:
    """The memory, its zones by node id, and what tests do with them."""

    memory: PhysicalMemory
    m: memoryview
    zones: list[int] = field(default_factory=list)

    @property
    def z(self) -> int:
        """Word index of the first zone."""
        return self.zones[0]

    @property
    def start(self) -> int:
        """First PFN of the first zone."""
        return self.m[self.z + Z_START_PFN]

    def page(self, pfn: int) -> int:
        """Word index of the struct page of `pfn`."""
        return self.m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)

    def task(self, cpu: int = 0) -> int:
        """Word index of the task that is current on `cpu`."""
        return (self.m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3

    def free_pages(self, nid: int = 0) -> int:
        """NR_FREE_PAGES of a node's zone."""
        return self.m[self.zones[nid] + Z_FREE_PAGES]

    def free_list(self, order: int, mt: int, nid: int = 0) -> list[int]:
        """PFNs on a free list, head first."""
        head = self.zones[nid] + Z_FREE_AREA + order * FA_WORDS + 2 * mt
        found = []
        va = self.m[head]
        while va != va_of_word(head):
            pfn = (va - VMEMMAP_START) >> 6
            found.append(pfn)
            va = self.m[self.page(pfn) + 1]
        return found

    def listed_pages(self) -> int:
        """Pages on all free lists of all zones, counted by walking them."""
        return sum(
            len(self.free_list(order, mt, nid)) << order
            for nid in range(len(self.zones))
            for order in range(MAX_ORDER)
            for mt in range(MIGRATE_TYPES)
        )

    def record(self, *events: int) -> None:
        """From now on records these trace events (all of them if none is named)."""
        self.m[G_TRACE_HEAD] = 0
        self.m[G_TRACE_MASK] = sum(1 << event for event in events or EVENTS)

    def events(self) -> list[tuple[int, ...]]:
        """(event, arguments...) of everything recorded."""
        found = []
        for seq in range(self.m[G_TRACE_HEAD]):
            r = self.m[G_TRACE_BASE] + seq * RECORD_WORDS
            event = self.m[r + 1]
            found.append((event, *(self.m[r + 3 + i] for i in range(len(EVENTS[event][1])))))
        return found

    def enable_page_ext(self) -> None:
        """Gives the section page extensions."""
        self.m[SECTION_PAGE_EXT] = va_of_word(PAGE_EXT_WORD)


def set_up_cpus(m: memoryview, cpus: int, node_of: Callable[[int], int]) -> None:
    """CPU blocks and their idle tasks."""
    m[G_NR_CPU_IDS] = cpus
    m[G_NUM_ONLINE_CPUS] = cpus
    for cpu in range(cpus):
        block = CPU_BLOCKS + cpu * CPU_WORDS
        task = INIT_TASKS + cpu * TASK_WORDS
        m[block + CPU_CURRENT] = va_of_word(task)
        m[block + CPU_NUMA_NODE] = node_of(cpu)
        m[block + CPU_ONLINE] = 1
        m[block + CPU_PRESENT] = 1
        list_init(m, block + CPU_BULK_FREE)
        m[task + TASK_PRIO] = 120
        m[task + TASK_MEMS_ALLOWED] = -1
        m[task + TASK_HARDWALL_MEMS] = -1
        m[task + TASK_PID] = cpu + 1
        m[task + TASK_COMM] = int.from_bytes(b"init\0\0\0\0", "little")


def set_up_node(tiny: Tiny, nid: int, cpus: int) -> None:
    """A node with one Normal zone of NODE_PAGES movable pages."""
    m = tiny.m
    nd = NODE_WORD + nid * 8192
    z = nd + ZONE_NORMAL * ZONE_WORDS
    start = FIRST_PFN + nid * NODE_PAGES
    m[NODE_DATA + nid] = va_of_word(nd)
    m[nd + ND_NODE_ID] = nid
    pgdat_init_internals(m, nd)
    m[nd + ND_NR_ZONES] = ZONE_NORMAL + 1
    m[z + Z_NODE] = nid
    m[z + Z_PGDAT] = va_of_word(nd)
    m[z + Z_PAGESET] = va_of_word(nd + PGLIST_DATA_WORDS)
    m[z + Z_START_PFN] = start
    m[z + Z_INITIALIZED] = 1
    m[z + Z_CONTIGUOUS] = 1
    for word in (Z_SPANNED, Z_PRESENT, Z_MANAGED):
        m[z + word] = NODE_PAGES
    for i in range(MAX_ORDER * MIGRATE_TYPES):
        list_init(m, z + Z_FREE_AREA + i // MIGRATE_TYPES * FA_WORDS + i % MIGRATE_TYPES * 2)
    for cpu in range(cpus):
        ps = nd + PGLIST_DATA_WORDS + cpu * PSET_WORDS
        m[ps + PSET_BATCH] = 1
        for mt in range(MIGRATE_PCPTYPES):
            list_init(m, ps + PSET_LISTS + 2 * mt)
    tiny.zones.append(z)
    for pfn in range(start, start + NODE_PAGES):
        p = tiny.page(pfn)
        m[p + P_FLAGS] = page_links(nid, ZONE_NORMAL)
        m[p + P_COUNTS] = COUNTS_FREE
    for pfn in range(start, start + NODE_PAGES, 512):
        set_pageblock_migratetype(m, pfn, MIGRATE_MOVABLE)
    for pfn in range(start, start + NODE_PAGES, 1024):
        free_one_page(m, 0, z, pfn, 10, MIGRATE_MOVABLE)


def make_tiny(nodes: int, cpus: int, storage: int = 0) -> Tiny:
    """`nodes` nodes beside each other in the second 64 MiB, CPU n on node n modulo `nodes`, and so
    many bytes of storage."""
    memory = PhysicalMemory([Bank(0, 128 << 20, "ram")], storage)
    m = memory.words
    m[G_STORAGE_START] = memory.size >> 3
    m[G_STORAGE_WORDS] = storage >> 3
    tiny = Tiny(memory, m)
    m[SECTION_PAGES] = MEMMAP_WORD
    m[SECTION_USEMAP] = va_of_word(USEMAP_WORD)
    m[G_GFP_ALLOWED] = (1 << 23) - 1
    m[G_MAX_PFN] = SECTION
    m[G_TRACE_BASE] = TRACE_RING
    m[G_TRACE_SIZE] = TRACE_RECORDS
    memory.q[POISON_PAGE : POISON_PAGE + 512] = PAGE_POISON_WORD
    set_up_cpus(m, cpus, lambda cpu: cpu % nodes)
    for nid in range(nodes):
        set_up_node(tiny, nid, cpus)
    m[G_NODES_ONLINE] = m[G_NODES_MEMORY] = (1 << nodes) - 1
    m[G_NR_ONLINE_NODES] = nodes
    for nid, z in enumerate(tiny.zones):
        nd = z - ZONE_NORMAL * ZONE_WORDS
        for i in range(nodes):
            other = tiny.zones[(nid + i) % nodes]
            m[nd + ND_ZONELISTS + 2 * i] = va_of_word(other)
            m[nd + ND_ZONELISTS + 2 * i + 1] = ZONE_NORMAL
        m[nd + ND_NOFALLBACK] = va_of_word(z)
        m[nd + ND_NOFALLBACK + 1] = ZONE_NORMAL
    memcg_init(m)
    cpuset_init(m)
    reset_fail_page_alloc(m)
    return tiny
