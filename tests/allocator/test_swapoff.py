# SPDX-License-Identifier: GPL-2.0-only
"""Swap areas given up."""

from __future__ import annotations

import pytest

from allocator.address_space import swap_info
from allocator.check import check_frames
from allocator.check.context import Check
from allocator.check.swap_rules import kept_slots
from allocator.kernel import Kernel
from allocator.kernel_globals import G_NR_SWAP_PAGES, G_SWAP_SLOTS_ACTIVE, G_TOTAL_SWAP_PAGES
from allocator.mm_inline import PG_SWAPCACHE
from allocator.mm_types import PG_DIRTY
from allocator.page_io import swap_bdev
from allocator.swap_map import (
    SI_FLAGS,
    SI_PRIO,
    SLOTS_DISABLED,
    SWP_USED,
    SWP_WRITEOK,
    check_cache_active,
)
from allocator.swapoff import EINVAL, find_entry, swapoff, try_to_unuse
from allocator.swapops import SWP_TYPE_SHIFT, pte_to_swp_entry
from allocator.vma import find_vma
from tests.allocator.machines import boot
from tests.allocator.process_support import PAGE, Lab


def swapped(lab: Lab, pages: int) -> tuple[int, int, int]:
    """Parent, child and address of pages that both have in swap."""
    task = lab.process()
    at = lab.map(task, pages)
    for i in range(pages):
        lab.poke(task, at + i * PAGE, 100 + i)
    child = lab.fork(task)
    for i in range(pages):
        p = lab.page(task, at + i * PAGE)
        assert lab.page_out(p)
        if i % 2:
            lab.forget(p)
    return task, child, at


def test_everything_comes_back_to_everybody(lab: Lab) -> None:
    m = lab.m
    kind = lab.swap(2048)
    task, child, at = swapped(lab, 12)
    lab.poke(child, at, 7)
    assert swapoff(m, 0, kind) == 0
    assert m[G_NR_SWAP_PAGES] == m[G_TOTAL_SWAP_PAGES] == 0
    assert m[swap_info(m, kind) + SI_FLAGS] == 0
    for who in (task, child):
        for i in range(1, 12):
            p = lab.page(who, at + i * PAGE)
            assert m[p] & (PG_SWAPCACHE | PG_DIRTY) == PG_DIRTY
            assert lab.peek(who, at + i * PAGE) == 100 + i
    assert (lab.peek(task, at), lab.peek(child, at)) == (100, 7)
    # shared pages are still copied on write
    lab.poke(child, at + PAGE, 8)
    assert lab.peek(task, at + PAGE) == 101
    lab.drain()
    assert lab.check().sound
    assert lab.swap(64, name=b"again") == kind


def test_other_areas_go_on(lab: Lab) -> None:
    m = lab.m
    first = lab.swap(64, 5, b"a")
    second = lab.swap(64, 3, b"b")
    task, _, at = swapped(lab, 4)
    assert swapoff(m, 0, second) == 0
    assert pte_to_swp_entry(lab.pte(task, at + PAGE)) >> 58 == first
    assert m[G_TOTAL_SWAP_PAGES] == 63
    assert lab.check().sound


def test_what_is_no_area_in_use_is_refused(lab: Lab) -> None:
    assert swapoff(lab.m, 0, 0) == -EINVAL
    kind = lab.swap(64)
    assert swapoff(lab.m, 0, kind + 1) == -EINVAL
    assert swapoff(lab.m, 0, -1) == -EINVAL
    assert swapoff(lab.m, 0, kind) == 0
    assert swapoff(lab.m, 0, kind) == -EINVAL


def test_areas_without_a_chosen_priority_close_ranks(lab: Lab) -> None:
    m = lab.m
    kinds = [lab.swap(64, prio, b"x") for prio in (-1, -1, 9, -1)]
    assert [m[swap_info(m, kind) + SI_PRIO] for kind in kinds] == [-2, -3, 9, -4]
    assert swapoff(m, 0, kinds[1]) == 0
    assert [m[swap_info(m, kinds[i]) + SI_PRIO] for i in (0, 2, 3)] == [-2, 9, -3]
    assert m[swap_info(m, lab.swap(64, -1, b"y")) + SI_PRIO] == -4


def test_a_page_that_cannot_be_read_keeps_the_area_in_use(lab: Lab) -> None:
    m = lab.m
    kind = lab.swap(64)
    task, _, at = swapped(lab, 2)
    entry = pte_to_swp_entry(lab.pte(task, at + PAGE))
    bdev = swap_bdev(m, entry)
    lab.spoil(bdev, entry & 0xFF)
    assert swapoff(m, 0, kind) < 0
    si = swap_info(m, kind)
    assert m[si + SI_FLAGS] == SWP_USED | SWP_WRITEOK
    assert pte_to_swp_entry(lab.pte(task, at + PAGE)) == entry


def test_an_entry_is_searched_for_in_its_area(lab: Lab) -> None:
    m = lab.m
    kind = lab.swap(64)
    task, _, at = swapped(lab, 4)
    vma = find_vma(m, lab.mm(task), at)
    assert find_entry(m, vma, lab.pte(task, at + 3 * PAGE)) == at + 3 * PAGE
    assert find_entry(m, vma, 1 << 40) == -1
    assert try_to_unuse(m, 0, kind) == 0


@pytest.mark.parametrize("pages", [1, 30])
def test_an_empty_or_small_area_goes_without_a_trace(lab: Lab, pages: int) -> None:
    before = lab.lru(0, 0)
    kind = lab.swap(64)
    task, child, _ = swapped(lab, pages)
    lab.exit(task)
    lab.exit(child)
    assert swapoff(lab.m, 0, kind) == 0
    lab.drain()
    assert lab.lru(0, 0) == before
    assert lab.check().sound


def test_no_slot_of_it_is_left_with_a_cpu_while_memory_is_short() -> None:
    """Bringing pages back pushes others out, to the second area; the slots that come free must not
    wait in the CPUs' caches of slots until their area is gone."""
    kernel = boot("1x32M")
    first = kernel.swapon(8192)
    process = kernel.create_process()
    area = process.mmap(44 << 20)
    for at in range(area, area + (44 << 20), PAGE):
        process.write(at, at.to_bytes(8, "little"))
    kernel.swapon(16384)
    kernel.swapoff(first)
    report = check_frames(kernel.memory)
    assert report.sound, str(report)
    assert slot_types(kernel) <= {1}
    for at in range(area, area + (44 << 20), 64 * PAGE):
        assert process.read(at, 8) == at.to_bytes(8, "little")


def slot_types(kernel: Kernel) -> set[int]:
    """Areas of the slots in the caches of the CPUs."""
    return {entry >> SWP_TYPE_SHIFT for entry in kept_slots(Check(kernel.memory)).tolist()}


def test_slots_are_not_cached_while_an_area_is_given_up(lab: Lab) -> None:
    lab.swap(4096)
    assert check_cache_active(lab.m)
    lab.m[G_SWAP_SLOTS_ACTIVE] = SLOTS_DISABLED
    assert not check_cache_active(lab.m)
    assert lab.m[G_SWAP_SLOTS_ACTIVE] == SLOTS_DISABLED
