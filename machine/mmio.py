# SPDX-License-Identifier: GPL-2.0-only
"""Devices in the physical address space, and what answers where nobody does.

A device claims whole pages in a hole of RAM and is called with the offset into them. The engines
see none of that: to them there is one window of pages far above any RAM, into which the page walk
(`vcpu`) directs an access to a device's page. Page 0 of the window is the open bus: on a PC a read
where nobody answers gives all ones and a write vanishes. Accesses come in pieces of 1, 2 or 4
bytes; one of 8 is two of 4, the lower first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from machine.bus import State
from machine.errors import UsageError

PAGE = 4096
WINDOW = 1 << 44
"""Where the engines have the window, beyond any RAM."""
WINDOW_PAGES = 1 << 17
OPEN_BUS = 0


class MmioDevice(Protocol):
    """What the bus asks of a device."""

    name: str

    def mmio_read(self, cpu_id: int, offset: int, size: int) -> int:
        """Load of `size` bytes at `offset` from the base, by that CPU."""

    def mmio_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        """Store of the low `size` bytes of `value` at `offset`."""

    def save(self) -> State:
        """The device's state as plain data."""

    def load(self, state: State) -> None:
        """Back to what `save` returned."""


@dataclass(frozen=True)
class MmioRange:
    """Pages [first, first + count) belong to `device`; the window has them from `window` on."""

    first: int
    count: int
    window: int
    device: MmioDevice


class MmioBus:
    """The memory-mapped devices of one machine. With `open_bus` an access that nobody answers
    floats, as on a PC; without, it is a fault, which is what somebody debugging wants."""

    def __init__(self) -> None:
        self.ranges: list[MmioRange] = []
        self.open_bus = False
        self._used = 1

    def attach(self, base: int, size: int, device: MmioDevice) -> None:
        """Give physical [base, base + size), whole pages, to `device`. Raises `UsageError` if any
        of it is taken, or there is no window left."""
        if base % PAGE or size % PAGE or size <= 0 or base < 0:
            raise UsageError(f"MMIO at {base:#x}+{size:#x} is not whole pages")
        first, count = base // PAGE, size // PAGE
        for other in self.ranges:
            if first < other.first + other.count and other.first < first + count:
                raise UsageError(f"MMIO at {base:#x} belongs to {other.device.name}")
        if self._used + count > WINDOW_PAGES:
            raise UsageError(f"no room for {size:#x} bytes of MMIO")
        self.ranges.append(MmioRange(first, count, self._used, device))
        self._used += count

    def window_page(self, phys: int) -> int | None:
        """Page of the window that stands for the page of physical `phys`; None: no device."""
        page = phys // PAGE
        for claim in self.ranges:
            if claim.first <= page < claim.first + claim.count:
                return claim.window + page - claim.first
        return None

    def _find(self, offset: int) -> tuple[MmioDevice, int] | None:
        """The device at `offset` in the window, and the offset from its own base."""
        page = offset // PAGE
        for claim in self.ranges:
            if claim.window <= page < claim.window + claim.count:
                return claim.device, offset - claim.window * PAGE
        return None

    def read(self, cpu_id: int, offset: int, size: int) -> int:
        """Load of `size` bytes at `offset` in the window."""
        found = self._find(offset)
        mask = (1 << 8 * size) - 1
        return mask if found is None else found[0].mmio_read(cpu_id, found[1], size) & mask

    def write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        """Store of `size` bytes at `offset` in the window."""
        found = self._find(offset)
        if found is not None:
            found[0].mmio_write(cpu_id, found[1], size, value & ((1 << 8 * size) - 1))
