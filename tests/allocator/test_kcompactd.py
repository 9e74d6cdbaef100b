# SPDX-License-Identifier: GPL-2.0-only
"""allocator/kcompactd.py: requests left with the daemon, and its turns."""

from __future__ import annotations

import pytest

from allocator.kcompactd import (
    compact_nodes,
    kcompactd_do_work,
    kcompactd_run_pending,
)
from allocator.kernel import Kernel
from allocator.kswapd_wake import wakeup_kcompactd
from allocator.layout import NODE_DATA, word_of_va
from allocator.mmzone import (
    ND_KCOMPACTD_CLASSZONE,
    ND_KCOMPACTD_ORDER,
    ND_NR_ZONES,
    Z_COMPACT_DEFER_SHIFT,
)
from tests.allocator.machines import boot
from tests.allocator.test_compaction import fill_with_movable, free_order_9


@pytest.fixture
def scattered() -> Kernel:
    """A machine with every second page free, the others movable."""
    kernel = boot("1x64M")
    for pfn in fill_with_movable(kernel, 0)[::2]:
        kernel.free_pages(pfn, 0)
    kernel.drain_all_pages()
    return kernel


def node(kernel: Kernel) -> int:
    return word_of_va(kernel.m[NODE_DATA])


def request(kernel: Kernel) -> tuple[int, int]:
    nd = node(kernel)
    return kernel.m[nd + ND_KCOMPACTD_ORDER], kernel.m[nd + ND_KCOMPACTD_CLASSZONE]


def test_the_daemon_makes_a_block_of_the_order_and_forgets_the_request(scattered: Kernel) -> None:
    assert free_order_9(scattered, 0) == 0
    wakeup_kcompactd(scattered.m, 0, node(scattered), 9, 2)
    assert kcompactd_run_pending(scattered.m, 0) == 1
    scattered.drain_all_pages()
    assert free_order_9(scattered, 0) >= 1
    zones = scattered.m[node(scattered) + ND_NR_ZONES]
    assert request(scattered) == (0, zones - 1)
    assert kcompactd_run_pending(scattered.m, 0) == 0


def test_an_order_that_nobody_was_woken_for_waits_for_the_next_wakeup(scattered: Kernel) -> None:
    scattered.m[node(scattered) + ND_KCOMPACTD_ORDER] = 9
    assert kcompactd_run_pending(scattered.m, 0) == 0
    assert wakeup_kcompactd(scattered.m, 0, node(scattered), 3, 2)
    assert kcompactd_run_pending(scattered.m, 0) == 1
    assert request(scattered)[0] == 0


def test_work_that_fails_is_deferred_like_direct_compaction() -> None:
    kernel = boot("1x64M")
    pfns = []
    while page := kernel.alloc_pages("GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN", 0):
        pfns.append(page.pfn)
    for pfn in sorted(pfns)[::2]:
        kernel.free_pages(pfn, 0)
    kernel.drain_all_pages()
    nd = node(kernel)
    kernel.m[nd + ND_KCOMPACTD_ORDER] = 9
    kcompactd_do_work(kernel.m, 0, nd)
    assert any(kernel.m[zone.word + Z_COMPACT_DEFER_SHIFT] for zone in kernel.zones)


def test_compact_memory_goes_over_all_nodes(scattered: Kernel) -> None:
    compact_nodes(scattered.m, 0)
    scattered.drain_all_pages()
    assert free_order_9(scattered, 0) >= 5
