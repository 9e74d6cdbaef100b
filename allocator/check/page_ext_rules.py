# SPDX-License-Identifier: GPL-2.0-only
"""What the debugging aids promise: guard blocks, page owners, poison.

Each holds only while its boot parameter is on: with page_poison=1 every free frame is filled with
0xAA bytes; with debug_guardpage_minorder the guards are blocks like free ones, on no list; with
page_owner=on an owner belongs to an allocated frame and to no free one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..debug_guardpage import EXT_FLAGS, PAGE_EXT_DEBUG_GUARD, PAGE_EXT_OWNER, PAGE_EXT_WORDS
from ..gfp import GFP_BITS_MASK
from ..kernel_globals import (
    G_GUARDPAGE_MINORDER,
    KEY_DEBUG_GUARDPAGE,
    KEY_PAGE_OWNER,
    KEY_PAGE_POISONING,
)
from ..layout import PAGE_POISON, PAGES_PER_SECTION, SECTION_PAGE_EXT, VMEMMAP_START
from ..mm_types import COUNTS_FREE, P_NEXT, P_PREV, P_PRIVATE, PAGE_WORDS, PG_HEAD
from ..mmzone import MAX_ORDER
from ..page_owner import EXT_OWNER, GFP_SHIFT
from ..page_poison import PAGE_POISON_WORD
from .frames import SECTION_WORDS
from .free_lists import coverage
from .registry import register

if TYPE_CHECKING:
    from .context import Check

    Index = npt.NDArray[np.intp]

RULES = {
    "page-ext-flags": "page_ext flags are guard and owner, and only if those features are on",
    "guard-block": "a guard is an aligned block below the minimum order, linked to itself",
    "guard-alone": "no frame of a guard block is on a list or in another block",
    "owner-free": "a free frame has no owner",
    "owner-order": "an owner's order is that of the block, and its gfp mask is one of 4.20's",
    "poison": "every byte of a free frame is 0xAA while page_poison is on",
}
POISON_CHUNK = 1024


@dataclass(frozen=True)
class Guards:
    """Guard blocks: array indices of their heads, orders, and the frames that they cover."""

    heads: Index
    order: npt.NDArray[np.int64]
    covered: npt.NDArray[np.bool_]


def ext_words(check: Check) -> dict[int, int]:
    """Word index of the page_ext array of every section, by place; those that are in RAM."""
    found = {}
    for i, section in enumerate(check.frames.sections):
        va = check.m[SECTION_PAGE_EXT + section * SECTION_WORDS]
        at = check.structure(va, PAGES_PER_SECTION * PAGE_EXT_WORDS) if va else -1
        if at >= 0:
            found[i] = at
        elif va:
            where = f"section {section}"
            word = SECTION_PAGE_EXT + section * SECTION_WORDS
            check.add("section-page-ext", where, "its page extensions are not in RAM", word)
    return found


def ext_column(check: Check, offset: int) -> npt.NDArray[np.int64]:
    """Word `offset` of every frame's page_ext, 0 where there is none."""
    column = np.zeros(check.frames.size, dtype=np.int64)
    for i, at in ext_words(check).items():
        rows = check.q[at : at + PAGES_PER_SECTION * PAGE_EXT_WORDS].reshape(-1, PAGE_EXT_WORDS)
        column[i * PAGES_PER_SECTION : (i + 1) * PAGES_PER_SECTION] = rows[:, offset]
    return column


def read_guards(check: Check) -> Guards:
    """Verifies the guard blocks; none if guards are off."""
    frames = check.frames
    nothing = np.zeros(0, dtype=np.intp)
    flags = check.ext_flags
    if not check.keys & KEY_DEBUG_GUARDPAGE or flags is None:
        return Guards(nothing, nothing.astype(np.int64), frames.nowhere())
    heads = np.flatnonzero(flags & PAGE_EXT_DEBUG_GUARD)
    order = frames.column(heads, P_PRIVATE)
    limit = min(check.m[G_GUARDPAGE_MINORDER], MAX_ORDER)
    own = VMEMMAP_START + (frames.pfns(heads) << 6) + 8
    sane = (order >= 0) & (order < limit)
    sane &= frames.pfns(heads) & ((np.int64(1) << np.clip(order, 0, 10)) - 1) == 0
    linked = (frames.column(heads, P_NEXT) == own) & (frames.column(heads, P_PREV) == own)
    check.add_frames("guard-block", heads[~sane], "guard of an impossible order", P_PRIVATE)
    check.add_frames("guard-block", heads[sane & ~linked], "guard that is linked", P_NEXT)
    check.add_frames(
        "guard-block",
        heads[sane & (frames.counts[heads] != COUNTS_FREE)],
        lambda i: f"guard with refcount {int(frames.refcount[i])}",
    )
    heads, order = heads[sane], order[sane]
    cover = coverage(frames.size, heads, np.int64(1) << order)
    covered = cover > 0
    twice = covered & check.free_blocks.covered
    twice[check.pcp_pages.pages] |= covered[check.pcp_pages.pages]
    twice |= cover > 1
    check.add_frames("guard-alone", np.flatnonzero(twice), "in a guard block and listed as well")
    return Guards(heads, order, covered)


def check_ext_flags(check: Check) -> None:
    """Only the bits of what is on."""
    flags = check.ext_flags
    if flags is None:
        return
    allowed = 0
    if check.keys & KEY_DEBUG_GUARDPAGE:
        allowed |= PAGE_EXT_DEBUG_GUARD
    if check.keys & KEY_PAGE_OWNER:
        allowed |= PAGE_EXT_OWNER
    bad = np.flatnonzero(flags & ~np.int64(allowed))
    values = dict(zip(bad.tolist(), flags[bad].tolist(), strict=True))
    for index in bad[:64].tolist():
        pfn = check.frames.pfn(index)
        check.add_frame(
            "page-ext-flags",
            pfn,
            f"page_ext flags are {values[index]:#x}",
            address=ext_address(check, index, EXT_FLAGS),
        )


def ext_address(check: Check, index: int, offset: int) -> int:
    """Physical address of a word of a frame's page_ext."""
    at = ext_words(check)[index // PAGES_PER_SECTION]
    return at + index % PAGES_PER_SECTION * PAGE_EXT_WORDS + offset << 3


def check_owners(check: Check) -> None:
    """page_owner=on."""
    flags, frames, free = check.ext_flags, check.frames, check.free
    if flags is None or not check.keys & KEY_PAGE_OWNER:
        return
    owned = flags & PAGE_EXT_OWNER != 0
    for index in np.flatnonzero(owned & free)[:64].tolist():
        at = ext_address(check, index, EXT_FLAGS)
        check.add_frame("owner-free", frames.pfn(index), "free, yet it has an owner", address=at)
    words = ext_column(check, EXT_OWNER)
    heads = np.flatnonzero(owned & ~free)
    order, gfp = words[heads] & 0xFFFF, words[heads] >> GFP_SHIFT & 0xFFFFFFFF
    bad = (order >= MAX_ORDER) | (gfp & ~np.int64(GFP_BITS_MASK) != 0)
    bad |= frames.pfns(heads) & ((np.int64(1) << np.minimum(order, 10)) - 1) != 0
    head = (frames.flags[heads] & PG_HEAD != 0) & ~bad
    first = np.minimum(heads + 1, frames.size - 1)
    bad |= head & ((frames.column(first, P_PREV) >> 8 & 0xFF) != order)
    # the frames behind the head of a plain block have no reference
    plain = ~bad & (order > 0) & (frames.flags[heads] & PG_HEAD == 0)
    bad |= plain & (frames.refcount[first] != 0) & (frames.refcount[heads] > 0)
    for i in np.flatnonzero(bad)[:64].tolist():
        index = int(heads[i])
        text = f"owner of order {int(order[i])} with gfp {int(gfp[i]):#x} does not fit the block"
        at = ext_address(check, index, EXT_OWNER)
        check.add_frame("owner-order", frames.pfn(index), text, address=at)


def check_poison(check: Check) -> None:
    """page_poison=1: the contents of free frames."""
    if not check.keys & KEY_PAGE_POISONING:
        return
    for start, count in poison_chunks(check.free & check.frames.ram):
        pfn = check.frames.pfn(start)
        wrong = check.q[pfn * PAGE_WORDS : (pfn + count) * PAGE_WORDS] != PAGE_POISON_WORD
        if wrong.any():
            pages = np.flatnonzero(wrong.reshape(-1, PAGE_WORDS).any(axis=1))
            for page in pages.tolist():
                _report_poison(check, pfn + page)


def poison_chunks(chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """(array index, number) of runs of chosen frames; a run stays in one aligned chunk, so its
    frames are neighbours in RAM and comparing them needs little memory."""
    for base in range(0, chosen.size, POISON_CHUNK):
        part = chosen[base : base + POISON_CHUNK]
        padded = np.concatenate(([False], part, [False]))
        edges = np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)
        for first, stop in edges.tolist():
            yield base + first, stop - first


def _report_poison(check: Check, pfn: int) -> None:
    raw = np.frombuffer(check.memory.bytes[pfn << 12 : (pfn + 1) << 12], dtype=np.uint8)
    at = int(np.argmax(raw != PAGE_POISON))
    text = f"free but not poison: byte {at:#x} is {int(raw[at]):#04x}, not {PAGE_POISON:#04x}"
    check.add_frame("poison", pfn, text, address=(pfn << 12) + at)


def run(check: Check) -> None:
    """All rules about page extensions and poison."""
    check_ext_flags(check)
    check_owners(check)
    check_poison(check)


register("page_ext", RULES, run, rank=80)
