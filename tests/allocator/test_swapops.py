# SPDX-License-Identifier: GPL-2.0-only
"""Swap and migration entries in page-table entries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.swapops import (
    MAX_SWAPFILES,
    SWP_HWPOISON,
    SWP_MIGRATION_READ,
    SWP_MIGRATION_WRITE,
    is_hwpoison_entry,
    is_migration_entry,
    is_swap_pte,
    is_write_migration_entry,
    make_hwpoison_entry,
    make_migration_entry,
    make_migration_entry_read,
    migration_entry_to_pfn,
    non_swap_entry,
    pte_to_swp_entry,
    swp_entry,
    swp_entry_to_pte,
    swp_offset,
    swp_type,
)


# no area is so large that an inverted offset could be 0
@given(st.integers(0, 31), st.integers(0, (1 << 46) - 1))
def test_an_entry_survives_the_way_through_a_page_table_entry(kind: int, offset: int) -> None:
    pte = swp_entry_to_pte(swp_entry(kind, offset))
    assert -(1 << 63) <= pte < 1 << 63
    assert pte & 0x101 == 0
    assert is_swap_pte(pte)
    entry = pte_to_swp_entry(pte)
    assert (swp_type(entry), swp_offset(entry)) == (kind, offset)


@given(st.integers(0, 28), st.integers(0, (1 << 32) - 1))
def test_the_frame_that_a_swap_entry_seems_to_name_is_outside_any_ram(
    kind: int, offset: int
) -> None:
    # the point of inverting the offset (L1TF): bits 12 to 51 read as a frame number
    assert swp_entry_to_pte(swp_entry(kind, offset)) >> 12 & (1 << 40) - 1 >= 1 << 35


def test_the_encoding_is_that_of_x86_64() -> None:
    # type in bits 59-63, inverted offset in bits 9-58 (arch/x86/include/asm/pgtable_64.h)
    assert swp_entry_to_pte(swp_entry(1, 0)) & (1 << 64) - 1 == 1 << 59 | ((1 << 50) - 1) << 9
    assert swp_entry_to_pte(swp_entry(0, 5)) == ((1 << 50) - 1 - 5) << 9
    assert swp_entry_to_pte(swp_entry(31, 0)) < 0


@pytest.mark.parametrize("write", [0, 1, 2])
def test_a_migration_entry_names_frame_and_permission(write: int) -> None:
    entry = make_migration_entry(0x1234, write)
    assert is_migration_entry(entry)
    assert non_swap_entry(entry)
    assert not is_hwpoison_entry(entry)
    assert migration_entry_to_pfn(entry) == 0x1234
    assert is_write_migration_entry(entry) == (write != 0)
    assert swp_type(entry) == (SWP_MIGRATION_WRITE if write else SWP_MIGRATION_READ)
    assert not is_write_migration_entry(make_migration_entry_read(entry))
    assert migration_entry_to_pfn(make_migration_entry_read(entry)) == 0x1234


def test_only_types_below_max_swapfiles_name_slots() -> None:
    assert MAX_SWAPFILES == 29
    assert not non_swap_entry(swp_entry(28, 7))
    poison = make_hwpoison_entry(9)
    assert non_swap_entry(poison)
    assert is_hwpoison_entry(poison)
    assert not is_migration_entry(poison)
    assert swp_type(poison) == SWP_HWPOISON


def test_empty_and_present_entries_are_no_swap_entries() -> None:
    assert not is_swap_pte(0)
    assert not is_swap_pte(0x1000 | 1)
    assert not is_swap_pte(0x1000 | 0x100)
