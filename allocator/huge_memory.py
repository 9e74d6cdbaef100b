# SPDX-License-Identifier: GPL-2.0-only
"""Transparent huge pages: faults that get 2 MiB at once (mm/huge_memory.c).

An anonymous area that allows it (always, or by madvise) is served with huge pages where a whole
aligned 2 MiB lies in it and the allocator has a block of order 9; otherwise the fault falls back to
a small page. Reading first maps the huge zero page. With every huge entry a table is laid by, see
`huge_pmd_split`.

All hot; `pmd` is the word index of the PMD entry. Faults answer VM_FAULT_ bits, VM_FAULT_FALLBACK
for "take small pages".
"""

from __future__ import annotations

from .deferred_split import prep_transhuge_page
from .gfp import (
    GFP_DIRECT_RECLAIM_BIT,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_KSWAPD_RECLAIM_BIT,
    GFP_MOVABLE_BIT,
    GFP_NORETRY_BIT,
    GFP_TRANSHUGE,
    GFP_TRANSHUGE_LIGHT,
    GFP_ZERO_BIT,
)
from .huge_pmd_split import (
    HPAGE_PMD_NR,
    HPAGE_PMD_ORDER,
    huge_zero_pfn,
    pgtable_deposit,
    pgtable_withdraw,
    split_huge_pmd,
)
from .kernel_globals import G_HUGE_ZERO_PAGE, G_HUGE_ZERO_REFS, G_THP_FLAGS, G_TLB_GEN
from .layout import CPU_BLOCKS, CPU_EVENTS, CPU_WORDS, EMPTY_ZERO_PAGE, SECTION_PAGES, VMEMMAP_START
from .memcg_charge import mem_cgroup_charge
from .mempolicy import alloc_pages_current
from .mempolicy_vma import alloc_hugepage_vma, alloc_pages_vma
from .mm_inline import get_page_p, lock_page, unlock_page
from .mm_struct import (
    FAULT_FLAG_WRITE,
    MM_ANONPAGES,
    MM_RSS,
    VM_FAULT_FALLBACK,
    VM_FAULT_OOM,
    VM_FAULT_WRITE,
    VM_HUGEPAGE,
    VM_NOHUGEPAGE,
    VM_WRITE,
    VMA_ANON_VMA,
    VMA_END,
    VMA_FLAGS,
    VMA_OPS,
    VMA_PROT,
    VMA_START,
)
from .mm_types import P_FLAGS, PG_UPTODATE
from .pagevec import put_page_p
from .pgtable import (
    PMD_SIZE,
    PTE_A,
    PTE_D,
    PTE_PSE,
    PTE_RW,
    PTE_TABLE,
    mk_pte,
    pmd_pfn,
    pmd_trans_huge,
    pte_alloc_one,
    pte_free,
    pte_modify,
)
from .rmap import anon_vma_prepare, page_add_new_anon_rmap, page_dup_rmap, page_remove_rmap
from .slab_common import kmalloc
from .slub import kfree
from .swap import lru_cache_add_active_or_unevictable
from .swap_state import free_page_and_swap_cache
from .swapfile import reuse_swap_page
from .vm_events import VM_EVENT_NAMES

THP_ALWAYS = 1 << 0
THP_MADVISE = 1 << 1
THP_DEFRAG_DIRECT = 1 << 2
THP_DEFRAG_KSWAPD = 1 << 3
THP_DEFRAG_KSWAPD_OR_MADV = 1 << 4
THP_DEFRAG_MADV = 1 << 5
THP_DEFRAG_KHUGEPAGED = 1 << 6
THP_USE_ZERO_PAGE = 1 << 7
THP_DEFAULT = THP_MADVISE | THP_DEFRAG_MADV | THP_DEFRAG_KHUGEPAGED | THP_USE_ZERO_PAGE
EVENTS = {name: CPU_EVENTS + VM_EVENT_NAMES.index(name) for name in VM_EVENT_NAMES if "thp" in name}
THP_FAULT_ALLOC = EVENTS["thp_fault_alloc"]
THP_FAULT_FALLBACK = EVENTS["thp_fault_fallback"]
THP_ZERO_PAGE_ALLOC = EVENTS["thp_zero_page_alloc"]
THP_ZERO_PAGE_ALLOC_FAILED = EVENTS["thp_zero_page_alloc_failed"]
EAGAIN, ENOMEM = 11, 12


def transparent_hugepage_enabled(m: memoryview, vma: int) -> bool:
    """True if faults in the area may get huge pages. Hot."""
    flags = m[G_THP_FLAGS]
    if flags & (THP_ALWAYS | THP_MADVISE) == 0:
        return False
    vm_flags = m[vma + VMA_FLAGS]
    if vm_flags & VM_NOHUGEPAGE:
        return False
    return flags & THP_ALWAYS != 0 or vm_flags & VM_HUGEPAGE != 0


def alloc_hugepage_direct_gfpmask(m: memoryview, vma: int) -> int:
    """How hard a fault in the area may try for a huge page, as gfp flags. Hot."""
    flags = m[G_THP_FLAGS]
    madvised = m[vma + VMA_FLAGS] & VM_HUGEPAGE != 0
    if flags & THP_DEFRAG_DIRECT:
        return GFP_TRANSHUGE if madvised else GFP_TRANSHUGE | GFP_NORETRY_BIT
    if flags & THP_DEFRAG_KSWAPD:
        return GFP_TRANSHUGE_LIGHT | GFP_KSWAPD_RECLAIM_BIT
    if flags & THP_DEFRAG_KSWAPD_OR_MADV:
        return GFP_TRANSHUGE_LIGHT | (
            GFP_DIRECT_RECLAIM_BIT if madvised else GFP_KSWAPD_RECLAIM_BIT
        )
    if flags & THP_DEFRAG_MADV and madvised:
        return GFP_TRANSHUGE_LIGHT | GFP_DIRECT_RECLAIM_BIT
    return GFP_TRANSHUGE_LIGHT


def alloc_huge(m: memoryview, cpu: int, vma: int, haddr: int) -> int:
    """A huge page for the area, prepared: its first PFN or -1. Hot."""
    gfp = alloc_hugepage_direct_gfpmask(m, vma)
    pfn = alloc_hugepage_vma(m, cpu, gfp, vma, haddr, HPAGE_PMD_ORDER)
    if pfn >= 0:
        prep_transhuge_page(m, m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3))
    return pfn


def mk_huge_pmd(m: memoryview, vma: int, pfn: int) -> int:
    """A huge entry for a page of the area's own, writable if the area is. Hot."""
    entry = mk_pte(pfn, m[vma + VMA_PROT] | PTE_PSE) | PTE_D
    return entry | PTE_RW if m[vma + VMA_FLAGS] & VM_WRITE else entry


def get_huge_zero_page(m: memoryview, cpu: int) -> int:
    """First PFN of the huge zero page, allocated at the first use and kept; -1 without memory.
    Hot."""
    pfn = huge_zero_pfn(m)
    if pfn < 0:
        gfp = (GFP_TRANSHUGE | GFP_ZERO_BIT) & ~GFP_MOVABLE_BIT
        pfn = alloc_pages_current(m, cpu, gfp, HPAGE_PMD_ORDER)
        if pfn < 0:
            m[CPU_BLOCKS + cpu * CPU_WORDS + THP_ZERO_PAGE_ALLOC_FAILED] += 1
            return -1
        m[CPU_BLOCKS + cpu * CPU_WORDS + THP_ZERO_PAGE_ALLOC] += 1
        m[G_HUGE_ZERO_PAGE] = VMEMMAP_START + (pfn << 6)
    m[G_HUGE_ZERO_REFS] += 1
    return pfn


def map_huge_zero_page(m: memoryview, cpu: int, mm: int, vma: int, pmd: int) -> int:
    """A read of an area that is still empty: maps the huge zero page. VM_FAULT_ bits. Hot."""
    frame = pte_alloc_one(m, cpu, mm)
    if frame < 0:
        return VM_FAULT_OOM
    zero = get_huge_zero_page(m, cpu)
    if zero < 0:
        pte_free(m, cpu, mm, frame)
        m[CPU_BLOCKS + cpu * CPU_WORDS + THP_FAULT_FALLBACK] += 1
        return VM_FAULT_FALLBACK
    pgtable_deposit(m, pmd, frame)
    m[pmd] = mk_pte(zero, m[vma + VMA_PROT] | PTE_PSE) & ~PTE_RW
    return 0


def do_huge_pmd_anonymous_page(
    m: memoryview, cpu: int, mm: int, vma: int, address: int, flags: int, pmd: int
) -> int:
    """First touch of 2 MiB of an anonymous area: VM_FAULT_ bits. Hot."""
    haddr = address & -PMD_SIZE
    if haddr < m[vma + VMA_START] or haddr + PMD_SIZE > m[vma + VMA_END]:
        return VM_FAULT_FALLBACK
    if m[vma + VMA_ANON_VMA] == 0 and anon_vma_prepare(m, cpu, vma):
        return VM_FAULT_OOM
    if flags & FAULT_FLAG_WRITE == 0 and m[G_THP_FLAGS] & THP_USE_ZERO_PAGE:
        return map_huge_zero_page(m, cpu, mm, vma, pmd)
    pfn = alloc_huge(m, cpu, vma, haddr)
    if pfn < 0:
        m[CPU_BLOCKS + cpu * CPU_WORDS + THP_FAULT_FALLBACK] += 1
        return VM_FAULT_FALLBACK
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if mem_cgroup_charge(m, cpu, p, GFP_TRANSHUGE):
        put_page_p(m, cpu, p)
        m[CPU_BLOCKS + cpu * CPU_WORDS + THP_FAULT_FALLBACK] += 1
        return VM_FAULT_FALLBACK
    frame = pte_alloc_one(m, cpu, mm)
    if frame < 0:
        put_page_p(m, cpu, p)
        return VM_FAULT_OOM
    clear_huge_page(m, pfn)
    m[p + P_FLAGS] |= PG_UPTODATE
    page_add_new_anon_rmap(m, cpu, p, vma, haddr, True)
    lru_cache_add_active_or_unevictable(m, cpu, p, vma)
    pgtable_deposit(m, pmd, frame)
    m[pmd] = mk_huge_pmd(m, vma, pfn)
    m[mm + MM_RSS + MM_ANONPAGES] += HPAGE_PMD_NR
    m[CPU_BLOCKS + cpu * CPU_WORDS + THP_FAULT_ALLOC] += 1
    return 0


def clear_huge_page(m: memoryview, pfn: int) -> None:
    """Fills a huge page with zeroes. Hot."""
    for i in range(HPAGE_PMD_NR):
        w = (pfn + i) << 9
        m[w : w + 512] = m[EMPTY_ZERO_PAGE : EMPTY_ZERO_PAGE + 512]


def put_waiting_pages(m: memoryview, cpu: int, waiting: int, count: int) -> None:
    """Gives the first `count` pages of a list of frame numbers back, and the list. Hot."""
    for i in range(count):
        pfn = m[waiting + i]
        put_page_p(m, cpu, m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3))
    kfree(m, cpu, waiting)


def copy_to_small_pages(m: memoryview, cpu: int, vma: int, haddr: int, pmd: int, p: int) -> int:
    """No huge page for a copy: the process gets 512 small ones, VM_FAULT_ bits; 0 if the entry is
    no longer what it was. Hot (do_huge_pmd_wp_page_fallback)."""
    orig = m[pmd]
    source = pmd_pfn(orig)
    nid = m[p + P_FLAGS] >> 58 & 63
    waiting = kmalloc(m, cpu, HPAGE_PMD_NR * 8, GFP_KERNEL)
    if waiting == 0:
        return VM_FAULT_OOM
    for i in range(HPAGE_PMD_NR):
        pfn = alloc_pages_vma(m, cpu, GFP_HIGHUSER_MOVABLE, 0, vma, haddr, nid)
        if pfn >= 0:
            q = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
            if mem_cgroup_charge(m, cpu, q, GFP_KERNEL):
                put_page_p(m, cpu, q)
                pfn = -1
        if pfn < 0:
            put_waiting_pages(m, cpu, waiting, i)
            return VM_FAULT_OOM
        m[waiting + i] = pfn
    if m[pmd] != orig:
        # reclaim for the copies has split the huge page
        put_waiting_pages(m, cpu, waiting, HPAGE_PMD_NR)
        return 0
    m[G_TLB_GEN] += 1
    frame = pgtable_withdraw(m, pmd)
    at = frame << 9
    for i in range(HPAGE_PMD_NR):
        pfn = m[waiting + i]
        w = (source + i) << 9
        m[pfn << 9 : (pfn << 9) + 512] = m[w : w + 512]
        q = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        m[q + P_FLAGS] |= PG_UPTODATE
        page_add_new_anon_rmap(m, cpu, q, vma, haddr + (i << 12), False)
        lru_cache_add_active_or_unevictable(m, cpu, q, vma)
        entry = mk_pte(pfn, m[vma + VMA_PROT]) | PTE_D
        m[at + i] = entry | PTE_RW if m[vma + VMA_FLAGS] & VM_WRITE else entry
    kfree(m, cpu, waiting)
    m[pmd] = (frame << 12) | PTE_TABLE
    page_remove_rmap(m, cpu, p, True)
    put_page_p(m, cpu, p)
    return VM_FAULT_WRITE


def do_huge_pmd_wp_page(m: memoryview, cpu: int, mm: int, vma: int, address: int, pmd: int) -> int:
    """A write to a huge page that may not be written yet: VM_FAULT_ bits. Hot."""
    haddr = address & -PMD_SIZE
    orig = m[pmd]
    source = pmd_pfn(orig)
    p = 0
    if source != huge_zero_pfn(m):
        p = m[SECTION_PAGES + (source >> 15 << 2)] + (source << 3)
        lock_page(m, p)
        reuse = reuse_swap_page(m, cpu, p)
        unlock_page(m, p)
        if reuse:
            entry = orig | PTE_A | PTE_D
            m[pmd] = entry | PTE_RW if m[vma + VMA_FLAGS] & VM_WRITE else entry
            return VM_FAULT_WRITE
        get_page_p(m, p)
    pfn = -1
    if transparent_hugepage_enabled(m, vma):
        pfn = alloc_huge(m, cpu, vma, haddr)
    if pfn >= 0:
        new = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        if mem_cgroup_charge(m, cpu, new, GFP_TRANSHUGE):
            put_page_p(m, cpu, new)
            pfn = -1
    if pfn < 0:
        m[CPU_BLOCKS + cpu * CPU_WORDS + THP_FAULT_FALLBACK] += 1
        said = VM_FAULT_OOM
        if p:
            said = copy_to_small_pages(m, cpu, vma, haddr, pmd, p)
            put_page_p(m, cpu, p)
        if said & VM_FAULT_OOM:
            if pmd_trans_huge(m[pmd]):
                split_huge_pmd(m, cpu, vma, pmd, address)
            return VM_FAULT_FALLBACK
        return said
    m[CPU_BLOCKS + cpu * CPU_WORDS + THP_FAULT_ALLOC] += 1
    if m[pmd] != orig:
        # reclaim for the new page has split the old one
        put_page_p(m, cpu, m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3))
        if p:
            put_page_p(m, cpu, p)
        return 0
    if p:
        for i in range(HPAGE_PMD_NR):
            w = (source + i) << 9
            m[pfn + i << 9 : (pfn + i << 9) + 512] = m[w : w + 512]
        put_page_p(m, cpu, p)
    else:
        clear_huge_page(m, pfn)
    new = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    m[new + P_FLAGS] |= PG_UPTODATE
    m[G_TLB_GEN] += 1
    page_add_new_anon_rmap(m, cpu, new, vma, haddr, True)
    lru_cache_add_active_or_unevictable(m, cpu, new, vma)
    m[pmd] = mk_huge_pmd(m, vma, pfn)
    if p:
        page_remove_rmap(m, cpu, p, True)
        put_page_p(m, cpu, p)
    else:
        m[mm + MM_RSS + MM_ANONPAGES] += HPAGE_PMD_NR
        m[G_HUGE_ZERO_REFS] -= 1
    return VM_FAULT_WRITE


def huge_pmd_set_accessed(m: memoryview, flags: int, pmd: int) -> None:
    """Another CPU has served the fault on a huge entry: notes the access. Hot."""
    m[pmd] |= PTE_A | PTE_D if flags & FAULT_FLAG_WRITE else PTE_A


def zap_huge_pmd(m: memoryview, cpu: int, mm: int, pmd: int) -> None:
    """Empties a huge entry. Hot."""
    pfn = pmd_pfn(m[pmd])
    m[pmd] = 0
    m[G_TLB_GEN] += 1
    pte_free(m, cpu, mm, pgtable_withdraw(m, pmd))
    if pfn == huge_zero_pfn(m):
        m[G_HUGE_ZERO_REFS] -= 1
        return
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    page_remove_rmap(m, cpu, p, True)
    m[mm + MM_RSS + MM_ANONPAGES] -= HPAGE_PMD_NR
    free_page_and_swap_cache(m, cpu, p)


def copy_huge_pmd(m: memoryview, cpu: int, dst: int, vma: int, to: int, at: int) -> int:
    """The child's share of a huge page at fork: 0, -ENOMEM, or -EAGAIN if it is none now. Hot."""
    if m[vma + VMA_OPS]:
        return 0
    frame = pte_alloc_one(m, cpu, dst)
    if frame < 0:
        return -ENOMEM
    if not pmd_trans_huge(m[at]):
        # reclaim for the table has split the huge page
        pte_free(m, cpu, dst, frame)
        return -EAGAIN
    pgtable_deposit(m, to, frame)
    pfn = pmd_pfn(m[at])
    if pfn == huge_zero_pfn(m):
        m[G_HUGE_ZERO_REFS] += 1
        m[to] = m[at]
        return 0
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    get_page_p(m, p)
    page_dup_rmap(m, p, True)
    m[dst + MM_RSS + MM_ANONPAGES] += HPAGE_PMD_NR
    m[at] &= ~PTE_RW
    m[to] = m[at] & ~PTE_A
    return 0


def change_huge_pmd(m: memoryview, pmd: int, prot: int) -> None:
    """Gives a huge entry the permissions `prot`. Hot."""
    m[pmd] = pte_modify(m[pmd], prot) | PTE_PSE
    m[G_TLB_GEN] += 1
