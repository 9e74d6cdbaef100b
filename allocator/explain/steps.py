# SPDX-License-Identifier: GPL-2.0-only
"""From trace records to steps: what happened to blocks, in words and as data.

Several records often tell one thing: a steal is recorded as blocks moved, pageblock retyped, block
taken; a refill as a dozen blocks taken and one sum. `Stepper` takes records in order and gives
`Step`s. A record that it has no words for is shown with its fields, so nothing is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..inspect.fields import Json
from ..kswapd_wake import WAKE_AWAKE, WAKE_DONE, WAKE_KCOMPACTD, WAKE_NOT_NEEDED
from ..mmzone import MIGRATE_MOVABLE, MIGRATETYPE_NAMES, PAGEBLOCK_ORDER, ZONE_NAMES
from ..trace_events import (
    EV_DRAIN_PAGES_ZONE,
    EV_DRAIN_ZONE_PAGES,
    EV_FREE_PCPPAGES_BULK,
    EV_FREE_REQUEST,
    EV_FREE_TO_BUDDY,
    EV_FREE_TO_PCP,
    EV_MERGE,
    EV_MM_PAGE_ALLOC,
    EV_MM_PAGE_ALLOC_EXTFRAG,
    EV_MM_PAGE_ALLOC_ZONE_LOCKED,
    EV_MM_PAGE_FREE,
    EV_MM_PAGE_FREE_BATCHED,
    EV_MM_PAGE_PCPU_DRAIN,
    EV_MOVE_FREEPAGES,
    EV_REQUEST,
    EV_RESERVE_HIGHATOMIC,
    EV_RESULT,
    EV_RMQUEUE,
    EV_RMQUEUE_BULK,
    EV_RMQUEUE_SMALLEST,
    EV_SET_PAGEBLOCK,
    EV_UNRESERVE_HIGHATOMIC,
    EV_WAKE_KSWAPD,
)
from .records import Record

MAX_LISTED = 8


@dataclass
class Step:
    """One thing that happened: its kind, the sentence, numbers for programs, sub-steps."""

    kind: str
    text: str
    data: dict[str, Json] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def lines(self, indent: str) -> list[str]:
        """The sentence and its sub-steps, indented."""
        found = [indent + self.text]
        for step in self.steps:
            found += step.lines(indent + "  ")
        return found

    def json(self) -> dict[str, Json]:
        """As plain data."""
        data: dict[str, Json] = {"kind": self.kind, "text": self.text, **self.data}
        if self.steps:
            data["steps"] = [step.json() for step in self.steps]
        return data


def type_name(mt: int) -> str:
    """A migratetype's name, or its number where it is none."""
    return MIGRATETYPE_NAMES[mt] if 0 <= mt < len(MIGRATETYPE_NAMES) else f"type {mt}"


def zone_name(record: Record) -> str:
    """ "0:DMA32" of a record with nid and zid."""
    zid = record["zid"]
    return f"{record['nid']}:{ZONE_NAMES[zid] if 0 <= zid < len(ZONE_NAMES) else zid}"


def block(pfn: int, order: int) -> str:
    """A block as "0x0c3a8/3": first frame and order."""
    return f"{pfn:#x}/{order}"


def some(items: list[str]) -> str:
    """The items, or the first few of many."""
    if len(items) <= MAX_LISTED:
        return " ".join(items)
    return " ".join(items[:MAX_LISTED]) + f" ... ({len(items)} in all)"


def split_step(record: Record) -> Step:
    """A block taken off a buddy list and what was split off it."""
    pfn, order, found = record["pfn"], record["order"], record["found_order"]
    name = type_name(record["migratetype"])
    data: dict[str, Json] = {
        "pfn": pfn,
        "order": order,
        "found_order": found,
        "migratetype": name,
        "zone": zone_name(record),
    }
    text = f"block {block(pfn, found)} taken from the {name} list of order {found}"
    if found > order:
        left = [(pfn + (1 << o), o) for o in range(order, found)]
        data["left"] = [{"pfn": p, "order": o} for p, o in left]
        text += f", split {found} -> {order}: left {' '.join(block(p, o) for p, o in left)}"
    return Step("take", text, data)


def merge_step(record: Record) -> Step:
    """A block given to the buddy lists, and the buddies that it joined on the way up."""
    pfn, order = record["pfn"], record["order"]
    merged, top = record["merged_pfn"], record["merged_order"]
    at = "tail" if record["tail"] else "head"
    data: dict[str, Json] = {
        "pfn": pfn,
        "order": order,
        "merged_pfn": merged,
        "merged_order": top,
        "tail": bool(record["tail"]),
        "zone": zone_name(record),
    }
    why = " (its buddy of the next order is free, so it may soon merge)" if record["tail"] else ""
    if top == order:
        buddy = pfn ^ (1 << order)
        alone = f", its buddy {block(buddy, order)} is not free" if order < 10 else ""
        return Step("merge", f"{block(pfn, order)} listed at the {at}{alone}{why}", data)
    buddies = []
    here = pfn
    for o in range(order, top):
        buddies.append((here ^ (1 << o), o))
        here &= ~(1 << o)
    data["buddies"] = [{"pfn": p, "order": o} for p, o in buddies]
    joined = " ".join(block(p, o) for p, o in buddies)
    return Step(
        "merge",
        f"{block(pfn, order)} merged with {joined}: {block(merged, top)} listed at the {at}{why}",
        data,
    )


class Stepper:
    """Turns records into steps; `steps` are those that are complete."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._moved: Record | None = None
        self._retyped: list[Record] = []
        self._taken: list[Step] = []

    def feed(self, records: Iterable[Record]) -> list[Step]:
        """All steps of `records`."""
        for record in records:
            self._one(record)
        self._flush()
        return self.steps

    def _one(self, record: Record) -> None:
        event = record.event
        if event == EV_RMQUEUE_SMALLEST:
            self._taken.append(split_step(record))
        elif event == EV_MOVE_FREEPAGES:
            self._moved = record
        elif event == EV_SET_PAGEBLOCK:
            self._retyped.append(record)
        elif event == EV_MM_PAGE_ALLOC_EXTFRAG:
            self._taken.append(self._steal(record))
        elif event in (EV_RESERVE_HIGHATOMIC, EV_UNRESERVE_HIGHATOMIC):
            self._flush_taken()
            self.steps.append(self._highatomic(record))
        elif event == EV_RMQUEUE_BULK:
            self._refill(record)
        elif event == EV_RMQUEUE:
            self._rmqueue(record)
        elif event == EV_MERGE:
            self._merge(record)
        elif event in _SENTENCES:
            self._flush()
            self.steps.append(_SENTENCES[event](record))
        elif event not in _TOLD_ELSEWHERE:
            self._flush()
            values = " ".join(f"{name}={value}" for name, value in record.fields.items())
            self.steps.append(Step(record.name, f"{record.name}: {values}", dict(record.fields)))

    def _flush(self) -> None:
        self._flush_taken()
        for record in self._retyped:
            pfn, mt = record["pfn"], type_name(record["migratetype"])
            number = pfn >> PAGEBLOCK_ORDER
            self.steps.append(Step("pageblock", f"pageblock {number} becomes {mt}", {"pfn": pfn}))
        self._retyped = []
        self._moved = None

    def _flush_taken(self) -> None:
        self.steps += self._taken
        self._taken = []

    def _pageblocks(self, data: dict[str, Json]) -> list[Step]:
        """Which pageblocks changed type, and how many free pages moved with them."""
        changed: list[Json] = []
        steps: list[Step] = []
        if self._moved is not None:
            moved, movable = self._moved["moved"], self._moved["movable"]
            data["moved"] = moved
            text = f"{moved} free pages of its pageblock move to the "
            text += f"{type_name(self._moved['migratetype'])} lists"
            if not self._retyped:
                text += f"; the pageblock keeps its type, for with {movable} movable pages in it "
                text += "less than half of it is free or alike"
            steps.append(Step("move", text, {"moved": moved, "movable": movable}))
        for record in self._retyped:
            number = record["pfn"] >> PAGEBLOCK_ORDER
            old, new = type_name(record["old_migratetype"]), type_name(record["migratetype"])
            entry: dict[str, Json] = {"pageblock": number, "from": old, "to": new}
            changed.append(entry)
            steps.append(Step("pageblock", f"pageblock {number} ({old}) becomes {new}", entry))
        data["pageblocks"] = changed
        self._retyped, self._moved = [], None
        return steps

    def _steal(self, record: Record) -> Step:
        order, found = record["alloc_order"], record["fallback_order"]
        wanted, other = record["alloc_migratetype"], record["fallback_migratetype"]
        data: dict[str, Json] = {
            "pfn": record["pfn"],
            "alloc_order": order,
            "fallback_order": found,
            "wanted": type_name(wanted),
            "fallback": type_name(other),
            "can_steal": bool(record["can_steal"]),
        }
        text = f"{type_name(wanted)} lists empty from order {order} up; fallback to "
        text += f"{type_name(other)}: order {found} block at {record['pfn']:#x}, "
        if record["can_steal"]:
            text += f"can steal ({steal_reason(found, wanted)})"
        else:
            text += "too small to steal its pageblock for a movable request"
        changes = self._pageblocks(data)
        if not changes:
            text += "; the block alone moves"
        return Step("fallback", text, data, changes)

    def _highatomic(self, record: Record) -> Step:
        number = record["pfn"] >> PAGEBLOCK_ORDER
        data: dict[str, Json] = {"pageblock": number, "zone": zone_name(record)}
        data.update(record.fields)
        changes = self._pageblocks(data)
        if record.event == EV_RESERVE_HIGHATOMIC:
            text = f"pageblock {number} reserved for high-order atomic requests; zone "
            text += f"{zone_name(record)} now reserves {record['nr_reserved']:,} pages"
            return Step("reserve", text, data, changes)
        return Step("unreserve", f"highatomic pageblock {number} given back", data, changes)

    def _refill(self, record: Record) -> None:
        taken, self._taken = self._taken, []
        name = type_name(record["migratetype"])
        got = [step for step in taken if step.kind == "take"]
        frames = [f"{step.data['pfn']:#x}" for step in got]
        text = (
            f"the {name} list of cpu {record.cpu} in zone {zone_name(record)} is empty: refilled "
        )
        text += f"with {record['got']} of {record['wanted']} pages"
        text += f", frames {some(frames)}" if frames else ""
        data: dict[str, Json] = {
            "zone": zone_name(record),
            "migratetype": name,
            "wanted": record["wanted"],
            "got": record["got"],
            "frames": [step.data["pfn"] for step in got],
        }
        telling = [
            step
            for step in taken
            if step.kind != "take" or step.data["found_order"] != step.data["order"]
        ]
        self.steps.append(Step("refill", text, data, telling))

    def _rmqueue(self, record: Record) -> None:
        pfn, order = record["pfn"], record["order"]
        refilled = any(step.kind == "refill" for step in self.steps)
        self._flush_taken()
        data: dict[str, Json] = {"pfn": pfn, "order": order, "zone": zone_name(record)}
        if pfn < 0:
            text = f"zone {zone_name(record)} had no block after all"
            self.steps.append(Step("none", text, data))
        elif order == 0:
            name = type_name(record["migratetype"])
            where = f"the {name} list of cpu {record.cpu} in zone {zone_name(record)}"
            text = f"frame {pfn:#x} is the first on {where}"
            text += "" if refilled else ", no lock and no buddy list needed"
            page_mt = record["page_migratetype"]
            if page_mt != record["migratetype"]:
                text += f" (it came from a {type_name(page_mt)} list)"
            self.steps.append(Step("pcp", text, data))

    def _merge(self, record: Record) -> None:
        step = merge_step(record)
        if self.steps and self.steps[-1].kind in ("drain", "to_buddy"):
            self.steps[-1].steps.append(step)
        else:
            self._flush()
            self.steps.append(step)


def steal_reason(order: int, wanted: int) -> str:
    """Why can_steal_fallback() says yes."""
    if order >= PAGEBLOCK_ORDER // 2 and wanted == MIGRATE_MOVABLE:
        return f"order {order} is at least {PAGEBLOCK_ORDER // 2}"
    if wanted == MIGRATE_MOVABLE:
        return "grouping by mobility is off"
    return f"{type_name(wanted)} requests steal at any order"


def _to_pcp(record: Record) -> Step:
    mt, page_mt = record["migratetype"], record["page_migratetype"]
    text = f"frame {record['pfn']:#x} put at the head of the {type_name(mt)} list of cpu "
    text += f"{record.cpu} in zone {zone_name(record)}"
    if page_mt != mt:
        text += f", to go back to the {type_name(page_mt)} lists later"
    return Step("to_pcp", text, dict(record.fields))


def _bulk(record: Record) -> Step:
    text = (
        f"{record['count']} pages of cpu {record.cpu}'s lists of zone {zone_name(record)} go back "
    )
    text += "to the buddy lists"
    return Step("drain", text, dict(record.fields))


def _to_buddy(record: Record) -> Step:
    text = f"block {block(record['pfn'], record['order'])} goes to the "
    text += f"{type_name(record['migratetype'])} lists of zone {zone_name(record)}"
    return Step("to_buddy", text, dict(record.fields))


WAKE_OUTCOMES = {
    WAKE_DONE: "woken",
    WAKE_NOT_NEEDED: "left asleep, nothing to balance",
    WAKE_KCOMPACTD: "left asleep, kcompactd woken",
    WAKE_AWAKE: "awake already, asked",
}


def _kswapd(record: Record) -> Step:
    zone = ZONE_NAMES[min(max(record["classzone_idx"], 0), len(ZONE_NAMES) - 1)]
    outcome = WAKE_OUTCOMES.get(record["outcome"], f"outcome {record['outcome']}")
    text = f"kswapd of node {record['nid']} {outcome} for order {record['order']} up to zone {zone}"
    return Step("kswapd", text, dict(record.fields))


def _drain(record: Record) -> Step:
    text = (
        f"cpu {record.cpu} drains {record['count']} pages of its lists of zone {zone_name(record)}"
    )
    return Step("drain_cpu", text, dict(record.fields))


# The kernel's own tracepoints repeat what the finer events say; requests and results open and close
# the whole story.
_TOLD_ELSEWHERE = frozenset(
    {
        EV_MM_PAGE_ALLOC,
        EV_MM_PAGE_FREE,
        EV_MM_PAGE_FREE_BATCHED,
        EV_MM_PAGE_ALLOC_ZONE_LOCKED,
        EV_MM_PAGE_PCPU_DRAIN,
        EV_REQUEST,
        EV_RESULT,
        EV_FREE_REQUEST,
    }
)
_SENTENCES = {
    EV_FREE_TO_PCP: _to_pcp,
    EV_FREE_PCPPAGES_BULK: _bulk,
    EV_FREE_TO_BUDDY: _to_buddy,
    EV_WAKE_KSWAPD: _kswapd,
    EV_DRAIN_PAGES_ZONE: _drain,
    EV_DRAIN_ZONE_PAGES: _drain,
}
