# SPDX-License-Identifier: GPL-2.0-only
"""The per-cpu page lists: links, counts, limits, and the pages on them.

Nothing in a struct page says that it is on a per-cpu list, so the lists are followed from their
heads, both ways, and the pages found that way are then verified like those of the free lists.
Until setup_per_cpu_pageset() all zones share one pageset a CPU, which is always empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..kernel_globals import G_PERCPU_PAGELIST_FRACTION
from ..layout import BOOT_PAGESETS, va_of_word
from ..mm_types import COUNTS_FREE, P_FLAGS, P_INDEX
from ..mmzone import (
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_PCPTYPES,
    MIGRATETYPE_NAMES,
    NR_VM_NUMA_STAT_ITEMS,
    NR_VM_ZONE_STAT_ITEMS,
    NUMA_STATS_THRESHOLD,
    PSET_BATCH,
    PSET_COUNT,
    PSET_HIGH,
    PSET_LISTS,
    PSET_NUMA_DIFF,
    PSET_STAT_DIFF,
    PSET_THRESHOLD,
    PSET_WORDS,
    Z_PAGESET,
)
from .free_lists import type_name
from .lists import follow, verify_lists
from .registry import register

if TYPE_CHECKING:
    from .context import Check

RULES = {
    "pageset-pointer": "a zone's pagesets are in RAM, the boot pagesets or its own",
    "pcp-list-next": "every next pointer of a per-cpu list leads to an entry that points back",
    "pcp-list-prev": "every prev pointer of a per-cpu list leads to an entry that points back",
    "pcp-list-doubled": "no per-cpu list runs into another",
    "pcp-count": "count of a pageset is the number of pages on its lists",
    "pcp-index": "index of a listed page is its list's migratetype, or one that movable lists take",
    "pcp-state": "a page on a per-cpu list has no reference, no mapcount and no page type",
    "pcp-zone": "a page on a per-cpu list belongs to the pageset's zone",
    "pcp-twice": "a page on a per-cpu list is in no free block",
    "pcp-limits": "high and batch of a pageset fit each other and are the same on all CPUs",
    "stat-threshold": "stat thresholds lie between 0 and 125, per-cpu deltas within an s8",
    "numa-diff": "per-cpu NUMA counts lie between 0 and 65533",
}
BATCH_MAX = 96
THRESHOLD_MAX = 125


@dataclass(frozen=True)
class PcpPages:
    """The pages on per-cpu lists: array indices, list's type, CPU, zone (number in check.zones)."""

    pages: npt.NDArray[np.intp]
    mt: npt.NDArray[np.int64]
    cpu: npt.NDArray[np.int64]
    zone: npt.NDArray[np.int64]


def pagesets(check: Check) -> list[tuple[int, int, int]]:
    """(number in check.zones, CPU, word index) of every pageset that can be read; zones on the
    boot pagesets count once for all."""
    found, boot = [], False
    for i, zone in enumerate(check.zones):
        first = check.pagesets(zone)
        if first < 0:
            continue
        if first == BOOT_PAGESETS:
            if boot:
                continue
            boot = True
        found += [(i, cpu, first + cpu * PSET_WORDS) for cpu in range(check.cpus)]
    return found


def read_pcp(check: Check) -> PcpPages:
    """Verifies all per-cpu lists; the pages on them."""
    sets = pagesets(check)
    heads = [ps + PSET_LISTS + 2 * mt for _, _, ps in sets for mt in range(MIGRATE_PCPTYPES)]
    seen: set[int] = set()
    follow(check, heads, seen)
    unique = sorted(set(heads))

    def name(head: int) -> str:
        at, mt = divmod(heads.index(unique[head]), MIGRATE_PCPTYPES)
        i, cpu, _ = sets[at]
        return f"per-cpu list {MIGRATETYPE_NAMES[mt]} of cpu {cpu} in {check.zones[i].label}"

    lists = verify_lists(
        check,
        np.array(unique, dtype=np.int64),
        np.array(sorted(seen), dtype=np.intp),
        name,
        ("pcp-list-next", "pcp-list-prev", "pcp-list-doubled"),
    )
    on = lists.head >= 0
    number = {word: i for i, word in enumerate(heads)}
    places = np.array([number[word] for word in unique], dtype=np.int64)[lists.head[on]]
    table = np.array([(i, cpu) for i, cpu, _ in sets], dtype=np.int64).reshape(-1, 2)
    rows = table[places // MIGRATE_PCPTYPES]
    return PcpPages(lists.pages[on], places % MIGRATE_PCPTYPES, rows[:, 1], rows[:, 0])


def check_pages(check: Check) -> None:
    """State of the pages on per-cpu lists."""
    pcp, frames = check.pcp_pages, check.frames
    pages = pcp.pages

    def where(index: int) -> str:
        i = int(np.searchsorted(pages, index))
        label = check.zones[int(pcp.zone[i])].label
        return (
            f"on the {MIGRATETYPE_NAMES[int(pcp.mt[i])]} list of cpu {int(pcp.cpu[i])} in {label}"
        )

    index = frames.column(pages, P_INDEX)
    good = (index == pcp.mt) | (
        (pcp.mt == MIGRATE_MOVABLE) & np.isin(index, (MIGRATE_HIGHATOMIC, MIGRATE_CMA))
    )
    types = dict(zip(pages[~good].tolist(), index[~good].tolist(), strict=True))
    check.add_frames(
        "pcp-index",
        pages[~good],
        lambda i: f"{where(i)} but index says {type_name(types[i])}",
        P_INDEX,
    )
    check.add_frames(
        "pcp-state",
        pages[frames.counts[pages] != COUNTS_FREE],
        lambda i: (
            f"{where(i)} but page_type is {int(frames.page_type[i]):#010x}, "
            f"refcount {int(frames.refcount[i])}"
        ),
    )
    if check.zones:
        idents = np.array([zone.ident for zone in check.zones], dtype=np.uint8)
        wrong = pages[frames.ids[pages] != idents[pcp.zone]]
        check.add_frames(
            "pcp-zone",
            wrong,
            lambda i: (
                f"{where(i)} but its flags name zone {frames.ids[i] >> 2}:{frames.ids[i] & 3}"
            ),
            P_FLAGS,
        )
    check.add_frames(
        "pcp-twice",
        pages[check.free_blocks.covered[pages]],
        lambda i: f"{where(i)} and in a block on a free list",
    )


def check_sets(check: Check) -> None:
    """Counts, limits and counters of every pageset."""
    m, pcp = check.m, check.pcp_pages
    held = np.bincount(pcp.zone * check.cpus + pcp.cpu, minlength=len(check.zones) * check.cpus)
    for zone in check.zones:
        va = m[zone.word + Z_PAGESET]
        if check.pagesets(zone) < 0:
            check.add_zone("pageset-pointer", zone, "its pagesets are not in RAM", Z_PAGESET)
        elif not zone.present and va != va_of_word(BOOT_PAGESETS):
            check.add_zone("pageset-pointer", zone, "an empty zone has pagesets", Z_PAGESET)
    first: dict[int, tuple[int, int]] = {}
    for i, cpu, ps in pagesets(check):
        where = f"pageset of cpu {cpu} in {check.zones[i].label}"
        count, have = m[ps + PSET_COUNT], int(held[i * check.cpus + cpu])
        if count != have:
            check.add(
                "pcp-count", where, f"count is {count}, its lists hold {have}", ps + PSET_COUNT
            )
        high, batch = m[ps + PSET_HIGH], m[ps + PSET_BATCH]
        boot = high == 0 and batch == 1
        quarter = batch == min(max(1, high // 4), BATCH_MAX)
        fits = boot or (quarter if m[G_PERCPU_PAGELIST_FRACTION] else high == 6 * batch)
        if not (0 < batch <= BATCH_MAX and high >= 0 and fits):
            text = f"high {high} and batch {batch} do not fit each other"
            check.add("pcp-limits", where, text, ps + PSET_HIGH)
        elif first.setdefault(i, (high, batch)) != (high, batch):
            text = f"high {high} and batch {batch}, but cpu 0 has {first[i]}"
            check.add("pcp-limits", where, text, ps + PSET_HIGH)
        _check_counters(check, where, ps)


def _check_counters(check: Check, where: str, ps: int) -> None:
    m = check.m
    if not 0 <= m[ps + PSET_THRESHOLD] <= THRESHOLD_MAX:
        text = f"stat_threshold is {m[ps + PSET_THRESHOLD]}"
        check.add("stat-threshold", where, text, ps + PSET_THRESHOLD)
    for item in range(NR_VM_ZONE_STAT_ITEMS):
        word = ps + PSET_STAT_DIFF + item
        if not -THRESHOLD_MAX <= m[word] <= THRESHOLD_MAX:
            check.add("stat-threshold", where, f"vm_stat_diff[{item}] is {m[word]}", word)
    for item in range(NR_VM_NUMA_STAT_ITEMS):
        word = ps + PSET_NUMA_DIFF + item
        if not 0 <= m[word] <= NUMA_STATS_THRESHOLD:
            check.add("numa-diff", where, f"vm_numa_stat_diff[{item}] is {m[word]}", word)


def run(check: Check) -> None:
    """All rules about per-cpu lists."""
    check_sets(check)
    check_pages(check)


register("pcp_lists", RULES, run, rank=60)
