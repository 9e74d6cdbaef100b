# SPDX-License-Identifier: GPL-2.0-only
"""The buddy lists: what looks odd and is legal, and the arithmetic of covering."""

from __future__ import annotations

import numpy as np

from allocator.check import check_frames
from allocator.check.context import Check
from allocator.check.free_lists import coverage, list_heads, list_name, type_name
from allocator.layout import G_TOTALCMA
from allocator.mmzone import MIGRATE_MOVABLE
from allocator.page_isolation import start_isolate_page_range, undo_isolate_page_range
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
