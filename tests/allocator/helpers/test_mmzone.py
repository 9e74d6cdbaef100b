# SPDX-License-Identifier: GPL-2.0-only
"""allocator/helpers/mmzone.py: nodes, zones, sections and free lists."""

from __future__ import annotations

import pytest

from allocator.helpers import mmzone
from allocator.layout import PAGE_OFFSET, unsigned
from allocator.mmzone import ZONELIST_NOFALLBACK
from tests.allocator.machines import boot

KERNEL = boot(
    "node,nodeid=0,cpus=0,mem=64M", "node,nodeid=1,cpus=1,mem=128M", "node,nodeid=2,cpus=2,mem=0"
)


def test_online_nodes_and_all_their_zones_are_walked() -> None:
    assert [node.nid for node in mmzone.for_each_online_pgdat(KERNEL)] == [0, 1, 2]
    assert len(list(mmzone.for_each_zone(KERNEL))) == 12
    populated = [(z.nid, z.name) for z in mmzone.for_each_populated_zone(KERNEL)]
    assert populated == [(0, "DMA"), (0, "DMA32"), (1, "DMA32")]
    with pytest.raises(LookupError, match="node 3 has no pglist_data"):
        mmzone.node_data(KERNEL, 3)


def test_watermarks_come_by_name() -> None:
    zone = KERNEL.zone(1, "DMA32")
    marks = (
        mmzone.min_wmark_pages(zone),
        mmzone.low_wmark_pages(zone),
        mmzone.high_wmark_pages(zone),
    )
    assert marks == zone.watermarks
    assert 0 < marks[0] < marks[1] < marks[2]


def test_zonelists_are_walked_in_search_order() -> None:
    def names(nid: int, which: int) -> list[tuple[int, str]]:
        found = mmzone.for_each_zone_zonelist(KERNEL, nid, which)
        return [(zone.nid, zone.name) for zone, index in found if index == zone.zid]

    assert names(1, 0) == [(1, "DMA32"), (0, "DMA32"), (0, "DMA")]
    assert names(1, ZONELIST_NOFALLBACK) == [(1, "DMA32")]
    assert names(2, ZONELIST_NOFALLBACK) == []


def test_zones_know_their_index_end_and_address() -> None:
    zone = KERNEL.zone(0, "DMA32")
    assert mmzone.zone_idx(zone) == 1
    assert mmzone.zone_end_pfn(zone) == zone.start_pfn + zone.spanned_pages
    address = unsigned(PAGE_OFFSET + (zone.word << 3))
    found = mmzone.zone_of_address(KERNEL, address)
    assert found is not None
    assert (found.nid, found.name) == (0, "DMA32")
    assert mmzone.zone_of_address(KERNEL, address + 8) is None


def test_free_pages_of_a_zone_are_all_pages_of_its_free_blocks() -> None:
    zone = KERNEL.zone(0, "DMA32")
    pages = [page.pfn for page in mmzone.for_each_free_page(zone)]
    assert len(pages) == len(set(pages)) == zone.free_pages
    blocks = list(mmzone.for_each_free_block(zone))
    assert sum(1 << order for _, order, _ in blocks) == len(pages)
    assert all(head.buddy and head.private == order for head, order, _ in blocks)


def test_pages_on_per_cpu_lists_are_walked_by_cpu() -> None:
    kernel = boot("2x64M")
    page = kernel.alloc_pages("GFP_KERNEL", nid=1, cpu=1)
    assert page is not None
    zone = kernel.zone(1, "DMA32")
    listed = list(mmzone.for_each_pcp_page(zone, 1))
    assert len(listed) == zone.pcp_count(1) > 0
    assert {mt for _, mt in listed} == {0}
    assert list(mmzone.for_each_pcp_page(zone, 0)) == []


def test_pageblocks_are_walked_with_their_type() -> None:
    zone = KERNEL.zone(0, "DMA")
    blocks = list(mmzone.for_each_pageblock(zone))
    assert [pfn for pfn, _ in blocks] == list(range(0, 4096, 512))
    assert [mt for _, mt in blocks] == [0, 1, 1, 1, 1, 1, 1, 1]
    assert mmzone.get_pageblock_migratetype(KERNEL.page(0x200)) == 1


def test_sections_are_128_mib_and_say_what_they_are() -> None:
    assert list(mmzone.for_each_present_section(KERNEL)) == [0, 1]
    assert mmzone.present_section_nr(KERNEL, 1)
    assert not mmzone.present_section_nr(KERNEL, 2)
    assert not mmzone.valid_section_nr(KERNEL, -1)
    assert mmzone.pfn_to_section_nr(0x8000) == 1
    assert mmzone.section_nr_to_pfn(1) == 0x8000
    assert mmzone.section_mem_map_addr(KERNEL, 0) == 0xFFFFEA0000000000
    flags = "SECTION_MARKED_PRESENT|SECTION_HAS_MEM_MAP|SECTION_IS_ONLINE"
    assert mmzone.decode_section_flags(KERNEL, 0) == flags
    assert mmzone.decode_section_flags(KERNEL, 9) == "0"
