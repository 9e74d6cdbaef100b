# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""The two 8259A interrupt controllers of a PC.

`Pic` is one chip (Intel 8259A data sheet): request, service and mask registers, fixed and rotating
priority, the end-of-interrupt commands, automatic EOI, special mask and poll modes. `PicPair` wires
the slave's output to the master's input 2, has the edge/level registers of the PIIX (4D0h, 4D1h),
and is what the board talks to: `set_irq` from devices, `acknowledge` from the CPU, `output` to it.

As on QEMU's board, a request is kept when its line falls again, and an acknowledge without request
is answered with the spurious interrupt 7."""

from __future__ import annotations

from machine.bus import PortBus, State
from machine.devstate import Line, Timebase, numbers, prefixed

MASTER_PORT, SLAVE_PORT, ELCR_PORT = 0x20, 0xA0, 0x4D0
CASCADE = 2
ELCR_MASKS = (0xF8, 0xDE)
"""Interrupts that can be level triggered: not the timer, keyboard, cascade, clock, coprocessor."""

_READY, _WANTS_ICW2, _WANTS_ICW3, _WANTS_ICW4 = range(4)


class Pic:
    """One 8259A. `elcr` has a bit for each level-triggered input."""

    width = 1

    def __init__(self, name: str, time: Timebase, *, master: bool) -> None:
        self.name = name
        self._time = time
        self.output = Line()
        self._master = master
        self._r = dict.fromkeys(
            (
                "irr", "isr", "imr", "lines", "elcr", "base", "lowest", "step", "read_isr",
                "poll", "special_mask", "auto_eoi", "rotate", "nested", "icw4", "single",
            ),
            0,
        )  # fmt: skip

    @property
    def elcr(self) -> int:
        """A bit for each input that is level triggered."""
        return self._r["elcr"]

    @elcr.setter
    def elcr(self, value: int) -> None:
        self._r["elcr"] = value

    def set_line(self, line: int, level: int) -> None:
        """Input `line` goes to `level`."""
        r, bit = self._r, 1 << line
        if level:
            if r["elcr"] & bit or not r["lines"] & bit:
                r["irr"] |= bit
            r["lines"] |= bit
        else:
            if r["elcr"] & bit:
                r["irr"] &= ~bit
            r["lines"] &= ~bit
        self._update()

    def pending(self) -> int:
        """The input that asks for service and may have it, -1 when none does."""
        r = self._r
        best = self._rank(r["irr"] & ~r["imr"])
        busy = r["isr"]
        if r["special_mask"]:
            busy &= ~r["imr"]
        if r["nested"] and self._master:
            busy &= ~(1 << CASCADE)
        return (best + r["lowest"]) & 7 if best < self._rank(busy) else -1

    def acknowledge(self, line: int) -> None:
        """The CPU takes the request of input `line`."""
        r, bit = self._r, 1 << line
        if not r["auto_eoi"]:
            r["isr"] |= bit
        elif r["rotate"]:
            r["lowest"] = (line + 1) & 7
        if not r["elcr"] & bit:
            r["irr"] &= ~bit
        self._update()

    def vector(self, line: int) -> int:
        """The interrupt vector of input `line`."""
        return self._r["base"] + line

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        self._time.spend()
        r = self._r
        if r["poll"]:
            r["poll"] = 0
            line = self.pending()
            if line < 0:
                return 0
            self.acknowledge(line)
            return 0x80 | line
        if offset:
            return r["imr"]
        return r["isr" if r["read_isr"] else "irr"]

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._time.spend()
        if offset == 0:
            if value & 0x10:
                self._begin(value)
            elif value & 8:
                self._mode_command(value)
            else:
                self._end_of_interrupt(value)
        else:
            self._data(value)
        self._update()

    def reset(self) -> None:
        """Power-on state; the edge/level register is cleared, too."""
        self._r = dict.fromkeys(self._r, 0)
        self._update()

    def save(self) -> State:
        return prefixed("", self._r)

    def load(self, state: State) -> None:
        self._r = numbers(state, "", self._r)
        self.output.set(int(self.pending() >= 0))

    def _rank(self, lines: int) -> int:
        """How many steps below the highest priority the first of `lines` stands; 8: none."""
        lowest = self._r["lowest"]
        for rank in range(8):
            if lines >> ((rank + lowest) & 7) & 1:
                return rank
        return 8

    def _begin(self, icw1: int) -> None:
        """ICW1 starts the initialisation sequence."""
        r = self._r
        kept = {key: r[key] for key in ("lines", "elcr", "base")}
        kept["irr"] = r["irr"] & r["elcr"]
        self._r = dict.fromkeys(r, 0) | kept
        self._r |= {"icw4": icw1 & 1, "single": icw1 >> 1 & 1, "step": _WANTS_ICW2}

    def _data(self, value: int) -> None:
        r = self._r
        if r["step"] == _READY:
            r["imr"] = value
        elif r["step"] == _WANTS_ICW2:
            r["base"] = value & 0xF8
            last = _WANTS_ICW4 if r["icw4"] else _READY
            r["step"] = last if r["single"] else _WANTS_ICW3
        elif r["step"] == _WANTS_ICW3:
            r["step"] = _WANTS_ICW4 if r["icw4"] else _READY
        else:
            r["nested"], r["auto_eoi"], r["step"] = value >> 4 & 1, value >> 1 & 1, _READY

    def _mode_command(self, value: int) -> None:
        """OCW3: poll, which register to read, special mask."""
        r = self._r
        if value & 4:
            r["poll"] = 1
        if value & 2:
            r["read_isr"] = value & 1
        if value & 0x40:
            r["special_mask"] = value >> 5 & 1

    def _end_of_interrupt(self, value: int) -> None:
        """OCW2: end of interrupt and rotation."""
        r, rotate, specific, end = self._r, value >> 7 & 1, value >> 6 & 1, value >> 5 & 1
        line = value & 7
        if not end:
            if not specific:
                r["rotate"] = rotate
            elif rotate:
                r["lowest"] = (line + 1) & 7
            return
        if not specific:
            rank = self._rank(r["isr"])
            if rank == 8:
                return
            line = (rank + r["lowest"]) & 7
        r["isr"] &= ~(1 << line)
        if rotate:
            r["lowest"] = (line + 1) & 7

    def _update(self) -> None:
        self.output.set(int(self.pending() >= 0))


class _EdgeLevel:
    """The edge/level control registers, one byte a chip."""

    name = "elcr"
    width = 1

    def __init__(self, chips: tuple[Pic, Pic]) -> None:
        self._chips = chips

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        return self._chips[offset].elcr

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._chips[offset].elcr = value & ELCR_MASKS[offset]

    def save(self) -> State:
        return {}

    def load(self, state: State) -> None:
        """The chips keep it."""


class PicPair:
    """Master and slave. `intr` is the INTR pin of the CPU, or of its local APIC's LINT0."""

    def __init__(self, time: Timebase) -> None:
        self.master = Pic("pic1", time, master=True)
        self.slave = Pic("pic2", time, master=False)
        self.slave.output.connect(lambda level: self.master.set_line(CASCADE, level))
        self._elcr = _EdgeLevel((self.master, self.slave))

    @property
    def intr(self) -> Line:
        """The pin, to be connected."""
        return self.master.output

    @property
    def output(self) -> bool:
        """True while an interrupt waits for the CPU."""
        return bool(self.master.output.level)

    def attach(self, ports: PortBus) -> None:
        """Put the registers on the port bus."""
        ports.attach(MASTER_PORT, 2, self.master)
        ports.attach(SLAVE_PORT, 2, self.slave)
        ports.attach(ELCR_PORT, 2, self._elcr)

    def set_irq(self, irq: int, level: int) -> None:
        """ISA interrupt `irq` (0-15) goes to `level`."""
        chip = self.slave if irq & 8 else self.master
        chip.set_line(irq & 7, level)

    def acknowledge(self) -> int:
        """The CPU's interrupt acknowledge cycle; the vector."""
        line = self.master.pending()
        if line < 0:
            return self.master.vector(7)
        if line != CASCADE:
            self.master.acknowledge(line)
            return self.master.vector(line)
        inner = self.slave.pending()
        vector = self.slave.vector(7 if inner < 0 else inner)
        self.master.acknowledge(CASCADE)
        if inner >= 0:
            self.slave.acknowledge(inner)
        return vector
