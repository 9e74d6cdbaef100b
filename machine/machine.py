# SPDX-License-Identifier: GPL-2.0-only
"""The board: RAM, CPUs and devices put together, and the loop that runs them.

`Machine(topology)` is powered off hardware with empty RAM; the firmware and the kernel fill it and
start CPU 0. `run` gives each running CPU a quantum of instructions in turn, in the order of their
ids, until something ends the run, and says what in a `Stop`. A turn is cut where the next event of
a device is due; when all CPUs wait, the clock jumps there. Nothing here depends on the host's clock
(except a `timeout`, which is looked at between slices), so the same program makes the same run. A
CPU found waiting in a PAUSE loop at the end of its quantum gets short turns until it leaves it;
while all of them wait, for time to pass, these grow up to a quantum. `run(threads=True)` is the
other way: each CPU in a thread of the host's (`threads`), and no two runs the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from machine.bus import PortBus, PortDevice
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
from machine.events import EventQueue
from machine.fault import Fault
from machine.ioapic import IO_APIC_BASE, IO_APIC_SIZE, IoApic
from machine.irq import InterruptLines
from machine.lapic import LAPIC_BASE, LAPIC_SIZE, ApicBus
from machine.mmio import MmioBus, MmioDevice
from machine.pc import attach_devices
from machine.physmem import PhysicalMemory
from machine.stop import EXIT_BUDGET as EXIT_BUDGET
from machine.stop import EXIT_FAULT as EXIT_FAULT
from machine.stop import EXIT_HALT as EXIT_HALT
from machine.stop import KINDS, is_pending
from machine.stop import Stop as Stop
from machine.topology import Topology
from machine.vcpu import VCPU, SliceEnd

if TYPE_CHECKING:
    from machine.checkpoint import Checkpoint
    from machine.threads import ThreadedRun

SOLO = 8_000_000
"""Instructions that a CPU which is alone may run at one go: many quanta, as nobody waits."""
SPIN_QUANTUM = 64
"""Instructions of a turn for a CPU that waits in a PAUSE loop."""
SPIN_DOUBLINGS = 16
"""How often that doubles at the most, while all CPUs wait."""
_MAX_RETRIES = 64
"""Faults in a row that a handler may claim to have resolved without one instruction retiring."""
_MAX_JUMPS = 10_000
"""Events in a row that may pass while all CPUs wait, without one instruction retiring."""
LOOP_NS = 250_000_000
"""How long a CPU that takes interrupts has to jump to itself to be taken as done."""


class HostDisk(Protocol):
    """What the machine knows of a host's file that its disk follows."""

    def write_out(self) -> bool:
        """Put what the disk has written into the file; False when the host refuses."""

    def detach(self) -> None:
        """Write out and give the file back. Raises `OutputError`."""

    def check(self) -> None:
        """Raise the `OutputError` of a write that the host has refused."""


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
        self.host_disk: HostDisk | None = None
        """The host's file behind the disk in storage; the kernel sets it and tells it when."""
        self.schedule: Callable[[VCPU], bool] | None = None
        """Asked before every slice of a CPU, when its registers may be changed. False: it has
        nothing to run and its state says so."""
        self.beside: Callable[[], AbstractContextManager[object]] | None = None
        """Entered around a run in threads by whoever answers the doorbell in compiled code."""
        self.break_call: Callable[[int], None] | None = None
        """Ends the call, compiled or not, that the thread of that number has been in for long."""
        self.on_reset: Callable[[], None] | None = None
        """The firmware: called after a reset to boot again."""
        self.no_reboot = True
        """A reset ends the run instead."""
        self.stop_on_loop = False
        """A CPU 0 that only jumps to itself ends the run."""
        self.events = EventQueue(self.clock)
        self.mmio = MmioBus()
        self.irq = InterruptLines(self._intr_changed)
        self.apics = ApicBus(self.clock, self.events, lambda: self.irq.intr, self._inta)
        self.io_apic = IoApic(self.apics)
        self.irq.attach_io_apic(self.io_apic)
        self.mmio.attach(LAPIC_BASE, LAPIC_SIZE, self.apics)
        self.mmio.attach(IO_APIC_BASE, IO_APIC_SIZE, self.io_apic)
        self.cpus = [
            VCPU(cpu, nid, self.memory, self.ports, self.mmio, self._cpuid, self._tsc)
            for cpu, nid in enumerate(topology.cpu_node)
        ]
        for cpu in self.cpus:
            cpu.on_start = self._share
            cpu.apic = self.apics.add(cpu)
        self._a20 = True
        self._reset_reason: str | None = None
        self._jumps = 0
        self._looping_since: int | None = None
        self.events.on_change = self.clock.on_advance = self._reschedule
        self.pc = attach_devices(self)
        self._turn = len(self.cpus) - 1
        self._left = self._spun = 0
        self._were_beside = False
        self._running: VCPU | None = None
        self._threads: ThreadedRun | None = None
        self._pending: tuple[str, int, str] | None = None

    @property
    def _current(self) -> VCPU | None:
        """The CPU whose slice the caller is in."""
        return self._running if self._threads is None else self._threads.current

    @property
    def in_threads(self) -> bool:
        """A run is under way with CPUs in threads."""
        return self._threads is not None

    def alone(self) -> AbstractContextManager[None]:
        """A context for a handler that CPUs in other threads must not see at work: they rest. To be
        entered before anything has been changed."""
        return nullcontext() if self._threads is None else self._threads.alone()

    def run(
        self,
        max_instructions: int | None = None,
        timeout: float | None = None,
        *,
        threads: bool = False,
    ) -> Stop:
        """Run until the guest exits, faults or halts, `max_instructions` have retired on all CPUs
        together, or about `timeout` seconds have passed. Calling it again goes on exactly where it
        stopped, inside the same quantum; how a run is cut into budgets makes no difference.

        `threads`: every CPU in a thread of the host's, see `machine.threads`. Raises `UsageError`
        where the engines cannot run side by side, and inside a run."""
        if self._running is not None or self._threads is not None:
            raise UsageError("the machine is running already")
        deadline = None if timeout is None else time.monotonic() + timeout
        spent = retries = 0
        if threads:
            ended, spent = self._run_threads(max_instructions, timeout, deadline)
            if ended is not None:
                return ended
        if self._were_beside:
            self._were_beside = False
            for each in self.cpus:
                each.run_beside_others(False)
        while True:
            self.events.run_due()
            cpu = self._next()
            if self._pending is not None:
                return self._stopped(cpu or self.cpus[self._turn], spent)
            if self._reset_reason is not None and (stop := self._do_reset(spent)):
                return stop
            if cpu is None and not self._jump():
                return self._halted(spent)
            if deadline is not None and time.monotonic() >= deadline:
                where = cpu or self.cpus[self._turn]
                return self._exhausted("timeout", where, spent, f"time limit of {timeout:g} s")
            if cpu is None or cpu.state != "running":
                continue
            if max_instructions is not None and spent >= max_instructions:
                return self._exhausted("budget", cpu, spent, f"budget of {spent:,} instructions")
            if self.schedule is not None and not self.schedule(cpu):
                continue
            rest = None if max_instructions is None else max_instructions - spent
            end, retired = self._run_slice(cpu, self._slice_limit(cpu, rest))
            spent += retired
            retries = 0 if retired else retries + 1
            self._jumps = 0 if retired else self._jumps
            if self._pending is not None:
                return self._stopped(cpu, spent)
            if end is SliceEnd.FAULT and cpu.fault is not None:
                if not self._resolve(cpu, cpu.fault, retries):
                    return self._faulted(cpu, cpu.fault, spent)
            elif end is not SliceEnd.LIMIT:
                self._left = 0
            elif self.stop_on_loop and self._loops(cpu):
                return self._looped(cpu, spent)

    def _run_threads(
        self, budget: int | None, timeout: float | None, deadline: float | None
    ) -> tuple[Stop | None, int]:
        """As `run`, in threads; no Stop if CPUs must take turns from here on. And the instructions
        so far."""
        from machine.threads import ThreadedRun

        spent = 0
        while self.schedule is None:
            left = timeout if deadline is None else max(deadline - time.monotonic(), 0)
            run = ThreadedRun(self, spent, budget, timeout, left)
            self._left = self._spun = 0
            self._were_beside = True
            stop = run.run()
            spent = run.spent
            if stop is None and self._reset_reason is not None:
                stop = self._do_reset(spent)
            if stop is not None:
                return stop, spent
        return None, spent

    def _slice_limit(self, cpu: VCPU, rest: int | None) -> int:
        """Instructions of the next slice: to the end of the turn, the budget or the next event,
        whichever comes first."""
        limit = self._left
        if self._alone(cpu):
            limit += SOLO // self.quantum * self.quantum
        if rest is not None:
            limit = min(limit, rest)
        if self.events.next is not None:
            limit = min(limit, max(self.events.next - self.clock.now, 1))
        return limit

    def _jump(self) -> bool:
        """No CPU is running: go to the next event, if it may wake one. False when none can."""
        if self.events.next is None or not any(cpu.sleeping for cpu in self.cpus):
            return False
        self._jumps += 1
        if self._jumps > _MAX_JUMPS:
            return False
        self.clock.advance(self.events.next - self.clock.now)
        return True

    def _reschedule(self) -> None:
        """Time or the next event has moved while a CPU runs: its slice ends there."""
        cpu = self._current
        if cpu is not None:
            cpu.clock_moved()
        if cpu is not None and self.events.next is not None:
            cpu.shorten(cpu.progress + max(self.events.next - self.clock.now, 0))

    # --- reset, interrupts, address line 20 -------------------------------------------------------
    @property
    def a20(self) -> bool:
        """Gate A20: True lets address bit 20 through."""
        return self._a20

    @a20.setter
    def a20(self, on: bool) -> None:
        if on != self._a20:
            self._a20 = on
            for cpu in self.cpus:
                cpu.set_a20(on)

    @property
    def open_bus(self) -> bool:
        """True: an access that nobody answers floats, as on a PC. False: it is a fault."""
        return self.mmio.open_bus

    @open_bus.setter
    def open_bus(self, floats: bool) -> None:
        self.mmio.open_bus = floats

    def nmi(self, cpu_id: int = 0) -> None:
        """A non-maskable interrupt to that CPU."""
        self.cpus[cpu_id].raise_nmi()

    def request_reset(self, reason: str) -> None:
        """From a device: the reset line is pulled, for this reason. Takes effect behind the
        instruction."""
        if self._reset_reason is None:
            self._reset_reason = reason
        if self._current is not None:
            self._current.end_slice(SliceEnd.STOP)

    def reset(self) -> None:
        """All CPUs and devices as after power-on; RAM stays. Then `on_reset` boots again. Raises
        `UsageError` inside a run's slice."""
        self.check_at_rest("reset")
        for cpu in self.cpus:
            cpu.stop()
        for device in self._devices():
            back = getattr(device, "reset", None)
            if back is not None:
                back()
        self.a20 = True
        self._left = self._spun = 0
        self._reset_reason = self._looping_since = None
        if self.on_reset is not None:
            self.on_reset()

    def _do_reset(self, spent: int) -> Stop | None:
        reason, self._reset_reason = self._reset_reason or "", None
        if not self.no_reboot and self.on_reset is not None:
            self.reset()
            return None
        cpu = self.cpus[self._turn]
        message = f"cpu {cpu.cpu_id} reset the machine: {reason}"
        return Stop("reset", EXIT_HALT, cpu.cpu_id, cpu.rip, spent, message)

    def _intr_changed(self) -> None:
        if self.apics.apics:
            self.apics.apics[0].update()

    def _inta(self) -> int:
        return 0 if self.irq.pic is None else self.irq.pic.acknowledge()

    def _devices(self) -> list[PortDevice | MmioDevice]:
        """Every device once, those on the port bus first."""
        found: list[PortDevice | MmioDevice] = []
        every: list[PortDevice | MmioDevice] = [claim.device for claim in self.ports.ranges]
        every += [claim.device for claim in self.mmio.ranges]
        for device in every:
            if all(device is not other for other in found):
                found.append(device)
        return found

    def stop(self, kind: str, code: int, message: str = "") -> None:
        """End the run with this outcome, at once when called from a handler (before that CPU's next
        instruction). Called outside a run, the next one ends immediately."""
        if kind not in KINDS:
            raise UsageError(f"'{kind}' is not a way to stop ({', '.join(KINDS)})")
        if self._pending is None:
            self._pending = (kind, code, message)
            if self._threads is not None:
                self._threads.asked = self._current
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
            "spun": self._spun,
            "pending": None if self._pending is None else list(self._pending),
            "a20": int(self._a20),
            "open_bus": int(self.open_bus),
            "reset": self._reset_reason,
            "looping": self._looping_since,
            "timers": self.events.save(),
            "devices": {device.name: device.save() for device in self._devices()},
        }

    def load_board(self, state: dict[str, object]) -> None:
        """Back to what `save_board` returned. Raises `UsageError`."""
        try:
            devices, clock, pending = state["devices"], state["clock"], state["pending"]
            turn, left, spun = state["turn"], state["left"], state["spun"]
            if not (isinstance(devices, dict) and isinstance(clock, dict)):
                raise ValueError("devices")
            if not (isinstance(turn, int) and 0 <= turn < len(self.cpus)):
                raise ValueError("turn")
            if not (isinstance(left, int) and 0 <= left <= self.quantum):
                raise ValueError("rest of the quantum")
            if not (isinstance(spun, int) and spun >= 0):
                raise ValueError("turns spent waiting")
            if not (pending is None or (isinstance(pending, list) and is_pending(*pending))):
                raise ValueError("way to stop")
            self.clock.load(clock)
            self.a20 = bool(state["a20"])
            for device in self._devices():
                device.load(devices[device.name])
            timers, reset, looping = state["timers"], state["reset"], state["looping"]
            if not (isinstance(timers, dict) and (reset is None or isinstance(reset, str))):
                raise ValueError("timers")
            if not (looping is None or isinstance(looping, int)):
                raise ValueError("time of a loop")
            self.events.load(timers)
            self.open_bus = bool(state["open_bus"])
            self._reset_reason, self._looping_since = reset, looping
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UsageError(f"saved machine state does not fit this machine: {error}") from None
        self._turn, self._left, self._spun = turn, left, spun
        self._pending = None if pending is None else (pending[0], pending[1], pending[2])

    def check_at_rest(self, verb: str) -> None:
        """Raise `UsageError` inside a run, where a machine cannot be `verb`."""
        if self._running is not None or self._threads is not None:
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
                self._left = min(self._spin_turn(), self.quantum) if waiting else self.quantum
                self._spun = self._spun + 1 if waiting else 0
                return candidate
        return None

    def _spin_turn(self) -> int:
        """Instructions of a turn for a CPU that waits: the longer, the more rounds all of them have
        waited, as then there is nobody to get out of the way of."""
        running = sum(cpu.state == "running" for cpu in self.cpus)
        return SPIN_QUANTUM << min(self._spun // running, SPIN_DOUBLINGS)

    def _loops(self, cpu: VCPU) -> bool:
        """The boot CPU does nothing any more but jump to itself, and nobody else runs."""
        if cpu.cpu_id or not self._alone(cpu) or not cpu.jumps_to_itself():
            self._looping_since = None
            return False
        if not cpu.regs.rflags & 1 << 9:
            return True
        if self._looping_since is None:
            self._looping_since = self.clock.now
        return self.clock.now - self._looping_since >= LOOP_NS

    def _run_slice(self, cpu: VCPU, limit: int) -> tuple[SliceEnd, int]:
        before, rest = cpu.retired, self._left
        cpu.ask_first = self.fault_handler is not None
        self._running = cpu
        self.clock.progress = lambda: cpu.progress
        try:
            end, retired = cpu.run_slice(limit)
        finally:
            self.clock.progress = None
            self._running = None
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
        if self._threads is not None:
            self._threads.began()
            return
        cpu = self._running
        if cpu is not None:
            done = cpu.progress
            cpu.shorten(done + self._rest(self._left, done))

    def _resolve(self, cpu: VCPU, fault: Fault, retries: int) -> bool:
        if retries <= _MAX_RETRIES:
            if self.fault_handler is not None and self.fault_handler(cpu, fault):
                cpu.resume()
                return True
            if self.fault_handler is not None and cpu.deliver():
                return True
        if cpu.triple_faulted and self.on_reset is not None and not self.no_reboot:
            self.request_reset(f"triple fault, {cpu.fault or fault}")
            return True
        return False

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

    def _looped(self, cpu: VCPU, spent: int) -> Stop:
        rip = cpu.rip
        message = f"cpu {cpu.cpu_id} jumps to itself at rip {rip:#x}"
        return Stop("loop", EXIT_HALT, cpu.cpu_id, rip, spent, message)

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
