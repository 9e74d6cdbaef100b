# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""The real-time clock and its CMOS memory (Motorola MC146818), ports 70h and 71h.

The time of day is the modelled clock added to a fixed moment, so it too is the same in every run.
A guest may set it, and may ask for the periodic, alarm and update interrupts (interrupt 8); flags
and time are computed when somebody looks, and the event queue is used only while an interrupt is
enabled.

Behind the clock's registers lies what the board tells its BIOS: sizes of memory, number of CPUs,
kinds of drives, at the places where QEMU's PC has them (hw/i386/pc.c, pc_cmos_init())."""

from __future__ import annotations

import calendar
import time as host_time
from dataclasses import dataclass

from machine.bus import PortBus, State
from machine.devstate import Line, Timebase, arm, number, octets, signed
from machine.topology import Topology

CMOS_PORT = 0x70
EPOCH = calendar.timegm((2018, 12, 23, 12, 0, 0))
"""The time of day at power-on, in seconds since 1970."""

SECOND = 1_000_000_000
UPDATE_NS = 244_000
"""How long before a second ends the registers must not be read."""

REG_A, REG_B, REG_C, REG_D, SHUTDOWN = 0x0A, 0x0B, 0x0C, 0x0D, 0x0F
FLOPPY_TYPES, DISK_TYPES, EQUIPMENT, CENTURY, CPUS = 0x10, 0x12, 0x14, 0x32, 0x5F
DISK_0_KIND, DISK_1_KIND, DISK_0, DISK_1 = 0x19, 0x1A, 0x1B, 0x24
"""Extended types of the hard disks, and nine bytes each about their shape."""
B_SET, B_PIE, B_AIE, B_UIE, B_BINARY, B_24H = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
C_IRQF, C_PF, C_AF, C_UF = 0x80, 0x40, 0x20, 0x10
A_UIP = 0x80

_SECONDS, _MINUTES, _HOURS = 0, 2, 4
_ALARM_SECONDS, _ALARM_MINUTES, _ALARM_HOURS = 1, 3, 5
_WEEKDAY, _DAY, _MONTH, _YEAR = 6, 7, 8, 9
_TIME = (_SECONDS, _MINUTES, _HOURS, _WEEKDAY, _DAY, _MONTH, _YEAR, CENTURY)
_ANY = 0xC0
"""An alarm register with these bits matches everything."""
_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Date:
    """A time of day as the registers have it, in numbers that are not BCD."""

    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int

    @property
    def seconds(self) -> int:
        """Seconds since 1970. Days and hours beyond the end run on into the next month."""
        whole = (self.year, min(max(self.month, 1), 12), 1)
        days = calendar.timegm((*whole, 0, 0, 0)) // _DAY_SECONDS + self.day - 1
        return days * _DAY_SECONDS + self.hour * 3600 + self.minute * 60 + self.second


class Cmos:
    """The chip. `irq` is its interrupt pin."""

    name = "cmos"
    width = 1

    def __init__(self, time: Timebase, topology: Topology) -> None:
        self._time = time
        self.irq = Line()
        self._index = 0
        self._offset = EPOCH
        """Seconds to add to the modelled clock."""
        self._flags = 0
        self._seen = 0
        """Until when the flags of register C have been computed, in ns."""
        self._cells = bytearray(128)
        self._cells[REG_A], self._cells[REG_B], self._cells[REG_D] = 0x26, B_24H, 0x80
        self._cells[EQUIPMENT] = 0x06
        self._describe(topology)
        self._alarm = time.timer("rtc", self._rings)

    def attach(self, ports: PortBus) -> None:
        """Put the registers on the port bus."""
        ports.attach(CMOS_PORT, 2, self)

    def __getitem__(self, index: int) -> int:
        """What register `index` shows, without the side effects of reading it."""
        if index in _TIME and not self._cells[REG_B] & B_SET:
            return self._fields(self.seconds)[index]
        if index == REG_A:
            late = self._time.now % SECOND >= SECOND - UPDATE_NS
            return self._cells[REG_A] & 0x7F | (A_UIP if late and not self._set() else 0)
        if index == REG_C:
            return self._flags
        return self._cells[index]

    def __setitem__(self, index: int, value: int) -> None:
        """Set a cell as the board's maker does."""
        self._cells[index] = value

    @property
    def seconds(self) -> int:
        """The time of day in seconds since 1970."""
        return self._offset + self._time.now // SECOND

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        self._time.spend()
        if offset == 0:
            return 0xFF
        if self._index == REG_C:
            self._collect()
            flags, self._flags = self._flags, 0
            self.irq.set(0)
            self._arm()
            return flags
        return self[self._index]

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._time.spend()
        if offset == 0:
            self._index = value & 0x7F
            return
        self._collect()
        index, cells = self._index, self._cells
        if index == REG_B:
            self._set_mode(value)
        elif index == REG_A:
            cells[REG_A] = value & 0x7F
        elif index in _TIME:
            self._set_time(index, value)
        elif index not in (REG_C, REG_D):
            cells[index] = value
        self._raise()
        self._arm()

    def reset(self) -> None:
        """The reset pin: no interrupts. Time and cells have a battery."""
        self._cells[REG_B] &= ~(B_PIE | B_AIE | B_UIE) & 0xFF
        self._flags = 0
        self.irq.set(0)
        self._alarm.clear()

    def save(self) -> State:
        return {
            "cells": bytes(self._cells),
            "index": self._index,
            "offset": self._offset,
            "flags": self._flags,
            "seen": self._seen,
            "irq": self.irq.level,
        }

    def load(self, state: State) -> None:
        self._cells = bytearray(octets(state, "cells", 128))
        self._index, self._flags = number(state, "index", 0x7F), number(state, "flags", 0xFF)
        self._offset, self._seen = signed(state, "offset"), number(state, "seen")
        self.irq.level = number(state, "irq", 1)

    def _describe(self, topology: Topology) -> None:
        """The sizes of memory and the number of CPUs."""
        cells = self._cells
        ram = topology.ram_size
        extended = min(max(ram - (1 << 20), 0) >> 10, 0xFFFF)
        above_16m = min(max(topology.below_4g - (16 << 20), 0) >> 16, 0xFFFF)
        for place, value in ((0x15, 640), (0x17, extended), (0x30, extended), (0x34, above_16m)):
            cells[place : place + 2] = value.to_bytes(2, "little")
        above = min(topology.above_4g >> 16, 0xFFFFFF)
        cells[0x5B:0x5E] = above.to_bytes(3, "little")
        cells[CPUS] = (topology.cpus - 1) & 0xFF

    def _set(self) -> bool:
        """True while the guest holds the time still."""
        return bool(self._cells[REG_B] & B_SET)

    def _set_mode(self, value: int) -> None:
        """Register B. Setting SET freezes the time registers, clearing it starts them."""
        cells = self._cells
        if value & B_SET and not self._set():
            for index, field in self._fields(self.seconds).items():
                cells[index] = field
            value &= ~B_UIE
        elif self._set() and not value & B_SET:
            self._offset = self._date().seconds - self._time.now // SECOND
        cells[REG_B] = value

    def _set_time(self, index: int, value: int) -> None:
        cells = self._cells
        if not self._set():
            for place, field in self._fields(self.seconds).items():
                cells[place] = field
        cells[index] = value
        if not self._set() and index != _WEEKDAY:
            self._offset = self._date().seconds - self._time.now // SECOND

    def _date(self) -> Date:
        """The time that the frozen registers say."""
        cells = self._cells
        year = self._number(cells[CENTURY]) * 100 + self._number(cells[_YEAR])
        return Date(
            max(year, 1),
            self._number(cells[_MONTH]),
            self._number(cells[_DAY]),
            self._hour(cells[_HOURS]),
            self._number(cells[_MINUTES]),
            self._number(cells[_SECONDS]),
        )

    def _fields(self, seconds: int) -> dict[int, int]:
        """The time registers at a time of day."""
        # From year 1 to 9999; time.gmtime itself is fine with all of them.
        seconds = min(max(seconds, -62_135_596_800), 253_402_300_799)
        now = host_time.gmtime(seconds)
        hour = now.tm_hour
        if not self._cells[REG_B] & B_24H:
            hour = (hour + 11) % 12 + 1
        coded = self._coded(hour)
        if not self._cells[REG_B] & B_24H and now.tm_hour >= 12:
            coded |= 0x80
        values = {
            _SECONDS: now.tm_sec,
            _MINUTES: now.tm_min,
            _WEEKDAY: (now.tm_wday + 1) % 7 + 1,
            _DAY: now.tm_mday,
            _MONTH: now.tm_mon,
            _YEAR: now.tm_year % 100,
            CENTURY: now.tm_year // 100,
        }
        return {index: self._coded(value) for index, value in values.items()} | {_HOURS: coded}

    def _coded(self, value: int) -> int:
        return value if self._cells[REG_B] & B_BINARY else value // 10 << 4 | value % 10

    def _number(self, value: int) -> int:
        return value if self._cells[REG_B] & B_BINARY else (value >> 4) * 10 + (value & 15)

    def _hour(self, value: int) -> int:
        if self._cells[REG_B] & B_24H:
            return self._number(value)
        return self._number(value & 0x7F) % 12 + (12 if value & 0x80 else 0)

    # --- interrupts -------------------------------------------------------------------------------
    @property
    def _period(self) -> int:
        """Nanoseconds between periodic events; 0: none."""
        rate = self._cells[REG_A] & 15
        if not rate:
            return 0
        return (1 << (rate + 6 if rate < 3 else rate - 1)) * SECOND // 32_768

    def _collect(self) -> None:
        """Set the flags of what has happened since the last look."""
        then, now = self._seen, self._time.now
        self._seen = now
        if self._period and now // self._period > then // self._period:
            self._flags |= C_PF
        if now // SECOND > then // SECOND and not self._set():
            self._flags |= C_UF
            if self._next_alarm(then) <= now:
                self._flags |= C_AF

    def _raise(self) -> None:
        """Drive the interrupt pin."""
        if self._flags & self._cells[REG_B] & (C_PF | C_AF | C_UF):
            self._flags |= C_IRQF
            self.irq.set(1)

    def _arm(self) -> None:
        """Be called for the next event whose interrupt is enabled."""
        enabled, now = self._cells[REG_B], self._time.now
        times = []
        if enabled & B_PIE and self._period:
            times.append((now // self._period + 1) * self._period)
        if enabled & B_UIE:
            times.append((now // SECOND + 1) * SECOND)
        if enabled & B_AIE:
            times.append(self._next_alarm(now))
        arm(self._alarm, min(times) if times and not self._flags & C_IRQF else None)

    def _rings(self) -> None:
        self._collect()
        self._raise()
        self._arm()

    def _next_alarm(self, after: int) -> int:
        """When the alarm matches next, in ns; a time beyond a day when it never does."""
        first = after // SECOND + 1
        wanted = [self._cells[place] for place in (_ALARM_HOURS, _ALARM_MINUTES, _ALARM_SECONDS)]
        any_hour, any_minute, any_second = (value & _ANY == _ANY for value in wanted)
        hour, minute, second = (
            self._hour(wanted[0]),
            self._number(wanted[1]),
            self._number(wanted[2]),
        )
        at, end = first + self._offset, first + self._offset + _DAY_SECONDS
        while at <= end:
            if not any_hour and at // 3600 % 24 != hour:
                at = (at // 3600 + 1) * 3600
            elif not any_minute and at // 60 % 60 != minute:
                at = (at // 60 + 1) * 60
            elif not any_second and at % 60 != second:
                at += 1
            else:
                break
        return (at - self._offset) * SECOND
