# SPDX-License-Identifier: GPL-2.0-only
"""allocator/pcp.py: per-cpu lists, their refill, overflow and draining."""

from __future__ import annotations

import pytest

from allocator import pcp
from allocator.kernel import Kernel
from allocator.kernel_globals import G_STATIC_KEYS, KEY_DRAIN_ONE_ZONE
from allocator.layout import CPU_BLOCKS, CPU_BULK_FREE, page_va, word_of_va
from allocator.list_head import list_add_tail, list_init
from allocator.mm_types import COUNTS_FREE, P_COUNTS, P_NEXT
from allocator.mmzone import PSET_BATCH, PSET_COUNT, PSET_HIGH, PSET_WORDS, Z_PAGESET
from allocator.pageblock import set_pageblock_migratetype
from allocator.trace_events import EV_FREE_PCPPAGES_BULK, EV_MM_PAGE_PCPU_DRAIN, EV_RMQUEUE_BULK
from allocator.views import Page, Zone
from tests.allocator.machines import boot
from tests.allocator.records import recorded


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x128M")


@pytest.fixture
def zone(kernel: Kernel) -> Zone:
    return kernel.zone(1, "DMA32")


def pageset(kernel: Kernel, zone: Zone, cpu: int = 0) -> int:
    return word_of_va(kernel.m[zone.word + Z_PAGESET]) + cpu * PSET_WORDS


def take(kernel: Kernel, gfp: str = "GFP_KERNEL", cpu: int = 0) -> Page:
    page = kernel.alloc_pages(gfp, nid=1, cpu=cpu)
    assert page is not None
    return page


def test_empty_list_is_refilled_with_batch_pages_in_address_order(
    kernel: Kernel, zone: Zone
) -> None:
    batch = kernel.m[pageset(kernel, zone) + PSET_BATCH]
    with recorded(kernel, 1 << EV_RMQUEUE_BULK) as events:
        first = take(kernel)
    assert events[0].args[:5] == (1, 1, 0, batch, batch)
    rest = zone.pcp_list(0, 0)
    assert len(rest) == batch - 1
    assert rest == sorted(rest)
    assert first.pfn < rest[0]
    assert zone.pcp_count(0) == batch - 1


def test_freed_page_is_the_next_one_handed_out(kernel: Kernel) -> None:
    pages = [take(kernel) for _ in range(3)]
    kernel.free_pages(pages[1])
    assert take(kernel) == pages[1]


def test_lists_of_the_cpus_are_their_own(kernel: Kernel, zone: Zone) -> None:
    page = take(kernel, cpu=0)
    kernel.free_pages(page, cpu=1)
    assert zone.pcp_list(1, 0) == [page.pfn]
    assert page.pfn not in zone.pcp_list(0, 0)


def test_overflow_gives_batch_pages_back_oldest_first(kernel: Kernel, zone: Zone) -> None:
    ps = pageset(kernel, zone)
    high, batch = kernel.m[ps + PSET_HIGH], kernel.m[ps + PSET_BATCH]
    pages = [take(kernel) for _ in range(high)]
    kernel.drain_local_pages()
    for page in pages[: high - 1]:
        kernel.free_pages(page)
    assert zone.pcp_count(0) == high - 1
    with recorded(kernel, 1 << EV_FREE_PCPPAGES_BULK | 1 << EV_MM_PAGE_PCPU_DRAIN) as events:
        kernel.free_pages(pages[-1])
    assert zone.pcp_count(0) == high - batch
    assert events[0].args[:3] == (1, 1, batch)
    assert [e.args[0] for e in events[1:]] == [page.pfn for page in pages[:batch]]


def test_round_robin_starts_with_movable_and_takes_one_page_a_list(
    kernel: Kernel, zone: Zone
) -> None:
    kernel.drain_all_pages()
    by_type: dict[int, list[int]] = {}
    gfps = {0: "GFP_KERNEL", 1: "GFP_HIGHUSER_MOVABLE", 2: "GFP_KERNEL|__GFP_RECLAIMABLE"}
    for mt, gfp in gfps.items():
        pages = [take(kernel, gfp) for _ in range(6)]
        by_type[mt] = [page.pfn for page in pages]
    kernel.drain_all_pages()
    for mt in gfps:
        for pfn in by_type[mt]:
            set_pageblock_migratetype(kernel.m, pfn, mt)
            kernel.free_pages(pfn)
    with recorded(kernel, 1 << EV_MM_PAGE_PCPU_DRAIN) as events:
        pcp.free_pcppages_bulk(kernel.m, 0, zone.word, 17, pageset(kernel, zone))
    turns = zip(by_type[1][:5], by_type[2][:5], by_type[0][:5], strict=True)
    expected = [pfn for turn in turns for pfn in turn] + [by_type[1][5], by_type[2][5]]
    assert [e.args[0] for e in events] == expected


def test_the_only_list_with_pages_gives_all_that_are_wanted(kernel: Kernel, zone: Zone) -> None:
    pages = [take(kernel) for _ in range(6)]
    kernel.drain_all_pages()
    for page in pages:
        set_pageblock_migratetype(kernel.m, page.pfn, 0)
        kernel.free_pages(page)
    with recorded(kernel, 1 << EV_MM_PAGE_PCPU_DRAIN) as events:
        pcp.free_pcppages_bulk(kernel.m, 0, zone.word, 5, pageset(kernel, zone))
    assert [e.args[0] for e in events] == [page.pfn for page in pages[:5]]


def test_page_returns_to_the_type_it_remembers_not_its_blocks(kernel: Kernel, zone: Zone) -> None:
    kernel.drain_all_pages()
    page = take(kernel)
    kernel.drain_all_pages()
    kernel.free_pages(page)
    remembered = page.index
    set_pageblock_migratetype(kernel.m, page.pfn, 2)
    with recorded(kernel, 1 << EV_MM_PAGE_PCPU_DRAIN) as events:
        kernel.drain_local_pages()
    assert [e.args[:3] for e in events] == [(page.pfn, 0, remembered)]


def test_highatomic_page_waits_on_the_movable_list(kernel: Kernel, zone: Zone) -> None:
    kernel.drain_all_pages()
    page = take(kernel)
    set_pageblock_migratetype(kernel.m, page.pfn, 3)
    kernel.free_pages(page)
    assert zone.pcp_list(0, 1)[0] == page.pfn
    assert page.index == 3


def test_isolated_page_goes_straight_to_the_buddy_lists(kernel: Kernel, zone: Zone) -> None:
    page = take(kernel)
    set_pageblock_migratetype(kernel.m, page.pfn, 5)
    count = zone.pcp_count(0)
    kernel.free_pages(page)
    assert zone.pcp_count(0) == count
    assert page.buddy


def test_list_of_pages_is_freed_in_its_order(kernel: Kernel, zone: Zone) -> None:
    pages = [take(kernel) for _ in range(4)]
    head = CPU_BLOCKS + CPU_BULK_FREE
    list_init(kernel.m, head)
    for page in pages:
        kernel.m[page.word + P_COUNTS] = COUNTS_FREE
        list_add_tail(kernel.m, page.word + P_NEXT, page_va(page.pfn) + 8, head)
    assert pcp.free_unref_page_list(kernel.m, 0, head) == 4
    assert zone.pcp_list(0, 0)[:4] == [page.pfn for page in reversed(pages)]


def test_drain_empties_every_list_of_that_cpu_only(kernel: Kernel, zone: Zone) -> None:
    for cpu in (0, 1):
        for gfp in ("GFP_KERNEL", "GFP_HIGHUSER_MOVABLE"):
            kernel.free_pages(take(kernel, gfp, cpu), cpu=cpu)
    kernel.drain_local_pages(0)
    assert zone.pcp_count(0) == 0
    assert zone.pcp_count(1) > 0
    kernel.drain_all_pages()
    assert zone.pcp_count(1) == 0


@pytest.mark.parametrize("one_zone", [False, True])
def test_draining_for_a_zone_drains_all_zones_of_the_cpu_unless_told(
    kernel: Kernel, zone: Zone, one_zone: bool
) -> None:
    other = kernel.zone(0, "DMA32")
    kernel.free_pages(take(kernel))
    page = kernel.alloc_pages("GFP_KERNEL", nid=0)
    assert page is not None
    kernel.free_pages(page)
    if one_zone:
        kernel.m[G_STATIC_KEYS] |= KEY_DRAIN_ONE_ZONE
    pcp.drain_all_pages(kernel.m, zone.word)
    assert zone.pcp_count(0) == 0
    assert (other.pcp_count(0) > 0) is one_zone


def test_count_that_promises_pages_no_list_has_does_not_hang(kernel: Kernel, zone: Zone) -> None:
    kernel.drain_all_pages()
    ps = pageset(kernel, zone)
    kernel.m[ps + PSET_COUNT] = 50
    kernel.drain_local_pages()
    assert zone.pcp_list(0, 0) == []
