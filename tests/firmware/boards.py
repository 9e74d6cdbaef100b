# SPDX-License-Identifier: GPL-2.0-only
"""What the firmware's tests share: boards without CPUs, and the recorded machines.

`Board` is a topology and its RAM, all that POST needs. `RECORDED` are the machines of
tests/oracle/machines.json, which a real kernel ran on under QEMU 7.2: the topology in QEMU's
words, the map its BIOS gave, and the kernel's own reading of the SRAT.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firmware import power_on
from firmware.acpi import Table, find_table
from machine.errors import NumalabError
from machine.physmem import PhysicalMemory
from machine.topology import Topology

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "oracle" / "machines.json").read_text()
)


class Board:
    """A topology and the RAM that goes with it."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.memory = PhysicalMemory.for_topology(topology)


def board(*specs: str, machine_type: str = "pc") -> Board:
    """A board that has not been switched on."""
    return Board(Topology.parse(*specs, machine_type=machine_type))


def powered(*specs: str, machine_type: str = "pc", append: str = "") -> Board:
    """A board that has been through POST."""
    out = board(*specs, machine_type=machine_type)
    power_on(out, append)
    return out


def recorded_topology(name: str) -> Topology:
    """The topology of a recorded machine."""
    return Topology.parse(*RECORDED[name]["specs"], machine_type=RECORDED[name]["machine_type"])


def table(memory: PhysicalMemory, signature: str) -> Table:
    """A table that must be there."""
    found = find_table(memory, signature)
    assert found is not None
    return found


def reseal(memory: PhysicalMemory, address: int, length: int, at: int = 9) -> None:
    """Make the checksum of `length` bytes at `address` right again, in the byte at offset `at`."""
    memory.write_u8(address + at, 0)
    memory.write_u8(address + at, -sum(memory.read(address, length)) & 0xFF)


def refusal(action: Callable[[], object]) -> NumalabError | None:
    """The error of ours that `action` raises, None when it raises nothing."""
    try:
        action()
    except NumalabError as error:
        return error
    return None
