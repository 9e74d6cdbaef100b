# SPDX-License-Identifier: GPL-2.0-only
"""The board: RAM, CPUs, buses and devices put together, reset, and what of them is saved.

`Machine` (in `machine`) adds the loop that runs the CPUs. What a run keeps here, since devices and
handlers ask in the middle of it: whose slice it is (`_running`), the turn and what is left of its
quantum, a stop or reset that was asked for, and the time of the last loop of CPU 0.
"""

from __future__ import annotations

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
    from machine.threads import ThreadedRun


class HostDisk(Protocol):
    """What the machine knows of a host's file that its disk follows."""

    def write_out(self) -> bool:
        """Put what the disk has written into the file; False when the host refuses."""

    def detach(self) -> None:
        """Write out and give the file back. Raises `OutputError`."""

    def check(self) -> None:
        """Raise the `OutputError` of a write that the host has refused."""


class Board:
    """The hardware of a machine at rest. `quantum` is the instructions a CPU's turn lasts. Raises
    `BringUpError` when the host has no room for its RAM."""

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
