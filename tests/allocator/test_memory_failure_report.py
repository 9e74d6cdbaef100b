# SPDX-License-Identifier: GPL-2.0-only
"""allocator/memory_failure_report.py: the lines of mm/memory-failure.c."""

from __future__ import annotations

import pytest

from allocator import memory_failure_report as report
from allocator.memory_failure_report import failure_line, say
from tests.allocator.machines import boot

FLAGS = 0x100000000000004


@pytest.mark.parametrize(
    ("message", "a", "b", "line"),
    [
        (
            report.SAY_ACTION,
            report.MSG_DIRTY_LRU,
            report.MF_RECOVERED,
            "Memory failure: 0x1234: recovery action for dirty LRU page: Recovered",
        ),
        (
            report.SAY_ACTION,
            report.MSG_KERNEL_HIGH_ORDER,
            report.MF_IGNORED,
            "Memory failure: 0x1234: recovery action for high-order kernel page: Ignored",
        ),
        (
            report.SAY_REFERENCED,
            report.MSG_CLEAN_SWAPCACHE,
            2,
            "Memory failure: 0x1234: clean swapcache page still referenced by 2 users",
        ),
        (report.SAY_OUTSIDE, 0, 0, "Memory failure: 0x1234: memory outside kernel control"),
        (report.SAY_ALREADY, 0, 0, "Memory failure: 0x1234: already hardware poisoned"),
        (
            report.SAY_KILLING,
            0,
            0,
            "Memory failure: 0x1234: Killing sh:7 due to hardware memory corruption",
        ),
        (
            report.SAY_FORCIBLY,
            0,
            0,
            "Memory failure: 0x1234: forcibly killing sh:7 because of failure to unmap corrupted "
            "page",
        ),
        (
            report.SAY_NOT_UNMAPPED,
            3,
            0,
            "Memory failure: 0x1234: failed to unmap page (mapcount=3)",
        ),
        (report.SAY_NOT_SPLIT, 0, 0, "Memory failure: 0x1234: thp split failed"),
        (report.SAY_UNKNOWN, 0, 0, "Memory failure: 0x1234: Unknown page state"),
        (report.SAY_SOFT_ALREADY, 0, 0, "soft offline: 0x1234 page already poisoned"),
        (report.SAY_SOFT_FREE, 0, 0, "__get_any_page: 0x1234 free buddy page"),
        (
            report.SAY_SOFT_NOT_LRU,
            0,
            FLAGS,
            "soft_offline: 0x1234: unknown non LRU page type 100000000000004 (uptodate)",
        ),
        (
            report.SAY_SOFT_MIGRATION,
            -12,
            FLAGS,
            "soft offline: 0x1234: migration failed -12, type 100000000000004 (uptodate)",
        ),
        (
            report.SAY_SOFT_ISOLATION,
            -16,
            FLAGS,
            "soft offline: 0x1234: isolation failed: -16, page count 2, type 100000000000004 "
            "(uptodate)",
        ),
    ],
)
def test_lines_are_the_kernels(message: int, a: int, b: int, line: str) -> None:
    assert failure_line((message, 0x1234, a, b, 2, 0), 7, "sh", "uptodate") == line


def test_numbers_that_a_guest_has_overwritten_are_shown_as_such() -> None:
    assert failure_line((99, -1, 0, 0, 0, 0), 7, "sh", "") == (
        "Memory failure: 0xffffffffffffffff: message 99"
    )
    line = failure_line((report.SAY_ACTION, 1, 77, 55, 0, 0), 7, "sh", "")
    assert line == "Memory failure: 0x1: recovery action for type 77: 55"


def test_what_is_said_comes_out_of_the_log() -> None:
    kernel = boot("1x64M")
    say(kernel.m, 0, report.SAY_CLEAN, 0x1234)
    assert [line.split("] ")[1] for line in kernel.reports()] == [
        "Memory failure: 0x1234: corrupted page was clean: dropped without side effects"
    ]
