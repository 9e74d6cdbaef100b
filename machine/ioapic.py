# SPDX-License-Identifier: GPL-2.0-only
"""The I/O APIC: 24 inputs, each with an entry that says who is told what about it.

Registers are reached through two windows (select and data) at 0xfec00000, as Intel's 82093AA has
them; version 0x20 and its EOI register at offset 0x40 as in QEMU's hw/intc/ioapic.c. An edge is
sent once; a level stays with its entry (remote IRR) until the CPU's end of interrupt, and is sent
again if the line is still up."""

from __future__ import annotations

from machine.bus import State
from machine.irq import GSI_LINES
from machine.lapic import EXTINT, ApicBus

IO_APIC_BASE, IO_APIC_SIZE = 0xFEC00000, 0x1000
VERSION = 0x20
_MASKED, _LEVEL, _REMOTE_IRR, _ACTIVE_LOW = 1 << 16, 1 << 15, 1 << 14, 1 << 13
_READ_ONLY = _REMOTE_IRR | 1 << 12
_WRITABLE = 0xFF00_0000_0001_FFFF & ~_READ_ONLY


class IoApic:
    """The one I/O APIC of the board."""

    name = "ioapic"

    def __init__(self, bus: ApicBus) -> None:
        self._bus = bus
        bus.end_of_interrupt = self.end_of_interrupt
        self.reset()

    def reset(self) -> None:
        """All inputs masked."""
        self.ident = self.select = self.lines = self.irr = 0
        self.entries = [_MASKED] * GSI_LINES

    def set_irq(self, line: int, level: int) -> None:
        """Input `line` is at `level`. (Polarity is the board's affair: 1 is active.)"""
        bit = 1 << line
        if not level:
            self.lines &= ~bit
            if self.entries[line] & _LEVEL:
                self.irr &= ~bit
            return
        rising = not self.lines & bit
        self.lines |= bit
        if rising or self.entries[line] & _LEVEL:
            self.irr |= bit
            self._service(line)

    def _service(self, line: int) -> None:
        entry, bit = self.entries[line], 1 << line
        if not self.irr & bit or entry & _MASKED:
            return
        level = bool(entry & _LEVEL)
        if level and entry & _REMOTE_IRR:
            return
        mode = entry >> 8 & 7
        vector = self._bus.acknowledge() if mode == EXTINT else entry & 0xFF
        if level:
            self.entries[line] |= _REMOTE_IRR
        else:
            self.irr &= ~bit
        targets = self._bus.find(entry >> 56, bool(entry >> 11 & 1))
        self._bus.send(targets, 0 if mode == EXTINT else mode, vector, level)

    def end_of_interrupt(self, vector: int) -> None:
        """A CPU is done with level-triggered `vector`."""
        for line, entry in enumerate(self.entries):
            if entry & 0xFF == vector and entry & _REMOTE_IRR:
                self.entries[line] &= ~_REMOTE_IRR
                if entry & _LEVEL:
                    self._service(line)

    def _read(self) -> int:
        index = self.select
        if index in (0, 2):
            return self.ident << 24
        if index == 1:
            return VERSION | (GSI_LINES - 1) << 16
        line = index - 0x10 >> 1
        if 0 <= line < GSI_LINES:
            return self.entries[line] >> 32 * (index & 1) & 0xFFFFFFFF
        return 0

    def _write(self, value: int) -> None:
        index = self.select
        if index == 0:
            self.ident = value >> 24 & 0xF
        line = index - 0x10 >> 1
        if not 0 <= line < GSI_LINES:
            return
        old = self.entries[line]
        if index & 1:
            new = old & 0xFFFFFFFF | value << 32
        else:
            new = old & ~0xFFFFFFFF | value
        new = new & _WRITABLE | old & _READ_ONLY
        if not new & _LEVEL:
            new &= ~_REMOTE_IRR
        self.entries[line] = new
        if new & _LEVEL and self.lines >> line & 1:
            self.irr |= 1 << line
        self._service(line)

    def mmio_read(self, cpu_id: int, offset: int, size: int) -> int:  # noqa: ARG002
        """Select register at 0, data window at 0x10."""
        if offset == 0:
            return self.select
        return self._read() if offset == 0x10 and size == 4 else 0

    def mmio_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """The same, and EOI at 0x40."""
        if offset == 0:
            self.select = value & 0xFF
        elif size == 4 and offset == 0x10:
            self._write(value)
        elif size == 4 and offset == 0x40:
            self.end_of_interrupt(value & 0xFF)

    def save(self) -> State:
        """All registers."""
        entries = b"".join(entry.to_bytes(8, "little") for entry in self.entries)
        numbers = {"id": self.ident, "select": self.select, "lines": self.lines, "irr": self.irr}
        return {"entries": entries, **numbers}

    def load(self, state: State) -> None:
        """Back to what `save` returned."""
        raw = state["entries"]
        if not isinstance(raw, bytes) or len(raw) != 8 * GSI_LINES:
            raise ValueError("I/O APIC entries")
        self.entries = [
            int.from_bytes(raw[8 * n : 8 * n + 8], "little") & (_WRITABLE | _READ_ONLY)
            for n in range(GSI_LINES)
        ]
        mask = (1 << GSI_LINES) - 1
        self.ident, self.select = int(state["id"]) & 0xF, int(state["select"]) & 0xFF
        self.lines, self.irr = int(state["lines"]) & mask, int(state["irr"]) & mask
