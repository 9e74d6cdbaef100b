# SPDX-License-Identifier: GPL-2.0-only
"""Running one allocator call with every trace event switched on, and reading what it recorded.

The events are those that the hot path writes anyway when `G_TRACE_MASK` asks for them; `explain`
switches all of them on for one call and back to what they were. A record becomes a `Record` with
its fields by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import BadPage
from ..kernel import Kernel
from ..layout import G_LOG_HEAD, G_TRACE_HEAD, G_TRACE_MASK, G_TRACE_SIZE
from ..page_report import log_lines
from ..trace import ALL_EVENTS, EVENTS
from ..tracepoints import trace_records
from ..views import Page


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


def _record(kernel: Kernel, call: Callable[[Recording], None]) -> Recording:
    """Runs `call` with all events on."""
    m = kernel.m
    recording = Recording()
    mask, first, log = m[G_TRACE_MASK], m[G_TRACE_HEAD], m[G_LOG_HEAD]
    m[G_TRACE_MASK] = ALL_EVENTS
    try:
        call(recording)
    finally:
        m[G_TRACE_MASK] = mask
    recording.lost = max(m[G_TRACE_HEAD] - first - m[G_TRACE_SIZE], 0)
    for record in trace_records(m, first):
        name, names = EVENTS[record.event]
        fields = dict(zip(names, record.args, strict=True))
        recording.records.append(Record(record.event, name, record.cpu, record.time, fields))
    recording.log = [line.split("] ", 1)[-1] for line in log_lines(m, log)]
    return recording


def record_alloc(
    kernel: Kernel, gfp: int, order: int, nid: int | None, nodemask: int | None, cpu: int
) -> Recording:
    """One alloc_pages(). Raises BadRequest and KernelOops as Kernel.alloc_pages() does."""

    def call(recording: Recording) -> None:
        page = kernel.alloc_pages(gfp, order, nid, nodemask, cpu)
        recording.pfn = page.pfn if page else -1

    return _record(kernel, call)


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
