# SPDX-License-Identifier: GPL-2.0-only
"""crash's `kmem`: `-f` walks every free list and proves it against nr_free, `-p` lists all pages,
`-i` sums memory up, and an address names its frame (`frame.frame_report`).

The columns are crash's. Where crash prints "(verified)" after a zone's count, so does this, and a
list that contradicts itself or its count is named with the frame at fault.
"""

from __future__ import annotations

from collections.abc import Iterator

from machine import PhysicalMemory

from ..errors import BadRequest
from ..helpers.mm import PageBuddy
from ..helpers.mmzone import for_each_online_pgdat
from ..helpers.prog import Prog, words
from ..helpers.vmstat import zone_page_state_snapshot
from ..kernel_globals import G_TOTALRAM
from ..layout import PAGE_OFFSET, page_va, unsigned
from ..mm_types import PAGE_FLAG_NAMES
from ..mmzone import (
    FA_WORDS,
    MAX_ORDER,
    MIGRATE_ISOLATE,
    MIGRATE_TYPES,
    MIGRATETYPE_NAMES,
    NR_FREE_PAGES,
    Z_FREE_AREA,
)
from ..views import Node, Page, Zone
from .fields import Json, Report, Table, cells
from .frame import frame_report
from .kpage import MemMap
from .lists import free_head, walk
from .symbols import parse_address, physical_of


def _area_faults(zone: Zone, order: int, mt: int) -> tuple[list[int], list[str]]:
    """One list: its heads, and whatever is wrong with it."""
    found = walk(zone.m, free_head(zone, order, mt))
    where = f"zone {zone.nid}:{zone.name} free_area[{order}].free_list[{MIGRATETYPE_NAMES[mt]}]"
    faults = [f"{where}: {found.fault}"] if found.fault else []
    for pfn in found.pfns:
        page = Page(zone.m, pfn)
        if not PageBuddy(page) or page.private != order:
            faults.append(f"{where}: frame {pfn:#x} is not PageBuddy of order {order}")
        elif (page.nid, page.zid) != (zone.nid, zone.zid):
            faults.append(f"{where}: frame {pfn:#x} belongs to {page.nid}:{page.zone}")
        elif pfn & ((1 << order) - 1):
            faults.append(f"{where}: frame {pfn:#x} is not aligned to the order")
    return found.pfns, faults


def _zone_free(zone: Zone, faults: list[str]) -> dict[str, Json]:
    """Every area of a zone, walked."""
    areas: list[Json] = []
    pages = 0
    counts = zone.nr_free()
    for order in range(MAX_ORDER):
        lists: dict[str, Json] = {}
        blocks = 0
        for mt in range(MIGRATE_TYPES) if zone.spanned_pages else ():
            pfns, wrong = _area_faults(zone, order, mt)
            faults += wrong
            blocks += len(pfns)
            lists[MIGRATETYPE_NAMES[mt]] = len(pfns)
            if mt != MIGRATE_ISOLATE:
                pages += len(pfns) << order
        if blocks != counts[order]:
            faults.append(
                f"zone {zone.nid}:{zone.name} free_area[{order}]: nr_free {counts[order]}, but "
                f"{blocks} blocks are on its lists"
            )
        address = unsigned(PAGE_OFFSET + ((zone.word + Z_FREE_AREA + order * FA_WORDS) << 3))
        areas.append(
            {
                "order": order,
                "address": address,
                "nr_free": counts[order],
                "blocks": blocks,
                "lists": lists,
            }
        )
    counter = zone_page_state_snapshot(zone, NR_FREE_PAGES)
    if counter != pages:
        faults.append(
            f"zone {zone.nid}:{zone.name}: {pages} pages are on its lists, but nr_free_pages with "
            f"the CPUs' differences is {counter}"
        )
    return {
        "node": zone.nid,
        "zone": zone.name,
        "size": zone.spanned_pages,
        "free": counter,
        "listed": pages,
        "start_pfn": zone.start_pfn,
        "areas": areas,
    }


def _zone_text(zone: Zone, data: dict[str, Json]) -> str:
    first = unsigned(page_va(zone.start_pfn))
    text = "ZONE  NAME        SIZE    FREE      MEM_MAP       START_PADDR  START_MAPNR\n"
    text += f" {zone.zid:2}   {zone.name:<8} {data['size']:>7} {data['free']:>7}  {first:016x}  "
    text += f"{zone.start_pfn << 12:11x}  {zone.start_pfn:11}\n"
    if not zone.spanned_pages:
        return text
    text += "AREA    SIZE  FREE_AREA_STRUCT  BLOCKS  PAGES\n"
    areas = data["areas"]
    assert isinstance(areas, list)
    for area in areas:
        order, blocks = area["order"], area["blocks"]
        size = f"{4 << order}k"
        text += f"{order:3} {size:>8}  {area['address']:016x} {blocks:>6} {blocks << order:>6}\n"
    return text


def _node_free(node: Node, faults: list[str]) -> tuple[str, list[dict[str, Json]]]:
    text = f"NODE\n {node.nid:2}\n"
    found = []
    for zone in node.zones:
        before = len(faults)
        data = _zone_free(zone, faults)
        found.append(data)
        text += _zone_text(zone, data)
        if zone.spanned_pages:
            proof = "verified" if len(faults) == before else "NOT VERIFIED"
            text += f"nr_free_pages: {data['free']}  ({proof})\n"
        text += "\n"
    return text, found


def kmem_free(prog: Prog) -> Report:
    """`kmem -f`: every free list walked both ways and verified against nr_free and the counter."""
    faults: list[str] = []
    text = ""
    zones: list[dict[str, Json]] = []
    for node in for_each_online_pgdat(prog):
        part, found = _node_free(node, faults)
        text += part
        zones += found
    text += "".join(f"kmem: {fault}\n" for fault in faults)
    rows = []
    for data in zones:
        areas = data["areas"]
        assert isinstance(areas, list)
        if data["size"]:
            blocks = [area["blocks"] for area in areas]
            rows.append(cells(data["node"], data["zone"], *blocks, data["listed"], data["free"]))
    orders = tuple(str(order) for order in range(MAX_ORDER))
    table = Table(
        "free lists as walked", ("node", "zone", *orders, "pages", "counter"), tuple(rows)
    )
    wrong = tuple((fault,) for fault in faults)
    tables = (table, Table("faults", ("what",), wrong)) if faults else (table,)
    report: dict[str, Json] = {"zones": list(zones), "faults": list(faults), "sound": not faults}
    return Report(text, report, tables, sound=not faults)


def _page_lines(memory: PhysicalMemory) -> Iterator[str]:
    pages = MemMap(memory)
    yield "      PAGE        PHYSICAL      MAPPING       INDEX CNT FLAGS\n"
    columns = zip(
        pages.flags.tolist(),
        pages.mapping.tolist(),
        pages.index.tolist(),
        pages.refcount.tolist(),
        pages.valid.tolist(),
        strict=True,
    )
    for pfn, (flags, mapping, index, count, valid) in enumerate(columns):
        if not valid:
            continue
        names = ",".join(n for i, n in enumerate(PAGE_FLAG_NAMES) if flags >> i & 1)
        yield (
            f"{unsigned(page_va(pfn)):016x} {pfn << 12:12x} {unsigned(mapping):16x} "
            f"{unsigned(index):8x} {count:2} {unsigned(flags):x} {names}".rstrip()
            + "\n"
        )


def kmem_pages(memory: PhysicalMemory) -> Report:
    """`kmem -p`: one line a struct page."""
    lines = list(_page_lines(memory))
    rows = tuple(tuple(line.split()) for line in lines[1:])
    data: list[Json] = []
    for row in rows:
        page, phys, mapping, index, count, flags = row[:6]
        data.append(
            {
                "page": int(page, 16),
                "physical": int(phys, 16),
                "mapping": int(mapping, 16),
                "index": int(index, 16),
                "count": int(count),
                "flags": int(flags, 16),
                "flag_names": row[6].split(",") if len(row) > 6 else [],
            }
        )
    return Report("".join(lines), data)


def kmem_info(prog: Prog) -> Report:
    """`kmem -i`: pages in total, free, used, and on per-cpu lists, by zone."""
    m = words(prog)
    rows = []
    data: list[Json] = []
    total = m[G_TOTALRAM]
    for node in for_each_online_pgdat(prog):
        for zone in node.zones:
            if not zone.populated:
                continue
            free = zone_page_state_snapshot(zone, NR_FREE_PAGES)
            used = zone.managed_pages - free
            rows.append((f"{zone.nid}:{zone.name}", zone.managed_pages, free, used))
            data.append(
                {
                    "node": zone.nid,
                    "zone": zone.name,
                    "managed": zone.managed_pages,
                    "free": free,
                    "used": used,
                }
            )
    text = "                 PAGES        TOTAL      PERCENTAGE\n"
    for name, managed, free, used in rows:
        for what, pages in (("TOTAL", managed), ("FREE", free), ("USED", used)):
            size = f"{pages * 4 / 1024:.1f} MB"
            share = 100 * pages // managed if managed else 0
            text += f"{name + ' ' + what:>16} {pages:>8} {size:>12}   {share:3}% of zone\n"
    text += f"{'TOTAL MEM':>16} {total:>8} {f'{total * 4 / 1024:.1f} MB':>12}         ----\n"
    table = Table(
        "memory (pages)", ("zone", "managed", "free", "used"), tuple(cells(*row) for row in rows)
    )
    return Report(text, {"total": total, "zones": data}, (table,))


def kmem(prog: Prog, memory: PhysicalMemory, args: list[str]) -> Report:
    """`kmem -f | -p | -i | ADDRESS`. ADDRESS: physical, direct map, vmemmap, or `pfn:N`.

    Raises BadRequest for anything else."""
    if len(args) != 1:
        raise BadRequest("kmem: -f, -p, -i or one address")
    if args[0] == "-f":
        return kmem_free(prog)
    if args[0] == "-p":
        return kmem_pages(memory)
    if args[0] == "-i":
        return kmem_info(prog)
    address = parse_address(prog, args[0])
    return frame_report(prog, frame_of_address(prog, address))


def frame_of_address(prog: Prog, address: int) -> int:
    """The frame that an address is about: a struct page's own for vmemmap addresses."""
    va = address - (1 << 64) if address >> 63 else address
    offset = va - page_va(0)
    if va < 0 and offset >= 0:
        return offset >> 6
    return physical_of(prog, address) >> 12
