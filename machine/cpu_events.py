# SPDX-License-Identifier: GPL-2.0-only
"""Exceptions, interrupts and messages, as they come to a virtual CPU.

What ended the engine's run is explained as a `Fault` for people and as an `Event` for the guest,
which `interrupts` delivers; what waits in the local APIC is taken when the flags allow it; INIT and
start-up messages, system calls and the registers that the engine does not have are dealt with."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from machine import mmu
from machine.cpu_core import U64, CpuCore, SliceEnd
from machine.fault import Fault, vector_name
from machine.linear import CpuException
from machine.mmu import FETCH, REASONS, page_fault_error

if TYPE_CHECKING:
    from machine.interrupts import Event

_MSR_APIC_BASE, _MSR_TSC = 0x1B, 0x10
_UNDEFINED = 6
_INTERRUPTS_ON = 1 << 9
_CS, LDT_NUMBER, GDT_NUMBER = 1, 6, 8
"""Numbers of segment registers in `hidden`."""
USER = 3
_SEGMENT_LOAD = re.compile(
    rb"[\x26\x2e\x36\x3e\x40-\x4f\x64-\x67]*"
    rb"([\x8e\x07\x17\x1f\xcf\xca\xcb\x9a\xea\xc4\xc5\xff]|\x0f[\xa1\xa9\xb2\xb4\xb5\x00\x02\x03])"
)
"""Instructions that read descriptors."""
_TASK_SWITCH = re.compile(rb"[\x26\x2e\x36\x3e\x64-\x67]*(?:\xcf|\xea|\x9a|\xff)")
_PRESENT = 0x8000
MANY_ACCESSES = 16_384
"""Port accesses after which a slice ends early."""
FEW_ACCESSES = 256
"""The same while CPUs run in threads: others wait to be alone, or for the end of the run."""


class CpuEvents(CpuCore):
    """A CPU that can be interrupted."""

    @abstractmethod
    def start_real(
        self, cs: int, ip: int, rflags: int = 0x202, *, fresh: bool = False, **registers: int
    ) -> None:
        """See `vcpu.VCPU`."""

    # --- exceptions ----------------------------------------------------------------------------
    def _explain(self, status: int) -> tuple[Fault, int]:
        """The fault, and how many of the instructions begun it kept from retiring (0 or 1); leaves
        in `_event` what the guest would be told."""
        from machine.engine import INVALID_INSTRUCTION

        self._event = None
        if status == INVALID_INSTRUCTION or self._vector is not None:
            return self._explain_exception(_UNDEFINED if self._vector is None else self._vector)
        rip = self.regs.rip
        if self._refusal is None:
            return Fault(self.cpu_id, rip, f"the engine gave up (error {status})"), 1
        return self._explain_access(rip, *self._refusal)

    def _explain_exception(self, vector: int) -> tuple[Fault, int]:
        from machine.interrupts import DEBUG, INVALID_OPCODE, WITH_ERROR_CODE, Event

        hidden = self.hidden
        hidden.load()
        rip = own = hidden.rip
        software = hidden.software and self._vector is not None
        error = None
        if software:
            base = hidden.segment(_CS)[1]
            own -= 1 if self.code(base + rip - 1, 1) in (b"\xcc", b"\xce") else 2
        elif vector in WITH_ERROR_CODE:
            error = hidden.error_code
        elif vector == INVALID_OPCODE and self.code(hidden.segment(_CS)[1] + rip, 1) == b"\xf1":
            vector, software, rip = DEBUG, True, rip + 1  # ICEBP, which the engine does not know
        self._event = Event(vector, rip, own, error, software=software)
        reason = f"{vector_name(vector)}, there is no handler"
        fault = Fault(self.cpu_id, rip, reason, vector=vector)
        return fault, 0 if software or vector == DEBUG else 1

    def _explain_access(self, rip: int, code: int, access: int) -> tuple[Fault, int]:
        from machine.interrupts import INVALID_OPCODE, PAGE_FAULT, PROTECTION, Event

        assert self._engine is not None
        va = self._engine.fault_address
        reason = REASONS[code]
        hidden = self.hidden
        hidden.load()
        error = page_fault_error(code, access, hidden.cpl == USER)
        bus = code in (mmu.BUS_PAGE, mmu.BUS_TABLE)
        if code == mmu.BUS_PAGE and (where := self.translate(va)) is not None:
            reason = f"bus error: no RAM at physical {where:#x}"
        fault = Fault(self.cpu_id, rip, reason, mmu.ACCESS_NAMES[access], va, error)
        if code == mmu.NON_CANONICAL:
            self._event = Event(PROTECTION, rip, rip, 0)
        elif not bus:
            self._event = Event(PAGE_FAULT, rip, rip, error, va)
        elif self.mmio.open_bus:
            # All ones: as code an undefined instruction, as a table an entry with reserved bits.
            page_fault = Event(PAGE_FAULT, rip, rip, error | 9, va)
            fetch = Event(INVALID_OPCODE, rip, rip)
            self._event = fetch if code == mmu.BUS_PAGE else page_fault
        # A fetch fault comes while translating, before the instruction is begun.
        return fault, 0 if access == FETCH else 1

    def _reads_descriptor(self) -> bool:
        """The fault is a segment load of user mode that found its descriptor on a page for the
        kernel only: the processor reads those with its own rights, and the engine does not say
        that it was the processor."""
        if self._refusal is None or self._refusal[0] != mmu.PROTECTION or self.privileged:
            return False
        assert self._engine is not None
        hidden, va = self.hidden, self._engine.fault_address
        hidden.load()
        if hidden.cpl != USER:
            return False
        tables = (hidden.segment(GDT_NUMBER), hidden.segment(LDT_NUMBER))
        if not any(base <= va <= base + limit for _, base, limit, _ in tables):
            return False
        code = self.code(hidden.segment(_CS)[1] + hidden.rip, 15)
        return bool(_SEGMENT_LOAD.match(code))

    def may_use_port(self, port: int, size: int) -> bool:
        """From a port's hook in user mode: whether IOPL or the bitmap of the TSS allow it (SDM
        volume 1, 19.5). If not, the instruction will not have happened."""
        from machine.portrights import port_allowed

        if not port_allowed(self.hidden, self._linear, port, size):
            # The copy of the registers as they are now is put back when the engine has been left.
            self._denied = self._restart = True
        return not self._denied

    def _refuse_port(self) -> SliceEnd:
        from machine.interrupts import PROTECTION, Event

        self.hidden.store()
        rip = self.hidden.rip
        self._event = Event(PROTECTION, rip, rip, 0)
        reason = f"{vector_name(PROTECTION)}, there is no handler"
        self.fault = Fault(self.cpu_id, rip, reason, vector=PROTECTION)
        return SliceEnd.FAULT

    def deliver(self) -> bool:
        """After a slice that ended with a fault: hand it to the guest's own handler. False when
        there is none; the CPU stays as it is."""
        self._done = 0
        if self.state != "faulted" or not self._deliver_event():
            return False
        self._be_running()
        return True

    def _deliver_event(self) -> bool:
        event, self._event = self._event, None
        if event is None:
            self._forget_exception()
            return False
        stuck = self.retired + self._done == self._delivered_at
        delivered = self._deliver(event)
        if delivered and stuck:
            self._done += 1
        self._delivered_at = self.retired + self._done
        return delivered

    def _deliver(self, event: Event) -> bool:
        """Let the guest's handler for `event` run next. False when that is a triple fault, for
        which `fault` then says so."""
        from machine.hidden import TR
        from machine.interrupts import TripleFault, deliver

        hidden = self.hidden
        hidden.load()
        hidden.forget_exception()
        self._linear.a20 = self.a20_mask
        tables, task = hidden.control(3), hidden.segment(TR)
        try:
            deliver(hidden, self._linear, event)
        except TripleFault as triple:
            self._forget_exception()
            what = vector_name(event.vector)
            fault = self.fault or Fault(self.cpu_id, event.rip, what, vector=event.vector)
            if not (triple.missing and hidden.protected):
                ending = f"{what if fault.va is None else fault.reason}: triple fault"
                fault = Fault(
                    fault.cpu_id,
                    fault.rip,
                    ending,
                    fault.access,
                    fault.va,
                    fault.error_code,
                    fault.vector,
                )
            self.fault = fault
            self.triple_faulted = True
            return False
        hidden.store()
        if hidden.control(3) != tables and self._engine is not None:
            self._engine.flush_tlb()
        if hidden.segment(TR) != task:
            self.task_loaded()
        self.fault = None
        self.exceptions += not (event.software or event.external)
        return True

    triple_faulted = False
    """The last fault would have reset a real machine."""

    def _forget_exception(self) -> None:
        hidden = self.hidden
        hidden.load()
        hidden.forget_exception()
        hidden.store()

    def watch_task(self) -> None:
        """From the fill hook, outside of long mode: is this in the middle of a task switch? The
        engine sets RIP back to the instruction under way whenever it asks for a page, so that a
        CALL, JMP or IRET which has already set it to the new task's would be done again: it is
        put right behind the instruction."""
        task = self._current_task()
        if task != self._task:
            self._task = task
            if self._engine is not None and self._inside:
                self._switched_at = self.regs.rip
                self._restart = True
                self._engine.leave_soon()

    def task_loaded(self) -> None:
        """TR has been loaded without a switch of tasks."""
        self._task = self._current_task()

    def _current_task(self) -> int:
        selector, base, _, _ = self.regs.table("tr")
        return selector | base << 16

    def _finish_switch(self) -> None:
        """Behind a run in which TR has changed."""
        from machine.hidden import TR
        from machine.tasks import saved_rip

        at, self._switched_at = self._switched_at, None
        hidden = self.hidden
        hidden.load()
        if at != hidden.rip or not hidden.segment(TR)[3] & _PRESENT:
            return
        if _TASK_SWITCH.match(self.code(hidden.segment(_CS)[1] + at, 15)):
            with suppress(CpuException):
                self.regs.rip = saved_rip(hidden, self._linear)

    def _system_call(self) -> bool:
        """SYSCALL or SYSENTER, which the engine only announces. False for an exception."""
        from machine.syscalls import enter_kernel

        hidden = self.hidden
        hidden.load()
        error = enter_kernel(hidden, self.regs, self._call or "")
        if error is None:
            hidden.store()
            return True
        rip = hidden.rip - 2
        self._vector = error.vector
        self.regs.rip = rip
        self._event = error
        reason = f"{vector_name(error.vector)}, there is no handler"
        self.fault = Fault(self.cpu_id, rip, reason, vector=error.vector)
        return False

    @property
    def leaving(self) -> bool:
        """Something has asked to leave the engine."""
        return bool(self._ending or self._restart or self._error)

    def end_slice(self, end: SliceEnd) -> None:
        """From inside this CPU's port access: end the slice behind it. STOP outranks HALT outranks
        YIELD."""
        order = (None, SliceEnd.YIELD, SliceEnd.HALT, SliceEnd.STOP)
        if self._mine and order.index(end) > order.index(self._ending):
            self._ending = end

    def shorten(self, limit: int) -> None:
        """From inside this CPU's port access: let the slice end after `limit` instructions."""
        if self._mine and limit < self._limit:
            self._limit = limit
            self._restart = True

    def clock_moved(self) -> None:
        """From inside this CPU's port access: the modelled clock has been advanced."""
        if self._mine and self._engine is not None:
            self._engine.start_clock(self._clock() - self._engine.counter)

    # --- interrupts ----------------------------------------------------------------------------
    @property
    def attentive(self) -> bool:
        """Something waits for a flag or for an IRET: the guard is to stop there."""
        return self._waiting or self._nmi or self._nmi_blocked

    def _attend(self) -> tuple[SliceEnd | None, bool]:
        """Take what has come, if the flags let it through. How the slice ends if it does; and
        whether one more instruction has to go first."""
        from machine.interrupts import NMI, Event

        hidden = self.hidden
        hidden.load()
        nmi = self._nmi and not self._nmi_blocked
        if not nmi and not (self._waiting and hidden.rflags & _INTERRUPTS_ON):
            return None, False
        if hidden.inhibited:
            return None, True
        vector = NMI
        if nmi:
            self._nmi, self._nmi_blocked = False, True
        else:
            taken = self.apic.acknowledge()
            if taken is None:
                return None, False
            vector = taken
        rip = hidden.rip
        if self._deliver(Event(vector, rip, rip, external=True)):
            return None, False
        return SliceEnd.FAULT, False

    def set_interrupt(self, waiting: bool) -> None:
        """From the local APIC: there is, or is not, an interrupt to take."""
        if waiting and not self._waiting:
            self._waiting = True
            self._notice()
        self._waiting = waiting

    def raise_nmi(self) -> None:
        """A non-maskable interrupt has come."""
        self._nmi = True
        self._notice()

    def _notice(self) -> None:
        if self._inside:
            # (Another thread's CPU looks when it leaves its engine: it may be in front of a HLT.)
            self._restart = self._restart or self._mine
        elif self.state == "halted" and self._would_wake():
            self._be_running()

    def _would_wake(self) -> bool:
        """What has come ends a halt."""
        if self._nmi and not self._nmi_blocked:
            return True
        return self._waiting and bool(self.regs.rflags & _INTERRUPTS_ON)

    @property
    def sleeping(self) -> bool:
        """Halted with interrupts on: an interrupt may yet come."""
        return self.state == "halted" and bool(self.regs.rflags & _INTERRUPTS_ON)

    def returned(self) -> None:
        """From the guard: an IRET has retired."""
        self._nmi_blocked = False

    def receive_init(self) -> None:
        """INIT: CPU 0 starts again at its reset vector, any other waits for a start-up message."""
        self._init = True
        if self._inside:
            self._restart = self._restart or self._mine
        else:
            self._reset_by_init()

    def _reset_by_init(self) -> None:
        self._init = False
        self.state = "stopped"
        if self.apic is not None:
            self.apic.init()
        if self.cpu_id == 0:
            self.start_real(0xF000, 0xFFF0, rflags=2, fresh=True)
        elif self._startup is not None:
            self.receive_startup(self._startup)
        self._startup = None

    def receive_startup(self, vector: int) -> None:
        """Start-up message: begin in real mode at `vector` << 12, if that is what it waits for."""
        if self.state == "stopped" and not self._inside:
            self.start_real(vector << 8, 0, rflags=2, fresh=True)
        elif self._init:
            self._startup = vector  # it has yet to leave its engine

    def read_msr(self, number: int) -> int:
        """From the guard: the MSRs the engine does not have."""
        if number == _MSR_APIC_BASE:
            return self.apic.base if self.apic is not None else 0
        return self.tsc() if number == _MSR_TSC else 0

    def write_msr(self, number: int, value: int) -> None:
        """From the guard."""
        if number == _MSR_APIC_BASE and self.apic is not None:
            self.apic.base = value & 0x0000_3FFF_FFFF_F900
            self.apic.update()
        elif number == _MSR_TSC:
            self._tsc_offset = value - self._clock()

    def read_priority(self) -> int:
        """From the guard: CR8."""
        return 0 if self.apic is None else self.apic.tpr >> 4

    def write_priority(self, value: int) -> None:
        """From the guard: CR8."""
        if self.apic is not None:
            self.apic.tpr = value << 4
            self.apic.update()

    # --- what the hooks leave here -------------------------------------------------------------
    def refuse(self, reason: int, access: int) -> None:
        """The page walk ended with this negative reason."""
        self._refusal = (reason, access)

    def keep(self, error: BaseException) -> None:
        """A device raised this: it comes out of `run_slice`."""
        self._error = error

    def take_exception(self, vector: int) -> None:
        """The engine raised exception or interrupt `vector`."""
        self._vector = vector

    def take_system_call(self, kind: str) -> None:
        """The engine came to a "syscall" or "sysenter"."""
        self._call = kind

    def count_access(self) -> None:
        """A device is accessed. A slice with very many accesses, or runs of the engine, ends before
        its limit: its instructions take far more of the host's time than others."""
        self._accesses += 1
        if self._accessed_much:
            self.shorten(self.progress)

    @property
    def _accessed_much(self) -> bool:
        tired = self._engine is not None and self._engine.tired
        return tired or self._accesses >= (MANY_ACCESSES if self.lock is None else FEW_ACCESSES)

    @property
    def activity(self) -> int:
        """Accesses to devices in this slice, compiled code's included: what changes while a slice
        of another thread's lasts, if it does anything at all."""
        return self._accesses + (0 if self._engine is None else self._engine.rings)

    def guarded_mmio(self, action: Callable[[], int]) -> int:
        """Run a device behind memory; keep what it raises until the engine has been left."""
        if self.lock is None:
            return self._run_mmio(action)
        with self.lock:
            return self._run_mmio(action)

    def _run_mmio(self, action: Callable[[], int]) -> int:
        answer = 0
        self.count_access()
        try:
            answer = action()
        except BaseException as error:
            self._error = error
        if self.leaving and not self._soon and self._engine is not None:
            self._soon = True
            self._engine.leave_soon()
        return answer

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        """EAX, EBX, ECX, EDX of CPUID on this CPU."""
        return self._cpuid(self.cpu_id, leaf, subleaf)

    def tsc(self) -> int:
        """The time stamp counter."""
        return self._clock() + self._tsc_offset & U64
