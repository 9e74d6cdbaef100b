# SPDX-License-Identifier: GPL-2.0-only
"""The buddy lists: what looks odd and is legal, and the arithmetic of covering."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.check import check_frames
from allocator.check.context import Check
from allocator.check.free_lists import (
    coverage,
    left_by_soft_offline,
    list_heads,
    list_name,
    type_name,
)
from allocator.kernel import Kernel
from allocator.kernel_globals import G_TOTALCMA
from allocator.layout import SECTION_PAGES
from allocator.mm_types import PG_HWPOISON
from allocator.mmzone import MIGRATE_ISOLATE, MIGRATE_MOVABLE, NR_FREE_PAGES, Z_VM_STAT
from allocator.page_isolation import start_isolate_page_range, undo_isolate_page_range
from allocator.pageblock import get_pageblock_migratetype, set_pageblock_migratetype
from tests.allocator.machines import boot


def test_coverage_counts_blocks_and_stops_at_a_sections_end() -> None:
    starts = np.array([0, 2, 32766], dtype=np.intp)
    cover = coverage(65536, starts, np.array([4, 2, 8], dtype=np.int64))
    assert cover[:6].tolist() == [1, 1, 2, 2, 0, 0]
    assert cover[32764:32770].tolist() == [0, 0, 1, 1, 0, 0]


def test_every_head_has_its_name() -> None:
    check = Check(boot("1x64M").memory)
    heads = list_heads(check)
    zone = check.zones[1]
    at = 66 + 3 * 6 + 1
    assert list_name(check, at) == "free_area[3].free_list[Movable] of 0:DMA32"
    assert heads[at] == zone.word + (heads[at] - zone.word)
    assert len(heads) == 66 * len(check.zones)
    assert type_name(77) == "77 (no such type)"


def test_blocks_of_an_isolated_range_may_stand_beside_free_buddies() -> None:
    kernel = boot("1x64M")
    assert start_isolate_page_range(kernel.m, 0, 0x2000, 0x2400, MIGRATE_MOVABLE) == 0
    check = Check(kernel.memory)
    assert (check.free_blocks.mt == 5).sum() == 1
    report = check_frames(kernel.memory, strict=True)
    assert report.sound, str(report)
    undo_isolate_page_range(kernel.m, 0, 0x2000, 0x2400, MIGRATE_MOVABLE)
    assert check_frames(kernel.memory, strict=True).sound


def test_free_cma_blocks_are_on_their_own_lists() -> None:
    kernel = boot("1x128M", append="cma=16M")
    assert kernel.m[G_TOTALCMA] == 4096
    check = Check(kernel.memory)
    cma = check.free_blocks.mt == 4
    assert (1 << check.free_blocks.order[cma]).sum() == 4096
    assert check_frames(kernel.memory, strict=True).sound


def test_fully_shredded_memory_is_sound() -> None:
    kernel = boot("1x64M")
    pages = kernel.exhaust(0)
    for page in pages[::2]:
        kernel.free_pages(page)
    check = Check(kernel.memory)
    assert (check.free_blocks.order == 0).sum() > 3000
    assert check_frames(kernel.memory, strict=True).sound


def left_isolated() -> tuple[Kernel, int]:
    """A free frame on the list of isolated blocks, not counted, in a pageblock that is not isolated
    any more: what soft offline leaves, but that the frame is not marked."""
    kernel = boot("1x64M")
    kernel.mm_init()
    page = kernel.alloc_pages("GFP_HIGHUSER_MOVABLE")
    assert page is not None
    kind = get_pageblock_migratetype(kernel.m, page.pfn)
    set_pageblock_migratetype(kernel.m, page.pfn, MIGRATE_ISOLATE)
    kernel.free_pages(page)
    set_pageblock_migratetype(kernel.m, page.pfn, kind)
    return kernel, page.pfn


def test_what_soft_offline_leaves_is_legal_around_a_bad_frame_only() -> None:
    kernel, pfn = left_isolated()
    rules = {finding.rule for finding in check_frames(kernel.memory).findings}
    assert "free-list-type" in rules
    kernel.m[kernel.m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)] |= PG_HWPOISON
    check = Check(kernel.memory)
    left = left_by_soft_offline(check, check.free_blocks)
    assert check.free_blocks.heads[left].tolist() == [check.frames.index(pfn)]
    assert check_frames(kernel.memory).sound


@pytest.mark.parametrize(
    ("off", "sound"), [(0, True), (-1, True), (-2, False), (1, True), (2, False)]
)
def test_free_pages_may_differ_by_what_soft_offline_hides(off: int, sound: bool) -> None:
    kernel, pfn = left_isolated()
    kernel.m[kernel.m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)] |= PG_HWPOISON
    zone = max(kernel.zones, key=lambda zone: zone.free_pages)
    kernel.m[zone.word + Z_VM_STAT + NR_FREE_PAGES] += off
    assert check_frames(kernel.memory).sound is sound
