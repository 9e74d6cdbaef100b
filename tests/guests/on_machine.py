# SPDX-License-Identifier: GPL-2.0-only
"""Guests run to their end on numalab's PC."""

from __future__ import annotations

from dataclasses import dataclass

from allocator.pc_run import run_pc
from firmware import power_on
from firmware.bios import Bios, scan_codes
from firmware.entry import boot_disk
from machine import Machine, Stop, Topology
from machine.drive import Drive

BUDGET = 5_000_000


@dataclass(frozen=True)
class Ran:
    """A machine at the end, and how it came there."""

    machine: Machine
    bios: Bios
    stop: Stop

    @property
    def rip(self) -> int:
        """CPU 0's instruction pointer, linear."""
        return place(self.machine, 0)


def place(machine: Machine, cpu: int) -> int:
    """The linear address at which a CPU is."""
    which = machine.cpus[cpu]
    return which.linear("cs", which.rip)


def booted(image: bytes, numa: str = "1x128M", floppy: bool = False, keys: str = "") -> Ran:
    """`image` entered on a PC, not yet run."""
    machine = Machine(Topology.parse(numa))
    machine.open_bus = True
    power_on(machine)
    bios = boot_disk(machine, Drive(image, floppy=floppy))
    machine.pc.keyboard.press(scan_codes(keys))
    return Ran(machine, bios, Stop("budget", 0, 0, 0, 0, ""))


def run(
    image: bytes, numa: str = "1x128M", floppy: bool = False, keys: str = "", reboot: bool = False
) -> Ran:
    """`image` run to its end on a PC."""
    guest = booted(image, numa, floppy, keys)
    guest.machine.no_reboot = not reboot
    return Ran(guest.machine, guest.bios, run_pc(guest.machine, BUDGET))
