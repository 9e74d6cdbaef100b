# SPDX-License-Identifier: GPL-2.0-only
"""page_owner: what is remembered of an allocation, and when it is forgotten."""

from __future__ import annotations

from allocator.gfp import GFP_KERNEL
from allocator.kernel_globals import G_STATIC_KEYS, KEY_PAGE_OWNER
from allocator.layout import CPU_BLOCKS, CPU_PAGE_OWNER_SITE
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.page_owner import (
    copy_page_owner,
    page_owner_of,
    set_page_owner,
    set_page_owner_migrate_reason,
    split_page_owner,
)
from tests.allocator.tiny import Tiny

NOBODY = (-1, 0, -1, 0, 0)


def test_without_page_extensions_nothing_is_kept(tiny_zone: Tiny) -> None:
    set_page_owner(tiny_zone.m, 0, tiny_zone.start, 3, GFP_KERNEL)
    assert page_owner_of(tiny_zone.m, tiny_zone.start) == NOBODY


def test_an_allocation_marks_its_head_with_order_gfp_site_and_pid(tiny_zone: Tiny) -> None:
    tiny_zone.enable_page_ext()
    m = tiny_zone.m
    m[G_STATIC_KEYS] |= KEY_PAGE_OWNER
    m[CPU_BLOCKS + CPU_PAGE_OWNER_SITE] = 0x100123
    pfn = alloc_pages_nodemask(m, 0, GFP_KERNEL, 2, 0, 0)
    assert page_owner_of(m, pfn) == (2, GFP_KERNEL, -1, 0x100123, 1)
    assert page_owner_of(m, pfn + 1) == NOBODY
    free_pages(m, 0, pfn, 2)
    assert page_owner_of(m, pfn) == NOBODY


def test_splitting_gives_every_page_the_owner_with_order_0(tiny_zone: Tiny) -> None:
    tiny_zone.enable_page_ext()
    m, pfn = tiny_zone.m, tiny_zone.start
    set_page_owner(m, 0, pfn, 2, GFP_KERNEL)
    split_page_owner(m, pfn, 2)
    assert [page_owner_of(m, pfn + i)[:2] for i in range(5)] == [(0, GFP_KERNEL)] * 4 + [(-1, 0)]


def test_migration_copies_the_owner_and_notes_the_reason(tiny_zone: Tiny) -> None:
    tiny_zone.enable_page_ext()
    m, pfn = tiny_zone.m, tiny_zone.start
    set_page_owner(m, 0, pfn, 0, GFP_KERNEL)
    copy_page_owner(m, pfn, pfn + 7)
    set_page_owner_migrate_reason(m, pfn + 7, 6)
    assert page_owner_of(m, pfn + 7)[:3] == (0, GFP_KERNEL, 6)
    assert page_owner_of(m, pfn)[2] == -1
