# SPDX-License-Identifier: GPL-2.0-only
"""What the flags word of a struct page says: node, zone and PG_ bits (include/linux/mm.h).

One function of the word alone, because every page that comes or goes is asked for all three. Hot.
"""

from __future__ import annotations

from .mm_types import NODES_MASK, NODES_PGSHIFT, PAGE_FLAGS_NEW_PAGE, ZONES_MASK, ZONES_PGSHIFT


def page_place(flags: int) -> tuple[int, int, int]:
    """Node id, zone index and PG_ bits of a page with this flags word. Hot."""
    return (
        flags >> NODES_PGSHIFT & NODES_MASK,
        flags >> ZONES_PGSHIFT & ZONES_MASK,
        flags & PAGE_FLAGS_NEW_PAGE,
    )
