# SPDX-License-Identifier: GPL-2.0-only
"""Machines for the tests of the recording replay, brought up from tables of our own."""

from __future__ import annotations

from pathlib import Path

from allocator.boot_stages import BootStages, BootTables, replay_memory
from allocator.oracle.guest import RING_BYTES, SCRATCH_BYTES, Guest
from allocator.oracle.records import Recording, find_recordings

COPY = Path(__file__).resolve().parents[2] / "oracle" / "data"
MIB = 1 << 20
KERNEL = (16 * MIB, 14 * MIB, 0, 0)
LOW = (0, 64 << 10, 64, 0)

TWO_NODES = BootTables(
    memory=[(4096, 159 * 4096, 0, 0), (MIB, 63 * MIB, 0, 0), (64 * MIB, 64 * MIB, 1, 0)],
    reserved=[LOW, KERNEL],
    cpu_nodes=[0, 1],
)
BORDER_IN_A_BLOCK = BootTables(
    # node 1 begins 300 pages into a pageblock
    memory=[
        (4096, 159 * 4096, 0, 0),
        (MIB, 63 * MIB + 300 * 4096, 0, 0),
        (64 * MIB + 300 * 4096, 60 * MIB, 1, 0),
    ],
    reserved=[LOW, KERNEL],
    cpu_nodes=[0, 1, 1],
)
IDS_OUT_OF_ORDER = BootTables(
    # the highest node id has the lowest addresses and takes its neighbour's pages over
    memory=[(4096, 159 * 4096, 2, 0), (MIB, 99 * MIB, 2, 0), (100 * MIB, 60 * MIB, 0, 0)],
    reserved=[LOW, (16 * MIB, 14 * MIB, 2, 0)],
    cpu_nodes=[2, 0],
    distances={0: {0: 10, 2: 17}, 2: {0: 25, 2: 10}},
)
MEMORYLESS_NODE = BootTables(
    memory=[(4096, 159 * 4096, 0, 0), (MIB, 127 * MIB, 0, 0)],
    reserved=[LOW, KERNEL],
    cpu_nodes=[0, 1, 0, 1],
    distances={0: {0: 10, 1: 20}, 1: {0: 20, 1: 10}},
    online_nodes=[0, 1],
)
MOVABLE_ZONE = BootTables(
    memory=TWO_NODES.memory, reserved=TWO_NODES.reserved, cpu_nodes=[0, 1], cmdline="kernelcore=40M"
)
ODD_MACHINES = {
    "two nodes": TWO_NODES,
    "a border inside a pageblock": BORDER_IN_A_BLOCK,
    "node ids out of address order": IDS_OUT_OF_ORDER,
    "a memoryless node": MEMORYLESS_NODE,
    "a movable zone": MOVABLE_ZONE,
}


def bring_up(tables: BootTables, late: bool = True) -> Guest:
    """A machine with its memory on the buddy lists; `late`: with pagesets and watermarks too."""
    memory, arena = replay_memory(tables, extra_bytes=RING_BYTES + SCRATCH_BYTES + 4096)
    ring = arena.alloc(RING_BYTES + SCRATCH_BYTES, 4096)
    stages = BootStages(memory, tables, arena)
    guest = Guest(memory, ring)
    stages.early0()
    stages.early1()
    if late:
        stages.setup_per_cpu_pageset()
        stages.run_late()
    return guest


def recording(name: str) -> Recording:
    """A recording of the compact copy by its name ("M2/late")."""
    return next(r for r in find_recordings(COPY) if r.name == name)
