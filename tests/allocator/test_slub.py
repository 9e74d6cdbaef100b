# SPDX-License-Identifier: GPL-2.0-only
"""SLUB: objects are handed out once, slabs move between their lists as in 4.20."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from allocator.gfp import GFP_ATOMIC, GFP_KERNEL, GFP_ZERO_BIT
from allocator.layout import PAGE_OFFSET, VMEMMAP_START
from allocator.mm_types import P_FLAGS, P_MAPPING, P_PRIVATE, PG_HEAD, PG_SLAB
from allocator.mmzone import (
    ND_VM_STAT,
    NR_SLAB_RECLAIMABLE,
    NR_SLAB_UNRECLAIMABLE,
    Z_PGDAT,
)
from allocator.page_alloc import alloc_pages_nodemask
from allocator.slab import (
    KC_CPU_PARTIAL,
    KC_CPUS,
    KC_MIN_PARTIAL,
    KC_OO,
    KCC_FREELIST,
    KCC_PAGE,
    KCC_PARTIAL,
    KCN_NR_PARTIAL,
    KCN_NR_SLABS,
    KCN_TOTAL_OBJECTS,
    OO_MASK,
    SLAB_FROZEN,
    SLAB_HWCACHE_ALIGN,
    SLAB_INUSE_MASK,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_TYPESAFE_BY_RCU,
)
from allocator.slab_common import kmalloc, kmem_cache_create, kmem_cache_destroy, kmem_cache_shrink
from allocator.slab_page import get_node, page_of_va
from allocator.slub import (
    flush_cpu_slab,
    kfree,
    kmem_cache_alloc,
    kmem_cache_alloc_node,
    kmem_cache_free,
    kmem_cache_zalloc,
)
from tests.allocator.tiny import Tiny

Nodes = Callable[[int, int], Tiny]


def cache(tiny: Tiny, size: int = 256, flags: int = 0) -> int:
    """A cache called after its size."""
    s = kmem_cache_create(tiny.m, 0, b"objects", size, 0, flags)
    assert s
    return s


def stat(tiny: Tiny, item: int, nid: int = 0) -> int:
    """A node counter."""
    nd = (tiny.m[tiny.zones[nid] + Z_PGDAT] - PAGE_OFFSET) >> 3
    return tiny.m[nd + ND_VM_STAT + item]


def slab_of(tiny: Tiny, x: int) -> int:
    """The struct page of an object of an order-0 slab."""
    return tiny.page(x >> 9)


def test_objects_of_a_slab_come_in_the_order_of_their_addresses(tiny_zone: Tiny) -> None:
    s = cache(tiny_zone)
    found = [kmem_cache_alloc(tiny_zone.m, 0, s, GFP_KERNEL) for _ in range(16)]
    assert found == list(range(found[0], found[0] + 16 * 32, 32))


def test_a_freed_object_is_the_next_to_be_handed_out(tiny_zone: Tiny) -> None:
    m, s = tiny_zone.m, cache(tiny_zone)
    first, second = (kmem_cache_alloc(m, 0, s, GFP_KERNEL) for _ in range(2))
    assert kmem_cache_free(m, 0, s, first) == 0
    assert kmem_cache_alloc(m, 0, s, GFP_KERNEL) == first
    assert second != first


def test_a_slab_says_so_in_its_struct_page_and_is_counted(tiny_zone: Tiny) -> None:
    m, s = tiny_zone.m, cache(tiny_zone)
    before = stat(tiny_zone, NR_SLAB_UNRECLAIMABLE)
    x = kmem_cache_alloc(m, 0, s, GFP_KERNEL)
    p = slab_of(tiny_zone, x)
    assert m[p + P_FLAGS] & PG_SLAB
    assert m[p + P_MAPPING] == PAGE_OFFSET + (s << 3)
    assert m[p + P_PRIVATE] == SLAB_FROZEN | 16 << 16 | 16
    assert stat(tiny_zone, NR_SLAB_UNRECLAIMABLE) == before + 1
    kmem_cache_free(m, 0, s, x)
    assert kmem_cache_shrink(m, 0, s) == 0
    assert m[p + P_FLAGS] & PG_SLAB == 0
    assert m[p + P_MAPPING] == 0
    assert stat(tiny_zone, NR_SLAB_UNRECLAIMABLE) == before


def test_reclaimable_caches_are_counted_apart(tiny_zone: Tiny) -> None:
    s = cache(tiny_zone, 256, SLAB_RECLAIM_ACCOUNT)
    before = stat(tiny_zone, NR_SLAB_UNRECLAIMABLE)
    kmem_cache_alloc(tiny_zone.m, 0, s, GFP_KERNEL)
    assert stat(tiny_zone, NR_SLAB_RECLAIMABLE) == 1
    assert stat(tiny_zone, NR_SLAB_UNRECLAIMABLE) == before


def test_a_slab_of_several_pages_is_one_compound_page(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    s = kmem_cache_create(m, 0, b"large", 2048, 0, SLAB_HWCACHE_ALIGN)
    found = [kmem_cache_alloc(m, 0, s, GFP_KERNEL) for _ in range(m[s + KC_OO] & OO_MASK)]
    p = tiny_zone.page(found[0] >> 9)
    assert m[p + P_FLAGS] & PG_HEAD
    assert all(kmem_cache_free(m, 0, s, x) == 0 for x in reversed(found))


def test_zeroing_clears_the_whole_object(tiny_zone: Tiny) -> None:
    m, s = tiny_zone.m, cache(tiny_zone, 264)
    x = kmem_cache_alloc(m, 0, s, GFP_KERNEL)
    for i in range(33):
        m[x + i] = -1
    kmem_cache_free(m, 0, s, x)
    assert kmem_cache_zalloc(m, 0, s, GFP_KERNEL) == x
    assert [m[x + i] for i in range(33)] == [0] * 33
    assert kmem_cache_alloc(m, 0, s, GFP_KERNEL | GFP_ZERO_BIT) != x


def test_typesafe_objects_keep_their_contents_when_they_are_freed(tiny_zone: Tiny) -> None:
    m, s = tiny_zone.m, cache(tiny_zone, 64, SLAB_TYPESAFE_BY_RCU)
    x = kmem_cache_alloc(m, 0, s, GFP_KERNEL)
    for i in range(8):
        m[x + i] = 100 + i
    kmem_cache_free(m, 0, s, x)
    assert [m[x + i] for i in range(8)] == list(range(100, 108))


def test_a_full_slab_that_gets_an_object_back_waits_on_the_cpus_partial_list(
    tiny_zone: Tiny,
) -> None:
    m, s = tiny_zone.m, cache(tiny_zone)
    c = s + KC_CPUS
    found = [kmem_cache_alloc(m, 0, s, GFP_KERNEL) for _ in range(17)]
    assert m[c + KCC_PARTIAL] == 0
    kmem_cache_free(m, 0, s, found[3])
    page_va = VMEMMAP_START + (found[0] >> 9 << 6)
    assert m[c + KCC_PARTIAL] == page_va
    p = page_of_va(m, page_va)
    assert m[p + P_PRIVATE] & SLAB_FROZEN
    assert m[p + P_PRIVATE] & SLAB_INUSE_MASK == 15
    # the CPU's own slab first, then the one that waits
    rest = [kmem_cache_alloc(m, 0, s, GFP_KERNEL) for _ in range(16)]
    assert rest[-1] == found[3]
    assert m[c + KCC_PARTIAL] == 0
    assert m[c + KCC_PAGE] == page_va


def test_the_cpus_list_goes_to_the_node_when_it_holds_too_many_objects(tiny_zone: Tiny) -> None:
    m, s = tiny_zone.m, cache(tiny_zone)
    per_slab = 16
    most = m[s + KC_CPU_PARTIAL]
    slabs = most + 4
    found = [kmem_cache_alloc(m, 0, s, GFP_KERNEL) for _ in range(per_slab * slabs)]
    n = get_node(m, s, 0)
    for i in range(most + 1):
        kmem_cache_free(m, 0, s, found[i * per_slab])
    assert m[n + KCN_NR_PARTIAL] == 0
    kmem_cache_free(m, 0, s, found[(most + 1) * per_slab])
    assert m[n + KCN_NR_PARTIAL] == most + 1


def test_empty_slabs_beyond_the_minimum_go_back(tiny_zone: Tiny) -> None:
    m, s = tiny_zone.m, cache(tiny_zone, 4096)
    n = get_node(m, s, 0)
    per_slab = m[s + KC_OO] & OO_MASK
    found = [kmem_cache_alloc(m, 0, s, GFP_KERNEL) for _ in range(per_slab * 12)]
    assert m[n + KCN_NR_SLABS] == 12
    flush_cpu_slab(m, 0, s)
    for x in found:
        kmem_cache_free(m, 0, s, x)
    flush_cpu_slab(m, 0, s)
    assert m[n + KCN_NR_SLABS] == m[n + KCN_NR_PARTIAL] == m[s + KC_MIN_PARTIAL]
    assert m[n + KCN_TOTAL_OBJECTS] == per_slab * m[s + KC_MIN_PARTIAL]


def test_a_node_that_is_asked_for_is_where_the_object_is(tiny_nodes: Nodes) -> None:
    tiny = tiny_nodes(2, 2)
    m, s = tiny.m, cache(tiny)
    for nid in (0, 1, 1, 0, 1):
        x = kmem_cache_alloc_node(m, 0, s, GFP_KERNEL, nid)
        assert (x >> 9) - tiny.start < 4096 if nid == 0 else (x >> 9) - tiny.start >= 4096
    assert m[get_node(m, s, 1) + KCN_NR_SLABS] == 1


def test_cpus_have_slabs_of_their_own_and_free_into_each_others(tiny_nodes: Nodes) -> None:
    tiny = tiny_nodes(1, 2)
    m, s = tiny.m, cache(tiny)
    mine, theirs = kmem_cache_alloc(m, 0, s, GFP_KERNEL), kmem_cache_alloc(m, 1, s, GFP_KERNEL)
    assert mine >> 9 != theirs >> 9
    own_list = m[s + KC_CPUS + KCC_FREELIST]
    kmem_cache_free(m, 1, s, mine)
    assert m[s + KC_CPUS + KCC_FREELIST] == own_list, "the other CPU's list is not touched"
    # CPU 0 gets to it when its list is empty
    found = [kmem_cache_alloc(m, 0, s, GFP_KERNEL) for _ in range(16)]
    assert found[-1] == mine


def test_what_is_no_object_of_the_cache_is_not_freed(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    s, other = cache(tiny_zone), cache(tiny_zone, 128)
    x = kmem_cache_alloc(m, 0, s, GFP_KERNEL)
    assert kmem_cache_free(m, 0, other, x) == -22
    pfn = alloc_pages_nodemask(m, 0, GFP_KERNEL, 0, 0, 0)
    assert kmem_cache_free(m, 0, s, pfn << 9) == -22
    assert kfree(m, 0, pfn << 9) == -22
    assert kmem_cache_free(m, 0, s, x) == 0
    assert kmem_cache_free(m, 0, s, x) == -22, "freed twice in a row"


def test_without_memory_there_is_no_object_and_nothing_is_lost(tiny_zone: Tiny) -> None:
    m, s = tiny_zone.m, cache(tiny_zone)
    held = []
    for order in (9, 4, 0):
        while (pfn := alloc_pages_nodemask(m, 0, GFP_ATOMIC, order, 0, 0)) >= 0:
            held.append(pfn)
    assert held
    assert kmem_cache_alloc(m, 0, s, GFP_ATOMIC) == 0
    assert kmalloc(m, 0, 100_000, GFP_ATOMIC) == 0
    assert kmem_cache_destroy(m, 0, s) == 0


@pytest.mark.parametrize("size", [8, 24, 200, 576, 1500, 3000])
def test_random_use_hands_no_object_out_twice_and_gives_all_pages_back(
    tiny_nodes: Nodes, size: int
) -> None:
    tiny = tiny_nodes(2, 2)
    m, rng = tiny.m, random.Random(size)
    s = cache(tiny, size)
    free = tiny.free_pages(0) + tiny.free_pages(1)
    words = (size + 7) // 8
    live: dict[int, int] = {}
    for step in range(3000):
        cpu = rng.randrange(2)
        if live and rng.random() < 0.48:
            x = rng.choice(list(live))
            value = live.pop(x)
            assert m[x] == m[x + words - 1] == value
            assert kmem_cache_free(m, cpu, s, x) == 0
        else:
            x = kmem_cache_alloc_node(m, cpu, s, GFP_KERNEL, rng.choice((-1, -1, 0, 1)))
            assert x
            assert x not in live
            m[x] = m[x + words - 1] = live.setdefault(x, step)
    for x in live:
        assert kmem_cache_free(m, 0, s, x) == 0
    assert kmem_cache_shrink(m, 0, s) == 0
    assert tiny.free_pages(0) + tiny.free_pages(1) == free
