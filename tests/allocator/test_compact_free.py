# SPDX-License-Identifier: GPL-2.0-only
"""What both scanners of compaction ask: compound pages, zones, the skip hint, a dying task."""

from __future__ import annotations

import pytest

from allocator import compact_free as cf
from allocator.gfp import GFP_KERNEL
from allocator.layout import COMPACT_CONTROL, TASK_FATAL_SIGNAL, va_of_word
from allocator.list_head import list_empty
from allocator.mmzone import Z_CONTIGUOUS
from tests.allocator.process_support import Lab

BLOCK = 512


def test_a_new_run_has_empty_lists_and_no_options(lab: Lab) -> None:
    m, cc = lab.m, lab.scratch()
    for i in range(COMPACT_CONTROL.words):
        m[cc + i] = 77
    z = lab.zone_of(lab.page_at(lab.new_page()))
    cf.init_compact_control(m, cc, z, 9, GFP_KERNEL, cf.MIGRATE_SYNC)
    assert list_empty(m, cc + cf.CC_FREEPAGES)
    assert list_empty(m, cc + cf.CC_MIGRATEPAGES)
    assert m[cc + cf.CC_ZONE] == va_of_word(z)
    assert (m[cc + cf.CC_ORDER], m[cc + cf.CC_GFP_MASK]) == (9, GFP_KERNEL)
    assert m[cc + cf.CC_MODE] == cf.MIGRATE_SYNC
    for option in (cf.CC_IGNORE_SKIP, cf.CC_DIRECT, cf.CC_WHOLE_ZONE, cf.CC_CONTENDED):
        assert m[cc + option] == 0


def test_a_run_of_a_dying_task_has_to_end(lab: Lab) -> None:
    task = lab.process()
    with lab.acting(task):
        assert not cf.fatal_signal_pending(lab.m, 0)
        lab.m[task + TASK_FATAL_SIGNAL] = 1
        assert cf.fatal_signal_pending(lab.m, 0)
    assert not cf.fatal_signal_pending(lab.m, 0)


@pytest.mark.parametrize("order", [1, 3, 9])
def test_a_head_says_how_far_to_step_and_a_tail_one(lab: Lab, order: int) -> None:
    head = lab.new_page(order)
    assert cf.compound_pages(lab.m, head) == 1 << order
    assert cf.compound_pages(lab.m, head + 8) == 1
    assert cf.compound_pages(lab.m, lab.new_page()) == 0


def test_both_ends_of_a_block_must_be_the_zones(lab: Lab) -> None:
    m = lab.m
    start = 20 * BLOCK
    zone, dma = lab.zone_of(lab.page_at(start)), lab.zone_of(lab.page_at(BLOCK))
    assert zone != dma
    m[zone + Z_CONTIGUOUS] = m[dma + Z_CONTIGUOUS] = 0
    assert cf.pageblock_in_zone(m, start, start + BLOCK, zone)
    assert not cf.pageblock_in_zone(m, start, start + BLOCK, dma)
    # from the last block of DMA (16 MiB) into the next zone
    assert not cf.pageblock_in_zone(m, 8 * BLOCK - BLOCK, 8 * BLOCK + 1, dma)
    assert not cf.pageblock_in_zone(m, 8 * BLOCK - BLOCK, 8 * BLOCK + 1, zone)
    # no memory is there
    assert not cf.pageblock_in_zone(m, 1 << 24, (1 << 24) + BLOCK, zone)


def test_the_skip_hint_is_heeded_unless_the_run_ignores_it(lab: Lab) -> None:
    m, cc = lab.m, lab.scratch()
    pfn = 20 * BLOCK
    z = lab.zone_of(lab.page_at(pfn))
    cf.init_compact_control(m, cc, z, 9, GFP_KERNEL, cf.MIGRATE_ASYNC)
    assert cf.isolation_suitable(m, cc, pfn)
    cf.update_pageblock_skip(m, cc, pfn, 1, True)
    assert cf.isolation_suitable(m, cc, pfn)
    cf.update_pageblock_skip(m, cc, pfn, 0, True)
    assert not cf.isolation_suitable(m, cc, pfn)
    m[cc + cf.CC_IGNORE_SKIP] = 1
    assert cf.isolation_suitable(m, cc, pfn)
