# SPDX-License-Identifier: GPL-2.0-only
"""anon_vmas: which areas can map an anonymous page."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from allocator import anon_vma, slub
from allocator.anon_vma import (
    AV_DEGREE,
    AV_PARENT,
    AV_RB_ROOT,
    AV_REFCOUNT,
    AV_ROOT,
    AVC_RB,
    AVC_VMA,
    anon_vma_clone,
    anon_vma_compatible,
    anon_vma_fork,
    anon_vma_interval_tree_post_update_vma,
    anon_vma_interval_tree_pre_update_vma,
    anon_vma_prepare,
    find_mergeable_anon_vma,
    unlink_anon_vmas,
)
from allocator.kernel_globals import G_ANON_VMA_CACHEP, G_ANON_VMA_CHAIN_CACHEP
from allocator.layout import PAGE_OFFSET, va_of_word
from allocator.list_head import list_empty, list_init
from allocator.mempolicy import MPOL_PREFERRED
from allocator.mempolicy_vma import mpol_new
from allocator.mm_struct import (
    VM_READ,
    VM_SHARED,
    VM_WRITE,
    VMA_ANON_CHAIN,
    VMA_ANON_VMA,
    VMA_END,
    VMA_FLAGS,
    VMA_NEXT,
    VMA_PGOFF,
    VMA_POLICY,
    VMA_PREV,
    VMA_START,
)
from allocator.rbtree import interval_tree_iter_first, interval_tree_iter_next
from tests.allocator.process_support import Lab

BASE = 1 << 40


class Areas:
    """Areas made by hand, side by side."""

    def __init__(self, lab: Lab) -> None:
        self.m = lab.m
        self.at = lab.scratch()

    def area(self, page: int, pages: int) -> int:
        vma, self.at = self.at, self.at + 32
        m = self.m
        for i in range(32):
            m[vma + i] = 0
        list_init(m, vma + VMA_ANON_CHAIN)
        m[vma + VMA_START] = BASE + (page << 12)
        m[vma + VMA_END] = BASE + (page + pages << 12)
        m[vma + VMA_PGOFF] = (BASE >> 12) + page
        m[vma + VMA_FLAGS] = VM_READ | VM_WRITE
        return vma

    def link(self, *areas: int) -> None:
        for a, b in itertools.pairwise(areas):
            self.m[a + VMA_NEXT] = va_of_word(b)
            self.m[b + VMA_PREV] = va_of_word(a)

    def av(self, vma: int) -> int:
        return (self.m[vma + VMA_ANON_VMA] - PAGE_OFFSET) >> 3

    def mapped_by(self, av: int, page: int) -> set[int]:
        """Areas in the tree of anon_vma `av` that cover a page."""
        found, index = set(), (BASE >> 12) + page
        node = interval_tree_iter_first(self.m, av + AV_RB_ROOT, index, index)
        while node:
            found.add((self.m[node - AVC_RB + AVC_VMA] - PAGE_OFFSET) >> 3)
            node = interval_tree_iter_next(self.m, node, index, index)
        return found


@pytest.fixture
def areas(lab: Lab) -> Areas:
    return Areas(lab)


class Objects:
    """Counts what is allocated and freed of every slab cache."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.live: Counter[int] = Counter()
        alloc, free = slub.kmem_cache_alloc, slub.kmem_cache_free

        def counted_alloc(m: memoryview, cpu: int, s: int, gfp: int) -> int:
            self.live[s] += 1
            return alloc(m, cpu, s, gfp)

        def counted_free(m: memoryview, cpu: int, s: int, obj: int) -> int:
            self.live[s] -= 1
            return free(m, cpu, s, obj)

        monkeypatch.setattr(anon_vma, "kmem_cache_alloc", counted_alloc)
        monkeypatch.setattr(anon_vma, "kmem_cache_free", counted_free)

    def of(self, m: memoryview) -> tuple[int, int]:
        """Live anon_vmas and chain links."""
        caches = (m[G_ANON_VMA_CACHEP], m[G_ANON_VMA_CHAIN_CACHEP])
        vmas, links = (self.live[(va - PAGE_OFFSET) >> 3] for va in caches)
        return vmas, links


def test_the_first_fault_gives_an_area_an_anon_vma_that_finds_it(areas: Areas) -> None:
    m, vma = areas.m, areas.area(0, 4)
    assert anon_vma_prepare(m, 0, vma) == 0
    av = areas.av(vma)
    assert m[av + AV_ROOT] == m[av + AV_PARENT] == va_of_word(av)
    assert (m[av + AV_REFCOUNT], m[av + AV_DEGREE]) == (1, 2)
    assert areas.mapped_by(av, 3) == {vma}
    assert areas.mapped_by(av, 4) == set()
    assert anon_vma_prepare(m, 0, vma) == 0
    assert areas.av(vma) == av


def test_a_neighbour_that_could_merge_shares_its_anon_vma(areas: Areas) -> None:
    m = areas.m
    left, right = areas.area(0, 2), areas.area(2, 2)
    areas.link(left, right)
    anon_vma_prepare(m, 0, left)
    assert find_mergeable_anon_vma(m, right) == areas.av(left)
    anon_vma_prepare(m, 0, right)
    assert areas.av(right) == areas.av(left)
    assert m[areas.av(left) + AV_DEGREE] == 3
    assert areas.mapped_by(areas.av(left), 2) == {right}


@pytest.mark.parametrize(
    ("field", "value", "alike"),
    [
        (VMA_FLAGS, VM_READ, True),
        (VMA_FLAGS, VM_READ | VM_WRITE | VM_SHARED, False),
        (VMA_PGOFF, 5, False),
        (VMA_START, BASE, False),
    ],
)
def test_areas_that_differ_in_more_than_permissions_do_not_share(
    areas: Areas, field: int, value: int, alike: bool
) -> None:
    left, right = areas.area(0, 2), areas.area(2, 2)
    areas.m[right + field] = value
    assert anon_vma_compatible(areas.m, left, right) == alike


def test_areas_with_different_policies_do_not_share(areas: Areas) -> None:
    m = areas.m
    left, right = areas.area(0, 2), areas.area(2, 2)
    m[right + VMA_POLICY] = va_of_word(mpol_new(m, 0, MPOL_PREFERRED, 0, 2, 3))
    assert not anon_vma_compatible(m, left, right)


def test_an_area_with_several_anon_vmas_lends_none(areas: Areas) -> None:
    m = areas.m
    parent, child, near = areas.area(0, 2), areas.area(0, 2), areas.area(2, 2)
    anon_vma_prepare(m, 0, parent)
    anon_vma_fork(m, 0, child, parent)
    areas.link(child, near)
    assert find_mergeable_anon_vma(m, near) == 0


def test_a_forked_area_is_found_from_its_parents_pages_and_not_the_other_way(
    areas: Areas,
) -> None:
    m = areas.m
    parent, child = areas.area(0, 2), areas.area(0, 2)
    anon_vma_prepare(m, 0, parent)
    assert anon_vma_fork(m, 0, child, parent) == 0
    old, new = areas.av(parent), areas.av(child)
    assert areas.mapped_by(old, 0) == {parent, child}
    assert areas.mapped_by(new, 0) == {child}
    assert m[new + AV_ROOT] == m[new + AV_PARENT] == va_of_word(old)
    assert (m[old + AV_REFCOUNT], m[old + AV_DEGREE]) == (2, 3)
    assert m[new + AV_DEGREE] == 1


def test_forking_an_area_without_anon_vma_does_nothing(areas: Areas) -> None:
    parent, child = areas.area(0, 2), areas.area(0, 2)
    assert anon_vma_fork(areas.m, 0, child, parent) == 0
    assert areas.m[child + VMA_ANON_VMA] == 0
    assert list_empty(areas.m, child + VMA_ANON_CHAIN)


def test_a_grandchild_takes_over_the_anon_vma_of_a_dead_child(areas: Areas) -> None:
    # a line of forks in which every process dies after forking must not grow anon_vmas for ever
    m = areas.m
    root, child, grand = (areas.area(0, 2) for _ in range(3))
    anon_vma_prepare(m, 0, root)
    anon_vma_fork(m, 0, child, root)
    middle = areas.av(child)
    anon_vma_fork(m, 0, grand, child)
    unlink_anon_vmas(m, 0, child)
    great = areas.area(0, 2)
    anon_vma_fork(m, 0, great, grand)
    assert areas.av(great) == middle
    assert areas.mapped_by(middle, 0) == {grand, great}


def test_cloning_links_to_every_anon_vma_and_counts_the_own_one(areas: Areas) -> None:
    m = areas.m
    parent, child, half = areas.area(0, 4), areas.area(0, 4), areas.area(2, 2)
    anon_vma_prepare(m, 0, parent)
    anon_vma_fork(m, 0, child, parent)
    m[half + VMA_ANON_VMA] = m[child + VMA_ANON_VMA]
    assert anon_vma_clone(m, 0, half, child) == 0
    assert areas.mapped_by(areas.av(parent), 3) == {parent, child, half}
    assert areas.mapped_by(areas.av(child), 3) == {child, half}
    assert m[areas.av(child) + AV_DEGREE] == 2


def test_the_last_area_takes_its_anon_vmas_with_it(
    areas: Areas, monkeypatch: pytest.MonkeyPatch
) -> None:
    m, objects = areas.m, Objects(monkeypatch)
    parent, child, grand = (areas.area(0, 2) for _ in range(3))
    anon_vma_prepare(m, 0, parent)
    anon_vma_fork(m, 0, child, parent)
    anon_vma_fork(m, 0, grand, child)
    assert objects.of(m) == (3, 6)
    # the parent first: its anon_vma must stay for its descendants' pages
    for vma in (parent, grand, child):
        unlink_anon_vmas(m, 0, vma)
        assert list_empty(m, vma + VMA_ANON_CHAIN)
    assert objects.of(m) == (0, 0)


def test_an_area_whose_range_changes_is_found_under_its_new_range(areas: Areas) -> None:
    m, vma = areas.m, areas.area(0, 4)
    anon_vma_prepare(m, 0, vma)
    anon_vma_interval_tree_pre_update_vma(m, vma)
    assert areas.mapped_by(areas.av(vma), 0) == set()
    m[vma + VMA_START] += 2 << 12
    m[vma + VMA_PGOFF] += 2
    anon_vma_interval_tree_post_update_vma(m, vma)
    assert areas.mapped_by(areas.av(vma), 1) == set()
    assert areas.mapped_by(areas.av(vma), 2) == {vma}
