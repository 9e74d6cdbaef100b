# SPDX-License-Identifier: GPL-2.0-only
"""A virtual CPU: an engine over the shared RAM, on its node, run a slice at a time.

It starts in 64-bit long mode with paging on and interrupts off (`start`), or waits until somebody
starts it. `run_slice` retires instructions until its limit or until something ends the slice: HLT,
a hypercall's verdict, a stop of the machine, a fault. The count is exact whatever ended it, so
slices of any length add up to the same run:

- the limit: the engine stops before the first instruction beyond it;
- an OUT whose device or doorbell ends the slice: that OUT is the last instruction retired, nothing
  after it runs (see `engine` on why);
- a fault: the faulting instruction has not retired and RIP points at it; traps (#DB, #BP, #OF and
  INT n) have retired and RIP points behind them.

An engine exists only while the CPU is or was started: an application processor nobody starts costs
nothing. All state that outlives a slice is in the engine's registers; a slice holds no lock and no
global, so CPUs may also be run from threads of their own.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from machine import mmu
from machine.bus import PortBus, State
from machine.errors import UsageError
from machine.mmu import FETCH, PTE_P, PTE_RW, PTE_US, REASONS, translate
from machine.physmem import PhysicalMemory
from machine.walk import ram_table, walk

if TYPE_CHECKING:
    from machine.engine import ControlReader, Engine
    from machine.guard import TaskRegisterGuard
    from machine.registers import Registers

CR0_START, CR4_START = 0x8005_0033, 0x620
"""PG AM WP NE ET MP PE; OSXMMEXCPT OSFXSR PAE."""
EFER_START = mmu.EFER_SCE | mmu.EFER_LME | mmu.EFER_NXE
KERNEL_CS, KERNEL_DS = 0x10, 0x18
"""Linux's selectors. There is no GDT until the guest loads one; 64-bit code does not miss it."""

_FPU_START = {"fpcw": 0x37F, "fpsw": 0, "fptag": 0xFFFF, "mxcsr": 0x1F80}
_TRAPS = (1, 3, 4)
_VECTORS = (
    "#DE divide error",
    "#DB debug",
    "NMI",
    "#BP breakpoint",
    "#OF overflow",
    "#BR bound range",
    "#UD invalid opcode",
    "#NM device not available",
    "#DF double fault",
    "coprocessor overrun",
    "#TS invalid TSS",
    "#NP segment not present",
    "#SS stack fault",
    "#GP general protection",
    "#PF page fault",
    "reserved",
    "#MF x87 error",
    "#AC alignment check",
    "#MC machine check",
    "#XM SIMD error",
)


class SliceEnd(enum.Enum):
    """Why a slice ended."""

    LIMIT = "limit"
    YIELD = "yield"
    HALT = "halt"
    """HLT with interrupts off, or the machine's word."""
    STOP = "stop"
    """The machine was stopped by an instruction of this CPU."""
    FAULT = "fault"


@dataclass(frozen=True)
class Fault:
    """An access the MMU refused (`access`, `va`, page-fault `error_code` as SDM volume 3, 4.7) or
    an exception (`vector`, the rest None); `reason` is for people."""

    cpu_id: int
    rip: int
    reason: str
    access: str | None = None
    va: int | None = None
    error_code: int | None = None
    vector: int | None = None

    def __str__(self) -> str:
        where = f"cpu {self.cpu_id} at rip {self.rip:#x}"
        if self.va is None:
            return f"{where}: {self.reason}"
        return f"{where}: {self.access} of {self.va:#x}: {self.reason}"


@dataclass(frozen=True)
class CpuMoment:
    """A CPU between two slices, with the engine that it had then."""

    state: str
    retired: int
    fault: Fault | None
    parts: tuple[Engine | None, Registers | None, TaskRegisterGuard | None]
    context: Any


class VCPU:
    """CPU `cpu_id` on node `nid`. `state` is "stopped" (waits to be started), "running", "halted"
    (`wake` lets it go on) or "faulted"; `retired` counts its instructions since power-on."""

    def __init__(
        self,
        cpu_id: int,
        nid: int,
        memory: PhysicalMemory,
        ports: PortBus,
        cpuid: Callable[[int, int, int], tuple[int, int, int, int]],
        tsc: Callable[[], int],
    ) -> None:
        self.cpu_id = cpu_id
        self.nid = nid
        self.state = "stopped"
        self.retired = 0
        self.fault: Fault | None = None
        """What ended the last slice, when a fault did."""
        self.native_walk = 0
        """Address of compiled code to ask before Python on TLB misses, see `Engine.walk_with`. Set
        before `start`."""
        self._native_doorbell = 0
        self.count_by_block = False
        """Count instructions by the block, several times faster and just as exact, through fields
        of Unicorn that are not its API (`counting`). Off unless asked for: finding those fields
        has brought the process down on occasion. Set before `start`."""
        self.on_start: Callable[[], None] | None = None
        """Called when the CPU becomes able to run: another one may have to share its time."""
        self._memory = memory
        self._ports = ports
        self._cpuid = cpuid
        self._tsc = tsc
        self._engine: Engine | None = None
        self._registers: Registers | None = None
        self._guard: TaskRegisterGuard | None = None
        self._inside = False
        self._done = 0
        self._ending: SliceEnd | None = None
        self._restart = False
        self._stale_code = False
        self._limit = 0
        self._vector: int | None = None
        self._refusal: tuple[int, int] | None = None
        self._error: BaseException | None = None

    @property
    def native_doorbell(self) -> int:
        """Address of compiled code to ask before Python when the doorbell rings, 0 for none; see
        `Engine.serve_doorbell`. May be set at any time."""
        return self._native_doorbell

    @native_doorbell.setter
    def native_doorbell(self, address: int) -> None:
        self._native_doorbell = address
        if self._engine is not None:
            self._engine.serve_doorbell(address, self.cpu_id)

    @property
    def regs(self) -> Registers:
        """The registers. Raises `UsageError` while the CPU has never been started."""
        if self._registers is None:
            raise UsageError(f"cpu {self.cpu_id} has not been started: it has no registers")
        return self._registers

    @property
    def rip(self) -> int:
        """The instruction pointer; 0 while the CPU has never been started."""
        return 0 if self._registers is None else self._registers.rip

    def start(self, rip: int, rsp: int, cr3: int, rdi: int = 0, rsi: int = 0) -> None:
        """Reset the CPU and let it run at virtual `rip` in 64-bit mode with the tables at `cr3`."""
        from machine.guard import AVAILABLE_TSS, TSS_LIMIT

        if self._inside:
            raise UsageError(f"cpu {self.cpu_id} cannot be started by itself")
        regs = self._power_up()
        regs.cr4 = CR4_START
        regs.cr3 = cr3
        regs.efer = EFER_START
        regs.cr0 = CR0_START
        for name in ("ss", "ds", "es"):
            regs[name] = KERNEL_DS
        regs.cs = KERNEL_CS
        # A present TSS, see `guard`.
        regs.tr_flags = AVAILABLE_TSS
        regs.tr_limit = TSS_LIMIT
        for name, value in {**_FPU_START, "rsp": rsp, "rdi": rdi, "rsi": rsi}.items():
            regs[name] = value
        regs.rflags = 2
        regs.rip = rip
        self._be_running()

    def _be_running(self) -> None:
        self.state = "running"
        if self.on_start is not None:
            self.on_start()

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

    def run_slice(self, limit: int) -> tuple[SliceEnd, int]:
        """Retire at most `limit` instructions. Returns why it ended and how many retired.
        Exceptions raised by devices and handlers come out of here, after the accounts are in
        order."""
        engine, regs, guard = self._engine, self._registers, self._guard
        if engine is None or regs is None or guard is None or self.state != "running":
            raise UsageError(f"cpu {self.cpu_id} is {self.state}, it cannot run")
        self._ending = None
        self.fault = None
        self._done = 0
        self._limit = limit
        end = None
        while end is None and self._error is None and self._done < self._limit:
            end = self._run_engine(engine, regs, guard, self._limit - self._done)
            if self._restart:
                self._restart = False
                if self._stale_code:
                    self._stale_code = False
                    engine.flush_code()
        self.retired += self._done
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if end is SliceEnd.HALT and self.state == "running":
            self.state = "halted"
        elif end is SliceEnd.FAULT:
            self.state = "faulted"
        return end or SliceEnd.LIMIT, self._done

    def _run_engine(
        self, engine: Engine, regs: Registers, guard: TaskRegisterGuard, limit: int
    ) -> SliceEnd | None:
        """One run of the engine; adds to `_done`. None when the slice may go on."""
        self._vector = self._refusal = None
        engine.start_clock(self._tsc())
        self._inside = True
        try:
            status = engine.run(regs.rip, limit)
            if guard.pending:
                guard.pending = False
                self._done += guard.begun
                if guard.arm() or guard.begun >= limit:
                    return None
                limit = 1
                status = guard.step()
        finally:
            self._inside = False
        if self._ending or self._restart or self._error:
            self._done += engine.behind
            return self._ending
        begun = engine.counter
        if self._vector is not None or status:
            self.fault, held_back = self._explain(engine, regs, status)
            self._done += min(max(begun - held_back, 0), limit)
            return SliceEnd.FAULT
        self._done += min(begun, limit)
        return None if begun > limit else SliceEnd.HALT

    def _explain(self, engine: Engine, regs: Registers, status: int) -> tuple[Fault, int]:
        """The fault, and how many of the instructions begun it kept from retiring (0 or 1)."""
        from machine.engine import INVALID_INSTRUCTION

        rip = regs.rip
        vector = 6 if status == INVALID_INSTRUCTION else self._vector
        if vector is not None:
            name = _VECTORS[vector] if vector < len(_VECTORS) else "interrupt"
            reason = f"exception {vector} ({name}), there is no handler"
            retired = vector in _TRAPS or vector >= 32
            return Fault(self.cpu_id, rip, reason, vector=vector), 0 if retired else 1
        if self._refusal is None:
            return Fault(self.cpu_id, rip, f"the engine gave up (error {status})"), 1
        code, access = self._refusal
        va = engine.fault_address
        reason = REASONS[code]
        user = regs.cs & 3 == 3
        error = (0 if code == mmu.NOT_PRESENT else PTE_P) | (PTE_US if user else 0)
        error |= PTE_RW if access == mmu.WRITE else 0
        error |= (8 if code == mmu.RESERVED else 0) | (16 if access == FETCH else 0)
        if code == mmu.BUS_PAGE and (where := translate(self._memory, regs.cr3, va)):
            reason = f"bus error: no RAM at physical {where.phys:#x}"
        fault = Fault(self.cpu_id, rip, reason, mmu.ACCESS_NAMES[access], va, error)
        # A fetch fault comes while translating, before the instruction is begun.
        return fault, 0 if access == FETCH else 1

    def end_slice(self, end: SliceEnd) -> None:
        """From inside this CPU's port access: end the slice behind it. STOP outranks HALT outranks
        YIELD."""
        order = (None, SliceEnd.YIELD, SliceEnd.HALT, SliceEnd.STOP)
        if self._inside and order.index(end) > order.index(self._ending):
            self._ending = end

    def shorten(self, limit: int) -> None:
        """From inside this CPU's port access: let the slice end after `limit` instructions."""
        if self._inside and limit < self._limit:
            self._limit = limit
            self._restart = True

    def take_rings(self) -> int:
        """Rings of the doorbell, since the last call, that compiled code answered alone."""
        return 0 if self._engine is None else self._engine.take_rings()

    def take_answer(self) -> int:
        """What compiled code said to the ring being dealt with; 0 when it was not asked."""
        return 0 if self._engine is None else self._engine.take_answer()

    def resume(self) -> None:
        """Let a CPU that faulted try again: its fault has been dealt with."""
        if self.state == "faulted":
            self._be_running()

    @property
    def progress(self) -> int:
        """Instructions of the current slice so far, the one now executing included."""
        return self._done + self._engine.counter if self._inside and self._engine else self._done

    def flush_tlb(self) -> None:
        """Forget translated addresses: page tables changed. Allowed at any time."""
        if self._engine is not None:
            self._engine.flush_tlb()

    def flush_code(self) -> None:
        """Forget translated code: somebody else wrote where code may lie. Allowed at any time; from
        inside this CPU's hypercall it takes effect before the next instruction."""
        if self._inside:
            self._restart = self._stale_code = True
        elif self._engine is not None:
            self._engine.flush_code()

    def spinning(self) -> bool:
        """True when a PAUSE lies within 32 bytes of RIP: the CPU probably waits for another."""
        rip = self.regs.rip
        here = translate(self._memory, self.regs.cr3, rip)
        if here is None:
            return False
        page = here.phys & ~0xFFF
        start, end = max(here.phys - 32, page), min(here.phys + 32, page + 4096)
        if not self._memory.is_ram(start, end - start):
            return False
        return b"\xf3\x90" in self._memory.read(start, end - start)

    def save(self) -> State:
        """The CPU as plain data; `load` on a CPU of the same id and RAM continues it exactly."""
        state: State = {"retired": self.retired, "state": self.state.encode()}
        if self._registers is not None:
            state |= {f"reg_{name}": value for name, value in self._registers.save().items()}
        return state

    def load(self, state: State) -> None:
        """Back to what `save` returned. RAM must be back already. Raises `UsageError`."""
        run_state, retired = state.get("state"), state.get("retired")
        known = (b"stopped", b"running", b"halted", b"faulted")
        if not isinstance(run_state, bytes) or run_state not in known:
            raise UsageError(f"saved CPU state: {run_state!r} is no state of a CPU")
        if not isinstance(retired, int):
            raise UsageError("saved CPU state lacks the instruction count")
        registers = {k[4:]: value for k, value in state.items() if k.startswith("reg_")}
        if registers:
            self._power_up().load(registers)
        elif run_state != b"stopped":
            raise UsageError("saved CPU state lacks the registers")
        else:
            self._engine = self._registers = self._guard = None
        self.retired = retired
        self.state = run_state.decode()

    def checkpoint(self) -> CpuMoment:
        """The CPU as it is now, for `rewind` in this process: fast, and nothing is left out."""
        engine = self._engine
        context = None if engine is None else engine.save_context()
        parts = (engine, self._registers, self._guard)
        return CpuMoment(self.state, self.retired, self.fault, parts, context)

    def rewind(self, moment: CpuMoment) -> None:
        """Back to `moment` of this CPU, translated addresses and code forgotten. RAM first."""
        self._engine, self._registers, self._guard = moment.parts
        if self._engine is not None:
            self._engine.load_context(moment.context)
        self.state, self.retired, self.fault = moment.state, moment.retired, moment.fault

    def _power_up(self) -> Registers:
        """A fresh engine with our hooks."""
        from machine.engine import ControlReader, Engine
        from machine.guard import TaskRegisterGuard
        from machine.registers import Registers

        engine = Engine(self._memory)
        if self.count_by_block:
            from machine.counting import new_engine

            engine = new_engine(self._memory)
        self._engine = engine
        self._registers = Registers(engine)
        self._guard = TaskRegisterGuard(engine, self._registers, self._memory)
        self._install_hooks(engine, ControlReader(engine), self._registers, self._guard)
        return self._registers

    def _install_hooks(
        self,
        engine: Engine,
        controls: ControlReader,
        regs: Registers,
        guard: TaskRegisterGuard,
    ) -> None:
        from unicorn import unicorn_const as kinds
        from unicorn import x86_const as x86

        from machine import engine as callbacks

        m, read_controls = self._memory.words, controls.read
        table = memoryview(ram_table(self._memory))
        first_access: int = kinds.UC_MEM_READ

        def fill(_uc: object, va: int, kind: int, entry: Any, _data: object) -> bool:
            access = kind - first_access
            cr0, cr3, cr4, efer, user = read_controls()
            result = walk(m, table, va - (va >> 63 << 64), access, user, cr0, cr3, cr4, efer)
            if result < 0:
                self._refusal = (result, access)
                if access == FETCH:
                    engine.fetch_refused()
                return False
            filled = entry.contents
            filled.paddr = result & ~0xFFF
            filled.perms = result & 7
            return True

        def guarded(action: Callable[[], int], size: int = 0) -> int:
            """Run a device; keep what it raises until the engine has been left."""
            answer = 0
            try:
                answer = action()
            except BaseException as error:
                self._error = error
            if (self._ending or self._restart or self._error) and engine.leave(guard.code) and size:
                keep = -1 << 8 * size if size < 4 else 0
                regs.rax = regs.rax & keep | answer & ((1 << 8 * size) - 1)
            return answer

        def port_out(_uc: object, port: int, size: int, value: int, _data: object) -> None:
            def action() -> int:
                self._ports.write(self.cpu_id, port, size, value)
                return 0

            guarded(action)

        def port_in(_uc: object, port: int, size: int, _data: object) -> int:
            return guarded(lambda: self._ports.read(self.cpu_id, port, size), size)

        def answer_cpuid(_uc: object, _data: object) -> int:
            leaf, subleaf = regs.rax & 0xFFFFFFFF, regs.rcx & 0xFFFFFFFF
            regs.rax, regs.rbx, regs.rcx, regs.rdx = self._cpuid(self.cpu_id, leaf, subleaf)
            return 1

        def answer_rdtsc(_uc: object, _data: object) -> int:
            now = self._tsc()
            regs.rax, regs.rdx = now & 0xFFFFFFFF, now >> 32 & 0xFFFFFFFF
            return 1

        def interrupt(_uc: object, vector: int, _data: object) -> None:
            self._vector = vector
            engine.stop()

        if self.native_walk:
            engine.walk_with(self.native_walk, controls)
        engine.hook(kinds.UC_HOOK_TLB_FILL, callbacks.FILL_CALLBACK(fill))
        engine.hook(kinds.UC_HOOK_INTR, callbacks.INTERRUPT_CALLBACK(interrupt))
        engine.hook_ports(callbacks.OUT_CALLBACK(port_out), callbacks.IN_CALLBACK(port_in))
        engine.serve_doorbell(self._native_doorbell, self.cpu_id)
        instruction = kinds.UC_HOOK_INSN
        engine.hook(instruction, callbacks.SKIP_CALLBACK(answer_cpuid), x86.UC_X86_INS_CPUID)
        engine.hook(instruction, callbacks.SKIP_CALLBACK(answer_rdtsc), x86.UC_X86_INS_RDTSC)
        engine.hook(instruction, callbacks.SKIP_CALLBACK(answer_rdtsc), x86.UC_X86_INS_RDTSCP)
