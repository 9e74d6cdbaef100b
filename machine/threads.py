# SPDX-License-Identifier: GPL-2.0-only
"""CPUs in threads of the host's: the other way to run a machine.

`Machine.run(threads=True)` gives every running CPU a thread of its own. Guest code then runs at the
same time on as many CPUs as the host has free; what it does depends on who comes first, as on a
real machine, so no two runs are the same. Instructions with a LOCK prefix, XCHG and fences are what
they are on hardware: the engines translate for it (`counting`). There is no other difference that a
guest may rely on; a budget is kept exactly.

One lock, the machine's, is held by a thread whenever it runs Python: between slices, in a device,
in a hypercall. It is given back only while an engine runs, and taken again by callbacks that touch
what CPUs share. Compiled code behind the doorbell runs without it (`native_doorbell`): whoever
provides that has its own locks, and `Machine.beside` to make them ready. What must not run beside
any guest code, compiled or not, says so with `alone`: it begins when all other CPUs have come to
the end of their slices, which is why these are short here.

Time is what it always is: a nanosecond an instruction, over all CPUs together; each sees its own
share at once and the others' when their slices end. An interrupt reaches a halted CPU at once and a
running one at the end of its slice. Where there is somebody who schedules processes
(`Machine.schedule`), the CPUs take turns as in any other run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from machine.errors import BringUpError, UsageError
from machine.stop import Stop
from machine.vcpu import VCPU, SliceEnd

if TYPE_CHECKING:
    from machine.machine import Machine

SLICE = 500_000
"""Instructions of a slice, one or two milliseconds."""
SPIN_SLICE = 4_000
"""The same for a CPU that was found waiting in a PAUSE loop."""
SPIN_SECONDS = 0.00005
"""How long such a CPU leaves its place on the host to others."""
LOOK_SECONDS = 0.05
"""How often the thread that called `run` looks after the others."""
STUCK_SECONDS = 30.0
"""How long a slice may last with nothing new before `Machine.break_call` is asked to end it."""


class MachineLock:
    """A lock that its owner may take again, and that tells whose it is: `owner` is a thread's
    number, 0 for nobody's."""

    def __init__(self) -> None:
        self.owner = 0
        self._depth = 0
        self._lock = threading.RLock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As that of a lock."""
        if not self._lock.acquire(blocking, timeout):
            return False
        self.owner = threading.get_ident()
        self._depth += 1
        return True

    def release(self) -> None:
        """As that of a lock."""
        self._depth -= 1
        if not self._depth:
            self.owner = 0
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _is_owned(self) -> bool:
        """What a condition asks."""
        return self.owner == threading.get_ident()


class ThreadedRun:
    """One run, of which `spent` instructions are over already and `seconds` of `timeout` left.
    `lock` is the machine's lock, `changed` is told whenever somebody may go on."""

    def __init__(
        self,
        machine: Machine,
        spent: int,
        budget: int | None,
        timeout: float | None,
        seconds: float | None,
    ) -> None:
        self.machine = machine
        self.lock = MachineLock()
        self.changed = threading.Condition(self.lock)  # type: ignore[arg-type]
        self.spent = spent
        self._budget, self._timeout, self._seconds = budget, timeout, seconds
        self._reserved = 0
        self._over = False
        self._noticed = threading.Event()
        self._how: Callable[[], Stop] | None = None
        self.asked: VCPU | None = None
        """The CPU in whose slice somebody has asked for the end."""
        self._error: BaseException | None = None
        self._local = threading.local()
        self._threads: dict[int, threading.Thread] = {}
        self._slices = 0
        self._inside: dict[int, int] = {}
        self._seen: dict[int, tuple[tuple[int, int], float]] = {}
        self._waiting: set[int] = set()
        self._alone: int | None = None
        self._spinning: set[int] = set()
        self._retries: dict[int, int] = {}

    @property
    def current(self) -> VCPU | None:
        """The CPU whose slice the calling thread is in."""
        cpu: VCPU | None = getattr(self._local, "cpu", None)
        return cpu

    def progress(self) -> int:
        """Instructions of that slice so far."""
        cpu = self.current
        return 0 if cpu is None else cpu.progress

    # --- the caller's thread ----------------------------------------------------------------------
    def run(self) -> Stop | None:
        """Run until something ends it, see `Machine.run`; None when it was that processes have
        come. What a device or handler raises in a thread comes out of here, as does what a signal
        handler raises; the other CPUs have come to rest then."""
        machine = self.machine
        for cpu in machine.cpus:
            if not cpu.run_beside_others(True):
                raise UsageError(f"threads: cpu {cpu.cpu_id}'s engine knows no atomic instructions")
        beside = nullcontext() if machine.beside is None else machine.beside()
        with beside:
            machine._threads = self
            machine.clock.progress = self.progress
            try:
                self._look_after()
            finally:
                self._end()
                self._join()
                machine.clock.progress = None
                machine._threads = None
                for cpu in machine.cpus:
                    cpu.share_engine(None, 0)
        if self._error is not None:
            raise self._error
        if machine._pending is not None:
            return machine._stopped(self.asked or self._somebody(), self.spent)
        return None if self._how is None else self._how()

    def _look_after(self) -> None:
        """Until the run is over. Nothing here waits for the lock for long: a handler that does not
        come to an end keeps it."""
        deadline = None if self._seconds is None else time.monotonic() + self._seconds
        self._noticed.set()
        while not self._over:
            rest = LOOK_SECONDS
            if deadline is not None:
                rest = min(rest, max(deadline - time.monotonic(), 0))
            self._noticed.wait(rest)
            self._noticed.clear()
            self._with_lock(self._go_on)
            if deadline is not None and time.monotonic() >= deadline:
                self._finish(self._timed_out)
            self._break_stuck()

    def _with_lock(self, action: Callable[[], None]) -> None:
        if self.lock.acquire(timeout=LOOK_SECONDS):
            try:
                action()
            finally:
                self.lock.release()

    def _timed_out(self) -> Stop:
        return self._exhausted("timeout", self._somebody(), f"time limit of {self._timeout:g} s")

    def _go_on(self) -> None:
        """See that whoever can run does. When nobody can, let time pass to the next event, if that
        may wake one."""
        machine = self.machine
        self.began()
        while not (self._over or self._inside or self._can_run()):
            machine.events.run_due()
            if self._settled() or self._can_run():
                return
            if not machine._jump():
                self._finish(lambda: machine._halted(self.spent))

    def _can_run(self) -> bool:
        return any(cpu.state == "running" for cpu in self.machine.cpus)

    def _somebody(self) -> VCPU:
        running = [cpu for cpu in self.machine.cpus if cpu.state == "running"]
        return (running or self.machine.cpus)[0]

    def _break_stuck(self) -> None:
        """End the calls that do not end by themselves."""
        broken, now = self.machine.break_call, time.monotonic()
        for cpu_id, slice_number in list(self._inside.items()):
            done = slice_number, self.machine.cpus[cpu_id].activity
            before, since = self._seen.get(cpu_id, (None, now))
            if done != before:
                self._seen[cpu_id] = done, now
            elif broken is not None and now - since > STUCK_SECONDS:
                thread = self._threads[cpu_id].ident or 0
                if self.lock.owner in (0, thread):  # or else it only waits for the lock
                    self._seen[cpu_id] = done, now
                    broken(thread)

    def _join(self) -> None:
        """Wait for the threads. Signal handlers run meanwhile; what they raise is raised when all
        have ended, and ends calls that last."""
        raised: BaseException | None = None
        for thread in self._threads.values():
            while thread.is_alive():
                try:
                    self._with_lock(self.changed.notify_all)
                    thread.join(LOOK_SECONDS)
                    self._break_stuck()
                except BaseException as error:
                    raised = raised or error
                    if self.machine.break_call is not None:
                        self.machine.break_call(self.lock.owner or thread.ident or 0)
        if raised is not None:
            raise raised

    # --- what everybody may call, with the lock held ----------------------------------------------
    def began(self) -> None:
        """CPUs may have become able to run: each gets a thread."""
        for cpu in self.machine.cpus:
            if cpu.state == "running" and cpu.cpu_id not in self._threads and not self._over:
                name = f"cpu {cpu.cpu_id}"
                thread = threading.Thread(target=self._work, args=(cpu,), name=name, daemon=True)
                self._threads[cpu.cpu_id] = thread
                thread.start()
        self.changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """From inside a CPU's slice, before anything has been touched: no other CPU executes guest
        code, or is in a handler, until this ends."""
        cpu = self.current
        if cpu is None:
            yield
        else:
            with self._alone_as(cpu):
                yield

    @contextmanager
    def _alone_as(self, cpu: VCPU) -> Iterator[None]:
        me = cpu.cpu_id
        if self._alone == me:
            yield
            return
        self._waiting.add(me)
        self.changed.notify_all()
        while self._alone is not None or self._inside.keys() - self._waiting - {me}:
            self.changed.wait()
        self._alone = me
        try:
            yield
        finally:
            self._alone = None
            self._waiting.discard(me)
            self.changed.notify_all()

    def _end(self) -> None:
        self._over = True
        self._noticed.set()

    def _finish(self, how: Callable[[], Stop]) -> None:
        """The run is over; `how` will make the `Stop`, if nobody has been earlier."""
        if not self._over:
            self._how = how
        self._end()

    def _exhausted(self, kind: str, cpu: VCPU, what: str) -> Stop:
        self.machine._turn = cpu.cpu_id
        return self.machine._exhausted(kind, cpu, self.spent, what)

    def _settled(self) -> bool:
        """Something that ends the run has been asked for; sees to it."""
        machine = self.machine
        if machine._pending or machine._reset_reason is not None or machine.schedule is not None:
            self._end()
        return self._over

    # --- a CPU's thread ---------------------------------------------------------------------------
    def _work(self, cpu: VCPU) -> None:
        with self.lock:
            try:
                while not self._over:
                    if cpu.state != "running":
                        self._noticed.set()
                        self.changed.wait()
                    elif self._waiting or not self._take_turn(cpu):
                        self.changed.wait()
            except BaseException as error:
                self._error = self._error or error
                self._end()
            finally:
                self._inside.pop(cpu.cpu_id, None)
                self.changed.notify_all()

    def _take_turn(self, cpu: VCPU) -> bool:
        """One slice of `cpu`. False if it must wait for what others have not spent."""
        machine = self.machine
        machine.events.run_due()
        if self._settled() or cpu.state != "running" or self._waiting:
            return True
        limit = self._limit(cpu)
        if limit <= 0:
            if not self._reserved:
                what = f"budget of {self.spent:,} instructions"
                self._finish(lambda: self._exhausted("budget", cpu, what))
            return False
        end, done = self._slice(cpu, limit)
        if end is SliceEnd.LIMIT and done and not self._over and cpu.at_locked():
            self._see_to_lock(cpu)
        self._ended(cpu, end, done)
        return True

    def _limit(self, cpu: VCPU) -> int:
        machine = self.machine
        limit = SPIN_SLICE if cpu.cpu_id in self._spinning else SLICE
        if machine.events.next is not None:
            limit = min(limit, max(machine.events.next - machine.clock.now, 1))
        if self._budget is not None:
            running = sum(each.state == "running" for each in machine.cpus)
            left = self._budget - self.spent - self._reserved
            limit = min(limit, max(left // running, min(left, 1)))  # the others want some, too
        return limit

    def _slice(self, cpu: VCPU, limit: int) -> tuple[SliceEnd, int]:
        """Run `cpu` for at most `limit` instructions, and keep the accounts."""
        machine, before = self.machine, cpu.retired
        if not cpu.run_beside_others(True):
            raise BringUpError(f"cpu {cpu.cpu_id}: locked instructions are not atomic any more")
        cpu.share_engine(self.lock, threading.get_ident())
        cpu.ask_first = machine.fault_handler is not None
        self._reserved += limit
        self._slices += 1
        self._inside[cpu.cpu_id] = self._slices
        self._local.cpu = cpu
        try:
            return cpu.run_slice(limit)
        finally:
            self._local.cpu = None
            self._inside.pop(cpu.cpu_id, None)
            self._reserved -= limit
            done = cpu.retired - before
            self.spent += done
            machine._jumps = 0 if done else machine._jumps
            machine.clock.advance(done)
            machine.doorbell.rings += cpu.take_rings()
            self.changed.notify_all()

    def _see_to_lock(self, cpu: VCPU) -> None:
        """The slice of `cpu` ended in front of a locked instruction. It may be one that the engine
        cannot do in one piece, and has tried to do until the end: then all others must rest."""
        before = cpu.rip
        if self._limit(cpu) <= 0 or self._slice(cpu, 1)[0] is not SliceEnd.LIMIT:
            return
        if cpu.rip == before and cpu.state == "running" and not self._over:
            with self._alone_as(cpu):
                cpu.undivided = True
                try:
                    self._slice(cpu, 1)
                finally:
                    cpu.undivided = False

    def _ended(self, cpu: VCPU, end: SliceEnd, done: int) -> None:
        """What follows from how a slice ended."""
        machine, me = self.machine, cpu.cpu_id
        self._retries[me] = 0 if done else self._retries.get(me, 0) + 1
        self._spinning.discard(me)
        if self._settled():
            return
        if end is SliceEnd.FAULT and cpu.fault is not None:
            with self._alone_as(cpu):
                resolved = machine._resolve(cpu, cpu.fault, self._retries[me])
            if not resolved:
                fault = cpu.fault
                self._finish(lambda: machine._faulted(cpu, fault, self.spent))
        elif end is SliceEnd.LIMIT and cpu.state == "running":
            if machine.stop_on_loop and machine._loops(cpu):
                self._finish(lambda: machine._looped(cpu, self.spent))
            elif cpu.spinning():
                self._spinning.add(me)
                self.changed.wait(SPIN_SECONDS)
