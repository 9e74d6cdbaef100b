# SPDX-License-Identifier: GPL-2.0-only
"""Every fact of a STATE is looked at: whatever is changed is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from allocator.layout import PAGE_OFFSET, VMEMMAP_START
from allocator.list_head import list_del
from allocator.mm_types import P_COUNTS, P_FLAGS, P_MAPPING, P_NEXT, P_PRIVATE, PG_LRU, PG_SLAB
from allocator.mmzone import FA_WORDS, Z_FREE_AREA
from allocator.oracle.guest import Guest
from allocator.oracle.state_compare import compare_state
from allocator.oracle.state_load import load_state
from allocator.pageblock import set_pageblock_migratetype, set_pageblock_skip

from .machines import recording

State = dict[str, Any]


@pytest.fixture(scope="module")
def state() -> State:
    """A late STATE with CMA areas and per-cpu lists."""
    source = recording("M2/late-cma-a")
    return source.state(next(tag for tag in source.states if tag.endswith("before")))


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all numbers of a parsed STATE, long lists by their first two entries."""
    if isinstance(value, dict):
        return [p for key, inner in value.items() for p in paths(inner, (*path, key))]
    if isinstance(value, list):
        return [p for i, inner in enumerate(value[:2]) for p in paths(inner, (*path, i))]
    return [path] if isinstance(value, int) else []


NOT_THE_ALLOCATORS = {
    # what the recording kernel was built with, its clock, the firmware's map, sequence numbers
    "release",
    "jiffies",
    "e820",
    "memblock",
    "seq",
    "nseq",
    "max_order",
    "pageblock_order",
    "max_nr_zones",
    "migrate_types",
    "migrate_pcptypes",
    "sizeof_page",
    "page_offset",
    "vmemmap",
    "nodes_shift",
    "zones_shift",
    "sections_shift",
    "nodes_pgshift",
    "zones_pgshift",
    "last_cpupid_width",
    "nr_pageflags",
    # where the recorded kernel had its node structures; who took the dump; keys of a record
    "pgdat",
    "cpu",
    "order",
    # names of things, not facts about them
    "nid",
    "zid",
    "wrongzone",
}


def test_every_number_of_a_state_is_compared(state: State) -> None:
    guest, _ = load_state(state)
    silent = []
    for path in paths(state):
        if any(step in NOT_THE_ALLOCATORS for step in path):
            continue
        place: Any = state
        for step in path[:-1]:
            place = place[step]
        old = place[path[-1]]
        place[path[-1]] = old + 1
        if not compare_state(guest, state, limit=1):
            silent.append(path)
        place[path[-1]] = old
    assert [path for path in silent if not is_label(state, path)] == []


def is_label(state: State, path: tuple[Any, ...]) -> bool:
    """True for where an empty zone would begin, where a string of blocks begins, and the copy of a
    CPU's online state that stands with each pageset."""
    if path[-2:] == ("pageblocks", "start"):
        return True
    if path[0] != "zones":
        return False
    if "pcp" in path and path[-1] == "online":
        return True
    return path[-1] == "start" and not state["zones"][path[1]]["spanned"]


def first_free(guest: Guest, state: State, order: int) -> int:
    """The first frame on a free list of zone 0:1."""
    lists = state["zones"][1]["free_area"][order]["lists"]
    return int(next(iter(lists.values()))[0])


def allocated(state: State) -> int:
    """A frame of zone 0:1 that is in use."""
    return int(state["zones"][1]["lru"][0][0])


def unlink(guest: Guest, state: State) -> None:
    list_del(guest.m, guest.page(first_free(guest, state, 0)) + P_NEXT)


def break_link(guest: Guest, state: State) -> None:
    guest.m[guest.page(first_free(guest, state, 0)) + P_NEXT] = 0x1234


def tie_a_knot(guest: Guest, state: State) -> None:
    pfn = first_free(guest, state, 0)
    va = VMEMMAP_START + (pfn << 6) + 8
    page = guest.page(pfn)
    guest.m[page + P_NEXT] = guest.m[page + P_NEXT + 1] = va
    head = guest.zone(0, 1) + Z_FREE_AREA
    for mt in range(6):
        if guest.m[head + 2 * mt] == va:
            return
    guest.m[head] = va


def wrong_order(guest: Guest, state: State) -> None:
    guest.m[guest.page(first_free(guest, state, 10)) + P_PRIVATE] = 9


def not_buddy(guest: Guest, state: State) -> None:
    guest.m[guest.page(first_free(guest, state, 10)) + P_COUNTS] = 0xFFFFFFFF


def new_block_type(guest: Guest, state: State) -> None:
    set_pageblock_migratetype(guest.m, 8192, 2)


def new_skip_bit(guest: Guest, state: State) -> None:
    set_pageblock_skip(guest.m, 8192, 1)


def new_lru_page(guest: Guest, state: State) -> None:
    guest.m[guest.page(first_free(guest, state, 10)) + P_FLAGS] |= PG_LRU


def new_slab_page(guest: Guest, state: State) -> None:
    guest.m[guest.page(first_free(guest, state, 10)) + P_FLAGS] |= PG_SLAB


def new_movable_page(guest: Guest, state: State) -> None:
    guest.m[guest.page(first_free(guest, state, 10)) + P_MAPPING] = PAGE_OFFSET | 2


def other_zone(guest: Guest, state: State) -> None:
    guest.m[guest.page(allocated(state)) + P_FLAGS] ^= 1 << 56


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (unlink, "free list order 0"),
        (break_link, "broken link"),
        (tie_a_knot, "free list order 0"),
        (wrong_order, "not marked as a free block"),
        (not_buddy, "not marked as a free block"),
        (new_block_type, "pageblock 0x2000 type"),
        (new_skip_bit, "pageblock 0x2000 skip"),
        (new_lru_page, "is lru"),
        (new_slab_page, "is slab"),
        (new_movable_page, "is movable"),
        (other_zone, "page_zone"),
    ],
)
def test_damage_in_ram_is_named(
    state: State, damage: Callable[[Guest, State], None], named: str
) -> None:
    guest, _ = load_state(state)
    damage(guest, state)
    assert any(named in line for line in compare_state(guest, state))


def test_the_number_of_differences_is_limited(state: State) -> None:
    guest, _ = load_state(state)
    z = guest.zone(0, 1)
    for order in range(11):
        guest.m[z + Z_FREE_AREA + order * FA_WORDS + 12] += 1
    assert len(compare_state(guest, state, limit=3)) == 3
