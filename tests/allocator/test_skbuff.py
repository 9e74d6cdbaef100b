# SPDX-License-Identifier: GPL-2.0-only
"""Network buffers: fragments for small packets of those who may not sleep, else kmalloc."""

from __future__ import annotations

import random

from allocator.gfp import GFP_ATOMIC, GFP_KERNEL
from allocator.kernel_globals import G_NETDEV_CACHES
from allocator.layout import PAGE_OFFSET, word_of_va
from allocator.mm_types import P_FLAGS, PG_SLAB
from allocator.page_frag import NC_BIAS, NC_VA, compound_head_pfn, page_frag_cache_drain
from allocator.skbuff import (
    NET_SKB_PAD,
    SKB_DATA,
    SKB_HEAD,
    SKB_HEAD_FRAG,
    SKB_LEN,
    SKB_TRUESIZE,
    kfree_skb,
    netdev_alloc_skb,
    skb_data_align,
    skb_init,
    skb_next,
)
from allocator.slab import slab_caches
from allocator.slab_common import kmem_cache_shrink
from tests.allocator.tiny import Tiny, make_tiny


def ready() -> Tiny:
    """A memory with network buffers."""
    tiny = make_tiny(1, 2)
    assert skb_init(tiny.m, 0) == 0
    return tiny


def test_lengths_are_reckoned_as_in_420() -> None:
    m = ready().m
    skb = netdev_alloc_skb(m, 0, 1500, GFP_ATOMIC)
    assert m[skb + SKB_LEN] == 1500
    assert m[skb + SKB_DATA] - m[skb + SKB_HEAD] == NET_SKB_PAD
    assert m[skb + SKB_TRUESIZE] == skb_data_align(1564) + 320 + 256
    assert [skb_data_align(n) for n in (0, 1, 64, 65)] == [0, 64, 64, 128]


def test_packets_of_a_cpu_lie_below_each_other_in_one_block() -> None:
    m = ready().m
    first, second = (netdev_alloc_skb(m, 0, 100, GFP_ATOMIC) for _ in range(2))
    other = netdev_alloc_skb(m, 1, 100, GFP_ATOMIC)
    assert m[first + SKB_HEAD] - m[second + SKB_HEAD] == skb_data_align(164) + 320
    heads = [
        compound_head_pfn(m, (m[skb + SKB_HEAD] - PAGE_OFFSET) >> 12)
        for skb in (first, second, other)
    ]
    assert heads[0] == heads[1] != heads[2]


def test_large_packets_and_callers_who_may_sleep_get_memory_of_their_own() -> None:
    tiny = ready()
    m = tiny.m
    for length, gfp, frag in (
        (3712, GFP_ATOMIC, 1),
        (3713, GFP_ATOMIC, 0),
        (100, GFP_KERNEL, 0),
        (9000, GFP_ATOMIC, 0),
    ):
        skb = netdev_alloc_skb(m, 0, length, gfp)
        assert m[skb + SKB_HEAD_FRAG] == frag
        if length == 100:
            assert m[tiny.page((m[skb + SKB_HEAD] - PAGE_OFFSET) >> 12) + P_FLAGS] & PG_SLAB
        kfree_skb(m, 0, skb)


def test_random_packets_keep_their_bytes_and_everything_comes_back() -> None:
    tiny = ready()
    m, rng = tiny.m, random.Random(9)
    free = tiny.free_pages()
    live: dict[int, int] = {}
    for step in range(2000):
        if live and rng.random() < 0.5:
            skb = rng.choice(list(live))
            at = (m[skb + SKB_DATA] - PAGE_OFFSET) >> 3
            assert m[at] == live.pop(skb)
            kfree_skb(m, rng.randrange(2), skb)
        else:
            gfp = rng.choice((GFP_ATOMIC, GFP_ATOMIC, GFP_KERNEL))
            skb = netdev_alloc_skb(m, rng.randrange(2), rng.choice((8, 64, 1500, 9000)), gfp)
            assert skb not in live
            m[(m[skb + SKB_DATA] - PAGE_OFFSET) >> 3] = live.setdefault(skb, step)
    listed = []
    skb = skb_next(m, 0)
    while skb:
        listed.append(skb)
        skb = skb_next(m, skb)
    assert listed == list(live), "oldest first"
    for skb in listed:
        kfree_skb(m, 0, skb)
    caches = word_of_va(m[G_NETDEV_CACHES])
    for cpu in range(2):
        nc = caches + cpu * 5
        pfn = (m[nc + NC_VA] - PAGE_OFFSET) >> 12
        page_frag_cache_drain(m, 0, pfn, m[nc + NC_BIAS])
        m[nc + NC_VA] = 0
    for s in list(slab_caches(m)):
        kmem_cache_shrink(m, 0, s)
    assert tiny.free_pages() >= free


def test_without_memory_a_packet_is_dropped() -> None:
    from allocator.page_alloc import alloc_pages_nodemask

    tiny = ready()
    m = tiny.m
    for order in (9, 3, 0):
        while alloc_pages_nodemask(m, 0, GFP_ATOMIC, order, 0, 0) >= 0:
            continue
    assert netdev_alloc_skb(m, 0, 1500, GFP_ATOMIC) == 0
    assert skb_next(m, 0) == 0
