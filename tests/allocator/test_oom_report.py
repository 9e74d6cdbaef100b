# SPDX-License-Identifier: GPL-2.0-only
"""allocator/oom_report.py: lines as mm/oom_kill.c prints them."""

from __future__ import annotations

import pytest

from allocator.gfp import GFP_KERNEL
from allocator.oom_report import OOM_RECORDS, TASK_HEADER, kilobytes, oom_lines
from allocator.trace_events import (
    LOG_BAD_PAGE,
    LOG_OOM_INVOKED,
    LOG_OOM_KILL,
    LOG_OOM_KILLED,
    LOG_OOM_NOBODY,
    LOG_OOM_REAPED,
    LOG_OOM_TASK,
)


@pytest.mark.parametrize(
    ("kind", "args", "lines"),
    [
        (
            LOG_OOM_INVOKED,
            (GFP_KERNEL, 2, 0, -500, 0, 0),
            (
                "sh invoked oom-killer: gfp_mask=0x6000c0(GFP_KERNEL), nodemask=0-1, order=2, "
                "oom_score_adj=-500",
                *TASK_HEADER,
            ),
        ),
        (
            LOG_OOM_KILL,
            (917, 0, 0, 0, 0, 0),
            ("Out of memory: Kill process 42 (sh) score 917 or sacrifice child",),
        ),
        (
            LOG_OOM_KILL,
            (917, 1, 0, 0, 0, 0),
            ("Memory cgroup out of memory: Kill process 42 (sh) score 917 or sacrifice child",),
        ),
        (
            LOG_OOM_KILL,
            (0, 2, 0, 0, 0, 0),
            (
                "Out of memory (oom_kill_allocating_task): Kill process 42 (sh) score 0 or "
                "sacrifice child",
            ),
        ),
        (
            LOG_OOM_KILLED,
            (2560, 1000, 10, 1, 0, 0),
            (
                "Killed process 42 (sh) total-vm:10240kB, anon-rss:4000kB, file-rss:40kB, "
                "shmem-rss:4kB",
            ),
        ),
        (
            LOG_OOM_REAPED,
            (0, 10, 1, 0, 0, 0),
            ("oom_reaper: reaped process 42 (sh), now anon-rss:0kB, file-rss:40kB, shmem-rss:4kB",),
        ),
        (LOG_OOM_NOBODY, (0,) * 6, ("Out of memory and no killable processes...",)),
    ],
)
def test_lines_are_the_kernels(kind: int, args: tuple[int, ...], lines: tuple[str, ...]) -> None:
    assert tuple(oom_lines(kind, args, 42, "sh", "0-1")) == lines


def test_a_task_is_a_row_under_the_header() -> None:
    (row,) = oom_lines(LOG_OOM_TASK, (2560, 1000, 45056, 7, -1000, 0), 42, "sh", "")
    assert row == "[     42]     0    42     2560     1000    45056        7         -1000 sh"
    assert len(row.split()) == len(TASK_HEADER[1].replace("[  pid  ]", "[pid]").split()) + 1


def test_the_records_are_those_of_the_oom_killer_and_pages_are_four_kilobytes() -> None:
    assert LOG_OOM_KILLED in OOM_RECORDS
    assert LOG_BAD_PAGE not in OOM_RECORDS
    assert list(oom_lines(LOG_BAD_PAGE, (0,) * 6, 1, "sh", "")) == []
    assert [kilobytes(n) for n in (0, 1, 2560)] == ["0kB", "4kB", "10240kB"]
