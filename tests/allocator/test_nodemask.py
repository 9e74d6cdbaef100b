# SPDX-License-Identifier: GPL-2.0-only
"""Node sets in one signed word, node 63 included."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from allocator.nodemask import (
    first_node,
    next_node_in,
    node_bit,
    node_rank,
    node_remap,
    nodes_fold,
    nodes_onto,
    nodes_remap,
    nodes_weight,
    nth_node,
)

masks = st.integers(-(1 << 63), (1 << 63) - 1)
nodes = st.integers(0, 63)


def members(mask: int) -> list[int]:
    return [n for n in range(64) if mask >> n & 1]


@given(nodes)
def test_a_bit_is_a_signed_word_with_one_member(nid: int) -> None:
    assert -(1 << 63) <= node_bit(nid) < 1 << 63
    assert members(node_bit(nid)) == [nid]


@given(masks, nodes)
def test_the_next_node_wraps_and_is_the_node_itself_last(mask: int, nid: int) -> None:
    found = members(mask)
    expected = next((n for n in found if n > nid), found[0] if found else 64)
    assert next_node_in(nid, mask) == expected
    assert first_node(mask) == (found[0] if found else 64)


@given(masks)
def test_rank_and_nth_are_inverse(mask: int) -> None:
    found = members(mask)
    assert nodes_weight(mask) == len(found)
    assert [node_rank(n, mask) for n in found] == list(range(len(found)))
    assert [nth_node(i, mask) for i in range(len(found))] == found
    assert nth_node(len(found), mask) == 64


@given(masks, st.integers(0, 64))
def test_fold_takes_nodes_modulo_the_size(mask: int, size: int) -> None:
    assert members(nodes_fold(mask, size)) == sorted(
        {n % size for n in members(mask)} if size else ()
    )


@given(masks, masks)
def test_onto_picks_by_rank(mask: int, relative: int) -> None:
    chosen = members(relative)
    assert members(nodes_onto(mask, relative)) == [n for i, n in enumerate(chosen) if mask >> i & 1]


@given(masks, masks, masks)
def test_remap_keeps_outsiders_and_maps_the_rest_by_rank(mask: int, old: int, new: int) -> None:
    to, source = members(new), members(old)
    expected = set()
    for n in members(mask):
        outside = n not in source or not to
        expected.add(n if outside else to[source.index(n) % len(to)])
    assert members(nodes_remap(mask, old, new)) == sorted(expected)


def test_the_kernels_own_example_of_a_remap() -> None:
    # old 4-7 becomes new 12-15: members 4-7 move, the others stay
    assert [node_remap(n, 0xF0, 0xF000) for n in (1, 4, 5, 7)] == [1, 12, 13, 15]
