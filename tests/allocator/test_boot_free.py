# SPDX-License-Identifier: GPL-2.0-only
"""Freeing in bulk gives what freeing block by block gives."""

from __future__ import annotations

import random

import pytest

from allocator import kernel_globals as kg
from allocator.boot_context import all_zones
from allocator.boot_free import free_ranges
from allocator.boot_stages import BootStages
from allocator.memmap_init import reserve_bootmem_region
from allocator.mm_types import COUNTS_FREE, COUNTS_ONE, P_COUNTS, P_FLAGS, P_INDEX, PG_RESERVED
from allocator.mmzone import Z_FREE_PAGES, Z_INITIALIZED, Z_MANAGED, ZONE_DMA
from allocator.page_alloc import free_pages
from tests.allocator.bringup_support import free_areas, page_word, tables_boot

MIB, PAGE = 1 << 20, 4096


def random_boot(seed: int) -> BootStages:
    """Two nodes whose border lies anywhere, and ragged reserved ranges."""
    rng = random.Random(seed)
    border = 32 * MIB + rng.randrange(0, 8 * MIB, PAGE)
    end = border + 24 * MIB + rng.randrange(0, 4 * MIB, PAGE)
    low, high = (0, 1) if rng.random() < 0.5 else (1, 0)
    reserved = [(0, 64 << 10), (16 * MIB, 4 * MIB)]
    for _ in range(rng.randrange(2, 30)):
        at = rng.randrange(MIB, end - MIB, 64)
        reserved.append((at, rng.choice([1, 64, PAGE, 3 * PAGE, 40 * PAGE, 700 * PAGE])))
    reserved.sort()
    joined: list[tuple[int, int]] = []
    for base, size in reserved:
        if joined and base <= sum(joined[-1]):
            joined[-1] = (joined[-1][0], max(sum(joined[-1]), base + size) - joined[-1][0])
        else:
            joined.append((base, size))
    memory = [
        (PAGE, 0x9F000 - PAGE, low),
        (MIB, border - MIB, low),
        (border, end - border, high),
    ]
    return tables_boot(memory, joined, cpu_nodes=[0, 1])


def free_one_by_one(k: BootStages) -> None:
    """memblock_free_all() the slow way, through the allocator's own free_pages."""
    m = k.m
    for z in all_zones(m):
        m[z + Z_MANAGED] = 0
    for base, end, _, _ in k.ctx.mb.reserved.regions():
        reserve_bootmem_region(k.ctx, base, end)
    for start, end in free_ranges(k.ctx):
        while start < end:
            order = min(10, (start & -start).bit_length() - 1)
            while start + (1 << order) > end:
                order -= 1
            for pfn in range(start, start + (1 << order)):
                m[page_word(m, pfn) + P_COUNTS] = COUNTS_FREE
            m[page_word(m, start) + P_COUNTS] = COUNTS_ONE
            free_pages(m, 0, start, order)
            start += 1 << order


@pytest.mark.parametrize("seed", range(12))
def test_lists_equal_those_of_freeing_every_block_through_the_allocator(seed: int) -> None:
    bulk, slow = random_boot(seed), random_boot(seed)
    bulk.early0()
    bulk.early1()
    slow.early0()
    free_one_by_one(slow)
    for z in all_zones(bulk.m):
        if bulk.m[z + Z_INITIALIZED]:
            assert free_areas(bulk.m, z) == free_areas(slow.m, z)
        assert bulk.m[z + Z_FREE_PAGES] == slow.m[z + Z_FREE_PAGES]
    for section in range(1 + (bulk.m[kg.G_MAX_PFN] >> 15)):
        first = page_word(bulk.m, section << 15)
        assert bulk.m[first : first + (8 << 15)] == slow.m[first : first + (8 << 15)]


def test_partly_reserved_pages_stay_reserved() -> None:
    k = tables_boot([(MIB, 63 * MIB, 0)], [(16 * MIB, 4 * MIB), (40 * MIB + 100, PAGE)])
    k.early0()
    k.early1()
    pfn = (40 * MIB) >> 12
    for offset, taken in ((-1, False), (0, True), (1, True), (2, False)):
        w = page_word(k.m, pfn + offset)
        assert bool(k.m[w + P_FLAGS] & PG_RESERVED) is taken
        assert (k.m[w + P_COUNTS] == COUNTS_ONE) is taken


def test_single_pages_remember_the_type_they_passed_the_pcp_list_with() -> None:
    k = tables_boot([(MIB, 63 * MIB, 0)], [(16 * MIB, 4 * MIB), (40 * MIB + PAGE, PAGE)])
    k.early0()
    k.early1()
    assert k.m[page_word(k.m, (40 * MIB) >> 12) + P_INDEX] == 1
    assert k.m[page_word(k.m, (41 * MIB) >> 12) + P_INDEX] == 0


def test_memory_of_a_node_too_small_to_go_online_is_counted_but_never_freed() -> None:
    small = (128 * MIB, 2 * MIB, 1)
    k = tables_boot([(MIB, 127 * MIB, 0), small], [(16 * MIB, 4 * MIB)], online_nodes=[0])
    k.early0()
    k.early1()
    assert any("Bad page state: 512 pages" in line for line in k.log)
    dma = all_zones(k.m)[ZONE_DMA]
    assert k.m[dma + Z_MANAGED] == k.m[dma + Z_FREE_PAGES] + 512
