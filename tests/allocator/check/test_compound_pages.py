# SPDX-License-Identifier: GPL-2.0-only
"""Compound pages: membership, and that one bad word does not blame the rest."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.check import check_frames
from allocator.check.context import Check
from allocator.kernel import Kernel
from allocator.mm_types import P_FLAGS, P_PREV, PG_HEAD
from allocator.views import Page
from tests.allocator.machines import boot

COMP = "GFP_KERNEL|__GFP_COMP"


@pytest.fixture
def kernel() -> Kernel:
    return boot("1x64M")


def compound(kernel: Kernel, order: int) -> Page:
    page = kernel.alloc_pages(COMP, order)
    assert page is not None
    return page


def test_members_are_heads_and_tails_of_every_order(kernel: Kernel) -> None:
    pages = [compound(kernel, order) for order in range(1, 11)]
    check = Check(kernel.memory)
    members = check.frames.pfns(np.flatnonzero(check.compounds.members)).tolist()
    expected = [p.pfn + i for order, p in enumerate(pages, 1) for i in range(1 << order)]
    assert members == sorted(expected)
    assert int(check.compounds.tails.sum()) == len(expected) - len(pages)
    assert check_frames(kernel.memory, strict=True).sound


def test_a_head_that_lost_its_flag_is_blamed_alone(kernel: Kernel) -> None:
    page = compound(kernel, 6)
    kernel.m[page.word + P_FLAGS] &= ~PG_HEAD
    (finding,) = check_frames(kernel.memory, strict=True).findings
    assert (finding.rule, finding.frame) == ("compound-flag", page.pfn)
    assert finding.message.startswith("63 tail pages point to it")


def test_a_first_tail_with_an_insane_order_is_blamed_alone(kernel: Kernel) -> None:
    page = compound(kernel, 6)
    kernel.m[page.word + 8 + P_PREV] = 1 | 44 << 8
    (finding,) = check_frames(kernel.memory, strict=True).findings
    assert (finding.rule, finding.frame) == ("compound-order", page.pfn + 1)


def test_freeing_a_compound_page_leaves_no_trace(kernel: Kernel) -> None:
    page = compound(kernel, 4)
    kernel.free_pages(page, 4)
    assert not Check(kernel.memory).compounds.members.any()
    assert check_frames(kernel.memory, strict=True).sound
