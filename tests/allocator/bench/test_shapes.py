# SPDX-License-Identifier: GPL-2.0-only
"""allocator/bench/shapes.py: LLFree's shapes leave the machine as they found it."""

from __future__ import annotations

import pytest

from allocator.bench import shapes
from allocator.bench.shapes import SHAPES, Bench
from allocator.check import check_frames
from allocator.engine import load_engine
from machine import UsageError


def bench(cpus: int = 2) -> Bench:
    return Bench(["2x64M"], load_engine("python"), cpus)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", [0, 9])
def test_a_shape_gives_back_every_page_that_it_took(
    shape: str, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "REPEATS", 100)
    one = bench()
    before = free_after_drain(one)
    rows = one.run(shape, order, 1)
    assert free_after_drain(one) == before
    assert check_frames(one.kernel.memory).sound
    assert all(row.min > 0 and row.order == order and row.cpus == 2 for row in rows)


def free_after_drain(one: Bench) -> int:
    one.kernel.drain_all_pages()
    for cpu in range(one.kernel.nr_cpus):
        one.kernel.fold_vm_stats(cpu)
    return one.kernel.nr_free_pages


def test_half_of_memory_is_divided_among_the_cpus() -> None:
    one, two = bench(1), bench(2)
    free = [node.free_pages for node in one.kernel.nodes]
    assert one.share(0) == free[0] // 2
    assert two.share(0) == min(free) // 2
    assert two.share(3) == two.share(0) >> 3


def test_shares_are_shuffled_across_the_cpus_and_none_is_lost() -> None:
    one = bench()
    got = one.alloc(0, 200)
    dealt = shapes._dealt(got, shapes.Random(1))
    assert sorted(pfn for part in dealt for pfn in part) == sorted(p for part in got for p in part)
    assert set(dealt[0]) != set(got[0])


@pytest.mark.parametrize(("cpus", "what"), [(0, "0 CPUs"), (3, "3 CPUs")])
def test_more_cpus_than_the_machine_has_are_refused(cpus: int, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        bench(cpus)


def test_unknown_shapes_orders_and_cpus_without_memory_are_refused() -> None:
    with pytest.raises(UsageError, match="shape"):
        bench().run("heap", 0, 1)
    with pytest.raises(UsageError, match="order 11"):
        bench().run("bulk", 11, 1)
    with pytest.raises(UsageError, match="no memory"):
        Bench(["node,nodeid=0,cpus=0,mem=64M", "node,nodeid=1,cpus=1"], load_engine("python"), 2)
