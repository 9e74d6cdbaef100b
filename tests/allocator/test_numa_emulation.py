# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from allocator.numa import node_distance
from tests.allocator.bringup_support import MIB
from tests.allocator.test_numa import END, numa, srat

TWO = srat([(0, 0), (1, 1)], [(0, 0, 128 * MIB), (1, 128 * MIB, 128 * MIB)])
SLIT = [[10, 25], [25, 10]]


def fake(text: str) -> list[tuple[int, int, int]]:
    init, _ = numa(f"numa=fake={text}")
    init.x86_numa_init(TWO, SLIT)
    return [(blk.start // MIB, blk.end // MIB, blk.nid) for blk in init.blks]


def test_a_number_splits_all_memory_in_turn_over_the_real_nodes() -> None:
    # page 0 is no memory, so a quarter is a page short of 64 MiB: three nodes get the full size,
    # the fourth 32 MiB, and what is left starts over with node 0
    assert fake("4") == [
        (0, 64, 0),
        (128, 192, 1),
        (64, 128, 2),
        (192, 224, 3),
        (224, 256, 0),
    ]


def test_uniform_form_cuts_every_real_node() -> None:
    assert fake("2U") == [(0, 64, 0), (64, 128, 1), (128, 192, 2), (192, 256, 3)]


def test_size_form_makes_nodes_of_at_least_that_much_memory() -> None:
    assert fake("32M") == [
        (0, 64, 0),
        (128, 160, 1),
        (64, 96, 2),
        (160, 192, 3),
        (96, 128, 4),
        (192, 224, 5),
        (224, 256, 6),
    ]


@pytest.mark.parametrize("text", ["0", "", "-1", "100", "0U", "0M"])
def test_requests_without_sense_keep_the_real_nodes(text: str) -> None:
    assert fake(text) == [(0, 128, 0), (128, 256, 1)]


def test_distances_and_cpus_follow_the_real_nodes() -> None:
    init, ctx = numa("numa=fake=4")
    init.x86_numa_init(TWO, SLIT)
    rows = [[node_distance(ctx.m, i, j) for j in range(4)] for i in range(4)]
    assert rows == [[10, 25, 10, 25], [25, 10, 25, 10], [10, 25, 10, 25], [25, 10, 25, 10]]
    assert init.apicid_to_node == {0: 0, 1: 1}
    assert init.nodes_parsed == {0, 1, 2, 3}


def test_distances_may_be_given() -> None:
    init, ctx = numa("numa=fake=2:10,33,44,10")
    init.x86_numa_init(TWO, SLIT)
    assert node_distance(ctx.m, 0, 1) == 33
    assert node_distance(ctx.m, 1, 0) == 44


def test_blocks_stay_within_memory() -> None:
    for text in ("3", "7", "40M", "3U"):
        blocks = sorted(fake(text))
        assert blocks[0][0] == 0
        assert blocks[-1][1] == END // MIB
