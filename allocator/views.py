# SPDX-License-Identifier: GPL-2.0-only
"""Views for people: `Page`, `Zone` and `Node` over the words in guest RAM.

A view is a word array and an address; every attribute is read from RAM when it is asked for, so a
view never goes stale and two views of one frame are equal. Addresses are shown unsigned. Nothing
here is used by the allocator itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from .layout import (
    NODE_DATA,
    PAGE_OFFSET,
    SECTION_MEM_MAP,
    SECTION_PAGES,
    VMEMMAP_START,
    page_va,
    unsigned,
    va_of_word,
    word_of_va,
)
from .mm_types import (
    MAPCOUNT_MASK,
    NODES_MASK,
    NODES_PGSHIFT,
    NR_PAGEFLAGS,
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_MEMCG,
    P_NEXT,
    P_PREV,
    P_PRIVATE,
    PAGE_BUDDY_MASK,
    PAGE_FLAG_NAMES,
    PAGE_TYPE_BASE,
    PG_HEAD,
    REF_SHIFT,
    ZONES_MASK,
    ZONES_PGSHIFT,
)
from .mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MAX_ORDER,
    MIGRATE_TYPES,
    MIGRATETYPE_NAMES,
    ND_NODE_ID,
    ND_PRESENT,
    ND_SPANNED,
    ND_START_PFN,
    NR_VM_ZONE_STAT_ITEMS,
    PSET_COUNT,
    PSET_LISTS,
    PSET_WORDS,
    Z_FREE_AREA,
    Z_FREE_PAGES,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_NODE,
    Z_NR_HIGHATOMIC,
    Z_PAGESET,
    Z_PRESENT,
    Z_SPANNED,
    Z_START_PFN,
    Z_VM_STAT,
    Z_WMARK,
    ZONE_NAMES,
    ZONE_STAT_NAMES,
    ZONE_WORDS,
)
from .pageblock import get_pageblock_migratetype


def pfn_valid(m: memoryview, pfn: int) -> bool:
    """True if `pfn` lies in a present memory section and so has a struct page."""
    return 0 <= pfn < 1 << 30 and m[SECTION_MEM_MAP + (pfn >> 15 << 2)] != 0


def list_pfns(m: memoryview, head: int, limit: int = 1 << 26) -> Iterator[int]:
    """PFNs on the page list whose head is at word `head`, first to last.

    Stops quietly at an entry that is no struct page address or after `limit` entries: the caller
    that wants to know whether a list is sound uses the checker.
    """
    end = va_of_word(head)
    va = m[head]
    while va != end and limit:
        off = va - VMEMMAP_START
        if off < 0 or off & 63 != 8 or not pfn_valid(m, off >> 6):
            return
        pfn = off >> 6
        yield pfn
        va = m[m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3) + P_NEXT]
        limit -= 1


class Page:
    """The struct page of one frame. `page.pfn` is the page frame number."""

    __slots__ = ("m", "pfn")

    def __init__(self, m: memoryview, pfn: int) -> None:
        self.m = m
        self.pfn = pfn

    @property
    def word(self) -> int:
        """Word index of the struct page in guest RAM."""
        return self.m[SECTION_PAGES + (self.pfn >> 15 << 2)] + (self.pfn << 3)

    @property
    def address(self) -> int:
        """Guest virtual address of the struct page (vmemmap, unsigned)."""
        return unsigned(page_va(self.pfn))

    @property
    def phys(self) -> int:
        """Physical address of the frame itself (bytes)."""
        return self.pfn << 12

    @property
    def virt(self) -> int:
        """Direct-map guest virtual address of the frame (unsigned)."""
        return unsigned(PAGE_OFFSET + (self.pfn << 12))

    @property
    def flags(self) -> int:
        """The whole flags word, unsigned."""
        return unsigned(self.m[self.word + P_FLAGS])

    @property
    def flag_names(self) -> tuple[str, ...]:
        """Names of the PG_ bits that are set."""
        flags = self.m[self.word + P_FLAGS]
        return tuple(PAGE_FLAG_NAMES[i] for i in range(NR_PAGEFLAGS) if flags >> i & 1)

    @property
    def nid(self) -> int:
        """Node that the flags name."""
        return self.m[self.word + P_FLAGS] >> NODES_PGSHIFT & NODES_MASK

    @property
    def zid(self) -> int:
        """Zone index that the flags name."""
        return self.m[self.word + P_FLAGS] >> ZONES_PGSHIFT & ZONES_MASK

    @property
    def zone(self) -> str:
        """Zone name that the flags name, e.g. "DMA32"."""
        return ZONE_NAMES[self.zid]

    @property
    def refcount(self) -> int:
        """_refcount, signed."""
        return self.m[self.word + P_COUNTS] >> REF_SHIFT

    @property
    def mapcount(self) -> int:
        """_mapcount (or page type) as the signed 32-bit number it is."""
        low = self.m[self.word + P_COUNTS] & MAPCOUNT_MASK
        return low - (1 << 32) if low >> 31 else low

    @property
    def buddy(self) -> bool:
        """PageBuddy: heads a free block."""
        return self.m[self.word + P_COUNTS] & PAGE_BUDDY_MASK == PAGE_TYPE_BASE

    @property
    def order(self) -> int:
        """Order of the free block or compound page that this page heads, else 0."""
        w = self.word
        if self.buddy:
            return self.m[w + P_PRIVATE]
        if self.m[w + P_FLAGS] & PG_HEAD:
            return self.m[w + 8 + P_PREV] >> 8 & 0xFF
        return 0

    @property
    def index(self) -> int:
        """page->index, signed."""
        return self.m[self.word + P_INDEX]

    @property
    def private(self) -> int:
        """page->private."""
        return self.m[self.word + P_PRIVATE]

    @property
    def mapping(self) -> int:
        """page->mapping, unsigned."""
        return unsigned(self.m[self.word + P_MAPPING])

    @property
    def mem_cgroup(self) -> int:
        """page->mem_cgroup, unsigned."""
        return unsigned(self.m[self.word + P_MEMCG])

    @property
    def migratetype(self) -> str:
        """Type of the pageblock that holds the frame."""
        return MIGRATETYPE_NAMES[get_pageblock_migratetype(self.m, self.pfn)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Page) and other.pfn == self.pfn and other.m is self.m

    def __hash__(self) -> int:
        return hash(self.pfn)

    def __repr__(self) -> str:
        state = f"free order {self.order}" if self.buddy else f"refcount {self.refcount}"
        return f"<Page {self.pfn:#07x} node {self.nid} zone {self.zone} {state}>"


class Zone:
    """One struct zone."""

    __slots__ = ("m", "nid", "word", "zid")

    def __init__(self, m: memoryview, nid: int, zid: int) -> None:
        self.m = m
        self.nid = nid
        self.zid = zid
        self.word = word_of_va(m[NODE_DATA + nid]) + zid * ZONE_WORDS

    @property
    def name(self) -> str:
        """ "DMA", "DMA32", "Normal" or "Movable"."""
        return ZONE_NAMES[self.zid]

    @property
    def populated(self) -> bool:
        """True if the zone has any present page."""
        return self.m[self.word + Z_PRESENT] != 0

    @property
    def start_pfn(self) -> int:
        """First PFN of the span."""
        return self.m[self.word + Z_START_PFN]

    @property
    def spanned_pages(self) -> int:
        """Pages from first to last, holes included."""
        return self.m[self.word + Z_SPANNED]

    @property
    def end_pfn(self) -> int:
        """One past the last PFN of the span."""
        return self.start_pfn + self.spanned_pages

    @property
    def present_pages(self) -> int:
        """Pages of RAM in the span."""
        return self.m[self.word + Z_PRESENT]

    @property
    def managed_pages(self) -> int:
        """Pages given to the buddy allocator."""
        return self.m[self.word + Z_MANAGED]

    @property
    def watermarks(self) -> tuple[int, int, int]:
        """min, low and high, in pages."""
        w = self.word + Z_WMARK
        return self.m[w], self.m[w + 1], self.m[w + 2]

    @property
    def lowmem_reserve(self) -> tuple[int, ...]:
        """Pages kept from requests that could use zone i, for each i."""
        w = self.word + Z_LOWMEM_RESERVE
        return tuple(self.m[w + i] for i in range(MAX_NR_ZONES))

    @property
    def nr_reserved_highatomic(self) -> int:
        """Pages in highatomic pageblocks."""
        return self.m[self.word + Z_NR_HIGHATOMIC]

    @property
    def free_pages(self) -> int:
        """Global NR_FREE_PAGES, what the watermark test reads (per-cpu deltas not folded)."""
        return self.m[self.word + Z_FREE_PAGES]

    def stat(self) -> dict[str, int]:
        """Global zone counters by name."""
        w = self.word + Z_VM_STAT
        return {ZONE_STAT_NAMES[i]: self.m[w + i] for i in range(NR_VM_ZONE_STAT_ITEMS)}

    def nr_free(self) -> list[int]:
        """Number of free blocks by order."""
        area = self.word + Z_FREE_AREA
        return [self.m[area + o * FA_WORDS + FA_NR_FREE] for o in range(MAX_ORDER)]

    def free_list(self, order: int, migratetype: int) -> list[int]:
        """Head PFNs of one free list, first to last."""
        head = self.word + Z_FREE_AREA + order * FA_WORDS + 2 * migratetype
        return list(list_pfns(self.m, head))

    def free_lists(self) -> dict[tuple[int, int], list[int]]:
        """All free lists that are not empty, by (order, migratetype)."""
        lists = {}
        for order in range(MAX_ORDER):
            for mt in range(MIGRATE_TYPES):
                pfns = self.free_list(order, mt)
                if pfns:
                    lists[order, mt] = pfns
        return lists

    def pcp_count(self, cpu: int) -> int:
        """Pages on the per-cpu lists of `cpu`."""
        ps = word_of_va(self.m[self.word + Z_PAGESET]) + cpu * PSET_WORDS
        return self.m[ps + PSET_COUNT]

    def pcp_list(self, cpu: int, migratetype: int) -> list[int]:
        """PFNs on one per-cpu list, first to last."""
        ps = word_of_va(self.m[self.word + Z_PAGESET]) + cpu * PSET_WORDS
        return list(list_pfns(self.m, ps + PSET_LISTS + 2 * migratetype))

    def __repr__(self) -> str:
        return f"<Zone {self.m[self.word + Z_NODE]}:{self.name} free {self.free_pages}>"


class Node:
    """One struct pglist_data."""

    __slots__ = ("m", "nid", "word")

    def __init__(self, m: memoryview, nid: int) -> None:
        self.m = m
        self.nid = nid
        self.word = word_of_va(m[NODE_DATA + nid])

    @property
    def node_id(self) -> int:
        """The id that the structure itself holds."""
        return self.m[self.word + ND_NODE_ID]

    @property
    def start_pfn(self) -> int:
        """First PFN of the node."""
        return self.m[self.word + ND_START_PFN]

    @property
    def present_pages(self) -> int:
        """Pages of RAM."""
        return self.m[self.word + ND_PRESENT]

    @property
    def spanned_pages(self) -> int:
        """Pages from first to last, holes included."""
        return self.m[self.word + ND_SPANNED]

    @property
    def zones(self) -> list[Zone]:
        """All four zones, empty ones too."""
        return [Zone(self.m, self.nid, zid) for zid in range(MAX_NR_ZONES)]

    @property
    def free_pages(self) -> int:
        """Free pages of all zones (global counters)."""
        return sum(zone.free_pages for zone in self.zones)

    def __repr__(self) -> str:
        return f"<Node {self.nid} free {self.free_pages}>"


def for_each_node(m: memoryview) -> Iterator[Node]:
    """Every node that has a pglist_data, in id order."""
    for nid in range(MAX_NUMNODES):
        if m[NODE_DATA + nid]:
            yield Node(m, nid)


def for_each_zone(m: memoryview) -> Iterator[Zone]:
    """Every populated zone, nodes in id order, zones from DMA up."""
    for node in for_each_node(m):
        for zone in node.zones:
            if zone.populated:
                yield zone
