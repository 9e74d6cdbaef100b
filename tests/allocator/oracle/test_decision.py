# SPDX-License-Identifier: GPL-2.0-only
"""The account of an operation names the zones, the numbers and the lists."""

from __future__ import annotations

from allocator.oracle.decision import explain
from allocator.oracle.replay import Replayer

from .machines import TWO_NODES, bring_up

META = {"cpu": 0, "early": 0}
REQUEST = {"op": "A", "i": 0, "gfp": 0x4000C0, "order": 3, "nid": 1, "mask": 0, "cpu": 0, "pfn": 0}


def test_an_allocation_is_explained_by_watermark_and_list() -> None:
    lines = explain(Replayer(bring_up(TWO_NODES), META), [REQUEST, REQUEST], 1)
    assert lines[0].startswith("request gfp 0x4000c0 order 3 node 1")
    assert any("zone 1:DMA32: free " in line and line.endswith("yes") for line in lines)
    assert any("Unmovable list of order 3 gives frame" in line for line in lines)


def test_a_steal_is_explained_by_both_types() -> None:
    lines = explain(Replayer(bring_up(TWO_NODES), META), [REQUEST], 0)
    steal = next(line for line in lines if "fallback to" in line)
    assert "Unmovable lists are empty, fallback to Movable" in steal
    assert "pageblock now Unmovable" in steal


def test_a_failure_shows_both_attempts() -> None:
    op = REQUEST | {"mask": 0, "gfp": 0x200 | 0x80000, "order": 10}
    replayer = Replayer(bring_up(TWO_NODES), META)
    lines = explain(replayer, [op] * 200, 199)
    assert sum("slow path" in line for line in lines) == 2
    assert any(line.endswith(": no") for line in lines)


def test_a_broken_recording_ends_the_account_with_its_message() -> None:
    replayer = Replayer(bring_up(TWO_NODES), META)
    assert explain(replayer, [{"op": "Q", "i": 0}], 0) == [
        "the decision cannot be shown: unknown kind of operation 'Q'"
    ]
    assert "KeyError" in explain(replayer, [{"op": "A", "i": 0, "cpu": 0}], 0)[0]
