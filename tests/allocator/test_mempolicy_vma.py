# SPDX-License-Identifier: GPL-2.0-only
"""Policies of areas decide where their pages come from."""

from __future__ import annotations

import pytest

from allocator.gfp import GFP_HIGHUSER_MOVABLE, GFP_TRANSHUGE
from allocator.layout import PAGE_OFFSET, va_of_word
from allocator.mempolicy import (
    EINVAL,
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_F_LOCAL,
    MPOL_F_RELATIVE_NODES,
    MPOL_F_STATIC_NODES,
    MPOL_INTERLEAVE,
    MPOL_LOCAL,
    MPOL_PREFERRED,
    set_mempolicy,
)
from allocator.mempolicy_vma import (
    MPOL_FLAGS,
    MPOL_MODE,
    MPOL_NODES,
    MPOL_PREFERRED_NODE,
    MPOL_REFCNT,
    alloc_hugepage_vma,
    alloc_pages_vma,
    mpol_check,
    mpol_dup,
    mpol_equal,
    mpol_new,
    mpol_put,
    mpol_rebind_policy,
    offset_il_node,
    vma_dup_policy,
    vma_policy,
    vma_replace_policy,
)
from allocator.mm_struct import VMA_PGOFF, VMA_POLICY, VMA_START
from allocator.mmzone import NUMA_INTERLEAVE_HIT, PSET_NUMA_DIFF, PSET_WORDS, Z_PAGESET
from tests.allocator.process_support import PAGE, Lab, fresh_lab

START = 1 << 40


@pytest.fixture
def four() -> Lab:
    return fresh_lab("4x64M")


def area(lab: Lab, pol: int = 0) -> int:
    vma = lab.scratch()
    for i in range(32):
        lab.m[vma + i] = 0
    lab.m[vma + VMA_START] = START
    lab.m[vma + VMA_PGOFF] = 3
    lab.m[vma + VMA_POLICY] = va_of_word(pol) if pol else 0
    return vma


def nid_at(lab: Lab, vma: int, page: int, node: int = 0) -> int:
    """Node of the page that a fault at page `page` of the area gets."""
    addr = START + page * PAGE
    pfn = alloc_pages_vma(lab.m, 0, GFP_HIGHUSER_MOVABLE, 0, vma, addr, node)
    assert pfn >= 0
    return lab.nid(lab.page_at(pfn))


@pytest.mark.parametrize(
    ("mode", "flags", "nodes", "said"),
    [
        (MPOL_DEFAULT, 0, 0, 0),
        (MPOL_DEFAULT, 0, 1, -EINVAL),
        (MPOL_LOCAL, 0, 0, 0),
        (MPOL_LOCAL, 0, 1, -EINVAL),
        (MPOL_LOCAL, MPOL_F_STATIC_NODES, 0, -EINVAL),
        (MPOL_PREFERRED, 0, 0, 0),
        (MPOL_PREFERRED, MPOL_F_RELATIVE_NODES, 0, -EINVAL),
        (MPOL_BIND, 0, 0, -EINVAL),
        (MPOL_INTERLEAVE, 0, 0, -EINVAL),
        (MPOL_BIND, MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES, 1, -EINVAL),
        (5, 0, 1, -EINVAL),
        (-1, 0, 1, -EINVAL),
        (MPOL_BIND, 1 << 3, 1, -EINVAL),
    ],
)
def test_what_makes_a_policy(mode: int, flags: int, nodes: int, said: int) -> None:
    assert mpol_check(mode, flags, nodes) == said


def test_a_policy_is_cut_to_allowed_nodes_with_memory(four: Lab) -> None:
    m = four.m
    pol = mpol_new(m, 0, MPOL_BIND, 0, 0b11111110, 0b0111)
    assert m[pol + MPOL_NODES] == 0b0110
    assert mpol_new(m, 0, MPOL_BIND, 0, 0b1000, 0b0111) == -EINVAL
    assert mpol_new(m, 0, MPOL_DEFAULT, 0, 0, -1) == 0
    # relative: the second and third of the allowed nodes
    pol = mpol_new(m, 0, MPOL_BIND, MPOL_F_RELATIVE_NODES, 0b0110, 0b1101)
    assert m[pol + MPOL_NODES] == 0b1100


def test_the_default_is_the_callers_node(four: Lab) -> None:
    vma = area(four)
    assert [nid_at(four, vma, i, node) for i, node in enumerate((0, 2, 3))] == [0, 2, 3]


def test_a_preferred_node_is_asked_first(four: Lab) -> None:
    assert nid_at(four, area(four, mpol_new(four.m, 0, MPOL_PREFERRED, 0, 0b1000, -1)), 0) == 3
    local = mpol_new(four.m, 0, MPOL_LOCAL, 0, 0, -1)
    assert four.m[local + MPOL_FLAGS] & MPOL_F_LOCAL
    assert nid_at(four, area(four, local), 0, 1) == 1


def test_bound_pages_come_from_the_nodes_only_nearest_first(four: Lab) -> None:
    vma = area(four, mpol_new(four.m, 0, MPOL_BIND, 0, 0b1100, -1))
    assert {nid_at(four, vma, i) for i in range(8)} <= {2, 3}


def test_interleaving_goes_by_the_pages_place_not_by_the_order_of_faults(four: Lab) -> None:
    vma = area(four, mpol_new(four.m, 0, MPOL_INTERLEAVE, 0, 0b1101, -1))
    places = [5, 0, 3, 1, 4, 2, 0]
    nodes = [0, 2, 3]
    assert [nid_at(four, vma, i) for i in places] == [nodes[(3 + i) % 3] for i in places]
    assert offset_il_node(four.m, 0, 0b1101, 4) == 2


def test_interleaved_pages_are_counted_as_hits(four: Lab) -> None:
    m = four.m
    vma = area(four, mpol_new(m, 0, MPOL_INTERLEAVE, 0, 0b0110, -1))
    p = four.page_at(alloc_pages_vma(m, 0, GFP_HIGHUSER_MOVABLE, 0, vma, START, 0))
    ps = (m[four.zone_of(p) + Z_PAGESET] - PAGE_OFFSET >> 3) + 0 * PSET_WORDS
    assert m[ps + PSET_NUMA_DIFF + NUMA_INTERLEAVE_HIT] == 1


def test_without_a_policy_of_its_own_an_area_has_its_tasks(four: Lab) -> None:
    task, m = four.process(), four.m
    assert set_mempolicy(m, task, MPOL_BIND, 0, 0b1000) == 0
    with four.acting(task):
        assert nid_at(four, area(four), 0) == 3
        assert nid_at(four, area(four, mpol_new(m, 0, MPOL_PREFERRED, 0, 0b0100, -1)), 0) == 2


def test_a_huge_page_comes_from_one_node_or_not_at_all(four: Lab) -> None:
    m = four.m
    vma = area(four, mpol_new(m, 0, MPOL_PREFERRED, 0, 0b0010, -1))
    got = []
    while (pfn := alloc_hugepage_vma(m, 0, GFP_TRANSHUGE, vma, START, 9)) >= 0:
        got.append(four.nid(four.page_at(pfn)))
    assert set(got) == {1}
    assert alloc_pages_vma(m, 0, GFP_TRANSHUGE, 9, vma, START, 0) >= 0


def test_policies_are_equal_if_they_say_the_same(four: Lab) -> None:
    m = four.m

    def new(mode: int, nodes: int, flags: int = 0) -> int:
        return mpol_new(m, 0, mode, flags, nodes, -1)

    assert mpol_equal(m, 0, 0)
    assert not mpol_equal(m, new(MPOL_BIND, 1), 0)
    assert mpol_equal(m, new(MPOL_BIND, 3), new(MPOL_BIND, 3))
    assert not mpol_equal(m, new(MPOL_BIND, 3), new(MPOL_BIND, 1))
    assert not mpol_equal(m, new(MPOL_BIND, 3), new(MPOL_INTERLEAVE, 3))
    assert not mpol_equal(m, new(MPOL_BIND, 3), new(MPOL_BIND, 3, MPOL_F_STATIC_NODES))
    assert mpol_equal(m, new(MPOL_LOCAL, 0), new(MPOL_PREFERRED, 0))
    assert not mpol_equal(m, new(MPOL_PREFERRED, 2), new(MPOL_PREFERRED, 4))


def test_every_area_has_a_copy_of_its_own(four: Lab) -> None:
    m = four.m
    pol = mpol_new(m, 0, MPOL_BIND, 0, 3, -1)
    one, other = area(four), area(four)
    assert vma_replace_policy(m, 0, one, pol) == 0
    assert vma_policy(m, one) not in (0, pol)
    assert vma_dup_policy(m, 0, one, other) == 0
    assert mpol_equal(m, vma_policy(m, other), pol)
    assert vma_policy(m, other) != vma_policy(m, one)
    assert vma_replace_policy(m, 0, one, 0) == 0
    assert vma_policy(m, one) == 0
    copy = mpol_dup(m, 0, pol)
    assert m[copy + MPOL_REFCNT] == 1
    mpol_put(m, 0, copy)
    mpol_put(m, 0, 0)


@pytest.mark.parametrize(
    ("mode", "flags", "nodes", "due"),
    [
        (MPOL_BIND, 0, 0b0011, 0b1100),
        (MPOL_BIND, MPOL_F_STATIC_NODES, 0b0110, 0b0100),
        (MPOL_BIND, MPOL_F_STATIC_NODES, 0b0011, 0b1100),
        (MPOL_INTERLEAVE, MPOL_F_RELATIVE_NODES, 0b0010, 0b1000),
    ],
)
def test_nodes_follow_the_cpuset_as_their_flags_say(
    four: Lab, mode: int, flags: int, nodes: int, due: int
) -> None:
    m = four.m
    pol = mpol_new(m, 0, mode, flags, nodes, 0b0111 if flags else 0b0011)
    assert m[pol + MPOL_MODE] == mode
    mpol_rebind_policy(m, pol, 0b1100)
    assert m[pol + MPOL_NODES] == due


def test_a_preferred_node_follows_the_cpuset_or_becomes_local(four: Lab) -> None:
    m = four.m
    pol = mpol_new(m, 0, MPOL_PREFERRED, 0, 0b0010, 0b0011)
    mpol_rebind_policy(m, pol, 0b1100)
    assert m[pol + MPOL_PREFERRED_NODE] == 3
    pol = mpol_new(m, 0, MPOL_PREFERRED, MPOL_F_STATIC_NODES, 0b0010, 0b0011)
    mpol_rebind_policy(m, pol, 0b1100)
    assert m[pol + MPOL_FLAGS] & MPOL_F_LOCAL
    mpol_rebind_policy(m, pol, 0b1110)
    assert not m[pol + MPOL_FLAGS] & MPOL_F_LOCAL
    assert m[pol + MPOL_PREFERRED_NODE] == 1
