# SPDX-License-Identifier: GPL-2.0-only
"""Struct pages that are still to be initialised: which they are, and that nobody has used them.

On a large machine most sections wait until their zone runs short (`allocator.deferred_pages`). A
section waits from its node's first_deferred_pfn on, unless boot had to give some of its frames a
struct page because they are reserved. Waiting sections are left out of the frame arrays, so that a
check costs what the machine has touched; of their struct pages only those are looked at that the
host has ever backed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..kernel_globals import G_DEFERRED_PAGES
from ..layout import PAGES_PER_SECTION, PFN_SECTION_SHIFT, SECTION_PAGES
from ..mm_types import P_COUNTS, STRUCT_PAGE_WORDS
from ..mmzone import ND_FIRST_DEFERRED_PFN
from .registry import register

if TYPE_CHECKING:
    from .context import Check

RULES = {
    "deferred-range": "first_deferred_pfn lies in a node's last zone, and deferred_pages counts "
    "the nodes that have one",
    "deferred-memmap": "struct pages that are still to be initialised are zero",
}
NOT_DEFERRED = -1


class Deferred:
    """`first`: first_deferred_pfn by node; `sections`: those that wait as a whole; `free`: frames
    that will be freed when they are initialised, by node << 2 | zone."""

    def __init__(self, check: Check) -> None:
        self.first: dict[int, int] = {}
        self.sections: set[int] = set()
        self.free: dict[int, int] = {}
        if not check.m[G_DEFERRED_PAGES]:
            return
        for nid, nd in check.nodes.items():
            pfn: int = check.m[nd + ND_FIRST_DEFERRED_PFN]
            if any(z.nid == nid and z.start <= pfn < z.end for z in check.zones):
                self.first[nid] = pfn
        for start, end, nid in check.memory_regions:
            start = max(start, self.first.get(nid, end))
            if start < end:
                self._add_sections(check, start, end)
                self._add_free(check, nid, start, end)

    def _add_sections(self, check: Check, start: int, end: int) -> None:
        sections = set(range(start >> PFN_SECTION_SHIFT, (end - 1 >> PFN_SECTION_SHIFT) + 1))
        if start % PAGES_PER_SECTION:
            sections.discard(start >> PFN_SECTION_SHIFT)
        for lo, hi in check.reserved_regions:
            lo, hi = max(lo, start), min(hi, end)
            if lo >= hi:
                continue
            for section in range(lo >> PFN_SECTION_SHIFT, (hi - 1 >> PFN_SECTION_SHIFT) + 1):
                first = section << PFN_SECTION_SHIFT
                whole = lo <= first and first + PAGES_PER_SECTION <= hi
                if not whole or check.m[memmap_word(check, section) + P_COUNTS]:
                    sections.discard(section)
        self.sections |= sections

    def _add_free(self, check: Check, nid: int, start: int, end: int) -> None:
        at, free = start, 0
        for lo, hi in [*check.reserved_regions, (end, end)]:
            if hi > at:
                free += max(min(lo, end) - at, 0)
                at = max(at, min(hi, end))
        for zone in check.zones:
            if zone.nid == nid and zone.start <= start < zone.end:
                self.free[zone.ident] = self.free.get(zone.ident, 0) + free


def memmap_word(check: Check, section: int) -> int:
    """Word index of a section's first struct page; 0 if that is no RAM."""
    base: int = check.m[SECTION_PAGES + (section << 2)]
    word = base + (section << PFN_SECTION_SHIFT) * STRUCT_PAGE_WORDS
    return word if check.is_ram(word, PAGES_PER_SECTION * STRUCT_PAGE_WORDS) else 0


def run(check: Check) -> None:
    """The nodes' marks, then the struct pages of the sections that wait."""
    deferred = check.deferred
    count = check.m[G_DEFERRED_PAGES]
    for nid, nd in check.nodes.items():
        word = nd + ND_FIRST_DEFERRED_PFN
        pfn = check.m[word]
        last = max((zone.end for zone in check.zones if zone.nid == nid), default=0)
        zones = [zone for zone in check.zones if zone.nid == nid and zone.end == last]
        if count and pfn != NOT_DEFERRED and not any(z.start <= pfn < z.end for z in zones):
            text = f"first_deferred_pfn is {pfn:#x}, which is not in its last zone"
            check.add("deferred-range", f"node {nid}", text, word)
    if count != len(deferred.first):
        text = f"deferred_pages is {count}, but {len(deferred.first)} nodes have such pages"
        check.add("deferred-range", "kernel", text, G_DEFERRED_PAGES)
    for section in sorted(deferred.sections):
        _check_zero(check, section)


def _check_zero(check: Check, section: int) -> None:
    word = memmap_word(check, section)
    if not word:
        return
    start = word << 3
    end = start + PAGES_PER_SECTION * STRUCT_PAGE_WORDS * 8
    for lo, hi in check.memory.touched(start, end):
        used = np.flatnonzero(check.q[lo >> 3 : hi >> 3])
        if used.size:
            at = (lo >> 3) + int(used[0])
            pfn = (section << PFN_SECTION_SHIFT) + (at - word) // STRUCT_PAGE_WORDS
            text = "its struct page is still to be initialised, but is not zero"
            check.add("deferred-memmap", f"frame {pfn:#07x}", text, at)


register("deferred", RULES, run, rank=21)
