# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from allocator.mmzone import ZONE_DMA, ZONE_DMA32, ZONE_MOVABLE, ZONE_NORMAL
from allocator.zone_sizes import ZoneRanges, clamp
from tests.allocator.bringup_support import MIB, context

GIB = 1 << 30
Memory = list[tuple[int, int, int]]


def ranges(memory: Memory, cmdline: str = "") -> ZoneRanges:
    ctx = context(cmdline=cmdline)
    for base, size, nid in memory:
        ctx.mb.add_node(base, size, nid)
    return ZoneRanges(ctx, max(base + size for base, size, _ in memory) >> 12)


TWO_NODES = [(4096, 128 * MIB - 4096, 0), (128 * MIB, 128 * MIB, 1)]
ACROSS_4G = [(4096, 3 * GIB, 0), (4 * GIB, GIB, 0), (5 * GIB, 4 * GIB, 1)]


def test_zones_end_at_16_mib_and_4_gib() -> None:
    zones = ranges(ACROSS_4G)
    assert zones.zone_span(0, ZONE_DMA) == (1, 4095)
    assert zones.zone_span(0, ZONE_DMA32) == (4096, (1 << 20) - 4096)
    assert zones.zone_span(0, ZONE_NORMAL) == (1 << 20, 1 << 18)
    assert zones.zone_absent(0, ZONE_DMA32) == (1 << 18) - 1
    assert zones.zone_span(1, ZONE_DMA32) == (0, 0)
    assert zones.zone_span(1, ZONE_NORMAL) == (5 << 18, 4 << 18)


def test_kernelcore_is_spread_evenly_and_aligned() -> None:
    zones = ranges(TWO_NODES, "kernelcore=64M")
    # node 0 lacks page 0, so its share ends one page behind 32 MiB and is rounded up to 4 MiB
    assert zones.movable_pfn[:2] == [36 * MIB >> 12, 160 * MIB >> 12]
    assert zones.zone_span(1, ZONE_MOVABLE) == (160 * MIB >> 12, 96 * MIB >> 12)
    assert zones.zone_span(1, ZONE_DMA32) == (128 * MIB >> 12, 32 * MIB >> 12)


def test_small_nodes_leave_their_share_to_the_others() -> None:
    memory = [(4096, 32 * MIB - 4096, 0), (32 * MIB, 224 * MIB, 1)]
    zones = ranges(memory, "kernelcore=128M")
    assert zones.zone_span(0, ZONE_MOVABLE) == (0, 0)
    start, span = zones.zone_span(1, ZONE_MOVABLE)
    assert start + span == 256 * MIB >> 12
    assert 124 * MIB <= span << 12 <= 132 * MIB


def test_movablecore_is_at_least_what_was_asked_for() -> None:
    zones = ranges(TWO_NODES, "movablecore=25%")
    spans = [zones.zone_span(nid, ZONE_MOVABLE)[1] for nid in (0, 1)]
    assert sum(spans) << 12 >= 63 * MIB


def test_more_kernelcore_than_memory_means_no_movable_zone() -> None:
    assert ranges(TWO_NODES, "kernelcore=300M").movable_pfn == [0] * 64


def test_dma_memory_counts_as_kernelcore_where_movable_memory_is_higher() -> None:
    zones = ranges(ACROSS_4G, "kernelcore=50%")
    assert zones.movable_zone == ZONE_NORMAL
    assert zones.zone_span(0, ZONE_DMA32)[1] == (1 << 20) - 4096
    assert zones.zone_span(1, ZONE_MOVABLE)[1] > 0


def test_mirror_makes_all_above_4_gib_movable() -> None:
    zones = ranges(ACROSS_4G, "kernelcore=mirror")
    assert zones.zone_span(0, ZONE_MOVABLE) == (1 << 20, 1 << 18)
    assert zones.zone_span(0, ZONE_NORMAL) == (0, 0)
    assert zones.zone_span(1, ZONE_MOVABLE) == (5 << 18, 4 << 18)
    assert any("unmirrored" in line for line in zones.ctx.printk.lines)


def test_movable_start_behind_an_unaligned_end_leaves_the_kernels_odd_count() -> None:
    # node 0 ends 100 pages into a 4 MiB block and is all kernelcore: span 0, yet pages "present"
    end = 64 * MIB + 100 * 4096
    memory = [(4096, end - 4096, 0), (5 * GIB, 4 * GIB, 1)]
    zones = ranges(memory, "kernelcore=2G")
    assert zones.zone_span(0, ZONE_MOVABLE) == (0, 0)
    assert zones.zone_absent(0, ZONE_MOVABLE) == -(1024 - 100)


def test_clamp_lets_the_upper_bound_win() -> None:
    assert [clamp(5, 1, 9), clamp(5, 6, 9), clamp(5, 9, 6), clamp(50, 9, 6)] == [5, 6, 6, 6]
