# SPDX-License-Identifier: GPL-2.0-only
"""allocator/node_reclaim.py: which zones node_reclaim_mode may reclaim, rows read from vmscan.c."""

from __future__ import annotations

import pytest

from allocator.gfp import parse_gfp
from allocator.kernel import Kernel
from allocator.kernel_globals import G_NODE_RECLAIM_MODE
from allocator.layout import CPU_BLOCKS, CPU_CURRENT, NODE_DATA, PF_MEMALLOC, TASK_FLAGS, word_of_va
from allocator.mmzone import (
    ND_MIN_SLAB,
    ND_MIN_UNMAPPED,
    ND_VM_STAT,
    NR_FILE_DIRTY,
    NR_FILE_MAPPED,
    NR_FILE_PAGES,
    NR_INACTIVE_FILE,
)
from allocator.node_reclaim import (
    NODE_RECLAIM_FULL,
    NODE_RECLAIM_NOSCAN,
    NODE_RECLAIM_SOME,
    RECLAIM_UNMAP,
    RECLAIM_WRITE,
    RECLAIM_ZONE,
    node_pagecache_reclaimable,
    node_reclaim,
    zone_allows_reclaim,
)
from tests.allocator.machines import boot


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x48M", distances=[[10, 40], [40, 10]])


@pytest.mark.parametrize(
    ("mode", "inactive", "mapped", "dirty", "file_pages", "pages"),
    [
        (RECLAIM_ZONE, 100, 30, 0, 500, 70),  # unmapped LRU pages
        (RECLAIM_ZONE, 30, 100, 0, 500, 0),  # more mapped than on the lists
        (RECLAIM_ZONE, 100, 30, 20, 500, 50),  # dirty ones cannot be cleaned
        (RECLAIM_ZONE | RECLAIM_WRITE, 100, 30, 20, 500, 70),
        (RECLAIM_ZONE, 100, 30, 90, 500, 0),  # no underflow
        (RECLAIM_ZONE | RECLAIM_UNMAP, 100, 30, 20, 500, 480),  # all file pages count
    ],
)
def test_page_cache_that_the_mode_lets_reclaim_take(
    kernel: Kernel, mode: int, inactive: int, mapped: int, dirty: int, file_pages: int, pages: int
) -> None:
    nd = word_of_va(kernel.m[NODE_DATA])
    kernel.m[G_NODE_RECLAIM_MODE] = mode
    kernel.m[nd + ND_VM_STAT + NR_INACTIVE_FILE] = inactive
    kernel.m[nd + ND_VM_STAT + NR_FILE_MAPPED] = mapped
    kernel.m[nd + ND_VM_STAT + NR_FILE_DIRTY] = dirty
    kernel.m[nd + ND_VM_STAT + NR_FILE_PAGES] = file_pages
    assert node_pagecache_reclaimable(kernel.m, nd) == pages


@pytest.mark.parametrize(
    ("cached", "nid", "gfp", "flags", "answer"),
    [
        (0, 0, "GFP_KERNEL", 0, NODE_RECLAIM_FULL),  # below min_unmapped_pages
        (9999, 0, "GFP_NOWAIT", 0, NODE_RECLAIM_NOSCAN),  # must not sleep
        (9999, 0, "GFP_KERNEL", PF_MEMALLOC, NODE_RECLAIM_NOSCAN),
        (9999, 1, "GFP_KERNEL", 0, NODE_RECLAIM_NOSCAN),  # another node that has CPUs
        (9999, 0, "GFP_KERNEL", 0, NODE_RECLAIM_SOME),  # a scan that finds nothing on the lists
    ],
)
def test_tests_that_come_before_any_scan(
    kernel: Kernel, cached: int, nid: int, gfp: str, flags: int, answer: int
) -> None:
    nd = word_of_va(kernel.m[NODE_DATA + nid])
    kernel.m[nd + ND_MIN_UNMAPPED] = kernel.m[nd + ND_MIN_SLAB] = 100
    kernel.m[nd + ND_VM_STAT + NR_INACTIVE_FILE] = cached
    kernel.m[word_of_va(kernel.m[CPU_BLOCKS + CPU_CURRENT]) + TASK_FLAGS] = flags
    assert node_reclaim(kernel.m, 0, nd, parse_gfp(gfp), 0) == answer


def test_only_nodes_within_reclaim_distance_are_reclaimed(kernel: Kernel) -> None:
    near, far = kernel.zone(0, "DMA32").word, kernel.zone(1, "DMA32").word
    assert zone_allows_reclaim(kernel.m, near, near)
    assert not zone_allows_reclaim(kernel.m, near, far)


def test_a_full_zone_is_passed_by_with_the_mode_on_as_well(kernel: Kernel) -> None:
    kernel.m[G_NODE_RECLAIM_MODE] = RECLAIM_ZONE
    kernel.exhaust(0)
    page = kernel.alloc_pages("GFP_KERNEL", nid=0)
    assert page is not None
    assert page.nid == 1
