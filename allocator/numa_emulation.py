# SPDX-License-Identifier: GPL-2.0-only
"""numa=fake=: cutting the machine's nodes into more, smaller ones (arch/x86/mm/numa_emulation.c).

Three forms: `N` splits all memory into N nodes of about the same size, `<size>M` or `<size>G` makes
nodes of that size, `NU` cuts every physical node into N. Fake nodes come from the physical ones in
turn; their distances are those of the physical nodes they lie on, or follow after a colon
(`4:10,20,...`). A CPU belongs to the first fake node of its physical node. If the request makes no
sense the machine keeps its real nodes.
"""

from __future__ import annotations

from .cmdline import memparse, simple_strtoull
from .memblock import NUMA_NO_NODE
from .mm_types import PAGE_SHIFT
from .mmzone import LOCAL_DISTANCE, MAX_NUMNODES, REMOTE_DISTANCE
from .numa import NR_NODE_MEMBLKS, Memblk, NumaInit, node_distance, reset_distance
from .printk import mem_range

FAKE_NODE_MIN_SIZE = 32 << 20
FAKE_NODE_MIN_HASH_MASK = ~(FAKE_NODE_MIN_SIZE - 1)
DMA32_END = 1 << 32


class _Emulation:
    """The work of one numa=fake=: `ei` the fake blocks so far, `pi` what is left of the real."""

    def __init__(self, numa: NumaInit) -> None:
        self.numa = numa
        self.printk = numa.printk
        self.ei: list[Memblk] = []
        self.pi = [Memblk(blk.start, blk.end, blk.nid) for blk in numa.blks]
        self.emu_to_phys: dict[int, int] = {}

    def hole(self, start: int, end: int) -> int:
        """Bytes in [start, end) that are not memory (mem_hole_size)."""
        first, last = -(-start >> PAGE_SHIFT), end >> PAGE_SHIFT
        return self.numa.absent_pages(first, last) << PAGE_SHIFT if first < last else 0

    def first_block(self, nid: int) -> int:
        """Index in `pi` of the first block of a physical node, -1 if nothing is left of it."""
        return next((i for i, blk in enumerate(self.pi) if blk.nid == nid), -1)

    def setup_memblk(self, nid: int, phys_blk: int, size: int) -> bool:
        """Cuts `size` bytes off a physical block for fake node `nid`."""
        if len(self.ei) >= NR_NODE_MEMBLKS:
            self.printk.err("NUMA: Too many emulated memblks, failing emulation")
            return False
        block = self.pi[phys_blk]
        self.ei.append(Memblk(block.start, block.start + size, nid))
        self.emu_to_phys.setdefault(nid, block.nid)
        where = mem_range(block.start, block.start + size, 16)
        self.printk(f"Faking node {nid} at {where} ({size >> 20}MB)")
        block.start += size
        if block.start >= block.end:
            del self.pi[phys_blk]
        return True

    def close_dma32(self, end: int) -> int:
        """Up to 4 GiB if too little DMA32 memory would stay behind for another node."""
        if end < DMA32_END:
            if DMA32_END - end - self.hole(end, DMA32_END) < FAKE_NODE_MIN_SIZE:
                return DMA32_END
        return end

    def grow(self, start: int, end: int, limit: int, size: int) -> int:
        """Moves `end` up until [start, end) holds `size` bytes of memory or `limit` is reached."""
        while end - start - self.hole(start, end) < size:
            end += FAKE_NODE_MIN_SIZE
            if end > limit:
                return limit
        return end

    def split_interleave(self, max_addr: int, nr_nodes: int) -> bool:
        """`nr_nodes` nodes over all memory (split_nodes_interleave)."""
        if nr_nodes <= 0:
            return False
        if nr_nodes > MAX_NUMNODES:
            self.printk(f"numa=fake={nr_nodes} too large, reducing to {MAX_NUMNODES}")
            nr_nodes = MAX_NUMNODES
        size = max_addr - self.hole(0, max_addr)
        size = (size >> PAGE_SHIFT) // nr_nodes << PAGE_SHIFT
        big = (size & ~FAKE_NODE_MIN_HASH_MASK) * nr_nodes // FAKE_NODE_MIN_SIZE
        size &= FAKE_NODE_MIN_HASH_MASK
        if not size:
            self.printk.err("Not enough memory for each node.  NUMA emulation disabled.")
            return False
        left = sorted(self.numa.nodes_parsed)
        nid = 0
        while left:
            for phys in left[:]:
                index = self.first_block(phys)
                if index < 0:
                    left.remove(phys)
                    continue
                start, limit = self.pi[index].start, self.pi[index].end
                end = start + size + (FAKE_NODE_MIN_SIZE if nid < big else 0)
                end = self.close_dma32(self.grow(start, end, limit, size))
                if limit - end - self.hole(end, limit) < size:
                    end = limit
                if not self.setup_memblk(nid % nr_nodes, index, min(end, limit) - start):
                    return False
                nid += 1
        return True

    def split_size(self, max_addr: int, size: int) -> bool:
        """Nodes of `size` bytes over all memory (split_nodes_size_interleave)."""
        if not size:
            return False
        pages = (max_addr - self.hole(0, max_addr)) >> PAGE_SHIFT
        size = self._at_least(size, pages // MAX_NUMNODES << PAGE_SHIFT)
        left = sorted(self.numa.nodes_parsed)
        nid = 0
        while left:
            for phys in left[:]:
                index = self.first_block(phys)
                if index < 0:
                    left.remove(phys)
                    continue
                start, limit = self.pi[index].start, self.pi[index].end
                end = self.close_dma32(self.grow(start, start + size, limit, size))
                if limit - end - self.hole(end, limit) < size:
                    end = limit
                if not self.setup_memblk(nid % MAX_NUMNODES, index, min(end, limit) - start):
                    return False
                nid += 1
        return True

    def split_uniform(self, nr_nodes: int) -> bool:
        """Every physical node into `nr_nodes` (the `U` form); sizes ignore holes."""
        nid = 0
        for phys in sorted(self.numa.nodes_parsed):
            if not nr_nodes or not self.pi:
                return False
            block = self.pi[0]
            want = ((block.end >> PAGE_SHIFT) - (block.start >> PAGE_SHIFT)) // nr_nodes
            size = self._at_least(want << PAGE_SHIFT, want << PAGE_SHIFT)
            owner = block.nid
            while (index := self.first_block(owner)) >= 0:
                start, limit = self.pi[index].start, self.pi[index].end
                end = self.close_dma32(start + size)
                if not self.setup_memblk(nid % MAX_NUMNODES, index, min(end, limit) - start):
                    return False
                nid += 1
            if nid < nr_nodes:
                self.printk(
                    f"numa_emulation: phys: {phys} only got {nid} of {nr_nodes} nodes, failing"
                )
                return False
        return bool(self.numa.nodes_parsed)

    def _at_least(self, size: int, min_size: int) -> int:
        """`size` in whole units of FAKE_NODE_MIN_SIZE, not below `min_size` rounded up."""
        unit = FAKE_NODE_MIN_SIZE
        min_size = -(-max(min_size, unit) // unit) * unit
        if size < min_size:
            self.printk.err(
                f"Fake node size {size >> 20}MB too small, increasing to {min_size >> 20}MB"
            )
            size = min_size
        return size // unit * unit


def numa_emulation(numa: NumaInit, text: str) -> None:
    """Replaces `numa`'s nodes by those that `text`, what follows numa=fake=, asks for."""
    work = _Emulation(numa)
    max_addr = numa.max_pfn << PAGE_SHIFT
    if "U" in text:
        count, at = simple_strtoull(text)
        done = work.split_uniform(count)
    elif "M" in text or "G" in text:
        size, at = memparse(text)
        done = work.split_size(max_addr, size)
    else:
        count, at = simple_strtoull(text)
        done = work.split_interleave(max_addr, count - (1 << 32) if count >> 31 & 1 else count)
    if text[at : at + 1] == ":":
        at += 1
    if not done:
        return
    if not numa.cleanup_meminfo(work.ei):
        numa.printk.warn("NUMA: Warning: constructed meminfo invalid, disabling emulation")
        return
    _commit(numa, work, text[at:])


def _commit(numa: NumaInit, work: _Emulation, distances: str) -> None:
    """The fake nodes take effect: blocks, CPUs, distances."""
    cnt = numa.distance_cnt
    phys = [[node_distance(numa.m, i, j) for j in range(cnt)] for i in range(cnt)]
    emu = work.emu_to_phys
    last, default = max(emu, default=0), emu[min(emu)] if emu else NUMA_NO_NODE
    numa.blks[:] = work.ei
    numa.nodes_parsed = {blk.nid for blk in work.ei}
    for apic, node in numa.apicid_to_node.items():
        numa.apicid_to_node[apic] = min((e for e, p in emu.items() if p == node), default=0)
    numa.distance_cnt = 0
    reset_distance(numa.m)
    at = 0
    for i in range(last + 1):
        for j in range(last + 1):
            pi, pj = emu.get(i, default), emu.get(j, default)
            value, at, more = _get_option(distances, at)
            if not more:
                if pi >= cnt or pj >= cnt:
                    value = LOCAL_DISTANCE if pi == pj else REMOTE_DISTANCE
                else:
                    value = phys[pi][pj]
            numa.set_distance(i, j, value)


def _get_option(text: str, at: int) -> tuple[int, int, bool]:
    """(number, next index, True if a comma follows) at `text[at:]` (lib/cmdline.c get_option)."""
    value, end = simple_strtoull(text, at)
    if end > at and text[end : end + 1] == ",":
        return value, end + 1, True
    return value, end, False
