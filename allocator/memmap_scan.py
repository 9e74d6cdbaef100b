# SPDX-License-Identifier: GPL-2.0-only
"""One pass over a section's struct pages: what a check of all frames needs, as compact arrays.

64 bytes a frame are read once, while they are in the cache, and become 2: the byte with node and
zone, and a byte of *kind* about everything that most frames agree in. Rules then look at the kinds
of all frames at once, eight of them in one comparison, and at a frame's own words only where its
kind is not that of an innocent.

Hot: `check.memmap` calls it through the engine. The interpreter has NumPy do it in pieces that fit
into the cache, compiled code goes through the frames one by one; the arrays are the same.
"""

from __future__ import annotations

import numpy as np

from .layout import VMEMMAP_START
from .mm_types import (
    COUNTS_BUDDY,
    COUNTS_FREE,
    COUNTS_ONE,
    NR_PAGEFLAGS,
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    P_MEMCG,
    P_NEXT,
    PG_RESERVED,
    TAIL_MAPPING,
)

KIND_COUNTS = 3
"""The counts word: zero, COUNTS_FREE, COUNTS_ONE or anything else (0)."""
KIND_ZERO = 1
KIND_FREE = 2
KIND_ONE = 3
KIND_ORDINARY = 2
"""In KIND_FREE and KIND_ONE only."""
KIND_BUDDY = 4
"""The page type is PageBuddy's."""
KIND_RESERVED = 8
KIND_FLAGGED = 16
"""PG_ bits other than PG_reserved."""
KIND_OWNED = 32
"""A mapping or a control group; of a tail, that it is not tidy."""
KIND_TAIL = 64
"""lru.next is odd (compound_head)."""
KIND_TIDY_TAIL = KIND_FREE | KIND_TAIL
"""A tail with TAIL_MAPPING and nothing else, which points to where the tail before it does, or to
the frame before it if that is no tail: if the first tail of a compound page points to its head and
all that follow are tidy, then all point to the head. Never said of the first page of a scan."""
KIND_STRAY = 128
"""Flag bits between the PG_ bits and the zone."""

FLAGGED_BITS = (1 << NR_PAGEFLAGS) - 1 & ~PG_RESERVED
STRAY_BITS = (1 << 56) - (1 << NR_PAGEFLAGS)
BUDDY_TYPE = COUNTS_BUDDY & 0xFFFFFFFF
CHUNK = 4096
"""Frames that NumPy looks at in one go."""


def scan_pages(
    m: memoryview,
    first: int,
    pfn: int,
    count: int,
    ids: memoryview,
    kinds: memoryview,
) -> None:
    """Reads `count` struct pages, a multiple of 8, from word `first`, the page of frame `pfn`, on
    into the arrays, given as words: `ids` (node << 2 | zone) and `kinds`, a byte a frame. Hot."""
    rows = np.frombuffer(m, dtype=np.int64)[first : first + 8 * count].reshape(-1, 8)
    all_ids = np.frombuffer(ids, dtype=np.uint8)
    all_kinds = np.frombuffer(kinds, dtype=np.uint8)
    for at in range(0, count, CHUNK):
        part = slice(at, at + CHUNK)
        c = rows[part, P_COUNTS].copy()
        f = rows[part, P_FLAGS].copy()
        all_ids[part] = f.view(np.uint8)[7::8]
        one = (c == COUNTS_ONE).view(np.uint8)
        kind = (c == COUNTS_FREE).view(np.uint8)
        kind |= one
        kind <<= 1
        kind |= one
        kind |= (c == 0).view(np.uint8)
        kind |= (c.view(np.uint32)[::2] == BUDDY_TYPE).view(np.uint8) << 2
        kind |= (f & PG_RESERVED != 0).view(np.uint8) << 3
        kind |= (f & FLAGGED_BITS != 0).view(np.uint8) << 4
        kind |= ((rows[part, P_MAPPING] | rows[part, P_MEMCG]) != 0).view(np.uint8) << 5
        odd = rows[part, P_NEXT].astype(np.uint8) & 1
        kind |= odd << 6 | odd << 5
        kind |= (f & STRAY_BITS != 0).view(np.uint8) << 7
        tails = np.flatnonzero(kind == KIND_TIDY_TAIL | KIND_OWNED) + at
        if tails.size and tails[0] == 0:
            tails = tails[1:]
        before = rows[tails - 1, P_NEXT]
        head = np.where(before & 1, before, VMEMMAP_START + 1 + (pfn - 1 + tails << 6))
        tidy = (rows[tails, P_NEXT] == head) & (rows[tails, P_MAPPING] == TAIL_MAPPING)
        kind[tails[tidy & (rows[tails, P_MEMCG] == 0)] - at] = KIND_TIDY_TAIL
        all_kinds[part] = kind
