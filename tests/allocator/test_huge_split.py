# SPDX-License-Identifier: GPL-2.0-only
"""Huge pages taken apart."""

from __future__ import annotations

import pytest

from allocator.deferred_split import deferred_split_huge_page
from allocator.huge_memory import THP_ALWAYS
from allocator.huge_split import (
    EBUSY,
    can_split_huge_page,
    split_huge_page,
    split_huge_page_to_list,
)
from allocator.kernel_globals import G_THP_FLAGS
from allocator.list_head import list_init
from allocator.lru_isolate import isolate_lru_page
from allocator.mm_inline import compound_head, page_mapcount, page_node, total_mapcount
from allocator.mm_types import (
    P_COUNTS,
    P_INDEX,
    PG_ACTIVE,
    PG_HEAD,
    PG_LOCKED,
    PG_LRU,
    PG_WRITEBACK,
    REF_ONE,
    REF_SHIFT,
)
from allocator.mmzone import ND_SPLIT_QUEUE_LEN, NR_ANON_MAPPED, NR_ANON_THPS
from allocator.munmap import do_munmap
from allocator.pagevec import put_page_p
from tests.allocator.process_support import PAGE, fresh_lab

HUGE = 512 * PAGE


class HugeProcess:
    """A process with one huge page, every word at a page's start written."""

    def __init__(self) -> None:
        self.lab = fresh_lab("2x256M")
        self.m = self.lab.m
        self.m[G_THP_FLAGS] |= THP_ALWAYS
        self.task = self.lab.process()
        at = self.lab.map(self.task, 1536)
        self.at = (at + HUGE - 1) // HUGE * HUGE
        for i in range(0, 512, 7):
            self.lab.poke(self.task, self.at + i * PAGE, 1000 + i)
        self.lab.drain()
        pages = [p for p in self.lab.lru(0, 1) if self.m[p] & PG_HEAD]
        assert len(pages) == 1
        self.p = pages[0]

    def hold(self) -> None:
        """Locks the page and takes a reference, as who splits it must."""
        self.m[self.p] |= PG_LOCKED
        self.m[self.p + P_COUNTS] += REF_ONE

    def release(self) -> None:
        self.m[self.p] &= ~PG_LOCKED
        put_page_p(self.m, 0, self.p)

    def check(self, *tasks: int) -> None:
        for task in tasks or (self.task,):
            for i in range(0, 512, 7):
                assert self.lab.peek(task, self.at + i * PAGE) == 1000 + i
        assert self.lab.check().sound


def test_the_parts_are_small_pages_mapped_where_the_huge_one_was() -> None:
    huge = HugeProcess()
    m, p, lab = huge.m, huge.p, huge.lab
    index = m[p + P_INDEX]
    huge.hold()
    assert can_split_huge_page(m, p)
    assert split_huge_page(m, 0, p) == 0
    assert m[p] & (PG_HEAD | PG_LOCKED) == PG_LOCKED
    huge.release()
    for i in (0, 1, 2, 300, 511):
        part = p + 8 * i
        assert compound_head(m, part) == part
        assert lab.page(huge.task, huge.at + i * PAGE) == part
        assert m[part + P_INDEX] == index + i
        assert m[part] & (PG_LRU | PG_ACTIVE | PG_LOCKED) == PG_LRU | PG_ACTIVE
        assert (page_mapcount(m, part), m[part + P_COUNTS] >> REF_SHIFT) == (1, 1)
    listed = lab.lru(0, 1)
    at = listed.index(p)
    assert listed[at - 511 : at] == [p + 8 * i for i in range(511, 0, -1)]
    assert lab.node_counter(0, NR_ANON_THPS) == 0
    assert lab.node_counter(0, NR_ANON_MAPPED) >= 512
    assert (lab.event("thp_split_page"), lab.event("thp_split_pmd")) == (1, 1)
    huge.check()


def test_a_page_that_somebody_else_holds_stays_whole_and_mapped() -> None:
    huge = HugeProcess()
    m, p = huge.m, huge.p
    huge.hold()
    m[p + P_COUNTS] += REF_ONE
    assert not can_split_huge_page(m, p)
    assert split_huge_page(m, 0, p) == -EBUSY
    assert m[p] & PG_HEAD
    assert total_mapcount(m, p) == 1
    m[p + P_COUNTS] -= REF_ONE
    huge.release()
    assert huge.lab.event("thp_split_page_failed") == 1
    huge.check()


def test_a_page_under_writeback_is_not_split() -> None:
    huge = HugeProcess()
    huge.hold()
    huge.m[huge.p] |= PG_WRITEBACK
    assert split_huge_page(huge.m, 0, huge.p) == -EBUSY


def test_the_parts_of_a_forked_page_are_shared_by_both() -> None:
    huge = HugeProcess()
    child = huge.lab.fork(huge.task)
    huge.lab.drain()
    huge.hold()
    assert split_huge_page(huge.m, 0, huge.p) == 0
    huge.release()
    assert page_mapcount(huge.m, huge.p + 8 * 9) == 2
    huge.check(huge.task, child)


def test_parts_that_nobody_maps_any_more_are_freed() -> None:
    huge = HugeProcess()
    m, p, lab = huge.m, huge.p, huge.lab
    with lab.acting(huge.task):
        assert do_munmap(m, 0, lab.mm(huge.task), huge.at + 8 * PAGE, 100 * PAGE) == 0
    node = page_node(m, p)
    assert m[node + ND_SPLIT_QUEUE_LEN] == 1
    deferred_split_huge_page(m, p)
    assert m[node + ND_SPLIT_QUEUE_LEN] == 1
    huge.hold()
    assert split_huge_page(m, 0, p) == 0
    huge.release()
    assert m[node + ND_SPLIT_QUEUE_LEN] == 0
    for i, held in ((7, 1), (8, 0), (107, 0), (108, 1)):
        assert m[p + 8 * i + P_COUNTS] >> REF_SHIFT == held
    assert lab.check().sound


@pytest.mark.parametrize("keep", [0, 3])
def test_an_isolated_page_leaves_its_parts_on_the_callers_list(keep: int) -> None:
    huge = HugeProcess()
    m, p, lab = huge.m, huge.p, huge.lab
    head = lab.scratch()
    list_init(m, head)
    huge.hold()
    assert isolate_lru_page(m, 0, p) == 0
    m[p + P_COUNTS] -= REF_ONE
    page = p + 8 * keep
    assert split_huge_page_to_list(m, 0, page, head) == 0
    assert m[page] & PG_LOCKED
    assert set(lab.listed(head)) == {p + 8 * i for i in range(1, 512)}
    # each with a reference for the list, and one for its mapping
    assert m[p + 8 * 5 + P_COUNTS] >> REF_SHIFT == 2
    assert not m[p + 8 * 5] & PG_LRU
