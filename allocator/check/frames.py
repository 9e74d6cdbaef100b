# SPDX-License-Identifier: GPL-2.0-only
"""The memory map as compact arrays: one pass over all struct pages, a section at a time.

A machine's sections may lie far apart; the arrays hold the frames of the present sections one
behind the other. An *index* counts in that numbering, `pfns` and `indices` convert. What the
checkers ask of every frame is copied out by `memmap_scan`, on whatever engine serves the process:
node and zone, and the frame's kind. Anything else of a struct page is read where it is (`Column`).

Rules are best put as questions about kinds, a byte a frame, of which eight are compared at once:
`where` finds the frames that have some bit, `among` those of any choice of eights. Most frames of
most machines are free, and lie among others of their kind, so few are left to be looked at.
"""

from __future__ import annotations

import os
import threading
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..engine import current_engine
from ..layout import (
    MEM_SECTION,
    NR_MEM_SECTIONS,
    PAGES_PER_SECTION,
    PFN_SECTION_SHIFT,
    SECTION_MEM_MAP,
    SECTION_PAGES,
    SECTION_USEMAP,
    USEMAP_WORDS,
)
from ..memmap_scan import (
    KIND_BUDDY,
    KIND_COUNTS,
    KIND_FREE,
    KIND_ORDINARY,
    KIND_RESERVED,
    KIND_ZERO,
)
from ..mm_types import P_COUNTS, P_FLAGS, P_MAPPING, P_MEMCG, PG_RESERVED, STRUCT_PAGE_WORDS
from ..mmzone import PAGEBLOCK_NR_PAGES

if TYPE_CHECKING:
    from .context import Check

    Mask = npt.NDArray[np.bool_]
    Index = npt.NDArray[np.intp]

SECTION_WORDS = MEM_SECTION.words
MEMMAP_WORDS = PAGES_PER_SECTION * STRUCT_PAGE_WORDS
_LOW = PAGES_PER_SECTION - 1
SECTIONS_PER_THREAD = 4
MAX_THREADS = 8
MAX_RUNS = 4096
"""Runs of frames of one zone that are looked at one by one."""
EIGHT = 0x0101010101010101
"""Times a byte: eight of it in one word."""
_OF_EIGHT = np.arange(8)


class Column:
    """A field of all struct pages, read from guest RAM when asked for: `column[indices]`, with one
    array index, an array of them, or a slice; `column[:]` is a copy of the field of all frames."""

    def __init__(self, frames: Frames, field: npt.NDArray[Any], step: int, offset: int) -> None:
        self.frames = frames
        self.field = field
        self.step = step
        self.offset = offset

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return self._all[at]
        if isinstance(at, np.ndarray) and at.dtype == np.bool_:
            at = np.flatnonzero(at)
        return self.field[self.frames.words(at) * self.step + self.offset]

    @cached_property
    def _all(self) -> npt.NDArray[Any]:
        frames, step = self.frames, self.step * STRUCT_PAGE_WORDS
        parts = []
        for word in frames.first_words.tolist():
            start = word * self.step
            rows = self.field[start : start + PAGES_PER_SECTION * step]
            parts.append(rows[self.offset :: step])
        return np.concatenate(parts) if parts else self.field[:0].copy()


def eight_each(words: Index) -> Index:
    """The array indices of the frames of some words of `Frames.eights`."""
    return np.asarray((words[:, None] << 3 | _OF_EIGHT).reshape(-1), dtype=np.intp)


class Frames:
    """All struct pages of the sections whose memory map could be read.

    `ids` uint8 (node << 2 | zone) and `kinds` uint8 (`memmap_scan.KIND_`) are arrays; `counts`
    int64 (_refcount << 32 | page type), `refcount` int32, `page_type` uint32 (or _mapcount) and
    `flags` uint32 (the low half of page->flags) are columns.
    """

    def __init__(self, check: Check) -> None:
        self.check = check
        self.slot = np.full(NR_MEM_SECTIONS, -1, dtype=np.int64)
        """Place of a section in the arrays, -1 if it is absent."""
        table = check.q[SECTION_MEM_MAP : SECTION_MEM_MAP + NR_MEM_SECTIONS * SECTION_WORDS]
        marked = np.unique(np.flatnonzero(table != 0) // SECTION_WORDS).tolist()
        self.marked: list[int] = marked
        """Sections that have anything in their mem_section entry."""
        waiting = check.deferred.sections
        self.sections = [s for s in marked if s not in waiting and self._base(s) >= 0]
        self.slot[self.sections] = np.arange(len(self.sections))
        self.section_of = np.array(self.sections, dtype=np.int64)
        self.base_of = np.array([self._base(s) for s in self.sections], dtype=np.int64)
        self.first_words = self.base_of + (self.section_of << PFN_SECTION_SHIFT) * STRUCT_PAGE_WORDS
        """Word index of each section's first struct page."""
        places = np.arange(len(self.sections), dtype=np.int64) << PFN_SECTION_SHIFT
        self._shift = self.first_words - places * STRUCT_PAGE_WORDS
        n = self.size = len(self.sections) * PAGES_PER_SECTION
        self.ids = np.empty(n, dtype=np.uint8)
        self.kinds = np.empty(n, dtype=np.uint8)
        self._found: dict[tuple[int, int], Index] = {}
        self._read_all()
        halves = check.q.view(np.int32)
        self.counts = Column(self, check.q, 1, P_COUNTS)
        self.refcount = Column(self, halves, 2, 2 * P_COUNTS + 1)
        self.page_type = Column(self, halves.view(np.uint32), 2, 2 * P_COUNTS)
        self.flags = Column(self, halves.view(np.uint32), 2, 2 * P_FLAGS)

    def _base(self, section: int) -> int:
        """SECTION_PAGES of a section, -1 unless all its struct pages are in RAM."""
        base: int = self.check.m[SECTION_PAGES + section * SECTION_WORDS]
        first = base + (section << PFN_SECTION_SHIFT) * STRUCT_PAGE_WORDS
        if self.check.m[SECTION_MEM_MAP + section * SECTION_WORDS] == 0:
            return -1
        return base if self.check.is_ram(first, MEMMAP_WORDS) else -1

    def _read_all(self) -> None:
        """Reads all sections; compiled code, which needs no interpreter, in several threads."""
        sections = len(self.sections)
        threads = max(1, min(sections // SECTIONS_PER_THREAD, os.cpu_count() or 1, MAX_THREADS))
        if current_engine().name != "compiled":
            threads = 1
        ends = [sections * i // threads for i in range(threads + 1)]
        helpers = [threading.Thread(target=self._read, args=part) for part in pairwise(ends[1:])]
        for helper in helpers:
            helper.start()
        self._read(*ends[:2])
        for helper in helpers:
            helper.join()

    def _read(self, start: int, end: int) -> None:
        """Reads some sections, those whose struct pages lie one behind the other in one go."""
        scan = current_engine().functions["scan_pages"]
        while start < end:
            stop = start + 1
            while stop < end and self._follows(stop):
                stop += 1
            part = slice(start * PAGES_PER_SECTION, stop * PAGES_PER_SECTION)
            words = (array[part].view(np.int64).data for array in (self.ids, self.kinds))
            first = int(self.first_words[start])
            pfn = self.sections[start] << PFN_SECTION_SHIFT
            scan(self.check.m, first, pfn, (stop - start) * PAGES_PER_SECTION, *words)
            start = stop

    def _follows(self, place: int) -> bool:
        """Whether a section and its struct pages follow those of the place before."""
        same = self._shift[place] == self._shift[place - 1]
        return bool(same) and self.sections[place] == self.sections[place - 1] + 1

    # --- numbering ------------------------------------------------------------------------------
    def pfns(self, indices: Index) -> npt.NDArray[np.int64]:
        """Frame numbers of array indices."""
        at = np.asarray(indices, dtype=np.int64)
        first = self.section_of[at >> PFN_SECTION_SHIFT] << PFN_SECTION_SHIFT
        return np.asarray(first | (at & _LOW), dtype=np.int64)

    def pfn(self, index: int) -> int:
        """Frame number of one array index."""
        section: int = self.sections[index >> PFN_SECTION_SHIFT]
        return section << PFN_SECTION_SHIFT | index & _LOW

    def index(self, pfn: int) -> int:
        """Array index of a frame, -1 if it has no readable struct page."""
        section = pfn >> PFN_SECTION_SHIFT
        slot: int = int(self.slot[section]) if 0 <= section < NR_MEM_SECTIONS else -1
        return slot << PFN_SECTION_SHIFT | pfn & _LOW if slot >= 0 else -1

    def words(self, indices: Index) -> npt.NDArray[np.int64]:
        """Word indices of the struct pages at array indices."""
        at = np.asarray(indices, dtype=np.int64)
        words = self._shift[at >> PFN_SECTION_SHIFT] + at * STRUCT_PAGE_WORDS
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

    # --- kinds ----------------------------------------------------------------------------------
    @cached_property
    def eights(self) -> npt.NDArray[np.uint64]:
        """The kinds of eight neighbours in a word."""
        return self.kinds.view(np.uint64)

    def among(self, chosen: Mask) -> Index:
        """The frames of the chosen words of `eights`."""
        return eight_each(np.flatnonzero(chosen))

    @cached_property
    def mixed(self) -> Index:
        """The words of `eights` that are not those of eight frames inside a free block."""
        return np.flatnonzero(self.eights != np.uint64(KIND_FREE * EIGHT))

    @cached_property
    def _mixed_kinds(self) -> npt.NDArray[np.uint8]:
        return self.eights[self.mixed].view(np.uint8)

    def where(self, bits: int, like: int = 0) -> Index:
        """The frames whose kind, but for what makes it differ from `like`, has any of these bits
        (none of which KIND_FREE has), ascending."""
        if (bits, like) not in self._found:
            kinds = self._mixed_kinds ^ np.uint8(like) if like else self._mixed_kinds
            at = np.flatnonzero(kinds & np.uint8(bits) != 0)
            self._found[bits, like] = self.mixed[at >> 3] << 3 | at & 7
        return self._found[bits, like]

    def unlike(self, kinds: tuple[int, ...], chosen: Mask) -> Index:
        """The chosen frames that are of none of these kinds, KIND_FREE among them."""
        some = chosen.view(np.uint64)[self.mixed].view(np.bool_)
        for kind in kinds:
            some &= self._mixed_kinds != kind
        at = np.flatnonzero(some)
        return np.asarray(self.mixed[at >> 3] << 3 | at & 7, dtype=np.intp)

    @cached_property
    def seen(self) -> int:
        """All bits of all kinds: most machines have no frame of some kinds."""
        some = int(np.bitwise_or.reduce(self._mixed_kinds.view(np.uint64), initial=0))
        return sum(1 << bit for bit in range(8) if some & EIGHT << bit)

    @cached_property
    def holes(self) -> Index:
        """The frames that are no RAM."""
        at = self.among(self.ram.view(np.uint64) != EIGHT)
        return np.asarray(at[~self.ram[at]], dtype=np.intp)

    def has(self, indices: Index, bits: int) -> Mask:
        """Whether the kinds of some frames have any of these bits."""
        return np.asarray(self.kinds[indices] & np.uint8(bits) != 0)

    def counting(self, indices: Index, counts: int) -> Mask:
        """Whether the counts of some frames are KIND_FREE, KIND_ONE or KIND_ZERO."""
        return np.asarray(self.kinds[indices] & np.uint8(KIND_COUNTS) == counts)

    def nowhere(self) -> Mask:
        """A mask, not to be written to, without any frame: it takes no memory."""
        return np.broadcast_to(np.False_, self.size)

    def _mask(self, indices: Index) -> Mask:
        mask = np.zeros(self.size, dtype=np.bool_)
        mask[indices] = True
        return mask

    @cached_property
    def buddy(self) -> Mask:
        """PageBuddy."""
        return self._mask(self.where(KIND_BUDDY))

    def owned(self, indices: Index) -> Mask:
        """Whether some frames have a mapping or a control group."""
        mapping, group = self.column(indices, P_MAPPING), self.column(indices, P_MEMCG)
        return np.asarray(mapping | group != 0)

    @cached_property
    def odd(self) -> Index:
        """Array indices of the frames whose counts are neither COUNTS_FREE nor COUNTS_ONE."""
        return self.where(KIND_ORDINARY, KIND_ORDINARY)

    @cached_property
    def odd_counts(self) -> npt.NDArray[np.int64]:
        """The counts words of the `odd` frames."""
        return np.asarray(self.counts[self.odd], dtype=np.int64)

    # --- what the map says ----------------------------------------------------------------------
    @cached_property
    def ram(self) -> Mask:
        """Frames that memblock has as memory; where unknown, those that a zone initialised."""
        if self.check.replayed:
            zero = self.kinds & np.uint8(KIND_COUNTS) == KIND_ZERO
            return np.asarray(~zero | (self.ids != 0))
        return self.mask([(start, end) for start, end, _ in self.check.memory_regions])

    @cached_property
    def unborn(self) -> Mask:
        """Struct pages that nobody initialised: counts and zone zero, as zero_resv_unavail() leaves
        those of holes and of memory whose node never went online (boot may have reserved them)."""
        at = self.odd[self.odd_counts == 0]
        at = at[self.ids[at] == 0]
        return self._mask(at[self.flags[at] & ~np.uint32(PG_RESERVED) == 0])

    @cached_property
    def deferred(self) -> Mask:
        """Frames of sections in the arrays whose struct pages are still to be initialised."""
        waiting = np.zeros(self.size, dtype=np.bool_)
        for start, end, nid in self.check.memory_regions:
            first = max(start, self.check.deferred.first.get(nid, end))
            for part in self.spans(first, end) if first < end else ():
                waiting[part] = self.unborn[part]
        reserved = self.where(KIND_RESERVED)
        waiting[reserved] = False
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
    def unreserved_by_zone(self) -> npt.NDArray[np.int64]:
        """How many frames of RAM without PG_reserved bear each of the 256 possible ids."""
        reserved = self.where(KIND_RESERVED)
        reserved = reserved[self.ram[reserved]]
        return self.count_by_zone(self.ram) - np.bincount(self.ids[reserved], minlength=256)

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
