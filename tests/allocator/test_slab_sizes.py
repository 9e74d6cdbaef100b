# SPDX-License-Identifier: GPL-2.0-only
"""How objects are laid out in slabs: the figures that /proc/slabinfo of real machines shows."""

from __future__ import annotations

import pytest

from allocator.slab import SLAB_HWCACHE_ALIGN
from allocator.slab_sizes import calculate_alignment, calculate_order, cpu_partial_of, get_order


@pytest.mark.parametrize(
    ("size", "cpus", "order", "objects"),
    [
        (64, 4, 0, 64),
        (192, 4, 0, 21),
        (256, 4, 0, 16),
        (512, 4, 1, 16),
        (1024, 4, 2, 16),
        (2048, 4, 3, 16),
        (4096, 4, 3, 8),
        (8192, 4, 3, 4),
        (512, 1, 0, 8),
        (1024, 1, 1, 8),
        (576, 8, 2, 28),
        (608, 8, 2, 26),
        (96, 256, 0, 42),
        (512, 256, 3, 64),
    ],
)
def test_orders_are_those_of_real_machines(size: int, cpus: int, order: int, objects: int) -> None:
    assert calculate_order(size, cpus, 3) == order
    assert (4096 << order) // size == objects


def test_objects_too_large_for_the_highest_order_get_a_block_of_their_own() -> None:
    assert calculate_order(40_000, 4, 3) == 4
    assert calculate_order(4 << 20, 4, 3) == 10
    assert calculate_order(64, 4, 0) == 0
    assert calculate_order(8192, 4, 0) == 1, "as with debug_guardpage_minorder"


@pytest.mark.parametrize(
    ("flags", "align", "size", "expected"),
    [
        (0, 0, 100, 8),
        (0, 4, 100, 8),
        (0, 32, 100, 32),
        (SLAB_HWCACHE_ALIGN, 0, 200, 64),
        (SLAB_HWCACHE_ALIGN, 0, 33, 64),
        (SLAB_HWCACHE_ALIGN, 0, 32, 32),
        (SLAB_HWCACHE_ALIGN, 0, 16, 16),
        (SLAB_HWCACHE_ALIGN, 0, 8, 8),
        (SLAB_HWCACHE_ALIGN, 128, 8, 128),
    ],
)
def test_small_objects_share_a_cache_line(flags: int, align: int, size: int, expected: int) -> None:
    assert calculate_alignment(flags, align, size) == expected


@pytest.mark.parametrize(
    ("size", "objects"), [(8, 30), (255, 30), (256, 13), (1023, 13), (1024, 6), (4096, 2)]
)
def test_cpus_keep_fewer_large_objects(size: int, objects: int) -> None:
    assert cpu_partial_of(size) == objects


@pytest.mark.parametrize(("size", "order"), [(1, 0), (4096, 0), (4097, 1), (8192, 1), (8193, 2)])
def test_get_order_is_the_smallest_block_that_holds_it(size: int, order: int) -> None:
    assert get_order(size) == order
