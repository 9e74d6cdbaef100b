# SPDX-License-Identifier: GPL-2.0-only
"""Bad frames among free ones (mm/page_alloc.c, mm/memory-failure.c).

A bad frame in a free block needs nothing but its mark: the allocator looks before it hands pages
out. `p` is a struct page's word index.
"""

from __future__ import annotations

from .kernel_globals import G_NUM_POISONED_PAGES
from .layout import SECTION_PAGES
from .mm_types import P_PRIVATE, PG_HWPOISON
from .mmzone import MAX_ORDER
from .page_frag import pfn_is_valid
from .page_isolation import page_is_free_block


def is_free_buddy_page(m: memoryview, pfn: int) -> bool:
    """True if the frame lies in a block on the buddy lists. Hot."""
    for order in range(MAX_ORDER):
        head = pfn & -(1 << order)
        if not pfn_is_valid(m, head):
            return False
        p = m[SECTION_PAGES + (head >> 15 << 2)] + (head << 3)
        if page_is_free_block(m, p) and pfn - head < 1 << m[p + P_PRIVATE]:
            return True
    return False


def set_hwpoison_free_buddy_page(m: memoryview, pfn: int) -> bool:
    """Marks a frame that is free as bad, and counts it; False if it is not free, or bad already.
    Hot."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if m[p] & PG_HWPOISON or not is_free_buddy_page(m, pfn):
        return False
    m[p] |= PG_HWPOISON
    m[G_NUM_POISONED_PAGES] += 1
    return True
