# SPDX-License-Identifier: GPL-2.0-only
"""Taking pages off the LRU lists."""

from __future__ import annotations

import pytest

from allocator.list_head import list_init
from allocator.lru_isolate import (
    EBUSY,
    EINVAL,
    ISOLATE_ASYNC_MIGRATE,
    ISOLATE_UNEVICTABLE,
    ISOLATE_UNMAPPED,
    add_isolated_page,
    isolate_lru_page,
    isolate_lru_page_mode,
    mod_isolated,
    putback_lru_page,
)
from allocator.mm_types import (
    P_COUNTS,
    PG_ACTIVE,
    PG_DIRTY,
    PG_LOCKED,
    PG_LRU,
    PG_MLOCKED,
    PG_SWAPBACKED,
    PG_WRITEBACK,
    REF_SHIFT,
)
from allocator.mmzone import NR_ISOLATED_ANON, NR_ISOLATED_FILE
from allocator.swap import lru_add_drain, lru_cache_add
from tests.allocator.process_support import Lab


def listed(lab: Lab, flags: int = 0) -> int:
    p = lab.new_page()
    lab.m[p] |= flags
    lru_cache_add(lab.m, 0, p)
    lru_add_drain(lab.m, 0)
    return p


def test_an_isolated_page_is_off_its_list_and_held(lab: Lab) -> None:
    m, p = lab.m, listed(lab, PG_ACTIVE)
    assert isolate_lru_page(m, 0, p) == 0
    assert lab.lru(0, 3) == []
    assert m[p] & (PG_LRU | PG_ACTIVE) == PG_ACTIVE
    assert m[p + P_COUNTS] >> REF_SHIFT == 2
    assert isolate_lru_page(m, 0, p) == -EBUSY
    putback_lru_page(m, 0, p)
    lru_add_drain(m, 0)
    assert lab.lru(0, 3) == [p]
    assert m[p + P_COUNTS] >> REF_SHIFT == 1


@pytest.mark.parametrize(
    ("flags", "mapped", "mode", "said"),
    [
        (0, False, 0, 0),
        (0, True, 0, 0),
        (0, True, ISOLATE_UNMAPPED, -EBUSY),
        (PG_MLOCKED, False, 0, -EINVAL),
        (PG_MLOCKED, False, ISOLATE_UNEVICTABLE, 0),
        (PG_WRITEBACK, False, 0, 0),
        (PG_WRITEBACK, False, ISOLATE_ASYNC_MIGRATE, -EBUSY),
        (PG_DIRTY, False, ISOLATE_ASYNC_MIGRATE, 0),
        (PG_DIRTY | PG_LOCKED, False, ISOLATE_ASYNC_MIGRATE, -EBUSY),
        (PG_LOCKED, False, ISOLATE_ASYNC_MIGRATE, 0),
    ],
)
def test_the_mode_says_which_pages_are_worth_isolating(
    lab: Lab, flags: int, mapped: bool, mode: int, said: int
) -> None:
    m, p = lab.m, listed(lab, flags)
    if mapped:
        m[p + P_COUNTS] &= ~0xFFFFFFFF
    assert isolate_lru_page_mode(m, p, mode) == said
    assert bool(m[p] & PG_LRU) == (said != 0)
    assert m[p + P_COUNTS] >> REF_SHIFT == (2 if said == 0 else 1)


def test_a_page_on_no_list_or_without_references_cannot_be_isolated(lab: Lab) -> None:
    m, p = lab.m, lab.new_page()
    assert isolate_lru_page_mode(m, p, 0) == -EINVAL
    p = listed(lab)
    m[p + P_COUNTS] = 0xFFFFFFFF
    assert isolate_lru_page_mode(m, p, 0) == -EBUSY


@pytest.mark.parametrize(
    ("flags", "item"), [(PG_SWAPBACKED, NR_ISOLATED_ANON), (0, NR_ISOLATED_FILE)]
)
def test_isolated_pages_are_counted_by_kind(lab: Lab, flags: int, item: int) -> None:
    m, p = lab.m, lab.new_page()
    m[p] |= flags
    before = lab.node_counter(0, item)
    mod_isolated(m, 0, p, 200)
    assert lab.node_counter(0, item) == before + 200


def test_isolated_pages_are_linked_to_their_takers_list(lab: Lab) -> None:
    m, head = lab.m, lab.scratch()
    list_init(m, head)
    pages = [lab.new_page(), lab.new_page()]
    for p in pages:
        add_isolated_page(m, p, head)
    assert lab.listed(head) == pages[::-1]
