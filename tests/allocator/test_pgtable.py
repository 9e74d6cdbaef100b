# SPDX-License-Identifier: GPL-2.0-only
"""Entries, walks and tables of processes."""

from __future__ import annotations

import pytest

from allocator import pgtable as pg
from allocator.kernel_globals import G_PGD, G_TLB_GEN
from allocator.layout import PAGE_OFFSET
from allocator.mm_struct import MM_PGD
from allocator.mm_types import P_COUNTS, P_INDEX, PG_TABLE_TYPE
from allocator.mmzone import NR_PAGETABLE
from allocator.vmstat import zone_page_state_snapshot
from machine.mmu import translate

from .processes import PAGE, process, settle

PROTS = [pg.PAGE_NONE, pg.PAGE_READONLY, pg.PAGE_SHARED, pg.PAGE_READONLY_EXEC]


@pytest.mark.parametrize("prot", PROTS)
@pytest.mark.parametrize("pfn", [0, 1, 0x12345, (1 << 34) - 1])
def test_an_entry_gives_its_frame_back_whatever_its_permissions(prot: int, pfn: int) -> None:
    pte = pg.mk_pte(pfn, prot)
    assert -(1 << 63) <= pte < 1 << 63
    assert pg.pte_pfn(pte) == pfn
    assert pg.pte_present(pte)
    assert (pte & pg.PTE_P != 0) == (prot != pg.PAGE_NONE)


@pytest.mark.parametrize("old", PROTS)
@pytest.mark.parametrize("new", PROTS)
def test_modifying_changes_permissions_and_keeps_frame_and_history(old: int, new: int) -> None:
    pte = pg.pte_modify(pg.mk_pte(0x777, old & ~pg.PTE_A) | pg.PTE_D, new)
    assert pg.pte_pfn(pte) == 0x777
    assert pte & pg.PTE_D
    assert pte & pg.PTE_A == 0
    for bit in (pg.PTE_P, pg.PTE_RW, pg.PTE_NX, pg.PTE_PROTNONE):
        assert (pte & bit != 0) == (new & bit != 0)


@pytest.mark.parametrize(
    ("flags", "prot"),
    [
        (0x0, pg.PAGE_NONE),
        (0x1, pg.PAGE_READONLY),
        (0x3, pg.PAGE_READONLY),
        (0x5, pg.PAGE_READONLY_EXEC),
        (0x7, pg.PAGE_READONLY_EXEC),
        (0x8, pg.PAGE_NONE),
        (0xB, pg.PAGE_SHARED),
        (0xD, pg.PAGE_READONLY_EXEC),
        (0xF, pg.PAGE_SHARED_EXEC),
    ],
)
def test_fresh_entries_are_as_protection_map_says(flags: int, prot: int) -> None:
    assert pg.vm_get_page_prot(flags | 0x70) == prot


def test_the_walks_agree_with_the_machines_own() -> None:
    proc = process()
    start = proc.mmap(8 * PAGE)
    proc.write(start + 3 * PAGE, b"x")
    pte = pg.mm_find_pte(proc.m, proc.mm, start + 3 * PAGE)
    found = translate(proc.kernel.memory, proc.m[proc.mm + MM_PGD] - PAGE_OFFSET, start + 3 * PAGE)
    assert found is not None
    assert found.entries[-1] == pte << 3
    assert found.user
    assert found.writable
    assert not found.executable
    assert found.phys >> 12 == pg.pte_pfn(proc.m[pte])
    assert pg.mm_find_pte(proc.m, proc.mm, 1 << 40) == 0


def test_a_top_table_shares_the_kernels_half_and_the_identity_map() -> None:
    proc = process()
    top = (proc.m[proc.mm + MM_PGD] - PAGE_OFFSET) >> 3
    kernel = (proc.m[G_PGD] & pg.ADDRESS_MASK) >> 3
    assert proc.m[top] == proc.m[kernel] != 0
    assert proc.m[top + 256 : top + 512] == proc.m[kernel + 256 : kernel + 512]
    assert proc.m[top + 1 : top + 256].tolist() == [0] * 255
    page = proc.kernel.page(top >> 9)
    assert proc.m[page.word + P_INDEX] == PAGE_OFFSET + (proc.mm << 3)


def test_lowest_tables_are_marked_and_counted() -> None:
    proc = process()

    def counted() -> int:
        zones = proc.kernel.zones
        return sum(zone_page_state_snapshot(proc.m, zone.word, NR_PAGETABLE) for zone in zones)

    before = counted()
    start = proc.mmap(PAGE)
    proc.write(start, b"x")
    assert counted() == before + 1
    assert proc.counters["pgtables"] == 3 * PAGE
    page = proc.kernel.page(pg.mm_find_pte(proc.m, proc.mm, start) >> 9)
    assert proc.m[page.word + P_COUNTS] & PG_TABLE_TYPE == 0
    proc.munmap(start, PAGE)
    assert counted() == before


def test_losing_an_entry_tells_the_cpus() -> None:
    proc = process()
    start = proc.mmap(PAGE)
    proc.write(start, b"x")
    before = proc.m[G_TLB_GEN]
    at = pg.mm_find_pte(proc.m, proc.mm, start)
    old = proc.m[at]
    assert pg.ptep_clear_flush(proc.m, 0, 0, start, at) == old
    assert proc.m[at] == 0
    assert proc.m[G_TLB_GEN] == before + 1
    proc.m[at] = old
    pg.flush_tlb_page(proc.m, 0, 0, start)
    pg.flush_tlb_range(proc.m, 0, 0, start, start + PAGE)
    pg.flush_tlb_mm(proc.m, 0, proc.mm)
    assert proc.m[G_TLB_GEN] == before + 4


@pytest.mark.parametrize(
    ("start", "end", "floor", "ceiling", "alone"),
    [
        (0x200000, 0x400000, 0, 0, True),
        (0x200000, 0x400000, 0x100000, 0, False),
        (0x200000, 0x400000, 0, 0x300000, False),
        (0x40000000, 0x40200000, 0x40000000, 0x80000000, True),
        (0x40000000, 0x40200000, 0x40000000, 0x7FFFFFFF, False),
    ],
)
def test_a_table_goes_only_if_it_serves_nobody_else(
    start: int, end: int, floor: int, ceiling: int, alone: bool
) -> None:
    assert pg.widened(start, end, floor, ceiling, pg.PUD_SHIFT) == alone


def test_tables_that_cannot_be_had_kill_the_process_and_leak_nothing() -> None:
    proc = process()
    kernel = proc.kernel
    free = settle(kernel)
    child = proc.fork()
    child.exit()
    proc.wait()
    assert settle(kernel) == free
