# SPDX-License-Identifier: GPL-2.0-only
"""Two clocks that say the same: the machine's, and the word in which the kernel keeps its time.

The kernel lets time pass by itself when it waits for a disk. Whoever enters it from the machine
brings its word up to the machine's clock, and whoever leaves brings the machine's clock up to it;
neither ever goes back. A guest that scribbles on the word does not get far: a time that lies too
far ahead to have been waited for is not believed.
"""

from __future__ import annotations

from machine import Machine

from .kernel_globals import G_CLOCK

FARTHEST = 1 << 50
"""How far the kernel's time may be ahead, ns: 13 days."""


def enter_kernel(machine: Machine) -> None:
    """The kernel's time is the machine's, or later where it has waited."""
    m = machine.memory.words
    now = machine.clock.now
    if now < m[G_CLOCK] < now + FARTHEST:
        machine.clock.advance(m[G_CLOCK] - now)
    else:
        m[G_CLOCK] = now


def leave_kernel(machine: Machine) -> None:
    """What the kernel has waited for has passed for the machine, too, and what its disk has written
    is in the host's file if there is one."""
    ahead = machine.memory.words[G_CLOCK] - machine.clock.now
    if 0 < ahead < FARTHEST:
        machine.clock.advance(ahead)
    if machine.host_disk is not None:
        machine.host_disk.write_out()
