# SPDX-License-Identifier: GPL-2.0-only
"""`Check`: what all checkers of one run share - safe reading, the machine's map, the findings.

Nothing in RAM is trusted. A word is read only after its index was tested, a pointer followed only
if it leads into RAM (`structure`), a number used as a size only between bounds; what fails the test
becomes a finding and the thing behind it is left alone. Checkers get sound handles only: `zones`,
`nodes` and `frames` hold what could be reached safely.

Findings are capped per rule, so that a machine in ruins gives a report and not a flood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from machine import PhysicalMemory

from ..debug_guardpage import EXT_FLAGS
from ..kernel_globals import (
    G_GFP_ALLOWED,
    G_MEMBLOCK_MEMORY_CNT,
    G_MEMBLOCK_RESERVED_CNT,
    G_MM_INIT_DONE,
    G_NR_CPU_IDS,
    G_STATIC_KEYS,
    KERNEL_BASE,
)
from ..layout import (
    KERNEL_IMAGE_SIZE,
    MEMBLOCK_MAX_REGIONS,
    MEMBLOCK_MEMORY,
    MEMBLOCK_REGION,
    MEMBLOCK_RESERVED,
    NODE_DATA,
    PAGE_OFFSET,
    page_va,
    unsigned,
)
from ..memmap_scan import KIND_FREE, KIND_RESERVED
from ..mm_types import P_COUNTS, PAGE_SHIFT, PG_HWPOISON
from ..mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    NR_CPUS,
    PAGEBLOCK_NR_PAGES,
    PGLIST_DATA_WORDS,
    PSET_WORDS,
    Z_MANAGED,
    Z_PAGESET,
    Z_PRESENT,
    Z_SPANNED,
    Z_START_PFN,
    ZONE_NAMES,
    ZONE_WORDS,
)
from .compound_pages import Compounds, read_compounds
from .deferred import Deferred
from .frames import Frames
from .free_lists import FreeBlocks, read_blocks
from .mappings import Mappings, read_mappings
from .page_ext_rules import Guards, ext_column, ext_words, read_guards
from .pcp_lists import PcpPages, read_pcp
from .report import LIMIT, Finding, Report

MAX_PFN = 1 << 30

Words = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ZoneHandle:
    """A zone that can be looked at: its word index, numbers and span [start, end) in frames."""

    word: int
    nid: int
    zid: int
    start: int
    end: int
    present: int
    managed: int

    @property
    def label(self) -> str:
        """E.g. "0:DMA32"."""
        return f"{self.nid}:{ZONE_NAMES[self.zid]}"

    @property
    def ident(self) -> int:
        """Node and zone as in the top byte of page flags."""
        return self.nid << 2 | self.zid


class Check:
    """One run over the RAM of one machine."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self.memory = memory
        self.m: memoryview = memory.words
        self.q: Words = memory.q
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self._unsound: set[int] = set()
        self._seen: set[tuple[str, int]] = set()

    # --- reading --------------------------------------------------------------------------------
    def is_ram(self, word: int, words: int = 1) -> bool:
        """True if `words` words from index `word` on are RAM."""
        return self.memory.is_ram(word << 3, words << 3)

    def structure(self, va: int, words: int, align: int = 8) -> int:
        """Word index of a structure of `words` words at direct map address `va`; -1 if no such
        structure can be there."""
        phys = va - PAGE_OFFSET
        if va >= 0 or phys < 0 or phys % align or not self.memory.is_ram(phys, words << 3):
            return -1
        return phys >> 3

    @cached_property
    def booted(self) -> bool:
        """True if the static data of a kernel can be in this RAM at all."""
        return self.memory.is_ram(KERNEL_BASE, KERNEL_IMAGE_SIZE)

    @cached_property
    def cpus(self) -> int:
        """nr_cpu_ids, between 1 and what the layout has room for."""
        return min(max(self.m[G_NR_CPU_IDS], 1), NR_CPUS)

    @cached_property
    def keys(self) -> int:
        """The static keys."""
        keys: int = self.m[G_STATIC_KEYS]
        return keys

    @cached_property
    def replayed(self) -> bool:
        """True if this machine was rebuilt from a recording and so has no memblock tables."""
        return bool(self.m[G_MEMBLOCK_MEMORY_CNT] == 0 and self.m[G_GFP_ALLOWED] != 0)

    # --- the machine's map ------------------------------------------------------------------------
    @cached_property
    def nodes(self) -> dict[int, int]:
        """Word index of the pglist_data of every node that has one in RAM."""
        found = {}
        for nid in range(MAX_NUMNODES):
            va = self.m[NODE_DATA + nid]
            word = self.structure(va, PGLIST_DATA_WORDS) if va else -1
            if word >= 0:
                found[nid] = word
        return found

    @cached_property
    def all_zones(self) -> list[ZoneHandle]:
        """All zones of all nodes, empty ones too; spans that cannot be are taken as empty."""
        found = []
        for nid, nd in self.nodes.items():
            for zid in range(MAX_NR_ZONES):
                z = nd + zid * ZONE_WORDS
                start, spanned = self.m[z + Z_START_PFN], self.m[z + Z_SPANNED]
                if not (0 <= start <= MAX_PFN and 0 <= spanned <= MAX_PFN - start):
                    start, spanned = 0, 0
                end, present = start + spanned, self.m[z + Z_PRESENT]
                managed = self.m[z + Z_MANAGED]
                found.append(ZoneHandle(z, nid, zid, start, end, present, managed))
        return found

    @cached_property
    def zones(self) -> list[ZoneHandle]:
        """The zones that span frames."""
        return [zone for zone in self.all_zones if zone.end > zone.start]

    @cached_property
    def zone_by_ident(self) -> dict[int, ZoneHandle]:
        """The zones that span frames, by node << 2 | zone."""
        return {zone.ident: zone for zone in self.zones}

    def pagesets(self, zone: ZoneHandle) -> int:
        """Word index of a zone's array of pagesets, -1 if its pointer leads nowhere."""
        return self.structure(self.m[zone.word + Z_PAGESET], self.cpus * PSET_WORDS)

    @cached_property
    def memory_regions(self) -> list[tuple[int, int, int]]:
        """(first frame, end, node) of memblock's memory, whole frames only, as far as sane."""
        regions = []
        count = min(max(self.m[G_MEMBLOCK_MEMORY_CNT], 0), MEMBLOCK_MAX_REGIONS)
        for i in range(count):
            at = MEMBLOCK_MEMORY + i * MEMBLOCK_REGION.words
            base, size = self.m[at], self.m[at + 1]
            nid = self.m[at + MEMBLOCK_REGION["nid"]]
            first, end = -(-base >> PAGE_SHIFT), base + size >> PAGE_SHIFT
            if 0 <= first < end <= MAX_PFN:
                regions.append((first, end, nid))
        return regions

    @cached_property
    def reserved_regions(self) -> list[tuple[int, int]]:
        """(first frame, end) of memblock's reserved regions, every frame they touch."""
        regions = []
        count = min(max(self.m[G_MEMBLOCK_RESERVED_CNT], 0), MEMBLOCK_MAX_REGIONS)
        for i in range(count):
            at = MEMBLOCK_RESERVED + i * MEMBLOCK_REGION.words
            base, size = self.m[at], self.m[at + 1]
            first, end = base >> PAGE_SHIFT, -(-(base + size) >> PAGE_SHIFT)
            if 0 <= first < end <= MAX_PFN:
                regions.append((first, end))
        return regions

    @cached_property
    def deferred(self) -> Deferred:
        """Struct pages that are still to be initialised."""
        return Deferred(self)

    @cached_property
    def frames(self) -> Frames:
        """The memory map, read once."""
        return Frames(self)

    @cached_property
    def free_blocks(self) -> FreeBlocks:
        """The verified free lists."""
        return read_blocks(self)

    @cached_property
    def pcp_pages(self) -> PcpPages:
        """The verified per-cpu lists."""
        return read_pcp(self)

    @cached_property
    def compounds(self) -> Compounds:
        """The verified compound pages."""
        return read_compounds(self)

    @cached_property
    def offline(self) -> npt.NDArray[np.bool_]:
        """Frames that were taken offline: whole pageblocks, reserved, without references but for
        bad frames."""
        frames = self.frames
        if not self.m[G_MM_INIT_DONE]:
            return frames.nowhere()
        gone = frames.where(KIND_RESERVED)
        gone = gone[frames.ram[gone]]
        gone = gone[frames.counting(gone, KIND_FREE) | (frames.flags[gone] & PG_HWPOISON != 0)]
        whole = np.bincount(gone // PAGEBLOCK_NR_PAGES) == PAGEBLOCK_NR_PAGES
        offline = np.zeros(frames.size, dtype=np.bool_)
        offline.reshape(-1, PAGEBLOCK_NR_PAGES)[np.flatnonzero(whole)] = True
        return offline

    @cached_property
    def promised(self) -> npt.NDArray[np.bool_]:
        """Frames of RAM that memblock reserved; some may have been released since."""
        if self.replayed:
            return self.frames.ram
        promised = self.frames.mask(self.reserved_regions)
        promised &= self.frames.ram
        return promised

    @cached_property
    def mappings(self) -> Mappings:
        """The page tables of all processes, read once."""
        return read_mappings(self)

    @cached_property
    def ext_flags(self) -> Words | None:
        """page_ext flags of every frame, None without page extensions."""
        return ext_column(self, EXT_FLAGS) if ext_words(self) else None

    @cached_property
    def guards(self) -> Guards:
        """The verified guard blocks."""
        return read_guards(self)

    @cached_property
    def listed(self) -> npt.NDArray[np.bool_]:
        """Frames in free blocks or on per-cpu lists."""
        listed = self.free_blocks.covered.copy()
        listed[self.pcp_pages.pages] = True
        return listed

    @cached_property
    def free(self) -> npt.NDArray[np.bool_]:
        """Frames in free blocks, in guard blocks or on per-cpu lists."""
        if not self.guards.heads.size:
            return self.listed
        return np.asarray(self.listed | self.guards.covered, dtype=np.bool_)

    # --- findings ---------------------------------------------------------------------------------
    def _admit(self, rule: str) -> bool:
        self.counts[rule] += 1
        return self.counts[rule] <= LIMIT

    def add(self, rule: str, where: str, message: str, word: int) -> None:
        """A finding about a structure; `word` is the index of the word at fault."""
        if (rule, word) in self._seen:
            return
        self._seen.add((rule, word))
        if self._admit(rule):
            detail = f"word at physical {word << 3:#010x}: {self._hex(word)}"
            self.findings.append(Finding(rule, where, message, None, word << 3, detail))

    def add_zone(self, rule: str, zone: ZoneHandle, message: str, offset: int) -> None:
        """A finding about a zone; `offset` is the field's word offset."""
        self.add(rule, f"zone {zone.label}", message, zone.word + offset)

    def add_frame(
        self, rule: str, pfn: int, message: str, offset: int = P_COUNTS, address: int = -1
    ) -> None:
        """A finding about frame `pfn`; `offset` is the word of its struct page at fault, or
        `address` the physical address of other bytes."""
        self._unsound.add(pfn)
        if (rule, pfn) in self._seen:
            return
        self._seen.add((rule, pfn))
        if not self._admit(rule):
            return
        word = self.frames.page_word(pfn)
        at = address if address >= 0 else (word + offset) << 3
        self.findings.append(
            Finding(rule, f"frame {pfn:#07x}", message, pfn, at, self.page_line(pfn))
        )

    def add_frames(
        self,
        rule: str,
        indices: npt.NDArray[np.intp],
        message: Callable[[int], str] | str,
        offset: int = P_COUNTS,
    ) -> None:
        """Findings about many frames, given by index into the `frames` arrays. `message` is the
        text, or makes it from an index."""
        if not indices.size:
            return
        pfns = self.frames.pfns(indices)
        for index, pfn in zip(indices[:LIMIT].tolist(), pfns[:LIMIT].tolist(), strict=True):
            self.add_frame(
                rule, pfn, message if isinstance(message, str) else message(index), offset
            )
        if len(pfns) > LIMIT:
            self.counts[rule] += len(pfns) - LIMIT
            self._unsound.update(pfns[LIMIT:].tolist())

    def _hex(self, word: int) -> str:
        if not 0 <= word < len(self.m):
            return "outside RAM"
        return f"{unsigned(self.m[word]):#018x}"

    def page_line(self, pfn: int) -> str:
        """The struct page of a frame on one line, every field as it is in RAM."""
        w = self.frames.page_word(pfn)
        row = [unsigned(value) for value in self.m[w : w + 8]]
        return (
            f"struct page {unsigned(page_va(pfn)):#x}: flags {row[0]:#018x} lru {row[1]:#x} "
            f"{row[2]:#x} mapping {row[3]:#x} index {row[4]:#x} private {row[5]:#x} "
            f"page_type {row[6] & 0xFFFFFFFF:#010x} refcount {signed32(row[6] >> 32)} "
            f"mem_cgroup {row[7]:#x}"
        )

    def report(self, rules: int, seconds: float) -> Report:
        """Everything that was found."""
        left = {rule: n - LIMIT for rule, n in self.counts.items() if n > LIMIT}
        frames = self.frames.ram_frames if self.booted else 0
        return Report(frames, rules, seconds, len(self._unsound), self.findings, left)


def signed32(value: int) -> int:
    """The low 32 bits as a signed number."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
