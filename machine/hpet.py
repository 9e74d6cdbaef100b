# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""The high precision event timer at physical 0xfed00000 (IA-PC HPET specification 1.0a).

A 64-bit counter of 100 MHz on the modelled clock and three comparators, each one-shot or periodic,
edge or level, 64 or 32 bits wide. An interrupt goes to an input of the I/O APIC, or, in legacy
replacement mode, comparator 0 takes the place of the 8254 (interrupt 0) and comparator 1 that of
the real-time clock (interrupt 8). There is no delivery by messages (FSB).

The counter is computed when somebody looks; the event queue holds what will raise an interrupt."""

from __future__ import annotations

from collections.abc import Callable

from machine.bus import State
from machine.devstate import Timebase, arm, number, numbers, prefixed

HPET_BASE, HPET_SIZE = 0xFED00000, 0x1000
TICK_NS = 10
PERIOD_FS = TICK_NS * 1_000_000
TIMERS = 3
CAPABILITIES = PERIOD_FS << 32 | 0x8086 << 16 | 1 << 15 | 1 << 13 | (TIMERS - 1) << 8 | 1
"""Period, vendor, legacy replacement, 64 bits, number of comparators, revision."""

ENABLE, LEGACY = 1, 2
T_LEVEL, T_ENABLE, T_PERIODIC, T_SET_ACCUMULATOR, T_32 = 1 << 1, 1 << 2, 1 << 3, 1 << 6, 1 << 8
T_CAPABILITIES = 1 << 4 | 1 << 5
"""Periodic, 64 bits."""
T_WRITABLE = 0x1F << 9 | T_32 | T_SET_ACCUMULATOR | T_PERIODIC | T_ENABLE | T_LEVEL
ROUTES = 0x00FF_0104
"""I/O APIC inputs that a comparator can be led to: 2, 8 and 16 to 23."""

_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1


class Hpet:
    """The device. `raise_line(line, level)` drives an interrupt input, `legacy` is told when the
    8254 has to step back from interrupt 0."""

    name = "hpet"

    def __init__(self, time: Timebase, raise_line: Callable[[int, int], None]) -> None:
        self._time, self._raise_line = time, raise_line
        self._alarms = [
            time.timer(f"hpet{n}", lambda n=n: self._rings(n))  # type: ignore[misc]
            for n in range(TIMERS)
        ]
        self._power_up()

    def _power_up(self) -> None:
        self._g = {"config": 0, "status": 0, "counter": 0, "since": 0}
        self._t = [
            {"config": T_CAPABILITIES | ROUTES << 32, "comparator": _U64, "period": 0}
            for _ in range(TIMERS)
        ]

    @property
    def legacy(self) -> bool:
        """True while it replaces the 8254 and the real-time clock as sources of interrupts."""
        return self._g["config"] & (ENABLE | LEGACY) == ENABLE | LEGACY

    @property
    def counter(self) -> int:
        """The main counter."""
        g = self._g
        if not g["config"] & ENABLE:
            return g["counter"]
        return (g["counter"] + (self._time.now - g["since"]) // TICK_NS) & _U64

    def mmio_read(self, cpu_id: int, offset: int, size: int) -> int:
        self._time.spend()
        value = self._register(offset & ~7) >> 8 * (offset & 7)
        return value & ((1 << 8 * size) - 1)

    def mmio_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._time.spend()
        place, shift = offset & ~7, 8 * (offset & 7)
        mask = ((1 << 8 * size) - 1) << shift & _U64
        old = self._register(place)
        new = old & ~mask | value << shift & mask
        if place == 0x10:
            self._configure(new & (ENABLE | LEGACY))
        elif place == 0x20:
            for n in range(TIMERS):
                if value << shift >> n & 1:
                    self._quiet(n)
        elif place == 0xF0 and not self._g["config"] & ENABLE:
            self._g["counter"] = new
        elif 0x100 <= place < 0x100 + 0x20 * TIMERS:
            n, part = divmod(place - 0x100, 0x20)
            if part in (0, 8):
                self._alarms[n].clear()
                (self._set_comparator if part else self._configure_timer)(n, new)
        self._arm()

    def reset(self) -> None:
        """Power-on state."""
        for n in range(TIMERS):
            self._quiet(n)
            self._alarms[n].clear()
        self._power_up()

    def save(self) -> State:
        state = prefixed("", self._g)
        for n, timer in enumerate(self._t):
            state |= prefixed(f"{n}_", timer)
        return state

    def load(self, state: State) -> None:
        self._g = {key: number(state, key) for key in self._g}
        self._t = [numbers(state, f"{n}_", timer) for n, timer in enumerate(self._t)]

    def _register(self, place: int) -> int:
        """The 64-bit register at byte `place`; zero where there is none."""
        if place == 0:
            return CAPABILITIES
        if place == 0xF0:
            return self.counter
        if place in (0x10, 0x20):
            return self._g["config" if place == 0x10 else "status"]
        if 0x100 <= place < 0x100 + 0x20 * TIMERS:
            n, part = divmod(place - 0x100, 0x20)
            return self._t[n].get({0: "config", 8: "comparator"}.get(part, ""), 0)
        return 0

    def _configure(self, config: int) -> None:
        """The general configuration register."""
        counter = self.counter
        self._g |= {"config": config, "counter": counter, "since": self._time.now}

    def _configure_timer(self, n: int, value: int) -> None:
        timer = self._t[n]
        old = timer["config"]
        timer["config"] = old & ~T_WRITABLE | value & T_WRITABLE
        if timer["config"] & T_32:
            timer["comparator"] &= _U32
            timer["period"] &= _U32
        if old & T_ENABLE and not timer["config"] & T_ENABLE:
            self._quiet(n)

    def _set_comparator(self, n: int, value: int) -> None:
        timer = self._t[n]
        value &= _U32 if timer["config"] & T_32 else _U64
        if not timer["config"] & T_PERIODIC or timer["config"] & T_SET_ACCUMULATOR:
            timer["comparator"] = value
        if timer["config"] & T_PERIODIC:
            timer["period"] = value
        timer["config"] &= ~T_SET_ACCUMULATOR

    def _distance(self, n: int) -> int:
        """Ticks until the counter meets comparator `n`, more than zero."""
        mask = _U32 if self._t[n]["config"] & T_32 else _U64
        return (self._t[n]["comparator"] - self.counter - 1 & mask) + 1

    def _arm(self) -> None:
        """Be called when the next interrupts are due. What is due at this very moment still is."""
        now = self._time.now
        for n, alarm in enumerate(self._alarms):
            due_now = alarm.deadline is not None and alarm.deadline <= now
            enabled = self._g["config"] & ENABLE and self._t[n]["config"] & T_ENABLE
            if not (due_now and enabled):
                arm(alarm, self._due(n) if enabled else None)

    def _due(self, n: int) -> int | None:
        """When the counter meets comparator `n` next."""
        since = self._g["since"]
        begun = since + (self._time.now - since) // TICK_NS * TICK_NS
        due = begun + self._distance(n) * TICK_NS
        return due if due <= _U64 >> 1 else None  # not in centuries

    def _rings(self, n: int) -> None:
        timer = self._t[n]
        if timer["config"] & T_PERIODIC and timer["period"]:
            mask = _U32 if timer["config"] & T_32 else _U64
            passed = self.counter - timer["comparator"] & mask
            rounds = passed // timer["period"] + 1
            timer["comparator"] = timer["comparator"] + rounds * timer["period"] & mask
        if timer["config"] & T_LEVEL:
            self._g["status"] |= 1 << n
            self._raise_line(self._line(n), 1)
        else:
            self._raise_line(self._line(n), 0)
            self._raise_line(self._line(n), 1)
        arm(self._alarms[n], self._due(n))

    def _quiet(self, n: int) -> None:
        """Withdraw the interrupt of comparator `n`."""
        self._g["status"] &= ~(1 << n)
        self._raise_line(self._line(n), 0)

    def _line(self, n: int) -> int:
        """The interrupt of comparator `n`. ISA interrupt 0 is what reaches the I/O APIC's input
        2."""
        if self.legacy and n < 2:
            return 8 * n
        route = self._t[n]["config"] >> 9 & 31
        return 0 if route == 2 else route
