# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/kpage.py: the binary files as fs/proc/page.c encodes them."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.inspect import kpage
from allocator.kernel import Kernel
from allocator.kernel_globals import G_MAX_PFN
from allocator.layout import EMPTY_ZERO_PAGE
from allocator.mm_types import P_COUNTS, P_FLAGS, P_MAPPING, PG_LRU, PG_SLAB
from tests.allocator.machines import boot


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x64M")


def flags(kernel: Kernel, pfn: int) -> set[str]:
    value = int(kpage.kpageflags_array(kernel.memory)[pfn])
    return set(kpage.flag_names(value).split(",")) - {""}


def test_the_files_have_eight_bytes_a_frame_up_to_max_pfn(kernel: Kernel) -> None:
    for report in (kpage.kpageflags(kernel.memory), kpage.kpagecount(kernel.memory)):
        assert report.raw is not None
        assert len(report.raw) == 8 * kernel.m[G_MAX_PFN]
    raw = kpage.kpageflags(kernel.memory).raw
    assert raw is not None
    assert raw[8 * 0x1000 : 8 * 0x1001] == (1 << 32).to_bytes(8, "little")


def test_every_page_of_a_free_block_is_buddy_and_none_else(kernel: Kernel) -> None:
    kernel.drain_all_pages()
    free = sum(zone.free_pages for zone in kernel.zones)
    array = kpage.kpageflags_array(kernel.memory)
    assert int(((array >> np.uint64(kpage.KPF_BUDDY)) & np.uint64(1)).sum()) == free


def test_a_stale_order_does_not_make_buddies_of_unaligned_pages(kernel: Kernel) -> None:
    zone = kernel.zone(1, "DMA32")
    pfn = zone.free_list(0, 1)[0]
    before = kpage.kpageflags_array(kernel.memory)
    kernel.m[kernel.page(pfn).word + 5] = 60
    after = kpage.kpageflags_array(kernel.memory)
    assert np.array_equal(before, after)


def test_compound_pages_are_marked_head_and_tails(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL|__GFP_COMP", 2)
    assert page is not None
    assert flags(kernel, page.pfn) == {"compound_head"}
    assert flags(kernel, page.pfn + 3) == {"compound_tail"}
    kernel.m[page.word + P_FLAGS] |= PG_SLAB
    assert flags(kernel, page.pfn) == {"compound_head", "slab"}
    assert flags(kernel, page.pfn + 3) == {"compound_tail", "slab"}
    kernel.m[page.word + P_FLAGS] = (kernel.m[page.word + P_FLAGS] & ~PG_SLAB) | PG_LRU
    assert flags(kernel, page.pfn + 1) == {"compound_tail", "thp"}
    kernel.m[page.word + 8 + 2] = kernel.m[page.word + 8 + 2] & ~0xFF | kpage.HUGETLB_PAGE_DTOR
    assert flags(kernel, page.pfn + 1) == {"compound_tail", "huge"}


def test_anonymous_mapped_and_ksm_pages_are_told_by_mapping_and_mapcount(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_HIGHUSER_MOVABLE")
    assert page is not None
    word = page.word
    kernel.m[word + P_COUNTS] = (1 << 32) | 1
    kernel.m[word + P_MAPPING] = 0x1001
    assert flags(kernel, page.pfn) == {"mmap", "anon"}
    kernel.m[word + P_MAPPING] = 0x1003
    assert flags(kernel, page.pfn) == {"mmap", "anon", "ksm"}
    assert int(kpage.kpagecount_array(kernel.memory)[page.pfn]) == 2


def test_counts_of_free_pages_are_what_4_20_prints(kernel: Kernel) -> None:
    counts = kpage.kpagecount_array(kernel.memory)
    head = kernel.zone(1, "DMA32").free_list(10, 1)[0]
    assert int(counts[head]) == 0xFFFFFFFFFFFFFF80
    assert int(counts[head + 1]) == 0
    page = kernel.alloc_pages("GFP_KERNEL")
    assert page is not None
    kernel.m[page.word + P_FLAGS] |= PG_SLAB
    assert int(kpage.kpagecount_array(kernel.memory)[page.pfn]) == 0


def test_the_zero_page_and_holes_have_their_own_marks() -> None:
    kernel = boot("node,nodeid=0,cpus=0,mem=4G", append="mem=4608M")
    array = kpage.kpageflags_array(kernel.memory)
    assert int(array[EMPTY_ZERO_PAGE >> 9]) >> kpage.KPF_ZERO_PAGE & 1
    hole = 0xE0000
    assert int(array[hole]) == 1 << kpage.KPF_NOPAGE
    assert not int(array[0x100]) >> kpage.KPF_NOPAGE & 1


def test_page_types_sums_up_every_frame_once(kernel: Kernel) -> None:
    types = kpage.page_types(kernel.memory)
    assert sum(count for _, count, _ in types) == kernel.m[G_MAX_PFN]
    assert {name for _, _, name in types} >= {"buddy", "reserved"}
    assert kpage.flag_names((1 << 39) | 1) == "locked,uncached"
