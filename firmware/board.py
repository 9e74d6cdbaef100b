# SPDX-License-Identifier: GPL-2.0-only
"""What the firmware asks of the machine it runs on.

POST and the image loader touch two things of a machine, its topology and its RAM, and entering an
image touches one more, the boot CPU. They are written down here as protocols, so `machine.Machine`
fits and so does anything smaller that a test or a tool puts together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from machine.physmem import PhysicalMemory
from machine.topology import Topology


class Board(Protocol):
    """A machine as POST sees it."""

    @property
    def topology(self) -> Topology:
        """Nodes, CPUs, distances and where RAM lies."""

    @property
    def memory(self) -> PhysicalMemory:
        """Physical RAM, which the firmware's tables are written to and read from."""


class BootCpu(Protocol):
    """A virtual CPU as the loader sees it."""

    def start(self, *, rip: int, rsp: int, cr3: int, rsi: int) -> None:
        """Begin in 64-bit long mode with paging on and interrupts off."""


class BootableBoard(Protocol):
    """A machine whose CPU 0 can be started."""

    @property
    def cpus(self) -> Sequence[BootCpu]:
        """CPUs by id; 0 is the boot CPU."""
