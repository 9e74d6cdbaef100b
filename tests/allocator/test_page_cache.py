# SPDX-License-Identifier: GPL-2.0-only
"""The page cache: what is put in is found, counted, referenced, and taken out again."""

from __future__ import annotations

from allocator.address_space import AS_GFP, AS_I_PAGES, AS_NREXCEPTIONAL, AS_NRPAGES
from allocator.gfp import GFP_WRITE_BIT
from allocator.layout import (
    PAGE_OFFSET,
    PFA_SPREAD_PAGE,
    TASK_ATOMIC_FLAGS,
    TASK_MEMS_ALLOWED,
    va_of_word,
)
from allocator.mm_inline import unlock_page
from allocator.mm_types import (
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    PG_ACTIVE,
    PG_LOCKED,
    REF_SHIFT,
)
from allocator.mmzone import ND_VM_STAT, NR_FILE_PAGES, WORKINGSET_REFAULT, Z_PGDAT
from allocator.page_cache import (
    EEXIST,
    add_to_page_cache_lru,
    delete_from_page_cache,
    delete_from_page_cache_only,
    find_get_page,
    find_lock_page,
    next_cached,
    page_cache_alloc,
)
from allocator.pagevec import put_page_p
from allocator.slab_page import page_node
from allocator.swap import lru_add_drain
from allocator.workingset import workingset_eviction
from allocator.xarray import xa_load
from tests.allocator.disk import Disk


def node(disk: Disk, item: int) -> int:
    """A counter of the only node."""
    return disk.m[((disk.m[disk.tiny.z + Z_PGDAT] - PAGE_OFFSET) >> 3) + ND_VM_STAT + item]


def put(disk: Disk, mapping: int, index: int, gfp: int = 0) -> int:
    """A new page in the cache, unlocked."""
    m = disk.m
    p = page_cache_alloc(m, 0, mapping, gfp)
    assert add_to_page_cache_lru(m, 0, p, mapping, index, m[mapping + AS_GFP] | gfp) == 0
    unlock_page(m, p)
    put_page_p(m, 0, p)
    return p


def test_a_page_in_the_cache_knows_its_place_and_is_referenced_by_it() -> None:
    disk = Disk()
    m = disk.m
    mapping = disk.mapping(disk.file("f"))
    p = put(disk, mapping, 7)
    assert m[p + P_MAPPING] == va_of_word(mapping)
    assert m[p + P_INDEX] == 7
    assert m[mapping + AS_NRPAGES] == node(disk, NR_FILE_PAGES) == 1
    lru_add_drain(m, 0)
    assert m[p + P_COUNTS] >> REF_SHIFT == 1
    assert find_get_page(m, mapping, 7) == p
    assert m[p + P_COUNTS] >> REF_SHIFT == 2
    assert find_get_page(m, mapping, 6) == 0
    put_page_p(m, 0, p)


def test_a_place_that_is_taken_is_refused() -> None:
    disk = Disk()
    m = disk.m
    mapping = disk.mapping(disk.file("f"))
    put(disk, mapping, 0)
    p = page_cache_alloc(m, 0, mapping, 0)
    assert add_to_page_cache_lru(m, 0, p, mapping, 0, 0) == -EEXIST
    assert m[p + P_FLAGS] & PG_LOCKED == 0
    assert m[p + P_MAPPING] == 0
    free = disk.tiny.free_pages()
    put_page_p(m, 0, p)
    assert disk.tiny.free_pages() == free + 1


def test_finding_locks_and_next_cached_goes_on() -> None:
    disk = Disk()
    m = disk.m
    mapping = disk.mapping(disk.file("f"))
    pages = {index: put(disk, mapping, index) for index in (0, 3, 64, 4000)}
    found = []
    index = next_cached(m, mapping, 0, 5000)
    while index >= 0:
        found.append(index)
        index = next_cached(m, mapping, index + 1, 5000)
    assert found == list(pages)
    assert next_cached(m, mapping, 65, 3999) == -1
    assert find_lock_page(m, 0, mapping, 64) == pages[64]
    assert m[pages[64] + P_FLAGS] & PG_LOCKED


def test_taking_a_page_out_leaves_its_shadow_or_nothing() -> None:
    disk = Disk()
    m = disk.m
    mapping = disk.mapping(disk.file("f"))
    p, q = put(disk, mapping, 1), put(disk, mapping, 2)
    lru_add_drain(m, 0)
    m[p + P_FLAGS] |= PG_LOCKED
    shadow = workingset_eviction(m, 0, mapping, p)
    delete_from_page_cache_only(m, 0, p, shadow)
    unlock_page(m, p)
    put_page_p(m, 0, p)
    assert xa_load(m, mapping + AS_I_PAGES, 1) == shadow
    assert m[mapping + AS_NREXCEPTIONAL] == m[mapping + AS_NRPAGES] == 1
    assert find_get_page(m, mapping, 1) == 0
    free = disk.tiny.free_pages()
    m[q + P_FLAGS] |= PG_LOCKED
    m[q + P_COUNTS] += 1 << REF_SHIFT
    delete_from_page_cache(m, 0, q)
    unlock_page(m, q)
    put_page_p(m, 0, q)
    assert disk.tiny.free_pages() >= free + 1
    assert m[mapping + AS_NRPAGES] == node(disk, NR_FILE_PAGES) == 0


def test_a_page_that_comes_back_soon_is_a_refault_but_not_when_it_is_overwritten() -> None:
    disk = Disk()
    m = disk.m
    mapping = disk.mapping(disk.file("f"))
    for index in (1, 2):
        p = put(disk, mapping, index)
        lru_add_drain(m, 0)
        m[p + P_FLAGS] |= PG_LOCKED
        shadow = workingset_eviction(m, 0, mapping, p)
        delete_from_page_cache_only(m, 0, p, shadow)
        unlock_page(m, p)
        put_page_p(m, 0, p)
    back = put(disk, mapping, 1)
    assert node(disk, WORKINGSET_REFAULT) == 1
    assert m[mapping + AS_NREXCEPTIONAL] == 1
    overwritten = put(disk, mapping, 2, GFP_WRITE_BIT)
    assert node(disk, WORKINGSET_REFAULT) == 1
    assert m[overwritten + P_FLAGS] & PG_ACTIVE == 0
    assert m[mapping + AS_NREXCEPTIONAL] == 0
    assert back != overwritten


def test_a_cpuset_that_spreads_page_cache_takes_the_nodes_in_turn() -> None:
    disk = Disk(nodes=3)
    m = disk.m
    mapping = disk.mapping(disk.file("f"))
    task = disk.tiny.task()
    m[task + TASK_MEMS_ALLOWED] = 0b111
    assert page_node(m, page_cache_alloc(m, 0, mapping, 0)) == 0
    m[task + TASK_ATOMIC_FLAGS] |= PFA_SPREAD_PAGE
    nodes = [page_node(m, page_cache_alloc(m, 0, mapping, 0)) for _ in range(6)]
    assert nodes == [1, 2, 0, 1, 2, 0]
