# SPDX-License-Identifier: GPL-2.0-only
"""What a virtual CPU is made of, and how it is looked at and kept.

`CpuCore` holds an engine over the shared RAM with its registers, and the few things besides that
make up the CPU's state: whether it runs, what waits for it. Here is what reads it - where RIP is,
what an address means - and what saves it and takes it back. `cpu_events` adds exceptions and
interrupts, `vcpu` the running."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any

from machine.bus import PortBus, State
from machine.errors import UsageError
from machine.fault import Fault
from machine.linear import LinearMemory
from machine.mmio import MmioBus
from machine.mmu import translate_as
from machine.physmem import PhysicalMemory
from machine.walk import ram_table

if TYPE_CHECKING:
    from machine.engine import Engine
    from machine.guard import Guard
    from machine.hidden import HiddenState
    from machine.interrupts import Event
    from machine.registers import Registers

U64 = (1 << 64) - 1
A20_LINE = 1 << 20
PREFIXES = b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3" + bytes(range(0x40, 0x50))
_STATES = ("stopped", "running", "halted", "faulted")


class SliceEnd(enum.Enum):
    """Why a slice ended."""

    LIMIT = "limit"
    YIELD = "yield"
    HALT = "halt"
    """HLT with nothing to take, or the machine's word."""
    STOP = "stop"
    """The machine was stopped by an instruction of this CPU."""
    FAULT = "fault"


@dataclass(frozen=True)
class CpuMoment:
    """A CPU between two slices, with the engine that it had then."""

    state: str
    retired: int
    fault: Fault | None
    parts: tuple[Any, ...]
    context: Any
    latches: dict[str, int]


class CpuCore(ABC):
    """The state of one CPU; see `vcpu.VCPU`."""

    def __init__(
        self,
        cpu_id: int,
        nid: int,
        memory: PhysicalMemory,
        ports: PortBus,
        mmio: MmioBus,
        cpuid: Callable[[int, int, int], tuple[int, int, int, int]],
        tsc: Callable[[], int],
    ) -> None:
        self.cpu_id = cpu_id
        self.nid = nid
        self.memory, self.ports, self.mmio = memory, ports, mmio
        self.ram = memoryview(ram_table(memory))
        """What is RAM, as `walk` takes it."""
        self.state = "stopped"
        self.retired = 0
        self.fault: Fault | None = None
        """What ended the last slice, when a fault did."""
        self.ask_first = False
        """A fault ends the slice even if the guest has a handler: somebody wants to be asked."""
        self.a20_mask = U64
        """What of a physical address reaches the bus."""
        self.apic: Any = None
        """This CPU's `lapic.LocalApic`; the machine connects it."""
        self.native_walk = 0
        """Address of compiled code to ask before Python on TLB misses, see `Engine.walk_with`; 0:
        what the engine has of its own. Set before `start`."""
        self._native_doorbell = 0
        self.page_fault: Callable[[int, int], int] | None = None
        """Asked first about a page that the MMU refuses, in the middle of the instruction: of the
        address and the error code. What `walk` would say now that there is an entry, or a negative
        number. It may change no other translation, and raise nothing."""
        self.on_start: Callable[[], None] | None = None
        """Called when the CPU becomes able to run: another one may have to share its time."""
        self._cpuid = cpuid
        self._clock = tsc
        self._tsc_offset = 0
        self._delivered_at = -1
        self.exceptions = 0
        """Exceptions that went to the guest; interrupts and INT n are not among them."""
        """`retired` at the last exception that was delivered."""
        self._waiting = self._nmi = self._nmi_blocked = False
        self._init = False
        self._startup: int | None = None
        self._engine: Engine | None = None
        self._registers: Registers | None = None
        self._guard: Guard | None = None
        self._hidden: HiddenState | None = None
        self._linear = LinearMemory(memory, self.ram)
        self._inside = self._soon = False
        self._done = 0
        self._ending: SliceEnd | None = None
        self._restart = False
        self._stale_code = self._stale_tlb = False
        self.lock: Any = None
        """What devices are accessed under while CPUs run in threads, see `threads`."""
        self.runner = 0
        """The thread that runs this CPU then; 0: whoever calls `run_slice`."""
        self.undivided = False
        """The next instruction is executed while no other CPU runs."""
        self._limit = self._accesses = 0
        self._vector: int | None = None
        self._refusal: tuple[int, int] | None = None
        self._call: str | None = None
        self._denied = False
        self.privileged = False
        """The next instruction may reach what user mode may not."""
        self._event: Event | None = None
        self._task = 0
        """TR as it was last seen: the selector and the base above it."""
        self._switched_at: int | None = None
        """RIP of the instruction in which TR has changed."""
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

    @property
    def mode(self) -> str:
        """The mode in words: "real", "v86", "protected 16", "protected 32", "compatibility",
        "long", or "off" while the CPU has never been started."""
        if self._hidden is None:
            return "off"
        self._hidden.load()
        return self._hidden.mode

    def _be_running(self) -> None:
        self.state = "running"
        if self.on_start is not None:
            self.on_start()

    @property
    def progress(self) -> int:
        """Instructions of the current slice so far, the one now executing included."""
        return self._done + self._engine.counter if self._mine and self._engine else self._done

    @property
    def _mine(self) -> bool:
        """The engine runs, and it is this thread that runs it."""
        return self._inside and self.runner in (0, get_ident())

    def run_beside_others(self, on: bool) -> bool:
        """Between two slices: other CPUs' engines run at the same time from now on, or no longer.
        False when this CPU's cannot do that."""
        return self._engine is None or self._engine.run_beside_others(on)

    def share_engine(self, lock: Any, runner: int) -> None:
        """The thread `runner` holds `lock` whenever it runs this CPU, but not while the engine
        itself runs; None and 0: whoever calls runs it."""
        self.lock, self.runner = lock, runner
        if self._engine is not None:
            self._engine.lock = lock

    # --- looking -------------------------------------------------------------------------------
    @property
    def hidden(self) -> HiddenState:
        """The copy of all registers that deliveries work on: `load` it before looking."""
        if self._hidden is None:
            raise UsageError(f"cpu {self.cpu_id} has not been started: it has no registers")
        return self._hidden

    def code(self, start: int, size: int) -> bytes:
        """The `size` bytes at linear `start`, as far as they are there."""
        return b"" if self._guard is None else self._guard.code(start, size)

    def translate(self, va: int) -> int | None:
        """Physical address of linear `va` as this CPU sees it now, or None. Reads only."""
        regs = self.regs
        found = translate_as(self.memory, regs.cr0, regs.cr3, regs.cr4, regs.efer, va)
        return None if found is None else found.phys & self.a20_mask

    def linear(self, segment: str, offset: int) -> int:
        """Linear address of `offset` in segment register `segment` ("cs", "es", ...)."""
        base = self.regs[f"{segment}_base"]
        return base + offset & (U64 if self.mode == "long" else 0xFFFFFFFF)

    def set_a20(self, on: bool) -> None:
        """Gate A20: off, address bit 20 is 0 whatever the CPU says."""
        self.a20_mask = U64 if on else U64 & ~A20_LINE
        if self._engine is not None:
            self._engine.native_walk_on(on)
            self.flush_tlb()

    def flush_tlb(self) -> None:
        """Forget translated addresses: page tables changed. Allowed at any time; from another
        thread, it takes effect when the CPU leaves its engine."""
        if self._inside and not self._mine:
            self._stale_tlb = True
        elif self._engine is not None:
            self._engine.flush_tlb()

    def flush_code(self) -> None:
        """Forget translated code: somebody else wrote where code may lie. Allowed at any time; from
        inside this CPU's hypercall it takes effect before the next instruction."""
        if self._inside:
            self._stale_code = True
            self._restart = self._restart or self._mine
        elif self._engine is not None:
            self._engine.flush_code()

    def at_locked(self) -> bool:
        """True when the instruction at RIP has a LOCK prefix, or is an XCHG."""
        code = self.code(self.linear("cs", self.regs.rip), 15)
        bare = code.lstrip(PREFIXES)
        return b"\xf0" in code[: len(code) - len(bare)] or bare[:1] in (b"\x86", b"\x87")

    def spinning(self) -> bool:
        """True when a PAUSE lies within 32 bytes of RIP: the CPU probably waits for another."""
        here = self.linear("cs", self.regs.rip)
        page = here & ~0xFFF
        start, end = max(here - 32, page), min(here + 32, page + 4096)
        return b"\xf3\x90" in self.code(start, end - start)

    def jumps_to_itself(self) -> bool:
        """True when the instruction at RIP is a jump to RIP."""
        code = self.code(self.linear("cs", self.regs.rip), 5)
        near = (b"\xe9\xfb\xff\xff\xff", b"\xe9\xfd\xff")
        return code[:2] == b"\xeb\xfe" or code.startswith(near)

    # --- keeping -------------------------------------------------------------------------------
    def _latches(self) -> dict[str, int]:
        return {
            "nmi": int(self._nmi),
            "nmi_blocked": int(self._nmi_blocked),
            "tsc_offset": self._tsc_offset & U64,
            "delivered_at": self._delivered_at,
        }

    def _load_latches(self, latches: dict[str, int]) -> None:
        self._nmi, self._nmi_blocked = bool(latches["nmi"]), bool(latches["nmi_blocked"])
        self._tsc_offset = latches["tsc_offset"]
        self._delivered_at = latches["delivered_at"]
        self._waiting = self._init = False  # the APIC, loaded after the CPUs, says it again

    def save(self) -> State:
        """The CPU as plain data; `load` on a CPU of the same id and RAM continues it exactly."""
        state: State = {"retired": self.retired, "state": self.state.encode(), **self._latches()}
        if self._registers is not None:
            state |= {f"reg_{name}": value for name, value in self._registers.save().items()}
        return state

    def load(self, state: State) -> None:
        """Back to what `save` returned. RAM must be back already. Raises `UsageError`."""
        run_state, retired = state.get("state"), state.get("retired")
        if not isinstance(run_state, bytes) or run_state.decode("latin-1") not in _STATES:
            raise UsageError(f"saved CPU state: {run_state!r} is no state of a CPU")
        if not isinstance(retired, int):
            raise UsageError("saved CPU state lacks the instruction count")
        latches = {name: state.get(name, 0) for name in self._latches()}
        if not all(isinstance(value, int) for value in latches.values()):
            raise UsageError("saved CPU state: what waits is no number")
        registers = {k[4:]: value for k, value in state.items() if k.startswith("reg_")}
        if registers:
            self._power_up().load(registers)
        elif run_state != b"stopped":
            raise UsageError("saved CPU state lacks the registers")
        else:
            self._engine = self._registers = self._guard = self._hidden = None
        self._load_latches({name: int(value) for name, value in latches.items()})
        self.retired = retired
        self.state = run_state.decode()

    def checkpoint(self) -> CpuMoment:
        """The CPU as it is now, for `rewind` in this process: fast, and nothing is left out."""
        engine = self._engine
        context = None if engine is None else engine.save_context()
        parts = (engine, self._registers, self._guard, self._hidden)
        return CpuMoment(self.state, self.retired, self.fault, parts, context, self._latches())

    def rewind(self, moment: CpuMoment) -> None:
        """Back to `moment` of this CPU, translated addresses and code forgotten. RAM first."""
        self._engine, self._registers, self._guard, self._hidden = moment.parts
        if self._engine is not None:
            self._engine.load_context(moment.context)
        self._load_latches(moment.latches)
        self.state, self.retired, self.fault = moment.state, moment.retired, moment.fault

    @abstractmethod
    def _power_up(self) -> Registers:
        """See `vcpu.VCPU`."""
