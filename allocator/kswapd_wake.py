# SPDX-License-Identifier: GPL-2.0-only
"""Waking the daemons that make room: kswapd (mm/vmscan.c) and kcompactd (mm/compaction.c).

Every node has one of each. Whoever is short of memory leaves what it wants in the node - an order
and the highest zone it can use - and wakes the daemon, but only if that sleeps and if there is
something to do: kswapd where the node is out of balance and reclaim not hopeless, kcompactd where
compaction could make a block. A request that cannot reclaim itself, in a node that is balanced or
hopeless, is left to kcompactd.

Of the wait queues one word of the node remains: `kswapd_state` says whether the daemon sleeps, for
a tenth of a second or for good, or has been woken and waits for its turn (`kswapd`);
`kcompactd_woken` says the same of the other.

All hot. `nd` is the word index of a node, `z` of a zone.
"""

from __future__ import annotations

from .compact_suitable import COMPACT_CONTINUE, compaction_suitable
from .cpuset import cpuset_zone_allowed
from .gfp import GFP_DIRECT_RECLAIM_BIT
from .kernel_globals import G_STATIC_KEYS, G_TRACE_MASK, G_TRACE_MASK2, KEY_CPUSETS
from .layout import PAGE_OFFSET
from .mmzone import (
    MAX_NR_ZONES,
    ND_KCOMPACTD_CLASSZONE,
    ND_KCOMPACTD_ORDER,
    ND_KCOMPACTD_WOKEN,
    ND_KSWAPD_CLASSZONE,
    ND_KSWAPD_FAILURES,
    ND_KSWAPD_ORDER,
    ND_KSWAPD_STATE,
    ND_NODE_ID,
    WMARK_HIGH,
    Z_MANAGED,
    Z_PGDAT,
    Z_PRESENT,
    Z_WMARK,
    ZONE_WORDS,
)
from .trace import trace
from .trace_events import EV_VMSCAN_WAKEUP_KSWAPD, EV_WAKE_KSWAPD, EV_WAKEUP_KCOMPACTD
from .watermark import zone_watermark_ok_safe

MAX_RECLAIM_RETRIES = 16
"""After so many turns of kswapd that freed nothing the node is hopeless (mm/internal.h)."""

# kswapd_state
KSWAPD_ASLEEP = 0
KSWAPD_NAPS = 1
"""It sleeps for HZ / 10 and looks then whether the node is still balanced."""
KSWAPD_WOKEN = 2
KSWAPD_WOKEN_EARLY = 3
"""It was woken out of its nap."""
KSWAPD_RUNS = 4
"""It has not found the node balanced yet."""

# what became of a call of wakeup_kswapd(), for explain
WAKE_DONE = 0
WAKE_NOT_NEEDED = 1
WAKE_KCOMPACTD = 2
WAKE_AWAKE = 3


def pgdat_balanced(m: memoryview, nd: int, order: int, classzone: int) -> bool:
    """True if some zone up to `classzone` is above its high watermark for `order`. Hot."""
    managed = False
    for zid in range(classzone + 1):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_MANAGED]:
            managed = True
            if zone_watermark_ok_safe(m, z, order, m[z + Z_WMARK + WMARK_HIGH], classzone):
                return True
    return not managed


def kswapd_sleeps(m: memoryview, nd: int) -> bool:
    """True if the node's daemon is on its wait queue (waitqueue_active of kswapd_wait). Hot."""
    return m[nd + ND_KSWAPD_STATE] <= KSWAPD_NAPS


def wake_kswapd(m: memoryview, nd: int) -> None:
    """Takes the node's daemon off its wait queue, if it is there. Hot."""
    if m[nd + ND_KSWAPD_STATE] == KSWAPD_ASLEEP:
        m[nd + ND_KSWAPD_STATE] = KSWAPD_WOKEN
    elif m[nd + ND_KSWAPD_STATE] == KSWAPD_NAPS:
        m[nd + ND_KSWAPD_STATE] = KSWAPD_WOKEN_EARLY


def kswapd_classzone_idx(m: memoryview, nd: int, classzone: int) -> int:
    """The higher one of `classzone` and what was asked for since the daemon last looked. Hot."""
    # MAX_NR_ZONES in the field means that nobody has asked
    if m[nd + ND_KSWAPD_CLASSZONE] >= MAX_NR_ZONES:
        return classzone
    return max(m[nd + ND_KSWAPD_CLASSZONE], classzone)


def kcompactd_node_suitable(m: memoryview, cpu: int, nd: int) -> bool:
    """True if one of the node's zones up to the wanted index should be compacted. Hot."""
    order = m[nd + ND_KCOMPACTD_ORDER]
    classzone = m[nd + ND_KCOMPACTD_CLASSZONE]
    for zid in range(classzone + 1):
        z = nd + zid * ZONE_WORDS
        if m[z + Z_PRESENT]:
            if compaction_suitable(m, cpu, z, order, 0, classzone) == COMPACT_CONTINUE:
                return True
    return False


def wakeup_kcompactd(m: memoryview, cpu: int, nd: int, order: int, classzone: int) -> bool:
    """Leaves a request with the node's kcompactd, and wakes it if it has something to do. Hot.

    True if it was woken."""
    if order == 0:
        return False
    m[nd + ND_KCOMPACTD_ORDER] = max(m[nd + ND_KCOMPACTD_ORDER], order)
    m[nd + ND_KCOMPACTD_CLASSZONE] = min(m[nd + ND_KCOMPACTD_CLASSZONE], classzone)
    if m[nd + ND_KCOMPACTD_WOKEN] or not kcompactd_node_suitable(m, cpu, nd):
        return False
    if m[G_TRACE_MASK] >> EV_WAKEUP_KCOMPACTD & 1:
        trace(m, EV_WAKEUP_KCOMPACTD, cpu, m[nd + ND_NODE_ID], order, classzone, 0, 0, 0, 0)
    m[nd + ND_KCOMPACTD_WOKEN] = 1
    return True


def note_wakeup(
    m: memoryview, cpu: int, z: int, nd: int, order: int, classzone: int, outcome: int
) -> None:
    """Records what became of a call of wakeup_kswapd() for zone `z` (WAKE_). Hot."""
    if m[G_TRACE_MASK] >> EV_WAKE_KSWAPD & 1:
        nid = m[nd + ND_NODE_ID]
        zid = (z - nd) // ZONE_WORDS
        trace(m, EV_WAKE_KSWAPD, cpu, nid, zid, order, classzone, outcome, 0, 0)


def wakeup_kswapd(m: memoryview, cpu: int, z: int, gfp: int, order: int, classzone: int) -> None:
    """Tells the zone's node what to balance for, and wakes its kswapd if that should run. Hot.

    The daemon has its turn when the modelled clock lets it."""
    if m[z + Z_MANAGED] == 0:
        return
    if m[G_STATIC_KEYS] & KEY_CPUSETS and not cpuset_zone_allowed(m, cpu, z, gfp):
        return
    nd = (m[z + Z_PGDAT] - PAGE_OFFSET) >> 3
    m[nd + ND_KSWAPD_CLASSZONE] = kswapd_classzone_idx(m, nd, classzone)
    m[nd + ND_KSWAPD_ORDER] = max(m[nd + ND_KSWAPD_ORDER], order)
    if not kswapd_sleeps(m, nd):
        note_wakeup(m, cpu, z, nd, order, classzone, WAKE_AWAKE)
        return
    if m[nd + ND_KSWAPD_FAILURES] >= MAX_RECLAIM_RETRIES or pgdat_balanced(m, nd, order, classzone):
        outcome = WAKE_NOT_NEEDED
        if gfp & GFP_DIRECT_RECLAIM_BIT == 0 and wakeup_kcompactd(m, cpu, nd, order, classzone):
            outcome = WAKE_KCOMPACTD
        note_wakeup(m, cpu, z, nd, order, classzone, outcome)
        return
    note_wakeup(m, cpu, z, nd, order, classzone, WAKE_DONE)
    if m[G_TRACE_MASK2] >> (EV_VMSCAN_WAKEUP_KSWAPD - 64) & 1:
        nid = m[nd + ND_NODE_ID]
        trace(m, EV_VMSCAN_WAKEUP_KSWAPD, cpu, nid, classzone, order, gfp, 0, 0, 0)
    wake_kswapd(m, nd)
