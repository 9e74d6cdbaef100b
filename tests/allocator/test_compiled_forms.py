# SPDX-License-Identifier: GPL-2.0-only
"""allocator/compiled_forms.py: each loop does what its namesake, written with NumPy, does."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from allocator.compiled_forms import COMPILED_FORMS, init_page_range
from allocator.engine import compiled_available, hot_functions, load_engine
from allocator.layout import VMEMMAP_START
from allocator.mm_types import (
    COUNTS_BUDDY,
    COUNTS_FREE,
    COUNTS_ONE,
    NR_PAGEFLAGS,
    P_FLAGS,
    P_NEXT,
    PG_HEAD,
    PG_LRU,
    PG_RESERVED,
    TAIL_MAPPING,
)
from tests.allocator.machines import boot

SIZES = (1, 1)
"""Bytes a frame of the two arrays."""
WORDS = {
    0: (0, PG_RESERVED, PG_HEAD, PG_LRU, 1 << NR_PAGEFLAGS, 1 << 55, 5 << 56, -1 << 58, -1),
    1: (0, 1, 2, -(1 << 40), -(1 << 40) + 1),
    3: (0, 1, -8, TAIL_MAPPING, TAIL_MAPPING),
    6: (0, COUNTS_FREE, COUNTS_FREE, COUNTS_ONE, COUNTS_BUDDY, COUNTS_BUDDY | 3 << 32, -1, 7),
    7: (0, -1),
}
PFN = 0x12340
"""The frame of the first of the struct pages."""


def struct_pages(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Words of struct pages with everything that a scan tells apart, all combinations likely."""
    rng = random.Random(3)
    pages = np.zeros((count, 8), dtype=np.int64)
    for row in range(count):
        for word, values in WORDS.items():
            pages[row, word] = rng.choice(values)
        claim = rng.randrange(3)
        if row and claim:
            before = VMEMMAP_START + (PFN + row - 1 << 6) + 1
            pages[row, P_NEXT] = before if claim == 1 else pages[row - 1, P_NEXT]
            pages[row, P_FLAGS] &= -rng.randrange(2)
    return pages.reshape(-1)


def scanned(scan: Callable[..., None], count: int) -> bytes:
    m = struct_pages(count).data
    arrays = [np.zeros(count * size // 8, dtype=np.int64) for size in SIZES]
    scan(m, 0, PFN, count, *(array.data for array in arrays))
    return b"".join(array.tobytes() for array in arrays)


@pytest.mark.skipif(not compiled_available(), reason="numba is not installed")
@pytest.mark.parametrize("count", [8, 4096, 10_000])
def test_scan_finds_the_same_in_both_forms(count: int) -> None:
    found = scanned(hot_functions()["scan_pages"], count)
    assert scanned(load_engine("compiled").scan_pages, count) == found


def test_struct_pages_come_out_the_same_in_every_form() -> None:
    forms = []
    for function in (init_page_range, hot_functions()["init_page_range"]):
        kernel = boot("1x64M")
        function(kernel.m, 0x2000, 0x2100, 0x1234, COUNTS_ONE)
        forms.append(kernel.memory.q.tobytes())
    assert forms[0] == forms[1]


def test_every_form_has_a_hot_namesake_with_the_same_arguments() -> None:
    for name, form in COMPILED_FORMS.items():
        assert form.__annotations__ == hot_functions()[name].__annotations__
