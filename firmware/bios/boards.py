# SPDX-License-Identifier: GPL-2.0-only
"""The small services: INT 11h equipment, 12h memory size, 14h serial port, 17h printer."""

from __future__ import annotations

from firmware.bios import bda
from firmware.bios.call import Call
from machine import Machine

_DIVISORS = (1047, 768, 384, 192, 96, 48, 24, 12)
"""Of 115,200 baud for 110 to 9,600."""
_TIMEOUT = 0x80
_NO_PRINTER = 0x01


class Boards:
    """The services."""

    def __init__(self, machine: Machine) -> None:
        self._memory, self._ports = machine.memory, machine.ports

    def equipment(self, call: Call) -> int:
        """INT 11h."""
        call.ax = self._memory.read_u16(bda.EQUIPMENT)
        return 0

    def memory_size(self, call: Call) -> int:
        """INT 12h: KiB below the extended BIOS data area."""
        call.ax = self._memory.read_u16(bda.BASE_KIB)
        return 0

    def printer(self, call: Call) -> int:
        """INT 17h: there is none."""
        call.ah = _NO_PRINTER
        return 0

    def serial(self, call: Call) -> int:
        """INT 14h: 00h set up, 01h send, 02h receive, 03h status of port DX."""
        base = self._memory.read_u16(bda.COM_PORTS + 2 * (call.dx & 3)) if call.dx < 4 else 0
        if not base or call.ah > 3:
            return 0
        ports = self._ports
        if call.ah == 0:
            divisor = _DIVISORS[call.al >> 5]
            line = call.al & 0x1F
            for offset, value in (
                (3, 0x80 | line),
                (0, divisor & 0xFF),
                (1, divisor >> 8),
                (3, line),
            ):
                ports.write(0, base + offset, 1, value)
        elif call.ah == 1:
            ports.write(0, base, 1, call.al)
            call.ah = ports.read(0, base + 5, 1)
            return 0
        elif call.ah == 2:
            status = ports.read(0, base + 5, 1)
            if status & 1:
                call.al = ports.read(0, base, 1)
            call.ah = status if status & 1 else status | _TIMEOUT
            return 0
        call.ah, call.al = ports.read(0, base + 5, 1), ports.read(0, base + 6, 1)
        return 0
