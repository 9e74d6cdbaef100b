# SPDX-License-Identifier: GPL-2.0-only
"""Trace ring records as the recording's event codes.

A recording prints what the allocator did inside an operation as short lists: `["r", cpu, nid, zid,
order, mt, pfn, pagemt]`. Our trace ring has the same facts as fixed records; `take_events` empties
the ring into such lists, so that the two can be compared as they are. Only events with a code are
switched on during a replay (`RECORDED_EVENTS`).
"""

from __future__ import annotations

from typing import Any

from machine.errors import ImageError

from ..kernel_globals import G_TRACE_HEAD, G_TRACE_MASK
from ..layout import RECORD_WORDS, signed
from ..trace_events import (
    EV_COMPACT_ZONE_RETURNS,
    EV_COMPACTION_BEGIN,
    EV_COMPACTION_DEFER,
    EV_COMPACTION_DEFER_RESET,
    EV_COMPACTION_DEFERRED,
    EV_COMPACTION_END,
    EV_CONTEXT,
    EV_DIRECT_COMPACT,
    EV_DRAIN_PAGES_ZONE,
    EV_DRAIN_ZONE_PAGES,
    EV_FREE_PCPPAGES_BULK,
    EV_FREE_TO_BUDDY,
    EV_FREE_TO_PCP,
    EV_ISOLATE_FREE_PAGE,
    EV_ISOLATE_FREEPAGES,
    EV_ISOLATE_MIGRATEPAGES,
    EV_ISOLATE_PAGEBLOCK,
    EV_MIGRATE,
    EV_MM_PAGE_ALLOC_EXTFRAG,
    EV_PERFORM_RECLAIM,
    EV_RESERVE_HIGHATOMIC,
    EV_RMQUEUE,
    EV_RMQUEUE_BULK,
    EV_SLOWPATH_FIRST,
    EV_SLOWPATH_RETRY,
    EV_UNISOLATE_PAGEBLOCK,
    EV_UNRESERVE_HIGHATOMIC,
    EVENTS,
)
from .guest import RING_RECORDS, Guest

Event = list[Any]

CODES = {
    EV_RMQUEUE: "r",
    EV_RMQUEUE_BULK: "R",
    EV_FREE_PCPPAGES_BULK: "B",
    EV_MM_PAGE_ALLOC_EXTFRAG: "X",
    EV_RESERVE_HIGHATOMIC: "H",
    EV_UNRESERVE_HIGHATOMIC: "U",
    EV_SLOWPATH_FIRST: "S1",
    EV_SLOWPATH_RETRY: "S2",
    EV_FREE_TO_PCP: "f",
    EV_FREE_TO_BUDDY: "F",
    EV_DRAIN_PAGES_ZONE: "d",
    EV_DRAIN_ZONE_PAGES: "e",
    EV_CONTEXT: "c",
    EV_ISOLATE_PAGEBLOCK: "IS",
    EV_UNISOLATE_PAGEBLOCK: "IU",
    EV_ISOLATE_FREE_PAGE: "i",
    EV_MIGRATE: "M",
    EV_ISOLATE_MIGRATEPAGES: "CM",
    EV_ISOLATE_FREEPAGES: "CF",
    EV_COMPACTION_BEGIN: "CS",
    EV_COMPACT_ZONE_RETURNS: "CZ",
    EV_COMPACTION_END: "CE",
    EV_COMPACTION_DEFER: "CD",
    EV_COMPACTION_DEFERRED: "CK",
    EV_COMPACTION_DEFER_RESET: "CR",
    EV_DIRECT_COMPACT: "DC",
    EV_PERFORM_RECLAIM: "PR",
}
# Tracepoints of compaction whose records hold more than the recording prints
FEWER = {EV_COMPACTION_BEGIN: 8, EV_COMPACTION_END: 10}
ARGUMENTS = {
    number: (code, 3 + FEWER.get(number, len(EVENTS[number][1]))) for number, code in CODES.items()
}
RECORDED_EVENTS = sum(1 << number for number in CODES)


def watch(guest: Guest, mask: int) -> None:
    """Empties the trace ring and switches the events of `mask` (a bit each) on."""
    guest.m[G_TRACE_HEAD] = 0
    guest.m[G_TRACE_MASK] = mask


def take_records(guest: Guest) -> list[list[int]]:
    """Empties the ring into records of sixteen words. Raises ImageError if it has run over."""
    m = guest.m
    count = m[G_TRACE_HEAD]
    if count == 0:
        return []
    m[G_TRACE_HEAD] = 0
    if count > RING_RECORDS:
        raise ImageError(f"one operation gave {count:,} events, more than the ring holds")
    words = m[guest.ring : guest.ring + count * RECORD_WORDS].tolist()
    return [words[i : i + RECORD_WORDS] for i in range(0, len(words), RECORD_WORDS)]


def take_events(guest: Guest) -> list[Event]:
    """Empties the ring into the recording's event lists; records without a code are left out."""
    events = []
    for record in take_records(guest):
        known = ARGUMENTS.get(record[1])
        if known is not None:
            event: Event = [known[0], *record[2 : known[1]]]
            if record[1] == EV_COMPACTION_END:
                event[4] &= 0xFF
            events.append(event)
    return events


def normal(events: list[Event]) -> list[Event]:
    """Recorded events as our records have them: null is -1, words are signed."""
    return [
        [
            -1 if f is None else signed(f) if isinstance(f, int) and f >> 63 == 1 else f
            for f in event
        ]
        for event in events
    ]


def spell(event: Event | None) -> str:
    """An event for a message."""
    return "(none)" if event is None else " ".join(str(field) for field in event)


def first_difference(ours: list[Event], recorded: list[Event]) -> str:
    """Where two event lists part, in words; "" if they are equal."""
    if ours == recorded:
        return ""
    for i in range(max(len(ours), len(recorded))):
        a = ours[i] if i < len(ours) else None
        b = recorded[i] if i < len(recorded) else None
        if a != b:
            return f"event {i}: here {spell(a)}, recorded {spell(b)}"
    return ""
