# SPDX-License-Identifier: GPL-2.0-only
"""What a reclaim is told: the defaults of a direct reclaim, and what is per round over a node."""

from __future__ import annotations

from allocator.gfp import GFP_KERNEL
from allocator.scan_control import DEF_PRIORITY, SWAP_CLUSTER_MAX, ScanControl


def test_a_reclaim_may_do_all_and_wants_a_cluster_unless_told_otherwise() -> None:
    sc = ScanControl(GFP_KERNEL)
    assert (sc.priority, sc.nr_to_reclaim) == (DEF_PRIORITY, SWAP_CLUSTER_MAX) == (12, 32)
    assert sc.may_swap
    assert sc.may_unmap
    assert sc.may_writepage
    assert not sc.kswapd
    assert (sc.memcg, sc.nodemask, sc.order) == (0, 0, 0)


def test_a_new_round_forgets_what_the_last_one_saw_but_not_what_was_freed() -> None:
    sc = ScanControl(GFP_KERNEL)
    for name in ("dirty", "unqueued_dirty", "congested", "writeback", "immediate"):
        setattr(sc, name, 3)
    sc.taken = sc.file_taken = sc.nr_scanned = sc.nr_reclaimed = 7
    sc.reset_round()
    assert (sc.dirty, sc.unqueued_dirty, sc.congested, sc.writeback, sc.immediate) == (0,) * 5
    assert (sc.taken, sc.file_taken) == (0, 0)
    assert (sc.nr_scanned, sc.nr_reclaimed) == (7, 7)
