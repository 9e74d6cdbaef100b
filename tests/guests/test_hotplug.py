# SPDX-License-Identifier: GPL-2.0-only
"""The boot script whose memory goes away."""

from __future__ import annotations

import re

import pytest

from allocator.hypercall import ERRNO

from .machines import MACHINES, boot
from .test_processes import finished, guest_of

SMALL = [name for name in MACHINES if name != "2x3G"]


@pytest.mark.parametrize("name", SMALL)
def test_pages_survive_their_blocks_and_only_the_bad_one_is_lost(name: str) -> None:
    lines = finished(boot(name, "offline.S"))
    assert re.fullmatch(r"blocks offline: [12]", lines[0])
    assert lines[1:] == [
        "every page has moved, and holds what was written",
        "all blocks are online again",
        "the page that went bad killed its reader",
        "the others are as they were",
    ]


@pytest.mark.parametrize(
    ("call", "errno"),
    [
        ("HC_OFFLINE, 512, 1024", "EINVAL"),
        ("HC_OFFLINE, 0, -1", "EINVAL"),
        ("HC_OFFLINE, 0, 1024", "EINVAL"),
        ("HC_ONLINE, 8192, 1024", "EINVAL"),
        ("HC_MEMORY_FAILURE, -1, 0", "ENXIO"),
        ("HC_MEMORY_FAILURE, 8192, 1", "EINVAL"),
    ],
)
def test_arguments_that_make_no_sense_get_an_errno(call: str, errno: str) -> None:
    guest = guest_of(f"hypercall {call}\nhypercall HC_EXIT, rdx")
    assert guest.machine.run(1_000_000).code == ERRNO[errno]
