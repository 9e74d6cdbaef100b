# SPDX-License-Identifier: GPL-2.0-only
"""Check: nothing is followed that leads out of RAM, and findings are capped."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.check.context import Check, signed32
from allocator.check.report import LIMIT
from allocator.layout import PAGE_OFFSET, VMEMMAP_START
from tests.allocator.machines import boot


@pytest.fixture(scope="module")
def check() -> Check:
    return Check(boot("1x64M").memory)


@pytest.mark.parametrize(
    "va", [0, 1, -1, VMEMMAP_START, PAGE_OFFSET - 8, PAGE_OFFSET + (64 << 20) - 8, 1 << 62]
)
def test_a_pointer_that_leads_out_of_ram_is_no_structure(check: Check, va: int) -> None:
    assert check.structure(va, 2) == -1


def test_a_pointer_into_ram_is_its_word_index(check: Check) -> None:
    assert check.structure(PAGE_OFFSET + 0x1000, 512) == 0x200
    assert check.structure(PAGE_OFFSET + 0x1004, 1) == -1
    assert check.structure(PAGE_OFFSET + (64 << 20) - 8, 1) == (8 << 20) - 1


def test_findings_of_one_rule_are_capped_and_counted() -> None:
    check = Check(boot("1x64M").memory)
    check.add_frames("poison", np.arange(0x2000, 0x2000 + 500), "bad")
    report = check.report(1, 0.0)
    assert len(report.findings) == LIMIT
    assert report.left_out == {"poison": 500 - LIMIT}
    assert report.unsound == 500


def test_the_same_finding_is_reported_once() -> None:
    check = Check(boot("1x64M").memory)
    for _ in range(3):
        check.add_frame("poison", 0x2000, "bad")
        check.add("magic", "globals", "bad", 0x200000)
    assert len(check.findings) == 2


def test_half_words_are_shown_signed() -> None:
    assert signed32(0xFFFFFFFF) == -1
    assert signed32(0x17FFFFFFF) == 0x7FFFFFFF
