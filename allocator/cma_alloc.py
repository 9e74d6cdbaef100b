# SPDX-License-Identifier: GPL-2.0-only
"""Allocating from a CMA area: cma_alloc and cma_release (mm/cma.c).

An area is an entry of the CMA_AREAS table: base PFN, pages, and a bitmap in guest RAM with one bit
for every 2^order_per_bit pages. Allocation looks for a run of clear bits, first fit, aligned, marks
it, and has alloc_contig_range() move away whatever borrowed those frames; a range that proves busy
is unmarked and the search goes on behind it.

All hot but `cma_add_area`. `area` is the word index of a struct cma.
"""

from __future__ import annotations

from machine import UsageError

from .contig import alloc_contig_range, free_contig_range
from .exact import alloc_pages_exact
from .gfp import GFP_KERNEL, GFP_ZERO_BIT
from .kernel_globals import G_CMA_AREA_COUNT
from .layout import CMA, CMA_AREAS, CMA_WORDS, MAX_CMA_AREAS, PAGE_OFFSET
from .mm_types import PAGE_SHIFT
from .mmzone import MIGRATE_CMA

EBUSY = 16
CMA_BASE_PFN = CMA["base_pfn"]
CMA_COUNT = CMA["count"]
CMA_BITMAP = CMA["bitmap"]
CMA_ORDER_PER_BIT = CMA["order_per_bit"]
CMA_NAME = CMA["name"]
NAME_BYTES = 32


def bitmap_word(m: memoryview, area: int, bit: int) -> int:
    """Word index of the bitmap word that holds `bit`. Hot."""
    return ((m[area + CMA_BITMAP] - PAGE_OFFSET) >> 3) + (bit >> 6)


def test_bit(m: memoryview, area: int, bit: int) -> int:
    """1 if `bit` of the area's bitmap is set. Hot."""
    return m[bitmap_word(m, area, bit)] >> (bit & 63) & 1


def bitmap_fill(m: memoryview, area: int, start: int, count: int, value: int) -> None:
    """Sets (1) or clears (0) `count` bits from `start`. Hot."""
    for bit in range(start, start + count):
        w = bitmap_word(m, area, bit)
        mask = 1 << (bit & 63) if bit & 63 < 63 else -(1 << 62) * 2
        m[w] = m[w] | mask if value else m[w] & ~mask


def pages_to_bits(m: memoryview, area: int, pages: int) -> int:
    """Bits that `pages` pages take in the area's bitmap. Hot."""
    unit = m[area + CMA_ORDER_PER_BIT]
    return (pages + (1 << unit) - 1) >> unit


def find_zero_area(
    m: memoryview, area: int, size: int, start: int, count: int, mask: int, offset: int
) -> int:
    """First run of `count` clear bits whose start + `offset` fits `mask`; `size` or more if none.

    Hot (bitmap_find_next_zero_area_off).
    """
    while True:
        bit = start
        while bit < size and test_bit(m, area, bit):
            bit += 1
        bit = ((bit + offset + mask) & ~mask) - offset
        if bit + count > size:
            return size
        used = bit
        while used < bit + count and not test_bit(m, area, used):
            used += 1
        if used == bit + count:
            return bit
        start = used + 1


def cma_alloc(m: memoryview, cpu: int, area: int, count: int, align: int) -> int:
    """Allocates `count` contiguous pages aligned to 2^align pages; first PFN or -1. Hot."""
    if m[area + CMA_COUNT] == 0 or count <= 0 or align < 0:
        return -1
    unit = m[area + CMA_ORDER_PER_BIT]
    base = m[area + CMA_BASE_PFN]
    mask = (1 << (align - unit)) - 1 if align > unit else 0
    offset = (base & ((1 << align) - 1)) >> unit
    size = m[area + CMA_COUNT] >> unit
    bits = pages_to_bits(m, area, count)
    start = 0
    while bits <= size:
        bit = find_zero_area(m, area, size, start, bits, mask, offset)
        if bit >= size:
            break
        bitmap_fill(m, area, bit, bits, 1)
        pfn = base + (bit << unit)
        rc = alloc_contig_range(m, cpu, pfn, pfn + count, MIGRATE_CMA)
        if rc == 0:
            return pfn
        bitmap_fill(m, area, bit, bits, 0)
        if rc != -EBUSY:
            break
        start = bit + mask + 1
    return -1


def cma_release(m: memoryview, cpu: int, area: int, pfn: int, count: int) -> bool:
    """Frees `count` pages that cma_alloc() gave at `pfn`; False if they are not the area's. Hot."""
    base = m[area + CMA_BASE_PFN]
    if count <= 0 or pfn < base or pfn + count > base + m[area + CMA_COUNT]:
        return False
    free_contig_range(m, cpu, pfn, count)
    bit = (pfn - base) >> m[area + CMA_ORDER_PER_BIT]
    bitmap_fill(m, area, bit, pages_to_bits(m, area, count), 0)
    return True


def cma_add_area(
    m: memoryview, cpu: int, base_pfn: int, count: int, order_per_bit: int, name: str
) -> int:
    """Enters a released area of `count` pages into the table, with a bitmap of its own.

    Returns the area's word index, or -1 without memory for the bitmap (the area stays unused, as
    when cma_activate_area() fails).

    Raises:
        UsageError: the table is full, or the numbers make no area.
    """
    index = m[G_CMA_AREA_COUNT]
    if not 0 <= index < MAX_CMA_AREAS:
        raise UsageError(f"no room for more than {MAX_CMA_AREAS} CMA areas")
    unit = 1 << order_per_bit if 0 <= order_per_bit < 32 else 0
    if not unit or base_pfn < 0 or count <= 0 or base_pfn % unit or count % unit:
        raise UsageError(
            f"CMA area {name!r}: {count} pages at {base_pfn:#x}, order {order_per_bit}"
        )
    size = ((count >> order_per_bit) + 63) // 64 * 8
    bitmap = alloc_pages_exact(m, cpu, size, GFP_KERNEL | GFP_ZERO_BIT)
    if bitmap < 0:
        return -1
    area = CMA_AREAS + index * CMA_WORDS
    m[area + CMA_BASE_PFN] = base_pfn
    m[area + CMA_COUNT] = count
    m[area + CMA_BITMAP] = PAGE_OFFSET + (bitmap << PAGE_SHIFT)
    m[area + CMA_ORDER_PER_BIT] = order_per_bit
    raw = name.encode()[: NAME_BYTES - 1].ljust(NAME_BYTES, b"\0")
    for i in range(NAME_BYTES // 8):
        m[area + CMA_NAME + i] = int.from_bytes(raw[8 * i : 8 * i + 8], "little", signed=True)
    m[G_CMA_AREA_COUNT] = index + 1
    return area
