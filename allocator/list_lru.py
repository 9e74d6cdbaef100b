# SPDX-License-Identifier: GPL-2.0-only
"""Lists of reclaimable kernel objects, one a node (mm/list_lru.c).

A shrinker wants the oldest objects of one node. A `list_lru` keeps a list per node; an object is on
the list of the node that its memory is on. `lru` is the word index of the array of per-node lists,
`item` of the object's list head of two words, which points to itself while it is on no list. Hot.
"""

from __future__ import annotations

from .gfp import GFP_KERNEL, GFP_ZERO_BIT
from .layout import PAGE_OFFSET, SECTION_PAGES
from .list_head import list_add_tail, list_del, list_init
from .mm_types import NODES_MASK, NODES_PGSHIFT, P_FLAGS
from .mmzone import MAX_NUMNODES
from .slab_common import kmalloc
from .slub import kfree
from .structs import Struct, list_head, scalar

LIST_LRU_NODE = Struct("list_lru_node", [list_head("list"), scalar("nr_items", "long")], words=4)
LL_LIST = LIST_LRU_NODE["list"]
LL_NR_ITEMS = LIST_LRU_NODE["nr_items"]
LL_WORDS = LIST_LRU_NODE.words


def object_node(m: memoryview, x: int) -> int:
    """Node id of the memory of the object at word `x`. Hot."""
    pfn = x >> 9
    return (
        m[m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3) + P_FLAGS] >> NODES_PGSHIFT & NODES_MASK
    )


def list_lru_init(m: memoryview, cpu: int) -> int:
    """A list for every node: word index of the array, or 0. Hot."""
    lru = kmalloc(m, cpu, MAX_NUMNODES * LL_WORDS * 8, GFP_KERNEL | GFP_ZERO_BIT)
    if lru:
        for nid in range(MAX_NUMNODES):
            list_init(m, lru + nid * LL_WORDS)
    return lru


def list_lru_destroy(m: memoryview, cpu: int, lru: int) -> int:
    """Gives the array back: 0 or a negative errno. Hot."""
    return kfree(m, cpu, lru)


def list_lru_add(m: memoryview, lru: int, item: int) -> bool:
    """Adds an object at the young end; False if it is on a list already. Hot."""
    va = PAGE_OFFSET + (item << 3)
    if m[item] != va:
        return False
    at = lru + object_node(m, item) * LL_WORDS
    list_add_tail(m, item, va, at)
    m[at + LL_NR_ITEMS] += 1
    return True


def list_lru_del(m: memoryview, lru: int, item: int) -> bool:
    """Takes an object off; False if it is on no list. Hot."""
    if m[item] == PAGE_OFFSET + (item << 3):
        return False
    list_del(m, item)
    list_init(m, item)
    m[lru + object_node(m, item) * LL_WORDS + LL_NR_ITEMS] -= 1
    return True


def list_lru_count_node(m: memoryview, lru: int, nid: int) -> int:
    """Objects on a node's list. Hot."""
    return m[lru + nid * LL_WORDS + LL_NR_ITEMS]


def list_lru_first(m: memoryview, lru: int, nid: int) -> int:
    """The oldest object of a node: word index of its list head, or 0. Hot."""
    at = lru + nid * LL_WORDS
    va = m[at]
    return 0 if va == PAGE_OFFSET + (at << 3) else (va - PAGE_OFFSET) >> 3


def list_lru_rotate(m: memoryview, lru: int, item: int) -> None:
    """Makes an object the youngest of its node. Hot."""
    list_del(m, item)
    list_add_tail(m, item, PAGE_OFFSET + (item << 3), lru + object_node(m, item) * LL_WORDS)
