# SPDX-License-Identifier: GPL-2.0-only
"""Damage to shared memory is found, and finding it neither hangs nor raises."""

from __future__ import annotations

import random

import pytest

from allocator.address_space import AS_I_PAGES, AS_NRPAGES
from allocator.check import check_frames
from allocator.check.context import Check
from allocator.check.shmem_rules import entries, shared_slots, shmem_inodes
from allocator.fs import INODE_MAPPING, INODE_SB_LIST
from allocator.kernel import Kernel
from allocator.kernel_globals import G_SHMEM_INODES
from allocator.layout import NODE_DATA, PAGE_OFFSET
from allocator.mm_types import P_INDEX, PG_SWAPBACKED
from allocator.mmzone import ND_VM_STAT, NR_SHMEM
from allocator.shmem import SHMEM_SWAPPED, swp_to_radix_entry
from allocator.swapops import swp_offset
from allocator.xarray import XA_HEAD, XN_SLOTS
from tests.allocator.machines import boot

PAGE = 4096
PAGES = 3000


@pytest.fixture(scope="module")
def machine() -> Kernel:
    """Shared memory, a part of it in swap."""
    kernel = boot("1x32M")
    kernel.swapon(8192)
    process = kernel.create_process()
    area = process.mmap(PAGES * PAGE, shared=True)
    process.touch(area, PAGES * PAGE)
    process.touch(process.mmap(9000 * PAGE), 9000 * PAGE)
    return kernel


@pytest.fixture
def kernel(machine: Kernel):  # type: ignore[no-untyped-def]
    assert machine.machine is not None
    with machine.machine.checkpoint():
        yield machine


def broken(kernel: Kernel) -> set[str]:
    return {finding.rule for finding in check_frames(kernel.memory).findings}


def inode_of(kernel: Kernel) -> int:
    (inode,) = shmem_inodes(Check(kernel.memory))
    return inode


def node_of(kernel: Kernel) -> int:
    """The top node of the inode's xarray."""
    return (kernel.m[inode_of(kernel) + INODE_MAPPING + AS_I_PAGES + XA_HEAD] - PAGE_OFFSET) >> 3


def test_what_is_there_is_read_as_it_is(kernel: Kernel) -> None:
    check = Check(kernel.memory)
    inode = inode_of(kernel)
    found = entries(check, inode)
    assert sorted(index for index, _ in found) == list(range(PAGES))
    slots = shared_slots(check)
    assert slots.size == kernel.m[inode + SHMEM_SWAPPED] > 100
    assert slots.size + kernel.m[inode + INODE_MAPPING + AS_NRPAGES] == PAGES
    assert broken(kernel) == set()


def test_wrong_counters_are_found(kernel: Kernel) -> None:
    inode = inode_of(kernel)
    kernel.m[inode + SHMEM_SWAPPED] += 1
    assert broken(kernel) == {"shmem-counter"}
    kernel.m[inode + SHMEM_SWAPPED] -= 1
    kernel.m[inode + INODE_MAPPING + AS_NRPAGES] -= 1
    assert broken(kernel) == {"shmem-counter"}


def test_a_lost_count_of_the_node_is_found(kernel: Kernel) -> None:
    kernel.m[(kernel.m[NODE_DATA] - PAGE_OFFSET >> 3) + ND_VM_STAT + NR_SHMEM] += 1
    assert broken(kernel) == {"node-lru-counter"}


def test_a_page_with_another_index_is_found(kernel: Kernel) -> None:
    page = next(p for p in (kernel.process(2).page(a) for a in addresses(kernel)) if p)
    kernel.m[page.word + P_INDEX] += 1
    assert "shmem-page" in broken(kernel)
    kernel.m[page.word + P_INDEX] -= 1
    kernel.m[page.word] &= ~PG_SWAPBACKED
    assert "shmem-page" in broken(kernel)


def addresses(kernel: Kernel) -> range:
    area = next(area for area in kernel.process(2).areas if area.name)
    return range(area.start, area.end, PAGE)


def test_a_swap_entry_that_is_there_twice_or_lost_is_found(kernel: Kernel) -> None:
    check = Check(kernel.memory)
    leaf = (kernel.m[node_of(kernel) + XN_SLOTS] - PAGE_OFFSET) >> 3
    slots = shared_slots(check).tolist()
    assert len({swp_offset(slot) for slot in slots}) == len(slots)
    at = leaf + XN_SLOTS + 5
    kernel.m[at] = swp_to_radix_entry(slots[-1])
    assert "swap-count" in broken(kernel)
    kernel.m[at] = 0
    assert "shmem-counter" in broken(kernel)
    kernel.m[at] = swp_to_radix_entry(1 << 40)
    assert "swap-entry" in broken(kernel)


def test_a_broken_list_is_found(kernel: Kernel) -> None:
    for value in (8, PAGE_OFFSET + (inode_of(kernel) + INODE_SB_LIST + 3 << 3)):
        before = kernel.m[G_SHMEM_INODES]
        kernel.m[G_SHMEM_INODES] = value
        assert "shmem-list" in broken(kernel)
        kernel.m[G_SHMEM_INODES] = before


def test_nodes_that_lead_in_circles_are_found(kernel: Kernel) -> None:
    node = node_of(kernel)
    before = kernel.m[node + XN_SLOTS + 1]
    kernel.m[node + XN_SLOTS + 1] = PAGE_OFFSET + (node << 3) + 2
    assert "shmem-tree" in broken(kernel)
    kernel.m[node + XN_SLOTS + 1] = kernel.m[node + XN_SLOTS]
    assert "shmem-tree" in broken(kernel)
    kernel.m[node + XN_SLOTS + 1] = before


@pytest.mark.parametrize("seed", range(24))
def test_a_flipped_bit_in_a_node_is_found(kernel: Kernel, seed: int) -> None:
    dice = random.Random(seed)
    node = node_of(kernel)
    leaf = (kernel.m[node + XN_SLOTS + dice.randrange(40)] - PAGE_OFFSET) >> 3
    where = dice.choice([node, leaf])
    if dice.random() < 0.3:
        kernel.m[where] ^= 1 << dice.randrange(8)
    else:
        kernel.m[where + XN_SLOTS + dice.randrange(40)] ^= 1 << dice.randrange(63)
    assert broken(kernel)
