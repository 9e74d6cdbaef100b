# SPDX-License-Identifier: GPL-2.0-only
"""Marking pages as mlocked, and the mark going with the last mapping."""

from __future__ import annotations

from allocator.mlock_page import clear_page_mlock, mlock_vma_page
from allocator.mm_types import PG_LOCKED, PG_MLOCKED, PG_UNEVICTABLE
from allocator.mmzone import NR_MLOCK
from allocator.vmstat import zone_page_state_snapshot

from .processes import PAGE, events, process


def test_a_mark_counts_once_and_moves_the_page_to_the_unevictable_list() -> None:
    proc = process()
    start = proc.mmap(PAGE)
    proc.write(start, b"x")
    proc.kernel.lru_add_drain_all()
    page = proc.page(start)
    assert page is not None
    m, p = proc.m, page.word
    zone = next(zone for zone in proc.kernel.zones if zone.name == page.zone)
    m[p] |= PG_LOCKED
    for _ in range(2):
        mlock_vma_page(m, 0, p)
    proc.kernel.lru_add_drain_all()
    assert m[p] & (PG_MLOCKED | PG_UNEVICTABLE) == PG_MLOCKED | PG_UNEVICTABLE
    assert zone_page_state_snapshot(m, zone.word, NR_MLOCK) == 1
    assert events(proc.kernel, "unevictable_pgs_mlocked") == 1
    for _ in range(2):
        clear_page_mlock(m, 0, p)
    proc.kernel.lru_add_drain_all()
    m[p] &= ~PG_LOCKED
    assert m[p] & (PG_MLOCKED | PG_UNEVICTABLE) == 0
    assert zone_page_state_snapshot(m, zone.word, NR_MLOCK) == 0
    assert events(proc.kernel, "unevictable_pgs_cleared") == 1


def test_the_mark_goes_with_the_last_mapping() -> None:
    proc = process()
    start = proc.mmap(2 * PAGE)
    proc.mlock(start, 2 * PAGE)
    proc.munmap(start, 2 * PAGE)
    zones = proc.kernel.zones
    assert sum(zone_page_state_snapshot(proc.m, z.word, NR_MLOCK) for z in zones) == 0
