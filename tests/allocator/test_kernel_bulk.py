# SPDX-License-Identifier: GPL-2.0-only
"""allocator/kernel_bulk.py: arrays of operations give what single calls give."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.bulk import OP_ALLOC, OP_FREE
from allocator.errors import BadRequest
from allocator.gfp import parse_gfp
from allocator.kernel import Kernel
from tests.allocator.machines import boot

pytestmark = pytest.mark.both_engines
GFP = parse_gfp("GFP_KERNEL")


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x48M")


def test_bulk_gives_the_frames_that_single_calls_give(kernel: Kernel) -> None:
    other = boot("2x48M")
    singles = [other.alloc_pages("GFP_KERNEL", 1, nid=1) for _ in range(200)]
    got = kernel.alloc_pages_bulk("GFP_KERNEL", 1, 200, nid=1)
    assert got.tolist() == [page.pfn for page in singles if page]
    assert kernel.free_pages_bulk(got, 1) == 200
    for page in singles:
        assert page is not None
        other.free_pages(page, 1)
    assert np.array_equal(kernel.memory.q, other.memory.q)


def test_bulk_stops_where_memory_ends(kernel: Kernel) -> None:
    got = kernel.alloc_pages_bulk("GFP_KERNEL|__GFP_THISNODE|__GFP_NOWARN", 9, 1000, nid=0)
    assert 0 < len(got) < 24
    assert len(kernel.alloc_pages_bulk("GFP_KERNEL", 0, 0)) == 0


def test_refused_and_referenced_blocks_are_not_counted_as_freed(kernel: Kernel) -> None:
    pfns = kernel.alloc_pages_bulk("GFP_KERNEL", 0, 4)
    kernel.get_page(int(pfns[0]))
    kernel.free_pages(int(pfns[1]))
    assert kernel.free_pages_bulk(pfns) == 2
    assert any("page dumped because" in line for line in kernel.log)


@pytest.mark.parametrize("pfns", [[-1], [1 << 40], [5000, 0x30000], [1 << 70], [0.5j]])
def test_frames_without_a_struct_page_free_nothing(kernel: Kernel, pfns: list[int]) -> None:
    good = kernel.alloc_pages_bulk("GFP_KERNEL", 0, 1)
    with pytest.raises(BadRequest):
        kernel.free_pages_bulk([int(good[0]), *pfns])
    assert kernel.page(int(good[0])).refcount == 1


def test_replay_gives_what_the_calls_in_turn_would(kernel: Kernel) -> None:
    got = kernel.replay(
        ops=[OP_ALLOC, OP_ALLOC, OP_FREE, OP_ALLOC, OP_FREE, OP_FREE],
        gfps=GFP,
        orders=[0, 3, 0, 0, 3, 3],
        nids=[0, 1, 0, 0, 1, 1],
        cpus=[0, 1, 0, 0, 1, 1],
    )
    assert got[3] == got[0]
    assert got[2] == 0
    assert kernel.page(int(got[1])).nid == 1
    assert (got[4], got[5]) == (0, -1)


def test_replayed_free_of_a_failed_request_is_refused(kernel: Kernel) -> None:
    gfp = parse_gfp("GFP_KERNEL|__GFP_THISNODE|__GFP_NOWARN")
    count = 20
    ops = [OP_ALLOC] * count + [OP_FREE] * count
    got = kernel.replay(ops, gfp, 10, [0] * count + list(range(count)))
    failed = got[:count] < 0
    assert failed.any()
    assert (got[count:] == np.where(failed, -1, 0)).all()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"ops": [0, 2]}, "OP_ALLOC"),
        ({"orders": [0, 11]}, "orders"),
        ({"orders": -1}, "orders"),
        ({"nids": [0]}, "nids: 2 numbers"),
        ({"nids": [0, 7]}, "node 7"),
        ({"gfps": 1 << 30}, "outside"),
        ({"cpus": 9}, "no cpu 9"),
        ({"ops": [0, 1], "nids": [0, 1]}, "earlier OP_ALLOC"),
        ({"ops": [1, 0], "nids": [1, 0]}, "earlier OP_ALLOC"),
        ({"ops": [0, 1], "nids": [0, -1]}, "earlier OP_ALLOC"),
    ],
)
def test_impossible_operations_do_nothing(
    kernel: Kernel, changed: dict[str, object], why: str
) -> None:
    before = kernel.memory.q.copy()
    operations = {"ops": [0, 0], "gfps": GFP, "orders": 0, "nids": [0, 0], **changed}
    with pytest.raises(Exception, match=why) as raised:
        kernel.replay(**operations)  # type: ignore[arg-type]
    assert raised.value.__class__.__module__ in ("allocator.errors", "machine.errors")
    assert np.array_equal(kernel.memory.q, before)
