# SPDX-License-Identifier: GPL-2.0-only
"""SYSCALL and SYSENTER, which the engine announces and does not do.

What the instructions do is in the SDM, volume 2; as on Intel's processors, SYSCALL exists in 64-bit
mode only. SYSRET and SYSEXIT are the engine's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machine.hidden import (
    CS,
    IF,
    RF,
    SS,
    VM,
)
from machine.interrupts import INVALID_OPCODE, PROTECTION, Event
from machine.walk import EFER_SCE

if TYPE_CHECKING:
    from machine.hidden import HiddenState
    from machine.registers import Registers

_RCX, _R11 = 1, 11
_CODE_64, _CODE_32, _STACK = 0x00AF9B00, 0x00CF9B00, 0x00CF9300
_FLAT = 0xFFFFFFFF
LENGTH = 2
"""Bytes of either instruction."""


def enter_kernel(hidden: HiddenState, regs: Registers, kind: str) -> Event | None:
    """Do what `kind` ("syscall" or "sysenter") does to the copy, whose RIP is behind it. An event
    instead when it is an exception."""
    own = hidden.rip - LENGTH
    if kind == "syscall":
        if not hidden.code64 or not hidden.efer & EFER_SCE:
            return Event(INVALID_OPCODE, own, own)
        _syscall(hidden, regs)
    else:
        if not hidden.protected or regs.sysenter_cs & ~3 & 0xFFFF == 0:
            return Event(PROTECTION, own, own, 0)
        _sysenter(hidden, regs)
    return None


def _syscall(hidden: HiddenState, regs: Registers) -> None:
    flags = hidden.rflags
    hidden.set_gpr(_RCX, hidden.rip)
    hidden.set_gpr(_R11, flags & ~RF)
    hidden.rflags = flags & ~(regs.sfmask | RF)
    selector = regs.star >> 32 & 0xFFFC
    hidden.set_segment(CS, selector, 0, _FLAT, _CODE_64)
    hidden.set_segment(SS, selector + 8, 0, _FLAT, _STACK)
    hidden.rip = regs.lstar


def _sysenter(hidden: HiddenState, regs: Registers) -> None:
    hidden.rflags &= ~(VM | IF | RF)
    selector = regs.sysenter_cs & 0xFFFC
    wide = hidden.long_mode
    hidden.set_segment(CS, selector, 0, _FLAT, _CODE_64 if wide else _CODE_32)
    hidden.set_segment(SS, selector + 8, 0, _FLAT, _STACK)
    mask = (1 << 64) - 1 if wide else _FLAT
    hidden.rip, hidden.rsp = regs.sysenter_eip & mask, regs.sysenter_esp & mask
