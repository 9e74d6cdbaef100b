# SPDX-License-Identifier: GPL-2.0-only
"""The XArray behaves as a dictionary with marks, and gives every node back."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from allocator.gfp import GFP_KERNEL, GFP_NOWAIT
from allocator.kernel_globals import G_RADIX_TREE_NODE_CACHEP, G_SHADOW_NODES
from allocator.layout import va_of_word, word_of_va
from allocator.list_lru import list_lru_count_node, list_lru_init
from allocator.slab import KC_NODE, KCN_NR_SLABS
from allocator.slab_common import kmem_cache_shrink
from allocator.xarray import (
    PAGECACHE_TAG_DIRTY,
    PAGECACHE_TAG_TOWRITE,
    PAGECACHE_TAG_WRITEBACK,
    XA_FLAGS_SHADOWS,
    XA_HEAD,
    XA_NODE,
    XA_PRESENT,
    radix_tree_init,
    xa_clear_mark,
    xa_empty,
    xa_erase,
    xa_err,
    xa_find,
    xa_get_mark,
    xa_init,
    xa_is_node,
    xa_is_value,
    xa_load,
    xa_marked,
    xa_mk_value,
    xa_set_mark,
    xa_store,
    xa_to_value,
)
from tests.allocator.tiny import SCRATCH_WORD, Tiny

XA = SCRATCH_WORD
Nodes = Callable[[int, int], Tiny]


@pytest.fixture
def tiny(tiny_zone: Tiny) -> Tiny:
    """A memory with the node cache made and an empty array at XA."""
    assert radix_tree_init(tiny_zone.m, 0) == 0
    xa_init(tiny_zone.m, XA, 0)
    return tiny_zone


def page(n: int) -> int:
    """Something like a struct page's address."""
    return va_of_word(8 * n + (1 << 20))


def slabs_left(tiny: Tiny) -> int:
    """Slabs of the node cache that still hold a node."""
    m = tiny.m
    cache = word_of_va(m[G_RADIX_TREE_NODE_CACHEP])
    kmem_cache_shrink(m, 0, cache)
    return m[word_of_va(m[cache + KC_NODE]) + KCN_NR_SLABS]


def test_a_node_is_576_bytes() -> None:
    assert XA_NODE.size == 576


def test_a_lone_entry_at_index_0_needs_no_node(tiny: Tiny) -> None:
    m = tiny.m
    assert xa_store(m, 0, XA, 0, page(1), GFP_KERNEL) == 0
    assert m[XA + XA_HEAD] == page(1)
    assert xa_load(m, XA, 0) == page(1)
    assert xa_load(m, XA, 1) == 0
    xa_set_mark(m, XA, 0, PAGECACHE_TAG_DIRTY)
    assert xa_find(m, XA, 0, 9, PAGECACHE_TAG_DIRTY) == 0
    assert xa_erase(m, 0, XA, 0) == page(1)
    assert xa_empty(m, XA)
    assert not xa_marked(m, XA, PAGECACHE_TAG_DIRTY)


def test_growing_keeps_the_marks_of_a_lone_entry(tiny: Tiny) -> None:
    m = tiny.m
    xa_store(m, 0, XA, 0, page(1), GFP_KERNEL)
    xa_set_mark(m, XA, 0, PAGECACHE_TAG_WRITEBACK)
    xa_store(m, 0, XA, 1 << 20, page(2), GFP_KERNEL)
    assert xa_get_mark(m, XA, 0, PAGECACHE_TAG_WRITEBACK)
    assert not xa_get_mark(m, XA, 1 << 20, PAGECACHE_TAG_WRITEBACK)
    assert xa_erase(m, 0, XA, 1 << 20) == page(2)
    assert m[XA + XA_HEAD] == page(1), "the tree shrinks back to its head"
    assert xa_get_mark(m, XA, 0, PAGECACHE_TAG_WRITEBACK)


def test_replacing_keeps_marks_and_erasing_drops_them(tiny: Tiny) -> None:
    m = tiny.m
    xa_store(m, 0, XA, 70, page(1), GFP_KERNEL)
    xa_set_mark(m, XA, 70, PAGECACHE_TAG_DIRTY)
    assert xa_store(m, 0, XA, 70, page(2), GFP_KERNEL) == page(1)
    assert xa_get_mark(m, XA, 70, PAGECACHE_TAG_DIRTY)
    xa_erase(m, 0, XA, 70)
    xa_store(m, 0, XA, 70, page(3), GFP_KERNEL)
    assert not xa_get_mark(m, XA, 70, PAGECACHE_TAG_DIRTY)


def test_no_mark_where_there_is_no_entry(tiny: Tiny) -> None:
    m = tiny.m
    xa_store(m, 0, XA, 3, page(1), GFP_KERNEL)
    xa_set_mark(m, XA, 4, PAGECACHE_TAG_DIRTY)
    assert not xa_marked(m, XA, PAGECACHE_TAG_DIRTY)


def test_values_are_told_from_pages_and_nodes() -> None:
    entry = xa_mk_value(12345)
    assert xa_is_value(entry)
    assert not xa_is_node(entry)
    assert xa_to_value(entry) == 12345
    assert not xa_is_value(page(5))
    assert not xa_is_node(page(5))


@pytest.mark.parametrize("seed", range(4))
def test_random_operations_agree_with_a_dictionary(tiny: Tiny, seed: int) -> None:
    m, rng = tiny.m, random.Random(seed)
    model: dict[int, int] = {}
    marks: list[set[int]] = [set(), set(), set()]
    places = [rng.randrange(1 << rng.choice((2, 6, 8, 12, 20, 40))) for _ in range(120)]
    for step in range(3000):
        index, mark, what = rng.choice(places), rng.randrange(3), rng.random()
        if what < 0.3:
            entry = xa_mk_value(step) if rng.random() < 0.3 else page(step)
            assert xa_store(m, 0, XA, index, entry, GFP_KERNEL) == model.get(index, 0)
            model[index] = entry
        elif what < 0.55:
            assert xa_erase(m, 0, XA, index) == model.pop(index, 0)
            for held in marks:
                held.discard(index)
        elif what < 0.7:
            xa_set_mark(m, XA, index, mark)
            if index in model:
                marks[mark].add(index)
        elif what < 0.8:
            xa_clear_mark(m, XA, index, mark)
            marks[mark].discard(index)
        else:
            last = index + rng.randrange(1 << 14)
            asked = rng.choice((XA_PRESENT, 0, 1, 2))
            among = model if asked < 0 else marks[asked]
            expected = min((i for i in among if index <= i <= last), default=-1)
            assert xa_find(m, XA, index, last, asked) == expected
        assert xa_load(m, XA, index) == model.get(index, 0)
        assert xa_get_mark(m, XA, index, mark) == (index in marks[mark])
        assert xa_marked(m, XA, mark) == bool(marks[mark])
    for index in list(model):
        assert xa_erase(m, 0, XA, index) == model[index]
    assert xa_empty(m, XA)
    assert slabs_left(tiny) == 0


def test_all_64_slots_of_a_node_can_be_marked_and_found(tiny: Tiny) -> None:
    m = tiny.m
    for i in range(64):
        xa_store(m, 0, XA, i, page(i), GFP_KERNEL)
        xa_set_mark(m, XA, i, PAGECACHE_TAG_TOWRITE)
    for i in range(64):
        assert xa_find(m, XA, i, 63, PAGECACHE_TAG_TOWRITE) == i
    for i in range(63):
        xa_clear_mark(m, XA, i, PAGECACHE_TAG_TOWRITE)
    assert xa_find(m, XA, 0, 100, PAGECACHE_TAG_TOWRITE) == 63


def test_a_store_without_memory_fails_and_leaves_nothing(tiny: Tiny) -> None:
    m = tiny.m
    xa_store(m, 0, XA, 5, page(1), GFP_KERNEL)
    cache = word_of_va(m[G_RADIX_TREE_NODE_CACHEP])
    slabs = slabs_left(tiny)
    from allocator.page_alloc import alloc_pages_nodemask

    held = 0
    for order in (9, 3, 0):
        while alloc_pages_nodemask(m, 0, GFP_NOWAIT, order, 0, 0) >= 0:
            held += 1
    assert held
    answers = [xa_store(m, 0, XA, 1 << (6 * level), page(2), GFP_NOWAIT) for level in range(2, 8)]
    refused = [xa_err(answer) for answer in answers if xa_err(answer)]
    assert all(code == -12 for code in refused)
    stored = {1 << (6 * (2 + n)) for n, answer in enumerate(answers) if not xa_err(answer)}
    for index in sorted(stored):
        assert xa_erase(m, 0, XA, index) == page(2)
    assert xa_load(m, XA, 5) == page(1)
    assert slabs_left(tiny) == slabs
    assert cache


def test_nodes_of_nothing_but_shadows_are_on_the_shrinkers_list(tiny_nodes: Nodes) -> None:
    tiny = tiny_nodes(1, 1)
    m = tiny.m
    assert radix_tree_init(m, 0) == 0
    lru = list_lru_init(m, 0)
    m[G_SHADOW_NODES] = va_of_word(lru)
    xa_init(m, XA, XA_FLAGS_SHADOWS)
    xa_store(m, 0, XA, 64, page(1), GFP_KERNEL)
    xa_store(m, 0, XA, 65, xa_mk_value(7), GFP_KERNEL)
    assert list_lru_count_node(m, lru, 0) == 0
    xa_store(m, 0, XA, 64, xa_mk_value(8), GFP_KERNEL)
    assert list_lru_count_node(m, lru, 0) == 1
    xa_store(m, 0, XA, 65, page(2), GFP_KERNEL)
    assert list_lru_count_node(m, lru, 0) == 0
    xa_erase(m, 0, XA, 65)
    assert list_lru_count_node(m, lru, 0) == 1
    xa_erase(m, 0, XA, 64)
    assert list_lru_count_node(m, lru, 0) == 0
    assert xa_empty(m, XA)
