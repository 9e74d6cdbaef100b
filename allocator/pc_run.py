# SPDX-License-Identifier: GPL-2.0-only
"""Running a PC until nothing more will happen.

Foreign guests seldom say that they are done: most halt for good, many jump to themselves with
interrupts on, and some wait for a key that nobody will press. `run_pc` tells these ends from work:

- no CPU can go on: `halt`;
- a jump to itself that no interrupt will end, because they are off or all go to the BIOS: `loop`;
- ten seconds of the guest's own time in which it has waited, at a jump to itself or halted, and has
  shown nothing new: `idle`;
- a quarter of its instructions and more end in an exception, for a long time, and nothing new is
  shown: `loop`, because the handlers only lead back to where it happens.

It looks at fixed numbers of instructions, so the same guest ends at the same instruction in every
run. Time in a jump to itself is not spent but skipped, up to the next event."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from firmware.bios import rom
from machine import Machine, Stop
from machine.machine import EXIT_BUDGET, EXIT_HALT

FIRST_CHUNK, LAST_CHUNK = 20_000, 2_000_000
"""Instructions between two looks, at a guest that waits and at one that works."""
IDLE_NS = 10_000_000_000
WAITING = 10
"""Nanoseconds an instruction takes on average, from which on the guest rather waits."""
STORM = 50_000
"""Exceptions in a row, with hardly an instruction between two, that a guest will not get out of."""
_SECOND = 1_000_000_000
_LEAST = 0.001
"""Seconds the machine runs at least between two calls of `turn`."""
_VECTORS = (0x08, 0x09, 0x1C, 0x70, 0x74)


class _Stillness:
    """How long the guest has waited and shown nothing new."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._since = self._then = machine.clock.now
        self._done = 0
        self._exceptions = sum(cpu.exceptions for cpu in machine.cpus)
        self.storm = 0
        """Exceptions since the guest has done anything else."""
        self.works = True
        """At the last look, the guest did rather more than wait."""
        self._shown = self._look()

    def _look(self) -> tuple[object, ...]:
        machine = self._machine
        bios = machine.pc.bios
        return (
            len(machine.console.output),
            len(machine.serial.output),
            machine.pc.screen.cells(),
            machine.pc.keyboard.waiting,
            sum(drive.changed for drive in bios.drives.values()),
        )

    def lasts(self, done: int) -> bool:
        """True when it has lasted too long; `done` instructions have retired in all."""
        shown, now = self._look(), self._machine.clock.now
        worked, passed = done - self._done, now - self._then
        self._done, self._then = done, now
        self.works = passed < WAITING * worked
        exceptions = sum(cpu.exceptions for cpu in self._machine.cpus)
        fresh, self._exceptions = exceptions - self._exceptions, exceptions
        self.storm = self.storm + fresh if 4 * fresh >= worked and shown == self._shown else 0
        if shown != self._shown or self.works:
            self._shown, self._since = shown, now
        return now - self._since >= IDLE_NS


def run_pc(
    machine: Machine,
    budget: int | None = None,
    seconds: float = 3600.0,
    turn: Callable[[int], float | None] | None = None,
    threads: bool = False,
) -> Stop:
    """Run until the guest ends in one of the ways above or those of `Machine.run`, `budget`
    instructions have retired, or `seconds` of its own time have passed. `turn` is called now and
    then with the instructions so far and gives the host's time, as of `time.monotonic()`, at which
    to call it again; None ends the run as a `timeout`. `threads`: CPUs in threads, see
    `machine.threads`."""
    stillness = _Stillness(machine)
    limit = machine.clock.now + int(seconds * _SECOND)
    done, chunk, next_look, wake = 0, FIRST_CHUNK, FIRST_CHUNK, time.monotonic()
    while True:
        if turn is not None and time.monotonic() >= wake:
            asked = turn(done)
            if asked is None:
                return _end(machine, "timeout", EXIT_BUDGET, done, "stopped")
            wake = asked
        rest = next_look - done if budget is None else min(next_look - done, budget - done)
        patience = None if turn is None else max(wake - time.monotonic(), _LEAST)
        stop = machine.run(rest, patience, threads=threads)
        done += stop.instructions
        if stop.kind not in ("budget", "timeout"):
            return replace(stop, instructions=done)
        if budget is not None and done >= budget:
            message = f"budget of {budget:,} instructions spent at {place(machine)}"
            return _end(machine, "budget", EXIT_BUDGET, done, message)
        if done < next_look:
            continue
        if _loops(machine):
            if _nothing_comes(machine):
                message = f"a jump to itself at {place(machine)}"
                return _end(machine, "loop", EXIT_HALT, done, message)
            _skip(machine)
        if machine.clock.now >= limit:
            what = f"budget of {seconds:g} s of the guest's time spent at {place(machine)}"
            return _end(machine, "budget", EXIT_BUDGET, done, what)
        if stillness.lasts(done):
            what = f"the guest waits at {place(machine)}, nothing new for 10 s of its time"
            return _end(machine, "idle", EXIT_HALT, done, what)
        if stillness.storm >= STORM:
            what = f"nothing but exceptions at {place(machine)}"
            return _end(machine, "loop", EXIT_HALT, done, what)
        grows = stillness.works and not stillness.storm
        chunk = min(4 * chunk, LAST_CHUNK) if grows else FIRST_CHUNK
        next_look = done + chunk


def place(machine: Machine) -> str:
    """Where CPU 0 is, as its mode writes addresses."""
    cpu = machine.cpus[0]
    if cpu.mode in ("real", "v86"):
        return f"{cpu.regs.cs:04x}:{cpu.rip:04x}"
    return f"rip {cpu.rip:#x}"


def _loops(machine: Machine) -> bool:
    """True if CPU 0 does nothing but jump to itself, and the others nothing at all."""
    boot, *others = machine.cpus
    if boot.state != "running" or any(cpu.state == "running" for cpu in others):
        return False
    return boot.jumps_to_itself()


def _nothing_comes(machine: Machine) -> bool:
    """True if no interrupt can get CPU 0, which jumps to itself, out of there."""
    cpu = machine.cpus[0]
    if not cpu.regs.rflags & 1 << 9:
        return True
    if cpu.mode != "real" or machine.pc.keyboard.waiting:
        return False
    offsets = rom.vectors()
    wanted = [rom.ROM_SEGMENT << 16 | offsets[vector] for vector in _VECTORS]
    return [machine.memory.read_u32(4 * vector) for vector in _VECTORS] == wanted


def _skip(machine: Machine) -> None:
    """Go to the next event: until then, CPU 0 would only jump."""
    deadline = machine.events.next
    if deadline is not None:
        machine.clock.advance(max(deadline - machine.clock.now, 0))


def _end(machine: Machine, kind: str, code: int, done: int, message: str) -> Stop:
    return Stop(kind, code, 0, machine.cpus[0].rip, done, message)
