# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/buddyinfo.py: fragmentation figures and mixed pageblocks.

The text of buddyinfo and pagetypeinfo is compared with recordings in test_recorded.py.
"""

from __future__ import annotations

from allocator.inspect.buddyinfo import (
    block_counts,
    buddyinfo,
    extfrag_index,
    fragmentation_index,
    mixed_counts,
    pagetypeinfo,
    thousandths,
    unusable_free_index,
    unusable_index,
)
from allocator.kernel import Kernel
from allocator.mmzone import FA_WORDS, MAX_ORDER, Z_FREE_AREA
from allocator.pageblock import set_pageblock_migratetype
from allocator.views import Zone
from tests.allocator.machines import boot


def with_free_blocks(kernel: Kernel, counts: list[int]) -> Zone:
    """A zone whose nr_free says this; the lists do not matter to the indices."""
    zone = kernel.zone(1, "DMA32")
    for order in range(MAX_ORDER):
        count = counts[order] if order < len(counts) else 0
        kernel.m[zone.word + Z_FREE_AREA + order * FA_WORDS + FA_WORDS - 1] = count
    return zone


def test_the_fragmentation_index_tells_want_of_memory_from_fragmentation() -> None:
    kernel = boot("2x64M")
    scattered = with_free_blocks(kernel, [1000])
    # 1000 single pages: an order-3 request fails although there are 125 times its pages
    assert fragmentation_index(scattered, 3) == 1000 - (1000 + 1000 * 1000 // 8) // 1000
    assert fragmentation_index(scattered, 0) == -1000
    scarce = with_free_blocks(kernel, [2])
    assert fragmentation_index(scarce, 10) == 1000 - (1000 + 2 * 1000 // 1024) // 2
    assert fragmentation_index(with_free_blocks(kernel, []), 4) == 0


def test_the_unusable_index_is_the_share_of_free_memory_in_smaller_blocks() -> None:
    kernel = boot("2x64M")
    zone = with_free_blocks(kernel, [4, 2, 0, 1])
    assert [unusable_free_index(zone, order) for order in range(5)] == [0, 250, 500, 500, 1000]
    assert unusable_free_index(with_free_blocks(kernel, []), 0) == 1000


def test_index_text_is_the_kernels_with_the_sign_where_c_puts_it() -> None:
    assert [thousandths(i) for i in (-1000, -500, 0, 7, 1000)] == [
        "-1.000",
        "0.-500",
        "0.000",
        "0.007",
        "1.000",
    ]
    kernel = boot("2x64M")
    with_free_blocks(kernel, [4, 2, 0, 1])
    line = unusable_index(kernel).text.splitlines()[-1]
    assert line == ("Node 1, zone    DMA32 0.000 0.250 0.500 0.500 " + "1.000 " * 7)
    assert (
        extfrag_index(kernel)
        .text.splitlines()[-1]
        .startswith("Node 1, zone    DMA32 -1.000 -1.000 -1.000 -1.000 ")
    )


def test_nodes_without_memory_have_no_lines() -> None:
    kernel = boot("node,nodeid=0,cpus=0,mem=64M", "node,nodeid=1,cpus=1,mem=0")
    for report in (buddyinfo(kernel), pagetypeinfo(kernel), unusable_index(kernel)):
        assert "Node 0" in report.text
        assert "Node 1" not in report.text.replace("Node    1", "Node 1")


def test_every_pageblock_with_a_frame_of_the_zone_is_counted_once() -> None:
    kernel = boot("2x64M")
    zone = kernel.zone(1, "DMA32")
    assert block_counts(zone) == [0, 32, 0, 0, 0, 0]
    set_pageblock_migratetype(kernel.m, zone.start_pfn + 512, 2)
    set_pageblock_migratetype(kernel.m, zone.start_pfn + 1024, 5)
    assert block_counts(zone) == [0, 30, 1, 0, 0, 1]


def test_mixed_pageblocks_hold_a_page_of_another_type() -> None:
    kernel = boot("2x64M", append="page_owner=on")
    zone = kernel.zone(1, "DMA32")
    assert mixed_counts(zone) == [0] * 6
    assert kernel.alloc_pages("GFP_KERNEL", 0, nid=1) is not None
    assert mixed_counts(zone) == [0] * 6
    page = kernel.alloc_pages("GFP_HIGHUSER_MOVABLE", 9, nid=1)
    assert page is not None
    set_pageblock_migratetype(kernel.m, page.pfn, 0)
    assert mixed_counts(zone) == [1, 0, 0, 0, 0, 0]
    assert "\nNumber of mixed blocks " in pagetypeinfo(kernel).text
    assert "mixed" not in pagetypeinfo(boot("1x64M")).text
