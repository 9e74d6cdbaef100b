# SPDX-License-Identifier: GPL-2.0-only
"""allocator/memmap_scan.py: the arrays say what the struct pages say."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.engine import hot_functions
from allocator.layout import VMEMMAP_START
from allocator.memmap_scan import (
    FLAGGED_BITS,
    KIND_BUDDY,
    KIND_COUNTS,
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
from allocator.mm_types import (
    COUNTS_BUDDY,
    COUNTS_FREE,
    COUNTS_ONE,
    PG_RESERVED,
    TAIL_MAPPING,
)
from tests.allocator.test_compiled_forms import PFN, SIZES, struct_pages


def tidy_tail(rows: list[list[int]], i: int) -> bool:
    """Whether a page is a tail that follows the page before, and is nothing else."""
    flags, next_, _, mapping, _, _, counts, memcg = rows[i]
    if i == 0 or mapping != TAIL_MAPPING or counts != COUNTS_FREE or memcg or next_ & 1 == 0:
        return False
    before = rows[i - 1][1]
    claim = before if before & 1 else VMEMMAP_START + (PFN + i - 1 << 6) + 1
    return next_ == claim and flags & (FLAGGED_BITS | PG_RESERVED | STRAY_BITS) == 0


@pytest.mark.parametrize("count", [8, 4096, 4104])
def test_scan_says_of_each_frame_what_its_words_say(count: int) -> None:
    ids, kinds = (np.zeros(count * size // 8, dtype=np.int64) for size in SIZES)
    pages = struct_pages(count)
    hot_functions()["scan_pages"](pages.data, 0, PFN, count, ids.data, kinds.data)
    rows = pages.reshape(-1, 8).tolist()
    tidy = 0
    for i, row in enumerate(rows):
        kind = int(kinds.view(np.uint8)[i])
        state = {0: KIND_ZERO, COUNTS_FREE: KIND_FREE, COUNTS_ONE: KIND_ONE}.get(row[6], 0)
        assert kind & KIND_COUNTS == state
        assert (kind & KIND_BUDDY != 0) == (row[6] & 0xFFFFFFFF == COUNTS_BUDDY)
        assert (kind & KIND_RESERVED != 0) == (row[0] & PG_RESERVED != 0)
        assert (kind & KIND_FLAGGED != 0) == (row[0] & FLAGGED_BITS != 0)
        assert (kind & KIND_STRAY != 0) == (row[0] & STRAY_BITS != 0)
        if tidy_tail(rows, i):
            assert kind == KIND_TIDY_TAIL
            tidy += 1
        else:
            assert (kind & KIND_OWNED != 0) == (row[3] != 0 or row[7] != 0 or row[1] & 1 != 0)
        assert (kind & KIND_TAIL != 0) == (row[1] & 1 != 0)
        assert int(ids.view(np.uint8)[i]) == row[0] >> 56 & 0xFF
    assert tidy >= count // 100
