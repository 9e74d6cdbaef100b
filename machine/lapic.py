# SPDX-License-Identifier: GPL-2.0-only
"""The local APICs: one a CPU, with its timer, and the messages between them.

All CPUs see theirs at the same physical page (0xfee00000); `ApicBus` is the device behind it and
the bus that interrupts travel on: from the I/O APIC (`ioapic`) and from one CPU to another, INIT
and start-up messages included, which is how a guest brings up its other CPUs. A `LocalApic` keeps
what has arrived (IRR), what is in service (ISR) and what priority shuts out, and tells its CPU
whether there is something to take.

SDM volume 3, chapter 10; figures that the SDM leaves open (version, timer at 1 GHz, first reload
after count + 1 ticks) are those of QEMU's hw/intc/apic.c. xAPIC mode only; CPUID does not offer
x2APIC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from machine.bus import State
from machine.clock import Clock
from machine.events import EventQueue

LAPIC_BASE, LAPIC_SIZE = 0xFEE00000, 0x1000
VERSION = 0x50014
FIXED, LOWEST, SMI, NMI, INIT, STARTUP, EXTINT = 0, 1, 2, 4, 5, 6, 7
"""Delivery modes. (3 is reserved.)"""
MASKED, PERIODIC, LEVEL = 1 << 16, 1 << 17, 1 << 15
_ENABLED = 1 << 8
BASE_ENABLED, BASE_BSP = 1 << 11, 1 << 8
_ILLEGAL_VECTOR_SENT, _ILLEGAL_VECTOR, _ILLEGAL_REGISTER = 1 << 5, 1 << 6, 1 << 7
_LVTS = ("timer", "thermal", "performance", "lint0", "lint1", "error")
_LVT_FIRST = 0x320
_LVT_BITS = (0x310FF, 0x117FF, 0x117FF, 0x1F7FF, 0x1F7FF, 0x110FF)
_BROADCAST = 0xFF


class ApicCpu(Protocol):
    """What an APIC does to its CPU."""

    def set_interrupt(self, waiting: bool) -> None:
        """There is, or is not, a maskable interrupt to take."""

    def raise_nmi(self) -> None:
        """Deliver an NMI."""

    def receive_init(self) -> None:
        """INIT: reset and wait for start-up (CPU 0: start again)."""

    def receive_startup(self, vector: int) -> None:
        """Start-up message: begin in real mode at `vector` << 12, if waiting for it."""


class LocalApic:
    """The local APIC of CPU `apic_id`."""

    def __init__(self, bus: ApicBus, apic_id: int, cpu: ApicCpu) -> None:
        self._bus = bus
        self._cpu = cpu
        self.number = apic_id
        self._timer = bus.events.timer(f"lapic{apic_id}", self._timer_due)
        self.base = 0
        self._reset_registers()

    def _reset_registers(self) -> None:
        self.apic_id = self.number & 0xFF
        self.irr = self.isr = self.tmr = 0
        self.tpr = self.ldr = self.esr = self._errors = 0
        self.dfr, self.svr = 0xFFFFFFFF, 0xFF
        self.icr = 0
        self.lvt = [MASKED] * len(_LVTS)
        self.initial = self.loaded_at = 0
        self.divide = 0

    def reset(self) -> None:
        """After power-on; as on QEMU's PC, LINT0 of the boot CPU lets the 8259s through."""
        self._timer.clear()
        self.base = LAPIC_BASE | BASE_ENABLED | (BASE_BSP if self.number == 0 else 0)
        self.init()

    def init(self) -> None:
        """INIT: all registers but the base address."""
        self._timer.clear()
        self._reset_registers()
        if self.number == 0:
            self.lvt[_LVTS.index("lint0")] = EXTINT << 8
        self.update()

    def firmware_setup(self) -> None:
        """As a PC's firmware leaves it: on, LINT0 for the 8259s, LINT1 for NMI."""
        self.svr |= _ENABLED
        self.lvt[_LVTS.index("lint0")] = MASKED if self.number else EXTINT << 8
        self.lvt[_LVTS.index("lint1")] = NMI << 8
        self.update()

    # --- taking interrupts ------------------------------------------------------------------------
    @property
    def ppr(self) -> int:
        """Processor priority."""
        served = self.isr.bit_length() - 1 if self.isr else 0
        return self.tpr if self.tpr >> 4 >= served >> 4 else served & 0xF0

    def _best(self) -> int:
        """Highest vector that priority lets through, -1 for none."""
        if not self.irr or not self.svr & _ENABLED or not self.base & BASE_ENABLED:
            return -1
        vector = self.irr.bit_length() - 1
        return vector if vector >> 4 > self.ppr >> 4 else -1

    def _takes_extint(self) -> bool:
        if self.number != 0 or not self._bus.intr():
            return False
        if not self.base & BASE_ENABLED:
            return True
        lint0 = self.lvt[_LVTS.index("lint0")]
        return not lint0 & MASKED and lint0 >> 8 & 7 == EXTINT

    def update(self) -> None:
        """Tell the CPU whether there is something to take."""
        self._cpu.set_interrupt(self._best() >= 0 or self._takes_extint())

    def acknowledge(self) -> int | None:
        """The CPU takes an interrupt: its vector. None when it has gone away."""
        vector: int | None = self._best()
        if vector is not None and vector >= 0:
            self.irr &= ~(1 << vector)
            self.isr |= 1 << vector
        elif self._takes_extint():
            vector = self._bus.acknowledge()
        else:
            vector = None
        self.update()
        return vector

    def accept(self, mode: int, vector: int, level: bool) -> None:
        """A message has arrived."""
        if mode in (FIXED, LOWEST):
            if vector < 16:
                self._errors |= _ILLEGAL_VECTOR
                return
            self.irr |= 1 << vector
            self.tmr = self.tmr | 1 << vector if level else self.tmr & ~(1 << vector)
            self.update()
        elif mode == NMI:
            self._cpu.raise_nmi()
        elif mode == INIT:
            self._cpu.receive_init()
        elif mode == STARTUP:
            self._cpu.receive_startup(vector)

    def local(self, name: str) -> None:
        """An edge at a local source: "lint0", "lint1", "timer"."""
        entry = self.lvt[_LVTS.index(name)]
        if not entry & MASKED:
            self.accept(FIXED if name == "timer" else entry >> 8 & 7, entry & 0xFF, False)

    def _end_of_interrupt(self) -> None:
        if not self.isr:
            return
        vector = self.isr.bit_length() - 1
        self.isr &= ~(1 << vector)
        if self.tmr >> vector & 1:
            self._bus.end_of_interrupt(vector)
        self.update()

    def matches(self, destination: int, logical: bool) -> bool:
        """A message to `destination` is for this APIC."""
        if destination == _BROADCAST:
            return True
        if not logical:
            return destination == self.apic_id
        own = self.ldr >> 24
        if self.dfr >> 28 == 0xF:
            return bool(own & destination)
        return own >> 4 == destination >> 4 and bool(own & destination & 0xF)

    # --- timer ------------------------------------------------------------------------------------
    @property
    def _shift(self) -> int:
        code = self.divide & 3 | self.divide >> 1 & 4
        return code + 1 & 7

    def _current(self) -> int:
        if not self.initial:
            return 0
        ticks = self._bus.clock.now - self.loaded_at >> self._shift
        if self.lvt[0] & PERIODIC:
            return self.initial - ticks % (self.initial + 1)
        return max(self.initial - ticks, 0)

    def _arm(self) -> None:
        """Plan the next time the count reaches zero, if anybody would notice."""
        ticks = self._bus.clock.now - self.loaded_at >> self._shift
        periodic = self.lvt[0] & PERIODIC
        if not self.initial or self.lvt[0] & MASKED or (not periodic and ticks >= self.initial):
            self._timer.clear()
            return
        period = self.initial + 1
        ticks = (ticks // period + 1) * period if periodic else period
        self._timer.set(self.loaded_at + (ticks << self._shift))

    def _timer_due(self) -> None:
        self.local("timer")
        self._arm()

    # --- registers --------------------------------------------------------------------------------
    def read(self, offset: int) -> int:
        """The register at `offset` (a multiple of 16)."""
        if 0x100 <= offset < 0x280:
            bank = (self.isr, self.tmr, self.irr)[offset - 0x100 >> 7]
            return bank >> (offset >> 4 & 7) * 32 & 0xFFFFFFFF
        if _LVT_FIRST <= offset <= 0x370:
            return self.lvt[offset - _LVT_FIRST >> 4]
        values = {
            0x20: self.apic_id << 24,
            0x30: VERSION,
            0x80: self.tpr,
            0x90: 0,
            0xA0: self.ppr,
            0xB0: 0,
            0xD0: self.ldr,
            0xE0: self.dfr,
            0xF0: self.svr,
            0x280: self.esr,
            0x300: self.icr & 0xFFFFFFFF,
            0x310: self.icr >> 32,
            0x380: self.initial,
            0x3E0: self.divide,
        }
        if offset == 0x390:
            return self._current()
        if offset not in values:
            self._errors |= _ILLEGAL_REGISTER
        return values.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Store to the register at `offset`."""
        if offset == 0x20:
            self.apic_id = value >> 24
        elif offset == 0x80:
            self.tpr = value & 0xFF
        elif offset == 0xB0:
            self._end_of_interrupt()
        elif offset == 0xD0:
            self.ldr = value & 0xFF000000
        elif offset == 0xE0:
            self.dfr = value | 0x0FFFFFFF
        elif offset == 0xF0:
            self.svr = value & 0x1FF
        elif offset == 0x280:
            self.esr, self._errors = self._errors, 0
        elif offset == 0x300:
            self.icr = self.icr & ~0xFFFFFFFF | value & 0xCCFFF
            self._send()
        elif offset == 0x310:
            self.icr = self.icr & 0xFFFFFFFF | (value & 0xFF000000) << 32
        elif offset == 0x380:
            self.initial, self.loaded_at = value, self._bus.clock.now
            self._arm()
        elif offset == 0x3E0:
            self.divide = value & 0xB
            self._arm()
        elif _LVT_FIRST <= offset <= 0x370:
            index = offset - _LVT_FIRST >> 4
            self.lvt[index] = value & _LVT_BITS[index]
            if index == 0:
                self._arm()
        else:
            self._errors |= _ILLEGAL_REGISTER
        self.update()

    def _send(self) -> None:
        """The interrupt command register's low half was written: send what it says."""
        icr = self.icr
        vector, mode, logical = icr & 0xFF, icr >> 8 & 7, bool(icr >> 11 & 1)
        asserted, level = icr >> 14 & 1, bool(icr & LEVEL)
        if mode == INIT and level and not asserted:
            return  # the older CPUs' deassert: synchronises arbitration ids, nothing else
        if mode in (FIXED, LOWEST) and vector < 16:
            self._errors |= _ILLEGAL_VECTOR_SENT
            return
        shorthand = icr >> 18 & 3
        destination = icr >> 56
        if shorthand == 0:
            targets = self._bus.find(destination, logical)
        else:
            targets = {1: [self], 2: self._bus.apics}.get(shorthand) or [
                apic for apic in self._bus.apics if apic is not self
            ]
        self._bus.send(targets, mode, vector, level)

    # --- state ------------------------------------------------------------------------------------
    _SAVED = (
        *("base", "apic_id", "tpr", "ldr", "dfr", "svr", "esr", "_errors", "icr", "initial"),
        *("loaded_at", "divide", "irr", "isr", "tmr"),
    )

    def save(self) -> dict[str, bytes]:
        """All registers; every number as bytes, as some have 256 bits."""
        state = {name: _pack(getattr(self, name)) for name in self._SAVED}
        return state | {"lvt": b"".join(entry.to_bytes(4, "little") for entry in self.lvt)}

    def load(self, state: dict[str, bytes]) -> None:
        """Back to what `save` returned; the timer's deadline is the event queue's."""
        for name in self._SAVED:
            setattr(self, name, int.from_bytes(state[name][:32], "little"))
        self.divide &= 0xB
        raw = state["lvt"].ljust(4 * len(_LVTS), b"\0")
        self.lvt = [
            int.from_bytes(raw[4 * n : 4 * n + 4], "little") & _LVT_BITS[n]
            for n in range(len(_LVTS))
        ]
        self.update()


def _pack(value: int) -> bytes:
    return value.to_bytes(max((value.bit_length() + 7) // 8, 1), "little")


class ApicBus:
    """The APICs of one machine, and the device "lapic". `intr` tells whether the 8259s want CPU 0,
    `acknowledge` is their INTA cycle, `end_of_interrupt` gets level-triggered vectors done with."""

    name = "lapic"

    def __init__(
        self,
        clock: Clock,
        events: EventQueue,
        intr: Callable[[], bool],
        acknowledge: Callable[[], int],
    ) -> None:
        self.clock = clock
        self.events = events
        self.intr = intr
        self.acknowledge = acknowledge
        self.end_of_interrupt: Callable[[int], None] = lambda _vector: None
        self.apics: list[LocalApic] = []

    def add(self, cpu: ApicCpu) -> LocalApic:
        """The APIC of the next CPU; APIC ids are CPU ids."""
        apic = LocalApic(self, len(self.apics), cpu)
        self.apics.append(apic)
        apic.reset()
        return apic

    def find(self, destination: int, logical: bool) -> list[LocalApic]:
        """Whom a message to `destination` is for."""
        return [apic for apic in self.apics if apic.matches(destination, logical)]

    def send(self, targets: list[LocalApic], mode: int, vector: int, level: bool) -> None:
        """A message to all of `targets`, to the one with the lowest priority in that mode. Nobody
        answers for an APIC that is not there."""
        if mode == LOWEST:
            targets = sorted(targets, key=lambda apic: apic.ppr)[:1]
        for apic in targets:
            apic.accept(mode, vector, level)

    def reset(self) -> None:
        """All APICs as after power-on."""
        for apic in self.apics:
            apic.reset()

    def mmio_read(self, cpu_id: int, offset: int, size: int) -> int:
        """Registers are 32 bits wide, on addresses that are multiples of 16."""
        apic = self.apics[cpu_id]
        if not apic.base & BASE_ENABLED:
            return (1 << 8 * size) - 1
        if offset & 0xC:
            return 0
        return apic.read(offset & ~0xF) >> 8 * (offset & 3)

    def mmio_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        """Aligned stores of 32 bits count; others are undefined and ignored."""
        apic = self.apics[cpu_id]
        if apic.base & BASE_ENABLED and size == 4 and not offset & 0xF:
            apic.write(offset, value)

    def save(self) -> State:
        """Every APIC's registers under its number."""
        return {
            f"{apic.number}.{key}": value
            for apic in self.apics
            for key, value in apic.save().items()
        }

    def load(self, state: State) -> None:
        """Back to what `save` returned."""
        for apic in self.apics:
            prefix = f"{apic.number}."
            own = {
                key[len(prefix) :]: value
                for key, value in state.items()
                if key.startswith(prefix) and isinstance(value, bytes)
            }
            apic.load(own)
