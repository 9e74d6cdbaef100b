# SPDX-License-Identifier: GPL-2.0-only
"""start_kernel(): the whole of bring-up, in the order of init/main.c.

`start_kernel(machine)` expects a machine after POST (`firmware.power_on`), perhaps with a boot
script placed in RAM, and leaves one whose page allocator works: structures, free lists and page
tables are in guest RAM, the CPUs know their mailboxes, and CPU 0 can be started with the page
tables at `pgd`. No guest instruction has run by then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware import BOOT_PARAMS, read_boot_params
from machine import Machine, PhysicalMemory

from .boot_context import BootContext, all_zones, node_word, online_nodes
from .boot_free import memblock_free_all
from .boot_stages import khugepaged_init, page_alloc_init_late
from .cma import CmaArea, cma_init_reserved_areas
from .cma_alloc import cma_add_area
from .cpu_init import bring_up_cpus, setup_cpus
from .cpuset_fs import cpuset_init
from .debug_features import page_ext_init, setup_debug_features
from .deferred_init import deferred_init_late, init_cma_pages
from .e820_setup import print_ram_buffers
from .kernel_data import check_kernel_region, init_kernel_data, open_gfp_mask
from .kernel_globals import (
    G_PGD,
    G_STORAGE_START,
    G_STORAGE_WORDS,
    G_TOTALCMA,
    G_TOTALRAM,
    KERNEL_BASE,
)
from .layout import KERNEL_IMAGE_SIZE, PAGE_OFFSET, mailbox_phys, unsigned
from .memcg import memcg_init
from .mm_types import PAGE_SHIFT
from .mmzone import ND_PRESENT, Z_FREE_PAGES
from .pageset import (
    PerCpuArea,
    alloc_boot_nodestats,
    setup_boot_pagesets,
    setup_per_cpu_pageset,
)
from .params import KernelParams, parse_args, parse_early_param
from .printk import KERN_NOTICE, Printk
from .setup_arch import ArchSetup, setup_arch
from .wmark import init_per_zone_wmark_min
from .zonelist import build_all_zonelists

LINUX_BANNER = "Linux version 4.20.0 (numalab) #1 SMP"
CMDLINE_PTR_OFFSET = 0x228
_KIB = PAGE_SHIFT - 10


@dataclass(frozen=True)
class Booted:
    """A kernel that is up. `m` is its word array; `stacks` are virtual addresses (unsigned) of the
    upper ends of the CPUs' boot stacks; `pgd` is the value for CR3."""

    machine: Machine
    memory: PhysicalMemory
    m: memoryview
    params: KernelParams
    printk: Printk
    pgd: int
    stacks: tuple[int, ...]
    e820: tuple[tuple[int, int, int], ...]
    cma: tuple[CmaArea, ...]

    @property
    def log(self) -> list[str]:
        """The boot log, one line an entry."""
        return self.printk.lines


def start_kernel(
    machine: Machine, append: str = "", sink: Callable[[str], None] | None = None
) -> Booted:
    """Brings the kernel up on a machine after POST. `append` is added to the command line in
    boot_params; `sink` gets the log lines as they come.

    Raises BringUpError with one line when the machine cannot be brought up.
    """
    memory = machine.memory
    m = memory.words
    check_kernel_region(memory)
    # The static region as a loader leaves it.
    memory.zero(KERNEL_BASE, KERNEL_BASE + KERNEL_IMAGE_SIZE)
    init_kernel_data(m)
    m[G_STORAGE_START] = memory.size >> 3
    m[G_STORAGE_WORDS] = (memory.end - memory.size) >> 3
    boot = read_boot_params(memory, BOOT_PARAMS)
    printk = Printk(m, sink)
    printk(LINUX_BANNER, KERN_NOTICE)
    cmdline = " ".join(part for part in (boot.command_line, append) if part)
    printk(f"Command line: {cmdline}")
    params = parse_early_param(cmdline, printk)
    ctx = BootContext(memory, params, printk)
    arch = setup_arch(ctx, boot, memory.read_u32(BOOT_PARAMS + CMDLINE_PTR_OFFSET))
    area = _setup_cpus_and_lists(ctx, arch)
    _mm_init(ctx)
    _rest_init(ctx, arch, area)
    machine.mailbox_address = mailbox_phys
    return Booted(
        machine=machine,
        memory=memory,
        m=m,
        params=params,
        printk=printk,
        pgd=m[G_PGD],
        stacks=tuple(unsigned(PAGE_OFFSET + top) for top in arch.stacks),
        e820=tuple((addr, size, kind) for addr, size, kind in arch.e820.entries),
        cma=tuple(arch.cma.areas),
    )


def _setup_cpus_and_lists(ctx: BootContext, arch: ArchSetup) -> PerCpuArea:
    """setup_nr_cpu_ids() to parse_args(); the memory set aside for pagesets."""
    m, printk = ctx.m, ctx.printk
    setup_cpus(m, arch.cpu_nodes, arch.apicids)
    printk(f"setup_percpu: nr_cpu_ids:{len(arch.cpu_nodes)} nr_node_ids:{len(online_nodes(m))}")
    alloc_boot_nodestats(ctx)
    area = PerCpuArea(ctx)
    setup_boot_pagesets(m)
    build_all_zonelists(m, printk)
    printk(f"Kernel command line: {ctx.params.cmdline}", KERN_NOTICE)
    parse_args(ctx.params, printk)
    return area


def _mm_init(ctx: BootContext) -> None:
    """mem_init() and its report (mem_init_print_info)."""
    m = ctx.m
    setup_debug_features(ctx)
    memblock_free_all(ctx)
    present = sum(m[node_word(m, nid) + ND_PRESENT] for nid in online_nodes(m))
    free = sum(m[z + Z_FREE_PAGES] for z in all_zones(m))
    reserved = present - m[G_TOTALRAM] - m[G_TOTALCMA]
    ctx.printk(
        f"Memory: {free << _KIB}K/{present << _KIB}K available (0K kernel code, "
        f"{KERNEL_IMAGE_SIZE >> 10}K rwdata, 0K rodata, 0K init, 0K bss, "
        f"{reserved << _KIB}K reserved, {m[G_TOTALCMA] << _KIB}K cma-reserved)"
    )


def _rest_init(ctx: BootContext, arch: ArchSetup, area: PerCpuArea) -> None:
    """Pagesets, the other CPUs, and the initcalls that concern memory."""
    m, printk = ctx.m, ctx.printk
    page_ext_init(ctx)
    setup_per_cpu_pageset(m, area)
    open_gfp_mask(m)
    memcg_init(m)
    cpuset_init(m)
    count = bring_up_cpus(m, ctx.params.max_cpus)
    nodes, plural = len(online_nodes(m)), "s" if len(online_nodes(m)) > 1 else ""
    printk(f"smp: Brought up {nodes} node{plural}, {count} CPU{'s' if count > 1 else ''}")
    deferred_init_late(ctx)
    page_alloc_init_late(m)
    init_per_zone_wmark_min(m, printk)
    for cma in arch.cma.areas:
        init_cma_pages(ctx, cma.base_pfn, cma.count)
    cma_init_reserved_areas(m, 0, arch.cma.areas, printk)
    _activate_cma(m, arch.cma.areas, printk)
    khugepaged_init(ctx)
    print_ram_buffers(arch.e820)


def _activate_cma(m: memoryview, areas: list[CmaArea], printk: Printk) -> None:
    """Enters the released areas into the table that cma_alloc() serves from."""
    for area in areas:
        if area.count and cma_add_area(m, 0, area.base_pfn, area.count, 0, area.name) < 0:
            printk.err(f"cma: CMA area {area.name} could not be activated")
