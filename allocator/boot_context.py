# SPDX-License-Identifier: GPL-2.0-only
"""What the steps of bring-up share while the kernel boots: addresses, parameters, the log.

A `BootContext` is the kernel's __initdata: it exists from the first line of the log to the last and
nothing of it is needed afterwards, because every result is in guest RAM. Steps take memory for the
kernel's own structures through `alloc`, which is memblock in a real boot; when a recorded map is
replayed it is an `Arena` in a bank of its own above the map, so that the map stays as recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from machine import BringUpError, PhysicalMemory

from .kernel_globals import G_NODES_ONLINE
from .layout import CPU_BLOCKS, CPU_CURRENT, CPU_WORDS, NODE_DATA, PAGE_OFFSET, va_of_word
from .memblock import NUMA_NO_NODE, SMP_CACHE_BYTES, Memblock
from .mmzone import MAX_NR_ZONES, MAX_NUMNODES, Z_PRESENT, ZONE_WORDS
from .params import KernelParams
from .printk import Printk

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Arena:
    """A bump allocator over physical bytes [start, end) that nothing else uses."""

    def __init__(self, start: int, end: int) -> None:
        self.at = start
        self.end = end

    def alloc(
        self, size: int, align: int = SMP_CACHE_BYTES, nid: int = NUMA_NO_NODE, min_addr: int = 0
    ) -> int:
        """Physical address of `size` fresh (zero) bytes; node and lower bound mean nothing here.
        Raises BringUpError when the arena is full."""
        del nid, min_addr
        found = -(-self.at // align) * align
        if found + size > self.end:
            raise BringUpError(f"metadata arena is full: {size:#x} bytes at {found:#x} do not fit")
        self.at = found + size
        return found


class Allocator(Protocol):
    """Whoever gives memory for the kernel's structures: a Memblock or an Arena."""

    def alloc(self, size: int, align: int = ..., nid: int = ..., min_addr: int = ...) -> int:
        """Physical address of `size` bytes aligned to `align`, on node `nid` if possible."""


class BootContext:
    """One boot: `m` the word array, `mb` memblock, `allocator` where structures come from."""

    def __init__(
        self,
        memory: PhysicalMemory,
        params: KernelParams,
        printk: Printk,
        allocator: Allocator | None = None,
    ) -> None:
        self.memory = memory
        self.m: memoryview = memory.words
        self.mb = Memblock(self.m)
        self.params = params
        self.printk = printk
        self.allocator: Allocator = allocator or self.mb
        self.dma_reserve = 0
        self.deferred = False
        """Struct pages of large machines are initialised on demand (`deferred_init`)."""
        self.map_vmemmap: list[tuple[int, int]] = []
        """(virtual, physical) of every 2 MiB of memmap, for the page tables."""

    @property
    def q(self) -> npt.NDArray[np.int64]:
        """NumPy's view of the word array."""
        return self.memory.q

    def alloc(
        self, size: int, align: int = SMP_CACHE_BYTES, nid: int = NUMA_NO_NODE, min_addr: int = 0
    ) -> int:
        """Physical address of `size` zeroed bytes. Raises BringUpError when memory is exhausted."""
        phys = self.allocator.alloc(size, align, nid, min_addr)
        if self.allocator is self.mb:
            self.memory.write(phys, bytes(size))
        return phys


def mask_nodes(mask: int) -> list[int]:
    """Node ids in a nodemask word (signed), ascending."""
    return [nid for nid in range(MAX_NUMNODES) if mask >> nid & 1]


def nodes_mask(nodes: list[int] | set[int]) -> int:
    """The nodemask word (signed) of some node ids."""
    mask = sum(1 << nid for nid in set(nodes))
    return mask - (1 << 64) if mask >> 63 else mask


def online_nodes(m: memoryview) -> list[int]:
    """Ids of the online nodes, ascending (for_each_online_node)."""
    return mask_nodes(m[G_NODES_ONLINE])


def node_word(m: memoryview, nid: int) -> int:
    """Word index of a node's pglist_data (NODE_DATA)."""
    word: int = (m[NODE_DATA + nid] - PAGE_OFFSET) >> 3
    return word


def all_zones(m: memoryview) -> list[int]:
    """Word indices of all zones of the online nodes, empty ones too (for_each_zone)."""
    return [
        node_word(m, nid) + zid * ZONE_WORDS
        for nid in online_nodes(m)
        for zid in range(MAX_NR_ZONES)
    ]


def populated_zones(m: memoryview) -> list[int]:
    """Word indices of the zones with present pages (for_each_populated_zone)."""
    return [z for z in all_zones(m) if m[z + Z_PRESENT]]


def set_current(m: memoryview, cpu: int, task: int) -> None:
    """The task at word `task` now runs on `cpu`."""
    m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] = va_of_word(task)
