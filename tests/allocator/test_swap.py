# SPDX-License-Identifier: GPL-2.0-only
"""The LRU lists: added in batches, moved by what happens to a page."""

from __future__ import annotations

import pytest

from allocator.layout import NODE_DATA, PAGE_OFFSET
from allocator.mm_inline import PG_SWAPCACHE
from allocator.mm_struct import VM_LOCKED, VM_SPECIAL, VMA_FLAGS
from allocator.mm_types import (
    P_COUNTS,
    P_MAPPING,
    P_NEXT,
    PAGE_MAPPING_ANON,
    PG_ACTIVE,
    PG_DIRTY,
    PG_LOCKED,
    PG_LRU,
    PG_MLOCKED,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_SWAPBACKED,
    PG_UNEVICTABLE,
    PG_WRITEBACK,
    REF_SHIFT,
)
from allocator.mmzone import (
    ND_INACTIVE_AGE,
    ND_RECENT_ROTATED,
    ND_RECENT_SCANNED,
    NR_MLOCK,
    NR_ZONE_LRU_BASE,
    PSET_STAT_DIFF,
    PSET_THRESHOLD,
    PSET_WORDS,
    Z_PAGESET,
    Z_VM_STAT,
)
from allocator.pagevec import PAGEVEC_SIZE, PV_ADD, PV_ROTATE, pagevecs, put_page_p
from allocator.swap import (
    activate_page,
    add_ones,
    deactivate_file_page,
    lru_add_drain,
    lru_add_drain_all,
    lru_add_page_tail,
    lru_cache_add,
    lru_cache_add_active_or_unevictable,
    lru_cache_add_anon,
    lru_cache_add_file,
    mark_page_accessed,
    mark_page_lazyfree,
    rotate_reclaimable_page,
)
from allocator.vmstat import zone_page_state_snapshot
from tests.allocator.process_support import Lab

INACTIVE_ANON, ACTIVE_ANON, INACTIVE_FILE, ACTIVE_FILE, UNEVICTABLE = range(5)


def node(lab: Lab, nid: int = 0) -> int:
    return (lab.m[NODE_DATA + nid] - PAGE_OFFSET) >> 3


def listed(lab: Lab, flags: int = 0) -> int:
    """A page on the list that `flags` say."""
    p = lab.new_page()
    lab.m[p] |= flags
    lru_cache_add(lab.m, 0, p)
    lru_add_drain(lab.m, 0)
    assert lab.m[p] & PG_LRU
    return p


def test_pages_wait_in_the_pagevec_until_it_is_full(lab: Lab) -> None:
    m = lab.m
    pages = [lab.new_page() for _ in range(PAGEVEC_SIZE)]
    for p in pages[:-1]:
        lru_cache_add(m, 0, p)
    assert lab.lru(0, INACTIVE_FILE) == []
    assert m[pagevecs(m, 0) + PV_ADD] == PAGEVEC_SIZE - 1
    assert m[pages[0] + P_COUNTS] >> REF_SHIFT == 2
    lru_cache_add(m, 0, pages[-1])
    assert lab.lru(0, INACTIVE_FILE) == pages[::-1]
    assert m[pages[0] + P_COUNTS] >> REF_SHIFT == 1
    assert m[pagevecs(m, 0) + PV_ADD] == 0


def test_the_list_is_chosen_when_the_pagevec_drains(lab: Lab) -> None:
    m, p = lab.m, lab.new_page()
    lru_cache_add_file(m, 0, p)
    m[p] |= PG_REFERENCED
    mark_page_accessed(m, 0, p)
    assert m[p] & (PG_ACTIVE | PG_REFERENCED) == PG_ACTIVE
    lru_add_drain(m, 0)
    assert lab.lru(0, ACTIVE_FILE) == [p]


def test_a_mixed_batch_goes_to_every_pages_own_list_and_is_counted_there(lab: Lab) -> None:
    m = lab.m
    kinds = [PG_SWAPBACKED, PG_SWAPBACKED | PG_ACTIVE, 0, PG_ACTIVE, PG_MLOCKED]
    pages = {}
    for nid in (0, 1):
        for lru, flags in enumerate(kinds):
            pages[nid, lru] = lab.new_page(nid=nid)
            m[pages[nid, lru]] |= flags
            lru_cache_add(m, 0, pages[nid, lru])
    lru_add_drain(m, 0)
    for (nid, lru), p in pages.items():
        assert lab.lru(nid, lru) == [p]
        z = lab.zone_of(p)
        assert zone_page_state_snapshot(m, z, NR_ZONE_LRU_BASE + lru) == 1
    assert lab.event("unevictable_pgs_culled") == 2
    nd = node(lab)
    assert [m[nd + ND_RECENT_SCANNED + i] for i in (0, 1)] == [2, 2]
    assert [m[nd + ND_RECENT_ROTATED + i] for i in (0, 1)] == [1, 1]


def test_a_compound_page_drains_the_batch_it_enters(lab: Lab) -> None:
    m, p, huge = lab.m, lab.new_page(), lab.new_page(9)
    m[p] |= PG_SWAPBACKED
    m[huge] |= PG_SWAPBACKED
    lru_cache_add(m, 0, p)
    lru_cache_add(m, 0, huge)
    assert lab.lru(0, INACTIVE_ANON) == [huge, p]
    assert zone_page_state_snapshot(m, lab.zone_of(p), NR_ZONE_LRU_BASE) == 513


@pytest.mark.parametrize("start", [-3, 0, 4])
@pytest.mark.parametrize("threshold", [0, 1, 5, 40])
def test_counting_a_batch_folds_where_single_pages_would(start: int, threshold: int) -> None:
    for n in range(1, 16):
        m = memoryview(bytearray(16)).cast("q")
        m[0] = start
        add_ones(m, 0, threshold, 1, n)
        diff, total = start, 0
        for _ in range(n):
            diff += 1
            if diff > threshold or diff < -threshold:
                total, diff = total + diff, 0
        assert (m[0], m[1]) == (diff, total)


def test_the_zone_counter_moves_when_the_delta_passes_its_threshold(lab: Lab) -> None:
    m = lab.m
    z = lab.zone_of(lab.new_page())
    ps = (m[z + Z_PAGESET] - PAGE_OFFSET >> 3) + 0 * PSET_WORDS
    threshold = m[ps + PSET_THRESHOLD]
    assert 0 < threshold < PAGEVEC_SIZE
    for _ in range(PAGEVEC_SIZE):
        lru_cache_add(m, 0, lab.new_page())
    item = NR_ZONE_LRU_BASE + INACTIVE_FILE
    assert m[z + Z_VM_STAT + item] == PAGEVEC_SIZE // (threshold + 1) * (threshold + 1)
    assert m[z + Z_VM_STAT + item] + m[ps + PSET_STAT_DIFF + item] == PAGEVEC_SIZE


def test_anon_and_file_pages_begin_inactive(lab: Lab) -> None:
    m = lab.m
    for add in (lru_cache_add_anon, lru_cache_add_file):
        p = lab.new_page()
        m[p] |= PG_ACTIVE
        add(m, 0, p)
        assert not m[p] & PG_ACTIVE


@pytest.mark.parametrize(
    ("flags", "mlocked"), [(0, False), (VM_LOCKED, True), (VM_LOCKED | VM_SPECIAL, False)]
)
def test_a_faulted_page_is_active_unless_its_area_is_locked(
    lab: Lab, flags: int, mlocked: bool
) -> None:
    m, p, vma = lab.m, lab.new_page(), lab.scratch()
    m[vma + VMA_FLAGS] = flags
    before = zone_page_state_snapshot(m, lab.zone_of(p), NR_MLOCK)
    lru_cache_add_active_or_unevictable(m, 0, p, vma)
    assert bool(m[p] & PG_MLOCKED) == mlocked
    assert bool(m[p] & PG_ACTIVE) == (not mlocked)
    assert zone_page_state_snapshot(m, lab.zone_of(p), NR_MLOCK) == before + mlocked
    lru_add_drain(m, 0)
    assert lab.lru(0, UNEVICTABLE if mlocked else ACTIVE_FILE) == [p]


def test_a_page_that_dies_in_the_pagevec_is_freed_with_the_drain(lab: Lab) -> None:
    m, p = lab.m, lab.new_page()
    lru_cache_add(m, 0, p)
    put_page_p(m, 0, p)
    assert m[p + P_COUNTS] >> REF_SHIFT == 1
    lru_add_drain(m, 0)
    assert m[p + P_COUNTS] >> REF_SHIFT == 0
    assert lab.check().sound


def test_use_takes_a_page_from_unreferenced_to_referenced_to_active(lab: Lab) -> None:
    m = lab.m
    p = listed(lab)
    age = m[node(lab) + ND_INACTIVE_AGE]
    mark_page_accessed(m, 0, p)
    assert m[p] & (PG_REFERENCED | PG_ACTIVE) == PG_REFERENCED
    mark_page_accessed(m, 0, p)
    assert m[p] & PG_REFERENCED == 0
    assert m[node(lab) + ND_INACTIVE_AGE] == age + 1
    lru_add_drain(m, 0)
    assert lab.lru(0, ACTIVE_FILE) == [p]
    mark_page_accessed(m, 0, p)
    assert m[p] & (PG_REFERENCED | PG_ACTIVE) == PG_REFERENCED | PG_ACTIVE
    assert lab.event("pgactivate") == 1


@pytest.mark.parametrize("flags", [PG_ACTIVE, PG_MLOCKED])
def test_only_inactive_evictable_pages_are_activated(lab: Lab, flags: int) -> None:
    p = listed(lab, flags)
    activate_page(lab.m, 0, p)
    lru_add_drain(lab.m, 0)
    assert lab.event("pgactivate") == 0


def test_a_page_whose_writeback_ended_goes_to_the_inactive_tail(lab: Lab) -> None:
    m = lab.m
    p, other = listed(lab, PG_ACTIVE), listed(lab)
    rotate_reclaimable_page(m, 0, p)
    assert m[pagevecs(m, 0) + PV_ROTATE] == 1
    lru_add_drain(m, 0)
    assert lab.lru(0, INACTIVE_FILE) == [other, p]
    assert lab.event("pgrotated") == 1


@pytest.mark.parametrize("flag", [PG_LOCKED, PG_DIRTY, PG_UNEVICTABLE])
def test_a_page_in_use_is_not_rotated(lab: Lab, flag: int) -> None:
    p = listed(lab)
    lab.m[p] |= flag
    rotate_reclaimable_page(lab.m, 0, p)
    assert lab.m[pagevecs(lab.m, 0) + PV_ROTATE] == 0


@pytest.mark.parametrize(
    ("flags", "place", "reclaim"),
    [
        (0, -1, False),
        (PG_ACTIVE, -1, False),
        (PG_ACTIVE | PG_DIRTY, 0, True),
        (PG_WRITEBACK, 0, True),
    ],
)
def test_deactivated_pages_go_to_the_tail_if_clean_and_to_the_head_if_not(
    lab: Lab, flags: int, place: int, reclaim: bool
) -> None:
    m = lab.m
    listed(lab)
    p = listed(lab, flags)
    listed(lab)
    deactivate_file_page(m, 0, p)
    lru_add_drain(m, 0)
    assert lab.lru(0, INACTIVE_FILE)[place] == p
    assert bool(m[p] & PG_RECLAIM) == reclaim
    assert lab.event("pgdeactivate") == (1 if flags & PG_ACTIVE else 0)


def test_a_mapped_file_page_is_not_deactivated(lab: Lab) -> None:
    m, p = lab.m, listed(lab, PG_ACTIVE)
    m[p + P_COUNTS] &= ~0xFFFFFFFF
    deactivate_file_page(m, 0, p)
    lru_add_drain(m, 0)
    assert lab.lru(0, ACTIVE_FILE) == [p]


def test_lazyfree_turns_an_anonymous_page_into_a_clean_inactive_file_page(lab: Lab) -> None:
    m = lab.m
    p = listed(lab, PG_SWAPBACKED | PG_ACTIVE | PG_REFERENCED)
    m[p + P_MAPPING] = PAGE_OFFSET + PAGE_MAPPING_ANON
    mark_page_lazyfree(m, 0, p)
    lru_add_drain(m, 0)
    assert lab.lru(0, INACTIVE_FILE) == [p]
    assert m[p] & (PG_SWAPBACKED | PG_ACTIVE | PG_REFERENCED) == 0
    assert lab.event("pglazyfree") == 1


def test_a_page_in_the_swap_cache_is_not_made_lazyfree(lab: Lab) -> None:
    m = lab.m
    p = listed(lab, PG_SWAPBACKED | PG_SWAPCACHE)
    m[p + P_MAPPING] = PAGE_OFFSET + PAGE_MAPPING_ANON
    mark_page_lazyfree(m, 0, p)
    lru_add_drain(m, 0)
    assert lab.event("pglazyfree") == 0


def test_draining_all_empties_every_cpus_pagevecs(lab: Lab) -> None:
    m = lab.m
    pages = [lab.new_page() for _ in range(2)]
    for cpu, p in enumerate(pages):
        lru_cache_add(m, cpu, p)
    lru_add_drain(m, 0)
    assert lab.lru(0, INACTIVE_FILE) == pages[:1]
    lru_add_drain_all(m)
    assert set(lab.lru(0, INACTIVE_FILE)) == set(pages)


def test_the_parts_of_a_split_page_follow_their_head(lab: Lab) -> None:
    m = lab.m
    listed(lab)
    p = listed(lab)
    tails = [lab.new_page() for _ in range(2)]
    for tail in reversed(tails):
        m[tail + P_NEXT] = 0
        lru_add_page_tail(m, 0, p, tail, 0)
    order = lab.lru(0, INACTIVE_FILE)
    assert order[:3] == [tails[1], tails[0], p]
    assert all(m[tail] & PG_LRU for tail in tails)
