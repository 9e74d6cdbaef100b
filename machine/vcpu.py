# SPDX-License-Identifier: GPL-2.0-only
"""A virtual CPU: an engine over the shared RAM, on its node, run a slice at a time.

It starts in 64-bit long mode with paging on and interrupts off (`start`), in flat protected mode
(`start_protected`), or as after reset in real mode (`start_real`), or waits until somebody starts
it. `run_slice` retires instructions until its limit or until something ends the slice: HLT, a
hypercall's verdict, a stop of the machine, a fault. The count is exact whatever ended it, so slices
of any length add up to the same run:

- the limit: the engine stops before the first instruction beyond it;
- an OUT whose device or doorbell ends the slice: that OUT is the last instruction retired, nothing
  after it runs (see `engine` on why);
- a fault: the faulting instruction has not retired and RIP points at it; traps (#DB, #BP, #OF and
  INT n) have retired and RIP points behind them.

The engine knows no interrupts. Exceptions and INT n end its run, and are delivered to the guest by
`interrupts`; external ones wait in the CPU's local APIC and are taken between two runs, when the
flags allow it (`guard` stops the engine where they come to). An exception that the guest has no
handler for ends the slice as a fault.

An engine exists only while the CPU is or was started: an application processor nobody starts costs
nothing. All state that outlives a slice is in the engine's registers and in the few fields saved
with them; a slice holds no lock and no global, so CPUs may also be run from threads of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from machine.cpu_core import CpuMoment as CpuMoment
from machine.cpu_core import SliceEnd as SliceEnd
from machine.cpu_events import CpuEvents
from machine.errors import UsageError

if TYPE_CHECKING:
    from machine.hidden import HiddenState
    from machine.registers import Registers

_OVERFLOW = 4
_NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")


class VCPU(CpuEvents):
    """CPU `cpu_id` on node `nid`. `state` is "stopped" (waits to be started), "running", "halted"
    (an interrupt or `wake` lets it go on) or "faulted"; `retired` counts its instructions since
    power-on."""

    def start(self, rip: int, rsp: int, cr3: int, rdi: int = 0, rsi: int = 0) -> None:
        """Reset the CPU and let it run at virtual `rip` in 64-bit mode with the tables at `cr3`."""
        from machine.modes import enter_long_mode

        self._begin(lambda hidden: enter_long_mode(hidden, cr3), rip, rsp=rsp, rdi=rdi, rsi=rsi)

    def start_real(
        self, cs: int, ip: int, rflags: int = 0x202, *, fresh: bool = False, **registers: int
    ) -> None:
        """Reset the CPU and let it run at `cs`:`ip` in real mode. `registers`: any of ss, ds, es,
        fs, gs and of the general ones by their 16-bit names (sp, dx, ...); the others are 0.
        `fresh`: no firmware has run on it since its reset."""
        from machine.modes import enter_real_mode

        segments = {name: registers.pop(name, 0) for name in ("ss", "ds", "es", "fs", "gs")}

        def enter(hidden: HiddenState) -> None:
            enter_real_mode(hidden, {**segments, "cs": cs}, fresh)
            hidden.rflags = rflags

        self._begin(enter, ip, **{f"r{name}": value for name, value in registers.items()})

    def start_protected(self, eip: int, **registers: int) -> None:
        """Reset the CPU and let it run at `eip` in 32-bit protected mode, as Multiboot wants it:
        flat segments, no paging, interrupts off. `registers` by their 32-bit names."""
        from machine.modes import enter_protected_mode

        names = {f"r{name[1:]}": value for name, value in registers.items()}
        self._begin(enter_protected_mode, eip, **names)

    def _begin(self, enter: Callable[[HiddenState], None], rip: int, **general: int) -> None:
        from machine.modes import FPU_START

        if self._inside:
            raise UsageError(f"cpu {self.cpu_id} cannot be started by itself")
        regs = self._power_up()
        hidden = self.hidden
        enter(hidden)
        for name, value in general.items():
            if name not in _NAMES:
                raise UsageError(f"a CPU cannot be started with {name}")
            hidden.set_gpr(_NAMES.index(name), value)
        hidden.rip = rip
        hidden.store()
        for name, value in FPU_START.items():
            regs[name] = value
        self._waiting = self._nmi = self._nmi_blocked = self._init = False
        self._tsc_offset = 0
        self._be_running()
        if self.apic is not None:
            self.apic.update()

    def wake(self) -> None:
        """End a halt: the CPU goes on behind its HLT."""
        if self.state == "halted":
            self._be_running()

    def stop(self) -> None:
        """Take the CPU off: it waits to be started again. From inside its own hypercall this takes
        effect before its next instruction."""
        if self._inside:
            self.end_slice(SliceEnd.HALT)
        self.state = "stopped"

    # --- running -------------------------------------------------------------------------------
    def run_slice(self, limit: int) -> tuple[SliceEnd, int]:
        """Retire at most `limit` instructions. Returns why it ended and how many retired. (An
        exception delivered with no instruction retired since the one before counts as one: a guest
        whose handlers cannot even begin does not run for ever.) Exceptions raised by devices and
        handlers come out of here, after the accounts are in order."""
        if self._engine is None or self.state != "running":
            raise UsageError(f"cpu {self.cpu_id} is {self.state}, it cannot run")
        self._ending = None
        self.fault = None
        self.triple_faulted = False
        self._done = 0
        self._limit = limit
        self._accesses = 0
        end = None
        while end is None and self._error is None and self._done < self._limit:
            rest = self._limit - self._done
            if self._waiting or self._nmi:
                end, shadow = self._attend()
                if end is not None:
                    break
                rest = 1 if shadow else rest
            self._accesses += 1
            end = self._run_engine(1 if self.privileged else rest)
            if self.privileged:
                self.privileged = False
                self._engine.flush_tlb()
            self._restart = False
            if self._stale_tlb:
                self._stale_tlb = False
                self._engine.flush_tlb()
            if self._stale_code:
                self._stale_code = False
                self._engine.flush_code()
            if self._init:
                end = end if end in (SliceEnd.STOP, SliceEnd.FAULT) else SliceEnd.HALT
            elif end is SliceEnd.HALT:
                end = None if self._ending is None and self._would_wake() else end
            elif end is SliceEnd.FAULT and self._reads_descriptor():
                self.privileged = True
                end = None
            elif end is SliceEnd.FAULT and not self.ask_first and self._deliver_event():
                end = None
            if self._accessed_much and self._done and not self.privileged:
                break
        self.retired += self._done
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._init:
            self._reset_by_init()
        elif end is SliceEnd.HALT and self.state == "running":
            self.state = "halted"
        elif end is SliceEnd.FAULT:
            self.state = "faulted"
        return end or SliceEnd.LIMIT, self._done

    def _run_engine(self, limit: int) -> SliceEnd | None:
        """One run of the engine; adds to `_done`. None when the slice may go on."""
        engine, regs, guard = self._engine, self._registers, self._guard
        assert engine is not None
        assert regs is not None
        assert guard is not None
        self._vector = self._refusal = self._call = None
        self._denied = False
        self._soon = False
        engine.start_clock(self._clock())
        self._inside = True
        try:
            enter = engine.step_undivided if self.undivided else engine.run
            status = enter(regs.rip, limit)
            if guard.pending:
                guard.pending = False
                self._done += guard.begun
                if guard.arm() or guard.begun >= limit:
                    return None
                self._inside = False
                if guard.emulate():
                    self._done += 1
                    return None
                self._inside = True
                limit = 1
                status = guard.step()
        finally:
            self._inside = False
        if self._switched_at is not None and self._vector is None:
            self._finish_switch()
        if self._denied:
            self._done += max(engine.behind - 1, 0)
            return self._refuse_port()
        if self._vector is None and not status and self.leaving:
            self._done += engine.behind
            halted = self._soon and not engine.left_soon
            return self._ending or (SliceEnd.HALT if halted else None)
        begun = self._begun()
        if self._switched_at is not None:
            self._finish_switch()
        if self._call is not None:
            held_back = 0 if self._system_call() else 1
            self._done += min(max(begun - held_back, 0), limit)
            return SliceEnd.FAULT if held_back else None
        if self._vector is not None or status:
            self.fault, held_back = self._explain(status)
            self._done += min(max(begun - held_back, 0), limit)
            return SliceEnd.FAULT
        self._done += min(begun, limit)
        return None if begun > limit else SliceEnd.HALT

    def _begun(self) -> int:
        """Instructions begun in this run. The engine finds out by RIP, which after INTO is already
        at the next instruction of the same block."""
        assert self._engine is not None
        if self._vector != _OVERFLOW:
            return self._engine.counter
        regs = self.regs
        rip = regs.rip
        regs.rip = rip - 1
        begun = self._engine.counter
        regs.rip = rip
        return begun

    def take_rings(self) -> int:
        """Rings of the doorbell, since the last call, that compiled code answered alone."""
        return 0 if self._engine is None else self._engine.take_rings()

    def take_answer(self) -> int:
        """What compiled code said to the ring being dealt with; 0 when it was not asked."""
        return 0 if self._engine is None else self._engine.take_answer()

    def resume(self) -> None:
        """Let a CPU that faulted try again: its fault has been dealt with."""
        if self.state == "faulted":
            self._forget_exception()
            self._be_running()

    def _power_up(self) -> Registers:
        """A fresh engine with our hooks."""
        from machine.counting import new_engine
        from machine.engine import ControlReader
        from machine.guard import Guard
        from machine.hidden import HiddenState
        from machine.hooks import install_hooks
        from machine.registers import Registers

        engine = new_engine(self.memory)
        self._engine = engine
        self._hidden = HiddenState(engine)
        self._registers = Registers(engine, self._hidden)
        controls = ControlReader(engine)
        self._guard = Guard(engine, self._registers, self.memory, controls, self)
        install_hooks(self, engine, controls, self._registers)
        return self._registers
