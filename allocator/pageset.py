# SPDX-License-Identifier: GPL-2.0-only
"""Per-cpu pagesets: how large, and how lazy their counters may be (mm/page_alloc.c, mm/vmstat.c).

Until memory is up one boot pageset a CPU serves all zones; its `high` of 0 hands every freed page
straight on. `setup_per_cpu_pageset` then gives each zone with pages an array of its own, with a
batch that follows the zone's size (a thousandth of it, at most 1 MiB, as 2^n - 1 once divided by
four) and six batches of room. The stat thresholds, set later when all CPUs are online, say how far
a CPU's counters may drift; where that drift could hide the min watermark the zone gets a drift
mark.
"""

from __future__ import annotations

from collections.abc import Callable

from .boot_context import BootContext, node_word, online_nodes, populated_zones
from .kernel_globals import G_NR_CPU_IDS, G_NUM_ONLINE_CPUS, G_PERCPU_PAGELIST_FRACTION
from .layout import BOOT_PAGESETS, CPU_BLOCKS, CPU_ONLINE, CPU_WORDS, PAGE_OFFSET, va_of_word
from .list_head import list_init
from .memblock import SMP_CACHE_BYTES
from .mm_types import PAGE_SHIFT, PAGE_SIZE
from .mmzone import (
    MIGRATE_PCPTYPES,
    ND_NR_ZONES,
    ND_PER_CPU_NODESTATS,
    PER_CPU_NODESTAT,
    PSET_BATCH,
    PSET_HIGH,
    PSET_LISTS,
    PSET_THRESHOLD,
    PSET_WORDS,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
    Z_DRIFT_MARK,
    Z_MANAGED,
    Z_NODE,
    Z_PAGESET,
    Z_PGDAT,
    Z_WMARK,
    ZONE_WORDS,
)

MIN_PERCPU_PAGELIST_FRACTION = 8
EINVAL = 22
NODESTAT_WORDS = PER_CPU_NODESTAT.words
NODESTAT_THRESHOLD = PER_CPU_NODESTAT["stat_threshold"]


def zone_batchsize(m: memoryview, z: int) -> int:
    """Pages that a pcp list of the zone at word `z` moves at a time; 0 for a small zone."""
    batch = m[z + Z_MANAGED] // 1024
    batch = min(batch, (1 << 20) // PAGE_SIZE) // 4
    batch = max(batch, 1)
    batch += batch // 2
    return (1 << (batch.bit_length() - 1)) - 1


def pageset_update(m: memoryview, ps: int, high: int, batch: int) -> None:
    """Enters new limits into the pageset at word `ps`."""
    m[ps + PSET_HIGH] = high
    m[ps + PSET_BATCH] = batch


def pageset_init(m: memoryview, ps: int) -> None:
    """An empty pageset."""
    for i in range(PSET_WORDS):
        m[ps + i] = 0
    for mt in range(MIGRATE_PCPTYPES):
        list_init(m, ps + PSET_LISTS + 2 * mt)


def pageset_set_batch(m: memoryview, ps: int, batch: int) -> None:
    """Room for six batches; a batch is at least one page."""
    pageset_update(m, ps, 6 * batch, max(1, batch))


def pageset_set_high(m: memoryview, ps: int, high: int) -> None:
    """Limits from a wished-for `high`: the batch is a quarter of it, capped."""
    pageset_update(m, ps, high, min(max(1, high // 4), PAGE_SHIFT * 8))


def pageset_set_high_and_batch(m: memoryview, z: int, ps: int) -> None:
    """Limits of one pageset of zone `z`, after percpu_pagelist_fraction or the zone's size."""
    fraction = m[G_PERCPU_PAGELIST_FRACTION]
    if fraction:
        pageset_set_high(m, ps, m[z + Z_MANAGED] // fraction)
    else:
        pageset_set_batch(m, ps, zone_batchsize(m, z))


def setup_boot_pagesets(m: memoryview) -> None:
    """The pagesets that all zones share until the real ones exist."""
    for cpu in range(m[G_NR_CPU_IDS]):
        ps = BOOT_PAGESETS + cpu * PSET_WORDS
        pageset_init(m, ps)
        pageset_set_batch(m, ps, 0)


def alloc_boot_nodestats(ctx: BootContext) -> None:
    """One array of node counters, one a CPU, that all nodes share until they have their own."""
    m = ctx.m
    phys = ctx.alloc(m[G_NR_CPU_IDS] * NODESTAT_WORDS * 8, SMP_CACHE_BYTES)
    for nid in online_nodes(m):
        m[node_word(m, nid) + ND_PER_CPU_NODESTATS] = va_of_word(phys >> 3)


class PerCpuArea:
    """Memory that setup_per_cpu_areas() sets aside for pagesets while memblock still gives some."""

    def __init__(self, ctx: BootContext) -> None:
        m = ctx.m
        cpus = m[G_NR_CPU_IDS]
        self.pagesets = {
            z: ctx.alloc(cpus * PSET_WORDS * 8, SMP_CACHE_BYTES, m[z + Z_NODE])
            for z in populated_zones(m)
        }
        self.nodestats = {
            nid: ctx.alloc(cpus * NODESTAT_WORDS * 8, SMP_CACHE_BYTES, nid)
            for nid in online_nodes(m)
        }


def setup_per_cpu_pageset(m: memoryview, area: PerCpuArea) -> None:
    """Gives every populated zone its pagesets and every node its counters."""
    for z in populated_zones(m):
        first = area.pagesets[z] >> 3
        m[z + Z_PAGESET] = va_of_word(first)
        for cpu in range(m[G_NR_CPU_IDS]):
            pageset_init(m, first + cpu * PSET_WORDS)
            pageset_set_high_and_batch(m, z, first + cpu * PSET_WORDS)
    for nid, phys in area.nodestats.items():
        m[node_word(m, nid) + ND_PER_CPU_NODESTATS] = va_of_word(phys >> 3)


def zone_pageset(m: memoryview, z: int, cpu: int) -> int:
    """Word index of `cpu`'s pageset of zone `z`."""
    word: int = ((m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + cpu * PSET_WORDS
    return word


# --- thresholds of the per-cpu counters (mm/vmstat.c) ---
def calculate_normal_threshold(m: memoryview, z: int) -> int:
    """How far a CPU's counters of a zone may drift: more CPUs and more memory allow more."""
    units = m[z + Z_MANAGED] >> (27 - PAGE_SHIFT)
    cpus: int = m[G_NUM_ONLINE_CPUS]
    return min(125, 2 * cpus.bit_length() * (1 + units.bit_length()))


def calculate_pressure_threshold(m: memoryview, z: int) -> int:
    """The smaller drift that cannot hide the min watermark, used while kswapd is awake."""
    distance = m[z + Z_WMARK + WMARK_LOW] - m[z + Z_WMARK + WMARK_MIN]
    return min(125, max(1, distance // m[G_NUM_ONLINE_CPUS]))


def set_pgdat_percpu_threshold(
    m: memoryview, nd: int, threshold_of: Callable[[memoryview, int], int]
) -> None:
    """Sets what online CPUs' counters of the node's zones may drift, where that could hide a breach
    of watermarks: by one of the two functions above."""
    for zid in range(m[nd + ND_NR_ZONES]):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_DRIFT_MARK]:
            for cpu in online_cpus(m):
                m[zone_pageset(m, z, cpu) + PSET_THRESHOLD] = threshold_of(m, z)


def online_cpus(m: memoryview) -> list[int]:
    """Ids of the online CPUs, ascending."""
    return [cpu for cpu in range(m[G_NR_CPU_IDS]) if m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE]]


def refresh_zone_stat_thresholds(m: memoryview) -> None:
    """Thresholds of all online CPUs and the zones' drift marks."""
    cpus = online_cpus(m)
    for nid in online_nodes(m):
        stats = (m[node_word(m, nid) + ND_PER_CPU_NODESTATS] - PAGE_OFFSET) >> 3
        for cpu in cpus:
            m[stats + cpu * NODESTAT_WORDS + NODESTAT_THRESHOLD] = 0
    for z in populated_zones(m):
        threshold = calculate_normal_threshold(m, z)
        nd = (m[z + Z_PGDAT] - PAGE_OFFSET) >> 3
        stats = (m[nd + ND_PER_CPU_NODESTATS] - PAGE_OFFSET) >> 3
        for cpu in cpus:
            m[zone_pageset(m, z, cpu) + PSET_THRESHOLD] = threshold
            w = stats + cpu * NODESTAT_WORDS + NODESTAT_THRESHOLD
            m[w] = max(threshold, m[w])
        low, high = m[z + Z_WMARK + WMARK_LOW], m[z + Z_WMARK + WMARK_HIGH]
        max_drift = len(cpus) * threshold
        if max_drift > low - m[z + Z_WMARK + WMARK_MIN]:
            m[z + Z_DRIFT_MARK] = high + max_drift


def percpu_pagelist_fraction_sysctl(m: memoryview, value: int) -> int:
    """Writes vm.percpu_pagelist_fraction: 0 (by size) or at least 8. 0, or -EINVAL."""
    if value < 0 or 0 < value < MIN_PERCPU_PAGELIST_FRACTION:
        return -EINVAL
    if value != m[G_PERCPU_PAGELIST_FRACTION]:
        m[G_PERCPU_PAGELIST_FRACTION] = value
        for z in populated_zones(m):
            for cpu in range(m[G_NR_CPU_IDS]):
                pageset_set_high_and_batch(m, z, zone_pageset(m, z, cpu))
    return 0
