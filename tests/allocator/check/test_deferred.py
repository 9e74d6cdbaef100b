# SPDX-License-Identifier: GPL-2.0-only
"""allocator/check/deferred.py: struct pages that wait are left alone, and nobody has used them."""

from __future__ import annotations

import pytest

from allocator.check import check_frames
from allocator.kernel import Kernel
from allocator.kernel_globals import G_DEFERRED_PAGES
from allocator.mm_types import P_INDEX
from allocator.mmzone import ND_FIRST_DEFERRED_PFN
from tests.allocator.machines import boot


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x600M", append="deferred_meminit=on")


def rules_broken(kernel: Kernel) -> set[str]:
    return {finding.rule for finding in check_frames(kernel.memory, strict=True).findings}


def test_only_frames_whose_struct_pages_exist_are_counted(kernel: Kernel) -> None:
    waiting = check_frames(kernel.memory)
    assert waiting.sound
    assert waiting.frames < check_frames(boot("2x600M").memory).frames


def test_a_struct_page_that_waits_must_be_zero(kernel: Kernel) -> None:
    pfn = kernel.m[kernel.nodes[1].word + ND_FIRST_DEFERRED_PFN] + 77
    kernel.m[kernel.page(pfn).word + P_INDEX] = 1
    report = check_frames(kernel.memory, strict=True)
    assert [(found.rule, found.where) for found in report.findings] == [
        ("deferred-memmap", f"frame {pfn:#07x}")
    ]


def test_a_mark_outside_the_last_zone_and_a_wrong_count_are_found(kernel: Kernel) -> None:
    kernel.m[kernel.nodes[1].word + ND_FIRST_DEFERRED_PFN] = 5
    assert "deferred-range" in rules_broken(kernel)


def test_a_wrong_count_of_nodes_is_found(kernel: Kernel) -> None:
    kernel.m[G_DEFERRED_PAGES] = 7
    assert "deferred-range" in rules_broken(kernel)
