# SPDX-License-Identifier: GPL-2.0-only
"""What a slab cache looks like in guest RAM (mm/slab.h, include/linux/slub_def.h).

A `struct kmem_cache` has a part for every node, an object of its own, and a part for every CPU,
which follows it in memory: there is no separate per-cpu area. `slub` works on them, `slab_common`
makes them; the walks at the end are for those who look.
"""

from __future__ import annotations

from collections.abc import Iterator

from .gfp import (
    GFP_ATOMIC_BIT,
    GFP_DIRECT_RECLAIM_BIT,
    GFP_FS_BIT,
    GFP_HARDWALL_BIT,
    GFP_HIGH_BIT,
    GFP_IO_BIT,
    GFP_KSWAPD_RECLAIM_BIT,
    GFP_MEMALLOC_BIT,
    GFP_NOFAIL_BIT,
    GFP_NOMEMALLOC_BIT,
    GFP_NORETRY_BIT,
    GFP_NOWARN_BIT,
    GFP_RETRY_MAYFAIL_BIT,
    GFP_THISNODE_BIT,
)
from .kernel_globals import G_SLAB_CACHES
from .layout import va_of_word, word_of_va
from .list_head import va_word
from .mmzone import MAX_NUMNODES
from .structs import Struct, array, list_head, scalar

NUMA_NO_NODE = -1
EINVAL = 22

SLAB_HWCACHE_ALIGN = 0x2000
SLAB_CACHE_DMA = 0x4000
SLAB_RECLAIM_ACCOUNT = 0x20000
SLAB_PANIC = 0x40000
SLAB_TYPESAFE_BY_RCU = 0x80000
SLAB_MEM_SPREAD = 0x100000
SLAB_ACCOUNT = 0x4000000

KMEM_CACHE_CPU = Struct(
    "kmem_cache_cpu",
    [
        scalar("freelist", "void *"),
        scalar("tid"),
        scalar("page", "struct page *"),
        scalar("partial", "struct page *"),
    ],
)
KCC_FREELIST = 0
KCC_TID = 1
KCC_PAGE = 2
KCC_PARTIAL = 3
KCC_WORDS = KMEM_CACHE_CPU.words

KMEM_CACHE_NODE = Struct(
    "kmem_cache_node",
    [
        scalar("list_lock", "spinlock_t"),
        scalar("nr_partial"),
        list_head("partial"),
        scalar("nr_slabs", "atomic_long_t"),
        scalar("total_objects", "atomic_long_t"),
        list_head("full"),
    ],
)
KCN_NR_PARTIAL = KMEM_CACHE_NODE["nr_partial"]
KCN_PARTIAL = KMEM_CACHE_NODE["partial"]
KCN_NR_SLABS = KMEM_CACHE_NODE["nr_slabs"]
KCN_TOTAL_OBJECTS = KMEM_CACHE_NODE["total_objects"]
KCN_FULL = KMEM_CACHE_NODE["full"]

# The name lies inside; the CPUs' parts follow the structure, where cpu_slab points.
KMEM_CACHE = Struct(
    "kmem_cache",
    [
        scalar("cpu_slab", "struct kmem_cache_cpu *"),
        scalar("flags", "slab_flags_t"),
        scalar("min_partial"),
        scalar("size", "unsigned int"),
        scalar("object_size", "unsigned int"),
        scalar("offset", "unsigned int"),
        scalar("cpu_partial", "unsigned int"),
        scalar("oo", "struct kmem_cache_order_objects"),
        scalar("max", "struct kmem_cache_order_objects"),
        scalar("min", "struct kmem_cache_order_objects"),
        scalar("allocflags", "gfp_t"),
        scalar("refcount", "int"),
        scalar("inuse", "unsigned int"),
        scalar("align", "unsigned int"),
        array("name", 4, "char[32]"),
        list_head("list"),
        scalar("remote_node_defrag_ratio", "unsigned int"),
        scalar("reserved"),
        array("node", MAX_NUMNODES, "struct kmem_cache_node *"),
    ],
)
KC_CPU_SLAB = KMEM_CACHE["cpu_slab"]
KC_FLAGS = KMEM_CACHE["flags"]
KC_MIN_PARTIAL = KMEM_CACHE["min_partial"]
KC_SIZE = KMEM_CACHE["size"]
KC_OBJECT_SIZE = KMEM_CACHE["object_size"]
KC_OFFSET = KMEM_CACHE["offset"]
KC_CPU_PARTIAL = KMEM_CACHE["cpu_partial"]
KC_OO = KMEM_CACHE["oo"]
KC_MAX = KMEM_CACHE["max"]
KC_MIN = KMEM_CACHE["min"]
KC_ALLOCFLAGS = KMEM_CACHE["allocflags"]
KC_REFCOUNT = KMEM_CACHE["refcount"]
KC_INUSE = KMEM_CACHE["inuse"]
KC_ALIGN = KMEM_CACHE["align"]
KC_NAME = KMEM_CACHE["name"]
KC_LIST = KMEM_CACHE["list"]
KC_DEFRAG_RATIO = KMEM_CACHE["remote_node_defrag_ratio"]
KC_NODE = KMEM_CACHE["node"]
KC_CPUS = KMEM_CACHE.words

OO_SHIFT = 16
MAX_CACHES = 1 << 16
MAX_SLABS = 1 << 22
"""How far a list is followed by those who look: a damaged one may have no end."""
OO_MASK = (1 << OO_SHIFT) - 1
SLAB_INUSE_MASK = 0xFFFF
SLAB_OBJECTS_SHIFT = 16
SLAB_OBJECTS_MASK = 0x7FFF
SLAB_FROZEN = 1 << 31
POBJECTS_SHIFT = 32

GFP_RECLAIM_BITS = GFP_DIRECT_RECLAIM_BIT | GFP_KSWAPD_RECLAIM_BIT
# GFP_RECLAIM_MASK | GFP_CONSTRAINT_MASK of mm/internal.h: what a cache passes on of a request
GFP_SLAB_MASK = (
    GFP_RECLAIM_BITS
    | GFP_HIGH_BIT
    | GFP_IO_BIT
    | GFP_FS_BIT
    | GFP_NOWARN_BIT
    | GFP_RETRY_MAYFAIL_BIT
    | GFP_NOFAIL_BIT
    | GFP_NORETRY_BIT
    | GFP_MEMALLOC_BIT
    | GFP_NOMEMALLOC_BIT
    | GFP_ATOMIC_BIT
    | GFP_HARDWALL_BIT
    | GFP_THISNODE_BIT
)


def partial_slabs(m: memoryview, n: int) -> Iterator[int]:
    """vmemmap addresses of the slabs on a node's partial list, head first."""
    head = va_of_word(n + KCN_PARTIAL)
    lru = m[n + KCN_PARTIAL]
    for _ in range(MAX_SLABS):
        if lru == head:
            return
        yield lru - 8
        lru = m[va_word(m, lru)]


def slab_caches(m: memoryview) -> Iterator[int]:
    """All caches, newest first."""
    va = m[G_SLAB_CACHES]
    for _ in range(MAX_CACHES):
        if va in (0, va_of_word(G_SLAB_CACHES)):
            return
        yield word_of_va(va) - KC_LIST
        va = m[word_of_va(va)]


def kmem_cache_name(m: memoryview, s: int) -> str:
    """The cache's name."""
    raw = b"".join((m[s + KC_NAME + i] & (1 << 64) - 1).to_bytes(8, "little") for i in range(4))
    return raw.split(b"\0")[0].decode("latin-1")
