# SPDX-License-Identifier: GPL-2.0-only
"""The board: RAM, CPUs and devices put together, and the loop that runs them.

`Machine(topology)` is powered off hardware with empty RAM; the firmware and the kernel fill it and
start CPU 0. `run` gives each running CPU a quantum of instructions in turn, in the order of their
ids, until something ends the run, and says what in a `Stop`. Nothing here depends on the host's
clock (except a `timeout`, which is looked at between slices), so the same program makes the same
run. A CPU found waiting in a PAUSE loop at the end of its quantum gets short turns until it leaves
it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from machine.bus import PortBus
from machine.clock import Clock
from machine.cpuid import cpuid
from machine.devices import (
    DEBUG_EXIT_PORT,
    DEBUGCON_PORT,
    UART_PORT,
    DebugConsole,
    DebugExit,
    Uart16550,
)
from machine.doorbell import DOORBELL_PORT, Doorbell, Verdict
from machine.errors import UsageError
from machine.physmem import PhysicalMemory
from machine.topology import Topology
from machine.vcpu import VCPU, Fault, SliceEnd

if TYPE_CHECKING:
    from machine.checkpoint import Checkpoint

EXIT_HALT, EXIT_BUDGET, EXIT_FAULT = 0, 75, 76
SOLO = 1_000_000
"""Instructions that a CPU which is alone may run at one go: many quanta, as nobody waits."""
SPIN_QUANTUM = 64
"""Instructions of a turn for a CPU that waits in a PAUSE loop."""
_MAX_RETRIES = 64
"""Faults in a row that a handler may claim to have resolved without one instruction retiring."""
_KINDS = ("exit", "halt", "fault", "budget", "timeout")


@dataclass(frozen=True)
class Stop:
    """How a run ended: `kind` is "exit" (the guest asked; `code` is its own), "halt" (no CPU can go
    on), "fault", "budget" or "timeout"; `cpu` and `rip` tell where, `instructions` how many retired
    in this run, `registers` the CPU's registers after a fault."""

    kind: str
    code: int
    cpu: int
    rip: int
    instructions: int
    message: str
    registers: dict[str, int] = field(default_factory=dict)


class Machine:
    """One machine. `quantum` is the instructions a CPU's turn lasts. Raises `BringUpError` when the
    host has no room for its RAM."""

    def __init__(self, topology: Topology, *, quantum: int = 10_000) -> None:
        if quantum < 1:
            raise UsageError(f"quantum {quantum}: at least one instruction is needed")
        self.topology = topology
        self.quantum = quantum
        self.memory = PhysicalMemory.for_topology(topology)
        self.clock = Clock()
        self.ports = PortBus()
        self.console = DebugConsole()
        self.serial = Uart16550()
        self.doorbell = Doorbell(self._apply)
        self.ports.attach(DEBUGCON_PORT, 1, self.console)
        self.ports.attach(UART_PORT, 8, self.serial)
        self.ports.attach(DEBUG_EXIT_PORT, 4, DebugExit(self._debug_exit))
        self.ports.attach(DOORBELL_PORT, 4, self.doorbell)
        self.mailbox_address: Callable[[int], int] | None = None
        """Physical address of a CPU's mailbox, for CPUID; the kernel sets it."""
        self.fault_handler: Callable[[VCPU, Fault], bool] | None = None
        """Asked before a fault stops the machine: True means resolved, try again."""
        self.cpus = [
            VCPU(cpu, nid, self.memory, self.ports, self._cpuid, self._tsc)
            for cpu, nid in enumerate(topology.cpu_node)
        ]
        for cpu in self.cpus:
            cpu.on_start = self._share
        self._turn = len(self.cpus) - 1
        self._left = 0
        self._current: VCPU | None = None
        self._pending: tuple[str, int, str] | None = None

    def run(self, max_instructions: int | None = None, timeout: float | None = None) -> Stop:
        """Run until the guest exits, faults or halts, `max_instructions` have retired on all CPUs
        together, or about `timeout` seconds have passed. Calling it again goes on exactly where it
        stopped, inside the same quantum; how a run is cut into budgets makes no difference."""
        if self._current is not None:
            raise UsageError("the machine is running already")
        deadline = None if timeout is None else time.monotonic() + timeout
        spent = retries = 0
        while True:
            cpu = self._next()
            if self._pending is not None:
                return self._stopped(cpu or self.cpus[self._turn], spent)
            if cpu is None:
                return self._halted(spent)
            if max_instructions is not None and spent >= max_instructions:
                return self._exhausted("budget", cpu, spent, f"budget of {spent:,} instructions")
            if deadline is not None and time.monotonic() >= deadline:
                return self._exhausted("timeout", cpu, spent, f"time limit of {timeout:g} s")
            limit = self._left
            if self._alone(cpu):
                limit += SOLO // self.quantum * self.quantum
            if max_instructions is not None:
                limit = min(limit, max_instructions - spent)
            end, retired = self._run_slice(cpu, limit)
            spent += retired
            retries = 0 if retired else retries + 1
            if self._pending is not None:
                return self._stopped(cpu, spent)
            if end is SliceEnd.FAULT and cpu.fault is not None:
                if not self._resolve(cpu, cpu.fault, retries):
                    return self._faulted(cpu, cpu.fault, spent)
            elif end is not SliceEnd.LIMIT:
                self._left = 0

    def stop(self, kind: str, code: int, message: str = "") -> None:
        """End the run with this outcome, at once when called from a handler (before that CPU's next
        instruction). Called outside a run, the next one ends immediately."""
        if kind not in _KINDS:
            raise UsageError(f"'{kind}' is not a way to stop ({', '.join(_KINDS)})")
        if self._pending is None:
            self._pending = (kind, code, message)
        if self._current is not None:
            self._current.end_slice(SliceEnd.STOP)

    def flush_tlbs(self) -> None:
        """Every CPU forgets its translations: page tables were changed behind its back."""
        for cpu in self.cpus:
            cpu.flush_tlb()

    def code_written(self, phys: int, length: int) -> None:
        """Somebody other than a CPU itself wrote `length` bytes of what may be code at `phys`:
        every CPU translates anew. (All of it is dropped: the engine can only drop by virtual
        address.)"""
        if length > 0:
            self.memory.check(phys, length)
            for cpu in self.cpus:
                cpu.flush_code()

    def save(self) -> dict[str, object]:
        """Everything but RAM as plain data: clock, turn, CPUs, devices. Raises `UsageError` inside
        a run."""
        self.check_at_rest("saved")
        return self.save_board() | {"cpus": [cpu.save() for cpu in self.cpus]}

    def load(self, state: dict[str, object]) -> None:
        """Back to what `save` returned on a machine of the same topology; RAM first. Raises
        `UsageError` for a state that is not one of this machine's."""
        cpus = state.get("cpus")
        if not (isinstance(cpus, list) and len(cpus) == len(self.cpus)):
            raise UsageError("saved machine state does not fit this machine: number of CPUs")
        for cpu, saved in zip(self.cpus, cpus, strict=True):
            if not isinstance(saved, dict):
                raise UsageError("saved machine state does not fit this machine: CPUs")
            cpu.load(saved)
        self.load_board(state)

    def save_board(self) -> dict[str, object]:
        """What is neither RAM nor a CPU: clock, devices, whose turn it is, a stop asked for."""
        return {
            "clock": self.clock.save(),
            "turn": self._turn,
            "left": self._left,
            "pending": None if self._pending is None else list(self._pending),
            "devices": {claim.device.name: claim.device.save() for claim in self.ports.ranges},
        }

    def load_board(self, state: dict[str, object]) -> None:
        """Back to what `save_board` returned. Raises `UsageError`."""
        try:
            devices, clock, pending = state["devices"], state["clock"], state["pending"]
            turn, left = state["turn"], state["left"]
            if not (isinstance(devices, dict) and isinstance(clock, dict)):
                raise ValueError("devices")
            if not (isinstance(turn, int) and 0 <= turn < len(self.cpus)):
                raise ValueError("turn")
            if not (isinstance(left, int) and 0 <= left <= self.quantum):
                raise ValueError("rest of the quantum")
            if not (pending is None or (isinstance(pending, list) and _is_pending(*pending))):
                raise ValueError("way to stop")
            for claim in self.ports.ranges:
                claim.device.load(devices[claim.device.name])
            self.clock.load(clock)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UsageError(f"saved machine state does not fit this machine: {error}") from None
        self._turn, self._left = turn, left
        self._pending = None if pending is None else (pending[0], pending[1], pending[2])

    def check_at_rest(self, verb: str) -> None:
        """Raise `UsageError` inside a run, where a machine cannot be `verb`."""
        if self._current is not None:
            raise UsageError(f"a running machine cannot be {verb}: only between two runs")

    def checkpoint(self) -> Checkpoint:
        """Hold on to this moment, for `rewind`. Costs what was written to RAM since the one
        before, and can be taken before every operation. Raises `UsageError` inside a run."""
        from machine.checkpoint import Checkpoint

        return Checkpoint(self)

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Back to the moment of `checkpoint`, as often as wanted; those taken after it end. Raises
        `UsageError` inside a run, and for a checkpoint that has ended or is another machine's."""
        if checkpoint.machine is not self:
            raise UsageError("the checkpoint is another machine's")
        checkpoint.rewind()

    def _next(self) -> VCPU | None:
        """Whose turn it is; starts the next CPU's quantum when the last one is over."""
        cpu = self.cpus[self._turn]
        if self._left > 0 and cpu.state == "running":
            return cpu
        count = len(self.cpus)
        for step in range(1, count + 1):
            index = (self._turn + step) % count
            candidate = self.cpus[index]
            if candidate.state == "running":
                alone = step == count
                waiting = not alone and candidate.spinning()
                self._turn = index
                self._left = min(SPIN_QUANTUM, self.quantum) if waiting else self.quantum
                return candidate
        return None

    def _run_slice(self, cpu: VCPU, limit: int) -> tuple[SliceEnd, int]:
        before, rest = cpu.retired, self._left
        self._current = cpu
        self.clock.progress = lambda: cpu.progress
        try:
            end, retired = cpu.run_slice(limit)
        finally:
            self.clock.progress = None
            self._current = None
            self.clock.advance(cpu.retired - before)
            self._left = self._rest(rest, cpu.retired - before)
            self.doorbell.rings += cpu.take_rings()
        return end, retired

    def _alone(self, cpu: VCPU) -> bool:
        return all(other is cpu or other.state != "running" for other in self.cpus)

    def _rest(self, rest: int, done: int) -> int:
        """What is left of the quantum that had `rest` left `done` instructions ago; the next one
        begins when there is more to do."""
        return rest - done if done <= rest else (rest - done) % self.quantum

    def _share(self) -> None:
        """A CPU has become able to run: one that has been running alone keeps its quantum only."""
        cpu = self._current
        if cpu is not None:
            done = cpu.progress
            cpu.shorten(done + self._rest(self._left, done))

    def _resolve(self, cpu: VCPU, fault: Fault, retries: int) -> bool:
        if self.fault_handler is None or retries > _MAX_RETRIES:
            return False
        if not self.fault_handler(cpu, fault):
            return False
        cpu.resume()
        return True

    def _apply(self, cpu_id: int, verdict: Verdict) -> None:
        cpu = self.cpus[cpu_id]
        if verdict is Verdict.YIELD:
            cpu.end_slice(SliceEnd.YIELD)
        elif verdict is Verdict.STOP_CPU:
            cpu.stop()

    def _debug_exit(self, cpu_id: int, code: int) -> None:
        self.stop("exit", code, f"cpu {cpu_id} wrote {code >> 1:#x} to the debug exit port")

    def _cpuid(self, cpu_id: int, eax: int, ecx: int) -> tuple[int, int, int, int]:
        mailbox = None if self.mailbox_address is None else self.mailbox_address(cpu_id)
        return cpuid(cpu_id, len(self.cpus), eax, ecx, mailbox)

    def _tsc(self) -> int:
        return self.clock.now

    def _stopped(self, cpu: VCPU, spent: int) -> Stop:
        assert self._pending is not None
        kind, code, message = self._pending
        self._pending = None
        registers = cpu.regs.dump() if kind == "fault" and cpu.rip else {}
        return Stop(kind, code, cpu.cpu_id, cpu.rip, spent, message, registers)

    def _halted(self, spent: int) -> Stop:
        cpu = self.cpus[self._turn]
        on = [other for other in self.cpus if other.state != "stopped"]
        message = "all CPUs have halted" if on else "no CPU is running"
        return Stop("halt", EXIT_HALT, cpu.cpu_id, cpu.rip, spent, message)

    def _faulted(self, cpu: VCPU, fault: Fault, spent: int) -> Stop:
        registers = cpu.regs.dump()
        return Stop("fault", EXIT_FAULT, cpu.cpu_id, fault.rip, spent, str(fault), registers)

    def _exhausted(self, kind: str, cpu: VCPU, spent: int, what: str) -> Stop:
        rip = cpu.rip
        message = f"{what} spent at rip {rip:#x} on cpu {cpu.cpu_id}"
        return Stop(kind, EXIT_BUDGET, cpu.cpu_id, rip, spent, message)


def _is_pending(kind: object, code: object, message: object) -> bool:
    return kind in _KINDS and isinstance(code, int) and isinstance(message, str)
