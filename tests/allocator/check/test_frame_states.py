# SPDX-License-Identifier: GPL-2.0-only
"""Frames in exactly one legal state: blocks, reserved frames, holes, and frames that are lost."""

from __future__ import annotations

import pytest

from allocator.check import Report, check_frames
from allocator.mm_types import COUNTS_FREE, P_COUNTS, P_FLAGS, PG_HWPOISON, PG_KMEMCG_TYPE

from .scribbler import Scribbler, scribbler


@pytest.fixture
def guest() -> Scribbler:
    return scribbler("1x64M")


def broken(guest: Scribbler) -> dict[str, list[int]]:
    report: Report = check_frames(guest.machine.memory, strict=True)
    found: dict[str, list[int]] = {}
    for finding in report.findings:
        found.setdefault(finding.rule, []).append(finding.frame or -1)
    return found


def test_a_block_freed_with_too_small_an_order_loses_its_other_frames(guest: Scribbler) -> None:
    page = guest.kernel.alloc_pages("GFP_KERNEL", order=3)
    assert page is not None
    guest.kernel.free_pages(page, order=1)
    lost = [page.pfn + i for i in range(2, 8)]
    assert broken(guest) == {"frame-lost": lost}


def test_a_plain_block_may_have_any_order(guest: Scribbler) -> None:
    for order in range(11):
        assert guest.kernel.alloc_pages("GFP_KERNEL", order) is not None
        assert broken(guest) == {}


def test_an_extra_reference_is_legal_and_a_negative_one_is_not(guest: Scribbler) -> None:
    page = guest.kernel.alloc_pages("GFP_KERNEL")
    assert page is not None
    guest.m[page.word + P_COUNTS] += 5 << 32
    assert broken(guest) == {}
    guest.m[page.word + P_COUNTS] -= 7 << 32
    assert broken(guest) == {"refcount-negative": [page.pfn]}


def test_a_charged_page_has_a_type_of_its_own(guest: Scribbler) -> None:
    page = guest.kernel.alloc_pages("GFP_KERNEL")
    assert page is not None
    guest.m[page.word + P_COUNTS] &= ~PG_KMEMCG_TYPE
    assert broken(guest) == {}
    guest.m[page.word + P_COUNTS] &= ~(1 << 13)
    assert broken(guest) == {"page-type": [page.pfn]}


def test_a_frame_that_failed_is_set_aside_and_not_lost(guest: Scribbler) -> None:
    pages = [guest.kernel.alloc_pages("GFP_KERNEL") for _ in range(3)]
    page = pages[1]
    assert page is not None
    guest.m[page.word + P_COUNTS] = COUNTS_FREE
    guest.m[page.word + P_FLAGS] |= PG_HWPOISON
    assert broken(guest) == {}


def test_a_bad_page_that_the_kernel_set_aside_is_reported_as_lost(guest: Scribbler) -> None:
    block = guest.kernel.alloc_pages("GFP_KERNEL", order=1)
    assert block is not None
    pages = guest.kernel.split_page(block, 1)
    bad, good = pages
    guest.kernel.free_pages(good)
    guest.m[bad.word + 3] = 0x1000
    with pytest.raises(Exception, match="cannot be freed"):
        guest.kernel.free_pages(bad)
    assert bad.pfn in broken(guest)["frame-lost"]


def test_a_hole_that_is_used_is_reported(guest: Scribbler) -> None:
    hole = guest.kernel.page(0xA0)
    guest.m[hole.word + P_COUNTS] = 7 << 32
    assert broken(guest)["hole-state"] == [0xA0]
