# SPDX-License-Identifier: GPL-2.0-only
"""What a RUN with compaction needs besides the allocator's state: pages that can be moved.

A STATE says which frames were on LRU lists, but not whose they were. Here they become the
anonymous pages of one process with one area: mapped once, in page tables of its own that lie in
the replay's scratch memory, so that compaction isolates, unmaps, copies and maps them as it would
anybody's. Pages that only the AFTER STATE calls `lru`, and that were not migrated there, lay in an
LRU pagevec.

Nor does a STATE say where one compound page ends and the next begins. The scanners step over a
compound page as a whole, so the numbers of pages that they looked at tell how many there are in a
pageblock: `compound_cuts` runs the operations, notes where fewer pages were looked at than
recorded, and the replay begins again with that many more, smaller compound pages there.

Direct reclaim is scripted, as it was in the recording: it returns the number that the operation
carries (`ctx` above bit 0), in the first 40 calls of one operation, and then 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from machine.errors import ImageError, NumalabError

from ..anon_vma import (
    ANON_VMA,
    ANON_VMA_CHAIN,
    AV_RB_ROOT,
    AV_ROOT,
    AVC_ANON_VMA,
    AVC_RB,
    AVC_VMA,
)
from ..compaction import compact_node
from ..kernel_globals import (
    G_COMPACT_UNEVICTABLE,
    G_EXTFRAG_THRESHOLD,
    G_LRU_PVECS,
    G_NR_CPU_IDS,
    G_SCRIPTED_RECLAIM,
    G_SCRIPTED_RECLAIM_CALLS,
    G_STATIC_KEYS,
    KEY_SCRIPTED_RECLAIM,
)
from ..layout import va_of_word
from ..list_head import list_init
from ..mm_inline import add_page_to_lru_list
from ..mm_struct import (
    MM_PGD,
    MM_STRUCT,
    VM_AREA_STRUCT,
    VM_READ,
    VM_WRITE,
    VMA_ANON_CHAIN,
    VMA_ANON_VMA,
    VMA_END,
    VMA_FLAGS,
    VMA_MM,
    VMA_PGOFF,
    VMA_PROT,
    VMA_START,
)
from ..mm_types import (
    NODES_MASK,
    NODES_PGSHIFT,
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_PREV,
    PAGE_MAPPING_ANON,
    PG_HEAD,
    PG_LRU,
    PG_SWAPBACKED,
    REF_ONE,
)
from ..mmzone import LRU_INACTIVE_ANON, MAX_NUMNODES, MAX_ORDER, ND_LRUVEC
from ..page_init import pgdat_init_internals
from ..pagevec import PAGEVEC_SIZE, PV_ADD, PV_SCRATCH, PV_TO_FREE, PVECS_WORDS, pagevec_add
from ..rbtree import IT_LAST, IT_START, interval_tree_insert
from ..swap import lru_add_drain_all
from .contig_replay import waiting_for_lru
from .events import RECORDED_EVENTS, Event, normal, take_events, watch
from .guest import SCRATCH_BYTES, Guest
from .page_flags import make_compound, ranges_to_frames

if TYPE_CHECKING:
    from .replay import Replayer

EXTFRAG_THRESHOLD = 500
SCRIPTED_CALLS = 40
FIRST_ADDRESS = 1 << 39
TABLE = 0x67
"""Present, writable, user, accessed and dirty."""
READ_ONLY = 0x25
"""Present, user and accessed: vm_page_prot of a private area."""

Json = dict[str, Any]
Cuts = dict[tuple[int, int], int]
"""How many compound pages more there are between two frames that a scan went over."""


class Mapping:
    """One process that maps frames, one after the other, from FIRST_ADDRESS on."""

    def __init__(self, guest: Guest, count: int) -> None:
        self.guest = guest
        m = guest.m
        self.free = guest.scratch + 512
        self.end = guest.scratch + SCRATCH_BYTES // 8
        self.mm = self.take(MM_STRUCT.words)
        self.vma = self.take(VM_AREA_STRUCT.words)
        self.av = self.take(ANON_VMA.words)
        avc = self.take(ANON_VMA_CHAIN.words)
        vma, first = self.vma, FIRST_ADDRESS >> 12
        m[vma + VMA_START] = FIRST_ADDRESS
        m[vma + VMA_END] = FIRST_ADDRESS + (count << 12)
        m[vma + VMA_PGOFF] = first
        m[vma + VMA_FLAGS] = VM_READ | VM_WRITE
        m[vma + VMA_PROT] = READ_ONLY
        m[vma + VMA_MM] = va_of_word(self.mm)
        m[vma + VMA_ANON_VMA] = va_of_word(self.av)
        list_init(m, vma + VMA_ANON_CHAIN)
        m[self.av + AV_ROOT] = va_of_word(self.av)
        m[avc + AVC_VMA] = va_of_word(vma)
        m[avc + AVC_ANON_VMA] = va_of_word(self.av)
        m[avc + AVC_RB + IT_START] = first
        m[avc + AVC_RB + IT_LAST] = first + count
        interval_tree_insert(m, avc + AVC_RB, self.av + AV_RB_ROOT)
        self.pgd = self.table()
        m[self.mm + MM_PGD] = va_of_word(self.pgd)
        self.mapped = 0

    def take(self, words: int, align: int = 8) -> int:
        """Cleared words of the scratch memory. Raises ImageError when it is used up."""
        at = (self.free + align - 1) & -align
        self.free = at + words
        if self.free > self.end:
            raise ImageError("more pages on LRU lists than the replay has room to map")
        for w in range(at, at + words):
            self.guest.m[w] = 0
        return at

    def table(self) -> int:
        """An empty page table."""
        return self.take(512, 512)

    def entry(self, address: int) -> int:
        """Word index of the lowest entry for `address`; tables are made on the way."""
        table = self.pgd
        m = self.guest.m
        for shift in (39, 30, 21):
            at = table + (address >> shift & 511)
            if m[at] == 0:
                m[at] = self.table() << 3 | TABLE
            table = (m[at] & -4096) >> 3
        return table + (address >> 12 & 511)

    def add(self, pfn: int) -> int:
        """Maps a frame at the next address, as an anonymous page; its struct page."""
        m = self.guest.m
        p = self.guest.page(pfn)
        address = FIRST_ADDRESS + (self.mapped << 12)
        self.mapped += 1
        m[self.entry(address)] = pfn << 12 | TABLE
        m[p + P_FLAGS] |= PG_SWAPBACKED
        m[p + P_MAPPING] = va_of_word(self.av) | PAGE_MAPPING_ANON
        m[p + P_INDEX] = address >> 12
        m[p + P_COUNTS] = REF_ONE
        return p


def lru_frames(state: Json) -> list[int]:
    """Frames on LRU lists in a STATE, drivers' pages left out."""
    found: set[int] = set()
    for zone in state["zones"]:
        lru = set(ranges_to_frames(zone.get("lru") or [], "lru").tolist())
        found |= lru - set(ranges_to_frames(zone.get("movable") or [], "movable").tolist())
    return sorted(found)


def migrated_to(ops: list[Json]) -> set[int]:
    """Frames that LRU pages were migrated to."""
    return {event[3] for op in ops for event in op.get("ev", []) if event[0] == "M" and event[5]}


def prepare(
    guest: Guest, run: Json, before: Json, after: Json | None, cuts: Sequence[Cuts] = ()
) -> None:
    """Makes the STATE's LRU pages movable, and lays out what compaction finds around them."""
    m = guest.m
    for found in cuts:
        make_cuts(guest, found)
    m[G_EXTFRAG_THRESHOLD] = EXTFRAG_THRESHOLD
    m[G_COMPACT_UNEVICTABLE] = 1
    m[G_STATIC_KEYS] |= KEY_SCRIPTED_RECLAIM
    for nid in range(MAX_NUMNODES):
        if (nd := guest.node(nid)) >= 0:
            pgdat_init_internals(m, nd)
    listed = lru_frames(before)
    waiting = [] if after is None else waiting_for_lru(before, after)
    queued = sorted(set(waiting) - migrated_to(run["ops"]))[: PAGEVEC_SIZE - 1]
    mapping = Mapping(guest, len(listed) + len(queued))
    cpus = m[G_NR_CPU_IDS]
    pvecs = mapping.take(cpus * PVECS_WORDS)
    m[G_LRU_PVECS] = va_of_word(pvecs)
    for cpu in range(cpus):
        list_init(m, pvecs + cpu * PVECS_WORDS + PV_TO_FREE)
        list_init(m, pvecs + cpu * PVECS_WORDS + PV_SCRATCH)
    cpu = run["meta"]["cpu"]
    for pfn in listed:
        p = mapping.add(pfn)
        nd = guest.node(m[p + P_FLAGS] >> NODES_PGSHIFT & NODES_MASK)
        m[p + P_FLAGS] |= PG_LRU
        add_page_to_lru_list(m, cpu, p, nd + ND_LRUVEC, LRU_INACTIVE_ANON)
    for pfn in queued:
        p = mapping.add(pfn)
        m[p + P_COUNTS] += REF_ONE
        pagevec_add(m, pvecs + cpu * PVECS_WORDS + PV_ADD, p)


SCANNED = {"CM": (4,), "CF": (4,), "CE": (10, 11)}
"""Which fields of an event are numbers of pages looked at."""


def more_scanned(ours: list[Event], recorded: list[Event]) -> Cuts | None:
    """Where the recording looked at more pages; None if the events differ in anything else."""
    cuts: Cuts = {}
    if len(ours) != len(recorded):
        return None
    for a, b in zip(ours, recorded, strict=True):
        if a == b and a[0] not in ("CM", "CF"):
            continue
        fields = SCANNED.get(str(a[0]), ())
        if len(a) != len(b) or any(
            x != y for i, (x, y) in enumerate(zip(a, b, strict=True)) if i not in fields
        ):
            return None
        if a[0] != "CE":
            if b[4] < a[4]:
                return None
            cuts.setdefault((a[2], a[3]), b[4] - a[4])
    return cuts


def compound_cuts(replayer: Replayer, ops: list[Json]) -> Cuts:
    """Runs the operations as far as they agree but for pages looked at: the cuts to be made.

    Nothing is compared here: the replay proper does that, from the start.
    """
    cuts: Cuts = {}
    watch(replayer.guest, RECORDED_EVENTS)
    for op in ops:
        try:
            problem = replayer.apply(op)
        except (NumalabError, KeyError, TypeError, ValueError, IndexError, OverflowError):
            break
        found = more_scanned(take_events(replayer.guest), normal(op.get("ev", [])))
        if problem or found is None:
            break
        for scan, more in found.items():
            cuts.setdefault(scan, more)
    watch(replayer.guest, 0)
    return cuts


def make_cuts(guest: Guest, cuts: Cuts) -> None:
    """Makes the cuts, those of short scans first; a longer one is then cut beside the shorter."""
    settled: list[tuple[int, int]] = []
    made: dict[tuple[int, int], int] = {}
    for (start, end), more in sorted(cuts.items(), key=lambda cut: cut[0][1] - cut[0][0]):
        for (a, b), n in made.items():
            more -= n if start <= a and b <= end else 0
        done = cut_compound_pages(guest, start, end, more, settled)
        settled.append((start, end))
        if done:
            made[(start, end)] = done


def cut_compound_pages(
    guest: Guest, start: int, end: int, more: int, settled: list[tuple[int, int]]
) -> int:
    """Halves compound pages between two frames but outside those settled, the first ones first,
    until there are `more`: how many there are more then."""
    m = guest.m
    pfn = start
    done = 0
    while pfn < end and done < more:
        p = guest.page(pfn)
        order = m[p + 8 + P_PREV] >> 8 & 0xFF if m[p + P_FLAGS] & PG_HEAD else 0
        if order < 2 or order >= MAX_ORDER or any(a <= pfn < b for a, b in settled):
            pfn += 1 << order if 0 < order < MAX_ORDER else 1
            continue
        half = order - 1
        make_compound(guest, pfn, half)
        make_compound(guest, pfn + (1 << half), half)
        done += 1
    return done


def script_reclaim(guest: Guest, op: Json) -> None:
    """What direct reclaim comes to in this operation."""
    guest.m[G_SCRIPTED_RECLAIM] = op.get("ctx", 0) >> 1
    guest.m[G_SCRIPTED_RECLAIM_CALLS] = SCRIPTED_CALLS


def compact(guest: Guest, cpu: int, op: Json) -> str:
    """C: what /sys/devices/system/node/nodeN/compact does."""
    nd = guest.node(op["nid"])
    if nd < 0:
        raise ImageError(f"there is no node {op['nid']}")
    lru_add_drain_all(guest.m)
    compact_node(guest.m, cpu, nd)
    return ""
