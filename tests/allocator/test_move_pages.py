# SPDX-License-Identifier: GPL-2.0-only
"""move_pages: pages looked up and moved one by one."""

from __future__ import annotations

import pytest

from allocator.layout import TASK_MEMS_ALLOWED, TASK_MM
from allocator.mbind import EFAULT, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL
from allocator.mempolicy import EINVAL
from allocator.mm_inline import total_mapcount
from allocator.mm_types import P_COUNTS, REF_ONE
from allocator.mmzone import NR_ANON_THPS
from allocator.move_pages import EACCES, ENODEV, ENOENT, move_pages
from allocator.pgtable import PTE_A, PTE_D, mm_find_pmd, pmd_pfn, pmd_trans_huge
from tests.allocator.process_support import PAGE, Lab, fresh_lab
from tests.allocator.test_huge_split import HugeProcess


class Moved:
    """A process with 8 touched pages on node 0, and 4 untouched ones behind."""

    def __init__(self) -> None:
        self.lab: Lab = fresh_lab("4x64M")
        self.m = self.lab.m
        self.task = self.lab.process()
        self.at = self.lab.map(self.task, 12)
        for i in range(8):
            self.lab.poke(self.task, self.at + i * PAGE, i + 1)

    def move(
        self, pages: list[int], nodes: list[int] | None, flags: int = MPOL_MF_MOVE
    ) -> tuple[int, list[int]]:
        addresses = [self.at + i * PAGE for i in pages]
        with self.lab.acting(self.task):
            return move_pages(self.m, 0, self.task, addresses, nodes, flags)

    def nodes(self) -> list[int]:
        return [self.lab.nid(self.lab.page(self.task, self.at + i * PAGE)) for i in range(8)]


@pytest.fixture
def moved() -> Moved:
    return Moved()


def test_without_nodes_the_pages_places_are_told(moved: Moved) -> None:
    assert moved.move([3, 8, 1 << 30], None) == (0, [0, -EFAULT, -EFAULT])


def test_every_page_moves_to_the_node_asked_for(moved: Moved) -> None:
    wanted = [1, 1, 2, 3, 3, 0, 2, 2]
    assert moved.move(list(range(8)), wanted) == (0, wanted)
    assert moved.nodes() == wanted
    assert [moved.lab.peek(moved.task, moved.at + i * PAGE) for i in range(8)] == list(range(1, 9))
    moved.lab.drain()
    assert moved.lab.check().sound


def test_a_page_that_is_not_there_does_not_keep_others_from_moving(moved: Moved) -> None:
    error, status = moved.move([0, 8, 1, 1 << 30, 2], [1, 1, 1, 1, 1])
    assert (error, status) == (0, [1, -EFAULT, 1, -EFAULT, 1])
    assert moved.nodes()[:3] == [1, 1, 1]


def test_a_swapped_page_is_not_there(moved: Moved) -> None:
    moved.lab.swap(64)
    assert moved.lab.page_out(moved.lab.page(moved.task, moved.at))
    assert moved.move([0], None) == (0, [-ENOENT])
    assert moved.move([0], [1]) == (0, [-ENOENT])


def test_shared_pages_need_move_all(moved: Moved) -> None:
    moved.lab.fork(moved.task)
    assert moved.move([0, 1], [1, 1]) == (0, [-EACCES, -EACCES])
    assert moved.move([0, 1], [1, 1], MPOL_MF_MOVE_ALL) == (0, [1, 1])
    assert moved.nodes()[:3] == [1, 1, 0]


@pytest.mark.parametrize(("node", "error"), [(4, -ENODEV), (-1, -ENODEV), (64, -ENODEV)])
def test_a_node_that_is_not_there_ends_the_call_after_what_came_before(
    moved: Moved, node: int, error: int
) -> None:
    assert moved.move([0, 1, 2], [1, node, 1]) == (error, [1, -EFAULT, -EFAULT])
    assert moved.nodes()[:3] == [1, 0, 0]


def test_a_node_outside_the_cpuset_is_refused(moved: Moved) -> None:
    moved.m[moved.task + TASK_MEMS_ALLOWED] = 0b0011
    assert moved.move([0], [2]) == (-EACCES, [-EFAULT])


def test_arguments_that_make_no_sense_are_refused(moved: Moved) -> None:
    assert moved.move([0], [1, 2])[0] == -EINVAL
    assert moved.move([0], [1], 1)[0] == -EINVAL
    moved.m[moved.task + TASK_MM] = 0
    assert moved.move([0], [1])[0] == -EINVAL


def test_a_page_that_is_held_stays_and_the_call_says_how_many(moved: Moved) -> None:
    p = moved.lab.page(moved.task, moved.at)
    moved.lab.drain()
    moved.m[p + P_COUNTS] += REF_ONE
    error, status = moved.move([0, 1], [1, 1])
    assert error == 1
    assert status == [-EFAULT, -EFAULT]
    assert moved.nodes()[:2] == [0, 1]
    moved.m[p + P_COUNTS] -= REF_ONE
    moved.lab.drain()
    assert moved.lab.check().sound


def test_a_huge_page_moves_whole_and_stays_huge() -> None:
    huge = HugeProcess()
    m, lab = huge.m, huge.lab
    child = lab.fork(huge.task)
    where = [huge.at + 5 * PAGE]
    with lab.acting(huge.task):
        said = move_pages(m, 0, huge.task, where, [1], MPOL_MF_MOVE_ALL)
    assert said == (0, [1])
    frames = set()
    for task in (huge.task, child):
        entry = m[mm_find_pmd(m, lab.mm(task), huge.at)]
        assert pmd_trans_huge(entry)
        frames.add(pmd_pfn(entry))
    (pfn,) = frames
    head = lab.page_at(pfn)
    assert lab.nid(head) == 1
    assert (total_mapcount(m, head), lab.references(head)) == (2, 2)
    assert lab.node_counter(1, NR_ANON_THPS) == 1
    assert lab.node_counter(0, NR_ANON_THPS) == 0
    lab.drain()
    huge.check(huge.task, child)


def test_a_huge_page_that_is_held_stays_huge_where_it_was() -> None:
    huge = HugeProcess()
    m, p, lab = huge.m, huge.p, huge.lab
    entry = m[mm_find_pmd(m, lab.mm(huge.task), huge.at)]
    m[p + P_COUNTS] += REF_ONE
    with lab.acting(huge.task):
        assert move_pages(m, 0, huge.task, [huge.at], [1], MPOL_MF_MOVE)[0] == 1
    again = m[mm_find_pmd(m, lab.mm(huge.task), huge.at)]
    assert again & ~(PTE_A | PTE_D) == entry & ~(PTE_A | PTE_D)
    m[p + P_COUNTS] -= REF_ONE
    lab.drain()
    huge.check()
