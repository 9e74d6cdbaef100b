# SPDX-License-Identifier: GPL-2.0-only
"""allocator/explain/free.py: a free told from its records."""

from __future__ import annotations

import json

import pytest

from allocator.errors import BadRequest
from allocator.explain import explain_free
from allocator.kernel import Kernel
from allocator.mm_types import P_COUNTS, REF_ONE
from tests.allocator.machines import boot


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x64M")


def test_a_block_goes_to_the_buddy_lists_and_merges(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL", 3, nid=1)
    assert page is not None
    story = explain_free(kernel, page.pfn, 3)
    lines = story.text.splitlines()
    assert lines[0] == f"free_pages(pfn={page.pfn:#x}, order=3)  ->  freed"
    assert f"  block {page.pfn:#x}/3 goes to the Unmovable lists of zone 1:DMA32" in lines
    assert f"    {page.pfn:#x}/3 merged with {page.pfn + 8:#x}/3 " in story.text
    assert f": {page.pfn:#x}/10 listed at the head" in story.text
    assert story.data["outcome"] == "freed"
    json.dumps(story.data)
    assert page.buddy


def test_a_single_page_goes_to_the_per_cpu_list(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL", nid=1, cpu=1)
    assert page is not None
    story = explain_free(kernel, page.pfn, cpu=1)
    assert f"frame {page.pfn:#x} put at the head of the Unmovable list of cpu 1" in story.text
    assert "go back to the buddy lists" not in story.text


def test_a_full_per_cpu_list_gives_a_batch_back(kernel: Kernel) -> None:
    pages = [kernel.alloc_pages("GFP_KERNEL", nid=1, cpu=1) for _ in range(60)]
    texts = [explain_free(kernel, page.pfn, cpu=1).text for page in pages if page]
    full = [text for text in texts if "of cpu 1's lists of zone 1:DMA32 go back" in text]
    assert full
    assert " listed at the " in full[0]


def test_shared_pages_lose_one_reference_only(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL")
    assert page is not None
    kernel.m[page.word + P_COUNTS] += REF_ONE
    story = explain_free(kernel, page.pfn)
    assert story.data["outcome"] == "still in use"
    assert "  2 references, 1 left: nothing is freed" in story.text
    assert page.refcount == 1


def test_a_double_free_is_told_in_the_kernels_words(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL", 1)
    assert page is not None
    kernel.free_pages(page, 1)
    story = explain_free(kernel, page.pfn, 1)
    assert story.data["outcome"] == "refused"
    assert "  refused: frame " in story.text
    assert "  kernel: BUG: Bad page state" in story.text


def test_whatif_changes_nothing(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL", 2)
    assert page is not None
    before = bytes(kernel.memory.bytes)
    story = explain_free(kernel, page.pfn, 2, whatif=True)
    assert bytes(kernel.memory.bytes) == before
    assert story.data["outcome"] == "freed"
    assert story.text.endswith("nothing was changed (--whatif)\n")
    assert page.refcount == 1


def test_frames_that_cannot_be_freed_are_refused(kernel: Kernel) -> None:
    for pfn, order in ((0x9999999, 0), (0x1000, 11), (0x1000, -1), (-5, 0)):
        with pytest.raises(BadRequest):
            explain_free(kernel, pfn, order)
