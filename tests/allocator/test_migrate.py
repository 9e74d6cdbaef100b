# SPDX-License-Identifier: GPL-2.0-only
"""Lists of pages migrated: bytes, references and owners move, the old frames are freed."""

from __future__ import annotations

import pytest

from allocator.blockdev import blk_wait_any
from allocator.gfp import GFP_HIGHUSER_MOVABLE
from allocator.kernel_globals import G_CLOCK, G_TRACE_MASK
from allocator.layout import CPU_BLOCKS, CPU_EVENTS, VMEMMAP_START
from allocator.list_head import list_add, list_empty, list_init
from allocator.lru_isolate import add_isolated_page, isolate_lru_page, mod_isolated
from allocator.migrate import (
    ENOMEM,
    MIGRATE_ASYNC,
    MIGRATE_SYNC,
    MIGRATE_SYNC_LIGHT,
    MR_CONTIG_RANGE,
    MR_SYSCALL,
    NEW_PAGE_CONTIG,
    NEW_PAGE_NODE,
    PG_ISOLATED,
    PGMIGRATE_FAIL,
    PGMIGRATE_SUCCESS,
    clear_page_movable,
    isolate_movable_page,
    migrate_pages,
    putback_movable_pages,
    set_page_movable,
)
from allocator.mm_types import (
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    P_NEXT,
    P_PRIVATE,
    PG_DIRTY,
    PG_LOCKED,
    PG_WRITEBACK,
    REF_ONE,
    REF_SHIFT,
)
from allocator.mmzone import NR_ISOLATED_ANON
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.page_io import swap_writepage
from allocator.swap_map import swap_duplicate, swap_free
from allocator.swap_state import add_to_swap
from allocator.trace_events import EV_MIGRATE
from tests.allocator.process_support import PAGE, Lab
from tests.allocator.tiny import NODE_PAGES, SCRATCH_WORD, Tiny

HEAD = SCRATCH_WORD
COOKIE = 0x5000


def movable(tiny: Tiny) -> int:
    pfn = alloc_pages_nodemask(tiny.m, 0, GFP_HIGHUSER_MOVABLE, 0, 0, 0)
    set_page_movable(tiny.m, pfn, COOKIE)
    return pfn


def isolated(tiny: Tiny) -> int:
    pfn = movable(tiny)
    p = tiny.page(pfn)
    list_init(tiny.m, HEAD)
    assert isolate_movable_page(tiny.m, p) == 0
    list_add(tiny.m, p + P_NEXT, VMEMMAP_START + (pfn << 6) + 8, HEAD)
    return pfn


def migrate(m: memoryview) -> int:
    """migrate_pages() as alloc_contig_range calls it."""
    return migrate_pages(m, 0, HEAD, NEW_PAGE_CONTIG, 0, MIGRATE_SYNC, MR_CONTIG_RANGE)


def events(tiny: Tiny) -> tuple[int, int]:
    at = CPU_BLOCKS + CPU_EVENTS
    return tiny.m[at + PGMIGRATE_SUCCESS], tiny.m[at + PGMIGRATE_FAIL]


def test_the_target_gets_bytes_owner_and_reference(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    src = isolated(tiny_zone)
    tiny_zone.memory.write((src << 12) + 100, b"precious")
    tiny_zone.record(EV_MIGRATE)
    assert migrate(m) == 0
    ((_, moved, dst, rc, lru),) = tiny_zone.events()
    assert (moved, rc, lru) == (src, 0, 0)
    assert tiny_zone.memory.read((dst << 12) + 100, 8) == b"precious"
    q = tiny_zone.page(dst)
    assert (m[q + P_MAPPING], m[q + P_COUNTS] >> REF_SHIFT) == (COOKIE | 2, 1)
    assert m[tiny_zone.page(src) + P_FLAGS] & PG_ISOLATED == 0
    assert events(tiny_zone) == (1, 0)
    assert list_empty(m, HEAD)
    assert tiny_zone.free_pages() == tiny_zone.listed_pages() == NODE_PAGES - 1
    clear_page_movable(m, dst)
    assert free_pages(m, 0, dst, 0) == 0


@pytest.mark.parametrize("case", ["free", "locked", "isolated", "no owner", "not movable"])
def test_pages_that_cannot_be_isolated(tiny_zone: Tiny, case: str) -> None:
    m = tiny_zone.m
    pfn = movable(tiny_zone)
    p = tiny_zone.page(pfn)
    if case == "free":
        clear_page_movable(m, pfn)
        free_pages(m, 0, pfn, 0)
    elif case == "locked":
        m[p + P_FLAGS] |= PG_LOCKED
    elif case == "isolated":
        m[p + P_FLAGS] |= PG_ISOLATED
    elif case == "no owner":
        clear_page_movable(m, pfn)
    else:
        m[p + P_MAPPING] = 0
    before = m[p + P_COUNTS]
    assert isolate_movable_page(m, p) == -16
    assert m[p + P_COUNTS] == before


def test_a_page_locked_after_isolation_stays_with_its_target_freed(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    src = isolated(tiny_zone)
    p = tiny_zone.page(src)
    m[p + P_FLAGS] |= PG_LOCKED
    assert migrate(m) == 1
    assert events(tiny_zone) == (0, 1)
    assert tiny_zone.listed_pages() == NODE_PAGES - 1
    putback_movable_pages(m, 0, HEAD)
    assert m[p + P_COUNTS] >> REF_SHIFT == 1
    assert m[p + P_FLAGS] & PG_ISOLATED == 0


def test_without_a_target_migration_is_enomem(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    src = isolated(tiny_zone)
    for order in range(10, -1, -1):
        while alloc_pages_nodemask(m, 0, 0x400000, order, 0, 0) >= 0:
            pass
    assert migrate(m) == -ENOMEM
    assert events(tiny_zone) == (0, 1)
    assert not list_empty(m, HEAD)
    assert m[tiny_zone.page(src) + P_COUNTS] >> REF_SHIFT == 2


def test_a_page_freed_by_its_owner_meanwhile_is_simply_released(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    src = isolated(tiny_zone)
    m[tiny_zone.page(src) + P_COUNTS] -= REF_ONE
    assert migrate(m) == 0
    assert tiny_zone.listed_pages() == NODE_PAGES


def test_an_owner_that_let_go_after_isolation_leaves_nothing_to_move(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    src = isolated(tiny_zone)
    clear_page_movable(m, src)
    assert migrate(m) == 0
    assert m[tiny_zone.page(src) + P_COUNTS] >> REF_SHIFT == 1
    assert free_pages(m, 0, src, 0) == 0
    assert tiny_zone.listed_pages() == NODE_PAGES
    assert m[G_TRACE_MASK] == 0


def isolate(lab: Lab, head: int, pages: list[int]) -> None:
    """Puts pages of processes on a list to be migrated."""
    list_init(lab.m, head)
    for p in reversed(pages):
        assert isolate_lru_page(lab.m, 0, p) == 0
        add_isolated_page(lab.m, p, head)
        mod_isolated(lab.m, 0, p, 1)


def process(lab: Lab, pages: int) -> tuple[int, int]:
    task = lab.process()
    at = lab.map(task, pages)
    for i in range(pages):
        lab.poke(task, at + i * PAGE, 100 + i)
    lab.drain()
    return task, at


def test_pages_of_processes_move_and_stay_mapped(lab: Lab) -> None:
    m = lab.m
    task, at = process(lab, 5)
    child = lab.fork(task)
    pages = [lab.page(task, at + i * PAGE) for i in range(5)]
    isolate(lab, HEAD, pages)
    assert migrate_pages(m, 0, HEAD, NEW_PAGE_NODE, 1, MIGRATE_SYNC, MR_SYSCALL) == 0
    for i, old in enumerate(pages):
        for who in (task, child):
            assert lab.peek(who, at + i * PAGE) == 100 + i
            assert lab.page(who, at + i * PAGE) != old
        assert lab.nid(lab.page(task, at + i * PAGE)) == 1
    assert lab.event("pgmigrate_success") == 5
    lab.drain()
    assert lab.check().sound


def test_a_page_that_somebody_holds_is_left_for_its_caller_to_put_back(lab: Lab) -> None:
    m = lab.m
    task, at = process(lab, 2)
    held, free = (lab.page(task, at + i * PAGE) for i in range(2))
    m[held + P_COUNTS] += REF_ONE
    isolate(lab, HEAD, [held, free])
    assert migrate_pages(m, 0, HEAD, NEW_PAGE_NODE, 1, MIGRATE_SYNC, MR_SYSCALL) == 1
    assert lab.listed(HEAD) == [held]
    assert lab.page(task, at) == held
    assert lab.peek(task, at) == 100
    assert (lab.event("pgmigrate_success"), lab.event("pgmigrate_fail")) == (1, 1)
    putback_movable_pages(m, 0, HEAD)
    m[held + P_COUNTS] -= REF_ONE
    lab.drain()
    assert lab.node_counter(0, NR_ISOLATED_ANON) == 0
    assert lab.check().sound


def test_a_page_that_nobody_wants_any_more_is_freed_instead(lab: Lab) -> None:
    m = lab.m
    task, at = process(lab, 1)
    isolate(lab, HEAD, [lab.page(task, at)])
    lab.exit(task)
    assert migrate_pages(m, 0, HEAD, NEW_PAGE_NODE, 1, MIGRATE_SYNC, MR_SYSCALL) == 0
    assert list_empty(m, HEAD)
    assert lab.check().sound


@pytest.mark.parametrize(
    ("mode", "left", "waits"),
    [(MIGRATE_ASYNC, 1, False), (MIGRATE_SYNC_LIGHT, 1, False), (MIGRATE_SYNC, 0, True)],
)
def test_only_synchronous_migration_waits_for_writeback(
    lab: Lab, mode: int, left: int, waits: bool
) -> None:
    lab.swap(64)
    m = lab.m
    task, at = process(lab, 1)
    child = lab.fork(task)
    p = lab.page(task, at)
    m[p] |= PG_LOCKED
    assert add_to_swap(m, 0, p)
    m[p] &= ~PG_DIRTY
    swap_duplicate(m, m[p + P_PRIVATE])
    swap_writepage(m, 0, p)
    swap_free(m, 0, m[p + P_PRIVATE])
    assert m[p] & PG_WRITEBACK
    isolate(lab, HEAD, [p])
    clock = m[G_CLOCK]
    assert migrate_pages(m, 0, HEAD, NEW_PAGE_NODE, 1, mode, MR_SYSCALL) == left
    assert (m[G_CLOCK] > clock) == waits
    assert list_empty(m, HEAD)
    for who in (task, child):
        assert lab.peek(who, at) == 100
    while blk_wait_any(m, 0):
        pass
    lab.drain()
    assert lab.check().sound
