# SPDX-License-Identifier: GPL-2.0-only
"""Compound pages: a head, its order in the first tail, and tails that all point to the head.

Heads are the frames with PG_head that are not free. Their tails are visited as one array, whatever
the number of heads; then every frame that claims to be a tail must have been among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..deferred_split import TRANSHUGE_PAGE_DTOR
from ..layout import PAGES_PER_SECTION, VMEMMAP_START
from ..memmap_scan import KIND_BUDDY, KIND_FLAGGED, KIND_TAIL, KIND_TIDY_TAIL, KIND_ZERO
from ..mm_types import (
    COMPOUND_MAPCOUNT_SHIFT,
    COMPOUND_PAGE_DTOR,
    COUNTS_FREE,
    MAPCOUNT_MASK,
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    P_MEMCG,
    P_NEXT,
    P_PREV,
    PAGE_FLAGS_CHECK_AT_FREE,
    PG_HEAD,
    PG_LRU,
    PG_PRIVATE_2,
    PG_SLAB,
    TAIL_MAPPING,
)
from ..mmzone import MAX_ORDER
from .registry import register

if TYPE_CHECKING:
    from .context import Check

RULES = {
    "compound-order": "the first tail of a compound page holds a sane order and destructor",
    "compound-align": "a compound page is aligned to its order and has a reference",
    "compound-head": "every tail of a compound page points to its head",
    "compound-flag": "the frame that tail pages point to has PG_head",
    "compound-stray": "a frame that says it is a tail lies in a compound page",
    "tail-mapping": "mapping of a tail is TAIL_MAPPING",
    "compound-mapcount": "compound_mapcount in the first tail is -1 where no entry maps the whole",
    "tail-counts": "a tail has no reference and no mapcount of its own",
    "tail-flags": "a tail has none of the flags that forbid freeing, and no control group",
}
MAX_LOST_HEADS = 64
DTORS = (COMPOUND_PAGE_DTOR, TRANSHUGE_PAGE_DTOR)


@dataclass(frozen=True)
class Compounds:
    """Which frames are tails of compound pages, and which are heads or tails."""

    tails: npt.NDArray[np.bool_]
    members: npt.NDArray[np.bool_]


def read_compounds(check: Check) -> Compounds:
    """Verifies all compound pages; who is in one."""
    frames = check.frames
    if not frames.seen & (KIND_FLAGGED | KIND_TAIL):
        return Compounds(frames.nowhere(), frames.nowhere())
    inside = check.listed
    heads = frames.where(KIND_FLAGGED)
    heads = heads[~inside[heads] & frames.ram[heads]]
    heads = heads[frames.flags[heads] & PG_HEAD != 0]
    heads = heads[heads % PAGES_PER_SECTION < PAGES_PER_SECTION - 1]
    first = frames.column(heads + 1, P_PREV)
    order, dtor = first >> 8 & 0xFF, first & 0xFF
    sane = (order > 0) & (order < MAX_ORDER) & np.isin(dtor, DTORS) & (first >> 16 & 0xFFFF == 0)
    values = dict(zip(heads[~sane].tolist(), first[~sane].tolist(), strict=True))
    # the order is in the first tail: that frame's bytes are wrong, unless nothing makes it a tail
    for head in heads[~sane][:64].tolist():
        wrong = head + 1 if int(frames.kinds[head + 1]) & KIND_TAIL else head
        offset = P_PREV if wrong != head else P_FLAGS
        pfn = frames.pfn(wrong)
        held = values[head] & MAPCOUNT_MASK
        text = f"compound page {frames.pfn(head):#07x} has order and destructor {held:#x}"
        check.add_frame("compound-order", pfn, text, offset)
    insane = set(heads[~sane].tolist())
    heads, order = heads[sane], order[sane]
    tails = np.zeros(frames.size, dtype=np.bool_)
    members = np.zeros(frames.size, dtype=np.bool_)
    if heads.size:
        _check_heads(check, heads, order)
        _check_tails(check, heads, order, tails)
        members[heads] = True
    stray = frames.where(KIND_TAIL)
    stray = stray[~(tails[stray] | inside[stray] | frames.has(stray, KIND_BUDDY))]
    stray = stray[~frames.counting(stray, KIND_ZERO)]
    stray, excused = _without_lost_heads(check, stray, insane)
    tails[excused] = True
    members[list(insane)] = True
    members |= tails
    check.add_frames(
        "compound-stray",
        stray,
        "says that it is a tail page, but no compound page holds it",
        P_NEXT,
    )
    return Compounds(tails, members)


def _without_lost_heads(
    check: Check, stray: npt.NDArray[np.intp], insane: set[int]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Stray tails split into those that are to blame and those whose head is.

    A head is to blame if its order is insane (known already), or if it has lost PG_head: the frames
    right behind it all point to it. Names the latter.
    """
    frames = check.frames
    claims = frames.column(stray, P_NEXT) - 1 - VMEMMAP_START
    excused = np.zeros(stray.size, dtype=np.bool_)
    for claim in np.unique(claims)[:MAX_LOST_HEADS].tolist():
        head = frames.index(claim >> 6) if claim & 63 == 0 else -1
        mine = stray[claims == claim]
        behind = np.arange(head + 1, head + 1 + mine.size)
        if head < 0 or not np.array_equal(mine, behind):
            continue
        if head in insane:
            excused |= claims == claim
        elif frames.refcount[head] > 0 and frames.flags[head] & PG_HEAD == 0:
            text = f"{mine.size} tail pages point to it, but it has no PG_head"
            check.add_frame("compound-flag", frames.pfn(head), text, P_FLAGS)
            excused |= claims == claim
    return stray[~excused], stray[excused]


def _check_heads(check: Check, heads: npt.NDArray[np.intp], order: npt.NDArray[np.int64]) -> None:
    frames = check.frames
    unaligned = frames.pfns(heads) & ((np.int64(1) << order) - 1) != 0
    orders = dict(zip(heads.tolist(), order.tolist(), strict=True))
    check.add_frames(
        "compound-align",
        heads[unaligned],
        lambda i: f"heads a compound page of order {orders[i]} but is not aligned to it",
        P_FLAGS,
    )
    check.add_frames(
        "compound-align",
        heads[frames.refcount[heads] <= 0],
        lambda i: f"heads a compound page but refcount is {int(frames.refcount[i])}",
    )


def _check_tails(
    check: Check,
    heads: npt.NDArray[np.intp],
    order: npt.NDArray[np.int64],
    tails: npt.NDArray[np.bool_],
) -> None:
    """All tails of the compound pages as flat arrays; marks them in `tails`."""
    frames = check.frames
    length = (np.int64(1) << order) - 1
    ends = np.cumsum(length)
    place = np.arange(int(ends[-1])) - np.repeat(ends - length, length) + 1
    owner = np.repeat(heads, length)
    at = owner + place
    fits = at // PAGES_PER_SECTION == owner // PAGES_PER_SECTION
    at, place, owner = at[fits], place[fits], owner[fits]
    tails[at] = True
    # whose first tail points to it and whose tails are tidy is done
    first = frames.column(heads + 1, P_NEXT) != VMEMMAP_START + (frames.pfns(heads) << 6) + 1
    first |= frames.column(heads + 1, P_PREV) >> COMPOUND_MAPCOUNT_SHIFT != -1
    untidy = np.union1d(heads[first], owner[frames.kinds[at] != KIND_TIDY_TAIL])
    if not untidy.size:
        return
    chosen = np.isin(owner, untidy)
    at, place, owner = at[chosen], place[chosen], owner[chosen]
    next_ = frames.column(at, P_NEXT)
    right = VMEMMAP_START + (frames.pfns(owner) << 6) + 1
    head_of = dict(zip(at[next_ != right].tolist(), owner[next_ != right].tolist(), strict=True))
    check.add_frames(
        "compound-head",
        at[next_ != right],
        lambda i: f"tail of compound page {frames.pfn(head_of[i]):#07x} but points elsewhere",
        P_NEXT,
    )
    mapping = frames.column(at, P_MAPPING)
    # a huge page's mapcounts are owner_rules' business, its second tail holds a list node
    huge = frames.column(owner + 1, P_PREV) & 0xFF == TRANSHUGE_PAGE_DTOR
    wrong = (mapping != TAIL_MAPPING) & ~(huge & (place == 2))
    check.add_frames("tail-mapping", at[wrong], "tail page with another mapping", P_MAPPING)
    whole = frames.column(at, P_PREV) >> COMPOUND_MAPCOUNT_SHIFT
    check.add_frames(
        "compound-mapcount",
        at[(place == 1) & (whole != -1) & ~huge],
        "nobody maps it, but its compound mapcount says so",
        P_PREV,
    )
    check.add_frames(
        "tail-counts",
        at[np.where(huge, frames.refcount[at] != 0, frames.counts[at] != COUNTS_FREE)],
        lambda i: (
            f"tail page with page_type {int(frames.page_type[i]):#010x}, "
            f"refcount {int(frames.refcount[i])}"
        ),
        P_COUNTS,
    )
    forbidden = PAGE_FLAGS_CHECK_AT_FREE & ~PG_PRIVATE_2 | PG_HEAD
    if check.replayed:
        forbidden &= ~(PG_SLAB | PG_LRU)  # a recording gives tails the flags of their head
    check.add_frames(
        "tail-flags",
        at[frames.flags[at] & forbidden != 0],
        lambda i: f"tail page with flags {int(frames.flags[i]) & 0xFFFFFF:#x}",
        P_FLAGS,
    )
    check.add_frames(
        "tail-flags", at[frames.column(at, P_MEMCG) != 0], "tail page with a mem_cgroup", P_MEMCG
    )


def run(check: Check) -> None:
    """All rules about compound pages; they are tested where the pages are read."""
    _ = check.compounds


register("compound_pages", RULES, run, rank=70)
