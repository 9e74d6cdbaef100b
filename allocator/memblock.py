# SPDX-License-Identifier: GPL-2.0-only
"""memblock: the allocator of the time before the allocator (mm/memblock.c).

Two sorted lists of regions in guest RAM say what memory there is (`memory`, each region on a node)
and which of it is taken (`reserved`). A region is four words: base, size (bytes), flags, node id
(MAX_NUMNODES means none). Neighbours that agree in node and flags are merged, and regions never
overlap. To allocate is to find a gap - memory that is not reserved, looked for from the top down -
and to reserve it; to boot is to fill these lists from the e820 map and the SRAT, and in the end
`free_mem_ranges` is what goes to the buddy lists.

Regions are read and written as whole arrays (they are few); nothing is cached between calls.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from machine import BringUpError

from .kernel_globals import (
    G_MEMBLOCK_BOTTOM_UP,
    G_MEMBLOCK_LIMIT,
    G_MEMBLOCK_MEMORY_CNT,
    G_MEMBLOCK_RESERVED_CNT,
    KERNEL_BASE,
)
from .layout import KERNEL_IMAGE_SIZE, MEMBLOCK_MAX_REGIONS, MEMBLOCK_MEMORY, MEMBLOCK_RESERVED
from .mm_types import PAGE_SHIFT, PAGE_SIZE
from .mmzone import MAX_NUMNODES

NUMA_NO_NODE = -1
SMP_CACHE_BYTES = 64
PHYS_ADDR_MAX = (1 << 63) - 1
MEMBLOCK_NONE = 0
MEMBLOCK_HOTPLUG = 1
MEMBLOCK_MIRROR = 2
MEMBLOCK_NOMAP = 4
MEMBLOCK_ALLOC_ACCESSIBLE = 0

Region = list[int]
"""[base, end, flags, nid] while in Python's hands; in RAM base, size, flags, nid."""


class MemblockType:
    """One of the two region lists: where its array and its counter are (word indices)."""

    def __init__(self, m: memoryview, name: str, base: int, count: int) -> None:
        self.m = m
        self.name = name
        self.base = base
        self.count = count

    def regions(self) -> list[Region]:
        """All regions, ascending."""
        n = self.m[self.count]
        flat = self.m[self.base : self.base + 4 * n].tolist()
        return [[b, b + s, f, nid] for b, s, f, nid in zip(*[iter(flat)] * 4, strict=True)]

    def store(self, regions: list[Region]) -> None:
        """Writes the list back. Raises BringUpError when there are too many regions."""
        if len(regions) > MEMBLOCK_MAX_REGIONS:
            raise BringUpError(f"memblock: more than {MEMBLOCK_MAX_REGIONS} {self.name} regions")
        flat = array("q", [x for b, e, f, nid in regions for x in (b, e - b, f, nid)])
        self.m[self.base : self.base + len(flat)] = memoryview(flat)
        self.m[self.count] = len(regions)

    def add_range(self, base: int, size: int, nid: int, flags: int) -> None:
        """Adds [base, base+size); parts that exist already keep what they are."""
        end = min(base + size, PHYS_ADDR_MAX)
        if end <= base:
            return
        result: list[Region] = []
        at = base
        for region in self.regions():
            if at < end and region[1] > at:
                if region[0] > at:
                    result.append([at, min(region[0], end), flags, nid])
                at = max(at, min(region[1], end))
            result.append(region)
        if at < end:
            result.append([at, end, flags, nid])
        result.sort()
        self.store(merge_regions(result))

    def isolate_range(self, base: int, size: int) -> tuple[list[Region], int, int]:
        """Splits regions at the edges of [base, base+size): (regions, first inside, one past)."""
        end = min(base + size, PHYS_ADDR_MAX)
        result: list[Region] = []
        first = last = 0
        for b, e, f, nid in self.regions():
            for lo, hi in ((b, min(e, base)), (max(b, base), min(e, end)), (max(b, end), e)):
                if lo < hi:
                    if base <= lo < end:
                        if not last:
                            first = len(result)
                        last = len(result) + 1
                    result.append([lo, hi, f, nid])
        return result, first, last

    def remove_range(self, base: int, size: int) -> None:
        """Takes [base, base+size) out."""
        regions, first, last = self.isolate_range(base, size)
        self.store(regions[:first] + regions[last:])

    def set_node(self, base: int, size: int, nid: int) -> None:
        """Gives the part inside [base, base+size) the node id `nid` (memblock_set_node)."""
        regions, first, last = self.isolate_range(base, size)
        for region in regions[first:last]:
            region[3] = nid
        self.store(merge_regions(regions))

    def overlaps(self, base: int, size: int) -> bool:
        """True if any region overlaps [base, base+size) (memblock_overlaps_region)."""
        return any(b < base + size and base < e for b, e, _, _ in self.regions())

    def total_size(self) -> int:
        """Bytes in all regions."""
        return sum(e - b for b, e, _, _ in self.regions())


def merge_regions(regions: list[Region]) -> list[Region]:
    """Joins touching regions of one node with the same flags (memblock_merge_regions)."""
    merged: list[Region] = []
    for region in regions:
        if merged and merged[-1][1] == region[0] and merged[-1][2:] == region[2:]:
            merged[-1][1] = region[1]
        else:
            merged.append(region)
    return merged


class Memblock:
    """The memblock of the kernel whose word array is `m`; `memory` and `reserved` are its lists."""

    def __init__(self, m: memoryview) -> None:
        self.m = m
        self.memory = MemblockType(m, "memory", MEMBLOCK_MEMORY, G_MEMBLOCK_MEMORY_CNT)
        self.reserved = MemblockType(m, "reserved", MEMBLOCK_RESERVED, G_MEMBLOCK_RESERVED_CNT)

    @property
    def current_limit(self) -> int:
        """Allocations without a limit of their own stay below this physical address (bytes)."""
        limit: int = self.m[G_MEMBLOCK_LIMIT]
        return limit or PHYS_ADDR_MAX

    def set_current_limit(self, limit: int) -> None:
        """memblock_set_current_limit."""
        self.m[G_MEMBLOCK_LIMIT] = limit

    def set_bottom_up(self, enable: bool) -> None:
        """memblock_set_bottom_up: look for free memory from just above the kernel upwards."""
        self.m[G_MEMBLOCK_BOTTOM_UP] = int(enable)

    def add(self, base: int, size: int) -> None:
        """memblock_add: memory on no node yet."""
        self.memory.add_range(base, size, MAX_NUMNODES, MEMBLOCK_NONE)

    def add_node(self, base: int, size: int, nid: int) -> None:
        """memblock_add_node."""
        self.memory.add_range(base, size, nid, MEMBLOCK_NONE)

    def remove(self, base: int, size: int) -> None:
        """memblock_remove: no longer memory."""
        self.memory.remove_range(base, size)

    def reserve(self, base: int, size: int) -> None:
        """memblock_reserve."""
        self.reserved.add_range(base, size, MAX_NUMNODES, MEMBLOCK_NONE)

    def free(self, base: int, size: int) -> None:
        """memblock_free: no longer reserved."""
        self.reserved.remove_range(base, size)

    def setclr_flag(self, base: int, size: int, flag: int, on: bool) -> None:
        """Sets or clears a flag of the memory in a range (memblock_mark_*, memblock_clear_*)."""
        regions, first, last = self.memory.isolate_range(base, size)
        for region in regions[first:last]:
            region[2] = region[2] | flag if on else region[2] & ~flag
        self.memory.store(merge_regions(regions))

    def trim_memory(self, align: int) -> None:
        """Drops the parts of memory regions that are not whole units of `align` bytes."""
        regions = [
            [-(-b // align) * align, e // align * align, f, nid]
            for b, e, f, nid in self.memory.regions()
        ]
        self.memory.store([region for region in regions if region[0] < region[1]])

    def free_mem_ranges(
        self, nid: int = NUMA_NO_NODE, flags: int = MEMBLOCK_NONE
    ) -> Iterator[tuple[int, int, int]]:
        """(start, end, nid) of memory that is not reserved, ascending; never across a region's
        edge (for_each_free_mem_range)."""
        reserved = self.reserved.regions()
        first = 0
        for start, end, region_flags, region_nid in self.memory.regions():
            if not _wanted(region_flags, region_nid, nid, flags):
                continue
            while first < len(reserved) and reserved[first][1] <= start:
                first += 1
            at, i = start, first
            while at < end:
                if i == len(reserved) or reserved[i][0] >= end:
                    yield at, end, region_nid
                    break
                if reserved[i][0] > at:
                    yield at, reserved[i][0], region_nid
                at = max(at, reserved[i][1])
                i += 1

    def mem_pfn_ranges(self, nid: int = MAX_NUMNODES) -> Iterator[tuple[int, int, int]]:
        """(start pfn, end pfn, nid) of whole pages of memory, ascending; of one node unless `nid`
        is MAX_NUMNODES (for_each_mem_pfn_range)."""
        for b, e, _, region_nid in self.memory.regions():
            start, end = (b + PAGE_SIZE - 1) >> PAGE_SHIFT, e >> PAGE_SHIFT
            if start < end and nid in (MAX_NUMNODES, region_nid):
                yield start, end, region_nid

    def find_in_range(self, start: int, end: int, size: int, align: int) -> int:
        """Physical address of a free area on any node, 0 if there is none."""
        return self.find_in_range_node(size, align, start, end, NUMA_NO_NODE)

    def find_in_range_node(
        self, size: int, align: int, start: int, end: int, nid: int, flags: int = MEMBLOCK_NONE
    ) -> int:
        """Physical address of `size` free bytes in [start, end) on node `nid` (NUMA_NO_NODE for
        any), aligned to `align`; the highest one unless bottom-up mode is on. 0 if there is none.
        An `end` of MEMBLOCK_ALLOC_ACCESSIBLE means the current limit."""
        if end == MEMBLOCK_ALLOC_ACCESSIBLE:
            end = self.current_limit
        start = max(start, PAGE_SIZE)
        end = max(start, end)
        ranges = list(self.free_mem_ranges(nid, flags))
        kernel_end = KERNEL_BASE + KERNEL_IMAGE_SIZE
        if self.m[G_MEMBLOCK_BOTTOM_UP] and end > kernel_end:
            for lo, hi, _ in ranges:
                lo = min(max(lo, start, kernel_end), end)
                found = -(-lo // align) * align
                if found + size <= min(hi, end):
                    return found
        for lo, hi, _ in reversed(ranges):
            lo, hi = min(max(lo, start), end), min(max(hi, start), end)
            if hi >= size:
                found = (hi - size) // align * align
                if found >= lo:
                    return found
        return 0

    def alloc_range(self, size: int, align: int, start: int, end: int) -> int:
        """Finds and reserves an area on any node; physical address or 0 (memblock_alloc_range)."""
        found = self.find_in_range_node(size, align, start, end, NUMA_NO_NODE)
        if found:
            self.reserve(found, size)
        return found

    def phys_alloc_nid(self, size: int, align: int, nid: int) -> int:
        """Finds and reserves an area on exactly this node; physical address or 0."""
        found = self.find_in_range_node(size, align, 0, MEMBLOCK_ALLOC_ACCESSIBLE, nid)
        if found:
            self.reserve(found, size)
        return found

    def try_alloc(
        self, size: int, align: int = SMP_CACHE_BYTES, nid: int = NUMA_NO_NODE, min_addr: int = 0
    ) -> int:
        """Reserves `size` bytes, on `nid` if possible, else on any node, and below `min_addr`
        only if nothing above it is free. Physical address, 0 if memory is exhausted. The bytes
        are as they were (memblock_alloc_internal)."""
        for low in (min_addr, 0) if min_addr else (0,):
            for node in (nid, NUMA_NO_NODE) if nid != NUMA_NO_NODE else (nid,):
                found = self.find_in_range_node(size, align, low, MEMBLOCK_ALLOC_ACCESSIBLE, node)
                if found:
                    self.reserve(found, size)
                    return found
        return 0

    def alloc(
        self, size: int, align: int = SMP_CACHE_BYTES, nid: int = NUMA_NO_NODE, min_addr: int = 0
    ) -> int:
        """As try_alloc, but raises BringUpError where the kernel panics."""
        found = self.try_alloc(size, align, nid, min_addr)
        if not found:
            raise BringUpError(
                f"memblock: cannot allocate {size:#x} bytes align={align:#x} nid={nid}: "
                "the machine has too little memory"
            )
        return found

    def search_pfn_nid(self, pfn: int) -> int:
        """Node of the memory region that holds `pfn`, -1 if none does."""
        addr = pfn << PAGE_SHIFT
        return next((nid for b, e, _, nid in self.memory.regions() if b <= addr < e), -1)

    def is_region_memory(self, base: int, size: int) -> bool:
        """True if one memory region holds all of [base, base+size)."""
        return any(b <= base and base + size <= e for b, e, _, _ in self.memory.regions())

    def is_region_reserved(self, base: int, size: int) -> bool:
        """True if any reserved region overlaps [base, base+size)."""
        return self.reserved.overlaps(base, size)

    def end_of_dram(self) -> int:
        """End of the last memory region (bytes)."""
        return self.memory.regions()[-1][1]


def _wanted(region_flags: int, region_nid: int, nid: int, flags: int) -> bool:
    if nid not in (NUMA_NO_NODE, region_nid):
        return False
    if flags & MEMBLOCK_MIRROR and not region_flags & MEMBLOCK_MIRROR:
        return False
    return bool(flags & MEMBLOCK_NOMAP) or not region_flags & MEMBLOCK_NOMAP
