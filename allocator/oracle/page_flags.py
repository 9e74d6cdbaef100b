# SPDX-License-Identifier: GPL-2.0-only
"""Page flags of a STATE: ranges of reserved, LRU, slab, compound and movable frames.

`mark_pages` sets them on the struct pages of a machine that is being loaded, `flag_ranges` reads
them back as the ranges that a STATE would print. `lru` in a STATE means "counts as movable in a
steal": PageLRU or __PageMovable; `movable` lists the latter alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from machine.errors import ImageError

from ..layout import PAGE_OFFSET, VMEMMAP_START
from ..mm_types import (
    COMPOUND_MAPCOUNT_ONE,
    COMPOUND_PAGE_DTOR,
    COUNTS_FREE,
    COUNTS_ONE,
    NODES_MASK,
    NODES_PGSHIFT,
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    P_NEXT,
    P_PREV,
    PAGE_MAPPING_FLAGS,
    PAGE_MAPPING_MOVABLE,
    PG_BUDDY_TYPE,
    PG_HEAD,
    PG_LRU,
    PG_RESERVED,
    PG_SLAB,
    TAIL_MAPPING,
    ZONES_MASK,
    ZONES_PGSHIFT,
)
from ..mmzone import MAX_ORDER
from .guest import Guest, Words

DRIVER_MAPPING = PAGE_OFFSET | PAGE_MAPPING_MOVABLE
Mask = npt.NDArray[np.bool_]


def ranges_to_frames(ranges: list[list[int]], what: str) -> Words:
    """All frames of [start, length] ranges. Raises ImageError for an absurd range."""
    parts = []
    for start, length in ((r[0], r[1]) for r in ranges):
        if start < 0 or not 0 < length <= 1 << 30:
            raise ImageError(f"{what}: range [{start}, {length}]")
        parts.append(np.arange(start, start + length, dtype=np.int64))
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def mark_pages(guest: Guest, state: dict[str, Any]) -> None:
    """Sets the recorded flags on the struct pages. Raises ImageError for frames without one."""
    for zone in state["zones"]:
        where = f"STATE {state['tag']} zone {zone['nid']}:{zone['zid']}"
        movable = ranges_to_frames(zone.get("movable") or [], f"{where} movable")
        lru = ranges_to_frames(zone.get("lru") or [], f"{where} lru")
        for frames, flag in (
            (ranges_to_frames(zone.get("reserved") or [], f"{where} reserved"), PG_RESERVED),
            (np.setdiff1d(lru, movable), PG_LRU),
            (ranges_to_frames(zone.get("slab") or [], f"{where} slab"), PG_SLAB),
        ):
            guest.q[checked_pages(guest, frames, where) + P_FLAGS] |= flag
        guest.q[checked_pages(guest, movable, where) + P_MAPPING] = DRIVER_MAPPING
        for start, length in ((r[0], r[1]) for r in zone.get("compound") or []):
            mark_compound(guest, start, length, where)


def checked_pages(guest: Guest, frames: Words, where: str) -> Words:
    """Word indices of the frames' struct pages. Raises ImageError when one has none."""
    if frames.size and not (
        guest.pfn_valid(int(frames.min())) and guest.pfn_valid(int(frames.max()))
    ):
        raise ImageError(f"{where}: frames outside the memory")
    words = guest.page_words(frames)
    if words.size and int((guest.section_bases()[frames >> 15] == 0).sum()):
        raise ImageError(f"{where}: frames without a struct page")
    return words


def mark_compound(guest: Guest, start: int, length: int, where: str) -> None:
    """Makes compound pages of a range: the largest aligned ones, from its start on."""
    checked_pages(guest, np.array([start, start + length - 1], dtype=np.int64), where)
    pfn = start
    while pfn < start + length:
        order = min(MAX_ORDER - 1, (pfn & -pfn).bit_length() - 1 if pfn else MAX_ORDER - 1)
        while pfn + (1 << order) > start + length:
            order -= 1
        make_compound(guest, pfn, order)
        pfn += 1 << order


def make_compound(guest: Guest, pfn: int, order: int) -> None:
    """Makes the block at `pfn` one compound page."""
    m = guest.m
    head = guest.page(pfn)
    m[head + P_FLAGS] |= PG_HEAD
    if m[head + P_NEXT] & 1:
        # it was the tail of a larger one
        m[head + P_NEXT] = m[head + P_MAPPING] = 0
        m[head + P_COUNTS] = COUNTS_ONE
    if order:
        m[head + 8 + P_PREV] = (COMPOUND_PAGE_DTOR | order << 8) - COMPOUND_MAPCOUNT_ONE
    for tail in range(head + 8, head + (8 << order), 8):
        m[tail + P_NEXT] = VMEMMAP_START + (pfn << 6) + 1
        m[tail + P_COUNTS] = COUNTS_FREE
        m[tail + P_MAPPING] = TAIL_MAPPING


def zone_members(guest: Guest, nid: int, zid: int, start: int, spanned: int) -> Mask:
    """True for every frame of the span whose struct page names that zone (a mask of the span)."""
    flags = guest.column(start, spanned, P_FLAGS)
    mine: Mask = ((flags >> NODES_PGSHIFT) & NODES_MASK == nid) & (
        (flags >> ZONES_PGSHIFT) & ZONES_MASK == zid
    )
    return mine


def flag_masks(guest: Guest, start: int, spanned: int) -> dict[str, Mask]:
    """Which frames of a span have each flag, under a STATE's names."""
    flags = guest.column(start, spanned, P_FLAGS)
    mapping = guest.column(start, spanned, P_MAPPING)
    counts = guest.column(start, spanned, P_COUNTS)
    # compound_head is odd; the links and the poison of pages on and off lists are even
    tail = guest.column(start, spanned, P_NEXT) & 1 == 1
    movable = mapping & PAGE_MAPPING_FLAGS == PAGE_MAPPING_MOVABLE
    buddy = counts & PG_BUDDY_TYPE == 0
    return {
        "reserved": flags & PG_RESERVED != 0,
        "lru": (flags & PG_LRU != 0) | movable,
        "slab": flags & PG_SLAB != 0,
        "compound": (flags & PG_HEAD != 0) | tail & ~buddy,
        "movable": movable,
    }


def range_mask(ranges: list[list[int]], start: int, spanned: int) -> Mask:
    """The frames of [start, length] ranges as a mask of a span."""
    mask = np.zeros(spanned, dtype=np.bool_)
    for first, length in ((r[0] - start, r[1]) for r in ranges):
        mask[max(0, first) : max(0, first + length)] = True
    return mask
