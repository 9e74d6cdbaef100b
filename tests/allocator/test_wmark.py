# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from allocator import wmark
from allocator.boot_stages import BootStages
from allocator.kernel_globals import G_MIN_FREE_KBYTES, G_TOTALRESERVE, G_USER_MIN_FREE_KBYTES
from allocator.mmzone import Z_LOWMEM_RESERVE, Z_MANAGED, Z_WMARK
from tests.allocator.bringup_support import MIB, tables_boot, zone

GIB = 1 << 30


def booted(cmdline: str = "") -> BootStages:
    k = tables_boot([(MIB, 3 * GIB, 0), (4 * GIB, GIB, 0)], [(16 * MIB, 8 * MIB)], cmdline=cmdline)
    k.early0()
    k.early1()
    k.setup_per_cpu_pageset()
    k.smp_init()
    k.init_per_zone_wmark_min()
    return k


def marks(k: BootStages, zid: int) -> list[int]:
    return k.m[zone(k.m, 0, zid) + Z_WMARK : zone(k.m, 0, zid) + Z_WMARK + 3].tolist()


def test_min_free_kbytes_is_four_roots_of_memory() -> None:
    k = booted()
    kbytes = 4 * sum(k.m[zone(k.m, 0, zid) + Z_MANAGED] for zid in range(3))
    assert k.m[G_MIN_FREE_KBYTES] == int((16 * kbytes) ** 0.5)


def test_lowmem_reserve_is_what_higher_zones_hold_over_the_ratio() -> None:
    k = booted()
    dma, dma32, normal = (k.m[zone(k.m, 0, zid) + Z_MANAGED] for zid in range(3))
    first = zone(k.m, 0, 0) + Z_LOWMEM_RESERVE
    assert k.m[first : first + 4].tolist() == [
        0,
        dma32 // 256,
        (dma32 + normal) // 256,
        (dma32 + normal) // 256,
    ]
    assert dma > 0


def test_writing_min_free_kbytes_moves_all_watermarks() -> None:
    k = booted()
    before = marks(k, 1)
    assert wmark.min_free_kbytes_sysctl(k.m, 2 * k.m[G_MIN_FREE_KBYTES]) == 0
    assert marks(k, 1)[0] in (2 * before[0], 2 * before[0] + 1)
    assert wmark.min_free_kbytes_sysctl(k.m, -1) == -22


def test_a_users_larger_min_free_kbytes_is_kept() -> None:
    k = booted()
    wmark.min_free_kbytes_sysctl(k.m, 100_000)
    k.init_per_zone_wmark_min()
    assert k.m[G_MIN_FREE_KBYTES] == 100_000
    assert any("user defined value 100000 is preferred" in line for line in k.log)


def test_scale_factor_sets_the_distance_of_the_marks() -> None:
    k = booted()
    assert wmark.watermark_scale_factor_sysctl(k.m, 1000) == 0
    low, distance = marks(k, 1)[0], k.m[zone(k.m, 0, 1) + Z_MANAGED] * 1000 // 10000
    assert marks(k, 1) == [low, low + distance, low + 2 * distance]
    assert wmark.watermark_scale_factor_sysctl(k.m, 0) == -22
    assert wmark.watermark_scale_factor_sysctl(k.m, 1001) == -22


def test_ratios_below_one_switch_the_reserve_off() -> None:
    k = booted()
    before = k.m[G_TOTALRESERVE]
    assert wmark.lowmem_reserve_ratio_sysctl(k.m, [-5, 0]) == 0
    first = zone(k.m, 0, 0) + Z_LOWMEM_RESERVE
    assert k.m[first : first + 4].tolist() == [0, 0, 0, 0]
    assert k.m[G_TOTALRESERVE] < before
    assert wmark.lowmem_reserve_ratio_sysctl(k.m, [1] * 5) == -22


def test_khugepaged_raises_min_free_kbytes_unless_it_is_off() -> None:
    k = booted()
    k.khugepaged_init()
    assert k.m[G_MIN_FREE_KBYTES] == 512 * 3 * 11 * 4
    assert k.m[G_USER_MIN_FREE_KBYTES] == -1
    off = booted("transparent_hugepage=never")
    before = off.m[G_MIN_FREE_KBYTES]
    off.khugepaged_init()
    assert off.m[G_MIN_FREE_KBYTES] == before
