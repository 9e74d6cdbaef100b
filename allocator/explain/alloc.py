# SPDX-License-Identifier: GPL-2.0-only
"""One allocation, told as the kernel decided it.

The records of the call are cut at their seams: the request, then passes over the zonelist (the fast
path, the slow path's attempts, what __GFP_NOFAIL adds), in each pass the visits to zones in
order - skipped, refused by the watermark, or taken from - and in a visit the steps. Only the list
of zones that the request could never have used is read from RAM instead of from records, because
the kernel does not look at those either. What reclaim and compaction did stands between the passes.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

from ..gfp import GFP_THISNODE_BIT, format_gfp, parse_gfp
from ..helpers.mmzone import for_each_zone_zonelist
from ..inspect.fields import Json
from ..kernel import Kernel
from ..layout import CPU_BLOCKS, CPU_NUMA_NODE, CPU_WORDS
from ..mmzone import ZONE_NAMES, ZONELIST_FALLBACK, ZONELIST_NOFALLBACK
from ..page_alloc import (
    SKIP_CPUSET,
    SKIP_DIRTY_LIMIT,
    SKIP_EMPTY,
    SKIP_NODEMASK,
    SKIP_WATERMARK,
)
from ..trace_events import (
    EV_COMPACTION_SUITABLE,
    EV_CONTEXT,
    EV_REQUEST,
    EV_RESULT,
    EV_SLOWPATH_FIRST,
    EV_SLOWPATH_RETRY,
    EV_WAKE_KSWAPD,
    EV_WATERMARK,
    EV_ZONE_SKIPPED,
)
from .arithmetic import alloc_flag_names, explain_watermark
from .pressure import PRESSURE, PressureStepper
from .records import Record, Recording, record_alloc
from .scratch import thrown_away
from .steps import Step, Stepper, type_name
from .story import MAX_PAGES, Story, before_and_after, close, look

SKIP_REASONS = {
    SKIP_CPUSET: "outside the task's cpuset",
    SKIP_DIRTY_LIMIT: "its node has its share of dirty pages (__GFP_WRITE)",
    SKIP_WATERMARK: "below the watermark",
    SKIP_NODEMASK: "not in the nodemask",
    SKIP_EMPTY: "empty",
}
PASS_NAMES = {
    EV_REQUEST: "fast path",
    EV_SLOWPATH_FIRST: "slow path, first attempt",
    EV_SLOWPATH_RETRY: "slow path, second attempt",
}


@dataclass
class Visit:
    """One look at one zone: its test or why it was skipped, and what was done there."""

    record: Record
    records: list[Record] = field(default_factory=list)


@dataclass
class Pass:
    """One way over the zonelist."""

    name: str
    start: Record
    visits: list[Visit] = field(default_factory=list)
    kswapd: list[Record] = field(default_factory=list)
    pressure: list[Record] = field(default_factory=list)

    @property
    def flags(self) -> int:
        """Its alloc flags."""
        return self.start["alloc_flags"]


def cut(records: list[Record]) -> list[Pass]:
    """The passes of one request."""
    passes: list[Pass] = []
    inside = 0  # allocations that reclaim makes for itself are not this request's
    for record in records:
        event = record.event
        if event == EV_REQUEST and passes:
            inside += 1
        elif event == EV_RESULT and inside:
            inside -= 1
        elif event == EV_RESULT:
            break
        elif not inside:
            _sort_in(record, passes)
    return passes


def _sort_in(record: Record, passes: list[Pass]) -> None:
    """Puts a record where it belongs; it may begin a pass."""
    event = record.event
    if event in PASS_NAMES:
        again = event == EV_SLOWPATH_FIRST and any(p.start.event == event for p in passes)
        name = "from the start without the nodemask" if again else PASS_NAMES[event]
        if event == EV_SLOWPATH_RETRY and any(p.start.event == event for p in passes):
            name = "slow path, next round"
        passes.append(Pass(name, record))
        return
    if not passes:
        return
    last = passes[-1]
    if event in PRESSURE:
        last.pressure.append(record)
    elif event == EV_WAKE_KSWAPD:
        # looked at for kcompactd, not by this request
        while last.pressure and last.pressure[-1].event == EV_COMPACTION_SUITABLE:
            last.pressure.pop()
        last.kswapd.append(record)
    elif event in (EV_WATERMARK, EV_ZONE_SKIPPED):
        if last.pressure:
            start = record if event == EV_WATERMARK else last.start
            last = Pass("slow path, after that", start)
            passes.append(last)
        elif event == EV_WATERMARK and record["alloc_flags"] != last.flags:
            # __alloc_pages_cpuset_fallback() walks the list without announcing itself
            last = Pass("help for __GFP_NOFAIL", record)
            passes.append(last)
        last.visits.append(Visit(record))
    elif event != EV_CONTEXT and last.visits and not last.pressure:
        last.visits[-1].records.append(record)


def _zone(nid: int, zid: int) -> str:
    return f"{nid}:{ZONE_NAMES[zid] if 0 <= zid < len(ZONE_NAMES) else zid}"


def _zonelist(kernel: Kernel, request: Record, story: Story) -> None:
    """The zonelist of the preferred node, and why the request may not use parts of it."""
    thisnode = request["gfp_flags"] & GFP_THISNODE_BIT
    kind = ZONELIST_NOFALLBACK if thisnode else ZONELIST_FALLBACK
    entries: list[Json] = []
    used: list[str] = []
    refused: list[str] = []
    nodemask = request["nodemask"]
    for zone, index in for_each_zone_zonelist(kernel, request["nid"], kind):
        name = f"{zone.nid}:{zone.name}"
        reason = ""
        if index > request["high_zoneidx"]:
            reason = "not allowed by gfp"
        elif nodemask and not nodemask >> zone.nid & 1:
            reason = "not in the nodemask"
        (refused if reason else used).append(f"{name} {reason}" if reason else name)
        entries.append({"node": zone.nid, "zone": zone.name, "excluded": reason or None})
    line = f"  zonelist of node {request['nid']}{' (__GFP_THISNODE)' if thisnode else ''}: "
    line += "  ".join(used) or "no zone that this request may use"
    if refused:
        line += f"      ({'; '.join(refused)})"
    story.lines.append(line)
    story.data["zonelist"] = entries


def _visit(number: int, visit: Visit, story: Story) -> dict[str, Json]:
    record = visit.record
    zid = record["zid"]
    name = f"node {record['nid']} {ZONE_NAMES[zid] if 0 <= zid < len(ZONE_NAMES) else zid}"
    data: dict[str, Json] = {"node": record["nid"], "zone": ZONE_NAMES[zid]}
    if record.event == EV_ZONE_SKIPPED:
        reason = SKIP_REASONS.get(record["reason"], f"reason {record['reason']}")
        story.lines.append(f"  {number} {name:<14} skipped: {reason}")
        data |= {"skipped": reason}
        return data
    test = explain_watermark(record)
    verdict = "yes" if test.ok else "no"
    line = f"  {number} {name:<14} {test.text:<60} {verdict}"
    story.lines.append(line + (f" ({test.reason})" if test.reason else ""))
    data["watermark"] = {
        **record.fields,
        "ok": test.ok,
        "limit": test.limit,
        "left": test.left,
        "arithmetic": test.text,
        "reason": test.reason or None,
    }
    steps = Stepper().feed(visit.records)
    for step in steps:
        story.lines += step.lines("      ")
    data["steps"] = [step.json() for step in steps]
    return data


def _passes(passes: list[Pass], story: Story) -> None:
    told: list[Json] = []
    for one in passes:
        flags = alloc_flag_names(one.flags)
        if one.name != PASS_NAMES[EV_REQUEST]:
            story.lines.append(f"  {one.name}: {flags}")
        kswapd: list[Step] = Stepper().feed(one.kswapd)
        for step in kswapd:
            story.lines += step.lines("    ")
        visits: list[Json] = [
            _visit(number, visit, story) for number, visit in enumerate(one.visits, 1)
        ]
        if not one.visits:
            story.lines.append("    no zone was looked at")
        pressure = PressureStepper().feed(one.pressure)
        for step in pressure:
            story.lines += step.lines("  ")
        told.append(
            {
                "name": one.name,
                "alloc_flags": one.flags,
                "alloc_flag_names": flags,
                "kswapd": [step.json() for step in kswapd],
                "visits": visits,
                "pressure": [step.json() for step in pressure],
            }
        )
    story.data["passes"] = told


def _frames(recording: Recording) -> list[int]:
    """Frames worth showing: what was handed out."""
    return [recording.pfn][:MAX_PAGES] if recording.pfn >= 0 else []


def _headline(gfp: int, order: int, nid: int, mask: int | None, kernel: Kernel, pfn: int) -> str:
    asked = f"alloc_pages(gfp={format_gfp(gfp)}, order={order}, nid={nid}"
    asked += f", nodemask={mask:#x}" if mask is not None else ""
    if pfn < 0:
        return f"{asked})  ->  nothing"
    page = kernel.page(pfn)
    return f"{asked})  ->  frame {pfn:#07x}, node {page.nid} zone {page.zone}"


def explain_alloc(
    kernel: Kernel,
    gfp: str | int,
    order: int = 0,
    nid: int | None = None,
    nodemask: int | None = None,
    cpu: int = 0,
    whatif: bool = False,
) -> Story:
    """Makes one allocation and tells it; with `whatif` everything is as before afterwards.

    Raises:
        BadRequest: a request that 4.20 does not allow.
        KernelOops: the allocator's structures are damaged.
    """
    flags = parse_gfp(gfp)
    if nid is None:
        nid = kernel.m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
    with thrown_away(kernel) as other:
        trial = record_alloc(other, flags, order, nid, nodemask, cpu)
    frames = _frames(trial)
    before = look(kernel, frames)
    story = Story()
    with ExitStack() as stack:
        if whatif:
            kernel = stack.enter_context(thrown_away(kernel))
        outline = trial.lost > 0
        recording = record_alloc(kernel, flags, order, nid, nodemask, cpu, outline)
        story.lines.append(_headline(flags, order, nid, nodemask, kernel, recording.pfn))
        _request(kernel, recording, story)
        lines, shown = before_and_after(before, look(kernel, frames))
    _result(recording, order, story)
    story.lines += lines
    story.data["pages"] = shown
    close(story, recording, whatif)
    return story


def _request(kernel: Kernel, recording: Recording, story: Story) -> None:
    """The request as the allocator understood it, and its passes."""
    request = next((r for r in recording.records if r.event == EV_REQUEST), None)
    if request is None:
        story.lines.append("  refused before any zone was looked at")
        story.data |= {"request": None, "zonelist": [], "passes": []}
        return
    mt, high = request["migratetype"], request["high_zoneidx"]
    story.data["request"] = {
        **request.fields,
        "gfp_names": format_gfp(request["gfp_flags"]),
        "migratetype_name": type_name(mt),
        "highest_zone": ZONE_NAMES[high],
    }
    story.lines.append(
        f"  wants {type_name(mt)} pages, zones up to {ZONE_NAMES[high]}, "
        f"{alloc_flag_names(request['alloc_flags'])}"
    )
    _zonelist(kernel, request, story)
    _passes(cut(recording.records), story)


def _result(recording: Recording, order: int, story: Story) -> None:
    """What came of it."""
    pfn = recording.pfn
    story.data["result"] = {"pfn": pfn if pfn >= 0 else None, "order": order}
    if pfn < 0:
        story.lines.append("  no zone could serve it")
