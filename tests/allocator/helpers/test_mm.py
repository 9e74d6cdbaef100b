# SPDX-License-Identifier: GPL-2.0-only
"""allocator/helpers/mm.py: finding pages, converting addresses, reading flags."""

from __future__ import annotations

import pytest

from allocator.helpers import mm
from allocator.mm_types import P_FLAGS, P_MAPPING, PG_LRU, PG_OWNER_PRIV_1, PG_SWAPBACKED
from allocator.views import Page
from tests.allocator.machines import boot

KERNEL = boot("2x64M")


def test_every_frame_of_a_present_section_is_walked_once_and_in_order() -> None:
    assert list(mm.for_each_valid_page_range(KERNEL)) == [(0, 32768)]
    pfns = [page.pfn for page in mm.for_each_page(KERNEL)]
    assert pfns == list(range(32768))
    pairs = mm.for_each_valid_pfn_and_page(KERNEL)
    assert next(pairs)[1] == Page(KERNEL.m, 0)


def test_valid_ranges_leave_absent_sections_out() -> None:
    kernel = boot(
        "node,nodeid=0,cpus=0,mem=128M", "node,nodeid=1,cpus=1,mem=4096M", append="mem=4608M"
    )
    ranges = list(mm.for_each_valid_page_range(kernel))
    assert ranges[0][0] == 0
    assert ranges[0][1] < ranges[1][0] == 1 << 20


def test_the_four_names_of_a_frame_convert_into_each_other() -> None:
    page = mm.pfn_to_page(KERNEL, 0x3210)
    assert mm.page_to_pfn(page) == 0x3210
    assert mm.page_to_phys(page) == mm.PFN_PHYS(0x3210) == 0x3210000
    assert mm.page_to_virt(page) == mm.pfn_to_virt(0x3210) == 0xFFFF888003210000
    assert mm.virt_to_page(KERNEL, 0xFFFF888003210FFF) == page
    assert mm.virt_to_pfn(0xFFFF888003210000) == mm.PHYS_PFN(0x3210ABC) == 0x3210
    assert mm.virt_to_phys(mm.phys_to_virt(0x1234)) == 0x1234
    assert mm.phys_to_page(KERNEL, 0x3210777) == page
    assert mm.page_of_address(KERNEL, page.address + 63) == page


def test_addresses_of_other_kinds_are_refused() -> None:
    with pytest.raises(LookupError, match="not in the direct map"):
        mm.virt_to_phys(0xFFFFEA0000000000)
    with pytest.raises(LookupError, match="not in vmemmap"):
        mm.page_of_address(KERNEL, 0xFFFF888000000000)
    with pytest.raises(LookupError, match="0x8000 has no struct page"):
        mm.pfn_to_page(KERNEL, 0x8000)
    assert mm.in_direct_map(KERNEL, 0xFFFF888000001000)
    assert not mm.in_direct_map(KERNEL, 0xFFFF888100000000)
    assert not mm.in_direct_map(KERNEL, 0x1000)


def test_flag_predicates_read_the_bit_of_their_name() -> None:
    page = KERNEL.alloc_pages("GFP_KERNEL")
    assert page is not None
    assert mm.decode_page_flags(page) == "0"
    word = page.word + P_FLAGS
    for name, bit in (("Locked", 0), ("LRU", 4), ("Slab", 9), ("Reserved", 12), ("HWPoison", 23)):
        KERNEL.m[word] |= 1 << bit
        assert getattr(mm, f"Page{name}")(page), name
        assert mm.get_page_flags(page) == 1 << bit
        KERNEL.m[word] &= ~(1 << bit)
        assert not getattr(mm, f"Page{name}")(page), name
    KERNEL.m[word] |= PG_LRU | PG_SWAPBACKED
    assert mm.decode_page_flags(page) == "PG_lru|PG_swapbacked"
    assert not mm.PageSwapCache(page)
    KERNEL.m[word] |= PG_OWNER_PRIV_1
    assert mm.PageSwapCache(page)
    KERNEL.m[word] &= ~(PG_LRU | PG_SWAPBACKED | PG_OWNER_PRIV_1)
    assert mm.page_flags(page) == page.flags
    KERNEL.free_pages(page)


def test_page_types_are_told_from_map_counts() -> None:
    head = next(page for page in mm.for_each_page(KERNEL) if page.buddy)
    assert mm.PageBuddy(head)
    assert not mm.PageTable(head)
    allocated = KERNEL.alloc_pages("GFP_KERNEL")
    assert allocated is not None
    for name in ("Buddy", "Balloon", "Kmemcg", "Table"):
        assert not getattr(mm, f"Page{name}")(allocated)
    KERNEL.free_pages(allocated)


def test_compound_pages_know_their_head_and_size() -> None:
    head = KERNEL.alloc_pages("GFP_KERNEL|__GFP_COMP", order=3)
    assert head is not None
    assert mm.PageHead(head)
    assert (mm.compound_order(head), mm.compound_nr(head), mm.page_size(head)) == (3, 8, 32768)
    for i in range(1, 8):
        tail = mm.pfn_to_page(KERNEL, head.pfn + i)
        assert mm.PageTail(tail)
        assert mm.PageCompound(tail)
        assert mm.compound_head(tail) == head
        assert mm.page_count(tail) == 1
        assert mm.compound_nr(tail) == 1
    KERNEL.m[head.word + P_MAPPING] = 1
    assert mm.PageAnon(tail)
    assert not mm.PageKsm(tail)
    KERNEL.m[head.word + P_MAPPING] = 3
    assert mm.PageKsm(tail)
    KERNEL.m[head.word + P_MAPPING] = 0
    KERNEL.free_pages(head, 3)
    assert not mm.PageCompound(tail)
    assert mm.compound_head(tail) == tail
    assert mm.totalram_pages(KERNEL) == sum(zone.managed_pages for zone in KERNEL.zones)
    assert mm.page_index(tail) == tail.index
