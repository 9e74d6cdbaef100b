# SPDX-License-Identifier: GPL-2.0-only
"""Whether a page that comes back would have stayed with a little more room (mm/workingset.c).

When reclaim drops a page of the page cache it leaves a *shadow* in the page's slot: node and
control group, whether the page had been active, and the `inactive_age` of its lists at that moment,
which counts evictions and activations. If the page is read again, the age has grown by its *refault
distance*: the page would have survived in a list longer by that many pages. If that is no more than
the active list holds, the page belongs to the working set and is made active at once.

All hot. A shadow is a value entry of the xarray (odd); ages are kept modulo 2^EVICTION_BITS.
"""

from __future__ import annotations

from .kernel_globals import G_STATIC_KEYS, KEY_MEMCG_KMEM
from .layout import MEM_CGROUP, MEM_CGROUP_WORDS, MEM_CGROUPS, NODE_DATA, PAGE_OFFSET
from .lruvec import (
    LV_INACTIVE_AGE,
    lruvec_lru_size,
    lruvec_memcg,
    lruvec_node,
    mem_cgroup_lruvec,
    page_lruvec,
)
from .memcg import MC_ID
from .mm_types import NODES_MASK, NODES_PGSHIFT, NODES_SHIFT, P_MEMCG, PG_ACTIVE, PG_WORKINGSET
from .mmzone import (
    LRU_ACTIVE_FILE,
    MAX_NR_ZONES,
    WORKINGSET_ACTIVATE,
    WORKINGSET_REFAULT,
    WORKINGSET_RESTORE,
)
from .vmstat import mod_node_page_state, node_page_state

# bits of a value entry that are left for the age: 63 less the workingset bit, node and group
MEM_CGROUP_ID_SHIFT = 16
EVICTION_BITS = 63 - 1 - NODES_SHIFT - MEM_CGROUP_ID_SHIFT
EVICTION_MASK = (1 << EVICTION_BITS) - 1
ROOT_MEMCG_ID = 1
MC_WORKINGSET_ACTIVATE = MEM_CGROUP["workingset_activate"]


def pack_shadow(nid: int, eviction: int, workingset: int, memcg: int = ROOT_MEMCG_ID) -> int:
    """The xarray entry of an evicted page; `memcg` is its group's number. Hot."""
    value = (eviction & EVICTION_MASK) << MEM_CGROUP_ID_SHIFT | memcg
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


def shadow_memcg(shadow: int) -> int:
    """The number of the group that the evicted page was charged to. Hot."""
    return shadow >> 2 + NODES_SHIFT & (1 << MEM_CGROUP_ID_SHIFT) - 1


def shadow_eviction(shadow: int) -> int:
    """The age at the page's eviction, modulo 2^EVICTION_BITS. Hot."""
    return shadow >> 2 + NODES_SHIFT + MEM_CGROUP_ID_SHIFT & EVICTION_MASK


def workingset_eviction(m: memoryview, cpu: int, mapping: int, p: int) -> int:  # noqa: ARG001
    """Ages the lists of file page `p`, which is being reclaimed: its shadow entry. Hot."""
    lv = page_lruvec(m, p)
    m[lv + LV_INACTIVE_AGE] += 1
    nid = m[p] >> NODES_PGSHIFT & NODES_MASK
    group = m[p + P_MEMCG]
    number = m[(group - PAGE_OFFSET >> 3) + MC_ID] if group else ROOT_MEMCG_ID
    return pack_shadow(nid, m[lv + LV_INACTIVE_AGE], 1 if m[p] & PG_WORKINGSET else 0, number)


def workingset_refault(m: memoryview, cpu: int, p: int, shadow: int) -> None:
    """Page `p` takes the place of a shadow: activates it if it belongs to the working set. Hot.

    What counts is the age of the lists that the page was evicted from, if their group is there
    still."""
    va = m[NODE_DATA + shadow_nid(shadow)]
    memcg = MEM_CGROUPS + (shadow_memcg(shadow) - 1) * MEM_CGROUP_WORDS
    if va == 0 or m[memcg + MC_ID] != shadow_memcg(shadow):
        return
    nd = (va - PAGE_OFFSET) >> 3
    lv = mem_cgroup_lruvec(m, nd, memcg)
    distance = (m[lv + LV_INACTIVE_AGE] - shadow_eviction(shadow)) & EVICTION_MASK
    active = lruvec_lru_size(m, lv, LRU_ACTIVE_FILE, MAX_NR_ZONES)
    mod_node_page_state(m, cpu, nd, WORKINGSET_REFAULT, 1)
    if distance > active:
        return
    m[p] |= PG_ACTIVE
    m[lv + LV_INACTIVE_AGE] += 1
    mod_node_page_state(m, cpu, nd, WORKINGSET_ACTIVATE, 1)
    m[memcg + MC_WORKINGSET_ACTIVATE] += 1
    if shadow_workingset(shadow):
        m[p] |= PG_WORKINGSET
        mod_node_page_state(m, cpu, nd, WORKINGSET_RESTORE, 1)


def workingset_activation(m: memoryview, p: int) -> None:
    """A file page was activated: it ages the inactive list that it was on. Hot."""
    m[page_lruvec(m, p) + LV_INACTIVE_AGE] += 1


def refaults(m: memoryview, lv: int) -> int:
    """Refaulted pages that were made active: of the group whose lists these are, on all nodes, or
    of the node where there are no groups. Hot."""
    if m[G_STATIC_KEYS] & KEY_MEMCG_KMEM == 0:
        return node_page_state(m, lruvec_node(m, lv), WORKINGSET_ACTIVATE)
    return m[lruvec_memcg(m, lv) + MC_WORKINGSET_ACTIVATE]
