# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/frame.py: the state and the list of one frame."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.inspect import frame
from allocator.inspect.frame import describe_place, frame_report, locate
from allocator.kernel import Kernel
from allocator.kernel_globals import KERNEL_BASE
from allocator.mm_types import P_FLAGS
from tests.allocator.machines import boot


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x64M")


def test_a_free_frame_is_found_on_its_list_with_its_position(kernel: Kernel) -> None:
    zone = kernel.zone(1, "DMA32")
    pfns = zone.free_list(10, 1)
    place = locate(kernel.page(pfns[2] + 5))
    assert (place.state, place.head, place.order) == (frame.FREE, pfns[2], 10)
    assert (place.migratetype, place.position, place.length) == (1, 3, len(pfns))
    text = describe_place(kernel.page(pfns[2] + 5), place)
    assert text == (
        f"free, page 5 of an order-10 block at {pfns[2]:#x} on the Movable list, 3rd of {len(pfns)}"
    )
    head = kernel.page(pfns[0])
    assert describe_place(head, locate(head)).startswith("free, head of an order-10 block on the ")


def test_a_buddy_that_is_on_no_list_is_not_passed_over(kernel: Kernel) -> None:
    zone = kernel.zone(1, "DMA32")
    page = kernel.page(zone.free_list(10, 1)[0])
    kernel.m[page.word + 5] = 9
    place = locate(page)
    assert place.position == 0
    assert "NOT FOUND ON ANY LIST" in describe_place(page, place)


def test_per_cpu_pages_name_their_cpu(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL", nid=1, cpu=1)
    assert page is not None
    kernel.free_pages(page, cpu=1)
    place = locate(page)
    assert (place.state, place.cpu, place.position) == (frame.PER_CPU, 1, 1)
    assert "free, on the Unmovable list of cpu 1, 1st of " in describe_place(page, place)


def test_allocated_compound_and_inner_pages_are_told_apart(kernel: Kernel) -> None:
    compound = kernel.alloc_pages("GFP_KERNEL|__GFP_COMP", 2)
    plain = kernel.alloc_pages("GFP_KERNEL", 2)
    assert compound is not None
    assert plain is not None
    tail, inner = kernel.page(compound.pfn + 3), kernel.page(plain.pfn + 3)
    assert describe_place(compound, locate(compound)) == (
        "allocated, head of an order-2 compound page, refcount 1"
    )
    assert describe_place(tail, locate(tail)) == (
        f"allocated, tail page 3 of the order-2 compound page at {compound.pfn:#x}"
    )
    assert locate(plain).state == frame.ALLOCATED
    assert locate(inner).state == frame.UNREFERENCED


def test_guard_pages_are_on_no_list_but_known() -> None:
    kernel = boot("1x64M", append="debug_pagealloc=on debug_guardpage_minorder=2")
    page = kernel.alloc_pages("GFP_KERNEL")
    assert page is not None
    states = {locate(kernel.page(page.pfn + i)).state for i in range(1, 4)}
    assert frame.GUARD in states


def test_the_report_shows_words_pointers_and_contents(kernel: Kernel) -> None:
    zone = kernel.zone(1, "DMA32")
    pfn = zone.free_list(10, 1)[0]
    text = frame_report(kernel, pfn).text
    lines = text.splitlines()
    assert lines[0] == f"frame {pfn:#x}  node 1  zone DMA32  pageblock {pfn >> 9} (Movable)"
    assert lines[2].startswith(f"struct page at {kernel.page(pfn).address:#x} (physical 0x")
    assert "(zone 1:DMA32 free_area[10].free_list[Movable])" in text
    assert "private     10 (order)    page_type  PageBuddy    refcount 0" in text
    kernel_data = frame_report(kernel, KERNEL_BASE >> 12)
    assert "\nreserved\nholds kernel_globals" in kernel_data.text
    data = kernel_data.data
    assert isinstance(data, dict)
    assert data["state"] == "reserved"
    assert data["flag_names"] == ["reserved"]


def test_the_owner_is_told_when_owners_are_kept() -> None:
    kernel = boot("1x64M", append="page_owner=on")
    page = kernel.alloc_pages("GFP_ATOMIC", 1)
    assert page is not None
    assert "owner: pid 0, order 1, mask 0x480020(GFP_ATOMIC)" in frame_report(kernel, page.pfn).text


def test_frames_without_a_struct_page_are_refused(kernel: Kernel) -> None:
    for pfn in (0x8000, -1, 1 << 40):
        with pytest.raises(BadRequest, match="no memory section is present there"):
            frame_report(kernel, pfn)


def test_a_page_that_names_a_missing_node_is_still_described(kernel: Kernel) -> None:
    page = kernel.page(kernel.zone(1, "DMA32").free_list(10, 1)[0])
    kernel.m[page.word + P_FLAGS] |= 0x15 << 58
    assert frame.zone_of(page) is None
    assert "NOT FOUND ON ANY LIST" in frame_report(kernel, page.pfn).text
