# SPDX-License-Identifier: GPL-2.0-only
"""Hypercalls that take frames away."""

from __future__ import annotations

import pytest

from allocator.call_numbers import HOTPLUG_CALLS
from allocator.hotplug_calls import HotplugCalls
from allocator.memory_failure import ENXIO
from allocator.memory_hotplug import EINVAL
from allocator.mm_types import PG_HWPOISON
from tests.allocator.process_support import Lab
from tests.allocator.test_memory_hotplug import BLOCK, Filled

OFFLINE, ONLINE = HOTPLUG_CALLS["OFFLINE"], HOTPLUG_CALLS["ONLINE"]
MEMORY_FAILURE = HOTPLUG_CALLS["MEMORY_FAILURE"]


def call(lab: Lab, number: int, *args: int) -> tuple[int, int]:
    a = lab.scratch()
    for i, value in enumerate(args):
        lab.m[a + i] = value
    return HotplugCalls(lab.m).table[number](0, lab.idle, a)


def test_a_block_goes_and_comes_back() -> None:
    filled = Filled()
    assert call(filled.lab, OFFLINE, filled.start, BLOCK) == (0, 0)
    assert call(filled.lab, OFFLINE, filled.start, BLOCK) == (0, EINVAL)
    assert call(filled.lab, ONLINE, filled.start, BLOCK) == (0, 0)
    filled.check()


def test_a_frame_goes_bad() -> None:
    filled = Filled()
    assert call(filled.lab, MEMORY_FAILURE, filled.start, 0) == (0, 0)
    assert filled.m[filled.lab.page_at(filled.start)] & PG_HWPOISON
    assert call(filled.lab, MEMORY_FAILURE, 1 << 40, 0) == (0, ENXIO)
    assert call(filled.lab, MEMORY_FAILURE, filled.start, 1) == (0, EINVAL)


@pytest.mark.parametrize("args", [(-1, 512), (0, -512), (1 << 62, 512), (0, 1 << 62), (0, 0)])
def test_ranges_that_no_machine_has_are_refused(lab: Lab, args: tuple[int, int]) -> None:
    for number in (OFFLINE, ONLINE):
        assert call(lab, number, *args) == (0, EINVAL)
