# SPDX-License-Identifier: GPL-2.0-only
"""Nodes, zones, sections and free lists (include/linux/mmzone.h).

Names are drgn's where drgn has the helper and the kernel's otherwise. `Node`, `Zone` and `Page` are
the views of `allocator.views`; they take the place of `struct pglist_data *` and so on.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..kernel_globals import G_MAX_PFN
from ..layout import (
    MEM_SECTIONS,
    NODE_DATA,
    NR_MEM_SECTIONS,
    PFN_SECTION_SHIFT,
    SECTION_HAS_MEM_MAP,
    SECTION_IS_ONLINE,
    SECTION_MARKED_PRESENT,
    SECTION_MEM_MAP,
    unsigned,
    word_of_va,
)
from ..mmzone import (
    FA_WORDS,
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MAX_ORDER,
    MIGRATE_TYPES,
    ND_NOFALLBACK,
    ND_ZONELISTS,
    PAGEBLOCK_NR_PAGES,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
    Z_FREE_AREA,
    Z_PGDAT,
    Z_WMARK,
    ZONE_WORDS,
    ZONELIST_FALLBACK,
    ZONEREF_WORDS,
    ZR_IDX,
    ZR_ZONE,
)
from ..pageblock import get_pageblock_migratetype as _block_type
from ..views import Node, Page, Zone, list_pfns, pfn_valid
from .nodemask import for_each_online_node
from .prog import Prog, words

_SECTION_FLAGS = (
    ("SECTION_MARKED_PRESENT", SECTION_MARKED_PRESENT),
    ("SECTION_HAS_MEM_MAP", SECTION_HAS_MEM_MAP),
    ("SECTION_IS_ONLINE", SECTION_IS_ONLINE),
)
SECTION_MAP_MASK = ~0x3F & 0xFFFFFFFFFFFFFFFF


def node_data(prog: Prog, nid: int) -> Node:
    """The pglist_data of node `nid` (NODE_DATA). Raises LookupError if there is none."""
    m = words(prog)
    if not 0 <= nid < MAX_NUMNODES or not m[NODE_DATA + nid]:
        raise LookupError(f"node {nid} has no pglist_data")
    return Node(m, nid)


def for_each_online_pgdat(prog: Prog) -> Iterator[Node]:
    """The pglist_data of every online node, in id order."""
    return (node_data(prog, nid) for nid in for_each_online_node(prog))


def for_each_zone(prog: Prog) -> Iterator[Zone]:
    """Every zone of every online node, empty ones too, in the kernel's order."""
    for node in for_each_online_pgdat(prog):
        yield from node.zones


def for_each_populated_zone(prog: Prog) -> Iterator[Zone]:
    """Every zone that has pages, nodes in id order, zones from DMA up."""
    return (zone for zone in for_each_zone(prog) if populated_zone(zone))


def populated_zone(zone: Zone) -> bool:
    """True if the zone has any present page."""
    return zone.populated


def zone_end_pfn(zone: Zone) -> int:
    """One past the last PFN of the zone's span."""
    return zone.end_pfn


def zone_of_address(prog: Prog, va: int) -> Zone | None:
    """The zone whose struct starts at direct-map address `va` (signed or not), or None."""
    for zone in for_each_zone(prog):
        if word_of_va(va if va < 0 else va - (1 << 64)) == zone.word:
            return zone
    return None


def wmark_pages(zone: Zone, i: int) -> int:
    """Watermark `i` (WMARK_MIN, WMARK_LOW, WMARK_HIGH) of a zone, pages."""
    return zone.m[zone.word + Z_WMARK + i]


def min_wmark_pages(zone: Zone) -> int:
    """Below this many free pages only reserves are left."""
    return wmark_pages(zone, WMARK_MIN)


def low_wmark_pages(zone: Zone) -> int:
    """Below this many free pages kswapd is woken."""
    return wmark_pages(zone, WMARK_LOW)


def high_wmark_pages(zone: Zone) -> int:
    """At this many free pages kswapd goes back to sleep."""
    return wmark_pages(zone, WMARK_HIGH)


def for_each_zone_zonelist(
    prog: Prog, nid: int, zonelist: int = ZONELIST_FALLBACK
) -> Iterator[tuple[Zone, int]]:
    """The zones of node `nid`'s zonelist in search order, each with the index its zoneref keeps.

    `zonelist`: ZONELIST_FALLBACK, or ZONELIST_NOFALLBACK for __GFP_THISNODE. A zoneref that points
    at no zone ends the walk.
    """
    m = words(prog)
    node = node_data(prog, nid)
    zr = node.word + (ND_ZONELISTS if zonelist == ZONELIST_FALLBACK else ND_NOFALLBACK)
    by_word = {zone.word: zone for zone in for_each_zone(prog)}
    for _ in range(MAX_NUMNODES * MAX_NR_ZONES):
        va = m[zr + ZR_ZONE]
        zone = by_word.get(word_of_va(va)) if va else None
        if zone is None:
            return
        yield zone, m[zr + ZR_IDX]
        zr += ZONEREF_WORDS


def zone_idx(zone: Zone) -> int:
    """Index of the zone in its node: 0 DMA to 3 Movable."""
    return (zone.word - word_of_va(zone.m[zone.word + Z_PGDAT])) // ZONE_WORDS


def for_each_free_block(zone: Zone) -> Iterator[tuple[Page, int, int]]:
    """Every free block on the zone's lists: (head page, order, migratetype of the list).

    Orders ascending, types in their order, each list first to last. A list with a broken link ends
    there; `kmem -f` and `check` are the ones that complain.
    """
    m = zone.m
    for order in range(MAX_ORDER):
        for mt in range(MIGRATE_TYPES):
            head = zone.word + Z_FREE_AREA + order * FA_WORDS + 2 * mt
            # no list is longer than the machine has frames, however its links go round
            for pfn in list_pfns(m, head, m[G_MAX_PFN]):
                yield Page(m, pfn), order, mt


def for_each_free_page(zone: Zone) -> Iterator[Page]:
    """Every single page of every free block of the zone, in list order."""
    for head, order, _ in for_each_free_block(zone):
        for pfn in range(head.pfn, head.pfn + (1 << order)):
            yield Page(zone.m, pfn)


def for_each_pcp_page(zone: Zone, cpu: int) -> Iterator[tuple[Page, int]]:
    """Every page on `cpu`'s lists of the zone, with the list's migratetype (0 to 2)."""
    for mt in range(3):
        for pfn in zone.pcp_list(cpu, mt):
            yield Page(zone.m, pfn), mt


def get_pageblock_migratetype(page: Page) -> int:
    """Migratetype of the pageblock that holds the page (0 Unmovable to 5 Isolate)."""
    return _block_type(page.m, page.pfn)


def for_each_pageblock(zone: Zone) -> Iterator[tuple[int, int]]:
    """First PFN and migratetype of every pageblock of the zone that has a memory section."""
    start = zone.start_pfn & ~(PAGEBLOCK_NR_PAGES - 1)
    for pfn in range(start, zone.end_pfn, PAGEBLOCK_NR_PAGES):
        if pfn_valid(zone.m, pfn):
            yield pfn, _block_type(zone.m, pfn)


def pfn_to_section_nr(pfn: int) -> int:
    """Number of the 128 MiB section that holds a PFN."""
    return pfn >> PFN_SECTION_SHIFT


def section_nr_to_pfn(nr: int) -> int:
    """First PFN of a section."""
    return nr << PFN_SECTION_SHIFT


def present_section_nr(prog: Prog, nr: int) -> bool:
    """True if the section holds memory."""
    if not 0 <= nr < NR_MEM_SECTIONS:
        return False
    return bool(words(prog)[SECTION_MEM_MAP + (nr << 2)] & SECTION_MARKED_PRESENT)


def valid_section_nr(prog: Prog, nr: int) -> bool:
    """True if the section has a memory map."""
    if not 0 <= nr < NR_MEM_SECTIONS:
        return False
    return bool(words(prog)[SECTION_MEM_MAP + (nr << 2)] & SECTION_HAS_MEM_MAP)


def for_each_present_section(prog: Prog) -> Iterator[int]:
    """Numbers of the sections that hold memory, ascending."""
    m = words(prog)
    flags = m[MEM_SECTIONS : MEM_SECTIONS + 4 * NR_MEM_SECTIONS].tolist()[::4]
    return (nr for nr, word in enumerate(flags) if word & SECTION_MARKED_PRESENT)


def section_mem_map_addr(prog: Prog, nr: int) -> int:
    """Guest virtual address such that entry `pfn` of it is the struct page of `pfn`."""
    return unsigned(words(prog)[SECTION_MEM_MAP + (nr << 2)]) & SECTION_MAP_MASK


def decode_section_flags(prog: Prog, nr: int) -> str:
    """Names of a section's flags, joined by "|"; "0" for an absent section."""
    value = words(prog)[SECTION_MEM_MAP + (nr << 2)] & 0x3F
    return "|".join(name for name, bit in _SECTION_FLAGS if value & bit) or "0"
