# SPDX-License-Identifier: GPL-2.0-only
"""Interrupts and exceptions, as the processor delivers them to the guest (SDM volume 3, chapter 6).

`deliver` takes the CPU's registers as a copy (`hidden`) and an `Event`, and does what the silicon
does: the interrupt vector table in real mode, 16- and 32-bit gates in protected mode, 64-bit ones
in long mode; privilege checks for INT n; the stack of the inner level from the task state segment,
or of the interrupt stack table; flags, return address and error code on the stack. An exception on
the way is delivered instead, becomes a double fault where the two add up to one, and ends as a
`TripleFault` when there is no way left. The return is the guest's own IRET, which the engine does.

Nothing but stack memory is touched before all checks are through. A task gate leads to a task of
its own (`tasks`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from machine.hidden import (
    AC,
    CS,
    DESC_B,
    DESC_CODE,
    DESC_CONFORMING,
    DESC_DPL_SHIFT,
    DESC_G,
    DESC_L,
    DESC_P,
    DESC_RW,
    DESC_S,
    DS,
    ES,
    FS,
    GDTR,
    GS,
    IDTR,
    IF,
    LDTR,
    NT,
    RF,
    SS,
    TF,
    TR,
    VM,
)
from machine.linear import CpuException
from machine.tasks import NewTaskFault, enter_task, push_error

if TYPE_CHECKING:
    from machine.hidden import HiddenState
    from machine.linear import LinearMemory

DIVIDE, DEBUG, NMI, BREAKPOINT, OVERFLOW, INVALID_OPCODE = 0, 1, 2, 3, 4, 6
DOUBLE_FAULT, INVALID_TSS, NOT_PRESENT, STACK_FAULT, PROTECTION, PAGE_FAULT = 8, 10, 11, 12, 13, 14
WITH_ERROR_CODE = frozenset((8, 10, 11, 12, 13, 14, 17))
_CONTRIBUTORY = frozenset((DIVIDE, INVALID_TSS, NOT_PRESENT, STACK_FAULT, PROTECTION))
_GATES_PROTECTED = {0x6: 2, 0x7: 2, 0xE: 4, 0xF: 4}
"""Bytes of a push by the gate's type."""
_GATES_LONG = {0xE: 8, 0xF: 8}
_TASK_GATE = 5
_TSS_TYPES_32 = 0x8


@dataclass(frozen=True)
class Event:
    """`vector` with an error code (None: it has none); `software` for INT n, INT3 and INTO,
    `external` for what comes from outside. `rip` is the address to return to, `fault_rip` the
    instruction's own, where an exception on the way leads back to. `address` is CR2."""

    vector: int
    rip: int
    fault_rip: int
    error: int | None = None
    address: int | None = None
    software: bool = False
    external: bool = False


class TripleFault(Exception):  # not an error of ours: never leaves the machine
    """An exception while a double fault is delivered. `missing` when no exception on the way had
    an entry in the table at all."""

    def __init__(self, missing: bool) -> None:
        super().__init__()
        self.missing = missing


def deliver(hidden: HiddenState, linear: LinearMemory, event: Event) -> None:
    """Change the copy to the first instruction of the handler. Raises `TripleFault`."""
    missing = True
    while True:
        try:
            if event.vector == PAGE_FAULT and event.address is not None and not event.software:
                hidden.set_control(2, event.address)
            hidden.rip = event.fault_rip
            _deliver_once(hidden, linear, event)
            return
        except CpuException as error:
            missing = missing and isinstance(error, _NoEntry)
            if event.vector == DOUBLE_FAULT and not event.software:
                raise TripleFault(missing) from None
            event = _next(event, error, hidden.rip)


def _next(first: Event, second: CpuException, now: int) -> Event:
    """What is delivered when `second` came up while `first` was being delivered (SDM, 6-5); `now`
    is where a task that has been switched to begins."""
    rip = now if isinstance(second, NewTaskFault) else first.fault_rip
    exception = not (first.software or first.external)
    again = second.vector in _CONTRIBUTORY
    if exception and (
        (first.vector in _CONTRIBUTORY and again)
        or (first.vector == PAGE_FAULT and (again or second.vector == PAGE_FAULT))
    ):
        return Event(DOUBLE_FAULT, rip, rip, 0)
    error = second.error
    if error is not None and second.vector != PAGE_FAULT and not first.software:
        error |= 1  # external to the program
    return Event(second.vector, rip, rip, error, second.address)


class _NoEntry(CpuException):
    """The interrupt table ends before the entry, or the entry is empty."""


def _deliver_once(hidden: HiddenState, linear: LinearMemory, event: Event) -> None:
    if not hidden.protected:
        _real_mode(hidden, linear, event)
    elif hidden.long_mode:
        _through_gate(hidden, linear, event, 16, _GATES_LONG)
    else:
        _through_gate(hidden, linear, event, 8, _GATES_PROTECTED)
    hidden.inhibited = False


def _real_mode(hidden: HiddenState, linear: LinearMemory, event: Event) -> None:
    _, base, limit, _ = hidden.segment(IDTR)
    if event.vector * 4 + 3 > limit:
        raise _NoEntry(PROTECTION, event.vector * 8 + 2)
    entry = linear.read(hidden, base + event.vector * 4, 4)
    stack = hidden.segment(SS)[1]
    sp = hidden.rsp
    flags = hidden.rflags
    selector, _, limit, code = hidden.segment(CS)
    if sp & 0xFFFF >= 6:
        sp -= 6
        frame = event.rip & 0xFFFF | selector << 16 | (flags & 0xFFFF) << 32
        linear.write(hidden, stack + (sp & 0xFFFF), 6, frame, False)
    else:  # it wraps
        for value in (flags, selector, event.rip):
            sp = (sp & ~0xFFFF) | (sp - 2 & 0xFFFF)
            linear.write(hidden, stack + (sp & 0xFFFF), 2, value, False)
    hidden.rsp = sp
    hidden.set_segment(CS, entry >> 16, entry >> 16 << 4, limit, code)
    hidden.rip = entry & 0xFFFF
    hidden.rflags = flags & ~(IF | TF | AC | RF)


@dataclass(frozen=True)
class _Target:
    """The handler's code segment with the level it runs at."""

    selector: int
    base: int
    limit: int
    flags: int
    level: int
    inner: bool


def _through_gate(
    hidden: HiddenState, linear: LinearMemory, event: Event, size: int, kinds: dict[int, int]
) -> None:
    _, base, limit, _ = hidden.segment(IDTR)
    index = event.vector * 8 + 2
    if event.vector * size + size - 1 > limit:
        raise _NoEntry(PROTECTION, index)
    gate = linear.read(hidden, base + event.vector * size, size)
    kind = gate >> 40 & 0x1F
    task = kind == _TASK_GATE and not hidden.long_mode
    if kind not in kinds and not task:
        raise (CpuException if gate else _NoEntry)(PROTECTION, index)
    if event.software and gate >> 45 & 3 < hidden.cpl:
        raise CpuException(PROTECTION, index)
    if not gate >> 47 & 1:
        raise _NoEntry(NOT_PRESENT, index)
    if task:
        enter_task(hidden, linear, gate >> 16 & 0xFFFF, event.rip)
        if event.error is not None and not event.software:
            push_error(hidden, linear, event.error)
        return
    width = kinds[kind]
    offset = (gate & 0xFFFF) | (gate >> 32 & 0xFFFF0000)
    if width == 2:
        offset &= 0xFFFF
    stack_slot = 0
    if width == 8:
        offset |= gate >> 64 << 32 & 0xFFFFFFFF00000000
        stack_slot = gate >> 32 & 7
    target = _code_segment(hidden, linear, gate >> 16 & 0xFFFF, width)
    if width == 8:
        _enter_long(hidden, linear, event, target, stack_slot)
    else:
        _enter_protected(hidden, linear, event, target, width)
    hidden.set_segment(
        CS,
        target.selector & ~3 | target.level,
        target.base,
        target.limit,
        target.flags,
    )
    hidden.rip = offset
    flags = hidden.rflags & ~(TF | VM | RF | NT)
    hidden.rflags = flags if kind & 1 else flags & ~IF


def read_descriptor(hidden: HiddenState, linear: LinearMemory, selector: int) -> int | None:
    """The eight bytes that `selector` stands for in the GDT or LDT, None beyond the limit."""
    _, base, limit, _ = hidden.segment(LDTR if selector & 4 else GDTR)
    if (selector & ~7) + 7 > limit:
        return None
    return linear.read(hidden, base + (selector & ~7), 8)


def unpack_descriptor(entry: int) -> tuple[int, int, int]:
    """Base, limit in bytes and second word of a segment descriptor."""
    base = (entry >> 16 & 0xFFFFFF) | (entry >> 32 & 0xFF000000)
    limit = (entry & 0xFFFF) | (entry >> 32 & 0xF0000)
    flags = entry >> 32
    return base, limit << 12 | 0xFFF if flags & DESC_G else limit, flags


def _code_segment(hidden: HiddenState, linear: LinearMemory, selector: int, width: int) -> _Target:
    if selector & ~3 == 0:
        raise CpuException(PROTECTION, 0)
    entry = read_descriptor(hidden, linear, selector)
    if entry is None:
        raise CpuException(PROTECTION, selector & ~3)
    base, limit, flags = unpack_descriptor(entry)
    level, cpl = flags >> DESC_DPL_SHIFT & 3, hidden.cpl
    wrong = flags & (DESC_S | DESC_CODE) != DESC_S | DESC_CODE or level > cpl
    if wrong or (width == 8 and flags & (DESC_L | DESC_B) != DESC_L):
        raise CpuException(PROTECTION, selector & ~3)
    if not flags & DESC_P:
        raise CpuException(NOT_PRESENT, selector & ~3)
    if flags & DESC_CONFORMING:
        level = cpl
    return _Target(selector, base, limit, flags, level, level < cpl)


class _Stack:
    """A stack being pushed on."""

    def __init__(
        self, hidden: HiddenState, linear: LinearMemory, base: int, sp: int, mask: int, user: bool
    ) -> None:
        self._hidden = hidden
        self._linear = linear
        self._base = base
        self._mask = mask
        self._user = user
        self.sp = sp

    def push(self, size: int, value: int) -> None:
        self.sp = (self.sp & ~self._mask) | (self.sp - size & self._mask)
        address = self._base + (self.sp & self._mask)
        self._linear.write(self._hidden, address, size, value, self._user)


def _enter_protected(
    hidden: HiddenState, linear: LinearMemory, event: Event, target: _Target, width: int
) -> None:
    v86 = hidden.v86
    if v86 and (not target.inner or target.level != 0):
        raise CpuException(PROTECTION, target.selector & ~3)
    new_stack = _inner_stack(hidden, linear, target.level) if target.inner else None
    if new_stack is None:
        _, base, _, flags = hidden.segment(SS)
        sp = hidden.rsp
    else:
        _, base, _, flags, sp = new_stack
    mask = 0xFFFFFFFF if flags & DESC_B else 0xFFFF
    stack = _Stack(hidden, linear, base, sp, mask, target.level == 3)
    if new_stack is not None:
        if v86:
            for number in (GS, FS, DS, ES):
                stack.push(width, hidden.segment(number)[0])
        stack.push(width, hidden.segment(SS)[0])
        stack.push(width, hidden.rsp)
    stack.push(width, hidden.rflags)
    stack.push(width, hidden.segment(CS)[0])
    stack.push(width, event.rip)
    if event.error is not None and not event.software:
        stack.push(width, event.error)
    if new_stack is not None:
        selector, base, limit, flags, _ = new_stack
        if v86:
            for number in (GS, FS, DS, ES):
                hidden.set_segment(number, 0, 0, 0, 0)
        hidden.set_segment(SS, selector & ~3 | target.level, base, limit, flags)
        hidden.rsp = stack.sp & mask
    else:
        hidden.rsp = stack.sp & 0xFFFFFFFF


def _inner_stack(
    hidden: HiddenState, linear: LinearMemory, level: int
) -> tuple[int, int, int, int, int]:
    """Selector, base, limit, flags and pointer of the stack that the TSS names for `level`."""
    task, base, limit, flags = hidden.segment(TR)
    wide = flags >> 8 & _TSS_TYPES_32
    at = level * 8 + 4 if wide else level * 4 + 2
    if at + (7 if wide else 3) > limit or not flags & DESC_P:
        raise CpuException(INVALID_TSS, task & ~3)
    size = 4 if wide else 2
    sp = linear.read(hidden, base + at, size)
    selector = linear.read(hidden, base + at + size, 2)
    if selector & ~3 == 0 or selector & 3 != level:
        raise CpuException(INVALID_TSS, selector & ~3)
    entry = read_descriptor(hidden, linear, selector)
    if entry is None:
        raise CpuException(INVALID_TSS, selector & ~3)
    base, limit, flags = unpack_descriptor(entry)
    data = flags & (DESC_S | DESC_CODE | DESC_RW) == DESC_S | DESC_RW
    if not data or flags >> DESC_DPL_SHIFT & 3 != level:
        raise CpuException(INVALID_TSS, selector & ~3)
    if not flags & DESC_P:
        raise CpuException(STACK_FAULT, selector & ~3)
    return selector, base, limit, flags, sp


def _enter_long(
    hidden: HiddenState, linear: LinearMemory, event: Event, target: _Target, slot: int
) -> None:
    if target.inner or slot:
        task, base, limit, flags = hidden.segment(TR)
        at = 36 + 8 * (slot - 1) if slot else 4 + 8 * target.level
        if at + 7 > limit or not flags & DESC_P:
            raise CpuException(INVALID_TSS, task & ~3)
        sp = linear.read(hidden, base + at, 8)
    else:
        sp = hidden.rsp
    if sp + (1 << 47) & (1 << 64) - 1 >= 1 << 48:
        raise CpuException(STACK_FAULT, 0)
    stack = _Stack(hidden, linear, 0, sp & ~0xF, (1 << 64) - 1, target.level == 3)
    stack.push(8, hidden.segment(SS)[0])
    stack.push(8, hidden.rsp)
    stack.push(8, hidden.rflags)
    stack.push(8, hidden.segment(CS)[0])
    stack.push(8, event.rip)
    if event.error is not None and not event.software:
        stack.push(8, event.error)
    if target.inner:
        hidden.set_segment(SS, target.level, 0, 0, target.level << DESC_DPL_SHIFT)
    hidden.rsp = stack.sp
