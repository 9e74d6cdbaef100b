# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""The hypercall doorbell: one port through which a guest asks whoever owns the machine.

The guest puts its request into its mailbox page in RAM and rings with a 16- or 32-bit OUT; the
handler (the kernel sets it) reads and writes the mailbox and answers with a `Verdict`: what becomes
of the calling CPU. Without a handler the port floats as on a board that has no such device; the
rings are counted all the same. No handler ever sees a register: those are slow to reach."""

from __future__ import annotations

import enum
from collections.abc import Callable

from machine.bus import State

DOORBELL_PORT = 0x4E4C


class Verdict(enum.Enum):
    """What becomes of the CPU that rang. It takes effect before its next instruction."""

    CONTINUE = "continue"
    YIELD = "yield"
    """The rest of its quantum goes to the other CPUs."""
    STOP_CPU = "stop"
    """It halts for good."""


Handler = Callable[[int, int], Verdict]
"""Called with the id of the CPU that rang and the value it wrote."""


class Doorbell:
    """Port 0x4e4c. `on_verdict` carries YIELD and STOP_CPU to the CPU."""

    name = "doorbell"
    width = 4

    def __init__(self, on_verdict: Callable[[int, Verdict], None]) -> None:
        self._on_verdict = on_verdict
        self.handler: Handler | None = None
        self.rings = 0
        """How often a guest rang, heard or not."""

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        if offset or size < 2:
            return
        self.rings += 1
        if self.handler is None:
            return
        verdict = self.handler(cpu_id, value)
        if verdict is not Verdict.CONTINUE:
            self._on_verdict(cpu_id, verdict)

    def save(self) -> State:
        return {"rings": self.rings}

    def load(self, state: State) -> None:
        rings = state["rings"]
        self.rings = rings if isinstance(rings, int) else 0
