# SPDX-License-Identifier: GPL-2.0-only
"""Walking page lists that may be damaged.

A guest can write over any link, so a walk here never trusts one: it ends at an address that is no
list entry, at a link that does not point back, and at a page that it has seen before. `walk` says
what was wrong; `free_list` and `pcp_list` only give what could be reached.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..layout import (
    SECTION_PAGES,
    VMEMMAP_START,
    unsigned,
    va_of_word,
    word_of_va,
)
from ..mm_types import P_NEXT, STRUCT_PAGE_SIZE
from ..mmzone import FA_WORDS, PSET_LISTS, PSET_WORDS, Z_FREE_AREA, Z_PAGESET
from ..views import Zone, pfn_valid

_LRU = 8


@dataclass
class Walk:
    """Frames on a list, first to last, and what is wrong with it ("" if it is sound)."""

    pfns: list[int] = field(default_factory=list)
    fault: str = ""


def walk(m: memoryview, head: int) -> Walk:
    """Follows the page list whose head is at word `head`, checking every link both ways."""
    found = Walk()
    end = va_of_word(head)
    seen: set[int] = set()
    previous, va = end, m[head]
    while va != end:
        pfn, rest = divmod(va - VMEMMAP_START, STRUCT_PAGE_SIZE)
        if va < VMEMMAP_START or rest != _LRU or not pfn_valid(m, pfn):
            found.fault = f"{_where(found)} next {unsigned(va):#x} is no struct page's lru"
            return found
        if pfn in seen:
            found.fault = f"frame {pfn:#x} comes a second time"
            return found
        lru = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3) + P_NEXT
        if m[lru + 1] != previous:
            found.fault = (
                f"frame {pfn:#x}: prev is {unsigned(m[lru + 1]):#x}, not {unsigned(previous):#x}"
            )
            found.pfns.append(pfn)
            return found
        seen.add(pfn)
        found.pfns.append(pfn)
        previous, va = va, m[lru]
    if m[head + 1] != previous:
        last = unsigned(m[head + 1])
        found.fault = f"the head's prev is {last:#x}, not {unsigned(previous):#x}"
    return found


def _where(found: Walk) -> str:
    return f"frame {found.pfns[-1]:#x}:" if found.pfns else "the head's"


def free_head(zone: Zone, order: int, mt: int) -> int:
    """Word index of a free list's head."""
    return zone.word + Z_FREE_AREA + order * FA_WORDS + 2 * mt


def pcp_head(zone: Zone, cpu: int, mt: int) -> int:
    """Word index of a per-cpu list's head."""
    base = word_of_va(zone.m[zone.word + Z_PAGESET])
    return base + cpu * PSET_WORDS + PSET_LISTS + 2 * mt


def free_list(zone: Zone, order: int, mt: int) -> list[int]:
    """Head PFNs of one free list as far as it can be followed."""
    return walk(zone.m, free_head(zone, order, mt)).pfns


def pcp_list(zone: Zone, cpu: int, mt: int) -> list[int]:
    """PFNs of one per-cpu list as far as it can be followed; none where there is no pageset."""
    head = pcp_head(zone, cpu, mt)
    return walk(zone.m, head).pfns if 0 <= head < len(zone.m) - 1 else []
