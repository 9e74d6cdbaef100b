# SPDX-License-Identifier: GPL-2.0-only
"""The event queue: what happens at which modelled nanosecond.

A device asks for a `Timer` once, under a name of its own, and arms it whenever something is due.
`Machine.run` ends a CPU's slice exactly at the next deadline, calls what is due, and jumps there
when every CPU waits. Timers due at the same nanosecond go off in the order in which they were made,
so the same program sees the same run. The queue keeps the deadlines over snapshots, by name."""

from __future__ import annotations

from collections.abc import Callable

from machine.clock import Clock
from machine.errors import UsageError


class Timer:
    """One device's alarm; armed while `deadline` (modelled ns) is not None."""

    def __init__(self, queue: EventQueue, name: str, callback: Callable[[], None]) -> None:
        self.name = name
        self.callback = callback
        self.deadline: int | None = None
        self._queue = queue

    def set(self, when: int) -> None:
        """Go off at modelled nanosecond `when`, instead of any earlier plan; at once if past."""
        self.deadline = when
        self._queue.refresh()

    def clear(self) -> None:
        """Do not go off."""
        if self.deadline is not None:
            self.deadline = None
            self._queue.refresh()


class EventQueue:
    """The timers of one machine. `next` is the earliest deadline, None when nothing is armed;
    `on_change` is told whenever it changes."""

    def __init__(self, clock: Clock) -> None:
        self.next: int | None = None
        self.on_change: Callable[[], None] | None = None
        self._clock = clock
        self._timers: dict[str, Timer] = {}

    def timer(self, name: str, callback: Callable[[], None]) -> Timer:
        """A new timer, not armed. Raises `UsageError` if there is one of that name."""
        if name in self._timers:
            raise UsageError(f"there is a timer '{name}' already")
        timer = self._timers[name] = Timer(self, name, callback)
        return timer

    def refresh(self) -> None:
        """A deadline has changed."""
        due = [timer.deadline for timer in self._timers.values() if timer.deadline is not None]
        earliest = min(due, default=None)
        if earliest != self.next:
            self.next = earliest
            if self.on_change is not None:
                self.on_change()

    def run_due(self) -> None:
        """Call everything whose time has come, the earliest first."""
        while self.next is not None and self.next <= self._clock.now:
            earliest = self.next
            timer = next(t for t in self._timers.values() if t.deadline == earliest)
            timer.deadline = None
            self.refresh()
            timer.callback()

    def save(self) -> dict[str, int]:
        """Deadlines of the armed timers."""
        return {t.name: t.deadline for t in self._timers.values() if t.deadline is not None}

    def load(self, state: dict[str, int]) -> None:
        """Back to what `save` returned. Raises `KeyError` for a timer that is not there and
        `TypeError` for a deadline that is no number."""
        for name, deadline in state.items():
            if not isinstance(deadline, int):
                raise TypeError(f"deadline of {name}")
            _ = self._timers[name]
        for timer in self._timers.values():
            timer.deadline = state.get(timer.name)
        self.refresh()
