# SPDX-License-Identifier: GPL-2.0-only
"""Slabs as blocks: where they come from, what is tried when memory is scarce, who is told."""

from __future__ import annotations

from collections.abc import Callable

from allocator.gfp import GFP_DMA32_BIT, GFP_KERNEL, GFP_MOVABLE_BIT, GFP_NOWAIT
from allocator.layout import (
    CPU_BLOCKS,
    CPU_RECLAIMED_SLAB,
    PAGE_OFFSET,
    PF_MEMALLOC,
    TASK_FLAGS,
    VMEMMAP_START,
)
from allocator.mm_types import P_INDEX, P_PRIVATE
from allocator.mmzone import MIGRATE_UNMOVABLE
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.page_check import compound_order
from allocator.pageblock import get_pageblock_migratetype
from allocator.slab import KC_OO, KC_SIZE, OO_MASK, OO_SHIFT
from allocator.slab_common import kmem_cache_create
from allocator.slab_page import allocate_slab, discard_slab, get_node, page_node, page_of_va
from tests.allocator.tiny import Tiny

Nodes = Callable[[int, int], Tiny]


def test_a_new_slab_is_frozen_with_its_objects_chained(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    s = kmem_cache_create(m, 0, b"objects", 500, 0, 0)
    pfn = allocate_slab(m, 0, s, GFP_KERNEL, -1)
    p = page_of_va(m, VMEMMAP_START + (pfn << 6))
    assert p == tiny_zone.page(pfn)
    objects, size = m[s + KC_OO] & OO_MASK, m[s + KC_SIZE]
    chain = []
    va = m[p + P_INDEX]
    while va:
        chain.append((va - PAGE_OFFSET) - (pfn << 12))
        va = m[(va - PAGE_OFFSET) >> 3]
    assert chain == [i * size for i in range(objects)]
    assert m[p + P_PRIVATE] == 1 << 31 | objects << 16 | objects


def test_a_slab_is_on_the_node_asked_for(tiny_nodes: Nodes) -> None:
    tiny = tiny_nodes(2, 1)
    m = tiny.m
    s = kmem_cache_create(m, 0, b"objects", 64, 0, 0)
    for nid in (1, 0):
        pfn = allocate_slab(m, 0, s, GFP_KERNEL, nid)
        assert page_node(m, tiny.page(pfn)) == nid
        assert get_node(m, s, nid)


def test_a_smaller_block_will_do_when_memory_is_in_pieces(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    s = kmem_cache_create(m, 0, b"objects", 1024, 0, 0)
    assert m[s + KC_OO] >> OO_SHIFT == 1
    held = []
    while (pfn := alloc_pages_nodemask(m, 0, GFP_NOWAIT, 0, 0, 0)) >= 0:
        held.append(pfn)
    for pfn in sorted(held)[100:200:2]:
        free_pages(m, 0, pfn, 0)
    pfn = allocate_slab(m, 0, s, GFP_NOWAIT, -1)
    assert compound_order(m, tiny_zone.page(pfn)) == 0
    assert m[tiny_zone.page(pfn) + P_PRIVATE] & 0xFFFF == 4


def test_what_a_request_says_of_zones_and_mobility_does_not_reach_the_pages(
    tiny_zone: Tiny,
) -> None:
    m = tiny_zone.m
    s = kmem_cache_create(m, 0, b"objects", 64, 0, 0)
    pfn = allocate_slab(m, 0, s, GFP_KERNEL | GFP_MOVABLE_BIT | GFP_DMA32_BIT, -1)
    assert pfn >= 0, "there is no DMA32 zone here"
    assert get_pageblock_migratetype(m, pfn) == MIGRATE_UNMOVABLE


def test_reclaim_is_told_what_slabs_gave_back(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    s = kmem_cache_create(m, 0, b"objects", 2048, 0, 0)
    first, second = (allocate_slab(m, 0, s, GFP_KERNEL, -1) for _ in range(2))
    discard_slab(m, 0, s, first)
    assert m[CPU_BLOCKS + CPU_RECLAIMED_SLAB] == 0
    m[tiny_zone.task() + TASK_FLAGS] |= PF_MEMALLOC
    discard_slab(m, 0, s, second)
    assert m[CPU_BLOCKS + CPU_RECLAIMED_SLAB] == 1 << (m[s + KC_OO] >> OO_SHIFT)
