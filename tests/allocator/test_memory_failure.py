# SPDX-License-Identifier: GPL-2.0-only
"""Bad frames in every state."""

from __future__ import annotations

import pytest

from allocator.fault import BUS_MCEERR_AO, access_process
from allocator.gfp import GFP_HIGHUSER_MOVABLE
from allocator.layout import G_NUM_POISONED_PAGES, TASK_FATAL_SIGNAL
from allocator.memory_failure import (
    EBUSY,
    ENXIO,
    ME_HUGE,
    ME_KERNEL,
    ME_LRU_CLEAN,
    ME_LRU_DIRTY,
    ME_SWAPCACHE_CLEAN,
    ME_SWAPCACHE_DIRTY,
    ME_UNKNOWN,
    MF_ACTION_REQUIRED,
    SIGBUS,
    error_state,
    is_free_buddy_page,
    memory_failure,
)
from allocator.mm_inline import PG_SWAPCACHE, page_mapped, page_to_pfn
from allocator.mm_struct import TASK_FAULT_SIGNAL
from allocator.mm_types import (
    P_COUNTS,
    PG_DIRTY,
    PG_HEAD,
    PG_HWPOISON,
    PG_LRU,
    PG_MLOCKED,
    PG_RESERVED,
    PG_SLAB,
    PG_SWAPBACKED,
    PG_UNEVICTABLE,
    REF_ONE,
)
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.swapops import is_hwpoison_entry, pte_to_swp_entry
from tests.allocator import processes
from tests.allocator.process_support import PAGE, READ, Lab
from tests.allocator.test_huge_split import HugeProcess

SC = PG_SWAPCACHE | PG_SWAPBACKED


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        (PG_RESERVED | PG_LRU, ME_KERNEL),
        (PG_SLAB, ME_KERNEL),
        (PG_HEAD | PG_LRU, ME_HUGE),
        (SC | PG_LRU | PG_DIRTY, ME_SWAPCACHE_DIRTY),
        (SC | PG_LRU, ME_SWAPCACHE_CLEAN),
        (PG_SWAPCACHE | PG_LRU, ME_LRU_CLEAN),
        (PG_MLOCKED | PG_DIRTY | PG_LRU, ME_LRU_DIRTY),
        (PG_MLOCKED, ME_LRU_CLEAN),
        (PG_UNEVICTABLE | PG_DIRTY, ME_LRU_DIRTY),
        (PG_UNEVICTABLE, ME_LRU_CLEAN),
        (PG_LRU | PG_DIRTY | PG_SWAPBACKED, ME_LRU_DIRTY),
        (PG_LRU, ME_LRU_CLEAN),
        (PG_DIRTY, ME_UNKNOWN),
        (0, ME_UNKNOWN),
    ],
)
def test_flags_say_what_a_page_is(flags: int, state: int) -> None:
    assert error_state(flags) == state


def process(lab: Lab) -> tuple[int, int, int]:
    """A process with a dirty anonymous page: task, address, struct page."""
    task = lab.process()
    at = lab.map(task, 4)
    for i in range(4):
        lab.poke(task, at + i * PAGE, 7 + i)
    lab.drain()
    return task, at, lab.page(task, at)


def fault(lab: Lab, task: int, address: int) -> int:
    """The signal that a process dies of when it reads there, 0 for none."""
    with lab.acting(task):
        return max(0, -access_process(lab.m, 0, task, address, READ))


def test_a_free_block_is_safe_since_its_bad_page_is_never_given_out(lab: Lab) -> None:
    m = lab.m
    pfn = alloc_pages_nodemask(m, 0, GFP_HIGHUSER_MOVABLE, 3, 0, 0)
    free_pages(m, 0, pfn, 3)
    assert is_free_buddy_page(m, pfn + 2)
    assert memory_failure(m, 0, pfn + 2) == 0
    assert m[G_NUM_POISONED_PAGES] == 1
    assert memory_failure(m, 0, pfn + 2) == 0
    assert m[G_NUM_POISONED_PAGES] == 1
    assert lab.check().sound


def test_frames_without_struct_pages_and_kernel_pages_cannot_be_helped(lab: Lab) -> None:
    m = lab.m
    assert memory_failure(m, 0, 1 << 29) == -ENXIO
    assert memory_failure(m, 0, -1) == -ENXIO
    slab = page_to_pfn(m, lab.page_at((lab.mm(lab.process()) << 3) >> 12))
    assert memory_failure(m, 0, slab) == -EBUSY
    block = lab.new_page(2)
    assert memory_failure(m, 0, page_to_pfn(m, block) + 1) == -EBUSY


def test_a_lost_page_leaves_a_trap_and_nothing_else(lab: Lab) -> None:
    m = lab.m
    task, at, p = process(lab)
    child = lab.fork(task)
    assert memory_failure(m, 0, page_to_pfn(m, p)) == 0
    assert not page_mapped(m, p)
    assert not m[p] & PG_LRU
    for who in (task, child):
        assert is_hwpoison_entry(pte_to_swp_entry(lab.pte(who, at)))
        assert fault(lab, who, at) == SIGBUS
        assert lab.peek(who, at + PAGE) == 8
    assert not m[task + TASK_FATAL_SIGNAL]
    lab.exit(child)
    lab.exit(task)
    assert m[p] & PG_HWPOISON
    assert lab.references(p) == 1
    assert lab.check().sound


def test_when_action_is_required_all_users_die_at_once(lab: Lab) -> None:
    m = lab.m
    task, _, p = process(lab)
    child, stranger = lab.fork(task), lab.process()
    assert memory_failure(m, 0, page_to_pfn(m, p), MF_ACTION_REQUIRED) == 0
    for who, dies in ((task, 1), (child, 1), (stranger, 0)):
        assert m[who + TASK_FATAL_SIGNAL] == dies
    assert m[task + TASK_FAULT_SIGNAL] == SIGBUS


def test_a_clean_page_of_the_swap_cache_is_read_again(lab: Lab) -> None:
    lab.swap(64)
    m = lab.m
    task, at, p = process(lab)
    assert lab.page_out(p)
    assert memory_failure(m, 0, page_to_pfn(m, p)) == 0
    assert not m[p] & PG_SWAPCACHE
    assert lab.peek(task, at) == 7
    assert lab.page(task, at) != p
    assert lab.check().sound


def test_a_dirty_page_of_the_swap_cache_is_lost_when_it_is_used(lab: Lab) -> None:
    lab.swap(64)
    m = lab.m
    task, at, p = process(lab)
    assert lab.page_out(p)
    m[p] |= PG_DIRTY
    assert memory_failure(m, 0, page_to_pfn(m, p)) == 0
    assert fault(lab, task, at) == SIGBUS
    lab.drain()
    assert lab.check().sound


def test_a_page_that_somebody_holds_is_lost_but_not_safe(lab: Lab) -> None:
    m = lab.m
    task, at, p = process(lab)
    m[p + P_COUNTS] += REF_ONE
    assert memory_failure(m, 0, page_to_pfn(m, p)) == -EBUSY
    assert fault(lab, task, at) == SIGBUS


@pytest.mark.parametrize("part", [0, 7, 511])
def test_of_a_huge_page_only_the_bad_part_is_lost(part: int) -> None:
    huge = HugeProcess()
    m, lab = huge.m, huge.lab
    assert memory_failure(m, 0, page_to_pfn(m, huge.p) + part) == 0
    assert [bool(m[huge.p + 8 * i] & PG_HWPOISON) for i in range(512)] == [
        i == part for i in range(512)
    ]
    assert fault(lab, huge.task, huge.at + part * PAGE) == SIGBUS
    for i in range(0, 512, 7):
        if i != part:
            assert lab.peek(huge.task, huge.at + i * PAGE) == 1000 + i
    lab.drain()
    assert lab.check().sound


def test_a_huge_page_that_is_held_stays_as_it_was() -> None:
    huge = HugeProcess()
    m = huge.m
    m[huge.p + P_COUNTS] += REF_ONE
    assert memory_failure(m, 0, page_to_pfn(m, huge.p) + 5) == -EBUSY
    assert m[G_NUM_POISONED_PAGES] == 0
    m[huge.p + P_COUNTS] -= REF_ONE
    huge.check()


def test_a_process_that_a_bad_frame_kills_dies_of_sigbus_with_the_reason() -> None:
    proc = processes.process()
    at = proc.mmap(PAGE, "rw")
    proc.write(at, b"gone")
    page = proc.page(at)
    assert page is not None
    proc.kernel.memory_failure(page.pfn, kill=True)
    death = processes.killed(lambda: proc.mmap(PAGE), SIGBUS, BUS_MCEERR_AO)
    assert f"SIGBUS at {at:#x}: hardware memory error in its memory" in str(death)
    assert not proc.alive
