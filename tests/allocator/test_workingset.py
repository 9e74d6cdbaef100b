# SPDX-License-Identifier: GPL-2.0-only
"""Shadows of evicted pages, and what a refault says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.layout import NODE_DATA, PAGE_OFFSET
from allocator.lruvec import lruvec_lru_size
from allocator.mm_types import PG_ACTIVE, PG_WORKINGSET
from allocator.mmzone import (
    LRU_ACTIVE_FILE,
    ND_INACTIVE_AGE,
    ND_LRUVEC,
    WORKINGSET_ACTIVATE,
    WORKINGSET_REFAULT,
    WORKINGSET_RESTORE,
)
from allocator.swap import lru_add_drain, lru_cache_add
from allocator.workingset import (
    EVICTION_BITS,
    pack_shadow,
    shadow_eviction,
    shadow_nid,
    shadow_workingset,
    workingset_activation,
    workingset_eviction,
    workingset_refault,
)
from allocator.xarray import xa_is_value
from tests.allocator.process_support import Lab


@given(st.integers(0, 63), st.integers(0, 1 << 50), st.integers(0, 1))
def test_a_shadow_is_a_value_entry_that_remembers_all(nid: int, age: int, workingset: int) -> None:
    shadow = pack_shadow(nid, age, workingset)
    assert xa_is_value(shadow)
    assert -(1 << 63) <= shadow < 1 << 63
    assert shadow_nid(shadow) == nid
    assert shadow_workingset(shadow) == workingset
    assert shadow_eviction(shadow) == age & (1 << EVICTION_BITS) - 1


def node(lab: Lab, nid: int = 0) -> int:
    return (lab.m[NODE_DATA + nid] - PAGE_OFFSET) >> 3


def active_files(lab: Lab, n: int) -> None:
    for _ in range(n):
        p = lab.new_page()
        lab.m[p] |= PG_ACTIVE
        lru_cache_add(lab.m, 0, p)
    lru_add_drain(lab.m, 0)


def test_list_sizes_are_exact_whatever_the_cpus_hold_back(lab: Lab) -> None:
    active_files(lab, 7)
    assert lruvec_lru_size(lab.m, node(lab) + ND_LRUVEC, LRU_ACTIVE_FILE, 3) == 7
    assert lruvec_lru_size(lab.m, node(lab) + ND_LRUVEC, LRU_ACTIVE_FILE, 0) == 0
    assert lruvec_lru_size(lab.m, node(lab, 1) + ND_LRUVEC, LRU_ACTIVE_FILE, 3) == 0


@pytest.mark.parametrize(("distance", "activated"), [(0, True), (10, True), (11, False)])
def test_a_page_that_would_have_stayed_with_the_active_lists_room_is_activated(
    lab: Lab, distance: int, activated: bool
) -> None:
    m = lab.m
    active_files(lab, 10)
    p = lab.new_page()
    shadow = workingset_eviction(m, 0, 0, p)
    m[node(lab) + ND_INACTIVE_AGE] += distance
    age = m[node(lab) + ND_INACTIVE_AGE]
    workingset_refault(m, 0, p, shadow)
    assert bool(m[p] & PG_ACTIVE) == activated
    assert m[node(lab) + ND_INACTIVE_AGE] == age + activated
    assert lab.node_counter(0, WORKINGSET_REFAULT) == 1
    assert lab.node_counter(0, WORKINGSET_ACTIVATE) == activated
    assert lab.node_counter(0, WORKINGSET_RESTORE) == 0


def test_a_page_of_the_working_set_is_restored_to_it(lab: Lab) -> None:
    m, p = lab.m, lab.new_page(nid=1)
    m[p] |= PG_WORKINGSET
    age = m[node(lab, 1) + ND_INACTIVE_AGE]
    shadow = workingset_eviction(m, 0, 0, p)
    assert m[node(lab, 1) + ND_INACTIVE_AGE] == age + 1
    again = lab.new_page()
    workingset_refault(m, 0, again, shadow)
    assert m[again] & (PG_WORKINGSET | PG_ACTIVE) == PG_WORKINGSET | PG_ACTIVE
    assert lab.node_counter(1, WORKINGSET_RESTORE) == 1


def test_the_age_may_wrap_between_eviction_and_refault(lab: Lab) -> None:
    m, p = lab.m, lab.new_page()
    m[node(lab) + ND_INACTIVE_AGE] = (1 << EVICTION_BITS) - 1
    shadow = workingset_eviction(m, 0, 0, p)
    m[node(lab) + ND_INACTIVE_AGE] += 1
    workingset_refault(m, 0, p, shadow)
    assert not m[p] & PG_ACTIVE
    active_files(lab, 3)
    workingset_refault(m, 0, p, shadow)
    assert m[p] & PG_ACTIVE


def test_an_activation_ages_the_node(lab: Lab) -> None:
    p = lab.new_page()
    age = lab.m[node(lab) + ND_INACTIVE_AGE]
    workingset_activation(lab.m, p)
    assert lab.m[node(lab) + ND_INACTIVE_AGE] == age + 1
