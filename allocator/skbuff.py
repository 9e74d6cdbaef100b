# SPDX-License-Identifier: GPL-2.0-only
"""Network buffers: who uses page fragments (net/core/skbuff.c).

A driver that receives a packet takes an sk_buff from its cache and, for the bytes, a fragment from
its CPU's `netdev_alloc_cache`; a packet that does not fit into a page, or a caller who may sleep,
gets memory of its own from kmalloc. In front of the bytes is room for headers, behind them the
block's accounts (skb_shared_info), as 4.20 reckons them. All buffers are on one list, so that
inspection can say whose frames they are.

Hot but `skb_init`: `skb` is the word index of an sk_buff, lengths are bytes.
"""

from __future__ import annotations

from .gfp import GFP_DIRECT_RECLAIM_BIT, GFP_DMA_BIT, GFP_KERNEL, GFP_ZERO_BIT
from .kernel_globals import G_NETDEV_CACHES, G_NR_CPU_IDS, G_SKB_LIST, G_SKBUFF_CACHEP
from .layout import PAGE_OFFSET, va_of_word
from .list_head import list_add_tail, list_del, list_init
from .mm_types import PAGE_SIZE
from .page_frag import PAGE_FRAG_CACHE, page_frag_alloc, page_frag_free
from .slab import SLAB_HWCACHE_ALIGN, SLAB_PANIC
from .slab_common import kmalloc, kmem_cache_create
from .slub import kfree, kmem_cache_alloc, kmem_cache_free
from .structs import Struct, list_head, scalar

ENOMEM = 12
EINVAL = 22
SMP_CACHE_BYTES = 64
NET_SKB_PAD = 64
"""Room for headers in front of the bytes."""
SHARED_INFO_BYTES = 320
"""sizeof(struct skb_shared_info), rounded up to cache lines."""

SK_BUFF = Struct(
    "sk_buff",
    [
        list_head("list"),
        scalar("len", "unsigned int"),
        scalar("data", "unsigned char *"),
        scalar("head", "unsigned char *"),
        scalar("truesize", "unsigned int"),
        scalar("head_frag", "bool"),
        scalar("alloc_cpu", "int"),
    ],
    words=32,
)
SKB_LEN = SK_BUFF["len"]
SKB_DATA = SK_BUFF["data"]
SKB_HEAD = SK_BUFF["head"]
SKB_TRUESIZE = SK_BUFF["truesize"]
SKB_HEAD_FRAG = SK_BUFF["head_frag"]
SKB_CPU = SK_BUFF["alloc_cpu"]
SK_BUFF_BYTES = SK_BUFF.size
PAGE_FRAG_CACHE_WORDS = PAGE_FRAG_CACHE.words


def skb_init(m: memoryview, cpu: int) -> int:
    """Makes the cache of sk_buffs and every CPU's cache of fragments, once: 0 or -ENOMEM."""
    if m[G_NETDEV_CACHES]:
        return 0
    flags = SLAB_HWCACHE_ALIGN | SLAB_PANIC
    s = kmem_cache_create(m, cpu, b"skbuff_head_cache", SK_BUFF.size, 0, flags)
    size = m[G_NR_CPU_IDS] * PAGE_FRAG_CACHE.size
    caches = kmalloc(m, cpu, size, GFP_KERNEL | GFP_ZERO_BIT) if s else 0
    if caches == 0:
        return -ENOMEM
    list_init(m, G_SKB_LIST)
    m[G_SKBUFF_CACHEP] = va_of_word(s)
    m[G_NETDEV_CACHES] = va_of_word(caches)
    return 0


def skb_data_align(length: int) -> int:
    """A length rounded up to cache lines. Hot."""
    return length + SMP_CACHE_BYTES - 1 & -SMP_CACHE_BYTES


def netdev_alloc_skb(m: memoryview, cpu: int, length: int, gfp: int) -> int:
    """A buffer for a packet of `length` bytes, whose bytes are those of whoever had the memory
    before: its sk_buff, or 0 without memory. Hot (__netdev_alloc_skb)."""
    room = length + NET_SKB_PAD
    whole = skb_data_align(room) + SHARED_INFO_BYTES
    may_sleep = gfp & (GFP_DIRECT_RECLAIM_BIT | GFP_DMA_BIT) != 0
    frag = room <= PAGE_SIZE - SHARED_INFO_BYTES and not may_sleep
    if frag:
        caches = (m[G_NETDEV_CACHES] - PAGE_OFFSET) >> 3
        head = page_frag_alloc(m, cpu, caches + cpu * PAGE_FRAG_CACHE_WORDS, whole, gfp)
    else:
        x = kmalloc(m, cpu, whole, gfp)
        head = PAGE_OFFSET + (x << 3) if x else 0
    if head == 0:
        return 0
    skb = kmem_cache_alloc(m, cpu, (m[G_SKBUFF_CACHEP] - PAGE_OFFSET) >> 3, gfp | GFP_ZERO_BIT)
    if skb == 0:
        skb_free_head(m, cpu, head, frag)
        return 0
    m[skb + SKB_LEN] = length
    m[skb + SKB_DATA] = head + NET_SKB_PAD
    m[skb + SKB_HEAD] = head
    m[skb + SKB_TRUESIZE] = whole + SK_BUFF_BYTES
    m[skb + SKB_HEAD_FRAG] = 1 if frag else 0
    m[skb + SKB_CPU] = cpu
    list_add_tail(m, skb, PAGE_OFFSET + (skb << 3), G_SKB_LIST)
    return skb


def skb_free_head(m: memoryview, cpu: int, head: int, frag: bool) -> None:
    """Gives the memory of a buffer's bytes back. Hot."""
    if frag:
        page_frag_free(m, cpu, head)
    else:
        kfree(m, cpu, (head - PAGE_OFFSET) >> 3)


def kfree_skb(m: memoryview, cpu: int, skb: int) -> None:
    """Gives a buffer back. Hot."""
    list_del(m, skb)
    skb_free_head(m, cpu, m[skb + SKB_HEAD], m[skb + SKB_HEAD_FRAG] != 0)
    kmem_cache_free(m, cpu, (m[G_SKBUFF_CACHEP] - PAGE_OFFSET) >> 3, skb)


def skb_next(m: memoryview, skb: int) -> int:
    """The buffer after `skb` (0: the first), oldest first; 0 behind the last. Hot."""
    va = m[skb] if skb else m[G_SKB_LIST]
    if va == 0 or va == PAGE_OFFSET + (G_SKB_LIST << 3):
        return 0
    return (va - PAGE_OFFSET) >> 3
