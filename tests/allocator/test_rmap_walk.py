# SPDX-License-Identifier: GPL-2.0-only
"""From a page to the entries that map it: ageing, unmapping, coming back."""

from __future__ import annotations

import pytest

from allocator.kernel_globals import G_TLB_GEN
from allocator.mm_inline import page_mapcount, page_mapped
from allocator.mm_struct import (
    MM_ANONPAGES,
    MM_HIWATER_RSS,
    MM_RSS,
    MM_SWAPENTS,
    VM_LOCKED,
    VM_SEQ_READ,
    VMA_FLAGS,
)
from allocator.mm_types import (
    P_COUNTS,
    P_PRIVATE,
    PG_DIRTY,
    PG_HWPOISON,
    PG_LOCKED,
    PG_MLOCKED,
    PG_SWAPBACKED,
    REF_ONE,
)
from allocator.munmap import do_munmap
from allocator.pgtable import PTE_A, PTE_D, PTE_P, PTE_RW, mm_find_pte
from allocator.rmap_walk import (
    EFAULT,
    TTU_IGNORE_ACCESS,
    TTU_IGNORE_HWPOISON,
    TTU_IGNORE_MLOCK,
    TTU_MIGRATION,
    next_mapping,
    page_address_in_vma,
    page_mapped_in_vma,
    page_referenced,
    remove_migration_ptes,
    try_to_munlock,
    try_to_unmap,
    vma_address,
)
from allocator.swap_state import add_to_swap
from allocator.swapops import (
    is_hwpoison_entry,
    is_migration_entry,
    is_write_migration_entry,
    migration_entry_to_pfn,
    pte_to_swp_entry,
)
from allocator.vma import find_vma
from tests.allocator.process_support import PAGE, Lab


class Family:
    """A process with pages of its own, and `children` forked from it."""

    def __init__(self, lab: Lab, pages: int = 4, children: int = 0) -> None:
        self.lab = lab
        self.parent = lab.process()
        self.at = lab.map(self.parent, pages)
        for i in range(pages):
            lab.poke(self.parent, self.at + i * PAGE, 100 + i)
        lab.drain()
        self.tasks = [self.parent] + [lab.fork(self.parent) for _ in range(children)]

    def page(self, i: int = 0) -> int:
        """The struct page of page `i`, locked and held as by reclaim."""
        p = self.lab.page(self.parent, self.at + i * PAGE)
        self.lab.m[p] |= PG_LOCKED
        self.lab.m[p + P_COUNTS] += REF_ONE
        return p

    def vma(self, task: int) -> int:
        return find_vma(self.lab.m, self.lab.mm(task), self.at)

    def entry(self, task: int, i: int = 0) -> int:
        """Word index of a page's entry."""
        return mm_find_pte(self.lab.m, self.lab.mm(task), self.at + i * PAGE)

    def age(self) -> None:
        """Clears all accessed bits."""
        for task in self.tasks:
            for i in range(4):
                self.lab.m[self.entry(task, i)] &= ~PTE_A

    def rss(self, task: int, item: int) -> int:
        return self.lab.m[self.lab.mm(task) + MM_RSS + item]


def test_a_page_is_found_in_every_area_that_maps_it_and_nowhere_else(lab: Lab) -> None:
    m, family = lab.m, Family(lab, children=2)
    p, pfn = family.page(2), lab.pfn(family.parent, family.at + 2 * PAGE)
    for task in family.tasks:
        vma = family.vma(task)
        at = family.at + 2 * PAGE
        assert vma_address(m, p, vma) == at
        assert next_mapping(m, p, vma, family.at, pfn, 0) == at
        assert next_mapping(m, p, vma, at + PAGE, pfn, 0) == -1
        assert page_address_in_vma(m, p, vma) == at
        assert page_mapped_in_vma(m, p, vma)
    stranger = lab.process()
    other = lab.map(stranger, 4)
    lab.poke(stranger, other, 1)
    vma = find_vma(m, lab.mm(stranger), other)
    assert page_address_in_vma(m, p, vma) == -EFAULT
    # a child's own copy lies in the parent's area by address, but is not mapped there
    lab.poke(family.tasks[1], family.at + 2 * PAGE, 5)
    own = lab.page(family.tasks[1], family.at + 2 * PAGE)
    assert not page_mapped_in_vma(m, own, family.vma(family.parent))


def test_references_are_counted_by_area_and_then_forgotten(lab: Lab) -> None:
    m, family = lab.m, Family(lab, children=2)
    p = family.page()
    family.age()
    assert page_referenced(m, 0, p, 1, 0) == 0
    for task in family.tasks[:2]:
        lab.peek(task, family.at)
    flushes = m[G_TLB_GEN]
    said = page_referenced(m, 0, p, 1, 0)
    assert said & 0xFFFFFFFF == 2
    assert said >> 32 == m[family.vma(family.parent) + VMA_FLAGS] & 0x7FFFFFFF
    assert m[G_TLB_GEN] == flushes + 2
    assert page_referenced(m, 0, p, 1, 0) == 0


def test_reading_through_is_no_reference_but_a_locked_area_is_one(lab: Lab) -> None:
    m, family = lab.m, Family(lab)
    p, vma = family.page(), family.vma(family.parent)
    m[vma + VMA_FLAGS] |= VM_SEQ_READ
    lab.peek(family.parent, family.at)
    assert page_referenced(m, 0, p, 1, 0) == 0
    m[vma + VMA_FLAGS] |= VM_LOCKED
    lab.peek(family.parent, family.at)
    assert page_referenced(m, 0, p, 1, 0) == VM_LOCKED << 32


def test_an_unmapped_page_has_no_references(lab: Lab) -> None:
    m, p = lab.m, lab.new_page()
    assert page_referenced(m, 0, p, 0, 0) == 0


def test_unmapping_leaves_the_swap_entry_everywhere(lab: Lab) -> None:
    lab.swap()
    m, family = lab.m, Family(lab, children=2)
    p = family.page()
    anon = family.rss(family.parent, MM_ANONPAGES)
    assert add_to_swap(m, 0, p)
    m[p] &= ~PG_DIRTY
    assert try_to_unmap(m, 0, p, TTU_IGNORE_ACCESS)
    assert not page_mapped(m, p)
    # it was written in the parent: the entry's dirty bit is the page's now
    assert m[p] & PG_DIRTY
    for task in family.tasks:
        assert pte_to_swp_entry(m[family.entry(task)]) == m[p + P_PRIVATE]
        assert family.rss(task, MM_SWAPENTS) == 1
        assert family.rss(task, MM_ANONPAGES) == anon - 1
    assert m[lab.mm(family.parent) + MM_HIWATER_RSS] >= anon
    m[p] &= ~PG_LOCKED
    m[p + P_COUNTS] -= REF_ONE
    assert lab.check().sound


def test_a_page_in_use_is_not_unmapped(lab: Lab) -> None:
    lab.swap()
    m, family = lab.m, Family(lab)
    p = family.page()
    add_to_swap(m, 0, p)
    lab.peek(family.parent, family.at)
    assert not try_to_unmap(m, 0, p, 0)
    assert page_mapcount(m, p) == 1
    # the accessed bit was cleared by that: the next try works
    assert try_to_unmap(m, 0, p, 0)


def test_a_page_without_swap_stays_mapped(lab: Lab) -> None:
    m, family = lab.m, Family(lab)
    p = family.page()
    before = m[family.entry(family.parent)]
    assert not try_to_unmap(m, 0, p, TTU_IGNORE_ACCESS)
    assert m[family.entry(family.parent)] == before


def test_an_mlocked_page_stays_and_is_marked_unless_that_is_ignored(lab: Lab) -> None:
    lab.swap()
    m, family = lab.m, Family(lab)
    p = family.page()
    m[family.vma(family.parent) + VMA_FLAGS] |= VM_LOCKED
    add_to_swap(m, 0, p)
    assert not try_to_unmap(m, 0, p, TTU_IGNORE_ACCESS)
    assert m[p] & PG_MLOCKED
    assert try_to_unmap(m, 0, p, TTU_IGNORE_ACCESS | TTU_IGNORE_MLOCK)


def test_a_clean_lazyfree_page_is_simply_dropped_and_a_dirty_one_kept(lab: Lab) -> None:
    m, family = lab.m, Family(lab)
    clean, dirty = family.page(0), family.page(1)
    for i, p in enumerate((clean, dirty)):
        m[p] &= ~(PG_SWAPBACKED | PG_DIRTY)
        m[family.entry(family.parent, i)] &= ~PTE_D
    m[family.entry(family.parent, 1)] |= PTE_D
    assert try_to_unmap(m, 0, clean, TTU_IGNORE_ACCESS)
    assert m[family.entry(family.parent, 0)] == 0
    assert not try_to_unmap(m, 0, dirty, TTU_IGNORE_ACCESS)
    assert m[dirty] & PG_SWAPBACKED
    assert lab.peek(family.parent, family.at) == 0
    assert lab.peek(family.parent, family.at + PAGE) == 101


@pytest.mark.parametrize("write", [True, False])
def test_migration_entries_keep_the_permission_and_are_undone(lab: Lab, write: bool) -> None:
    m, family = lab.m, Family(lab, children=0 if write else 1)
    p = family.page()
    before = [m[family.entry(task)] for task in family.tasks]
    assert all(bool(entry & PTE_RW) == write for entry in before)
    assert try_to_unmap(m, 0, p, TTU_MIGRATION | TTU_IGNORE_ACCESS)
    for task in family.tasks:
        entry = pte_to_swp_entry(m[family.entry(task)])
        assert is_migration_entry(entry)
        assert is_write_migration_entry(entry) == write
        assert migration_entry_to_pfn(entry) == before[0] >> 12 & 0xFFFFFFFFFF
        # a page that moves is still resident
        assert family.rss(task, MM_ANONPAGES) == 4
    remove_migration_ptes(m, 0, p, p)
    for task, entry in zip(family.tasks, before, strict=True):
        assert m[family.entry(task)] & ~(PTE_A | PTE_D) == entry & ~(PTE_A | PTE_D)
    assert page_mapcount(m, p) == len(family.tasks)


@pytest.mark.parametrize(("flags", "poisoned"), [(0, True), (TTU_IGNORE_HWPOISON, False)])
def test_a_page_with_a_hardware_error_leaves_a_trap(lab: Lab, flags: int, poisoned: bool) -> None:
    lab.swap()
    m, family = lab.m, Family(lab)
    p = family.page()
    add_to_swap(m, 0, p)
    m[p] |= PG_HWPOISON
    assert try_to_unmap(m, 0, p, TTU_IGNORE_ACCESS | flags)
    entry = pte_to_swp_entry(m[family.entry(family.parent)])
    assert is_hwpoison_entry(entry) == poisoned
    assert family.rss(family.parent, MM_ANONPAGES) == 3


def test_munlock_finds_another_area_that_still_holds_the_page(lab: Lab) -> None:
    m, family = lab.m, Family(lab, children=1)
    p = family.page()
    try_to_munlock(m, 0, p)
    assert not m[p] & PG_MLOCKED
    assert page_mapcount(m, p) == 2
    m[family.vma(family.tasks[1]) + VMA_FLAGS] |= VM_LOCKED
    try_to_munlock(m, 0, p)
    assert m[p] & PG_MLOCKED
    assert page_mapcount(m, p) == 2


def test_an_area_that_was_cut_is_found_by_what_is_left_of_it(lab: Lab) -> None:
    m, family = lab.m, Family(lab, pages=8)
    with lab.acting(family.parent):
        assert do_munmap(m, 0, lab.mm(family.parent), family.at + 2 * PAGE, 2 * PAGE) == 0
    for i in (0, 7):
        p = family.page(i)
        vma = find_vma(m, lab.mm(family.parent), family.at + i * PAGE)
        assert page_address_in_vma(m, p, vma) == family.at + i * PAGE
        assert m[family.entry(family.parent, i)] & PTE_P
        assert try_to_unmap(m, 0, p, TTU_MIGRATION | TTU_IGNORE_ACCESS)
        remove_migration_ptes(m, 0, p, p)
        m[p] &= ~PG_LOCKED
        m[p + P_COUNTS] -= REF_ONE
    lab.drain()
    assert lab.check().sound
