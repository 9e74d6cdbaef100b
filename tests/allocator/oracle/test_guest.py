# SPDX-License-Identifier: GPL-2.0-only
"""The replay's memory: what is asked of it must exist."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.kernel_globals import KERNEL_BASE
from allocator.layout import KERNEL_IMAGE_SIZE
from allocator.mm_types import P_FLAGS
from allocator.oracle.guest import RING_BYTES, Guest, replay_memory
from machine.errors import ImageError

from .machines import TWO_NODES, bring_up


@pytest.fixture(scope="module")
def guest() -> Guest:
    """A machine of two nodes with 128 MiB."""
    return bring_up(TWO_NODES)


def test_what_does_not_exist_is_an_image_error(guest: Guest) -> None:
    for nid, zid in ((2, 0), (-1, 0), (64, 0), (0, 4), (0, -1)):
        with pytest.raises(ImageError, match="zone"):
            guest.zone(nid, zid)
    for pfn in (-1, 1 << 15, 1 << 60):
        with pytest.raises(ImageError, match="frame"):
            guest.page(pfn)
    for order in (-1, 11, 1 << 40):
        with pytest.raises(ImageError, match="order"):
            guest.block(8192, order)
    with pytest.raises(ImageError, match="frame"):
        guest.block((1 << 15) - 4, 3)


def test_only_zones_with_pages_are_listed(guest: Guest) -> None:
    assert [(nid, zid) for nid, zid, _ in guest.zones()] == [(0, 0), (0, 1), (1, 1)]


def test_a_column_is_each_struct_pages_word_and_zero_where_there_is_none(guest: Guest) -> None:
    column = guest.column((1 << 15) - 2, 4, P_FLAGS)
    last = [guest.m[guest.page((1 << 15) - i) + P_FLAGS] for i in (2, 1)]
    assert column.tolist() == [*last, 0, 0]
    pfns = np.array([5000, 20000], dtype=np.int64)
    assert guest.page_words(pfns).tolist() == [guest.page(5000), guest.page(20000)]


def test_the_arena_lies_above_the_map_and_the_kernel_inside_it() -> None:
    memory, arena = replay_memory(20000, RING_BYTES)
    assert arena.alloc(64) >= 20000 << 12
    assert memory.is_ram(KERNEL_BASE, KERNEL_IMAGE_SIZE)


@pytest.mark.parametrize("max_pfn", [0, 4096, 1 << 40])
def test_memory_that_no_kernel_runs_in_is_refused(max_pfn: int) -> None:
    with pytest.raises(ImageError, match="no kernel"):
        replay_memory(max_pfn, 4096)
