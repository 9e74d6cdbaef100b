# SPDX-License-Identifier: GPL-2.0-only
"""Mappings counted, page by page."""

from __future__ import annotations

import pytest

from allocator.anon_vma import AV_ROOT
from allocator.deferred_split import prep_transhuge_page
from allocator.layout import PAGE_OFFSET
from allocator.mm_inline import (
    PG_DOUBLE_MAP,
    compound_mapcount,
    inc_mapcount,
    page_mapcount,
    page_node,
    total_mapcount,
)
from allocator.mm_struct import VMA_ANON_VMA, VMA_PGOFF
from allocator.mm_types import (
    P_COUNTS,
    P_INDEX,
    P_MAPPING,
    PAGE_MAPPING_ANON,
    PG_MLOCKED,
    PG_SWAPBACKED,
)
from allocator.mmzone import (
    ND_SPLIT_QUEUE_LEN,
    NR_ANON_MAPPED,
    NR_ANON_THPS,
    NR_FILE_MAPPED,
    NR_MLOCK,
)
from allocator.rmap import (
    RMAP_COMPOUND,
    RMAP_EXCLUSIVE,
    anon_vma_fork,
    anon_vma_prepare,
    do_page_add_anon_rmap,
    page_add_anon_rmap,
    page_add_file_rmap,
    page_add_new_anon_rmap,
    page_dup_rmap,
    page_move_anon_rmap,
    page_remove_rmap,
)
from tests.allocator.process_support import Lab
from tests.allocator.test_anon_vma import BASE, Areas


@pytest.fixture
def areas(lab: Lab) -> Areas:
    return Areas(lab)


def prepared(areas: Areas) -> int:
    vma = areas.area(0, 2048)
    anon_vma_prepare(areas.m, 0, vma)
    return vma


def test_a_new_page_learns_its_anon_vma_and_place(lab: Lab, areas: Areas) -> None:
    m, p, vma = lab.m, lab.new_page(nid=1), prepared(areas)
    page_add_new_anon_rmap(m, 0, p, vma, BASE + 5 * 4096 + 17, 0)
    assert m[p + P_MAPPING] == m[vma + VMA_ANON_VMA] + PAGE_MAPPING_ANON
    assert m[p + P_INDEX] == m[vma + VMA_PGOFF] + 5
    assert m[p] & PG_SWAPBACKED
    assert page_mapcount(m, p) == 1
    assert (lab.node_counter(0, NR_ANON_MAPPED), lab.node_counter(1, NR_ANON_MAPPED)) == (0, 1)


def test_only_the_first_and_the_last_mapping_are_counted(lab: Lab, areas: Areas) -> None:
    m, p, vma = lab.m, lab.new_page(), prepared(areas)
    page_add_new_anon_rmap(m, 0, p, vma, BASE, 0)
    page_dup_rmap(m, p, 0)
    page_add_anon_rmap(m, 0, p, vma, BASE, 0)
    assert (page_mapcount(m, p), lab.node_counter(0, NR_ANON_MAPPED)) == (3, 1)
    for left in (2, 1):
        page_remove_rmap(m, 0, p, 0)
        assert (page_mapcount(m, p), lab.node_counter(0, NR_ANON_MAPPED)) == (left, 1)
    page_remove_rmap(m, 0, p, 0)
    assert (page_mapcount(m, p), lab.node_counter(0, NR_ANON_MAPPED)) == (0, 0)
    # it may come back from the swap cache
    assert m[p + P_MAPPING] & PAGE_MAPPING_ANON


@pytest.mark.parametrize(("flags", "own"), [(RMAP_EXCLUSIVE, True), (0, False)])
def test_a_page_that_may_be_shared_goes_to_the_oldest_anon_vma(
    lab: Lab, areas: Areas, flags: int, own: bool
) -> None:
    m, p, parent, child = lab.m, lab.new_page(), prepared(areas), areas.area(0, 2048)
    anon_vma_fork(m, 0, child, parent)
    do_page_add_anon_rmap(m, 0, p, child, BASE + 4096, flags)
    av = m[child + VMA_ANON_VMA]
    root = m[((av - PAGE_OFFSET) >> 3) + AV_ROOT]
    assert root != av
    assert m[p + P_MAPPING] == (av if own else root) + PAGE_MAPPING_ANON
    assert m[p + P_INDEX] == m[child + VMA_PGOFF] + 1
    page_move_anon_rmap(m, p, child)
    assert m[p + P_MAPPING] == av + PAGE_MAPPING_ANON


def test_file_pages_are_counted_apart(lab: Lab) -> None:
    m, p = lab.m, lab.new_page()
    page_add_file_rmap(m, 0, p, 0)
    page_add_file_rmap(m, 0, p, 0)
    assert (page_mapcount(m, p), lab.node_counter(0, NR_FILE_MAPPED)) == (2, 1)
    page_remove_rmap(m, 0, p, 0)
    page_remove_rmap(m, 0, p, 0)
    assert (page_mapcount(m, p), lab.node_counter(0, NR_FILE_MAPPED)) == (0, 0)
    assert lab.node_counter(0, NR_ANON_MAPPED) == 0


def test_a_page_without_mappings_is_no_longer_mlocked(lab: Lab, areas: Areas) -> None:
    m, p, vma = lab.m, lab.new_page(), prepared(areas)
    page_add_new_anon_rmap(m, 0, p, vma, BASE, 0)
    m[p] |= PG_MLOCKED
    before = lab.zone_counter(p, NR_MLOCK)
    page_dup_rmap(m, p, 0)
    page_remove_rmap(m, 0, p, 0)
    assert m[p] & PG_MLOCKED
    page_remove_rmap(m, 0, p, 0)
    assert not m[p] & PG_MLOCKED
    assert lab.zone_counter(p, NR_MLOCK) in (before - 1, 0)


def huge(lab: Lab, vma: int) -> int:
    p = lab.new_page(9)
    prep_transhuge_page(lab.m, p)
    page_add_new_anon_rmap(lab.m, 0, p, vma, BASE, 1)
    return p


def test_a_huge_mapping_is_one_mapping_and_512_pages(lab: Lab, areas: Areas) -> None:
    m, p = lab.m, huge(lab, prepared(areas))
    assert (compound_mapcount(m, p), total_mapcount(m, p)) == (1, 1)
    assert lab.node_counter(0, NR_ANON_MAPPED) == 512
    assert lab.node_counter(0, NR_ANON_THPS) == 1
    page_dup_rmap(m, p, 1)
    page_remove_rmap(m, 0, p, 1)
    assert lab.node_counter(0, NR_ANON_THPS) == 1
    page_remove_rmap(m, 0, p, 1)
    assert lab.node_counter(0, NR_ANON_MAPPED) == lab.node_counter(0, NR_ANON_THPS) == 0
    assert m[page_node(m, p) + ND_SPLIT_QUEUE_LEN] == 1


def test_parts_that_stay_mapped_stay_counted(lab: Lab, areas: Areas) -> None:
    m, p = lab.m, huge(lab, prepared(areas))
    # two small pages are mapped by themselves as well as with the whole
    m[p + 8] |= PG_DOUBLE_MAP
    for i in range(512):
        inc_mapcount(m, p + 8 * i + P_COUNTS)
    for i in (3, 4):
        inc_mapcount(m, p + 8 * i + P_COUNTS)
    page_remove_rmap(m, 0, p, 1)
    assert not m[p + 8] & PG_DOUBLE_MAP
    assert lab.node_counter(0, NR_ANON_MAPPED) == 2
    assert total_mapcount(m, p) == 2
    assert m[page_node(m, p) + ND_SPLIT_QUEUE_LEN] == 1
    page_remove_rmap(m, 0, p + 8 * 3, 0)
    assert lab.node_counter(0, NR_ANON_MAPPED) == 1


def test_a_huge_page_mapped_again_is_counted_again(lab: Lab, areas: Areas) -> None:
    vma = prepared(areas)
    m, p = lab.m, huge(lab, vma)
    page_remove_rmap(m, 0, p, 1)
    do_page_add_anon_rmap(m, 0, p, vma, BASE, RMAP_COMPOUND)
    assert lab.node_counter(0, NR_ANON_MAPPED) == 512
    assert lab.node_counter(0, NR_ANON_THPS) == 1
