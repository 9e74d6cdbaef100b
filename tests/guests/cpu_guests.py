# SPDX-License-Identifier: GPL-2.0-only
"""Boot sectors that try out the processor: modes, gates, exceptions, timers, other CPUs.

Each is a disk image that begins with a loader for its other sectors, tells on COM1 what it sees, a
letter at a time, and ends halted with interrupts off. `EXPECTED` is what each tells; the tests run
them here, in pieces, and under QEMU."""

from __future__ import annotations

from . import cpu_common
from .cpu_guests_legacy import PAGING, PROTECTED, REAL_MODE, UNREAL, VIRTUAL_86
from .cpu_guests_long import IO_APIC, LOCAL_APIC, LONG_MODE, PIT, SMP
from .cpu_guests_tasks import TASK_FAULTS, TASK_PAGES, TASKS

_GUESTS = {
    "real mode": REAL_MODE,
    "protected mode": PROTECTED,
    "paging": PAGING,
    "long mode": LONG_MODE,
    "unreal mode and A20": UNREAL,
    "virtual-8086 mode": VIRTUAL_86,
    "tasks": TASKS,
    "exceptions that are tasks": TASK_FAULTS,
    "tasks with page tables": TASK_PAGES,
    "PIT": PIT,
    "local APIC": LOCAL_APIC,
    "I/O APIC": IO_APIC,
    "SMP": SMP,
}
GUESTS = tuple(_GUESTS)
EXPECTED = {
    "real mode": b"idOoBbu7tg",
    "protected mode": b"06ug160s040s622g77235g000g000g000g612g000g020ue",
    "paging": b"fB5wfC5rapfB5wfQ5",
    "long mode": b"I41S6f@gl12S5fEkD7cpnr",
    "unreal mode and A20": b"suaA",
    "virtual-8086 mode": b"vs22Vg",
    "tasks": b"-1010j10n1115c10n1115gn1115i10n1115u5AB2e",
    "exceptions that are tasks": b"O711bd@D",
    "tasks with page tables": b"abacad4RdP",
    "PIT": b"ttttte",
    "local APIC": b"ttt-hl=p5lqnI",
    "I/O APIC": b"iiii",
    "SMP": b"123aknbe",
}
"""What each said under QEMU 7.2."""
CPUS = {"SMP": 4}


def image(name: str) -> bytes:
    """The disk image of a guest."""
    return cpu_common.image(_GUESTS[name])
