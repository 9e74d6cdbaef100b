# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""A PC's devices, put on the buses of a machine and wired to its interrupt lines.

`attach_devices` is called once by the machine; `Pc` is what it keeps as `machine.pc`. A device gets
the little it needs of the machine (time, its interrupt, the reset line) and knows nothing else of
it, so each can be tried on its own. Port 92h, which has only A20 and the fast reset, is here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from machine.acpipm import AcpiPm
from machine.ata import AtaChannel
from machine.biosport import BiosPort
from machine.bus import State
from machine.cmos import Cmos
from machine.devstate import ISA_ACCESS_NS, Alarm
from machine.drive import Drive
from machine.hpet import HPET_BASE, HPET_SIZE, Hpet
from machine.keyboard import Keyboard
from machine.pci import ECAM_SIZE, Ecam, PciHost
from machine.pic import PicPair
from machine.pit import Pit
from machine.vga import TextScreen, Vga

if TYPE_CHECKING:
    from machine.board import Board

PORT_92 = 0x92
IRQ_TIMER, IRQ_KEYBOARD, IRQ_COM1, IRQ_CLOCK = 0, 1, 4, 8
ECAM_BASE = 0xB0000000
FIRST_DISK = 0x80
ATA_PORTS = ((0x1F0, 0x3F6, 14), (0x170, 0x376, 15))
"""Registers, control register, interrupt. The Q35 board has no such channels."""


class _Time:
    """The machine's time, as devices see it."""

    def __init__(self, machine: Board) -> None:
        self._clock, self._events = machine.clock, machine.events

    @property
    def now(self) -> int:
        """Modelled time in ns."""
        return self._clock.now

    def spend(self) -> None:
        """An access to a register on the ISA bus has taken its time."""
        self._clock.advance(ISA_ACCESS_NS)

    def timer(self, name: str, callback: Callable[[], None]) -> Alarm:
        """A timer of the event queue."""
        return self._events.timer(name, callback)


class Pc:
    """The devices by name."""

    def __init__(self, machine: Board) -> None:
        time = _Time(machine)
        kind = machine.topology.machine_type
        irq = machine.irq
        self.pic = PicPair(time)
        self.pit = Pit(time)
        self.cmos = Cmos(time, machine.topology)
        self.keyboard = Keyboard(
            time,
            lambda: machine.a20,
            lambda on: setattr(machine, "a20", on),
            lambda: machine.request_reset("the keyboard controller pulled the reset line"),
        )
        self.vga = Vga(time)
        self.screen = TextScreen(machine.memory, self.vga)
        self.hpet = Hpet(time, irq.set)
        self.power = AcpiPm(time, lambda: machine.stop("exit", 0, "the guest switched it off"))
        self.pci = PciHost(
            kind, lambda: machine.request_reset("the reset control register, port CF9h")
        )
        self.bios = BiosPort()
        self.ata: tuple[AtaChannel, ...] = ()
        if kind == "pc":
            self.ata = tuple(self._ata(time, channel) for channel in range(len(ATA_PORTS)))
        self._wire(machine)

    def _ata(self, time: _Time, channel: int) -> AtaChannel:
        """A channel, with two of the hard disks."""

        def drive(unit: int) -> Drive | None:
            return self.bios.drives.get(FIRST_DISK + 2 * channel + unit)

        return AtaChannel(f"ata{channel}", time, drive)

    def _wire(self, machine: Board) -> None:
        ports, irq = machine.ports, machine.irq
        for device in (self.pic, self.pit, self.cmos, self.keyboard, self.vga, self.power):
            device.attach(ports)
        self.pci.attach(ports)
        self.bios.attach(ports)
        ports.attach(PORT_92, 1, _Port92(machine))
        for ata, (first, control, line) in zip(self.ata, ATA_PORTS, strict=False):
            ata.attach(ports, first, control)
            ata.irq.connect(partial(irq.set, line))
        machine.mmio.attach(HPET_BASE, HPET_SIZE, self.hpet)
        if machine.topology.machine_type == "q35":
            machine.mmio.attach(ECAM_BASE, ECAM_SIZE, Ecam(self.pci))
        irq.attach_pic(self.pic)
        self.pic.intr.connect(lambda _level: irq.intr_changed())

        def timer(level: int) -> None:
            if not self.hpet.legacy:
                irq.set(IRQ_TIMER, level)

        def clock(level: int) -> None:
            if not self.hpet.legacy:
                irq.set(IRQ_CLOCK, level)

        self.pit.output.connect(timer)
        self.cmos.irq.connect(clock)
        self.keyboard.irq.connect(lambda level: irq.set(IRQ_KEYBOARD, level))
        machine.serial.irq.connect(lambda level: irq.set(IRQ_COM1, level))


class _Port92:
    """System control port A: fast reset and A20."""

    name = "port92"
    width = 1

    def __init__(self, machine: Board) -> None:
        self._machine = machine
        self._value = 0

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        return self._value & ~3 | (2 if self._machine.a20 else 0)

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._value = value
        self._machine.a20 = bool(value & 2)
        if value & 1:
            self._machine.request_reset("port 92h, fast reset")

    def reset(self) -> None:
        """Power-on state."""
        self._value = 0

    def save(self) -> State:
        return {"value": self._value}

    def load(self, state: State) -> None:
        value = state["value"]
        self._value = value & 0xFF if isinstance(value, int) else 0


def attach_devices(machine: Board) -> Pc:
    """Build the devices of a PC and attach them to `machine`."""
    return Pc(machine)
