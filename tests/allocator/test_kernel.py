# SPDX-License-Identifier: GPL-2.0-only
"""allocator/kernel.py: the public face, what it refuses and what it raises."""

from __future__ import annotations

import pytest

from allocator.errors import BadPage, BadRequest, KernelOops
from allocator.kernel import Kernel
from allocator.kernel_globals import G_LAYOUT_VERSION, G_MAGIC
from allocator.mm_types import P_NEXT
from machine import Bank, BringUpError, PhysicalMemory, UsageError
from tests.allocator.machines import boot


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x48M")


def test_attach_takes_up_a_ram_image_and_carries_on(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL", 2, nid=1)
    assert page is not None
    again = Kernel.attach(kernel.memory)
    assert again.page(page.pfn).refcount == 1
    assert again.free_pages(page, 2)


def test_attach_refuses_ram_without_a_kernel_and_other_versions(kernel: Kernel) -> None:
    with pytest.raises(BringUpError, match="no booted kernel at physical 0x1000000"):
        Kernel.attach(PhysicalMemory([Bank(0, 64 << 20, "ram")]))
    kernel.m[G_LAYOUT_VERSION] = 99
    with pytest.raises(BringUpError, match="version 99"):
        Kernel.attach(kernel.memory)
    kernel.m[G_MAGIC] = 0
    with pytest.raises(BringUpError):
        Kernel.attach(kernel.memory)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"gfp": "GFP_WRONG"}, "unknown flag 'GFP_WRONG'"),
        ({"gfp": "GFP_DMA|GFP_DMA32"}, "exclude each other"),
        ({"gfp": "__GFP_MOVABLE|__GFP_RECLAIMABLE"}, "both movable and reclaimable"),
        ({"gfp": 1 << 23}, "outside the 23"),
        ({"gfp": "GFP_KERNEL", "order": -1}, "negative"),
        ({"gfp": "GFP_KERNEL", "order": 11}, "MAX_ORDER"),
        ({"gfp": "GFP_KERNEL", "nid": 2}, "node 2 is not online"),
        ({"gfp": "GFP_KERNEL", "nid": 64}, "node 64 is not online"),
        ({"gfp": "GFP_KERNEL", "nodemask": set()}, "nodemask 0x0"),
        ({"gfp": "GFP_KERNEL", "nodemask": 1 << 64}, "nodemask"),
        ({"gfp": "GFP_KERNEL", "cpu": 2}, "no cpu 2"),
    ],
)
def test_impossible_requests_raise_and_change_nothing(
    kernel: Kernel, arguments: dict[str, int], why: str
) -> None:
    free = kernel.nr_free_pages
    with pytest.raises((BadRequest, UsageError), match=why):
        kernel.alloc_pages(**arguments)
    assert kernel.nr_free_pages == free


@pytest.mark.parametrize("pfn", [-1, 1 << 40, 0x30000])
def test_frames_without_a_struct_page_are_refused(kernel: Kernel, pfn: int) -> None:
    with pytest.raises(BadRequest, match="has no struct page"):
        kernel.free_pages(pfn)
    with pytest.raises(BadRequest, match="has no struct page"):
        kernel.page(pfn)


def test_reference_count_decides_when_a_page_is_free(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL")
    assert page is not None
    kernel.m[page.word + 6] += 1 << 32
    assert kernel.free_pages(page) is False
    assert page.refcount == 1
    assert kernel.free_pages(page) is True


def test_split_block_is_freed_page_by_page(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL", 3)
    assert page is not None
    pages = kernel.split_page(page, 3)
    assert [p.refcount for p in pages] == [1] * 8
    assert all(kernel.free_pages(p) for p in pages)
    with pytest.raises(BadRequest, match="not an allocated"):
        kernel.split_page(page, 3)


def test_exact_allocation_gives_the_surplus_back(kernel: Kernel) -> None:
    free = kernel.nr_free_pages
    page = kernel.alloc_pages_exact(5 * 4096, "GFP_KERNEL")
    assert page is not None
    assert [kernel.page(page.pfn + i).refcount for i in range(8)] == [1] * 5 + [0] * 3
    kernel.free_pages_exact(page, 5 * 4096)
    kernel.drain_all_pages()
    kernel.fold_vm_stats(0)
    kernel.fold_vm_stats(1)
    assert abs(kernel.nr_free_pages - free) <= 8


def test_exhaust_takes_all_that_one_node_gives(kernel: Kernel) -> None:
    pages = kernel.exhaust(1)
    assert {page.nid for page in pages} == {1}
    assert len({page.pfn for page in pages}) == len(pages)
    assert kernel.alloc_pages("GFP_KERNEL|__GFP_THISNODE|__GFP_NOWARN", nid=1) is None


def test_scribbled_list_pointer_is_an_oops_not_a_python_error(kernel: Kernel) -> None:
    zone = kernel.zone(0, "DMA32")
    head = zone.free_list(10, 1)[0]
    kernel.m[kernel.page(head).word + P_NEXT] = 0x7FFFFFFFFFFFFFF8
    with pytest.raises(KernelOops, match="damaged pointer"):
        kernel.alloc_pages("GFP_HIGHUSER_MOVABLE", 10, nid=0)


def test_views_of_the_same_frame_are_equal(kernel: Kernel) -> None:
    assert kernel.page(5000) == kernel.page(5000)
    assert kernel.page(5000) != kernel.page(5001)
    assert len({kernel.page(5000), kernel.page(5000)}) == 1
    assert "node 0 zone DMA32" in repr(kernel.page(5000))
    assert repr(kernel.zone(1, "DMA32")).startswith("<Zone 1:DMA32 free ")
    with pytest.raises(BadRequest, match="no zone 'HighMem'"):
        kernel.zone(0, "HighMem")


def test_trace_records_what_was_switched_on_and_nothing_after(kernel: Kernel) -> None:
    first = kernel.trace_position
    kernel.trace_on("mm_page_alloc")
    page = kernel.alloc_pages("GFP_KERNEL", 2)
    assert page is not None
    kernel.free_pages(page, 2)
    kernel.trace_off()
    kernel.alloc_pages("GFP_KERNEL")
    assert [record.args[0] for record in kernel.trace_records(first)] == [page.pfn]
    lines = kernel.trace_text(first=first).splitlines()
    assert f"pfn={page.pfn} order=2" in lines[-1]
    with pytest.raises(BadRequest, match="no event 'mm_page_moved'"):
        kernel.trace_on("mm_page_moved")


def test_a_report_after_a_rewind_reaches_the_log_again(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL")
    assert page is not None
    assert kernel.machine is not None
    kernel.free_pages(page)
    moment = kernel.machine.checkpoint()
    for _ in range(2):
        lines = len(kernel.log)
        with pytest.raises(BadPage):
            kernel.free_pages(page)
        assert len(kernel.log) > lines
        moment.rewind()
