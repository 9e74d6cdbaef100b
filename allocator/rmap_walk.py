# SPDX-License-Identifier: GPL-2.0-only
"""From a page to the page-table entries that map it: ageing, cleaning, unmapping (mm/rmap.c).

The areas that can map a page are in an interval tree: the anon_vma's for an anonymous page, the
file's for a page of the page cache. `rmap_root`, `rmap_vma` and the tree's iterator lead from area
to area; `next_mapping` finds the entries in one area, one for a small page, up to 512 for a huge
page that page tables map (mm/page_vma_mapped.c). On top of them: whether the page was used
(`page_referenced`), making its entries read-only and clean (`page_mkclean`), replacing them by swap
or migration entries (`try_to_unmap`), and back again (`remove_migration_ptes`).

All hot. `p` is a head's struct page, which the caller has locked and holds a reference of.
"""

from __future__ import annotations

from .address_space import AS_I_MMAP, page_mapping
from .anon_vma import AV_RB_ROOT, AVC_RB, AVC_VMA
from .huge_pmd_split import split_huge_pmd_address
from .kernel_globals import G_MMLIST
from .layout import MEM_CGROUPS, PAGE_OFFSET, SECTION_PAGES, TASK_MEMCG
from .list_head import list_add
from .memcg import is_descendant
from .mlock_page import clear_page_mlock, mlock_vma_page
from .mm_inline import (
    PG_DOUBLE_MAP,
    PG_SWAPCACHE,
    hpage_nr_pages,
    page_anon_vma,
    page_mapcount,
    page_mapped,
    page_to_pfn,
    total_mapcount,
    trylock_page,
    unlock_page,
)
from .mm_struct import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_HIWATER_RSS,
    MM_MMLIST,
    MM_OWNER,
    MM_RSS,
    MM_SHMEMPAGES,
    MM_SWAPENTS,
    VM_LOCKED,
    VM_SEQ_READ,
    VM_SHARED,
    VM_WRITE,
    VMA_ANON_VMA,
    VMA_END,
    VMA_FLAGS,
    VMA_MM,
    VMA_PGOFF,
    VMA_PROT,
    VMA_SHARED,
    VMA_START,
)
from .mm_types import (
    P_COUNTS,
    P_INDEX,
    P_MAPPING,
    P_PRIVATE,
    PAGE_MAPPING_ANON,
    PG_DIRTY,
    PG_HEAD,
    PG_HWPOISON,
    PG_MLOCKED,
    PG_SWAPBACKED,
    REF_ONE,
)
from .page_dirty import set_page_dirty
from .pagevec import put_page_p
from .pgtable import (
    PTE_A,
    PTE_D,
    PTE_P,
    PTE_PSE,
    PTE_RW,
    flush_tlb_page,
    mk_pte,
    mm_find_pmd,
    mm_find_pte,
    pmd_pfn,
    pmd_trans_huge,
    pte_pfn,
    pte_present,
    ptep_clear_flush,
)
from .rbtree import interval_tree_iter_first, interval_tree_iter_next
from .rmap import mm_counter_file, page_add_anon_rmap, page_add_file_rmap, page_remove_rmap
from .swapfile import swap_duplicate
from .swapops import (
    is_migration_entry,
    is_swap_pte,
    is_write_migration_entry,
    make_hwpoison_entry,
    make_migration_entry,
    migration_entry_to_pfn,
    pte_to_swp_entry,
    swp_entry_to_pte,
)

TTU_MIGRATION = 0x1
TTU_MUNLOCK = 0x2
TTU_SPLIT_HUGE_PMD = 0x4
TTU_IGNORE_MLOCK = 0x8
TTU_IGNORE_ACCESS = 0x10
TTU_IGNORE_HWPOISON = 0x20
TTU_BATCH_FLUSH = 0x40
TTU_RMAP_LOCKED = 0x80
TTU_SPLIT_FREEZE = 0x100
EFAULT = 14


# --- from page to areas ---------------------------------------------------------------------------
def rmap_root(m: memoryview, p: int) -> int:
    """The root of the interval tree of areas that may map page `p`; 0 for none. Hot."""
    if m[p + P_MAPPING] & PAGE_MAPPING_ANON:
        av = page_anon_vma(m, p)
        return av + AV_RB_ROOT if av else 0
    mapping = page_mapping(m, p)
    return mapping + AS_I_MMAP if mapping else 0


def rmap_vma(m: memoryview, p: int, node: int) -> int:
    """The area that a node of the tree of page `p` stands for. Hot."""
    if m[p + P_MAPPING] & PAGE_MAPPING_ANON:
        return (m[node - AVC_RB + AVC_VMA] - PAGE_OFFSET) >> 3
    return node - VMA_SHARED


def vma_address(m: memoryview, p: int, vma: int) -> int:
    """The user address at which `vma` maps page `p`, cut to the area's start. Hot."""
    start = m[vma + VMA_START]
    return max(start, start + (m[p + P_INDEX] - m[vma + VMA_PGOFF] << 12))


def page_address_in_vma(m: memoryview, p: int, vma: int) -> int:
    """The user address that page `p` has in `vma`, or -EFAULT if it cannot be there. Hot."""
    if m[p + P_MAPPING] & PAGE_MAPPING_ANON:
        av = page_anon_vma(m, p)
        va = m[vma + VMA_ANON_VMA]
        if av == 0 or va == 0 or m[av] != m[(va - PAGE_OFFSET) >> 3]:
            return -EFAULT
    else:
        root = rmap_root(m, p)
        if root == 0:
            return -EFAULT
        node = interval_tree_iter_first(m, root, m[p + P_INDEX], m[p + P_INDEX])
        while node and node != vma + VMA_SHARED:
            node = interval_tree_iter_next(m, node, m[p + P_INDEX], m[p + P_INDEX])
        if node == 0:
            return -EFAULT
    address = m[vma + VMA_START] + (m[p + P_INDEX] - m[vma + VMA_PGOFF] << 12)
    if address < m[vma + VMA_START] or address >= m[vma + VMA_END]:
        return -EFAULT
    return address


def next_mapping(m: memoryview, p: int, vma: int, address: int, pfn: int, migration: int) -> int:
    """The next user address, from `address` on, where `vma` maps a part of page `p`. Hot.

    Plus 1 if a PMD maps it there; -1 for none. `pfn` is the page's; with `migration` entries of the
    page being migrated count instead of mappings. (page_vma_mapped_walk)
    """
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    nr = hpage_nr_pages(m, p)
    base = m[vma + VMA_START] + (m[p + P_INDEX] - m[vma + VMA_PGOFF] << 12)
    end = min(m[vma + VMA_END], base + (nr << 12))
    while address < end:
        pmd = mm_find_pmd(m, mm, address)
        entry = m[pmd] if pmd else 0
        if pmd_trans_huge(entry):
            if migration == 0 and pmd_pfn(entry) == pfn:
                return address | 1
            return -1
        if is_swap_pte(entry):
            # only between the two halves of a migration is an upper entry neither table nor page
            if migration and migration_entry_to_pfn(pte_to_swp_entry(entry)) == pfn:
                return address | 1
            return -1
        if entry & (PTE_P | PTE_PSE) != PTE_P:
            address = (address >> 21) + 1 << 21
            continue
        pte = m[mm_find_pte(m, mm, address)]
        at = -1
        if migration:
            if is_swap_pte(pte) and is_migration_entry(pte_to_swp_entry(pte)):
                at = migration_entry_to_pfn(pte_to_swp_entry(pte))
        elif pte_present(pte):
            at = pte_pfn(pte)
        if pfn <= at < pfn + nr:
            return address
        address += 4096
    return -1


def page_mapped_in_vma(m: memoryview, p: int, vma: int) -> bool:
    """True if an entry of `vma` maps page `p`. Hot."""
    return next_mapping(m, p, vma, vma_address(m, p, vma), page_to_pfn(m, p), 0) >= 0


# --- ageing ---------------------------------------------------------------------------------------
def clear_young(m: memoryview, cpu: int, vma: int, at: int) -> int:
    """Clears the accessed bit of the entry at mapping `at`: 1 if it was set. Hot."""
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    w = mm_find_pmd(m, mm, at) if at & 1 else mm_find_pte(m, mm, at)
    if m[w] & PTE_A == 0:
        return 0
    m[w] &= ~PTE_A
    flush_tlb_page(m, cpu, vma, at & ~1)
    return 1


def mm_match_cgroup(m: memoryview, mm: int, memcg: int) -> bool:
    """True if the process that owns the address space is in group `memcg` or below it. Hot."""
    owner = m[mm + MM_OWNER]
    va = m[(owner - PAGE_OFFSET >> 3) + TASK_MEMCG] if owner else 0
    return is_descendant(m, va - PAGE_OFFSET >> 3 if va else MEM_CGROUPS, memcg)


def page_referenced(m: memoryview, cpu: int, p: int, is_locked: int, memcg: int) -> int:
    """How many areas have used page `p` since the last call; their accessed bits are cleared. Hot.

    The low 32 bits; above them the flags of those areas (or VM_LOCKED of one that holds the page).
    A page that somebody else has locked counts as used. With `memcg` (a word index) only areas of
    processes in that group or below it count.
    """
    if not page_mapped(m, p) or m[p + P_MAPPING] == 0:
        return 0
    locked = is_locked == 0 and m[p + P_MAPPING] & PAGE_MAPPING_ANON == 0
    if locked and not trylock_page(m, p):
        return 1
    mapcount = total_mapcount(m, p)
    pfn = page_to_pfn(m, p)
    last = m[p + P_INDEX] + hpage_nr_pages(m, p) - 1
    referenced = vm_flags = 0
    root = rmap_root(m, p)
    node = interval_tree_iter_first(m, root, m[p + P_INDEX], last) if root else 0
    while node:
        vma = rmap_vma(m, p, node)
        node = interval_tree_iter_next(m, node, m[p + P_INDEX], last)
        if memcg and not mm_match_cgroup(m, (m[vma + VMA_MM] - PAGE_OFFSET) >> 3, memcg):
            continue
        used = 0
        at = next_mapping(m, p, vma, vma_address(m, p, vma), pfn, 0)
        if at >= 0 and m[vma + VMA_FLAGS] & VM_LOCKED:
            vm_flags |= VM_LOCKED
            break
        while at >= 0:
            young = clear_young(m, cpu, vma, at)
            # reading a mapping once through is no use of it, but a huge page's counts
            if young and (at & 1 or m[vma + VMA_FLAGS] & VM_SEQ_READ == 0):
                used += 1
            mapcount -= 1
            if at & 1:
                break
            at = next_mapping(m, p, vma, at + 4096, pfn, 0)
        if used:
            referenced += 1
            vm_flags |= m[vma + VMA_FLAGS]
        if mapcount == 0:
            break
    if locked:
        unlock_page(m, p)
    return referenced | (vm_flags & 0x7FFFFFFF) << 32


def page_mkclean(m: memoryview, cpu: int, p: int) -> int:
    """Makes all shared entries of file page `p` clean and read-only: how many were not. Hot."""
    if not page_mapped(m, p) or page_mapping(m, p) == 0:
        return 0
    cleaned = 0
    pfn = page_to_pfn(m, p)
    root = rmap_root(m, p)
    node = interval_tree_iter_first(m, root, m[p + P_INDEX], m[p + P_INDEX]) if root else 0
    while node:
        vma = rmap_vma(m, p, node)
        if m[vma + VMA_FLAGS] & VM_SHARED:
            at = next_mapping(m, p, vma, vma_address(m, p, vma), pfn, 0)
            if at >= 0 and at & 1 == 0:
                w = mm_find_pte(m, (m[vma + VMA_MM] - PAGE_OFFSET) >> 3, at)
                if m[w] & (PTE_D | PTE_RW):
                    m[w] &= ~(PTE_D | PTE_RW)
                    flush_tlb_page(m, cpu, vma, at)
                    cleaned += 1
        node = interval_tree_iter_next(m, node, m[p + P_INDEX], m[p + P_INDEX])
    return cleaned


# --- unmapping ------------------------------------------------------------------------------------
def update_hiwater_rss(m: memoryview, mm: int) -> None:
    """Remembers the most pages that an address space has had. Hot."""
    rss = m[mm + MM_RSS + MM_FILEPAGES] + m[mm + MM_RSS + MM_ANONPAGES]
    rss += m[mm + MM_RSS + MM_SHMEMPAGES]
    m[mm + MM_HIWATER_RSS] = max(m[mm + MM_HIWATER_RSS], rss)


def unmapped_anon_entry(m: memoryview, mm: int, p: int, sub: int, w: int, pte: int) -> bool:
    """Leaves the swap entry of anonymous page `sub` in the entry at `w`. Hot.

    False if `pte` had to be put back: no more swap references, or a lazyfree page dirtied again.
    """
    flags = m[p]
    if flags & PG_SWAPBACKED == 0:
        if flags & PG_SWAPCACHE:
            m[w] = pte
            return False
        if flags & PG_DIRTY == 0:
            m[mm + MM_RSS + MM_ANONPAGES] -= 1
            return True
        m[w] = pte
        m[p] |= PG_SWAPBACKED
        return False
    if flags & PG_SWAPCACHE == 0 or swap_duplicate(m, m[sub + P_PRIVATE]) < 0:
        m[w] = pte
        return False
    node = mm + MM_MMLIST
    if m[node] == PAGE_OFFSET + (node << 3):
        list_add(m, node, PAGE_OFFSET + (node << 3), G_MMLIST)
    m[mm + MM_RSS + MM_ANONPAGES] -= 1
    m[mm + MM_RSS + MM_SWAPENTS] += 1
    m[w] = swp_entry_to_pte(m[sub + P_PRIVATE])
    return True


def unmap_pte(m: memoryview, cpu: int, p: int, vma: int, at: int, flags: int) -> bool:
    """Replaces the entry at user address `at`, which maps a part of page `p`; False: stop. Hot."""
    mm = (m[vma + VMA_MM] - PAGE_OFFSET) >> 3
    w = mm_find_pte(m, mm, at)
    if flags & TTU_IGNORE_ACCESS == 0 and clear_young(m, cpu, vma, at):
        return False
    pfn = pte_pfn(m[w])
    sub = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    pte = ptep_clear_flush(m, cpu, vma, at, w)
    if pte & PTE_D:
        set_page_dirty(m, cpu, p)
    update_hiwater_rss(m, mm)
    anon = m[p + P_MAPPING] & PAGE_MAPPING_ANON
    # (4.20 would leave traps for all parts of a huge page that is split for a bad head)
    if m[p] & PG_HWPOISON and flags & (TTU_IGNORE_HWPOISON | TTU_SPLIT_FREEZE) == 0:
        m[w] = swp_entry_to_pte(make_hwpoison_entry(pfn))
        m[mm + MM_RSS + (MM_ANONPAGES if anon else mm_counter_file(m, p))] -= 1
    elif flags & (TTU_MIGRATION | TTU_SPLIT_FREEZE):
        m[w] = swp_entry_to_pte(make_migration_entry(pfn, pte & PTE_RW))
    elif anon:
        if not unmapped_anon_entry(m, mm, p, sub, w, pte):
            return False
    else:
        m[mm + MM_RSS + mm_counter_file(m, p)] -= 1
    page_remove_rmap(m, cpu, sub, 0)
    put_page_p(m, cpu, p)
    return True


def unmap_pmd(m: memoryview, cpu: int, p: int, vma: int, at: int) -> None:
    """Replaces the huge entry at user address `at` by a migration entry. Hot.

    (set_pmd_migration_entry of mm/huge_memory.c)
    """
    w = mm_find_pmd(m, (m[vma + VMA_MM] - PAGE_OFFSET) >> 3, at)
    pmd = ptep_clear_flush(m, cpu, vma, at, w)
    if pmd & PTE_D:
        set_page_dirty(m, cpu, p)
    m[w] = swp_entry_to_pte(make_migration_entry(pmd_pfn(pmd), pmd & PTE_RW))
    page_remove_rmap(m, cpu, p, 1)
    put_page_p(m, cpu, p)


def try_to_unmap_one(m: memoryview, cpu: int, p: int, vma: int, flags: int) -> bool:
    """Unmaps page `p` from one area; False if the walk should end. Hot."""
    if flags & TTU_MUNLOCK and m[vma + VMA_FLAGS] & VM_LOCKED == 0:
        return True
    address = vma_address(m, p, vma)
    pfn = page_to_pfn(m, p)
    if flags & TTU_SPLIT_HUGE_PMD:
        split_huge_pmd_address(m, cpu, vma, address)
    at = next_mapping(m, p, vma, address, pfn, 0)
    while at >= 0:
        if flags & TTU_IGNORE_MLOCK == 0:
            if m[vma + VMA_FLAGS] & VM_LOCKED:
                if m[p] & PG_HEAD == 0:
                    mlock_vma_page(m, cpu, p)
                return False
            if flags & TTU_MUNLOCK:
                return True
        if at & 1:
            at &= ~1
            if flags & TTU_MIGRATION:
                unmap_pmd(m, cpu, p, vma, at)
                return True
            split_huge_pmd_address(m, cpu, vma, at)
        if not unmap_pte(m, cpu, p, vma, at, flags):
            return False
        at = next_mapping(m, p, vma, at + 4096, pfn, 0)
    return True


def walk_to_unmap(m: memoryview, cpu: int, p: int, flags: int) -> None:
    """try_to_unmap_one() for all areas, until none maps the page. Hot."""
    last = m[p + P_INDEX] + hpage_nr_pages(m, p) - 1
    root = rmap_root(m, p) if page_mapped(m, p) else 0
    node = interval_tree_iter_first(m, root, m[p + P_INDEX], last) if root else 0
    while node:
        if not try_to_unmap_one(m, cpu, p, rmap_vma(m, p, node), flags):
            return
        if total_mapcount(m, p) == 0:
            return
        node = interval_tree_iter_next(m, node, m[p + P_INDEX], last)


def try_to_unmap(m: memoryview, cpu: int, p: int, flags: int) -> bool:
    """Takes page `p` out of all page tables, as the TTU_ `flags` say; True if it worked. Hot.

    An anonymous page must be in the swap cache (or lazyfree), unless it is migrated or split. Areas
    that are mlocked keep it (TTU_IGNORE_MLOCK), as do those that have just used it
    (TTU_IGNORE_ACCESS); a page with a hardware error leaves an entry that says so
    (TTU_IGNORE_HWPOISON: it does not).
    """
    walk_to_unmap(m, cpu, p, flags)
    return page_mapcount(m, p) == 0


def try_to_munlock(m: memoryview, cpu: int, p: int) -> None:
    """Marks isolated page `p` mlocked again if an mlocked area still maps it. Hot."""
    walk_to_unmap(m, cpu, p, TTU_MUNLOCK)


# --- the end of a migration -----------------------------------------------------------------------
def remove_migration_ptes(m: memoryview, cpu: int, old: int, new: int) -> None:
    """Maps page `new` wherever a migration entry names page `old` (which may be `new`). Hot.

    `new` has the old page's mapping and index. (mm/migrate.c)
    """
    first = m[new + P_INDEX]
    last = first + hpage_nr_pages(m, new) - 1
    pfn = page_to_pfn(m, old)
    root = rmap_root(m, new)
    node = interval_tree_iter_first(m, root, first, last) if root else 0
    while node:
        vma = rmap_vma(m, new, node)
        at = next_mapping(m, new, vma, vma_address(m, new, vma), pfn, 1)
        while at >= 0:
            if at & 1:
                restore_pmd(m, cpu, new, vma, at & ~1)
                break
            restore_pte(m, cpu, new, vma, at)
            at = next_mapping(m, new, vma, at + 4096, pfn, 1)
        node = interval_tree_iter_next(m, node, first, last)


def restore_pte(m: memoryview, cpu: int, new: int, vma: int, at: int) -> None:
    """Maps the small page of `new` that belongs at user address `at`, aged. Hot."""
    w = mm_find_pte(m, (m[vma + VMA_MM] - PAGE_OFFSET) >> 3, at)
    part = (at - m[vma + VMA_START] >> 12) + m[vma + VMA_PGOFF] - m[new + P_INDEX]
    sub = new + 8 * part
    m[new + P_COUNTS] += REF_ONE
    pte = mk_pte(page_to_pfn(m, new) + part, m[vma + VMA_PROT]) & ~PTE_A
    if is_write_migration_entry(pte_to_swp_entry(m[w])) and m[vma + VMA_FLAGS] & VM_WRITE:
        pte |= PTE_RW
    m[w] = pte
    if m[new + P_MAPPING] & PAGE_MAPPING_ANON:
        page_add_anon_rmap(m, cpu, sub, vma, at, 0)
    else:
        page_add_file_rmap(m, cpu, sub, 0)
    if m[vma + VMA_FLAGS] & VM_LOCKED and m[new] & PG_HEAD == 0:
        mlock_vma_page(m, cpu, new)
    if m[new] & PG_HEAD and m[new] & PG_MLOCKED:
        clear_page_mlock(m, cpu, new)


def restore_pmd(m: memoryview, cpu: int, new: int, vma: int, at: int) -> None:
    """Maps huge page `new` at user address `at`, aged (remove_migration_pmd). Hot."""
    w = mm_find_pmd(m, (m[vma + VMA_MM] - PAGE_OFFSET) >> 3, at)
    m[new + P_COUNTS] += REF_ONE
    pmd = mk_pte(page_to_pfn(m, new), m[vma + VMA_PROT] | PTE_PSE) & ~PTE_A
    if is_write_migration_entry(pte_to_swp_entry(m[w])) and m[vma + VMA_FLAGS] & VM_WRITE:
        pmd |= PTE_RW
    page_add_anon_rmap(m, cpu, new, vma, at, 1)
    m[w] = pmd
    if m[vma + VMA_FLAGS] & VM_LOCKED and m[new + 8] & PG_DOUBLE_MAP == 0:
        mlock_vma_page(m, cpu, new)
