# SPDX-License-Identifier: GPL-2.0-only
"""Random lives of processes: what they read is what was written, and every frame comes back."""

from __future__ import annotations

import pytest

from tests.allocator.owners_files import FileOperations
from tests.allocator.owners_model import World
from tests.allocator.owners_shared import SharedOperations

TOPOLOGIES = ("1x64M", "2x64M", "4x32M", "2x64M,cpus=2")
SLICE = 1200
"""Operations of one run in CI."""
LONG = 50_000


class Owners(SharedOperations, FileOperations, World):
    """Everything that owners of memory can do."""


def live(topology: str, seed: int, operations: int, every: int) -> Owners:
    world = Owners(topology, seed)
    while world.done < operations:
        world.step()
        if world.done % every == 0:
            world.check()
    world.check()
    world.end()
    world.check()
    return world


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_byte_read_was_written_last_and_every_frame_comes_back(topology: str) -> None:
    world = live(topology, seed=len(topology), operations=SLICE, every=SLICE // 3)
    assert set(world.counts) == set(world.weights())


@pytest.mark.slow
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_long_lives_leave_nothing_behind(topology: str) -> None:
    live(topology, seed=7, operations=LONG, every=5000)
