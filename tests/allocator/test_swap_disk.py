# SPDX-License-Identifier: GPL-2.0-only
"""Swap space in one step."""

from __future__ import annotations

from allocator.layout import G_NR_SWAP_PAGES, G_TOTAL_SWAP_PAGES
from allocator.swap_disk import add_swap

from .processes import boot, sound

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
