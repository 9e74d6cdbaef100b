# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from allocator.layout import word_of_va
from allocator.mmzone import Z_CONTIGUOUS, Z_INITIALIZED, Z_MANAGED, Z_NAME, Z_PGDAT
from allocator.page_init import calc_memmap_size, set_zone_contiguous
from tests.allocator.bringup_support import MIB, tables_boot, zone

KERNEL = (16 * MIB, 8 * MIB)


def test_memmap_is_charged_for_what_is_present_when_holes_are_large() -> None:
    assert calc_memmap_size(4095, 3998) == 64
    assert calc_memmap_size(100_000, 50_000) == -(-50_000 * 64 // 4096)


def test_managed_is_estimated_before_memory_is_freed() -> None:
    k = tables_boot([(4096, 64 * MIB - 4096, 0)], [(0, 64 << 10), KERNEL])
    k.early0()
    assert k.m[zone(k.m, 0, 0) + Z_MANAGED] == 4095 - 64 - 15
    assert k.m[zone(k.m, 0, 1) + Z_MANAGED] == 12288 - 192
    assert any("DMA zone: 15 pages reserved" in line for line in k.log)


def test_zones_carry_name_and_node_as_guest_pointers() -> None:
    k = tables_boot([(MIB, 63 * MIB, 0)], [KERNEL])
    k.early0()
    z = zone(k.m, 0, 1)
    name = word_of_va(k.m[z + Z_NAME]) << 3
    assert bytes(k.memory.bytes[name : name + 6]) == b"DMA32\0"
    assert word_of_va(k.m[z + Z_PGDAT]) == zone(k.m, 0, 0)
    assert [k.m[zone(k.m, 0, zid) + Z_INITIALIZED] for zid in range(4)] == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("memory", "contiguous"),
    [
        ([(16 * MIB, 112 * MIB, 0)], True),
        # a hole is still initialised as the zone's own, a missing section is not
        ([(16 * MIB, 16 * MIB, 0), (64 * MIB, 64 * MIB, 0)], True),
        ([(16 * MIB, 16 * MIB, 0), (256 * MIB, 64 * MIB, 0)], False),
        ([(16 * MIB, 16 * MIB, 0), (32 * MIB, 16 * MIB, 1), (48 * MIB, 16 * MIB, 0)], False),
    ],
)
def test_a_zone_is_contiguous_without_holes_and_strangers(
    memory: list[tuple[int, int, int]], contiguous: bool
) -> None:
    k = tables_boot(memory, [KERNEL], cpu_nodes=[0])
    k.early0()
    z = zone(k.m, 0, 1)
    set_zone_contiguous(k.m, z)
    assert bool(k.m[z + Z_CONTIGUOUS]) is contiguous
