# SPDX-License-Identifier: GPL-2.0-only
"""Guest RAM against a recorded STATE: what differs, most telling things first.

`compare_state` looks at everything that a STATE holds and that is the allocator's: every free list
and per-cpu list in order, counters with their deltas, pageblock types, watermarks, zone and node
figures, zonelists, the node and zone that each struct page names, globals, CPUs. It returns lines
of text; none means equal.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np

from ..layout import (
    CPU_BLOCKS,
    CPU_EARLY_NODE,
    CPU_NUMA_NODE,
    CPU_ONLINE,
    CPU_WORDS,
    NODE_DISTANCE,
    PFN_SECTION_SHIFT,
)
from ..mm_types import P_FLAGS, ZONEID_MASK, ZONEID_PGSHIFT
from ..mmzone import MAX_NUMNODES, NR_VM_ZONE_STAT_ITEMS
from .guest import Guest
from .state_load import GLOBALS
from .zone_compare import compare_node, compare_words, compare_zone

MAX_DIFFERENCES = 20


def compare_state(
    guest: Guest,
    state: dict[str, Any],
    limit: int = MAX_DIFFERENCES,
    *,
    items: Container[int] = range(NR_VM_ZONE_STAT_ITEMS),
) -> list[str]:
    """The first `limit` differences between guest RAM and the STATE, in words.

    `items`: the zone counters whose values and deltas are compared.
    """
    return list(islice(differences(guest, state, items), limit))


def differences(guest: Guest, state: dict[str, Any], items: Container[int]) -> Iterator[str]:
    """All differences, zones first."""
    for zone in state["zones"]:
        yield from compare_zone(guest, zone, items)
    yield from compare_page_zone(guest, state.get("page_zone"))
    for node in state["nodes"]:
        yield from compare_node(guest, node)
    yield from compare_words(guest, 0, state["globals"], GLOBALS, "global")
    yield from compare_cpus(guest, state["cpus"])
    for i, row in state["dist"].items():
        for j, distance in row.items():
            ours = guest.m[NODE_DISTANCE + int(i) * MAX_NUMNODES + int(j)]
            if ours != distance:
                yield f"distance {i} -> {j}: {ours}, recorded {distance}"


def compare_cpus(guest: Guest, cpus: list[dict[str, Any]]) -> Iterator[str]:
    """Node and online state of the CPUs."""
    fields = {"node": CPU_EARLY_NODE, "numa_node": CPU_NUMA_NODE, "online": CPU_ONLINE}
    for cpu in cpus:
        block = CPU_BLOCKS + cpu["cpu"] * CPU_WORDS
        yield from compare_words(guest, block, cpu, fields, f"cpu {cpu['cpu']}")


def page_zone_runs(guest: Guest, limit: int) -> list[list[int]]:
    """[node, zone, first frame, length] runs of what page_zone() of every struct page says."""
    runs: list[list[int]] = []
    pfn = 0
    while pfn < limit:
        if not guest.pfn_valid(pfn):
            pfn = ((pfn >> PFN_SECTION_SHIFT) + 1) << PFN_SECTION_SHIFT
            continue
        stop = min(limit, ((pfn >> PFN_SECTION_SHIFT) + 1) << PFN_SECTION_SHIFT)
        ids = (guest.column(pfn, stop - pfn, P_FLAGS) >> ZONEID_PGSHIFT) & ZONEID_MASK
        cuts = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), stop - pfn]
        for a, b in pairwise(cuts):
            nid, zid = int(ids[a]) >> 2, int(ids[a]) & 3
            last = runs[-1] if runs else None
            if last and last[:2] == [nid, zid] and last[2] + last[3] == pfn + a:
                last[3] += b - a
            else:
                runs.append([nid, zid, pfn + a, b - a])
        pfn = stop
    return runs


def compare_page_zone(guest: Guest, recorded: list[list[int]] | None) -> Iterator[str]:
    """The zone that each struct page names, frame by frame over the recorded runs."""
    if recorded is None:
        return
    limit = max((run[2] + run[3] for run in recorded), default=0)
    ours = page_zone_runs(guest, limit)
    if ours == [run[:4] for run in recorded]:
        return
    for a, b in zip(ours, recorded, strict=False):
        if a != b[:4]:
            yield f"page_zone: run {a}, recorded {b[:4]}"
            return
    yield f"page_zone: {len(ours)} runs, recorded {len(recorded)}"
