# SPDX-License-Identifier: GPL-2.0-only
"""The port bus: who answers which of the 65,536 I/O ports.

A device claims a run of ports and is called with the offset into it. An access wider than the
device takes is split into bytes at consecutive ports, as the ISA bridge does; a port nobody claims
floats: reads give all ones, writes vanish. The vCPUs call `read` and `write` for IN and OUT; so may
Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from machine.errors import UsageError

State = dict[str, int | bytes]
"""What `save` of a device returns and `load` takes: plain ints and bytes under plain names."""


class PortDevice(Protocol):
    """What the bus asks of a device."""

    name: str
    width: int
    """Bytes of the widest access the device takes whole."""

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        """IN of `size` bytes (1, 2, 4) at `offset` ports from the first."""

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        """OUT of `size` bytes at `offset` ports from the first."""

    def save(self) -> State:
        """The device's state as plain data."""

    def load(self, state: State) -> None:
        """Back to what `save` returned."""


@dataclass(frozen=True)
class PortRange:
    """Ports [first, first + count) belong to `device`."""

    first: int
    count: int
    device: PortDevice


class PortBus:
    """The I/O port space of one machine."""

    def __init__(self) -> None:
        self.ranges: list[PortRange] = []
        self._owner: dict[int, PortRange] = {}
        self.unclaimed = 0
        """Accesses that no device answered."""

    def attach(self, first: int, count: int, device: PortDevice) -> None:
        """Give ports [first, first + count) to `device`. Raises `UsageError` if any is taken or
        does not exist."""
        if not (first >= 0 and count > 0 and first + count <= 0x10000):
            raise UsageError(f"ports {first:#x}+{count} do not exist")
        for port in range(first, first + count):
            if port in self._owner:
                raise UsageError(f"port {port:#x} belongs to {self._owner[port].device.name}")
        claim = PortRange(first, count, device)
        self.ranges.append(claim)
        self._owner.update(dict.fromkeys(range(first, first + count), claim))

    def read(self, cpu_id: int, port: int, size: int) -> int:
        """What IN of `size` bytes at `port` gives that CPU."""
        claim = self._owner.get(port)
        if claim is not None and size <= claim.device.width:
            value = claim.device.port_read(cpu_id, port - claim.first, size)
            return value & ((1 << 8 * size) - 1)
        if size > 1:
            parts = (self.read(cpu_id, port + n & 0xFFFF, 1) << 8 * n for n in range(size))
            return sum(parts)
        self.unclaimed += 1
        return 0xFF

    def write(self, cpu_id: int, port: int, size: int, value: int) -> None:
        """OUT of the low `size` bytes of `value` to `port` by that CPU."""
        claim = self._owner.get(port)
        if claim is not None and size <= claim.device.width:
            claim.device.port_write(cpu_id, port - claim.first, size, value & ((1 << 8 * size) - 1))
        elif size > 1:
            for n in range(size):
                self.write(cpu_id, port + n & 0xFFFF, 1, value >> 8 * n & 0xFF)
        else:
            self.unclaimed += 1
