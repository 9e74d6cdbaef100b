# SPDX-License-Identifier: GPL-2.0-only
"""allocator/explain/alloc.py: an allocation told from its records."""

from __future__ import annotations

import json
from typing import Any

import pytest

from allocator.errors import BadRequest
from allocator.explain import Story, explain_alloc
from allocator.kernel import Kernel
from allocator.kernel_globals import G_STATIC_KEYS, KEY_CPUSETS
from allocator.layout import CPU_BLOCKS, CPU_CURRENT, TASK_MEMS_ALLOWED, word_of_va
from tests.allocator.machines import boot


def data_of(story: Story) -> dict[str, Any]:
    return dict(story.data)


def passes(story: Any) -> list[tuple[str, list[tuple[str, bool]]]]:
    found = []
    for one in story.data["passes"]:
        visits = [
            (f"{v['node']}:{v['zone']}", "watermark" in v and v["watermark"]["ok"])
            for v in one["visits"]
        ]
        found.append((one["name"], visits))
    return found


def test_the_fast_path_is_told_with_zonelist_watermark_and_steal() -> None:
    kernel = boot("2x64M")
    story = explain_alloc(kernel, "GFP_KERNEL", order=3, nid=1)
    pfn = data_of(story)["result"]["pfn"]
    page = kernel.page(pfn)
    assert page.refcount == 1
    lines = story.text.splitlines()
    assert lines[0] == (
        f"alloc_pages(gfp=GFP_KERNEL, order=3, nid=1)  ->  frame {pfn:#07x}, node 1 zone DMA32"
    )
    assert lines[1] == "  wants Unmovable pages, zones up to Normal, ALLOC_WMARK_LOW"
    assert lines[2] == "  zonelist of node 1: 1:DMA32  0:DMA32  0:DMA"
    assert lines[3].startswith("  1 node 1 DMA32   low ")
    assert lines[3].endswith(" yes")
    assert "fallback to Movable: order 10 block" in lines[4]
    assert f"pageblock {pfn >> 9} (Movable) becomes Unmovable" in story.text
    assert passes(story) == [("fast path", [("1:DMA32", True)])]
    json.dumps(story.data)


def test_whatif_changes_nothing_and_says_so() -> None:
    kernel = boot("2x64M")
    before = bytes(kernel.memory.bytes)
    story = explain_alloc(kernel, "GFP_KERNEL|__GFP_ZERO", order=2, nid=0, whatif=True)
    assert bytes(kernel.memory.bytes) == before
    assert story.text.endswith("  nothing was changed (--whatif)\n")
    assert story.data["whatif"] is True
    real = explain_alloc(kernel, "GFP_KERNEL|__GFP_ZERO", order=2, nid=0)
    assert real.data["result"] == story.data["result"]
    assert real.data["passes"] == story.data["passes"]
    assert "nothing was changed" not in real.text


def test_the_same_frame_is_shown_before_and_after() -> None:
    kernel = boot("2x64M")
    story = explain_alloc(kernel, "GFP_KERNEL|__GFP_COMP", order=1)
    (pair,) = data_of(story)["pages"]
    assert isinstance(pair, dict)
    assert pair["before"]["state"] == "free"
    assert pair["after"]["state"] == "allocated"
    assert pair["after"]["flag_names"] == ["head"]
    assert "  before: free, " in story.text
    assert "  after:  allocated, head of an order-1 compound page, refcount 1" in story.text


def test_a_second_page_comes_from_the_per_cpu_list() -> None:
    kernel = boot("2x64M")
    first = explain_alloc(kernel, "GFP_KERNEL", cpu=1)
    assert "the Unmovable list of cpu 1 in zone 1:DMA32 is empty: refilled with " in first.text
    second = explain_alloc(kernel, "GFP_KERNEL", cpu=1)
    assert "no lock and no buddy list needed" in second.text
    assert "refilled" not in second.text


def test_every_zone_that_refused_is_listed_with_its_sum() -> None:
    kernel = boot("2x64M")
    kernel.exhaust(1)
    story = explain_alloc(kernel, "GFP_KERNEL", order=0, nid=1)
    assert passes(story) == [("fast path", [("1:DMA32", False), ("0:DMA32", True)])]
    line = next(line for line in story.lines if line.startswith("  1 node 1 DMA32"))
    assert " <= " in line
    assert line.endswith(" no")


def test_the_slow_path_tells_kswapd_both_attempts_and_the_kernels_complaint() -> None:
    kernel = boot("2x64M")
    kernel.exhaust(0)
    kernel.exhaust(1)
    story = explain_alloc(kernel, "GFP_ATOMIC", order=9, nid=0)
    names = [name for name, _ in passes(story)]
    assert names == ["fast path", "slow path, first attempt", "slow path, second attempt"]
    assert story.data["result"] == {"pfn": None, "order": 9}
    text = story.text
    assert "->  nothing" in text
    assert "  slow path, first attempt: ALLOC_WMARK_MIN|ALLOC_HARDER|ALLOC_HIGH" in text
    # filling the nodes has woken it, and nobody has given it its turn
    assert "kswapd of node 0 awake already, asked for order 9" in text
    assert "(HIGH)" in text
    assert "(HARDER)" in text
    assert "  no zone could serve it" in text
    assert "page allocation failure: order:9" in text
    assert story.data["pages"] == []


def test_reserves_of_memalloc_requests_are_named() -> None:
    kernel = boot("1x64M")
    kernel.exhaust(0)
    story = explain_alloc(kernel, "GFP_KERNEL|__GFP_MEMALLOC", order=0)
    assert "  slow path, second attempt: ALLOC_NO_WATERMARKS" in story.text
    assert "ALLOC_NO_WATERMARKS: the reserves may be used up" in story.text
    assert data_of(story)["result"]["pfn"] is not None


def test_the_highatomic_reserve_is_told_when_it_is_made() -> None:
    kernel = boot("1x64M")
    zone = kernel.zone(0, "DMA32")
    while kernel.alloc_pages("GFP_KERNEL|__GFP_NOWARN", 1) is not None:
        pass
    before = zone.nr_reserved_highatomic
    story = explain_alloc(kernel, "GFP_ATOMIC", order=1)
    assert zone.nr_reserved_highatomic == before + 512
    assert "reserved for high-order atomic requests; zone 0:DMA32 now reserves 512" in story.text


def test_excluded_zones_say_what_excludes_them() -> None:
    kernel = boot("2x64M", append="kernelcore=50%")
    story = explain_alloc(kernel, "GFP_DMA32", order=0, nid=0, nodemask=0b10, whatif=True)
    entries = story.data["zonelist"]
    assert isinstance(entries, list)
    reasons = {f"{e['node']}:{e['zone']}": e["excluded"] for e in entries}
    assert reasons["0:Movable"] == "not allowed by gfp"
    assert reasons["0:DMA32"] == "not in the nodemask"
    assert reasons["1:DMA32"] is None
    assert "zonelist of node 0: 1:DMA32      (" in story.text
    thisnode = explain_alloc(kernel, "GFP_KERNEL|__GFP_THISNODE", nid=1, whatif=True)
    assert "zonelist of node 1 (__GFP_THISNODE): 1:DMA32" in thisnode.text


def test_zones_outside_the_cpuset_are_skipped_by_name() -> None:
    kernel = boot("2x64M")
    kernel.m[G_STATIC_KEYS] |= KEY_CPUSETS
    task = word_of_va(kernel.m[CPU_BLOCKS + CPU_CURRENT])
    kernel.m[task + TASK_MEMS_ALLOWED] = 0b10
    story = explain_alloc(kernel, "GFP_USER", nid=0, nodemask=0b11, whatif=True)
    assert "  1 node 0 DMA32   skipped: outside the task's cpuset" in story.text


def test_requests_that_make_no_sense_are_refused_and_leave_no_trace() -> None:
    kernel = boot("1x64M")
    before = bytes(kernel.memory.bytes)
    requests: tuple[dict[str, Any], ...] = (
        {"gfp": "GFP_KERNEL", "nid": 4},
        {"gfp": "GFP_KERNEL", "cpu": 9},
        {"gfp": "GFP_KERNEL", "order": -1},
        {"gfp": "GFP_KERNEL", "nodemask": 0},
        {"gfp": "GFP_DMA|GFP_DMA32"},
    )
    for arguments in requests:
        with pytest.raises(BadRequest):
            explain_alloc(kernel, **arguments)
    assert bytes(kernel.memory.bytes) == before


def test_a_nofail_request_outside_its_cpuset_is_helped() -> None:
    kernel: Kernel = boot("1x64M")
    kernel.exhaust(0)
    story = explain_alloc(kernel, "GFP_KERNEL|__GFP_NOFAIL", order=0, whatif=True)
    names = [name for name, _ in passes(story)]
    assert names[:3] == ["fast path", "slow path, first attempt", "slow path, second attempt"]
    assert "help for __GFP_NOFAIL" in names
