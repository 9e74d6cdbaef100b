# SPDX-License-Identifier: GPL-2.0-only
"""list_lru: an object is on the list of the node that its memory is on, oldest first."""

from __future__ import annotations

from collections.abc import Callable

from allocator.gfp import GFP_KERNEL
from allocator.list_head import list_init
from allocator.list_lru import (
    list_lru_add,
    list_lru_count_node,
    list_lru_del,
    list_lru_destroy,
    list_lru_first,
    list_lru_init,
    list_lru_rotate,
    object_node,
)
from allocator.slab_common import kmalloc_node, kmem_cache_init
from tests.allocator.tiny import Tiny

Nodes = Callable[[int, int], Tiny]


def test_objects_go_to_their_nodes_list_and_leave_it_oldest_first(tiny_nodes: Nodes) -> None:
    m = tiny_nodes(2, 1).m
    kmem_cache_init(m, 0)
    lru = list_lru_init(m, 0)
    here = [kmalloc_node(m, 0, 64, GFP_KERNEL, 0) for _ in range(3)]
    there = [kmalloc_node(m, 0, 64, GFP_KERNEL, 1) for _ in range(2)]
    for item in here + there:
        list_init(m, item)
        assert list_lru_add(m, lru, item)
        assert not list_lru_add(m, lru, item), "it is on the list already"
    assert [object_node(m, item) for item in here + there] == [0, 0, 0, 1, 1]
    assert (list_lru_count_node(m, lru, 0), list_lru_count_node(m, lru, 1)) == (3, 2)
    assert list_lru_first(m, lru, 0) == here[0]
    list_lru_rotate(m, lru, here[0])
    assert list_lru_first(m, lru, 0) == here[1]
    assert list_lru_del(m, lru, here[1])
    assert not list_lru_del(m, lru, here[1])
    assert list_lru_first(m, lru, 0) == here[2]
    assert list_lru_count_node(m, lru, 0) == 2
    for item in (here[0], here[2]):
        list_lru_del(m, lru, item)
    assert list_lru_first(m, lru, 0) == 0
    assert list_lru_destroy(m, 0, lru) == 0
