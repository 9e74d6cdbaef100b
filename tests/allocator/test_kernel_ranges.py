# SPDX-License-Identifier: GPL-2.0-only
"""allocator/kernel_ranges.py: isolation, contiguous ranges, CMA and fragments from Python."""

from __future__ import annotations

import pytest

from allocator.errors import BadPage, BadRequest
from allocator.kernel import Kernel
from tests.allocator.machines import boot

pytestmark = pytest.mark.both_engines


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x64M")


def free_range(kernel: Kernel) -> int:
    """A free MAX_ORDER block of node 1."""
    return kernel.zone(1, "DMA32").free_list(10, 1)[-1]


def test_isolated_range_is_not_handed_out_until_it_is_undone(kernel: Kernel) -> None:
    start = free_range(kernel)
    free = kernel.nr_free_pages
    assert kernel.start_isolate_page_range(start, start + 1024)
    assert kernel.nr_free_pages == free - 1024
    assert not kernel.start_isolate_page_range(start, start + 512)
    kernel.undo_isolate_page_range(start, start + 1024)
    assert kernel.nr_free_pages == free


def test_contiguous_range_is_exactly_the_frames_asked_for(kernel: Kernel) -> None:
    start = free_range(kernel)
    assert kernel.alloc_contig_range(start + 3, start + 700)
    held = [kernel.page(start + i).refcount for i in (2, 3, 699, 700)]
    assert held == [0, 1, 1, 0]
    assert not kernel.alloc_contig_range(start, start + 10)
    assert kernel.free_contig_range(start + 3, 697) == 0


@pytest.mark.parametrize(
    ("start", "end", "why"),
    [
        (1, 513, "512-page blocks"),
        (1024, 1024, "512-page blocks"),
        (-512, 512, "512-page blocks"),
        (0, 8192, "more than one zone"),
        (1 << 30, (1 << 30) + 512, "no struct page"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(
    kernel: Kernel, start: int, end: int, why: str
) -> None:
    with pytest.raises(BadRequest, match=why):
        kernel.start_isolate_page_range(start, end)


def test_cma_area_gives_and_takes_back_aligned_pages() -> None:
    kernel = boot("1x128M", append="cma=16M")
    page = kernel.cma_alloc(0, 33, align=4)
    assert page is not None
    assert page.pfn % 16 == 0
    assert not kernel.cma_release(0, page.pfn - 4096, 33)
    assert kernel.cma_release(0, page, 33)
    with pytest.raises(BadRequest, match="no CMA area 1"):
        kernel.cma_alloc(1, 1)
    with pytest.raises(BadRequest, match="aligned to order 20"):
        kernel.cma_alloc(0, 1, align=20)


def test_fragments_share_a_block_that_the_last_of_them_frees(kernel: Kernel) -> None:
    cache = kernel.page_frag_cache()
    first, second = cache.alloc(1000), cache.alloc(1000)
    assert first is not None
    assert second is not None
    assert first - second == 1000
    cache.close()
    assert cache.word == 0
    assert cache.free(first) is False
    assert cache.free(second) is True
    with pytest.raises(BadPage):
        cache.free(second)
    with pytest.raises(BadRequest, match="closed"):
        cache.alloc(10)
    with pytest.raises(BadRequest, match="not in the direct map"):
        cache.free(4096)


def test_fragment_larger_than_a_block_is_refused(kernel: Kernel) -> None:
    with pytest.raises(BadRequest, match="32769 bytes"):
        kernel.page_frag_cache().alloc(32769)
