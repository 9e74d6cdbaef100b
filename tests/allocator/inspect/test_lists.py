# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/lists.py: walking lists that a guest may have written over."""

from __future__ import annotations

import pytest

from allocator.inspect.lists import free_head, free_list, pcp_list, walk
from allocator.kernel import Kernel
from allocator.layout import page_va
from allocator.mm_types import P_NEXT, P_PREV
from allocator.mmzone import Z_PAGESET
from tests.allocator.machines import boot


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x64M")


def test_a_sound_list_is_walked_whole(kernel: Kernel) -> None:
    zone = kernel.zone(1, "DMA32")
    found = walk(kernel.m, free_head(zone, 10, 1))
    assert found.fault == ""
    assert found.pfns == zone.free_list(10, 1) == free_list(zone, 10, 1)
    assert len(found.pfns) == 15


def test_a_ring_ends_at_the_frame_that_comes_again(kernel: Kernel) -> None:
    zone = kernel.zone(1, "DMA32")
    pfns = zone.free_list(10, 1)
    first, third = kernel.page(pfns[0]), kernel.page(pfns[2])
    kernel.m[third.word + P_NEXT] = page_va(first.pfn) + 8
    kernel.m[first.word + P_PREV] = page_va(third.pfn) + 8
    found = walk(kernel.m, free_head(zone, 10, 1))
    assert found.pfns == pfns[:1]
    assert f"frame {pfns[0]:#x}: prev is" in found.fault
    kernel.m[first.word + P_PREV] = kernel.m[free_head(zone, 10, 1) + 1]
    assert len(free_list(zone, 10, 1)) <= len(pfns)


def test_a_frame_on_the_list_twice_is_named(kernel: Kernel) -> None:
    zone = kernel.zone(1, "DMA32")
    pfns = zone.free_list(10, 1)
    word = kernel.page(pfns[1]).word
    kernel.m[word + P_NEXT] = page_va(pfns[1]) + 8
    found = walk(kernel.m, free_head(zone, 10, 1))
    assert found.pfns == pfns[:2]
    assert found.fault == f"frame {pfns[1]:#x} comes a second time"


@pytest.mark.parametrize("link", [0, 0x1234, -1, page_va(1 << 29) + 8, page_va(0x100)])
def test_a_link_that_is_no_list_entry_ends_the_walk(kernel: Kernel, link: int) -> None:
    zone = kernel.zone(1, "DMA32")
    pfns = zone.free_list(10, 1)
    kernel.m[kernel.page(pfns[3]).word + P_NEXT] = link
    found = walk(kernel.m, free_head(zone, 10, 1))
    assert found.pfns == pfns[:4]
    assert found.fault.startswith(f"frame {pfns[3]:#x}: next ")


def test_the_heads_prev_must_be_the_last_entry(kernel: Kernel) -> None:
    zone = kernel.zone(1, "DMA32")
    kernel.m[free_head(zone, 10, 1) + 1] += 64
    assert walk(kernel.m, free_head(zone, 10, 1)).fault.startswith("the head's prev is ")


def test_per_cpu_lists_are_followed_and_missing_pagesets_are_empty(kernel: Kernel) -> None:
    kernel.alloc_pages("GFP_KERNEL", nid=1)
    zone = kernel.zone(1, "DMA32")
    assert pcp_list(zone, 0, 0) == zone.pcp_list(0, 0) != []
    kernel.m[zone.word + Z_PAGESET] = 0
    assert pcp_list(zone, 0, 0) == []
