# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/vtop.py: page walks level by level."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.inspect.vtop import vtop, walk
from allocator.kernel import Kernel
from allocator.kernel_globals import G_PGD
from machine import PageTableBuilder, translate
from machine.mmu import PTE_NX, PTE_P, PTE_RW, PTE_US
from tests.allocator.machines import boot


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x64M")


def test_the_walk_agrees_with_the_mmus_own_for_every_page_size(kernel: Kernel) -> None:
    frames = iter(range(0x3000000, 0x3100000, 4096))
    tables = PageTableBuilder(kernel.memory, lambda: next(frames))
    tables.map(0x400000, 0x2000000, 0x200000, PTE_P | PTE_US)
    tables.map(0x7FFF00001000, 0x2001000, 0x1000, PTE_P | PTE_RW | PTE_NX)
    tables.map(1 << 39, 0, 1 << 30, PTE_P)
    for va, size in ((0x412345, 1 << 21), (0x7FFF00001234, 1 << 12), ((1 << 39) + 77, 1 << 30)):
        found = walk(kernel.memory, tables.root, va)
        other = translate(kernel.memory, tables.root, va)
        assert other is not None
        assert (found.phys, found.size) == (other.phys, other.page_size) == (other.phys, size)
        assert tuple(level.address for level in found.levels) == other.entries
    text = vtop(kernel.memory, ["0x7fff00001234", hex(tables.root)]).text
    assert "   PTE: " in text
    assert "(PRESENT|RW|NX)" in text
    assert "  PAGE: 2001000  (4K)" in text


def test_an_unmapped_address_shows_how_far_the_walk_came(kernel: Kernel) -> None:
    report = vtop(kernel.memory, ["0xffff900000000000"])
    assert not report.sound
    assert "(not mapped)" in report.text
    assert "PGD entry not present" in report.text
    assert "not a canonical address" in vtop(kernel.memory, ["0x800000000000"]).text
    found = walk(kernel.memory, 1 << 45, 0)
    assert (found.phys, found.reason) == (-1, f"the PGD at {1 << 45:#x} is not in RAM")


def test_reserved_bits_stop_the_walk(kernel: Kernel) -> None:
    root = kernel.m[G_PGD]
    kernel.memory.write_u64(root + 8 * 256, PTE_P | 1 << 51)
    found = walk(kernel.memory, root, 0xFFFF800000000000)
    assert found.reason == "reserved bit set in the PGD entry"


def test_kernel_addresses_are_named_with_their_frame(kernel: Kernel) -> None:
    text = vtop(kernel.memory, ["0:DMA32"]).text
    assert "\nzone 0:DMA32\n" in text
    assert "zone DMA32  reserved" in text
    data = vtop(kernel.memory, ["page:0x1000"]).data
    assert isinstance(data, dict)
    assert data["physical"] == kernel.page(0x1000).word << 3
    assert data["symbol"] == "struct page of frame 0x1000"


def test_a_walk_sets_no_accessed_bit(kernel: Kernel) -> None:
    before = bytes(kernel.memory.bytes)
    vtop(kernel.memory, ["0xffff888003000000"])
    assert bytes(kernel.memory.bytes) == before


def test_arguments_are_checked(kernel: Kernel) -> None:
    for args in ([], ["1", "2", "3"]):
        with pytest.raises(BadRequest, match="vtop: a virtual address"):
            vtop(kernel.memory, args)
    kernel.m[G_PGD] = 0
    with pytest.raises(BadRequest, match="no page tables"):
        vtop(kernel.memory, ["0x1000"])
