# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/symbols.py: names for addresses, and addresses from what people type."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.inspect.symbols import (
    Symbols,
    field_path,
    ordinal,
    parse_address,
    parse_number,
    physical_of,
)
from allocator.kernel_globals import G_MAX_PFN, G_PGD
from allocator.layout import CPU_BLOCKS, CPU_EVENTS, NODE_DATA, TRACE_RING, unsigned, va_of_word
from allocator.mmzone import (
    PGLIST_DATA,
    PSET_STAT_DIFF,
    PSET_WORDS,
    Z_PAGESET,
    Z_VM_STAT,
    ZONE,
    ZONE_WORDS,
)
from tests.allocator.machines import boot

KERNEL = boot("2x64M")
SYMBOLS = Symbols(KERNEL)


def test_words_of_zones_are_named_by_node_zone_and_field() -> None:
    zone = KERNEL.zone(1, "DMA32")
    name = SYMBOLS.of_physical((zone.word + Z_VM_STAT) << 3)
    assert name == "zone 1:DMA32 vm_stat[nr_free_pages]"
    assert SYMBOLS.of_physical(zone.word << 3) == "zone 1:DMA32"
    node = KERNEL.nodes[0].word
    start = node + PGLIST_DATA["node_start_pfn"]
    assert SYMBOLS.of_physical(start << 3) == "pglist_data of node 0 node_start_pfn"


def test_field_paths_reach_into_arrays_and_nested_structures() -> None:
    area = ZONE["free_area"]
    assert field_path(ZONE, area + 13 * 3 + 2) == "free_area[3].free_list[Movable]"
    assert field_path(ZONE, area + 13 * 3 + 3) == "free_area[3].free_list[Movable].prev"
    assert field_path(ZONE, ZONE["lowmem_reserve"] + 2) == "lowmem_reserve[Normal]"
    assert field_path(PGLIST_DATA, 3 * ZONE_WORDS).startswith("node_zones[Movable].watermark[")
    assert field_path(ZONE, ZONE.words - 1) == ""


def test_kernel_data_pagesets_and_rings_are_named() -> None:
    assert SYMBOLS.of_physical(G_MAX_PFN << 3) == "kernel_globals max_pfn"
    assert SYMBOLS.of_physical((NODE_DATA + 1) << 3) == "node_data 1"
    assert SYMBOLS.of_physical((TRACE_RING + 16 * 5 + 2) << 3) == "trace_ring 5 +0x10"
    word = CPU_BLOCKS + CPU_EVENTS
    assert SYMBOLS.of_physical(word << 3) == "cpu 0 vm_event_states[0]"
    zone = KERNEL.zone(1, "DMA32")
    pageset = (KERNEL.m[zone.word + Z_PAGESET] - va_of_word(0)) >> 3
    found = SYMBOLS.of_physical((pageset + PSET_WORDS + PSET_STAT_DIFF) << 3)
    assert found == "pageset of 1:DMA32 cpu 1 vm_stat_diff[nr_free_pages]"
    assert SYMBOLS.of_physical(KERNEL.m[G_PGD]) == "swapper_pg_dir"


def test_virtual_addresses_of_both_maps_are_named() -> None:
    page = KERNEL.page(0x1234)
    assert SYMBOLS.of_virtual(page.address) == "struct page of frame 0x1234"
    assert SYMBOLS.of_virtual(page.address + 8) == "struct page of frame 0x1234 lru"
    assert SYMBOLS.of_physical(page.word << 3) == "struct page of frame 0x1234"
    zone = unsigned(va_of_word(KERNEL.zone(0, "DMA").word))
    assert SYMBOLS.of_virtual(zone) == "zone 0:DMA"
    for nothing in (0, 0x1234, 0xFFFFEA0001000000, 0xFFFFFFFFFFFFFFF8, 0xFFFF888003456000):
        assert SYMBOLS.of_virtual(nothing) == ""


def test_a_frame_lists_what_lies_in_it() -> None:
    word = KERNEL.nodes[1].word
    assert "pglist_data of node 1" in SYMBOLS.in_frame(word >> 9)
    memmap = KERNEL.page(0).word >> 9
    assert SYMBOLS.in_frame(memmap) == ["struct page of frame 0x0 to 0x3f"]
    assert SYMBOLS.in_frame(0x3456) == []


def test_typed_addresses_come_in_many_forms() -> None:
    zone = KERNEL.zone(0, "DMA32")
    assert parse_address(KERNEL, "0x1000") == parse_address(KERNEL, "4096") == 4096
    assert parse_address(KERNEL, "ffff888000001000") == 0xFFFF888000001000
    assert parse_address(KERNEL, "pfn:0x12") == 0x12000
    assert parse_address(KERNEL, "page:0x12") == KERNEL.page(0x12).address
    assert parse_address(KERNEL, "0:dma32") == unsigned(va_of_word(zone.word))
    assert parse_address(KERNEL, "node:1") == unsigned(va_of_word(KERNEL.nodes[1].word))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zzz", "not a number"),
        ("0x10000000000000000", "not a number of 64 bits"),
        ("9:DMA", "node 9 has no pglist_data"),
        ("0:HighMem", "no zone 'HighMem'"),
        ("page:0x100000", "has no struct page"),
        ("node:", "not a number"),
    ],
)
def test_what_is_no_address_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_address(KERNEL, text)


def test_physical_of_takes_every_kind_of_kernel_address() -> None:
    page = KERNEL.page(0x20)
    assert physical_of(KERNEL, 0x5000) == 0x5000
    assert physical_of(KERNEL, 0xFFFF888000005000) == 0x5000
    assert physical_of(KERNEL, page.address + 9) == (page.word << 3) + 9
    for bad in (1 << 46, 0xFFFFFFFF81000000, 0xFFFF000000000000):
        with pytest.raises(BadRequest, match="no physical, direct-map or vmemmap address"):
            physical_of(KERNEL, bad)
    assert parse_number("ff") == 255


def test_ordinals_are_english() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112, 1003)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th", "1,003rd",
    ]  # fmt: skip
