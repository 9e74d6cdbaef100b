# SPDX-License-Identifier: GPL-2.0-only
"""Caches: bring-up, names, kmalloc's sizes, shrinking and ending."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from allocator.gfp import GFP_DMA_BIT, GFP_KERNEL, GFP_RECLAIMABLE_BIT
from allocator.kernel_globals import G_KMEM_CACHE, G_KMEM_CACHE_NODE
from allocator.layout import word_of_va
from allocator.mm_types import P_MAPPING, P_PRIVATE
from allocator.slab import (
    KC_MIN_PARTIAL,
    KC_OBJECT_SIZE,
    KC_OO,
    KC_SIZE,
    KCN_NR_PARTIAL,
    KCN_NR_SLABS,
    OO_MASK,
    SLAB_INUSE_MASK,
    SLAB_OBJECTS_SHIFT,
    kmem_cache_name,
    partial_slabs,
    slab_caches,
)
from allocator.slab_common import (
    kmalloc,
    kmalloc_node,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_init,
    kmem_cache_shrink,
)
from allocator.slab_page import get_node, page_of_va
from allocator.slub import (
    flush_cpu_slab,
    kfree,
    kmem_cache_alloc,
    kmem_cache_free,
)
from tests.allocator.tiny import Tiny

Nodes = Callable[[int, int], Tiny]


def test_bring_up_makes_the_caches_of_420_and_runs_once(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    assert kmem_cache_init(m, 0) == 0
    names = [kmem_cache_name(m, s) for s in slab_caches(m)]
    assert names[-2:] == ["kmem_cache_node", "kmem_cache"]
    assert names[-5:-2] == ["kmalloc-32", "kmalloc-16", "kmalloc-8"]
    assert {"kmalloc-96", "kmalloc-192", "kmalloc-8k", "kmalloc-rcl-1k", "dma-kmalloc-64"} < set(
        names
    )
    assert len(names) == len(set(names)) == 2 + 3 * 13
    free = tiny_zone.free_pages()
    assert kmem_cache_init(m, 0) == 0
    assert tiny_zone.free_pages() == free


def test_the_first_two_caches_describe_themselves(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    kmem_cache_init(m, 0)
    for pointer in (G_KMEM_CACHE, G_KMEM_CACHE_NODE):
        s = word_of_va(m[pointer])
        owner = word_of_va(m[page_of_va(m, head_page(tiny_zone, s)) + P_MAPPING])
        assert kmem_cache_name(m, owner) == "kmem_cache"
        for page_va in partial_slabs(m, get_node(m, s, 0)):
            assert m[page_of_va(m, page_va) + P_MAPPING] == m[pointer]


def head_page(tiny: Tiny, x: int) -> int:
    """vmemmap address of the slab that holds the object at word `x`."""
    from allocator.layout import VMEMMAP_START
    from allocator.page_frag import compound_head_pfn

    return VMEMMAP_START + (compound_head_pfn(tiny.m, x >> 9) << 6)


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (1, "kmalloc-8"),
        (8, "kmalloc-8"),
        (9, "kmalloc-16"),
        (64, "kmalloc-64"),
        (65, "kmalloc-96"),
        (96, "kmalloc-96"),
        (97, "kmalloc-128"),
        (129, "kmalloc-192"),
        (192, "kmalloc-192"),
        (193, "kmalloc-256"),
        (1025, "kmalloc-2k"),
        (8192, "kmalloc-8k"),
    ],
)
def test_kmalloc_uses_the_smallest_cache_that_fits(tiny_zone: Tiny, size: int, name: str) -> None:
    m = tiny_zone.m
    kmem_cache_init(m, 0)
    x = kmalloc(m, 0, size, GFP_KERNEL)
    s = word_of_va(m[page_of_va(m, head_page(tiny_zone, x)) + P_MAPPING])
    assert kmem_cache_name(m, s) == name
    assert kfree(m, 0, x) == 0


def test_kmalloc_looks_at_the_kind_of_the_request(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    kmem_cache_init(m, 0)
    x = kmalloc(m, 0, 100, GFP_KERNEL | GFP_RECLAIMABLE_BIT)
    s = word_of_va(m[page_of_va(m, head_page(tiny_zone, x)) + P_MAPPING])
    assert kmem_cache_name(m, s) == "kmalloc-rcl-128"
    assert kmalloc(m, 0, 100, GFP_KERNEL | GFP_DMA_BIT) == 0, "there is no DMA zone here"


def test_large_kmallocs_are_blocks_of_pages(tiny_nodes: Nodes) -> None:
    tiny = tiny_nodes(2, 1)
    m = tiny.m
    kmem_cache_init(m, 0)
    free = tiny.free_pages(1)
    x = kmalloc_node(m, 0, 20_000, GFP_KERNEL, 1)
    assert x >> 9 >= tiny.start + 4096
    assert tiny.free_pages(1) == free - 8
    assert kfree(m, 0, x) == 0
    assert tiny.free_pages(1) == free
    assert kfree(m, 0, x) == -22
    assert kmalloc(m, 0, 0, GFP_KERNEL) == kmalloc(m, 0, 5 << 20, GFP_KERNEL) == 0


def test_a_cache_keeps_its_name_and_sizes(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    s = kmem_cache_create(m, 0, b"dentry", 189, 0, 0)
    assert kmem_cache_name(m, s) == "dentry"
    assert (m[s + KC_OBJECT_SIZE], m[s + KC_SIZE], m[s + KC_OO] & OO_MASK) == (189, 192, 21)
    same = kmem_cache_create(m, 0, b"alike", 189, 0, 0)
    assert same != s, "caches are not merged"


@pytest.mark.parametrize(("name", "size"), [(b"", 64), (b"x" * 32, 64), (b"x", 4), (b"x", 5 << 20)])
def test_impossible_caches_are_refused(tiny_zone: Tiny, name: bytes, size: int) -> None:
    assert kmem_cache_create(tiny_zone.m, 0, name, size, 0, 0) == 0


def test_the_minimum_of_partial_slabs_grows_with_the_object(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    minima = [
        m[kmem_cache_create(m, 0, b"c", size, 0, 0) + KC_MIN_PARTIAL]
        for size in (8, 1024, 4096, 65536, 1 << 20)
    ]
    assert minima == [5, 5, 6, 8, 10]


def test_ending_a_cache_gives_everything_back_but_not_while_it_is_used(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    kmem_cache_init(m, 0)
    caches = word_of_va(m[G_KMEM_CACHE])
    kmem_cache_shrink(m, 0, caches)
    free = tiny_zone.free_pages()
    s = kmem_cache_create(m, 0, b"short-lived", 512, 0, 0)
    x = kmem_cache_alloc(m, 0, s, GFP_KERNEL)
    assert kmem_cache_destroy(m, 0, s) == -16
    kmem_cache_free(m, 0, s, x)
    assert kmem_cache_destroy(m, 0, s) == 0
    assert "short-lived" not in [kmem_cache_name(m, c) for c in slab_caches(m)]
    kmem_cache_shrink(m, 0, caches)
    kmem_cache_shrink(m, 0, word_of_va(m[G_KMEM_CACHE_NODE]))
    assert tiny_zone.free_pages() == free


def test_shrinking_frees_empty_slabs_and_puts_the_fullest_first(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    s = kmem_cache_create(m, 0, b"objects", 256, 0, 0)
    found = [kmem_cache_alloc(m, 0, s, GFP_KERNEL) for _ in range(16 * 6)]
    flush_cpu_slab(m, 0, s)
    for slab, gone in enumerate((9, 16, 1, 5, 16, 2)):
        for x in found[slab * 16 : slab * 16 + gone]:
            kmem_cache_free(m, 0, s, x)
    assert kmem_cache_shrink(m, 0, s) == 1
    n = get_node(m, s, 0)
    assert (m[n + KCN_NR_SLABS], m[n + KCN_NR_PARTIAL]) == (4, 4)
    free = []
    for page_va in partial_slabs(m, n):
        counters = m[page_of_va(m, page_va) + P_PRIVATE]
        free.append((counters >> SLAB_OBJECTS_SHIFT) - (counters & SLAB_INUSE_MASK))
    assert free == [1, 2, 5, 9]
