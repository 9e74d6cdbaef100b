# SPDX-License-Identifier: GPL-2.0-only
"""allocator/page_check.py: what may not be freed or handed out is reported and set aside."""

from __future__ import annotations

import re

import pytest

from allocator.errors import BadPage
from allocator.kernel import Kernel
from allocator.layout import EMPTY_ZERO_PAGE, PAGE_OFFSET, page_va
from allocator.mm_types import (
    COUNTS_FREE,
    LIST_POISON1,
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_MEMCG,
    P_NEXT,
    P_PREV,
    PG_DIRTY,
    PG_HWPOISON,
    PG_LRU,
    PG_RESERVED,
    TAIL_MAPPING,
)
from allocator.views import Page
from tests.allocator.machines import boot
from tests.allocator.model import Model, differences


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x48M")


def take(kernel: Kernel, gfp: str = "GFP_KERNEL", order: int = 0) -> Page:
    page = kernel.alloc_pages(gfp, order, nid=0)
    assert page is not None
    return page


def refused(kernel: Kernel, pfn: int, order: int, why: str) -> None:
    """The free raises, is reported, and no list changes."""
    before = Model(kernel)
    with pytest.raises(BadPage, match=why) as error:
        kernel.free_pages(pfn, order)
    assert error.value.pfn == pfn
    assert any(f"pfn:{pfn:05x}" in line for line in kernel.log)
    assert differences(kernel, before) == []


def test_double_free_is_refused_and_named(kernel: Kernel) -> None:
    page = take(kernel)
    kernel.free_pages(page)
    refused(kernel, page.pfn, 0, "refcount|_refcount|page_ref_count")


def test_double_free_of_a_block_is_refused(kernel: Kernel) -> None:
    page = take(kernel, order=4)
    kernel.free_pages(page, 4)
    refused(kernel, page.pfn, 4, "page_ref_count")


def test_frame_that_was_never_allocated_cannot_be_freed(kernel: Kernel) -> None:
    head = kernel.zone(0, "DMA32").free_list(10, 1)[0]
    refused(kernel, head, 10, "page_ref_count")
    refused(kernel, head + 5, 0, "page_ref_count")


def test_reserved_frame_cannot_be_freed(kernel: Kernel) -> None:
    pfn = 0x1000000 >> 12
    assert "reserved" in kernel.page(pfn).flag_names
    before = Model(kernel)
    with pytest.raises(BadPage, match="PAGE_FLAGS_CHECK_AT_FREE"):
        kernel.free_pages(pfn)
    assert differences(kernel, before) == []


def test_tail_of_a_compound_page_cannot_be_freed(kernel: Kernel) -> None:
    page = take(kernel, "GFP_KERNEL|__GFP_COMP", 3)
    refused(kernel, page.pfn + 3, 0, "PageTail|tail")
    kernel.free_pages(page, 3)


def test_compound_page_can_only_be_freed_with_its_order(kernel: Kernel) -> None:
    page = take(kernel, "GFP_KERNEL|__GFP_COMP", 3)
    refused(kernel, page.pfn, 2, "compound_order")
    assert kernel.free_pages(page, 3)


def test_unaligned_block_cannot_be_freed(kernel: Kernel) -> None:
    pages = kernel.split_page(take(kernel, order=2), 2)
    refused(kernel, pages[1].pfn, 1, "pfn")


def test_free_with_a_larger_order_never_takes_listed_pages_along(kernel: Kernel) -> None:
    """Pages of the neighbour on a per-cpu list would be on two lists afterwards."""
    pages = kernel.split_page(take(kernel, order=3), 3)
    for page in pages[4:]:
        kernel.free_pages(page)
    before = Model(kernel)
    with pytest.raises(BadPage):
        kernel.free_pages(pages[0], 3)
    assert differences(kernel, before) == []


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        (P_COUNTS, (1 << 32) | 3, "nonzero mapcount"),
        (P_MAPPING, 0x1000, "non-NULL mapping"),
        (P_MEMCG, 0x1000, "page still charged to cgroup"),
        (P_FLAGS, PG_LRU, "PAGE_FLAGS_CHECK_AT_FREE"),
        (P_FLAGS, PG_RESERVED, "PAGE_FLAGS_CHECK_AT_FREE"),
    ],
)
@pytest.mark.parametrize("order", [0, 2])
def test_damaged_struct_page_is_set_aside_when_freed(
    kernel: Kernel, field: int, value: int, why: str, order: int
) -> None:
    page = take(kernel, order=order)
    word = page.word + field
    kernel.m[word] = kernel.m[word] | value if field == P_FLAGS else value
    before = Model(kernel)
    with pytest.raises(BadPage, match=why):
        kernel.free_pages(page, order)
    assert differences(kernel, before) == []


def test_anonymous_mapping_bits_are_cleared_not_reported(kernel: Kernel) -> None:
    page = take(kernel)
    kernel.m[page.word + P_MAPPING] = 0x1001
    assert kernel.free_pages(page)
    assert page.mapping == 0


def test_left_over_flags_that_may_stay_at_free_are_cleared(kernel: Kernel) -> None:
    page = take(kernel)
    kernel.m[page.word + P_FLAGS] |= PG_DIRTY
    assert kernel.free_pages(page)
    assert page.flag_names == ()


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        (P_COUNTS, 7, "nonzero mapcount"),
        (P_COUNTS, (1 << 32) | COUNTS_FREE, "nonzero _count|nonzero _refcount"),
        (P_MAPPING, 1 << 20, "non-NULL mapping"),
        (P_FLAGS, PG_DIRTY, "PAGE_FLAGS_CHECK_AT_PREP"),
    ],
)
def test_damaged_page_is_never_handed_out(kernel: Kernel, field: int, value: int, why: str) -> None:
    victim = take(kernel)
    kernel.free_pages(victim)
    word = victim.word + field
    kernel.m[word] = kernel.m[word] | value if field == P_FLAGS else value
    assert take(kernel).pfn != victim.pfn
    assert any(re.search(why, line) for line in kernel.log)


def test_hwpoisoned_page_is_skipped_without_a_report(kernel: Kernel) -> None:
    victim = take(kernel)
    kernel.free_pages(victim)
    kernel.m[victim.word + P_FLAGS] |= PG_HWPOISON
    lines = len(kernel.log)
    assert take(kernel).pfn != victim.pfn
    assert len(kernel.log) == lines


def test_new_page_has_one_reference_and_no_traces(kernel: Kernel) -> None:
    page = take(kernel)
    assert (page.refcount, page.mapcount, page.private, page.index) == (1, -1, 0, 0)
    assert page.flag_names == ()
    assert kernel.m[page.word + P_NEXT] == LIST_POISON1


def test_memalloc_page_is_marked_pfmemalloc(kernel: Kernel) -> None:
    kernel.exhaust(0, "GFP_KERNEL")
    page = kernel.alloc_pages("GFP_NOWAIT|__GFP_MEMALLOC|__GFP_THISNODE", nid=0)
    assert page is not None
    assert page.index == -1


def test_compound_page_is_built_as_linux_builds_it(kernel: Kernel) -> None:
    page = take(kernel, "GFP_KERNEL|__GFP_COMP", 3)
    assert page.flag_names == ("head",)
    assert page.order == 3
    for i in range(1, 8):
        tail = kernel.page(page.pfn + i)
        assert kernel.m[tail.word + P_NEXT] == page_va(page.pfn) + 1
        assert tail.refcount == 0
        assert kernel.m[tail.word + P_MAPPING] == TAIL_MAPPING
    # compound_mapcount -1 in the high half, at byte 20 of the struct page
    assert kernel.m[page.word + 8 + P_PREV] == (1 | 3 << 8) - (1 << 32)
    assert kernel.free_pages(page, 3)
    assert all(kernel.page(page.pfn + i).mapping == 0 for i in range(8))


def test_gfp_zero_clears_the_real_bytes_of_every_page(kernel: Kernel) -> None:
    page = take(kernel, order=2)
    kernel.memory.write(page.phys, b"x" * 16384)
    kernel.free_pages(page, 2)
    again = take(kernel, "GFP_KERNEL|__GFP_ZERO", 2)
    assert again.pfn == page.pfn
    assert kernel.memory.read(again.phys, 16384) == bytes(16384)
    assert kernel.m[EMPTY_ZERO_PAGE] == 0
    assert again.virt == (PAGE_OFFSET + again.phys) & (1 << 64) - 1
    assert kernel.m[again.word + P_INDEX] == 0


def test_reports_are_limited_to_sixty_a_minute(kernel: Kernel) -> None:
    page = take(kernel)
    kernel.free_pages(page)
    for _ in range(70):
        with pytest.raises(BadPage):
            kernel.free_pages(page)
    assert sum("Bad page state" in line for line in kernel.log) == 60
