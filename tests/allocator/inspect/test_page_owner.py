# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/page_owner.py: paragraphs that page_owner_sort can group."""

from __future__ import annotations

import re

import pytest

from allocator.errors import BadRequest
from allocator.inspect.page_owner import for_each_owner, page_owner
from allocator.layout import CPU_BLOCKS, CPU_PAGE_OWNER_SITE
from allocator.page_owner import set_page_owner_migrate_reason
from tests.allocator.machines import boot


def test_a_paragraph_is_the_kernels() -> None:
    kernel = boot("2x64M", append="page_owner=on")
    before = {owner.pfn for owner in for_each_owner(kernel)}
    kernel.m[CPU_BLOCKS + CPU_PAGE_OWNER_SITE] = 0x101004
    page = kernel.alloc_pages("GFP_HIGHUSER_MOVABLE|__GFP_COMP", 2, nid=1)
    assert page is not None
    set_page_owner_migrate_reason(kernel.m, page.pfn, 0)
    owners = [owner for owner in for_each_owner(kernel) if owner.pfn not in before]
    assert [(o.pfn, o.order, o.site) for o in owners] == [(page.pfn, 2, 0x101004)]
    assert (
        "Page allocated via order 2, mask 0x6240ca(GFP_HIGHUSER_MOVABLE|__GFP_COMP)\n"
        f"PFN {page.pfn} type Movable Block {page.pfn >> 9} type Movable "
        f"Flags {page.flags:#x}(head)\n"
        " __alloc_pages_nodemask\n"
        " hypercall at guest address 0x0000000000101004\n"
        "Page has been migrated, last migrate reason: compaction\n\n"
    ) in page_owner(kernel).text


def test_free_blocks_are_stepped_over_and_freed_pages_disappear() -> None:
    kernel = boot("1x64M", append="page_owner=on")
    pages = [kernel.alloc_pages("GFP_KERNEL") for _ in range(3)]
    owned = {owner.pfn for owner in for_each_owner(kernel)}
    assert {page.pfn for page in pages if page} <= owned
    for page in pages:
        assert page is not None
        kernel.free_pages(page)
    assert not {page.pfn for page in pages if page} & {o.pfn for o in for_each_owner(kernel)}


def test_paragraphs_without_their_frame_line_are_long_enough_for_the_stock_tool() -> None:
    # tools/vm/page_owner_sort.c sizes its table by 100 bytes a paragraph
    kernel = boot("1x64M", append="page_owner=on")
    for order in (0, 0, 3):
        kernel.alloc_pages("GFP_NOWAIT", order)
    text = re.sub(r"^PFN .*\n", "", page_owner(kernel).text, flags=re.M)
    paragraphs = text.split("\n\n")[:-1]
    assert paragraphs
    assert all(len(p) + 2 >= 100 for p in paragraphs)


def test_without_page_owner_on_there_is_nothing_to_read() -> None:
    with pytest.raises(BadRequest, match="boot with page_owner=on"):
        page_owner(boot("1x64M"))
