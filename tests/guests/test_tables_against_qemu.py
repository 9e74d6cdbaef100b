# SPDX-License-Identifier: GPL-2.0-only
"""The firmware's tables and QEMU's describe the same machine.

QEMU's RAM is saved once its BIOS has booted something, and read with the same parsers as ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from firmware import power_on, read_madt, read_slit, read_srat
from machine import Machine, Topology
from machine.physmem import PhysicalMemory

from . import qemu
from .assembled import boot_image

pytestmark = pytest.mark.skipif(not qemu.there(), reason=qemu.MISSING)

MIB = 1 << 20
MACHINES = {
    "two nodes": ("2x64M", [(64, "0"), (64, "1")], []),
    "two CPUs a node": ("2x64M,cpus=2", [(64, "0-1"), (64, "2-3")], []),
    "unequal nodes and distances": (
        "node,nodeid=0,cpus=0,mem=48M;node,nodeid=1,cpus=1-2,mem=80M;dist,src=0,dst=1,val=33",
        [(48, "0"), (80, "1-2")],
        ["dist,src=0,dst=1,val=33", "dist,src=1,dst=0,val=33"],
    ),
    "a node without memory": (
        "node,nodeid=0,cpus=0,mem=128M;node,nodeid=1,cpus=1",
        [(128, "0"), (0, "1")],
        [],
    ),
}


@pytest.mark.parametrize("board", ["pc", "q35"])
@pytest.mark.parametrize("name", MACHINES)
def test_srat_slit_and_madt_say_what_qemus_say(name: str, board: str, tmp_path: Path) -> None:
    spec, nodes, distances = MACHINES[name]
    topology = Topology.parse(*spec.split(";"), machine_type=board)
    total = topology.ram_size
    arguments = ["-machine", board, "-m", str(total // MIB), "-smp", str(topology.cpus)]
    for nid, (size, cpus) in enumerate(nodes):
        backend = f",memdev=m{nid}" if size else ""
        if size:
            arguments += ["-object", f"memory-backend-ram,id=m{nid},size={size}M"]
        arguments += ["-numa", f"node,nodeid={nid},cpus={cpus}{backend}"]
    for distance in distances:
        arguments += ["-numa", distance]
    image = tmp_path / "halt.img"
    image.write_bytes(boot_image("cli\n hlt", 2048))
    theirs = qemu.run(image, *arguments, memory=(0, total), work=tmp_path, only_first=True)
    memory = PhysicalMemory.for_topology(topology)
    memory.write(0, theirs.memory[:0xA0000])
    memory.write(0xC0000, theirs.memory[0xC0000:])
    ours = Machine(topology)
    power_on(ours)
    srat, their_srat = read_srat(ours.memory), read_srat(memory)
    assert srat is not None
    assert their_srat is not None
    assert replace(srat, address=0) == replace(their_srat, address=0)
    assert read_madt(ours.memory) == read_madt(memory)
    if read_slit(memory) is not None:
        assert read_slit(ours.memory) == read_slit(memory)
