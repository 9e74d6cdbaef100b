# SPDX-License-Identifier: GPL-2.0-only
"""allocator/vmstat.py: per-cpu deltas, their thresholds and NUMA statistics."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.kernel import Kernel
from allocator.layout import CPU_BLOCKS, CPU_EVENTS, word_of_va
from allocator.mmzone import (
    NR_BOUNCE,
    NUMA_HIT,
    NUMA_STAT_NAMES,
    NUMA_STATS_THRESHOLD,
    PSET_NUMA_DIFF,
    PSET_STAT_DIFF,
    PSET_THRESHOLD,
    Z_NUMA_STAT,
    Z_PAGESET,
    Z_VM_STAT,
)
from allocator.views import Zone
from allocator.vm_events import PGALLOC, PGFREE
from allocator.vmstat import inc_numa_state, mod_zone_page_state, zone_page_state_snapshot
from tests.allocator.machines import boot

KERNEL = boot("2x128M")


def numa(kernel: Kernel, zone: Zone) -> dict[str, int]:
    kernel.fold_vm_stats(0)
    kernel.fold_vm_stats(1)
    return {name: kernel.m[zone.word + Z_NUMA_STAT + i] for i, name in enumerate(NUMA_STAT_NAMES)}


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-9, 9)))
def test_delta_moves_to_the_global_counter_only_beyond_the_threshold(deltas: list[int]) -> None:
    m, zone = KERNEL.m, KERNEL.zone(0, "DMA32")
    ps = word_of_va(m[zone.word + Z_PAGESET])
    KERNEL.fold_vm_stats()
    start = m[zone.word + Z_VM_STAT + NR_BOUNCE]
    total, held, threshold = start, 0, m[ps + PSET_THRESHOLD]
    for delta in deltas:
        mod_zone_page_state(m, 0, zone.word, NR_BOUNCE, delta)
        held += delta
        if abs(held) > threshold:
            total, held = total + held, 0
        assert m[zone.word + Z_VM_STAT + NR_BOUNCE] == total
        assert m[ps + PSET_STAT_DIFF + NR_BOUNCE] == held
    snapshot = zone_page_state_snapshot(m, zone.word, NR_BOUNCE)
    assert snapshot == max(0, start + sum(deltas))
    KERNEL.fold_vm_stats()
    assert m[zone.word + Z_VM_STAT + NR_BOUNCE] == start + sum(deltas)
    m[zone.word + Z_VM_STAT + NR_BOUNCE] = 0


def test_numa_counter_folds_when_its_u16_would_overflow() -> None:
    m, zone = KERNEL.m, KERNEL.zone(0, "DMA32")
    word = word_of_va(m[zone.word + Z_PAGESET]) + PSET_NUMA_DIFF + NUMA_HIT
    KERNEL.fold_vm_stats()
    before = m[zone.word + Z_NUMA_STAT + NUMA_HIT]
    m[word] = NUMA_STATS_THRESHOLD
    inc_numa_state(m, 0, zone.word, NUMA_HIT)
    assert m[word] == 0
    assert m[zone.word + Z_NUMA_STAT + NUMA_HIT] == before + NUMA_STATS_THRESHOLD + 1


@pytest.mark.parametrize(("order", "gfp"), [(0, "GFP_KERNEL"), (2, "GFP_KERNEL")])
def test_hits_misses_and_locality_are_counted_per_zone(order: int, gfp: str) -> None:
    kernel = boot("2x48M")
    near, far = kernel.zone(0, "DMA32"), kernel.zone(1, "DMA32")
    before = numa(kernel, near), numa(kernel, far)
    kernel.alloc_pages(gfp, order, nid=0, cpu=0)  # hit, local
    kernel.alloc_pages(gfp, order, nid=1, cpu=0)  # hit, other
    pages = kernel.exhaust(1, gfp, order)
    kernel.alloc_pages(gfp, order, nid=1, cpu=0)  # miss on 0, foreign on 1, local
    change = [
        {name: after[name] - old[name] for name in NUMA_STAT_NAMES}
        for old, after in zip(before, (numa(kernel, near), numa(kernel, far)), strict=True)
    ]
    assert change[0] == dict.fromkeys(NUMA_STAT_NAMES, 0) | {
        "numa_hit": 1,
        "numa_miss": 1,
        "numa_local": 2,
    }
    assert change[1] == dict.fromkeys(NUMA_STAT_NAMES, 0) | {
        "numa_hit": 1 + len(pages),
        "numa_foreign": 1,
        "numa_other": 1 + len(pages),
    }


def test_events_count_pages_by_zone_and_cpu() -> None:
    kernel = boot("2x48M")
    events = CPU_BLOCKS + CPU_EVENTS
    before = kernel.m[events + PGALLOC + 1], kernel.m[events + PGFREE]
    page = kernel.alloc_pages("GFP_KERNEL", 3, nid=0)
    assert page is not None
    kernel.free_pages(page, 3)
    assert kernel.m[events + PGALLOC + 1] == before[0] + 8
    assert kernel.m[events + PGFREE] == before[1] + 8
