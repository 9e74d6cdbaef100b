# SPDX-License-Identifier: GPL-2.0-only
"""Pageblock bits: the migratetype and the skip hint of every 512-page block.

Four bits a block, kept per 128 MiB section in the array that mem_section's `pageblock_flags` points
to, with the bits where get_pfnblock_flags_mask() of mm/page_alloc.c finds them: sixteen blocks a
word, block 0 in the top bits, migratetype (three bits) above the skip bit. A section belongs to
addresses, not to a node: two nodes that meet inside a pageblock share its type.
"""

from __future__ import annotations

from .kernel_globals import G_MOBILITY_DISABLED
from .layout import PAGE_OFFSET, SECTION_USEMAP
from .mmzone import MIGRATE_PCPTYPES, MIGRATE_UNMOVABLE
from .spinlock import set_word_bits

_LOW61 = (1 << 61) - 1


def get_pageblock_migratetype(m: memoryview, pfn: int) -> int:
    """Migratetype of the pageblock that holds `pfn`. Hot."""
    w = ((m[SECTION_USEMAP + (pfn >> 15 << 2)] - PAGE_OFFSET) >> 3) + ((pfn >> 13) & 3)
    return (m[w] >> (61 - ((pfn >> 9) & 15) * 4)) & 7


def set_pageblock_migratetype(m: memoryview, pfn: int, mt: int) -> None:
    """Sets the migratetype of the pageblock that holds `pfn` (mm/page_alloc.c). Hot."""
    if m[G_MOBILITY_DISABLED] and mt < MIGRATE_PCPTYPES:
        mt = MIGRATE_UNMOVABLE
    w = ((m[SECTION_USEMAP + (pfn >> 15 << 2)] - PAGE_OFFSET) >> 3) + ((pfn >> 13) & 3)
    shift = 61 - ((pfn >> 9) & 15) * 4
    if shift == 61:
        # the top three bits include the sign: place the type sign-extended
        set_word_bits(m, w, ~_LOW61, ((mt ^ 4) - 4) << 61)
    else:
        set_word_bits(m, w, 7 << shift, mt << shift)


def get_pageblock_skip(m: memoryview, pfn: int) -> int:
    """1 if compaction shall skip the pageblock that holds `pfn`. Hot."""
    w = ((m[SECTION_USEMAP + (pfn >> 15 << 2)] - PAGE_OFFSET) >> 3) + ((pfn >> 13) & 3)
    return (m[w] >> (60 - ((pfn >> 9) & 15) * 4)) & 1


def set_pageblock_skip(m: memoryview, pfn: int, skip: int) -> None:
    """Sets or clears the skip hint of the pageblock that holds `pfn`. Hot."""
    w = ((m[SECTION_USEMAP + (pfn >> 15 << 2)] - PAGE_OFFSET) >> 3) + ((pfn >> 13) & 3)
    bit = 1 << (60 - ((pfn >> 9) & 15) * 4)
    if skip:
        m[w] = m[w] | bit
    else:
        m[w] = m[w] & ~bit
