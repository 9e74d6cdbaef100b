# SPDX-License-Identifier: GPL-2.0-only
"""Memory taken offline and brought back."""

from __future__ import annotations

import pytest

from allocator.kernel_globals import G_NODES_MEMORY, G_TOTALRAM
from allocator.layout import NODE_DATA, PAGE_OFFSET, TASK_FATAL_SIGNAL
from allocator.memory_failure import memory_failure
from allocator.memory_hotplug import (
    EBUSY,
    EINTR,
    EINVAL,
    is_offline,
    offline_pages,
    online_pages,
    range_zone,
    scan_movable_pages,
)
from allocator.migrate import set_page_movable
from allocator.mm_inline import page_to_pfn
from allocator.mm_types import P_COUNTS, PG_HWPOISON, PG_RESERVED, REF_ONE
from allocator.mmzone import (
    MIGRATE_MOVABLE,
    ND_PRESENT,
    PSET_HIGH,
    Z_MANAGED,
    Z_PAGESET,
    Z_PRESENT,
    Z_WMARK,
)
from allocator.page_alloc import alloc_pages_nodemask
from allocator.pageblock import get_pageblock_migratetype
from tests.allocator.process_support import PAGE, Lab, fresh_lab

BLOCK = 1024


class Filled:
    """A process on node 0 of two, and a block that its pages fill."""

    def __init__(self, *specs: str) -> None:
        self.lab: Lab = fresh_lab(*(specs or ("2x128M",)))
        self.m = self.lab.m
        self.task = self.lab.process()
        self.pages = 6000
        self.at = self.lab.map(self.task, self.pages)
        for i in range(self.pages):
            self.lab.poke(self.task, self.at + i * PAGE, i + 1)
        self.lab.drain()
        counts: dict[int, int] = {}
        for i in range(self.pages):
            block = self.lab.pfn(self.task, self.at + i * PAGE) // BLOCK
            counts[block] = counts.get(block, 0) + 1
        full = [block for block, n in counts.items() if n == BLOCK]
        self.start = full[0] * BLOCK
        self.z = self.lab.zone_of(self.lab.page_at(self.start))

    def check(self) -> None:
        for i in range(0, self.pages, 3):
            assert self.lab.peek(self.task, self.at + i * PAGE) == i + 1
        self.lab.drain()
        assert self.lab.check().sound

    def frames(self) -> set[int]:
        return {self.lab.pfn(self.task, self.at + i * PAGE) for i in range(self.pages)}


def sizes(filled: Filled) -> tuple[int, int, int, int]:
    m = filled.m
    nd = (m[NODE_DATA] - PAGE_OFFSET) >> 3
    z = filled.z
    return m[z + Z_PRESENT], m[z + Z_MANAGED], m[nd + ND_PRESENT], m[G_TOTALRAM]


def test_what_is_used_moves_and_the_zone_shrinks() -> None:
    filled = Filled()
    m, before = filled.m, sizes(filled)
    mark = m[filled.z + Z_WMARK + 1]
    gone = set(range(filled.start, filled.start + BLOCK))
    assert gone <= filled.frames()
    assert offline_pages(m, 0, filled.start, BLOCK) == 0
    assert not gone & filled.frames()
    assert all(is_offline(m, filled.lab.page_at(pfn)) for pfn in gone)
    assert sizes(filled) == tuple(n - BLOCK for n in before)
    assert m[filled.z + Z_WMARK + 1] <= mark
    assert get_pageblock_migratetype(m, filled.start) == MIGRATE_MOVABLE
    filled.check()


def test_offline_frames_are_never_given_out() -> None:
    filled = Filled()
    m = filled.m
    assert offline_pages(m, 0, filled.start, BLOCK) == 0
    got: set[int] = set()
    while (pfn := alloc_pages_nodemask(m, 0, 0x6280CA & ~0x400, 0, 0, 1)) >= 0 and len(got) < 40000:
        got.add(pfn)
    assert len(got) > 1000
    assert not got & set(range(filled.start, filled.start + BLOCK))


def test_online_again_everything_is_as_it_was() -> None:
    filled = Filled()
    m, before = filled.m, sizes(filled)
    ps = (m[filled.z + Z_PAGESET] - PAGE_OFFSET) >> 3
    high = m[ps + PSET_HIGH]
    assert offline_pages(m, 0, filled.start, BLOCK) == 0
    assert online_pages(m, 0, filled.start, BLOCK) == 0
    assert sizes(filled) == before
    assert m[ps + PSET_HIGH] == high
    assert not m[filled.lab.page_at(filled.start)] & PG_RESERVED
    filled.check()


def test_the_only_node_moves_its_pages_within_itself() -> None:
    filled = Filled("1x128M")
    assert offline_pages(filled.m, 0, filled.start, BLOCK) == 0
    filled.check()


def test_a_page_that_is_held_keeps_its_block_online() -> None:
    filled = Filled()
    m, before = filled.m, sizes(filled)
    p = filled.lab.page_at(filled.start + 9)
    m[p + P_COUNTS] += REF_ONE
    assert offline_pages(m, 0, filled.start, BLOCK) == -EBUSY
    assert sizes(filled) == before
    assert get_pageblock_migratetype(m, filled.start) == MIGRATE_MOVABLE
    m[p + P_COUNTS] -= REF_ONE
    filled.check()


def test_a_killed_task_takes_nothing_offline() -> None:
    filled = Filled()
    filled.m[filled.task + TASK_FATAL_SIGNAL] = 1
    with filled.lab.acting(filled.task):
        assert offline_pages(filled.m, 0, filled.start, BLOCK) == -EINTR
    filled.check()


def test_kernel_pages_cannot_be_moved(lab: Lab) -> None:
    slab = page_to_pfn(lab.m, lab.page_at(lab.mm(lab.process()) >> 9))
    assert offline_pages(lab.m, 0, slab // BLOCK * BLOCK, BLOCK) in (-EBUSY, -EINVAL)
    assert lab.check().sound


def test_a_bad_frame_does_not_keep_its_block_online() -> None:
    filled = Filled()
    m = filled.m
    bad = filled.start + 77
    assert memory_failure(m, 0, bad) == 0
    assert offline_pages(m, 0, filled.start, BLOCK) == 0
    assert filled.lab.check().sound
    assert online_pages(m, 0, filled.start, BLOCK) == 0
    p = filled.lab.page_at(bad)
    assert m[p] & PG_HWPOISON
    assert m[p + P_COUNTS] >= REF_ONE
    filled.lab.drain()
    assert filled.lab.check().sound


@pytest.mark.parametrize(
    ("start", "pages"),
    [(512, BLOCK), (0x6000, 512), (0x6000, 0), (-BLOCK, BLOCK), (1 << 28, BLOCK), (0, BLOCK)],
)
def test_only_whole_blocks_of_ram_in_use_can_go(lab: Lab, start: int, pages: int) -> None:
    assert offline_pages(lab.m, 0, start, pages) == -EINVAL


def test_a_range_lies_in_one_zone(lab: Lab) -> None:
    # node 1 begins at 128 MiB
    assert range_zone(lab.m, 0x7C00, 0x8000) == lab.zone_of(lab.page_at(0x7C00))
    assert range_zone(lab.m, 0x7C00, 0x8400) == 0


def test_frames_that_are_not_offline_cannot_come_online() -> None:
    filled = Filled()
    assert online_pages(filled.m, 0, filled.start, BLOCK) == -EINVAL
    assert offline_pages(filled.m, 0, filled.start, BLOCK) == 0
    assert offline_pages(filled.m, 0, filled.start, BLOCK) == -EINVAL
    assert online_pages(filled.m, 0, filled.start, 2 * BLOCK) == -EINVAL


def test_drivers_pages_are_found_and_moved(lab: Lab) -> None:
    m = lab.m
    p = lab.new_page()
    pfn = page_to_pfn(m, p)
    set_page_movable(m, pfn, 0x5000)
    start = pfn // BLOCK * BLOCK
    assert scan_movable_pages(m, start, start + BLOCK) == pfn
    assert m[G_NODES_MEMORY] == 3
