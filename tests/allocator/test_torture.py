# SPDX-License-Identifier: GPL-2.0-only
"""The torture: everything that owners of memory and an administrator can do, at random.

Kernel blocks of all orders, processes that map, touch, fork, lock and move their memory, files,
swap space, control groups with limits, policies, compaction, blocks offline and online, bad frames,
and the OOM killer: on machines that have too little memory for it all. Every byte that anybody
reads must be what was written there last, all frames must be in one legal state at all times, and
every frame must be back at the end.

CI runs a slice of each life. The whole torture, 1,000,000 operations over all topologies and
seeds, is

    pytest tests/allocator/test_torture.py -m slow

and `-k "2x64M and 3"` picks out one topology and one seed.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.allocator.owners_files import FileOperations
from tests.allocator.owners_model import World
from tests.allocator.owners_shared import SharedOperations
from tests.allocator.torture_hotplug import HotplugOperations
from tests.allocator.torture_kernel import KernelOperations
from tests.allocator.torture_pressure import PressureOperations

TOPOLOGIES = ("1x40M", "2x40M", "2x64M,cpus=2", "4x32M", "1x128M,cpus=4")
SEEDS = tuple(range(1, 6))
SLICE = 800
WHOLE = 1_000_000 // (len(TOPOLOGIES) * len(SEEDS))
"""Operations of one life: in CI, and in the whole torture."""


class Torture(
    HotplugOperations,
    KernelOperations,
    PressureOperations,
    SharedOperations,
    FileOperations,
    World,
):
    """All operations at once."""

    def check(self) -> None:
        """Frame rules alone: pages of swap count as file pages here, as in the kernel."""
        World.check(self)


def torture(topology: str, seed: int, operations: int, every: int) -> Torture:
    """One life; the world at its end."""
    world = Torture(topology, seed)
    while world.done < operations:
        world.step()
        if world.done % every == 0:
            world.check()
    world.check()
    world.end()
    world.check()
    return world


def test_a_slice_of_torture_loses_no_byte_and_no_frame() -> None:
    counts: Counter[str] = Counter()
    for seed, topology in enumerate(TOPOLOGIES):
        world = torture(topology, 100 + seed, SLICE, SLICE // 3)
        counts.update(world.counts)
    assert set(world.weights()) <= set(counts)
    # the machines really were too small
    assert counts["killed"] + counts["killed acting"] > 0
    assert counts["went offline"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_torture_loses_no_byte_and_no_frame(topology: str, seed: int) -> None:
    torture(topology, seed, WHOLE, 2000)
