# SPDX-License-Identifier: GPL-2.0-only
"""What `--inspect` shows."""

from __future__ import annotations

import pytest

from allocator.boot_image import boot_image
from allocator.cli.inspect_basic import hexdump, parse_inspection, read_guest
from allocator.gfp import GFP_KERNEL
from allocator.layout import NODE_DATA
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.views import Page, for_each_zone
from firmware import e820_map, load_script
from machine import BusError, Machine, Topology, UsageError

DISTANT = Topology.parse("node,cpus=0,mem=64M", "node,cpus=1,mem=64M", "dist,src=0,dst=1,val=17")


@pytest.fixture
def machine() -> Machine:
    return boot_image(Machine(DISTANT), load_script("_start: hlt\n")).machine


def show(machine: Machine, what: str) -> str:
    return parse_inspection(what).render(machine)


def test_e820_is_the_map_the_firmware_made(machine: Machine) -> None:
    assert show(machine, "e820").splitlines() == [f"BIOS-e820: {e}" for e in e820_map(DISTANT)]


def test_srat_is_in_table_order_with_its_disabled_entries(machine: Machine) -> None:
    assert show(machine, "srat").splitlines() == [
        "SRAT: PXM 0 APIC 0x00",
        "SRAT: PXM 1 APIC 0x01",
        "SRAT: PXM 0 [mem 0x00000000-0x0009ffff]",
        "SRAT: PXM 0 [mem 0x00100000-0x03ffffff]",
        "SRAT: PXM 1 [mem 0x04000000-0x07ffffff]",
        "SRAT: PXM 0 [mem 0x00000000-0x00000000] (disabled)",
    ]


def test_slit_is_the_matrix(machine: Machine) -> None:
    rows = [line.split() for line in show(machine, "slit").splitlines()]
    assert rows[1:] == [["0", "10", "17"], ["1", "17", "10"]]


def test_a_machine_with_one_node_has_neither() -> None:
    single = Machine(Topology.parse("1x64M"))
    boot_image(single, load_script("_start: hlt\n"))
    assert "no SRAT" in show(single, "srat")
    assert "no SLIT" in show(single, "slit")


def test_zones_has_a_line_for_every_populated_zone(machine: Machine) -> None:
    lines = show(machine, "zones").splitlines()[1:]
    zones = list(for_each_zone(machine.memory.words))
    assert [line.split()[:2] for line in lines] == [[str(z.nid), z.name] for z in zones]
    assert [int(line.split()[5]) for line in lines] == [z.managed_pages for z in zones]


def test_buddyinfo_and_zoneinfo_have_the_kernels_first_lines(machine: Machine) -> None:
    assert show(machine, "buddyinfo").startswith("Node 0, zone      DMA ")
    assert show(machine, "zoneinfo").startswith("Node 0, zone      DMA\n  per-node stats\n")


def test_a_page_tells_what_it_is_used_for(machine: Machine) -> None:
    m = machine.memory.words
    pfn = alloc_pages_nodemask(m, 0, GFP_KERNEL, 2, 0, 0)
    assert "allocated, 1 reference\n" in show(machine, f"page:{pfn}")
    assert "inside a block that begins at a lower frame" in show(machine, f"page:{pfn + 1}")
    single = alloc_pages_nodemask(m, 0, GFP_KERNEL, 0, 0, 0)
    free_pages(m, 0, single, 0)
    assert "free, on the Unmovable list of cpu 0" in show(machine, f"page:{single:#x}")
    assert "reserved" in show(machine, "page:0x100")
    zone = next(iter(for_each_zone(m)))
    head = zone.free_list(10, 1)[0]
    assert "free, head of a block of order 10" in show(machine, f"page:{head}")
    assert f"block of order 10 at frame {head:#x}" in show(machine, f"page:{head + 7}")


def test_a_page_is_shown_with_the_words_of_its_struct(machine: Machine) -> None:
    page = Page(machine.memory.words, 0x2000)
    text = show(machine, "page:0x2000")
    assert f"struct page at {page.address:#x} (physical {page.word << 3:#x})" in text
    assert f"flags       {page.flags:#018x}" in text
    assert f"_refcount   {page.refcount}" in text


@pytest.mark.parametrize("zone", ["DMA32", "dma32", "1"])
def test_a_free_list_is_shown_type_by_type(machine: Machine, zone: str) -> None:
    text = show(machine, f"freelist:1/{zone}/10")
    view = next(z for z in for_each_zone(machine.memory.words) if z.nid == 1)
    assert text.startswith(f"node 1 zone DMA32 order 10: nr_free {view.nr_free()[10]}\n")
    frames = " ".join(f"{pfn:#x}" for pfn in view.free_list(10, 1))
    assert f"Movable          {len(view.free_list(10, 1)):2}  {frames}" in text


@pytest.mark.parametrize(
    "what",
    [
        "",
        "e821",
        "e820:",
        "e820:1",
        "page",
        "page:",
        "page:x",
        "page:-1",
        "freelist:0/DMA",
        "freelist:0/HighMem/0",
        "freelist:0/9/0",
        "freelist:0/DMA/11",
        "hexdump:0",
        "hexdump:0,0",
        "hexdump:0,99999999999",
        "hexdump:0x10000000000000000,1",
    ],
)
def test_what_cannot_be_understood_is_refused_before_any_run(what: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_inspection(what)
    assert str(refusal.value).startswith(f"--inspect {what}")


@pytest.mark.parametrize("what", ["page:0x10000", "page:0xffffffffffff", "freelist:9/DMA/0"])
def test_what_is_not_there_is_refused_by_name(machine: Machine, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        show(machine, what)


@pytest.mark.parametrize("address", ["0xc0000000", "0xffffc90000000000", "0x8000000000000000"])
def test_memory_that_is_not_there_is_a_bus_error(machine: Machine, address: str) -> None:
    with pytest.raises(BusError, match=address):
        show(machine, f"hexdump:{address},16")


def test_structures_the_guest_has_damaged_are_an_error_of_ours(machine: Machine) -> None:
    machine.memory.words[NODE_DATA] = 0x7FFF_FFFF_FFFF_FFF0
    with pytest.raises(BusError, match="zones: damaged structures"):
        show(machine, "zones")


def test_kernel_addresses_are_read_through_the_kernels_page_tables(machine: Machine) -> None:
    page = Page(machine.memory.words, 0x2000)
    raw = machine.memory.read(page.word << 3, 64)
    assert read_guest(machine.memory, page.address, 64) == raw
    across = page.virt - 8
    assert read_guest(machine.memory, across, 16) == machine.memory.read(page.phys - 8, 16)


def test_hexdump_has_sixteen_bytes_a_line_and_an_asterisk_for_repeats() -> None:
    data = bytes(range(16)) + bytes(48) + b"ABC"
    assert hexdump(0x1000, data).splitlines() == [
        "000000001000  00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  |................|",
        "000000001010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|",
        "*",
        "000000001040  41 42 43                                          |ABC|",
        "000000001043",
    ]
