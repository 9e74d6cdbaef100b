# SPDX-License-Identifier: GPL-2.0-only
"""Signals that end processes here, in words (include/uapi/asm-generic/siginfo.h, signal.h).

There are no handlers: a signal is the reason why a process dies. `describe` says it in a line.
"""

from __future__ import annotations

from .fault import (
    BUS_ADRERR,
    BUS_MCEERR_AO,
    BUS_MCEERR_AR,
    SEGV_ACCERR,
    SEGV_MAPERR,
    SI_KERNEL,
    SI_USER,
    SIGBUS,
    SIGFPE,
    SIGILL,
    SIGKILL,
    SIGSEGV,
    SIGTRAP,
    fatal_signal,
)
from .layout import unsigned
from .mm_struct import TASK_FAULT_ADDRESS, TASK_FAULT_CODE

SIGNAL_NAMES = {
    SIGILL: "SIGILL",
    SIGTRAP: "SIGTRAP",
    SIGBUS: "SIGBUS",
    SIGFPE: "SIGFPE",
    SIGKILL: "SIGKILL",
    SIGSEGV: "SIGSEGV",
}
REASONS = {
    (SIGSEGV, SEGV_MAPERR): "address not mapped",
    (SIGSEGV, SEGV_ACCERR): "invalid permissions for the mapping",
    (SIGSEGV, SI_KERNEL): "general protection",
    (SIGBUS, BUS_ADRERR): "no such page in the file",
    (SIGBUS, BUS_MCEERR_AR): "hardware memory error",
    (SIGBUS, BUS_MCEERR_AO): "hardware memory error in its memory",
    (SIGKILL, SI_KERNEL): "out of memory",
    (SIGKILL, SI_USER): "killed",
    (SIGILL, SI_KERNEL): "illegal instruction",
    (SIGFPE, SI_KERNEL): "arithmetic exception",
    (SIGTRAP, SI_KERNEL): "trap",
}
VECTOR_SIGNALS = {0: SIGFPE, 1: SIGTRAP, 3: SIGTRAP, 4: SIGSEGV, 6: SIGILL, 16: SIGFPE, 19: SIGFPE}
"""Exceptions that mean something other than SIGSEGV to a process."""


def signal_name(signal: int) -> str:
    """ "SIGSEGV" for 11."""
    return SIGNAL_NAMES.get(signal, f"signal {signal}")


def death_of(m: memoryview, task: int) -> str:
    """Why a task dies that has a fatal signal pending."""
    signal = fatal_signal(m, task)
    return describe(signal, m[task + TASK_FAULT_CODE], m[task + TASK_FAULT_ADDRESS])


def describe(signal: int, code: int, address: int) -> str:
    """Why a process died: signal, address (signed or not) and reason."""
    reason = REASONS.get((signal, code), f"code {code}")
    return f"{signal_name(signal)} at {unsigned(address):#x}: {reason}"
