# SPDX-License-Identifier: GPL-2.0-only
"""What page_owner does when it starts: the pages that were allocated before it could watch.

page_owner can only be told of allocations once page_ext exists. init_early_allocated_pages() then
walks every zone and gives each page that is neither free nor reserved an owner of order 0 with no
gfp mask and no known site, as mm/page_owner.c does; page_ext's own pages are among them. Work goes
by section with NumPy.
"""

from __future__ import annotations

import numpy as np

from .boot_context import BootContext, populated_zones
from .debug_guardpage import EXT_FLAGS, PAGE_EXT_OWNER, PAGE_EXT_WORDS
from .layout import (
    MEM_SECTION,
    PAGE_OFFSET,
    PFN_SECTION_SHIFT,
    SECTION_PAGE_EXT,
)
from .memmap_init import page_rows, section_spans
from .mm_types import (
    COUNTS_BUDDY,
    MAPCOUNT_MASK,
    P_COUNTS,
    P_FLAGS,
    P_PRIVATE,
    PG_RESERVED,
    ZONEID_MASK,
    ZONEID_PGSHIFT,
)
from .mmzone import MAX_ORDER, Z_NODE, Z_SPANNED, Z_START_PFN, ZONE_NAMES
from .page_owner import EXT_OWNER, NO_MIGRATE_REASON, REASON_SHIFT
from .pcp import zone_idx


def init_early_allocated_pages(ctx: BootContext) -> None:
    """An owner for every page that is in use now, and a line of log for each zone."""
    m = ctx.m
    for z in populated_zones(m):
        zid = zone_idx(m, z)
        start, end = m[z + Z_START_PFN], m[z + Z_START_PFN] + m[z + Z_SPANNED]
        zone_id = m[z + Z_NODE] << 2 | zid
        count = sum(_init_section(ctx, zone_id, lo, hi) for lo, hi in section_spans(m, start, end))
        ctx.printk(
            f"Node {m[z + Z_NODE]}, zone {ZONE_NAMES[zid]:>8s}: "
            f"page owner found early allocated {count} pages"
        )


def _init_section(ctx: BootContext, zone_id: int, start: int, end: int) -> int:
    """The frames [start, end) of one section; how many got an owner."""
    va = ctx.m[SECTION_PAGE_EXT + (start >> PFN_SECTION_SHIFT) * MEM_SECTION.words]
    if not va:
        return 0
    rows = page_rows(ctx, start, end)
    at = (va - PAGE_OFFSET >> 3) + (start & (1 << PFN_SECTION_SHIFT) - 1) * PAGE_EXT_WORDS
    ext = ctx.q[at : at + (end - start) * PAGE_EXT_WORDS].reshape(-1, PAGE_EXT_WORDS)
    buddy = (rows[:, P_COUNTS] & MAPCOUNT_MASK) == COUNTS_BUDDY
    heads = np.flatnonzero(buddy)
    orders = np.clip(rows[heads, P_PRIVATE], 0, MAX_ORDER - 1)
    steps = np.zeros(end - start + 1, dtype=np.int64)
    np.add.at(steps, heads, 1)
    np.subtract.at(steps, np.minimum(heads + (1 << orders), end - start), 1)
    used = np.cumsum(steps[:-1]) == 0
    used &= (rows[:, P_FLAGS] & PG_RESERVED) == 0
    used &= (rows[:, P_FLAGS] >> ZONEID_PGSHIFT & ZONEID_MASK) == zone_id
    used &= (ext[:, EXT_FLAGS] & PAGE_EXT_OWNER) == 0
    ext[used, EXT_OWNER] = NO_MIGRATE_REASON << REASON_SHIFT
    ext[used, EXT_FLAGS] |= PAGE_EXT_OWNER
    return int(np.count_nonzero(used))
