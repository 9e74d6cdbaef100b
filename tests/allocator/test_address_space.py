# SPDX-License-Identifier: GPL-2.0-only
"""From a page to the address space it belongs to."""

from __future__ import annotations

from allocator.address_space import (
    ADDRESS_SPACE_WORDS,
    AOPS_SWAP,
    AS_A_OPS,
    page_file_index,
    page_mapping,
    page_rmapping,
    swap_address_space,
    swap_info,
)
from allocator.layout import PAGE_OFFSET
from allocator.mm_inline import PG_SWAPCACHE
from allocator.mm_types import P_INDEX, P_MAPPING, P_PRIVATE, PAGE_MAPPING_ANON, PG_SLAB
from allocator.swapops import swp_entry
from tests.allocator.process_support import Lab


def test_a_file_page_has_its_files_mapping(lab: Lab) -> None:
    m, p, mapping = lab.m, lab.new_page(), lab.scratch()
    assert page_mapping(m, p) == 0
    m[p + P_MAPPING] = PAGE_OFFSET + (mapping << 3)
    m[p + P_INDEX] = 7
    assert (page_mapping(m, p), page_file_index(m, p)) == (mapping, 7)
    assert page_rmapping(m, p) == PAGE_OFFSET + (mapping << 3)
    m[p] |= PG_SLAB
    assert page_mapping(m, p) == 0


def test_an_anonymous_page_has_a_mapping_only_in_the_swap_cache(lab: Lab) -> None:
    m, p = lab.m, lab.new_page()
    kind = lab.swap(1024)
    m[p + P_MAPPING] = PAGE_OFFSET + PAGE_MAPPING_ANON
    m[p + P_INDEX] = 3
    assert (page_mapping(m, p), page_file_index(m, p)) == (0, 3)
    assert page_rmapping(m, p) == PAGE_OFFSET
    m[p] |= PG_SWAPCACHE
    m[p + P_PRIVATE] = swp_entry(kind, 500)
    assert page_mapping(m, p) == swap_address_space(m, swp_entry(kind, 500))
    assert m[page_mapping(m, p) + AS_A_OPS] == AOPS_SWAP
    assert page_file_index(m, p) == 500


def test_every_64_megabytes_of_swap_have_an_address_space(lab: Lab) -> None:
    kind = lab.swap((2 << 14) + 100)
    first = swap_address_space(lab.m, swp_entry(kind, 1))
    assert swap_address_space(lab.m, swp_entry(kind, (1 << 14) - 1)) == first
    second = swap_address_space(lab.m, swp_entry(kind, 1 << 14))
    assert second == first + ADDRESS_SPACE_WORDS
    assert swap_info(lab.m, 1) > swap_info(lab.m, 0)
