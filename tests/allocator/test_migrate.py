# SPDX-License-Identifier: GPL-2.0-only
"""Migrating drivers' movable pages: bytes, references and owners move, the old frame is freed."""

from __future__ import annotations

import pytest

from allocator.gfp import GFP_HIGHUSER_MOVABLE
from allocator.layout import CPU_BLOCKS, CPU_EVENTS, G_TRACE_MASK, VMEMMAP_START
from allocator.list_head import list_add, list_empty, list_init
from allocator.migrate import (
    ENOMEM,
    MR_CONTIG_RANGE,
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
    PG_LOCKED,
    REF_ONE,
    REF_SHIFT,
)
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.trace import EV_MIGRATE
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


def events(tiny: Tiny) -> tuple[int, int]:
    at = CPU_BLOCKS + CPU_EVENTS
    return tiny.m[at + PGMIGRATE_SUCCESS], tiny.m[at + PGMIGRATE_FAIL]


def test_the_target_gets_bytes_owner_and_reference(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    src = isolated(tiny_zone)
    tiny_zone.memory.write((src << 12) + 100, b"precious")
    tiny_zone.record(EV_MIGRATE)
    assert migrate_pages(m, 0, HEAD, MR_CONTIG_RANGE) == 0
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
    assert migrate_pages(m, 0, HEAD, MR_CONTIG_RANGE) == 1
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
    assert migrate_pages(m, 0, HEAD, MR_CONTIG_RANGE) == -ENOMEM
    assert events(tiny_zone) == (0, 1)
    assert not list_empty(m, HEAD)
    assert m[tiny_zone.page(src) + P_COUNTS] >> REF_SHIFT == 2


def test_a_page_freed_by_its_owner_meanwhile_is_simply_released(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    src = isolated(tiny_zone)
    m[tiny_zone.page(src) + P_COUNTS] -= REF_ONE
    assert migrate_pages(m, 0, HEAD, MR_CONTIG_RANGE) == 0
    assert tiny_zone.listed_pages() == NODE_PAGES


def test_an_owner_that_let_go_after_isolation_leaves_nothing_to_move(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    src = isolated(tiny_zone)
    clear_page_movable(m, src)
    assert migrate_pages(m, 0, HEAD, MR_CONTIG_RANGE) == 0
    assert m[tiny_zone.page(src) + P_COUNTS] >> REF_SHIFT == 1
    assert free_pages(m, 0, src, 0) == 0
    assert tiny_zone.listed_pages() == NODE_PAGES
    assert m[G_TRACE_MASK] == 0
