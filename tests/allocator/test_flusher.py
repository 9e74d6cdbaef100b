# SPDX-License-Identifier: GPL-2.0-only
"""When dirty pages are written: 4.20's limits, the flusher's clock, writers that must wait."""

from __future__ import annotations

import pytest

from allocator.flusher import (
    BACKGROUND,
    HARD,
    balance_dirty_pages,
    domain_dirty_limit,
    nr_reclaimable,
    over_background_limit,
    over_freerun,
    sync_inodes,
    wakeup_flusher_threads,
    writeback_tick,
)
from allocator.fs import I_DIRTY, INODE_STATE
from allocator.kernel_globals import (
    G_CLOCK,
    G_DIRTY_BACKGROUND_BYTES,
    G_DIRTY_BACKGROUND_RATIO,
    G_VM_DIRTY_BYTES,
    G_VM_DIRTY_RATIO,
)
from allocator.layout import TASK_FLAGS, TASK_PRIO
from allocator.mmzone import NR_WRITEBACK
from allocator.page_writeback import PF_LESS_THROTTLE, global_dirtyable_memory
from allocator.vmstat import global_node_page_state
from tests.allocator.disk import Disk

SECOND = 1_000_000_000
PAGE = 4096


@pytest.mark.parametrize(
    ("ratio", "hard_bytes", "bg_ratio", "bg_bytes", "hard", "background"),
    [
        (20, 0, 10, 0, 1999, 998),
        (20, 0, 30, 0, 1999, 999),
        (20, 0, 20, 0, 1999, 999),
        (0, 400 * PAGE, 1, 0, 400, 97),
        (20, 0, 10, 5 * PAGE + 1, 1999, 6),
        (40, 0, 0, 0, 3999, 0),
    ],
)
def test_the_limits_are_shares_of_what_could_be_dirty(
    ratio: int, hard_bytes: int, bg_ratio: int, bg_bytes: int, hard: int, background: int
) -> None:
    disk = Disk()
    m = disk.m
    m[G_VM_DIRTY_RATIO], m[G_VM_DIRTY_BYTES] = ratio, hard_bytes
    m[G_DIRTY_BACKGROUND_RATIO], m[G_DIRTY_BACKGROUND_BYTES] = bg_ratio, bg_bytes
    assert domain_dirty_limit(m, 0, 10_000, HARD) == hard
    assert domain_dirty_limit(m, 0, 10_000, BACKGROUND) == background


def test_realtime_and_less_throttled_tasks_have_more_room() -> None:
    disk = Disk()
    m, task = disk.m, disk.tiny.task()
    hard = domain_dirty_limit(m, 0, 10_000, HARD)
    m[task + TASK_PRIO] = 50
    assert domain_dirty_limit(m, 0, 10_000, HARD) == hard + hard // 4 + hard // 32
    m[task + TASK_PRIO], m[task + TASK_FLAGS] = 120, PF_LESS_THROTTLE
    assert domain_dirty_limit(m, 0, 10_000, HARD) == hard + hard // 4 + hard // 32


def test_files_are_visited_every_five_seconds_once_they_are_thirty_seconds_old() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("old", bytes(3 * PAGE))
    seen = []
    for second in range(1, 42):
        m[G_CLOCK] = second * SECOND
        if second == 20:
            young = disk.file("young", bytes(PAGE))
        writeback_tick(m, 0)
        seen.append((second, nr_reclaimable(m)))
    written = next(second for second, dirty in seen if second > 20 and dirty < 4)
    assert written in (30, 31, 32, 33, 34, 35)
    assert seen[-1][1] == 1, "the younger one still waits"
    assert m[disk.inode(file) + INODE_STATE] & I_DIRTY == 0
    assert m[disk.inode(young) + INODE_STATE] & I_DIRTY


def test_past_the_background_limit_the_flusher_starts_by_itself() -> None:
    disk = Disk()
    m = disk.m
    limit = domain_dirty_limit(m, 0, global_dirtyable_memory(m), BACKGROUND)
    file = disk.file("f")
    for page in range(limit + 40):
        disk.write(file, page * PAGE, b"x" * PAGE)
    # at most what is written between two looks is over the limit
    assert nr_reclaimable(m) <= limit + 32
    assert global_node_page_state(m, NR_WRITEBACK) > 0
    balance_dirty_pages(m, 0)
    assert not over_background_limit(m, 0)


def test_far_past_it_the_writer_waits_for_the_disk() -> None:
    disk = Disk()
    m = disk.m
    file = disk.file("f")
    before = m[G_CLOCK]
    for page in range(1200):
        disk.write(file, page * PAGE, b"x" * PAGE)
    assert m[G_CLOCK] > before
    balance_dirty_pages(m, 0)
    assert not over_freerun(m, 0)


def test_a_few_pages_make_nobody_wait() -> None:
    disk = Disk()
    before = disk.m[G_CLOCK]
    file = disk.file("f", bytes(40 * PAGE))
    assert disk.m[G_CLOCK] == before
    assert disk.read(file, 0, 10) == bytes(10)


def test_waking_the_flusher_starts_everything_and_waits_for_nothing() -> None:
    disk = Disk()
    m = disk.m
    for name in ("a", "b", "c"):
        disk.file(name, bytes(2 * PAGE))
    before = m[G_CLOCK]
    assert wakeup_flusher_threads(m, 0) == 9, "six pages, three records"
    assert nr_reclaimable(m) == 0
    assert global_node_page_state(m, NR_WRITEBACK) == 6
    assert m[G_CLOCK] == before


def test_sync_leaves_nothing_dirty_and_nothing_under_way() -> None:
    disk = Disk()
    m = disk.m
    files = [disk.file(name, bytes(2 * PAGE)) for name in ("a", "b")]
    sync_inodes(m, 0)
    assert nr_reclaimable(m) == global_node_page_state(m, NR_WRITEBACK) == 0
    assert not any(m[disk.inode(file) + INODE_STATE] & I_DIRTY for file in files)
