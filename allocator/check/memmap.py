# SPDX-License-Identifier: GPL-2.0-only
"""The memory map as compact arrays: one pass over all struct pages, a section at a time.

A machine's sections may lie far apart; the arrays hold the frames of the present sections one
behind the other. An *index* counts in that numbering, `pfns` and `indices` convert. What the
checkers ask of every frame is copied out by `memmap_scan`, on whatever engine serves the process:
counts, the PG_ bits, node and zone, and the frame's kind. Rules about all frames are best put as
questions about kinds, a byte a frame, and about `odd`, the few whose counts say more.
"""

from __future__ import annotations

import os
import threading
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..engine import current_engine
from ..layout import (
    MEM_SECTION,
    NR_MEM_SECTIONS,
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
from ..memmap_scan import (
    KIND_BUDDY,
    KIND_COUNTS,
    KIND_FLAGGED,
    KIND_ORDINARY,
    KIND_OWNED,
    KIND_RESERVED,
    KIND_STRAY,
    KIND_TAIL,
    KIND_ZERO,
)
from ..mm_types import PG_RESERVED, STRUCT_PAGE_WORDS
from ..mmzone import PAGEBLOCK_NR_PAGES
from .registry import register

if TYPE_CHECKING:
    from .context import Check, ZoneHandle

    Mask = npt.NDArray[np.bool_]
    Index = npt.NDArray[np.intp]

SECTION_FLAGS = SECTION_MARKED_PRESENT | SECTION_HAS_MEM_MAP | SECTION_IS_ONLINE
SECTION_WORDS = MEM_SECTION.words
MEMMAP_WORDS = PAGES_PER_SECTION * STRUCT_PAGE_WORDS
_LOW = PAGES_PER_SECTION - 1
SECTIONS_PER_THREAD = 4
MAX_THREADS = 8
MAX_RUNS = 4096
"""Runs of frames of one zone that are looked at one by one."""


class Frames:
    """All struct pages of the sections whose memory map could be read.

    `counts` int64 (_refcount << 32 | page type), `flags` uint32 (the low half of page->flags),
    `ids` uint8 (node << 2 | zone), `kinds` uint8 (`memmap_scan.KIND_`).
    """

    def __init__(self, check: Check) -> None:
        self.check = check
        self.slot = np.full(NR_MEM_SECTIONS, -1, dtype=np.int64)
        """Place of a section in the arrays, -1 if it is absent."""
        table = check.q[SECTION_MEM_MAP : SECTION_MEM_MAP + NR_MEM_SECTIONS * SECTION_WORDS]
        marked = np.flatnonzero(table.reshape(-1, SECTION_WORDS).any(axis=1)).tolist()
        self.marked: list[int] = marked
        """Sections that have anything in their mem_section entry."""
        waiting = check.deferred.sections
        self.sections = [s for s in marked if s not in waiting and self._base(s) >= 0]
        self.slot[self.sections] = np.arange(len(self.sections))
        self.section_of = np.array(self.sections, dtype=np.int64)
        self.base_of = np.array([self._base(s) for s in self.sections], dtype=np.int64)
        n = self.size = len(self.sections) * PAGES_PER_SECTION
        self.counts = np.empty(n, dtype=np.int64)
        self.flags = np.empty(n, dtype=np.uint32)
        self.ids = np.empty(n, dtype=np.uint8)
        self.kinds = np.empty(n, dtype=np.uint8)
        self._read_all()

    def _base(self, section: int) -> int:
        """SECTION_PAGES of a section, -1 unless all its struct pages are in RAM."""
        base: int = self.check.m[SECTION_PAGES + section * SECTION_WORDS]
        first = base + (section << PFN_SECTION_SHIFT) * STRUCT_PAGE_WORDS
        if self.check.m[SECTION_MEM_MAP + section * SECTION_WORDS] == 0:
            return -1
        return base if self.check.is_ram(first, MEMMAP_WORDS) else -1

    def _read_all(self) -> None:
        """Reads all sections; compiled code, which needs no interpreter, in several threads."""
        threads = min(len(self.sections) // SECTIONS_PER_THREAD, os.cpu_count() or 1, MAX_THREADS)
        if current_engine().name != "compiled" or threads < 2:
            self._read_some(0, 1)
            return
        helpers = [
            threading.Thread(target=self._read_some, args=(start, threads))
            for start in range(1, threads)
        ]
        for helper in helpers:
            helper.start()
        self._read_some(0, threads)
        for helper in helpers:
            helper.join()

    def _read_some(self, start: int, step: int) -> None:
        for i in range(start, len(self.sections), step):
            self._read(i, self.sections[i])

    def _read(self, i: int, section: int) -> None:
        first = int(self.base_of[i]) + (section << PFN_SECTION_SHIFT) * STRUCT_PAGE_WORDS
        part = slice(i * PAGES_PER_SECTION, (i + 1) * PAGES_PER_SECTION)
        arrays = (self.counts, self.flags, self.ids, self.kinds)
        words = (array[part].view(np.int64).data for array in arrays)
        scan = current_engine().functions["scan_pages"]
        scan(self.check.m, first, PAGES_PER_SECTION, *words)

    # --- numbering ------------------------------------------------------------------------------
    def pfns(self, indices: Index) -> npt.NDArray[np.int64]:
        """Frame numbers of array indices."""
        at = np.asarray(indices, dtype=np.int64)
        first = self.section_of[at >> PFN_SECTION_SHIFT] << PFN_SECTION_SHIFT
        return np.asarray(first | (at & _LOW), dtype=np.int64)

    def pfn(self, index: int) -> int:
        """Frame number of one array index."""
        return self.sections[index >> PFN_SECTION_SHIFT] << PFN_SECTION_SHIFT | index & _LOW

    def index(self, pfn: int) -> int:
        """Array index of a frame, -1 if it has no readable struct page."""
        section = pfn >> PFN_SECTION_SHIFT
        slot = int(self.slot[section]) if 0 <= section < NR_MEM_SECTIONS else -1
        return slot << PFN_SECTION_SHIFT | pfn & _LOW if slot >= 0 else -1

    def words(self, indices: Index) -> npt.NDArray[np.int64]:
        """Word indices of the struct pages at array indices."""
        at = np.asarray(indices, dtype=np.int64)
        words = self.base_of[at >> PFN_SECTION_SHIFT] + self.pfns(at) * STRUCT_PAGE_WORDS
        return np.asarray(words, dtype=np.int64)

    def column(self, indices: Index, offset: int) -> npt.NDArray[np.int64]:
        """Word `offset` of the struct pages at array indices."""
        return np.asarray(self.check.q[self.words(indices) + offset], dtype=np.int64)

    def page_word(self, pfn: int) -> int:
        """Word index of the struct page of `pfn`, which must be in the arrays."""
        at = int(self.slot[pfn >> PFN_SECTION_SHIFT])
        return int(self.base_of[at]) + pfn * STRUCT_PAGE_WORDS

    def spans(self, start: int, end: int) -> list[slice]:
        """The frames [start, end) as slices of the arrays, absent sections left out."""
        parts = []
        first, last = start >> PFN_SECTION_SHIFT, end - 1 >> PFN_SECTION_SHIFT
        for section in (
            self.sections if last - first > len(self.sections) else range(first, last + 1)
        ):
            if not first <= section <= last or self.slot[section] < 0:
                continue
            base = section << PFN_SECTION_SHIFT
            at = int(self.slot[section]) << PFN_SECTION_SHIFT
            lo, hi = max(start - base, 0), min(end - base, PAGES_PER_SECTION)
            parts.append(slice(at + lo, at + hi))
        return parts

    def mask(self, ranges: list[tuple[int, int]]) -> Mask:
        """True for the frames of some [start, end) ranges."""
        mask = np.zeros(self.size, dtype=np.bool_)
        for start, end in ranges:
            for part in self.spans(start, end):
                mask[part] = True
        return mask

    # --- derived --------------------------------------------------------------------------------
    @cached_property
    def refcount(self) -> npt.NDArray[np.int32]:
        """_refcount of every frame."""
        return self.counts.view(np.int32)[1::2]

    @cached_property
    def page_type(self) -> npt.NDArray[np.uint32]:
        """_mapcount or page type of every frame, as unsigned 32 bits."""
        return self.counts.view(np.uint32)[::2]

    @cached_property
    def seen(self) -> int:
        """All bits of all kinds: most machines have no frame of some kinds."""
        return int(np.bitwise_or.reduce(self.kinds)) if self.size else 0

    def _kind(self, bit: int) -> Mask:
        if not self.seen & bit:
            return np.zeros(self.size, dtype=np.bool_)
        return np.asarray(self.kinds & np.uint8(bit) != 0)

    @cached_property
    def buddy(self) -> Mask:
        """PageBuddy."""
        return self._kind(KIND_BUDDY)

    @cached_property
    def stray(self) -> Mask:
        """Frames with flag bits that mean nothing."""
        return self._kind(KIND_STRAY)

    @cached_property
    def owned(self) -> Mask:
        """Frames with a mapping or a control group."""
        return self._kind(KIND_OWNED)

    @cached_property
    def tail(self) -> Mask:
        """Frames whose lru.next is odd (compound_head)."""
        return self._kind(KIND_TAIL)

    @cached_property
    def reserved(self) -> Mask:
        """PG_reserved."""
        return self._kind(KIND_RESERVED)

    @cached_property
    def flagged(self) -> Mask:
        """Frames with PG_ bits other than PG_reserved."""
        return self._kind(KIND_FLAGGED)

    @cached_property
    def unreserved(self) -> Mask:
        """Frames of RAM without PG_reserved."""
        return self.ram & ~self.reserved

    def counting(self, counts: int) -> Mask:
        """Frames whose counts are of one kind: KIND_FREE, KIND_ONE or KIND_ZERO."""
        return np.asarray(self.kinds & np.uint8(KIND_COUNTS) == np.uint8(counts))

    @cached_property
    def odd(self) -> Index:
        """Array indices of the frames whose counts are neither COUNTS_FREE nor COUNTS_ONE."""
        return np.flatnonzero(self.kinds & np.uint8(KIND_ORDINARY) == 0)

    @cached_property
    def ram(self) -> Mask:
        """Frames that memblock has as memory; where unknown, those that a zone initialised."""
        if self.check.replayed:
            return np.asarray(~self.counting(KIND_ZERO) | (self.ids != 0))
        return self.mask([(start, end) for start, end, _ in self.check.memory_regions])

    @cached_property
    def unborn(self) -> Mask:
        """Struct pages that nobody initialised: counts and zone zero, as zero_resv_unavail() leaves
        those of holes and of memory whose node never went online (boot may have reserved them)."""
        blank = np.zeros(self.size, dtype=np.bool_)
        at = self.odd
        blank[at] = (self.counts[at] == 0) & (self.ids[at] == 0)
        blank[at] &= self.flags[at] & ~np.uint32(PG_RESERVED) == 0
        return blank

    @cached_property
    def deferred(self) -> Mask:
        """Frames of sections in the arrays whose struct pages are still to be initialised."""
        waiting = np.zeros(self.size, dtype=np.bool_)
        for start, end, nid in self.check.memory_regions:
            first = max(start, self.check.deferred.first.get(nid, end))
            for part in self.spans(first, end) if first < end else ():
                waiting[part] = self.unborn[part] & (self.flags[part] == 0)
        return waiting

    @cached_property
    def borders(self) -> Index:
        """Array indices at which node and zone differ from the frame before's."""
        return np.flatnonzero(self.ids[1:] != self.ids[:-1]) + 1

    def count_by_zone(self, chosen: Mask) -> npt.NDArray[np.int64]:
        """How many of the chosen frames bear each of the 256 possible ids."""
        if self.borders.size > MAX_RUNS:
            return np.bincount(self.ids[chosen], minlength=256)
        counts = np.zeros(256, dtype=np.int64)
        ends = [0, *self.borders.tolist(), self.size]
        for start, end in pairwise(ends):
            if start < end:
                counts[self.ids[start]] += np.count_nonzero(chosen[start:end])
        return counts

    @cached_property
    def ram_frames(self) -> int:
        """Number of frames of RAM."""
        return int(np.count_nonzero(self.ram))

    def block_types(self) -> npt.NDArray[np.uint8]:
        """Migratetype of every pageblock, in the arrays' numbering; 0 where there is no usemap."""
        check = self.check
        types = np.zeros(self.size // PAGEBLOCK_NR_PAGES, dtype=np.uint8)
        per = PAGES_PER_SECTION // PAGEBLOCK_NR_PAGES
        shifts = np.arange(15, -1, -1, dtype=np.int64) * 4 + 1
        for i, section in enumerate(self.sections):
            at = check.structure(check.m[SECTION_USEMAP + section * SECTION_WORDS], USEMAP_WORDS)
            if at >= 0:
                words = check.q[at : at + USEMAP_WORDS]
                types[i * per : (i + 1) * per] = (words[:, None] >> shifts & 7).reshape(-1)
        return types

    @cached_property
    def blocks(self) -> npt.NDArray[np.uint8]:
        """block_types(), read once."""
        return self.block_types()


# --- rules about the tables themselves -----------------------------------------------------------
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
        np.flatnonzero(frames.stray),
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
        wrong = frames.ids != expected
        # a frame is wrong only if its memory is there: nobody asks for the zone of a hole
        if wrong.any():
            wrong &= frames.ram | ~frames.counting(KIND_ZERO)
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
