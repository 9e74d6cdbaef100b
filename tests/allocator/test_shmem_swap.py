# SPDX-License-Identifier: GPL-2.0-only
"""One page of shared memory on its way to swap and back."""

from __future__ import annotations

import pytest

from allocator.address_space import AS_I_PAGES, AS_NRPAGES, swap_info
from allocator.blockdev import blk_wait_any
from allocator.fs import INODE_MAPPING
from allocator.kernel_globals import G_SHMEM_INODES, G_SHMEM_SWAPLIST
from allocator.layout import PAGE_OFFSET
from allocator.mm_inline import PG_SWAPCACHE
from allocator.mm_types import P_FLAGS, P_MAPPING, PG_DIRTY, PG_LOCKED, PG_WRITEBACK
from allocator.mmap import do_mmap
from allocator.rmap_walk import TTU_IGNORE_ACCESS, try_to_unmap
from allocator.shmem import SHMEM_SWAPLIST, SHMEM_SWAPPED, radix_to_swp_entry
from allocator.shmem_swap import find_swap_entry, shmem_unuse, shmem_writepage
from allocator.swap_map import (
    SWAP_HAS_CACHE,
    SWAP_MAP_SHMEM,
    slot_usage,
    swap_duplicate,
    swp_swapcount,
)
from allocator.swapops import swp_entry, swp_offset
from allocator.xarray import xa_load
from tests.allocator.process_support import MAP_ANONYMOUS, MAP_SHARED, PAGE, Lab, fresh_lab

EINVAL, EEXIST = 22, 17


class Shared:
    """A process with three pages of shared memory, and their inode."""

    def __init__(self, swap: bool = True) -> None:
        lab: Lab = fresh_lab("1x64M")
        self.lab, self.m = lab, lab.m
        if swap:
            lab.swap(512)
        self.task = lab.process()
        with lab.acting(self.task):
            flags = MAP_SHARED | MAP_ANONYMOUS
            self.at = do_mmap(lab.m, 0, lab.mm(self.task), 0, 0, 3 * PAGE, 3, flags, 0)
        for i in range(3):
            lab.poke(self.task, self.at + i * PAGE, 70 + i)
        self.p = lab.page(self.task, self.at + PAGE)
        self.mapping = (self.m[self.p + P_MAPPING] - PAGE_OFFSET) >> 3
        self.inode = self.mapping - INODE_MAPPING

    def write(self) -> bool:
        """Has the middle page written as reclaim does: locked, unmapped, cleaned."""
        self.m[self.p + P_FLAGS] |= PG_LOCKED
        assert try_to_unmap(self.m, 0, self.p, TTU_IGNORE_ACCESS)
        self.m[self.p + P_FLAGS] &= ~PG_DIRTY
        return shmem_writepage(self.m, 0, self.p)

    @property
    def entry(self) -> int:
        return radix_to_swp_entry(xa_load(self.m, self.mapping + AS_I_PAGES, 1))


def test_a_page_that_is_written_leaves_its_swap_entry_behind() -> None:
    shared = Shared()
    m, p = shared.m, shared.p
    assert shared.write()
    assert m[p + P_FLAGS] & (PG_SWAPCACHE | PG_WRITEBACK) == PG_SWAPCACHE | PG_WRITEBACK
    assert m[p + P_MAPPING] == 0
    usage = slot_usage(m, swap_info(m, 0), swp_offset(shared.entry))
    assert usage == SWAP_HAS_CACHE | SWAP_MAP_SHMEM
    assert swap_duplicate(m, shared.entry) == -EINVAL
    assert (m[shared.mapping + AS_NRPAGES], m[shared.inode + SHMEM_SWAPPED]) == (2, 1)
    assert m[G_SHMEM_SWAPLIST] == PAGE_OFFSET + (shared.inode + SHMEM_SWAPLIST << 3)
    while blk_wait_any(m, 0):
        pass
    assert shared.lab.check().sound
    assert shared.lab.peek(shared.task, shared.at + PAGE) == 71
    assert (m[shared.mapping + AS_NRPAGES], m[shared.inode + SHMEM_SWAPPED]) == (3, 0)
    assert shared.lab.check().sound


@pytest.mark.parametrize("swap", [False, True])
def test_without_room_in_swap_the_page_stays_dirty_and_locked(swap: bool) -> None:
    shared = Shared(swap)
    if swap:
        # all but the pages of others: nothing is left
        from allocator.swapfile import get_swap_page

        while get_swap_page(shared.m, 0, shared.p):
            pass
    assert not shared.write()
    flags = shared.m[shared.p + P_FLAGS]
    assert flags & PG_DIRTY
    assert flags & PG_LOCKED
    assert not flags & PG_SWAPCACHE
    assert shared.m[shared.mapping + AS_NRPAGES] == 3


def test_the_owner_of_a_slot_is_found_by_it() -> None:
    shared = Shared()
    m = shared.m
    assert shared.write()
    assert find_swap_entry(m, shared.inode, shared.entry) == 1
    assert find_swap_entry(m, shared.inode, swp_entry(0, 400)) == -1
    while blk_wait_any(m, 0):
        pass
    entry = shared.entry
    m[shared.p + P_FLAGS] |= PG_LOCKED
    assert shmem_unuse(m, 0, entry, shared.p) == 0
    assert swp_swapcount(m, entry) == 0
    assert m[shared.p + P_FLAGS] & (PG_SWAPCACHE | PG_DIRTY) == PG_DIRTY
    assert shmem_unuse(m, 0, entry, shared.p) == -EEXIST
    m[shared.p + P_FLAGS] &= ~PG_LOCKED
    assert shared.lab.check().sound
    assert shared.lab.peek(shared.task, shared.at + PAGE) == 71


def test_what_is_in_swap_ends_with_its_inode() -> None:
    shared = Shared()
    assert shared.write()
    while blk_wait_any(shared.m, 0):
        pass
    entry = shared.entry
    shared.lab.exit(shared.task)
    assert swp_swapcount(shared.m, entry) == 0
    assert shared.m[G_SHMEM_INODES] == PAGE_OFFSET + (G_SHMEM_INODES << 3)
    assert shared.m[G_SHMEM_SWAPLIST] == PAGE_OFFSET + (G_SHMEM_SWAPLIST << 3)
    assert shared.lab.check().sound
