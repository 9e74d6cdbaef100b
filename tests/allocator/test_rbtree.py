# SPDX-License-Identifier: GPL-2.0-only
"""Red-black and interval trees in RAM against sorted lists."""

from __future__ import annotations

import random

import pytest

from allocator import rbtree as rb
from allocator.mm_struct import (
    VM_GROWSDOWN,
    VMA_FLAGS,
    VMA_GAP,
    VMA_PREV,
    VMA_RB,
    VMA_START,
)

ROOT = 8
FIRST = 16
STRIDE = 8


def memory(nodes: int) -> memoryview:
    return memoryview(bytearray(8 * (FIRST + STRIDE * nodes))).cast("q")


def check_balance(m: memoryview, node: int, parent: int) -> int:
    """Black height below `node`; red nodes have black children, parents are right."""
    if node == 0:
        return 1
    assert rb.rb_parent(m, node) == parent
    left, right = rb.rb_child(m, node, rb.RB_LEFT), rb.rb_child(m, node, rb.RB_RIGHT)
    if rb.rb_is_red(m, node):
        assert not rb.rb_is_red(m, left)
        assert not rb.rb_is_red(m, right)
    height = check_balance(m, left, node)
    assert height == check_balance(m, right, node)
    expected = max(
        m[n + rb.IT_SUBTREE_LAST] if n != node else m[n + rb.IT_LAST]
        for n in (node, left, right)
        if n
    )
    assert m[node + rb.IT_SUBTREE_LAST] == expected
    return height + (0 if rb.rb_is_red(m, node) else 1)


def in_order(m: memoryview) -> list[int]:
    nodes, node = [], rb.rb_first(m, ROOT)
    while node:
        nodes.append(node)
        node = rb.rb_next(m, node)
    return nodes


@pytest.mark.parametrize("seed", range(6))
def test_a_tree_stays_balanced_ordered_and_summarised_whatever_comes_and_goes(seed: int) -> None:
    rng = random.Random(seed)
    m = memory(120)
    free = [FIRST + STRIDE * i for i in range(120)]
    live: list[int] = []
    for _ in range(700):
        if free and (not live or rng.random() < 0.55):
            node = free.pop(rng.randrange(len(free)))
            m[node + rb.IT_START] = rng.randrange(200)
            m[node + rb.IT_LAST] = m[node + rb.IT_START] + rng.randrange(20)
            rb.interval_tree_insert(m, node, ROOT)
            live.append(node)
        else:
            node = live.pop(rng.randrange(len(live)))
            rb.interval_tree_remove(m, node, ROOT)
            free.append(node)
        check_balance(m, rb.rb_word(m[ROOT]), 0)
        starts = [m[n + rb.IT_START] for n in in_order(m)]
        assert starts == sorted(m[n + rb.IT_START] for n in live)


def test_steps_backwards_are_the_steps_forwards_reversed() -> None:
    m = memory(30)
    for i in range(30):
        node = FIRST + STRIDE * i
        m[node + rb.IT_START] = m[node + rb.IT_LAST] = i * 7 % 30
        rb.interval_tree_insert(m, node, ROOT)
    nodes = in_order(m)
    back, node = [], nodes[-1]
    while node:
        back.append(node)
        node = rb.rb_prev(m, node)
    assert back == nodes[::-1]


@pytest.mark.parametrize("seed", range(4))
def test_an_interval_query_gives_every_overlap_once_in_order(seed: int) -> None:
    rng = random.Random(seed)
    m = memory(60)
    nodes = [FIRST + STRIDE * i for i in range(60)]
    for node in nodes:
        m[node + rb.IT_START] = rng.randrange(300)
        m[node + rb.IT_LAST] = m[node + rb.IT_START] + rng.randrange(40)
        rb.interval_tree_insert(m, node, ROOT)
    for _ in range(100):
        start = rng.randrange(340)
        last = start + rng.randrange(30)
        found = []
        node = rb.interval_tree_iter_first(m, ROOT, start, last)
        while node:
            found.append(node)
            node = rb.interval_tree_iter_next(m, node, start, last)
        meets = [n for n in nodes if m[n + rb.IT_START] <= last and start <= m[n + rb.IT_LAST]]
        assert sorted(found) == sorted(meets)
        assert [m[n + rb.IT_START] for n in found] == sorted(m[n + rb.IT_START] for n in found)


def test_the_gap_summary_reads_the_fields_where_an_area_keeps_them() -> None:
    assert VMA_START - VMA_RB == rb.GAP_START
    assert VMA_PREV - VMA_RB == rb.GAP_PREV
    assert VMA_GAP - VMA_RB == rb.GAP_FIELD
    assert VMA_FLAGS - VMA_RB == rb.GAP_FLAGS
    assert rb.GROWSDOWN == VM_GROWSDOWN
