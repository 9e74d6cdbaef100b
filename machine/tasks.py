# SPDX-License-Identifier: GPL-2.0-only
"""Task switches by an interrupt or exception whose gate names a task (SDM volume 3, chapter 7).

The processor puts the registers of the running task into its task state segment (TSS), takes those
of the new one from its, marks that as busy and as nested in the old one, and goes on where it
stopped last: a handler with a stack and an address space of its own, which is what a double fault
needs. JMP, CALL and IRET switch, too, but the engine does those itself (QEMU's switch_tss_ra,
target/i386/seg_helper.c); the order of checks here is the same.

Up to the commit point, where the TR register changes, an exception belongs to the old task and
nothing of it has changed; after that it belongs to the new one (`NewTaskFault`)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from machine.hidden import (
    CS,
    DESC_B,
    DESC_CODE,
    DESC_CONFORMING,
    DESC_DPL_SHIFT,
    DESC_P,
    DESC_RW,
    DESC_S,
    DS,
    ES,
    FS,
    GS,
    LDTR,
    NT,
    SS,
    TR,
    VM,
)
from machine.linear import CpuException

if TYPE_CHECKING:
    from machine.hidden import HiddenState
    from machine.linear import LinearMemory

INVALID_TSS, NOT_PRESENT, STACK_FAULT, PROTECTION = 10, 11, 12, 13
_AVAILABLE, _WIDE, _BUSY = 1, 8, 2
_LDT = 2
_IN_GDT = 4
"""Clear in selectors of the GDT."""
_CR0_TS, _CR0_PG = 1 << 3, 1 << 31
_FLAGS = 0x3F7FD7
"""Flags that can be taken from a TSS."""
_V86_DATA = DESC_P | DESC_S | DESC_RW | 1 << 8 | 3 << DESC_DPL_SHIFT
_ORDER = (ES, CS, SS, DS, FS, GS)
_STATE_32 = struct.Struct("<II8I6I")
"""EIP, EFLAGS, EAX ... EDI, ES ... GS: what is saved, from byte 32 on."""
_STATE_16 = struct.Struct("<HH8H4H")
_AT_32, _AT_16 = 32, 14


@dataclass(frozen=True)
class _State:
    """What a TSS says. `cr3` is None in a 16-bit one; `selectors` in the order of `_ORDER`."""

    eip: int
    eflags: int
    general: tuple[int, ...]
    selectors: tuple[int, ...]
    ldt: int
    cr3: int | None


class NewTaskFault(CpuException):
    """An exception of the new task, before its first instruction."""


def enter_task(hidden: HiddenState, linear: LinearMemory, selector: int, rip: int) -> None:
    """Switch to the task that `selector` stands for, nested in the one that runs, which will go on
    at `rip`. Raises `CpuException`; after the commit point `NewTaskFault`."""
    from machine.interrupts import read_descriptor, unpack_descriptor

    if selector & _IN_GDT:
        raise CpuException(INVALID_TSS, selector & ~3)
    entry = read_descriptor(hidden, linear, selector) if selector & ~3 else None
    if entry is None:
        raise CpuException(PROTECTION, selector & ~3)
    base, limit, flags = unpack_descriptor(entry)
    if flags & DESC_S or flags >> 8 & 7 != _AVAILABLE:
        raise CpuException(PROTECTION, selector & ~3)
    if not flags & DESC_P:
        raise CpuException(NOT_PRESENT, selector & ~3)
    wide = bool(flags >> 8 & _WIDE)
    if limit < (103 if wide else 43):
        raise CpuException(INVALID_TSS, selector & ~3)
    new = _read(hidden, linear, base, wide)
    _save(hidden, linear, rip)
    linear.write(hidden, base, 2, hidden.segment(TR)[0], False)
    table = hidden.segment(8)[1] + (selector & ~7)
    linear.write(hidden, table + 4, 4, flags | _BUSY << 8, False)
    hidden.set_segment(TR, selector, base, limit, flags | _BUSY << 8)
    hidden.set_control(0, hidden.control(0) | _CR0_TS)
    try:
        _load(hidden, linear, new, wide)
    except CpuException as error:
        raise NewTaskFault(error.vector, error.error, error.address) from None


def saved_rip(hidden: HiddenState, linear: LinearMemory) -> int:
    """Where the task in TR began when it was last switched to."""
    _, base, _, flags = hidden.segment(TR)
    wide = flags >> 8 & _WIDE
    return linear.read(hidden, base + (_AT_32 if wide else _AT_16), 4 if wide else 2)


def push_error(hidden: HiddenState, linear: LinearMemory, error: int) -> None:
    """The error code of an exception, on the stack of the task that has just been entered."""
    size = 4 if hidden.segment(TR)[3] >> 8 & _WIDE else 2
    _, base, _, flags = hidden.segment(SS)
    mask = 0xFFFFFFFF if flags & DESC_B else 0xFFFF
    sp = hidden.rsp - size & mask
    try:
        linear.write(hidden, base + sp, size, error, hidden.cpl == 3)
    except CpuException as fault:
        raise NewTaskFault(fault.vector, fault.error, fault.address) from None
    hidden.rsp = hidden.rsp & ~mask & 0xFFFFFFFF | sp


def _read(hidden: HiddenState, linear: LinearMemory, base: int, wide: bool) -> _State:
    """The state in the TSS at linear `base`."""
    form, at = (_STATE_32, _AT_32) if wide else (_STATE_16, _AT_16)
    data = linear.read(hidden, base + at, form.size).to_bytes(form.size, "little")
    eip, eflags, *rest = form.unpack(data)
    general, selectors = rest[:8], rest[8:]
    if wide:
        ldt, cr3 = linear.read(hidden, base + 0x60, 2), linear.read(hidden, base + 28, 4)
        selectors = [selector & 0xFFFF for selector in selectors]
        return _State(eip, eflags, tuple(general), tuple(selectors), ldt, cr3)
    general = [value | 0xFFFF0000 for value in general]
    ldt = linear.read(hidden, base + 42, 2)
    return _State(eip, eflags, tuple(general), (*selectors, 0, 0), ldt, None)


def _save(hidden: HiddenState, linear: LinearMemory, rip: int) -> None:
    """Put the running task into its TSS."""
    _, base, _, flags = hidden.segment(TR)
    general = [hidden.gpr(number) for number in range(8)]
    selectors = [hidden.segment(number)[0] for number in _ORDER]
    if flags >> 8 & _WIDE:
        values = [value & 0xFFFFFFFF for value in (rip, hidden.rflags, *general)]
        data, at = _STATE_32.pack(*values, *selectors), _AT_32
    else:
        values = [value & 0xFFFF for value in (rip, hidden.rflags, *general)]
        data, at = _STATE_16.pack(*values, *selectors[:4]), _AT_16
    linear.write(hidden, base + at, len(data), int.from_bytes(data, "little"), False)


def _load(hidden: HiddenState, linear: LinearMemory, new: _State, wide: bool) -> None:
    """Take over the new task's registers; what its selectors stand for is looked up last."""
    if new.cr3 is not None and hidden.control(0) & _CR0_PG:
        hidden.set_control(3, new.cr3)
    hidden.rip = new.eip
    mask = _FLAGS if wide else _FLAGS & 0xFFFF
    hidden.rflags = new.eflags & mask | hidden.rflags & ~_FLAGS & 0xFFFFFFFF | NT
    for number, value in enumerate(new.general):
        hidden.set_gpr(number, value)
    v86 = bool(wide and new.eflags & VM)
    for number, selector in zip(_ORDER, new.selectors, strict=True):
        # Real values for virtual-8086 mode; otherwise unusable until they are looked up.
        told = (selector, selector << 4, 0xFFFF, _V86_DATA) if v86 else (selector, 0, 0, 0)
        hidden.set_segment(number, *told)
    _load_ldt(hidden, linear, new.ldt)
    if not v86:
        level = new.selectors[1] & 3
        for number in (CS, SS, ES, DS, FS, GS):
            _load_segment(hidden, linear, number, new.selectors[_ORDER.index(number)], level)
    if new.eip > hidden.segment(CS)[2]:
        raise CpuException(PROTECTION, 0)


def _load_ldt(hidden: HiddenState, linear: LinearMemory, selector: int) -> None:
    from machine.interrupts import read_descriptor, unpack_descriptor

    hidden.set_segment(LDTR, selector, 0, 0, 0)
    if selector & _IN_GDT:
        raise CpuException(INVALID_TSS, selector & ~3)
    if not selector & ~3:
        return
    entry = read_descriptor(hidden, linear, selector)
    flags = 0 if entry is None else entry >> 32
    if entry is None or flags & DESC_S or flags >> 8 & 0xF != _LDT or not flags & DESC_P:
        raise CpuException(INVALID_TSS, selector & ~3)
    base, limit, flags = unpack_descriptor(entry)
    hidden.set_segment(LDTR, selector, base, limit, flags)


def _load_segment(
    hidden: HiddenState, linear: LinearMemory, number: int, selector: int, level: int
) -> None:
    """Look up one selector (SDM volume 3, table 7-1)."""
    from machine.interrupts import read_descriptor, unpack_descriptor

    bad = CpuException(INVALID_TSS, selector & ~3)
    if not selector & ~3:
        if number in (CS, SS):
            raise bad
        return
    entry = read_descriptor(hidden, linear, selector)
    if entry is None:
        raise bad
    base, limit, flags = unpack_descriptor(entry)
    rpl, dpl = selector & 3, flags >> DESC_DPL_SHIFT & 3
    code, conforming = bool(flags & DESC_CODE), bool(flags & DESC_CODE and flags & DESC_CONFORMING)
    if not flags & DESC_S:
        raise bad
    if number == CS:
        wrong = not code or (dpl > rpl if conforming else dpl != rpl)
    elif number == SS:
        wrong = code or not flags & DESC_RW or dpl != level or dpl != rpl
    else:
        wrong = (code and not flags & DESC_RW) or (not conforming and dpl < max(level, rpl))
    if wrong:
        raise bad
    if not flags & DESC_P:
        raise CpuException(STACK_FAULT if number == SS else NOT_PRESENT, selector & ~3)
    hidden.set_segment(number, selector, base, limit, flags)
