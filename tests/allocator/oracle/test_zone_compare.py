# SPDX-License-Identifier: GPL-2.0-only
"""Walking lists of a guest that may have been scribbled on always ends, and says why."""

from __future__ import annotations

import pytest

from allocator.layout import page_va
from allocator.list_head import list_add_tail, list_init
from allocator.mm_types import P_NEXT, P_PREV
from allocator.oracle.guest import Guest
from allocator.oracle.zone_compare import compare_list, walk, zonelist_of

from .machines import TWO_NODES, bring_up

PFNS = [20000, 20004, 20002]


@pytest.fixture
def guest() -> Guest:
    """A machine with three pages on the scratch list."""
    guest = bring_up(TWO_NODES)
    list_init(guest.m, guest.scratch)
    for pfn in PFNS:
        list_add_tail(guest.m, guest.page(pfn) + P_NEXT, page_va(pfn) + 8, guest.scratch)
    return guest


def test_a_sound_list_is_walked_in_order(guest: Guest) -> None:
    assert walk(guest, guest.scratch, 100) == (PFNS, "")


@pytest.mark.parametrize(
    ("pfn", "word", "value", "why"),
    [
        (20004, P_NEXT, 0, "broken link 0x0"),
        (20004, P_NEXT, page_va(1 << 30) + 8, "broken link"),
        (20004, P_NEXT, page_va(20002) + 9, "broken link"),
        (20004, P_NEXT, page_va(20000) + 8, "does not point back"),
        (20002, P_PREV, 0, "does not point back"),
    ],
)
def test_a_damaged_link_is_named(guest: Guest, pfn: int, word: int, value: int, why: str) -> None:
    guest.m[guest.page(pfn) + word] = value
    assert why in walk(guest, guest.scratch, 100)[1]


def test_a_head_that_ends_elsewhere_and_a_long_list_are_named(guest: Guest) -> None:
    assert walk(guest, guest.scratch, 2)[1] == "endless list"
    guest.m[guest.scratch + 1] = page_va(20000) + 8
    assert "another one" in walk(guest, guest.scratch, 100)[1]


def test_two_lists_differ_at_a_position_or_in_length() -> None:
    assert list(compare_list([1, 2], [1, 2], "x")) == []
    assert list(compare_list([1, 2], [1, 3], "x")) == ["x: position 1 is frame 0x2, recorded 0x3"]
    assert list(compare_list([1], [1, 3], "x")) == ["x: 1 entries, recorded 2"]


def test_zonelists_are_node_and_zone_pairs(guest: Guest) -> None:
    assert zonelist_of(guest, 1, 0) == [[1, 1], [0, 1], [0, 0]]
    assert zonelist_of(guest, 1, 1) == [[1, 1]]
