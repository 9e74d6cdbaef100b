# SPDX-License-Identifier: GPL-2.0-only
"""Where migrated pages go."""

from __future__ import annotations

import pytest

from allocator.deferred_split import is_transparent_hugepage, prep_transhuge_page
from allocator.mbind import do_mbind
from allocator.mempolicy import MPOL_PREFERRED
from allocator.migrate_target import (
    NEW_PAGE_CONTIG,
    NEW_PAGE_MBIND,
    NEW_PAGE_NODE,
    NEW_PAGE_OFFLINE,
    NEW_PAGE_SAME_NODE,
    get_new_page,
    put_new_page,
)
from allocator.mm_inline import hpage_nr_pages
from allocator.mm_types import P_COUNTS, REF_SHIFT
from tests.allocator.process_support import PAGE, Lab, fresh_lab


@pytest.fixture
def four() -> Lab:
    return fresh_lab("4x64M")


@pytest.mark.parametrize(
    ("target", "private", "nid"),
    [
        (NEW_PAGE_CONTIG, 0, 0),
        (NEW_PAGE_NODE, 3, 3),
        (NEW_PAGE_SAME_NODE, 0, 2),
    ],
)
def test_a_target_comes_from_where_the_caller_says(
    four: Lab, target: int, private: int, nid: int
) -> None:
    p = four.new_page(nid=2)
    assert four.nid(get_new_page(four.m, 0, p, target, private)) == nid


def test_a_node_that_goes_offline_takes_none_of_its_pages_back(four: Lab) -> None:
    p = four.new_page(nid=2)
    assert all(four.nid(get_new_page(four.m, 0, p, NEW_PAGE_OFFLINE, 0)) != 2 for _ in range(50))


def test_the_only_node_has_to_do_for_its_own_pages() -> None:
    lab = fresh_lab("1x64M")
    assert get_new_page(lab.m, 0, lab.new_page(), NEW_PAGE_OFFLINE, 0)


def test_pages_bound_anew_go_where_their_areas_policy_says(four: Lab) -> None:
    task = four.process()
    first, second = four.map(task, 4), four.map(task, 4)
    for at in (first, second):
        four.poke(task, at, 1)
    with four.acting(task):
        for at, nodes in ((first, 0b0100), (second, 0b1000)):
            assert do_mbind(four.m, 0, four.mm(task), at, 4 * PAGE, MPOL_PREFERRED, nodes, 0) == 0
        for at, nid in ((first, 2), (second, 3)):
            p = four.page(task, at)
            new = get_new_page(four.m, 0, p, NEW_PAGE_MBIND, min(first, second))
            assert four.nid(new) == nid


def test_a_huge_page_gets_a_huge_target(four: Lab) -> None:
    p = four.new_page(9)
    prep_transhuge_page(four.m, p)
    for target, private in ((NEW_PAGE_NODE, 1), (NEW_PAGE_CONTIG, 0)):
        new = get_new_page(four.m, 0, p, target, private)
        assert is_transparent_hugepage(four.m, new)
        assert hpage_nr_pages(four.m, new) == 512


def test_a_full_node_has_no_target_and_an_unused_one_goes_back(four: Lab) -> None:
    m, p = four.m, four.new_page()
    taken = []
    while (new := get_new_page(m, 0, p, NEW_PAGE_NODE, 3)) != 0:
        taken.append(new)
    assert len(taken) > 1000
    for new in taken:
        put_new_page(m, 0, new, NEW_PAGE_NODE, 3)
        assert m[new + P_COUNTS] >> REF_SHIFT == 0
    assert four.check().sound
