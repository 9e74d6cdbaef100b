# SPDX-License-Identifier: GPL-2.0-only
"""INT 15h: the services of the system board.

The memory map (E820h) and its older relatives (E801h, 88h), the A20 gate (24h), moving blocks above
1 MiB (87h), waiting (86h), the description of the system (C0h, C1h), switching off (53h). What is
not there fails with CF set and AH 86h (ACPI 6.2, section 15.1; Ralf Brown's interrupt list)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from firmware.bios import bda
from firmware.bios.call import CF, WAIT_BUSY, Call
from firmware.bios.rom import CONFIG_TABLE, ROM_SEGMENT
from firmware.e820 import USABLE, E820Entry
from machine import Machine
from machine.topology import GIB

UNSUPPORTED = 0x86
SMAP = 0x534D4150
APM_VERSION = 0x0102
MIB = 1 << 20
_ENTRY = struct.Struct("<QQI")
_MAX_88_KIB = 63 << 10


class System:
    """The services; `e820` is the map they tell."""

    def __init__(self, machine: Machine, e820: Sequence[E820Entry]) -> None:
        self._machine = machine
        self._memory = machine.memory
        self._e820 = tuple(e820)
        # Legacy interfaces know RAM below 4 GiB only, up to the last usable byte.
        below = [entry.end for entry in self._e820 if entry.type == USABLE and entry.end <= 4 * GIB]
        self._top = max(below, default=MIB)
        self._functions: dict[int, Callable[[Call], int | None]] = {
            0x24: self._a20, 0x4F: self._key_intercept, 0x52: self._succeeds,
            0x86: self._wait, 0x87: self._move, 0x88: self._extended, 0x89: self._unsupported,
            0x53: self._power, 0x90: self._device_hooks, 0x91: self._device_hooks,
            0xC0: self._configuration,
            0xC1: self._ebda, 0xE8: self._map,
        }  # fmt: skip

    def __call__(self, call: Call) -> int:
        function = self._functions.get(call.ah, self._unsupported)
        return function(call) or 0

    def _unsupported(self, call: Call) -> None:
        call.fail(UNSUPPORTED)

    def _succeeds(self, call: Call) -> None:
        call.succeed()

    def _device_hooks(self, call: Call) -> None:
        """90h, 91h: for an operating system to take over; nobody has."""
        call.set_flag(CF, False)

    def _key_intercept(self, call: Call) -> None:
        """4Fh: nobody wants the scan code for itself; the caller's CF says so already."""

    def _a20(self, call: Call) -> None:
        if call.al == 0 or call.al == 1:
            self._machine.a20 = bool(call.al)
            call.succeed()
        elif call.al == 2:
            call.al = int(self._machine.a20)
            call.succeed()
        elif call.al == 3:
            call.bx = 3  # by the keyboard controller and by port 92h
            call.succeed()
        else:
            self._unsupported(call)

    def _power(self, call: Call) -> None:
        """53h: power management (APM 1.2) by way of this interrupt only, which can switch off."""
        if call.al in (0x00, 0x0E):
            call.ax, call.bx, call.cx = APM_VERSION, 0x504D, 0
            call.set_flag(CF, False)
        elif call.al == 0x07 and call.bx == 1 and call.cx == 3:
            self._machine.stop("exit", 0, "the guest switched it off")
        elif call.al in (0x02, 0x03):
            call.fail(0x06 if call.al == 0x02 else 0x08)
        elif call.al in (0x01, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0D, 0x0F, 0x10):
            call.succeed()
        else:
            self._unsupported(call)

    def _wait(self, call: Call) -> int:
        """86h: CX:DX microseconds, with interrupts let in meanwhile."""
        notes, clock = self._machine.pc.bios.notes, self._machine.clock
        key = f"wait{call.cpu.cpu_id}"
        until = notes.setdefault(key, clock.now + (call.cx << 16 | call.dx) * 1000)
        if clock.now < until:
            # Straight to the end, or to what may bring an interrupt before.
            event = self._machine.events.next
            clock.advance(max(min(until, until if event is None else event) - clock.now, 1))
            return WAIT_BUSY
        del notes[key]
        call.succeed()
        return 0

    def _move(self, call: Call) -> None:
        """87h: CX words from the segment of the descriptor at ES:SI + 10h to that of + 18h."""
        size = 2 * call.cx
        if call.cx > 0x8000:
            call.fail(0x02)
            return
        source, target = (_base(call.read(call.es, call.si + place, 8)) for place in (0x10, 0x18))
        memory, data = self._memory, b"\xff" * size
        if memory.is_ram(source, size):
            data = memory.read(source, size)
        if memory.is_ram(target, size):
            memory.write(target, data)
            self._machine.code_written(target, size)
        call.succeed()

    def _extended(self, call: Call) -> None:
        """88h: KiB above 1 MiB, as far as that was ever believed."""
        call.ax = min((self._top - MIB) >> 10, _MAX_88_KIB)
        call.set_flag(CF, False)

    def _configuration(self, call: Call) -> None:
        call.es, call.bx = ROM_SEGMENT, CONFIG_TABLE
        call.succeed()

    def _ebda(self, call: Call) -> None:
        call.es = self._memory.read_u16(bda.EBDA_SEGMENT)
        call.set_flag(CF, False)

    def _map(self, call: Call) -> None:
        if call.al == 0x20:
            self._e820_entry(call)
        elif call.al == 0x01:
            self._e801(call)
        else:
            self._unsupported(call)

    def _e801(self, call: Call) -> None:
        """KiB from 1 to 16 MiB in AX and CX, 64-KiB blocks above in BX and DX."""
        low = min(self._top, 16 * MIB) - MIB
        call.ax = call.cx = low >> 10
        call.bx = call.dx = max(self._top - 16 * MIB, 0) >> 16
        call.set_flag(CF, False)

    def _e820_entry(self, call: Call) -> None:
        """E820h: the entry that EBX counts to, EBX to ask for the next with, 0 behind the last."""
        index = call.ebx
        if call.edx != SMAP or call.ecx < _ENTRY.size or index >= len(self._e820):
            self._unsupported(call)
            return
        entry = self._e820[index]
        call.write(call.es, call.di, _ENTRY.pack(entry.addr, entry.size, entry.type))
        call.ebx = index + 1 if index + 1 < len(self._e820) else 0
        call.eax, call.ecx = SMAP, _ENTRY.size
        call.set_flag(CF, False)


def _base(descriptor: bytes) -> int:
    """The base of a segment descriptor."""
    return descriptor[2] | descriptor[3] << 8 | descriptor[4] << 16 | descriptor[7] << 24
