# SPDX-License-Identifier: GPL-2.0-only
"""References dropped one by one or in batches."""

from __future__ import annotations

import pytest

from allocator.kernel_globals import G_LRU_PVECS, G_NR_CPU_IDS, G_PAGE_CLUSTER
from allocator.layout import va_of_word
from allocator.list_head import list_empty
from allocator.mm_inline import page_to_pfn, page_va_of
from allocator.mm_types import P_COUNTS, PG_LRU, REF_ONE, REF_SHIFT
from allocator.mmzone import NR_FREE_PAGES
from allocator.page_alloc import FREE_DONE, FREE_REFUSED, FREE_STILL_REFERENCED
from allocator.page_frag import put_page
from allocator.pagevec import (
    PAGEVEC_SIZE,
    PV_ADD,
    PV_TO_FREE,
    PVECS_WORDS,
    pagevec_add,
    pagevec_page,
    pagevec_release,
    pagevecs,
    put_page_p,
    release_pages,
)
from allocator.swap import lru_add_drain, lru_cache_add
from allocator.vmstat import zone_page_state_snapshot
from tests.allocator.process_support import Lab


def free_pages(lab: Lab, z: int) -> int:
    held = sum(lab.pcp_count(z, cpu) for cpu in range(lab.m[G_NR_CPU_IDS]))
    return held + zone_page_state_snapshot(lab.m, z, NR_FREE_PAGES)


def test_every_cpu_has_pagevecs_of_its_own(lab: Lab) -> None:
    assert lab.m[G_LRU_PVECS] == va_of_word(pagevecs(lab.m, 0))
    assert pagevecs(lab.m, 1) - pagevecs(lab.m, 0) == PVECS_WORDS
    assert list_empty(lab.m, pagevecs(lab.m, 1) + PV_TO_FREE)


def test_swap_readahead_is_three_bits_from_16_megabytes_on(lab: Lab) -> None:
    assert lab.m[G_PAGE_CLUSTER] == 3


def test_the_last_reference_takes_a_page_off_its_list_and_frees_it(lab: Lab) -> None:
    m, p = lab.m, lab.new_page()
    z, free = lab.zone_of(p), free_pages(lab, lab.zone_of(p))
    lru_cache_add(m, 0, p)
    lru_add_drain(m, 0)
    assert m[p] & PG_LRU
    m[p + P_COUNTS] += REF_ONE
    assert put_page_p(m, 0, p) == FREE_STILL_REFERENCED
    assert put_page_p(m, 0, p) == FREE_DONE
    assert not m[p] & PG_LRU
    assert free_pages(lab, z) == free + 1
    assert lab.check().sound


def test_put_page_by_frame_number_knows_lru_pages_too(lab: Lab) -> None:
    m, p = lab.m, lab.new_page()
    lru_cache_add(m, 0, p)
    lru_add_drain(m, 0)
    assert put_page(m, 0, page_to_pfn(m, p)) == FREE_DONE
    assert lab.check().sound


def test_a_reference_that_nobody_has_is_refused(lab: Lab) -> None:
    p = lab.new_page()
    assert put_page_p(lab.m, 0, p) == FREE_DONE
    assert put_page_p(lab.m, 0, p) == FREE_REFUSED


def test_a_tail_gives_up_its_heads_reference(lab: Lab) -> None:
    p = lab.new_page(2)
    assert put_page_p(lab.m, 0, p + 24) == FREE_DONE
    assert lab.check().sound


def test_a_batch_frees_what_it_held_last_and_keeps_the_rest(lab: Lab) -> None:
    m = lab.m
    pages = [lab.new_page() for _ in range(4)]
    huge = lab.new_page(9)
    first = lab.scratch()
    z, free = lab.zone_of(huge), free_pages(lab, lab.zone_of(huge))
    m[pages[1] + P_COUNTS] += REF_ONE
    for i, p in enumerate([*pages, huge]):
        m[first + i] = page_va_of(m, p)
    m[first + 5] = 0
    release_pages(m, 0, first, 6)
    assert m[pages[1] + P_COUNTS] >> REF_SHIFT == 1
    assert free_pages(lab, z) == free + 3 + 512
    put_page_p(m, 0, pages[1])


def test_the_page_released_last_is_the_first_to_be_used_again(lab: Lab) -> None:
    # release_pages() collects at the head of its list, and frees from the head
    m = lab.m
    pages = [lab.new_page() for _ in range(3)]
    first = lab.scratch()
    for i, p in enumerate(pages):
        m[first + i] = page_va_of(m, p)
    release_pages(m, 0, first, 3)
    assert [lab.new_page() for _ in range(3)] == pages


@pytest.mark.parametrize(("order", "full"), [(0, PAGEVEC_SIZE), (1, 1)])
def test_a_pagevec_is_full_with_fifteen_pages_or_one_compound_page(
    lab: Lab, order: int, full: int
) -> None:
    m, pv = lab.m, pagevecs(lab.m, 0) + PV_ADD
    pages = [lab.new_page(order) for _ in range(full)]
    said = [pagevec_add(m, pv, p) for p in pages]
    assert said == [False] * (full - 1) + [True]
    assert [pagevec_page(m, pv, i + 1) for i in range(full)] == pages
    assert all(m[p + P_COUNTS] >> REF_SHIFT == 2 for p in pages)
    pagevec_release(m, 0, pv)
    assert m[pv] == 0
    assert all(m[p + P_COUNTS] >> REF_SHIFT == 1 for p in pages)
