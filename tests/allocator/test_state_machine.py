# SPDX-License-Identifier: GPL-2.0-only
"""Random operations on random machines: the allocator against an independent model of it.

After every step the free lists in order, the per-cpu lists, the struct pages of all list entries,
the pageblock types and every counter must be those of `model.Model`.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from allocator import page_alloc, pcp
from allocator.gfp import GFP_DIRECT_RECLAIM_BIT, GFP_NOWARN_BIT, parse_gfp
from allocator.kernel import Kernel
from tests.allocator.machines import boot
from tests.allocator.model import Model, differences

GFPS = [
    "GFP_KERNEL",
    "GFP_HIGHUSER_MOVABLE",
    "GFP_KERNEL|__GFP_RECLAIMABLE",
    "GFP_ATOMIC",
    "GFP_ATOMIC|__GFP_NOMEMALLOC",
    "GFP_NOWAIT|__GFP_MEMALLOC",
    "GFP_NOWAIT|__GFP_THISNODE",
    "GFP_DMA32",
    "GFP_DMA",
    "GFP_HIGHUSER_MOVABLE|__GFP_COMP",
]

topologies = st.lists(
    st.tuples(st.integers(24, 56), st.integers(1, 2)), min_size=1, max_size=4
).filter(lambda nodes: sum(size for size, _ in nodes) >= 40)


class AllocatorMachine(RuleBasedStateMachine):
    """Allocations, frees and drains on a machine of one to four unequal nodes."""

    kernel: Kernel
    model: Model

    @initialize(nodes=topologies, movable=st.sampled_from(["", "kernelcore=50%", "movablecore=8M"]))
    def power_on(self, nodes: list[tuple[int, int]], movable: str) -> None:
        specs, cpu = [], 0
        for nid, (size, cpus) in enumerate(nodes):
            specs.append(f"node,nodeid={nid},cpus={cpu}-{cpu + cpus - 1},mem={size}M")
            cpu += cpus
        self.kernel = boot(*specs, append=movable)
        self.model = Model(self.kernel)
        self.held: list[tuple[int, int]] = []

    @rule(
        gfp=st.sampled_from(GFPS),
        order=st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5, 7, 9, 10]),
        nid=st.integers(0, 63),
        mask=st.integers(0, 15),
        cpu=st.integers(0, 63),
        count=st.sampled_from([1, 1, 1, 8, 40]),
    )
    def allocate(self, gfp: str, order: int, nid: int, mask: int, cpu: int, count: int) -> None:
        flags = (parse_gfp(gfp) | GFP_NOWARN_BIT) & ~GFP_DIRECT_RECLAIM_BIT
        nodes = len(self.kernel.nodes)
        nid, cpu, mask = nid % nodes, cpu % self.kernel.nr_cpus, mask & ((1 << nodes) - 1)
        for _ in range(count):
            pfn = page_alloc.alloc_pages_nodemask(self.kernel.m, cpu, flags, order, nid, mask)
            expected = self.model.alloc(cpu, flags, order, nid, mask)
            assert (pfn if pfn >= 0 else None) == expected
            if pfn < 0:
                return
            self.held.append((pfn, order))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), cpu=st.integers(0, 63), count=st.sampled_from([1, 1, 4, 60]))
    def free(self, data: st.DataObject, cpu: int, count: int) -> None:
        cpu %= self.kernel.nr_cpus
        for _ in range(min(count, len(self.held))):
            at = data.draw(st.integers(0, len(self.held) - 1))
            pfn, order = self.held.pop(at)
            done = page_alloc.free_pages(self.kernel.m, cpu, pfn, order)
            assert done == page_alloc.FREE_DONE
            self.model.release(cpu, pfn, order)

    @rule(cpu=st.integers(0, 63))
    def drain(self, cpu: int) -> None:
        cpu %= self.kernel.nr_cpus
        pcp.drain_local_pages(self.kernel.m, cpu)
        self.model.drain(cpu)

    @invariant()
    def kernel_and_model_agree(self) -> None:
        if hasattr(self, "model"):
            assert differences(self.kernel, self.model) == []


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        AllocatorMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )


def test_allocator_agrees_with_an_independent_model_after_every_step() -> None:
    run(12, 25)


@pytest.mark.slow
def test_allocator_agrees_with_an_independent_model_over_many_machines() -> None:
    run(200, 60)
