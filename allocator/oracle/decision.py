# SPDX-License-Identifier: GPL-2.0-only
"""Why an operation came out as it did: its decisions, from the trace ring.

When a RUN differs, its operations up to the one that differs are applied again from the recorded
STATE, and that one with every event on. The lines tell what the allocator looked at: the request
as it was understood, each zone with the numbers of its watermark test, the list a block came from,
what was stolen.
"""

from __future__ import annotations

from typing import Any

from machine.errors import NumalabError

from ..kernel_globals import G_TRACE_MASK
from ..mmzone import MIGRATETYPE_NAMES, ZONE_NAMES
from ..page_alloc import SKIP_CPUSET, SKIP_DIRTY_LIMIT, SKIP_EMPTY, SKIP_NODEMASK, SKIP_WATERMARK
from ..trace_events import (
    ALL_EVENTS,
    EV_MERGE,
    EV_MM_PAGE_ALLOC_EXTFRAG,
    EV_REQUEST,
    EV_RMQUEUE,
    EV_RMQUEUE_BULK,
    EV_RMQUEUE_SMALLEST,
    EV_SLOWPATH_FIRST,
    EV_SLOWPATH_RETRY,
    EV_WATERMARK,
    EV_ZONE_SKIPPED,
    EVENTS,
)
from .events import take_records, watch
from .replay import Op, Replayer

SKIPPED = {
    SKIP_CPUSET: "outside the cpuset",
    SKIP_DIRTY_LIMIT: "over the node's dirty limit",
    SKIP_WATERMARK: "below its watermark",
    SKIP_NODEMASK: "outside the nodemask",
    SKIP_EMPTY: "without pages",
}
MAX_LINES = 40


def explain(replayer: Replayer, ops: list[Op], failed_at: int) -> list[str]:
    """What operation `failed_at` decides, after those before it have been applied.

    The replayer must be fresh, in the STATE before the first operation. An error on the way (the
    recording may be broken) ends the account with its message.
    """
    watch(replayer.guest, 0)
    try:
        for op in ops[:failed_at]:
            replayer.apply(op)
        watch(replayer.guest, ALL_EVENTS)
        replayer.apply(ops[failed_at])
        records = take_records(replayer.guest)
    except NumalabError as error:
        return [f"the decision cannot be shown: {error}"]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        return [f"the decision cannot be shown: {type(error).__name__}: {error}"]
    finally:
        replayer.m[G_TRACE_MASK] = 0
    lines = [line for line in map(decision_line, records) if line]
    return lines if len(lines) <= MAX_LINES else [*lines[:MAX_LINES], "..."]


def arguments(record: list[int]) -> dict[str, int]:
    """A record's fields by name."""
    return dict(zip(EVENTS[record[1]][1], record[3:], strict=False))


def zone_name(fields: dict[str, Any]) -> str:
    """A record's zone as `1:DMA32`."""
    zid = fields["zid"]
    return f"{fields['nid']}:{ZONE_NAMES[zid] if 0 <= zid < len(ZONE_NAMES) else zid}"


def type_name(migratetype: int) -> str:
    """A migratetype's name."""
    known = 0 <= migratetype < len(MIGRATETYPE_NAMES)
    return MIGRATETYPE_NAMES[migratetype] if known else str(migratetype)


def watermark_line(fields: dict[str, int]) -> str:
    """One watermark test with its numbers."""
    cma = f", CMA {fields['free_cma']}" if fields["free_cma"] else ""
    atomic = f", highatomic {fields['nr_highatomic']}" if fields["nr_highatomic"] else ""
    return (
        f"zone {zone_name(fields)}: free {fields['free_pages']}{cma}{atomic} against mark "
        f"{fields['mark']} + reserve {fields['lowmem_reserve']}, order {fields['order']}, "
        f"alloc_flags {fields['alloc_flags']:#x}: {'yes' if fields['ok'] else 'no'}"
    )


def decision_line(record: list[int]) -> str:
    """One record as a line of the account, "" for records that decide nothing."""
    number = record[1]
    if number not in EVENTS:
        return ""
    fields = arguments(record)
    if number == EV_REQUEST:
        return (
            f"request gfp {fields['gfp_flags']:#x} order {fields['order']} node {fields['nid']} "
            f"nodemask {fields['nodemask']:#x} type {type_name(fields['migratetype'])}, "
            f"zones up to {ZONE_NAMES[fields['high_zoneidx']]}, "
            f"alloc_flags {fields['alloc_flags']:#x}"
        )
    if number == EV_ZONE_SKIPPED:
        return f"zone {zone_name(fields)}: {SKIPPED.get(fields['reason'], 'skipped')}"
    if number == EV_WATERMARK:
        return watermark_line(fields)
    if number in (EV_SLOWPATH_FIRST, EV_SLOWPATH_RETRY):
        which = "first" if number == EV_SLOWPATH_FIRST else "second"
        flags = f"alloc_flags {fields['alloc_flags']:#x} gfp {fields['gfp_flags']:#x}"
        return f"slow path, {which} attempt: {flags}"
    if number == EV_RMQUEUE_SMALLEST:
        return (
            f"zone {zone_name(fields)}: {type_name(fields['migratetype'])} list of order "
            f"{fields['found_order']} gives frame {fields['pfn']:#x} for order {fields['order']}"
        )
    if number == EV_MM_PAGE_ALLOC_EXTFRAG:
        verb = "its pageblock is taken" if fields["can_steal"] else "only this block is taken"
        return (
            f"zone {zone_name(fields)}: {type_name(fields['alloc_migratetype'])} lists are empty, "
            f"fallback to {type_name(fields['fallback_migratetype'])}: block {fields['pfn']:#x} of "
            f"order {fields['fallback_order']}, {verb}, pageblock now "
            f"{type_name(fields['block_migratetype'])}"
        )
    if number in (EV_RMQUEUE, EV_RMQUEUE_BULK, EV_MERGE):
        pairs = " ".join(f"{k}={v}" for k, v in fields.items() if k not in ("nid", "zid"))
        return f"zone {zone_name(fields)}: {EVENTS[number][0]} {pairs}"
    return ""
