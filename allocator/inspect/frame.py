# SPDX-License-Identifier: GPL-2.0-only
"""`kmem ADDRESS`: whose frame is this, in which state, on which list and where on it.

`locate` answers as data: the state is read off the struct page and then proved by finding the page
on the list that it should be on. `frame_report` tells it for people, with the struct page's words
and what its pointers point to. Used by `explain` for the pages before and after.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..debug_guardpage import EXT_FLAGS, PAGE_EXT_DEBUG_GUARD, page_ext_word
from ..deferred_pages import page_uninitialised
from ..errors import BadRequest
from ..gfp import format_gfp
from ..helpers.mm import (
    PageBuddy,
    PageKmemcg,
    PageReserved,
    PageTable,
    PageTail,
    compound_head,
    compound_order,
)
from ..helpers.mmzone import get_pageblock_migratetype, node_data
from ..helpers.nodemask import for_each_possible_cpu
from ..helpers.prog import Prog, words
from ..kernel_globals import G_SLAB_STATE, G_STATIC_KEYS, KEY_PAGE_OWNER
from ..layout import unsigned
from ..mm_types import MAPCOUNT_MASK, P_COUNTS, P_NEXT, P_PREV
from ..mmzone import MAX_ORDER, MIGRATE_PCPTYPES, MIGRATE_TYPES, MIGRATETYPE_NAMES, ZONE_NAMES
from ..page_owner import page_owner_of
from ..views import Page, Zone, pfn_valid
from .fields import Json, Report
from .lists import free_list, pcp_list
from .owner import Owners
from .symbols import Symbols, ordinal

FREE = "free"
PER_CPU = "per-cpu"
GUARD = "guard"
RESERVED = "reserved"
TAIL = "tail"
ALLOCATED = "allocated"
UNREFERENCED = "unreferenced"
UNINITIALISED = "uninitialised"


@dataclass(frozen=True)
class Place:
    """Where a frame is. `head`, `order`: the block that it belongs to. `migratetype`, `position`
    (from 1) and `length`: the list that holds the block, 0 of 0 when it is on none. `cpu`: whose
    per-cpu list, -1 for a buddy list."""

    state: str
    head: int
    order: int = 0
    migratetype: int = -1
    position: int = 0
    length: int = 0
    cpu: int = -1


def _position(pfns: list[int], pfn: int) -> int:
    return pfns.index(pfn) + 1 if pfn in pfns else 0


def zone_of(page: Page) -> Zone | None:
    """The zone that a page's flags name, or None if there is no such node."""
    try:
        return node_data(page.m, page.nid).zones[page.zid]
    except LookupError:
        return None


def buddy_head(page: Page) -> Page | None:
    """The head of the free block that holds `page`, or None (is_free_buddy_page)."""
    for order in range(MAX_ORDER):
        head = page.pfn & ~((1 << order) - 1)
        if pfn_valid(page.m, head):
            candidate = Page(page.m, head)
            if PageBuddy(candidate) and order <= candidate.private < MAX_ORDER:
                return candidate
    return None


def _on_free_list(zone: Zone | None, head: Page) -> Place:
    order = head.private
    for mt in range(MIGRATE_TYPES) if zone else ():
        assert zone is not None
        pfns = free_list(zone, order, mt)
        position = _position(pfns, head.pfn)
        if position:
            return Place(FREE, head.pfn, order, mt, position, len(pfns))
    return Place(FREE, head.pfn, order)


def _on_pcp_list(zone: Zone | None, page: Page) -> Place | None:
    for cpu in for_each_possible_cpu(page.m) if zone else ():
        assert zone is not None
        for mt in range(MIGRATE_PCPTYPES):
            pfns = pcp_list(zone, cpu, mt)
            position = _position(pfns, page.pfn)
            if position:
                return Place(PER_CPU, page.pfn, 0, mt, position, len(pfns), cpu)
    return None


def locate(page: Page) -> Place:
    """State and list of a frame."""
    if page_uninitialised(page.m, page.pfn):
        return Place(UNINITIALISED, page.pfn)
    zone = zone_of(page)
    head = buddy_head(page)
    if head is not None:
        return _on_free_list(zone, head)
    if PageReserved(page):
        return Place(RESERVED, page.pfn)
    if PageTail(page):
        first = compound_head(page)
        valid = pfn_valid(page.m, first.pfn)
        return Place(TAIL, first.pfn, compound_order(first) if valid else 0)
    if page.refcount == 0:
        found = _on_pcp_list(zone, page)
        if found is not None:
            return found
        ext = page_ext_word(page.m, page.pfn)
        if ext >= 0 and page.m[ext + EXT_FLAGS] & PAGE_EXT_DEBUG_GUARD:
            return Place(GUARD, page.pfn, page.private)
        return Place(UNREFERENCED, page.pfn)
    return Place(ALLOCATED, page.pfn, compound_order(page))


def describe_place(page: Page, place: Place) -> str:
    """A frame's place in one line of words."""
    listed = f", {ordinal(place.position)} of {place.length:,}" if place.position else ""
    mt = MIGRATETYPE_NAMES[place.migratetype] if place.migratetype >= 0 else "no"
    if place.state == FREE:
        part = "head" if page.pfn == place.head else f"page {page.pfn - place.head}"
        block = f"an order-{place.order} block"
        if page.pfn != place.head:
            block += f" at {place.head:#x}"
        lost = "" if place.position else " (NOT FOUND ON ANY LIST)"
        return f"free, {part} of {block} on the {mt} list{listed}{lost}"
    if place.state == PER_CPU:
        return f"free, on the {mt} list of cpu {place.cpu}{listed}"
    if place.state == GUARD:
        return f"guard page, head of an order-{place.order} block held back at a split"
    if place.state == TAIL:
        n = page.pfn - place.head
        return (
            f"allocated, tail page {n} of the order-{place.order} compound page at {place.head:#x}"
        )
    if place.state == RESERVED:
        return "reserved"
    if place.state == UNINITIALISED:
        return "not in use: its struct page is initialised when the zone grows (deferred)"
    if place.state == UNREFERENCED:
        return "no references and on no list: the inside of a block that was not made compound"
    kind = f"head of an order-{place.order} compound page" if "head" in page.flag_names else "page"
    marks = [
        name for name, test in (("page table", PageTable), ("kmemcg", PageKmemcg)) if test(page)
    ]
    return ", ".join(["allocated", kind, *marks, f"refcount {page.refcount}"])


def page_type(page: Page) -> str:
    """page_type or map count, for people."""
    word = page.m[page.word + P_COUNTS] & MAPCOUNT_MASK
    if PageBuddy(page):
        return "PageBuddy"
    if word == MAPCOUNT_MASK:
        return "none (not mapped)"
    return f"{word:#010x}" if word >> 31 else f"mapped {word + 1} times"


def _pointer(symbols: Symbols, va: int) -> str:
    name = symbols.of_virtual(va)
    return f"{unsigned(va):#018x}" + (f" ({name})" if name else "")


def struct_page_lines(page: Page, symbols: Symbols) -> list[str]:
    """The struct page's words, with what they mean in the page's state."""
    m, word = page.m, page.word
    zone = ZONE_NAMES[page.zid]
    names = " ".join(page.flag_names)
    lines = [
        f"struct page at {page.address:#018x} (physical {word << 3:#010x})",
        f"  flags       {page.flags:#018x}  node={page.nid} zone={zone} {names}".rstrip(),
    ]
    if PageTail(page):
        lines.append(f"  compound_head {_pointer(symbols, m[word + P_NEXT] - 1)}")
    else:
        lines.append(f"  lru         next {_pointer(symbols, m[word + P_NEXT])}")
        lines.append(f"              prev {_pointer(symbols, m[word + P_PREV])}")
    role = " (order)" if PageBuddy(page) else ""
    lines.append(f"  mapping     {page.mapping:#x}    index {page.index}")
    lines.append(
        f"  private     {page.private}{role}    page_type  {page_type(page)}"
        f"    refcount {page.refcount}"
    )
    if page.mem_cgroup:
        lines.append(f"  mem_cgroup  {_pointer(symbols, page.mem_cgroup)}")
    return lines


def page_data(page: Page) -> dict[str, Json]:
    """A frame as plain data: state, list, and the struct page's words."""
    place = locate(page)
    mt = place.migratetype
    return {
        "pfn": page.pfn,
        "physical": page.phys,
        "node": page.nid,
        "zone": page.zone,
        "pageblock": page.pfn >> 9,
        "pageblock_type": MIGRATETYPE_NAMES[
            min(get_pageblock_migratetype(page), MIGRATE_TYPES - 1)
        ],
        "state": place.state,
        "head": place.head,
        "order": place.order,
        "list": MIGRATETYPE_NAMES[mt] if mt >= 0 else None,
        "cpu": place.cpu if place.cpu >= 0 else None,
        "position": place.position,
        "length": place.length,
        "struct_page": page.address,
        "flags": page.flags,
        "flag_names": list(page.flag_names),
        "refcount": page.refcount,
        "mapcount": page.mapcount,
        "mapping": page.mapping,
        "index": page.index,
        "private": page.private,
        "lru": [unsigned(page.m[page.word + P_NEXT]), unsigned(page.m[page.word + P_PREV])],
    }


def frame_report(prog: Prog, pfn: int) -> Report:
    """Everything about one frame. Raises BadRequest if it has no struct page."""
    m = words(prog)
    if not pfn_valid(m, pfn):
        raise BadRequest(f"frame {pfn:#x} has no struct page: no memory section is present there")
    page = Page(m, pfn)
    symbols = Symbols(m)
    block = MIGRATETYPE_NAMES[min(get_pageblock_migratetype(page), MIGRATE_TYPES - 1)]
    lines = [
        f"frame {pfn:#x}  node {page.nid}  zone {page.zone}  pageblock {pfn >> 9} ({block})",
        describe_place(page, locate(page)),
    ]
    data = page_data(page)
    holds = symbols.in_frame(pfn)
    if holds:
        lines.append("holds " + ", ".join(holds[:6]) + (" ..." if len(holds) > 6 else ""))
        data["holds"] = holds
    if m[G_STATIC_KEYS] & KEY_PAGE_OWNER:
        order, gfp, _, site, pid = page_owner_of(m, pfn)
        if order >= 0:
            where = f" from {unsigned(site):#x}" if site else ""
            lines.append(
                f"owner: pid {pid}{where}, order {order}, mask {gfp:#x}({format_gfp(gfp)})"
            )
            data["owner"] = {"pid": pid, "site": unsigned(site), "order": order, "gfp": gfp}
    if m[G_SLAB_STATE]:
        name = Owners(m).name(pfn)
        lines.append(f"belongs to: {name}")
        data["belongs_to"] = name
    lines += struct_page_lines(page, symbols)
    return Report("\n".join(lines) + "\n", data)
