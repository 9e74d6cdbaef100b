# SPDX-License-Identifier: GPL-2.0-only
"""Rules about the memory map: mem_section[], where its tables lie, what page flags name."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..layout import (
    PAGES_PER_SECTION,
    PFN_SECTION_SHIFT,
    SECTION_HAS_MEM_MAP,
    SECTION_IS_ONLINE,
    SECTION_MARKED_PRESENT,
    SECTION_MEM_MAP,
    SECTION_PAGE_EXT,
    SECTION_PAGES,
    SECTION_USEMAP,
    USEMAP_WORDS,
    VMEMMAP_START,
)
from ..memmap_scan import KIND_COUNTS, KIND_STRAY, KIND_ZERO
from .frames import MEMMAP_WORDS, SECTION_WORDS
from .registry import register

if TYPE_CHECKING:
    from .context import Check, ZoneHandle

SECTION_FLAGS = SECTION_MARKED_PRESENT | SECTION_HAS_MEM_MAP | SECTION_IS_ONLINE
RULES = {
    "section-entry": "mem_section of a present section points at vmemmap, of an absent one is zero",
    "section-memmap": "struct pages of a present section are in RAM and no other section's",
    "section-usemap": "pageblock bits of a present section are in RAM and no other section's",
    "section-page-ext": "a section has page extensions in RAM exactly if the others have",
    "page-flag-bits": "page flags have no bits between the PG_ bits and the zone bits",
    "page-zone": "the node and zone in page flags are those that memmap_init_zone gave the frame",
}


def check_sections(check: Check) -> None:
    """mem_section[]: every entry whole, every table in RAM and alone there."""
    frames, m = check.frames, check.m
    tables: list[tuple[int, int, str, int]] = []
    has_ext = sum(m[SECTION_PAGE_EXT + s * SECTION_WORDS] != 0 for s in frames.marked)
    for s in frames.marked:
        at, where = s * SECTION_WORDS, f"section {s}"
        if m[SECTION_MEM_MAP + at] != VMEMMAP_START | SECTION_FLAGS:
            check.add(
                "section-entry", where, "section_mem_map is not vmemmap", SECTION_MEM_MAP + at
            )
        if s in check.deferred.sections:
            pass
        elif frames.slot[s] < 0:
            check.add(
                "section-memmap", where, "its struct pages are not in RAM", SECTION_PAGES + at
            )
        else:
            first = frames.page_word(s << PFN_SECTION_SHIFT)
            tables.append((first, MEMMAP_WORDS, "section-memmap", SECTION_PAGES + at))
        usemap = check.structure(m[SECTION_USEMAP + at], USEMAP_WORDS)
        if usemap < 0:
            check.add(
                "section-usemap", where, "its pageblock bits are not in RAM", SECTION_USEMAP + at
            )
        else:
            tables.append((usemap, USEMAP_WORDS, "section-usemap", SECTION_USEMAP + at))
        ext = m[SECTION_PAGE_EXT + at]
        # a section that begins with a hole may be left out (early_pfn_to_nid)
        whole = frames.index(s << PFN_SECTION_SHIFT) >= 0 and (
            s == 0 or bool(frames.ram[frames.index(s << PFN_SECTION_SHIFT)])
        )
        if whole and bool(ext) != (2 * has_ext > len(frames.marked)):
            check.add(
                "section-page-ext",
                where,
                f"page_ext is {'set' if ext else 'missing'}, unlike the other sections'",
                SECTION_PAGE_EXT + at,
            )
    tables.sort()
    for (first, words, _, _), (start, _, rule, word) in pairwise(tables):
        if start < first + words:
            section = (word - SECTION_MEM_MAP) // SECTION_WORDS
            check.add(rule, f"section {section}", "its table lies in another section's", word)


def expected_ids(check: Check) -> npt.NDArray[np.uint8]:
    """Node and zone of every frame, replayed from the zones' spans and memblock's regions.

    Nodes in id order, zones upwards: each takes the frames of its span but for those of another
    node's memory, and then, the quirk of 4.20, all from its end to the end of that section.
    """
    frames = check.frames
    ids = np.zeros(frames.size, dtype=np.uint8)
    for zone in check.zones:
        for start, end in zone_claims(check, zone):
            for part in frames.spans(start, end):
                ids[part] = zone.ident
    return ids


def zone_claims(check: Check, zone: ZoneHandle) -> list[tuple[int, int]]:
    """The ranges that memmap_init_zone() initialises for a zone, its section's tail last."""
    claims = []
    at = zone.start
    for start, end, nid in check.memory_regions:
        if nid != zone.nid and end > at and start < zone.end:
            if at < start:
                claims.append((at, start))
            at = min(end, zone.end)
    if at < zone.end:
        claims.append((at, zone.end))
    tail = -(-zone.end // PAGES_PER_SECTION) * PAGES_PER_SECTION
    if tail > zone.end:
        claims.append((zone.end, tail))
    return claims


def check_flags(check: Check) -> None:
    """What page flags say apart from the PG_ bits."""
    frames = check.frames
    check.add_frames(
        "page-flag-bits",
        frames.where(KIND_STRAY),
        "flags has bits that mean nothing set",
        0,
    )
    if check.replayed:
        wrong = np.ones(frames.size, dtype=np.bool_)
        for zone in check.zones:
            for start, end in zone_claims(check, zone):
                for part in frames.spans(start, end):
                    wrong[part] &= frames.ids[part] != zone.ident
        wrong &= ~frames.unborn
    else:
        expected = expected_ids(check)
        if not (frames.ids.view(np.uint64) != expected.view(np.uint64)).any():
            return
        wrong = frames.ids != expected
        # a frame is wrong only if its memory is there: nobody asks for the zone of a hole
        if wrong.any():
            wrong &= frames.ram | (frames.kinds & np.uint8(KIND_COUNTS) != KIND_ZERO)
            wrong &= ~frames.deferred

    def text(index: int) -> str:
        ident = int(frames.ids[index])
        said = f"flags name zone {ident >> 2}:{ident & 3}"
        if check.replayed:
            return f"{said}, which does not reach the frame"
        right = int(expected[index])
        return f"{said}, but the frame belongs to zone {right >> 2}:{right & 3}"

    check.add_frames("page-zone", np.flatnonzero(wrong), text, 0)


def run(check: Check) -> None:
    """Sections, then flags."""
    check_sections(check)
    check_flags(check)


register("memmap", RULES, run, rank=20)
