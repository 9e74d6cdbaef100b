# SPDX-License-Identifier: GPL-2.0-only
"""INT 1Ah and interrupt 0: ticks since midnight, and the real-time clock.

The timer's service counts 18.2 ticks a second in the BIOS data area; INT 1Ah gives and takes the
count, reads and sets the clock chip's time, date and alarm, and says what the PCI BIOS would
(B101h: mechanism 1, one bus), with access to configuration space (PCI BIOS Specification 2.1)."""

from __future__ import annotations

from collections.abc import Callable

from firmware.bios import bda
from firmware.bios.call import CF, Call
from machine import Machine
from machine.cmos import B_AIE, B_SET, CENTURY, CMOS_PORT, REG_A, REG_B

_SECONDS, _MINUTES, _HOURS, _DAY, _MONTH, _YEAR = 0, 2, 4, 7, 8, 9
_PCI_SIGNATURE = 0x20494350
_NOT_SUPPORTED, _NOT_FOUND, _BAD_REGISTER = 0x81, 0x86, 0x87


class TimeOfDay:
    """The services."""

    def __init__(self, machine: Machine) -> None:
        self._memory = machine.memory
        self._ports = machine.ports
        self._pci = machine.pc.pci
        self._functions: dict[int, Callable[[Call], None]] = {
            0x00: self._get_ticks, 0x01: self._set_ticks, 0x02: self._get_time,
            0x03: self._set_time, 0x04: self._get_date, 0x05: self._set_date,
            0x06: self._set_alarm, 0x07: self._clear_alarm, 0xB1: self._pci_bios,
        }  # fmt: skip

    def __call__(self, call: Call) -> int:
        function = self._functions.get(call.ah)
        if function is None:
            call.set_flag(CF, True)
        else:
            function(call)
        return 0

    def tick(self, call: Call) -> int:  # noqa: ARG002
        """Interrupt 0. (The stub goes on with INT 1Ch and the end of the interrupt.)"""
        memory = self._memory
        ticks = memory.read_u32(bda.TICKS) + 1
        if ticks >= bda.TICKS_PER_DAY:
            ticks = 0
            memory.write_u8(bda.MIDNIGHT, (memory.read_u8(bda.MIDNIGHT) + 1) & 0xFF)
        memory.write_u32(bda.TICKS, ticks)
        return 0

    def set_ticks_from_clock(self) -> None:
        """POST: the tick count that belongs to the time of day."""
        hours, minutes, seconds = (
            (value >> 4) * 10 + (value & 15)
            for value in (self._cmos(_HOURS), self._cmos(_MINUTES), self._cmos(_SECONDS))
        )
        passed = (hours * 60 + minutes) * 60 + seconds
        self._memory.write_u32(bda.TICKS, passed * 1_193_182 // 65_536)
        self._memory.write_u8(bda.MIDNIGHT, 0)

    def _cmos(self, index: int, value: int | None = None) -> int:
        """Read, or write, a register of the clock chip."""
        self._ports.write(0, CMOS_PORT, 1, index)
        if value is None:
            return self._ports.read(0, CMOS_PORT + 1, 1)
        self._ports.write(0, CMOS_PORT + 1, 1, value)
        return value

    def _get_ticks(self, call: Call) -> None:
        ticks = self._memory.read_u32(bda.TICKS)
        call.cx, call.dx = ticks >> 16, ticks & 0xFFFF
        call.al = self._memory.read_u8(bda.MIDNIGHT)
        self._memory.write_u8(bda.MIDNIGHT, 0)
        call.succeed()

    def _set_ticks(self, call: Call) -> None:
        self._memory.write_u32(bda.TICKS, call.cx << 16 | call.dx)
        self._memory.write_u8(bda.MIDNIGHT, 0)
        call.succeed()

    def _get_time(self, call: Call) -> None:
        call.dh, call.cl = self._cmos(_SECONDS), self._cmos(_MINUTES)
        call.ch, call.dl = self._cmos(_HOURS), self._cmos(REG_B) & 1
        call.succeed()
        call.al = call.ch

    def _held(self, cells: dict[int, int]) -> int:
        """Set registers of the clock while it stands still; register B as it was."""
        mode = self._cmos(REG_B)
        self._cmos(REG_B, mode | B_SET)
        for index, value in cells.items():
            self._cmos(index, value)
        self._cmos(REG_B, mode & ~B_SET)
        return mode

    def _set_time(self, call: Call) -> None:
        self._cmos(REG_A, 0x26)
        mode = self._held({_SECONDS: call.dh, _MINUTES: call.cl, _HOURS: call.ch})
        call.al = self._cmos(REG_B, mode & 0x7E | call.dl & 1)
        call.succeed()

    def _get_date(self, call: Call) -> None:
        call.cl, call.dh = self._cmos(_YEAR), self._cmos(_MONTH)
        call.dl, call.ch = self._cmos(_DAY), self._cmos(CENTURY)
        call.succeed()
        call.al = call.ch

    def _set_date(self, call: Call) -> None:
        self._cmos(REG_A, 0x26)
        cells = {_YEAR: call.cl, _MONTH: call.dh, _DAY: call.dl, CENTURY: call.ch}
        call.al = self._held(cells) & ~B_SET
        call.succeed()

    def _set_alarm(self, call: Call) -> None:
        mode = self._cmos(REG_B)
        if mode & B_AIE:
            call.fail(0)
            return
        for index, value in ((1, call.dh), (3, call.cl), (5, call.ch)):
            self._cmos(index, value)
        self._ports.write(0, 0xA1, 1, self._ports.read(0, 0xA1, 1) & 0xFE)
        self._cmos(REG_B, mode & 0x7F | B_AIE)
        call.succeed()

    def _clear_alarm(self, call: Call) -> None:
        self._cmos(REG_B, self._cmos(REG_B) & ~B_AIE & 0x7F)
        call.succeed()

    def _pci_bios(self, call: Call) -> None:
        kind = call.al
        if kind == 0x01:
            call.ax, call.bx, call.cl, call.edx = 0x0001, 0x0210, 0, _PCI_SIGNATURE
            call.set_flag(CF, False)
        elif kind in (0x02, 0x03):
            self._pci_find(call)
        elif 0x08 <= kind <= 0x0D:
            self._pci_access(call)
        else:
            call.fail(_NOT_SUPPORTED)

    def _pci_find(self, call: Call) -> None:
        """The SI-th function with device CX and vendor DX, or with class ECX."""
        left = call.si
        for bdf, function in sorted(self._pci.functions.items()):
            if call.al == 0x02:
                found = function.read(0, 4) == call.cx << 16 | call.dx
            else:
                found = function.read(8, 4) >> 8 == call.ecx & 0xFFFFFF
            if found and left == 0:
                call.bx = bdf
                call.succeed()
                return
            left -= found
        call.fail(_NOT_FOUND)

    def _pci_access(self, call: Call) -> None:
        """Byte, word or doubleword DI of function BX, read into or written from ECX."""
        size, place = 1 << (call.al - 0x08) % 3, call.di
        if place % size or place > 0xFF:
            call.fail(_BAD_REGISTER)
            return
        if call.al >= 0x0B:
            self._pci.config_write(call.bx, place, size, call.ecx & ((1 << 8 * size) - 1))
        else:
            keep = ~((1 << 8 * size) - 1) & 0xFFFFFFFF
            call.ecx = call.ecx & keep | self._pci.config_read(call.bx, place, size)
        call.succeed()
