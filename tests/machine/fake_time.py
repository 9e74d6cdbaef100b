# SPDX-License-Identifier: GPL-2.0-only
"""Time for devices that are tried without a machine: it goes on when the test says so."""

from __future__ import annotations

from collections.abc import Callable

from machine.clock import Clock
from machine.events import EventQueue, Timer


class FakeTime:
    """What `machine.devstate.Timebase` asks for. An access takes `cost` nanoseconds."""

    def __init__(self, cost: int = 0) -> None:
        self.clock = Clock()
        self.events = EventQueue(self.clock)
        self.cost = cost

    @property
    def now(self) -> int:
        return self.clock.now

    def spend(self) -> None:
        self.clock.advance(self.cost)

    def timer(self, name: str, callback: Callable[[], None]) -> Timer:
        return self.events.timer(name, callback)

    def go(self, ns: int) -> None:
        """Let `ns` nanoseconds pass, with everything that is due on the way."""
        end = self.now + ns
        while self.events.next is not None and self.events.next <= end:
            self.clock.advance(self.events.next - self.now)
            self.events.run_due()
        self.clock.advance(end - self.now)


def count_rises(connect: Callable[[Callable[[int], None]], None]) -> list[int]:
    """A list that gets an entry for every rise of a line."""
    rises: list[int] = []
    connect(lambda level: rises.append(level) if level else None)
    return rises
