# SPDX-License-Identifier: GPL-2.0-only
"""Pages as their owners see them: counts, locks, and the LRU lists (include/linux/mm_inline.h).

A page is a struct page's word index `p`. What lists and caches hold are vmemmap addresses, which
give the PFN at once; from `p` alone the PFN needs a table, because the struct pages of different
sections lie anywhere in RAM: `memmap_index` has a word for every 2 MiB of RAM, which for a piece
that holds a section's struct pages is the word index that PFN 0 would have there.

Every node has five LRU lists: inactive and active anonymous, inactive and active file, unevictable.
Adding and removing a page moves a node counter and a zone counter by its number of small pages.
Reference counts and mapcounts share one word of the struct page (see mm_types); a compound page is
mapped as a whole (`compound_mapcount`, in its first tail) or by its small pages' own mapcounts.

All hot. Nobody sleeps here, so a page lock is a bit that the next caller must find clear.
"""

from __future__ import annotations

from .gfp import GFP_KERNEL, GFP_ZERO_BIT
from .kernel_globals import G_MEMMAP_INDEX, G_MEMMAP_INDEX_LEN
from .layout import NODE_DATA, NR_MEM_SECTIONS, PAGE_OFFSET, SECTION_PAGES, VMEMMAP_START
from .list_head import list_add, list_add_tail, list_del
from .lruvec import (
    LV_LISTS,
    LV_RECENT_ROTATED,
    LV_RECENT_SCANNED,
    lruvec_node,
    mem_cgroup_update_lru_size,
    page_lruvec,
)
from .mm_types import (
    COMPOUND_MAPCOUNT_ONE,
    COMPOUND_MAPCOUNT_SHIFT,
    MAPCOUNT_MASK,
    NODES_MASK,
    NODES_PGSHIFT,
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    P_NEXT,
    P_PREV,
    PAGE_MAPPING_ANON,
    PAGE_MAPPING_FLAGS,
    PG_ACTIVE,
    PG_HEAD,
    PG_LOCKED,
    PG_LRU,
    PG_MLOCKED,
    PG_OWNER_PRIV_1,
    PG_PRIVATE_2,
    PG_SWAPBACKED,
    PG_UNEVICTABLE,
    REF_ONE,
    REF_SHIFT,
    ZONES_MASK,
    ZONES_PGSHIFT,
)
from .mmzone import (
    LRU_ACTIVE,
    LRU_FILE,
    LRU_UNEVICTABLE,
    NR_LRU_BASE,
    NR_ZONE_LRU_BASE,
    ZONE_WORDS,
)
from .page_alloc import alloc_pages_nodemask
from .vmstat import mod_node_page_state, mod_zone_page_state

PAGES_PER_SECTION = 1 << 15
MEMMAP_PIECE = 1 << 18
MAX_INDEX_ORDER = 10
PG_SWAPCACHE = PG_OWNER_PRIV_1
PG_DOUBLE_MAP = PG_PRIVATE_2
# compound_mapcount is the s32 in the high half of this word of the head's struct pages
COMPOUND_MAPCOUNT = 8 + P_PREV
HPAGE_PMD_ORDER = 9
HPAGE_PMD_NR = 512


# --- from struct page to frame ------------------------------------------------------------------
def memmap_index_init(m: memoryview, cpu: int) -> int:
    """Builds the table behind page_to_pfn() again: 0, or -ENOMEM. Hot.

    Wanted once when owners of pages come into being, and after sections came or went.
    """
    top = 0
    for section in range(NR_MEM_SECTIONS):
        if m[SECTION_PAGES + (section << 2)]:
            top = max(top, m[SECTION_PAGES + (section << 2)] + (section << 18) + MEMMAP_PIECE)
    words = (top + MEMMAP_PIECE - 1) // MEMMAP_PIECE
    order = 0
    while 512 << order < words and order < MAX_INDEX_ORDER:
        order += 1
    words = min(words, 512 << order)
    tab = (m[G_MEMMAP_INDEX] - PAGE_OFFSET) >> 3
    if m[G_MEMMAP_INDEX] == 0 or words > m[G_MEMMAP_INDEX_LEN]:
        pfn = alloc_pages_nodemask(m, cpu, GFP_KERNEL | GFP_ZERO_BIT, order, 0, 0)
        if pfn < 0:
            return -12
        tab = pfn << 9
        m[G_MEMMAP_INDEX] = PAGE_OFFSET + (tab << 3)
        m[G_MEMMAP_INDEX_LEN] = 512 << order
    for i in range(m[G_MEMMAP_INDEX_LEN]):
        m[tab + i] = 0
    for section in range(NR_MEM_SECTIONS):
        if m[SECTION_PAGES + (section << 2)]:
            first = m[SECTION_PAGES + (section << 2)] + (section << 18)
            if first % MEMMAP_PIECE == 0 and first >> 18 < m[G_MEMMAP_INDEX_LEN]:
                m[tab + (first >> 18)] = m[SECTION_PAGES + (section << 2)]
    return 0


def page_to_pfn(m: memoryview, p: int) -> int:
    """The PFN of struct page `p`. Hot."""
    if p >> 18 < m[G_MEMMAP_INDEX_LEN]:
        base = m[(m[G_MEMMAP_INDEX] - PAGE_OFFSET >> 3) + (p >> 18)]
        if base:
            return p - base >> 3
    return page_to_pfn_slow(m, p)


def page_to_pfn_slow(m: memoryview, p: int) -> int:
    """page_to_pfn() where the table does not reach or is not built; -1 for no struct page. Hot."""
    for section in range(NR_MEM_SECTIONS):
        if m[SECTION_PAGES + (section << 2)]:
            pfn = (p - m[SECTION_PAGES + (section << 2)]) >> 3
            if pfn >> 15 == section:
                return pfn
    return -1


def page_va_of(m: memoryview, p: int) -> int:
    """The vmemmap address of struct page `p`. Hot."""
    return VMEMMAP_START + (page_to_pfn(m, p) << 6)


def va_to_page(m: memoryview, va: int) -> int:
    """The struct page at vmemmap address `va`, 0 for 0. Hot."""
    if va == 0:
        return 0
    pfn = (va - VMEMMAP_START) >> 6
    return m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)


def page_node(m: memoryview, p: int) -> int:
    """Word index of the pglist_data that page `p` is on. Hot."""
    return (m[NODE_DATA + (m[p] >> NODES_PGSHIFT & NODES_MASK)] - PAGE_OFFSET) >> 3


# --- counts ---------------------------------------------------------------------------------------
def compound_head(m: memoryview, p: int) -> int:
    """The head if `p` is a tail page, else `p`. Hot."""
    va = m[p + P_NEXT]
    return va_to_page(m, va - 1) if va & 1 else p


def get_page_p(m: memoryview, p: int) -> None:
    """One more reference to the page or its compound page (get_page). Hot."""
    m[(compound_head(m, p) if m[p + P_NEXT] & 1 else p) + P_COUNTS] += REF_ONE


def page_count(m: memoryview, p: int) -> int:
    """References to the page or its compound page. Hot."""
    return m[compound_head(m, p) + P_COUNTS] >> REF_SHIFT


def hpage_nr_pages(m: memoryview, p: int) -> int:
    """Small pages in the page with head `p`. Hot."""
    if m[p] & PG_HEAD:
        return 1 << (m[p + 8 + P_PREV] >> 8 & 0xFF)
    return 1


def atomic_s32(word: int) -> int:
    """The low half of a word as a signed number. Hot."""
    low = word & MAPCOUNT_MASK
    return low - (1 << 32) if low >> 31 else low


def compound_mapcount(m: memoryview, p: int) -> int:
    """How often the compound page with head `p` is mapped as a whole. Hot."""
    return (m[p + COMPOUND_MAPCOUNT] >> COMPOUND_MAPCOUNT_SHIFT) + 1


def inc_mapcount(m: memoryview, w: int) -> bool:
    """Adds 1 to the s32 in the low half of word `w`; True if it was -1 (inc_and_test). Hot."""
    word = m[w]
    if word & MAPCOUNT_MASK == MAPCOUNT_MASK:
        m[w] = word - MAPCOUNT_MASK
        return True
    m[w] = word + 1
    return False


def dec_mapcount(m: memoryview, w: int) -> bool:
    """Takes 1 off the s32 in the low half of word `w`; True if it is -1 now (add_negative). Hot."""
    word = m[w]
    if word & MAPCOUNT_MASK == 0:
        m[w] = word + MAPCOUNT_MASK
        return True
    m[w] = word - 1
    return False


def inc_compound_mapcount(m: memoryview, p: int) -> bool:
    """Maps the compound page with head `p` as a whole once more; True if it was not. Hot."""
    word = m[p + COMPOUND_MAPCOUNT] + COMPOUND_MAPCOUNT_ONE
    m[p + COMPOUND_MAPCOUNT] = word
    return word >> COMPOUND_MAPCOUNT_SHIFT == 0


def dec_compound_mapcount(m: memoryview, p: int) -> bool:
    """One mapping of the compound page with head `p` as a whole less; True if none is left. Hot."""
    word = m[p + COMPOUND_MAPCOUNT] - COMPOUND_MAPCOUNT_ONE
    m[p + COMPOUND_MAPCOUNT] = word
    return word >> COMPOUND_MAPCOUNT_SHIFT == -1


def page_mapcount(m: memoryview, p: int) -> int:
    """Page-table entries that map this small page, those of whole compound pages too. Hot."""
    count = atomic_s32(m[p + P_COUNTS]) + 1
    if m[p + P_NEXT] & 1 or m[p] & PG_HEAD:
        head = compound_head(m, p)
        # a file's compound page counts whole mappings in every small page already
        if m[head + P_MAPPING] & PAGE_MAPPING_ANON:
            count += compound_mapcount(m, head)
            if m[head + 8] & PG_DOUBLE_MAP:
                count -= 1
    return count


def total_mapcount(m: memoryview, p: int) -> int:
    """Page-table entries that map any part of the page with head `p`. Hot."""
    if m[p] & PG_HEAD == 0:
        return atomic_s32(m[p + P_COUNTS]) + 1
    compound = compound_mapcount(m, p)
    nr = hpage_nr_pages(m, p)
    total = compound
    for i in range(nr):
        total += atomic_s32(m[p + 8 * i + P_COUNTS]) + 1
    if m[p + P_MAPPING] & PAGE_MAPPING_ANON == 0:
        return total - compound * nr
    return total - nr if m[p + 8] & PG_DOUBLE_MAP else total


def page_mapped(m: memoryview, p: int) -> bool:
    """True if any page-table entry maps the page, or any part of its compound page. Hot."""
    if m[p + P_NEXT] & 1 == 0 and m[p] & PG_HEAD == 0:
        return m[p + P_COUNTS] & 0x80000000 == 0
    head = compound_head(m, p)
    if compound_mapcount(m, head) > 0:
        return True
    for i in range(hpage_nr_pages(m, head)):
        if m[head + 8 * i + P_COUNTS] & 0x80000000 == 0:
            return True
    return False


# --- what a page is -------------------------------------------------------------------------------
def page_anon(m: memoryview, p: int) -> bool:
    """True for an anonymous page, or a part of one (PageAnon). Hot."""
    return m[compound_head(m, p) + P_MAPPING] & PAGE_MAPPING_ANON != 0


def page_anon_vma(m: memoryview, p: int) -> int:
    """Word index of the anon_vma of anonymous page `p` (a head), 0 if it is none. Hot."""
    mapping = m[p + P_MAPPING]
    if mapping & PAGE_MAPPING_FLAGS != PAGE_MAPPING_ANON:
        return 0
    return (mapping - PAGE_MAPPING_ANON - PAGE_OFFSET) >> 3


def page_is_file_cache(m: memoryview, p: int) -> int:
    """1 if the page counts as file cache: it has no swap behind it. Hot."""
    return 0 if m[p] & PG_SWAPBACKED else 1


def page_evictable(m: memoryview, p: int) -> bool:
    """True unless the page is mlocked (there are no unevictable mappings). Hot."""
    return m[p] & PG_MLOCKED == 0


def trylock_page(m: memoryview, p: int) -> bool:
    """Locks the page; False if it is locked. Hot."""
    if m[p] & PG_LOCKED:
        return False
    m[p] |= PG_LOCKED
    return True


def lock_page(m: memoryview, p: int) -> int:
    """Locks the page: 0, or -1 where the kernel would sleep for ever. Hot."""
    return 0 if trylock_page(m, p) else -1


def unlock_page(m: memoryview, p: int) -> None:
    """Unlocks the page. Hot."""
    m[p] &= ~PG_LOCKED


# --- the LRU lists --------------------------------------------------------------------------------
def page_lru_base_type(m: memoryview, p: int) -> int:
    """The inactive list of the page's kind. Hot."""
    return 0 if m[p] & PG_SWAPBACKED else LRU_FILE


def page_lru(m: memoryview, p: int) -> int:
    """The list that the page's flags say it is on. Hot."""
    flags = m[p]
    if flags & PG_UNEVICTABLE:
        return LRU_UNEVICTABLE
    lru = 0 if flags & PG_SWAPBACKED else LRU_FILE
    return lru + LRU_ACTIVE if flags & PG_ACTIVE else lru


def page_off_lru(m: memoryview, p: int) -> int:
    """page_lru(), with the flags that say so cleared, for a page about to be freed. Hot."""
    lru = page_lru(m, p)
    m[p] &= ~(PG_UNEVICTABLE if lru == LRU_UNEVICTABLE else PG_ACTIVE)
    return lru


def update_lru_size(m: memoryview, cpu: int, lv: int, lru: int, zid: int, nr: int) -> None:
    """Adds `nr` pages to the counters of a list, of its node, zone and group. Hot."""
    nd = lruvec_node(m, lv)
    mod_node_page_state(m, cpu, nd, NR_LRU_BASE + lru, nr)
    mod_zone_page_state(m, cpu, nd + zid * ZONE_WORDS, NR_ZONE_LRU_BASE + lru, nr)
    mem_cgroup_update_lru_size(m, nd, lv, lru, zid, nr)


def add_page_to_lru_list(m: memoryview, cpu: int, p: int, lv: int, lru: int) -> None:
    """Puts the page at the head of a list. Hot."""
    nr = hpage_nr_pages(m, p)
    update_lru_size(m, cpu, lv, lru, m[p] >> ZONES_PGSHIFT & ZONES_MASK, nr)
    list_add(m, p + P_NEXT, page_va_of(m, p) + 8, lv + LV_LISTS + 2 * lru)


def add_page_to_lru_list_tail(m: memoryview, cpu: int, p: int, lv: int, lru: int) -> None:
    """Puts the page at the tail of a list: the next to be reclaimed. Hot."""
    nr = hpage_nr_pages(m, p)
    update_lru_size(m, cpu, lv, lru, m[p] >> ZONES_PGSHIFT & ZONES_MASK, nr)
    list_add_tail(m, p + P_NEXT, page_va_of(m, p) + 8, lv + LV_LISTS + 2 * lru)


def del_page_from_lru_list(m: memoryview, cpu: int, p: int, lv: int, lru: int) -> None:
    """Takes the page off its list. Hot."""
    list_del(m, p + P_NEXT)
    nr = -hpage_nr_pages(m, p)
    update_lru_size(m, cpu, lv, lru, m[p] >> ZONES_PGSHIFT & ZONES_MASK, nr)


def update_page_reclaim_stat(m: memoryview, lv: int, file: int, rotated: int) -> None:
    """Counts a page as scanned, and perhaps rotated, for the anon or file balance. Hot."""
    m[lv + LV_RECENT_SCANNED + file] += 1
    if rotated:
        m[lv + LV_RECENT_ROTATED + file] += 1


def page_cache_release(m: memoryview, cpu: int, p: int) -> None:
    """Takes a page without references off its LRU list (__page_cache_release). Hot."""
    if m[p + P_FLAGS] & PG_LRU:
        m[p] &= ~PG_LRU
        del_page_from_lru_list(m, cpu, p, page_lruvec(m, p), page_off_lru(m, p))
