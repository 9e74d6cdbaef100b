# SPDX-License-Identifier: GPL-2.0-only
"""Making swap areas and beginning to use them."""

from __future__ import annotations

import pytest

from allocator.address_space import AOPS_SWAP, AS_A_OPS, SI_SPACES, swap_info
from allocator.blockdev import BD_START_WORD, bdev_create, blockdev_init
from allocator.kernel_globals import (
    G_LEAST_PRIORITY,
    G_NR_ROTATE_SWAP,
    G_NR_SWAP_PAGES,
    G_NR_SWAPFILES,
    G_SWAPIN_HITS,
    G_TOTAL_SWAP_PAGES,
)
from allocator.layout import PAGE_OFFSET
from allocator.swap_map import (
    SI_HIGHEST,
    SI_LOWEST,
    SI_MAX,
    SI_PAGES,
    SI_PRIO,
    SWAP_MAP_BAD,
    slot_usage,
)
from allocator.swapon import (
    EBUSY,
    EINVAL,
    EPERM,
    HEADER_VERSION,
    MAX_SLOTS,
    block_order,
    mkswap,
    swapon,
)
from allocator.xarray import radix_tree_init
from tests.allocator.process_support import Lab


def device(lab: Lab, pages: int, name: bytes = b"sda") -> int:
    radix_tree_init(lab.m, 0)
    blockdev_init(lab.m, 0)
    bdev = bdev_create(lab.m, 0, name, pages)
    assert bdev
    return bdev


def test_the_header_is_the_one_that_mkswap_writes(lab: Lab) -> None:
    bdev = device(lab, 100)
    assert mkswap(lab.m, bdev) == 99
    at = lab.m[bdev + BD_START_WORD]
    page = lab.m[at : at + 512].tobytes()
    assert page[4086:] == b"SWAPSPACE2"
    assert int.from_bytes(page[1024:1028], "little") == 1
    assert int.from_bytes(page[1028:1032], "little") == 99


def test_an_area_has_all_slots_free_but_its_header(lab: Lab) -> None:
    m, bdev = lab.m, device(lab, 20000)
    mkswap(m, bdev)
    assert swapon(m, 0, bdev) == 0
    si = swap_info(m, 0)
    assert (m[si + SI_MAX], m[si + SI_PAGES]) == (20000, 19999)
    assert (m[si + SI_LOWEST], m[si + SI_HIGHEST]) == (1, 19999)
    assert [slot_usage(m, si, i) for i in (0, 1, 19999)] == [SWAP_MAP_BAD, 0, 0]
    assert m[G_NR_SWAP_PAGES] == m[G_TOTAL_SWAP_PAGES] == 19999
    assert (m[G_NR_SWAPFILES], m[G_NR_ROTATE_SWAP]) == (1, 1)
    assert m[((m[si + SI_SPACES] - PAGE_OFFSET) >> 3) + AS_A_OPS] == AOPS_SWAP
    assert lab.check().sound


def test_priorities_are_given_or_counted_down(lab: Lab) -> None:
    m = lab.m
    assert (m[G_LEAST_PRIORITY], m[G_SWAPIN_HITS]) == (-1, 4)
    for prio in (-1, 7, -1):
        bdev = device(lab, 32)
        mkswap(m, bdev)
        assert swapon(m, 0, bdev, prio) >= 0
    assert [m[swap_info(m, kind) + SI_PRIO] for kind in range(3)] == [-2, 7, -3]


@pytest.mark.parametrize("prio", [-2, 0x8000])
def test_a_priority_out_of_range_is_refused(lab: Lab, prio: int) -> None:
    bdev = device(lab, 32)
    mkswap(lab.m, bdev)
    assert swapon(lab.m, 0, bdev, prio) == -EINVAL


def test_a_device_without_header_or_in_use_is_refused(lab: Lab) -> None:
    m, bdev = lab.m, device(lab, 32)
    assert swapon(m, 0, bdev) == -EINVAL
    assert mkswap(m, device(lab, 5)) == -EINVAL
    mkswap(m, bdev)
    assert swapon(m, 0, bdev) == 0
    assert swapon(m, 0, bdev) == -EBUSY


@pytest.mark.parametrize(("version", "last"), [(2, 31), (1, 0), (1, 32)])
def test_a_header_that_cannot_be_is_refused(lab: Lab, version: int, last: int) -> None:
    m, bdev = lab.m, device(lab, 32)
    mkswap(m, bdev)
    m[m[bdev + BD_START_WORD] + HEADER_VERSION] = version | last << 32
    assert swapon(m, 0, bdev) == -EINVAL
    assert m[G_NR_SWAPFILES] == 0


def test_there_are_twenty_nine_areas(lab: Lab) -> None:
    m = lab.m
    for _ in range(29):
        bdev = device(lab, 16)
        mkswap(m, bdev)
        assert swapon(m, 0, bdev) >= 0
    bdev = device(lab, 16)
    mkswap(m, bdev)
    assert swapon(m, 0, bdev) == -EPERM
    assert lab.check().sound


def test_a_swap_map_is_one_block_of_the_page_allocator() -> None:
    assert [block_order(words) for words in (1, 512, 513, MAX_SLOTS // 4)] == [0, 0, 1, 10]
