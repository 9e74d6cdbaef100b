# SPDX-License-Identifier: GPL-2.0-only
"""Page faults on anonymous memory, and copy on write (mm/memory.c).

`handle_mm_fault` is called for an access that the area allows and the page tables do not (yet). It
makes the tables that are missing and then does what the entry asks for: nothing there - a frame of
zeroes, or for a mere read the zero page that all share; a frame that may not be written - a copy,
or the frame itself if nobody else has it; a swap entry - the page from swap; an entry of a file's
area - `memory_file`; a huge page if the area may have one - `huge_memory`.

All hot. Faults answer VM_FAULT_ bits: 0 or VM_FAULT_MAJOR for done, VM_FAULT_ERROR for trouble.
`vma`, `mm` and `p` (struct page) are word indices, addresses are user addresses in bytes.
"""

from __future__ import annotations

from .gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_ZERO_BIT
from .huge_memory import (
    do_huge_pmd_anonymous_page,
    do_huge_pmd_wp_page,
    huge_pmd_set_accessed,
    transparent_hugepage_enabled,
)
from .kernel_globals import G_STATIC_KEYS, KEY_MEMCG_KMEM
from .layout import (
    CPU_BLOCKS,
    CPU_EVENTS,
    CPU_NUMA_NODE,
    CPU_VMF,
    CPU_WORDS,
    EMPTY_ZERO_PAGE,
    PAGE_OFFSET,
    SECTION_PAGES,
)
from .memcg_charge import mem_cgroup_charge
from .memory_file import do_fault, wp_page_shared
from .mempolicy_vma import alloc_pages_vma
from .mlock import munlock_vma_page
from .mm_inline import (
    PG_SWAPCACHE,
    compound_head,
    get_page_p,
    lock_page,
    page_anon,
    page_to_pfn,
    total_mapcount,
    trylock_page,
    unlock_page,
)
from .mm_struct import (
    FAULT_FLAG_WRITE,
    MM_ANONPAGES,
    MM_FLAGS,
    MM_PGD,
    MM_RSS,
    MM_SWAPENTS,
    MMF_UNSTABLE,
    VM_FAULT_ERROR,
    VM_FAULT_FALLBACK,
    VM_FAULT_HWPOISON,
    VM_FAULT_MAJOR,
    VM_FAULT_OOM,
    VM_FAULT_SIGBUS,
    VM_FAULT_WRITE,
    VM_LOCKED,
    VM_SHARED,
    VM_WRITE,
    VMA_ANON_VMA,
    VMA_FLAGS,
    VMA_MM,
    VMA_OPS,
    VMA_PGOFF,
    VMA_PROT,
    VMA_START,
    VMF_ADDRESS,
    VMF_COW_PAGE,
    VMF_FLAGS,
    VMF_GFP,
    VMF_ORIG_PTE,
    VMF_PAGE,
    VMF_PGOFF,
    VMF_PMD,
    VMF_PTE,
    VMF_VMA,
)
from .mm_types import (
    P_FLAGS,
    P_MAPPING,
    P_PRIVATE,
    PAGE_MAPPING_ANON,
    PG_HEAD,
    PG_HWPOISON,
    PG_MLOCKED,
    PG_UPTODATE,
)
from .pagevec import put_page_p
from .pgtable import (
    ADDRESS_MASK,
    PFN_MASK,
    PTE_A,
    PTE_D,
    PTE_P,
    PTE_PROTNONE,
    PTE_PSE,
    PTE_RW,
    PTE_SPECIAL,
    mk_pte,
    pmd_alloc,
    pmd_trans_huge,
    pte_alloc,
    pte_pfn,
    ptep_clear_flush,
)
from .rmap import (
    RMAP_EXCLUSIVE,
    anon_vma_prepare,
    do_page_add_anon_rmap,
    mm_counter_file,
    page_add_new_anon_rmap,
    page_move_anon_rmap,
    page_remove_rmap,
)
from .swap import activate_page, lru_cache_add_active_or_unevictable
from .swap_state import lookup_swap_cache, swapin_readahead
from .swapfile import reuse_swap_page, swap_free, try_to_free_swap, vm_swap_full
from .swapops import is_hwpoison_entry, non_swap_entry, pte_to_swp_entry
from .vm_events import VM_EVENT_NAMES

ZERO_PFN = EMPTY_ZERO_PAGE >> 9
PGFAULT = CPU_EVENTS + VM_EVENT_NAMES.index("pgfault")
PGMAJFAULT = CPU_EVENTS + VM_EVENT_NAMES.index("pgmajfault")


def vm_normal_page(m: memoryview, pte: int) -> int:
    """Struct page of a present entry, 0 for the zero page, which nobody counts. Hot."""
    if pte & PTE_SPECIAL:
        return 0
    pfn = (pte if pte & PTE_P else ~pte) >> 12 & PFN_MASK
    return m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)


def maybe_mkwrite(m: memoryview, pte: int, vma: int) -> int:
    """The entry, writable if the area is. Hot."""
    return pte | PTE_RW if m[vma + VMA_FLAGS] & VM_WRITE else pte


def do_anonymous_page(
    m: memoryview, cpu: int, mm: int, vma: int, address: int, flags: int, pmd: int
) -> int:
    """First touch of a page of an anonymous area: VM_FAULT_ bits. Hot."""
    vm_flags = m[vma + VMA_FLAGS]
    if vm_flags & VM_SHARED:
        return VM_FAULT_SIGBUS
    if m[pmd] & PTE_P:
        pte = ((m[pmd] & ADDRESS_MASK) >> 3) + (address >> 12 & 511)
    else:
        pte = pte_alloc(m, cpu, mm, pmd, address)
        if pte == 0:
            return VM_FAULT_OOM
    if flags & FAULT_FLAG_WRITE == 0:
        m[pte] = mk_pte(ZERO_PFN, m[vma + VMA_PROT]) | PTE_SPECIAL
        return 0
    if m[vma + VMA_ANON_VMA] == 0 and anon_vma_prepare(m, cpu, vma):
        return VM_FAULT_OOM
    pfn = alloc_pages_vma(
        m,
        cpu,
        GFP_HIGHUSER_MOVABLE | GFP_ZERO_BIT,
        0,
        vma,
        address,
        m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE],
    )
    if pfn < 0:
        return VM_FAULT_OOM
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if m[G_STATIC_KEYS] & KEY_MEMCG_KMEM and mem_cgroup_charge(m, cpu, p, GFP_KERNEL):
        put_page_p(m, cpu, p)
        return VM_FAULT_OOM
    if m[mm + MM_FLAGS] & MMF_UNSTABLE:
        put_page_p(m, cpu, p)
        return VM_FAULT_SIGBUS
    m[p + P_FLAGS] |= PG_UPTODATE
    entry = (pfn << 12) | m[vma + VMA_PROT]
    if vm_flags & VM_WRITE:
        entry |= PTE_RW | PTE_D
    m[mm + MM_RSS + MM_ANONPAGES] += 1
    page_add_new_anon_rmap(m, cpu, p, vma, address, False)
    lru_cache_add_active_or_unevictable(m, cpu, p, vma)
    m[pte] = entry
    return 0


def wp_page_copy(
    m: memoryview, cpu: int, mm: int, vma: int, address: int, pte: int, old: int
) -> int:
    """Gives the process its own copy of the page at `pte` (`old`: its struct page with a reference
    held, 0 for the zero page): VM_FAULT_ bits. Hot."""
    orig = m[pte]
    pfn = -1
    if m[vma + VMA_ANON_VMA] or anon_vma_prepare(m, cpu, vma) == 0:
        gfp = GFP_HIGHUSER_MOVABLE if old else GFP_HIGHUSER_MOVABLE | GFP_ZERO_BIT
        pfn = alloc_pages_vma(
            m, cpu, gfp, 0, vma, address, m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
        )
    if pfn < 0:
        if old:
            put_page_p(m, cpu, old)
        return VM_FAULT_OOM
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    if mem_cgroup_charge(m, cpu, p, GFP_KERNEL):
        put_page_p(m, cpu, p)
        if old:
            put_page_p(m, cpu, old)
        return VM_FAULT_OOM
    if m[pte] != orig:
        # reclaim for the new page has unmapped the old one
        put_page_p(m, cpu, p)
        if old:
            put_page_p(m, cpu, old)
        return 0
    if old:
        source = pte_pfn(orig) << 9
        m[pfn << 9 : (pfn << 9) + 512] = m[source : source + 512]
        if m[old + P_MAPPING] & PAGE_MAPPING_ANON == 0 and not page_anon(m, old):
            m[mm + MM_RSS + mm_counter_file(m, old)] -= 1
            m[mm + MM_RSS + MM_ANONPAGES] += 1
    else:
        m[mm + MM_RSS + MM_ANONPAGES] += 1
    m[p + P_FLAGS] |= PG_UPTODATE
    entry = maybe_mkwrite(m, mk_pte(pfn, m[vma + VMA_PROT]) | PTE_D, vma)
    ptep_clear_flush(m, cpu, vma, address, pte)
    page_add_new_anon_rmap(m, cpu, p, vma, address, False)
    lru_cache_add_active_or_unevictable(m, cpu, p, vma)
    m[pte] = entry
    if old:
        page_remove_rmap(m, cpu, old, False)
        put_page_p(m, cpu, old)
        if m[vma + VMA_FLAGS] & VM_LOCKED and m[old + P_FLAGS] & PG_MLOCKED:
            lock_page(m, old)
            munlock_vma_page(m, cpu, old)
            unlock_page(m, old)
        put_page_p(m, cpu, old)
    return VM_FAULT_WRITE


def do_wp_page(m: memoryview, cpu: int, mm: int, vma: int, address: int, pte: int) -> int:
    """A write to a present page that may not be written yet: VM_FAULT_ bits. Hot."""
    orig = m[pte]
    p = vm_normal_page(m, orig)
    if p == 0:
        return wp_page_copy(m, cpu, mm, vma, address, pte, 0)
    flags = m[vma + VMA_FLAGS]
    if m[p + P_MAPPING] & PAGE_MAPPING_ANON or page_anon(m, p):
        head = compound_head(m, p)
        if trylock_page(m, head):
            reuse = reuse_swap_page(m, cpu, p)
            # other parts of a huge page may still be mapped by others, who must find it
            if reuse and (m[head] & PG_HEAD == 0 or total_mapcount(m, head) == 1):
                page_move_anon_rmap(m, p, vma)
            unlock_page(m, head)
            if reuse:
                m[pte] = maybe_mkwrite(m, orig | PTE_A | PTE_D, vma)
                return VM_FAULT_WRITE
    elif flags & (VM_WRITE | VM_SHARED) == VM_WRITE | VM_SHARED:
        vmf = set_vmf(m, cpu, vma, address, FAULT_FLAG_WRITE)
        m[vmf + VMF_PTE] = pte
        m[vmf + VMF_ORIG_PTE] = orig
        m[vmf + VMF_PAGE] = p
        return wp_page_shared(m, cpu, vmf)
    get_page_p(m, p)
    return wp_page_copy(m, cpu, mm, vma, address, pte, p)


def set_vmf(m: memoryview, cpu: int, vma: int, address: int, flags: int) -> int:
    """Fills in this CPU's vm_fault: its word index. Hot."""
    vmf = CPU_BLOCKS + cpu * CPU_WORDS + CPU_VMF
    m[vmf + VMF_VMA] = vma
    m[vmf + VMF_FLAGS] = flags
    m[vmf + VMF_GFP] = GFP_HIGHUSER_MOVABLE
    m[vmf + VMF_ADDRESS] = address & -4096
    m[vmf + VMF_PGOFF] = (address - m[vma + VMA_START] >> 12) + m[vma + VMA_PGOFF]
    m[vmf + VMF_PMD] = 0
    m[vmf + VMF_PTE] = 0
    m[vmf + VMF_ORIG_PTE] = 0
    m[vmf + VMF_PAGE] = 0
    m[vmf + VMF_COW_PAGE] = 0
    return vmf


def do_swap_page(
    m: memoryview, cpu: int, mm: int, vma: int, address: int, flags: int, pte: int
) -> int:
    """The entry names a swap slot: brings the page back, VM_FAULT_ bits. Hot."""
    orig = m[pte]
    entry = pte_to_swp_entry(orig)
    if non_swap_entry(entry):
        # a page on its way to another frame will be there at the next try
        return VM_FAULT_HWPOISON if is_hwpoison_entry(entry) else 0
    said = 0
    p = lookup_swap_cache(m, cpu, entry, vma, address)
    if p == 0:
        p = swapin_readahead(m, cpu, entry, GFP_HIGHUSER_MOVABLE, vma, address)
        if p == 0:
            return VM_FAULT_OOM
        said = VM_FAULT_MAJOR
        m[CPU_BLOCKS + cpu * CPU_WORDS + PGMAJFAULT] += 1
    if m[p + P_FLAGS] & PG_HWPOISON:
        put_page_p(m, cpu, p)
        return VM_FAULT_HWPOISON
    lock_page(m, p)
    if m[p + P_FLAGS] & PG_SWAPCACHE == 0 or m[p + P_PRIVATE] != entry or m[pte] != orig:
        unlock_page(m, p)
        put_page_p(m, cpu, p)
        return said
    if m[p + P_FLAGS] & PG_UPTODATE == 0:
        unlock_page(m, p)
        put_page_p(m, cpu, p)
        return said | VM_FAULT_SIGBUS
    if mem_cgroup_charge(m, cpu, p, GFP_KERNEL):
        unlock_page(m, p)
        put_page_p(m, cpu, p)
        return said | VM_FAULT_OOM
    m[mm + MM_RSS + MM_ANONPAGES] += 1
    m[mm + MM_RSS + MM_SWAPENTS] -= 1
    new = mk_pte(page_to_pfn(m, p), m[vma + VMA_PROT])
    exclusive = 0
    if flags & FAULT_FLAG_WRITE and reuse_swap_page(m, cpu, p):
        new = maybe_mkwrite(m, new | PTE_D, vma)
        flags &= ~FAULT_FLAG_WRITE
        said |= VM_FAULT_WRITE
        exclusive = RMAP_EXCLUSIVE
    m[pte] = new
    do_page_add_anon_rmap(m, cpu, p, vma, address & -4096, exclusive)
    activate_page(m, cpu, p)
    swap_free(m, cpu, entry)
    if vm_swap_full(m) or m[vma + VMA_FLAGS] & VM_LOCKED or m[p + P_FLAGS] & PG_MLOCKED:
        try_to_free_swap(m, cpu, p)
    unlock_page(m, p)
    if flags & FAULT_FLAG_WRITE:
        said |= do_wp_page(m, cpu, mm, vma, address, pte)
        if said & VM_FAULT_ERROR:
            said &= VM_FAULT_ERROR
    return said


def handle_pte_fault(
    m: memoryview, cpu: int, mm: int, vma: int, address: int, flags: int, pmd: int
) -> int:
    """A fault below PMD entry `pmd`, which is no huge page: VM_FAULT_ bits. Hot."""
    pte = 0
    orig = 0
    if m[pmd] & PTE_P:
        pte = ((m[pmd] & ADDRESS_MASK) >> 3) + (address >> 12 & 511)
        orig = m[pte]
    if orig == 0:
        if m[vma + VMA_OPS] == 0:
            return do_anonymous_page(m, cpu, mm, vma, address, flags, pmd)
        vmf = set_vmf(m, cpu, vma, address, flags)
        m[vmf + VMF_PMD] = pmd
        return do_fault(m, cpu, vmf)
    if orig & (PTE_P | PTE_PROTNONE) == 0:
        return do_swap_page(m, cpu, mm, vma, address, flags, pte)
    if flags & FAULT_FLAG_WRITE:
        if orig & PTE_RW == 0:
            return do_wp_page(m, cpu, mm, vma, address, pte)
        orig |= PTE_D
    orig |= PTE_A
    if m[pte] != orig:
        m[pte] = orig
    return 0


def handle_mm_fault(m: memoryview, cpu: int, vma: int, address: int, flags: int) -> int:
    """Serves an access to `address` that its area `vma` allows: VM_FAULT_ bits. Hot."""
    m[CPU_BLOCKS + cpu * CPU_WORDS + PGFAULT] += 1
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    pmd = 0
    entry = m[((m[mm + MM_PGD] - PAGE_OFFSET) >> 3) + (address >> 39 & 511)]
    if entry & PTE_P:
        entry = m[((entry & ADDRESS_MASK) >> 3) + (address >> 30 & 511)]
        if entry & PTE_P:
            pmd = ((entry & ADDRESS_MASK) >> 3) + (address >> 21 & 511)
    if pmd == 0:
        pmd = pmd_alloc(m, cpu, mm, address)
        if pmd == 0:
            return VM_FAULT_OOM
    entry = m[pmd]
    if entry == 0:
        if transparent_hugepage_enabled(m, vma) and m[vma + VMA_OPS] == 0:
            said = do_huge_pmd_anonymous_page(m, cpu, mm, vma, address, flags, pmd)
            if said & VM_FAULT_FALLBACK == 0:
                return said
    elif entry & PTE_PSE and pmd_trans_huge(entry):
        if flags & FAULT_FLAG_WRITE and entry & PTE_RW == 0:
            said = do_huge_pmd_wp_page(m, cpu, mm, vma, address, pmd)
            if said & VM_FAULT_FALLBACK == 0:
                return said
        else:
            huge_pmd_set_accessed(m, flags, pmd)
            return 0
    return handle_pte_fault(m, cpu, mm, vma, address, flags, pmd)
