# SPDX-License-Identifier: GPL-2.0-only
"""Huge entries made small: mapcounts, tables laid by, borders of areas."""

from __future__ import annotations

from allocator.huge_pmd_split import (
    pgtable_deposit,
    pgtable_withdraw,
    split_huge_pmd_address,
    vma_adjust_trans_huge,
)
from allocator.mm_inline import compound_mapcount, page_mapcount, total_mapcount
from allocator.pgtable import (
    PMD_HUGE_PTE,
    PMD_SIZE,
    PTE_D,
    PTE_RW,
    mm_find_pmd,
    mm_find_pte,
    pte_pfn,
)
from allocator.vma import find_vma

from .processes import MIB, PAGE, boot, sound


def test_tables_laid_by_come_back_all_of_them() -> None:
    kernel = boot()
    m = kernel.m
    table = kernel.alloc_pages("GFP_KERNEL|__GFP_ZERO")
    assert table is not None
    pmd = table.pfn << 9
    m[table.word + PMD_HUGE_PTE] = 0
    frames = []
    for _ in range(5):
        page = kernel.alloc_pages("GFP_KERNEL")
        assert page is not None
        frames.append(page.pfn)
        pgtable_deposit(m, pmd, page.pfn)
    assert sorted(pgtable_withdraw(m, pmd) for _ in range(5)) == sorted(frames)


def test_a_split_entry_maps_the_same_frames_with_the_same_rights() -> None:
    kernel = boot("1x128M")
    kernel.transparent_hugepage("always")
    proc = kernel.create_process("huge")
    start = -(-proc.mmap(4 * MIB) // PMD_SIZE) * PMD_SIZE
    proc.write(start, b"data")
    head = proc.page(start)
    assert head is not None
    m, p = kernel.m, head.word
    other = proc.fork()
    assert (compound_mapcount(m, p), page_mapcount(m, p)) == (2, 2)
    vma = find_vma(m, other.mm, start)
    split_huge_pmd_address(m, 0, vma, start + 7 * PAGE)
    assert compound_mapcount(m, p) == 1
    assert page_mapcount(m, p) == page_mapcount(m, p + 8 * 511) == 2
    assert total_mapcount(m, p) == 513
    for n in (0, 7, 511):
        pte = m[mm_find_pte(m, other.mm, start + n * PAGE)]
        assert pte_pfn(pte) == head.pfn + n
        assert not pte & PTE_RW
    sound(kernel)
    split_huge_pmd_address(m, 0, find_vma(m, proc.mm, start), start)
    assert compound_mapcount(m, p) == 0
    assert page_mapcount(m, p) == 2
    assert total_mapcount(m, p) == 1024
    assert m[mm_find_pte(m, proc.mm, start)] & PTE_D == 0
    sound(kernel)


def test_only_borders_that_cut_a_huge_entry_split_it() -> None:
    kernel = boot("1x128M")
    kernel.transparent_hugepage("always")
    proc = kernel.create_process("huge")
    start = -(-proc.mmap(6 * MIB) // PMD_SIZE) * PMD_SIZE
    proc.touch(start, 2 * PMD_SIZE)
    m, vma = kernel.m, find_vma(kernel.m, proc.mm, start)
    pmds = [mm_find_pmd(m, proc.mm, start + n * PMD_SIZE) for n in (0, 1)]
    vma_adjust_trans_huge(m, 0, vma, start, start + PMD_SIZE, 0, 0)
    assert all(m[pmd] & 0x80 for pmd in pmds)
    vma_adjust_trans_huge(m, 0, vma, start + PAGE, start + PMD_SIZE, 0, 0)
    assert [bool(m[pmd] & 0x80) for pmd in pmds] == [False, True]
    sound(kernel)
