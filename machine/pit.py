# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""The 8254 interval timer, and port 61h, which drives its third counter and shows its output.

Three counters run at 1,193,182 Hz of the modelled clock. Nothing ticks here: a counter remembers
when it was loaded, and its count and output are computed when somebody looks (Intel 8254 data
sheet, modes 0 to 5). Counter 0 is interrupt 0; the event queue is told when its output rises next.
Counter 2 makes no sound, but its gate and output work, which is what software measures time with.

As on QEMU's board, a new count in modes 2 and 3 takes effect at once, not at the end of the
period."""

from __future__ import annotations

from machine.bus import PortBus, State
from machine.devstate import Line, Timebase, arm, numbers, prefixed

PIT_PORT, PORT_61 = 0x40, 0x61
PIT_HZ = 1_193_182
SECOND = 1_000_000_000

_REFRESH_NS = 15_085
"""Half a period of the refresh signal in bit 4 of port 61h."""
_LOW, _HIGH, _BOTH = 1, 2, 3
_FIELDS = (
    "mode", "access", "bcd", "count", "loaded", "start", "gate", "held", "high_next", "low_byte",
    "read_high", "latched", "latch", "status_latched", "status",
)  # fmt: skip


class Counter:
    """One of the three. `start` is the time in ns of count zero; while the gate holds the counter,
    `held` is the clocks it had counted."""

    def __init__(self, time: Timebase, gate: int) -> None:
        self._time = time
        self.r = dict.fromkeys(_FIELDS, 0) | {"access": _BOTH, "gate": gate, "held": -1}

    @property
    def period(self) -> int:
        """Clocks of one round: 0 stands for the largest count."""
        r = self.r
        if not r["bcd"]:
            return r["count"] or 0x10000
        return sum((r["count"] >> 4 * n & 15) * 10**n for n in range(4)) or 10_000

    @property
    def elapsed(self) -> int:
        """Clocks counted since the counter was loaded or triggered."""
        r = self.r
        if r["held"] >= 0:
            return r["held"]
        return (self._time.now - r["start"]) * PIT_HZ // SECOND

    @property
    def output(self) -> int:
        """The level of the OUT pin."""
        r = self.r
        mode, period = int(r["mode"]), self.period
        if not r["loaded"]:
            return int(mode != 0)
        if mode in (2, 3) and not r["gate"]:
            return 1
        done = self.elapsed
        if mode in (0, 1):
            return int(done >= period)
        if mode == 2:
            return int(done % period != period - 1)
        if mode == 3:
            return int(done % period < (period + 1) // 2)
        return int(done != period)

    @property
    def value(self) -> int:
        """What the counting element holds."""
        r = self.r
        if not r["loaded"]:
            return 0
        period, done = self.period, self.elapsed
        if r["mode"] == 2:
            value = period - done % period
        elif r["mode"] == 3:
            value = period - 2 * done % period
        else:
            value = (period - done) % (10_000 if r["bcd"] else 0x10000)
        if r["bcd"]:
            digits = (value // 10**n % 10 for n in range(4))
            return sum(digit << 4 * n for n, digit in enumerate(digits))
        return value & 0xFFFF

    def next_rise(self) -> int | None:
        """When OUT goes high next, in ns; None if it will not."""
        r = self.r
        if not r["loaded"] or r["held"] >= 0 or r["mode"] in (1, 5):
            return None
        period, done = self.period, self.elapsed
        if r["mode"] in (2, 3):
            target = (done // period + 1) * period
        else:
            target = period + (r["mode"] == 4)
            if done >= target:
                return None
        return r["start"] - (-target * SECOND // PIT_HZ)

    def set_gate(self, level: int) -> None:
        """The GATE pin goes to `level`."""
        r = self.r
        if level == r["gate"]:
            return
        done = self.elapsed
        r["gate"] = level
        if r["mode"] in (1, 5) or (r["mode"] in (2, 3) and level):
            if level:
                self._trigger(0)
        elif level:
            self._trigger(done)
        else:
            r["held"] = done

    def control(self, word: int) -> None:
        """A control word for this counter that is no latch command."""
        r = self.r
        mode = word >> 1 & 7
        r |= {"access": word >> 4 & 3, "mode": mode if mode < 6 else mode - 4, "bcd": word & 1}
        r |= {"high_next": 0, "read_high": 0, "latched": 0, "status_latched": 0, "loaded": 0}

    def latch_count(self) -> None:
        """Hold the count until it has been read."""
        if not self.r["latched"]:
            self.r |= {"latched": self.r["access"], "latch": self.value}

    def latch_status(self) -> None:
        """Hold output, access, mode and BCD bits until they have been read."""
        r = self.r
        if not r["status_latched"]:
            status = self.output << 7 | (not r["loaded"]) << 6
            r["status"] = status | r["access"] << 4 | r["mode"] << 1 | r["bcd"]
            r["status_latched"] = 1

    def read(self) -> int:
        """A byte for the CPU: status, latched count or running count."""
        r = self.r
        if r["status_latched"]:
            r["status_latched"] = 0
            return r["status"]
        if r["latched"]:
            value = r["latch"]
            if r["latched"] == _BOTH:
                r["latched"] = _HIGH
                return value & 0xFF
            part, r["latched"] = r["latched"], 0
            return value >> 8 if part == _HIGH else value & 0xFF
        value = self.value
        high = r["access"] == _HIGH or (r["access"] == _BOTH and r["read_high"])
        if r["access"] == _BOTH:
            r["read_high"] ^= 1
        return value >> 8 if high else value & 0xFF

    def write(self, value: int) -> None:
        """A byte of the count from the CPU."""
        r = self.r
        if r["access"] == _BOTH and not r["high_next"]:
            r |= {"high_next": 1, "low_byte": value}
            return
        if r["access"] == _BOTH:
            value = value << 8 | r["low_byte"]
        elif r["access"] == _HIGH:
            value <<= 8
        r |= {"high_next": 0, "count": value, "loaded": 1}
        self._trigger(0)
        if r["mode"] in (1, 5):
            r["held"] = self.period + (r["mode"] == 5)  # waits for its gate, OUT high
        elif not r["gate"]:
            r["held"] = 0

    def _trigger(self, done: int) -> None:
        """Go on counting as if `done` clocks had been counted."""
        self.r |= {"held": -1, "start": self._time.now - done * SECOND // PIT_HZ}


class Pit:
    """Ports 40h to 43h; `output` is counter 0's."""

    name = "pit"
    width = 1

    def __init__(self, time: Timebase) -> None:
        self.counters = (Counter(time, 1), Counter(time, 1), Counter(time, 0))
        self.output = Line()
        self._time = time
        self._alarm = time.timer("pit0", self._rises)

    def attach(self, ports: PortBus) -> None:
        """Put the registers on the port bus, port 61h with them."""
        ports.attach(PIT_PORT, 4, self)
        ports.attach(PORT_61, 1, _Port61(self.counters[2], self._time))

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        self._time.spend()
        return 0 if offset == 3 else self.counters[offset].read()

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._time.spend()
        if offset < 3:
            self.counters[offset].write(value)
            if offset == 0:
                self._changed()
            return
        which = value >> 6
        if which == 3:
            for n, counter in enumerate(self.counters):
                if value >> n & 2:
                    if not value & 0x20:
                        counter.latch_count()
                    if not value & 0x10:
                        counter.latch_status()
        elif not value & 0x30:
            self.counters[which].latch_count()
        else:
            self.counters[which].control(value)
            if which == 0:
                self._changed()

    def reset(self) -> None:
        """Power-on state: nothing is loaded."""
        for n, counter in enumerate(self.counters):
            counter.r |= dict.fromkeys(_FIELDS, 0) | {"access": _BOTH, "gate": int(n < 2)}
            counter.r["held"] = -1
        self._changed()

    def save(self) -> State:
        state: State = {"output": self.output.level}
        for n, counter in enumerate(self.counters):
            state |= prefixed(f"{n}_", counter.r)
        return state

    def load(self, state: State) -> None:
        for n, counter in enumerate(self.counters):
            counter.r = numbers(state, f"{n}_", counter.r)
        self.output.level = int(bool(state["output"]))

    def _changed(self) -> None:
        self.output.set(0)
        arm(self._alarm, self.counters[0].next_rise())

    def _rises(self) -> None:
        self.output.pulse()
        arm(self._alarm, self.counters[0].next_rise())


class _Port61:
    """System control port B: gate and output of counter 2, speaker, refresh signal."""

    name = "port61"
    width = 1

    def __init__(self, counter: Counter, time: Timebase) -> None:
        self._counter, self._time = counter, time
        self._speaker = 0

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        self._time.spend()
        refresh = self._time.now // _REFRESH_NS & 1
        gate, output = self._counter.r["gate"], self._counter.output
        return gate | self._speaker << 1 | refresh << 4 | output << 5

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._time.spend()
        self._speaker = value >> 1 & 1
        self._counter.set_gate(value & 1)

    def save(self) -> State:
        return {"speaker": self._speaker}

    def load(self, state: State) -> None:
        self._speaker = int(bool(state["speaker"]))
