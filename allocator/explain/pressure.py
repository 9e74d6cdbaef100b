# SPDX-License-Identifier: GPL-2.0-only
"""What the slow path did to get memory: reclaim, compaction, retries, the OOM killer.

The events are the kernel's own (vmscan, compaction and oom groups) and a few of ours around them.
One run over a zone's memory writes hundreds of them; here a run is one step, with the counts of
what it scanned, moved and freed.
"""

from __future__ import annotations

from collections.abc import Iterable

from .. import trace_events as ev
from ..compact_suitable import (
    COMPACT_CONTINUE,
    COMPACT_NOT_SUITABLE_ZONE,
    COMPACT_RESULTS,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
)
from ..inspect.fields import Json
from .records import Record
from .steps import Step, zone_name

PRESSURE = frozenset(
    {
        ev.EV_COMPACT_RETRY,
        ev.EV_COMPACTION_BEGIN,
        ev.EV_COMPACTION_DEFERRED,
        ev.EV_COMPACTION_END,
        ev.EV_COMPACTION_MIGRATEPAGES,
        ev.EV_COMPACTION_SUITABLE,
        ev.EV_COMPACTION_TRY_TO_COMPACT,
        ev.EV_DIRECT_COMPACT,
        ev.EV_MARK_VICTIM,
        ev.EV_PERFORM_RECLAIM,
        ev.EV_RECLAIM_RETRY_ZONE,
        ev.EV_VMSCAN_DIRECT_BEGIN,
        ev.EV_VMSCAN_DIRECT_END,
        ev.EV_VMSCAN_MEMCG_BEGIN,
        ev.EV_VMSCAN_MEMCG_END,
        ev.EV_VMSCAN_SHRINK_INACTIVE,
    }
)
"""Events that are told here."""
PRIORITIES = ("sync", "sync-light", "async")
MODES = ("async", "sync-light", "sync")
SUITABLE = {
    COMPACT_CONTINUE: "worth compacting",
    COMPACT_SKIPPED: "not worth compacting: too few free pages to move others into",
    COMPACT_NOT_SUITABLE_ZONE: "not worth compacting: memory is short, not fragmented",
    COMPACT_SUCCESS: "has such a block already",
}


def result_name(result: int) -> str:
    """A compact_result's name, or its number where it is none."""
    return COMPACT_RESULTS[result] if 0 <= result < len(COMPACT_RESULTS) else f"{result}"


class PressureStepper:
    """Turns the events of PRESSURE into steps."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._moved = self._failed = 0
        self._scanned = self._freed = 0

    def feed(self, records: Iterable[Record]) -> list[Step]:
        """All steps of `records`, in their order."""
        for record in records:
            if record.event in (ev.EV_VMSCAN_DIRECT_BEGIN, ev.EV_VMSCAN_MEMCG_BEGIN):
                self._scanned = self._freed = 0
            elif record.event == ev.EV_VMSCAN_SHRINK_INACTIVE:
                self._scanned += record["nr_scanned"]
                self._freed += record["nr_reclaimed"]
            elif record.event == ev.EV_COMPACTION_BEGIN:
                self._moved = self._failed = 0
            elif record.event == ev.EV_COMPACTION_MIGRATEPAGES:
                self._moved += record["nr_migrated"]
                self._failed += record["nr_failed"]
            elif record.event in (ev.EV_VMSCAN_DIRECT_END, ev.EV_VMSCAN_MEMCG_END):
                self._reclaimed(record)
            elif record.event == ev.EV_COMPACTION_END:
                self._compacted(record)
            else:
                kind, text = self._decision(record)
                self._add(kind, text, dict(record.fields))
        return self.steps

    def _add(self, kind: str, text: str, data: dict[str, Json]) -> None:
        self.steps.append(Step(kind, text, data))

    def _reclaimed(self, record: Record) -> None:
        whose = "direct" if record.event == ev.EV_VMSCAN_DIRECT_END else "memory cgroup"
        text = (
            f"{whose} reclaim: {record['nr_reclaimed']:,} pages reclaimed "
            f"({self._scanned:,} scanned on the inactive lists, {self._freed:,} freed there)"
        )
        data: dict[str, Json] = {
            **record.fields,
            "nr_scanned": self._scanned,
            "nr_freed": self._freed,
        }
        self._add("reclaim", text, data)

    def _compacted(self, record: Record) -> None:
        mode = MODES[min(record["status_mode"] >> 8, 2)]
        status = result_name(record["status_mode"] & 0xFF)
        text = (
            f"zone {zone_name(record)} compacted ({mode}): {self._moved:,} pages moved, "
            f"{self._failed:,} failed; scanners at {record['migrate_pfn']:#x} and "
            f"{record['free_pfn']:#x}: {status}"
        )
        data: dict[str, Json] = {
            **record.fields,
            "nr_migrated": self._moved,
            "nr_failed": self._failed,
            "status": status,
        }
        self._add("compaction", text, data)

    def _decision(self, record: Record) -> tuple[str, str]:
        """Kind and sentence of an event that is one decision."""
        event = record.event
        if event == ev.EV_COMPACTION_TRY_TO_COMPACT:
            priority = PRIORITIES[min(record["prio"], 2)]
            return "try_to_compact", f"direct compaction for order {record['order']}, {priority}"
        if event == ev.EV_COMPACTION_SUITABLE:
            said = SUITABLE.get(record["ret"], result_name(record["ret"]))
            return "suitable", f"zone {zone_name(record)} {said}"
        if event == ev.EV_COMPACTION_DEFERRED:
            tries = f"{record['considered']} of {1 << record['defer_shift']}"
            failed = f"order {record['order_failed']} failed before"
            return "deferred", f"zone {zone_name(record)} left alone: {failed}, put off {tries}"
        if event == ev.EV_DIRECT_COMPACT:
            return "direct_compact", f"direct compaction says {result_name(record['ret'])}"
        if event == ev.EV_PERFORM_RECLAIM:
            return "progress", f"reclaim made progress of {record['progress']:,} pages"
        if event == ev.EV_RECLAIM_RETRY_ZONE:
            enough = "would do: try again" if record["wmark_check"] else "would not do"
            return "reclaim_retry", (
                f"zone {zone_name(record)}: with all that can be reclaimed {record['available']:,} "
                f"pages against min {record['min_wmark']:,} {enough} "
                f"({record['no_progress_loops']} rounds without progress)"
            )
        if event == ev.EV_COMPACT_RETRY:
            again = "once more" if record["ret"] else "no more"
            priority = PRIORITIES[min(record["priority"], 2)]
            return "compact_retry", (
                f"compaction after {result_name(record['result'])}, {priority}, "
                f"{record['retries']} of {record['max_retries']} retries: {again}"
            )
        return "oom_kill", f"out of memory: the OOM killer takes process {record['pid']}"
