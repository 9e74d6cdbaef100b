# SPDX-License-Identifier: GPL-2.0-only
"""The machine: the loop that runs the CPUs of a board.

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
from typing import TYPE_CHECKING

from machine.board import Board
from machine.board import HostDisk as HostDisk
from machine.errors import UsageError
from machine.fault import Fault
from machine.stop import EXIT_BUDGET as EXIT_BUDGET
from machine.stop import EXIT_FAULT as EXIT_FAULT
from machine.stop import EXIT_HALT as EXIT_HALT
from machine.stop import Stop as Stop
from machine.vcpu import VCPU, SliceEnd

if TYPE_CHECKING:
    from machine.checkpoint import Checkpoint

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


class Machine(Board):
    """One machine. `quantum` is the instructions a CPU's turn lasts. Raises `BringUpError` when the
    host has no room for its RAM."""

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

    def _do_reset(self, spent: int) -> Stop | None:
        reason, self._reset_reason = self._reset_reason or "", None
        if not self.no_reboot and self.on_reset is not None:
            self.reset()
            return None
        cpu = self.cpus[self._turn]
        message = f"cpu {cpu.cpu_id} reset the machine: {reason}"
        return Stop("reset", EXIT_HALT, cpu.cpu_id, cpu.rip, spent, message)

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
