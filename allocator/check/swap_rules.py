# SPDX-License-Identifier: GPL-2.0-only
"""Swap areas: every slot's users are the page-table entries that name it, and its page.

The count of a slot in the swap map is the number of page-table entries of all processes that name
it. SWAP_HAS_CACHE stands for a page of the swap cache, or for a slot that a CPU keeps in its cache
of slots. An area's and the system's counts of free and used slots follow from its map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..address_space import SWAP_INFO_WORDS
from ..kernel_globals import (
    G_MM_INIT_DONE,
    G_NR_SWAP_PAGES,
    G_NR_SWAPFILES,
    G_SWAP_INFO,
    G_SWAP_SLOTS,
    G_TOTAL_SWAP_PAGES,
)
from ..memmap_scan import KIND_FLAGGED, KIND_TAIL
from ..mm_inline import PG_SWAPCACHE
from ..mm_types import P_PRIVATE, PG_SLAB, PG_SWAPBACKED
from ..swap_map import (
    SC_CUR,
    SC_N_RET,
    SC_NR,
    SC_SLOTS,
    SC_SLOTS_RET,
    SC_WORDS,
    SI_FLAGS,
    SI_HIGHEST,
    SI_INUSE,
    SI_LOWEST,
    SI_MAP,
    SI_MAX,
    SI_PAGES,
    SWAP_BATCH,
    SWAP_HAS_CACHE,
    SWAP_MAP_BAD,
    SWAP_MAP_SHMEM,
    SWP_USED,
)
from ..swapops import MAX_SWAPFILES, SWP_OFFSET_MASK, SWP_TYPE_SHIFT
from .registry import register
from .shmem_rules import shared_slots

if TYPE_CHECKING:
    from .context import Check

    Ids = npt.NDArray[np.int64]

RULES = {
    "swap-info": "every swap area's map is in RAM and its numbers fit together",
    "swap-count": "a slot is counted once for every page-table (or shared) entry that names it",
    "swap-cached": "a slot has SWAP_HAS_CACHE just for a page of the swap cache or a CPU's own",
    "swap-pages": "the numbers of free and of all slots are those of the areas",
    "swap-entry": "a page-table entry or a page of the swap cache names a slot of an area in use",
}
PTE_OFFSET_MASK = (1 << 50) - 1


def areas(check: Check) -> dict[int, int]:
    """Type -> word index of the areas in use."""
    m = check.m
    count = min(max(m[G_NR_SWAPFILES], 0), MAX_SWAPFILES)
    first = check.structure(m[G_SWAP_INFO], MAX_SWAPFILES * SWAP_INFO_WORDS) if count else -1
    if count and first < 0:
        check.add("swap-info", "swap", "the table of areas is not in RAM", G_SWAP_INFO)
        return {}
    words = {kind: first + kind * SWAP_INFO_WORDS for kind in range(count)}
    return {kind: si for kind, si in words.items() if m[si + SI_FLAGS] & SWP_USED}


def read_map(check: Check, si: int) -> Ids:
    """The map of an area, a number a slot; empty if it is not in RAM."""
    m = check.m
    slots = m[si + SI_MAX]
    words = (slots + 3) // 4
    at = check.structure(m[si + SI_MAP], words) if 0 < slots <= 1 << 21 else -1
    if at < 0:
        check.add("swap-info", "swap area", "its map is not in RAM", si + SI_MAP)
        return np.zeros(0, dtype=np.int64)
    return check.q[at : at + words].view(np.uint16)[:slots].astype(np.int64)


def named_slots(check: Check) -> Ids:
    """Swap entries of all page tables."""
    maps = check.mappings
    values = maps.values[maps.swapped & ~maps.huge]
    kind, offset = values >> 59 & 31, ~values >> 9 & PTE_OFFSET_MASK
    return np.asarray((kind << SWP_TYPE_SHIFT | offset)[kind < MAX_SWAPFILES], dtype=np.int64)


def cached_slots(check: Check) -> Ids:
    """Swap entries of the pages of the swap cache."""
    frames = check.frames
    both = PG_SWAPCACHE | PG_SWAPBACKED
    at = frames.where(KIND_FLAGGED)
    at = at[(frames.flags[at] & both == both) & ~check.free[at] & ~frames.has(at, KIND_TAIL)]
    at = at[frames.flags[at] & PG_SLAB == 0]
    return frames.column(at, P_PRIVATE)


def kept_slots(check: Check) -> Ids:
    """Swap entries in the CPUs' caches of slots."""
    m = check.m
    first = check.structure(m[G_SWAP_SLOTS], check.cpus * SC_WORDS)
    found: list[int] = []
    for cpu in range(check.cpus if first >= 0 else 0):
        cache = first + cpu * SC_WORDS
        cur, nr, returned = m[cache + SC_CUR], m[cache + SC_NR], m[cache + SC_N_RET]
        if not (0 <= nr <= SWAP_BATCH - cur <= SWAP_BATCH and 0 <= returned <= SWAP_BATCH):
            check.add("swap-info", f"cpu {cpu}", "its cache of slots holds too many", cache)
            continue
        found += check.q[cache + SC_SLOTS + cur : cache + SC_SLOTS + cur + nr].tolist()
        found += check.q[cache + SC_SLOTS_RET : cache + SC_SLOTS_RET + returned].tolist()
    return np.array(found, dtype=np.int64)


def tally(entries: Ids, kind: int, slots: int) -> Ids:
    """How often each slot of an area is named."""
    mine = entries[entries >> SWP_TYPE_SHIFT == kind] & SWP_OFFSET_MASK
    return np.bincount(mine[mine < slots], minlength=slots)


def check_area(
    check: Check, kind: int, si: int, named: Ids, shared: Ids, cached: Ids, kept: Ids
) -> int:
    """One area; its number of free slots."""
    m = check.m
    usage = read_map(check, si)
    slots = usage.size
    if not slots:
        return 0
    where = f"swap area {kind}"
    bad = usage & SWAP_MAP_BAD == SWAP_MAP_BAD
    users = np.where(bad, 0, usage & SWAP_MAP_BAD)
    wanted = tally(named, kind, slots) + SWAP_MAP_SHMEM * tally(shared, kind, slots)
    at = m[si + SI_MAP] & (1 << 64) - 1
    for slot in np.flatnonzero(users != wanted)[:8].tolist():
        text = f"slot {slot} counts {int(users[slot])} users, {int(wanted[slot])} entries name it"
        check.add("swap-count", where, text, si + SI_MAP)
    has, due = usage & SWAP_HAS_CACHE != 0, tally(np.concatenate((cached, kept)), kind, slots)
    for slot in np.flatnonzero(due != (has & ~bad))[:8].tolist():
        text = f"slot {slot} of the map at {at:#x} is {int(usage[slot]):#x}, held {int(due[slot])}x"
        check.add("swap-cached", where, text, si + SI_MAP)
    used = (usage != 0) & ~bad
    free = np.flatnonzero(usage == 0)
    if m[si + SI_INUSE] != np.count_nonzero(used) or m[si + SI_PAGES] != np.count_nonzero(~bad):
        text = f"{m[si + SI_INUSE]} of {m[si + SI_PAGES]} slots used, the map says otherwise"
        check.add("swap-info", where, text, si + SI_INUSE)
    if free.size and not (m[si + SI_LOWEST] <= free[0] and free[-1] <= m[si + SI_HIGHEST]):
        text = f"free slots outside [{m[si + SI_LOWEST]}, {m[si + SI_HIGHEST]}]"
        check.add("swap-info", where, text, si + SI_LOWEST)
    return int(free.size)


def run(check: Check) -> None:
    """All rules about swap."""
    m = check.m
    if not m[G_MM_INIT_DONE]:
        return
    shared = shared_slots(check)
    if not (m[G_NR_SWAPFILES] or check.mappings.swapped.any() or shared.size):
        return
    found = areas(check)
    named, cached, kept = named_slots(check), cached_slots(check), kept_slots(check)
    entries = np.concatenate((named, shared, cached, kept))
    kinds, offsets = entries >> SWP_TYPE_SHIFT, entries & SWP_OFFSET_MASK
    limits = np.zeros(64, dtype=np.int64)
    for kind, si in found.items():
        limits[kind] = m[si + SI_MAX]
    lost = offsets >= limits[np.clip(kinds, 0, 63)]
    if lost.any():
        text = f"{int(np.count_nonzero(lost))} name no slot, such as {int(entries[lost][0]):#x}"
        check.add("swap-entry", "swap entries", text, G_SWAP_INFO)
    slots = (named, shared, cached, kept)
    free = sum(check_area(check, kind, si, *slots) for kind, si in found.items())
    total = sum(m[si + SI_PAGES] for si in found.values())
    if m[G_NR_SWAP_PAGES] != free or m[G_TOTAL_SWAP_PAGES] != total:
        text = f"{m[G_NR_SWAP_PAGES]} of {m[G_TOTAL_SWAP_PAGES]} slots free, {free} of {total} are"
        check.add("swap-pages", "swap", text, G_NR_SWAP_PAGES)


register("swap", RULES, run, rank=96)
