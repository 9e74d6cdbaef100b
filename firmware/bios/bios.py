# SPDX-License-Identifier: GPL-2.0-only
"""The BIOS of a machine: its services connected, POST run, a boot sector entered.

`install_bios(machine)` after `firmware.power_on` makes the machine a PC that boots: the ROM, vector
table and BIOS data area are in RAM, the interrupt controllers, timer and clock are programmed as a
BIOS leaves them, the BIOS port answers, and a reset goes through POST again. `Bios.boot()` enters
the boot sector. `connect_bios` only connects the services, for a machine that comes out of a
snapshot and has all the rest in it."""

from __future__ import annotations

from collections.abc import Sequence

from firmware.bios import bda, rom
from firmware.bios.boards import Boards
from firmware.bios.bootstrap import Bootstrap
from firmware.bios.call import Call, Service
from firmware.bios.disk import Disks
from firmware.bios.keys import Keys
from firmware.bios.post import set_up
from firmware.bios.system import System
from firmware.bios.timeofday import TimeOfDay
from firmware.bios.video import Video
from firmware.e820 import E820Entry, e820_map
from machine import Machine
from machine.cmos import SHUTDOWN

_JUMP_CODES = (0x05, 0x0A)
"""Shutdown codes that ask for a jump through 0040:0067 in place of POST; the first acknowledges
interrupts before."""
NOTE_INSTALLED = "installed"


class Bios:
    """The services of one machine, and its POST."""

    def __init__(self, machine: Machine, e820: Sequence[E820Entry]) -> None:
        self.machine = machine
        self.video = Video(machine)
        self.disks = Disks(machine)
        self.keys = Keys(machine)
        self.time = TimeOfDay(machine)
        self.bootstrap = Bootstrap(machine, self.video)
        boards = Boards(machine)
        self.services: dict[int, Service] = {
            rom.TIMER_TICK: self.time.tick, rom.KEYBOARD: self.keys.interrupt, 0x10: self.video,
            0x11: boards.equipment, 0x12: boards.memory_size, 0x13: self.disks,
            0x14: boards.serial, 0x15: System(machine, e820), 0x16: self.keys,
            0x17: boards.printer, rom.NO_BOOT: self.bootstrap.nothing, rom.BOOT: self.bootstrap,
            0x1A: self.time, rom.POST: self._restart,
        }  # fmt: skip

    def handle(self, cpu_id: int) -> None:
        """A CPU has written to the BIOS port. Only the ROM's own stubs are served."""
        cpu = self.machine.cpus[cpu_id]
        if cpu.mode not in ("real", "v86"):
            return
        call = Call(self.machine, cpu)
        service = self.services.get(call.number >> 1)
        if call.cs == rom.ROM_SEGMENT and service is not None:
            call.finish(service(call))

    def post(self) -> None:
        """Memory and devices as a boot sector finds them."""
        set_up(self.machine, self.video, self.time)

    def boot(self) -> None:
        """Enter the boot sector."""
        self.bootstrap.start()

    def reset(self) -> None:
        """What follows a reset: POST and boot, or the jump that the guest has asked for."""
        cmos, memory = self.machine.pc.cmos, self.machine.memory
        code = cmos[SHUTDOWN]
        cmos[SHUTDOWN] = 0
        if code in _JUMP_CODES:
            if code == _JUMP_CODES[0]:
                for port in (0xA0, 0x20):
                    self.machine.ports.write(0, port, 1, 0x20)
            offset, segment = memory.read_u16(bda.JUMP), memory.read_u16(bda.JUMP + 2)
            self.machine.cpus[0].start_real(segment, offset, rflags=2)
            return
        self.post()
        self.boot()

    def _restart(self, call: Call) -> int:
        """A jump to the reset vector."""
        call.machine.request_reset("a jump to the reset vector")
        return 0


def connect_bios(machine: Machine, e820: Sequence[E820Entry] | None = None) -> Bios:
    """Let the BIOS port answer; RAM and devices stay as they are. `e820` is the map INT 15h tells,
    usually the board's own."""
    bios = Bios(machine, e820_map(machine.topology) if e820 is None else e820)
    machine.pc.bios.handler = bios.handle
    machine.on_reset = bios.reset
    return bios


def install_bios(machine: Machine, e820: Sequence[E820Entry] | None = None) -> Bios:
    """Make `machine`, whose drives are plugged in, a PC that has been through POST."""
    bios = connect_bios(machine, e820)
    machine.pc.bios.notes[NOTE_INSTALLED] = 1
    bios.post()
    return bios
