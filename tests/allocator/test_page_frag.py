# SPDX-License-Identifier: GPL-2.0-only
"""References and fragments: the last one out frees the block, and no one else does."""

from __future__ import annotations

import pytest

from allocator.gfp import GFP_ATOMIC, GFP_COMP_BIT, GFP_KERNEL
from allocator.layout import PAGE_OFFSET
from allocator.mm_types import P_COUNTS, P_NEXT, PG_HEAD, REF_SHIFT
from allocator.mmzone import FA_NR_FREE, FA_WORDS, Z_FREE_AREA
from allocator.page_alloc import (
    FREE_DONE,
    FREE_REFUSED,
    FREE_STILL_REFERENCED,
    alloc_pages_nodemask,
)
from allocator.page_frag import (
    NC_BIAS,
    NC_SIZE,
    NC_VA,
    get_page,
    page_frag_alloc,
    page_frag_cache_drain,
    page_frag_free,
    put_page,
)
from tests.allocator.tiny import NODE_PAGES, SCRATCH_WORD, Tiny

NC = SCRATCH_WORD


def refs(tiny: Tiny, pfn: int) -> int:
    return tiny.m[tiny.page(pfn) + P_COUNTS] >> REF_SHIFT


def cache_pfn(tiny: Tiny) -> int:
    return (tiny.m[NC + NC_VA] - PAGE_OFFSET) >> 12


def test_a_tail_page_shares_its_heads_references(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    pfn = alloc_pages_nodemask(m, 0, GFP_KERNEL | GFP_COMP_BIT, 2, 0, 0)
    assert get_page(m, 0, pfn + 3) == 0
    assert refs(tiny_zone, pfn) == 2
    assert put_page(m, 0, pfn) == FREE_STILL_REFERENCED
    assert put_page(m, 0, pfn + 1) == FREE_DONE
    assert tiny_zone.listed_pages() == NODE_PAGES


def test_a_free_page_has_no_reference_to_get_or_put(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    pfn = alloc_pages_nodemask(m, 0, GFP_KERNEL, 0, 0, 0)
    assert put_page(m, 0, pfn) == FREE_DONE
    assert get_page(m, 0, pfn) == -1
    assert put_page(m, 0, pfn) == FREE_REFUSED
    assert tiny_zone.listed_pages() == NODE_PAGES


def test_a_tail_pointing_nowhere_is_refused(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    pfn = alloc_pages_nodemask(m, 0, GFP_KERNEL, 0, 0, 0)
    m[tiny_zone.page(pfn) + P_NEXT] = 1
    assert put_page(m, 0, pfn) == FREE_REFUSED
    assert get_page(m, 0, pfn) == -1


def test_fragments_come_from_the_end_of_a_32k_block_downwards(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    pieces = [page_frag_alloc(m, 0, NC, 1000, GFP_ATOMIC) for _ in range(3)]
    base = m[NC + NC_VA]
    assert [piece - base for piece in pieces] == [31768, 30768, 29768]
    assert m[NC + NC_SIZE] == 32768
    assert m[tiny_zone.page(cache_pfn(tiny_zone))] & PG_HEAD
    assert refs(tiny_zone, cache_pfn(tiny_zone)) == 32768
    assert m[NC + NC_BIAS] == 32765


def test_the_last_fragment_frees_a_block_that_the_cache_has_left(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    first = [page_frag_alloc(m, 0, NC, 16384, GFP_ATOMIC) for _ in range(2)]
    block = cache_pfn(tiny_zone)
    page_frag_alloc(m, 0, NC, 16384, GFP_ATOMIC)
    assert cache_pfn(tiny_zone) != block
    assert refs(tiny_zone, block) == 2
    assert page_frag_free(m, 0, first[0]) == FREE_STILL_REFERENCED
    assert page_frag_free(m, 0, first[1]) == FREE_DONE
    assert tiny_zone.listed_pages() == NODE_PAGES - 8


def test_a_block_whose_fragments_are_all_back_is_used_again(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    for _ in range(2):
        page_frag_free(m, 0, page_frag_alloc(m, 0, NC, 16384, GFP_ATOMIC))
    block = cache_pfn(tiny_zone)
    assert page_frag_alloc(m, 0, NC, 4096, GFP_ATOMIC) == m[NC + NC_VA] + 32768 - 4096
    assert cache_pfn(tiny_zone) == block
    assert refs(tiny_zone, block) == 32768


def test_without_32k_blocks_a_single_page_serves(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    held = []
    while (pfn := alloc_pages_nodemask(m, 0, GFP_ATOMIC, 1, 0, 0)) >= 0:
        held.append(pfn)
    put_page(m, 0, held[0])
    assert page_frag_alloc(m, 0, NC, 100, GFP_ATOMIC) == 0 or m[NC + NC_SIZE] == 4096
    assert m[tiny_zone.z + Z_FREE_AREA + 3 * FA_WORDS + FA_NR_FREE] == 0


@pytest.mark.parametrize("size", [-1, 32769, 1 << 40])
def test_fragments_that_no_block_holds_are_refused(tiny_zone: Tiny, size: int) -> None:
    assert page_frag_alloc(tiny_zone.m, 0, NC, size, GFP_ATOMIC) == 0
    piece = page_frag_alloc(tiny_zone.m, 0, NC, 32768, GFP_ATOMIC)
    assert piece == tiny_zone.m[NC + NC_VA]


def test_draining_the_cache_gives_its_block_back(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    piece = page_frag_alloc(m, 0, NC, 64, GFP_ATOMIC)
    bias = m[NC + NC_BIAS]
    assert page_frag_cache_drain(m, 0, cache_pfn(tiny_zone), bias + 2) == FREE_REFUSED
    assert page_frag_cache_drain(m, 0, cache_pfn(tiny_zone), bias) == FREE_STILL_REFERENCED
    assert page_frag_free(m, 0, piece) == FREE_DONE
    assert page_frag_free(m, 0, piece) == FREE_REFUSED
    assert tiny_zone.listed_pages() == NODE_PAGES


@pytest.mark.parametrize("addr", [0, -1, PAGE_OFFSET - 4096, PAGE_OFFSET + (1 << 45)])
def test_addresses_outside_memory_are_refused(tiny_zone: Tiny, addr: int) -> None:
    assert page_frag_free(tiny_zone.m, 0, addr) == FREE_REFUSED
