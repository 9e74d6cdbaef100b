# SPDX-License-Identifier: GPL-2.0-only
"""Explanations of unequal pages, zones and lists of frames."""

from __future__ import annotations

import pytest

from allocator.kernel import Kernel
from allocator.testkit.assertions import explain, show
from tests.allocator.machines import boot


@pytest.fixture(scope="module")
def booted() -> Kernel:
    return boot("1x64M")


def text(op: str, left: object, right: object) -> str:
    lines = explain(op, left, right)
    assert lines is not None
    return "\n".join(lines)


def test_pages_are_compared_field_by_field(booted: Kernel) -> None:
    said = text("==", booted.page(0x100), booted.page(0x3000))
    assert "pfn                    256                      12288" in said
    assert "zone                   'DMA'                    'DMA32'" in said
    assert "mem_cgroup" not in said


def test_zones_are_compared_with_their_lists(booted: Kernel) -> None:
    said = text("==", booted.zone(0, "DMA"), booted.zone(0, "DMA32"))
    assert "managed_pages" in said
    assert "free_area[10] Movable: " in said


def test_frames_in_another_order_are_called_so() -> None:
    said = text("==", [1, 2, 3], [1, 3, 2])
    assert "first difference at place 1: 0x2 and 0x3" in said
    assert said.endswith("the same frames in another order")


def test_a_list_that_ends_early_is_told_where() -> None:
    said = text("==", [1, 2, 3, 9], [1, 2])
    assert "first difference at place 2: 0x3 and the end" in said
    assert "only on the left: 0x3 0x9" in said


def test_a_missing_frame_is_told_with_its_neighbours(booted: Kernel) -> None:
    assert "nearest: 0x100 0x300" in text("in", booted.page(0x200), [0x100, 0x300])


def test_other_values_are_not_explained(booted: Kernel) -> None:
    assert explain("==", "a", "b") is None
    assert explain("==", {"a": 1}, {"a": 2}) is None
    assert explain("!=", [1], [1]) is None
    assert explain("==", [True], [False]) is None


def test_runs_of_frames_are_shortened() -> None:
    assert show([1, 2, 3, 7, 9, 10]) == "0x1..0x3 0x7 0x9..0xa"
    assert show(list(range(0, 40, 2))).endswith(" and 12 more")
