# SPDX-License-Identifier: GPL-2.0-only
"""Swap maps that do not fit are found."""

from __future__ import annotations

import pytest

from allocator.address_space import swap_info
from allocator.check.context import Check
from allocator.check.swap_rules import cached_slots, named_slots, read_map, tally
from allocator.kernel_globals import G_NR_SWAP_PAGES, G_SWAP_INFO, G_TOTAL_SWAP_PAGES
from allocator.mm_inline import PG_SWAPCACHE
from allocator.mm_types import P_PRIVATE
from allocator.pgtable import mm_find_pte
from allocator.swap_map import (
    SC_NR,
    SI_INUSE,
    SI_LOWEST,
    SI_MAP,
    SWAP_HAS_CACHE,
    set_slot_usage,
    slot_usage,
    slots_cache,
)
from allocator.swapops import pte_to_swp_entry, swp_entry, swp_entry_to_pte, swp_offset
from tests.allocator.check.owner_lab import OwnerLab
from tests.allocator.process_support import PAGE


@pytest.fixture
def owners() -> OwnerLab:
    return OwnerLab()


def slot(owners: OwnerLab) -> int:
    """A slot that both processes name."""
    return swp_offset(pte_to_swp_entry(owners.lab.pte(owners.parent, owners.at + 20 * PAGE)))


def test_entries_and_pages_are_read_as_the_map_has_them(owners: OwnerLab) -> None:
    check = Check(owners.lab.memory)
    si = swap_info(owners.m, 0)
    usage = read_map(check, si)
    assert usage.tolist() == [slot_usage(owners.m, si, i) for i in range(2048)]
    assert tally(named_slots(check), 0, 2048)[slot(owners)] == 2
    p = owners.page(21)
    assert owners.m[p] & PG_SWAPCACHE
    assert owners.m[p + P_PRIVATE] in cached_slots(check).tolist()


@pytest.mark.parametrize("delta", [1, -1])
def test_a_slot_that_counts_wrongly_is_found(owners: OwnerLab, delta: int) -> None:
    si, at = swap_info(owners.m, 0), slot(owners)
    set_slot_usage(owners.m, si, at, slot_usage(owners.m, si, at) + delta)
    assert owners.broken() == {"swap-count"}


def test_a_slot_that_is_wrong_about_its_cache_is_found(owners: OwnerLab) -> None:
    si = swap_info(owners.m, 0)
    at = swp_offset(owners.m[owners.page(21) + P_PRIVATE])
    set_slot_usage(owners.m, si, at, slot_usage(owners.m, si, at) ^ SWAP_HAS_CACHE)
    assert "swap-cached" in owners.broken()


def test_a_slot_lost_from_a_cpus_cache_is_found(owners: OwnerLab) -> None:
    cache = slots_cache(owners.m, 0)
    assert owners.m[cache + SC_NR] > 1
    owners.m[cache + SC_NR] -= 1
    assert owners.broken() == {"swap-cached"}
    owners.m[cache + SC_NR] = 65
    assert "swap-info" in owners.broken()


@pytest.mark.parametrize("word", [G_NR_SWAP_PAGES, G_TOTAL_SWAP_PAGES])
def test_wrong_totals_are_found(owners: OwnerLab, word: int) -> None:
    owners.m[word] += 1
    assert owners.broken() == {"swap-pages"}


@pytest.mark.parametrize(("field", "value"), [(SI_INUSE, 3), (SI_LOWEST, 400), (SI_MAP, 8)])
def test_an_area_whose_numbers_do_not_fit_is_found(
    owners: OwnerLab, field: int, value: int
) -> None:
    owners.m[swap_info(owners.m, 0) + field] = value
    assert "swap-info" in owners.broken()


def test_a_table_of_areas_outside_ram_is_found(owners: OwnerLab) -> None:
    owners.m[G_SWAP_INFO] = 24
    assert "swap-info" in owners.broken()


def test_an_entry_that_names_no_slot_is_found(owners: OwnerLab) -> None:
    w = mm_find_pte(owners.m, owners.lab.mm(owners.parent), owners.at + 20 * PAGE)
    for entry in (swp_entry(0, 2048), swp_entry(7, 1)):
        owners.m[w] = swp_entry_to_pte(entry)
        assert "swap-entry" in owners.broken()
