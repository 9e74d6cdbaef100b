# SPDX-License-Identifier: GPL-2.0-only
"""What the stories of an allocation and of a free have in common: the pages before and after.

Which frames to show is known only once it has happened; so a call is first made on a throw-away,
where its records tell the frames, then their struct pages are read, and then it is made for good.
The allocator is deterministic, both calls do the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..inspect.fields import Json
from ..inspect.frame import describe_place, locate, page_data, struct_page_lines
from ..inspect.symbols import Symbols
from ..kernel import Kernel
from ..views import Page, pfn_valid
from .records import Recording

MAX_PAGES = 4


@dataclass
class Shown:
    """One frame at one moment, as text and data."""

    pfn: int
    lines: list[str]
    data: dict[str, Json]


@dataclass
class Story:
    """A whole explanation. `text` and `data` are what the command prints."""

    lines: list[str] = field(default_factory=list)
    data: dict[str, Json] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines) + "\n"


def look(kernel: Kernel, pfns: list[int]) -> list[Shown]:
    """The struct pages of some frames as they are now."""
    symbols = Symbols(kernel.m)
    shown = []
    for pfn in pfns:
        if pfn_valid(kernel.m, pfn):
            page = Page(kernel.m, pfn)
            state = describe_place(page, locate(page))
            first, *rest = struct_page_lines(page, symbols)
            shown.append(Shown(pfn, [state, first, *rest], page_data(page)))
    return shown


def before_and_after(before: list[Shown], after: list[Shown]) -> tuple[list[str], list[Json]]:
    """Lines and data of the frames before and after."""
    lines: list[str] = []
    data: list[Json] = []
    for old, new in zip(before, after, strict=True):
        lines.append(f"frame {old.pfn:#x}")
        for title, shown in (("before", old), ("after", new)):
            lines.append(f"  {title + ':':<8}{shown.lines[0]}")
            lines += [f"          {line}" for line in shown.lines[1:]]
        data.append({"pfn": old.pfn, "before": old.data, "after": new.data})
    return lines, data


def close(story: Story, recording: Recording, whatif: bool) -> None:
    """The kernel's log lines, lost records, and whether anything was changed."""
    for line in recording.log:
        story.lines.append(f"  kernel: {line}")
    if recording.lost:
        story.lines.append(
            f"  the first {recording.lost:,} records are lost: the trace ring is too small for them"
        )
    if whatif:
        story.lines.append("  nothing was changed (--whatif)")
    story.data["log"] = list(recording.log)
    story.data["lost_records"] = recording.lost
    story.data["whatif"] = whatif
    story.data["records"] = [
        {"event": r.name, "cpu": r.cpu, "time": r.time, **r.fields} for r in recording.records
    ]
