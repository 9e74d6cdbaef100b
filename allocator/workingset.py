# SPDX-License-Identifier: GPL-2.0-only
"""Whether a page that comes back would have stayed with a little more room (mm/workingset.c).

When reclaim drops a page of the page cache it leaves a *shadow* in the page's slot: the node,
whether the page had been active, and the node's `inactive_age` at that moment, which counts
evictions and activations. If the page is read again, the age has grown by its *refault distance*:
the page would have survived in a list longer by that many pages. If that is no more than the active
list holds, the page belongs to the working set and is made active at once.

All hot. A shadow is a value entry of the xarray (odd); ages are kept modulo 2^EVICTION_BITS.
"""

from __future__ import annotations

from .layout import NODE_DATA, PAGE_OFFSET
from .mm_inline import page_node
from .mm_types import NODES_MASK, NODES_PGSHIFT, NODES_SHIFT, PG_ACTIVE, PG_WORKINGSET
from .mmzone import (
    LRU_ACTIVE_FILE,
    MAX_NR_ZONES,
    ND_INACTIVE_AGE,
    NR_ZONE_LRU_BASE,
    WORKINGSET_ACTIVATE,
    WORKINGSET_REFAULT,
    WORKINGSET_RESTORE,
    Z_MANAGED,
    ZONE_WORDS,
)
from .vmstat import mod_node_page_state, zone_page_state_snapshot

# bits of a value entry that are left for the age: 63 less the workingset bit, node and group
MEM_CGROUP_ID_SHIFT = 16
EVICTION_BITS = 63 - 1 - NODES_SHIFT - MEM_CGROUP_ID_SHIFT
EVICTION_MASK = (1 << EVICTION_BITS) - 1
ROOT_MEMCG_ID = 1


def pack_shadow(nid: int, eviction: int, workingset: int) -> int:
    """The xarray entry of an evicted page. Hot."""
    value = (eviction & EVICTION_MASK) << MEM_CGROUP_ID_SHIFT | ROOT_MEMCG_ID
    value = (value << NODES_SHIFT | nid) << 1 | workingset
    # a value entry is the value doubled, plus 1; its top bit is the word's sign
    entry = value << 1 | 1
    return entry - (1 << 64) if entry >> 63 else entry


def shadow_nid(shadow: int) -> int:
    """The node of an evicted page. Hot."""
    return shadow >> 2 & NODES_MASK


def shadow_workingset(shadow: int) -> int:
    """1 if the evicted page had been active. Hot."""
    return shadow >> 1 & 1


def shadow_eviction(shadow: int) -> int:
    """The age at the page's eviction, modulo 2^EVICTION_BITS. Hot."""
    return shadow >> 2 + NODES_SHIFT + MEM_CGROUP_ID_SHIFT & EVICTION_MASK


def lruvec_lru_size(m: memoryview, nd: int, lru: int, zone_idx: int) -> int:
    """Pages on one LRU list of a node, in zones up to index `zone_idx`, exactly. Hot.

    (with control groups 4.20 counts them without per-cpu deltas)
    """
    size = 0
    for zid in range(zone_idx + 1):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_MANAGED]:
            size += zone_page_state_snapshot(m, z, NR_ZONE_LRU_BASE + lru)
    return size


def workingset_eviction(m: memoryview, cpu: int, mapping: int, p: int) -> int:  # noqa: ARG001
    """Ages the node of file page `p`, which is being reclaimed: its shadow entry. Hot."""
    nd = page_node(m, p)
    m[nd + ND_INACTIVE_AGE] += 1
    nid = m[p] >> NODES_PGSHIFT & NODES_MASK
    return pack_shadow(nid, m[nd + ND_INACTIVE_AGE], 1 if m[p] & PG_WORKINGSET else 0)


def workingset_refault(m: memoryview, cpu: int, p: int, shadow: int) -> None:
    """Page `p` takes the place of a shadow: activates it if it belongs to the working set. Hot."""
    va = m[NODE_DATA + shadow_nid(shadow)]
    if va == 0:
        return
    nd = (va - PAGE_OFFSET) >> 3
    distance = (m[nd + ND_INACTIVE_AGE] - shadow_eviction(shadow)) & EVICTION_MASK
    active = lruvec_lru_size(m, nd, LRU_ACTIVE_FILE, MAX_NR_ZONES - 1)
    mod_node_page_state(m, cpu, nd, WORKINGSET_REFAULT, 1)
    if distance > active:
        return
    m[p] |= PG_ACTIVE
    m[nd + ND_INACTIVE_AGE] += 1
    mod_node_page_state(m, cpu, nd, WORKINGSET_ACTIVATE, 1)
    if shadow_workingset(shadow):
        m[p] |= PG_WORKINGSET
        mod_node_page_state(m, cpu, nd, WORKINGSET_RESTORE, 1)


def workingset_activation(m: memoryview, p: int) -> None:
    """A file page was activated: it ages the inactive list of its node. Hot."""
    m[page_node(m, p) + ND_INACTIVE_AGE] += 1
