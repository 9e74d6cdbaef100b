# SPDX-License-Identifier: GPL-2.0-only
"""mbind: a memory policy for a part of an address space (mm/mempolicy.c).

The areas of the range get the policy, being split at its ends and merged with neighbours that say
the same. With MPOL_MF_MOVE the pages that lie on other nodes than the policy's are then moved to
where it would have put them; pages that others map too only with MPOL_MF_MOVE_ALL.

`mm` is the word index of an mm_struct, addresses are bytes, results 0 or a negative errno.
"""

from __future__ import annotations

from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    PAGE_OFFSET,
    SECTION_PAGES,
    TASK_MEMS_ALLOWED,
)
from .list_head import list_add_tail, list_empty
from .lru_isolate import isolate_lru_page, mod_isolated
from .mempolicy import EINVAL, MPOL_DEFAULT, MPOL_MODE_FLAGS
from .mempolicy_vma import (
    mpol_equal,
    mpol_new,
    mpol_put,
    vma_policy,
    vma_replace_policy,
)
from .migrate import (
    MIGRATE_SYNC,
    MR_MEMPOLICY_MBIND,
    NEW_PAGE_MBIND,
    migrate_pages,
    putback_movable_pages,
)
from .mm_inline import compound_head, hpage_nr_pages, page_mapcount, page_va_of
from .mm_struct import (
    VM_IO,
    VM_PFNMAP,
    VMA_ANON_VMA,
    VMA_END,
    VMA_FILE,
    VMA_FLAGS,
    VMA_MM,
    VMA_NEXT,
    VMA_PGOFF,
    VMA_PREV,
    VMA_START,
)
from .mm_types import NODES_MASK, NODES_PGSHIFT, P_NEXT, PG_RESERVED
from .pagevec import PV_SCRATCH, pagevecs
from .pgtable import (
    PTE_SPECIAL,
    mm_find_pmd,
    mm_find_pte,
    pmd_pfn,
    pmd_trans_huge,
    pte_pfn,
    pte_present,
)
from .swap import lru_add_drain_all
from .swap_state import is_huge_zero_page
from .vma import find_vma, split_vma, vma_merge

MPOL_MF_STRICT = 1
MPOL_MF_MOVE = 2
MPOL_MF_MOVE_ALL = 4
MPOL_MF_VALID = MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL
EIO, EFAULT = 5, 14
PMD_SIZE = 1 << 21


def word(va: int) -> int:
    """Word index of a direct map address, 0 for none."""
    return (va - PAGE_OFFSET) >> 3 if va else 0


def vma_migratable(m: memoryview, vma: int) -> bool:
    """True if the pages of an area can be moved between nodes."""
    return m[vma + VMA_FLAGS] & (VM_IO | VM_PFNMAP) == 0


def migrate_page_add(m: memoryview, cpu: int, p: int, head: int, flags: int) -> bool:
    """Isolates a page onto list `head` unless others map it too; True if it is listed."""
    p = compound_head(m, p)
    if flags & MPOL_MF_MOVE_ALL == 0 and page_mapcount(m, p) != 1:
        return False
    if isolate_lru_page(m, cpu, p):
        return False
    list_add_tail(m, p + P_NEXT, page_va_of(m, p) + 8, head)
    mod_isolated(m, cpu, p, hpage_nr_pages(m, p))
    return True


def queue_page(m: memoryview, cpu: int, pfn: int, nodes: int, head: int, flags: int) -> None:
    """Lists a mapped page that lies on none of `nodes`."""
    p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
    nid = m[p] >> NODES_PGSHIFT & NODES_MASK
    if m[p] & PG_RESERVED or nodes >> nid & 1 or is_huge_zero_page(m, p):
        return
    migrate_page_add(m, cpu, p, head, flags)


def queue_area(
    m: memoryview, cpu: int, vma: int, start: int, end: int, nodes: int, head: int, flags: int
) -> None:
    """queue_page() for all pages that `vma` maps in [start, end)."""
    mm = word(m[vma + VMA_MM])
    at = max(start, m[vma + VMA_START])
    end = min(end, m[vma + VMA_END])
    while at < end:
        pmd = mm_find_pmd(m, mm, at)
        stop = min((at // PMD_SIZE + 1) * PMD_SIZE, end)
        if pmd and pmd_trans_huge(m[pmd]):
            queue_page(m, cpu, pmd_pfn(m[pmd]), nodes, head, flags)
        elif pmd and mm_find_pte(m, mm, at):
            first = mm_find_pte(m, mm, at)
            for w in range(first, first + (stop - at >> 12)):
                if pte_present(m[w]) and m[w] & PTE_SPECIAL == 0:
                    queue_page(m, cpu, pte_pfn(m[w]), nodes, head, flags)
        at = stop


def queue_pages_range(
    m: memoryview,
    cpu: int,
    mm: int,
    start: int,
    end: int,
    nodes: int,
    flags: int,
    holes: bool,
    head: int,
) -> int:
    """Lists the pages of [start, end) to be moved: 0; -EFAULT for a hole unless `holes` is set."""
    vma = find_vma(m, mm, start)
    prev = 0
    while vma and m[vma + VMA_START] < end:
        if vma_migratable(m, vma):
            if not holes:
                if m[vma + VMA_NEXT] == 0 and m[vma + VMA_END] < end:
                    return -EFAULT
                if prev and m[prev + VMA_END] < m[vma + VMA_START]:
                    return -EFAULT
            prev = vma
            if flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL):
                queue_area(m, cpu, vma, start, end, nodes, head, flags)
        vma = word(m[vma + VMA_NEXT])
    return 0


def mbind_area(
    m: memoryview, cpu: int, mm: int, vma: int, prev: int, start: int, end: int, pol: int
) -> tuple[int, int]:
    """Gives the part of `vma` in [start, end) the policy: (0 or -ENOMEM, the area it is now)."""
    start = max(start, m[vma + VMA_START])
    end = min(end, m[vma + VMA_END])
    if mpol_equal(m, vma_policy(m, vma), pol):
        return 0, vma
    pgoff = m[vma + VMA_PGOFF] + (start - m[vma + VMA_START] >> 12)
    merged = vma_merge(
        m,
        cpu,
        mm,
        prev,
        start,
        end,
        m[vma + VMA_FLAGS],
        m[vma + VMA_ANON_VMA],
        m[vma + VMA_FILE],
        pgoff,
        PAGE_OFFSET + (pol << 3) if pol else 0,
    )
    if merged:
        if mpol_equal(m, vma_policy(m, merged), pol):
            return 0, merged
        return vma_replace_policy(m, cpu, merged, pol), merged
    error = 0
    if m[vma + VMA_START] != start:
        error = split_vma(m, cpu, mm, vma, start, True)
    if error == 0 and m[vma + VMA_END] != end:
        error = split_vma(m, cpu, mm, vma, end, False)
    return error or vma_replace_policy(m, cpu, vma, pol), vma


def mbind_range(m: memoryview, cpu: int, mm: int, start: int, end: int, pol: int) -> int:
    """Gives all areas of [start, end) the policy `pol` (0: none): 0, -EFAULT or -ENOMEM."""
    vma = find_vma(m, mm, start)
    if vma == 0 or m[vma + VMA_START] > start:
        return -EFAULT
    prev = vma if start > m[vma + VMA_START] else word(m[vma + VMA_PREV])
    while vma and m[vma + VMA_START] < end:
        error, vma = mbind_area(m, cpu, mm, vma, prev, start, end, pol)
        if error:
            return error
        prev = vma
        vma = word(m[vma + VMA_NEXT])
    return 0


def do_mbind(
    m: memoryview, cpu: int, mm: int, start: int, size: int, mode: int, nodes: int, flags: int
) -> int:
    """mbind(2): policy `mode` (with its MPOL_F_ flags) over `nodes` for bytes [start, start+size).

    `flags`: MPOL_MF_STRICT, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL. 0; -EINVAL; -EFAULT for a hole in the
    range; -EIO with MPOL_MF_STRICT if pages could not be moved; -ENOMEM.
    """
    if flags & ~MPOL_MF_VALID or start & 4095 or size < 0 or start < 0:
        return -EINVAL
    kind = mode & ~MPOL_MODE_FLAGS
    if kind == MPOL_DEFAULT:
        flags &= ~MPOL_MF_STRICT
    end = start + (size + 4095 & -4096)
    if end >> 63:
        return -EINVAL
    if end == start:
        return 0
    task = word(m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT])
    pol = mpol_new(m, cpu, kind, mode & MPOL_MODE_FLAGS, nodes, m[task + TASK_MEMS_ALLOWED])
    if pol < 0:
        return pol
    moving = flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL)
    if moving:
        lru_add_drain_all(m)
    head = pagevecs(m, cpu) + PV_SCRATCH
    error = queue_pages_range(m, cpu, mm, start, end, nodes, flags, pol == 0, head)
    if error == 0:
        error = mbind_range(m, cpu, mm, start, end, pol)
    if error:
        putback_movable_pages(m, cpu, head)
    elif not list_empty(m, head):
        left = migrate_pages(m, cpu, head, NEW_PAGE_MBIND, start, MIGRATE_SYNC, MR_MEMPOLICY_MBIND)
        if left:
            putback_movable_pages(m, cpu, head)
            error = -EIO if flags & MPOL_MF_STRICT else 0
    mpol_put(m, cpu, pol)
    return error
