# SPDX-License-Identifier: GPL-2.0-only
"""Swap space in one step."""

from __future__ import annotations

from allocator.blockdev import block_devices
from allocator.kernel_globals import G_NR_SWAP_PAGES, G_TOTAL_SWAP_PAGES
from allocator.swap_disk import add_swap, remove_swap

from .processes import PAGE, boot, sound

EINVAL, ENOMEM = 22, 12


def test_a_disk_gives_its_pages_less_the_header() -> None:
    kernel = boot()
    kernel.mm_init()
    assert add_swap(kernel.m, 0, 100, -1, b"swap") == 0
    assert add_swap(kernel.m, 0, 50, 7, b"more") == 1
    assert kernel.m[G_TOTAL_SWAP_PAGES] == kernel.m[G_NR_SWAP_PAGES] == 99 + 49
    sound(kernel)


def test_too_small_and_too_large_are_refused_and_leave_nothing() -> None:
    kernel = boot()
    kernel.mm_init()
    before = kernel.nr_free_pages
    assert add_swap(kernel.m, 0, 1, -1, b"swap") == -EINVAL
    assert add_swap(kernel.m, 0, 1 << 40, -1, b"swap") == -ENOMEM
    assert kernel.m[G_TOTAL_SWAP_PAGES] == 0
    assert kernel.nr_free_pages == before


def test_a_disk_goes_with_its_area_and_its_place_is_used_again() -> None:
    kernel = boot()
    kernel.mm_init()
    devices = block_devices(kernel.m)
    process = kernel.create_process("kept")
    at = process.mmap(20 * PAGE)
    process.write(at, b"stays")
    for _ in range(60):
        # sixty such disks would not fit into storage side by side
        area = kernel.swapon(10_000)
        kernel.swapoff(area)
    assert block_devices(kernel.m) == devices
    assert process.read(at, 5) == b"stays"
    sound(kernel)


def test_what_is_no_area_is_refused_and_takes_no_disk_away() -> None:
    kernel = boot()
    kernel.mm_init()
    area = add_swap(kernel.m, 0, 100, -1, b"swap")
    devices = block_devices(kernel.m)
    assert [remove_swap(kernel.m, 0, kind) for kind in (-1, area + 1, 1 << 40)] == [-EINVAL] * 3
    assert block_devices(kernel.m) == devices
    assert remove_swap(kernel.m, 0, area) == 0
    assert remove_swap(kernel.m, 0, area) == -EINVAL
