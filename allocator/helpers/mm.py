# SPDX-License-Identifier: GPL-2.0-only
"""Pages: finding them, converting their addresses, reading their flags (include/linux/mm.h).

Names are drgn's. A `Page` takes the place of `struct page *`, addresses are unsigned ints (bytes),
PFNs are ints. A physical or virtual address need not be a page boundary where the kernel's own
macro does not ask for one. `page_to_virt` and friends speak of the direct map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..kernel_globals import G_TOTALRAM
from ..layout import (
    PAGE_OFFSET,
    PAGES_PER_SECTION,
    PFN_SECTION_SHIFT,
    SECTION_PAGES,
    VMEMMAP_START,
    unsigned,
)
from ..mm_types import (
    MAPCOUNT_MASK,
    NR_PAGEFLAGS,
    P_COUNTS,
    P_FLAGS,
    P_MAPPING,
    P_NEXT,
    P_PREV,
    PAGE_FLAG_NAMES,
    PAGE_MAPPING_FLAGS,
    PAGE_SHIFT,
    PAGE_SIZE,
    PG_BALLOON_TYPE,
    PG_BUDDY_TYPE,
    PG_HEAD,
    PG_KMEMCG_TYPE,
    PG_OWNER_PRIV_1,
    PG_SWAPBACKED,
    PG_TABLE_TYPE,
    STRUCT_PAGE_SIZE,
)
from ..views import Page, pfn_valid
from .mmzone import for_each_present_section, valid_section_nr
from .prog import Prog, words

PAGE_TYPE_BASE = 0xF0000000
MAX_PHYSADDR = 1 << 46
_DIRECT = unsigned(PAGE_OFFSET)
_VMEMMAP = unsigned(VMEMMAP_START)


# --- walking ------------------------------------------------------------------------------------


def for_each_valid_page_range(prog: Prog) -> Iterator[tuple[int, int]]:
    """Runs of frames that have a struct page: (first PFN, one past the last PFN)."""
    start = end = -1
    for nr in for_each_present_section(prog):
        if not valid_section_nr(prog, nr):
            continue
        first = nr << PFN_SECTION_SHIFT
        if first != end:
            if start >= 0:
                yield start, end
            start = first
        end = first + PAGES_PER_SECTION
    if start >= 0:
        yield start, end


def for_each_page(prog: Prog) -> Iterator[Page]:
    """Every struct page, in PFN order, those of holes inside a section included."""
    m = words(prog)
    for start, end in for_each_valid_page_range(prog):
        for pfn in range(start, end):
            yield Page(m, pfn)


def for_each_valid_pfn_and_page(prog: Prog) -> Iterator[tuple[int, Page]]:
    """Every PFN that has a struct page, with it."""
    return ((page.pfn, page) for page in for_each_page(prog))


# --- converting -----------------------------------------------------------------------------------


def PFN_PHYS(pfn: int) -> int:  # noqa: N802
    """Physical address of a PFN."""
    return pfn << PAGE_SHIFT


def PHYS_PFN(addr: int) -> int:  # noqa: N802
    """PFN of a physical address."""
    return addr >> PAGE_SHIFT


def pfn_to_page(prog: Prog, pfn: int) -> Page:
    """The struct page of a PFN. Raises LookupError where no section is present."""
    m = words(prog)
    if not pfn_valid(m, pfn):
        raise LookupError(f"frame {pfn:#x} has no struct page")
    return Page(m, pfn)


def page_to_pfn(page: Page) -> int:
    """PFN of a page."""
    return page.pfn


def page_to_phys(page: Page) -> int:
    """Physical address of the frame."""
    return page.phys


def page_to_virt(page: Page) -> int:
    """Direct-map address of the frame."""
    return page.virt


def phys_to_virt(addr: int) -> int:
    """Direct-map address of a physical address."""
    return unsigned(PAGE_OFFSET + addr)


def virt_to_phys(addr: int) -> int:
    """Physical address of a direct-map address. Raises LookupError for any other address."""
    phys = unsigned(addr) - _DIRECT
    if not 0 <= phys < MAX_PHYSADDR:
        raise LookupError(f"{unsigned(addr):#x} is not in the direct map")
    return phys


def virt_to_pfn(addr: int) -> int:
    """PFN of a direct-map address. Raises LookupError for any other address."""
    return PHYS_PFN(virt_to_phys(addr))


def pfn_to_virt(pfn: int) -> int:
    """Direct-map address of a PFN."""
    return phys_to_virt(PFN_PHYS(pfn))


def phys_to_page(prog: Prog, addr: int) -> Page:
    """The page that holds a physical address."""
    return pfn_to_page(prog, PHYS_PFN(addr))


def virt_to_page(prog: Prog, addr: int) -> Page:
    """The page that holds a direct-map address."""
    return pfn_to_page(prog, virt_to_pfn(addr))


def in_direct_map(prog: Prog, addr: int) -> bool:
    """True if `addr` is a direct-map address of a frame that has a struct page."""
    phys = unsigned(addr) - _DIRECT
    return 0 <= phys < MAX_PHYSADDR and pfn_valid(words(prog), phys >> PAGE_SHIFT)


def page_of_address(prog: Prog, addr: int) -> Page:
    """The page whose struct page holds vmemmap address `addr`. Raises LookupError."""
    offset = unsigned(addr) - _VMEMMAP
    if not 0 <= offset < STRUCT_PAGE_SIZE << 34:
        raise LookupError(f"{unsigned(addr):#x} is not in vmemmap")
    return pfn_to_page(prog, offset // STRUCT_PAGE_SIZE)


# --- flags ----------------------------------------------------------------------------------------


def page_flags(page: Page) -> int:
    """page->flags, unsigned: PG_ bits, zone and node."""
    return page.flags


def decode_page_flags_value(flags: int) -> str:
    """Names of the PG_ bits of a flags word, joined by "|"; "0" if none is set."""
    names = [f"PG_{name}" for i, name in enumerate(PAGE_FLAG_NAMES) if flags >> i & 1]
    return "|".join(names) or "0"


def decode_page_flags(page: Page) -> str:
    """Names of the PG_ bits of a page, joined by "|"; "0" if none is set."""
    return decode_page_flags_value(page.flags)


def get_page_flags(page: Page) -> int:
    """The PG_ bits alone, without node and zone."""
    return page.flags & (1 << NR_PAGEFLAGS) - 1


def _flag(name: str, what: str) -> Callable[[Page], bool]:
    bit = PAGE_FLAG_NAMES.index(name)

    def test(page: Page) -> bool:
        return bool(page.m[page.word + P_FLAGS] >> bit & 1)

    test.__doc__ = f"True if PG_{name} is set: {what}."
    return test


PageLocked = _flag("locked", "somebody holds the page lock")
PageReferenced = _flag("referenced", "used since the LRU looked last")
PageUptodate = _flag("uptodate", "its contents are valid")
PageDirty = _flag("dirty", "has to be written back")
PageLRU = _flag("lru", "on an LRU list")
PageActive = _flag("active", "on an active LRU list")
PageWorkingset = _flag("workingset", "was in the working set when it was evicted")
PageWaiters = _flag("waiters", "somebody waits for one of its bits")
PageError = _flag("error", "an I/O error happened")
PageSlab = _flag("slab", "belongs to the slab allocator")
PageOwnerPriv1 = _flag("owner_priv_1", "the owner's own; PG_swapcache on swap-backed pages")
PageReserved = _flag("reserved", "not the allocator's to give")
PagePrivate = _flag("private", "page->private is in use")
PagePrivate2 = _flag("private_2", "the file system's second bit")
PageWriteback = _flag("writeback", "being written back")
PageHead = _flag("head", "first page of a compound page")
PageMappedToDisk = _flag("mappedtodisk", "has blocks on disk")
PageReclaim = _flag("reclaim", "to be reclaimed as soon as it is clean")
PageSwapBacked = _flag("swapbacked", "goes to swap, not to a file")
PageUnevictable = _flag("unevictable", "must stay in memory")
PageMlocked = _flag("mlocked", "in an mlocked area")
PageUncached = _flag("uncached", "mapped uncached")
PageHWPoison = _flag("hwpoison", "its memory is broken")


def _type(bit: int, what: str) -> Callable[[Page], bool]:
    def test(page: Page) -> bool:
        word = page.m[page.word + P_COUNTS] & MAPCOUNT_MASK
        return word & (PAGE_TYPE_BASE | bit) == PAGE_TYPE_BASE

    test.__doc__ = f"True if page_type says so: {what}."
    return test


PageBuddy = _type(PG_BUDDY_TYPE, "head of a free block on a buddy list")
PageBalloon = _type(PG_BALLOON_TYPE, "given to the balloon driver")
PageKmemcg = _type(PG_KMEMCG_TYPE, "charged to a memory cgroup as kernel memory")
PageTable = _type(PG_TABLE_TYPE, "a page table")


def PageTail(page: Page) -> bool:  # noqa: N802
    """True for every page of a compound page but the first."""
    return bool(page.m[page.word + P_NEXT] & 1)


def PageCompound(page: Page) -> bool:  # noqa: N802
    """True for every page of a compound page."""
    return bool(PageHead(page)) or PageTail(page)


def PageAnon(page: Page) -> bool:  # noqa: N802
    """True if the page (its head, for a tail) is anonymous memory."""
    head = compound_head(page)
    return bool(head.m[head.word + P_MAPPING] & 1)


def PageKsm(page: Page) -> bool:  # noqa: N802
    """True for a page merged by KSM."""
    head = compound_head(page)
    return head.m[head.word + P_MAPPING] & PAGE_MAPPING_FLAGS == PAGE_MAPPING_FLAGS


def PageSwapCache(page: Page) -> bool:  # noqa: N802
    """True if the page is in the swap cache."""
    both = PG_SWAPBACKED | PG_OWNER_PRIV_1
    return compound_head(page).flags & both == both


# --- compound pages -------------------------------------------------------------------------------


def compound_head(page: Page) -> Page:
    """The first page of the compound page that `page` belongs to, or `page` itself."""
    word = page.m[page.word + P_NEXT]
    if not word & 1:
        return page
    return Page(page.m, (word - 1 - VMEMMAP_START) // STRUCT_PAGE_SIZE)


def compound_order(page: Page) -> int:
    """Order of the compound page that `page` heads; 0 for any other page."""
    if not page.m[page.word + P_FLAGS] & PG_HEAD:
        return 0
    m, pfn = page.m, page.pfn + 1
    return m[m[SECTION_PAGES + (pfn >> PFN_SECTION_SHIFT << 2)] + (pfn << 3) + P_PREV] >> 8 & 0xFF


def compound_nr(page: Page) -> int:
    """Number of pages of the compound page that `page` heads; 1 for any other page."""
    return 1 << compound_order(page)


def page_size(page: Page) -> int:
    """Bytes of the (compound) page."""
    return PAGE_SIZE << compound_order(page)


def page_index(page: Page) -> int:
    """page->index."""
    return page.index


def page_count(page: Page) -> int:
    """References, taken from the head of a compound page."""
    return compound_head(page).refcount


def totalram_pages(prog: Prog) -> int:
    """Pages that were given to the buddy allocator."""
    return words(prog)[G_TOTALRAM]
