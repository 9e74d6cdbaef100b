# SPDX-License-Identifier: GPL-2.0-only
"""allocator/helpers/vmstat.py: counters with and without what CPUs have not folded."""

from __future__ import annotations

import pytest

from allocator.helpers import vmstat
from allocator.layout import CPU_BLOCKS, CPU_ONLINE, CPU_WORDS
from allocator.mmzone import ND_VM_STAT, NR_FREE_PAGES, NUMA_HIT, NUMA_LOCAL, Z_VM_STAT
from allocator.vm_events import PGALLOC, PGFREE
from tests.allocator.machines import boot


def test_snapshots_add_what_the_cpus_have_not_folded() -> None:
    kernel = boot("2x64M")
    zone = kernel.zone(0, "DMA32")
    before = vmstat.zone_page_state_snapshot(zone, NR_FREE_PAGES)
    page = kernel.alloc_pages("GFP_KERNEL", order=1, nid=0)
    assert page is not None
    assert vmstat.zone_page_state(zone, NR_FREE_PAGES) == zone.free_pages
    assert vmstat.zone_page_state_snapshot(zone, NR_FREE_PAGES) == before - 2
    assert vmstat.zone_numa_state_snapshot(zone, NUMA_HIT) == 1
    assert vmstat.sum_zone_numa_state(kernel.nodes[0], NUMA_LOCAL) == 1
    assert vmstat.global_numa_state(kernel, NUMA_HIT) == 0
    kernel.fold_vm_stats(0)
    assert vmstat.global_numa_event_state(kernel, NUMA_HIT) == 1
    assert vmstat.zone_page_state(zone, NR_FREE_PAGES) == before - 2


def test_offline_cpus_have_no_say_in_a_snapshot() -> None:
    kernel = boot("2x64M")
    zone = kernel.zone(1, "DMA32")
    kernel.alloc_pages("GFP_KERNEL", order=1, nid=1, cpu=1)
    whole = vmstat.zone_numa_state_snapshot(zone, NUMA_HIT)
    kernel.m[CPU_BLOCKS + CPU_WORDS + CPU_ONLINE] = 0
    assert vmstat.zone_numa_state_snapshot(zone, NUMA_HIT) == whole - 1


def test_negative_counters_read_as_zero_but_count_in_sums() -> None:
    kernel = boot("2x64M")
    a, b = kernel.zone(0, "DMA32"), kernel.zone(1, "DMA32")
    kernel.m[a.word + Z_VM_STAT + 7] = -3
    kernel.m[b.word + Z_VM_STAT + 7] = 10
    assert vmstat.zone_page_state(a, 7) == 0
    assert vmstat.global_zone_page_state(kernel, 7) == 7
    kernel.m[kernel.nodes[0].word + ND_VM_STAT + 3] = -1
    assert vmstat.node_page_state(kernel.nodes[0], 3) == 0
    assert vmstat.global_node_page_state(kernel, 3) == 0
    assert vmstat.sum_zone_node_page_state(kernel.nodes[1], 7) == 10


def test_free_pages_of_the_machine_are_those_of_its_zones() -> None:
    kernel = boot("2x64M")
    assert vmstat.nr_free_pages(kernel) == sum(zone.free_pages for zone in kernel.zones)


def test_events_are_summed_over_online_cpus() -> None:
    kernel = boot("2x64M")
    for cpu in (0, 1):
        page = kernel.alloc_pages("GFP_KERNEL", order=2, nid=0, cpu=cpu)
        assert page is not None
        kernel.free_pages(page, 2, cpu=cpu)
    events = vmstat.all_vm_events(kernel)
    assert events[PGALLOC + 1] == vmstat.global_vm_event_state(kernel, PGALLOC + 1) == 8
    assert events[PGFREE] >= 8
    with pytest.raises(ValueError, match="NUMA event 6"):
        vmstat.global_numa_event_state(kernel, 6)
