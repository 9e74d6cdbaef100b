# SPDX-License-Identifier: GPL-2.0-only
"""Modelled disks: bytes get there and back, in order, in modelled time."""

from __future__ import annotations

from allocator.blockdev import (
    BD_BAD_COUNT,
    BD_BAD_FIRST,
    BD_NR_BLOCKS,
    BD_START_WORD,
    BD_WRITES,
    REQ_OP_READ,
    REQ_OP_WRITE,
    SEEK_NS,
    TRANSFER_NS,
    bdev_create,
    bdev_destroy,
    bdev_name,
    bdev_read_page,
    blk_poll,
    blk_wait_any,
    block_devices,
    lock_page_wait,
    submit_page,
    wait_on_page_locked,
    wait_on_page_writeback,
)
from allocator.gfp import GFP_KERNEL, GFP_NOWAIT
from allocator.kernel_globals import G_BLK_NEXT, G_CLOCK
from allocator.layout import CPU_BLOCKS, CPU_EVENTS
from allocator.mm_types import P_FLAGS, PG_ERROR, PG_LOCKED, PG_UPTODATE, PG_WRITEBACK
from allocator.page_alloc import alloc_pages_nodemask
from allocator.page_dirty import set_page_writeback
from allocator.vm_events import PGPGIN, PGPGOUT
from tests.allocator.disk import STORAGE, Disk


def frame(disk: Disk, value: int) -> int:
    """A struct page whose frame holds `value` in every word."""
    pfn = alloc_pages_nodemask(disk.m, 0, GFP_KERNEL, 0, 0, 0)
    for i in range(512):
        disk.m[(pfn << 9) + i] = value
    return disk.page_of(pfn)


def words(disk: Disk, p: int) -> set[int]:
    """The different words of the frame of struct page `p`."""
    pfn = next(pfn for pfn in range(16384, 16384 + 4096) if disk.page_of(pfn) == p)
    return set(disk.m[pfn << 9 : (pfn + 1) << 9])


def write(disk: Disk, bdev: int, block: int, p: int) -> None:
    """Queues the writing of a page as writepage does."""
    set_page_writeback(disk.m, 0, p)
    submit_page(disk.m, 0, bdev, REQ_OP_WRITE, block, p)


def read(disk: Disk, bdev: int, block: int, p: int) -> None:
    """Queues the reading of a page as readpage does."""
    disk.m[p + P_FLAGS] |= PG_LOCKED
    submit_page(disk.m, 0, bdev, REQ_OP_READ, block, p)


def test_what_is_written_can_be_read_once_the_disk_is_done() -> None:
    disk = Disk()
    m = disk.m
    bdev = bdev_create(m, 0, b"vdb", 100)
    p, q = frame(disk, 7), frame(disk, 8)
    start = m[G_CLOCK]
    write(disk, bdev, 5, p)
    read(disk, bdev, 5, q)
    assert m[p + P_FLAGS] & PG_WRITEBACK
    blk_poll(m, 0)
    assert m[p + P_FLAGS] & PG_WRITEBACK, "no time has passed"
    assert wait_on_page_locked(m, 0, q)
    assert m[p + P_FLAGS] & PG_WRITEBACK == 0
    assert m[q + P_FLAGS] & (PG_LOCKED | PG_UPTODATE | PG_ERROR) == PG_UPTODATE
    assert words(disk, q) == {7}
    assert m[G_CLOCK] - start == 2 * (SEEK_NS + TRANSFER_NS)
    assert m[CPU_BLOCKS + CPU_EVENTS + PGPGIN] == m[CPU_BLOCKS + CPU_EVENTS + PGPGOUT] == 8


def test_blocks_in_order_cost_no_seek_and_are_done_one_after_the_other() -> None:
    disk = Disk()
    m = disk.m
    bdev = bdev_create(m, 0, b"vdb", 100)
    pages = [frame(disk, i) for i in range(4)]
    start = m[G_CLOCK]
    for i, p in enumerate(pages):
        write(disk, bdev, 10 + i, p)
    done = []
    while blk_wait_any(m, 0):
        flags = [m[p + P_FLAGS] & PG_WRITEBACK == 0 for p in pages]
        done.append((m[G_CLOCK] - start, sum(flags)))
    assert done == [(SEEK_NS + TRANSFER_NS * n, n) for n in range(1, 5)]
    assert m[bdev + BD_WRITES] == 4
    assert m[G_BLK_NEXT] == 0


def test_the_bytes_of_a_write_are_those_of_the_moment_it_was_queued() -> None:
    disk = Disk()
    m = disk.m
    bdev = bdev_create(m, 0, b"vdb", 10)
    p, q = frame(disk, 1), frame(disk, 0)
    write(disk, bdev, 0, p)
    pfn = next(pfn for pfn in range(16384, 20480) if disk.page_of(pfn) == p)
    m[pfn << 9] = 99
    wait_on_page_writeback(m, 0, p)
    read(disk, bdev, 0, q)
    wait_on_page_locked(m, 0, q)
    assert words(disk, q) == {1}


def test_a_bad_block_is_an_error_on_the_page() -> None:
    disk = Disk()
    m = disk.m
    bdev = bdev_create(m, 0, b"vdb", 10)
    m[bdev + BD_BAD_FIRST], m[bdev + BD_BAD_COUNT] = 3, 1
    p = frame(disk, 5)
    m[p + P_FLAGS] |= PG_LOCKED
    assert not bdev_read_page(m, 0, bdev, 3, p)
    assert m[p + P_FLAGS] & (PG_ERROR | PG_UPTODATE | PG_LOCKED) == PG_ERROR
    assert words(disk, p) == {5}
    m[p + P_FLAGS] |= PG_LOCKED
    assert bdev_read_page(m, 0, bdev, 4, p)


def test_nobody_waits_for_ever() -> None:
    disk = Disk()
    p = frame(disk, 0)
    disk.m[p + P_FLAGS] |= PG_LOCKED
    assert not wait_on_page_locked(disk.m, 0, p)
    assert not lock_page_wait(disk.m, 0, p)
    assert not blk_wait_any(disk.m, 0)


def test_devices_share_storage_and_give_it_back() -> None:
    disk = Disk()
    m = disk.m
    (vda,) = block_devices(m)
    assert bdev_name(m, vda) == "vda"
    left = (STORAGE >> 12) - m[vda + BD_NR_BLOCKS]
    first = bdev_create(m, 0, b"one", left // 2)
    second = bdev_create(m, 0, b"two", left - left // 2)
    assert bdev_create(m, 0, b"three", 1) == 0
    places = [m[bdev + BD_START_WORD] for bdev in block_devices(m)]
    assert places == sorted(places)
    write(disk, first, 0, frame(disk, 3))
    bdev_destroy(m, 0, first)
    assert m[G_BLK_NEXT] == 0, "its queue was emptied first"
    again = bdev_create(m, 0, b"again", left // 2)
    assert m[again + BD_START_WORD] == places[1]
    assert bdev_create(m, 0, b"none", 0) == 0
    assert second in block_devices(m)


def test_without_memory_for_a_request_it_is_waited_for() -> None:
    disk = Disk()
    m = disk.m
    bdev = bdev_create(m, 0, b"vdb", 2000)
    pages = [frame(disk, i) for i in range(200)]
    for order in (9, 3, 0):
        while alloc_pages_nodemask(m, 0, GFP_NOWAIT, order, 0, 0) >= 0:
            continue
    for i, p in enumerate(pages):
        write(disk, bdev, 2 * i, p)
    while blk_wait_any(m, 0):
        continue
    assert not any(m[p + P_FLAGS] & PG_WRITEBACK for p in pages)
    start = m[bdev + BD_START_WORD]
    assert [m[start + (2 * i << 9)] for i in range(200)] == list(range(200))
