# SPDX-License-Identifier: GPL-2.0-only
"""LRU lists and page counters that do not fit are found."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.check.context import Check
from allocator.check.lru_rules import NODE_ITEMS, ZONE_ITEMS, page_lists, small_pages
from allocator.layout import NODE_DATA, PAGE_OFFSET, VMEMMAP_START
from allocator.list_head import list_del
from allocator.mm_inline import page_to_pfn
from allocator.mm_types import (
    P_NEXT,
    P_PREV,
    PG_ACTIVE,
    PG_LRU,
    PG_SWAPBACKED,
    PG_UNEVICTABLE,
)
from allocator.mmzone import ND_LRU_LISTS, ND_VM_STAT, Z_VM_STAT
from tests.allocator.check.owner_lab import OwnerLab
from tests.allocator.processes import boot, sound


@pytest.fixture
def owners() -> OwnerLab:
    owners = OwnerLab()
    owners.lab.drain()
    return owners


def test_flags_say_the_list() -> None:
    flags = [0, PG_ACTIVE, PG_SWAPBACKED, PG_SWAPBACKED | PG_ACTIVE, PG_UNEVICTABLE | PG_SWAPBACKED]
    assert page_lists(np.array(flags, dtype=np.uint32)).tolist() == [2, 3, 0, 1, 4]


def test_huge_pages_count_as_their_small_ones(owners: OwnerLab) -> None:
    check = Check(owners.lab.memory)
    huge = owners.lab.new_page(9)
    at = [check.frames.index(page_to_pfn(owners.m, p)) for p in (owners.page(0), huge)]
    check = Check(owners.lab.memory)
    assert small_pages(check, np.array(at)).tolist() == [1, 512]


def test_a_bent_pointer_of_a_list_is_found(owners: OwnerLab) -> None:
    p = owners.page(15)
    for word, rule in ((P_NEXT, "lru-next"), (P_PREV, "lru-prev")):
        before = owners.m[p + word]
        owners.m[p + word] = VMEMMAP_START + 8
        assert rule in owners.broken()
        owners.m[p + word] = before
    assert owners.broken() == set()


def test_a_page_that_is_on_no_list_though_it_says_so_is_found(owners: OwnerLab) -> None:
    p = owners.page(15)
    list_del(owners.m, p + P_NEXT)
    assert "lru-flag" in owners.broken()


def test_a_page_that_is_listed_though_it_does_not_say_so_is_found(owners: OwnerLab) -> None:
    owners.m[owners.page(15)] &= ~PG_LRU
    assert {"lru-flag", "node-lru-counter", "zone-lru-counter"} <= owners.broken()


@pytest.mark.parametrize("flag", [PG_ACTIVE, PG_SWAPBACKED, PG_UNEVICTABLE])
def test_a_page_on_another_list_than_its_flags_say_is_found(owners: OwnerLab, flag: int) -> None:
    owners.m[owners.page(15)] ^= flag
    assert "lru-place" in owners.broken()


def test_a_list_whose_head_is_lost_is_found(owners: OwnerLab) -> None:
    nd = (owners.m[NODE_DATA] - PAGE_OFFSET) >> 3
    owners.m[nd + ND_LRU_LISTS + 2] = 0
    assert "lru-next" in owners.broken()


@pytest.mark.parametrize("item", NODE_ITEMS)
def test_every_node_counter_is_exact(owners: OwnerLab, item: int) -> None:
    nd = (owners.m[NODE_DATA + 1] - PAGE_OFFSET) >> 3
    owners.m[nd + ND_VM_STAT + item] += 1
    assert owners.broken() == {"node-lru-counter"}


@pytest.mark.parametrize("item", ZONE_ITEMS)
def test_every_zone_counter_is_exact(owners: OwnerLab, item: int) -> None:
    z = owners.lab.zone_of(owners.page(15))
    owners.m[z + Z_VM_STAT + item] += 1
    assert owners.broken() == {"zone-lru-counter"}


def test_page_tables_that_are_charged_to_a_control_group_count_as_page_tables() -> None:
    kernel = boot()
    proc = kernel.create_process("charged")
    with proc.running() as cpu:
        kernel.create_memcg().attach(cpu)
    proc.write(proc.mmap(4096), b"x")
    sound(kernel)
