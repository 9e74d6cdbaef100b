# SPDX-License-Identifier: GPL-2.0-only
"""The LRU lists of all nodes, and the counters of what is on them or mapped.

Every page with PG_lru is on the one list of its node that its flags say, and no other page is on
any. The counters of nodes and zones, with all CPUs' deltas, are exact: list sizes, mapped anonymous
and file pages, huge pages, cached pages, mlocked pages and page tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..kernel_globals import G_MM_INIT_DONE
from ..layout import MEM_CGROUP_WORDS, MEM_CGROUPS, va_of_word
from ..lruvec import LV_LISTS, MC_NODEINFO, PN_LRU_ZONE_SIZE, PN_LRUVEC, PN_WORDS
from ..memcg_tree import groups
from ..memmap_scan import KIND_BUDDY, KIND_FLAGGED, KIND_OWNED, KIND_TAIL
from ..mm_inline import COMPOUND_MAPCOUNT, PG_SWAPCACHE
from ..mm_types import (
    COMPOUND_MAPCOUNT_SHIFT,
    MAPCOUNT_MASK,
    P_FLAGS,
    P_MAPPING,
    P_MEMCG,
    P_NEXT,
    P_PREV,
    PAGE_MAPPING_ANON,
    PAGE_MAPPING_FLAGS,
    PG_ACTIVE,
    PG_HEAD,
    PG_KMEMCG_TYPE,
    PG_LRU,
    PG_MLOCKED,
    PG_SLAB,
    PG_SWAPBACKED,
    PG_TABLE_TYPE,
    PG_UNEVICTABLE,
)
from ..mmzone import (
    LRU_FILE,
    LRU_UNEVICTABLE,
    MAX_NR_ZONES,
    ND_LRUVEC,
    ND_MEMCG_LRU,
    ND_PER_CPU_NODESTATS,
    ND_VM_STAT,
    NODE_STAT_NAMES,
    NODESTAT_DIFF,
    NODESTAT_WORDS,
    NR_ANON_MAPPED,
    NR_ANON_THPS,
    NR_FILE_MAPPED,
    NR_FILE_PAGES,
    NR_LRU_BASE,
    NR_LRU_LISTS,
    NR_MLOCK,
    NR_PAGETABLE,
    NR_SHMEM,
    NR_ZONE_LRU_BASE,
    PSET_STAT_DIFF,
    PSET_WORDS,
    Z_VM_STAT,
    ZONE_STAT_NAMES,
)
from .lists import verify_lists
from .registry import register

if TYPE_CHECKING:
    from .context import Check, ZoneHandle

    Ids = npt.NDArray[np.int64]

LIST_NAMES = ("inactive anon", "active anon", "inactive file", "active file", "unevictable")
RULES = {
    "lru-next": "every next pointer of an LRU list leads to an entry that points back",
    "lru-prev": "every prev pointer of an LRU list leads to an entry that points back",
    "lru-doubled": "no LRU list runs into another",
    "lru-flag": "the pages on LRU lists are just those with PG_lru",
    "lru-place": "a page is on the LRU list of its node that its flags say",
    "memcg-lru-size": "a control group counts its pages on each list, a node those of all groups",
    "node-lru-counter": "a node's page counters, with their deltas, are the numbers of such pages",
    "zone-lru-counter": "a zone's page counters, with their deltas, are the numbers of such pages",
}


def page_lists(flags: npt.NDArray[np.uint32]) -> Ids:
    """The list of a node that each page's flags say."""
    lru = np.where(flags & PG_SWAPBACKED != 0, 0, LRU_FILE) + (flags & PG_ACTIVE != 0)
    return np.asarray(np.where(flags & PG_UNEVICTABLE != 0, LRU_UNEVICTABLE, lru), dtype=np.int64)


def with_flag(check: Check, flag: int) -> npt.NDArray[np.intp]:
    """Array indices of the pages in use that have a PG_ bit; tails have none of their own."""
    frames = check.frames
    at = frames.where(KIND_FLAGGED)
    at = at[(frames.flags[at] & flag != 0) & ~frames.has(at, KIND_TAIL) & ~check.free[at]]
    return np.asarray(at, dtype=np.intp)


def small_pages(check: Check, at: npt.NDArray[np.intp]) -> Ids:
    """Small pages in each page, given by its head's array index."""
    frames = check.frames
    size = np.ones(at.size, dtype=np.int64)
    heads = frames.flags[at] & PG_HEAD != 0
    order = frames.column(at[heads] + 1, P_PREV) >> 8 & 0xFF
    size[heads] = np.int64(1) << np.minimum(order, 10)
    return size


def group_number(memcg: int) -> int:
    """Number of a control group in the table."""
    return (memcg - MEM_CGROUPS) // MEM_CGROUP_WORDS


def lruvecs(check: Check) -> list[tuple[int, int, int]]:
    """Node number, control group (word index; 0: the root) and word index of all sets of lists."""
    found = [(nid, 0, nd + ND_LRUVEC) for nid, nd in check.nodes.items()]
    for memcg in groups(check.m):
        table = check.structure(check.m[memcg + MC_NODEINFO], 1)
        if memcg == MEM_CGROUPS or table < 0:
            continue
        for nid in check.nodes:
            pn = check.structure(check.m[table + nid], PN_WORDS)
            if pn >= 0:
                found.append((nid, memcg, pn + PN_LRUVEC))
    return found


def check_group_sizes(check: Check) -> None:
    """What groups count as theirs, by list and zone, and each node's sum of it."""
    frames = check.frames
    listed = with_flag(check, PG_LRU)
    charged = frames.column(listed, P_MEMCG)
    lists, size = page_lists(frames.flags[listed]), small_pages(check, listed)
    items = (frames.ids[listed] & 3) * NR_LRU_LISTS + lists
    nids = frames.ids[listed] >> 2
    count = MAX_NR_ZONES * NR_LRU_LISTS
    sums = {nid: np.zeros(count, dtype=np.int64) for nid in check.nodes}
    for nid, memcg, lv in lruvecs(check):
        if memcg == 0:
            continue
        mine = (charged == va_of_word(memcg)) & (nids == nid)
        due = np.bincount(items[mine], size[mine], count).astype(np.int64)
        sums[nid] += due
        at = lv - PN_LRUVEC + PN_LRU_ZONE_SIZE
        for item in np.flatnonzero(check.q[at : at + count] != due).tolist():
            text = f"lru_zone_size[{item}] is {check.m[at + item]}, there are {int(due[item])}"
            check.add("memcg-lru-size", f"control group {group_number(memcg)}", text, at + item)
    for nid, nd in check.nodes.items():
        at = nd + ND_MEMCG_LRU
        for item in np.flatnonzero(check.q[at : at + count] != sums[nid]).tolist():
            text = f"memcg_lru_size[{item}] is {check.m[at + item]}, due {int(sums[nid][item])}"
            check.add("memcg-lru-size", f"node {nid}", text, at + item)


def check_lists(check: Check) -> None:
    """The lists' links, and who is on them."""
    frames = check.frames
    flagged = with_flag(check, PG_LRU)
    sets = lruvecs(check)
    heads, names = [], []
    for nid, memcg, lv in sets:
        whose = f"node {nid}'s" + (f" control group {group_number(memcg)}'s" if memcg else "")
        for lru, name in enumerate(LIST_NAMES):
            heads.append(lv + LV_LISTS + 2 * lru)
            names.append(f"{whose} {name} list")
    lists = verify_lists(
        check,
        np.array(heads, dtype=np.int64),
        flagged.astype(np.intp),
        names.__getitem__,
        ("lru-next", "lru-prev", "lru-doubled"),
    )
    off = lists.pages[lists.head < 0]
    off = off[frames.flags[off] & PG_LRU != 0]
    check.add_frames("lru-flag", off, "has PG_lru but is on no LRU list", P_FLAGS)
    on, head = lists.pages[lists.head >= 0], lists.head[lists.head >= 0]
    bare = frames.flags[on] & PG_LRU == 0
    check.add_frames("lru-flag", on[bare], "is on an LRU list without PG_lru", P_FLAGS)
    nids = np.array([nid for nid, _, _ in sets], dtype=np.int64)[head // NR_LRU_LISTS]
    vas = [va_of_word(memcg) if memcg else 0 for _, memcg, _ in sets]
    owners = np.array(vas, dtype=np.int64)[head // NR_LRU_LISTS]
    wrong = (page_lists(frames.flags[on]) != head % NR_LRU_LISTS) | (frames.ids[on] >> 2 != nids)
    wrong |= frames.column(on, P_MEMCG) != owners
    places = dict(zip(on[wrong].tolist(), head[wrong].tolist(), strict=True))
    check.add_frames(
        "lru-place", on[wrong], lambda i: f"is on {names[places[i]]}, its flags say another", P_NEXT
    )


class Tally:
    """Numbers of pages by node and zone."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self.ids = check.frames.ids
        self.node = np.zeros((64, len(NODE_STAT_NAMES)), dtype=np.int64)
        self.zone = np.zeros((256, len(ZONE_STAT_NAMES)), dtype=np.int64)

    def add_node(self, item: int, at: npt.NDArray[np.intp], weights: Ids | int = 1) -> None:
        """Counts pages (array indices) for a node counter."""
        np.add.at(self.node[:, item], self.ids[at] >> 2, weights)

    def add_zone(self, item: int, at: npt.NDArray[np.intp], weights: Ids | int = 1) -> None:
        """Counts pages (array indices) for a zone counter."""
        np.add.at(self.zone[:, item], self.ids[at], weights)


def count_listed(check: Check, tally: Tally) -> None:
    """List sizes and mlocked pages."""
    frames = check.frames
    listed = with_flag(check, PG_LRU)
    lists, size = page_lists(frames.flags[listed]), small_pages(check, listed)
    for lru in range(NR_LRU_LISTS):
        mine = lists == lru
        tally.add_node(NR_LRU_BASE + lru, listed[mine], size[mine])
        tally.add_zone(NR_ZONE_LRU_BASE + lru, listed[mine], size[mine])
    locked = with_flag(check, PG_MLOCKED)
    tally.add_zone(NR_MLOCK, locked, small_pages(check, locked))


def count_mapped(check: Check, tally: Tally) -> None:
    """Mapped anonymous, huge and file pages, cached pages, page tables."""
    frames = check.frames

    def used(at: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        idle = check.free[at] | frames.has(at, KIND_BUDDY) | frames.unborn[at]
        return at[~idle & frames.ram[at]]

    owned = used(frames.where(KIND_OWNED))
    owned = owned[~frames.has(owned, KIND_TAIL) & (frames.flags[owned] & PG_SLAB == 0)]
    mapping = frames.column(owned, P_MAPPING)
    anon = mapping & PAGE_MAPPING_FLAGS == PAGE_MAPPING_ANON
    file = (mapping != 0) & (mapping & PAGE_MAPPING_FLAGS == 0)
    whole = frames.flags[owned] & PG_HEAD != 0
    mapped = frames.page_type[owned] < 0x80000000
    tally.add_node(NR_ANON_MAPPED, owned[anon & mapped & ~whole])
    tally.add_node(NR_FILE_MAPPED, owned[file & mapped])
    cached = file | (frames.flags[owned] & PG_SWAPCACHE != 0)
    tally.add_node(NR_FILE_PAGES, owned[cached])
    shared = file & (frames.flags[owned] & PG_SWAPBACKED != 0)
    tally.add_node(NR_SHMEM, owned[shared])
    bare = used(frames.where(KIND_FLAGGED))
    bare = bare[~frames.owned(bare) & (frames.flags[bare] & PG_SWAPCACHE != 0)]
    tally.add_node(NR_FILE_PAGES, bare[frames.flags[bare] & PG_SWAPBACKED != 0])
    for head in owned[anon & whole].tolist():
        said = int(frames.column(np.array([head]), COMPOUND_MAPCOUNT)[0])
        at = np.array([head])
        if said >> COMPOUND_MAPCOUNT_SHIFT >= 0:
            tally.add_node(NR_ANON_THPS, at)
            tally.add_node(NR_ANON_MAPPED, at, 512)
        else:
            small = np.arange(head, min(head + 512, frames.size))
            parts = int(np.count_nonzero(frames.page_type[small] < 0x80000000))
            tally.add_node(NR_ANON_MAPPED, at, parts)
    # a table that is charged to a memory cgroup has that type as well
    table = MAPCOUNT_MASK & ~PG_TABLE_TYPE
    tables = used(frames.odd)
    kinds = frames.page_type[tables] & ~np.uint32(PG_KMEMCG_TYPE)
    tally.add_zone(NR_PAGETABLE, tables[kinds == table & ~PG_KMEMCG_TYPE])


def node_counter(check: Check, nd: int, item: int) -> int:
    """A node counter with all CPUs' deltas."""
    first = check.structure(check.m[nd + ND_PER_CPU_NODESTATS], check.cpus * NODESTAT_WORDS)
    value: int = check.m[nd + ND_VM_STAT + item]
    if first >= 0:
        step = NODESTAT_WORDS
        value += int(check.q[first + NODESTAT_DIFF + item :: step][: check.cpus].sum())
    return value


def zone_counter(check: Check, zone: ZoneHandle, item: int) -> int:
    """A zone counter with all CPUs' deltas."""
    first = check.pagesets(zone)
    value: int = check.m[zone.word + Z_VM_STAT + item]
    if first >= 0:
        value += int(check.q[first + PSET_STAT_DIFF + item :: PSET_WORDS][: check.cpus].sum())
    return value


NODE_ITEMS = (
    *range(NR_LRU_LISTS),
    NR_ANON_MAPPED,
    NR_FILE_MAPPED,
    NR_FILE_PAGES,
    NR_ANON_THPS,
    NR_SHMEM,
)
ZONE_ITEMS = (*range(NR_ZONE_LRU_BASE, NR_ZONE_LRU_BASE + NR_LRU_LISTS), NR_MLOCK, NR_PAGETABLE)


def check_counters(check: Check) -> None:
    """Node and zone counters against what is there."""
    tally = Tally(check)
    count_listed(check, tally)
    count_mapped(check, tally)
    for nid, nd in check.nodes.items():
        for item in NODE_ITEMS:
            said, due = node_counter(check, nd, item), int(tally.node[nid, item])
            if said != due:
                text = f"{NODE_STAT_NAMES[item]} is {said}, there are {due}"
                check.add("node-lru-counter", f"node {nid}", text, nd + ND_VM_STAT + item)
    for zone in check.zones:
        for item in ZONE_ITEMS:
            said, due = zone_counter(check, zone, item), int(tally.zone[zone.ident, item])
            if said != due:
                text = f"{ZONE_STAT_NAMES[item]} is {said}, there are {due}"
                check.add_zone("zone-lru-counter", zone, text, Z_VM_STAT + item)


def run(check: Check) -> None:
    """All rules about LRU lists and page counters."""
    if not check.m[G_MM_INIT_DONE]:
        return
    check_lists(check)
    check_group_sizes(check)
    check_counters(check)


register("lru", RULES, run, rank=94)
