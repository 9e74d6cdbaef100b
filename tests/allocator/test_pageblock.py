# SPDX-License-Identifier: GPL-2.0-only
"""allocator/pageblock.py: four bits a block where get_pfnblock_flags_mask() reads them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.kernel_globals import G_MOBILITY_DISABLED
from allocator.layout import SECTION_USEMAP, unsigned, word_of_va
from allocator.pageblock import (
    get_pageblock_migratetype,
    get_pageblock_skip,
    set_pageblock_migratetype,
    set_pageblock_skip,
)
from tests.allocator.machines import boot

M = boot("1x160M").m


def bits(block: int) -> tuple[int, int]:
    """Type and skip bit as C reads them: bit numbers from the top of an unsigned long."""
    word = word_of_va(M[SECTION_USEMAP + (block >> 6 << 2)]) + (block >> 4 & 3)
    at = (block & 15) * 4
    return unsigned(M[word]) >> (64 - (at + 2) - 1) & 7, unsigned(M[word]) >> (64 - at - 4) & 1


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.integers(0, 79), st.tuples(st.integers(0, 5), st.integers(0, 1))))
def test_blocks_keep_their_own_bits_and_no_others(wanted: dict[int, tuple[int, int]]) -> None:
    before = {block: bits(block) for block in range(80)}
    for block, (mt, skip) in wanted.items():
        set_pageblock_migratetype(M, block * 512 + 511, mt)
        set_pageblock_skip(M, block * 512, skip)
    for block in range(80):
        expected = wanted.get(block, before[block])
        assert bits(block) == expected
        pfn = block * 512 + 77
        assert (get_pageblock_migratetype(M, pfn), get_pageblock_skip(M, pfn)) == expected


@pytest.mark.parametrize(("mt", "stored"), [(1, 0), (2, 0), (3, 3), (4, 4), (5, 5)])
def test_without_mobility_grouping_the_pcp_types_all_become_unmovable(mt: int, stored: int) -> None:
    M[G_MOBILITY_DISABLED] = 1
    try:
        set_pageblock_migratetype(M, 8192, mt)
    finally:
        M[G_MOBILITY_DISABLED] = 0
    assert get_pageblock_migratetype(M, 8192) == stored
