# SPDX-License-Identifier: GPL-2.0-only
"""Logs of a kernel running freely, on several CPUs, driven event by event.

A log prints every action of the allocator in the order in which the zones saw it. Requests of
several CPUs interleave in it, so a request cannot be replayed as one call: the refill happens where
the log says `R`, the bulk free at `B`, a page is popped at `r` and pushed at `f`. Each event calls
the function of ours that does that much, and what it records of itself must be the event.

A boot log starts from the map: our bring-up, then the log; other logs start from their
`trace-before` STATE. The STATEs that were taken on the way are compared where their mark stands.

What the log gives as inputs:

- LRU membership, which decides whether a stolen block's pageblock changes type (last field of `X`):
  where our knowledge of it would decide otherwise, the block's pages in use are marked so that
  the recorded decision follows, and the case is counted;
- owners' last references: a page that is freed has no flags and no references left;
- which CPUs are online when thresholds are computed: those that the log prints one for;
- when a page that fills a per-cpu list is pushed, the bulk free waits for its `B`.

What no log holds is not compared: LRU and other counters besides free pages, their deltas, and
how NUMA counts are split between CPUs and zones' totals (the totals are compared).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from machine.errors import ImageError

from ..boot_stages import BootStages
from ..fallback import change_pageblock, move_freepages_block, reserve_highatomic_pageblock
from ..gfp import gfp_zone
from ..kernel_globals import G_GFP_ALLOWED, G_NR_CPU_IDS, G_NUM_ONLINE_CPUS, G_TOTALRAM
from ..layout import CPU_BLOCKS, CPU_ONLINE, CPU_WORDS, PAGE_OFFSET
from ..mm_types import COUNTS_ONE, P_COUNTS, P_FLAGS, P_INDEX, PG_RESERVED, REF_SHIFT
from ..mmzone import (
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    PAGEBLOCK_NR_PAGES,
    PSET_BATCH,
    PSET_COUNT,
    PSET_HIGH,
    PSET_LISTS,
    PSET_STAT_DIFF,
    PSET_THRESHOLD,
    PSET_WORDS,
    Z_FREE_PAGES,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_NR_HIGHATOMIC,
    Z_PAGESET,
    Z_WMARK,
    ZR_ZONE,
)
from ..page_alloc import first_zones_zonelist, node_zonelist, rmqueue
from ..page_isolation import isolate_free_page, page_is_free_block
from ..pageblock import get_pageblock_migratetype, set_pageblock_migratetype
from ..pageset import refresh_zone_stat_thresholds
from ..pcp import (
    free_block,
    free_pcppages_bulk,
    free_unref_page_commit,
    rmqueue_bulk,
    rmqueue_pcplist,
)
from ..watermark import ALLOC_HARDER
from ..wmark import init_per_zone_wmark_min, set_recommended_min_free_kbytes
from .boot_compare import bring_up
from .events import RECORDED_EVENTS, Event, first_difference, normal, spell, take_events, watch
from .guest import Guest
from .log_state import compare_log_state, forget_compound_pages, settle_claim, undress
from .records import Recording
from .state_load import load_state

NEVER = 1 << 40
# what the log only tells of; the pages that compaction moves have their own events
WITHOUT_EFFECT = frozenset(
    ["a", "S1", "S2", "c", "PR", "M", "CS", "CZ", "CM", "CF", "CE", "CD", "CK", "CR", "DC"]
)


@dataclass
class LogOutcome:
    """What replaying a log came to."""

    operations: int = 0
    equal: int = 0
    events: int = 0
    final: str = "not recorded"
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)


def match_requests(events: list[Event]) -> dict[int, Event]:
    """Index of every `r` -> the `a` that returned its page.

    A request that an interrupt splits has the interrupt's requests between its `r` and its `a`, so
    each CPU has a stack of open ones.
    """
    open_requests: dict[int, list[tuple[int, int]]] = {}
    matched: dict[int, Event] = {}
    for i, event in enumerate(events):
        if event[0] == "r":
            open_requests.setdefault(event[1], []).append((i, event[6]))
        elif event[0] == "a":
            stack = open_requests.setdefault(event[1], [])
            for at in range(len(stack) - 1, -1, -1):
                if stack[at][1] == event[6]:
                    for index, _ in stack[at:]:
                        matched[index] = event
                    del stack[at:]
                    break
    return matched


class LogReplayer:
    """Applies the events of one log. `claims` counts pageblock decisions taken from the log."""

    def __init__(self, guest: Guest, events: list[Event], stages: BootStages | None) -> None:
        self.guest = guest
        self.m = guest.m
        self.events = events
        self.stages = stages
        self.requests = match_requests(events)
        self.stolen: dict[int, list[Event]] = {}
        """CPU -> the `X` events that its next `R` or `r` must give."""
        self.due: dict[int, tuple[int, int]] = {}
        """CPU -> (zone word, pages) of the bulk free that must come next."""
        self.claims = 0
        self.cpus: int = self.m[G_NR_CPU_IDS]
        self.watermarks_ready = False
        forget_compound_pages(guest)

    def pageset(self, z: int, cpu: int) -> int:
        """Word index of a CPU's pageset. Raises ImageError for a CPU that does not exist."""
        if not 0 <= cpu < self.cpus:
            raise ImageError(f"CPU {cpu} in a log of {self.cpus} CPUs")
        word: int = ((self.m[z + Z_PAGESET] - PAGE_OFFSET) >> 3) + cpu * PSET_WORDS
        return word

    def apply(self, index: int) -> str:
        """Applies one event; what differs, "" if nothing. Raises ImageError for unknown events."""
        event = self.events[index]
        code, cpu = event[0], event[1]
        if code in WITHOUT_EFFECT:
            return ""
        if code == "X":
            self.stolen.setdefault(cpu, []).append(event)
            return ""
        handler = getattr(self, f"on_{code}", None)
        if handler is None or not code.isalpha():
            raise ImageError(f"event {index}: unknown code {code!r}")
        if cpu in self.due and code != "B":
            return f"the per-cpu list is full here, B should follow on CPU {cpu}"
        at = 3 if code == "d" else 2
        z = self.guest.zone(event[at], event[at + 1])
        problem: str = handler(event, cpu, z, index)
        return problem

    def compare(self, expected: list[Event]) -> str:
        """Our events since the last call against the recorded ones."""
        ours = take_events(self.guest)
        return "" if ours == expected else first_difference(ours, normal(expected))

    def settle(self, event: Event) -> None:
        """Prepares LRU membership so that the recorded claim follows."""
        for stolen in self.stolen.get(event[1], []):
            self.claims += settle_claim(self.guest, stolen)

    def on_R(self, event: Event, cpu: int, z: int, index: int) -> str:  # noqa: N802
        """Refill of a per-cpu list."""
        self.settle(event)
        mt, wanted = event[4], event[5]
        if not 0 <= mt < 3:
            raise ImageError(f"event {index}: refill of list {mt}")
        ps = self.pageset(z, cpu)
        got = rmqueue_bulk(self.m, cpu, z, wanted, ps + PSET_LISTS + 2 * mt, mt)
        self.m[ps + PSET_COUNT] += got
        return self.compare([*self.stolen.pop(cpu, []), event])

    def on_r(self, event: Event, cpu: int, z: int, index: int) -> str:
        """A page or block leaves for its user."""
        self.settle(event)
        order, mt, pagemt = event[4], event[5], event[7]
        preferred = self.preferred_zone(index, z)
        if order == 0:
            pfn = rmqueue_pcplist(self.m, cpu, preferred, z, mt, RECORDED_EVENTS)
        else:
            flags = ALLOC_HARDER if pagemt == MIGRATE_HIGHATOMIC else 0
            pfn = rmqueue(self.m, cpu, preferred, z, order, 0, flags, mt)
        if pfn >= 0:
            page = self.guest.page(pfn)
            self.guest.q[page + P_COUNTS : page + (8 << order) : 8] = COUNTS_ONE
        return self.compare([*self.stolen.pop(cpu, []), event])

    def preferred_zone(self, index: int, z: int) -> int:
        """The zone that the request of an `r` would have liked best, for the NUMA counts."""
        request = self.requests.get(index)
        if request is None or self.guest.node(request[4]) < 0:
            return z
        gfp = request[2] & self.m[G_GFP_ALLOWED]
        zonelist = node_zonelist(self.m, request[4], gfp)
        zr = first_zones_zonelist(self.m, zonelist, gfp_zone(gfp), request[5])
        va = self.m[zr + ZR_ZONE]
        return (va - PAGE_OFFSET) >> 3 if va else z

    def on_f(self, event: Event, cpu: int, z: int, index: int) -> str:
        """A page is pushed on a per-cpu list."""
        del index
        pfn = event[5]
        page = self.guest.page(pfn)
        if self.m[page + P_COUNTS] >> REF_SHIFT < 1:
            return f"frame {pfn:#x} is not in use"
        self.give_up(pfn, 0, z)
        page_mt = get_pageblock_migratetype(self.m, pfn)
        self.m[page + P_INDEX] = page_mt
        ps = self.pageset(z, cpu)
        high = self.m[ps + PSET_HIGH]
        self.m[ps + PSET_HIGH] = NEVER
        free_unref_page_commit(self.m, cpu, pfn, page, page_mt)
        self.m[ps + PSET_HIGH] = high
        if self.m[ps + PSET_COUNT] >= high:
            self.due[cpu] = (z, self.m[ps + PSET_BATCH])
        return self.compare([event])

    def on_B(self, event: Event, cpu: int, z: int, index: int) -> str:  # noqa: N802
        """Pages of a per-cpu list go back to the buddy lists."""
        del index
        due = self.due.pop(cpu, None)
        if due is None:
            return "no bulk free is due here"
        if due != (z, event[4]):
            return f"a bulk free of {due[1]} pages is due here"
        free_pcppages_bulk(self.m, cpu, z, event[4], self.pageset(z, cpu))
        return self.compare([event])

    def on_d(self, event: Event, cpu: int, z: int, index: int) -> str:
        """A drain begins: all pages of the pageset are due."""
        del index
        count = self.m[self.pageset(z, event[2]) + PSET_COUNT]
        if count:
            self.due[cpu] = (z, count)
        return "" if count == event[5] else f"{count} pages on the lists, recorded {event[5]}"

    def on_e(self, event: Event, cpu: int, z: int, index: int) -> str:
        """An idle remote pageset gives a batch back."""
        del index
        ps = self.pageset(z, cpu)
        count = min(self.m[ps + PSET_COUNT], self.m[ps + PSET_BATCH])
        if count:
            self.due[cpu] = (z, count)
        return "" if count == event[4] else f"{count} pages to drain, recorded {event[4]}"

    def on_F(self, event: Event, cpu: int, z: int, index: int) -> str:  # noqa: N802
        """A block is freed to the buddy lists."""
        del index
        order, pfn, mt = event[4], event[5], event[6]
        if self.m[self.guest.block(pfn, order) + P_COUNTS] >> REF_SHIFT < 1:
            return f"frame {pfn:#x} is not in use"
        self.give_up(pfn, order, z, cma=mt == MIGRATE_CMA)
        free_block(self.m, cpu, z, pfn, order, get_pageblock_migratetype(self.m, pfn))
        return self.compare([event])

    def give_up(self, pfn: int, order: int, z: int, cma: bool = False) -> None:
        """The last owner lets go of a block; memory that boot had reserved becomes managed."""
        pages = 1 << order
        if self.m[self.guest.block(pfn, order) + P_FLAGS] & PG_RESERVED:
            self.m[z + Z_MANAGED] += pages
            self.m[G_TOTALRAM] += pages
            if cma:
                for block in range(pfn, pfn + pages, PAGEBLOCK_NR_PAGES):
                    set_pageblock_migratetype(self.m, block, MIGRATE_CMA)
        undress(self.guest, pfn, order)

    def on_H(self, event: Event, cpu: int, z: int, index: int) -> str:  # noqa: N802
        """A block is reserved for high-order atomic requests."""
        del index
        reserve_highatomic_pageblock(self.m, cpu, z, event[4])
        return self.compare([event])

    def on_U(self, event: Event, cpu: int, z: int, index: int) -> str:  # noqa: N802
        """A highatomic block is given back."""
        del index
        pfn, mt = event[4], event[5]
        self.guest.page(pfn)
        left = self.m[z + Z_NR_HIGHATOMIC] - PAGEBLOCK_NR_PAGES
        self.m[z + Z_NR_HIGHATOMIC] = max(left, 0)
        change_pageblock(self.m, cpu, pfn, mt)
        moved, _ = move_freepages_block(self.m, cpu, z, pfn, mt)
        return "" if moved == event[6] else f"{moved} pages moved, recorded {event[6]}"

    def on_i(self, event: Event, cpu: int, z: int, index: int) -> str:
        """Compaction takes a free block."""
        del z, index
        order, pfn = event[4], event[5]
        page = self.guest.block(pfn, order)
        if not page_is_free_block(self.m, page):
            return f"frame {pfn:#x} is no free block"
        isolate_free_page(self.m, cpu, pfn, order)
        self.guest.q[page + P_COUNTS : page + (8 << order) : 8] = COUNTS_ONE
        return self.compare([event])

    def on_v(self, event: Event, cpu: int, z: int, index: int) -> str:
        """A CPU's delta of free pages is folded into the zone."""
        del index
        delta = self.pageset(z, cpu) + PSET_STAT_DIFF
        ours = self.m[delta]
        self.m[z + Z_FREE_PAGES] += ours
        self.m[delta] = 0
        return "" if ours == event[4] else f"delta {ours}, recorded {event[4]}"

    def on_t(self, event: Event, cpu: int, z: int, index: int) -> str:
        """A counter threshold is set (a CPU that has one is online)."""
        del cpu
        ps = self.pageset(z, event[4])
        self.bring_online(index)
        ours = self.m[ps + PSET_THRESHOLD]
        self.m[ps + PSET_THRESHOLD] = event[5]
        return "" if ours == event[5] else f"threshold {ours}, recorded {event[5]}"

    def bring_online(self, index: int) -> None:
        """Marks the CPUs of a run of `t` events online and computes thresholds, once a run."""
        if index and self.events[index - 1][0] == "t":
            return
        self.see_cpus(index)
        refresh_zone_stat_thresholds(self.m)

    def see_cpus(self, index: int) -> None:
        """Every CPU that the following run of w, t and l events names is online."""
        while index < len(self.events) and self.events[index][0] in "wtl":
            event = self.events[index]
            if event[0] == "t" and 0 <= event[4] < self.cpus:
                self.m[CPU_BLOCKS + event[4] * CPU_WORDS + CPU_ONLINE] = 1
            index += 1
        online = [self.m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE] for cpu in range(self.cpus)]
        self.m[G_NUM_ONLINE_CPUS] = sum(online)

    def on_w(self, event: Event, cpu: int, z: int, index: int) -> str:
        """A zone's watermarks: ours are computed at the first of a run, then compared."""
        del cpu
        if not self.watermarks_ready:
            self.watermarks_ready = True
            self.see_cpus(index)
            init_per_zone_wmark_min(self.m)
        elif self.events[index - 1][0] != "w":
            # khugepaged has started: nothing else sets watermarks a second time during boot
            set_recommended_min_free_kbytes(self.m)
        ours = [self.m[z + Z_WMARK + i] for i in range(3)]
        for i in range(3):
            self.m[z + Z_WMARK + i] = event[4 + i]
        return "" if ours == event[4:7] else f"watermarks {ours}, recorded {event[4:7]}"

    def on_l(self, event: Event, cpu: int, z: int, index: int) -> str:
        """A zone's lowmem reserves."""
        del cpu, index
        ours = [self.m[z + Z_LOWMEM_RESERVE + i] for i in range(4)]
        return "" if ours == event[4:8] else f"lowmem_reserve {ours}, recorded {event[4:8]}"


def start_log(recording: Recording, outcome: LogOutcome) -> tuple[Guest, BootStages | None]:
    """The machine at the first event: from the map, or from the `trace-before` STATE."""
    if recording.has_state("trace-before"):
        guest, zonelists = load_state(recording.state("trace-before"))
        outcome.differences += zonelists
        return guest, None
    last: tuple[Guest, BootStages | None] | None = None
    for guest, stages, stage, differences in bring_up(recording):
        outcome.differences += [f"{stage}: {line}" for line in differences]
        last = guest, stages
    assert last is not None
    return last


def replay_trace(recording: Recording, name: str) -> LogOutcome:
    """Replays one log until it differs and compares the STATEs on its way and at its end.

    Raises ImageError for a malformed recording.
    """
    log = recording.trace(name)
    outcome = LogOutcome()
    guest, stages = start_log(recording, outcome)
    events = log["events"]
    replayer = LogReplayer(guest, events, stages)
    marks = [(at, text) for at, text in log["marks"] if text.startswith("STATE ")]
    watch(guest, RECORDED_EVENTS)
    for index in range(len(events) + 1):
        while marks and marks[0][0] == index:
            compare_mark(replayer, recording, marks.pop(0)[1].removeprefix("STATE "), outcome)
        if index == len(events):
            break
        try:
            problem = replayer.apply(index)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            what = f"{type(error).__name__}: {error}"
            raise ImageError(f"{name}: event {index} {spell(events[index])}: {what}") from error
        outcome.operations += 1
        if problem:
            outcome.problem = f"event {index} ({spell(events[index])}): {problem}"
            outcome.details = context_lines(events, index)
            outcome.final = "not reached"
            break
        outcome.equal += 1
    watch(guest, 0)
    outcome.events = outcome.equal
    if replayer.claims:
        outcome.notes.append(f"{replayer.claims} pageblock decisions taken from the log")
    if not outcome.problem and recording.has_state("trace-after"):
        differences = compare_log_state(guest, recording.state("trace-after"))
        outcome.differences += [f"after: {line}" for line in differences]
        outcome.final = "differs" if differences else "equal"
    return outcome


def compare_mark(
    replayer: LogReplayer, recording: Recording, tag: str, outcome: LogOutcome
) -> None:
    """Compares a STATE that was taken on the way; early4 follows setup_per_cpu_pageset()."""
    if replayer.stages is not None and tag.startswith("early4"):
        replayer.stages.setup_per_cpu_pageset()
    if recording.has_state(tag):
        differences = compare_log_state(replayer.guest, recording.state(tag))
        outcome.differences += [f"{tag}: {line}" for line in differences]


def context_lines(events: list[Event], index: int) -> list[str]:
    """The events around one, for a message."""
    return [
        f"{'!' if i == index else ' '} {i:7d}  {spell(events[i])}"
        for i in range(max(0, index - 6), min(len(events), index + 3))
    ]
