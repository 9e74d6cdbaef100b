# SPDX-License-Identifier: GPL-2.0-only
"""allocator/memmap_scan.py: the arrays say what the struct pages say."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.engine import hot_functions
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
    KIND_ZERO,
    STRAY_BITS,
)
from allocator.mm_types import COUNTS_BUDDY, COUNTS_FREE, COUNTS_ONE, PG_RESERVED
from tests.allocator.test_compiled_forms import SIZES, struct_pages


@pytest.mark.parametrize("count", [8, 4096, 4104])
def test_scan_says_of_each_frame_what_its_words_say(count: int) -> None:
    counts, flags, ids, kinds = (np.zeros(count * size // 8, dtype=np.int64) for size in SIZES)
    pages = struct_pages(count)
    arrays = (counts.data, flags.data, ids.data, kinds.data)
    hot_functions()["scan_pages"](pages.data, 0, count, *arrays)
    for i, row in enumerate(pages.reshape(-1, 8).tolist()):
        kind = int(kinds.view(np.uint8)[i])
        state = {0: KIND_ZERO, COUNTS_FREE: KIND_FREE, COUNTS_ONE: KIND_ONE}.get(row[6], 0)
        assert kind & KIND_COUNTS == state
        assert (kind & KIND_BUDDY != 0) == (row[6] & 0xFFFFFFFF == COUNTS_BUDDY)
        assert (kind & KIND_RESERVED != 0) == (row[0] & PG_RESERVED != 0)
        assert (kind & KIND_FLAGGED != 0) == (row[0] & FLAGGED_BITS != 0)
        assert (kind & KIND_STRAY != 0) == (row[0] & STRAY_BITS != 0)
        assert (kind & KIND_OWNED != 0) == (row[3] != 0 or row[7] != 0)
        assert (kind & KIND_TAIL != 0) == (row[1] & 1 != 0)
        assert int(flags.view(np.uint32)[i]) == row[0] & 0xFFFFFFFF
        assert int(ids.view(np.uint8)[i]) == row[0] >> 56 & 0xFF
        assert int(counts[i]) == row[6]
