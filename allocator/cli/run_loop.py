# SPDX-License-Identifier: GPL-2.0-only
"""Running a guest to its end, whatever it does.

The machine runs in short turns (which changes nothing for the guest), so that Ctrl-C and the time
limit are noticed. Two things could still keep the host busy for ever, and both are ended here: a
guest that never stops, by the budget; and an allocator that goes round in a list the guest has bent
into a ring, by a clock that rings once a second and sees the same hypercall being served.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Protocol

from firmware import Image
from machine import Machine, Stop
from machine.machine import EXIT_BUDGET

from ..hypercall import Hypercalls, RunawayCallError

TURN = 0.1
"""Seconds between two looks at Ctrl-C and the clock."""
STUCK = 30
"""Seconds that one hypercall may take."""


class Runnable(Protocol):
    """What a run needs: a booted guest (`boot_image.Guest`) or one resumed (`resume.Resumed`)."""

    @property
    def machine(self) -> Machine:
        """The machine to run."""

    @property
    def image(self) -> Image | None:
        """Where the guest's code came from, if that is known."""

    @property
    def hypercalls(self) -> Hypercalls:
        """Who answers its doorbell."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `stop.instructions` counts the whole run; `interrupted`: by Ctrl-C."""

    stop: Stop
    interrupted: bool


class _Watch:
    """The signal handlers of one run."""

    def __init__(self, guest: Runnable, threads: bool) -> None:
        self._hypercalls = guest.hypercalls
        self._threads = threads
        self._seen = (-1, -1)
        self._ticks = 0
        self.interrupted = False

    def interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """SIGINT: the run ends after this turn; asked twice, a hypercall ends, too."""
        if self.interrupted and self._threads:
            raise KeyboardInterrupt  # the calls are not this thread's: the machine ends them
        if self.interrupted and self._hypercalls.inside:
            raise RunawayCallError("interrupted")
        self.interrupted = True

    def tick(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """SIGALRM, once a second."""
        calls = self._hypercalls
        if self._threads or not calls.inside or calls.progress != self._seen:
            self._seen, self._ticks = calls.progress, 0
            return
        self._ticks += 1
        if self._ticks >= STUCK:
            raise RunawayCallError(f"no end after {STUCK} s")


@contextmanager
def _watching(guest: Runnable, threads: bool) -> Iterator[_Watch]:
    """Signals go to the watch; without effect outside the main thread, where none arrive."""
    watch = _Watch(guest, threads)
    try:
        old_int = signal.signal(signal.SIGINT, watch.interrupt)
    except ValueError:
        yield watch
        return
    old_alarm = signal.signal(signal.SIGALRM, watch.tick)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield watch
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old_alarm)
        signal.signal(signal.SIGINT, old_int)


def run_guest(
    guest: Runnable,
    budget: int | None = None,
    timeout: float | None = None,
    between: Callable[[float, int], None] | None = None,
    threads: bool = False,
) -> Outcome:
    """Run until the guest stops, `budget` instructions have retired, `timeout` seconds have passed,
    or the user interrupts. `between` is called after every turn with the seconds and instructions
    so far. `threads`: CPUs in threads, see `machine.threads`."""
    begun = time.monotonic()
    done = 0
    with _watching(guest, threads) as watch:
        while True:
            elapsed = time.monotonic() - begun
            turn = TURN if timeout is None else min(TURN, timeout - elapsed)
            left = None if budget is None else budget - done
            stop = guest.machine.run(left, max(turn, 0.0), threads=threads)
            done += stop.instructions
            elapsed = time.monotonic() - begun
            if between is not None:
                between(elapsed, done)
            over = timeout is not None and elapsed >= timeout
            if stop.kind == "timeout" and not over and not watch.interrupted:
                continue
            where = f"spent at rip {stop.rip:#x} on cpu {stop.cpu}"
            if stop.kind == "budget":
                stop = replace(stop, message=f"budget of {budget:,} instructions {where}")
            elif stop.kind == "timeout":
                stop = replace(stop, code=EXIT_BUDGET, message=f"time limit of {timeout} s {where}")
            return Outcome(replace(stop, instructions=done), watch.interrupted)
