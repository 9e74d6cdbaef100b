# SPDX-License-Identifier: GPL-2.0-only
"""Nodes of nothing but shadows: counted beyond what memory is worth, given back oldest first."""

from __future__ import annotations

from allocator.address_space import AS_I_PAGES, AS_NREXCEPTIONAL
from allocator.gfp import GFP_KERNEL
from allocator.layout import PAGE_OFFSET
from allocator.mmzone import (
    ND_PRESENT,
    ND_VM_STAT,
    WORKINGSET_NODERECLAIM,
    WORKINGSET_NODES,
    Z_PGDAT,
)
from allocator.shadow_nodes import count_shadow_nodes, scan_shadow_nodes
from allocator.xarray import xa_empty, xa_load, xa_mk_value, xa_store
from tests.allocator.disk import Disk


def fill(disk: Disk, mapping: int, nodes: int) -> None:
    """One shadow in each of so many nodes of the mapping's array."""
    for i in range(1, nodes + 1):
        xa_store(disk.m, 0, mapping + AS_I_PAGES, 64 * i, xa_mk_value(i), GFP_KERNEL)
    disk.m[mapping + AS_NREXCEPTIONAL] += nodes


def test_few_nodes_are_left_alone_and_the_surplus_is_given_back() -> None:
    disk = Disk()
    m = disk.m
    mapping = disk.mapping(disk.file("f"))
    nd = (m[disk.tiny.z + Z_PGDAT] - PAGE_OFFSET) >> 3
    fill(disk, mapping, 10)
    m[nd + ND_PRESENT] = 80
    assert count_shadow_nodes(m, 0) == 0, "an eighth of the pages is worth keeping"
    m[nd + ND_PRESENT] = 40
    assert count_shadow_nodes(m, 0) == 5
    assert m[nd + ND_VM_STAT + WORKINGSET_NODES] == 10
    assert scan_shadow_nodes(m, 0, 0, 3) == 3
    assert [xa_load(m, mapping + AS_I_PAGES, 64 * i) for i in range(1, 5)] == [0, 0, 0, 9]
    assert m[mapping + AS_NREXCEPTIONAL] == 7
    assert m[nd + ND_VM_STAT + WORKINGSET_NODES] == 7
    assert m[nd + ND_VM_STAT + WORKINGSET_NODERECLAIM] == 3
    assert scan_shadow_nodes(m, 0, 0, 100) == 7
    assert xa_empty(m, mapping + AS_I_PAGES)
