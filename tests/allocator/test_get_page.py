# SPDX-License-Identifier: GPL-2.0-only
"""allocator/get_page.py: the walk over a zonelist, and its short cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from allocator.get_page import (
    SKIP_CPUSET,
    first_zone_page,
    first_zones_zonelist,
    get_page_from_freelist,
    node_zonelist,
)
from allocator.gfp import parse_gfp
from allocator.kernel_globals import G_MOBILITY_DISABLED, G_STATIC_KEYS, KEY_CPUSETS
from allocator.layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    TASK_HARDWALL_MEMS,
    TASK_MEMS_ALLOWED,
    VMEMMAP_START,
    word_of_va,
)
from allocator.mm_types import P_MAPPING
from allocator.mmzone import (
    MIGRATE_MOVABLE,
    PSET_BATCH,
    PSET_COUNT,
    PSET_LISTS,
    Z_FREE_PAGES,
    Z_NODE,
    Z_PAGESET,
    Z_WMARK,
    ZONE_NORMAL,
    ZR_ZONE,
)
from allocator.pcp import drain_local_pages
from allocator.trace_events import EV_WATERMARK, EV_ZONE_SKIPPED
from allocator.watermark import ALLOC_CMA, ALLOC_CPUSET, ALLOC_WMARK_LOW
from tests.allocator.tiny import Tiny, make_tiny

MOVABLE = parse_gfp("GFP_HIGHUSER_MOVABLE")
KERNEL = parse_gfp("GFP_KERNEL")


def walk(tiny: Tiny, gfp: int, order: int, nid: int, mt: int, flags: int = ALLOC_WMARK_LOW) -> int:
    zr = node_zonelist(tiny.m, nid, gfp)
    return get_page_from_freelist(
        tiny.m, 0, gfp, order, flags, zr, ZONE_NORMAL, 0, mt, spread_dirty=False
    )


def pageset(tiny: Tiny) -> int:
    return word_of_va(tiny.m[tiny.z + Z_PAGESET])


def node_of(tiny: Tiny, pfn: int) -> int:
    return tiny.m[tiny.page(pfn)] >> 58 & 63


def test_zonelist_is_searched_for_index_and_nodemask() -> None:
    tiny = make_tiny(3, 1)
    zr = node_zonelist(tiny.m, 1, KERNEL)
    assert first_zones_zonelist(tiny.m, zr, ZONE_NORMAL, 0) == zr
    found = first_zones_zonelist(tiny.m, zr, ZONE_NORMAL, 1 << 0)
    assert tiny.m[word_of_va(tiny.m[found + ZR_ZONE]) + Z_NODE] == 0
    end = first_zones_zonelist(tiny.m, zr, ZONE_NORMAL - 1, 0)
    assert tiny.m[end + ZR_ZONE] == 0
    alone = node_zonelist(tiny.m, 1, parse_gfp("GFP_KERNEL|__GFP_THISNODE"))
    assert tiny.m[first_zones_zonelist(tiny.m, alone, ZONE_NORMAL, 1 << 0) + ZR_ZONE] == 0


@pytest.mark.parametrize("order", [0, 3])
def test_zone_below_its_watermark_is_passed_by(order: int) -> None:
    tiny = make_tiny(2, 1)
    tiny.m[tiny.zones[0] + Z_WMARK + 1] = tiny.m[tiny.zones[0] + Z_FREE_PAGES]
    tiny.record(EV_WATERMARK)
    assert node_of(tiny, walk(tiny, KERNEL, order, 0, 0)) == 1
    assert [(event[1], event[11]) for event in tiny.events()] == [(0, 0), (1, 1)]
    tiny.m[tiny.zones[1] + Z_WMARK + 1] = tiny.m[tiny.zones[1] + Z_FREE_PAGES]
    assert walk(tiny, KERNEL, order, 0, 0) == -1


def test_zone_outside_the_cpuset_is_passed_by_and_recorded() -> None:
    tiny = make_tiny(2, 1)
    task = word_of_va(tiny.m[CPU_BLOCKS + CPU_CURRENT])
    tiny.m[task + TASK_MEMS_ALLOWED] = tiny.m[task + TASK_HARDWALL_MEMS] = 1 << 1
    tiny.m[G_STATIC_KEYS] = KEY_CPUSETS
    tiny.record(EV_ZONE_SKIPPED)
    flags = ALLOC_WMARK_LOW | ALLOC_CPUSET
    assert node_of(tiny, walk(tiny, KERNEL, 0, 0, 0, flags)) == 1
    assert [event[1:4] for event in tiny.events()] == [(0, ZONE_NORMAL, SKIP_CPUSET)]


def _ungrouped(tiny: Tiny) -> None:
    tiny.m[G_MOBILITY_DISABLED] = 1


@pytest.mark.parametrize(("gfp", "mt"), [(MOVABLE, 1), (KERNEL, 0)])
def test_short_cut_does_what_the_walk_does(gfp: int, mt: int) -> None:
    a, b = make_tiny(2, 1), make_tiny(2, 1)
    flags = ALLOC_WMARK_LOW | (ALLOC_CMA if mt == 1 else 0)
    for tiny in (a, b):
        pages = [walk(tiny, gfp, 0, 0, mt, flags) for _ in range(3)]
        assert min(pages) >= 0
        tiny.m[pageset(tiny) + PSET_BATCH] = 8
        walk(tiny, gfp, 0, 0, mt, flags)
    for _ in range(7):
        assert first_zone_page(a.m, 0, gfp, 0) == walk(b, gfp, 0, 0, mt, flags) >= 0
        assert np.array_equal(a.memory.q, b.memory.q)


def _empty_list(tiny: Tiny) -> None:
    drain_local_pages(tiny.m, 0)


def _low_zone(tiny: Tiny) -> None:
    tiny.m[tiny.z + Z_WMARK + 1] = tiny.m[tiny.z + Z_FREE_PAGES]


@pytest.mark.parametrize("hurdle", [_empty_list, _low_zone, _ungrouped])
def test_short_cut_leaves_everything_alone_where_it_is_not_that_simple(
    hurdle: Callable[[Tiny], None],
) -> None:
    tiny = make_tiny(1, 1)
    tiny.m[pageset(tiny) + PSET_BATCH] = 4
    walk(tiny, MOVABLE, 0, 0, 1)
    hurdle(tiny)
    before = tiny.memory.q.copy()
    assert first_zone_page(tiny.m, 0, MOVABLE, 0) == -1
    assert np.array_equal(tiny.memory.q, before)


def test_short_cut_sets_an_unfit_page_aside_and_gives_none() -> None:
    tiny = make_tiny(1, 1)
    ps = pageset(tiny)
    tiny.m[ps + PSET_BATCH] = 4
    walk(tiny, MOVABLE, 0, 0, 1)
    first = tiny.m[ps + PSET_LISTS + 2 * MIGRATE_MOVABLE] - VMEMMAP_START >> 6
    tiny.m[tiny.page(first) + P_MAPPING] = 64
    assert first_zone_page(tiny.m, 0, MOVABLE, 0) == -1
    assert tiny.m[ps + PSET_COUNT] == 2
    assert first_zone_page(tiny.m, 0, MOVABLE, 0) not in (-1, first)
