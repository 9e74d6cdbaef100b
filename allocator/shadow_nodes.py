# SPDX-License-Identifier: GPL-2.0-only
"""Taking back nodes of the page cache that hold nothing but shadows (mm/workingset.c).

Shadows of evicted pages keep the nodes of their array in memory. A node with more of them than the
cache could ever use again, an eighth of what fits, is given up, oldest nodes first. `xarray` keeps
the list (workingset_update_node()). Hot: counts are nodes.
"""

from __future__ import annotations

from .address_space import AS_I_PAGES, AS_NREXCEPTIONAL
from .kernel_globals import G_SHADOW_NODES
from .layout import NODE_DATA, PAGE_OFFSET
from .list_lru import list_lru_count_node, list_lru_del, list_lru_first
from .mmzone import ND_PRESENT, WORKINGSET_NODERECLAIM, WORKINGSET_NODES
from .xarray import (
    XA_CHUNK_MASK,
    XA_CHUNK_SHIFT,
    XA_HEAD,
    XN_ARRAY,
    XN_COUNT_ONE,
    XN_META,
    XN_OFFSET_SHIFT,
    XN_PARENT,
    XN_PRIVATE_LIST,
    XN_SLOTS,
    XN_VALUES_SHIFT,
    mod_object_node_state,
    xa_node_free,
    xas_delete_node,
    xas_update,
)


def shadow_list(m: memoryview) -> int:
    """The list_lru of shadow nodes, 0 before there is one. Hot."""
    va = m[G_SHADOW_NODES]
    return (va - PAGE_OFFSET) >> 3 if va else 0


def count_shadow_nodes(m: memoryview, nid: int) -> int:
    """Nodes of a NUMA node beyond what its memory is worth: 0 if there are none. Hot."""
    lru = shadow_list(m)
    if lru == 0 or m[NODE_DATA + nid] == 0:
        return 0
    nodes = list_lru_count_node(m, lru, nid)
    most = m[((m[NODE_DATA + nid] - PAGE_OFFSET) >> 3) + ND_PRESENT] >> (XA_CHUNK_SHIFT - 3)
    return max(nodes - most, 0)


def drop_node(m: memoryview, cpu: int, node: int) -> None:
    """Takes a node of shadows out of its array, with them. Hot (shadow_lru_isolate)."""
    xa = (m[node + XN_ARRAY] - PAGE_OFFSET) >> 3
    m[xa - AS_I_PAGES + AS_NREXCEPTIONAL] -= m[node + XN_META] >> XN_VALUES_SHIFT & 0xFF
    parent_va = m[node + XN_PARENT]
    offset = m[node + XN_META] >> XN_OFFSET_SHIFT & XA_CHUNK_MASK
    mod_object_node_state(m, cpu, node, WORKINGSET_NODERECLAIM, 1)
    xa_node_free(m, cpu, node)
    if parent_va == 0:
        m[xa + XA_HEAD] = 0
        return
    parent = (parent_va - PAGE_OFFSET) >> 3
    m[parent + XN_SLOTS + offset] = 0
    m[parent + XN_META] -= XN_COUNT_ONE
    xas_update(m, cpu, xa, parent)
    xas_delete_node(m, cpu, xa, parent)


def scan_shadow_nodes(m: memoryview, cpu: int, nid: int, nr: int) -> int:
    """Gives up to `nr` nodes of a NUMA node back, oldest first: how many. Hot."""
    lru = shadow_list(m)
    freed = 0
    while freed < nr:
        item = list_lru_first(m, lru, nid)
        if item == 0:
            break
        list_lru_del(m, lru, item)
        node = item - XN_PRIVATE_LIST
        mod_object_node_state(m, cpu, node, WORKINGSET_NODES, -1)
        drop_node(m, cpu, node)
        freed += 1
    return freed
