# SPDX-License-Identifier: GPL-2.0-only
"""Reports as text and as JSON."""

from __future__ import annotations

import json

from allocator.check import check_frames
from allocator.check.report import Finding, Report
from allocator.mm_types import P_COUNTS

from .scribbler import scribbler


def test_a_finding_names_frame_rule_and_bytes() -> None:
    guest = scribbler("1x64M")
    zone = guest.kernel.zone(0, "DMA32")
    (order, _), pfns = next(iter(zone.free_lists().items()))
    page = guest.kernel.page(pfns[0])
    guest.m[page.word + P_COUNTS] = 0xFFFFFFFF
    report = check_frames(guest.machine.memory)
    lines = str(report).splitlines()
    assert lines[0] == (
        f"frame {page.pfn:#07x}: on free_area[{order}] of 0:DMA32 but page_type is 0xffffffff "
        "(not PageBuddy)"
    )
    assert lines[1].startswith(f"  struct page {page.address:#x}: flags 0x")
    assert f"private {order:#x} page_type 0xffffffff refcount 0" in lines[1]
    assert lines[-1] == f"1 of {report.frames:,} frames unsound"
    data = json.loads(json.dumps(report.as_json()))
    assert data["sound"] is False
    assert data["findings"][0]["frame"] == page.pfn
    assert data["findings"][0]["address"] == (page.word + P_COUNTS) << 3
    assert data["findings"][0]["rule"] == "free-list-buddy"


def test_findings_about_structures_are_counted_apart() -> None:
    finding = Finding("zone-lock", "zone 0:DMA", "lock is held: 0x1", None, 0x1000, "word at ...")
    report = Report(100, 41, findings=[finding])
    assert report.lines()[-1] == "0 of 100 frames unsound, 1 finding about other structures"
    assert report.frame_numbers == []


def test_what_is_left_out_is_counted() -> None:
    finding = Finding("poison", "frame 0x00007", "free but not poison", 7, 0x7000, "struct page")
    report = Report(100, 41, unsound=40, findings=[finding], left_out={"poison": 39})
    assert "39 more findings of rule poison" in report.lines()
    assert report.frame_numbers == [7]
