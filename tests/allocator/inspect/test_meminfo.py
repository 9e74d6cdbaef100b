# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/meminfo.py: page tables counted, available memory, arguments.

The text itself is compared with recordings in test_recorded.py.
"""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.helpers.mmzone import for_each_zone, low_wmark_pages
from allocator.inspect.meminfo import (
    direct_pages_count,
    meminfo_command,
    meminfo_kb,
    si_mem_available,
)
from allocator.kernel_globals import G_PGD, G_TOTALRESERVE
from allocator.mmzone import ND_VM_STAT, NODE_STAT_NAMES
from tests.allocator.machines import boot


def test_direct_map_lines_add_up_to_the_mapped_memory() -> None:
    kernel = boot("2x64M")
    kb = meminfo_kb(kernel, kernel.memory)
    assert kb["DirectMap4k"] + kb["DirectMap2M"] == 128 << 10
    assert kb["DirectMap4k"] % 4 == 0 == kb["DirectMap2M"] % 2048
    assert "DirectMap1G" not in kb


def test_gigabyte_pages_have_their_line() -> None:
    kernel = boot("1x3G")
    kb = meminfo_kb(kernel, kernel.memory)
    assert kb["DirectMap1G"] >= 1 << 20


def test_page_tables_that_point_back_to_themselves_end() -> None:
    kernel = boot("1x64M")
    root = kernel.m[G_PGD]
    for slot in range(512):
        kernel.memory.write_u64(root + 8 * slot, root | 3)
    assert sum(direct_pages_count(kernel.memory, root)) >= 0
    for slot in range(512):
        kernel.memory.write_u64(root + 8 * slot, (1 << 45) | 3)
    assert direct_pages_count(kernel.memory, root) == (0, 0, 0)


def test_available_memory_keeps_half_of_the_cache_or_the_low_watermarks() -> None:
    kernel = boot("2x64M")
    base = kernel.nr_free_pages - kernel.m[G_TOTALRESERVE]
    assert si_mem_available(kernel) == base
    low = sum(low_wmark_pages(zone) for zone in for_each_zone(kernel))
    stat = kernel.nodes[0].word + ND_VM_STAT
    kernel.m[stat + NODE_STAT_NAMES.index("nr_active_file")] = 10
    assert si_mem_available(kernel) == base + 5
    kernel.m[stat + NODE_STAT_NAMES.index("nr_slab_reclaimable")] = 100 * low
    assert si_mem_available(kernel) == base + 5 + 99 * low


def test_arguments_of_meminfo_name_a_node() -> None:
    kernel = boot("2x64M")
    assert meminfo_command(kernel, kernel.memory, []).text.startswith("MemTotal:  ")
    assert meminfo_command(kernel, kernel.memory, ["1"]).text.startswith("Node 1 MemTotal:  ")
    with pytest.raises(BadRequest, match="node 2 is not online"):
        meminfo_command(kernel, kernel.memory, ["2"])
    with pytest.raises(BadRequest, match="one node"):
        meminfo_command(kernel, kernel.memory, ["0", "1"])
