# SPDX-License-Identifier: GPL-2.0-only
"""Dirty limits per node: what counts as dirtyable and who may exceed the limit."""

from __future__ import annotations

from allocator.kernel_globals import G_TOTALRESERVE, G_VM_DIRTY_BYTES, G_VM_DIRTY_RATIO
from allocator.layout import PAGE_OFFSET, TASK_FLAGS, TASK_PRIO
from allocator.mmzone import (
    ND_TOTALRESERVE,
    ND_VM_STAT,
    NR_ACTIVE_FILE,
    NR_FILE_DIRTY,
    NR_INACTIVE_FILE,
    NR_UNSTABLE_NFS,
    NR_WRITEBACK,
    Z_FREE_PAGES,
    Z_PGDAT,
)
from allocator.page_writeback import (
    PF_LESS_THROTTLE,
    global_dirtyable_memory,
    node_dirty_limit,
    node_dirty_ok,
    node_dirtyable_memory,
)
from tests.allocator.tiny import NODE_PAGES, Tiny


def node(tiny: Tiny) -> int:
    return (tiny.m[tiny.z + Z_PGDAT] - PAGE_OFFSET) >> 3


def test_dirtyable_is_free_above_the_reserve_plus_file_pages(tiny_zone: Tiny) -> None:
    m, nd = tiny_zone.m, node(tiny_zone)
    m[nd + ND_TOTALRESERVE] = 96
    m[nd + ND_VM_STAT + NR_ACTIVE_FILE] = 10
    m[nd + ND_VM_STAT + NR_INACTIVE_FILE] = 20
    assert node_dirtyable_memory(m, nd) == NODE_PAGES - 96 + 30
    m[tiny_zone.z + Z_FREE_PAGES] = 50
    assert node_dirtyable_memory(m, nd) == 30


def test_global_dirtyable_memory_is_never_zero(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    m[G_TOTALRESERVE] = 1000
    assert global_dirtyable_memory(m) == NODE_PAGES - 1000 + 1
    m[tiny_zone.z + Z_FREE_PAGES] = 0
    assert global_dirtyable_memory(m) == 1


def test_a_node_is_ok_up_to_and_including_its_limit(tiny_zone: Tiny) -> None:
    m, nd = tiny_zone.m, node(tiny_zone)
    m[G_VM_DIRTY_RATIO] = 20
    limit = NODE_PAGES * 20 // 100
    m[nd + ND_VM_STAT + NR_FILE_DIRTY] = limit - 5
    m[nd + ND_VM_STAT + NR_UNSTABLE_NFS] = 3
    m[nd + ND_VM_STAT + NR_WRITEBACK] = 2
    assert node_dirty_ok(m, nd)
    m[nd + ND_VM_STAT + NR_WRITEBACK] = 3
    assert not node_dirty_ok(m, nd)


def test_dirty_bytes_replaces_the_ratio_with_the_nodes_share(tiny_zone: Tiny) -> None:
    m, nd = tiny_zone.m, node(tiny_zone)
    m[G_VM_DIRTY_BYTES] = 100 * 4096 - 1
    assert node_dirty_limit(m, 0, nd) == 100 * NODE_PAGES // (NODE_PAGES + 1)


def test_realtime_and_less_throttled_tasks_get_a_quarter_more(tiny_zone: Tiny) -> None:
    m, nd, task = tiny_zone.m, node(tiny_zone), tiny_zone.task()
    m[G_VM_DIRTY_RATIO] = 10
    base = NODE_PAGES // 10
    assert node_dirty_limit(m, 0, nd) == base
    m[task + TASK_PRIO] = 50
    assert node_dirty_limit(m, 0, nd) == base + base // 4
    m[task + TASK_PRIO] = 120
    m[task + TASK_FLAGS] = PF_LESS_THROTTLE
    assert node_dirty_limit(m, 0, nd) == base + base // 4
