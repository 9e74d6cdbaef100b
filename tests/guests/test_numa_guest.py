# SPDX-License-Identifier: GPL-2.0-only
"""Four nodes, eight CPUs, brought up the hardware's way, each with memory of its own."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from allocator.pc_boot import boot_pc
from allocator.pc_run import run_pc
from allocator.views import Page
from machine import Machine, Topology
from machine.drive import Drive

from .numa_guest import COUNT, RESULTS, image

BUDGET = 5_000_000


def boot(numa: str, quantum: int = 10_000) -> Machine:
    """The guest run to its end beside the page allocator."""
    machine = Machine(Topology.parse(numa), quantum=quantum)
    boot_pc(machine, Drive(image(), floppy=False), kernel=True)
    stop = run_pc(machine, BUDGET)
    assert stop.kind == "halt", stop
    return machine


def frames(machine: Machine) -> list[int]:
    """The frame that each CPU was given."""
    count = len(machine.cpus)
    assert machine.memory.read_u32(COUNT) == count
    return [machine.memory.read_u32(RESULTS + 8 * cpu) for cpu in range(count)]


@pytest.mark.parametrize("numa", ["4x64M,cpus=2", "2x128M", "1x64M,cpus=3"])
def test_every_cpu_comes_up_and_allocates_from_its_own_node(numa: str) -> None:
    machine = boot(numa)
    given = frames(machine)
    assert len(set(given)) == len(machine.cpus)
    for cpu, pfn in enumerate(given):
        assert Page(machine.memory.words, pfn).nid == machine.topology.cpu_node[cpu]
        assert Page(machine.memory.words, pfn).refcount == 1
    assert machine.serial.text.split() == [f"{pfn:08X}" for pfn in given]


def test_every_run_of_four_nodes_and_eight_cpus_leaves_the_same_bytes() -> None:
    seen = []
    for _ in range(3):
        machine = boot("4x64M,cpus=2")
        digest = blake2b(machine.memory.bytes).hexdigest()
        seen.append((digest, machine.clock.now, [cpu.retired for cpu in machine.cpus]))
    assert seen[0] == seen[1] == seen[2]


def test_the_frames_do_not_depend_on_how_long_a_turn_is() -> None:
    by_node = []
    for quantum in (100, 10_000, 1_000_000):
        machine = boot("4x64M,cpus=2", quantum)
        given = frames(machine)
        by_node.append([sorted(given[cpu : cpu + 2]) for cpu in range(0, 8, 2)])
    assert by_node[0] == by_node[1] == by_node[2]
