# SPDX-License-Identifier: GPL-2.0-only
"""`struct page`: 64 bytes a frame, exactly Linux 4.20's layout (include/linux/mm_types.h).

A page is addressed in the hot path by the word index of its struct page. Eight words:

    0 flags      node (bits 58-63), zone (56-57) and the PG_ bits
    1 lru.next   guest virtual address; in a tail page compound_head (head's address + 1)
    2 lru.prev   in the first tail: compound_dtor (bits 0-7), compound_order (8-15) and, in the high
                 half, compound_mapcount (s32, -1 when not mapped as a whole)
    3 mapping
    4 index      for a free page on a per-cpu list: its free list's migratetype
    5 private    for a page in the buddy lists: its order
    6 low half   _mapcount, s32, -1 when unmapped; page types clear a bit (PageBuddy: bit 7)
      high half  _refcount, s32
    7 mem_cgroup

The two halves of word 6 move together, so states that the allocator knows are whole-word
constants: COUNTS_FREE (0 references, not mapped), COUNTS_ONE (one reference) and COUNTS_BUDDY.

Page flag numbers follow include/linux/page-flags.h with MMU, ARCH_USES_PG_UNCACHED and
MEMORY_FAILURE; the node and zone bits are where x86-64 with SPARSEMEM_VMEMMAP, NODES_SHIFT 6
and no NUMA_BALANCING puts them (include/linux/page-flags-layout.h).
"""

from __future__ import annotations

from .structs import Struct, list_head, scalar

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PAGE_WORDS = PAGE_SIZE // 8

PAGE = Struct(
    "page",
    [
        scalar("flags"),
        list_head("lru"),
        scalar("mapping", "struct address_space *"),
        scalar("index"),
        scalar("private"),
        scalar("_counts", "int _mapcount, _refcount"),
        scalar("mem_cgroup", "struct mem_cgroup *"),
    ],
)
STRUCT_PAGE_SIZE = PAGE.size
STRUCT_PAGE_WORDS = PAGE.words

P_FLAGS = 0
P_NEXT = 1
P_PREV = 2
P_MAPPING = 3
P_INDEX = 4
P_PRIVATE = 5
P_COUNTS = 6
P_MEMCG = 7

COUNTS_FREE = 0xFFFFFFFF
COUNTS_ONE = 0x1FFFFFFFF
COUNTS_BUDDY = 0xFFFFFF7F
REF_SHIFT = 32
REF_ONE = 1 << REF_SHIFT
MAPCOUNT_MASK = 0xFFFFFFFF
COMPOUND_MAPCOUNT_SHIFT = 32
COMPOUND_MAPCOUNT_ONE = 1 << COMPOUND_MAPCOUNT_SHIFT

# Page types (include/linux/page-flags.h): a cleared bit of _mapcount marks the type.
PAGE_TYPE_BASE = 0xF0000000
PG_BUDDY_TYPE = 0x80
PAGE_BUDDY_MASK = PAGE_TYPE_BASE | PG_BUDDY_TYPE
PG_BALLOON_TYPE = 0x100
PG_KMEMCG_TYPE = 0x200
PG_TABLE_TYPE = 0x400

PAGE_FLAG_NAMES = (
    "locked",
    "referenced",
    "uptodate",
    "dirty",
    "lru",
    "active",
    "workingset",
    "waiters",
    "error",
    "slab",
    "owner_priv_1",
    "arch_1",
    "reserved",
    "private",
    "private_2",
    "writeback",
    "head",
    "mappedtodisk",
    "reclaim",
    "swapbacked",
    "unevictable",
    "mlocked",
    "uncached",
    "hwpoison",
)
NR_PAGEFLAGS = len(PAGE_FLAG_NAMES)

PG_LOCKED = 1 << 0
PG_REFERENCED = 1 << 1
PG_UPTODATE = 1 << 2
PG_DIRTY = 1 << 3
PG_LRU = 1 << 4
PG_ACTIVE = 1 << 5
PG_WORKINGSET = 1 << 6
PG_WAITERS = 1 << 7
PG_ERROR = 1 << 8
PG_SLAB = 1 << 9
PG_OWNER_PRIV_1 = 1 << 10
PG_ARCH_1 = 1 << 11
PG_RESERVED = 1 << 12
PG_PRIVATE = 1 << 13
PG_PRIVATE_2 = 1 << 14
PG_WRITEBACK = 1 << 15
PG_HEAD = 1 << 16
PG_MAPPEDTODISK = 1 << 17
PG_RECLAIM = 1 << 18
PG_SWAPBACKED = 1 << 19
PG_UNEVICTABLE = 1 << 20
PG_MLOCKED = 1 << 21
PG_UNCACHED = 1 << 22
PG_HWPOISON = 1 << 23

PAGE_FLAGS_CHECK_AT_FREE = (
    PG_LRU
    | PG_LOCKED
    | PG_PRIVATE
    | PG_PRIVATE_2
    | PG_WRITEBACK
    | PG_RESERVED
    | PG_SLAB
    | PG_ACTIVE
    | PG_UNEVICTABLE
    | PG_MLOCKED
)
PAGE_FLAGS_CHECK_AT_PREP = ((1 << NR_PAGEFLAGS) - 1) & ~PG_HWPOISON
PAGE_FLAGS_NEW_PAGE = PAGE_FLAGS_CHECK_AT_PREP | PG_HWPOISON

NODES_SHIFT = 6
ZONES_SHIFT = 2
NODES_PGSHIFT = 58
ZONES_PGSHIFT = 56
ZONEID_PGSHIFT = 56
ZONEID_MASK = 0xFF
NODES_MASK = 0x3F
ZONES_MASK = 0x3

PAGE_MAPPING_ANON = 1
PAGE_MAPPING_MOVABLE = 2
PAGE_MAPPING_FLAGS = 3

# include/linux/poison.h with CONFIG_ILLEGAL_POINTER_VALUE = 0xdead000000000000, as signed words
LIST_POISON1 = 0xDEAD000000000100 - (1 << 64)
LIST_POISON2 = 0xDEAD000000000200 - (1 << 64)
TAIL_MAPPING = 0xDEAD000000000400 - (1 << 64)
COMPOUND_PAGE_DTOR = 1


def page_links(nid: int, zid: int) -> int:
    """The flags word that names node `nid` and zone `zid`, signed (set_page_links)."""
    links = (nid << NODES_PGSHIFT) | (zid << ZONES_PGSHIFT)
    return links - (1 << 64) if links >> 63 else links
