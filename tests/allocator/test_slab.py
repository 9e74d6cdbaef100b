# SPDX-License-Identifier: GPL-2.0-only
"""Looking at caches: names, all of them, a node's partial slabs."""

from __future__ import annotations

from allocator.gfp import GFP_KERNEL
from allocator.layout import VMEMMAP_START
from allocator.slab import (
    GFP_SLAB_MASK,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    kmem_cache_name,
    partial_slabs,
    slab_caches,
)
from allocator.slab_common import kmem_cache_create
from allocator.slab_page import get_node
from allocator.slub import flush_cpu_slab, kmem_cache_alloc, kmem_cache_free
from tests.allocator.tiny import Tiny


def test_parts_have_the_sizes_of_420() -> None:
    assert KMEM_CACHE_CPU.size == 32
    assert KMEM_CACHE_NODE.size == 64
    assert KMEM_CACHE["cpu_slab"] == 0


def test_a_cache_passes_on_only_what_concerns_reclaim_and_nodes() -> None:
    assert GFP_KERNEL & GFP_SLAB_MASK == GFP_KERNEL
    assert GFP_SLAB_MASK & 0x1F == 0, "no zone, no mobility"


def test_all_caches_are_listed_newest_first(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    assert list(slab_caches(m)) == []
    older = kmem_cache_create(m, 0, b"older", 64, 0, 0)
    newer = kmem_cache_create(m, 0, b"newer", 64, 0, 0)
    assert list(slab_caches(m))[:2] == [newer, older]
    assert kmem_cache_name(m, newer) == "newer"


def test_partial_slabs_are_listed_head_first(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    s = kmem_cache_create(m, 0, b"objects", 2048, 0, 0)
    found = [kmem_cache_alloc(m, 0, s, GFP_KERNEL) for _ in range(40)]
    flush_cpu_slab(m, 0, s)
    assert len(list(partial_slabs(m, get_node(m, s, 0)))) <= 1
    for x in found:
        kmem_cache_free(m, 0, s, x)
    flush_cpu_slab(m, 0, s)
    slabs = list(partial_slabs(m, get_node(m, s, 0)))
    assert len(slabs) == len(set(slabs)) > 1
    assert all(va >= VMEMMAP_START for va in slabs)
