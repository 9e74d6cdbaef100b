# SPDX-License-Identifier: GPL-2.0-only
"""/proc/buddyinfo, /proc/pagetypeinfo and the two fragmentation indices of debugfs.

Text to the letter of mm/vmstat.c (frag_show, pagetypeinfo_show, extfrag_show, unusable_show). What
pagetypeinfo does on a machine with page_owner=on - the table of mixed blocks - is here too; the
kernel drains the per-cpu lists before it, which changes nothing that it prints.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..gfp import GFP_MOVABLE_MASK, GFP_MOVABLE_SHIFT
from ..helpers.mm import PageBuddy, PageReserved
from ..helpers.mmzone import for_each_online_pgdat, get_pageblock_migratetype
from ..helpers.nodemask import N_MEMORY, node_state
from ..helpers.prog import Prog, words
from ..kernel_globals import G_MOBILITY_DISABLED, G_STATIC_KEYS, KEY_PAGE_OWNER
from ..mmzone import (
    MAX_ORDER,
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    MIGRATE_TYPES,
    MIGRATE_UNMOVABLE,
    MIGRATETYPE_NAMES,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from ..page_owner import page_owner_of
from ..views import Node, Page, Zone, pfn_valid
from .fields import Json, Report, Table, cells
from .lists import free_list

_ORDERS = tuple(str(order) for order in range(MAX_ORDER))


def populated_zones(node: Node) -> list[Zone]:
    """The node's zones that have pages (walk_zones_in_node with assert_populated)."""
    return [zone for zone in node.zones if zone.populated]


def _nodes_with_memory(prog: Prog) -> Iterator[Node]:
    return (node for node in for_each_online_pgdat(prog) if node_state(prog, node.nid, N_MEMORY))


def _row_name(zone: Zone) -> str:
    return f"Node {zone.nid}, zone {zone.name:>8} "


def _named(zone: Zone, values: dict[str, Json]) -> dict[str, Json]:
    named: dict[str, Json] = {"node": zone.nid, "zone": zone.name}
    named.update(values)
    return named


def buddyinfo(prog: Prog) -> Report:
    """Free blocks by order for every populated zone (/proc/buddyinfo)."""
    rows = [
        (zone, zone.nr_free())
        for node in for_each_online_pgdat(prog)
        for zone in populated_zones(node)
    ]
    text = "".join(
        _row_name(zone) + "".join(f"{n:6} " for n in counts) + "\n" for zone, counts in rows
    )
    table = Table(
        "free blocks by order",
        ("node", "zone", *_ORDERS, "free pages"),
        tuple(
            cells(zone.nid, zone.name, *counts, sum(n << o for o, n in enumerate(counts)))
            for zone, counts in rows
        ),
    )
    return Report(text, [_named(zone, {"nr_free": counts}) for zone, counts in rows], (table,))


def free_counts(zone: Zone) -> list[list[int]]:
    """Blocks on the zone's lists, counted by walking them: [migratetype][order]."""
    return [
        [len(free_list(zone, order, mt)) for order in range(MAX_ORDER)]
        for mt in range(MIGRATE_TYPES)
    ]


def block_counts(zone: Zone) -> list[int]:
    """Pageblocks of the zone by migratetype (pagetypeinfo_showblockcount_print).

    A block counts if the frame at its place in the zone's own stride has a struct page that names
    this very zone; a zone that does not start on a pageblock border is walked from its start.
    """
    count = [0] * MIGRATE_TYPES
    for pfn in range(zone.start_pfn, zone.end_pfn, PAGEBLOCK_NR_PAGES):
        if not pfn_valid(zone.m, pfn):
            continue
        page = Page(zone.m, pfn)
        if (page.nid, page.zid) == (zone.nid, zone.zid):
            mt = get_pageblock_migratetype(page)
            if mt < MIGRATE_TYPES:
                count[mt] += 1
    return count


def mixed_counts(zone: Zone) -> list[int]:
    """Pageblocks by type that hold an allocated page of another type (page_owner=on only).

    pagetypeinfo_showmixedcount_print(): the first page of a block whose owner asked for another
    type decides, and the rest of the block is not looked at.
    """
    m = zone.m
    count = [0] * MIGRATE_TYPES
    pfn = zone.start_pfn
    while pfn < zone.end_pfn:
        if not pfn_valid(m, pfn):
            pfn = (pfn | (1 << (MAX_ORDER - 1)) - 1) + 1
            continue
        end = min((pfn | PAGEBLOCK_NR_PAGES - 1) + 1, zone.end_pfn)
        block = get_pageblock_migratetype(Page(m, pfn))
        while pfn < end:
            page = Page(m, pfn)
            step = 1
            if (page.nid, page.zid) == (zone.nid, zone.zid):
                if PageBuddy(page):
                    step = 1 << min(max(page.private, 0), MAX_ORDER - 1)
                elif not PageReserved(page) and page_owner_of(m, pfn)[0] >= 0:
                    order, gfp = page_owner_of(m, pfn)[:2]
                    if m[G_MOBILITY_DISABLED]:
                        wanted = MIGRATE_UNMOVABLE
                    else:
                        wanted = (gfp & GFP_MOVABLE_MASK) >> GFP_MOVABLE_SHIFT
                    if wanted != block:
                        count[MIGRATE_MOVABLE if block == MIGRATE_CMA else block] += 1
                        pfn = end
                        break
                    step = 1 << order
            pfn += step
    return count


def pagetypeinfo(prog: Prog) -> Report:
    """Free blocks by migratetype and order, and pageblocks by type (/proc/pagetypeinfo)."""
    text: list[str] = []
    data: list[Json] = []
    free_rows: list[tuple[str, ...]] = []
    block_rows: list[tuple[str, ...]] = []
    owners = words(prog)[G_STATIC_KEYS] & KEY_PAGE_OWNER
    types = "".join(f"{name:>12} " for name in MIGRATETYPE_NAMES)
    for node in _nodes_with_memory(prog):
        zones = populated_zones(node)
        text.append(f"Page block order: {PAGEBLOCK_ORDER}\n")
        text.append(f"Pages per block:  {PAGEBLOCK_NR_PAGES}\n\n")
        head = "Free pages count per migrate type at order"
        text.append(f"{head:<43} " + "".join(f"{o:6} " for o in range(MAX_ORDER)) + "\n")
        found: list[dict[str, dict[str, Json]]] = []
        for zone in zones:
            free = free_counts(zone)
            for name, counts in zip(MIGRATETYPE_NAMES, free, strict=True):
                text.append(f"Node {zone.nid:4}, zone {zone.name:>8}, type {name:>12} ")
                text.append("".join(f"{n:6} " for n in counts) + "\n")
                free_rows.append(cells(zone.nid, zone.name, name, *counts))
            found.append({"free": dict(zip(MIGRATETYPE_NAMES, free, strict=True))})
        sections = [("pageblocks", "\nNumber of blocks type  ", block_counts)]
        if owners:
            sections.append(("mixed", "\nNumber of mixed blocks ", mixed_counts))
        for key, title, count in sections:
            text.append(title + types + "\n")
            for zone, entry in zip(zones, found, strict=True):
                counts = count(zone)
                text.append(_row_name(zone) + "".join(f"{n:12} " for n in counts) + "\n")
                entry[key] = dict(zip(MIGRATETYPE_NAMES, counts, strict=True))
                block_rows.append(cells(zone.nid, zone.name, key, *counts))
        data.extend(
            _named(zone, dict(entry.items())) for zone, entry in zip(zones, found, strict=True)
        )
    tables = (
        Table(
            "free blocks by type and order", ("node", "zone", "type", *_ORDERS), tuple(free_rows)
        ),
        Table("pageblocks by type", ("node", "zone", "", *MIGRATETYPE_NAMES), tuple(block_rows)),
    )
    return Report("".join(text), data, tables)


def contig_page_info(zone: Zone, order: int) -> tuple[int, int, int]:
    """Free pages, free blocks, and blocks of `order` that could be cut from them."""
    free = total = suitable = 0
    for o, blocks in enumerate(zone.nr_free()):
        total += blocks
        free += blocks << o
        if o >= order:
            suitable += blocks << (o - order)
    return free, total, suitable


def fragmentation_index(zone: Zone, order: int) -> int:
    """Why a request of `order` would fail, in thousandths: 0 no memory, 1000 fragmentation.

    -1000 where it would not fail for want of a block (__fragmentation_index).
    """
    free, total, suitable = contig_page_info(zone, order)
    if not total:
        return 0
    if suitable:
        return -1000
    return 1000 - (1000 + free * 1000 // (1 << order)) // total


def unusable_free_index(zone: Zone, order: int) -> int:
    """Share of the free memory that a request of `order` cannot use, in thousandths."""
    free, _, suitable = contig_page_info(zone, order)
    if not free:
        return 1000
    return (free - (suitable << order)) * 1000 // free


def thousandths(index: int) -> str:
    """An index as C's "%d.%03d" of its quotient and remainder prints it."""
    sign = -1 if index < 0 else 1
    whole, rest = sign * (abs(index) // 1000), sign * (abs(index) % 1000)
    return f"{whole}.{rest:03}"


def _index_report(title: str, rows: list[tuple[Zone, list[int]]]) -> Report:
    text = "".join(
        _row_name(zone) + "".join(thousandths(i) + " " for i in values) + "\n"
        for zone, values in rows
    )
    table = Table(
        title,
        ("node", "zone", *_ORDERS),
        tuple((str(z.nid), z.name, *(thousandths(i) for i in v)) for z, v in rows),
    )
    data: list[Json] = [_named(zone, {"index": [i / 1000 for i in v]}) for zone, v in rows]
    return Report(text, data, (table,))


def extfrag_index(prog: Prog) -> Report:
    """Fragmentation index by order (debugfs extfrag/extfrag_index)."""
    rows = [
        (zone, [fragmentation_index(zone, order) for order in range(MAX_ORDER)])
        for node in for_each_online_pgdat(prog)
        for zone in populated_zones(node)
    ]
    return _index_report("external fragmentation index by order", rows)


def unusable_index(prog: Prog) -> Report:
    """Unusable free space index by order (debugfs extfrag/unusable_index)."""
    rows = [
        (zone, [unusable_free_index(zone, order) for order in range(MAX_ORDER)])
        for node in _nodes_with_memory(prog)
        for zone in populated_zones(node)
    ]
    return _index_report("unusable free space index by order", rows)
