# SPDX-License-Identifier: GPL-2.0-only
"""Nodes and zonelists: every order that distances can give is sound, any other is not."""

from __future__ import annotations

import random

import pytest

from allocator.check import check_frames
from allocator.check.context import Check
from allocator.check.node_rules import read_zonelist
from allocator.kernel_globals import G_NODES_ONLINE
from allocator.mmzone import ND_ZONELISTS, ZONEREF_WORDS
from tests.allocator.machines import boot


@pytest.mark.parametrize("seed", range(6))
def test_zonelists_of_random_distances_are_in_order(seed: int) -> None:
    rng = random.Random(seed)
    nodes = 5
    table = [[10 if i == j else rng.randrange(11, 60) for j in range(nodes)] for i in range(nodes)]
    kernel = boot("5x32M", distances=table)
    report = check_frames(kernel.memory, strict=True)
    assert report.sound, str(report)


def test_two_entries_changed_about_are_out_of_place() -> None:
    kernel = boot("3x64M")
    m, check = kernel.m, Check(kernel.memory)
    first = check.nodes[0] + ND_ZONELISTS
    order = read_zonelist(check, 0, first, "fallback")
    assert order == [(0, 1), (0, 0), (1, 1), (2, 1)]
    for i in range(ZONEREF_WORDS):
        a, b = first + 2 * ZONEREF_WORDS + i, first + 3 * ZONEREF_WORDS + i
        m[a], m[b] = m[b], m[a]
    assert check_frames(kernel.memory, strict=True).sound, "equal distances: both orders will do"
    for i in range(ZONEREF_WORDS):
        a, b = first + i, first + ZONEREF_WORDS + i
        m[a], m[b] = m[b], m[a]
    rules = {finding.rule for finding in check_frames(kernel.memory, strict=True).findings}
    assert rules == {"zonelist-order", "zonelist-thisnode"}


def test_a_node_without_memory_is_sound() -> None:
    kernel = boot("node,nodeid=0,cpus=0,mem=64M", "node,nodeid=1,cpus=1", "node,nodeid=2,mem=64M")
    assert check_frames(kernel.memory, strict=True).sound


def test_a_node_in_the_mask_that_is_not_there_is_found() -> None:
    kernel = boot("1x64M")
    kernel.m[G_NODES_ONLINE] |= 1 << 5
    findings = check_frames(kernel.memory, strict=True).findings
    assert ("node-data", "node 5") in {(f.rule, f.where) for f in findings}
