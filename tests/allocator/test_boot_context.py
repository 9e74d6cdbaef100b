# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from allocator.boot_context import Arena, mask_nodes, nodes_mask
from machine import BringUpError
from tests.allocator.bringup_support import MIB, context


def test_nodemasks_are_signed_words() -> None:
    assert nodes_mask([0, 2]) == 5
    assert nodes_mask([63]) == -(1 << 63)
    assert mask_nodes(nodes_mask([1, 63])) == [1, 63]
    assert mask_nodes(-1) == list(range(64))


def test_an_arena_gives_aligned_pieces_until_it_is_full() -> None:
    arena = Arena(100, 4096 * 3)
    assert arena.alloc(10, 64) == 128
    assert arena.alloc(4096, 4096, nid=3, min_addr=1 << 40) == 4096
    with pytest.raises(BringUpError, match="arena is full"):
        arena.alloc(8192, 4096)


def test_structures_from_used_memory_are_zeroed() -> None:
    ctx = context()
    ctx.mb.add(32 * MIB, MIB)
    ctx.memory.write(33 * MIB - 64, b"x" * 64)
    phys = ctx.alloc(64)
    assert phys == 33 * MIB - 64
    assert ctx.memory.read(phys, 64) == bytes(64)
