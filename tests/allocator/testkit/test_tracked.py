# SPDX-License-Identifier: GPL-2.0-only
"""The kernel that remembers who asked."""

from __future__ import annotations

from allocator.testkit.lab import Config, Lab


def test_a_request_is_noted_with_what_was_asked_and_where() -> None:
    kernel = Lab(Config(("1x64M",))).kernel
    page = kernel.alloc_pages("GFP_KERNEL|__GFP_ZERO", order=1)
    assert page is not None
    request = kernel.requests[page.pfn]
    assert (request.pfn, request.pages) == (page.pfn, 2)
    assert request.asked == "GFP_KERNEL|__GFP_ZERO order 1"
    assert request.site.startswith("test_tracked.py:")


def test_exact_sizes_are_noted_in_pages() -> None:
    kernel = Lab(Config(("1x64M",))).kernel
    page = kernel.alloc_pages_exact(5 * 4096 - 1, "GFP_KERNEL")
    assert page is not None
    assert kernel.requests[page.pfn].pages == 5


def test_keeping_covers_whole_blocks_and_lists_of_them() -> None:
    kernel = Lab(Config(("1x64M",))).kernel
    pages = [kernel.alloc_pages("GFP_KERNEL") for _ in range(2)]
    kernel.keep([page for page in pages if page is not None])
    kernel.keep(0x2000, order=2)
    assert kernel.kept >= {0x2000, 0x2001, 0x2002, 0x2003}
    assert len(kernel.kept) == 6


def test_after_exhausting_a_node_nothing_is_noted() -> None:
    lab = Lab(Config(("2x32M",)))
    pages = lab.kernel.exhaust(1)
    assert len(pages) > 1000
    assert lab.kernel.full
    assert lab.kernel.requests == {}
    assert lab.verdict() == ""
