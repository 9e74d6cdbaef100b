# SPDX-License-Identifier: GPL-2.0-only
"""Per-cpu lists: which pages are found on them, and the legal oddities."""

from __future__ import annotations

from allocator.check import check_frames
from allocator.check.context import Check
from allocator.check.pcp_lists import pagesets
from allocator.mm_types import P_INDEX
from allocator.mmzone import MIGRATE_HIGHATOMIC, PSET_HIGH
from allocator.pageset import percpu_pagelist_fraction_sysctl
from tests.allocator.machines import boot


def test_the_pages_found_are_those_on_the_lists() -> None:
    kernel = boot("2x64M,cpus=2")
    for cpu in range(4):
        for gfp in ("GFP_KERNEL", "GFP_HIGHUSER_MOVABLE"):
            page = kernel.alloc_pages(gfp, cpu=cpu)
            assert page is not None
            kernel.free_pages(page, cpu=cpu)
    check = Check(kernel.memory)
    pcp = check.pcp_pages
    listed = {
        (pfn, cpu, mt)
        for zone in kernel.zones
        for cpu in range(4)
        for mt in range(3)
        for pfn in zone.pcp_list(cpu, mt)
    }
    pfns = check.frames.pfns(pcp.pages).tolist()
    assert set(zip(pfns, pcp.cpu.tolist(), pcp.mt.tolist(), strict=True)) == listed
    assert len(listed) >= 8


def test_a_highatomic_page_may_lie_on_the_movable_list() -> None:
    kernel = boot("1x64M")
    page = kernel.alloc_pages("GFP_HIGHUSER_MOVABLE")
    assert page is not None
    kernel.free_pages(page)
    kernel.m[page.word + P_INDEX] = MIGRATE_HIGHATOMIC
    assert check_frames(kernel.memory, strict=True).sound


def test_limits_follow_percpu_pagelist_fraction() -> None:
    kernel = boot("2x64M")
    assert percpu_pagelist_fraction_sysctl(kernel.m, 64) == 0
    assert check_frames(kernel.memory, strict=True).sound
    _, _, first = pagesets(Check(kernel.memory))[-1]
    kernel.m[first + PSET_HIGH] *= 3
    (finding,) = check_frames(kernel.memory, strict=True).findings
    assert finding.rule == "pcp-limits"
