# SPDX-License-Identifier: GPL-2.0-only
"""Random lives on memory that comes and goes: no byte and no frame is lost but the bad ones."""

from __future__ import annotations

import pytest

from tests.allocator.owners_hotplug import Hotplug
from tests.allocator.owners_model import World

TOPOLOGIES = ("1x64M", "2x64M", "2x128M,cpus=2")
SLICE = 500
"""Operations of one run in CI."""
LONG = 20_000


class Lives(Hotplug, World):
    """Processes, swap and hotplug."""


def live(topology: str, seed: int, operations: int, every: int) -> Lives:
    world = Lives(topology, seed)
    while world.done < operations:
        world.step()
        if world.done % every == 0:
            world.check()
    world.end()
    world.check()
    return world


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_processes_outlive_their_memory(topology: str) -> None:
    world = live(topology, seed=len(topology), operations=SLICE, every=SLICE // 10)
    assert world.counts["swap_out"] > 0
    assert world.counts["offline"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_long_lives_on_memory_that_comes_and_goes(topology: str) -> None:
    live(topology, seed=11, operations=LONG, every=2000)
