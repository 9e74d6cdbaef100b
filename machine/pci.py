# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""PCI configuration space: ports CF8h and CFCh (mechanism 1), and the bridges behind them.

Only what the board really has is there: the host bridge with the ISA bridge, the disk channels and
the power management function of an i440FX/PIIX4 board, or host bridge and LPC bridge of a Q35/ICH9
one. They have no base addresses; a function that does not exist reads as all ones. On Q35 the same
registers are in memory, too (`Ecam`). Port CF9h, inside the address register, resets the machine
(PCI Local Bus Specification 3.0, section 3.2.2.3.2; Intel 82371AB and ICH9 data sheets)."""

from __future__ import annotations

from collections.abc import Callable

from machine.bus import PortBus, State
from machine.devstate import number, octets

CONFIG_ADDRESS, CONFIG_DATA, RESET_CONTROL = 0xCF8, 0xCFC, 0xCF9
PORTS = 8
ECAM_SIZE = 256 << 20
ENABLE = 1 << 31
SPACE = 256

_SUBSYSTEM = 0x11001AF4


class Function:
    """The configuration space of one function: bytes, and which bits the guest can change."""

    def __init__(self, values: dict[int, tuple[int, int]], writable: dict[int, int]) -> None:
        self._initial = bytearray(SPACE)
        self._mask = bytearray(SPACE)
        for place, (size, value) in values.items():
            self._initial[place : place + size] = value.to_bytes(size, "little")
        for place, mask in writable.items():
            self._mask[place] = mask
        self.space = bytearray(self._initial)

    def read(self, place: int, size: int) -> int:
        """`size` bytes at `place`."""
        return int.from_bytes(self.space[place : place + size], "little")

    def write(self, place: int, size: int, value: int) -> None:
        """Change what can be changed."""
        for n in range(place, min(place + size, SPACE)):
            mask = self._mask[n]
            self.space[n] = self.space[n] & ~mask | value >> 8 * (n - place) & mask

    def reset(self) -> None:
        """Power-on state, as the firmware leaves it."""
        self.space = bytearray(self._initial)


def _function(
    vendor_device: int, kind: int, *, revision: int = 0, command: int = 7, multi: bool = False,
    more: dict[int, tuple[int, int]] | None = None, writable: dict[int, int] | None = None,
) -> Function:  # fmt: skip
    """A function with these ids (device in the upper half) and this class code."""
    values = {
        0x00: (4, vendor_device), 0x04: (2, command), 0x08: (4, kind << 8 | revision),
        0x0E: (1, 0x80 if multi else 0), 0x2C: (4, _SUBSYSTEM),
    }  # fmt: skip
    # I/O, memory, bus master; SERR; interrupt line.
    return Function(values | (more or {}), {0x04: 7, 0x05: 1, 0x3C: 0xFF} | (writable or {}))


def _functions(machine_type: str) -> dict[int, Function]:
    """The functions of bus 0 by device << 3 | function."""
    if machine_type == "q35":
        # PCIEXBAR is fixed where the firmware's map has it.
        host = _function(0x29C08086, 0x060000, more={0x60: (8, 0xB0000001)})
        lpc = _function(
            0x29188086, 0x060100, revision=2, multi=True, more={0x40: (4, 0x601), 0x44: (1, 0x80)}
        )
        return {0: host, 0x1F << 3: lpc}
    pam = dict.fromkeys(range(0x59, 0x60), 0x33)
    host = _function(
        0x12378086, 0x060000, revision=2, more={0x72: (1, 0x02)}, writable={**pam, 0x59: 0x30}
    )
    routes = dict.fromkeys(range(0x60, 0x64), 0x8F)
    pirqs = {0x60 + n: (1, irq) for n, irq in enumerate((10, 10, 11, 11))}
    isa = _function(0x70008086, 0x060100, multi=True, more=pirqs, writable=routes)
    power = _function(
        0x71138086, 0x068000, revision=3, command=1,
        more={0x3C: (2, 0x0109), 0x40: (4, 0x601), 0x80: (1, 1)},
    )  # fmt: skip
    # Both channels at their old ports, and no bus master behind them.
    ide = _function(0x70108086, 0x010100, command=1, more={0x40: (4, 0x80008000)})
    return {0: host, 1 << 3: isa, 1 << 3 | 1: ide, 1 << 3 | 3: power}


class PciHost:
    """The host bridge's ports. `reset_line` is the board's."""

    name = "pci"
    width = 4

    def __init__(self, machine_type: str, reset_line: Callable[[], None]) -> None:
        self.functions = _functions(machine_type)
        self._reset_line = reset_line
        self._address = self._control = 0

    def attach(self, ports: PortBus) -> None:
        """Put the registers on the port bus."""
        ports.attach(CONFIG_ADDRESS, PORTS, self)

    def config_read(self, bdf: int, place: int, size: int) -> int:
        """`size` bytes at `place` of bus << 8 | device << 3 | function."""
        function = self.functions.get(bdf)
        if function is None:
            return (1 << 8 * size) - 1
        return function.read(place, size) if place < SPACE else 0

    def config_write(self, bdf: int, place: int, size: int, value: int) -> None:
        """The same, written."""
        function = self.functions.get(bdf)
        if function is not None and place < SPACE:
            function.write(place, size, value)

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        if offset == 0 and size == 4:
            return self._address
        if offset == 1 and size == 1:
            return self._control
        if offset < 4:
            return (1 << 8 * size) - 1
        if not self._address & ENABLE:
            return (1 << 8 * size) - 1
        place = self._address & 0xFC | offset & 3
        return self.config_read(self._address >> 8 & 0xFFFF, place, size)

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        if offset == 0 and size == 4:
            self._address = value & 0x80FFFFFC
        elif offset == 1 and size == 1:
            self._control = value & 0x0A
            if value & 4:
                self._reset_line()
        elif offset >= 4 and self._address & ENABLE:
            place = self._address & 0xFC | offset & 3
            self.config_write(self._address >> 8 & 0xFFFF, place, size, value)

    def reset(self) -> None:
        """Power-on state."""
        self._address = self._control = 0
        for function in self.functions.values():
            function.reset()

    def save(self) -> State:
        state: State = {"address": self._address, "control": self._control}
        return state | {f"f{bdf}": bytes(f.space) for bdf, f in self.functions.items()}

    def load(self, state: State) -> None:
        self._address = number(state, "address", 0xFFFFFFFF)
        self._control = number(state, "control", 0xFF)
        for bdf, function in self.functions.items():
            function.space = bytearray(octets(state, f"f{bdf}", SPACE))


class Ecam:
    """PCI Express' window on the same registers: 4 KiB of memory a function."""

    name = "ecam"

    def __init__(self, host: PciHost) -> None:
        self._host = host

    def mmio_read(self, cpu_id: int, offset: int, size: int) -> int:
        return self._host.config_read(offset >> 12, offset & 0xFFF, size)

    def mmio_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._host.config_write(offset >> 12, offset & 0xFFF, size, value)

    def save(self) -> State:
        return {}

    def load(self, state: State) -> None:
        """The host bridge has it all."""
