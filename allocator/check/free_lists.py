# SPDX-License-Identifier: GPL-2.0-only
"""The buddy lists: links, heads of free blocks, buddies, and the counts that go with them.

Reads every PageBuddy frame and every list head of every zone, verifies the links (`lists`) and then
the blocks: what the head's struct page says, where the block lies, whether it should have merged
with its neighbour. `free_blocks` keeps the result for the checkers that come after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..layout import PAGE_OFFSET, PAGES_PER_SECTION
from ..memmap_scan import KIND_BUDDY, KIND_FLAGGED
from ..mm_types import P_FLAGS, P_NEXT, P_PRIVATE, PG_HWPOISON
from ..mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_ORDER,
    MIGRATE_CMA,
    MIGRATE_ISOLATE,
    MIGRATE_TYPES,
    MIGRATETYPE_NAMES,
    PAGEBLOCK_ORDER,
    Z_FREE_AREA,
    Z_NR_ISOLATE,
)
from .lists import verify_lists
from .registry import register

if TYPE_CHECKING:
    from .context import Check, ZoneHandle

RULES = {
    "free-list-next": "every next pointer of a free list leads to an entry that points back",
    "free-list-prev": "every prev pointer of a free list leads to an entry that points back",
    "free-list-doubled": "no free list runs into another: a frame is on one list at most",
    "free-list-buddy": "the head of a listed block is PageBuddy",
    "free-list-stale": "a PageBuddy frame is on a free list",
    "free-list-order": "private of a listed block is the order of its list",
    "free-list-refcount": "the head of a listed block has no reference",
    "free-list-align": "a listed block is aligned to its order",
    "free-list-zone": "a listed block lies in the zone that lists it, with all its frames",
    "free-list-overlap": "no two listed blocks share a frame",
    "free-list-type": "CMA and isolated blocks are on the lists of just their types, but for "
    "what soft offline leaves",
    "free-list-merged": "two buddies of one order are never both free",
    "free-list-nr-free": "nr_free of a free area is the number of blocks on its lists",
    "empty-zone": "a zone that spans nothing has no free blocks",
}
MAX_SUSPECTS = 4096
LISTS_PER_ZONE = MAX_ORDER * MIGRATE_TYPES


@dataclass(frozen=True)
class FreeBlocks:
    """The blocks on the free lists: array indices of their heads, order and migratetype of the
    list, zone (number in check.zones) - parallel arrays - and the frames that they cover."""

    heads: npt.NDArray[np.intp]
    order: npt.NDArray[np.int64]
    mt: npt.NDArray[np.int64]
    zone: npt.NDArray[np.int64]
    covered: npt.NDArray[np.bool_]


def list_heads(check: Check) -> npt.NDArray[np.int64]:
    """Word indices of all free list heads: zones, then orders, then types."""
    lists = np.arange(LISTS_PER_ZONE, dtype=np.int64)
    offsets = Z_FREE_AREA + lists // MIGRATE_TYPES * FA_WORDS + lists % MIGRATE_TYPES * 2
    zones = np.array([zone.word for zone in check.zones], dtype=np.int64)
    return np.asarray((zones[:, None] + offsets).reshape(-1), dtype=np.int64)


def list_name(check: Check, head: int) -> str:
    """A free list in words."""
    zone = check.zones[head // LISTS_PER_ZONE]
    order, mt = divmod(head % LISTS_PER_ZONE, MIGRATE_TYPES)
    return f"free_area[{order}].free_list[{MIGRATETYPE_NAMES[mt]}] of {zone.label}"


def coverage(
    size: int, starts: npt.NDArray[np.intp], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.int16]:
    """How many of the ranges cover each of `size` frames; ranges are cut at their section's end."""
    ends = np.minimum(starts + lengths, (starts // PAGES_PER_SECTION + 1) * PAGES_PER_SECTION)
    steps = np.zeros(size + 1, dtype=np.int16)
    np.add.at(steps, starts, 1)
    np.subtract.at(steps, ends, 1)
    return np.cumsum(steps[:-1], dtype=np.int16)


def covered_frames(
    size: int, heads: npt.NDArray[np.intp], order: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Which of `size` frames the blocks cover, and the indices of those covered more than once."""
    covered = np.zeros(size, dtype=np.bool_)
    pages = np.int64(1) << order
    if not (heads & (pages - 1)).any():
        # all aligned: the frames of blocks of one order are rows
        for each in np.flatnonzero(np.bincount(order)).tolist():
            covered.reshape(-1, 1 << each)[heads[order == each] >> each] = True
        if np.count_nonzero(covered) == int(pages.sum()):
            return covered, np.empty(0, dtype=np.intp)
    cover = coverage(size, heads, pages)
    return cover > 0, np.flatnonzero(cover > 1)


def read_blocks(check: Check) -> FreeBlocks:
    """Verifies all free lists; the blocks on them."""
    frames = check.frames
    lists = verify_lists(
        check,
        list_heads(check),
        frames.where(KIND_BUDDY),
        lambda head: list_name(check, head),
        ("free-list-next", "free-list-prev", "free-list-doubled"),
    )
    on = lists.head >= 0
    heads, head = lists.pages[on], lists.head[on]
    order = head % LISTS_PER_ZONE // MIGRATE_TYPES
    zone, mt = head // LISTS_PER_ZONE, head % MIGRATE_TYPES
    covered, twice = covered_frames(frames.size, heads, order)
    check.add_frames("free-list-overlap", twice, "lies in two free blocks at once", P_PRIVATE)
    return FreeBlocks(heads, order, mt, zone, covered)


def check_heads(check: Check, blocks: FreeBlocks) -> None:
    """What the head of each listed block says of itself."""
    frames = check.frames
    heads, order = blocks.heads, blocks.order

    def where(index: int) -> str:
        i = int(np.searchsorted(heads, index))
        zone = check.zones[int(blocks.zone[i])]
        return f"on free_area[{int(order[i])}] of {zone.label}"

    def add(rule: str, bad: npt.NDArray[np.bool_], text: str, offset: int) -> None:
        columns = frames.column(heads[bad], offset)
        value = dict(zip(heads[bad].tolist(), columns.tolist(), strict=True))
        check.add_frames(
            rule, heads[bad], lambda i: f"{where(i)} but {text.format(value[i])}", offset
        )

    buddy = frames.has(heads, KIND_BUDDY)
    check.add_frames(
        "free-list-buddy",
        heads[~buddy],
        lambda i: f"{where(i)} but page_type is {int(frames.page_type[i]):#010x} (not PageBuddy)",
    )
    private = frames.column(heads, P_PRIVATE)
    add("free-list-order", private != order, "private says order {}", P_PRIVATE)
    references = frames.refcount[heads] != 0
    check.add_frames(
        "free-list-refcount",
        heads[references],
        lambda i: f"{where(i)} but refcount is {int(frames.refcount[i])}",
    )
    unaligned = frames.pfns(heads) & ((np.int64(1) << order) - 1) != 0
    add("free-list-align", unaligned, "it is not aligned to that order", P_NEXT)
    all_buddies = frames.where(KIND_BUDDY)
    if all_buddies.size > np.count_nonzero(buddy):
        stale = np.setdiff1d(all_buddies, heads)
        check.add_frames("free-list-stale", stale, "PageBuddy, but on no free list")


def check_zone(check: Check, blocks: FreeBlocks) -> None:
    """Every frame of a listed block bears the ids of the zone that lists the block.

    Ids change in few places, so only the blocks around those are looked at frame by frame.
    """
    frames = check.frames
    if not blocks.heads.size:
        return
    ids = frames.ids
    idents = np.array([zone.ident for zone in check.zones], dtype=np.uint8)
    mine = idents[blocks.zone]
    around = np.searchsorted(blocks.heads, frames.borders, side="right") - 1
    suspects = np.union1d(around[around >= 0], np.flatnonzero(ids[blocks.heads] != mine))
    bad: dict[int, int] = {}
    for i in suspects[:MAX_SUSPECTS].tolist():
        first = int(blocks.heads[i])
        part = ids[first : first + (1 << int(blocks.order[i]))]
        for j in np.flatnonzero(part != mine[i]).tolist():
            bad[first + j] = int(mine[i])

    def text(index: int) -> str:
        ident, listed = int(ids[index]), bad[index]
        return (
            f"free in zone {listed >> 2}:{listed & 3}, but its flags name zone "
            f"{ident >> 2}:{ident & 3}"
        )

    check.add_frames("free-list-zone", np.array(sorted(bad), dtype=np.intp), text, P_FLAGS)


def bad_frames(check: Check) -> npt.NDArray[np.intp]:
    """Array indices of the frames with PG_hwpoison."""
    at = check.frames.where(KIND_FLAGGED)
    return np.asarray(at[check.frames.flags[at] & PG_HWPOISON != 0], dtype=np.intp)


def left_by_soft_offline(check: Check, blocks: FreeBlocks) -> npt.NDArray[np.bool_]:
    """Which blocks soft offline has left on the list of isolated ones: around a bad frame, in a
    pageblock that is not isolated (any more). 4.20 does not count them as free."""
    left = np.zeros(blocks.heads.size, dtype=np.bool_)
    frames = check.frames
    bad = bad_frames(check)
    if not bad.size or not blocks.heads.size:
        return left
    block = np.searchsorted(blocks.heads, bad, side="right") - 1
    inside = (block >= 0) & (bad < blocks.heads[block] + (np.int64(1) << blocks.order[block]))
    left[block[inside]] = True
    kind = frames.blocks[blocks.heads >> PAGEBLOCK_ORDER]
    here: npt.NDArray[np.bool_] = (blocks.mt == MIGRATE_ISOLATE) & (kind != MIGRATE_ISOLATE)
    return left & here


def check_types(check: Check, blocks: FreeBlocks) -> None:
    """Isolated and CMA blocks: list and pageblock agree."""
    if not blocks.heads.size:
        return
    frames = check.frames
    kind = frames.blocks[blocks.heads >> PAGEBLOCK_ORDER].astype(np.int64)
    special = np.isin(kind, (MIGRATE_CMA, MIGRATE_ISOLATE)) | np.isin(
        blocks.mt, (MIGRATE_CMA, MIGRATE_ISOLATE)
    )
    special &= ~left_by_soft_offline(check, blocks)
    bad = np.flatnonzero(special & (kind != blocks.mt))
    types = dict(zip(blocks.heads[bad].tolist(), blocks.mt[bad].tolist(), strict=True))

    def text(index: int) -> str:
        block = int(frames.blocks[index >> PAGEBLOCK_ORDER])
        return (
            f"on a free list of type {type_name(types[index])} in a pageblock of type "
            f"{type_name(block)}"
        )

    check.add_frames("free-list-type", blocks.heads[bad], text, P_NEXT)


def type_name(mt: int) -> str:
    """A migratetype in words, whatever the number."""
    return MIGRATETYPE_NAMES[mt] if 0 <= mt < MIGRATE_TYPES else f"{mt} (no such type)"


def check_merged(check: Check, blocks: FreeBlocks) -> None:
    """No block whose buddy is free too, but for the border of an isolated pageblock."""
    frames = check.frames
    orders = np.full(frames.size, -1, dtype=np.int8)
    orders[blocks.heads] = blocks.order
    low = blocks.order < MAX_ORDER - 1
    heads, order = blocks.heads[low], blocks.order[low]
    buddy = heads ^ (np.int64(1) << order)
    both = (orders[buddy] == order) & (frames.ids[buddy] == frames.ids[heads])
    both &= frames.has(buddy, KIND_BUDDY) & frames.has(heads, KIND_BUDDY) & (buddy > heads)
    if frames.blocks.size:
        here = frames.blocks[heads >> PAGEBLOCK_ORDER] == MIGRATE_ISOLATE
        there = frames.blocks[buddy >> PAGEBLOCK_ORDER] == MIGRATE_ISOLATE
        both &= (order < PAGEBLOCK_ORDER) | (here == there)
    bad = heads[both]
    check.add_frames(
        "free-list-merged",
        bad,
        lambda i: f"free at order {int(orders[i])}, and so is its buddy: they should be one block",
        P_PRIVATE,
    )


def check_counts(check: Check, blocks: FreeBlocks) -> None:
    """nr_free of every free area, and nothing at all in zones without frames."""
    per_area = np.bincount(
        blocks.zone * MAX_ORDER + blocks.order, minlength=len(check.zones) * MAX_ORDER
    ).reshape(-1, MAX_ORDER)
    for i, zone in enumerate(check.zones):
        for order in range(MAX_ORDER):
            offset = Z_FREE_AREA + order * FA_WORDS + FA_NR_FREE
            said, listed = check.m[zone.word + offset], int(per_area[i, order])
            if said != listed:
                check.add_zone(
                    "free-list-nr-free",
                    zone,
                    f"free_area[{order}].nr_free is {said:,}, its lists hold {listed:,} blocks",
                    offset,
                )
    for zone in check.all_zones:
        if zone.end == zone.start:
            _check_empty(check, zone)


def _check_empty(check: Check, zone: ZoneHandle) -> None:
    first = zone.word + Z_FREE_AREA
    words = np.arange(first, first + MAX_ORDER * FA_WORDS).reshape(MAX_ORDER, FA_WORDS)
    values = check.q[words]
    heads = words[:, :1] + (np.arange(FA_WORDS) >> 1 << 1)
    empty = (values == (heads << 3) + PAGE_OFFSET) & (np.arange(FA_WORDS) < FA_NR_FREE)
    for word in words[(values != 0) & ~empty].tolist():
        text = f"spans nothing but lists a block: {check.m[word]}"
        check.add_zone("empty-zone", zone, text, word - zone.word)
    if check.m[zone.word + Z_NR_ISOLATE]:
        check.add_zone("empty-zone", zone, "spans nothing but has isolated blocks", Z_NR_ISOLATE)


def run(check: Check) -> None:
    """All rules about the free lists."""
    blocks = check.free_blocks
    check_heads(check, blocks)
    check_zone(check, blocks)
    check_types(check, blocks)
    check_merged(check, blocks)
    check_counts(check, blocks)


register("free_lists", RULES, run, rank=50)
