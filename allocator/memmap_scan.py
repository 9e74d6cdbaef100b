# SPDX-License-Identifier: GPL-2.0-only
"""One pass over a section's struct pages: what a check of all frames needs, as compact arrays.

64 bytes a frame are read once, while they are in the cache, and become 14: the counts word, the low
half of the flags, the byte with node and zone, and a byte of *kind* about everything that most
frames agree in. Rules then look at the kinds of all frames at once, and at a frame's own words only
where its kind is not that of an innocent.

Hot: `check.memmap` calls it through the engine. The interpreter has NumPy do it in pieces that fit
into the cache, compiled code goes through the frames one by one; the arrays are the same.
"""

from __future__ import annotations

import numpy as np

from .mm_types import COUNTS_BUDDY, COUNTS_FREE, COUNTS_ONE, NR_PAGEFLAGS, PG_RESERVED

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
"""A mapping or a control group."""
KIND_TAIL = 64
"""lru.next is odd (compound_head)."""
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
    count: int,
    counts: memoryview,
    flags: memoryview,
    ids: memoryview,
    kinds: memoryview,
) -> None:
    """Reads `count` struct pages, a multiple of 8, from word `first` on into the arrays, given as
    words: `counts` a word a frame, `flags` 4 bytes, `ids` and `kinds` a byte. Hot."""
    rows = np.frombuffer(m, dtype=np.int64)[first : first + 8 * count].reshape(-1, 8)
    all_counts = np.frombuffer(counts, dtype=np.int64)
    all_flags = np.frombuffer(flags, dtype=np.uint32)
    all_ids = np.frombuffer(ids, dtype=np.uint8)
    all_kinds = np.frombuffer(kinds, dtype=np.uint8)
    for at in range(0, count, CHUNK):
        part = slice(at, at + CHUNK)
        c = rows[part, 6].copy()
        f = rows[part, 0].copy()
        all_counts[part] = c
        all_flags[part] = f.view(np.uint32)[::2]
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
        kind |= ((rows[part, 3] | rows[part, 7]) != 0).view(np.uint8) << 5
        kind |= rows[part, 1].astype(np.uint8) << 6 & KIND_TAIL
        kind |= (f & STRAY_BITS != 0).view(np.uint8) << 7
        all_kinds[part] = kind
