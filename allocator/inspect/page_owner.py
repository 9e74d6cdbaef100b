# SPDX-License-Identifier: GPL-2.0-only
"""debugfs page_owner: who allocated every page, one paragraph a block (mm/page_owner.c).

The text is print_page_owner()'s, so that tools/vm/page_owner_sort groups it. Where the kernel
prints a stack trace there are two lines here, the allocator's entry and the guest address that the
request came from; a request from Python has no such address and says so, where 4.20 would leave the
page out. (The stock tool takes for granted that a paragraph is at least 100 bytes long.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import BadRequest
from ..gfp import GFP_MOVABLE_MASK, GFP_MOVABLE_SHIFT, format_gfp
from ..helpers.mm import PageBuddy, for_each_valid_page_range
from ..helpers.mmzone import get_pageblock_migratetype
from ..helpers.prog import Prog, words
from ..kernel_globals import G_MAX_PFN, G_MOBILITY_DISABLED, G_STATIC_KEYS, KEY_PAGE_OWNER
from ..layout import unsigned
from ..mmzone import MAX_ORDER, MIGRATETYPE_NAMES, PAGEBLOCK_ORDER
from ..page_owner import page_owner_of
from ..views import Page
from .fields import Json, Report, Table, cells

MIGRATE_REASONS = (
    "compaction",
    "memory_failure",
    "memory_hotplug",
    "syscall_or_cpuset",
    "mempolicy_mbind",
    "numa_misplaced",
    "contig_range",
)
MIN_LOW_PFN = 1


@dataclass(frozen=True)
class Owner:
    """One allocated block: its first PFN, order, gfp mask, address of the request, pid, reason of
    the last migration (-1: never), both migratetypes (of the request and of the pageblock)."""

    pfn: int
    order: int
    gfp: int
    site: int
    pid: int
    reason: int
    page_type: str
    block_type: str
    flags: int
    flag_names: tuple[str, ...]


def for_each_owner(prog: Prog) -> Iterator[Owner]:
    """Every allocated block in PFN order. Raises BadRequest unless page_owner=on was given."""
    m = words(prog)
    if not m[G_STATIC_KEYS] & KEY_PAGE_OWNER:
        raise BadRequest("page owners are not kept: boot with page_owner=on")
    for start, end in for_each_valid_page_range(prog):
        pfn = max(start, MIN_LOW_PFN)
        while pfn < min(end, m[G_MAX_PFN]):
            page = Page(m, pfn)
            if PageBuddy(page):
                pfn += 1 << page.private if 0 <= page.private < MAX_ORDER else 1
                continue
            order, gfp, reason, site, pid = page_owner_of(m, pfn)
            if order >= 0:
                wanted = 0
                if not m[G_MOBILITY_DISABLED]:
                    wanted = (gfp & GFP_MOVABLE_MASK) >> GFP_MOVABLE_SHIFT
                yield Owner(
                    pfn=pfn,
                    order=order,
                    gfp=gfp,
                    site=unsigned(site),
                    pid=pid,
                    reason=reason,
                    page_type=MIGRATETYPE_NAMES[wanted],
                    block_type=MIGRATETYPE_NAMES[get_pageblock_migratetype(page)],
                    flags=page.flags,
                    flag_names=page.flag_names,
                )
            pfn += 1


def format_owner(owner: Owner) -> str:
    """One paragraph, with its closing empty line."""
    names = format_gfp(owner.gfp) if owner.gfp else ""
    text = f"Page allocated via order {owner.order}, mask {owner.gfp:#x}({names})\n"
    text += f"PFN {owner.pfn} type {owner.page_type} Block {owner.pfn >> PAGEBLOCK_ORDER} "
    text += f"type {owner.block_type} Flags {owner.flags:#x}({'|'.join(owner.flag_names)})\n"
    text += " __alloc_pages_nodemask\n"
    if owner.site:
        text += f" hypercall at guest address {owner.site:#018x}\n"
    else:
        text += " request from outside (no guest address)\n"
    if 0 <= owner.reason < len(MIGRATE_REASONS):
        reason = MIGRATE_REASONS[owner.reason]
        text += f"Page has been migrated, last migrate reason: {reason}\n"
    return text + "\n"


def page_owner(prog: Prog) -> Report:
    """All paragraphs; on a terminal grouped by order, mask, types and place of the request.

    Raises BadRequest unless page_owner=on was given."""
    owners = list(for_each_owner(prog))
    groups: dict[tuple[int, int, str, int], int] = {}
    data: list[Json] = []
    for owner in owners:
        key = (owner.order, owner.gfp, owner.page_type, owner.site)
        groups[key] = groups.get(key, 0) + 1
        data.append(
            {
                "pfn": owner.pfn,
                "order": owner.order,
                "gfp": owner.gfp,
                "gfp_flags": format_gfp(owner.gfp),
                "site": owner.site,
                "pid": owner.pid,
                "type": owner.page_type,
                "pageblock_type": owner.block_type,
                "flags": owner.flags,
            }
        )
    rows = tuple(
        cells(times, order, format_gfp(gfp), mt, f"{site:#x}" if site else "")
        for (order, gfp, mt, site), times in sorted(groups.items(), key=lambda item: -item[1])
    )
    table = Table("owners of allocated blocks", ("times", "order", "mask", "type", "from"), rows)
    return Report("".join(format_owner(owner) for owner in owners), data, (table,))
