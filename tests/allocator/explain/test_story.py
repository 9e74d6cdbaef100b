# SPDX-License-Identifier: GPL-2.0-only
"""allocator/explain/story.py: pages before and after, and how a story closes."""

from __future__ import annotations

from allocator.explain.records import Recording
from allocator.explain.story import Story, before_and_after, close, look
from tests.allocator.machines import boot


def test_frames_without_a_struct_page_are_left_out() -> None:
    kernel = boot("1x64M")
    assert [shown.pfn for shown in look(kernel, [0x1000, 0x100000])] == [0x1000]


def test_both_moments_are_shown_under_the_frame() -> None:
    kernel = boot("1x64M")
    page = kernel.alloc_pages("GFP_KERNEL")
    assert page is not None
    before = look(kernel, [page.pfn])
    kernel.free_pages(page)
    lines, data = before_and_after(before, look(kernel, [page.pfn]))
    assert lines[0] == f"frame {page.pfn:#x}"
    assert lines[1] == "  before: allocated, page, refcount 1"
    assert any(line.startswith("  after:  free, on the Unmovable list of cpu 0") for line in lines)
    assert isinstance(data[0], dict)
    assert set(data[0]) == {"pfn", "before", "after"}


def test_the_end_tells_of_the_log_of_lost_records_and_of_whatif() -> None:
    story = Story(["first"])
    close(story, Recording(lost=12, log=["BUG"]), whatif=True)
    assert story.lines == [
        "first",
        "  kernel: BUG",
        "  the first 12 records are lost: the trace ring is too small for them",
        "  nothing was changed (--whatif)",
    ]
    assert story.data == {"log": ["BUG"], "lost_records": 12, "whatif": True, "records": []}
