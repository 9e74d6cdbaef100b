# SPDX-License-Identifier: GPL-2.0-only
"""allocator/views.py: what people see of nodes, zones and pages."""

from __future__ import annotations

from allocator.layout import PAGE_OFFSET, unsigned
from allocator.mm_types import P_NEXT
from allocator.mmzone import FA_WORDS, Z_FREE_AREA
from allocator.views import for_each_node, for_each_zone, list_pfns, pfn_valid
from tests.allocator.machines import boot

KERNEL = boot(
    "node,nodeid=0,cpus=0,mem=64M", "node,nodeid=1,cpus=1,mem=128M", "node,nodeid=2,cpus=2,mem=0"
)


def test_nodes_and_zones_are_listed_in_id_order() -> None:
    assert [node.nid for node in for_each_node(KERNEL.m)] == [0, 1, 2]
    assert [(z.nid, z.name) for z in for_each_zone(KERNEL.m)] == [
        (0, "DMA"),
        (0, "DMA32"),
        (1, "DMA32"),
    ]
    assert [node.node_id for node in KERNEL.nodes] == [0, 1, 2]
    assert KERNEL.nodes[2].present_pages == 0


def test_page_addresses_are_shown_unsigned() -> None:
    page = KERNEL.page(0x2345)
    assert page.address == 0xFFFFEA0000000000 + 0x2345 * 64
    assert page.phys == 0x2345000
    assert page.virt == unsigned(PAGE_OFFSET) + 0x2345000


def test_frame_of_a_hole_or_beyond_ram_has_no_struct_page() -> None:
    assert pfn_valid(KERNEL.m, 0)
    assert not pfn_valid(KERNEL.m, -1)
    assert not pfn_valid(KERNEL.m, 4096 << 10)


def test_free_lists_add_up_to_the_free_pages() -> None:
    for node in KERNEL.nodes:
        total = 0
        for zone in node.zones:
            pages = sum(len(pfns) << order for (order, _), pfns in zone.free_lists().items())
            assert pages == sum(n << order for order, n in enumerate(zone.nr_free()))
            total += pages
        assert total == node.free_pages


def test_walk_of_a_damaged_list_stops_instead_of_failing() -> None:
    zone = KERNEL.zone(1, "DMA32")
    head = zone.word + Z_FREE_AREA + 10 * FA_WORDS + 2
    pfns = list(list_pfns(KERNEL.m, head))
    word = KERNEL.page(pfns[2]).word + P_NEXT
    saved = KERNEL.m[word]
    KERNEL.m[word] = 0x1234
    assert list(list_pfns(KERNEL.m, head)) == pfns[:3]
    KERNEL.m[word] = KERNEL.page(pfns[0]).m[KERNEL.page(pfns[1]).word + P_NEXT]
    assert len(list(list_pfns(KERNEL.m, head, limit=50))) == 50
    KERNEL.m[word] = saved
