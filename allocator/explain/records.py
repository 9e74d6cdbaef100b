# SPDX-License-Identifier: GPL-2.0-only
"""Running one allocator call with every trace event switched on, and reading what it recorded.

The events are those that the hot path writes anyway when `G_TRACE_MASK` asks for them; `explain`
switches all of them on for one call and back to what they were. Where they are too many for the
ring (a compaction moves thousands of pages), the call is recorded in outline: its decisions,
without what happened to single pages. A record becomes a `Record` with its fields by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .. import trace_events as ev
from ..errors import BadPage
from ..kernel import Kernel
from ..kernel_globals import G_LOG_HEAD, G_TRACE_HEAD, G_TRACE_MASK, G_TRACE_MASK2, G_TRACE_SIZE
from ..page_report import log_lines
from ..trace_events import ALL_EVENTS, ALL_EVENTS2, EVENTS
from ..tracepoints import trace_records
from ..views import Page

SINGLE_PAGES = (
    ev.EV_COMPACTION_FINISHED,
    ev.EV_DRAIN_PAGES_ZONE,
    ev.EV_DRAIN_ZONE_PAGES,
    ev.EV_FREE_PCPPAGES_BULK,
    ev.EV_FREE_TO_BUDDY,
    ev.EV_FREE_TO_PCP,
    ev.EV_ISOLATE_FREE_PAGE,
    ev.EV_ISOLATE_FREEPAGES,
    ev.EV_ISOLATE_MIGRATEPAGES,
    ev.EV_MERGE,
    ev.EV_MIGRATE,
    ev.EV_MM_PAGE_FREE,
    ev.EV_MM_PAGE_FREE_BATCHED,
    ev.EV_MM_PAGE_PCPU_DRAIN,
    ev.EV_SHRINK_SLAB_END,
    ev.EV_SHRINK_SLAB_START,
    ev.EV_VMSCAN_LRU_ISOLATE,
    ev.EV_VMSCAN_WRITEPAGE,
)
"""Events that an outline does without."""
OUTLINE = (ALL_EVENTS | ALL_EVENTS2 << 64) & ~sum(1 << event for event in SINGLE_PAGES)


@dataclass(frozen=True)
class Record:
    """One trace record: event number and name, CPU, modelled time (ns), fields by name."""

    event: int
    name: str
    cpu: int
    time: int
    fields: dict[str, int]

    def __getitem__(self, name: str) -> int:
        return self.fields[name]


@dataclass
class Recording:
    """What one call did: its records in order, how many were lost because the ring is too small,
    what it gave back, why it was refused ("" if it was not), and its lines in the kernel's log."""

    records: list[Record] = field(default_factory=list)
    lost: int = 0
    pfn: int = -1
    freed: bool = False
    refused: str = ""
    log: list[str] = field(default_factory=list)


def _record(kernel: Kernel, call: Callable[[Recording], None], outline: bool = False) -> Recording:
    """Runs `call` with all events on, or with those of an outline."""
    m = kernel.m
    recording = Recording()
    masks, first, log = (m[G_TRACE_MASK], m[G_TRACE_MASK2]), m[G_TRACE_HEAD], m[G_LOG_HEAD]
    m[G_TRACE_MASK] = OUTLINE & ALL_EVENTS if outline else ALL_EVENTS
    m[G_TRACE_MASK2] = OUTLINE >> 64 if outline else ALL_EVENTS2
    try:
        call(recording)
    finally:
        m[G_TRACE_MASK], m[G_TRACE_MASK2] = masks
    recording.lost = max(m[G_TRACE_HEAD] - first - m[G_TRACE_SIZE], 0)
    for record in trace_records(m, first):
        name, names = EVENTS[record.event]
        fields = dict(zip(names, record.args, strict=True))
        recording.records.append(Record(record.event, name, record.cpu, record.time, fields))
    recording.log = [line.split("] ", 1)[-1] for line in log_lines(m, log)]
    return recording


def record_alloc(
    kernel: Kernel,
    gfp: int,
    order: int,
    nid: int | None,
    nodemask: int | None,
    cpu: int,
    outline: bool = False,
) -> Recording:
    """One alloc_pages(), in `outline` or with all its events. Raises BadRequest and KernelOops as
    Kernel.alloc_pages() does."""

    def call(recording: Recording) -> None:
        page = kernel.alloc_pages(gfp, order, nid, nodemask, cpu)
        recording.pfn = page.pfn if page else -1

    return _record(kernel, call, outline)


def record_free(kernel: Kernel, pfn: int, order: int, cpu: int) -> Recording:
    """One __free_pages(). A frame that 4.20's checks refuse is told in `refused`. Raises BadRequest
    and KernelOops as Kernel.free_pages() does."""

    def call(recording: Recording) -> None:
        recording.pfn = pfn
        try:
            recording.freed = kernel.free_pages(Page(kernel.m, pfn), order, cpu)
        except BadPage as error:
            recording.refused = str(error)

    return _record(kernel, call)
