# SPDX-License-Identifier: GPL-2.0-only
"""The map of changed pageblocks and the table of leaked frames."""

from __future__ import annotations

import numpy as np

from allocator.check.context import Check
from allocator.pageblock import set_pageblock_migratetype
from allocator.testkit.lab import Config, Lab
from allocator.testkit.picture import MAX_ROWS, Photograph, block_marks, draw, leak_table


def after(lab: Lab) -> Photograph:
    return Photograph(Check(lab.machine.memory))


def marks_of(lab: Lab, now: Photograph, bad: list[int], *pfns: int) -> str:
    marks = block_marks(lab.before, now, bad)
    return "".join(str(marks[now.frames.index(pfn) >> 9]) for pfn in pfns)


def test_every_mark_says_what_happened_to_a_pageblock() -> None:
    lab = Lab(Config(("1x64M",)))
    held = lab.kernel.alloc_pages("GFP_HIGHUSER_MOVABLE", order=9)
    assert held is not None
    lab.before = after(lab)
    lab.kernel.free_pages(held, order=9)
    taken = lab.kernel.alloc_pages("GFP_DMA", order=3)
    assert taken is not None
    set_pageblock_migratetype(lab.kernel.m, 0x2200, 2)
    now = after(lab)
    assert marks_of(lab, now, [0x2400], held.pfn, taken.pfn, 0x2200, 0x2400, 0x2600) == "-+t!."


def test_only_lines_with_a_change_are_drawn() -> None:
    lab = Lab(Config(("2x64M",)))
    assert draw(lab.before, after(lab), []) == ["no frame changed hands"]
    page = lab.kernel.alloc_pages("GFP_KERNEL", order=9, nid=1)
    assert page is not None
    lines = draw(lab.before, after(lab), [])
    assert lines[1].startswith("zone 1:DMA32: ")
    assert [line.count("+") for line in lines[2:]] == [1]


def test_leaked_frames_are_shown_as_the_blocks_that_were_asked_for() -> None:
    lab = Lab(Config(("1x64M",)))
    page = lab.kernel.alloc_pages("GFP_KERNEL", order=3)
    assert page is not None
    lines = leak_table(lab.kernel, lab.leaked(after(lab)))
    assert lines[0].split() == ["frame", "pages", "zone", "pageblock", "asked", "for", "at"]
    assert f"{page.pfn:#07x}" in lines[1]
    assert "GFP_KERNEL order 3" in lines[1]
    assert len(lines) == 2


def test_a_long_table_is_cut() -> None:
    lab = Lab(Config(("1x64M",)))
    strangers = np.arange(0x2000, 0x2000 + 4 * MAX_ROWS, 2, dtype=np.int64)
    lines = leak_table(lab.kernel, strangers)
    assert len(lines) == MAX_ROWS + 2
    assert lines[-1] == f"  ... and {MAX_ROWS} blocks more"
