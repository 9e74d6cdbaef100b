# SPDX-License-Identifier: GPL-2.0-only
"""The machine's time, modelled from the work done and never from the host's clock.

One retired guest instruction is one nanosecond, over all CPUs together (they share the clock, as
they share the round robin); whoever does work for the guest outside of it (the allocator behind a
doorbell, a device) may add what that work should cost with `advance`. So two runs of the same
program read the same times, which the boot log, the TSC and the trace depend on."""

from __future__ import annotations

from collections.abc import Callable


class Clock:
    """Nanoseconds since power-on. `progress` answers with the instructions that the CPU now running
    has retired and that have not been added yet."""

    def __init__(self) -> None:
        self._ns = 0
        self.progress: Callable[[], int] | None = None
        self.on_advance: Callable[[], None] | None = None
        """Told when time has passed inside an instruction."""

    @property
    def now(self) -> int:
        """Nanoseconds since power-on, exact to the instruction even inside a hypercall."""
        return self._ns + self.progress() if self.progress else self._ns

    def advance(self, ns: int) -> None:
        """Let `ns` nanoseconds pass (negative ones do not)."""
        self._ns += max(ns, 0)
        if self.progress is not None and self.on_advance is not None:
            self.on_advance()

    def save(self) -> dict[str, int]:
        """The clock as plain data."""
        return {"ns": self.now}

    def load(self, state: dict[str, int]) -> None:
        """Back to what `save` returned."""
        self._ns = int(state["ns"])
