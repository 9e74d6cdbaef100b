# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/kmem.py: lists proved against counts, and all pages listed."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.inspect.kmem import frame_of_address, kmem, kmem_free, kmem_info, kmem_pages
from allocator.inspect.lists import free_head
from allocator.kernel import Kernel
from allocator.mm_types import P_COUNTS, P_FLAGS, P_NEXT, P_PRIVATE
from allocator.mmzone import FA_WORDS, Z_FREE_AREA, Z_VM_STAT
from tests.allocator.machines import boot


@pytest.fixture
def kernel() -> Kernel:
    kernel = boot("2x64M")
    for order in (0, 1, 2, 0):
        kernel.alloc_pages("GFP_KERNEL", order, nid=1, cpu=1)
    return kernel


def faults(kernel: Kernel) -> list[str]:
    report = kmem_free(kernel)
    data = report.data
    assert isinstance(data, dict)
    found = data["faults"]
    assert isinstance(found, list)
    assert report.sound == (not found)
    assert all(f"kmem: {fault}\n" in report.text for fault in found)
    return found


def test_a_sound_machine_is_verified_zone_by_zone(kernel: Kernel) -> None:
    assert faults(kernel) == []
    text = kmem_free(kernel).text
    assert text.count("(verified)") == 3
    assert "NOT VERIFIED" not in text
    assert text.startswith("NODE\n  0\nZONE  NAME        SIZE    FREE      MEM_MAP  ")
    zone = kernel.zone(1, "DMA32")
    row = f" 10    4096k  {0xFFFF888000000000 + ((zone.word + Z_FREE_AREA + 130) << 3):016x}"
    assert row in text


def test_each_kind_of_damage_is_named_with_its_frame(kernel: Kernel) -> None:
    zone = kernel.zone(1, "DMA32")
    pfn = zone.free_list(10, 1)[4]
    word = kernel.page(pfn).word
    where = "zone 1:DMA32 free_area[10].free_list[Movable]"
    for offset, value, message in (
        (P_COUNTS, 0xFFFFFFFF, f"{where}: frame {pfn:#x} is not PageBuddy of order 10"),
        (P_PRIVATE, 3, f"{where}: frame {pfn:#x} is not PageBuddy of order 10"),
        (P_FLAGS, 1 << 56, f"{where}: frame {pfn:#x} belongs to 0:DMA32"),
    ):
        saved = kernel.m[word + offset]
        kernel.m[word + offset] = value
        assert faults(kernel) == [message]
        kernel.m[word + offset] = saved
    saved = kernel.m[word + P_NEXT]
    kernel.m[word + P_NEXT] = 0
    found = faults(kernel)
    assert found[0].startswith(f"{where}: frame {pfn:#x}: next 0x0 is no struct page")
    assert "nr_free 14, but 5 blocks are on its lists" in found[1]
    assert "pages are on its lists, but nr_free_pages" in found[2]
    kernel.m[word + P_NEXT] = saved
    assert faults(kernel) == []


def test_counts_that_differ_from_the_lists_are_named(kernel: Kernel) -> None:
    zone = kernel.zone(1, "DMA32")
    at = zone.word + Z_FREE_AREA + 10 * FA_WORDS + FA_WORDS - 1
    kernel.m[at] += 1
    assert faults(kernel) == [
        "zone 1:DMA32 free_area[10]: nr_free 15, but 14 blocks are on its lists"
    ]
    kernel.m[at] -= 1
    kernel.m[zone.word + Z_VM_STAT] += 7
    assert len(faults(kernel)) == 1
    assert "NOT VERIFIED" in kmem_free(kernel).text


def test_a_head_that_points_into_the_void_does_no_harm(kernel: Kernel) -> None:
    kernel.m[free_head(kernel.zone(0, "DMA32"), 10, 1)] = 1 << 60
    assert "the head's next 0x1000000000000000 is no struct page's lru" in faults(kernel)[0]


def test_every_struct_page_has_a_line(kernel: Kernel) -> None:
    report = kmem_pages(kernel.memory)
    lines = report.text.splitlines()
    assert lines[0].split() == ["PAGE", "PHYSICAL", "MAPPING", "INDEX", "CNT", "FLAGS"]
    assert len(lines) == 32768 + 1
    assert isinstance(report.data, list)
    entry = report.data[0x1000]
    assert isinstance(entry, dict)
    assert (entry["physical"], entry["count"], entry["flag_names"]) == (0x1000000, 1, ["reserved"])


def test_the_summary_accounts_for_all_managed_pages(kernel: Kernel) -> None:
    data = kmem_info(kernel).data
    assert isinstance(data, dict)
    zones = data["zones"]
    assert isinstance(zones, list)
    assert sum(z["managed"] for z in zones) == data["total"]
    assert all(z["free"] + z["used"] == z["managed"] for z in zones)


def test_addresses_of_all_kinds_name_their_frame(kernel: Kernel) -> None:
    page = kernel.page(0x1234)
    for address in (0x1234ABC, 0xFFFF888001234FFF, page.address, page.address + 63):
        assert frame_of_address(kernel, address) == 0x1234
    assert kmem(kernel, kernel.memory, ["pfn:0x1234"]).text.startswith("frame 0x1234  node 0")
    for args in ([], ["-x", "-f"], ["-q"]):
        with pytest.raises(BadRequest):
            kmem(kernel, kernel.memory, args)
