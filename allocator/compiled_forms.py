# SPDX-License-Identifier: GPL-2.0-only
"""Hot functions that have NumPy work for the interpreter, written as the loops that Numba compiles.

Each does what its namesake does, to the same words; a test compares them.
"""

from __future__ import annotations

from .layout import PFN_SECTION_SHIFT, SECTION_PAGES, VMEMMAP_START
from .memmap_scan import (
    BUDDY_TYPE,
    FLAGGED_BITS,
    KIND_BUDDY,
    KIND_FLAGGED,
    KIND_FREE,
    KIND_ONE,
    KIND_OWNED,
    KIND_RESERVED,
    KIND_STRAY,
    KIND_TAIL,
    KIND_TIDY_TAIL,
    KIND_ZERO,
    STRAY_BITS,
)
from .mm_types import (
    COUNTS_FREE,
    COUNTS_ONE,
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_MEMCG,
    P_NEXT,
    P_PREV,
    P_PRIVATE,
    PG_RESERVED,
    TAIL_MAPPING,
)
from .spinlock import prefetch

AHEAD = 512
"""Words between what a scan looks at and what it has fetched: 64 struct pages."""


def init_page_range(m: memoryview, pfn: int, end: int, flags: int, counts: int) -> None:
    """deferred_pages.init_page_range()."""
    w = m[SECTION_PAGES + (pfn >> PFN_SECTION_SHIFT << 2)] + (pfn << 3)
    for i in range(pfn, end):
        m[w + P_FLAGS] = flags
        m[w + P_NEXT] = VMEMMAP_START + 8 + (i << 6)
        m[w + P_PREV] = VMEMMAP_START + 8 + (i << 6)
        m[w + P_MAPPING] = 0
        m[w + P_INDEX] = 0
        m[w + P_PRIVATE] = 0
        m[w + P_COUNTS] = counts
        m[w + P_MEMCG] = 0
        w += 8


def scan_pages(
    m: memoryview,
    first: int,
    pfn: int,
    count: int,
    ids: memoryview,
    kinds: memoryview,
) -> None:
    """memmap_scan.scan_pages()."""
    w = first
    for i in range(count >> 3):
        id_word = 0
        kind_word = 0
        for j in range(8):
            prefetch(m, w + AHEAD)
            f = m[w]
            c = m[w + P_COUNTS]
            kind = 0
            if c == COUNTS_FREE:
                kind = KIND_FREE
            elif c == COUNTS_ONE:
                kind = KIND_ONE
            elif c == 0:
                kind = KIND_ZERO
            elif c & 0xFFFFFFFF == BUDDY_TYPE:
                kind = KIND_BUDDY
            if f & PG_RESERVED:
                kind |= KIND_RESERVED
            if f & FLAGGED_BITS:
                kind |= KIND_FLAGGED
            if m[w + P_MAPPING] | m[w + P_MEMCG]:
                kind |= KIND_OWNED
            if f & STRAY_BITS:
                kind |= KIND_STRAY
            if m[w + P_NEXT] & 1:
                kind |= KIND_TAIL | KIND_OWNED
                if kind == KIND_TIDY_TAIL | KIND_OWNED and w > first:
                    head = m[w - 8 + P_NEXT]
                    if not head & 1:
                        head = VMEMMAP_START + 1 + (pfn - 1 + (i << 3) + j << 6)
                    if m[w + P_NEXT] == head and m[w + P_MAPPING] == TAIL_MAPPING:
                        if m[w + P_MEMCG] == 0:
                            kind = KIND_TIDY_TAIL
            kind_word |= kind << (j << 3)
            id_word |= (f >> 56 & 0xFF) << (j << 3)
            w += 8
        ids[i] = id_word
        kinds[i] = kind_word


COMPILED_FORMS = {"init_page_range": init_page_range, "scan_pages": scan_pages}
"""By the name of the hot function."""
