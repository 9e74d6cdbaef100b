# SPDX-License-Identifier: GPL-2.0-only
"""Memory that goes away, from Python."""

from __future__ import annotations

import pytest

from allocator import start_kernel
from allocator.check import check_frames
from allocator.errors import BadRequest
from tests.allocator.bringup_support import booted_machine


def test_frames_go_offline_and_come_back() -> None:
    machine = booted_machine("1x64M")
    kernel = start_kernel(machine)
    kernel.offline_pages(0x2000, 1024)
    assert check_frames(machine.memory).sound
    with pytest.raises(BadRequest, match="EINVAL"):
        kernel.offline_pages(0x2000, 1024)
    kernel.online_pages(0x2000, 1024)
    with pytest.raises(BadRequest, match="EINVAL"):
        kernel.online_pages(0x2000, 1024)
    assert check_frames(machine.memory).sound


def test_a_frame_goes_bad() -> None:
    machine = booted_machine("1x64M")
    kernel = start_kernel(machine)
    kernel.memory_failure(0x2007)
    kernel.memory_failure(0x2007, kill=True)
    with pytest.raises(BadRequest, match="ENXIO"):
        kernel.memory_failure(1 << 30)
    page = kernel.alloc_pages("GFP_KERNEL")
    assert page is not None
    with pytest.raises(BadRequest, match="EBUSY"):
        kernel.memory_failure(page.pfn)
    assert check_frames(machine.memory).sound
