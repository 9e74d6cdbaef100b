# SPDX-License-Identifier: GPL-2.0-only
"""allocator/deferred_pages.py: zones that grow by a section when they run short."""

from __future__ import annotations

import hashlib

import pytest

from allocator.boot_context import node_word
from allocator.check import check_frames
from allocator.deferred_pages import (
    NOT_DEFERRED,
    free_range_end,
    init_page_range,
    memory_node,
    next_free_range,
    page_uninitialised,
)
from allocator.engine import compiled_available, load_engine
from allocator.errors import BadPage
from allocator.inspect.frame import describe_place, locate
from allocator.kernel import Kernel
from allocator.kernel_globals import G_DEFERRED_PAGES
from allocator.layout import PAGE_OFFSET, PAGES_PER_SECTION
from allocator.mm_types import COUNTS_FREE, COUNTS_ONE, PG_RESERVED
from allocator.mmzone import (
    ND_FIRST_DEFERRED_PFN,
    PGLIST_DATA,
    PSET_BATCH,
    Z_MANAGED,
    Z_PAGESET,
    Z_WMARK,
)
from tests.allocator.machines import boot

TOPOLOGY = "2x384M"
ON, OFF = "deferred_meminit=on", "deferred_meminit=off"
ALONE = "GFP_KERNEL|__GFP_THISNODE|__GFP_NOWARN"


def booted(append: str) -> Kernel:
    return boot(TOPOLOGY, append=append)


@pytest.fixture
def kernel() -> Kernel:
    return booted(ON)


def first_deferred(kernel: Kernel, nid: int) -> int:
    first: int = kernel.m[node_word(kernel.m, nid) + ND_FIRST_DEFERRED_PFN]
    return first


def digest(kernel: Kernel) -> str:
    found = hashlib.sha256()
    for start, end in kernel.memory.touched():
        found.update(kernel.memory.bytes[start:end])
    return found.hexdigest()


def test_a_node_starts_with_one_section_and_grows_when_it_runs_short(kernel: Kernel) -> None:
    first = first_deferred(kernel, 1)
    assert first % PAGES_PER_SECTION == 0
    assert page_uninitialised(kernel.m, first)
    assert not page_uninitialised(kernel.m, first - 1)
    while first_deferred(kernel, 1) == first:
        page = kernel.alloc_pages(ALONE, 10, nid=1)
        assert page is not None
        assert page.pfn + 1024 <= first or first_deferred(kernel, 1) != first
    assert not page_uninitialised(kernel.m, first)
    assert check_frames(kernel.memory).sound


def test_no_frame_is_handed_out_before_its_struct_page_is_initialised(kernel: Kernel) -> None:
    for nid in (0, 1):
        pages = kernel.exhaust(nid, ALONE, 9)
        assert len({page.pfn for page in pages}) == len(pages)
        assert all(page.refcount == 1 and page.nid == nid for page in pages)
    assert kernel.m[G_DEFERRED_PAGES] == 0
    assert first_deferred(kernel, 1) == NOT_DEFERRED
    assert check_frames(kernel.memory).sound


def test_a_machine_that_has_grown_to_the_end_holds_what_a_full_bring_up_gives() -> None:
    late, early = booted(ON), booted(OFF)
    assert late.nr_free_pages < early.nr_free_pages
    for nid in (0, 1):
        for page in late.exhaust(nid, ALONE, 10):
            late.free_pages(page, 10)
    late.drain_all_pages()
    late.fold_vm_stats()
    assert late.nr_free_pages == early.nr_free_pages
    reserved = [
        pfn
        for kernel in (late, early)
        for pfn in range(PAGES_PER_SECTION * 6)
        if kernel.page(pfn).flags & PG_RESERVED
    ]
    half = len(reserved) // 2
    assert reserved[:half] == reserved[half:]


def test_managed_pages_and_watermarks_are_those_of_a_full_bring_up() -> None:
    late, early = booted(ON), booted(OFF)
    for ours, full in zip(late.zones, early.zones, strict=True):
        assert late.m[ours.word + Z_MANAGED] == early.m[full.word + Z_MANAGED]
        marks = slice(full.word + Z_WMARK, full.word + Z_WMARK + 3)
        assert list(late.m[marks]) == list(early.m[marks])


def test_freeing_a_frame_that_was_never_initialised_is_refused(kernel: Kernel) -> None:
    pfn = first_deferred(kernel, 1) + 512
    with pytest.raises(BadPage):
        kernel.free_pages(pfn, 0)
    assert page_uninitialised(kernel.m, pfn)


@pytest.mark.skipif(not compiled_available(), reason="needs numba")
def test_both_engines_leave_the_same_bytes_when_they_grow_a_zone() -> None:
    seen = []
    for name in ("python", "compiled"):
        kernel, engine = booted(ON), load_engine(name)
        first = first_deferred(kernel, 1)
        words = engine.words(kernel.memory)
        pfns = [engine.alloc_pages_nodemask(words, 0, 0xCC0, i % 4, 1, 0) for i in range(12000)]
        assert first_deferred(kernel, 1) != first
        seen.append((pfns, digest(kernel)))
    assert seen[0] == seen[1]


def test_init_page_range_writes_whole_struct_pages_of_any_node(kernel: Kernel) -> None:
    pfn = first_deferred(kernel, 1)
    flags = (63 - 64) << 58 | 2 << 56
    init_page_range(kernel.m, pfn, pfn + 3, flags, COUNTS_ONE)
    page = kernel.page(pfn + 2)
    assert (page.nid, page.refcount) == (63, 1)
    init_page_range(kernel.m, pfn, pfn + 1, flags, COUNTS_FREE)
    assert kernel.page(pfn).refcount == 0
    assert kernel.m[kernel.page(pfn).word + 1] == kernel.m[kernel.page(pfn).word + 2]


def test_free_ranges_are_memblocks_memory_of_the_node_without_what_is_reserved(
    kernel: Kernel,
) -> None:
    m = kernel.m
    nid1 = first_deferred(kernel, 1)
    at = next_free_range(m, 1, nid1)
    assert at >= nid1
    assert memory_node(m, at) == 1
    end = free_range_end(m, at)
    assert at < end
    assert next_free_range(m, 1, end) == -1 or next_free_range(m, 1, end) > end
    assert next_free_range(m, 1, 1 << 29) == -1
    assert memory_node(m, 1 << 29) == -1


def test_pagesets_keep_the_size_that_the_first_section_gave_them() -> None:
    late, early = booted(ON), booted(OFF)
    batch = []
    for kernel in (late, early):
        pageset = kernel.m[kernel.zone(1, "DMA32").word + Z_PAGESET] - PAGE_OFFSET >> 3
        batch.append(kernel.m[pageset + PSET_BATCH])
    assert 0 < batch[0] < batch[1]


def test_static_init_is_one_section_at_most(kernel: Kernel) -> None:
    field = PGLIST_DATA["static_init_pgcnt"]
    assert kernel.m[node_word(kernel.m, 1) + field] == PAGES_PER_SECTION


def test_inspection_says_that_a_frame_waits_for_its_struct_page(kernel: Kernel) -> None:
    page = kernel.page(first_deferred(kernel, 1))
    assert "its struct page is initialised when the zone grows" in describe_place(
        page, locate(page)
    )
