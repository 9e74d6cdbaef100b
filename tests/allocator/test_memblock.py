# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.kernel_globals import KERNEL_BASE
from allocator.layout import KERNEL_IMAGE_SIZE, MEMBLOCK_MEMORY
from allocator.memblock import MEMBLOCK_HOTPLUG, Memblock
from allocator.mmzone import MAX_NUMNODES
from machine import BringUpError
from tests.allocator.bringup_support import MIB, context

UNITS = 64
SPAN = st.tuples(st.integers(0, UNITS - 1), st.integers(1, 16))


def fresh() -> Memblock:
    return Memblock(context().m)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "reserve", "free", "node"]), SPAN)))
def test_regions_are_sorted_disjoint_and_hold_what_was_done(
    steps: list[tuple[str, tuple[int, int]]],
) -> None:
    mb = fresh()
    memory: dict[int, int] = {}
    reserved: set[int] = set()
    for step, (start, count) in steps:
        cells = range(start, start + count)
        if step == "add":
            mb.add(start * MIB, count * MIB)
            memory.update({c: memory.get(c, MAX_NUMNODES) for c in cells})
        elif step == "remove":
            mb.remove(start * MIB, count * MIB)
            for c in cells:
                memory.pop(c, None)
        elif step == "node":
            mb.memory.set_node(start * MIB, count * MIB, 3)
            memory.update({c: 3 for c in cells if c in memory})
        elif step == "reserve":
            mb.reserve(start * MIB, count * MIB)
            reserved.update(cells)
        else:
            mb.free(start * MIB, count * MIB)
            reserved.difference_update(cells)
    seen = {c: nid for b, e, _, nid in mb.memory.regions() for c in range(b // MIB, e // MIB)}
    assert seen == memory
    for kind in (mb.memory, mb.reserved):
        regions = kind.regions()
        for a, b in itertools.pairwise(regions):
            assert a[1] < b[0] or (a[1] == b[0] and a[2:] != b[2:])
    free = {c for b, e, _ in mb.free_mem_ranges() for c in range(b // MIB, e // MIB)}
    assert free == set(memory) - reserved


def test_regions_lie_in_guest_ram_as_base_size_flags_nid() -> None:
    mb = fresh()
    mb.add_node(MIB, 2 * MIB, 5)
    assert mb.m[MEMBLOCK_MEMORY : MEMBLOCK_MEMORY + 4].tolist() == [MIB, 2 * MIB, 0, 5]


def test_allocation_is_top_down_aligned_and_below_the_limit() -> None:
    mb = fresh()
    mb.add(MIB, 63 * MIB)
    assert mb.alloc(100, 64) == 64 * MIB - 128
    mb.set_current_limit(32 * MIB)
    assert mb.alloc(2 * MIB, 2 * MIB) == 30 * MIB


def test_bottom_up_starts_behind_the_kernel() -> None:
    mb = fresh()
    mb.add(MIB, 63 * MIB)
    mb.set_bottom_up(True)
    end = KERNEL_BASE + KERNEL_IMAGE_SIZE
    assert mb.alloc(4096, 4096) == -(-end // 4096) * 4096


def test_allocation_falls_back_to_other_nodes_then_below_the_minimum() -> None:
    mb = fresh()
    mb.add_node(MIB, 15 * MIB, 0)
    mb.add_node(32 * MIB, 4 * MIB, 1)
    assert mb.alloc(2 * MIB, 4096, 1) == 34 * MIB
    assert mb.alloc(8 * MIB, 4096, 1, min_addr=16 * MIB) == 8 * MIB
    assert mb.phys_alloc_nid(8 * MIB, 4096, 1) == 0
    with pytest.raises(BringUpError, match="too little memory"):
        mb.alloc(100 * MIB, 4096)


def test_page_zero_is_never_given_away() -> None:
    mb = fresh()
    mb.add(0, 8192)
    assert mb.alloc(4096, 4096) == 4096
    assert mb.try_alloc(4096, 4096) == 0


def test_flags_split_and_merge_regions() -> None:
    mb = fresh()
    mb.add(0, 16 * MIB)
    mb.setclr_flag(4 * MIB, 4 * MIB, MEMBLOCK_HOTPLUG, True)
    assert [r[2] for r in mb.memory.regions()] == [0, MEMBLOCK_HOTPLUG, 0]
    mb.setclr_flag(0, 64 * MIB, MEMBLOCK_HOTPLUG, False)
    assert mb.memory.regions() == [[0, 16 * MIB, 0, MAX_NUMNODES]]


def test_partial_pages_are_trimmed() -> None:
    mb = fresh()
    mb.add(100, 4096 * 3)
    mb.add(10 * MIB + 1, 4096)
    mb.trim_memory(4096)
    assert mb.memory.regions() == [[4096, 12288, 0, MAX_NUMNODES]]


def test_too_many_regions_are_an_error_of_one_line() -> None:
    mb = fresh()
    with pytest.raises(BringUpError, match="more than 2048 reserved regions"):
        mb.reserved.store([[i * 8192, i * 8192 + 4096, 0, 0] for i in range(2049)])
