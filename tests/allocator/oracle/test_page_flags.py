# SPDX-License-Identifier: GPL-2.0-only
"""Page flags of a STATE: set on struct pages and read back as the same ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from allocator.mm_types import P_FLAGS, P_NEXT, PG_HEAD
from allocator.oracle.guest import Guest
from allocator.oracle.page_flags import flag_masks, mark_pages, range_mask, ranges_to_frames
from allocator.page_check import compound_order
from machine.errors import ImageError

from .dump import ranges
from .machines import TWO_NODES, bring_up

START, SPAN = 1 << 14, 1 << 14


@pytest.fixture
def guest() -> Guest:
    """A machine whose node 1 spans frames 0x4000-0x7fff."""
    return bring_up(TWO_NODES)


def marked(guest: Guest, **flags: Any) -> dict[str, list[list[int]]]:
    """The flags of node 1 after marking, as ranges."""
    mark_pages(guest, {"tag": "t", "zones": [{"nid": 1, "zid": 1, **flags}]})
    return {name: ranges(mask, START) for name, mask in flag_masks(guest, START, SPAN).items()}


def test_marked_ranges_are_read_back(guest: Guest) -> None:
    first = START + 100
    found = marked(
        guest,
        reserved=[[first, 3]],
        lru=[[first + 10, 4], [first + 20, 1]],
        movable=[[first + 20, 1]],
        slab=[[first + 30, 2]],
        compound=[[first + 40, 7]],
    )
    assert found == {
        "reserved": [[first, 3]],
        "lru": [[first + 10, 4], [first + 20, 1]],
        "movable": [[first + 20, 1]],
        "slab": [[first + 30, 2]],
        "compound": [[first + 40, 7]],
    }


def test_a_compound_range_is_cut_into_aligned_pages(guest: Guest) -> None:
    marked(guest, compound=[[START + 6, 10]])
    heads = [
        (pfn - START, compound_order(guest.m, guest.page(pfn)))
        for pfn in range(START, START + 20)
        if guest.m[guest.page(pfn) + P_FLAGS] & PG_HEAD
    ]
    assert heads == [(6, 1), (8, 3)]
    assert guest.m[guest.page(START + 7) + P_NEXT] & 1


@pytest.mark.parametrize("bad", [[[1 << 20, 1]], [[-1, 4]], [[START, 1 << 40]], [[START, 0]]])
def test_impossible_ranges_are_refused(guest: Guest, bad: list[list[int]]) -> None:
    with pytest.raises(ImageError):
        marked(guest, reserved=bad)


def test_ranges_become_frames_and_masks() -> None:
    assert ranges_to_frames([[3, 2], [9, 1]], "x").tolist() == [3, 4, 9]
    mask = range_mask([[8, 4], [13, 9]], 10, 5)
    assert np.flatnonzero(mask).tolist() == [0, 1, 3, 4]
