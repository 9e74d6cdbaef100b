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
from ..layout import (
    G_MM_INIT_DONE,
    G_TOTALRAM,
    KEY_PAGE_OWNER,
    MAX_MEM_CGROUPS,
    MEM_CGROUP_WORDS,
    MEM_CGROUPS,
    PAGE_OFFSET,
)
from ..memmap_scan import KIND_BUDDY, KIND_FREE, KIND_ONE, KIND_RESERVED
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
    odd = free & (frames.kinds != KIND_FREE)
    odd &= frames.kinds != KIND_BUDDY
    suspects = np.flatnonzero(odd)
    if not suspects.size:
        return
    covered = check.free_blocks.covered[suspects]
    covered &= ~np.isin(suspects, check.free_blocks.heads)
    inside = covered | check.guards.covered[suspects]
    inside &= ~np.isin(suspects, check.free_blocks.heads)
    looks_free = frames.counting(KIND_FREE)[suspects] | frames.buddy[suspects]
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
    owned = suspects[frames.owned[suspects]]
    mapped = frames.column(owned, P_MAPPING) != 0
    for chosen, name, offset in (
        (owned[mapped], "mapping", P_MAPPING),
        (owned[~mapped], "mem_cgroup", P_MEMCG),
    ):
        texts = {i: f"{state_of(check, i)} but has a {name}" for i in chosen[:LIMIT].tolist()}
        check.add_frames("free-owner", chosen, texts.__getitem__, offset)
    check.add_frames(
        "free-tail",
        suspects[covered & frames.tail[suspects]],
        lambda i: f"{state_of(check, i)} but says that it is a tail page",
        1,
    )


def check_counts(check: Check) -> None:
    """Reference counts, mapcounts and page types of all frames that are not free."""
    frames, free = check.frames, check.free
    check.add_frames(
        "refcount-negative",
        frames.odd[frames.refcount[frames.odd] < 0],
        lambda i: f"refcount is {int(frames.refcount[i])}",
    )
    kinds = frames.page_type
    odd = frames.odd[~(free[frames.odd] | frames.buddy[frames.odd] | frames.unborn[frames.odd])]
    odd = odd[kinds[odd] != MAPCOUNT_MASK]
    if odd.size:
        value = kinds[odd].astype(np.int64)
        typed = (value & _TYPE_BASE == _TYPE_BASE) & (value | _TYPES == MAPCOUNT_MASK)
        if check.m[G_MM_INIT_DONE]:
            # owner_rules compare mapcounts with the page tables
            typed |= value < _TYPE_BASE
        check.add_frames(
            "page-type",
            odd[~typed],
            lambda i: f"page_type is {int(kinds[i]):#010x}: neither unmapped nor a known type",
        )
    owned = np.flatnonzero(frames.owned & ~free) if frames.owned.any() else frames.odd[:0]
    if owned.size:
        groups = frames.column(owned, P_MEMCG)
        at = (groups - PAGE_OFFSET) - (MEM_CGROUPS << 3)
        size = MEM_CGROUP_WORDS << 3
        good = (groups == 0) | ((at >= 0) & (at < MAX_MEM_CGROUPS * size) & (at % size == 0))
        check.add_frames("allocated-memcg", owned[~good], "mem_cgroup is no control group", P_MEMCG)


def check_reserved(check: Check) -> None:
    """Frames that boot set aside, and frames that are no RAM."""
    frames, free = check.frames, check.free
    at = np.flatnonzero(frames.reserved & (frames.kinds != KIND_RESERVED | KIND_ONE))
    odd = frames.ram[at] & ~free[at] & ~frames.buddy[at] & ~check.offline[at]
    odd &= ~frames.counting(KIND_ONE)[at] | frames.owned[at]
    # memory_failure() keeps the reference of a page that it can do nothing about
    odd &= ~((frames.flags[at] & PG_HWPOISON != 0) & (frames.refcount[at] == 2))
    check.add_frames(
        "reserved-state",
        at[odd],
        lambda i: (
            f"reserved but refcount is {int(frames.refcount[i])}, page_type "
            f"{int(frames.page_type[i]):#010x}{', and it has an owner' if frames.owned[i] else ''}"
        ),
    )
    at = np.flatnonzero(~frames.ram)
    counts = frames.counts[at]
    odd = (counts != 0) & (counts != COUNTS_ONE) | frames.owned[at] | free[at]
    odd |= frames.flags[at] & ~np.uint32(PG_RESERVED) != 0
    check.add_frames("hole-state", at[odd], "no RAM is there, yet its page is in use")


def promised(check: Check) -> npt.NDArray[np.bool_]:
    """Frames of RAM that memblock reserved; some may have been released since."""
    if check.replayed:
        return check.frames.ram
    return check.frames.mask(check.reserved_regions) & check.frames.ram


def check_reserved_flags(check: Check) -> None:
    """PG_reserved against memblock.reserved. Reserved memory may have been released since, as CMA
    areas are; it is then managed, so only a zone that manages too little is searched for it."""
    if check.replayed or not check.m[G_TOTALRAM]:
        return
    frames = check.frames
    due = promised(check)
    at = np.flatnonzero(frames.reserved & ~due)
    at = at[frames.ram[at] & ~check.free[at] & ~check.offline[at]]
    check.add_frames("reserved-flag", at, "PG_reserved, but not since boot", P_FLAGS)
    plain = frames.count_by_zone(frames.unreserved)
    for zone in check.zones:
        if plain[zone.ident] > zone.managed:
            lost = due & ~(frames.reserved | check.free | frames.unborn)
            lost &= frames.ids == zone.ident
            text = "reserved at boot, but PG_reserved is gone and no zone manages it"
            check.add_frames("reserved-flag", np.flatnonzero(lost), text, P_FLAGS)


def check_lost(check: Check) -> None:
    """Runs of frames without a reference: each must fill an aligned plain block.

    A bad frame without a reference is part of such a block, or one that the allocator has refused
    to hand out: whatever fits."""
    frames, free = check.frames, check.free
    loose = frames.counting(KIND_FREE) & ~free & frames.ram & ~check.offline
    odd = frames.odd
    unlisted = ~(free[odd] | frames.buddy[odd] | frames.unborn[odd]) & frames.ram[odd]
    loose[odd] = (frames.refcount[odd] == 0) & unlisted
    if check.compounds.members.any():
        loose &= ~check.compounds.members
    bad = loose & (frames.flags & PG_HWPOISON != 0)
    runs = misfits(check, loose & ~bad)
    lost = np.zeros(loose.size, dtype=np.bool_)
    if bad.any() and runs:
        for first, stop in misfits(check, loose):
            lost[first:stop] = True
    else:
        lost[:] = True
    for first, stop in runs:
        check.add_frames(
            "frame-lost",
            first + np.flatnonzero(lost[first:stop]),
            "has no reference and is on no list, but lies in no allocated block either",
            P_COUNTS,
        )


def misfits(check: Check, loose: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Runs (first, end) of `loose` frames that are not the tails of an allocated plain block."""
    if not loose.any():
        return []
    frames, free = check.frames, check.free
    padded = np.concatenate(([False], loose, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)
    head, end = edges[:, 0] - 1, edges[:, 1]
    size = end - head
    at = np.maximum(head, 0)
    fits = (head >= 0) & (size & (size - 1) == 0) & (size <= 1 << (MAX_ORDER - 1))
    fits &= at & (size - 1) == 0
    fits &= (frames.refcount[at] > 0) & ~free[at] & ~check.compounds.members[at]
    fits &= (frames.flags[at] & PG_HEAD == 0) & frames.ram[at]
    fits &= (frames.flags[at] & PG_RESERVED == 0) | ~promised(check)[at]
    if check.keys & KEY_PAGE_OWNER and check.ext_flags is not None:
        # page_owner knows the block's order: it need not be guessed
        owned = check.ext_flags[at] & PAGE_EXT_OWNER != 0
        order = ext_column(check, EXT_OWNER)[at] & 0xFFFF
        fits &= ~owned | (np.int64(1) << np.minimum(order, 62) == size)
    found: list[list[int]] = edges[~fits].tolist()
    return found


def run(check: Check) -> None:
    """All rules about the states of frames."""
    check_free(check)
    check_counts(check)
    check_reserved(check)
    check_reserved_flags(check)
    check_lost(check)


register("frame_states", RULES, run, rank=90)
