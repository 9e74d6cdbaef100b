# SPDX-License-Identifier: GPL-2.0-only
"""Applying the operations of a RUN to this allocator, one by one, and comparing each result.

The RUN's driver called the allocator's own functions; so does `Replayer.apply`. What the kernel's
surroundings gave to an operation and no STATE holds comes from the RUN as an input, in the place
where the kernel had it:

- `ctx` bit 0: PF_MEMALLOC in the flags of the current task, for the one operation;
- an operation on another CPU than the RUN's: that CPU's preempt_count says hard-irq;
- event `c`: mems_allowed of the task that was current on the executing CPU;
- the recording kernel drained the one zone that drain_all_pages() was called for, with the other
  CPUs parked, where 4.20 queues work that drains all of a CPU's zones (KEY_DRAIN_ONE_ZONE);
- `N`: the page's mapping says that a driver can move it.

Isolation and contiguous ranges are in `contig_replay`. After the first difference a comparison
means nothing any more; `run_operations` stops there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from machine.errors import ImageError, NumalabError

from ..exact import alloc_pages_exact, free_pages_exact, split_page
from ..kernel_globals import (
    G_NODES_MEMORY,
    G_NR_CPU_IDS,
    G_STATIC_KEYS,
    KEY_CPUSETS,
    KEY_DRAIN_ONE_ZONE,
)
from ..layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_PREEMPT_COUNT,
    CPU_WORDS,
    HARDIRQ_OFFSET,
    PAGE_OFFSET,
    PF_MEMALLOC,
    TASK_FLAGS,
    TASK_HARDWALL_MEMS,
    TASK_MEMS_ALLOWED,
    page_va,
    signed,
    va_of_word,
)
from ..list_head import list_add_tail, list_init
from ..migrate import clear_page_movable, page_has_mover, set_page_movable
from ..mm_types import (
    NODES_MASK,
    NODES_PGSHIFT,
    P_COUNTS,
    P_FLAGS,
    P_NEXT,
    PAGE_SHIFT,
    REF_ONE,
    REF_SHIFT,
    ZONES_MASK,
    ZONES_PGSHIFT,
)
from ..mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_ORDER,
    NR_FREE_PAGES,
    PSET_COUNT,
    PSET_STAT_DIFF,
    PSET_WORDS,
    Z_FREE_AREA,
    Z_FREE_PAGES,
    Z_PAGESET,
)
from ..page_alloc import alloc_pages_nodemask, free_pages
from ..pageblock import get_pageblock_migratetype
from ..pcp import drain_local_pages, drain_pages_zone, free_unref_page, free_unref_page_list
from ..vmstat import cpu_vm_stats_fold
from . import compact_replay, contig_replay
from .events import RECORDED_EVENTS, Event, first_difference, normal, take_events, watch
from .guest import Guest

Op = dict[str, Any]


@dataclass
class Tally:
    """What a series of operations came to. `problem` tells the first difference, "" if none."""

    operations: int = 0
    equal: int = 0
    events: int = 0
    problem: str = ""
    failed_at: int = -1
    details: list[str] = field(default_factory=list)


class Replayer:
    """Applies operations of one RUN to the allocator in `guest`."""

    def __init__(self, guest: Guest, meta: dict[str, Any]) -> None:
        self.guest = guest
        self.m = guest.m
        self.cpu = self.checked_cpu(meta["cpu"])
        self.pagevec: list[int] = []
        """Frames in the system's LRU pagevecs: they join LRU lists when those are drained."""
        every = self.m[G_NODES_MEMORY]
        keys = self.m[G_STATIC_KEYS] & ~KEY_CPUSETS
        keys |= KEY_CPUSETS if meta.get("cpusets") else 0
        self.m[G_STATIC_KEYS] = keys | KEY_DRAIN_ONE_ZONE
        for cpu in range(self.m[G_NR_CPU_IDS]):
            # every cpuset of a recording hangs below the root without walls
            self.m[self.task(cpu) + TASK_HARDWALL_MEMS] = every
            self.m[self.task(cpu) + TASK_MEMS_ALLOWED] = every
        if meta.get("mems"):
            self.m[self.task(self.cpu) + TASK_MEMS_ALLOWED] = signed(meta["mems"])

    def checked_cpu(self, cpu: int) -> int:
        """The CPU number. Raises ImageError for one that the machine does not have."""
        if not 0 <= cpu < self.m[G_NR_CPU_IDS]:
            raise ImageError(f"CPU {cpu} in a recording of {self.m[G_NR_CPU_IDS]} CPUs")
        return cpu

    def task(self, cpu: int) -> int:
        """Word index of the task that is current on a CPU."""
        word: int = (self.m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
        return word

    def apply(self, op: Op) -> str:
        """Runs one operation in its context; what its result differs in, "" if equal.

        Raises ImageError for an operation that this replay does not know.
        """
        handler = HANDLERS.get(op["op"])
        if handler is None:
            raise ImageError(f"unknown kind of operation {op['op']!r}")
        cpu = self.checked_cpu(op.get("cpu", self.cpu))
        m = self.m
        if cpu != self.cpu:
            m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_PREEMPT_COUNT] += HARDIRQ_OFFSET
        elif op.get("ctx", 0) & 1:
            m[self.task(cpu) + TASK_FLAGS] |= PF_MEMALLOC
        recorded = op.get("ev")
        if recorded and recorded[0][0] == "c":
            m[self.task(cpu) + TASK_MEMS_ALLOWED] = signed(recorded[0][2])
        compact_replay.script_reclaim(self.guest, op)
        problem = handler(self, op)
        if cpu != self.cpu:
            m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_PREEMPT_COUNT] -= HARDIRQ_OFFSET
        else:
            m[self.task(cpu) + TASK_FLAGS] &= ~PF_MEMALLOC
        return problem

    def got(self, op: Op, pfn: int) -> str:
        """Compares an allocation's frame, its node, zone and pageblock type."""
        recorded = op["pfn"]
        if pfn != (-1 if recorded is None else recorded):
            return f"frame {spell_pfn(pfn)}, recorded {spell_pfn(recorded)}"
        if pfn < 0:
            return ""
        flags = self.m[self.guest.page(pfn) + P_FLAGS]
        for name, ours in (
            ("node", flags >> NODES_PGSHIFT & NODES_MASK),
            ("zone", flags >> ZONES_PGSHIFT & ZONES_MASK),
            ("pageblock type", get_pageblock_migratetype(self.m, pfn)),
        ):
            key = {"node": "rnid", "zone": "rzid", "pageblock type": "pbmt"}[name]
            if key in op and op[key] != ours:
                return f"{name} {ours} of frame {pfn:#x}, recorded {op[key]}"
        return ""

    def alloc(self, op: Op) -> str:
        """A: __alloc_pages_nodemask()."""
        if self.guest.node(op["nid"]) < 0:
            raise ImageError(f"there is no node {op['nid']}")
        mask = signed(op["mask"])
        pfn = alloc_pages_nodemask(self.m, op["cpu"], op["gfp"], op["order"], op["nid"], mask)
        return self.got(op, pfn)

    def alloc_exact(self, op: Op) -> str:
        """E: alloc_pages_exact()."""
        return self.got(op, alloc_pages_exact(self.m, op["cpu"], op["size"], op["gfp"]))

    def release(self, pfn: int, order: int = 0) -> int:
        """Word index of a page about to be freed; its driver has let go of it.

        Raises ImageError for one that nobody uses.
        """
        page = self.guest.block(pfn, order)
        if self.m[page + P_COUNTS] >> REF_SHIFT < 1:
            raise ImageError(f"frame {pfn:#x} is not in use")
        if page_has_mover(self.m, page):
            clear_page_movable(self.m, pfn)
        return page

    def free(self, op: Op) -> str:
        """F: __free_pages(), put_page_testzero() + free_unref_page(), or free_pages_exact()."""
        pfn, how = op["pfn"], op["how"]
        page = self.release(pfn, op["order"])
        if how == 0:
            done = free_pages(self.m, op["cpu"], pfn, op["order"]) == 0
        elif how == 1:
            self.m[page + P_COUNTS] -= REF_ONE
            done = free_unref_page(self.m, op["cpu"], pfn)
        elif how == 3:
            self.guest.page(pfn + (max(op["size"], 1) - 1 >> PAGE_SHIFT))
            done = free_pages_exact(self.m, op["cpu"], pfn, op["size"]) == 0
        else:
            raise ImageError(f"unknown way {how!r} of freeing")
        return "" if done else f"frame {pfn:#x} was refused as a bad page"

    def free_list(self, op: Op) -> str:
        """L: free_unref_page_list()."""
        head = self.guest.scratch
        list_init(self.m, head)
        for _, _, pfn in op["pages"]:
            page = self.release(pfn)
            self.m[page + P_COUNTS] -= REF_ONE
            list_add_tail(self.m, page + P_NEXT, page_va(pfn) + 8, head)
        freed = free_unref_page_list(self.m, op["cpu"], head)
        return "" if freed == len(op["pages"]) else f"{freed} of {len(op['pages'])} pages freed"

    def split(self, op: Op) -> str:
        """S: split_page()."""
        self.guest.block(op["pfn"], op["order"])
        done = split_page(self.m, op["pfn"], op["order"]) == 0
        return "" if done else f"frame {op['pfn']:#x} cannot be split"

    def drain(self, op: Op) -> str:
        """D: drain_local_pages(), of one zone or all."""
        if op["nid"] < 0:
            drain_local_pages(self.m, op["cpu"])
        else:
            drain_pages_zone(self.m, op["cpu"], self.guest.zone(op["nid"], op["zid"]))
        return ""

    def fold(self, op: Op) -> str:
        """V: cpu_vm_stats_fold()."""
        cpu_vm_stats_fold(self.m, op["cpu"])
        return ""

    def checkpoint(self, op: Op) -> str:
        """K: a zone's counters at this moment."""
        m = self.m
        z = self.guest.zone(op["nid"], op["zid"])
        base = (m[z + Z_PAGESET] - PAGE_OFFSET) >> 3
        ours = {
            "free": m[z + Z_FREE_PAGES],
            "diff": [
                m[base + cpu * PSET_WORDS + PSET_STAT_DIFF + NR_FREE_PAGES]
                for cpu in range(len(op["diff"]))
            ],
            "pcp": [m[base + cpu * PSET_WORDS + PSET_COUNT] for cpu in range(len(op["pcp"]))],
            "nr_free": [
                m[z + Z_FREE_AREA + order * FA_WORDS + FA_NR_FREE] for order in range(MAX_ORDER)
            ],
        }
        for name, value in ours.items():
            if value != op[name]:
                return f"zone {op['nid']}:{op['zid']} {name} {value}, recorded {op[name]}"
        return ""

    def make_movable(self, op: Op) -> str:
        """N: the page is a driver's movable page from now on."""
        self.guest.page(op["pfn"])
        set_page_movable(self.m, op["pfn"], va_of_word(self.guest.scratch))
        return ""


HANDLERS: dict[str, Callable[[Replayer, Op], str]] = {
    "A": Replayer.alloc,
    "E": Replayer.alloc_exact,
    "F": Replayer.free,
    "L": Replayer.free_list,
    "S": Replayer.split,
    "D": Replayer.drain,
    "V": Replayer.fold,
    "K": Replayer.checkpoint,
    "N": Replayer.make_movable,
    "I": lambda replayer, op: contig_replay.isolate(replayer.guest, replayer.cpu, op),
    "J": lambda replayer, op: contig_replay.undo(replayer.guest, replayer.cpu, op),
    "Z": lambda r, op: contig_replay.alloc_range(r.guest, r.cpu, op, r.pagevec),
    "Y": lambda replayer, op: contig_replay.free_range(replayer.guest, replayer.cpu, op),
    "C": lambda replayer, op: compact_replay.compact(replayer.guest, replayer.cpu, op),
}


def spell_pfn(pfn: int | None) -> str:
    """A frame number for a message."""
    return "none" if pfn is None or pfn < 0 else f"{pfn:#x}"


def describe(op: Op) -> str:
    """An operation for a message."""
    skip = {"ev", "i", "op", "pages", "rnid", "rzid", "pbmt", "pfn", "h"}
    parts = [f"{key}={value}" for key, value in op.items() if key not in skip]
    return " ".join([op["op"], *parts])


def run_operations(replayer: Replayer, ops: Iterable[Op], tally: Tally) -> None:
    """Applies operations until one differs, counting in `tally`.

    Raises ImageError, naming the operation, where the recording cannot be applied.
    """
    guest = replayer.guest
    watch(guest, RECORDED_EVENTS)
    for op in ops:
        try:
            problem = replayer.apply(op)
        except NumalabError as error:
            raise ImageError(f"operation {op['i']} ({op['op']}): {error}") from error
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            kind = type(error).__name__
            raise ImageError(f"operation {op['i']} ({op['op']}): {kind}: {error}") from error
        ours = take_events(guest)
        recorded = op.get("ev", [])
        tally.operations += 1
        if ours != recorded:
            odd = first_difference(ours, normal(recorded))
            problem = "; ".join(filter(None, (problem, odd)))
        if problem:
            tally.problem = f"operation {op['i']} ({describe(op)}): {problem}"
            tally.failed_at = tally.operations - 1
            tally.details = event_table(ours, normal(recorded))
            break
        tally.equal += 1
        tally.events += len(ours)
    watch(guest, 0)


def event_table(ours: list[Event], recorded: list[Event], limit: int = 12) -> list[str]:
    """Both event lists side by side, from shortly before the first difference."""
    first = next(
        (i for i, (a, b) in enumerate(zip(ours, recorded, strict=False)) if a != b),
        min(len(ours), len(recorded)),
    )
    start = max(0, first - 2)
    lines = []
    for i in range(start, min(max(len(ours), len(recorded)), start + limit)):
        a = " ".join(map(str, ours[i])) if i < len(ours) else "-"
        b = " ".join(map(str, recorded[i])) if i < len(recorded) else "-"
        lines.append(f"{'!' if a != b else ' '} {i:4d}  here {a:40s} recorded {b}")
    return lines
