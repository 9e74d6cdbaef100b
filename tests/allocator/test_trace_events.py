# SPDX-License-Identifier: GPL-2.0-only
"""allocator/trace_events.py: what kinds of records there are."""

from __future__ import annotations

from allocator import trace_events
from allocator.trace_events import (
    ACTION_EVENTS,
    ALL_EVENTS,
    COMPACTION_EVENTS,
    EVENTS,
    KMEM_EVENTS,
    MIGRATE_EVENTS,
    OOM_EVENTS,
    PAGE_ISOLATION_EVENTS,
    VMSCAN_EVENTS,
)

NUMBERS = {name: value for name, value in vars(trace_events).items() if name.startswith("EV_")}
KINDS = [
    value
    for name, value in vars(trace_events).items()
    if name.startswith("LOG_") and name not in ("LOG_PID", "LOG_MEMS", "LOG_COMM")
]


def test_no_two_kinds_of_record_have_one_number() -> None:
    assert len(set(NUMBERS.values())) == len(NUMBERS)
    assert len(set(KINDS)) == len(KINDS)


def test_every_event_has_a_name_and_fields_that_fit_a_record() -> None:
    assert set(NUMBERS.values()) <= set(EVENTS)
    assert len({name for name, _ in EVENTS.values()}) == len(EVENTS)
    assert all(len(fields) <= 11 for _, fields in EVENTS.values())


def test_groups_are_of_the_kernels_own_tracepoints_and_disjoint() -> None:
    groups = (
        KMEM_EVENTS,
        COMPACTION_EVENTS & ~ACTION_EVENTS,
        VMSCAN_EVENTS,
        OOM_EVENTS,
        MIGRATE_EVENTS,
        PAGE_ISOLATION_EVENTS,
    )
    assert sum(groups) == groups[0] | groups[1] | groups[2] | groups[3] | groups[4] | groups[5]
    assert ALL_EVENTS & (KMEM_EVENTS | COMPACTION_EVENTS) == KMEM_EVENTS | COMPACTION_EVENTS
