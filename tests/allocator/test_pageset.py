# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from allocator.boot_stages import BootStages
from allocator.kernel_globals import G_NUM_ONLINE_CPUS, G_PERCPU_PAGELIST_FRACTION
from allocator.layout import BOOT_PAGESETS
from allocator.mmzone import (
    PSET_BATCH,
    PSET_HIGH,
    PSET_THRESHOLD,
    PSET_WORDS,
    Z_DRIFT_MARK,
    Z_MANAGED,
    Z_WMARK,
)
from allocator.pageset import (
    calculate_normal_threshold,
    calculate_pressure_threshold,
    percpu_pagelist_fraction_sysctl,
    refresh_zone_stat_thresholds,
    zone_batchsize,
    zone_pageset,
)
from tests.allocator.bringup_support import MIB, context, tables_boot, zone

Z = 0x200000


def booted(cpus: int = 2) -> BootStages:
    k = tables_boot([(MIB, 127 * MIB, 0)], [(16 * MIB, 8 * MIB)], cpu_nodes=[0] * cpus)
    k.early0()
    k.early1()
    return k


@pytest.mark.parametrize(
    ("managed", "batch"),
    [
        (0, 0),
        (8191, 0),
        (8192, 1),
        (12288, 3),
        (32768, 7),
        (57312, 15),
        (262144, 63),
        (1 << 30, 63),
    ],
)
def test_batch_is_a_thousandth_of_the_zone_as_a_power_of_two_less_one(
    managed: int, batch: int
) -> None:
    m = context().m
    m[Z + Z_MANAGED] = managed
    assert zone_batchsize(m, Z) == batch


def test_boot_pagesets_hand_every_page_straight_on() -> None:
    k = booted()
    for cpu in range(2):
        ps = BOOT_PAGESETS + cpu * PSET_WORDS
        assert (k.m[ps + PSET_HIGH], k.m[ps + PSET_BATCH]) == (0, 1)


def test_every_cpu_gets_a_pageset_of_every_zone() -> None:
    k = booted(3)
    k.setup_per_cpu_pageset()
    places = {zone_pageset(k.m, zone(k.m, 0, zid), cpu) for zid in (0, 1) for cpu in range(3)}
    assert len(places) == 6
    ps = zone_pageset(k.m, zone(k.m, 0, 1), 2)
    assert (k.m[ps + PSET_HIGH], k.m[ps + PSET_BATCH]) == (42, 7)


@pytest.mark.parametrize(
    ("cpus", "managed", "threshold"),
    [(1, 1000, 2), (2, 1000, 4), (4, 40000, 12), (8, 1 << 19, 48), (256, 1 << 26, 125)],
)
def test_threshold_grows_with_cpus_and_memory(cpus: int, managed: int, threshold: int) -> None:
    m = context().m
    m[G_NUM_ONLINE_CPUS] = cpus
    m[Z + Z_MANAGED] = managed
    assert calculate_normal_threshold(m, Z) == threshold


def test_pressure_threshold_is_the_watermark_distance_shared_out() -> None:
    m = context().m
    m[G_NUM_ONLINE_CPUS] = 4
    m[Z + Z_WMARK], m[Z + Z_WMARK + 1] = 100, 140
    assert calculate_pressure_threshold(m, Z) == 10
    m[Z + Z_WMARK + 1] = 100
    assert calculate_pressure_threshold(m, Z) == 1


def test_drift_mark_is_set_where_drift_could_hide_the_min_watermark() -> None:
    k = booted()
    k.setup_per_cpu_pageset()
    k.smp_init()
    z = zone(k.m, 0, 1)
    threshold = k.m[zone_pageset(k.m, z, 1) + PSET_THRESHOLD]
    assert k.m[z + Z_DRIFT_MARK] == 2 * threshold
    k.m[z + Z_WMARK], k.m[z + Z_WMARK + 1], k.m[z + Z_WMARK + 2] = 10, 11, 12
    refresh_zone_stat_thresholds(k.m)
    assert k.m[z + Z_DRIFT_MARK] == 12 + 2 * threshold


def test_percpu_pagelist_fraction_resizes_all_pagesets() -> None:
    k = booted()
    k.setup_per_cpu_pageset()
    z = zone(k.m, 0, 1)
    for bad in (-1, 1, 7):
        assert percpu_pagelist_fraction_sysctl(k.m, bad) == -22
    assert percpu_pagelist_fraction_sysctl(k.m, 100) == 0
    high = k.m[z + Z_MANAGED] // 100
    ps = zone_pageset(k.m, z, 1)
    assert (k.m[ps + PSET_HIGH], k.m[ps + PSET_BATCH]) == (high, min(high // 4, 96))
    assert percpu_pagelist_fraction_sysctl(k.m, 0) == 0
    assert k.m[ps + PSET_HIGH] == 42
    assert k.m[G_PERCPU_PAGELIST_FRACTION] == 0
