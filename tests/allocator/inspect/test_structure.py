# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/structure.py: structures decoded from their descriptions."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.inspect.structure import STRUCTS, decode, struct
from allocator.layout import CPU_BLOCKS, INIT_TASKS, TASK_COMM, va_of_word
from allocator.mm_types import PAGE
from allocator.mmzone import PGLIST_DATA, ZONE
from machine import BusError
from tests.allocator.machines import boot

KERNEL = boot("2x64M")


def test_every_field_of_a_page_is_decoded_with_its_halves() -> None:
    head = KERNEL.zone(1, "DMA32").free_list(10, 1)[0]
    data = decode(KERNEL.m, PAGE, KERNEL.page(head).word)
    assert set(data) == {
        "flags", "lru", "mapping", "index", "private", "_mapcount", "_refcount", "mem_cgroup",
    }  # fmt: skip
    assert (data["private"], data["_mapcount"], data["_refcount"]) == (10, -129, 0)


def test_a_zone_shows_arrays_by_name_and_pointers_with_their_target() -> None:
    zone = KERNEL.zone(1, "DMA32")
    text = struct(KERNEL.memory, ["zone", "1:DMA32"]).text
    low, mid, high = zone.watermarks
    assert f"  watermark = {{{low}, {mid}, {high}}},\n" in text
    assert "        [Movable] = {next = 0x" in text
    assert "        [CMA] = {(empty)},\n" in text
    assert "<pageset of 1:DMA32 cpu 0>" in text
    assert f"    [nr_free_pages] = {zone.free_pages},\n" in text
    data = struct(KERNEL.memory, ["zone", "1:DMA32"]).data
    assert isinstance(data, dict)
    fields = data["fields"]
    assert isinstance(fields, dict)
    assert set(fields) == {field.name for field in ZONE}
    assert fields["zone_start_pfn"] == zone.start_pfn


def test_a_node_shows_its_zonelists_only_as_far_as_they_go() -> None:
    word = KERNEL.nodes[1].word
    data = decode(KERNEL.m, PGLIST_DATA, word)
    lists = data["node_zonelists"]
    assert isinstance(lists, list)
    fallback = lists[0]["_zonerefs"]
    assert [entry["zone_idx"] for entry in fallback[:3]] == [1, 1, 0]
    assert fallback[-1]["zone"] == 0
    text = struct(KERNEL.memory, ["pglist_data", "node:1"]).text
    assert "    [Movable] = {" in text
    assert "zone = 0x" in text


def test_strings_and_task_structures_are_readable() -> None:
    KERNEL.m[INIT_TASKS + TASK_COMM] = int.from_bytes(b"swapper", "little")
    text = struct(KERNEL.memory, ["task_struct", hex(INIT_TASKS << 3)]).text
    assert '  comm = "swapper",\n' in text
    cpus = struct(KERNEL.memory, ["cpu_block", hex(va_of_word(CPU_BLOCKS)), "2"]).data
    assert isinstance(cpus, list)
    assert [cpu["symbol"] for cpu in cpus] == ["cpu 0", "cpu 1"]


def test_the_globals_need_no_address() -> None:
    data = struct(KERNEL.memory, ["kernel_globals"]).data
    assert isinstance(data, dict)
    fields = data["fields"]
    assert isinstance(fields, dict)
    assert fields["max_pfn"] == 32736


def test_every_described_structure_can_be_printed_anywhere_in_ram() -> None:
    for name in STRUCTS:
        text = struct(KERNEL.memory, [name, "0x1009000"]).text
        assert text.startswith(f"struct {name} at 0xffff888001009000")
        assert text.endswith("}\n")


def test_addresses_where_no_structure_can_be_are_refused() -> None:
    for args, message in (
        (["socket", "0x1000"], "struct: one of page, zone"),
        (["zone"], "struct: zone address"),
        (["page", "0x1001"], "not 8-aligned"),
        (["page", "0x1000", "0"], "count is out of range"),
    ):
        with pytest.raises(BadRequest, match=message):
            struct(KERNEL.memory, args)
    with pytest.raises(BusError):
        struct(KERNEL.memory, ["pglist_data", "0x7fff000"])


def test_owners_of_memory_are_shown_field_by_field() -> None:
    kernel = boot("1x64M")
    file = kernel.create_file("notes", data=b"x" * 300)
    where = hex(file.inode << 3)
    text = struct(kernel.memory, ["inode", where]).text
    assert "i_size = 300" in text
    assert "nrpages = 1" in text, "of the address_space inside"
    process = kernel.create_process("p")
    assert "pid = 2" in struct(kernel.memory, ["process", hex(process.task << 3)]).text
