# SPDX-License-Identifier: GPL-2.0-only
"""allocator/watermark.py: every branch of __zone_watermark_ok, rows read from mm/page_alloc.c."""

from __future__ import annotations

import pytest

from allocator.kernel_globals import G_NR_CPU_IDS
from allocator.layout import PAGE_OFFSET
from allocator.mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    PSET_STAT_DIFF,
    Z_DRIFT_MARK,
    Z_FREE_AREA,
    Z_FREE_CMA,
    Z_FREE_PAGES,
    Z_LOWMEM_RESERVE,
    Z_NR_HIGHATOMIC,
    Z_PAGESET,
    ZONE_WORDS,
)
from allocator.watermark import (
    ALLOC_CMA,
    ALLOC_HARDER,
    ALLOC_HIGH,
    ALLOC_OOM,
    zone_watermark_fast,
    zone_watermark_ok,
    zone_watermark_ok_safe,
)

Z = 1024


def zone(
    free: int,
    cma: int = 0,
    highatomic: int = 0,
    reserve: int = 0,
    blocks: tuple[tuple[int, int], ...] = (),
) -> memoryview:
    """A lone zone at word Z. `blocks`: (order, migratetype) of free blocks."""
    m = memoryview(bytearray(8 * (Z + ZONE_WORDS + 512))).cast("q")
    m[Z + Z_FREE_PAGES], m[Z + Z_FREE_CMA] = free, cma
    m[Z + Z_NR_HIGHATOMIC], m[Z + Z_LOWMEM_RESERVE + 2] = highatomic, reserve
    for order in range(11):
        for mt in range(6):
            head = Z + Z_FREE_AREA + order * FA_WORDS + 2 * mt
            m[head] = m[head + 1] = PAGE_OFFSET + (head << 3)
    for order, mt in blocks:
        m[Z + Z_FREE_AREA + order * FA_WORDS + FA_NR_FREE] += 1
        m[Z + Z_FREE_AREA + order * FA_WORDS + 2 * mt] = PAGE_OFFSET
    return m


@pytest.mark.parametrize(
    ("order", "mark", "flags", "state", "ok"),
    [
        (0, 100, 0, zone(100), False),  # <= fails
        (0, 100, 0, zone(101), True),
        (0, 100, 0, zone(150, reserve=50), False),
        (0, 100, 0, zone(151, reserve=50), True),
        (0, 100, 0, zone(612, highatomic=512), False),  # the reserve is not for everybody
        (0, 100, ALLOC_HARDER, zone(76, highatomic=512), True),  # a quarter off, reserve counts
        (0, 100, ALLOC_HARDER, zone(75, highatomic=512), False),
        (0, 100, ALLOC_HIGH, zone(51), True),  # half off
        (0, 101, ALLOC_HIGH, zone(51), False),  # 101 - 50
        (0, 100, ALLOC_HIGH | ALLOC_HARDER, zone(39), True),  # half, then a quarter of the rest
        (0, 100, ALLOC_HIGH | ALLOC_HARDER, zone(38), False),
        (0, 100, ALLOC_OOM, zone(51), True),
        (0, 100, ALLOC_OOM | ALLOC_HARDER, zone(51), True),  # OOM goes before HARDER
        (0, 100, 0, zone(150, cma=50), False),  # CMA pages only with ALLOC_CMA
        (0, 100, ALLOC_CMA, zone(150, cma=50), True),
        (3, 100, 0, zone(107, blocks=((3, 0),)), False),  # 107 - 7
        (3, 100, 0, zone(108, blocks=((3, 0),)), True),
        (3, 100, 0, zone(1000, blocks=((2, 0),)), False),  # no block large enough
        (3, 100, 0, zone(1000, blocks=((10, 2),)), True),
        (3, 100, 0, zone(1000, blocks=((4, 3),)), False),  # highatomic block
        (3, 100, ALLOC_HARDER, zone(1000, blocks=((4, 3),)), True),
        (3, 100, ALLOC_OOM, zone(1000, blocks=((4, 3),)), True),
        (3, 100, 0, zone(1000, blocks=((4, 4),)), False),
        (3, 100, ALLOC_CMA, zone(1000, blocks=((4, 4),)), True),
        (3, 100, ALLOC_CMA | ALLOC_HARDER, zone(1000, blocks=((4, 5),)), False),  # isolated
        (0, 100, 0, zone(-5), False),
    ],
)
def test_full_watermark_test(
    order: int, mark: int, flags: int, state: memoryview, ok: bool
) -> None:
    assert zone_watermark_ok(state, Z, order, mark, 2, flags) is ok


def test_fast_order_0_test_leaves_the_highatomic_reserve_in() -> None:
    state = zone(200, highatomic=512)
    assert zone_watermark_fast(state, Z, 0, 100, 2, 0)
    assert not zone_watermark_ok(state, Z, 0, 100, 2, 0)


def test_fast_test_subtracts_cma_pages_and_then_asks_the_full_test() -> None:
    assert not zone_watermark_fast(zone(150, cma=50), Z, 0, 100, 2, 0)
    assert zone_watermark_fast(zone(60), Z, 0, 100, 2, ALLOC_HIGH)


@pytest.mark.parametrize(
    ("drift_mark", "delta", "ok"), [(0, 90, False), (95, 90, True), (95, 0, False)]
)
def test_safe_test_adds_the_per_cpu_deltas_below_the_drift_mark(
    drift_mark: int, delta: int, ok: bool
) -> None:
    state = zone(90)
    state[Z + Z_DRIFT_MARK] = drift_mark
    pageset = Z + ZONE_WORDS + 8
    state[Z + Z_PAGESET] = PAGE_OFFSET + (pageset << 3)
    state[pageset + PSET_STAT_DIFF] = delta
    m = memoryview(bytearray(8 * (G_NR_CPU_IDS + 1))).cast("q")
    m[: len(state)] = state
    m[G_NR_CPU_IDS] = 1
    assert zone_watermark_ok_safe(m, Z, 0, 100, 2) is ok
