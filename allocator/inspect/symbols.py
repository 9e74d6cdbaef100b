# SPDX-License-Identifier: GPL-2.0-only
"""What lies where: names for addresses in the kernel's data, and addresses from what people type.

`Symbols` lists the structures that the kernel keeps in RAM (from `layout` and by following the
pointers in RAM) and says, for an address, in which of them it lies and in which field:
`zone 0:DMA32 free_area[3].free_list[Movable]`. The field paths come from the Struct descriptions.
Whoever shows a pointer asks here: `kmem`, `rd`, `search`, `struct`, `explain`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from ..errors import BadRequest
from ..helpers.mm import MAX_PHYSADDR
from ..helpers.mmzone import for_each_present_section, node_data
from ..helpers.nodemask import for_each_node
from ..helpers.prog import Prog, words
from ..kernel_globals import G_NR_CPU_IDS, G_PGD, GLOBALS, KDATA
from ..layout import (
    BOOT_PAGESETS,
    CMA,
    CMA_AREAS,
    CPU,
    CPU_BLOCKS,
    CPUSET,
    CPUSETS,
    EMPTY_ZERO_PAGE,
    INIT_TASKS,
    KERNEL_END_WORD,
    LOG_RECORDS,
    LOG_RING,
    MAILBOX_WORDS,
    MAILBOXES,
    MAX_CMA_AREAS,
    MAX_CPUSETS,
    MAX_MEM_CGROUPS,
    MEM_CGROUP,
    MEM_CGROUPS,
    MEM_SECTION,
    MEM_SECTIONS,
    MEMBLOCK_MAX_REGIONS,
    MEMBLOCK_MEMORY,
    MEMBLOCK_REGION,
    MEMBLOCK_RESERVED,
    NODE_DATA,
    NODE_DISTANCE,
    NR_MEM_SECTIONS,
    PAGE_OFFSET,
    PAGES_PER_SECTION,
    PFN_SECTION_SHIFT,
    POISON_PAGE,
    RECORD_WORDS,
    SECTION_PAGE_EXT,
    SECTION_PAGES,
    SECTION_USEMAP,
    TASK,
    TRACE_RECORDS,
    TRACE_RING,
    USEMAP_WORDS,
    VMEMMAP_START,
    signed,
    unsigned,
    word_of_va,
)
from ..mm_types import PAGE, STRUCT_PAGE_SIZE, STRUCT_PAGE_WORDS
from ..mmzone import (
    MAX_NUMNODES,
    MIGRATETYPE_NAMES,
    ND_PER_CPU_NODESTATS,
    NODE_STAT_NAMES,
    NUMA_STAT_NAMES,
    PER_CPU_NODESTAT,
    PER_CPU_PAGESET,
    PGLIST_DATA,
    Z_PAGESET,
    Z_PRESENT,
    ZONE,
    ZONE_NAMES,
    ZONE_STAT_NAMES,
)
from ..structs import Struct
from ..views import pfn_valid

PAGE_EXT_WORDS = 4
_INDEX_NAMES = {
    "free_list": MIGRATETYPE_NAMES,
    "lists": MIGRATETYPE_NAMES,
    "watermark": ("WMARK_MIN", "WMARK_LOW", "WMARK_HIGH"),
    "lowmem_reserve": ZONE_NAMES,
    "node_zones": ZONE_NAMES,
    "vm_numa_stat": NUMA_STAT_NAMES,
    "vm_numa_stat_diff": NUMA_STAT_NAMES,
    "vm_node_stat_diff": NODE_STAT_NAMES,
    "vm_stat_diff": ZONE_STAT_NAMES,
}


@dataclass(frozen=True)
class Placed:
    """A run of `count` structures (or of plain words, struct None) from word `word` on. `base` is
    the number of the first one, in hex if `hexadecimal` (frames)."""

    word: int
    words: int
    count: int
    name: str
    struct: Struct | None = None
    base: int = 0
    hexadecimal: bool = False

    @property
    def end(self) -> int:
        """One past the last word."""
        return self.word + self.words * self.count

    def element(self, i: int) -> str:
        """Name of the i-th structure."""
        if self.count == 1:
            return self.name
        return (
            f"{self.name} {self.base + i:#x}"
            if self.hexadecimal
            else f"{self.name} {self.base + i}"
        )

    def between(self, first: int, last: int) -> str:
        """Name of the structures that touch words [first, last)."""
        i = max(first - self.word, 0) // self.words
        j = (min(last, self.end) - 1 - self.word) // self.words
        name = self.element(i)
        return name if i == j else f"{name} to {self.element(j).rsplit(' ', 1)[1]}"


def index_name(struct: Struct, field: str, i: int) -> str:
    """How element `i` of an array is called: a migratetype, a counter, or its number."""
    names = _INDEX_NAMES.get(field)
    if field == "vm_stat":
        names = NODE_STAT_NAMES if struct.name == "pglist_data" else ZONE_STAT_NAMES
    if field == "lists" and struct.name != "per_cpu_pageset":
        names = None
    return names[i] if names and i < len(names) else str(i)


def field_path(struct: Struct, offset: int) -> str:
    """The field at word `offset` of a structure: "free_area[3].free_list[Movable].prev"."""
    for field in struct:
        at = offset - field.offset
        if not 0 <= at < field.words * field.count:
            continue
        i, rest = divmod(at, field.words)
        path = field.name
        if field.count > 1:
            path += f"[{index_name(struct, field.name, i)}]"
        nested = struct.nested.get(field.name)
        if nested is not None:
            inner = field_path(nested, rest)
            return f"{path}.{inner}" if inner else path
        if field.ctype == "struct list_head":
            return path + (".prev" if rest else "")
        return path
    return ""


def _kernel_data(m: memoryview) -> list[Placed]:
    cpus = max(m[G_NR_CPU_IDS], 1)
    return [
        Placed(KDATA, GLOBALS.words, 1, "kernel_globals", GLOBALS),
        Placed(NODE_DATA, 1, MAX_NUMNODES, "node_data"),
        Placed(NODE_DISTANCE, 1, MAX_NUMNODES * MAX_NUMNODES, "node_distance"),
        Placed(CPU_BLOCKS, CPU.words, cpus, "cpu", CPU),
        Placed(INIT_TASKS, TASK.words, cpus, "init_task of cpu", TASK),
        Placed(BOOT_PAGESETS, PER_CPU_PAGESET.words, cpus, "boot_pageset", PER_CPU_PAGESET),
        Placed(MEM_SECTIONS, MEM_SECTION.words, NR_MEM_SECTIONS, "mem_section", MEM_SECTION),
        Placed(
            MEMBLOCK_MEMORY,
            MEMBLOCK_REGION.words,
            MEMBLOCK_MAX_REGIONS,
            "memblock.memory",
            MEMBLOCK_REGION,
        ),
        Placed(
            MEMBLOCK_RESERVED,
            MEMBLOCK_REGION.words,
            MEMBLOCK_MAX_REGIONS,
            "memblock.reserved",
            MEMBLOCK_REGION,
        ),
        Placed(LOG_RING, RECORD_WORDS, LOG_RECORDS, "log_ring"),
        Placed(TRACE_RING, RECORD_WORDS, TRACE_RECORDS, "trace_ring"),
        Placed(EMPTY_ZERO_PAGE, 512, 1, "empty_zero_page"),
        Placed(POISON_PAGE, 512, 1, "poison_page"),
        Placed(MAILBOXES, MAILBOX_WORDS, cpus, "mailbox of cpu"),
        Placed(MEM_CGROUPS, MEM_CGROUP.words, MAX_MEM_CGROUPS, "mem_cgroup", MEM_CGROUP),
        Placed(CPUSETS, CPUSET.words, MAX_CPUSETS, "cpuset", CPUSET),
        Placed(CMA_AREAS, CMA.words, MAX_CMA_AREAS, "cma_area", CMA),
    ]


class Symbols:
    """The kernel's structures in one guest, as they are at this moment."""

    def __init__(self, prog: Prog) -> None:
        self.m = m = words(prog)
        placed = _kernel_data(m)
        for nid in for_each_node(m):
            node = node_data(m, nid)
            placed.append(
                Placed(node.word, PGLIST_DATA.words, 1, f"pglist_data of node {nid}", PGLIST_DATA)
            )
            stats = m[node.word + ND_PER_CPU_NODESTATS]
            cpus = m[G_NR_CPU_IDS]
            if stats:
                name = f"nodestats of node {nid} cpu"
                at = word_of_va(stats)
                placed.append(Placed(at, PER_CPU_NODESTAT.words, cpus, name, PER_CPU_NODESTAT))
            for zone in node.zones:
                at = word_of_va(m[zone.word + Z_PAGESET])
                if m[zone.word + Z_PRESENT] and at != BOOT_PAGESETS:
                    name = f"pageset of {nid}:{zone.name} cpu"
                    placed.append(Placed(at, PER_CPU_PAGESET.words, cpus, name, PER_CPU_PAGESET))
        placed.extend(self._sections())
        if m[G_PGD]:
            placed.append(Placed((m[G_PGD] & ~0xFFF) >> 3, 512, 1, "swapper_pg_dir"))
        self.placed = sorted(placed, key=lambda place: place.word)
        self._starts = [place.word for place in self.placed]

    def _sections(self) -> list[Placed]:
        m = self.m
        found = []
        for nr in for_each_present_section(m):
            first = nr << PFN_SECTION_SHIFT
            memmap = m[SECTION_PAGES + (nr << 2)] + first * STRUCT_PAGE_WORDS
            found.append(
                Placed(
                    memmap,
                    STRUCT_PAGE_WORDS,
                    PAGES_PER_SECTION,
                    "struct page of frame",
                    PAGE,
                    first,
                    True,
                )
            )
            usemap = word_of_va(m[SECTION_USEMAP + (nr << 2)])
            found.append(Placed(usemap, USEMAP_WORDS, 1, f"pageblock bits of section {nr}"))
            if m[SECTION_PAGE_EXT + (nr << 2)]:
                ext = word_of_va(m[SECTION_PAGE_EXT + (nr << 2)])
                found.append(
                    Placed(
                        ext,
                        PAGE_EXT_WORDS,
                        PAGES_PER_SECTION,
                        "page_ext of frame",
                        None,
                        first,
                        True,
                    )
                )
        return found

    def find(self, word: int) -> Placed | None:
        """The structure that holds word index `word`, or None."""
        i = bisect_right(self._starts, word) - 1
        if i >= 0 and word < self.placed[i].end:
            return self.placed[i]
        return None

    def in_frame(self, pfn: int) -> list[str]:
        """Names of all structures that touch a frame, in address order."""
        first, last = pfn << 9, (pfn + 1) << 9
        return [p.between(first, last) for p in self.placed if p.word < last and p.end > first]

    def of_physical(self, phys: int) -> str:
        """What lies at a physical address: structure and field, or "" for nothing known."""
        word = phys >> 3
        place = self.find(word)
        if place is None:
            return "kernel static data" if KDATA <= word < KERNEL_END_WORD else ""
        i, offset = divmod(word - place.word, place.words)
        name = place.element(i)
        if place.struct is None:
            return f"{name} +{offset * 8:#x}" if offset else name
        if not offset and place.struct is not PGLIST_DATA:
            return name
        path = field_path(place.struct, offset)
        if place.struct is PGLIST_DATA:
            return self._in_node(place, offset, path)
        return f"{name} {path}".rstrip()

    @staticmethod
    def _in_node(place: Placed, offset: int, path: str) -> str:
        zid, rest = divmod(offset, ZONE.words)
        if zid < len(ZONE_NAMES):
            nid = place.name.rsplit(" ", 1)[1]
            path = field_path(ZONE, rest) if rest else ""
            return f"zone {nid}:{ZONE_NAMES[zid]} {path}".rstrip()
        return f"{place.name} {path}".rstrip()

    def of_virtual(self, va: int) -> str:
        """What a direct-map or vmemmap address points to, or "" for nothing known."""
        va = signed(va)
        if va >= VMEMMAP_START:
            pfn, byte = divmod(va - VMEMMAP_START, STRUCT_PAGE_SIZE)
            if not pfn_valid(self.m, pfn):
                return ""
            path = field_path(PAGE, byte >> 3) if byte else ""
            return f"struct page of frame {pfn:#x} {path}".rstrip()
        if 0 <= va - PAGE_OFFSET < MAX_PHYSADDR:
            return self.of_physical(va - PAGE_OFFSET)
        return ""


def physical_of(prog: Prog, address: int) -> int:
    """Physical address that a typed number means: vmemmap (the word of the struct page itself),
    direct map, or already physical.

    Raises BadRequest for a virtual address of neither kind."""
    m = words(prog)
    va = signed(address)
    if va >= 0:
        if va >= MAX_PHYSADDR:
            raise BadRequest(f"{address:#x} is no physical, direct-map or vmemmap address")
        return va
    if 0 <= va - PAGE_OFFSET < MAX_PHYSADDR:
        return va - PAGE_OFFSET
    pfn, byte = divmod(va - VMEMMAP_START, STRUCT_PAGE_SIZE)
    if pfn_valid(m, pfn):
        return ((m[SECTION_PAGES + (pfn >> PFN_SECTION_SHIFT << 2)] + (pfn << 3)) << 3) + byte
    raise BadRequest(f"{unsigned(va):#x} is no physical, direct-map or vmemmap address")


def parse_number(text: str) -> int:
    """A number as people type it: 0x..., decimal, or bare hex digits. Raises BadRequest."""
    for base in (0, 16) if not text.startswith("-") else (0,):
        try:
            value = int(text, base)
        except ValueError:
            continue
        if -(1 << 63) <= value < 1 << 64:
            return value
    raise BadRequest(f"{text!r} is not a number of 64 bits")


def parse_address(prog: Prog, text: str) -> int:
    """An address as people type it.

    A number, `pfn:N` (the frame's physical address), `page:N` (its struct page), `node:N` (its
    pglist_data) or `N:ZONE` (a zone: `0:DMA32`). Raises BadRequest.
    """
    m = words(prog)
    kind, colon, rest = text.partition(":")
    if not colon:
        return parse_number(text)
    if kind in ("pfn", "page"):
        pfn = parse_number(rest)
        if kind == "pfn":
            return pfn << 12
        if not pfn_valid(m, pfn):
            raise BadRequest(f"frame {pfn:#x} has no struct page")
        return unsigned(VMEMMAP_START + pfn * STRUCT_PAGE_SIZE)
    try:
        node = node_data(m, parse_number(rest if kind == "node" else kind))
    except LookupError as error:
        raise BadRequest(str(error)) from None
    if kind == "node":
        return unsigned(PAGE_OFFSET + (node.word << 3))
    for zone in node.zones:
        if zone.name.lower() == rest.lower():
            return unsigned(PAGE_OFFSET + (zone.word << 3))
    raise BadRequest(f"no zone {rest!r}: {', '.join(ZONE_NAMES)}")


def ordinal(n: int) -> str:
    """1 -> "1st", 12 -> "12th"."""
    if n % 100 in (11, 12, 13):
        return f"{n:,}th"
    return f"{n:,}{({1: 'st', 2: 'nd', 3: 'rd'}).get(n % 10, 'th')}"
