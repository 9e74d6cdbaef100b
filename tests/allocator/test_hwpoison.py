# SPDX-License-Identifier: GPL-2.0-only
"""allocator/hwpoison.py: bad frames in free blocks."""

from __future__ import annotations

import pytest

from allocator.hwpoison import is_free_buddy_page, set_hwpoison_free_buddy_page
from allocator.kernel_globals import G_NUM_POISONED_PAGES
from allocator.mm_types import PG_HWPOISON
from tests.allocator.machines import boot


@pytest.mark.parametrize("part", [0, 1, 6, 7])
def test_every_frame_of_a_free_block_is_free_and_can_be_marked_once(part: int) -> None:
    kernel = boot("1x64M")
    page = kernel.alloc_pages("GFP_KERNEL", 3)
    assert page is not None
    pfn = page.pfn + part
    assert not is_free_buddy_page(kernel.m, pfn)
    assert not set_hwpoison_free_buddy_page(kernel.m, pfn)
    assert not kernel.page(pfn).flags & PG_HWPOISON
    kernel.free_pages(page, 3)
    assert is_free_buddy_page(kernel.m, pfn)
    assert set_hwpoison_free_buddy_page(kernel.m, pfn)
    assert not set_hwpoison_free_buddy_page(kernel.m, pfn)
    assert kernel.page(pfn).flags & PG_HWPOISON
    assert kernel.m[G_NUM_POISONED_PAGES] == 1


def test_pages_on_per_cpu_lists_and_frames_that_are_not_there_are_not_free() -> None:
    kernel = boot("1x64M")
    page = kernel.alloc_pages("GFP_KERNEL", 0)
    assert page is not None
    kernel.free_pages(page, 0)
    assert not is_free_buddy_page(kernel.m, page.pfn)
    assert not is_free_buddy_page(kernel.m, 1 << 29)
