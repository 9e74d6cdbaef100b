# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from allocator.cma import CMA_ALIGNMENT, CmaAreas, dma_contiguous_reserve
from allocator.kernel_globals import G_TOTALCMA, G_TOTALRAM
from allocator.mm_types import P_FLAGS, PG_RESERVED
from allocator.mmzone import MIGRATE_CMA, Z_FREE_CMA, Z_FREE_PAGES, Z_MANAGED
from allocator.pageblock import get_pageblock_migratetype
from machine import UsageError
from tests.allocator.bringup_support import MIB, context, page_word, tables_boot, zone


def areas(size: int = 64 * MIB) -> CmaAreas:
    ctx = context(size)
    ctx.mb.add(MIB, size - MIB)
    return CmaAreas(ctx.mb, ctx.printk)


def test_an_area_is_whole_blocks_as_high_as_possible() -> None:
    a = areas()
    area = a.declare_contiguous(0, 5 * MIB)
    assert area is not None
    assert (area.base_pfn << 12, area.count << 12) == (56 * MIB, 8 * MIB)
    assert a.m[G_TOTALCMA] == area.count


def test_a_fixed_area_is_there_or_nowhere() -> None:
    a = areas()
    first = a.declare_contiguous(32 * MIB, 8 * MIB, 40 * MIB, fixed=True)
    assert first is not None
    assert first.base_pfn == 32 * MIB >> 12
    assert a.declare_contiguous(36 * MIB, 8 * MIB, 44 * MIB, fixed=True) is None
    assert any("cma: Failed to reserve 8 MiB" in line for line in a.printk.lines)


def test_limits_are_kept_and_nonsense_refused() -> None:
    a = areas()
    area = a.declare_contiguous(0, 4 * MIB, 30 * MIB)
    assert area is not None
    assert (area.base_pfn + area.count) << 12 <= 30 * MIB
    assert a.declare_contiguous(0, 0) is None
    assert a.declare_contiguous(0, 1 << 40) is None
    with pytest.raises(UsageError, match="negative"):
        a.declare_contiguous(-1, MIB)


def test_there_are_eight_slots() -> None:
    a = areas(128 * MIB)
    assert all(a.declare_contiguous(0, 4 * MIB) for _ in range(8))
    assert a.declare_contiguous(0, 4 * MIB) is None
    assert any("Not enough slots" in line for line in a.printk.lines)


def test_only_reserved_aligned_memory_can_become_an_area() -> None:
    a = areas()
    a.mb.reserve(8 * MIB, 8 * MIB)
    assert a.init_reserved_mem(32 * MIB, 4 * MIB, "x") is None
    assert a.init_reserved_mem(9 * MIB, 4 * MIB, "x") is None
    assert a.init_reserved_mem(8 * MIB, 4 * MIB, "x") is not None


def test_cma_parameter_reserves_the_default_area() -> None:
    ctx = context(64 * MIB, "cma=8M@16M-32M")
    ctx.mb.add(MIB, 63 * MIB)
    (area,) = dma_contiguous_reserve(ctx, 64 * MIB).areas
    assert (area.base_pfn << 12, area.count << 12) == (24 * MIB, 8 * MIB)


def test_released_blocks_are_free_cma_pages_and_managed() -> None:
    k = tables_boot(
        [(MIB, 63 * MIB, 0)],
        [(16 * MIB, 8 * MIB), (32 * MIB, 8 * MIB)],
        cma_areas=[(32 * MIB, 8 * MIB)],
    )
    k.early0()
    k.early1()
    z = zone(k.m, 0, 1)
    before = k.m[z + Z_MANAGED], k.m[z + Z_FREE_PAGES], k.m[G_TOTALRAM]
    k.cma_init_reserved_areas()
    pages = 8 * MIB >> 12
    after = k.m[z + Z_MANAGED], k.m[z + Z_FREE_PAGES], k.m[G_TOTALRAM]
    assert after == tuple(x + pages for x in before)
    assert k.m[z + Z_FREE_CMA] == pages
    for pfn in range(32 * MIB >> 12, 40 * MIB >> 12, 512):
        assert get_pageblock_migratetype(k.m, pfn) == MIGRATE_CMA
        assert not k.m[page_word(k.m, pfn) + P_FLAGS] & PG_RESERVED


def test_an_area_across_two_zones_cannot_be_activated() -> None:
    base = 16 * MIB - CMA_ALIGNMENT
    k = tables_boot([(MIB, 63 * MIB, 0)], [(base, 8 * MIB)], cma_areas=[(base, 8 * MIB)])
    k.early0()
    k.early1()
    k.cma_init_reserved_areas()
    assert k.cma[0].count == 0
    assert any("could not be activated" in line for line in k.log)
