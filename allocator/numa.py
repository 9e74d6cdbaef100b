# SPDX-License-Identifier: GPL-2.0-only
"""Which memory and which CPU belong to which node (arch/x86/mm/numa.c, drivers/acpi/numa.c).

The SRAT names proximity domains; node ids are given out in the order in which domains appear, CPU
entries first, whatever their addresses. Its memory ranges are trimmed to what exists, merged where
no other node lies between, and written into memblock's `memory` regions; the SLIT gives distances
if it makes sense. A table that contradicts itself, or does not cover the RAM, is thrown away and
everything becomes node 0, as with numa=off.

`NumaInit` lives while booting (the kernel's __initdata). What remains is in guest RAM: node ids in
memblock, NODE_DISTANCE, NODE_DATA, the online mask and the CPUs' node numbers.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .layout import NODE_DISTANCE
from .memblock import Memblock
from .mm_types import PAGE_SHIFT
from .mmzone import LOCAL_DISTANCE, MAX_NUMNODES, REMOTE_DISTANCE
from .params import KernelParams
from .printk import Printk, mem_range

if TYPE_CHECKING:
    from firmware import CpuAffinity, MemoryAffinity, Srat

NUMA_NO_NODE = -1
NR_NODE_MEMBLKS = MAX_NUMNODES * 2
MAX_PXM_DOMAINS = MAX_NUMNODES * 4
MAX_LOCAL_APIC = 32768
NODE_MIN_SIZE = 4 << 20
SRAT_CPU_ENABLED = 1
SRAT_MEM_ENABLED = 1
SRAT_MEM_HOT_PLUGGABLE = 2
SRAT_MEM_NON_VOLATILE = 4


class Memblk:
    """One numa_memblk: bytes [start, end) of node `nid`."""

    def __init__(self, start: int, end: int, nid: int) -> None:
        self.start, self.end, self.nid = start, end, nid

    def __str__(self) -> str:
        return mem_range(self.start, self.end)


class NumaInit:
    """numa_init() and what it works on. `blks`, `nodes_parsed` and `apicid_to_node` are results."""

    def __init__(
        self, m: memoryview, memblock: Memblock, params: KernelParams, printk: Printk, max_pfn: int
    ) -> None:
        self.m = m
        self.memblock = memblock
        self.params = params
        self.printk = printk
        self.max_pfn = max_pfn
        self.blks: list[Memblk] = []
        self.nodes_parsed: set[int] = set()
        self.nodes_possible: set[int] = set()
        self.nodes_online: list[int] = []
        self.apicid_to_node: dict[int, int] = {}
        self.pxm_to_node: dict[int, int] = {}
        self.distance_cnt = 0
        reset_distance(m)

    # --- the three ways to know the nodes -------------------------------------------------------
    def x86_numa_init(self, srat: Srat | None, slit: Sequence[Sequence[int]] | None = None) -> None:
        """Tries the SRAT, then falls back to one node that holds everything."""
        if srat and not self.params.numa_off:
            if self._numa_init(lambda: self._acpi_numa_init(srat, slit)):
                return
        self._numa_init(self._dummy_numa_init)

    def _numa_init(self, init: Callable[[], bool]) -> bool:
        self.blks, self.nodes_parsed, self.apicid_to_node = [], set(), {}
        self.memblock.memory.set_node(0, 1 << 63, MAX_NUMNODES)
        self.memblock.reserved.set_node(0, 1 << 63, MAX_NUMNODES)
        self.distance_cnt = 0
        reset_distance(self.m)
        if not init() or not self.cleanup_meminfo(self.blks):
            return False
        if self.params.numa_fake is not None:
            from .numa_emulation import numa_emulation

            numa_emulation(self, self.params.numa_fake)
        return self._register_memblks()

    def _dummy_numa_init(self) -> bool:
        off = self.params.numa_off
        self.printk("NUMA turned off" if off else "No NUMA configuration found")
        self.printk(f"Faking a node at {mem_range(0, self.max_pfn << PAGE_SHIFT, 16)}")
        self.nodes_parsed.add(0)
        self.add_memblk(0, 0, self.max_pfn << PAGE_SHIFT)
        return True

    def _acpi_numa_init(self, srat: Srat, slit: Sequence[Sequence[int]] | None) -> bool:
        if self.params.numa_noacpi:
            return False
        if not self._processor_affinities(srat.cpus):
            return False
        parsed = 0
        for entry in srat.memory:
            state = self._memory_affinity(entry)
            if state < 0:
                self.printk.err("ACPI: SRAT: SRAT not used.")
                return False
            parsed += state
        if slit is not None:
            self._slit_init(slit)
        return parsed > 0

    def _map_pxm_to_node(self, pxm: int) -> int:
        """Node of a proximity domain; a new domain gets the lowest free id."""
        if not 0 <= pxm < MAX_PXM_DOMAINS:
            return NUMA_NO_NODE
        if pxm not in self.pxm_to_node:
            if len(self.pxm_to_node) >= MAX_NUMNODES:
                return NUMA_NO_NODE
            self.pxm_to_node[pxm] = len(self.pxm_to_node)
        return self.pxm_to_node[pxm]

    def _processor_affinities(self, cpus: Sequence[CpuAffinity]) -> bool:
        for cpu in cpus:
            if not cpu.flags & SRAT_CPU_ENABLED:
                continue
            node = self._map_pxm_to_node(cpu.proximity_domain)
            if node < 0:
                self.printk.err(f"SRAT: Too many proximity domains {cpu.proximity_domain:x}")
                self.printk.err("ACPI: SRAT: SRAT not used.")
                return False
            apic = f"APIC 0x{cpu.apic_id:02x}"
            where = f"SRAT: PXM {cpu.proximity_domain} -> {apic} -> Node {node}"
            if cpu.apic_id >= MAX_LOCAL_APIC:
                self.printk(f"{where} skipped apicid that is too big")
                continue
            self.apicid_to_node[cpu.apic_id] = node
            self.nodes_parsed.add(node)
            self.printk(where)
        return True

    def _memory_affinity(self, entry: MemoryAffinity) -> int:
        """1 if the entry counts, 0 if it is to be skipped, -1 if it spoils the table."""
        if not entry.flags & SRAT_MEM_ENABLED or entry.flags & SRAT_MEM_HOT_PLUGGABLE:
            return 0
        end = entry.base + entry.length
        node = self._map_pxm_to_node(entry.proximity_domain)
        if node < 0:
            self.printk.err("ACPI: SRAT: Too many proximity domains.")
            return -1
        if not self.add_memblk(node, entry.base, end):
            where = mem_range(entry.base, end)
            self.printk.err(f"ACPI: SRAT: Failed to add memblk to node {node} {where}")
            return -1
        self.nodes_parsed.add(node)
        volatile = " non-volatile" if entry.flags & SRAT_MEM_NON_VOLATILE else ""
        where = mem_range(entry.base, end)
        pxm = entry.proximity_domain
        self.printk(f"ACPI: SRAT: Node {node} PXM {pxm} {where}{volatile}")
        return 1

    def _slit_init(self, slit: Sequence[Sequence[int]]) -> None:
        for i, row in enumerate(slit):
            for j, value in enumerate(row):
                if value != LOCAL_DISTANCE if i == j else value <= LOCAL_DISTANCE:
                    self.printk("ACPI: SLIT table looks invalid. Not used.")
                    return
        for i, row in enumerate(slit):
            for j, value in enumerate(row):
                if i in self.pxm_to_node and j in self.pxm_to_node:
                    self.set_distance(self.pxm_to_node[i], self.pxm_to_node[j], value)

    # --- distances ------------------------------------------------------------------------------
    def set_distance(self, source: int, target: int, distance: int) -> None:
        """numa_set_distance: the first call sizes the table by the nodes known then."""
        if not self.distance_cnt:
            nodes = self.nodes_parsed | {blk.nid for blk in self.blks}
            self.distance_cnt = max(nodes, default=0) + 1
            self.printk.debug(f"NUMA: Initialized distance table, cnt={self.distance_cnt}")
        cnt = self.distance_cnt
        if not (0 <= source < cnt and 0 <= target < cnt):
            self.printk.warn(
                "NUMA: Warning: node ids are out of bound, "
                f"from={source} to={target} distance={distance}"
            )
        elif not 0 <= distance <= 255 or (source == target and distance != LOCAL_DISTANCE):
            self.printk.warn(
                "NUMA: Warning: invalid distance parameter, "
                f"from={source} to={target} distance={distance}"
            )
        else:
            self.m[NODE_DISTANCE + source * MAX_NUMNODES + target] = distance

    # --- memory blocks --------------------------------------------------------------------------
    def add_memblk(self, nid: int, start: int, end: int) -> bool:
        """numa_add_memblk; False when the table is full."""
        if start == end:
            return True
        if start > end or not 0 <= nid < MAX_NUMNODES:
            where = mem_range(start, end)
            self.printk.warn(f"NUMA: Warning: invalid memblk node {nid} {where}")
            return True
        if len(self.blks) >= NR_NODE_MEMBLKS:
            self.printk.err("NUMA: too many memblk ranges")
            return False
        self.blks.append(Memblk(start, end, nid))
        return True

    def cleanup_meminfo(self, blks: list[Memblk]) -> bool:
        """Trims to what exists, joins what no other node separates; False on a conflict."""
        high = self.max_pfn << PAGE_SHIFT
        kept = []
        for blk in blks:
            blk.end = min(blk.end, high)
            size = blk.end - blk.start
            if size > 0 and self.memblock.memory.overlaps(blk.start, size):
                kept.append(blk)
        blks[:] = kept
        i = 0
        while i < len(blks):
            a, j = blks[i], i + 1
            while j < len(blks):
                b = blks[j]
                if a.end > b.start and a.start < b.end:
                    if a.nid != b.nid:
                        self.printk.err(f"NUMA: node {a.nid} {a} overlaps with node {b.nid} {b}")
                        return False
                    self.printk.warn(f"NUMA: Warning: node {a.nid} {a} overlaps with itself {b}")
                joined = Memblk(min(a.start, b.start), max(a.end, b.end), a.nid)
                if a.nid != b.nid or any(
                    k.nid != a.nid and joined.start < k.end and joined.end > k.start for k in blks
                ):
                    j += 1
                    continue
                self.printk(f"NUMA: Node {a.nid} {a} + {b} -> {joined}")
                a.start, a.end = joined.start, joined.end
                del blks[j]
            i += 1
        return True

    def _covers_memory(self) -> bool:
        pages = 0
        for blk in self.blks:
            start, end = blk.start >> PAGE_SHIFT, blk.end >> PAGE_SHIFT
            pages += end - start - self.absent_pages(start, end, blk.nid)
        ram = self.max_pfn - self.absent_pages(0, self.max_pfn)
        if ram - pages >= 1 << (20 - PAGE_SHIFT):
            self.printk.err(
                f"NUMA: nodes only cover {pages >> 8}MB of your {ram >> 8}MB e820 RAM. Not used."
            )
            return False
        return True

    def absent_pages(self, start: int, end: int, nid: int = MAX_NUMNODES) -> int:
        """Pages of [start, end) that are not memory (of `nid`) (__absent_pages_in_range)."""
        absent = end - start
        for lo, hi, _ in self.memblock.mem_pfn_ranges(nid):
            absent -= min(max(hi, start), end) - min(max(lo, start), end)
        return absent

    def _register_memblks(self) -> bool:
        self.nodes_possible = self.nodes_parsed | {blk.nid for blk in self.blks}
        if not self.nodes_possible:
            return False
        for blk in self.blks:
            self.memblock.memory.set_node(blk.start, blk.end - blk.start, blk.nid)
        for blk in self.blks:
            self.memblock.reserved.set_node(blk.start, blk.end - blk.start, blk.nid)
        if not self._covers_memory():
            return False
        self.nodes_online = []
        for nid in sorted(self.nodes_possible):
            mine = [blk for blk in self.blks if blk.nid == nid]
            start = min((blk.start for blk in mine), default=0)
            end = max((blk.end for blk in mine), default=0)
            if end - start >= NODE_MIN_SIZE:
                self.nodes_online.append(nid)
        return True


def reset_distance(m: memoryview) -> None:
    """Every node is LOCAL_DISTANCE from itself and REMOTE_DISTANCE from the others."""
    row = memoryview(array("q", [REMOTE_DISTANCE]) * (MAX_NUMNODES * MAX_NUMNODES))
    m[NODE_DISTANCE : NODE_DISTANCE + len(row)] = row
    for i in range(MAX_NUMNODES):
        m[NODE_DISTANCE + i * (MAX_NUMNODES + 1)] = LOCAL_DISTANCE


def node_distance(m: memoryview, source: int, target: int) -> int:
    """SLIT distance from one node to another (__node_distance)."""
    distance: int = m[NODE_DISTANCE + source * MAX_NUMNODES + target]
    return distance
