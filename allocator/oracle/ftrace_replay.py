# SPDX-License-Identifier: GPL-2.0-only
"""ftrace text of the six kmem events: format and frames.

A trace file is text, and not every action of the allocator is in it, so it cannot be replayed. What
it allows is checked for every line: that our own tracepoint text, made from the parsed fields, is
the recorded text (the hashed `page=` aside), gfp names included; and that the frames add up.
From the STATE before the trace on, every frame is in use, on the buddy lists or on the per-cpu list
of one CPU, and each line must find its frame where such an event takes it from. `mm_page_free` is
printed before and `mm_page_alloc` after the fact, so the order of lines is good enough for that on
any number of CPUs; only lines of one time stamp stand in no order but each CPU's own, and are taken
as they fit.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from machine.errors import ImageError, UsageError

from ..gfp import parse_gfp
from ..mmzone import MAX_ORDER
from ..trace_events import (
    EV_MM_PAGE_ALLOC,
    EV_MM_PAGE_ALLOC_EXTFRAG,
    EV_MM_PAGE_ALLOC_ZONE_LOCKED,
    EV_MM_PAGE_FREE,
    EV_MM_PAGE_FREE_BATCHED,
    EV_MM_PAGE_PCPU_DRAIN,
    EVENTS,
    KMEM_EVENTS,
)
from ..tracepoints import format_kmem
from .records import Recording, read_packed

LINE = re.compile(
    r"^ *(?P<task>.+)-(?P<pid>\d+) +\[(?P<cpu>\d+)\] (?:(?P<irq>[^ ]{4,5}) )? *"
    r"(?P<time>\d+\.\d{6}): (?P<event>\w+): (?P<fields>.*)$"
)
FIELD = re.compile(r"(\w+)=(\([^)]*\)|\S+)")
NUMBERS = {EVENTS[number][0]: number for number in range(KMEM_EVENTS.bit_length())}
# the two fields of mm_page_alloc_extfrag that its text does not show
NOT_SHOWN = -1
IN_USE, BUDDY, ON_LIST = 0, 1, 2
Map = npt.NDArray[np.int16]


@dataclass(frozen=True)
class KmemLine:
    """One parsed line: its number in the file, CPU, event number and the text's own fields."""

    number: int
    cpu: int
    time: str
    event: int
    fields: dict[str, str]
    text: str


@dataclass
class FtraceOutcome:
    """What checking a text came to."""

    lines: int = 0
    equal: int = 0
    problem: str = ""
    final: str = "not recorded"
    notes: list[str] = field(default_factory=list)


def parse_lines(text: str, where: str) -> Iterator[KmemLine]:
    """The kmem events of a trace file; other events and comments are passed over.

    Raises ImageError, naming the line, for text that is not a trace.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = LINE.match(line)
        if match is None:
            if "LOST" in line and "EVENTS" in line:
                raise ImageError(f"{where}:{number}: events were lost, frames cannot be followed")
            raise ImageError(f"{where}:{number}: not a line of a trace")
        event = NUMBERS.get(match["event"])
        if event is not None:
            fields = dict(FIELD.findall(match["fields"]))
            yield KmemLine(number, int(match["cpu"]), match["time"], event, fields, match["fields"])


def number_of(line: KmemLine, name: str, where: str) -> int:
    """A decimal field. Raises ImageError if it is missing or no number."""
    value = line.fields.get(name, "")
    if not value.isdigit():
        raise ImageError(f"{where}:{line.number}: field {name!r} is {value or 'missing'}")
    return int(value)


def arguments(line: KmemLine, where: str) -> tuple[int, ...]:
    """The record's arguments that would print this line. Raises ImageError for a bad field."""

    def get(name: str) -> int:
        return number_of(line, name, where)

    pfn = -1 if line.fields.get("page") == "(null)" else get("pfn")
    if line.event == EV_MM_PAGE_ALLOC:
        try:
            gfp = parse_gfp(line.fields.get("gfp_flags", "").replace("none", "0"))
        except UsageError as error:
            raise ImageError(f"{where}:{line.number}: {error}") from None
        return pfn, get("order"), gfp, get("migratetype")
    if line.event == EV_MM_PAGE_FREE:
        return pfn, get("order")
    if line.event == EV_MM_PAGE_FREE_BATCHED:
        return (pfn,)
    if line.event in (EV_MM_PAGE_ALLOC_ZONE_LOCKED, EV_MM_PAGE_PCPU_DRAIN):
        return pfn, get("order"), get("migratetype")
    assert line.event == EV_MM_PAGE_ALLOC_EXTFRAG
    kept = get("alloc_migratetype") if get("change_ownership") else NOT_SHOWN
    return (
        *(0, 0, pfn, get("alloc_order"), get("fallback_order")),
        *(get("alloc_migratetype"), get("fallback_migratetype"), 1, kept),
    )


def without_pointer(text: str) -> str:
    """The fields without the struct page's address, which is hashed in a recording."""
    return re.sub(r"page=(\([^)]*\)|[0-9a-f]+|\s*\(null\)) ", "page=* ", text, count=1)


def whereabouts(state: dict[str, Any], limit: int) -> Map:
    """Where a STATE has every frame: IN_USE, BUDDY, or ON_LIST + the CPU of its per-cpu list."""
    places = np.full(limit, IN_USE, dtype=np.int16)
    for zone in state["zones"]:
        for area in zone["free_area"]:
            for pfns in area["lists"].values():
                for pfn in pfns:
                    places[pfn : pfn + (1 << area["order"])] = BUDDY
        for pcp in zone["pcp"]:
            for pages in pcp["lists"].values():
                for page in pages:
                    places[page[0]] = ON_LIST + pcp["cpu"]
    return places


def follow(line: KmemLine, args: tuple[int, ...], places: Map) -> str:
    """Moves the frames of one line to their new place; what is impossible about it, or ""."""
    if line.event in (EV_MM_PAGE_ALLOC_EXTFRAG, EV_MM_PAGE_FREE_BATCHED) or args[0] < 0:
        return ""
    pfn, order = args[0], args[1]
    if order > MAX_ORDER - 1 or pfn + (1 << order) > len(places):
        return f"frame {pfn:#x} of order {order} is outside the memory"
    mine = ON_LIST + line.cpu
    verb, came_from, goes_to = {
        EV_MM_PAGE_ALLOC: ("handed out", BUDDY if order else mine, IN_USE),
        EV_MM_PAGE_FREE: ("freed", IN_USE, BUDDY if order else mine),
        EV_MM_PAGE_PCPU_DRAIN: ("drained", mine, BUDDY),
        EV_MM_PAGE_ALLOC_ZONE_LOCKED: ("taken", BUDDY, BUDDY if order else mine),
    }[line.event]
    block = places[pfn : pfn + (1 << order)]
    if not (block == came_from).all():
        there = spell_place(int(block[np.flatnonzero(block != came_from)[0]]))
        return f"frame {pfn:#x} is {verb} from {spell_place(came_from)} but is {there}"
    block[:] = goes_to
    return ""


def spell_place(place: int) -> str:
    """A place for a message."""
    names = {IN_USE: "in use", BUDDY: "on the buddy lists"}
    return names.get(place, f"on a list of CPU {place - ON_LIST}")


def check_group(
    group: list[KmemLine], places: Map | None, outcome: FtraceOutcome, where: str
) -> str:
    """Checks the lines of one time stamp; the first problem as "line: what", or "".

    Each CPU's lines stay in order; of their next ones the first in the file that is possible goes.
    """
    waiting: dict[int, deque[tuple[KmemLine, tuple[int, ...]]]] = {}
    for line in group:
        args = arguments(line, where)
        outcome.lines += 1
        ours = without_pointer(format_kmem(line.event, args))
        if ours != without_pointer(line.text):
            return f"{line.number}: our text is {ours!r}"
        waiting.setdefault(line.cpu, deque()).append((line, args))
    if places is None:
        outcome.equal += len(group)
        return ""
    queues = list(waiting.values())
    while any(queues):
        problems = []
        for queue in sorted(filter(None, queues), key=lambda queue: queue[0][0].number):
            line, args = queue[0]
            problem = follow(line, args, places)
            if problem:
                problems.append(f"{line.number}: {problem}")
                continue
            queue.popleft()
            outcome.equal += 1
            break
        else:
            return problems[0]
    return ""


def replay_ftrace(recording: Recording, name: str) -> FtraceOutcome:
    """Checks every line of a trace text, and the frames against the STATEs around it.

    Raises ImageError for a text or STATE that is malformed.
    """
    file = recording.path / name
    try:
        text = read_packed(file).decode("ascii")
    except UnicodeDecodeError as error:
        raise ImageError(f"{file}: not text: {error}") from None
    before = recording.state("ftrace-before") if recording.has_state("ftrace-before") else None
    limit = before["globals"]["max_pfn"] if before else 0
    places = whereabouts(before, limit) if before else None
    outcome = FtraceOutcome()
    lines = parse_lines(text, str(file))
    for _, group in groupby(lines, key=lambda line: line.time):
        problem = check_group(list(group), places, outcome, str(file))
        if problem:
            outcome.problem = f"{file}:{problem}"
            return outcome
    if places is not None and recording.has_state("ftrace-after"):
        after = whereabouts(recording.state("ftrace-after"), limit)
        odd = int((places != after).sum())
        outcome.final = "not comparable" if odd else "equal"
        if odd:
            # the system went on between the last line and the STATE
            outcome.notes.append(f"{odd} frames are elsewhere in the STATE after the trace")
    return outcome
