# SPDX-License-Identifier: GPL-2.0-only
"""A machine that comes out of a snapshot gets its kernel's hands back.

All the kernel knows is in guest RAM, so nothing is set up anew: `resume` looks whether a booted
kernel is there and answers the doorbell for it, and the guest goes on behind the instruction it was
stopped at. Used by `numalab resume` and whoever loads snapshots from Python:

    kernel = resume_kernel(load_snapshot("full.snap"))
    kernel.alloc_pages("GFP_KERNEL")
    kernel.machine.run()
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware import Image
from machine import Machine

from .hypercall import Hypercalls
from .kernel import Kernel
from .layout import mailbox_phys


@dataclass(frozen=True)
class Resumed:
    """A machine whose kernel answers again. `image` is None: which file the guest's code once came
    from is not in its RAM."""

    machine: Machine
    kernel: Kernel
    hypercalls: Hypercalls
    image: Image | None = None


def resume(machine: Machine) -> Resumed:
    """Connect the kernel in the machine's RAM. No byte of RAM changes, nor does the clock.

    Raises BringUpError when no kernel, or one of another layout, is there."""
    kernel = Kernel.attach(machine.memory, machine)
    hypercalls = Hypercalls(machine)
    machine.mailbox_address = mailbox_phys
    machine.doorbell.handler = hypercalls.ring
    hypercalls.processes.install()
    return Resumed(machine, kernel, hypercalls)


def resume_kernel(machine: Machine) -> Kernel:
    """`resume` for those who want to talk to the kernel; the doorbell keeps the rest alive."""
    return resume(machine).kernel
