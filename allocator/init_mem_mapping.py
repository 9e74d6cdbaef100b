# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's page tables, real ones in guest RAM (arch/x86/mm/init.c, init_64.c).

Three mappings: all memory at PAGE_OFFSET (the direct map), the struct pages at vmemmap, and the
identity map of the first 512 GiB that the 64-bit boot protocol promises to boot scripts. The
identity map is the direct map seen through the first slot of the top table: both share everything
below it, so pages are executable and both stay equal for ever.

Ranges are cut into 4 KiB, 2 MiB and 1 GiB pages at the borders that split_mem_range() uses. Tables
are cleared pages from memblock. Besides memory the BIOS areas are mapped: below 1 MiB as the kernel
does, and the firmware's reserved pieces of RAM with the ACPI tables, which Linux maps when it reads
them.
"""

from __future__ import annotations

from machine import BringUpError, PageTableBuilder, PhysicalMemory

from .boot_context import BootContext
from .e820_setup import ISA_END_ADDRESS, E820Table
from .kernel_globals import G_PGD
from .layout import PAGE_OFFSET, unsigned
from .memblock import SMP_CACHE_BYTES
from .mm_types import PAGE_SHIFT, PAGE_SIZE
from .printk import mem_range

_PRESENT_RW_AD = 0x1 | 0x2 | 0x20 | 0x40
PMD_SIZE, PUD_SIZE, PGDIR_SIZE = 1 << 21, 1 << 30, 1 << 39
PGD_DIRECT = (unsigned(PAGE_OFFSET) >> 39) & 511


class KernelPageTables:
    """The tables under construction; `root` is the value for CR3."""

    def __init__(self, ctx: BootContext) -> None:
        self.ctx = ctx
        self.builder = PageTableBuilder(ctx.memory, self._alloc_table)
        self.root = self.builder.root
        self.max_page = PUD_SIZE if ctx.params.gbpages else PMD_SIZE
        if self.max_page == PUD_SIZE:
            ctx.printk("Using GB pages for direct mapping")

    def _alloc_table(self) -> int:
        found = self.ctx.mb.try_alloc(PAGE_SIZE, PAGE_SIZE)
        if not found:
            raise BringUpError("alloc_low_pages: can not alloc memory for page tables")
        return found

    def map(self, virt: int, phys: int, size: int, max_page: int) -> None:
        """Maps bytes [phys, phys+size) at `virt` (signed or not) with pages up to `max_page`."""
        self.builder.map(unsigned(virt), phys, size, _PRESENT_RW_AD, max_page)

    def map_direct(self, start: int, end: int) -> None:
        """Adds physical [start, end), whole pages, to the direct map (init_memory_mapping)."""
        self.map(PAGE_OFFSET + start, start, end - start, self.max_page)

    def share_identity(self) -> None:
        """The first 512 GiB also appear at virtual 0."""
        entry = self.ctx.memory.read_u64(self.root + 8 * PGD_DIRECT)
        self.ctx.memory.write_u64(self.root, entry)


def firmware_areas(table: E820Table, memory: PhysicalMemory) -> list[tuple[int, int]]:
    """Whole pages above 1 MiB that the map does not give to the kernel but RAM stands behind."""
    found = []
    for addr, size, _ in table.entries:
        start, end = max(-(-addr // PAGE_SIZE) * PAGE_SIZE, ISA_END_ADDRESS), addr + size
        end = end // PAGE_SIZE * PAGE_SIZE
        if start < end and memory.is_ram(start, end - start):
            found.append((start, end))
    return found


def init_mem_mapping(ctx: BootContext, table: E820Table, max_pfn: int) -> KernelPageTables:
    """Maps all memory below `max_pfn` and the firmware's areas; enters the root into `G_PGD`.

    Raises BringUpError when there is no memory for the tables."""
    tables = KernelPageTables(ctx)
    tables.map_direct(0, ISA_END_ADDRESS)
    covered: list[tuple[int, int]] = []
    for start, end, _ in ctx.mb.mem_pfn_ranges():
        lo, hi = max(start << PAGE_SHIFT, ISA_END_ADDRESS), min(end, max_pfn) << PAGE_SHIFT
        if lo < hi:
            covered.append((lo, hi))
    for start, end in firmware_areas(table, ctx.memory):
        if not any(lo < end and start < hi for lo, hi in covered):
            covered.append((start, end))
    for lo, hi in _join(sorted(covered)):
        tables.map_direct(lo, hi)
        if ctx.params.memblock_debug:
            ctx.printk.debug(f"init_memory_mapping: {mem_range(lo, hi)}")
    tables.share_identity()
    ctx.m[G_PGD] = tables.root
    return tables


def vmemmap_populate(ctx: BootContext, tables: KernelPageTables) -> None:
    """Maps the struct pages of every present section, 2 MiB pages (vmemmap_populate_hugepages)."""
    for virt, phys in ctx.map_vmemmap:
        tables.map(virt, phys, PMD_SIZE, PMD_SIZE)


def reserve_boot_stacks(ctx: BootContext, nodes: list[int], size: int) -> list[int]:
    """A stack of `size` bytes for each CPU on its node: physical address of its upper end."""
    return [ctx.alloc(size, max(size, SMP_CACHE_BYTES), nid) + size for nid in nodes]


def _join(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for lo, hi in ranges:
        if joined and joined[-1][1] == lo:
            joined[-1] = (joined[-1][0], hi)
        else:
            joined.append((lo, hi))
    return joined
