# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/zoneinfo.py: what the recorded text does not show.

The text itself is compared with recordings in test_recorded.py.
"""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.inspect.zoneinfo import dirty_limits, numastat, numastat_command, vmstat, zoneinfo
from allocator.kernel_globals import G_VM_DIRTY_BYTES, G_VM_DIRTY_RATIO
from allocator.mmzone import ND_KSWAPD_FAILURES
from allocator.page_writeback import global_dirtyable_memory
from tests.allocator.machines import boot


def test_a_node_is_unreclaimable_after_sixteen_failures_of_kswapd() -> None:
    kernel = boot("2x64M")
    word = kernel.nodes[1].word + ND_KSWAPD_FAILURES
    kernel.m[word] = 15
    assert "node_unreclaimable:  1" not in zoneinfo(kernel).text
    kernel.m[word] = 16
    assert zoneinfo(kernel).text.count("node_unreclaimable:  1") == 1


def test_node_counters_come_with_the_first_populated_zone_only() -> None:
    data = zoneinfo(boot("2x64M")).data
    assert isinstance(data, list)
    with_stats = [(zone["node"], zone["zone"]) for zone in data if "node_stat" in zone]
    assert with_stats == [(0, "DMA"), (1, "DMA32")]


def test_dirty_limits_follow_ratio_and_bytes() -> None:
    kernel = boot("2x64M")
    assert kernel.m[G_VM_DIRTY_RATIO] == 20
    memory = global_dirtyable_memory(kernel.m)
    assert dirty_limits(kernel) == (819 * memory // 4096, 409 * memory // 4096)
    kernel.m[G_VM_DIRTY_BYTES] = 5 * 4096 - 1
    assert dirty_limits(kernel) == (5, 2)


def test_events_in_sectors_are_shown_in_kib() -> None:
    kernel = boot("1x64M")
    from allocator.layout import CPU_BLOCKS, CPU_EVENTS

    kernel.m[CPU_BLOCKS + CPU_EVENTS] = 9
    data = vmstat(kernel).data
    assert isinstance(data, dict)
    assert data["pgpgin"] == 4
    assert data["nr_free_pages"] == kernel.nr_free_pages


def test_numastat_of_one_node_is_its_file_and_unknown_nodes_are_refused() -> None:
    kernel = boot("2x64M")
    kernel.alloc_pages("GFP_KERNEL", nid=1, cpu=0)
    assert numastat(kernel, 1).text.splitlines() == [
        "numa_hit 1",
        "numa_miss 0",
        "numa_foreign 0",
        "interleave_hit 0",
        "local_node 0",
        "other_node 1",
    ]
    assert numastat_command(kernel, []).text.startswith("/sys/devices/system/node/node0\n")
    with pytest.raises(BadRequest, match="node 5 is not online"):
        numastat_command(kernel, ["5"])
    with pytest.raises(BadRequest, match="one node at most"):
        numastat_command(kernel, ["0", "1"])
