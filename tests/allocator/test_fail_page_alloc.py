# SPDX-License-Identifier: GPL-2.0-only
"""Fault injection: which requests may fail, how many, and that the same ones do every time."""

from __future__ import annotations

import pytest

from allocator.fail_page_alloc import (
    prandom_u32,
    setup_fail_page_alloc,
    should_fail_alloc_page,
)
from allocator.gfp import (
    GFP_ATOMIC,
    GFP_HIGHMEM_BIT,
    GFP_KERNEL,
    GFP_NOFAIL_BIT,
    GFP_NOWAIT,
)
from allocator.kernel_globals import (
    G_FAIL_MIN_ORDER,
    G_FAIL_TIMES,
    G_STATIC_KEYS,
    KEY_FAIL_PAGE_ALLOC,
)
from allocator.layout import CPU_BLOCKS, CPU_PREEMPT_COUNT, HARDIRQ_OFFSET, TASK_FAIL_NTH
from allocator.page_alloc import alloc_pages_nodemask
from allocator.page_report import log_lines
from tests.allocator.tiny import Tiny


def test_the_parameter_turns_failures_on_for_good(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    assert setup_fail_page_alloc(m, "1,100,0,-1")
    assert m[G_STATIC_KEYS] & KEY_FAIL_PAGE_ALLOC
    assert alloc_pages_nodemask(m, 0, GFP_ATOMIC, 1, 0, 0) == -1
    assert alloc_pages_nodemask(m, 0, GFP_ATOMIC, 0, 0, 0) >= 0
    assert tiny_zone.m[G_FAIL_TIMES] == -1


@pytest.mark.parametrize("text", ["", "1,2,3", "a,1,2,3", "1,2,3,", "1;2;3;4", "1,2x,3,4"])
def test_a_malformed_parameter_changes_nothing(tiny_zone: Tiny, text: str) -> None:
    assert not setup_fail_page_alloc(tiny_zone.m, text)
    assert tiny_zone.m[G_STATIC_KEYS] == 0


def test_text_behind_the_last_number_is_ignored_as_sscanf_does(tiny_zone: Tiny) -> None:
    assert setup_fail_page_alloc(tiny_zone.m, "1,100,0,5 rest")
    assert tiny_zone.m[G_FAIL_TIMES] == 5


@pytest.mark.parametrize(
    ("gfp", "order", "fails"),
    [
        (GFP_ATOMIC, 1, True),
        (GFP_ATOMIC, 0, False),
        (GFP_ATOMIC | GFP_NOFAIL_BIT, 1, False),
        (GFP_NOWAIT | GFP_HIGHMEM_BIT, 1, False),
        (GFP_KERNEL, 1, False),
    ],
)
def test_small_reclaiming_highmem_and_nofail_requests_are_spared(
    tiny_zone: Tiny, gfp: int, order: int, fails: bool
) -> None:
    setup_fail_page_alloc(tiny_zone.m, "1,100,0,-1")
    assert should_fail_alloc_page(tiny_zone.m, 0, gfp, order) is fails


def test_times_bounds_the_failures(tiny_zone: Tiny) -> None:
    setup_fail_page_alloc(tiny_zone.m, "1,100,0,2")
    got = [should_fail_alloc_page(tiny_zone.m, 0, GFP_ATOMIC, 1) for _ in range(4)]
    assert got == [True, True, False, False]


def test_interval_lets_all_but_every_nth_candidate_pass(tiny_zone: Tiny) -> None:
    setup_fail_page_alloc(tiny_zone.m, "3,100,0,-1")
    got = [should_fail_alloc_page(tiny_zone.m, 0, GFP_ATOMIC, 1) for _ in range(6)]
    assert got == [False, False, True, False, False, True]


def test_space_is_used_up_in_pages_first(tiny_zone: Tiny) -> None:
    setup_fail_page_alloc(tiny_zone.m, "1,100,5,-1")
    got = [should_fail_alloc_page(tiny_zone.m, 0, GFP_ATOMIC, 1) for _ in range(3)]
    assert got == [False, False, True]


def test_probability_is_drawn_from_the_seed_in_ram(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    setup_fail_page_alloc(m, "1,30,0,-1")
    m[G_FAIL_MIN_ORDER] = 0
    snapshot = m.tobytes()[16 << 20 : 17 << 20]
    first = [should_fail_alloc_page(m, 0, GFP_ATOMIC, 0) for _ in range(500)]
    tiny_zone.memory.write(16 << 20, snapshot)
    assert [should_fail_alloc_page(m, 0, GFP_ATOMIC, 0) for _ in range(500)] == first
    assert 100 < sum(first) < 200


def test_the_generator_stays_within_32_bits_and_does_not_repeat_soon(tiny_zone: Tiny) -> None:
    drawn = [prandom_u32(tiny_zone.m) for _ in range(1000)]
    assert all(0 < x < 1 << 32 for x in drawn)
    assert len(set(drawn)) == 1000


def test_fail_nth_fails_exactly_that_call_of_the_task(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    m[tiny_zone.task() + TASK_FAIL_NTH] = 3
    got = [should_fail_alloc_page(m, 0, GFP_ATOMIC, 1) for _ in range(4)]
    assert got == [False, False, True, False]
    m[tiny_zone.task() + TASK_FAIL_NTH] = 1
    m[CPU_BLOCKS + CPU_PREEMPT_COUNT] = HARDIRQ_OFFSET
    assert not should_fail_alloc_page(m, 0, GFP_ATOMIC, 1)


def test_a_failure_is_announced_in_the_log(tiny_zone: Tiny) -> None:
    setup_fail_page_alloc(tiny_zone.m, "1,100,0,7")
    should_fail_alloc_page(tiny_zone.m, 0, GFP_ATOMIC, 1)
    assert [line.split("] ", 1)[1] for line in log_lines(tiny_zone.m)] == [
        "FAULT_INJECTION: forcing a failure.",
        "name fail_page_alloc, interval 1, probability 100, space 0, times 7",
    ]
