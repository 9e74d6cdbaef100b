# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/memory.py: reading and searching guest memory."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.inspect.memory import MAX_HITS, rd, read_at, search
from allocator.kernel_globals import G_PGD
from machine import BusError
from tests.allocator.machines import boot

KERNEL = boot("2x64M")
MEMORY = KERNEL.memory
FRAME = 0x3456000
MEMORY.write(FRAME, b"frame 0x3456 says hello" + bytes(9) + bytes(range(16)))


def test_words_come_with_their_characters() -> None:
    assert rd(MEMORY, [hex(FRAME), "2"]).text == (
        f"         3456000:  {int.from_bytes(b'frame 0x', 'little'):016x} "
        f"{int.from_bytes(b'3456 say', 'little'):016x}   frame 0x3456 say\n"
    )
    assert rd(MEMORY, ["-8", hex(FRAME + 32), "3"]).text == (
        f"{FRAME + 32:16x}:  00 01 02{' ' * 39}   ...\n"
    )
    assert rd(MEMORY, ["-16", hex(FRAME + 32), "2"]).text.split()[1:3] == ["0100", "0302"]
    assert rd(MEMORY, ["-32", hex(FRAME + 32)]).text.split()[1] == "03020100"


def test_virtual_addresses_read_the_same_bytes_as_physical_ones() -> None:
    want = MEMORY.read(FRAME, 16)
    assert read_at(MEMORY, 0xFFFF888000000000 + FRAME, 16) == want
    page = KERNEL.page(0x1000)
    assert read_at(MEMORY, page.address, 64) == MEMORY.read(page.word << 3, 64)
    assert len(read_at(MEMORY, page.address - 32, 4096 + 64)) == 4096 + 64


def test_pointers_are_named_on_request() -> None:
    zone = KERNEL.zone(0, "DMA32")
    text = rd(MEMORY, ["-s", "0:DMA32", "12"]).text
    assert f"{0xFFFF888000000000 + (KERNEL.nodes[0].word << 3):016x}  zone 0:DMA\n" in text
    assert zone.watermarks[0] == int(text.split()[1], 16)


def test_what_is_not_there_cannot_be_read() -> None:
    with pytest.raises(BusError, match="no RAM behind 16 bytes at physical 0x7fffff8"):
        rd(MEMORY, ["0x7fffff8", "2"])
    with pytest.raises(BusError, match="nothing is mapped at 0xffffffff81000000"):
        rd(MEMORY, ["0xffffffff81000000"])
    for args in ([], ["1", "2", "3"], ["0x1000", "0"], ["0x1000", "0x7fffffff"]):
        with pytest.raises(BadRequest, match="rd: "):
            rd(MEMORY, args)


def test_addresses_of_other_maps_go_through_the_page_tables() -> None:
    root = KERNEL.m[G_PGD]
    slot = root + 8 * ((0xFFFFC90000000000 >> 39) & 511)
    MEMORY.write_u64(slot, MEMORY.read_u64(root + 8 * ((0xFFFF888000000000 >> 39) & 511)))
    assert read_at(MEMORY, 0xFFFFC90000000000 + FRAME, 5) == b"frame"
    MEMORY.write_u64(slot, 0)


def test_search_finds_words_bytes_and_masked_words() -> None:
    value = int.from_bytes(b"frame 0x", "little")
    data = search(MEMORY, [hex(value)]).data
    assert isinstance(data, list)
    assert [hit["physical"] for hit in data] == [FRAME]
    masked = search(MEMORY, ["-m", "0xffff", hex(value ^ 0x1111)]).data
    assert isinstance(masked, list)
    assert FRAME in [hit["physical"] for hit in masked]
    text = search(MEMORY, ["-c", "says hello"]).data
    assert isinstance(text, list)
    assert [hit["physical"] for hit in text] == [FRAME + 13]
    assert search(MEMORY, ["0xdeadbeefcafebabe"]).text == ""


def test_hits_in_kernel_structures_are_named() -> None:
    zone = KERNEL.zone(1, "DMA32")
    pfn = zone.free_list(10, 1)[0]
    text = search(MEMORY, [hex(KERNEL.page(pfn).address + 8)]).text
    assert "zone 1:DMA32 free_area[10].free_list[Movable]\n" in text


def test_a_search_gives_at_most_ten_thousand_hits() -> None:
    data = search(MEMORY, ["0"]).data
    assert isinstance(data, list)
    assert len(data) == MAX_HITS


def test_arguments_of_search_are_checked() -> None:
    for args in ([], ["-c"], ["-c", ""], ["1", "2"], ["-m", "1"]):
        with pytest.raises(BadRequest):
            search(MEMORY, args)
