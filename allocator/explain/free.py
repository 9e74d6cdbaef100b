# SPDX-License-Identifier: GPL-2.0-only
"""One free, told as the kernel decided it.

A reference is dropped; if it was the last, a single page goes to the head of a per-cpu list, and a
batch may go back from there to the buddy lists, while a larger block goes to the buddy lists at
once and merges with its buddies for as long as they are free. What the checks refuse is told in the
kernel's own words.
"""

from __future__ import annotations

from contextlib import ExitStack

from ..helpers.mmzone import get_pageblock_migratetype
from ..inspect.fields import Json
from ..kernel import Kernel
from ..trace_events import EV_FREE_REQUEST, EV_MERGE
from ..views import Page
from .records import Recording, record_free
from .scratch import thrown_away
from .steps import Stepper, type_name
from .story import MAX_PAGES, Story, before_and_after, close, look


def _frames(pfn: int, recording: Recording) -> list[int]:
    """Frames worth showing: the freed one, and the head that it ended up under."""
    frames = [pfn]
    for record in recording.records:
        if record.event == EV_MERGE and record["pfn"] == pfn and record["merged_pfn"] != pfn:
            frames.append(record["merged_pfn"])
    return frames[:MAX_PAGES]


def explain_free(
    kernel: Kernel, pfn: int, order: int = 0, cpu: int = 0, whatif: bool = False
) -> Story:
    """Frees a block and tells it; with `whatif` everything is as before afterwards.

    Raises:
        BadRequest: no such frame, order or CPU.
        KernelOops: the allocator's structures are damaged.
    """
    with thrown_away(kernel) as other:
        trial = record_free(other, pfn, order, cpu)
    frames = _frames(pfn, trial)
    before = look(kernel, frames)
    page = Page(kernel.m, pfn)
    mt = type_name(get_pageblock_migratetype(page))
    where = f"node {page.nid} zone {page.zone}, pageblock {pfn >> 9} ({mt})"
    with ExitStack() as stack:
        if whatif:
            kernel = stack.enter_context(thrown_away(kernel))
        recording = record_free(kernel, pfn, order, cpu)
        lines, shown = before_and_after(before, look(kernel, frames))
    outcome = "freed" if recording.freed else "refused" if recording.refused else "still in use"
    story = Story([f"free_pages(pfn={pfn:#x}, order={order})  ->  {outcome}", f"  {where}"])
    _tell(recording, story)
    story.lines += lines
    story.data |= {
        "pfn": pfn,
        "order": order,
        "outcome": outcome,
        "reason": recording.refused or None,
        "pages": shown,
    }
    close(story, recording, whatif)
    return story


def _tell(recording: Recording, story: Story) -> None:
    """References, then the steps."""
    request = next((r for r in recording.records if r.event == EV_FREE_REQUEST), None)
    references = request["refcount"] if request else 0
    if recording.refused:
        story.lines.append(f"  refused: {recording.refused}")
    elif references == 1:
        story.lines.append("  the last of 1 reference is dropped")
    else:
        story.lines.append(f"  {references} references, {references - 1} left: nothing is freed")
    steps = Stepper().feed(recording.records)
    for step in steps:
        story.lines += step.lines("  ")
    told: list[Json] = [step.json() for step in steps]
    story.data |= {"references": references, "steps": told}
