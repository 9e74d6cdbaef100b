# SPDX-License-Identifier: GPL-2.0-only
"""shrink_slab: the arithmetic of 4.20, deferral, and what the file system's shrinker gives."""

from __future__ import annotations

import pytest

from allocator.dcache import super_block, super_cache_count
from allocator.file_table import fput
from allocator.fs import SB_NR_DENTRY, SB_NR_INODES
from allocator.gfp import GFP_KERNEL, GFP_NOFS
from allocator.kernel_globals import G_SHRINKER_LIST, G_VFS_CACHE_PRESSURE
from allocator.layout import CPU_BLOCKS, CPU_EVENTS, word_of_va
from allocator.shrinker import (
    SH_LIST,
    SH_NR_DEFERRED,
    scan_target,
    shrink_delta,
    shrink_slab,
    unregister_shrinker,
)
from allocator.vm_events import SLABS_SCANNED
from tests.allocator.disk import Disk


@pytest.mark.parametrize(
    ("freeable", "seeks", "batch", "priority", "delta"),
    [
        (1000, 2, 128, 12, 128),
        (100, 2, 128, 12, 100),
        (1 << 20, 2, 128, 12, 512),
        (1 << 20, 2, 1024, 12, 1024),
        (1000, 2, 128, 0, 2000),
        (1000, 0, 128, 12, 500),
        (7, 0, 128, 12, 7),
        (4096, 4, 128, 3, 512),
    ],
)
def test_pressure_becomes_objects_to_look_at(
    freeable: int, seeks: int, batch: int, priority: int, delta: int
) -> None:
    assert shrink_delta(freeable, seeks, batch, priority) == delta


@pytest.mark.parametrize(
    ("freeable", "deferred", "delta", "total"),
    [
        (1000, 0, 128, 128),
        (1000, 5000, 128, 500),
        (1000, 100, 128, 228),
        (1000, 5000, 400, 2000),
        (1000, 0, 2000, 2000),
    ],
)
def test_what_was_left_over_does_not_empty_the_cache_at_once(
    freeable: int, deferred: int, delta: int, total: int
) -> None:
    assert scan_target(freeable, deferred, delta) == total


def with_files(count: int) -> Disk:
    """A disk with so many files that nobody has open."""
    disk = Disk()
    for i in range(count):
        fput(disk.m, 0, disk.file(f"file{i}"))
    return disk


def test_unused_names_and_inodes_are_counted_and_freed() -> None:
    disk = with_files(30)
    m, sb = disk.m, super_block(disk.m)
    assert super_cache_count(m, 0) == 30, "inodes are held by their names"
    m[G_VFS_CACHE_PRESSURE] = 50
    assert super_cache_count(m, 0) == 15
    m[G_VFS_CACHE_PRESSURE] = 100
    freed = shrink_slab(m, 0, GFP_KERNEL, 0, 0, 0)
    while shrink_slab(m, 0, GFP_KERNEL, 0, 0, 0):
        continue
    assert freed > 0
    assert m[sb + SB_NR_DENTRY] == 0
    assert m[CPU_BLOCKS + CPU_EVENTS + SLABS_SCANNED] > 0
    assert disk.open("file7", create=False) > 0, "the disk still has it"


def test_a_request_that_may_not_enter_the_file_system_is_remembered() -> None:
    disk = with_files(30)
    m = disk.m
    sh = word_of_va(m[G_SHRINKER_LIST]) - SH_LIST
    assert shrink_slab(m, 0, GFP_NOFS, 0, 0, 12) == 0
    assert m[sh + SH_NR_DEFERRED] == 30
    assert shrink_slab(m, 0, GFP_NOFS, 0, 0, 12) == 0
    assert m[sh + SH_NR_DEFERRED] == 60
    assert m[super_block(m) + SB_NR_DENTRY] == 30


def test_a_name_used_lately_survives_the_first_look() -> None:
    disk = with_files(2)
    m, sb = disk.m, super_block(disk.m)
    fput(m, 0, disk.open("file0", create=False))
    while shrink_slab(m, 0, GFP_KERNEL, 0, 0, 12) == 0:
        continue
    assert m[sb + SB_NR_DENTRY] == 1
    assert m[sb + SB_NR_INODES] >= 1


def test_a_shrinker_that_is_gone_is_not_asked() -> None:
    disk = with_files(5)
    m = disk.m
    unregister_shrinker(m, 0, word_of_va(m[G_SHRINKER_LIST]) - SH_LIST)
    assert shrink_slab(m, 0, GFP_KERNEL, 0, 0, 0) == 0
