# SPDX-License-Identifier: GPL-2.0-only
"""Every frame is in exactly one legal state.

A frame of RAM is *free* (inside a block on a free list, on a per-cpu list, or inside a guard
block), *reserved* since boot, or *allocated*. An allocated frame is the head of a block, with at
least one reference; or a tail of a compound page, pointing to its head; or one of the frames
behind the head of a plain block, which have no reference and look like nothing - so that such a
run of frames must exactly fill an aligned block behind a referenced frame. A frame that fits
nowhere is lost: nobody can ever free it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..debug_guardpage import PAGE_EXT_OWNER
from ..kernel_globals import G_MM_INIT_DONE, G_TOTALRAM, KEY_PAGE_OWNER
from ..layout import MAX_MEM_CGROUPS, MEM_CGROUP_WORDS, MEM_CGROUPS, PAGE_OFFSET
from ..memmap_scan import (
    KIND_BUDDY,
    KIND_COUNTS,
    KIND_FLAGGED,
    KIND_FREE,
    KIND_ONE,
    KIND_OWNED,
    KIND_RESERVED,
    KIND_TAIL,
)
from ..mm_types import (
    COUNTS_ONE,
    MAPCOUNT_MASK,
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    P_MEMCG,
    PAGE_FLAGS_CHECK_AT_PREP,
    PG_BALLOON_TYPE,
    PG_HEAD,
    PG_HWPOISON,
    PG_KMEMCG_TYPE,
    PG_RESERVED,
    PG_TABLE_TYPE,
)
from ..mmzone import MAX_ORDER
from ..page_owner import EXT_OWNER
from .frames import EIGHT
from .page_ext_rules import ext_column
from .registry import register
from .report import LIMIT

if TYPE_CHECKING:
    from .context import Check

RULES = {
    "free-state": "a frame inside a free block has no reference, no mapcount and no page type",
    "free-flags": "a free frame has no PG_ bit set but hwpoison",
    "free-owner": "a free frame has no mapping and no control group",
    "free-tail": "a free frame is no tail of a compound page",
    "refcount-negative": "no frame has a negative reference count",
    "page-type": "mapcount is -1, or a page type that an allocated page can have",
    "allocated-memcg": "mem_cgroup of an allocated page is a control group or null",
    "frame-lost": "a frame without references that is on no list lies inside an allocated block",
    "reserved-state": "a frame reserved at boot has its one reference and nothing else",
    "reserved-flag": "PG_reserved is set for just what memblock reserved and nobody freed",
    "hole-state": "a frame that is not RAM is as boot left it and on no list",
}
_TYPES = PG_BALLOON_TYPE | PG_KMEMCG_TYPE | PG_TABLE_TYPE
_TYPE_BASE = 0xF0000000


def state_of(check: Check, index: int) -> str:
    """How a free frame comes to be free, for messages."""
    if check.free_blocks.covered[index]:
        return "in a free block"
    if check.guards.covered[index]:
        return "in a guard block"
    return "on a per-cpu list"


def check_free(check: Check) -> None:
    """Frames that are free look free: their kind is that of a head or of what lies behind it."""
    frames, free = check.frames, check.free
    suspects = frames.unlike((KIND_FREE, KIND_BUDDY), free)
    if not suspects.size:
        return
    covered = check.free_blocks.covered[suspects]
    covered &= ~np.isin(suspects, check.free_blocks.heads)
    inside = covered | check.guards.covered[suspects]
    inside &= ~np.isin(suspects, check.free_blocks.heads)
    looks_free = frames.counting(suspects, KIND_FREE) | frames.has(suspects, KIND_BUDDY)
    check.add_frames(
        "free-state",
        suspects[inside & ~looks_free],
        lambda i: (
            f"{state_of(check, i)} but page_type is {int(frames.page_type[i]):#010x}, "
            f"refcount {int(frames.refcount[i])}"
        ),
    )
    check.add_frames(
        "free-flags",
        suspects[frames.flags[suspects] & PAGE_FLAGS_CHECK_AT_PREP != 0],
        lambda i: f"{state_of(check, i)} but flags has {int(frames.flags[i]) & 0xFFFFFF:#x} set",
        P_FLAGS,
    )
    owned = suspects[frames.owned(suspects)]
    mapped = frames.column(owned, P_MAPPING) != 0
    for chosen, name, offset in (
        (owned[mapped], "mapping", P_MAPPING),
        (owned[~mapped], "mem_cgroup", P_MEMCG),
    ):
        texts = {i: f"{state_of(check, i)} but has a {name}" for i in chosen[:LIMIT].tolist()}
        check.add_frames("free-owner", chosen, texts.__getitem__, offset)
    check.add_frames(
        "free-tail",
        suspects[covered & frames.has(suspects, KIND_TAIL)],
        lambda i: f"{state_of(check, i)} but says that it is a tail page",
        1,
    )


def check_counts(check: Check) -> None:
    """Reference counts, mapcounts and page types of all frames that are not free."""
    frames, free = check.frames, check.free
    check.add_frames(
        "refcount-negative",
        frames.odd[frames.odd_counts < 0],
        lambda i: f"refcount is {int(frames.refcount[i])}",
    )
    odd, value = frames.odd, frames.odd_counts & MAPCOUNT_MASK
    used = (value != MAPCOUNT_MASK) & ~free[odd] & ~frames.has(odd, KIND_BUDDY)
    used &= ~frames.unborn[odd]
    odd, value = odd[used], value[used]
    if odd.size:
        typed = (value & _TYPE_BASE == _TYPE_BASE) & (value | _TYPES == MAPCOUNT_MASK)
        if check.m[G_MM_INIT_DONE]:
            # owner_rules compare mapcounts with the page tables
            typed |= value < _TYPE_BASE
        check.add_frames(
            "page-type",
            odd[~typed],
            lambda i: (
                f"page_type is {int(frames.page_type[i]):#010x}: neither unmapped nor a known type"
            ),
        )
    owned = frames.where(KIND_OWNED)
    owned = owned[~free[owned]]
    if owned.size:
        groups = frames.column(owned, P_MEMCG)
        at = (groups - PAGE_OFFSET) - (MEM_CGROUPS << 3)
        size = MEM_CGROUP_WORDS << 3
        good = (groups == 0) | ((at >= 0) & (at < MAX_MEM_CGROUPS * size) & (at % size == 0))
        check.add_frames("allocated-memcg", owned[~good], "mem_cgroup is no control group", P_MEMCG)


def check_reserved(check: Check) -> None:
    """Frames that boot set aside, and frames that are no RAM."""
    frames, free = check.frames, check.free
    at = frames.where(KIND_RESERVED)
    at = at[frames.kinds[at] != KIND_RESERVED | KIND_ONE]
    odd = frames.ram[at] & ~free[at] & ~frames.has(at, KIND_BUDDY) & ~check.offline[at]
    odd &= ~frames.counting(at, KIND_ONE) | frames.owned(at)
    # memory_failure() keeps the reference of a page that it can do nothing about
    odd &= ~((frames.flags[at] & PG_HWPOISON != 0) & (frames.refcount[at] == 2))
    check.add_frames(
        "reserved-state",
        at[odd],
        lambda i: (
            f"reserved but refcount is {int(frames.refcount[i])}, page_type "
            f"{int(frames.page_type[i]):#010x}"
            f"{', and it has an owner' if frames.owned(np.array([i]))[0] else ''}"
        ),
    )
    at = frames.holes
    counts = frames.counts[at]
    odd = (counts != 0) & (counts != COUNTS_ONE) | frames.owned(at) | free[at]
    odd |= frames.flags[at] & ~np.uint32(PG_RESERVED) != 0
    check.add_frames("hole-state", at[odd], "no RAM is there, yet its page is in use")


def check_reserved_flags(check: Check) -> None:
    """PG_reserved against memblock.reserved. Reserved memory may have been released since, as CMA
    areas are; it is then managed, so only a zone that manages too little is searched for it."""
    if check.replayed or not check.m[G_TOTALRAM]:
        return
    frames = check.frames
    due = check.promised
    at = frames.where(KIND_RESERVED)
    at = at[~due[at]]
    at = at[frames.ram[at] & ~check.free[at] & ~check.offline[at]]
    check.add_frames("reserved-flag", at, "PG_reserved, but not since boot", P_FLAGS)
    plain = frames.unreserved_by_zone
    for zone in check.zones:
        if plain[zone.ident] > zone.managed:
            lost = np.flatnonzero(due & ~(check.free | frames.unborn) & (frames.ids == zone.ident))
            lost = lost[~frames.has(lost, KIND_RESERVED)]
            text = "reserved at boot, but PG_reserved is gone and no zone manages it"
            check.add_frames("reserved-flag", lost, text, P_FLAGS)


def loose_frames(check: Check) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Array indices of the frames of RAM that are on no list, have no reference, and are neither
    offline nor part of a compound page; and of those among them that are bad."""
    frames = check.frames
    listed = check.free.view(np.uint64)
    words = np.flatnonzero(listed != EIGHT)
    eights = frames.eights[words]
    for kind in (KIND_ONE, KIND_ONE | KIND_RESERVED):
        keep = eights != np.uint64(kind * EIGHT)
        words, eights = words[keep], eights[keep]
    used = listed[words].view(np.bool_) | ~frames.ram.view(np.uint64)[words].view(np.bool_)
    counts = eights.view(np.uint8) & np.uint8(KIND_COUNTS)
    used |= counts == KIND_ONE
    places = np.flatnonzero(~used)
    at = words[places >> 3] << 3 | places & 7
    at = at[~check.compounds.members[at]]
    plain = frames.counting(at, KIND_FREE)
    loose = plain & ~check.offline[at]
    odd = np.flatnonzero(~plain)
    others = at[odd]
    unlisted = ~frames.has(others, KIND_BUDDY) & ~frames.unborn[others]
    loose[odd] = (frames.refcount[others] == 0) & unlisted
    at = at[loose]
    flagged = at[frames.has(at, KIND_FLAGGED)]
    bad = flagged[frames.flags[flagged] & PG_HWPOISON != 0]
    return np.asarray(at, dtype=np.intp), np.asarray(bad, dtype=np.intp)


def check_lost(check: Check) -> None:
    """Runs of frames without a reference: each must fill an aligned plain block.

    A bad frame without a reference is part of such a block, or one that the allocator has refused
    to hand out: whatever fits."""
    loose, bad = loose_frames(check)
    runs = misfits(check, np.setdiff1d(loose, bad) if bad.size else loose)
    lost = [np.arange(start, stop) for start, stop in runs]
    if bad.size and runs:
        either = misfits(check, loose)
        wrong = np.concatenate([np.arange(start, stop) for start, stop in either] or [bad[:0]])
        lost = [np.intersect1d(run, wrong) for run in lost]
    for run in lost:
        check.add_frames(
            "frame-lost",
            run,
            "has no reference and is on no list, but lies in no allocated block either",
            P_COUNTS,
        )


def misfits(check: Check, loose: npt.NDArray[np.intp]) -> list[list[int]]:
    """Runs (first, end) of `loose` frames that are not the tails of an allocated plain block."""
    if not loose.size:
        return []
    frames, free = check.frames, check.free
    last = np.concatenate((loose[1:] != loose[:-1] + 1, [True]))
    first = np.concatenate(([True], last[:-1]))
    head, end = loose[first] - 1, loose[last] + 1
    size = end - head
    at = np.maximum(head, 0)
    fits = (head >= 0) & (size & (size - 1) == 0) & (size <= 1 << (MAX_ORDER - 1))
    fits &= at & (size - 1) == 0
    fits &= (frames.refcount[at] > 0) & ~free[at] & ~check.compounds.members[at]
    fits &= (frames.flags[at] & PG_HEAD == 0) & frames.ram[at]
    fits &= (frames.flags[at] & PG_RESERVED == 0) | ~check.promised[at]
    if check.keys & KEY_PAGE_OWNER and check.ext_flags is not None:
        # page_owner knows the block's order: it need not be guessed
        owned = check.ext_flags[at] & PAGE_EXT_OWNER != 0
        order = ext_column(check, EXT_OWNER)[at] & 0xFFFF
        fits &= ~owned | (np.int64(1) << np.minimum(order, 62) == size)
    found: list[list[int]] = np.stack((head + 1, end), axis=1)[~fits].tolist()
    return found


def run(check: Check) -> None:
    """All rules about the states of frames."""
    check_free(check)
    check_counts(check)
    check_reserved(check)
    check_reserved_flags(check)
    check_lost(check)


register("frame_states", RULES, run, rank=90)
