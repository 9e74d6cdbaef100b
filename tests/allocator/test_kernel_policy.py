# SPDX-License-Identifier: GPL-2.0-only
"""allocator/kernel_policy.py: what decides about requests besides their arguments."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.kernel import Kernel
from allocator.layout import CPU_BLOCKS, CPU_CURRENT, PF_MEMALLOC_NOIO, TASK_FLAGS, word_of_va
from machine import UsageError
from tests.allocator.machines import boot

pytestmark = pytest.mark.both_engines


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x48M")


def node_of_next(kernel: Kernel, gfp: str = "GFP_USER") -> int:
    page = kernel.alloc_pages_current(gfp)
    assert page is not None
    return page.nid


def test_policies_decide_the_node(kernel: Kernel) -> None:
    assert node_of_next(kernel) == 0
    kernel.set_mempolicy("preferred", [1])
    assert node_of_next(kernel) == 1
    kernel.set_mempolicy("bind", [1], "static")
    assert node_of_next(kernel) == 1
    kernel.set_mempolicy("interleave", [0, 1])
    assert {node_of_next(kernel), node_of_next(kernel)} == {0, 1}
    kernel.set_mempolicy("default")
    assert node_of_next(kernel) == 0
    kernel.set_mempolicy("local", cpu=1)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("nearest",), "policy 'nearest'"),
        (("bind", [0], "sticky"), "sticky"),
        (("bind",), "EINVAL"),
        (("bind", [5]), "EINVAL"),
        (("default", [0]), "EINVAL"),
        (("bind", [64]), "nodemask"),
    ],
)
def test_policies_that_cannot_be_are_refused(
    kernel: Kernel, arguments: tuple[object, ...], why: str
) -> None:
    with pytest.raises(BadRequest, match=why):
        kernel.set_mempolicy(*arguments)  # type: ignore[arg-type]


def test_cpuset_keeps_its_tasks_on_its_nodes(kernel: Kernel) -> None:
    box = kernel.create_cpuset("box")
    with pytest.raises(BadRequest, match="ENOSPC"):
        box.attach()
    box.set_mems([1])
    box.attach()
    assert (box.path, box.mems) == ("/box", {1})
    assert node_of_next(kernel) == 1
    with pytest.raises(BadRequest, match="EBUSY"):
        box.remove()
    kernel.top_cpuset.attach()
    assert node_of_next(kernel) == 0
    box.set_flag("mem_hardwall")
    with pytest.raises(BadRequest, match="cpuset flag"):
        box.set_flag("cpu_exclusive")
    with pytest.raises(UsageError, match="exists"):
        kernel.create_cpuset("box")
    box.remove()


def test_memory_cgroup_refuses_beyond_its_limit(kernel: Kernel) -> None:
    group = kernel.create_memcg()
    child = kernel.create_memcg(group)
    group.limit(40)
    child.attach()
    gfp = "GFP_KERNEL|__GFP_ACCOUNT|__GFP_NOWARN|__GFP_NORETRY"
    pages = []
    while (page := kernel.alloc_pages(gfp)) is not None:
        pages.append(page)
    assert len(pages) == 40
    assert group.failcnt() > 0
    assert group.usage() == child.usage() == 40
    with pytest.raises(BadRequest, match="EBUSY"):
        group.limit(10)
    with pytest.raises(BadRequest, match="counter 'swap'"):
        group.usage("swap")
    assert all(kernel.free_pages(page) for page in pages)


def test_scopes_end_and_leave_outer_scopes_alone(kernel: Kernel) -> None:
    word = word_of_va(kernel.m[CPU_BLOCKS + CPU_CURRENT]) + TASK_FLAGS
    before = kernel.m[word]
    with kernel.memalloc_noio():
        with kernel.memalloc_noio(), kernel.memalloc_nofs(), kernel.memalloc_noreclaim():
            assert kernel.m[word] != before
        assert kernel.m[word] == before | PF_MEMALLOC_NOIO
    assert kernel.m[word] == before


def test_sysctls_change_what_hangs_on_them(kernel: Kernel) -> None:
    low = kernel.zone(0, "DMA32").watermarks
    kernel.set_sysctl("min_free_kbytes", 4096)
    assert kernel.sysctl("min_free_kbytes") == 4096
    assert kernel.zone(0, "DMA32").watermarks > low
    kernel.set_sysctl("lowmem_reserve_ratio", (64, 64, 32, 0))
    assert kernel.sysctl("lowmem_reserve_ratio") == (64, 64, 32, 0)
    for name, value, why in (
        ("min_free_kbytes", -1, "EINVAL"),
        ("watermark_scale_factor", 0, "EINVAL"),
        ("percpu_pagelist_fraction", 3, "EINVAL"),
        ("lowmem_reserve_ratio", 5, "4 numbers"),
        ("swappiness", 60, "sysctl 'swappiness'"),
    ):
        with pytest.raises(BadRequest, match=why):
            kernel.set_sysctl(name, value)


def test_injected_failures_come_as_often_as_asked_and_end(kernel: Kernel) -> None:
    kernel.fail_page_alloc(interval=2, times=3)
    got = [kernel.alloc_pages("GFP_KERNEL") is not None for _ in range(10)]
    assert got.count(False) == 3
    kernel.fail_page_alloc()
    assert kernel.alloc_pages("GFP_KERNEL") is None
    kernel.stop_fail_page_alloc()
    assert kernel.alloc_pages("GFP_KERNEL") is not None
    with pytest.raises(BadRequest, match="probability 101"):
        kernel.fail_page_alloc(101)
