# SPDX-License-Identifier: GPL-2.0-only
"""Guard pages: buddies held back at a split so that stray accesses fault (debug_guardpage).

With debug_pagealloc=on and debug_guardpage_minorder=N, the halves of order < N that `expand` would
list become guards instead: they are on no list, PAGE_EXT_DEBUG_GUARD is set in their page_ext,
`private` holds their order and they are not counted as free. They merge back when their buddy is
freed. page_ext words live in guest RAM, one a frame, found through mem_section. All hot.
"""

from __future__ import annotations

from .kernel_globals import G_GUARDPAGE_MINORDER
from .layout import PAGE_OFFSET, SECTION_PAGE_EXT, VMEMMAP_START
from .mm_types import P_NEXT, P_PREV, P_PRIVATE
from .mmzone import MIGRATE_ISOLATE
from .vmstat import mod_zone_freepage_state

PAGE_EXT_DEBUG_GUARD = 1 << 0
PAGE_EXT_OWNER = 1 << 1
PAGE_EXT_WORDS = 4
EXT_FLAGS = 0


def page_ext_word(m: memoryview, pfn: int) -> int:
    """Word index of the page_ext of `pfn`, or -1 when page extensions are off. Hot."""
    va = m[SECTION_PAGE_EXT + (pfn >> 15 << 2)]
    if va == 0:
        return -1
    return ((va - PAGE_OFFSET) >> 3) + (pfn & 0x7FFF) * PAGE_EXT_WORDS


def page_is_guard(m: memoryview, pfn: int, p: int, order: int) -> bool:
    """True if `pfn` (struct page at word `p`) heads a guard block of `order`. Hot."""
    ext = page_ext_word(m, pfn)
    return ext >= 0 and m[ext + EXT_FLAGS] & PAGE_EXT_DEBUG_GUARD != 0 and m[p + P_PRIVATE] == order


def set_page_guard(m: memoryview, cpu: int, z: int, pfn: int, p: int, order: int, mt: int) -> bool:
    """Makes a guard of the block, if guards of this order are wanted (set_page_guard). Hot."""
    if order >= m[G_GUARDPAGE_MINORDER]:
        return False
    ext = page_ext_word(m, pfn)
    if ext < 0:
        return False
    m[ext + EXT_FLAGS] |= PAGE_EXT_DEBUG_GUARD
    va = VMEMMAP_START + (pfn << 6) + 8
    m[p + P_NEXT] = va
    m[p + P_PREV] = va
    m[p + P_PRIVATE] = order
    mod_zone_freepage_state(m, cpu, z, -(1 << order), mt)
    return True


def clear_page_guard(
    m: memoryview, cpu: int, z: int, pfn: int, p: int, order: int, mt: int
) -> None:
    """Dissolves a guard block that merges with its freed buddy (clear_page_guard). Hot."""
    m[page_ext_word(m, pfn) + EXT_FLAGS] &= ~PAGE_EXT_DEBUG_GUARD
    m[p + P_PRIVATE] = 0
    if mt != MIGRATE_ISOLATE:
        mod_zone_freepage_state(m, cpu, z, 1 << order, mt)
