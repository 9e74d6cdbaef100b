# SPDX-License-Identifier: GPL-2.0-only
"""Boot scripts under pressure: compaction for large blocks, control groups at their limits."""

from __future__ import annotations

import re

import pytest

from allocator.hypercall import ERRNO

from .machines import MACHINES, boot
from .test_processes import finished, guest_of

SMALL = [name for name in MACHINES if name != "2x3G"]


@pytest.mark.parametrize("name", SMALL)
def test_compaction_gets_three_quarters_of_the_blocks_and_moves_pages_whole(name: str) -> None:
    lines = finished(boot(name, "fragment.S"))
    got = re.fullmatch(r"compaction made (\d+) of (\d+) blocks", lines[1])
    assert lines[0].endswith("and no block of order 9")
    assert got
    assert int(got[1]) >= int(got[2]) >= 5
    assert lines[2:] == ["every page that was left holds what was written"]


@pytest.mark.parametrize("name", SMALL)
def test_a_group_at_its_limit_swaps_and_without_swap_one_of_its_own_is_killed(name: str) -> None:
    guest = boot(name, "memcg.S")
    assert finished(guest) == [
        "the first group swapped, and lost nothing",
        "the second group had a process killed",
        "outside nothing happened",
    ]


@pytest.mark.parametrize(
    ("call", "errno"),
    [
        ("HC_SWAPON, 1, -1", "EINVAL"),
        ("HC_SWAPON, 64, 40000", "EINVAL"),
        ("HC_COMPACT_NODE, 7", "EINVAL"),
        ("HC_COMPACT_NODE, -1", "EINVAL"),
        ("HC_MEMCG_CREATE, 9", "EINVAL"),
        ("HC_MEMCG_SET_MAX, 0, 5", "EINVAL"),
        ("HC_MEMCG_SET_MAX, 5, 5", "EINVAL"),
        ("HC_MEMCG_ATTACH, 99, 0", "ESRCH"),
        ("HC_MEMCG_ATTACH, 0, 60", "EINVAL"),
        ("HC_MEMCG_USAGE, -1", "EINVAL"),
    ],
)
def test_arguments_that_make_no_sense_get_an_errno(call: str, errno: str) -> None:
    guest = guest_of(f"hypercall {call}\nhypercall HC_EXIT, rdx")
    assert guest.machine.run(1_000_000).code == ERRNO[errno]
