# SPDX-License-Identifier: GPL-2.0-only
"""Mapcounts, references and places that do not fit are found."""

from __future__ import annotations

import pytest

from allocator.anon_vma import AV_ROOT
from allocator.layout import PAGE_OFFSET
from allocator.mm_inline import COMPOUND_MAPCOUNT, page_to_pfn
from allocator.mm_struct import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_RSS,
    MM_SWAPENTS,
    VMA_END,
    VMA_PGOFF,
)
from allocator.mm_types import (
    COMPOUND_MAPCOUNT_ONE,
    P_COUNTS,
    P_INDEX,
    P_MAPPING,
    PG_PRIVATE,
    REF_ONE,
)
from allocator.page_alloc import free_pages
from allocator.pagevec import PV_ADD, PV_ROTATE, pagevec_add, pagevecs
from allocator.pgtable import mm_find_pmd, mm_find_pte, pmd_pfn
from allocator.vma import find_vma
from tests.allocator.check.owner_lab import OwnerLab
from tests.allocator.process_support import PAGE


@pytest.fixture
def owners() -> OwnerLab:
    return OwnerLab()


def test_a_machine_full_of_owners_is_sound(owners: OwnerLab) -> None:
    assert owners.broken() == set()
    owners.lab.drain()
    assert owners.broken() == set()


@pytest.mark.parametrize("i", [0, 15, 21])
@pytest.mark.parametrize("delta", [1, -1])
def test_a_wrong_mapcount_is_found(owners: OwnerLab, i: int, delta: int) -> None:
    p = owners.page(i)
    low = owners.m[p + P_COUNTS] & 0xFFFFFFFF
    owners.m[p + P_COUNTS] += (low + delta & 0xFFFFFFFF) - low
    found = [f for f in owners.lab.check().findings if f.rule == "mapcount"]
    assert [f.frame for f in found] == [page_to_pfn(owners.m, p)]


def test_a_mapcount_of_a_page_that_nobody_maps_is_found(owners: OwnerLab) -> None:
    p = owners.lab.new_page()
    owners.m[p + P_COUNTS] &= ~0xFFFFFFFF
    assert "mapcount" in owners.broken()


def test_wrong_mapcounts_of_a_huge_page_are_found(owners: OwnerLab) -> None:
    w = mm_find_pmd(owners.m, owners.lab.mm(owners.parent), owners.huge)
    head = owners.lab.page_at(pmd_pfn(owners.m[w]))
    owners.m[head + COMPOUND_MAPCOUNT] += COMPOUND_MAPCOUNT_ONE
    assert owners.broken() == {"mapcount"}
    owners.m[head + COMPOUND_MAPCOUNT] -= COMPOUND_MAPCOUNT_ONE
    owners.m[head + 8 * 300 + P_COUNTS] += 1
    assert "mapcount" in owners.broken()


@pytest.mark.parametrize("i", [0, 15, 21])
@pytest.mark.parametrize("delta", [1, -1])
def test_a_reference_that_nothing_explains_is_found(owners: OwnerLab, i: int, delta: int) -> None:
    p = owners.page(i)
    owners.m[p + P_COUNTS] += delta * REF_ONE
    assert "page-references" in owners.broken()


def test_references_of_pagevecs_and_private_data_are_explained(owners: OwnerLab) -> None:
    owners.lab.drain()
    p = owners.page(15)
    pagevec_add(owners.m, pagevecs(owners.m, 1) + PV_ROTATE, p)
    assert owners.broken() == set()
    owners.m[p] |= PG_PRIVATE
    assert owners.broken() == {"page-references"}
    owners.m[p + P_COUNTS] += REF_ONE
    assert owners.broken() == set()


@pytest.mark.parametrize(("word", "value"), [(0, 15), (0, -1), (1, 0), (1, 1 << 40)])
def test_a_pagevec_that_holds_nonsense_is_found(owners: OwnerLab, word: int, value: int) -> None:
    owners.lab.drain()
    pv = pagevecs(owners.m, 0) + PV_ADD
    owners.m[pv] = 1
    owners.m[pv + word] = value
    assert "pagevec" in owners.broken()


def test_a_page_mapped_where_its_reverse_map_does_not_lead_is_found(owners: OwnerLab) -> None:
    p = owners.page(15)
    for word, delta in ((P_INDEX, 1), (P_MAPPING, 8)):
        owners.m[p + word] += delta
        assert owners.broken() == {"rmap"}
        owners.m[p + word] -= delta
    av = (owners.m[p + P_MAPPING] - 1 - PAGE_OFFSET) >> 3
    owners.m[av + AV_ROOT] += 8
    assert owners.broken() == {"rmap"}


def test_an_area_that_does_not_fit_its_pages_is_found(owners: OwnerLab) -> None:
    vma = find_vma(owners.m, owners.lab.mm(owners.parent), owners.at)
    owners.m[vma + VMA_PGOFF] += 1
    assert owners.broken() == {"rmap"}
    owners.m[vma + VMA_PGOFF] -= 1
    owners.m[vma + VMA_END] -= PAGE
    assert "rmap" in owners.broken()
    owners.m[vma + VMA_END] = 0
    assert "vma-list" in owners.broken()


@pytest.mark.parametrize("item", [MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS])
def test_a_wrong_counter_of_an_address_space_is_found(owners: OwnerLab, item: int) -> None:
    owners.m[owners.lab.mm(owners.child) + MM_RSS + item] += 1
    assert owners.broken() == {"mm-counter"}


def test_a_free_frame_that_is_still_mapped_is_found(owners: OwnerLab) -> None:
    p = owners.lab.new_page()
    pfn = page_to_pfn(owners.m, p)
    free_pages(owners.m, 0, pfn, 0)
    w = mm_find_pte(owners.m, owners.lab.mm(owners.parent), owners.at + 16 * PAGE)
    owners.m[w] = owners.m[w] & ~0xFFFFFFFFFF000 | pfn << 12
    assert {"pte-frame", "mapcount"} <= owners.broken()
    owners.m[w] = owners.m[w] & ~0xFFFFFFFFFF000 | 0xFFFFFFF << 12
    assert "pte-frame" in owners.broken()


def test_a_table_that_is_used_twice_or_free_is_found(owners: OwnerLab) -> None:
    m, lab = owners.m, owners.lab
    one, other = (mm_find_pmd(m, lab.mm(t), owners.at) for t in (owners.parent, owners.child))
    kept = m[other]
    m[other] = m[one]
    assert "table-frame" in owners.broken()
    m[other] = kept
    table = lab.page_at(kept >> 12 & 0xFFFFFFF)
    m[table + P_COUNTS] += REF_ONE
    assert "table-frame" in owners.broken()
