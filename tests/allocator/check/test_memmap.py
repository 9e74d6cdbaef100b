# SPDX-License-Identifier: GPL-2.0-only
"""The memory map as arrays: numbering across holes, and who a frame should belong to."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.check.context import Check
from allocator.check.memmap import expected_ids, zone_claims
from allocator.pageblock import get_pageblock_migratetype, set_pageblock_migratetype
from tests.allocator.machines import boot


@pytest.fixture(scope="module")
def split() -> Check:
    """A machine whose RAM lies on both sides of the PCI hole."""
    return Check(boot("2x2G").memory)


def test_numbers_and_indices_convert_both_ways_across_the_hole(split: Check) -> None:
    frames = split.frames
    at = np.arange(0, frames.size, 4093)
    pfns = frames.pfns(at)
    assert pfns.max() >= 0x100000
    assert [frames.index(pfn) for pfn in pfns.tolist()] == at.tolist()
    assert [frames.pfn(i) for i in at.tolist()] == pfns.tolist()
    assert frames.index(0xF0000) == -1
    assert frames.index(1 << 40) == -1


def test_a_range_over_a_hole_is_the_frames_on_both_sides(split: Check) -> None:
    frames = split.frames
    hole_start = max(end for _, end, _ in split.memory_regions if end <= 0x100000)
    mask = frames.mask([(hole_start - 10, 0x100000 + 20)])
    inside = frames.pfns(np.flatnonzero(mask))
    assert inside.min() == hole_start - 10
    assert inside.max() == 0x100000 + 19


def test_a_zone_claims_its_span_and_the_rest_of_its_section(split: Check) -> None:
    check = Check(boot("2x96M").memory)
    first, last = (z for z in check.zones if z.zid == 1)
    assert zone_claims(check, first)[-1] == (first.end, 32768)
    assert zone_claims(check, last)[-1] == (last.end, 2 * 32768)
    # what node 0 claims beyond its end, node 1 takes over: it is initialised later
    ids = expected_ids(check)
    assert ids[check.frames.index(first.end)] == last.ident
    assert np.array_equal(ids[1:], check.frames.ids[1:])


def test_pageblock_types_are_read_as_the_allocator_reads_them() -> None:
    kernel = boot("1x64M")
    for block in range(32):
        set_pageblock_migratetype(kernel.m, block * 512, block % 6)
    frames = Check(kernel.memory).frames
    assert frames.blocks[:32].tolist() == [block % 6 for block in range(32)]
    assert [get_pageblock_migratetype(kernel.m, b * 512) for b in range(32)] == (
        frames.blocks[:32].tolist()
    )
