# SPDX-License-Identifier: GPL-2.0-only
"""allocator/kernel_pages.py: the interface of gfp.h and mm.h from Python."""

from __future__ import annotations

import pytest

from allocator.errors import BadPage, BadRequest
from allocator.kernel import Kernel
from tests.allocator.machines import boot

pytestmark = pytest.mark.both_engines
DIRECT_MAP = 0xFFFF888000000000


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x48M")


def test_alloc_pages_node_prefers_the_node_and_takes_the_cpus_for_minus_one(
    kernel: Kernel,
) -> None:
    for nid, cpu, expected in ((1, 0, 1), (0, 1, 0), (-1, 1, 1)):
        page = kernel.alloc_pages_node(nid, "GFP_KERNEL", 1, cpu)
        assert page is not None
        assert page.nid == expected


def test_nodemask_keeps_a_request_off_its_preferred_node(kernel: Kernel) -> None:
    page = kernel.alloc_pages_nodemask("GFP_KERNEL", 0, 0, {1})
    assert page is not None
    assert page.nid == 1


def test_free_pages_are_reached_and_freed_by_their_address(kernel: Kernel) -> None:
    address = kernel.get_free_pages("GFP_KERNEL", 2)
    assert address is not None
    pfn = address - DIRECT_MAP >> 12
    assert kernel.page(pfn).refcount == 1
    assert kernel.free_address(address, 2)
    with pytest.raises(BadPage):
        kernel.free_address(address, 2)
    with pytest.raises(BadRequest, match="not in the direct map"):
        kernel.free_address(0x1000)


def test_zeroed_page_is_zero_whatever_was_there(kernel: Kernel) -> None:
    pages = [kernel.alloc_pages("GFP_KERNEL") for _ in range(4)]
    for page in pages:
        assert page is not None
        kernel.memory.write(page.pfn << 12, b"\xff" * 4096)
        kernel.free_pages(page)
    address = kernel.get_zeroed_page("GFP_KERNEL")
    assert address is not None
    assert address - DIRECT_MAP >> 12 in {page.pfn for page in pages if page}
    assert kernel.memory.read(address - DIRECT_MAP, 4096) == bytes(4096)


def test_exact_sizes_come_from_the_node_asked_for_and_their_range_is_checked(
    kernel: Kernel,
) -> None:
    page = kernel.alloc_pages_exact_nid(1, 3 * 4096, "GFP_KERNEL")
    assert page is not None
    assert page.nid == 1
    kernel.free_pages_exact(page, 3 * 4096)
    for size in (0, -1, (4096 << 10) + 1):
        with pytest.raises(BadRequest, match="is not between"):
            kernel.alloc_pages_exact(size, "GFP_KERNEL")
        with pytest.raises(BadRequest, match="is not between"):
            kernel.free_pages_exact(page, size)


def test_get_page_defers_the_free_and_put_page_does_it(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL|__GFP_COMP", 2)
    assert page is not None
    kernel.get_page(page.pfn + 3)
    assert page.refcount == 2
    assert kernel.put_page(page) is False
    assert kernel.put_page(page.pfn + 1) is True
    with pytest.raises(BadPage):
        kernel.put_page(page)
    with pytest.raises(BadPage):
        kernel.get_page(page)
