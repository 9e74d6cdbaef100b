# SPDX-License-Identifier: GPL-2.0-only
"""setup_arch(): from what the firmware left in RAM to nodes, sections and zones (arch/x86).

The order is Linux's: reserve what must not be touched, read the e820 map, apply the command line,
fill memblock, map memory, find the nodes, set CMA aside, allocate the memmap, and lay out zones.
Nothing is taken from the machine object but its RAM; e820, SRAT, SLIT and MADT are read back from
guest memory. A table that cannot be used is reported in the log and done without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from firmware import BootParams, read_madt, read_slit, read_srat
from machine import BringUpError

from .boot_context import BootContext
from .boot_stages import find_dma_reserve
from .cma import CmaAreas, dma_contiguous_reserve
from .deferred_init import use_deferred_init
from .e820_setup import (
    ISA_END_ADDRESS,
    MAX_ARCH_PFN,
    E820Table,
    add_kernel_range,
    apply_user_map,
    memblock_setup,
    memory_setup,
    reserve_bios_regions,
    reserve_real_mode,
    trim_bios_range,
)
from .init_mem_mapping import init_mem_mapping, reserve_boot_stacks, vmemmap_populate
from .kernel_globals import G_MAX_LOW_PFN, G_MAX_PFN, KERNEL_BASE
from .layout import KERNEL_IMAGE_SIZE
from .mm_types import PAGE_SHIFT, PAGE_SIZE
from .numa import NumaInit
from .page_init import alloc_node_data, free_area_init_nodes, init_memory_less_node
from .sparse import sparse_init
from .zone_sizes import MAX_DMA32_PFN

MADT_CPU_ENABLED = 1
STACK_SIZE = 16 << 10
COMMAND_LINE_SIZE = 2048
T = TypeVar("T")


@dataclass(frozen=True)
class ArchSetup:
    """What setup_arch() hands on: CPUs in the kernel's numbering, stacks (physical upper ends, one
    a CPU), the final e820 map, and the CMA areas to release later."""

    cpu_nodes: tuple[int, ...]
    apicids: tuple[int, ...]
    stacks: tuple[int, ...]
    e820: E820Table
    cma: CmaAreas


def early_reserve(ctx: BootContext, boot: BootParams, cmdline_phys: int) -> None:
    """The kernel image, page 0, what the loader placed, and the loader's own parameter pages.

    Linux copies boot_params away; here the pages stay, because a boot script gets their address
    when it starts, which is after the allocator is up. Raises BringUpError if the loaded image
    overlaps the kernel."""
    mb = ctx.mb
    mb.reserve(KERNEL_BASE, KERNEL_IMAGE_SIZE)
    mb.reserve(0, PAGE_SIZE)
    start, size = boot.ramdisk_image, boot.ramdisk_size
    if size:
        if start < KERNEL_BASE + KERNEL_IMAGE_SIZE and start + size > KERNEL_BASE:
            raise BringUpError(
                f"the image at {start:#x}-{start + size - 1:#x} overlaps the kernel at "
                f"{KERNEL_BASE:#x}-{KERNEL_BASE + KERNEL_IMAGE_SIZE - 1:#x}"
            )
        mb.reserve(start, -(-(start + size) // PAGE_SIZE) * PAGE_SIZE - start)
    mb.reserve(boot.address, PAGE_SIZE)
    mb.reserve(cmdline_phys, COMMAND_LINE_SIZE)


def setup_memory_map(ctx: BootContext, boot: BootParams) -> tuple[E820Table, int, int]:
    """(e820 map, max_pfn, max_low_pfn) with the command line and the kernel's own cuts applied.

    Raises BringUpError when no RAM is left."""
    entries = [(entry.addr, entry.size, entry.type) for entry in boot.e820]
    table = memory_setup(entries, ctx.printk)
    apply_user_map(table, ctx.params)
    add_kernel_range(table)
    trim_bios_range(table)
    max_pfn = table.end_pfn(MAX_ARCH_PFN)
    if not max_pfn:
        raise BringUpError("the memory map has no usable RAM")
    max_low_pfn = table.end_pfn(MAX_DMA32_PFN) if max_pfn > MAX_DMA32_PFN else max_pfn
    return table, max_pfn, max_low_pfn


def check_ram_behind(ctx: BootContext) -> None:
    """Raises BringUpError for memory that a user-defined map invents."""
    for start, end, _, _ in ctx.mb.memory.regions():
        if not ctx.memory.is_ram(start, end - start):
            raise BringUpError(
                f"the memory map claims RAM at {start:#x}-{end - 1:#x}, but there is none"
            )


def setup_arch(ctx: BootContext, boot: BootParams, cmdline_phys: int) -> ArchSetup:
    """Everything up to initialised zones. Raises BringUpError when the machine cannot do it."""
    m, mb, printk = ctx.m, ctx.mb, ctx.printk
    early_reserve(ctx, boot, cmdline_phys)
    table, max_pfn, _ = setup_memory_map(ctx, boot)
    mb.set_current_limit(ISA_END_ADDRESS)
    memblock_setup(table, mb)
    check_ram_behind(ctx)
    reserve_bios_regions(ctx.memory, mb)
    reserve_real_mode(mb, printk)
    mb.reserve(0, -(-ctx.params.reserve_low // PAGE_SIZE) * PAGE_SIZE)
    mb.set_current_limit(max_pfn << PAGE_SHIFT)
    tables = init_mem_mapping(ctx, table, max_pfn)
    m[G_MAX_PFN] = m[G_MAX_LOW_PFN] = max_pfn

    numa = NumaInit(m, mb, ctx.params, printk, max_pfn)
    numa.x86_numa_init(_optional(ctx, read_srat), _optional(ctx, read_slit))
    for nid in numa.nodes_online:
        alloc_node_data(ctx, nid)
    cma = dma_contiguous_reserve(ctx, max_pfn << PAGE_SHIFT)
    ctx.dma_reserve = find_dma_reserve(ctx)
    sparse_init(ctx)
    vmemmap_populate(ctx, tables)
    ctx.deferred = use_deferred_init(ctx)
    zones = free_area_init_nodes(ctx, max_pfn, max_pfn)

    apicids = _possible_cpus(ctx)
    nodes = _early_cpu_to_node(numa, apicids)
    for nid in nodes:
        if nid not in numa.nodes_online:
            init_memory_less_node(ctx, zones, nid)
            numa.nodes_online.append(nid)
    stacks = reserve_boot_stacks(ctx, nodes, STACK_SIZE)
    return ArchSetup(tuple(nodes), tuple(apicids), tuple(stacks), table, cma)


def _optional(ctx: BootContext, read: Callable[..., T]) -> T | None:
    """A firmware table, None when there is none or it is beyond use."""
    try:
        return read(ctx.memory)
    except BringUpError as error:
        ctx.printk.err(f"{error}; not used")
        return None


def _possible_cpus(ctx: BootContext) -> list[int]:
    """APIC ids of the CPUs in the order in which the kernel numbers them, cut by nr_cpus=."""
    madt = _optional(ctx, read_madt)
    apicids = [cpu.apic_id for cpu in madt.cpus if cpu.flags & MADT_CPU_ENABLED] if madt else []
    if not apicids:
        ctx.printk.warn("ACPI: no enabled CPU in the MADT, going on with the boot CPU")
        apicids = [0]
    limit = ctx.params.nr_cpus
    return apicids if limit is None else apicids[: max(limit, 1)]


def _early_cpu_to_node(numa: NumaInit, apicids: list[int]) -> list[int]:
    """Node of every CPU: the SRAT's, else the online nodes in turn (numa_init_array,
    init_cpu_to_node)."""
    nodes, turn = [], 0
    for apicid in apicids:
        nid = numa.apicid_to_node.get(apicid, -1)
        if nid < 0:
            nid = numa.nodes_online[turn % len(numa.nodes_online)]
            turn += 1
        nodes.append(nid)
    return nodes
