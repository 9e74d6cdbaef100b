# SPDX-License-Identifier: GPL-2.0-only
"""Pictures of what a test changed: a map of the pageblocks, a table of the leaked frames.

A `Photograph` keeps for every frame whether it was in use, and for every pageblock its type. `draw`
compares two: each zone that changed is a few lines with one character a pageblock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..check.context import Check
from ..layout import PAGES_PER_SECTION
from ..mmzone import MIGRATETYPE_NAMES, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER
from ..pageblock import get_pageblock_migratetype
from ..views import Page

if TYPE_CHECKING:
    from .tracked import TrackedKernel

BLOCKS_A_LINE = 64
MAX_LINES = 48
MAX_ROWS = 20
LEGEND = (
    ". unchanged   + more frames in use   - fewer   ~ other frames   t type changed   ! unsound"
)


class Photograph:
    """The frames of a machine at one moment: `used` (by array index), pageblock `types`, and for
    every zone its label, span and number of free pages."""

    def __init__(self, check: Check) -> None:
        frames = check.frames
        self.frames = frames
        self.used = frames.ram & ~check.free
        self.types = frames.blocks.copy()
        self.zones = [
            (zone.label, zone.start, zone.end, self._free(check, zone.start, zone.end))
            for zone in check.zones
        ]

    def _free(self, check: Check, start: int, end: int) -> int:
        return sum(int(check.free[part].sum()) for part in check.frames.spans(start, end))

    def pfns(self, indices: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        """Frame numbers of array indices."""
        return self.frames.pfns(indices)


def block_marks(before: Photograph, after: Photograph, bad: list[int]) -> npt.NDArray[np.str_]:
    """One character for every pageblock of the arrays."""
    more = (after.used & ~before.used).reshape(-1, PAGEBLOCK_NR_PAGES).sum(axis=1)
    less = (before.used & ~after.used).reshape(-1, PAGEBLOCK_NR_PAGES).sum(axis=1)
    marks = np.full(more.size, ".", dtype="<U1")
    marks[before.types != after.types] = "t"
    marks[(more > 0) & (more == less)] = "~"
    marks[more > less] = "+"
    marks[more < less] = "-"
    for pfn in bad:
        index = after.frames.index(pfn)
        if index >= 0:
            marks[index >> PAGEBLOCK_ORDER] = "!"
    return marks


def draw(before: Photograph, after: Photograph, bad: list[int]) -> list[str]:
    """What changed, zone by zone; empty if the memory maps cannot be compared."""
    if before.used.size != after.used.size:
        return ["the memory map itself has changed: no picture"]
    marks = block_marks(before, after, bad)
    lines: list[str] = []
    then = {label: free for label, _, _, free in before.zones}
    for label, start, end, free in after.zones:
        text = _zone_lines(after, marks, start, end)
        if not text:
            continue
        lines.append(f"zone {label}: {then.get(label, 0):,} frames were free, {free:,} are now")
        lines += text
    if not lines:
        return ["no frame changed hands"]
    if len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], f"  ... and {len(lines) - MAX_LINES} lines more"]
    return [f"pageblocks of {PAGEBLOCK_NR_PAGES} frames: {LEGEND}", *lines]


def _zone_lines(after: Photograph, marks: npt.NDArray[np.str_], start: int, end: int) -> list[str]:
    """The lines of one zone that have a mark."""
    lines = []
    step = BLOCKS_A_LINE * PAGEBLOCK_NR_PAGES
    first = start // PAGEBLOCK_NR_PAGES * PAGEBLOCK_NR_PAGES
    for line in range(first // step * step, end, step):
        text = ""
        for pfn in range(line, line + step, PAGEBLOCK_NR_PAGES):
            index = after.frames.index(pfn)
            inside = first <= pfn < end and index >= 0
            text += str(marks[index >> PAGEBLOCK_ORDER]) if inside else " "
        if text.strip(" ."):
            lines.append(f"  {line:#08x} {text.rstrip()}")
    return lines


def leak_table(kernel: TrackedKernel, leaked: npt.NDArray[np.int64]) -> list[str]:
    """The leaked frames as blocks: where they are, what was asked for, which line asked."""
    left = set(leaked.tolist())
    rows = []
    for request in kernel.requests.values():
        mine = [pfn for pfn in range(request.pfn, request.pfn + request.pages) if pfn in left]
        if mine:
            left.difference_update(mine)
            rows.append(_row(kernel, mine[0], len(mine), request.asked, request.site))
    for start, length in _runs(sorted(left)):
        rows.append(_row(kernel, start, length, "(the guest, or a request in bulk)", ""))
    table = [("frame", "pages", "zone", "pageblock", "asked for", "at"), *rows[:MAX_ROWS]]
    widths = [max(len(row[i]) for row in table) for i in range(6)]
    lines = [
        (
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    if len(rows) > MAX_ROWS:
        lines.append(f"  ... and {len(rows) - MAX_ROWS:,} blocks more")
    return lines


def _row(kernel: TrackedKernel, pfn: int, pages: int, asked: str, site: str) -> tuple[str, ...]:
    page = Page(kernel.m, pfn)
    mt = get_pageblock_migratetype(kernel.m, pfn)
    kind = MIGRATETYPE_NAMES[mt] if mt < len(MIGRATETYPE_NAMES) else str(mt)
    return f"{pfn:#07x}", f"{pages:,}", f"{page.nid}:{page.zone}", kind, asked, site


def _runs(pfns: list[int]) -> list[tuple[int, int]]:
    """Consecutive frames as (first, number)."""
    runs: list[tuple[int, int]] = []
    for pfn in pfns:
        if runs and runs[-1][0] + runs[-1][1] == pfn and pfn % PAGES_PER_SECTION:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((pfn, 1))
    return runs
