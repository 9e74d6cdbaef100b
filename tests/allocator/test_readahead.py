# SPDX-License-Identifier: GPL-2.0-only
"""Readahead: the windows of 4.20, worked out from its source, and what is read for them."""

from __future__ import annotations

import pytest

from allocator.flusher import sync_inodes
from allocator.fs import (
    FILE_RA,
    RA_ASYNC_SIZE,
    RA_PAGES,
    RA_PREV_POS,
    RA_SIZE,
    RA_START,
)
from allocator.kernel_globals import G_CLOCK
from allocator.layout import CPU_BLOCKS, CPU_EVENTS
from allocator.mm_types import P_FLAGS
from allocator.pagecache import drop_caches
from allocator.readahead import (
    PG_READAHEAD,
    do_page_cache_readahead,
    get_init_ra_size,
    get_next_ra_size,
    ondemand_window,
)
from allocator.swap import lru_add_drain
from allocator.vm_events import PGPGIN
from tests.allocator.disk import Disk

PAGE = 4096


@pytest.mark.parametrize(
    ("size", "most", "window"),
    [
        (1, 32, 4),
        (2, 32, 4),
        (3, 32, 8),
        (4, 32, 8),
        (8, 32, 16),
        (9, 32, 32),
        (32, 32, 32),
        (1, 128, 4),
    ],
)
def test_the_first_window_is_some_times_the_request(size: int, most: int, window: int) -> None:
    assert get_init_ra_size(size, most) == window


@pytest.mark.parametrize(
    ("current", "most", "window"),
    [(1, 32, 4), (2, 32, 4), (4, 32, 8), (16, 32, 32), (32, 32, 32), (7, 128, 28)],
)
def test_the_next_window_is_two_or_four_times_the_last(
    current: int, most: int, window: int
) -> None:
    assert get_next_ra_size(current, most) == window


def cold_file(pages: int) -> tuple[Disk, int]:
    """A file of so many pages, none of them in memory, opened anew."""
    disk = Disk()
    disk.file("f", bytes(range(256)) * 16 * pages)
    sync_inodes(disk.m, 0)
    lru_add_drain(disk.m, 0)
    assert drop_caches(disk.m, 0, 3) == 0
    return disk, disk.open("f")


def cached(disk: Disk, file: int, pages: int) -> list[int]:
    """Indexes of the file's pages that are in memory."""
    return [index for index in range(pages) if disk.page(file, index)]


def state(disk: Disk, file: int) -> tuple[int, int, int]:
    """Start, size and async_size of the file's window."""
    ra = file + FILE_RA
    return disk.m[ra + RA_START], disk.m[ra + RA_SIZE], disk.m[ra + RA_ASYNC_SIZE]


@pytest.mark.parametrize(
    ("window", "prev", "cached_before", "hit", "index", "wanted", "said", "after"),
    [
        # the start of the file
        ((0, 0, 0), -1, [], False, 0, 1, 1, (0, 4, 3)),
        ((0, 0, 0), -1, [], False, 0, 8, 1, (0, 16, 8)),
        # the whole first window was asked for: joined with the next
        ((0, 0, 0), -1, [], False, 0, 32, 1, (0, 32, 16)),
        # the marked page of the window, and the page behind it: sequential
        ((0, 4, 3), 0, [0, 1, 2, 3], True, 1, 1, 1, (4, 8, 8)),
        ((4, 8, 2), 3, [], False, 10, 1, 1, (12, 16, 16)),
        # behind the window: it would meet its own marker, so it is joined with the next
        ((4, 8, 8), 3, [], False, 12, 1, 1, (12, 32, 16)),
        # a marked page of a forgotten window: go on behind what is cached
        ((50, 4, 3), 0, [9, 10, 11, 12], True, 9, 2, 1, (13, 12, 12)),
        # more than the largest window, somewhere
        ((0, 4, 3), 0, [], False, 40, 40, 1, (40, 32, 16)),
        # next to where the last read ended
        ((0, 0, 0), 20 * PAGE + 17, [], False, 20, 1, 1, (20, 4, 3)),
        ((0, 0, 0), 20 * PAGE, [], False, 21, 2, 1, (21, 4, 2)),
        # random
        ((0, 0, 0), 3 * PAGE, [], False, 30, 2, -1, (0, 0, 0)),
        # traces of a sequential reader
        ((0, 0, 0), 3 * PAGE, [27, 28, 29], False, 30, 2, 1, (30, 5, 1)),
        ((0, 0, 0), 90 * PAGE, [0, 1, 2], False, 3, 1, 1, (3, 7, 1)),
        # too few traces
        ((0, 0, 0), 3 * PAGE, [28, 29], False, 30, 2, -1, (0, 0, 0)),
    ],
)
def test_what_is_decided(
    window: tuple[int, int, int],
    prev: int,
    cached_before: list[int],
    hit: bool,
    index: int,
    wanted: int,
    said: int,
    after: tuple[int, int, int],
) -> None:
    disk, file = cold_file(100)
    m, ra = disk.m, file + FILE_RA
    for i in cached_before:
        do_page_cache_readahead(m, 0, file, i, 1, 0)
    m[ra + RA_START], m[ra + RA_SIZE], m[ra + RA_ASYNC_SIZE] = window
    m[ra + RA_PREV_POS] = prev
    assert ondemand_window(m, disk.mapping(file), ra, hit, index, wanted) == said
    assert state(disk, file) == after


def test_only_what_is_missing_is_read_and_one_page_is_marked() -> None:
    disk, file = cold_file(30)
    m = disk.m
    do_page_cache_readahead(m, 0, file, 3, 1, 0)
    m[CPU_BLOCKS + CPU_EVENTS + PGPGIN] = 0
    assert do_page_cache_readahead(m, 0, file, 0, 8, 3) == 7
    assert m[CPU_BLOCKS + CPU_EVENTS + PGPGIN] == 7 * 8
    assert cached(disk, file, 30) == list(range(8))
    marked = [i for i in range(8) if m[disk.page(file, i) + P_FLAGS] & PG_READAHEAD]
    assert marked == [5]


def test_nothing_is_read_behind_the_end_of_the_file() -> None:
    disk, file = cold_file(5)
    assert do_page_cache_readahead(disk.m, 0, file, 3, 32, 8) == 2
    assert do_page_cache_readahead(disk.m, 0, file, 9, 4, 0) == 0


def test_a_sequential_reader_waits_only_at_the_start() -> None:
    disk, file = cold_file(64)
    m = disk.m
    waits = 0
    for index in range(64):
        before = m[G_CLOCK]
        assert disk.read(file, index * PAGE, PAGE) == bytes(range(256)) * 16
        waits += m[G_CLOCK] > before
        m[G_CLOCK] += 1_000_000  # the reader thinks about it
    assert waits == 1


def test_a_random_reader_gets_no_more_than_it_asks_for() -> None:
    disk, file = cold_file(100)
    disk.m[file + FILE_RA + RA_PREV_POS] = 0
    for index in (50, 20, 90, 70):
        disk.read(file, index * PAGE + 10, 20)
    assert cached(disk, file, 100) == [20, 50, 70, 90]


def test_without_readahead_pages_are_read_one_by_one() -> None:
    disk, file = cold_file(10)
    disk.m[file + FILE_RA + RA_PAGES] = 0
    disk.read(file, 0, 2 * PAGE)
    assert cached(disk, file, 10) == [0, 1]
