# SPDX-License-Identifier: GPL-2.0-only
"""A PC for software that nobody here wrote: disk images and Multiboot kernels.

`boot_pc` powers a machine on as a plain PC with a BIOS and enters the boot sector of a disk, or a
Multiboot kernel. All of its RAM is the guest's.

With `kernel` the page allocator is brought up beside the guest: it has the RAM from 16 MiB on, the
guest has what lies below, is told so by INT 15h/E820h (and Multiboot's map), and asks for pages
through its mailbox like any boot script, from whatever mode reaches that. Where the mailbox is,
CPUID says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from firmware import E820Entry, Image, e820_map, power_on
from firmware.bios import Bios, connect_bios, install_bios
from firmware.bios.bios import NOTE_INSTALLED
from firmware.boot_params import KERNEL_START, set_ramdisk
from firmware.e820 import EBDA, MIB, RESERVED, USABLE
from firmware.entry import Module, boot_disk, boot_multiboot
from machine import BringUpError, Machine
from machine.drive import Drive

from .hypercall import Hypercalls

NOTE_KERNEL = "kernel"
LOW_RESERVED = 0x10000
"""Physical bytes from 0 on that the kernel never hands out (trim_low_memory_range())."""


@dataclass(frozen=True)
class PcGuest:
    """A PC with a guest entered. `image` is None for a disk; `kernel` tells whether the page
    allocator answers the doorbell."""

    machine: Machine
    bios: Bios
    hypercalls: Hypercalls
    image: Image | None = None
    kernel: bool = False


def guest_map(machine: Machine, kernel: bool) -> list[E820Entry]:
    """The memory map that the guest is told: the board's own, but for what the kernel has."""
    board = e820_map(machine.topology)
    if not kernel:
        return board
    told = []
    for entry in board:
        if entry.type != USABLE or entry.end <= KERNEL_START:
            told.append(entry)
        elif entry.addr < KERNEL_START:
            told.append(replace(entry, size=KERNEL_START - entry.addr))
            told.append(E820Entry(KERNEL_START, entry.end - KERNEL_START, RESERVED))
        else:
            told.append(replace(entry, type=RESERVED))
    return told


def boot_pc(
    machine: Machine,
    what: Drive | Image,
    append: str = "",
    *,
    kernel: bool = False,
    sink: Callable[[str], None] | None = None,
    modules: Sequence[Module] = (),
) -> PcGuest:
    """POST, then enter the disk or the Multiboot kernel `what` on CPU 0. `append` is the command
    line of a Multiboot kernel, which has `modules`, or, with `kernel`, of the page allocator.

    Raises `ImageError` for an image that does not fit, `UsageError` for the command line,
    `BringUpError` when the machine cannot be brought up."""
    machine.open_bus = True
    hypercalls = Hypercalls(machine)
    if kernel:
        _bring_up(machine, append, hypercalls, sink)
    else:
        power_on(machine)
    e820 = guest_map(machine, kernel)
    if isinstance(what, Drive):
        bios = boot_disk(machine, what, e820)
    else:
        bios = install_bios(machine, e820)
        boot_multiboot(machine, what, "" if kernel else append, e820, modules)
    machine.pc.bios.notes[NOTE_KERNEL] = int(kernel)
    return PcGuest(machine, bios, hypercalls, None if isinstance(what, Drive) else what, kernel)


def resume_pc(machine: Machine) -> PcGuest | None:
    """A PC that comes out of a snapshot, its services connected again; None if it is none."""
    notes = machine.pc.bios.notes
    if not notes.get(NOTE_INSTALLED):
        return None
    machine.open_bus = True
    kernel = bool(notes.get(NOTE_KERNEL))
    bios = connect_bios(machine, guest_map(machine, kernel))
    hypercalls = Hypercalls(machine)
    if kernel:
        hypercalls.install()
    return PcGuest(machine, bios, hypercalls, kernel=kernel)


def _bring_up(
    machine: Machine,
    append: str,
    hypercalls: Hypercalls,
    sink: Callable[[str], None] | None,
) -> None:
    """Start the kernel, with the guest's part of RAM kept from it."""
    from .init_main import start_kernel

    low = f"memmap={EBDA - LOW_RESERVED:#x}${LOW_RESERVED:#x}"
    power_on(machine, f"{low} {append}".strip())
    if not machine.memory.is_ram(MIB, KERNEL_START - MIB):
        raise BringUpError("the guest needs the RAM below 16 MiB, and there is not so much")
    set_ramdisk(machine.memory, MIB, KERNEL_START - MIB)
    booted = start_kernel(machine, sink=sink)
    hypercalls.install(booted.stacks)
