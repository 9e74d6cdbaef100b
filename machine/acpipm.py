# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""ACPI's fixed hardware: power management registers and timer, ports 600h to 60Bh.

PM1 status and enable (600h, 602h), PM1 control (604h) with the sleep command, and at 608h the
24-bit timer of 3,579,545 Hz on the modelled clock (ACPI 6.2, section 4.8). Soft off ends the run.
The other sleep states are not supported, as the board has nobody who would wake it. The SMI command
port (B2h) hands the registers to the operating system and takes them back."""

from __future__ import annotations

from collections.abc import Callable

from machine.bus import PortBus, State
from machine.devstate import Timebase, number

PM_PORT, SMI_PORT = 0x600, 0xB2
PM_TIMER_HZ = 3_579_545
TIMER_MASK = 0xFFFFFF
SCI_EN, SLP_EN = 1, 1 << 13
ACPI_ENABLE, ACPI_DISABLE = 0xF1, 0xF0
SOFT_OFF = 0
"""The SLP_TYP of S5 on QEMU's boards."""

_STATUS, _ENABLE, _CONTROL, _TIMER = 0, 2, 4, 8
_PM1_BITS = 0xFFFF


class AcpiPm:
    """The registers. `off` is called when the guest switches the machine off."""

    name = "acpi_pm"
    width = 4

    def __init__(self, time: Timebase, off: Callable[[], None]) -> None:
        self._time, self._off = time, off
        self._enable = self._control = 0

    def attach(self, ports: PortBus) -> None:
        """Put the registers on the port bus."""
        ports.attach(PM_PORT, 12, self)
        ports.attach(SMI_PORT, 2, _SmiPort(self))

    @property
    def timer(self) -> int:
        """The timer's count."""
        return self._time.now * PM_TIMER_HZ // 1_000_000_000 & TIMER_MASK

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        self._time.spend()
        block = self._enable << 16 | self._control << 32 | self.timer << 64
        return block >> 8 * offset & ((1 << 8 * size) - 1)

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._time.spend()
        mask = ((1 << 8 * size) - 1) << 8 * offset
        block = (self._enable << 16 | self._control << 32) & ~mask | value << 8 * offset
        self._enable = block >> 16 & _PM1_BITS
        control = block >> 32 & _PM1_BITS
        if offset <= _CONTROL + 1 < offset + size:
            if control & SLP_EN and control >> 10 & 7 == SOFT_OFF:
                self._off()
        self._control = control & ~SLP_EN

    def hand_over(self, to_os: bool) -> None:
        """The operating system takes the registers, or gives them back to the firmware."""
        self._control = self._control & ~SCI_EN | int(to_os)

    def reset(self) -> None:
        """Power-on state."""
        self._enable = self._control = 0

    def save(self) -> State:
        return {"enable": self._enable, "control": self._control}

    def load(self, state: State) -> None:
        self._enable = number(state, "enable", _PM1_BITS)
        self._control = number(state, "control", _PM1_BITS)


class _SmiPort:
    """The command port of system management mode, and the byte beside it."""

    name = "smi"
    width = 1

    def __init__(self, pm: AcpiPm) -> None:
        self._pm = pm
        self._bytes = [0, 0]

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        return self._bytes[offset]

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._bytes[offset] = value
        if offset == 0 and value in (ACPI_ENABLE, ACPI_DISABLE):
            self._pm.hand_over(value == ACPI_ENABLE)

    def reset(self) -> None:
        """Power-on state."""
        self._bytes = [0, 0]

    def save(self) -> State:
        return {"command": self._bytes[0], "status": self._bytes[1]}

    def load(self, state: State) -> None:
        self._bytes = [number(state, "command", 0xFF), number(state, "status", 0xFF)]
