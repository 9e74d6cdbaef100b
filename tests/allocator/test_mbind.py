# SPDX-License-Identifier: GPL-2.0-only
"""Policies for parts of an address space, and pages moved to follow them."""

from __future__ import annotations

import pytest

from allocator.mbind import (
    EFAULT,
    EIO,
    MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL,
    MPOL_MF_STRICT,
    do_mbind,
)
from allocator.mempolicy import (
    EINVAL,
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_F_STATIC_NODES,
    MPOL_INTERLEAVE,
    MPOL_PREFERRED,
)
from allocator.mempolicy_vma import MPOL_MODE, vma_policy
from allocator.mm_struct import MM_MAP_COUNT, VMA_END, VMA_START
from allocator.mm_types import P_COUNTS, REF_ONE
from allocator.munmap import do_munmap
from allocator.vma import find_vma
from tests.allocator.process_support import PAGE, Lab, fresh_lab


class Bound:
    """A process with 16 touched pages on node 0."""

    def __init__(self) -> None:
        self.lab: Lab = fresh_lab("4x64M")
        self.m = self.lab.m
        self.task = self.lab.process()
        self.at = self.lab.map(self.task, 16)
        for i in range(16):
            self.lab.poke(self.task, self.at + i * PAGE, i + 1)

    def bind(
        self, first: int, pages: int, mode: int, nodes: int, flags: int = 0, task: int = 0
    ) -> int:
        task = task or self.task
        start = self.at + first * PAGE
        with self.lab.acting(task):
            return do_mbind(self.m, 0, self.lab.mm(task), start, pages * PAGE, mode, nodes, flags)

    def areas(self) -> list[tuple[int, int, int]]:
        """(first page, end, mode or -1) of the areas of the mapping."""
        found, at = [], self.at
        while at < self.at + 16 * PAGE:
            vma = find_vma(self.m, self.lab.mm(self.task), at)
            pol = vma_policy(self.m, vma)
            start, end = self.m[vma + VMA_START], self.m[vma + VMA_END]
            mode = self.m[pol + MPOL_MODE] if pol else -1
            found.append(((start - self.at) // PAGE, (end - self.at) // PAGE, mode))
            at = end
        return found

    def nodes(self) -> list[int]:
        return [self.lab.nid(self.lab.page(self.task, self.at + i * PAGE)) for i in range(16)]

    def bytes_are_right(self) -> bool:
        return [self.lab.peek(self.task, self.at + i * PAGE) for i in range(16)] == list(
            range(1, 17)
        )


@pytest.fixture
def bound() -> Bound:
    return Bound()


def test_the_range_becomes_an_area_with_the_policy(bound: Bound) -> None:
    assert bound.bind(4, 4, MPOL_BIND, 2) == 0
    assert bound.areas() == [(0, 4, -1), (4, 8, MPOL_BIND), (8, 16, -1)]


def test_areas_that_say_the_same_merge_again(bound: Bound) -> None:
    count = bound.m[bound.lab.mm(bound.task) + MM_MAP_COUNT]
    for first in (4, 8):
        assert bound.bind(first, 4, MPOL_BIND, 2) == 0
    assert bound.areas() == [(0, 4, -1), (4, 12, MPOL_BIND), (12, 16, -1)]
    assert bound.bind(2, 12, MPOL_DEFAULT, 0) == 0
    assert bound.areas() == [(0, 16, -1)]
    assert bound.m[bound.lab.mm(bound.task) + MM_MAP_COUNT] == count
    bound.lab.exit(bound.task)
    assert bound.lab.check().sound


def test_a_range_over_several_areas_changes_all_of_them(bound: Bound) -> None:
    bound.bind(2, 2, MPOL_BIND, 2)
    bound.bind(6, 2, MPOL_INTERLEAVE, 3)
    assert bound.bind(1, 10, MPOL_PREFERRED, 8) == 0
    assert bound.areas() == [(0, 1, -1), (1, 11, MPOL_PREFERRED), (11, 16, -1)]


def test_pages_stay_unless_they_are_to_move(bound: Bound) -> None:
    assert bound.bind(0, 16, MPOL_BIND, 4) == 0
    assert bound.nodes() == [0] * 16


def test_moved_pages_lie_where_the_policy_says(bound: Bound) -> None:
    assert bound.bind(4, 8, MPOL_BIND, 4, MPOL_MF_MOVE) == 0
    assert bound.nodes() == [0] * 4 + [2] * 8 + [0] * 4
    assert bound.bytes_are_right()
    bound.lab.drain()
    assert bound.lab.check().sound


def test_interleaved_pages_move_to_their_places_node(bound: Bound) -> None:
    assert bound.bind(0, 16, MPOL_INTERLEAVE, 0b1010, MPOL_MF_MOVE) == 0
    nodes = bound.nodes()
    assert set(nodes) == {1, 3}
    assert nodes == [nodes[0], nodes[1]] * 8
    assert bound.bytes_are_right()


def test_shared_pages_move_only_with_move_all(bound: Bound) -> None:
    bound.lab.fork(bound.task)
    assert bound.bind(0, 16, MPOL_BIND, 4, MPOL_MF_MOVE) == 0
    assert bound.nodes() == [0] * 16
    assert bound.bind(0, 16, MPOL_BIND, 8, MPOL_MF_MOVE_ALL) == 0
    assert bound.nodes() == [3] * 16
    assert bound.bytes_are_right()


def test_with_strict_a_page_that_cannot_move_is_an_error(bound: Bound) -> None:
    bound.lab.drain()
    p = bound.lab.page(bound.task, bound.at + 3 * PAGE)
    bound.m[p + P_COUNTS] += REF_ONE
    assert bound.bind(0, 16, MPOL_BIND, 4, MPOL_MF_MOVE) == 0
    assert bound.nodes() == [2] * 3 + [0] + [2] * 12
    assert bound.bind(0, 16, MPOL_BIND, 8, MPOL_MF_MOVE | MPOL_MF_STRICT) == -EIO
    bound.m[p + P_COUNTS] -= REF_ONE
    bound.lab.drain()
    assert bound.lab.check().sound


@pytest.mark.parametrize(
    ("mode", "nodes", "flags", "said"),
    [
        (MPOL_BIND, 0, 0, -EINVAL),
        (MPOL_BIND, 1 << 40, 0, -EINVAL),
        (MPOL_DEFAULT, 1, 0, -EINVAL),
        (9, 1, 0, -EINVAL),
        (MPOL_BIND, 1, 8, -EINVAL),
        (MPOL_BIND | MPOL_F_STATIC_NODES, 1, 0, 0),
        (MPOL_DEFAULT, 0, MPOL_MF_STRICT, 0),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    bound: Bound, mode: int, nodes: int, flags: int, said: int
) -> None:
    assert bound.bind(0, 16, mode, nodes, flags) == said


def test_a_range_must_be_aligned_mapped_and_not_wrap(bound: Bound) -> None:
    m, mm = bound.m, bound.lab.mm(bound.task)
    with bound.lab.acting(bound.task):
        assert do_mbind(m, 0, mm, bound.at + 1, PAGE, MPOL_BIND, 1, 0) == -EINVAL
        assert do_mbind(m, 0, mm, bound.at, (1 << 63) - 1, MPOL_BIND, 1, 0) == -EINVAL
        assert do_mbind(m, 0, mm, bound.at, -PAGE, MPOL_BIND, 1, 0) == -EINVAL
        assert do_mbind(m, 0, mm, bound.at, 0, MPOL_BIND, 1, 0) == 0
        assert do_mbind(m, 0, mm, bound.at - (1 << 30), PAGE, MPOL_BIND, 1, 0) == -EFAULT
        assert do_munmap(m, 0, mm, bound.at + 4 * PAGE, 4 * PAGE) == 0
    assert bound.bind(0, 16, MPOL_BIND, 1) == -EFAULT
    assert bound.bind(0, 16, MPOL_DEFAULT, 0) == 0
