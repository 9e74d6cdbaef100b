# SPDX-License-Identifier: GPL-2.0-only
"""The hardware: NUMA topology, RAM, MMU, vCPUs, port bus and devices.

Start with `Machine(Topology.parse("2x128M"))`. The engine behind the CPUs is loaded when the first
CPU is started, NumPy when somebody asks for its view of RAM; importing this package loads neither.
"""

from machine.bus import PortBus, PortDevice
from machine.checkpoint import Checkpoint
from machine.clock import Clock
from machine.devices import DebugConsole, DebugExit, Uart16550
from machine.doorbell import DOORBELL_PORT, Doorbell, Verdict
from machine.errors import (
    BringUpError,
    BusError,
    ImageError,
    InputError,
    NumalabError,
    OutputError,
    SnapshotError,
    TopologyError,
    UsageError,
)
from machine.fault import Fault
from machine.machine import Machine, Stop
from machine.mmu import Translation, translate
from machine.paging import PageTableBuilder
from machine.physmem import Bank, PhysicalMemory
from machine.topology import Node, RamRange, Topology
from machine.vcpu import VCPU

__all__ = [
    "DOORBELL_PORT",
    "VCPU",
    "Bank",
    "BringUpError",
    "BusError",
    "Checkpoint",
    "Clock",
    "DebugConsole",
    "DebugExit",
    "Doorbell",
    "Fault",
    "ImageError",
    "InputError",
    "Machine",
    "Node",
    "NumalabError",
    "OutputError",
    "PageTableBuilder",
    "PhysicalMemory",
    "PortBus",
    "PortDevice",
    "RamRange",
    "SnapshotError",
    "Stop",
    "Topology",
    "TopologyError",
    "Translation",
    "Uart16550",
    "UsageError",
    "Verdict",
    "translate",
]
