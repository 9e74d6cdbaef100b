# SPDX-License-Identifier: GPL-2.0-only
"""allocator/page_alloc.py: requests through zonelists, watermarks, reserves and contexts."""

from __future__ import annotations

import pytest

from allocator import page_alloc
from allocator.errors import BadRequest
from allocator.kernel import Kernel
from allocator.kernel_globals import (
    G_FAIL_PROBABILITY,
    G_GFP_ALLOWED,
    G_LOG_HEAD,
    G_STATIC_KEYS,
    G_TRACE_MASK,
    G_WARNED_ONCE,
    KEY_CPUSETS,
)
from allocator.layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    NODE_DATA,
    TASK_HARDWALL_MEMS,
    TASK_MEMS_ALLOWED,
    word_of_va,
)
from allocator.mmzone import ND_KSWAPD_CLASSZONE, ND_KSWAPD_ORDER
from allocator.trace_events import (
    ALL_EVENTS,
    EV_MM_PAGE_ALLOC,
    EV_RMQUEUE,
    EV_SLOWPATH_FIRST,
    EV_SLOWPATH_RETRY,
    EV_WATERMARK,
)
from tests.allocator.machines import boot
from tests.allocator.records import recorded

HARDER, HIGH, CPUSET, CMA, OOM, NO_WATERMARKS = 0x10, 0x20, 0x40, 0x80, 0x08, 0x04


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x48M")


def task(kernel: Kernel, cpu: int = 0) -> int:
    return word_of_va(kernel.m[CPU_BLOCKS + CPU_CURRENT])


# --- zones and nodes ----------------------------------------------------------------------


def test_request_is_served_by_its_node_while_that_has_memory(kernel: Kernel) -> None:
    for nid in (0, 1):
        page = kernel.alloc_pages("GFP_KERNEL", nid=nid)
        assert page is not None
        assert page.nid == nid


def test_exhausted_node_falls_back_to_the_next_in_its_zonelist(kernel: Kernel) -> None:
    kernel.exhaust(1, "GFP_KERNEL")
    page = kernel.alloc_pages("GFP_KERNEL", nid=1)
    assert page is not None
    assert page.nid == 0


def test_thisnode_never_leaves_the_node(kernel: Kernel) -> None:
    kernel.exhaust(1, "GFP_KERNEL")
    assert kernel.alloc_pages("GFP_KERNEL|__GFP_THISNODE", nid=1) is None


def test_nodemask_keeps_the_request_on_its_nodes(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_KERNEL", nid=0, nodemask={1})
    assert page is not None
    assert page.nid == 1
    assert kernel.alloc_pages("GFP_KERNEL|__GFP_THISNODE", nid=0, nodemask={1}) is None


def test_dma_request_gets_a_frame_below_16_mib(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_DMA", nid=1)
    assert page is not None
    assert page.zone == "DMA"
    assert page.pfn < 4096


def test_movable_zone_serves_only_movable_highmem_requests() -> None:
    kernel = boot("2x48M", append="kernelcore=50%")
    zones = {
        gfp: page.zone
        for gfp in ("GFP_HIGHUSER_MOVABLE", "GFP_HIGHUSER", "GFP_KERNEL|__GFP_MOVABLE")
        if (page := kernel.alloc_pages(gfp, nid=1))
    }
    assert zones == {
        "GFP_HIGHUSER_MOVABLE": "Movable",
        "GFP_HIGHUSER": "DMA32",
        "GFP_KERNEL|__GFP_MOVABLE": "DMA32",
    }


# --- watermarks and reserves --------------------------------------------------------------


def test_normal_requests_stop_at_low_then_min_atomic_ones_go_deeper(kernel: Kernel) -> None:
    zone = kernel.zone(1, "DMA32")
    kernel.exhaust(1, "GFP_KERNEL")
    low = zone.free_pages
    # the global counter lags behind by the CPUs' deltas, at most the stat threshold each
    assert abs(low - zone.watermarks[0]) <= 8
    kernel.exhaust(1, "GFP_ATOMIC")
    deeper = zone.free_pages
    assert 0 < deeper < low
    kernel.exhaust(1, "GFP_NOWAIT|__GFP_MEMALLOC")
    assert zone.free_pages <= 8
    assert sum(zone.nr_free()) == 0


def test_slow_path_asks_kswapd_of_every_node_in_the_zonelist(kernel: Kernel) -> None:
    kernel.exhaust(0, "GFP_KERNEL", order=2)
    for nid in (0, 1):
        kernel.m[word_of_va(kernel.m[NODE_DATA + nid]) + ND_KSWAPD_ORDER] = 0
    kernel.exhaust(1, "GFP_KERNEL", order=2)
    kernel.alloc_pages("GFP_KERNEL|__GFP_NOWARN", 5, nid=1)
    for nid in (0, 1):
        nd = word_of_va(kernel.m[NODE_DATA + nid])
        assert kernel.m[nd + ND_KSWAPD_ORDER] == 5
        assert kernel.m[nd + ND_KSWAPD_CLASSZONE] == 2


def test_slow_path_tries_twice_and_says_so_in_the_trace(kernel: Kernel) -> None:
    kernel.exhaust(1, "GFP_KERNEL")
    kernel.m[G_TRACE_MASK] = ALL_EVENTS
    kernel.alloc_pages("GFP_ATOMIC|__GFP_THISNODE", nid=1)
    kernel.exhaust(1, "GFP_ATOMIC")
    kernel.m[G_TRACE_MASK] = 1 << EV_SLOWPATH_FIRST | 1 << EV_SLOWPATH_RETRY | 1 << EV_RMQUEUE
    with recorded(kernel) as events:
        assert kernel.alloc_pages("GFP_ATOMIC|__GFP_THISNODE", nid=1) is None
    assert [(e.event, e.args[0]) for e in events] == [
        (EV_SLOWPATH_FIRST, HIGH | HARDER),
        (EV_SLOWPATH_RETRY, HIGH | HARDER),
    ]


def test_gfp_atomic_drops_the_nodemask_on_its_second_attempt(kernel: Kernel) -> None:
    kernel.exhaust(1, "GFP_KERNEL")
    kernel.exhaust(1, "GFP_ATOMIC")
    page = kernel.alloc_pages("GFP_ATOMIC", nid=1, nodemask={1})
    assert page is not None
    assert page.nid == 0


def test_watermark_record_carries_the_numbers_of_the_test(kernel: Kernel) -> None:
    zone = kernel.zone(0, "DMA32")
    free = zone.free_pages
    with recorded(kernel, 1 << EV_WATERMARK) as events:
        kernel.alloc_pages("GFP_KERNEL", 3, nid=0)
    args = events[0].args
    assert args[:7] == (0, 1, 3, zone.watermarks[1], zone.lowmem_reserve[1], free, 0)
    assert args[10] == 1


def test_atomic_block_is_reserved_after_a_high_order_request_tried_harder(kernel: Kernel) -> None:
    zone = kernel.zone(1, "DMA32")
    kernel.exhaust(1, "GFP_KERNEL")
    assert zone.nr_reserved_highatomic == 0
    page = kernel.alloc_pages("GFP_ATOMIC|__GFP_THISNODE", 2, nid=1)
    assert page is not None
    assert page.migratetype == "HighAtomic"
    assert zone.nr_reserved_highatomic == 512


# --- cpusets ------------------------------------------------------------------------------


def test_cpuset_confines_the_fast_path_and_hardwall_the_slow_one(kernel: Kernel) -> None:
    m = kernel.m
    m[G_STATIC_KEYS] |= KEY_CPUSETS
    m[task(kernel) + TASK_MEMS_ALLOWED] = 1 << 1
    m[task(kernel) + TASK_HARDWALL_MEMS] = 0b11
    page = kernel.alloc_pages("GFP_KERNEL", nid=0)
    assert page is not None
    assert page.nid == 1
    while (page := kernel.alloc_pages("GFP_USER|__GFP_NOWARN", nid=0)) is not None:
        assert page.nid == 1
    page = kernel.alloc_pages("GFP_KERNEL", nid=0)
    assert page is not None
    assert page.nid == 0


# --- refusals -----------------------------------------------------------------------------


def test_order_beyond_max_warns_once_and_nowarn_keeps_silent(kernel: Kernel) -> None:
    head = kernel.m[G_LOG_HEAD]
    with pytest.raises(BadRequest, match="order 11"):
        kernel.alloc_pages("GFP_KERNEL|__GFP_NOWARN", 11)
    assert kernel.m[G_LOG_HEAD] == head
    for _ in range(2):
        with pytest.raises(BadRequest, match="MAX_ORDER"):
            kernel.alloc_pages("GFP_KERNEL", 11)
    assert kernel.m[G_LOG_HEAD] == head + 1
    assert kernel.m[G_WARNED_ONCE] == page_alloc.ONCE_ORDER


def test_gfp_allowed_mask_takes_early_bits_away(kernel: Kernel) -> None:
    kernel.m[G_GFP_ALLOWED] = 0x1FFF3F
    with recorded(kernel, 1 << EV_MM_PAGE_ALLOC) as events:
        kernel.alloc_pages("GFP_KERNEL")
    assert events[0].args[2] == 0


def test_failure_is_reported_with_mode_and_nodemask_unless_nowarn(kernel: Kernel) -> None:
    kernel.exhaust(0)
    kernel.exhaust(1)
    lines = len(kernel.log)
    assert kernel.alloc_pages("GFP_KERNEL|__GFP_NOWARN") is None
    assert len(kernel.log) == lines
    assert kernel.alloc_pages("GFP_KERNEL", 4, nid=1) is None
    text = "\n".join(kernel.log[lines:])
    assert "page allocation failure: order:4, mode:0x6000c0(GFP_KERNEL), nodemask=(null)" in text


def test_injected_faults_fail_the_request_before_any_zone_is_asked() -> None:
    kernel = boot("1x48M", append="fail_page_alloc=1,100,0,-1")
    assert kernel.m[G_FAIL_PROBABILITY] == 100
    with recorded(kernel, 1 << EV_WATERMARK) as events:
        assert kernel.alloc_pages("GFP_NOWAIT", 1) is None
    assert events == []
    assert kernel.alloc_pages("GFP_NOWAIT", 0) is not None
    assert kernel.alloc_pages("GFP_KERNEL", 1) is not None
