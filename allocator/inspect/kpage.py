# SPDX-License-Identifier: GPL-2.0-only
"""/proc/kpageflags and /proc/kpagecount: one u64 a frame from frame 0 to max_pfn.

The encoding is stable_page_flags() of fs/proc/page.c, so that tools/vm/page-types reads the file
(`page-types -F file`). All frames are decoded at once with NumPy over the memory map. `page_types`
sums the flags up as that tool does.

Two quirks are kept. kpagecount prints page_mapcount() of free pages too, whose _mapcount is the
page type: a buddy page reads 0xffffffffffffff80. And PG_ bits are each page's own, but the slab,
anonymous and swap-cache marks of a tail page are its head's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from machine import PhysicalMemory

from ..kernel_globals import G_MAX_PFN
from ..layout import (
    EMPTY_ZERO_PAGE,
    NR_MEM_SECTIONS,
    PAGES_PER_SECTION,
    PFN_SECTION_SHIFT,
    SECTION_MEM_MAP,
    SECTION_PAGES,
    VMEMMAP_START,
)
from ..mm_types import (
    COMPOUND_MAPCOUNT_SHIFT,
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_NEXT,
    P_PREV,
    P_PRIVATE,
    PAGE_FLAG_NAMES,
    PG_BALLOON_TYPE,
    PG_BUDDY_TYPE,
    PG_HEAD,
    PG_LRU,
    PG_OWNER_PRIV_1,
    PG_SLAB,
    PG_SWAPBACKED,
    PG_TABLE_TYPE,
    STRUCT_PAGE_WORDS,
)
from ..mmzone import MAX_ORDER
from .fields import Json, Report, Table, cells

U64s = npt.NDArray[np.uint64]
Words = npt.NDArray[np.int64]

KPF_LOCKED = 0
KPF_SLAB = 7
KPF_BUDDY = 10
KPF_MMAP = 11
KPF_ANON = 12
KPF_SWAPCACHE = 13
KPF_COMPOUND_HEAD = 15
KPF_COMPOUND_TAIL = 16
KPF_HUGE = 17
KPF_NOPAGE = 20
KPF_KSM = 21
KPF_THP = 22
KPF_BALLOON = 23
KPF_ZERO_PAGE = 24
KPF_PGTABLE = 26
KPF_NAMES = {
    0: "LOCKED",
    1: "ERROR",
    2: "REFERENCED",
    3: "UPTODATE",
    4: "DIRTY",
    5: "LRU",
    6: "ACTIVE",
    7: "SLAB",
    8: "WRITEBACK",
    9: "RECLAIM",
    10: "BUDDY",
    11: "MMAP",
    12: "ANON",
    13: "SWAPCACHE",
    14: "SWAPBACKED",
    15: "COMPOUND_HEAD",
    16: "COMPOUND_TAIL",
    17: "HUGE",
    18: "UNEVICTABLE",
    19: "HWPOISON",
    20: "NOPAGE",
    21: "KSM",
    22: "THP",
    23: "BALLOON",
    24: "ZERO_PAGE",
    25: "IDLE",
    26: "PGTABLE",
    32: "RESERVED",
    33: "MLOCKED",
    34: "MAPPEDTODISK",
    35: "PRIVATE",
    36: "PRIVATE_2",
    37: "OWNER_PRIVATE",
    38: "ARCH",
    39: "UNCACHED",
}
"""Bits of include/uapi/linux/kernel-page-flags.h and include/linux/kernel-page-flags.h."""

_COPIED = {
    "locked": 0,
    "error": 1,
    "referenced": 2,
    "uptodate": 3,
    "dirty": 4,
    "lru": 5,
    "active": 6,
    "slab": KPF_SLAB,
    "writeback": 8,
    "reclaim": 9,
    "swapbacked": 14,
    "unevictable": 18,
    "hwpoison": 19,
    "reserved": 32,
    "mlocked": 33,
    "mappedtodisk": 34,
    "private": 35,
    "private_2": 36,
    "owner_priv_1": 37,
    "arch_1": 38,
    "uncached": 39,
}
PAGE_TYPE_BASE = 0xF0000000
HUGETLB_PAGE_DTOR = 2


class MemMap:
    """All struct pages as columns: `valid[pfn]`, `flags[pfn]` and so on, copied out of RAM.

    `limit`: number of frames (max_pfn rounded up to a section). `heads` is each tail's head PFN and
    every other page's own.
    """

    def __init__(self, memory: PhysicalMemory) -> None:
        m, q = memory.words, memory.q
        self.max_pfn: int = m[G_MAX_PFN]
        sections = min(-(-self.max_pfn // PAGES_PER_SECTION), NR_MEM_SECTIONS)
        self.limit = sections << PFN_SECTION_SHIFT
        columns = np.zeros((STRUCT_PAGE_WORDS, self.limit), dtype=np.int64)
        self.valid = np.zeros(self.limit, dtype=bool)
        for nr in range(sections):
            start = nr << PFN_SECTION_SHIFT
            first = m[SECTION_PAGES + (nr << 2)] + start * STRUCT_PAGE_WORDS
            size = PAGES_PER_SECTION * STRUCT_PAGE_WORDS
            if not m[SECTION_MEM_MAP + (nr << 2)] or not memory.is_ram(first << 3, size << 3):
                continue
            rows = q[first : first + size].reshape(-1, STRUCT_PAGE_WORDS)
            columns[:, start : start + PAGES_PER_SECTION] = rows.T
            self.valid[start : start + PAGES_PER_SECTION] = True
        self.flags: Words = columns[P_FLAGS]
        self.mapping: Words = columns[P_MAPPING]
        self.index: Words = columns[P_INDEX]
        self.private: Words = columns[P_PRIVATE]
        self.prev: Words = columns[P_PREV]
        self.mapcount: Words = columns[P_COUNTS].astype(np.int32).astype(np.int64)
        self.refcount: Words = columns[P_COUNTS] >> 32
        nxt = columns[P_NEXT]
        self.tail = nxt & 1 != 0
        own = np.arange(self.limit, dtype=np.int64)
        heads = (nxt - 1 - VMEMMAP_START) >> 6
        sane = self.tail & (heads >= 0) & (heads < self.limit)
        self.heads: Words = np.where(sane, heads, own)
        self.head = self.flags & PG_HEAD != 0
        self.compound = self.head | self.tail

    def has_type(self, bit: int) -> npt.NDArray[np.bool_]:
        """Pages whose page_type has `bit` (PageBuddy and its like)."""
        found: npt.NDArray[np.bool_] = self.mapcount & (PAGE_TYPE_BASE | bit) == PAGE_TYPE_BASE
        return found

    def first_tail(self) -> Words:
        """For every page the PFN of its compound page's first tail; its own for single pages."""
        return np.where(self.compound, np.minimum(self.heads + 1, self.limit - 1), self.heads)

    def compound_mapcount(self) -> Words:
        """compound_mapcount of the compound page of each page, as stored (-1: not mapped)."""
        whole: Words = self.prev[self.first_tail()] >> COMPOUND_MAPCOUNT_SHIFT
        return whole

    def covered_by_free_blocks(self) -> npt.NDArray[np.bool_]:
        """Pages that lie in a block whose head says PageBuddy (is_free_buddy_page)."""
        heads = np.flatnonzero(self.has_type(PG_BUDDY_TYPE) & self.valid)
        orders = self.private[heads]
        sound = (orders >= 0) & (orders < MAX_ORDER)
        heads, orders = heads[sound], orders[sound]
        heads, orders = (x[heads & ((1 << orders) - 1) == 0] for x in (heads, orders))
        edge = np.zeros(self.limit + 1, dtype=np.int64)
        np.add.at(edge, heads, 1)
        np.add.at(edge, np.minimum(heads + (1 << orders), self.limit), -1)
        covered: npt.NDArray[np.bool_] = np.cumsum(edge[:-1]) > 0
        return covered


def kpageflags_array(memory: PhysicalMemory) -> U64s:
    """KPF_ bits of frames 0 to max_pfn - 1."""
    pages = MemMap(memory)
    out = np.zeros(pages.limit, dtype=np.uint64)

    def mark(bit: int, where: npt.NDArray[np.bool_]) -> None:
        out[where] |= np.uint64(1 << bit)

    for name, bit in _COPIED.items():
        mark(bit, pages.flags >> PAGE_FLAG_NAMES.index(name) & 1 != 0)
    head_flags = pages.flags[pages.heads]
    head_mapping = pages.mapping[pages.heads]
    slab = head_flags & PG_SLAB != 0
    anon = head_mapping & 1 != 0
    mapped = np.where(
        pages.compound,
        (pages.compound_mapcount() >= 0) | (pages.mapcount >= 0),
        pages.mapcount >= 0,
    )
    huge = pages.compound & (pages.prev[pages.first_tail()] & 0xFF == HUGETLB_PAGE_DTOR)
    mark(KPF_MMAP, mapped & ~slab)
    mark(KPF_ANON, anon)
    mark(KPF_KSM, head_mapping & 3 == 3)
    mark(KPF_COMPOUND_HEAD, pages.head)
    mark(KPF_COMPOUND_TAIL, pages.tail)
    mark(KPF_HUGE, huge)
    mark(KPF_THP, pages.compound & ~huge & (anon | (head_flags & PG_LRU != 0)))
    zero = EMPTY_ZERO_PAGE >> 9
    if zero < pages.limit and not pages.compound[zero]:
        out[zero] |= np.uint64(1 << KPF_ZERO_PAGE)
    buddy = pages.has_type(PG_BUDDY_TYPE)
    mark(KPF_BUDDY, buddy | ((pages.refcount == 0) & pages.covered_by_free_blocks()))
    mark(KPF_BALLOON, pages.has_type(PG_BALLOON_TYPE))
    mark(KPF_PGTABLE, pages.has_type(PG_TABLE_TYPE))
    mark(KPF_SLAB, pages.tail & slab)
    both = PG_SWAPBACKED | PG_OWNER_PRIV_1
    mark(KPF_SWAPCACHE, head_flags & both == both)
    out[~pages.valid] = np.uint64(1 << KPF_NOPAGE)
    return out[: pages.max_pfn]


def kpagecount_array(memory: PhysicalMemory) -> U64s:
    """page_mapcount() of frames 0 to max_pfn - 1; 0 for holes and slab pages."""
    pages = MemMap(memory)
    count = pages.mapcount + 1
    count = np.where(pages.compound, count + pages.compound_mapcount() + 1, count)
    count[~pages.valid | (pages.flags[pages.heads] & PG_SLAB != 0)] = 0
    return count.astype(np.uint64)[: pages.max_pfn]


def flag_names(value: int) -> str:
    """KPF_ names of one entry, lower case and joined by commas, as page-types names them."""
    return ",".join(name.lower() for bit, name in KPF_NAMES.items() if value >> bit & 1)


def page_types(memory: PhysicalMemory) -> list[tuple[int, int, str]]:
    """(flags, frames with exactly these, names) for every combination that occurs."""
    values, counts = np.unique(kpageflags_array(memory), return_counts=True)
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    return [(value, count, flag_names(value)) for value, count in pairs]


def kpageflags(memory: PhysicalMemory) -> Report:
    """The binary file, and on a terminal what page-types makes of it."""
    types = page_types(memory)
    rows = tuple(cells(f"{flags:#018x}", count, count >> 8, name) for flags, count, name in types)
    data: list[Json] = [{"flags": f, "page_count": c, "symbolic": n} for f, c, n in types]
    text = "".join(
        f"{flags:#018x} {count:10} {count >> 8:8} {name}\n" for flags, count, name in types
    )
    table = Table("frames by flags", ("flags", "page-count", "MB", "symbolic-flags"), rows)
    return Report(text, data, (table,), kpageflags_array(memory).astype("<u8").tobytes())


def kpagecount(memory: PhysicalMemory) -> Report:
    """The binary file, and on a terminal how many frames have which count."""
    array = kpagecount_array(memory)
    values, counts = np.unique(array, return_counts=True)
    pairs = list(zip(values.tolist(), counts.tolist(), strict=True))
    rows = tuple(cells(str(value), count) for value, count in pairs)
    data: list[Json] = [{"mapcount": value, "frames": count} for value, count in pairs]
    text = "".join(f"{value:20} {count:10}\n" for value, count in pairs)
    table = Table("frames by map count", ("map count", "frames"), rows)
    return Report(text, data, (table,), array.astype("<u8").tobytes())
