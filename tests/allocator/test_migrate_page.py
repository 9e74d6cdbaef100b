# SPDX-License-Identifier: GPL-2.0-only
"""The owner of one frame moved to another."""

from __future__ import annotations

import pytest

from allocator.address_space import AS_NRPAGES, page_mapping
from allocator.compact_free import MIGRATE_ASYNC, MIGRATE_SYNC, MIGRATE_SYNC_LIGHT
from allocator.layout import PF_MEMALLOC, TASK_FLAGS
from allocator.lru_isolate import isolate_lru_page
from allocator.migrate_page import (
    EAGAIN,
    EBUSY,
    lock_for_migration,
    migrate_page_copy,
    migrate_page_move_mapping,
    unmap_and_move_lru,
)
from allocator.mm_inline import PG_SWAPCACHE, page_to_pfn
from allocator.mm_types import (
    P_COUNTS,
    P_INDEX,
    P_MAPPING,
    P_PRIVATE,
    PG_ACTIVE,
    PG_DIRTY,
    PG_LOCKED,
    PG_MLOCKED,
    PG_REFERENCED,
    PG_SWAPBACKED,
    PG_UNEVICTABLE,
    PG_UPTODATE,
    PG_WORKINGSET,
    PG_WRITEBACK,
    REF_ONE,
    REF_SHIFT,
)
from allocator.mmzone import NR_FILE_PAGES
from allocator.pagevec import put_page_p
from allocator.swap_cache import find_swap_page
from allocator.swap_state import add_to_swap
from tests.allocator.process_support import Lab


def cached(lab: Lab) -> int:
    """An isolated page in the swap cache: two references."""
    p = lab.new_page()
    lab.m[p] |= PG_LOCKED | PG_SWAPBACKED
    assert add_to_swap(lab.m, 0, p)
    return p


def test_a_page_without_mapping_takes_place_and_kind_along(lab: Lab) -> None:
    m, p, new = lab.m, lab.new_page(), lab.new_page(nid=1)
    m[p + P_MAPPING], m[p + P_INDEX] = 0x1001, 77
    m[p] |= PG_SWAPBACKED
    assert migrate_page_move_mapping(m, 0, 0, new, p) == 0
    assert (m[new + P_MAPPING], m[new + P_INDEX]) == (0x1001, 77)
    assert m[new] & PG_SWAPBACKED
    assert m[p + P_COUNTS] >> REF_SHIFT == m[new + P_COUNTS] >> REF_SHIFT == 1


def test_a_cached_page_hands_over_its_slot_and_the_caches_reference(lab: Lab) -> None:
    lab.swap(64)
    m, p, new = lab.m, cached(lab), lab.new_page(nid=1)
    entry, space = m[p + P_PRIVATE], page_mapping(m, p)
    assert migrate_page_move_mapping(m, 0, space, new, p) == 0
    assert find_swap_page(m, entry) == new
    assert m[new + P_PRIVATE] == entry
    assert m[new] & (PG_SWAPCACHE | PG_DIRTY) == PG_SWAPCACHE | PG_DIRTY
    assert not m[p] & PG_DIRTY
    assert (m[p + P_COUNTS] >> REF_SHIFT, m[new + P_COUNTS] >> REF_SHIFT) == (1, 2)
    assert m[space + AS_NRPAGES] == 1
    assert [lab.node_counter(nid, NR_FILE_PAGES) for nid in (0, 1)] == [0, 1]


@pytest.mark.parametrize("in_cache", [False, True])
def test_one_reference_too_many_keeps_a_page_where_it_is(lab: Lab, in_cache: bool) -> None:
    lab.swap(64)
    m = lab.m
    p, new = cached(lab) if in_cache else lab.new_page(), lab.new_page()
    m[p + P_COUNTS] += REF_ONE
    before = m[new : new + 8].tolist()
    assert migrate_page_move_mapping(m, 0, page_mapping(m, p), new, p) == -EAGAIN
    assert m[new : new + 8].tolist() == before


def test_state_is_copied_and_what_names_a_list_is_moved(lab: Lab) -> None:
    m, p, new = lab.m, lab.new_page(), lab.new_page()
    kept = PG_REFERENCED | PG_UPTODATE | PG_WORKINGSET | PG_DIRTY
    m[p] |= kept | PG_ACTIVE | PG_UNEVICTABLE | PG_MLOCKED | PG_LOCKED
    for i in range(512):
        m[(page_to_pfn(m, p) << 9) + i] = i * i
    migrate_page_copy(m, new, p)
    assert m[new] & (kept | PG_ACTIVE | PG_UNEVICTABLE) == kept | PG_ACTIVE | PG_UNEVICTABLE
    assert not m[new] & (PG_MLOCKED | PG_LOCKED)
    assert not m[p] & (PG_ACTIVE | PG_UNEVICTABLE)
    at = page_to_pfn(m, new) << 9
    assert m[at : at + 512].tolist() == [i * i for i in range(512)]


@pytest.mark.parametrize(
    ("mode", "force", "flags", "said"),
    [
        (MIGRATE_ASYNC, 0, 0, 0),
        (MIGRATE_ASYNC, 1, PG_LOCKED, -EAGAIN),
        (MIGRATE_SYNC, 0, PG_LOCKED, -EAGAIN),
        (MIGRATE_SYNC, 1, PG_LOCKED, -EAGAIN),
        (MIGRATE_ASYNC, 1, PG_WRITEBACK, -EBUSY),
        (MIGRATE_SYNC_LIGHT, 1, PG_WRITEBACK, -EBUSY),
        (MIGRATE_SYNC, 0, PG_WRITEBACK, -EAGAIN),
    ],
)
def test_what_migration_waits_for(lab: Lab, mode: int, force: int, flags: int, said: int) -> None:
    m, p = lab.m, lab.new_page()
    m[p] |= flags
    assert lock_for_migration(m, 0, p, force, mode) == said
    assert bool(m[p] & PG_LOCKED) == (said == 0 or bool(flags & PG_LOCKED))


def test_reclaim_does_not_wait_for_locks(lab: Lab) -> None:
    m, p, task = lab.m, lab.new_page(), lab.process()
    m[p] |= PG_LOCKED
    m[task + TASK_FLAGS] |= PF_MEMALLOC
    with lab.acting(task):
        assert lock_for_migration(m, 0, p, 1, MIGRATE_SYNC) == -EAGAIN


def test_a_page_that_cannot_move_is_mapped_again_where_it_was(lab: Lab) -> None:
    m, task = lab.m, lab.process()
    at = lab.map(task, 1)
    lab.poke(task, at, 5)
    lab.drain()
    p, new = lab.page(task, at), lab.new_page()
    m[p + P_COUNTS] += REF_ONE
    assert isolate_lru_page(m, 0, p) == 0
    assert unmap_and_move_lru(m, 0, p, new, 1, MIGRATE_SYNC) == -EAGAIN
    assert lab.page(task, at) == p
    assert not m[p] & PG_LOCKED
    assert not m[new] & PG_LOCKED
    m[p + P_COUNTS] -= REF_ONE
    assert unmap_and_move_lru(m, 0, p, new, 1, MIGRATE_SYNC) == 0
    assert lab.page(task, at) == new
    put_page_p(m, 0, p)
    lab.drain()
    assert lab.peek(task, at) == 5
    assert lab.check().sound
