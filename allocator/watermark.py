# SPDX-License-Identifier: GPL-2.0-only
"""Watermark tests: may this zone serve this request now? (mm/page_alloc.c)

A request may be served when, after it, the zone keeps more than the mark plus the lowmem reserve
that protects it from requests which could also use a higher zone, and, for orders above 0, when a
block of a usable type is really there. What a request may count on depends on its alloc flags:
ALLOC_HIGH and ALLOC_HARDER lower the mark, ALLOC_OOM halves it, only ALLOC_HARDER may count the
highatomic reserve, only ALLOC_CMA the free CMA pages.

All hot. `z` is the word index of a zone, `mark` in pages.
"""

from __future__ import annotations

from .layout import PAGE_OFFSET
from .mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_ORDER,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_PCPTYPES,
    NR_FREE_PAGES,
    Z_DRIFT_MARK,
    Z_FREE_AREA,
    Z_FREE_CMA,
    Z_FREE_PAGES,
    Z_LOWMEM_RESERVE,
    Z_NR_HIGHATOMIC,
)
from .vmstat import zone_page_state_snapshot

Z_FREE_AREA_END = Z_FREE_AREA + MAX_ORDER * FA_WORDS

# alloc_flags (mm/internal.h); the low two bits choose the watermark
ALLOC_WMARK_MIN = 0
ALLOC_WMARK_LOW = 1
ALLOC_WMARK_HIGH = 2
ALLOC_NO_WATERMARKS = 0x04
ALLOC_WMARK_MASK = 0x03
ALLOC_OOM = 0x08
ALLOC_HARDER = 0x10
ALLOC_HIGH = 0x20
ALLOC_CPUSET = 0x40
ALLOC_CMA = 0x80

ALLOC_FLAG_NAMES = (
    ("ALLOC_NO_WATERMARKS", ALLOC_NO_WATERMARKS),
    ("ALLOC_OOM", ALLOC_OOM),
    ("ALLOC_HARDER", ALLOC_HARDER),
    ("ALLOC_HIGH", ALLOC_HIGH),
    ("ALLOC_CPUSET", ALLOC_CPUSET),
    ("ALLOC_CMA", ALLOC_CMA),
)


def zone_watermark_ok_free(
    m: memoryview, z: int, order: int, mark: int, classzone_idx: int, flags: int, free: int
) -> bool:
    """The full test with a given number of free pages (__zone_watermark_ok). Hot."""
    low = mark
    harder = flags & (ALLOC_HARDER | ALLOC_OOM)
    free -= (1 << order) - 1
    if flags & ALLOC_HIGH:
        low -= low // 2
    if harder == 0:
        free -= m[z + Z_NR_HIGHATOMIC]
    elif flags & ALLOC_OOM:
        low -= low // 2
    else:
        low -= low // 4
    if flags & ALLOC_CMA == 0:
        free -= m[z + Z_FREE_CMA]
    if free <= low + m[z + Z_LOWMEM_RESERVE + classzone_idx]:
        return False
    if order == 0:
        return True
    first = z + (Z_FREE_AREA + order * FA_WORDS)
    for area in range(first, z + Z_FREE_AREA_END, FA_WORDS):
        if m[area + FA_NR_FREE] == 0:
            continue
        for mt in range(MIGRATE_PCPTYPES):
            head = area + 2 * mt
            if m[head] != PAGE_OFFSET + (head << 3):
                return True
        if flags & ALLOC_CMA:
            head = area + 2 * MIGRATE_CMA
            if m[head] != PAGE_OFFSET + (head << 3):
                return True
        if harder:
            head = area + 2 * MIGRATE_HIGHATOMIC
            if m[head] != PAGE_OFFSET + (head << 3):
                return True
    return False


def zone_watermark_ok(
    m: memoryview, z: int, order: int, mark: int, classzone_idx: int, flags: int
) -> bool:
    """The full test with the zone's global free counter. Hot."""
    return zone_watermark_ok_free(m, z, order, mark, classzone_idx, flags, m[z + Z_FREE_PAGES])


def zone_watermark_fast(
    m: memoryview, z: int, order: int, mark: int, classzone_idx: int, flags: int
) -> bool:
    """The test of the allocation loop: order 0 is settled by one comparison if it passes. Hot."""
    free = m[z + Z_FREE_PAGES]
    if order == 0:
        cma = 0 if flags & ALLOC_CMA else m[z + Z_FREE_CMA]
        if free - cma > mark + m[z + Z_LOWMEM_RESERVE + classzone_idx]:
            return True
    return zone_watermark_ok_free(m, z, order, mark, classzone_idx, flags, free)


def zone_watermark_ok_safe(
    m: memoryview, z: int, order: int, mark: int, classzone_idx: int
) -> bool:
    """The test that adds the per-cpu deltas where they could hide a breach. Hot."""
    free = m[z + Z_FREE_PAGES]
    drift = m[z + Z_DRIFT_MARK]
    if drift and free < drift:
        free = zone_page_state_snapshot(m, z, NR_FREE_PAGES)
    return zone_watermark_ok_free(m, z, order, mark, classzone_idx, 0, free)
