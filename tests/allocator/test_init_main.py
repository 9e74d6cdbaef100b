# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import re

import pytest

from allocator import kernel_globals as kg
from allocator import layout as lay
from allocator.boot_context import all_zones, online_nodes, populated_zones
from allocator.init_main import start_kernel
from allocator.mmzone import Z_FREE_PAGES, Z_INITIALIZED, Z_WMARK, ZONE_NAMES
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from tests.allocator.bringup_support import MIB, booted_machine, free_areas, zone

TOPOLOGIES = {
    "small": ("1x64M",),
    "two": ("2x128M",),
    "unequal": ("node,cpus=0,mem=40M", "node,cpus=1-2,mem=99M", "node,mem=17M", "node,mem=70M"),
    "hole": ("2x3G",),
    "memoryless": ("node,cpus=0,mem=64M", "node,cpus=1", "node,mem=64M"),
}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_lists_hold_exactly_what_the_counters_say(name: str) -> None:
    k = start_kernel(booted_machine(*TOPOLOGIES[name]))
    total = 0
    for z in all_zones(k.m):
        if not k.m[z + Z_INITIALIZED]:
            continue
        areas = free_areas(k.m, z)
        listed = sum(len(p) << o for o, (_, lists) in enumerate(areas) for p in lists.values())
        assert listed == k.m[z + Z_FREE_PAGES]
        assert all(nr == sum(map(len, lists.values())) for nr, lists in areas)
        total += listed
    assert total == k.m[kg.G_TOTALRAM]
    assert all(k.m[z + Z_WMARK] > 0 for z in populated_zones(k.m))


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_online_node_can_be_allocated_on_and_freed(name: str) -> None:
    k = start_kernel(booted_machine(*TOPOLOGIES[name]))
    for nid in online_nodes(k.m):
        pfn = alloc_pages_nodemask(k.m, 0, 0x6000C0, 3, nid, 0)
        assert pfn > 0
        assert k.memory.is_ram(pfn << 12, 8 << 12)
        assert free_pages(k.m, 0, pfn, 3) == 0


def test_log_reads_like_a_kernels() -> None:
    k = start_kernel(booted_machine("2x128M"))
    text = "\n".join(k.log)
    for pattern in (
        r"^\[    0\.000000\] Linux version 4\.20\.0",
        r"BIOS-e820: \[mem 0x0000000000000000-0x000000000009fbff\] usable$",
        r"e820: update \[mem 0x00000000-0x00000fff\] usable ==> reserved$",
        r"e820: remove \[mem 0x000a0000-0x000fffff\] usable$",
        r"SRAT: PXM 1 -> APIC 0x01 -> Node 1$",
        r"ACPI: SRAT: Node 1 PXM 1 \[mem 0x08000000-0x0fffffff\]$",
        r"NODE_DATA\(0\) allocated \[mem 0x07ffc000-0x07ffffff\]$",
        r"  DMA32    \[mem 0x0000000001000000-0x000000000ffdffff\]$",
        r"  Normal   empty$",
        r"  node   1: \[mem 0x0000000008000000-0x000000000ffdffff\]$",
        r"Initmem setup node 0 \[mem 0x0000000000001000-0x0000000007ffffff\]$",
        r"On node 0 totalpages: 32670$",
        r"Built 2 zonelists, mobility grouping on.  Total pages: \d+$",
        r"Policy zone: DMA32$",
        r"Memory: \d+K/261624K available \(",
    ):
        assert re.search(pattern, text, re.MULTILINE), pattern


def test_two_boots_are_byte_identical() -> None:
    images = []
    for _ in range(2):
        k = start_kernel(booted_machine("2x32M", append="kernelcore=24M"))
        images.append((bytes(k.memory.bytes), k.log))
    assert images[0] == images[1]


def test_a_second_boot_on_used_ram_gives_the_same_lists() -> None:
    machine = booted_machine("1x64M")
    first = start_kernel(machine)
    lists = free_areas(first.m, zone(first.m, 0, 1))
    machine.memory.write(40 * MIB, b"\xff" * 100_000)
    again = start_kernel(machine)
    assert free_areas(again.m, zone(again.m, 0, 1)) == lists


def test_stacks_mailboxes_and_page_tables_are_ready() -> None:
    machine = booted_machine("2x64M")
    k = start_kernel(machine)
    assert machine.mailbox_address is not None
    assert machine.mailbox_address(1) == lay.mailbox_phys(1)
    assert k.pgd == k.m[kg.G_PGD]
    homes = [
        next(r.nid for r in machine.topology.ram_ranges if r.start < s <= r.end)
        for s in [(top - lay.PAGE_OFFSET) & (1 << 52) - 1 for top in k.stacks]
    ]
    assert homes == [0, 1]


def test_zone_names_are_those_of_linux() -> None:
    assert ZONE_NAMES == ("DMA", "DMA32", "Normal", "Movable")


def test_cma_parameter_gives_free_cma_pages() -> None:
    k = start_kernel(booted_machine("2x64M", append="cma=16M"))
    assert k.m[kg.G_TOTALCMA] == 4096
    assert k.cma[0].count == 4096
